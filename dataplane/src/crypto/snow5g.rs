//! SNOW 5G: the keystream generator of 256-NEA4, NIA4 and NCA4. Source: TS 35.240 as read off its test data.
//!
//! Two LFSRs of 16 cells of 16 bits and an FSM of three AES states. Constant time: the only S-box is that of an AES
//! round, which the `aes` crate takes from the processor or computes bitsliced.

use aes::{Block, hazmat::cipher_round};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Eight lanes of 16 bits, lane 0 from octets 0 and 1, little-endian.
type Lanes = [u16; 8];

/// LFSRs a and b as halves (cells 0-7, cells 8-15), and R1, R2, R3.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Snow5g {
    a: [Lanes; 2],
    b: [Lanes; 2],
    r1: Lanes,
    r2: Lanes,
    r3: Lanes,
}

impl Snow5g {
    /// Loads key and IV and gives the generator before the first block.
    pub fn new(key: &[u8; 32], iv: &[u8; 16]) -> Self {
        let (key_low, key_high) = (lanes(key.first_chunk()), lanes(key.last_chunk()));
        let zero = [0; 8];
        let mut generator =
            Self { a: [lanes(Some(iv)), key_low], b: [zero, key_high], r1: zero, r2: zero, r3: zero };
        for step in 1..=16 {
            let z = generator.step();
            generator.a[1] = xor(generator.a[1], z);
            match step {
                15 => generator.r1 = xor(generator.r1, key_low),
                16 => generator.r1 = xor(generator.r1, key_high),
                _ => {}
            }
        }
        generator
    }

    /// The next 16 octets of keystream.
    pub fn block(&mut self) -> [u8; 16] {
        octets(self.step())
    }

    /// Combines octets with keystream.
    pub fn apply(&mut self, data: &mut [u8]) {
        for chunk in data.chunks_mut(16) {
            chunk.iter_mut().zip(self.block()).for_each(|(d, z)| *d ^= z);
        }
    }

    fn step(&mut self) -> Lanes {
        let (t1, t2) = (self.b[1], self.a[1]);
        let z = xor(add(t1, self.r1), self.r2);
        let r1 = sigma(add(self.r2, xor(self.r3, t2)));
        self.r3 = aes_round(self.r2);
        self.r2 = aes_round(self.r1);
        self.r1 = r1;
        self.clock_lfsrs();
        z
    }

    /// Eight cells at once: no feedback of these eight depends on another of them.
    fn clock_lfsrs(&mut self) {
        let cell = |l: &[Lanes; 2], i: usize| l[i / 8][i % 8];
        let (a, b) = (self.a, self.b);
        let next_a = std::array::from_fn(|i| alpha(cell(&a, i)) ^ cell(&b, i) ^ cell(&a, i + 7));
        let next_b = std::array::from_fn(|i| beta(cell(&b, i)) ^ cell(&a, i) ^ cell(&b, i + 8));
        self.a = [a[1], next_a];
        self.b = [b[1], next_b];
    }
}

/// Multiplies by alpha, in constant time.
fn alpha(x: u16) -> u16 {
    x << 1 ^ (x >> 15).wrapping_neg() & 0x4a6d
}

/// Multiplies by beta, in constant time.
fn beta(x: u16) -> u16 {
    x << 1 ^ (x >> 15).wrapping_neg() & 0xcc87
}

fn xor(x: Lanes, y: Lanes) -> Lanes {
    std::array::from_fn(|i| x[i] ^ y[i])
}

fn add(x: Lanes, y: Lanes) -> Lanes {
    std::array::from_fn(|i| x[i].wrapping_add(y[i]))
}

/// Transposes the octets as a 4 x 4 matrix.
fn sigma(x: Lanes) -> Lanes {
    let o = octets(x);
    lanes(Some(&std::array::from_fn(|i| o[i % 4 * 4 + i / 4])))
}

/// An AES round with a round key of zero.
fn aes_round(x: Lanes) -> Lanes {
    let mut block = Block::from(octets(x));
    cipher_round(&mut block, &Block::default());
    lanes(Some(&block.into()))
}

fn lanes(octets: Option<&[u8; 16]>) -> Lanes {
    let o = octets.unwrap_or(&[0; 16]);
    std::array::from_fn(|i| u16::from_le_bytes([o[2 * i], o[2 * i + 1]]))
}

fn octets(x: Lanes) -> [u8; 16] {
    std::array::from_fn(|i| x[i / 2].to_le_bytes()[i % 2])
}

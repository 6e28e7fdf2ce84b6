//! SNOW 3G: the keystream generator of 128-EEA1 and 128-EIA1. Source: TS 35.216.
//!
//! Word for word as the specification has it, save that the LFSR turns an index instead of moving its words. S-boxes
//! and the multiplications by alpha are table look-ups at secret places, **not constant time** on a machine
//! whose caches an attacker shares; the vector kernels have no such tables.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// LFSR of 16 words and FSM of three.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Snow3g {
    s: [u32; 16],
    /// Where s0 stands in `s`.
    s0: usize,
    r1: u32,
    r2: u32,
    r3: u32,
}

impl Snow3g {
    /// Initialises with key words k0..k3 and IV0..IV3 and gives the generator before z1. Source: TS 35.216 4.1.
    pub fn new(k: &[u32; 4], iv: &[u32; 4]) -> Self {
        const ONES: u32 = !0;
        let [k0, k1, k2, k3] = *k;
        let s = [
            k0 ^ ONES,
            k1 ^ ONES,
            k2 ^ ONES,
            k3 ^ ONES,
            k0,
            k1,
            k2,
            k3,
            k0 ^ ONES,
            k1 ^ ONES ^ iv[3],
            k2 ^ ONES ^ iv[2],
            k3 ^ ONES,
            k0 ^ iv[1],
            k1,
            k2,
            k3 ^ iv[0],
        ];
        let mut generator = Self { s, s0: 0, r1: 0, r2: 0, r3: 0 };
        for _ in 0..32 {
            let f = generator.clock_fsm();
            generator.clock_lfsr(f);
        }
        generator.clock_fsm(); // its output is discarded
        generator.clock_lfsr(0);
        generator
    }

    /// The next word of keystream. Source: TS 35.216 4.2.
    #[inline]
    pub fn word(&mut self) -> u32 {
        let z = self.clock_fsm() ^ self.s(0);
        self.clock_lfsr(0);
        z
    }

    /// Combines octets with keystream; words are taken from their most significant octet.
    pub fn apply(&mut self, data: &mut [u8]) {
        for chunk in data.chunks_mut(4) {
            chunk.iter_mut().zip(self.word().to_be_bytes()).for_each(|(d, z)| *d ^= z);
        }
    }

    #[inline]
    fn s(&self, i: usize) -> u32 {
        self.s[(self.s0 + i) % 16]
    }

    /// Source: TS 35.216 3.4.4, 3.4.5; `f` is F in initialisation mode and 0 in keystream mode.
    #[inline]
    fn clock_lfsr(&mut self, f: u32) {
        let (s0, s11) = (self.s(0), self.s(11));
        let v = (s0 << 8)
            ^ MUL_ALPHA[(s0 >> 24) as usize]
            ^ self.s(2)
            ^ (s11 >> 8)
            ^ DIV_ALPHA[(s11 & 0xff) as usize]
            ^ f;
        self.s[self.s0] = v;
        self.s0 = (self.s0 + 1) % 16;
    }

    /// Source: TS 35.216 3.4.6.
    #[inline]
    fn clock_fsm(&mut self) -> u32 {
        let f = self.s(15).wrapping_add(self.r1) ^ self.r2;
        let r = self.r2.wrapping_add(self.r3 ^ self.s(5));
        self.r3 = mixed(&S2, self.r2);
        self.r2 = mixed(&S1, self.r1);
        self.r1 = r;
        f
    }
}

/// Multiplies by x in GF(2^8) with the reduction constant `c`. Source: TS 35.216 3.1.1.
const fn mul_x(v: u8, c: u8) -> u8 {
    if v & 0x80 != 0 { v << 1 ^ c } else { v << 1 }
}

/// Multiplies by x^i. Source: TS 35.216 3.1.2.
const fn mul_x_pow(mut v: u8, mut i: u8, c: u8) -> u8 {
    while i > 0 {
        v = mul_x(v, c);
        i -= 1;
    }
    v
}

/// Multiplies in GF(2^8).
const fn mul(mut a: u8, mut b: u8, c: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = mul_x(a, c);
        b >>= 1;
    }
    product
}

const fn pow(a: u8, n: u8, c: u8) -> u8 {
    let (mut power, mut i) = (1, 0);
    while i < n {
        power = mul(power, a, c);
        i += 1;
    }
    power
}

/// The Rijndael S-box. Source: TS 35.216 3.3.1.
const fn sr(x: u8) -> u8 {
    let i = pow(x, 254, 0x1b);
    i ^ i.rotate_left(1) ^ i.rotate_left(2) ^ i.rotate_left(3) ^ i.rotate_left(4) ^ 0x63
}

/// The S-box SQ from a Dickson polynomial. Source: TS 35.216 3.3.2.
const fn sq(x: u8) -> u8 {
    const EXPONENTS: [u8; 9] = [1, 9, 13, 15, 33, 41, 45, 47, 49];
    let (mut y, mut i) = (0x25, 0);
    while i < EXPONENTS.len() {
        y ^= pow(x, EXPONENTS[i], 0x69);
        i += 1;
    }
    y
}

/// Images under SQ, for the vector kernels.
pub(crate) const SQ: [u8; 256] = {
    let (mut t, mut x) = ([0; 256], 0);
    while x < 256 {
        t[x] = sq(x as u8);
        x += 1;
    }
    t
};

/// S-box and mixing of one octet, as it goes into r0..r3 from w0: 2, 3, 1, 1 times. Source: TS 35.216 3.3.
const fn mixing(c: u8) -> [u32; 256] {
    let (mut t, mut x) = ([0; 256], 0);
    while x < 256 {
        let s = if c == 0x1b { sr(x as u8) } else { SQ[x] };
        let s2 = mul_x(s, c);
        t[x] = u32::from_be_bytes([s2, s2 ^ s, s, s]);
        x += 1;
    }
    t
}

static S1: [u32; 256] = mixing(0x1b);
static S2: [u32; 256] = mixing(0x69);

/// S1 or S2 of a word: the mix is the same for each octet, turned one place further.
#[inline]
fn mixed(table: &[u32; 256], w: u32) -> u32 {
    let [w0, w1, w2, w3] = w.to_be_bytes();
    table[w0 as usize]
        ^ table[w1 as usize].rotate_right(8)
        ^ table[w2 as usize].rotate_right(16)
        ^ table[w3 as usize].rotate_right(24)
}

const fn alpha(exponents: [u8; 4]) -> [u32; 256] {
    let (mut t, mut c) = ([0; 256], 0);
    while c < 256 {
        let v = c as u8;
        t[c] = u32::from_be_bytes([
            mul_x_pow(v, exponents[0], 0xa9),
            mul_x_pow(v, exponents[1], 0xa9),
            mul_x_pow(v, exponents[2], 0xa9),
            mul_x_pow(v, exponents[3], 0xa9),
        ]);
        c += 1;
    }
    t
}

/// Source: TS 35.216 3.4.2.
pub(crate) static MUL_ALPHA: [u32; 256] = alpha([23, 245, 48, 239]);
/// Source: TS 35.216 3.4.3.
pub(crate) static DIV_ALPHA: [u32; 256] = alpha([16, 39, 6, 64]);

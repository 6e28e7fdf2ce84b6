//! 128-EIA3 (128-NIA3): ZUC with a universal hash of keystream windows. Source: TS 33.401 B.2.4, TS 35.221 4.

use zeroize::ZeroizeOnDrop;

use super::frame::Integrity;
use super::zuc::Zuc;
use crate::cipher::Job;

/// 128-EIA3 with its key.
#[derive(ZeroizeOnDrop)]
pub struct Eia3([u8; 16]);

impl Eia3 {
    /// Takes a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(*key)
    }

    /// MAC-I over the first `bits` bits of `message`. Source: TS 35.221 4.4.
    pub fn mac(&self, count: u32, bearer: u8, direction: u8, message: &[u8], bits: usize) -> [u8; 4] {
        let bits = bits.min(message.len() * 8);
        let mut zuc = Zuc::new(&self.0, &iv(count, bearer, direction));
        let mut t = 0;
        // Keystream bits from 32 i on: of the 64 held, window j is those from j to j + 31.
        let mut held = u64::from(zuc.word()) << 32 | u64::from(zuc.word());
        let window = |held: u64, j: usize| (held << j >> 32) as u32;
        let mut chunks = message[..bits / 8].chunks_exact(4);
        for chunk in &mut chunks {
            let word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            for j in 0..32 {
                t ^= window(held, j) & (word >> (31 - j) & 1).wrapping_neg();
            }
            held = held << 32 | u64::from(zuc.word());
        }
        let rest = bits % 32;
        let mut word = 0;
        for (i, octet) in message.iter().skip(bits / 32 * 4).take(4).enumerate() {
            word |= u32::from(*octet) << (24 - 8 * i);
        }
        for j in 0..rest {
            t ^= window(held, j) & (word >> (31 - j) & 1).wrapping_neg();
        }
        // The window at LENGTH, then the last word: z[L - 1] with L = ceil(LENGTH / 32) + 2.
        t ^= window(held, rest);
        let last = if rest == 0 { held as u32 } else { zuc.word() };
        (t ^ last).to_be_bytes()
    }
}

/// Source: TS 35.221 4.3.
pub(crate) fn iv(count: u32, bearer: u8, direction: u8) -> [u8; 16] {
    let c = count.to_be_bytes();
    let (b, d) = (bearer << 3, direction << 7);
    [c[0], c[1], c[2], c[3], b, 0, 0, 0, c[0] ^ d, c[1], c[2], c[3], b, 0, d, 0]
}

impl Integrity for Eia3 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn mac(&self, job: &Job, message: &[u8]) -> [u8; 4] {
        self.mac(job.count, job.bearer(), job.direction(), message, message.len() * 8)
    }
}

//! 128-EIA3 (128-NIA3): ZUC with a universal hash of keystream windows. Source: TS 33.401 B.2.4, TS 35.221 4.

use zeroize::ZeroizeOnDrop;

use super::carryless;
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
        for i in 0..bits / 32 {
            t ^= windows(held, word(message, i));
            held = held << 32 | u64::from(zuc.word());
        }
        let rest = bits % 32;
        // Bits beyond the message count for nothing.
        t ^= windows(held, word(message, bits / 32) & !(!0_u32).checked_shr(rest as u32).unwrap_or(0));
        // The window at LENGTH, then the last word: z[L - 1] with L = ceil(LENGTH / 32) + 2.
        t ^= (held << rest >> 32) as u32;
        let last = if rest == 0 { held as u32 } else { zuc.word() };
        (t ^ last).to_be_bytes()
    }
}

/// Sum of those windows of `held` that begin where `message` has a one, in constant time.
///
/// With the message's first bit as the coefficient of x^0 this is a product: x^j moves window j to bits 32 to 63.
fn windows(held: u64, message: u32) -> u32 {
    (carryless::low(held, u64::from(message.reverse_bits())) >> 32) as u32
}

/// 32 bits of the message; octets that it does not have are zero.
fn word(message: &[u8], i: usize) -> u32 {
    let mut octets = [0; 4];
    octets.iter_mut().zip(message.iter().skip(4 * i)).for_each(|(o, m)| *o = *m);
    u32::from_be_bytes(octets)
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

//! 128-EIA1 (128-NIA1) and UIA2: SNOW 3G with an evaluation over GF(2^64). Source: TS 33.401 B.2.2, TS 35.215 4.

use zeroize::ZeroizeOnDrop;

use super::carryless;
use super::eea1::key_words;
use super::frame::Integrity;
use super::snow3g::Snow3g;
use crate::cipher::Job;

/// 128-EIA1 with its key.
#[derive(ZeroizeOnDrop)]
pub struct Eia1([u32; 4]);

impl Eia1 {
    /// Takes a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(key_words(key))
    }

    /// MAC-I over the first `bits` bits of `message`. Source: TS 33.401 B.2.2.
    pub fn mac(&self, count: u32, bearer: u8, direction: u8, message: &[u8], bits: usize) -> [u8; 4] {
        self.uia2(count, u32::from(bearer) << 27, direction, message, bits)
    }

    /// UIA2, of which EIA1 is the case FRESH = BEARER || 0. Source: TS 35.215 4.4.
    pub fn uia2(&self, count: u32, fresh: u32, direction: u8, message: &[u8], bits: usize) -> [u8; 4] {
        let bits = bits.min(message.len() * 8);
        let mut snow = Snow3g::new(&self.0, &iv(count, fresh, direction));
        let mut double = || u64::from(snow.word()) << 32 | u64::from(snow.word());
        let (p, q) = (double(), double());
        let z5 = snow.word();
        let mut eval = 0;
        for (i, chunk) in message[..bits.div_ceil(8)].chunks(8).enumerate() {
            let mut block = [0; 8];
            block[..chunk.len()].copy_from_slice(chunk);
            // Bits beyond the message count as zero.
            let present = (bits - i * 64).min(64);
            let m = u64::from_be_bytes(block) & !0 << (64 - present);
            eval = mul(eval ^ m, p);
        }
        eval = mul(eval ^ bits as u64, q);
        ((eval >> 32) as u32 ^ z5).to_be_bytes()
    }
}

/// IV0..IV3. Source: TS 35.215 4.4.
pub(crate) const fn iv(count: u32, fresh: u32, direction: u8) -> [u32; 4] {
    let direction = direction as u32;
    [fresh ^ direction << 15, count ^ direction << 31, fresh, count]
}

/// MUL64 with the constant 0x1B, in constant time. Source: TS 35.215 4.3.
fn mul(v: u64, p: u64) -> u64 {
    const X_64: u64 = 0x1b; // x^64 modulo the polynomial
    let (low, high) = (carryless::low(v, p), carryless::high(v, p));
    // `high` times x^64 reaches at most three bits beyond 63 again, which times 0x1b do not.
    let carry = carryless::high(high, X_64);
    low ^ carryless::low(high, X_64) ^ carryless::low(carry, X_64)
}

impl Integrity for Eia1 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn mac(&self, job: &Job, message: &[u8]) -> [u8; 4] {
        self.mac(job.count, job.bearer(), job.direction(), message, message.len() * 8)
    }
}

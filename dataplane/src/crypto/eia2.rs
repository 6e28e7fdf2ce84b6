//! 128-EIA2 (and 128-NIA2): the first 32 bits of AES-128-CMAC. Source: TS 33.401 B.2.3.

use super::cmac::Cmac;
use super::frame::Integrity;
use crate::cipher::Job;

/// 128-EIA2 with its key.
pub struct Eia2(Cmac);

impl Eia2 {
    /// Expands a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(Cmac::new(key))
    }

    /// MAC-I over the first `bits` bits of `message`. `input` is COUNT || BEARER || DIRECTION || 0 (8 octets).
    pub fn mac(&self, input: [u8; 8], message: &[u8], bits: usize) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0.mac(&input, message, bits);
        [a, b, c, d]
    }
}

impl Integrity for Eia2 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn mac(&self, job: &Job, message: &[u8]) -> [u8; 4] {
        self.mac(job.count_bearer_direction(), message, message.len() * 8)
    }
}

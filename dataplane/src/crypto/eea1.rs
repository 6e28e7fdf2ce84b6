//! 128-EEA1 (128-NEA1, UEA2): SNOW 3G. Source: TS 33.401 B.1.2, TS 35.215 3.

use zeroize::ZeroizeOnDrop;

use super::eia1::Eia1;
use super::frame::{Ciphering, Eea, EeaEia, OneByOne};
use super::snow3g::Snow3g;
use crate::cipher::{Cipher, Job, Kernel};
use crate::suite::Suite;

/// The portable tier of `eea1` and `eea1-eia1`.
pub(super) fn portable(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Eea1 => Some(Box::new(OneByOne::<Eea<Eea1>, { Suite::Eea1 as u8 }>::new(Kernel::Portable))),
        Suite::Eea1Eia1 => {
            Some(Box::new(OneByOne::<EeaEia<Eea1, Eia1>, { Suite::Eea1Eia1 as u8 }>::new(Kernel::Portable)))
        }
        _ => None,
    }
}

/// 128-EEA1 with its key.
#[derive(ZeroizeOnDrop)]
pub struct Eea1([u32; 4]);

impl Eea1 {
    /// Takes a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(key_words(key))
    }

    /// Enciphers or deciphers whole octets. `input` is COUNT || BEARER || DIRECTION || 0 (8 octets).
    pub fn apply(&self, input: [u8; 8], data: &mut [u8]) {
        Snow3g::new(&self.0, &iv(input)).apply(data);
    }
}

/// k0..k3: the last word of the key is k0. Source: TS 35.215 3.3.
pub(crate) fn key_words(key: &[u8; 16]) -> [u32; 4] {
    let word = |i: usize| u32::from_be_bytes([key[i], key[i + 1], key[i + 2], key[i + 3]]);
    [word(12), word(8), word(4), word(0)]
}

/// IV0..IV3. Source: TS 35.215 3.3.
pub(crate) const fn iv(input: [u8; 8]) -> [u32; 4] {
    let [c0, c1, c2, c3, b, ..] = input;
    let (count, bearer) = (u32::from_be_bytes([c0, c1, c2, c3]), (b as u32) << 24);
    [bearer, count, bearer, count]
}

impl Ciphering for Eea1 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn apply(&self, job: &Job, data: &mut [u8]) {
        self.apply(job.count_bearer_direction(), data);
    }
}

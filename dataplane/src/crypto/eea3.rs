//! 128-EEA3 (128-NEA3): ZUC. Source: TS 33.401 B.1.4, TS 35.221 3.

use zeroize::ZeroizeOnDrop;

use super::eia3::Eia3;
use super::frame::{Ciphering, Eea, EeaEia, OneByOne};
use super::zuc::Zuc;
use crate::cipher::{Cipher, Job, Kernel};
use crate::suite::Suite;

/// The portable tier of `eea3` and `eea3-eia3`.
pub(super) fn portable(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Eea3 => Some(Box::new(OneByOne::<Eea<Eea3>, { Suite::Eea3 as u8 }>::new(Kernel::Portable))),
        Suite::Eea3Eia3 => {
            Some(Box::new(OneByOne::<EeaEia<Eea3, Eia3>, { Suite::Eea3Eia3 as u8 }>::new(Kernel::Portable)))
        }
        _ => None,
    }
}

/// 128-EEA3 with its key.
#[derive(ZeroizeOnDrop)]
pub struct Eea3([u8; 16]);

impl Eea3 {
    /// Takes a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(*key)
    }

    /// Enciphers or deciphers whole octets. `input` is COUNT || BEARER || DIRECTION || 0 (8 octets).
    pub fn apply(&self, input: [u8; 8], data: &mut [u8]) {
        Zuc::new(&self.0, &iv(input)).apply(data);
    }
}

/// The input, twice. Source: TS 35.221 3.3.
pub(crate) fn iv(input: [u8; 8]) -> [u8; 16] {
    std::array::from_fn(|i| input[i % 8])
}

impl Ciphering for Eea3 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn apply(&self, job: &Job, data: &mut [u8]) {
        self.apply(job.count_bearer_direction(), data);
    }
}

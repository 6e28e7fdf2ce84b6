//! 128-EEA2 (and 128-NEA2): AES-128 in counter mode. Source: TS 33.401 B.1.3.

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors::Ctr64BE};

use super::eia2::Eia2;
use super::frame::{Ciphering, Eea, EeaEia, OneByOne};
use crate::cipher::{Cipher, Job, Kernel};
use crate::suite::Suite;

/// The portable tier of `eea2` and `eea2-eia2`.
pub(super) fn portable(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Eea2 => Some(Box::new(OneByOne::<Eea<Eea2>, { Suite::Eea2 as u8 }>::new(Kernel::Portable))),
        Suite::Eea2Eia2 => {
            Some(Box::new(OneByOne::<EeaEia<Eea2, Eia2>, { Suite::Eea2Eia2 as u8 }>::new(Kernel::Portable)))
        }
        _ => None,
    }
}

/// 128-EEA2 with its key.
pub struct Eea2(Aes128);

impl Eea2 {
    /// Expands a key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(Aes128::new(key.into()))
    }

    /// Enciphers or deciphers whole octets. `input` is COUNT || BEARER || DIRECTION || 0 (8 octets).
    pub fn apply(&self, input: [u8; 8], data: &mut [u8]) {
        // T1: the 64 high bits are the input, the 64 low bits count blocks.
        let mut t1 = [0; 16];
        t1[..8].copy_from_slice(&input);
        let core = CtrCore::<&Aes128, Ctr64BE>::inner_iv_init(&self.0, &t1.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }
}

impl Ciphering for Eea2 {
    fn new(key: &[u8; 16]) -> Self {
        Self::new(key)
    }

    fn apply(&self, job: &Job, data: &mut [u8]) {
        self.apply(job.count_bearer_direction(), data);
    }
}

//! AES-GCM on RustCrypto: the portable oracle. Source: NIST SP 800-38D; inputs by `design.md` section 4.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, consts::U12};
use aes_gcm::{AesGcm, KeyInit, aes};

use super::frame::{Frame, FrameCipher, OneByOne};
use crate::cipher::{Cipher, Job, Kernel};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// The portable tier of `aes-128-gcm` and `aes-256-gcm`.
pub(super) fn portable(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Aes128Gcm => {
            Some(Box::new(OneByOne::<Gcm<aes::Aes128>, { Suite::Aes128Gcm as u8 }>::new(Kernel::Portable)))
        }
        Suite::Aes256Gcm => {
            Some(Box::new(OneByOne::<Gcm<aes::Aes256>, { Suite::Aes256Gcm as u8 }>::new(Kernel::Portable)))
        }
        _ => None,
    }
}

/// Nonce of a frame: the salt combined with what never repeats under one key.
pub(super) fn nonce(salt: &[u8; 12], job: &Job) -> [u8; 12] {
    let mut nonce = job.gcm_nonce_input();
    nonce.iter_mut().zip(salt).for_each(|(n, s)| *n ^= s);
    nonce
}

struct Gcm<A> {
    aead: AesGcm<A, U12>,
    salt: [u8; 12],
}

impl<A> FrameCipher for Gcm<A>
where
    AesGcm<A, U12>: KeyInit + AeadInOut<NonceSize = U12, TagSize = aes_gcm::aead::consts::U16> + Send,
{
    fn expand(_: Suite, keys: &FrameKeys) -> Self {
        let aead = KeyInit::new_from_slice(keys.pek()).expect("PEK has the length of the suite's key");
        Self { aead, salt: *keys.salt() }
    }

    fn seal(&self, job: &Job, mut frame: Frame<'_>) {
        let nonce = nonce(&self.salt, job).into();
        let tag = if job.clear_data {
            self.aead.encrypt_inout_detached(&nonce, &frame.aad_with_data(job), InOutBuf::from(&mut [][..]))
        } else {
            self.aead.encrypt_inout_detached(&nonce, &job.aad[..Job::AAD_LEN], frame.data().into())
        };
        // No error: the only one is data beyond 64 GiB, and `Job::len` has 32 bits.
        frame.mac.copy_from_slice(&tag.expect("at most 4 GiB of data"));
    }

    fn open(&self, job: &Job, mut frame: Frame<'_>) -> bool {
        let nonce = nonce(&self.salt, job).into();
        let Some(tag) = frame.mac.first_chunk::<16>().map(|t| (*t).into()) else { return false };
        if job.clear_data {
            let aad = frame.aad_with_data(job);
            self.aead.decrypt_inout_detached(&nonce, &aad, InOutBuf::from(&mut [][..]), &tag).is_ok()
        } else {
            let aad = &job.aad[..Job::AAD_LEN];
            self.aead.decrypt_inout_detached(&nonce, aad, frame.data().into(), &tag).is_ok()
        }
    }
}

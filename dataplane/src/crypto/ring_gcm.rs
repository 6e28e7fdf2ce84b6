//! AES-GCM on `ring`: fast on any CPU that has AES instructions, without unsafe code of our own.

use std::hint::black_box;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::aes_gcm::nonce;
use super::frame::{Frame, FrameCipher, OneByOne};
use crate::cipher::{Cipher, Job, Kernel};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// The `ring` tier of `aes-128-gcm` and `aes-256-gcm`.
pub(super) fn ring(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Aes128Gcm => {
            Some(Box::new(OneByOne::<RingGcm, { Suite::Aes128Gcm as u8 }>::new(Kernel::Ring)))
        }
        Suite::Aes256Gcm => {
            Some(Box::new(OneByOne::<RingGcm, { Suite::Aes256Gcm as u8 }>::new(Kernel::Ring)))
        }
        _ => None,
    }
}

struct RingGcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl RingGcm {
    fn key(key: &[u8]) -> LessSafeKey {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        LessSafeKey::new(UnboundKey::new(algorithm, key).expect("PEK has the length of the suite's key"))
    }
}

impl FrameCipher for RingGcm {
    fn expand(_: Suite, keys: &FrameKeys) -> Self {
        Self { key: Self::key(keys.pek()), salt: *keys.salt() }
    }

    fn seal(&self, job: &Job, mut frame: Frame<'_>) {
        let nonce = Nonce::assume_unique_for_key(nonce(&self.salt, job));
        let tag = if job.clear_data {
            self.key.seal_in_place_separate_tag(nonce, Aad::from(frame.aad_with_data(job)), &mut [])
        } else {
            self.key.seal_in_place_separate_tag(nonce, Aad::from(&job.aad[..Job::AAD_LEN]), frame.data())
        };
        // No error: the only one is data beyond 64 GiB, and `Job::len` has 32 bits.
        frame.mac.copy_from_slice(tag.expect("at most 4 GiB of data").as_ref());
    }

    fn open(&self, job: &Job, mut frame: Frame<'_>) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce(&self.salt, job));
        let Some(tag) = frame.mac.first_chunk::<16>().map(|t| (*t).into()) else { return false };
        if job.clear_data {
            let aad = Aad::from(frame.aad_with_data(job));
            self.key.open_in_place_separate_tag(nonce, aad, tag, &mut [], 0..).is_ok()
        } else {
            // On failure ring leaves zeros.
            let aad = Aad::from(&job.aad[..Job::AAD_LEN]);
            self.key.open_in_place_separate_tag(nonce, aad, tag, frame.data(), 0..).is_ok()
        }
    }
}

impl Drop for RingGcm {
    /// `ring` does not wipe its keys, so another one is put over this one; the black box keeps the store.
    fn drop(&mut self) {
        self.key = Self::key(&[0; 32]);
        black_box(&self.key);
        self.salt.zeroize();
    }
}

//! Suite `eea0`: nothing is ciphered, nothing is checked. Source: TS 33.401 B.0.

use crate::cipher::{Cipher, Job, Kernel, KeyIndex};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// The null suite; it has no keys to keep.
pub(super) struct Null;

impl Cipher for Null {
    fn suite(&self) -> Suite {
        Suite::Eea0
    }

    fn kernel(&self) -> Kernel {
        Kernel::Portable
    }

    fn insert(&mut self, _: &FrameKeys) -> KeyIndex {
        KeyIndex(0)
    }

    fn remove(&mut self, _: KeyIndex) {}

    fn seal(&self, _: &mut [u8], _: &mut [Job]) {}

    fn open(&self, _: &mut [u8], jobs: &mut [Job]) {
        for job in jobs {
            job.verified = true;
        }
    }
}

//! The frame-at-a-time driver under which the portable algorithms become a [`Cipher`].

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// One frame's octets: PDCP header and data, and the MAC field behind them.
pub(super) struct Frame<'a> {
    /// Header (5 octets), then data.
    pub(super) header_and_data: &'a mut [u8],
    /// MAC field of the suite's size.
    pub(super) mac: &'a mut [u8],
}

impl<'a> Frame<'a> {
    /// The frame of a job within the arena.
    #[inline]
    pub(super) fn of(arena: &'a mut [u8], job: &Job, mac_len: usize) -> Self {
        let (start, len) = (job.start as usize, job.len as usize);
        let (header_and_data, mac) =
            arena[start - Job::HEADER_LEN..start + len + mac_len].split_at_mut(Job::HEADER_LEN + len);
        Self { header_and_data, mac }
    }

    #[inline]
    pub(super) fn data(&mut self) -> &mut [u8] {
        &mut self.header_and_data[Job::HEADER_LEN..]
    }

    /// Associated data of an AEAD when the data itself is only authenticated: it follows the 13 octets.
    pub(super) fn aad_with_data(&self, job: &Job) -> Vec<u8> {
        [&job.aad[..Job::AAD_LEN], &self.header_and_data[Job::HEADER_LEN..]].concat()
    }
}

/// Expanded keys of one context that work on one frame at a time.
pub(super) trait FrameCipher: Send {
    /// Expands keys of this suite.
    fn expand(suite: Suite, keys: &FrameKeys) -> Self;

    /// Enciphers the data and fills the MAC field.
    fn seal(&self, job: &Job, frame: Frame<'_>);

    /// Whether the MAC field is right; the data is then deciphered, otherwise unchanged or wiped.
    fn open(&self, job: &Job, frame: Frame<'_>) -> bool;
}

/// A place of the slab: keys, or the all-zero key where there are none.
///
/// Always a whole expanded key and no `Option`, so that moving keys on growth overwrites every octet of the old place.
struct Place<K, const SUITE: u8>(K);

impl<K: FrameCipher, const SUITE: u8> Default for Place<K, SUITE> {
    fn default() -> Self {
        let suite = Suite::ALL[SUITE as usize];
        Self(K::expand(suite, &FrameKeys::from_parts(&[0; 32][..suite.pek_len()], [0; 16], [0; 12])))
    }
}

/// A [`Cipher`] that takes its frames one by one.
pub(super) struct OneByOne<K, const SUITE: u8> {
    kernel: Kernel,
    keys: KeySlab<Place<K, SUITE>>,
}

impl<K: FrameCipher, const SUITE: u8> OneByOne<K, SUITE> {
    const SUITE: Suite = Suite::ALL[SUITE as usize];

    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, keys: KeySlab::new() }
    }
}

impl<K: FrameCipher, const SUITE: u8> Cipher for OneByOne<K, SUITE> {
    fn suite(&self) -> Suite {
        Self::SUITE
    }

    fn kernel(&self) -> Kernel {
        self.kernel
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        self.keys.insert(Place(K::expand(Self::SUITE, keys)))
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for job in jobs {
            self.keys.get(job.key).0.seal(job, Frame::of(arena, job, Self::SUITE.mac_len()));
        }
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for job in jobs {
            job.verified = self.keys.get(job.key).0.open(job, Frame::of(arena, job, Self::SUITE.mac_len()));
        }
    }
}

/// A 128-EEA with its key.
pub(super) trait Ciphering: Send {
    fn new(key: &[u8; 16]) -> Self;

    /// Enciphers or deciphers.
    fn apply(&self, job: &Job, data: &mut [u8]);
}

/// A 128-EIA with its key.
pub(super) trait Integrity: Send {
    fn new(key: &[u8; 16]) -> Self;

    fn mac(&self, job: &Job, message: &[u8]) -> [u8; 4];
}

fn pek_128(keys: &FrameKeys) -> &[u8; 16] {
    keys.pek().first_chunk().expect("the caller derived keys for a suite with a PEK of 16 octets")
}

/// An EEA alone: nothing proves who sent the frame.
pub(super) struct Eea<E>(E);

impl<E: Ciphering> FrameCipher for Eea<E> {
    fn expand(_: Suite, keys: &FrameKeys) -> Self {
        Self(E::new(pek_128(keys)))
    }

    fn seal(&self, job: &Job, mut frame: Frame<'_>) {
        if !job.clear_data {
            self.0.apply(job, frame.data());
        }
    }

    fn open(&self, job: &Job, frame: Frame<'_>) -> bool {
        self.seal(job, frame);
        true
    }
}

/// An EEA with an EIA. The MAC covers header and data before ciphering and is not ciphered itself.
/// Source: TS 36.323 5.6, 5.7.
pub(super) struct EeaEia<E, I> {
    eea: E,
    eia: I,
}

impl<E: Ciphering, I: Integrity> FrameCipher for EeaEia<E, I> {
    fn expand(_: Suite, keys: &FrameKeys) -> Self {
        Self { eea: E::new(pek_128(keys)), eia: I::new(keys.pik()) }
    }

    fn seal(&self, job: &Job, mut frame: Frame<'_>) {
        frame.mac.copy_from_slice(&self.eia.mac(job, frame.header_and_data));
        if !job.clear_data {
            self.eea.apply(job, frame.data());
        }
    }

    fn open(&self, job: &Job, mut frame: Frame<'_>) -> bool {
        if !job.clear_data {
            self.eea.apply(job, frame.data());
        }
        let right: bool = self.eia.mac(job, frame.header_and_data).as_slice().ct_eq(frame.mac).into();
        if !right {
            frame.data().zeroize(); // it was deciphered to be checked
        }
        right
    }
}

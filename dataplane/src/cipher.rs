//! The suite seam: the pipeline knows no other door to cryptography.
//!
//! A [`Cipher`] is one suite on one kernel tier. It owns the expanded keys of the contexts of one worker, contiguous
//! and indexed, and seals or opens a whole run of frames at a time, each [`Job`] with a key of its own: that
//! is what lets a multi-buffer kernel fill its lanes from frames of different keys.

use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Which implementation of a suite works. Tiers are ordered by what they ask of the processor, and the highest that a machine has
/// is the one to take. Forced below that, AES-NI falls behind `ring` from about a kilooctet on, since `ring` then uses VAES.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kernel {
    /// Safe code that reads like the specification (RustCrypto for AES); the oracle of all others.
    Portable,
    /// `ring`, for AES-GCM on any CPU.
    Ring,
    /// AES-NI with PCLMULQDQ.
    AesNi,
    /// VAES and VPCLMULQDQ on 256-bit registers.
    Vaes256,
    /// AVX-512: VAES, VPCLMULQDQ, GFNI on 512-bit registers, several frames at once.
    Avx512,
}

impl Kernel {
    /// Every tier, lowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Ring, Self::AesNi, Self::Vaes256, Self::Avx512];

    /// Name in `--kernel`, reports and `pc5 show runtime`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Ring => "ring",
            Self::AesNi => "aes-ni",
            Self::Vaes256 => "vaes256",
            Self::Avx512 => "avx512",
        }
    }
}

/// Index of a context's expanded keys within its [`Cipher`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyIndex(pub u32);

/// One frame of a run: where its data lies in the arena and what the algorithms take beside it.
///
/// In the arena stand, without a gap: the PDCP header (5 octets, from `start - 5`), the data (`len` octets from
/// `start`) and the MAC field (the suite's [`Suite::mac_len`] octets).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Job {
    /// Associated data of an AEAD: 13 octets as `design.md` section 4 has them, then three of zero.
    pub aad: [u8; 16],
    /// Offset of the data in the arena.
    pub start: u32,
    /// Octets of data, without the MAC field.
    pub len: u32,
    /// Whose keys.
    pub key: KeyIndex,
    /// COUNT.
    pub count: u32,
    /// BEARER (= LCID) in the five high bits, then DIRECTION, then two of zero: as EEA and GCM pack it.
    pub bearer_direction: u8,
    /// LCID 29 with DIRECTION 1: the data is authenticated but not ciphered.
    pub clear_data: bool,
    /// Set by [`Cipher::open`]: the MAC was right (always, for a suite without MAC).
    pub verified: bool,
    /// Slot of the batch, for the pipeline.
    pub slot: u16,
}

impl Job {
    /// Octets of associated data in `aad`.
    pub const AAD_LEN: usize = 13;
    /// Octets of the PDCP header before the data.
    pub const HEADER_LEN: usize = 5;

    /// BEARER || DIRECTION || 00 as one octet.
    pub const fn pack_bearer_direction(bearer: u8, direction: u8) -> u8 {
        bearer << 3 | direction << 2
    }

    /// BEARER, 5 bits.
    pub const fn bearer(&self) -> u8 {
        self.bearer_direction >> 3
    }

    /// DIRECTION, 1 bit.
    pub const fn direction(&self) -> u8 {
        self.bearer_direction >> 2 & 1
    }

    /// Input of the 128-bit algorithms: COUNT || BEARER || DIRECTION || 0. Source: TS 33.401 B.1.3, B.2.3.
    pub const fn count_bearer_direction(&self) -> [u8; 8] {
        let c = self.count.to_be_bytes();
        [c[0], c[1], c[2], c[3], self.bearer_direction, 0, 0, 0]
    }

    /// What the salt of AES-GCM is combined with: BEARER || DIRECTION || 0 || COUNT, 12 octets.
    pub const fn gcm_nonce_input(&self) -> [u8; 12] {
        let c = self.count.to_be_bytes();
        [self.bearer_direction, 0, 0, 0, 0, 0, 0, 0, c[0], c[1], c[2], c[3]]
    }

    /// IV of the 256-bit AEAD family for a 16-octet tag. Source: TS 35.240, `design.md` section 4.
    pub const fn nca_iv(&self) -> [u8; 16] {
        let c = self.count.to_be_bytes();
        [0x84, self.bearer_direction >> 2, 0, 0, 0, 0, 0, 0, c[0], c[1], c[2], c[3], 0, 0, 0, 0]
    }
}

/// One suite on one kernel, with the expanded keys of one worker.
///
/// `seal` and `open` never fail as a whole. Every job must lie inside the arena with its header before and its MAC field
/// behind; a job that does not is a bug of the caller and panics.
pub trait Cipher: Send {
    /// The suite.
    fn suite(&self) -> Suite;

    /// The tier at work.
    fn kernel(&self) -> Kernel;

    /// Expands and keeps keys.
    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex;

    /// Wipes keys; the index may come back for others.
    fn remove(&mut self, key: KeyIndex);

    /// Enciphers the data of each job in place and writes its MAC field.
    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]);

    /// Verifies each job's MAC field and deciphers its data in place; sets `verified`. Data of a job that did
    /// not verify is never left deciphered: it is unchanged or wiped.
    fn open(&self, arena: &mut [u8], jobs: &mut [Job]);

    /// Asks the processor to bring a key near, ahead of its use.
    fn prefetch(&self, _key: KeyIndex) {}
}

/// Expanded keys, contiguous, by index. Removed keys are dropped at once, so `K` wipes itself.
pub struct KeySlab<K> {
    keys: Vec<K>,
    free: Vec<u32>,
}

impl<K: Default> KeySlab<K> {
    /// No keys.
    pub fn new() -> Self {
        Self { keys: Vec::new(), free: Vec::new() }
    }

    /// Keeps `key` under the lowest free index.
    pub fn insert(&mut self, key: K) -> KeyIndex {
        if let Some(i) = self.free.pop() {
            self.keys[i as usize] = key;
            return KeyIndex(i);
        }
        if self.keys.len() == self.keys.capacity() {
            self.grow();
        }
        self.keys.push(key);
        KeyIndex(self.keys.len() as u32 - 1)
    }

    /// Drops the key of `index`.
    pub fn remove(&mut self, index: KeyIndex) {
        self.keys[index.0 as usize] = K::default();
        self.free.push(index.0);
    }

    /// The key of `index`.
    #[inline]
    pub fn get(&self, index: KeyIndex) -> &K {
        &self.keys[index.0 as usize]
    }

    /// All places, for kernels that index by themselves.
    pub fn as_slice(&self) -> &[K] {
        &self.keys
    }

    /// Moves keys one by one: a plain reallocation would leave unwiped copies behind.
    fn grow(&mut self) {
        let mut bigger = Vec::with_capacity((self.keys.capacity() * 2).max(16));
        bigger.extend(self.keys.iter_mut().map(std::mem::take));
        self.keys = bigger;
    }
}

impl<K: Default> Default for KeySlab<K> {
    fn default() -> Self {
        Self::new()
    }
}

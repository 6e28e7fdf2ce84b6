//! 128-EEA2 and 128-EIA2 on AVX-512.
//!
//! ```text
//! EEA2: eight slots of 64 octets at a time, of whatever frames       EIA2: 32 frames side by side (x86_eia2)
//! seal: MAC over header and data, then cipher                       open: cipher, then MAC, then wipe what was wrong
//! ```
//!
//! In counter mode a slot is independent of every other: what is left of frames beyond whole steps is collected by size.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use super::x86::{self, Block};
use super::x86_512::*;
use super::x86_eia2::{self, GROUP};
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of a slot.
const SLOT: usize = 64;
/// Slots ciphered at a time.
const SLOTS: usize = 8;
/// Round keys.
const RK: usize = 11;

/// Expanded keys of one context.
#[repr(C, align(64))]
#[derive(Default, Zeroize, ZeroizeOnDrop)]
pub(super) struct Eea2Key {
    /// Round keys of PEK.
    cipher: [Block; RK],
    /// K1, the subkey of a last block that is whole. Source: SP 800-38B 6.1.
    pub(super) k1: Block,
    /// Round keys of PIK: the second to the tenth, the last xor the first, the first; then K2, the subkey of a last block that is
    /// padded. CMAC combines with the last round key of a block and the first of the next at once.
    pub(super) mac: [Block; x86_eia2::KEYS],
}

impl Eea2Key {
    #[target_feature(enable = "aes,sse4.1")]
    fn expand(keys: &FrameKeys) -> Self {
        let double = |b: Block| {
            let v = u128::from_be_bytes(b);
            (v << 1 ^ ((v >> 127).wrapping_neg() & 0x87)).to_be_bytes()
        };
        let pik = Zeroizing::new(x86::round_keys::<RK>(keys.pik()));
        let mut key = Self { cipher: x86::round_keys(keys.pek()), ..Self::default() };
        key.k1 = double(x86::encrypt_block(&pik, [0; 16]));
        key.mac[..RK - 1].copy_from_slice(&pik[1..]);
        for (last, first) in key.mac[RK - 2].iter_mut().zip(pik[0]) {
            *last ^= first;
        }
        key.mac[x86_eia2::FIRST] = pik[0];
        key.mac[x86_eia2::K2] = double(key.k1);
        key
    }
}

/// `eea2`, or with `EIA` `eea2-eia2`, on AVX-512.
pub(super) struct Avx512Eea2<const EIA: bool> {
    proof: Avx512,
    keys: KeySlab<Eea2Key>,
}

impl<const EIA: bool> Avx512Eea2<EIA> {
    /// No keys yet.
    pub(super) fn new(proof: Avx512) -> Self {
        Self { proof, keys: KeySlab::new() }
    }
}

impl<const EIA: bool> Cipher for Avx512Eea2<EIA> {
    fn suite(&self) -> Suite {
        if EIA { Suite::Eea2Eia2 } else { Suite::Eea2 }
    }

    fn kernel(&self) -> Kernel {
        self.proof.kernel()
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        // SAFETY: the proof shows every feature that `expand` enables.
        self.keys.insert(unsafe { Eea2Key::expand(keys) })
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for chunk in jobs.chunks_mut(CHUNK) {
            // SAFETY: the proof shows every feature that `run` enables.
            unsafe { run::<EIA, false>(self.keys.as_slice(), arena, chunk) }
        }
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for chunk in jobs.chunks_mut(CHUNK) {
            // SAFETY: the proof shows every feature that `run` enables.
            unsafe { run::<EIA, true>(self.keys.as_slice(), arena, chunk) }
        }
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(key) = self.keys.as_slice().get(key.0 as usize) {
            prefetch(key);
        }
    }
}

#[inline(always)]
fn prefetch(key: &Eea2Key) {
    let p = std::ptr::from_ref(key).cast::<i8>();
    for line in (0..size_of::<Eea2Key>()).step_by(64) {
        // SAFETY: a prefetch reads nothing, and the address is inside `key`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line)) };
    }
}

/// A frame, admitted: `data - 5 .. data + len + 4` (without EIA, `data + len`) is inside the arena.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) job: *mut Job,
    pub(super) data: *mut u8,
    pub(super) len: usize,
    pub(super) key: *const Eea2Key,
}

/// What is left of a frame to cipher: `len` octets from `data`.
#[derive(Clone, Copy)]
struct Part {
    job: *const Job,
    data: *mut u8,
    len: usize,
    key: *const Eea2Key,
    /// Its first counter.
    block: u32,
}

/// Parts that wait for others of their size.
struct Parts<const N: usize> {
    parts: [Part; N],
    n: usize,
    nothing: Part,
}

impl<const N: usize> Parts<N> {
    fn new(nothing: Part) -> Self {
        Self { parts: [nothing; N], n: 0, nothing }
    }

    /// Whether they are enough now; the next one begins anew.
    #[inline(always)]
    fn add(&mut self, part: Part) -> bool {
        self.parts[self.n] = part;
        self.n = (self.n + 1) % N;
        self.n == 0
    }

    /// Those that found no company, if any, with empty ones behind.
    fn rest(&mut self) -> Option<&[Part; N]> {
        if self.n == 0 {
            return None;
        }
        self.parts[self.n..].fill(self.nothing);
        Some(&self.parts)
    }
}

macro_rules! round_key {
    ($key:expr, $part:ident, $r:expr) => {{
        let out: Z;
        // SAFETY: reads a round key of a key that the caller vouched for.
        asm!("vbroadcasti32x4 {0}, xmmword ptr [{1} + {2}]", out(zmm_reg) out, in(reg) $key,
            const offset_of!(Eea2Key, $part) + 16 * ($r), options(readonly, nostack, preserves_flags));
        out
    }};
}
pub(super) use round_key;

macro_rules! rounds {
    ($round:ident) => {
        $round!(aesenc, 1);
        $round!(aesenc, 2);
        $round!(aesenc, 3);
        $round!(aesenc, 4);
        $round!(aesenc, 5);
        $round!(aesenc, 6);
        $round!(aesenc, 7);
        $round!(aesenc, 8);
        $round!(aesenc, 9);
        $round!(aesenclast, 10);
    };
}

kernel_fn! {
    fn run<const EIA: bool, const OPEN: bool>(keys: &[Eea2Key], arena: &mut [u8], jobs: &mut [Job]) {
        let mac_len = if EIA { 4 } else { 0 };
        let (mut least, mut most) = (u32::MAX, 0);
        let mut asked = u32::MAX;
        for job in &*jobs {
            check(job, arena.len(), mac_len, keys.len());
            // Contexts of many keys do not stay near: all of a burst are asked for before the first is needed.
            if job.key.0 != asked {
                asked = job.key.0;
                prefetch(&keys[asked as usize]);
            }
            (least, most) = (least.min(job.len), most.max(job.len));
        }
        let n = jobs.len();
        let (arena, jobs_at) = (arena.as_mut_ptr(), jobs.as_mut_ptr());
        let mut lanes = [MaybeUninit::<Lane>::uninit(); CHUNK];
        let lane = |i: usize| {
            // SAFETY: `check` admitted job i: its data lies in the arena and its key exists.
            unsafe {
                let job = jobs_at.add(i);
                let data = arena.add((*job).start as usize);
                Lane { job, data, len: (*job).len as usize, key: keys.as_ptr().add((*job).key.0 as usize) }
            }
        };
        // For MACs, frames of like length side by side, longest first; 64 octets are a class, from 2 KiB on there is only
        // one.
        if EIA && most / 64 != least / 64 {
            let class = |i: usize| {
                // SAFETY: i is below the number of jobs.
                31 - unsafe { ((*jobs_at.add(i)).len as usize / 64).min(31) }
            };
            let mut next = [0u8; 33];
            for i in 0..n {
                next[class(i) + 1] += 1;
            }
            for c in 1..33 {
                next[c] += next[c - 1];
            }
            for i in 0..n {
                let at = &mut next[class(i)];
                lanes[usize::from(*at)].write(lane(i));
                *at += 1;
            }
        } else {
            for (i, place) in lanes[..n].iter_mut().enumerate() {
                place.write(lane(i));
            }
        }
        // SAFETY: the sort wrote each of the first n places once; lanes are admitted.
        unsafe {
            let lanes = std::slice::from_raw_parts(lanes.as_ptr().cast::<Lane>(), n);
            if OPEN {
                cipher(lanes);
            }
            if EIA {
                for group in lanes.chunks(GROUP) {
                    x86_eia2::macs::<OPEN>(group);
                }
            } else if OPEN {
                for lane in lanes {
                    (*lane.job).verified = true;
                }
            }
            if !OPEN {
                cipher(lanes);
            }
        }
    }

    /// Ciphers every frame, eight slots at a time: of one frame, or what is left of two, four or eight.
    ///
    /// # Safety
    /// Lanes are admitted.
    unsafe fn cipher(lanes: &[Lane]) {
        let Some(first) = lanes.first() else { return };
        // SAFETY: parts lie within admitted frames.
        unsafe {
            let nothing = Part { job: first.job, data: first.data, len: 0, key: first.key, block: 0 };
            let (mut ones, mut twos, mut fours) = (Parts::<8>::new(nothing), Parts::<4>::new(nothing), Parts::<2>::new(nothing));
            for lane in lanes {
                if (*lane.job).clear_data {
                    continue;
                }
                let mut part = Part { job: lane.job, data: lane.data, len: lane.len, key: lane.key, block: 0 };
                while part.len >= SLOTS * SLOT {
                    cipher_parts::<1, 8, true>(&[part]);
                    part.data = part.data.add(SLOTS * SLOT);
                    part.len -= SLOTS * SLOT;
                    part.block += 4 * SLOTS as u32;
                }
                match part.len.div_ceil(SLOT) {
                    0 => {}
                    1 => {
                        if ones.add(part) {
                            cipher_parts::<8, 1, false>(&ones.parts);
                        }
                    }
                    2 => {
                        if twos.add(part) {
                            cipher_parts::<4, 2, false>(&twos.parts);
                        }
                    }
                    3 | 4 => {
                        if fours.add(part) {
                            cipher_parts::<2, 4, false>(&fours.parts);
                        }
                    }
                    _ => cipher_parts::<1, 8, false>(&[part]),
                }
            }
            if fours.n > 0 {
                cipher_parts::<1, 4, false>(&[fours.parts[0]]);
            }
            if let Some(rest) = twos.rest() {
                cipher_parts::<4, 2, false>(rest);
            }
            if let Some(rest) = ones.rest() {
                cipher_parts::<8, 1, false>(rest);
            }
        }
    }

    /// Keystream input of slot `s` after `block`, xor the first round key. Source: TS 33.401 B.1.3; a frame has fewer than
    /// 2^32 blocks.
    ///
    /// # Safety
    /// Job and key are readable.
    unsafe fn input(job: *const Job, key: *const Eea2Key, block: u32, s: u32) -> Z {
        const COUNT: usize = offset_of!(Job, count);
        const { assert!(offset_of!(Job, bearer_direction) == COUNT + 4 && COUNT + 16 <= size_of::<Job>()) };
        // COUNT from little-endian, BEARER and DIRECTION, zeros.
        let nonce_order = _mm512_broadcast_i32x4(_mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 4, 0, 1, 2, 3));
        let counter_order =
            _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        let lanes = _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        // SAFETY: as the caller vouches.
        unsafe {
            let nonce = _mm512_shuffle_epi8(broadcast(job.cast::<u8>().add(COUNT)), nonce_order);
            let counter = _mm512_add_epi32(lanes, _mm512_set1_epi32((block + 4 * s) as i32));
            let key = broadcast(key.cast::<u8>().add(offset_of!(Eea2Key, cipher)));
            xor3(nonce, _mm512_shuffle_epi8(counter, counter_order), key)
        }
    }

    /// `S` slots of each of `F` frames; with `WHOLE` they are whole.
    ///
    /// # Safety
    /// `len` octets from `data` of each part, at most 64 * `S`, are writable, with `WHOLE` all 64 * `S`; job and key are readable.
    unsafe fn cipher_parts<const F: usize, const S: usize, const WHOLE: bool>(parts: &[Part; F]) {
        // SAFETY: as the caller vouches; masks end at the length.
        unsafe {
            let mut x = [[_mm512_setzero_si512(); S]; F];
            each!(f < F, {
                each!(s < S, {
                    x[f][s] = input(parts[f].job, parts[f].key, parts[f].block, s as u32);
                });
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    each!(f < F, {
                        let k = round_key!(parts[f].key, cipher, $r);
                        each!(s < S, {
                            x[f][s] = $op(x[f][s], k);
                        });
                    });
                }};
            }
            rounds!(round);
            each!(f < F, {
                let Part { data, len, .. } = parts[f];
                each!(s < S, {
                    let at = data.wrapping_add(SLOT * s);
                    if WHOLE {
                        let text = _mm512_loadu_si512(at.cast());
                        _mm512_storeu_si512(at.cast(), _mm512_xor_si512(text, x[f][s]));
                    } else {
                        let mask = _bzhi_u64(u64::MAX, len.saturating_sub(SLOT * s).min(SLOT) as u32);
                        let text = _mm512_maskz_loadu_epi8(mask, at.cast());
                        _mm512_mask_storeu_epi8(at.cast(), mask, _mm512_xor_si512(text, x[f][s]));
                    }
                });
            });
        }
    }
}

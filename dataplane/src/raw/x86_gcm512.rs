//! AES-GCM on AVX-512: several frames at once, each with a key, nonce and length of its own.
//!
//! ```text
//! run -> chunks of 64 jobs, sorted by 64-octet slots
//!        1-2 slots: four frames side by side   3-4: two (groups)   more: one, eight slots a step (long)
//!        CTR over all lanes -> store -> POLYVAL over all lanes, one reduction -> tags
//! ```
//!
//! A *slot* is 64 octets of a frame: four blocks, one register. GHASH is computed as POLYVAL of byte-reversed blocks
//! (RFC 8452 appendix A), products are kept unreduced and summed, and lanes are summed across frames, so that one reduction
//! serves a whole group. A group takes any frames of at most its slots: lanes beyond a frame's end are masked, and
//! count as zero. Products are Karatsuba's three where frames wait for the multiplier; in groups of four, which wait for
//! instructions, they are the plain four.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use super::x86::{self, Block, rounds};
use super::x86_512::*;
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of a slot.
const SLOT: usize = 64;
/// Slots of a step of a long frame.
const STEP: usize = 8;
/// Octets of the tag.
const TAG: usize = 16;
/// Distinct powers kept: two more than the blocks of the largest group, for AAD and lengths.
const TAIL: usize = 18;

/// Expanded key of one context, `RK` round keys. What a short frame touches is contiguous: five or six cache lines.
#[repr(C, align(64))]
#[derive(Zeroize, ZeroizeOnDrop)]
struct GcmKey<const RK: usize> {
    /// H^18 .. H^1. Reading past the end is harmless: such lanes hold no data.
    tail: [Block; TAIL],
    rk: [Block; RK],
    /// IV salt || 0, xor the first round key.
    base: Block,
    /// H^32, H^28, H^24, H^20, for whole slots of a long frame; H^16 .. H^4 are in `tail`.
    bulk: [Block; 4],
    /// Both halves of H^32, H^28 .. H^4 summed, for Karatsuba.
    bulk_sum: [u64; 8],
}

impl<const RK: usize> Default for GcmKey<RK> {
    fn default() -> Self {
        Self { tail: [[0; 16]; TAIL], rk: [[0; 16]; RK], base: [0; 16], bulk: [[0; 16]; 4], bulk_sum: [0; 8] }
    }
}

impl<const RK: usize> GcmKey<RK> {
    const BASE: usize = offset_of!(Self, base);
    const ROUNDS: usize = offset_of!(Self, rk);

    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn expand(keys: &FrameKeys) -> Self {
        let mut key = Self { rk: x86::round_keys(keys.pek()), ..Self::default() };
        let h = Zeroizing::new(x86::polyval_key(x86::encrypt_block(&key.rk, [0; 16])));
        let powers = Zeroizing::new(x86::powers::<32>(*h));
        for (i, p) in key.tail.iter_mut().enumerate() {
            *p = powers[TAIL - 1 - i];
        }
        for (i, sum) in key.bulk_sum.iter_mut().enumerate() {
            let p = powers[31 - 4 * i];
            if let Some(bulk) = key.bulk.get_mut(i) {
                *bulk = p;
            }
            let p = u128::from_le_bytes(p);
            *sum = (p ^ p >> 64) as u64;
        }
        key.base[..12].copy_from_slice(keys.salt());
        for (b, k) in key.base.iter_mut().zip(key.rk[0]) {
            *b ^= k;
        }
        key
    }
}

/// AES-128-GCM or AES-256-GCM on AVX-512.
pub(super) struct Avx512Gcm<const RK: usize> {
    proof: Avx512,
    keys: KeySlab<GcmKey<RK>>,
}

/// AES-128-GCM.
pub(super) type Avx512Gcm128 = Avx512Gcm<11>;
/// AES-256-GCM.
pub(super) type Avx512Gcm256 = Avx512Gcm<15>;

impl<const RK: usize> Avx512Gcm<RK> {
    /// No keys yet.
    pub(super) fn new(proof: Avx512) -> Self {
        const { assert!(RK == 11 || RK == 15) };
        Self { proof, keys: KeySlab::new() }
    }
}

impl<const RK: usize> Cipher for Avx512Gcm<RK> {
    fn suite(&self) -> Suite {
        if RK == 11 { Suite::Aes128Gcm } else { Suite::Aes256Gcm }
    }

    fn kernel(&self) -> Kernel {
        self.proof.kernel()
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        // SAFETY: the proof shows every feature that `expand` enables.
        self.keys.insert(unsafe { GcmKey::expand(keys) })
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        // SAFETY: the proof shows every feature that `run` enables.
        unsafe { run::<RK, false>(self.keys.as_slice(), arena, jobs) }
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        // SAFETY: the proof shows every feature that `run` enables.
        unsafe { run::<RK, true>(self.keys.as_slice(), arena, jobs) }
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(key) = self.keys.as_slice().get(key.0 as usize) {
            prefetch(key);
        }
    }
}

/// Lines that every frame needs.
#[inline(always)]
fn prefetch<const RK: usize>(key: &GcmKey<RK>) {
    let p = std::ptr::from_ref(key).cast::<i8>();
    let hot = 192..GcmKey::<RK>::BASE + 16;
    for line in hot.step_by(64) {
        // SAFETY: a prefetch reads nothing, and the address is inside `key`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line)) };
    }
}

/// A frame, admitted: `data..data + len + 16` is inside the arena.
#[derive(Clone, Copy)]
struct Lane<const RK: usize> {
    job: *mut Job,
    data: *mut u8,
    len: usize,
    key: *const GcmKey<RK>,
    /// H^(blocks + 1) in `tail`, where the frame is short enough to have it: that of its first block.
    power: *const u8,
}

impl<const RK: usize> Lane<RK> {
    /// # Safety
    /// The frame has at most 16 blocks or `power` is not used.
    #[inline(always)]
    fn new(job: *mut Job, data: *mut u8, len: usize, key: *const GcmKey<RK>) -> Self {
        let power = key.cast::<u8>().wrapping_add((TAIL - 1) * 16).wrapping_sub(len.div_ceil(16) * 16);
        Self { job, data, len, key, power }
    }
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2,sse4.1,ssse3"
)]
fn run<const RK: usize, const OPEN: bool>(keys: &[GcmKey<RK>], arena: &mut [u8], jobs: &mut [Job]) {
    for chunk in jobs.chunks_mut(CHUNK) {
        run_chunk::<RK, OPEN>(keys, arena, chunk);
    }
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2,sse4.1,ssse3"
)]
fn run_chunk<const RK: usize, const OPEN: bool>(keys: &[GcmKey<RK>], arena: &mut [u8], jobs: &mut [Job]) {
    // Slots of each job: 1 (also for no octet) to 4, 5 for more, 6 for what is not ciphered.
    let mut class = [0u8; CHUNK];
    let (mut least, mut most) = (u8::MAX, 0);
    let mut asked = u32::MAX;
    for (job, class) in jobs.iter().zip(&mut class) {
        check(job, arena.len(), TAG, keys.len());
        // Contexts of many keys do not stay near: all of a burst are asked for before the first is needed.
        if job.key.0 != asked {
            asked = job.key.0;
            prefetch(&keys[asked as usize]);
        }
        let slots = job.len.max(1).div_ceil(64).min(5) as u8;
        *class = if job.clear_data { 6 } else { slots };
        (least, most) = (least.min(*class), most.max(*class));
    }
    let n = jobs.len();
    // Where each class begins, then where it ends.
    let mut ends = [0usize; 8];
    let mut lanes = [MaybeUninit::<Lane<RK>>::uninit(); CHUNK];
    let (arena_at, jobs_at) = (arena.as_mut_ptr(), jobs.as_mut_ptr());
    let lane = |i: usize| {
        // SAFETY: `check` admitted job i: its data lies in the arena and its key exists.
        unsafe {
            let job = jobs_at.add(i);
            let key = keys.as_ptr().add((*job).key.0 as usize);
            Lane::new(job, arena_at.add((*job).start as usize), (*job).len as usize, key)
        }
    };
    if least == most {
        for (i, place) in lanes[..n].iter_mut().enumerate() {
            place.write(lane(i));
        }
        ends[least as usize..].fill(n);
    } else {
        for c in &class[..n] {
            ends[*c as usize + 1] += 1;
        }
        for c in 1..8 {
            ends[c] += ends[c - 1];
        }
        for (i, c) in class[..n].iter().enumerate() {
            lanes[ends[*c as usize]].write(lane(i));
            ends[*c as usize] += 1;
        }
    }
    // SAFETY: the sort wrote each of the first n places once.
    let lanes = unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast::<Lane<RK>>(), n) };
    let [_, one, two, three, four, long_end, ..] = ends;
    // SAFETY: every range holds admitted frames, of no more slots than the instance that they go to.
    unsafe {
        let mut i = one / 4 * 4;
        groups::train::<RK, OPEN, 4, 1>(&lanes[..i]);
        let end = i + (two - i) / 4 * 4;
        groups::train::<RK, OPEN, 4, 2>(&lanes[i..end]);
        i = end;
        if two - i == 3 {
            // Three are worth a group of four: the last lane is an empty frame that nobody sees.
            let mut nothing = [0u8; TAG];
            let mut job = Job { len: 0, ..*lanes[i].job };
            let last = Lane::new(&raw mut job, nothing.as_mut_ptr(), 0, lanes[i].key);
            groups::train::<RK, OPEN, 4, 2>(&[lanes[i], lanes[i + 1], lanes[i + 2], last]);
            i += 3;
        } else if two - i == 2 {
            groups::train::<RK, OPEN, 2, 2>(&lanes[i..two]);
            i = two;
        }
        if three > i {
            let end = i + (three - i) / 2 * 2;
            groups::train::<RK, OPEN, 2, 3>(&lanes[i..end]);
            i = end;
        }
        let end = i + (four - i) / 2 * 2;
        groups::train::<RK, OPEN, 2, 4>(&lanes[i..end]);
        if four > end {
            if lanes[end].len <= SLOT {
                groups::train::<RK, OPEN, 1, 1>(&lanes[end..four]);
            } else {
                groups::train::<RK, OPEN, 1, 4>(&lanes[end..four]);
            }
        }
        for lane in &lanes[four..long_end] {
            long::long::<RK, OPEN>(*lane);
        }
        for lane in &lanes[long_end..] {
            clear::<RK, OPEN>(*lane);
        }
    }
    if OPEN {
        // Here and not where tags are compared: a call there would put all registers of the group behind on the stack.
        for job in jobs {
            if !job.verified {
                arena[job.start as usize..][..job.len as usize].fill(0);
            }
        }
    }
}

/// Sums of products that are not reduced yet.
#[derive(Clone, Copy)]
struct Sum {
    lo: Z,
    mid: Z,
    hi: Z,
}

kernel_fn! {
    fn zero() -> Sum {
        Sum { lo: _mm512_setzero_si512(), mid: _mm512_setzero_si512(), hi: _mm512_setzero_si512() }
    }

    /// Both halves of each lane summed.
    fn halves(x: Z) -> Z {
        _mm512_xor_si512(x, _mm512_shuffle_epi32::<0x4e>(x))
    }

    /// sum + x * p, lane by lane, for [`reduce_karatsuba`]; `p_sum` is `halves(p)` at least in the low half of each lane.
    fn add_karatsuba(sum: Sum, x: Z, p: Z, p_sum: Z) -> Sum {
        Sum {
            lo: _mm512_xor_si512(sum.lo, _mm512_clmulepi64_epi128::<0x00>(x, p)),
            mid: _mm512_xor_si512(sum.mid, _mm512_clmulepi64_epi128::<0x00>(halves(x), p_sum)),
            hi: _mm512_xor_si512(sum.hi, _mm512_clmulepi64_epi128::<0x11>(x, p)),
        }
    }

    /// sum + x * p, lane by lane, for [`reduce`]: four multiplications, but seven instructions where Karatsuba takes ten.
    fn add_schoolbook(sum: Sum, x: Z, p: Z) -> Sum {
        Sum {
            lo: _mm512_xor_si512(sum.lo, _mm512_clmulepi64_epi128::<0x00>(x, p)),
            mid: xor3(sum.mid, _mm512_clmulepi64_epi128::<0x01>(x, p), _mm512_clmulepi64_epi128::<0x10>(x, p)),
            hi: _mm512_xor_si512(sum.hi, _mm512_clmulepi64_epi128::<0x11>(x, p)),
        }
    }

    /// [`reduce`] of sums of [`add_karatsuba`], whose middle part has both others in it.
    fn reduce_karatsuba(sum: Sum) -> Z {
        reduce(Sum { mid: xor3(sum.mid, sum.lo, sum.hi), ..sum })
    }

    /// Times x^-128, lane by lane.
    fn reduce(sum: Sum) -> Z {
        let lo = _mm512_xor_si512(sum.lo, _mm512_bslli_epi128::<8>(sum.mid));
        let hi = _mm512_xor_si512(sum.hi, _mm512_bsrli_epi128::<8>(sum.mid));
        let poly = _mm512_set1_epi64(0xc200_0000_0000_0000_u64 as i64);
        let fold = _mm512_clmulepi64_epi128::<0x00>(lo, poly);
        let lo = _mm512_xor_si512(_mm512_shuffle_epi32::<0x4e>(lo), fold);
        let fold = _mm512_clmulepi64_epi128::<0x00>(lo, poly);
        xor3(_mm512_shuffle_epi32::<0x4e>(lo), fold, hi)
    }

    /// Octets of each block reversed.
    fn reversed(x: Z) -> Z {
        let order = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        _mm512_shuffle_epi8(x, order)
    }

    /// Octets of slot `s` that a frame of `len` has.
    fn mask(len: usize, s: usize) -> u64 {
        _bzhi_u64(u64::MAX, len.saturating_sub(SLOT * s).min(SLOT) as u32)
    }
}

/// Round key `$r` of a key into all four lanes.
///
/// This and the rounds are assembly, one instruction each, because the compiler keeps volatile assembly in order. Left to
/// itself it takes chain after chain, spills the round keys, and no two chains overlap.
macro_rules! round_key {
    ($rk:ident, $key:expr, $r:literal) => {{
        let out: Z;
        // SAFETY: reads a round key of a key that the group's caller vouched for.
        asm!("vbroadcasti32x4 {0}, xmmword ptr [{1} + {2}]", out(zmm_reg) out, in(reg) $key,
            const GcmKey::<$rk>::ROUNDS + 16 * $r, options(readonly, nostack, preserves_flags));
        out
    }};
}

// Behind the macros, which they use.
mod groups;
mod long;

kernel_fn! {
    /// LEN to BEARER and DIRECTION of a job, in all four lanes.
    ///
    /// # Safety
    /// The lane's job is readable.
    unsafe fn input<const RK: usize>(lane: &Lane<RK>) -> Z {
        const LEN: usize = offset_of!(Job, len);
        const {
            assert!(offset_of!(Job, count) == LEN + 8 && offset_of!(Job, bearer_direction) == LEN + 12);
            assert!(LEN + 16 <= size_of::<Job>());
        }
        // SAFETY: 16 octets from `len` are inside the job.
        unsafe { broadcast(lane.job.cast::<u8>().cast_const().add(LEN)) }
    }

    /// Nonce of a job, xor the first round key, in all four lanes; the counter is to be added by xor.
    ///
    /// # Safety
    /// The lane's key is readable.
    unsafe fn nonce<const RK: usize>(lane: &Lane<RK>, input: Z) -> Z {
        // BEARER and DIRECTION, seven of zero, COUNT from little-endian, four of zero.
        let order = _mm512_broadcast_i32x4(_mm_set_epi8(-1, -1, -1, -1, 8, 9, 10, 11, -1, -1, -1, -1, -1, -1, -1, 12));
        // SAFETY: `base` is inside the key.
        let base = unsafe { broadcast(lane.key.cast::<u8>().add(GcmKey::<RK>::BASE)) };
        _mm512_xor_si512(base, _mm512_shuffle_epi8(input, order))
    }

    /// Length block from a lane of [`input`]: 104 bits of associated data, eight a data octet.
    fn lengths(input: Z) -> Z {
        let bits = _mm512_slli_epi64::<3>(_mm512_maskz_mov_epi32(0x1111, input));
        _mm512_or_si512(bits, _mm512_maskz_set1_epi64(0b1010_1010, 8 * Job::AAD_LEN as i64))
    }

    /// What [`sum_lanes`] left in parts, summed.
    fn sum_parts<const F: usize>(x: Z) -> Z {
        match F {
            4 => x,
            2 => _mm512_xor_si512(x, _mm512_shuffle_i64x2::<0xb1>(x, x)),
            _ => {
                let x = _mm512_xor_si512(x, _mm512_shuffle_i64x2::<0x4e>(x, x));
                _mm512_xor_si512(x, _mm512_shuffle_i64x2::<0xb1>(x, x))
            }
        }
    }

    /// Writes tags, or compares them. Frame f's tag is in lane f * (4 / F).
    ///
    /// # Safety
    /// Lanes are admitted.
    unsafe fn settle<const RK: usize, const OPEN: bool, const F: usize>(
        lanes: &[Lane<RK>; F], tags: Z, received: Z,
    ) {
        if OPEN {
            let wrong = _mm512_cmpneq_epi64_mask(tags, received);
            for (f, lane) in lanes.iter().enumerate() {
                // SAFETY: the caller vouches for the lane.
                unsafe { (*lane.job).verified = wrong >> (8 / F * f) & 3 == 0 };
            }
        } else {
            for (f, lane) in lanes.iter().enumerate() {
                let tag = match 4 / F * f {
                    0 => _mm512_castsi512_si128(tags),
                    1 => _mm512_extracti64x2_epi64::<1>(tags),
                    2 => _mm512_extracti64x2_epi64::<2>(tags),
                    _ => _mm512_extracti64x2_epi64::<3>(tags),
                };
                // SAFETY: the MAC field behind the data is inside the arena.
                unsafe { _mm_storeu_si128(lane.data.add(lane.len).cast(), tag) };
            }
        }
    }

    /// Nonce to the input of E(K, J0), the mask of the tag.
    fn first_counter(nonce: Z) -> Z {
        _mm512_xor_si512(nonce, _mm512_maskz_set1_epi32(0x8888, 1_i32.swap_bytes()))
    }

    /// A frame that is authenticated, data and all, but not ciphered.
    ///
    /// # Safety
    /// The lane is admitted.
    unsafe fn clear<const RK: usize, const OPEN: bool>(lane: Lane<RK>) {
        // SAFETY: job, key and data belong to an admitted lane, nobody else holds a reference to them meanwhile.
        unsafe {
            let key = &*lane.key;
            let h = key.tail[TAIL - 1];
            let data = std::slice::from_raw_parts(lane.data, lane.len);
            let hash = x86::hash_clear(h, h, true, &(&(*lane.job).aad)[..Job::AAD_LEN], data);
            let nonce = first_counter(nonce(&lane, input(&lane)));
            let mut j0 = nonce;
            macro_rules! round {
                ($op:ident, $r:literal) => {
                    j0 = $op(j0, round_key!(RK, lane.key, $r))
                };
            }
            rounds!(round, RK);
            let tag = _mm512_xor_si512(j0, _mm512_broadcast_i32x4(x86::to_m128(hash)));
            let received = if OPEN { broadcast(lane.data.add(lane.len).cast_const()) } else { tag };
            settle::<RK, OPEN, 1>(&[lane], tag, received);
        }
    }
}

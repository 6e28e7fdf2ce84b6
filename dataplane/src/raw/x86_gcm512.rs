//! AES-GCM on AVX-512: several frames at once, each with a key, nonce and length of its own.
//!
//! ```text
//! run -> chunks of 64 jobs, sorted by 64-octet slots
//!        1-2 slots: four frames side by side   3-4: two   more: one, eight slots a step
//!        CTR over all lanes -> store -> POLYVAL over all lanes, one reduction -> tags
//! ```
//!
//! A *slot* is 64 octets of a frame: four blocks, one register. GHASH is computed as POLYVAL of byte-reversed blocks
//! (RFC 8452 appendix A), products are kept unreduced and summed, and lanes are summed across frames, so that one reduction
//! serves a whole group. A group takes any frames of at most its slots: lanes beyond a frame's end are masked, and
//! count as zero. Every product is Karatsuba's three.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use super::x86::{self, Block};
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
pub struct Avx512Gcm<const RK: usize> {
    proof: Avx512,
    keys: KeySlab<GcmKey<RK>>,
}

/// AES-128-GCM.
pub type Avx512Gcm128 = Avx512Gcm<11>;
/// AES-256-GCM.
pub type Avx512Gcm256 = Avx512Gcm<15>;

impl<const RK: usize> Avx512Gcm<RK> {
    /// No keys yet.
    pub fn new(proof: Avx512) -> Self {
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
    let (arena, jobs_at) = (arena.as_mut_ptr(), jobs.as_mut_ptr());
    let lane = |i: usize| {
        // SAFETY: `check` admitted job i: its data lies in the arena and its key exists.
        unsafe {
            let job = jobs_at.add(i);
            let key = keys.as_ptr().add((*job).key.0 as usize);
            Lane::new(job, arena.add((*job).start as usize), (*job).len as usize, key)
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
        train::<RK, OPEN, 4, 1>(&lanes[..i]);
        let end = i + (two - i) / 4 * 4;
        train::<RK, OPEN, 4, 2>(&lanes[i..end]);
        i = end;
        if two - i == 3 {
            // Three are worth a group of four: the last lane is an empty frame that nobody sees.
            let mut nothing = [0u8; TAG];
            let mut job = Job { len: 0, ..*lanes[i].job };
            let last = Lane::new(&raw mut job, nothing.as_mut_ptr(), 0, lanes[i].key);
            train::<RK, OPEN, 4, 2>(&[lanes[i], lanes[i + 1], lanes[i + 2], last]);
            i += 3;
        } else if two - i == 2 {
            train::<RK, OPEN, 2, 2>(&lanes[i..two]);
            i = two;
        }
        if three > i {
            let end = i + (three - i) / 2 * 2;
            train::<RK, OPEN, 2, 3>(&lanes[i..end]);
            i = end;
        }
        let end = i + (four - i) / 2 * 2;
        train::<RK, OPEN, 2, 4>(&lanes[i..end]);
        if four > end {
            if lanes[end].len <= SLOT {
                train::<RK, OPEN, 1, 1>(&lanes[end..four]);
            } else {
                train::<RK, OPEN, 1, 4>(&lanes[end..four]);
            }
        }
        for lane in &lanes[four..long_end] {
            long::<RK, OPEN>(*lane);
        }
        for lane in &lanes[long_end..] {
            clear::<RK, OPEN>(*lane);
        }
    }
}

/// Counter blocks of the first slots, big-endian in the last four octets of each block: 2, 3, 4, ...
static COUNTERS: Aligned<[[u32; 16]; STEP]> = Aligned({
    let mut c = [[0; 16]; STEP];
    let mut i = 0;
    while i < STEP * 4 {
        c[i / 4][i % 4 * 4 + 3] = (i as u32 + 2).swap_bytes();
        i += 1;
    }
    c
});

#[repr(align(64))]
struct Aligned<T>(T);

/// Sums of products that are not reduced yet.
#[derive(Clone, Copy)]
struct Sum {
    lo: Z,
    mid: Z,
    hi: Z,
}

/// A group whose frames are ciphered and not hashed yet.
struct Ciphered<const RK: usize, const F: usize, const S: usize> {
    lanes: *const [Lane<RK>; F],
    /// Ciphertext, octets of each block reversed.
    blocks: [[Z; S]; F],
    aad: Z,
    lengths: Z,
    /// E(K, J0).
    j0: Z,
    /// Tags to compare with, on opening.
    received: Z,
}

/// How far the hash of a group is.
struct Hashing<const F: usize> {
    sums: [Sum; F],
    sum: Sum,
    hash: Z,
}

kernel_fn! {
    fn zero() -> Sum {
        Sum { lo: _mm512_setzero_si512(), mid: _mm512_setzero_si512(), hi: _mm512_setzero_si512() }
    }

    /// Both halves of each lane summed.
    fn halves(x: Z) -> Z {
        _mm512_xor_si512(x, _mm512_shuffle_epi32::<0x4e>(x))
    }

    /// sum + x * p, lane by lane; `p_sum` is `halves(p)` at least in the low half of each lane.
    fn add_product(sum: Sum, x: Z, p: Z, p_sum: Z) -> Sum {
        Sum {
            lo: _mm512_xor_si512(sum.lo, _mm512_clmulepi64_epi128::<0x00>(x, p)),
            mid: _mm512_xor_si512(sum.mid, _mm512_clmulepi64_epi128::<0x00>(halves(x), p_sum)),
            hi: _mm512_xor_si512(sum.hi, _mm512_clmulepi64_epi128::<0x11>(x, p)),
        }
    }

    /// Times x^-128, lane by lane.
    fn reduce(sum: Sum) -> Z {
        let mid = xor3(sum.mid, sum.lo, sum.hi);
        let lo = _mm512_xor_si512(sum.lo, _mm512_bslli_epi128::<8>(mid));
        let hi = _mm512_xor_si512(sum.hi, _mm512_bsrli_epi128::<8>(mid));
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

/// Calls `round!(operation, number)` for each round after the first key.
macro_rules! rounds {
    ($round:ident, $rk:ident) => {
        $round!(aesenc, 1);
        $round!(aesenc, 2);
        $round!(aesenc, 3);
        $round!(aesenc, 4);
        $round!(aesenc, 5);
        $round!(aesenc, 6);
        $round!(aesenc, 7);
        $round!(aesenc, 8);
        $round!(aesenc, 9);
        if $rk == 15 {
            $round!(aesenc, 10);
            $round!(aesenc, 11);
            $round!(aesenc, 12);
            $round!(aesenc, 13);
            $round!(aesenclast, 14);
        } else {
            $round!(aesenclast, 10);
        }
    };
}

kernel_fn! {
    /// Four lanes of powers for slot `s` of a frame, descending. Lanes beyond H^1 are other parts of the key and meet no data.
    ///
    /// # Safety
    /// The lane's key is readable, the frame has at most 16 blocks and `s` is at most 3.
    unsafe fn powers<const RK: usize>(lane: &Lane<RK>, s: usize) -> Z {
        const { assert!((TAIL - 1 + 12) * 16 + 64 <= size_of::<GcmKey<RK>>()) };
        // SAFETY: at most 464 + 64 octets from the start of the key, which is longer.
        unsafe { _mm512_loadu_si512(lane.power.add(SLOT * s).cast()) }
    }

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

    /// Lanes of the register of each frame that belong to it: one of four, or two of four, or all.
    fn merge<const F: usize>(x: [Z; F]) -> Z {
        let mut out = x[0];
        if F == 4 {
            out = _mm512_mask_mov_epi64(out, 0x0c, x[1]);
            out = _mm512_mask_mov_epi64(out, 0x30, x[2]);
            out = _mm512_mask_mov_epi64(out, 0xc0, x[3]);
        } else if F == 2 {
            out = _mm512_mask_mov_epi64(out, 0xf0, x[1]);
        }
        out
    }

    /// Sums over the lanes of each frame, into lanes as [`merge`] deals them; the sum of `F` = 2 is still in two parts, that of
    /// one frame in four.
    fn sum_lanes<const F: usize>(x: [Z; F]) -> Z {
        match F {
            4 => {
                let pair = |a: Z, b: Z| {
                    _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b))
                };
                let (ab, cd) = (pair(x[0], x[1]), pair(x[2], x[3]));
                _mm512_xor_si512(_mm512_shuffle_i64x2::<0x88>(ab, cd), _mm512_shuffle_i64x2::<0xdd>(ab, cd))
            }
            2 => _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(x[0], x[1]), _mm512_shuffle_i64x2::<0xee>(x[0], x[1])),
            _ => x[0],
        }
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

    /// Writes tags, or compares them and wipes what did not verify. Frame f's tag is in lane f * (4 / F).
    ///
    /// # Safety
    /// Lanes are admitted.
    unsafe fn settle<const RK: usize, const OPEN: bool, const F: usize>(
        lanes: &[Lane<RK>; F], tags: Z, received: Z,
    ) {
        if OPEN {
            let wrong = _mm512_cmpneq_epi64_mask(tags, received);
            for (f, lane) in lanes.iter().enumerate() {
                let verified = wrong >> (8 / F * f) & 3 == 0;
                // SAFETY: the caller vouches for the lane.
                unsafe {
                    (*lane.job).verified = verified;
                    if !verified {
                        lane.data.write_bytes(0, lane.len);
                    }
                }
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

    /// Ciphers a group and, between the rounds, hashes the group before it, `prior`.
    ///
    /// # Safety
    /// Lanes are admitted and no longer than 64 * `S`, which is at most 256; so were those of `prior`.
    unsafe fn turn<const RK: usize, const OPEN: bool, const HASH: bool, const F: usize, const S: usize>(
        lanes: &[Lane<RK>; F], prior: &Ciphered<RK, F, S>,
    ) -> Ciphered<RK, F, S> {
        // SAFETY: all addresses are within an admitted lane's job, key, data and MAC field; masks end at its length.
        unsafe {
            let null = _mm512_setzero_si512();
            let (mut inputs, mut nonces) = ([null; F], [null; F]);
            // What lies in memory as single blocks is loaded before anything wide is stored near it.
            let (mut aad, mut received) = ([null; F], [null; F]);
            let mut x = [[null; S]; F];
            each!(f < F, {
                let lane = &lanes[f];
                inputs[f] = input(lane);
                nonces[f] = nonce(lane, inputs[f]);
                aad[f] = broadcast(lane.job.cast::<u8>().cast_const());
                if OPEN {
                    received[f] = broadcast(lane.data.add(lane.len).cast_const());
                }
                each!(s < S, {
                    x[f][s] = _mm512_xor_si512(nonces[f], _mm512_load_si512(COUNTERS.0[s].as_ptr().cast()));
                });
            });
            let (aad, received) = (reversed(merge(aad)), merge(received));
            let lengths = lengths(merge(inputs));
            let mut j0 = first_counter(merge(nonces));
            let mut hashing = Hashing { sums: [zero(); F], sum: zero(), hash: null };
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let mut k = [null; F];
                    each!(f < F, {
                        k[f] = round_key!(RK, lanes[f].key, $r);
                        each!(s < S, {
                            x[f][s] = $op(x[f][s], k[f]);
                        });
                    });
                    j0 = $op(j0, merge(k));
                    if HASH {
                        piece::<RK, F, S, { $r - 1 }>(&mut hashing, prior);
                    }
                }};
            }
            rounds!(round, RK);
            if HASH {
                if RK == 11 {
                    piece::<RK, F, S, 10>(&mut hashing, prior);
                }
                settle::<RK, OPEN, F>(&*prior.lanes, _mm512_xor_si512(hashing.hash, prior.j0), prior.received);
            }
            let mut blocks = [[null; S]; F];
            each!(f < F, {
                let Lane { data, len, .. } = lanes[f];
                each!(s < S, {
                    let mask = mask(len, s);
                    let at = data.wrapping_add(SLOT * s).cast::<i8>();
                    let text = _mm512_maskz_loadu_epi8(mask, at);
                    let out = _mm512_xor_si512(text, x[f][s]);
                    _mm512_mask_storeu_epi8(at, mask, out);
                    blocks[f][s] = reversed(if OPEN { text } else { _mm512_maskz_mov_epi8(mask, out) });
                });
            });
            Ciphered { lanes, blocks, aad, lengths, j0, received }
        }
    }

    /// Hashes and settles a group that was ciphered.
    ///
    /// # Safety
    /// Its lanes are admitted.
    unsafe fn finish<const RK: usize, const OPEN: bool, const F: usize, const S: usize>(prior: &Ciphered<RK, F, S>) {
        let mut h = Hashing { sums: [zero(); F], sum: zero(), hash: _mm512_setzero_si512() };
        // SAFETY: as the caller vouches.
        unsafe {
            piece::<RK, F, S, 0>(&mut h, prior);
            piece::<RK, F, S, 1>(&mut h, prior);
            piece::<RK, F, S, 2>(&mut h, prior);
            piece::<RK, F, S, 3>(&mut h, prior);
            piece::<RK, F, S, 4>(&mut h, prior);
            piece::<RK, F, S, 5>(&mut h, prior);
            piece::<RK, F, S, 6>(&mut h, prior);
            piece::<RK, F, S, 7>(&mut h, prior);
            piece::<RK, F, S, 8>(&mut h, prior);
            piece::<RK, F, S, 9>(&mut h, prior);
            piece::<RK, F, S, 10>(&mut h, prior);
            settle::<RK, OPEN, F>(&*prior.lanes, _mm512_xor_si512(h.hash, prior.j0), prior.received);
        }
    }

    /// Part `P` of hashing a group: a product for each of its slots, one for what stands around the data, the sum over
    /// lanes, its reduction. Parts 0 to 10 are all.
    ///
    /// # Safety
    /// Its lanes are admitted.
    unsafe fn piece<const RK: usize, const F: usize, const S: usize, const P: usize>(
        h: &mut Hashing<F>, g: &Ciphered<RK, F, S>,
    ) {
        // SAFETY: powers are read from the lanes' keys.
        unsafe {
            if P < F * S {
                let (f, s) = (P / S, P % S);
                let p = powers(&(&*g.lanes)[f], s);
                h.sums[f] = add_product(h.sums[f], g.blocks[f][s], p, halves(p));
            } else if P == F * S {
                // Associated data and lengths, in lanes of their frame.
                let (mut aad_power, mut one) = ([_mm512_setzero_si512(); F], [_mm512_setzero_si512(); F]);
                each!(f < F, {
                    let Lane { key, power, .. } = (&*g.lanes)[f];
                    aad_power[f] = broadcast(power.sub(16));
                    one[f] = broadcast(key.cast::<u8>().add((TAIL - 1) * 16));
                });
                let (p, one) = (merge(aad_power), merge(one));
                if F == 4 {
                    h.sum = add_product(h.sum, g.aad, p, halves(p));
                    h.sum = add_product(h.sum, g.lengths, one, halves(one));
                } else {
                    let both = _mm512_mask_mov_epi64(g.aad, 0xcc, g.lengths);
                    let p = _mm512_mask_mov_epi64(p, 0xcc, one);
                    h.sum = add_product(h.sum, _mm512_maskz_mov_epi64(if F == 2 { 0xff } else { 0x0f }, both), p, halves(p));
                }
            } else if P == F * S + 1 {
                h.sum = Sum {
                    lo: sum_parts::<F>(_mm512_xor_si512(h.sum.lo, sum_lanes(h.sums.map(|s| s.lo)))),
                    mid: sum_parts::<F>(_mm512_xor_si512(h.sum.mid, sum_lanes(h.sums.map(|s| s.mid)))),
                    hi: sum_parts::<F>(_mm512_xor_si512(h.sum.hi, sum_lanes(h.sums.map(|s| s.hi)))),
                };
            } else if P == F * S + 2 {
                h.hash = reversed(reduce(h.sum));
            }
        }
    }

    /// Seals or opens frames in groups of `F`, of which there are whole ones.
    ///
    /// # Safety
    /// Lanes are admitted and no longer than 64 * `S`, which is at most 256; `F` * `S` is at most 8.
    unsafe fn train<const RK: usize, const OPEN: bool, const F: usize, const S: usize>(lanes: &[Lane<RK>]) {
        let (groups, _) = lanes.as_chunks::<F>();
        let Some((first, groups)) = groups.split_first() else { return };
        let null = _mm512_setzero_si512();
        let nothing = Ciphered { lanes: first, blocks: [[null; S]; F], aad: null, lengths: null, j0: null, received: null };
        // SAFETY: as the caller vouches.
        unsafe {
            let mut prior = turn::<RK, OPEN, false, F, S>(first, &nothing);
            for group in groups {
                prior = turn::<RK, OPEN, true, F, S>(group, &prior);
            }
            finish::<RK, OPEN, F, S>(&prior);
        }
    }

    /// Nonce to the input of E(K, J0), the mask of the tag.
    fn first_counter(nonce: Z) -> Z {
        _mm512_xor_si512(nonce, _mm512_maskz_set1_epi32(0x8888, 1_i32.swap_bytes()))
    }

    /// H^(4 * `slots`) in all lanes, and its halves summed; `slots` is 1 to 8.
    ///
    /// # Safety
    /// `key` is readable.
    unsafe fn bulk<const RK: usize>(key: *const GcmKey<RK>, slots: usize) -> (Z, Z) {
        let at = if slots <= 4 { (TAIL - 4 * slots) * 16 } else { offset_of!(GcmKey<RK>, bulk) + (8 - slots) * 16 };
        let sum = offset_of!(GcmKey<RK>, bulk_sum) + (8 - slots) * 8;
        // SAFETY: both are inside the key.
        unsafe { (broadcast(key.cast::<u8>().add(at)), _mm512_set1_epi64(key.cast::<u8>().add(sum).cast::<i64>().read())) }
    }

    /// A frame of more than four slots: whole steps of eight slots, then one of one to eight.
    ///
    /// Lane j of the running hash holds what lane j of the slots so far adds up to; AAD counts as the last lane of a slot before the first.
    ///
    /// # Safety
    /// The lane is admitted and has data.
    unsafe fn long<const RK: usize, const OPEN: bool>(lane: Lane<RK>) {
        // SAFETY: `step` is given whole slots of the frame, `last` the rest of it.
        unsafe {
            let input = input(&lane);
            let nonce = nonce(&lane, input);
            let aad = broadcast(lane.job.cast::<u8>().cast_const());
            let received = if OPEN { broadcast(lane.data.add(lane.len).cast_const()) } else { aad };
            let mut hash = _mm512_maskz_mov_epi64(0xc0, reversed(aad));
            let mut counter = _mm512_set_epi32(5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0);
            let (mut data, mut len) = (lane.data, lane.len);
            while len > STEP * SLOT {
                hash = step::<RK, OPEN>(lane.key, nonce, counter, hash, data);
                counter = _mm512_add_epi32(counter, counters(STEP));
                data = data.add(STEP * SLOT);
                len -= STEP * SLOT;
            }
            macro_rules! last {
                ($s:literal) => {
                    last::<RK, OPEN, $s>(lane.key, nonce, counter, hash, data, len, lengths(input))
                };
            }
            let tag = match len.div_ceil(SLOT) {
                1 => last!(1),
                2 => last!(2),
                3 => last!(3),
                4 => last!(4),
                5 => last!(5),
                6 => last!(6),
                7 => last!(7),
                _ => last!(8),
            };
            settle::<RK, OPEN, 1>(&[lane], tag, received);
        }
    }

    /// Counter increment of so many slots.
    fn counters(slots: usize) -> Z {
        _mm512_maskz_set1_epi32(0x8888, 4 * slots as i32)
    }

    /// Counter blocks of slot `s` after `counter`, xor the nonce.
    fn counter_block(nonce: Z, counter: Z, s: usize) -> Z {
        let order = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        _mm512_xor_si512(nonce, _mm512_shuffle_epi8(_mm512_add_epi32(counter, counters(s)), order))
    }

    /// Eight whole slots; the hash with them.
    ///
    /// # Safety
    /// `key` is readable, 512 octets from `data` writable.
    unsafe fn step<const RK: usize, const OPEN: bool>(
        key: *const GcmKey<RK>, nonce: Z, counter: Z, hash: Z, data: *mut u8,
    ) -> Z {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut x = [_mm512_setzero_si512(); STEP];
            each!(s < STEP, {
                x[s] = counter_block(nonce, counter, s);
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let k = round_key!(RK, key, $r);
                    each!(s < STEP, {
                        x[s] = $op(x[s], k);
                    });
                }};
            }
            rounds!(round, RK);
            let (p, p_sum) = bulk(key, STEP);
            let mut sum = add_product(zero(), hash, p, p_sum);
            let mut block = hash;
            each!(s < STEP, {
                let at = data.add(SLOT * s);
                let text = _mm512_loadu_si512(at.cast());
                let out = _mm512_xor_si512(text, x[s]);
                _mm512_storeu_si512(at.cast(), out);
                block = reversed(if OPEN { text } else { out });
                if s + 1 < STEP {
                    let (p, p_sum) = bulk(key, STEP - 1 - s);
                    sum = add_product(sum, block, p, p_sum);
                }
            });
            _mm512_xor_si512(reduce(sum), block)
        }
    }

    /// The last `S` slots, the last of them with one octet or more; the tag in all lanes.
    ///
    /// # Safety
    /// `key` is readable, `len` octets from `data` writable; `len` is over 64 * (`S` - 1) and at most 64 * `S`.
    unsafe fn last<const RK: usize, const OPEN: bool, const S: usize>(
        key: *const GcmKey<RK>, nonce: Z, counter: Z, hash: Z, data: *mut u8, len: usize, lengths: Z,
    ) -> Z {
        // SAFETY: as the caller vouches; the mask ends at `len`.
        unsafe {
            let mut x = [_mm512_setzero_si512(); S];
            each!(s < S, {
                x[s] = counter_block(nonce, counter, s);
            });
            let mut j0 = first_counter(nonce);
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let k = round_key!(RK, key, $r);
                    each!(s < S, {
                        x[s] = $op(x[s], k);
                    });
                    j0 = $op(j0, k);
                }};
            }
            rounds!(round, RK);
            let mut sum = zero();
            let mut block = hash;
            if S > 1 {
                let (p, p_sum) = bulk(key, S - 1);
                sum = add_product(sum, hash, p, p_sum);
                each!(s < S - 1, {
                    let at = data.add(SLOT * s);
                    let text = _mm512_loadu_si512(at.cast());
                    let out = _mm512_xor_si512(text, x[s]);
                    _mm512_storeu_si512(at.cast(), out);
                    block = reversed(if OPEN { text } else { out });
                    if s + 2 < S {
                        let (p, p_sum) = bulk(key, S - 2 - s);
                        sum = add_product(sum, block, p, p_sum);
                    }
                });
                block = _mm512_xor_si512(reduce(sum), block);
            }
            let mask = mask(len, S - 1);
            let at = data.add(SLOT * (S - 1)).cast::<i8>();
            let text = _mm512_maskz_loadu_epi8(mask, at);
            let out = _mm512_xor_si512(text, x[S - 1]);
            _mm512_mask_storeu_epi8(at, mask, out);
            let end = reversed(if OPEN { text } else { _mm512_maskz_mov_epi8(mask, out) });
            // The last slot and the lengths, and before them the slots that were whole.
            let blocks = len.div_ceil(16) - 4 * (S - 1);
            let first = key.cast::<u8>().add((TAIL - 5 - blocks) * 16);
            let p = _mm512_loadu_si512(first.cast());
            sum = add_product(zero(), block, p, halves(p));
            let p = _mm512_loadu_si512(first.add(SLOT).cast());
            sum = add_product(sum, end, p, halves(p));
            let p = broadcast(key.cast::<u8>().add((TAIL - 1) * 16));
            sum = add_product(sum, _mm512_maskz_mov_epi64(0x03, lengths), p, halves(p));
            let sum = Sum { lo: sum_parts::<1>(sum.lo), mid: sum_parts::<1>(sum.mid), hi: sum_parts::<1>(sum.hi) };
            _mm512_xor_si512(reversed(reduce(sum)), j0)
        }
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

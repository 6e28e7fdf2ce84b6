//! 256-NCA4 and 256-NCA6 on AVX-512: stream cipher and POLYVAL over sixteen frames side by side.
//! Source: TS 35.240, TS 35.246, as read off their test data.
//!
//! ```text
//! group of 16, longest first -> H, Q, P of all
//!        seal: cipher, then tags        open: tags, then decipher the frames whose tag was right
//! ```
//!
//! POLYVAL takes four blocks of a frame at once, each lane stepping by H^4, with four frames in flight; powers and the
//! product with Q are made for four frames in one register. Nothing here depends on a secret but data.

use std::arch::x86_64::*;
use std::cell::RefCell;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use super::x86;
use super::x86_lanes::{BLOCK, Group, LANES, Z};
use super::x86_lanes::{combine_one, load, longest_first, octets4, row, transpose_128};
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of the tag.
const TAG: usize = 16;

/// H, Q and P: frame i in the 128-bit lane i % 4 of register i / 4.
pub(super) struct Hqp {
    pub(super) h: [Z; 4],
    pub(super) q: [Z; 4],
    pub(super) p: [Z; 4],
}

/// A generator of the family.
pub(super) trait NcaGenerator: Send {
    /// The suite.
    const SUITE: Suite;

    /// A key as the generator keeps it; groups point to such.
    type Key: Default + Send;

    fn new() -> Box<Self>;

    /// Expands a key of 32 octets.
    fn expand(proof: Avx512, pek: &[u8]) -> Self::Key;

    /// Loads keys and IVs and gives what the keystream begins with.
    ///
    /// # Safety
    /// The processor has what [`Avx512`] shows, and the group's pointers are as it says.
    unsafe fn start(&mut self, group: &Group) -> Hqp;

    /// Combines the frames with the keystream that follows; lengths may have become zero since [`start`](Self::start).
    ///
    /// # Safety
    /// As for [`start`](Self::start), of which the group was the same otherwise.
    unsafe fn cipher(&mut self, group: &Group);
}

#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(32))]
#[derive(Default)]
pub(super) struct NcaKey([u8; 32]);

impl NcaKey {
    /// As it is, for generators that load the key itself.
    pub(super) fn new(pek: &[u8]) -> Self {
        let mut key = Self::default();
        key.0.copy_from_slice(pek);
        key
    }
}

/// One suite of the family.
pub(super) struct Avx512Nca<G: NcaGenerator> {
    proof: Avx512,
    keys: KeySlab<G::Key>,
    /// Holds keystream between calls, and is wiped with the keys.
    generator: RefCell<Box<G>>,
}

impl<G: NcaGenerator> Avx512Nca<G> {
    /// No keys yet.
    pub(super) fn new(proof: Avx512) -> Self {
        Self { proof, keys: KeySlab::new(), generator: RefCell::new(G::new()) }
    }

    fn chunks(&self, arena: &mut [u8], jobs: &mut [Job], open: bool) {
        let mut generator = self.generator.borrow_mut();
        for chunk in jobs.chunks_mut(CHUNK) {
            for job in &*chunk {
                check(job, arena.len(), TAG, self.keys.as_slice().len());
            }
            let order = longest_first(chunk);
            for places in order[..chunk.len()].chunks(LANES) {
                self.group(&mut generator, arena, chunk, places, open);
            }
        }
    }

    /// Up to sixteen admitted jobs.
    fn group(&self, generator: &mut G, arena: &mut [u8], jobs: &mut [Job], places: &[u8], open: bool) {
        let base = arena.as_mut_ptr();
        let mut group = Group {
            count: [0; LANES],
            bearer_direction: [0; LANES],
            key: [std::ptr::null(); LANES],
            data: [base; LANES],
            len: [0; LANES],
            lanes: places.len(),
        };
        let mut aad = [[0; 16]; LANES];
        for (lane, place) in places.iter().enumerate() {
            let job = &jobs[usize::from(*place)];
            group.count[lane] = job.count;
            group.bearer_direction[lane] = u32::from(job.bearer_direction);
            group.key[lane] = std::ptr::from_ref(self.keys.get(job.key)).cast();
            group.data[lane] = base.wrapping_add(job.start as usize);
            group.len[lane] = if job.clear_data { 0 } else { job.len as usize };
            aad[lane][..Job::AAD_LEN].copy_from_slice(&job.aad[..Job::AAD_LEN]);
        }
        for lane in places.len()..LANES {
            group.key[lane] = group.key[0];
        }
        // SAFETY: `proof` shows the features; the group's pointers are of admitted jobs.
        let hqp = unsafe { generator.start(&group) };
        if !open {
            // SAFETY: as above.
            unsafe { generator.cipher(&group) };
        }
        // SAFETY: as above.
        let mut tags = unsafe { tags(&group, &hqp, &aad) };
        for (lane, place) in places.iter().enumerate() {
            let job = &mut jobs[usize::from(*place)];
            let (start, end) = (job.start as usize, job.start as usize + job.len as usize);
            if job.clear_data {
                let part = |r: &[Z; 4]| block(r[lane / 4], lane % 4);
                let aad = &job.aad[..Job::AAD_LEN];
                // SAFETY: `proof` shows the features.
                let hash =
                    unsafe { x86::hash_clear(part(&hqp.h), part(&hqp.q), false, aad, &arena[start..end]) };
                let p = part(&hqp.p);
                tags[lane] = std::array::from_fn(|i| hash[i] ^ p[i]);
            }
            let field = &mut arena[end..end + TAG];
            if open {
                // The comparison looks at every octet, whatever the others were.
                let differences = tags[lane].iter().zip(&*field).fold(0, |d, (a, b)| d | a ^ b);
                job.verified = differences == 0;
                if !job.verified {
                    group.len[lane] = 0;
                }
            } else {
                field.copy_from_slice(&tags[lane]);
            }
        }
        if open {
            group.data = group.data.map(|d| arena.as_mut_ptr().wrapping_add(d.addr() - base.addr()));
            // SAFETY: as above.
            unsafe { generator.cipher(&group) };
        }
    }
}

impl<G: NcaGenerator> Cipher for Avx512Nca<G> {
    fn suite(&self) -> Suite {
        G::SUITE
    }

    fn kernel(&self) -> Kernel {
        self.proof.kernel()
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        self.keys.insert(G::expand(self.proof, keys.pek()))
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.chunks(arena, jobs, false);
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.chunks(arena, jobs, true);
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(key) = self.keys.as_slice().get(key.0 as usize) {
            // SAFETY: a prefetch reads nothing; every processor of this architecture has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(key).cast()) };
        }
    }
}

/// Lane i of a register as octets.
fn block(z: Z, i: usize) -> [u8; 16] {
    let words = row(z);
    std::array::from_fn(|o| words[4 * i + o / 4].to_le_bytes()[o % 4])
}

/// a * b * x^-128 in the field of POLYVAL, in each lane. Source: RFC 8452 section 3.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
fn dot(a: Z, b: Z) -> Z {
    let low = _mm512_clmulepi64_epi128::<0x00>(a, b);
    let high = _mm512_clmulepi64_epi128::<0x11>(a, b);
    let middle =
        _mm512_xor_si512(_mm512_clmulepi64_epi128::<0x01>(a, b), _mm512_clmulepi64_epi128::<0x10>(a, b));
    let low = _mm512_xor_si512(low, _mm512_bslli_epi128::<8>(middle));
    let high = _mm512_xor_si512(high, _mm512_bsrli_epi128::<8>(middle));
    let poly = _mm512_set1_epi64(0xc200_0000_0000_0000_u64 as i64);
    let fold = _mm512_clmulepi64_epi128::<0x00>(low, poly);
    let low = _mm512_xor_si512(_mm512_shuffle_epi32::<0x4e>(low), fold);
    let fold = _mm512_clmulepi64_epi128::<0x00>(low, poly);
    _mm512_ternarylogic_epi64::<0x96>(high, _mm512_shuffle_epi32::<0x4e>(low), fold)
}

/// Tags of all frames over their AAD and the octets of `data`.
///
/// # Safety
/// The processor has what is enabled here, and the group's pointers are as it says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,vpclmulqdq,bmi2")]
unsafe fn tags(group: &Group, hqp: &Hqp, aad: &[[u8; 16]; LANES]) -> [[u8; TAG]; LANES] {
    let mut tags = [[0; TAG]; LANES];
    for (four, first) in (0..group.lanes).step_by(4).enumerate() {
        let h = hqp.h[four];
        let mut blocks = [_mm_setzero_si128(); 4];
        for (i, b) in blocks.iter_mut().enumerate() {
            *b = x86::to_m128(aad[first + i]);
        }
        let h2 = dot(h, h);
        let (h3, h4) = (dot(h2, h), dot(h2, h2));
        // H^4 .. H^1 of each frame; what AAD comes to before the first block.
        let powers = transpose_128([h4, h3, h2, h]);
        let y = dot(four_lanes(blocks), h);
        let y = transpose_128([y; 4]);
        let len = &group.len[first..first + 4];
        let registers = [0, 1, 2, 3].map(|i| len[i].div_ceil(BLOCK));
        let mut sums = [_mm512_setzero_si512(); 4];
        for i in 0..registers.into_iter().max().unwrap_or(0) {
            for f in 0..4 {
                let Some(ahead) = registers[f].checked_sub(i + 1) else { continue };
                // The last register is full of blocks; the first begins with lanes that count as zero.
                let lead = 4 * registers[f] - len[f].div_ceil(16);
                let at = group.data[first + f].wrapping_sub(16 * lead).wrapping_add(BLOCK * i);
                let mut mask = !0_u64;
                if i == 0 {
                    mask &= !0 << (16 * lead);
                }
                if ahead == 0 {
                    mask &= !0 >> (BLOCK * registers[f] - 16 * lead - len[f]);
                }
                // SAFETY: by the contract, the octets of the mask are the frame's; the others are not read.
                let data = unsafe { _mm512_maskz_loadu_epi8(mask, at.cast()) };
                sums[f] = if i == 0 {
                    _mm512_mask_xor_epi32(data, 0xf << (4 * lead), data, y[f])
                } else {
                    let h4 = _mm512_shuffle_i32x4::<0>(powers[f], powers[f]);
                    _mm512_xor_si512(dot(sums[f], h4), data)
                };
            }
        }
        // Each lane times its power; then the lanes summed, all four frames in one register.
        let mut x = [_mm512_setzero_si512(); 4];
        for f in 0..4 {
            x[f] =
                if registers[f] == 0 { _mm512_maskz_mov_epi32(0xf, y[f]) } else { dot(sums[f], powers[f]) };
        }
        let lanes = transpose_128(x);
        let x = _mm512_xor_si512(_mm512_xor_si512(lanes[0], lanes[1]), _mm512_xor_si512(lanes[2], lanes[3]));
        let bits = |i: usize| len[i] as i64 * 8;
        const AAD_BITS: i64 = Job::AAD_LEN as i64 * 8;
        let lengths =
            _mm512_setr_epi64(bits(0), AAD_BITS, bits(1), AAD_BITS, bits(2), AAD_BITS, bits(3), AAD_BITS);
        let tag = _mm512_xor_si512(dot(_mm512_xor_si512(x, lengths), hqp.q[four]), hqp.p[four]);
        for f in 0..4 {
            tags[first + f] = block(tag, f);
        }
    }
    tags
}

/// Four blocks, one a lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn four_lanes(b: [__m128i; 4]) -> Z {
    let low = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(b[0]), b[1]);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, b[2]), b[3])
}

/// Sixteen generators of SNOW 5G: four registers a part, a frame in each 128-bit lane.
pub(super) struct Snow5g16 {
    sets: [Set; 4],
}

/// LFSRs a and b as halves, and R1, R2, R3, of four frames.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Set([[u32; 16]; 7]);

impl Drop for Snow5g16 {
    fn drop(&mut self) {
        self.sets.iter_mut().for_each(|s| s.0.zeroize());
    }
}

/// A set in registers.
#[derive(Clone, Copy)]
struct State {
    a: [Z; 2],
    b: [Z; 2],
    r: [Z; 3],
}

/// Transposes the octets of a lane as a 4 x 4 matrix.
const SIGMA: Z = octets4([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]);

impl State {
    #[inline(always)]
    fn from(set: &Set) -> Self {
        let [a0, a1, b0, b1, r1, r2, r3] = &set.0;
        Self { a: [load(a0), load(a1)], b: [load(b0), load(b1)], r: [load(r1), load(r2), load(r3)] }
    }

    #[inline(always)]
    fn to(self) -> Set {
        Set([self.a[0], self.a[1], self.b[0], self.b[1], self.r[0], self.r[1], self.r[2]].map(row))
    }

    /// One step; gives 16 octets of keystream of each frame.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,vaes")]
    fn step(&mut self) -> Z {
        let zero = _mm512_setzero_si512();
        let ([a0, a1], [b0, b1], [r1, r2, r3]) = (self.a, self.b, self.r);
        let z = _mm512_xor_si512(_mm512_add_epi16(b1, r1), r2);
        let sum = _mm512_add_epi16(r2, _mm512_xor_si512(r3, a1));
        self.r =
            [_mm512_shuffle_epi8(sum, SIGMA), _mm512_aesenc_epi128(r1, zero), _mm512_aesenc_epi128(r2, zero)];
        let a = times(a0, 0x4a6d);
        let a = _mm512_ternarylogic_epi32::<0x96>(a, b0, _mm512_alignr_epi8::<14>(a1, a0));
        let b = _mm512_ternarylogic_epi32::<0x96>(times(b0, 0xcc87), a0, b1);
        (self.a, self.b) = ([a1, a], [b1, b]);
        z
    }
}

/// Times alpha or beta: one place up, and `constant` for the bit that falls out.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn times(x: Z, constant: u16) -> Z {
    let out = _mm512_srai_epi16::<15>(x);
    _mm512_ternarylogic_epi32::<0x78>(_mm512_add_epi16(x, x), out, _mm512_set1_epi16(constant as i16))
}

impl NcaGenerator for Snow5g16 {
    const SUITE: Suite = Suite::Nca4;
    type Key = NcaKey;

    fn expand(_: Avx512, pek: &[u8]) -> NcaKey {
        NcaKey::new(pek)
    }

    fn new() -> Box<Self> {
        Box::new(Self { sets: [Set([[0; 16]; 7]); 4] })
    }

    #[target_feature(enable = "avx512f,avx512bw,vaes")]
    unsafe fn start(&mut self, group: &Group) -> Hqp {
        let zero = _mm512_setzero_si512();
        let mut hqp = Hqp { h: [zero; 4], q: [zero; 4], p: [zero; 4] };
        let pairs = group.lanes.div_ceil(8);
        for pair in 0..pairs {
            let mut keys = [[zero; 2]; 2];
            let mut states = [State { a: [zero; 2], b: [zero; 2], r: [zero; 3] }; 2];
            for (i, state) in states.iter_mut().enumerate() {
                let first = 8 * pair + 4 * i;
                let part = |offset: usize| {
                    // SAFETY: by the contract, each key is 32 readable octets.
                    let one = |lane: usize| unsafe {
                        _mm_loadu_si128(group.key[first + lane].wrapping_add(offset).cast())
                    };
                    four_lanes([one(0), one(1), one(2), one(3)])
                };
                keys[i] = [part(0), part(16)];
                let iv = |lane: usize| {
                    let count = group.count[first + lane].swap_bytes() as i32;
                    let bearer_direction = group.bearer_direction[first + lane] as i32;
                    // The octets: 0x84, BEARER and DIRECTION, six of zero, COUNT, four of zero.
                    _mm_setr_epi32(0x84 | bearer_direction >> 2 << 8, 0, count, 0)
                };
                state.a = [four_lanes([iv(0), iv(1), iv(2), iv(3)]), keys[i][0]];
                state.b[1] = keys[i][1];
            }
            for step in 1..=16 {
                for (state, key) in states.iter_mut().zip(&keys) {
                    let z = state.step();
                    state.a[1] = _mm512_xor_si512(state.a[1], z);
                    if step >= 15 {
                        state.r[0] = _mm512_xor_si512(state.r[0], key[step - 15]);
                    }
                }
            }
            for part in [&mut hqp.h, &mut hqp.q, &mut hqp.p] {
                for (i, state) in states.iter_mut().enumerate() {
                    part[2 * pair + i] = state.step();
                }
            }
            for (i, state) in states.into_iter().enumerate() {
                self.sets[2 * pair + i] = state.to();
            }
        }
        hqp
    }

    #[target_feature(enable = "avx512f,avx512bw,vaes,bmi2")]
    unsafe fn cipher(&mut self, group: &Group) {
        for first in (0..group.lanes).step_by(8) {
            let longest = group.len[first..first + 8].iter().copied().max().unwrap_or(0);
            let mut states = [State::from(&self.sets[first / 4]), State::from(&self.sets[first / 4 + 1])];
            for offset in (0..longest).step_by(BLOCK) {
                let mut z = [[_mm512_setzero_si512(); 4]; 2];
                for i in 0..4 {
                    for (z, state) in z.iter_mut().zip(&mut states) {
                        z[i] = state.step();
                    }
                }
                for (i, z) in z.into_iter().enumerate() {
                    for (j, keystream) in transpose_128(z).into_iter().enumerate() {
                        // SAFETY: by the contract.
                        unsafe { combine_one(group, first + 4 * i + j, offset, keystream) };
                    }
                }
            }
        }
    }
}

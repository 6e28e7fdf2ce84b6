//! AES-GCM for processors without AVX-512: AES-NI with PCLMULQDQ, and VAES with VPCLMULQDQ on 256-bit registers.
//!
//! Frames go one by one, eight blocks at a time. The eight of the first step are E(K, J0) with the first seven of data, and in the
//! hash AAD with the same seven: both streams keep step to the end.
//!
//! ```text
//! keystream  J0  c2 c3 .. c8 | c9 .. c16 | ...
//! hash       AAD d1 d2 .. d7 | d8 .. d15 | ... lengths      one reduction a step
//! ```

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::transmute;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cpu::{AesNi, Vaes256};
use super::jobs::check;
use super::x86::{self, Block, from_m128, to_m128};
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of the tag.
const TAG: usize = 16;
/// Blocks of a step.
const STEP: usize = 8;

/// Blocks of a step, as both widths load them.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Step([Block; STEP]);

/// Expanded key of one context.
#[repr(C, align(64))]
#[derive(Zeroize, ZeroizeOnDrop)]
struct GcmKey<const RK: usize> {
    rk: [Block; RK],
    /// H^8 .. H^1, then one of zero for the second half of an odd pair.
    powers: [Block; STEP + 1],
    salt: [u8; 12],
}

impl<const RK: usize> Default for GcmKey<RK> {
    fn default() -> Self {
        Self { rk: [[0; 16]; RK], powers: [[0; 16]; STEP + 1], salt: [0; 12] }
    }
}

impl<const RK: usize> GcmKey<RK> {
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn expand(keys: &FrameKeys) -> Self {
        let mut key = Self { rk: x86::round_keys(keys.pek()), salt: *keys.salt(), ..Self::default() };
        let h = Zeroizing::new(x86::polyval_key(x86::encrypt_block(&key.rk, [0; 16])));
        let powers = Zeroizing::new(x86::powers::<STEP>(*h));
        for (to, p) in key.powers.iter_mut().zip(powers.iter().rev()) {
            *to = *p;
        }
        key
    }

    /// Nonce, then four octets for the counter.
    fn nonce(&self, job: &Job) -> Block {
        let mut nonce = [0; 16];
        for ((n, s), i) in nonce.iter_mut().zip(self.salt).zip(job.gcm_nonce_input()) {
            *n = s ^ i;
        }
        nonce
    }
}

/// A width of registers, and the proof that the processor has it.
pub(super) trait Width: Copy + Send {
    /// The tier.
    const KERNEL: Kernel;

    /// # Safety
    /// `Self` proves the features; only its own functions call this.
    unsafe fn frame<const RK: usize, const OPEN: bool>(arena: &mut [u8], job: &mut Job, key: &Keyed<'_, RK>);
}

/// A key, opaque to others.
pub(super) struct Keyed<'a, const RK: usize>(&'a GcmKey<RK>);

/// AES-GCM of one width: `RK` round keys.
pub(super) struct Gcm<W, const RK: usize> {
    keys: KeySlab<GcmKey<RK>>,
    width: PhantomData<W>,
}

impl<W: Width, const RK: usize> Gcm<W, RK> {
    /// No keys yet.
    pub(super) fn new(_: W) -> Self {
        const { assert!(RK == 11 || RK == 15) };
        Self { keys: KeySlab::new(), width: PhantomData }
    }
}

impl<W: Width, const RK: usize> Cipher for Gcm<W, RK> {
    fn suite(&self) -> Suite {
        if RK == 11 { Suite::Aes128Gcm } else { Suite::Aes256Gcm }
    }

    fn kernel(&self) -> Kernel {
        W::KERNEL
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        // SAFETY: the proof that `new` took shows AES, PCLMULQDQ, SSE4.1 and SSSE3.
        self.keys.insert(unsafe { GcmKey::expand(keys) })
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for job in jobs {
            check(job, arena.len(), TAG, self.keys.as_slice().len());
            // SAFETY: `new` took the proof of the width's features.
            unsafe { W::frame::<RK, false>(arena, job, &Keyed(self.keys.get(job.key))) };
        }
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for job in jobs {
            check(job, arena.len(), TAG, self.keys.as_slice().len());
            // SAFETY: `new` took the proof of the width's features.
            unsafe { W::frame::<RK, true>(arena, job, &Keyed(self.keys.get(job.key))) };
        }
    }
}

/// Looks at every octet, whatever the others are.
fn equal(a: &Block, b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |d, (a, b)| d | a ^ b) == 0
}

/// Ciphers data with the keystream from block `FROM` on and keeps the ciphertext in `blocks`, padded with zeros; how many
/// blocks that fills.
#[inline(always)]
fn combine<const OPEN: bool, const FROM: usize>(data: &mut [u8], stream: &Step, blocks: &mut Step) -> usize {
    let keep = |text: Block, out: Block| if OPEN { text } else { out };
    let (whole, rest) = data.as_chunks_mut::<16>();
    let filled = FROM + whole.len();
    if filled == STEP {
        // Of known size, so that it stays in registers.
        for i in FROM..STEP {
            let text = whole[i - FROM];
            whole[i - FROM] = xor(text, stream.0[i]);
            blocks.0[i] = keep(text, whole[i - FROM]);
        }
        return STEP;
    }
    for (i, block) in whole.iter_mut().enumerate() {
        let text = *block;
        *block = xor(text, stream.0[FROM + i]);
        blocks.0[FROM + i] = keep(text, *block);
    }
    blocks.0[filled..].fill([0; 16]);
    if rest.is_empty() {
        return filled;
    }
    let mut text = [0; 16];
    text[..rest.len()].copy_from_slice(rest);
    let mut out = xor(text, stream.0[filled]);
    rest.copy_from_slice(&out[..rest.len()]);
    out[rest.len()..].fill(0);
    blocks.0[filled] = keep(text, out);
    filled + 1
}

#[inline(always)]
fn xor(a: Block, b: Block) -> Block {
    // SAFETY: SSE2 is in the baseline of this architecture.
    from_m128(unsafe { _mm_xor_si128(to_m128(a), to_m128(b)) })
}

/// A frame with what one width does for a step: its keystream and its hash.
macro_rules! width {
    ($proof:ident, $kernel:expr, $features:literal, $keystream:ident, $hash:ident) => {
        impl Width for $proof {
            const KERNEL: Kernel = $kernel;

            #[target_feature(enable = $features)]
            unsafe fn frame<const RK: usize, const OPEN: bool>(
                arena: &mut [u8],
                job: &mut Job,
                key: &Keyed<'_, RK>,
            ) {
                let key = key.0;
                let (start, len) = (job.start as usize, job.len as usize);
                let (data, field) = arena[start..start + len + TAG].split_at_mut(len);
                let nonce = key.nonce(job);
                let mut stream = $keystream(&key.rk, nonce, 1);
                let j0 = stream.0[0];
                let tag = if job.clear_data {
                    let h = key.powers[STEP - 1];
                    xor(j0, x86::hash_clear(h, h, true, &job.aad[..Job::AAD_LEN], data))
                } else {
                    // The first step: AAD stands where E(K, J0) does in the keystream.
                    let mut blocks = Step([[0; 16]; STEP]);
                    blocks.0[0] = job.aad;
                    let mut hash = [0; 16];
                    let (mut used, mut counter) = (1, 1);
                    let mut rest = &mut *data;
                    loop {
                        let room = 16 * (STEP - used);
                        let (now, later) = rest.split_at_mut(room.min(rest.len()));
                        let filled = if used == 0 {
                            combine::<OPEN, 0>(now, &stream, &mut blocks)
                        } else {
                            combine::<OPEN, 1>(now, &stream, &mut blocks)
                        };
                        rest = later;
                        if rest.is_empty() {
                            // GHASH has the lengths big-endian and in bits.
                            let lengths = (8 * Job::AAD_LEN as u128) << 64 | 8 * len as u128;
                            let mut filled = filled;
                            if filled == STEP {
                                hash = $hash(&key.powers, hash, &blocks, filled);
                                blocks = Step([[0; 16]; STEP]);
                                filled = 0;
                            }
                            blocks.0[filled] = lengths.to_be_bytes();
                            hash = $hash(&key.powers, hash, &blocks, filled + 1);
                            break;
                        }
                        hash = $hash(&key.powers, hash, &blocks, STEP);
                        counter += STEP as u32;
                        stream = $keystream(&key.rk, nonce, counter);
                        used = 0;
                    }
                    hash.reverse();
                    xor(j0, hash)
                };
                if OPEN {
                    job.verified = equal(&tag, field);
                    if !job.verified {
                        data.fill(0); // it was deciphered while it was hashed
                    }
                } else {
                    field.copy_from_slice(&tag);
                }
            }
        }
    };
}

width!(AesNi, Kernel::AesNi, "aes,pclmulqdq,sse4.1,ssse3", keystream_128, hash_128);
width!(
    Vaes256,
    Kernel::Vaes256,
    "avx2,vaes,vpclmulqdq,aes,pclmulqdq,bmi2,sse4.1,ssse3",
    keystream_256,
    hash_256
);

/// Eight blocks of keystream from `counter` on.
#[inline]
#[target_feature(enable = "aes,sse4.1,ssse3")]
fn keystream_128<const RK: usize>(rk: &[Block; RK], nonce: Block, counter: u32) -> Step {
    let first = _mm_xor_si128(to_m128(nonce), to_m128(rk[0]));
    let mut x: [__m128i; STEP] = std::array::from_fn(|i| {
        let c = counter.wrapping_add(i as u32).swap_bytes() as i32;
        _mm_xor_si128(first, _mm_set_epi32(c, 0, 0, 0))
    });
    for k in &rk[1..RK - 1] {
        let k = to_m128(*k);
        for b in &mut x {
            *b = _mm_aesenc_si128(*b, k);
        }
    }
    Step(x.map(|b| from_m128(_mm_aesenclast_si128(b, to_m128(rk[RK - 1])))))
}

/// (hash ^ b1) * H^n ^ b2 * H^(n-1) ^ ..., over the first `n` blocks; the hash is in POLYVAL's order, blocks are in GHASH's.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1,ssse3")]
fn hash_128(powers: &[Block; STEP + 1], hash: Block, blocks: &Step, n: usize) -> Block {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let zero = _mm_setzero_si128();
    let (mut lo, mut mid, mut hi) = (zero, zero, zero);
    let mut add = to_m128(hash);
    for (b, p) in blocks.0[..n].iter().zip(&powers[STEP - n..]) {
        let (b, p) = (_mm_xor_si128(_mm_shuffle_epi8(to_m128(*b), order), add), to_m128(*p));
        add = zero;
        lo = _mm_xor_si128(lo, _mm_clmulepi64_si128::<0x00>(b, p));
        hi = _mm_xor_si128(hi, _mm_clmulepi64_si128::<0x11>(b, p));
        let cross = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(b, p), _mm_clmulepi64_si128::<0x10>(b, p));
        mid = _mm_xor_si128(mid, cross);
    }
    from_m128(x86::reduce(lo, mid, hi))
}

/// Eight blocks of keystream from `counter` on.
#[inline]
#[target_feature(enable = "avx2,vaes,aes,sse4.1,ssse3")]
fn keystream_256<const RK: usize>(rk: &[Block; RK], nonce: Block, counter: u32) -> Step {
    let wide = |b: Block| _mm256_broadcastsi128_si256(to_m128(b));
    let first = _mm256_xor_si256(wide(nonce), wide(rk[0]));
    let mut x: [__m256i; STEP / 2] = std::array::from_fn(|i| {
        let c = |j: u32| counter.wrapping_add(2 * i as u32 + j).swap_bytes() as i32;
        _mm256_xor_si256(first, _mm256_set_epi32(c(1), 0, 0, 0, c(0), 0, 0, 0))
    });
    for k in &rk[1..RK - 1] {
        let k = wide(*k);
        for b in &mut x {
            *b = _mm256_aesenc_epi128(*b, k);
        }
    }
    // SAFETY: four registers of 32 octets are eight blocks, aligned alike.
    unsafe {
        transmute::<[__m256i; STEP / 2], Step>(x.map(|b| _mm256_aesenclast_epi128(b, wide(rk[RK - 1]))))
    }
}

/// As [`hash_128`], two blocks at a time; blocks from `n` on are zero.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq,pclmulqdq,sse4.1,ssse3")]
fn hash_256(powers: &[Block; STEP + 1], hash: Block, blocks: &Step, n: usize) -> Block {
    let order =
        _mm256_broadcastsi128_si256(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    let pair = |a: Block, b: Block| _mm256_set_m128i(to_m128(b), to_m128(a));
    let zero = _mm256_setzero_si256();
    let (mut lo, mut mid, mut hi) = (zero, zero, zero);
    let mut add = pair(hash, [0; 16]);
    for i in (0..n).step_by(2) {
        let b = _mm256_shuffle_epi8(pair(blocks.0[i], blocks.0[i + 1]), order);
        let (b, p) = (_mm256_xor_si256(b, add), pair(powers[STEP - n + i], powers[STEP - n + i + 1]));
        add = zero;
        lo = _mm256_xor_si256(lo, _mm256_clmulepi64_epi128::<0x00>(b, p));
        hi = _mm256_xor_si256(hi, _mm256_clmulepi64_epi128::<0x11>(b, p));
        let cross =
            _mm256_xor_si256(_mm256_clmulepi64_epi128::<0x01>(b, p), _mm256_clmulepi64_epi128::<0x10>(b, p));
        mid = _mm256_xor_si256(mid, cross);
    }
    let fold = |v: __m256i| _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    from_m128(x86::reduce(fold(lo), fold(mid), fold(hi)))
}

//! AES-GCM for processors without AVX-512: AES-NI with PCLMULQDQ, and VAES with VPCLMULQDQ on 256-bit registers.
//!
//! Frames go one by one, eight registers at a time: a step. The blocks of the first step are E(K, J0) and the first of data, and in
//! the hash AAD and the same data, so that both streams keep step to the end.
//!
//! ```text
//! keystream  J0  c2 c3 .. | c9 .. c16 | ...               a step of 8 blocks (or 16, with two in a register)
//! hash       AAD d1 d2 .. | d8 .. d15 | ... | lengths     one reduction a step, one for what is left
//! ```
//!
//! A step's hash is computed between the rounds of a step: when opening of the same one, when sealing of the one after, since
//! only then the ciphertext is known. Every product is Karatsuba's three.

use std::arch::asm;
use std::arch::x86_64::*;
use std::convert::identity;
use std::mem::offset_of;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cpu::{AesNi, Vaes256};
use super::jobs::check;
use super::x86::{self, Block, rounds, to_m128};
use super::x86_512::each;
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of the tag.
const TAG: usize = 16;
/// Registers of a step.
const STEP: usize = 8;
/// Powers of the hash key: one more than the blocks of a step of the wider registers, for what stands around the data.
const POWERS: usize = 2 * STEP + 1;

/// Expanded key of one context.
#[repr(C, align(64))]
#[derive(Zeroize, ZeroizeOnDrop)]
struct GcmKey<const RK: usize> {
    rk: [Block; RK],
    /// IV salt || 0.
    salt: Block,
    /// H^17 .. H^1.
    powers: [Block; POWERS],
    /// Both halves of each summed, twice, for Karatsuba; then one of zero.
    sums: [Block; POWERS + 1],
}

impl<const RK: usize> Default for GcmKey<RK> {
    fn default() -> Self {
        Self { rk: [[0; 16]; RK], salt: [0; 16], powers: [[0; 16]; POWERS], sums: [[0; 16]; POWERS + 1] }
    }
}

impl<const RK: usize> GcmKey<RK> {
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn expand(keys: &FrameKeys) -> Self {
        let mut key = Self { rk: x86::round_keys(keys.pek()), ..Self::default() };
        key.salt[..12].copy_from_slice(keys.salt());
        let h = Zeroizing::new(x86::polyval_key(x86::encrypt_block(&key.rk, [0; 16])));
        let powers = Zeroizing::new(x86::powers::<POWERS>(*h));
        for ((power, sum), p) in key.powers.iter_mut().zip(&mut key.sums).zip(powers.iter().rev()) {
            *power = *p;
            let p = u128::from_le_bytes(*p);
            *sum = (p ^ p.rotate_left(64)).to_le_bytes();
        }
        key
    }
}

/// A width of registers, and the proof that the processor has it.
pub(super) trait Width: Copy + Send {
    /// The tier.
    const KERNEL: Kernel;

    /// # Safety
    /// `Self` proves the features. `data` is that of an admitted job: `job.len` + 16 octets from it are readable and writable,
    /// and `key` is readable.
    unsafe fn frame<const RK: usize, const OPEN: bool>(data: *mut u8, job: &mut Job, key: &Keyed<RK>);
}

/// A key, opaque to others.
#[repr(transparent)]
pub(super) struct Keyed<const RK: usize>(GcmKey<RK>);

impl<const RK: usize> Default for Keyed<RK> {
    fn default() -> Self {
        Self(GcmKey::default())
    }
}

/// AES-GCM of one width: `RK` round keys.
pub(super) struct Gcm<W, const RK: usize> {
    keys: KeySlab<Keyed<RK>>,
    width: W,
}

impl<W: Width, const RK: usize> Gcm<W, RK> {
    /// No keys yet.
    pub(super) fn new(width: W) -> Self {
        const { assert!(RK == 11 || RK == 15) };
        Self { keys: KeySlab::new(), width }
    }

    fn run<const OPEN: bool>(&self, arena: &mut [u8], jobs: &mut [Job]) {
        let _: W = self.width; // whose features `frame` needs
        for i in 0..jobs.len() {
            if let Some(next) = jobs.get(i + 1) {
                self.prefetch(next.key);
            }
            let job = &mut jobs[i];
            check(job, arena.len(), TAG, self.keys.as_slice().len());
            let data = arena[job.start as usize..].as_mut_ptr();
            // SAFETY: `check` admitted the job; `width` proves the features.
            unsafe { W::frame::<RK, OPEN>(data, job, self.keys.get(job.key)) };
        }
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
        self.keys.insert(Keyed(unsafe { GcmKey::expand(keys) }))
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.run::<false>(arena, jobs);
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.run::<true>(arena, jobs);
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(key) = self.keys.as_slice().get(key.0 as usize) {
            let p = std::ptr::from_ref(key).cast::<i8>();
            for line in (0..size_of::<GcmKey<RK>>()).step_by(64) {
                // SAFETY: a prefetch reads nothing, and the address is inside `key`.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line)) };
            }
        }
    }
}

/// Reverses the octets of a block, twice.
static REVERSED: [Block; 2] = [[15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]; 2];
/// 16 octets from 16 - n on keep the first n of a block.
static KEEP: [u8; 32] = {
    let mut keep = [0; 32];
    let mut i = 0;
    while i < 16 {
        keep[i] = 0xff;
        i += 1;
    }
    keep
};

/// Counters 0 to 15, each in the first octets of a block.
#[repr(align(32))]
struct Counters([[u32; 4]; 2 * STEP]);

static COUNTERS: Counters = Counters({
    let mut c = [[0; 4]; 2 * STEP];
    let mut i = 0;
    while i < 2 * STEP {
        c[i][0] = i as u32;
        i += 1;
    }
    c
});

/// What one width does: a module of it, from its instructions.
macro_rules! width {
    (
        $(#[$doc:meta])*
        $module:ident, $proof:ident, $kernel:expr, $features:literal, $v:ty, $n:literal,
        $load:ident, $store:ident, $zero:ident, $xor:ident, $shuffle:ident, $swap:ident, $add:ident, $clmul:ident,
        [$broadcast:expr, $low:expr, $widen:expr, $second:expr, $both:expr],
        $register:ident, $aesenc:literal, $aesenclast:literal, [$($product:literal)*]
    ) => {
        $(#[$doc])*
        mod $module {
            use super::*;

            type V = $v;
            /// Blocks of a register.
            const N: usize = $n;
            /// Octets of a step.
            const OCTETS: usize = 16 * N * STEP;
            /// Octets of data in the first step.
            const FIRST: usize = OCTETS - 16;

            /// Sums of products that are not reduced yet.
            #[derive(Clone, Copy)]
            struct Sum {
                lo: V,
                mid: V,
                hi: V,
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn zero() -> Sum {
                Sum { lo: $zero(), mid: $zero(), hi: $zero() }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn aesenc(mut x: V, k: V) -> V {
                // SAFETY: registers only. Assembly, because the compiler keeps it in order; see `x86_gcm512`.
                unsafe {
                    asm!($aesenc, inout($register) x, in($register) k, options(nomem, nostack, preserves_flags));
                }
                x
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn aesenclast(mut x: V, k: V) -> V {
                // SAFETY: registers only.
                unsafe {
                    asm!($aesenclast, inout($register) x, in($register) k, options(nomem, nostack, preserves_flags));
                }
                x
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn reversed(x: V) -> V {
                // SAFETY: the table is as long as the widest register.
                $shuffle(x, unsafe { $load(REVERSED.as_ptr().cast()) })
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn reversed_128(x: __m128i) -> __m128i {
                _mm_shuffle_epi8(x, to_m128(REVERSED[0]))
            }

            /// sum + x * H^`power`, and for two blocks H^(`power` - 1) with the second.
            ///
            /// # Safety
            /// `key` is readable, `power` is `N` to 17.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add_product<const RK: usize>(sum: Sum, x: V, key: *const GcmKey<RK>, power: usize) -> Sum {
                let at = 16 * (POWERS - power);
                // SAFETY: by the contract both are inside the key.
                let (p, p_sum) = unsafe {
                    let key = key.cast::<u8>();
                    let p = $load(key.add(offset_of!(GcmKey<RK>, powers) + at).cast());
                    (p, $load(key.add(offset_of!(GcmKey<RK>, sums) + at).cast()))
                };
                let halves = $xor(x, $swap::<0x4e>(x));
                Sum {
                    lo: $xor(sum.lo, $clmul::<0x00>(x, p)),
                    mid: $xor(sum.mid, $clmul::<0x00>(halves, p_sum)),
                    hi: $xor(sum.hi, $clmul::<0x11>(x, p)),
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn reduce(sum: Sum) -> __m128i {
                let fold = |v: V| {
                    if N == 1 { $low(v) } else { _mm_xor_si128($low(v), $second(v)) }
                };
                let (lo, mid, hi) = (fold(sum.lo), fold(sum.mid), fold(sum.hi));
                x86::reduce(lo, _mm_xor_si128(mid, _mm_xor_si128(lo, hi)), hi)
            }

            /// Eight registers of keystream from `counter` on (blocks reversed); with `HASH` also the hash of eight registers of
            /// ciphertext at `text`, the first of which is given, reversed and with what came before added.
            ///
            /// # Safety
            /// `key` is readable, with `HASH` also a step from `text` on but for its first register.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn step<const RK: usize, const HASH: bool>(
                key: *const GcmKey<RK>,
                counter: V,
                first: V,
                text: *const u8,
            ) -> ([V; STEP], __m128i) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let round_key = |r: usize| $broadcast(_mm_load_si128(key.cast::<__m128i>().add(r)));
                    let mut x = [$zero(); STEP];
                    let k = round_key(0);
                    each!(i < STEP, {
                        let c = $add(counter, $load(COUNTERS.0.as_ptr().add(N * i).cast()));
                        x[i] = $xor(reversed(c), k);
                    });
                    let mut sum = zero();
                    macro_rules! round {
                        ($op:ident, $r:literal) => {{
                            let k = round_key($r);
                            each!(i < STEP, {
                                x[i] = $op(x[i], k);
                            });
                            if HASH && $r <= STEP {
                                // The first register last: it waits for the hash of the step before.
                                let i = $r % STEP;
                                let c = if i == 0 { first } else { reversed($load(text.wrapping_add(16 * N * i).cast())) };
                                // As `add_product`; written out because the compiler would keep the power in a register and
                                // put a chain on the stack for it.
                                asm!($($product,)*
                                    c = inout($register) c => _, l = out($register) _, h = out($register) _,
                                    lo = inout($register) sum.lo, mid = inout($register) sum.mid, hi = inout($register) sum.hi,
                                    key = in(reg) key,
                                    p = const offset_of!(GcmKey<RK>, powers) + 16 * (POWERS - N * (STEP - $r % STEP)),
                                    s = const offset_of!(GcmKey<RK>, sums) + 16 * (POWERS - N * (STEP - $r % STEP)),
                                    options(readonly, nostack, preserves_flags));
                            }
                        }};
                    }
                    rounds!(round, RK);
                    (x, if HASH { reduce(sum) } else { _mm_setzero_si128() })
                }
            }

            /// Ciphers registers from `from` on of a step at `at`.
            ///
            /// # Safety
            /// They are readable and writable.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn combine<const FROM: usize>(at: *mut u8, stream: &[V; STEP]) {
                each!(i < STEP, {
                    if i >= FROM {
                        let at = at.wrapping_add(16 * N * i);
                        // SAFETY: as the caller vouches.
                        unsafe { $store(at.cast(), $xor($load(at.cast()), stream[i])) };
                    }
                });
            }

            /// Ciphers what is left of a frame, less than a step, and finishes its hash: `sum` and `hash` are what came before, unreduced
            /// and reduced. With `SKIP` the first block of keystream is not for data.
            ///
            /// # Safety
            /// `key` is readable; `left` + 16 octets from `at` are readable and writable.
            #[inline]
            #[target_feature(enable = $features)]
            #[allow(unused_assignments, reason = "nobody asks after the last block where the next would be")]
            unsafe fn rest<const RK: usize, const OPEN: bool, const SKIP: bool>(
                key: *const GcmKey<RK>,
                mut at: *mut u8,
                mut left: usize,
                stream: &[V; STEP],
                mut sum: Sum,
                hash: __m128i,
                lengths: __m128i,
            ) -> __m128i {
                let mut stream = stream.as_ptr().cast::<u8>();
                let mut power = left.div_ceil(16) + 1;
                let mut before = hash;
                // SAFETY: a whole block more than `left` may be touched, keystream has as many blocks as a step.
                unsafe {
                    macro_rules! one {
                        ($keep:expr) => {{
                            let text = _mm_loadu_si128(at.cast());
                            let out = _mm_xor_si128(text, _mm_loadu_si128(stream.cast()));
                            _mm_storeu_si128(at.cast(), out);
                            let c = _mm_and_si128(if OPEN { text } else { out }, $keep);
                            sum = add_one(sum, _mm_xor_si128(reversed_128(c), before), key, power);
                            before = _mm_setzero_si128();
                            stream = stream.add(16);
                            power -= 1;
                        }};
                    }
                    let all = _mm_set1_epi8(-1);
                    if SKIP {
                        stream = stream.add(16);
                        if N == 2 && left >= 16 {
                            // Where the other blocks are pairs again.
                            one!(all);
                            (at, left) = (at.add(16), left - 16);
                        }
                    }
                    while N == 2 && left >= 32 {
                        let text = $load(at.cast());
                        let out = $xor(text, $load(stream.cast()));
                        $store(at.cast(), out);
                        let c = $xor(reversed(if OPEN { text } else { out }), $widen(before));
                        sum = add_product(sum, c, key, power);
                        before = _mm_setzero_si128();
                        stream = stream.add(32);
                        power -= 2;
                        (at, left) = (at.add(32), left - 32);
                    }
                    while left >= 16 {
                        one!(all);
                        (at, left) = (at.add(16), left - 16);
                    }
                    if left > 0 {
                        // Of the MAC field behind, what is touched is put right by the caller.
                        one!(_mm_loadu_si128(KEEP.as_ptr().add(16 - left).cast()));
                    }
                    sum = add_one(sum, _mm_xor_si128(lengths, before), key, 1);
                }
                reduce(sum)
            }

            /// As [`add_product`], with one block.
            ///
            /// # Safety
            /// `key` is readable, `power` is 1 to 17.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add_one<const RK: usize>(sum: Sum, x: __m128i, key: *const GcmKey<RK>, power: usize) -> Sum {
                // SAFETY: a register from the place of H^1 on ends in the block of zero, or is a sum; it meets zeros.
                unsafe { add_product(sum, $widen(x), key, power) }
            }

            impl Width for $proof {
                const KERNEL: Kernel = $kernel;

                #[target_feature(enable = $features)]
                unsafe fn frame<const RK: usize, const OPEN: bool>(data: *mut u8, job: &mut Job, key: &Keyed<RK>) {
                    let key = &raw const key.0;
                    let len = job.len as usize;
                    // SAFETY: as the caller vouches; what is read and written lies between data and the end of the MAC field.
                    unsafe {
                        let field = data.add(len);
                        let received = _mm_loadu_si128(field.cast());
                        let aad = reversed_128(to_m128(job.aad));
                        let input = _mm_set_epi32(0, job.count.swap_bytes() as i32, 0, i32::from(job.bearer_direction));
                        let nonce = reversed_128(_mm_xor_si128(input, to_m128((*key).salt)));
                        let mut counter = $broadcast(_mm_add_epi32(nonce, _mm_set_epi32(0, 0, 0, 1)));
                        // GHASH has them big-endian and in bits.
                        let lengths = _mm_set_epi64x(8 * Job::AAD_LEN as i64, 8 * len as i64);
                        let null = $zero();
                        let (j0, hash);
                        if job.clear_data {
                            j0 = $low(step::<RK, false>(key, counter, null, data).0[0]);
                            let h = (*key).powers[POWERS - 1];
                            let data = std::slice::from_raw_parts(data, len);
                            hash = reversed_128(to_m128(x86::hash_clear(h, h, true, &job.aad[..Job::AAD_LEN], data)));
                        } else if len < FIRST {
                            let (stream, _) = step::<RK, false>(key, counter, null, data);
                            j0 = $low(stream[0]);
                            let sum = add_one(zero(), aad, key, len.div_ceil(16) + 2);
                            hash = rest::<RK, OPEN, true>(key, data, len, &stream, sum, _mm_setzero_si128(), lengths);
                        } else {
                            // Registers of a step from here on lie as later ones do; the first is half data or none.
                            let mut text = data.wrapping_sub(16).cast_const();
                            let mut first = $widen(aad);
                            macro_rules! first {
                                () => {
                                    if N == 2 {
                                        first = $both(reversed_128(_mm_loadu_si128(data.cast())), aad);
                                    }
                                };
                            }
                            if OPEN {
                                first!();
                            }
                            let (mut stream, mut y) = step::<RK, OPEN>(key, counter, first, text);
                            j0 = $low(stream[0]);
                            if N == 2 {
                                let block = _mm_xor_si128(_mm_loadu_si128(data.cast()), $second(stream[0]));
                                _mm_storeu_si128(data.cast(), block);
                            }
                            combine::<1>(data.wrapping_sub(16), &stream);
                            if !OPEN {
                                first!();
                            }
                            let (mut at, mut left) = (data.add(FIRST), len - FIRST);
                            let forward = $broadcast(_mm_set_epi32(0, 0, 0, (N * STEP) as i32));
                            loop {
                                counter = $add(counter, forward);
                                if left < OCTETS {
                                    break;
                                }
                                if OPEN {
                                    text = at;
                                    first = $xor(reversed($load(at.cast())), $widen(y));
                                }
                                (stream, y) = step::<RK, true>(key, counter, first, text);
                                combine::<0>(at, &stream);
                                if !OPEN {
                                    text = at;
                                    first = $xor(reversed($load(at.cast())), $widen(y));
                                }
                                (at, left) = (at.add(OCTETS), left - OCTETS);
                            }
                            if !OPEN {
                                (stream, y) = step::<RK, true>(key, counter, first, text);
                            } else if left > 0 {
                                (stream, _) = step::<RK, false>(key, counter, null, text);
                            }
                            hash = rest::<RK, OPEN, false>(key, at, left, &stream, zero(), y, lengths);
                        }
                        let tag = _mm_xor_si128(reversed_128(hash), j0);
                        if OPEN {
                            _mm_storeu_si128(field.cast(), received); // the last block may have reached into it
                            job.verified = _mm_movemask_epi8(_mm_cmpeq_epi8(tag, received)) == 0xffff;
                            if !job.verified {
                                data.write_bytes(0, len); // it was deciphered while it was hashed
                            }
                        } else {
                            _mm_storeu_si128(field.cast(), tag);
                        }
                    }
                }
            }
        }
    };
}

/// Of the second block, where there is one.
#[inline(always)]
fn lower(_: __m128i, low: __m128i) -> __m128i {
    low
}

width! {
    /// One block in a register.
    one, AesNi, Kernel::AesNi, "aes,pclmulqdq,sse4.1,ssse3", __m128i, 1,
    _mm_loadu_si128, _mm_storeu_si128, _mm_setzero_si128, _mm_xor_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_add_epi32,
    _mm_clmulepi64_si128,
    [identity, identity, identity, identity, lower],
    xmm_reg, "aesenc {0}, {1}", "aesenclast {0}, {1}",
    [
        "movdqa {l}, {c}"
        "pshufd {h}, {c}, 0x4e"
        "pclmulqdq {l}, xmmword ptr [{key} + {p}], 0x00"
        "pxor {h}, {c}"
        "pclmulqdq {c}, xmmword ptr [{key} + {p}], 0x11"
        "pclmulqdq {h}, xmmword ptr [{key} + {s}], 0x00"
        "pxor {lo}, {l}"
        "pxor {hi}, {c}"
        "pxor {mid}, {h}"
    ]
}

width! {
    /// Two blocks in a register.
    two, Vaes256, Kernel::Vaes256, "avx2,vaes,vpclmulqdq,aes,pclmulqdq,bmi2,sse4.1,ssse3", __m256i, 2,
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_setzero_si256, _mm256_xor_si256, _mm256_shuffle_epi8, _mm256_shuffle_epi32,
    _mm256_add_epi32, _mm256_clmulepi64_epi128,
    [_mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_zextsi128_si256, _mm256_extracti128_si256::<1>, _mm256_set_m128i],
    ymm_reg, "vaesenc {0}, {0}, {1}", "vaesenclast {0}, {0}, {1}",
    [
        "vpshufd {h}, {c}, 0x4e"
        "vpclmulqdq {l}, {c}, ymmword ptr [{key} + {p}], 0x00"
        "vpxor {h}, {h}, {c}"
        "vpclmulqdq {c}, {c}, ymmword ptr [{key} + {p}], 0x11"
        "vpclmulqdq {h}, {h}, ymmword ptr [{key} + {s}], 0x00"
        "vpxor {lo}, {lo}, {l}"
        "vpxor {hi}, {hi}, {c}"
        "vpxor {mid}, {mid}, {h}"
    ]
}

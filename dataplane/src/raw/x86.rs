//! What the x86 kernels of AES share: key schedules and the powers of the hash key.

use std::arch::x86_64::*;
use std::mem::transmute;

/// One block, aligned as a round key wants it.
pub(super) type Block = [u8; 16];

/// SubWord(RotWord(last word)) ^ Rcon and the running xor of the schedule, AES-128.
macro_rules! expand_128 {
    ($k:ident, $i:literal, $rcon:literal) => {
        $k[$i] = next($k[$i - 1], _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$rcon>($k[$i - 1])))
    };
}

/// Two round keys of AES-256.
macro_rules! expand_256 {
    ($k:ident, $i:literal, $rcon:literal) => {
        $k[$i] = next($k[$i - 2], _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$rcon>($k[$i - 1])));
        if $i + 1 < 15 {
            $k[$i + 1] = next($k[$i - 1], _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>($k[$i])));
        }
    };
}

/// Calls `round!(operation, number)` for each round after the first key, of `$rk` round keys: a constant.
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
pub(super) use rounds;

/// Each word xors all words before it; then the substituted word into all.
#[inline]
#[target_feature(enable = "aes,sse4.1")]
fn next(k: __m128i, word: __m128i) -> __m128i {
    let k = _mm_xor_si128(k, _mm_slli_si128::<4>(k));
    let k = _mm_xor_si128(k, _mm_slli_si128::<8>(k));
    _mm_xor_si128(k, word)
}

/// Encryption round keys: 11 for a key of 16 octets, 15 for one of 32. Source: FIPS 197 5.2.
#[target_feature(enable = "aes,sse4.1")]
pub(super) fn round_keys<const RK: usize>(key: &[u8]) -> [Block; RK] {
    assert!(matches!((RK, key.len()), (11, 16) | (15, 32)), "an AES key of {} octets", key.len());
    let half = |at: usize| {
        let mut b = [0u8; 16];
        b.copy_from_slice(&key[at..at + 16]);
        to_m128(b)
    };
    let mut k = [_mm_setzero_si128(); 16];
    k[0] = half(0);
    if RK == 11 {
        expand_128!(k, 1, 0x01);
        expand_128!(k, 2, 0x02);
        expand_128!(k, 3, 0x04);
        expand_128!(k, 4, 0x08);
        expand_128!(k, 5, 0x10);
        expand_128!(k, 6, 0x20);
        expand_128!(k, 7, 0x40);
        expand_128!(k, 8, 0x80);
        expand_128!(k, 9, 0x1b);
        expand_128!(k, 10, 0x36);
    } else {
        k[1] = half(16);
        expand_256!(k, 2, 0x01);
        expand_256!(k, 4, 0x02);
        expand_256!(k, 6, 0x04);
        expand_256!(k, 8, 0x08);
        expand_256!(k, 10, 0x10);
        expand_256!(k, 12, 0x20);
        expand_256!(k, 14, 0x40);
    }
    let mut out = [[0u8; 16]; RK];
    for (o, k) in out.iter_mut().zip(k) {
        *o = from_m128(k);
    }
    out
}

/// One block through AES.
#[target_feature(enable = "aes,sse4.1")]
pub(super) fn encrypt_block<const RK: usize>(rk: &[Block; RK], block: Block) -> Block {
    let mut x = _mm_xor_si128(to_m128(block), to_m128(rk[0]));
    for k in &rk[1..RK - 1] {
        x = _mm_aesenc_si128(x, to_m128(*k));
    }
    from_m128(_mm_aesenclast_si128(x, to_m128(rk[RK - 1])))
}

/// a * b * x^-128 in the field of POLYVAL. Source: RFC 8452 section 3.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1,ssse3")]
pub(super) fn dot(a: __m128i, b: __m128i) -> __m128i {
    let lo = _mm_clmulepi64_si128::<0x00>(a, b);
    let hi = _mm_clmulepi64_si128::<0x11>(a, b);
    let mid = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b));
    reduce(lo, mid, hi)
}

/// A product of 256 bits in three overlapping parts, times x^-128.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1,ssse3")]
pub(super) fn reduce(lo: __m128i, mid: __m128i, hi: __m128i) -> __m128i {
    let lo = _mm_xor_si128(lo, _mm_slli_si128::<8>(mid));
    let hi = _mm_xor_si128(hi, _mm_srli_si128::<8>(mid));
    let poly = _mm_set_epi64x(0, 0xc200_0000_0000_0000_u64 as i64);
    let fold =
        |v: __m128i| _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(v), _mm_clmulepi64_si128::<0x00>(v, poly));
    _mm_xor_si128(hi, fold(fold(lo)))
}

/// Key of POLYVAL that makes it GHASH of byte-reversed blocks: x * reverse(H). Source: RFC 8452 appendix A.
pub(super) fn polyval_key(h: Block) -> Block {
    let v = u128::from_be_bytes(h);
    // x^128 = x^127 + x^126 + x^121 + 1; the choice is arithmetic, not a branch on the key.
    let carry = (v >> 127).wrapping_neg();
    (v << 1 ^ carry & 0xc200_0000_0000_0000_0000_0000_0000_0001).to_le_bytes()
}

/// First `N` powers of `h` under [`dot`]: `out[i]` = h^(i+1).
#[target_feature(enable = "pclmulqdq,sse4.1,ssse3")]
pub(super) fn powers<const N: usize>(h: Block) -> [Block; N] {
    let h = to_m128(h);
    let mut p = h;
    let mut out = [[0; 16]; N];
    for o in &mut out {
        *o = from_m128(p);
        p = dot(p, h);
    }
    out
}

/// AAD || data, zero padded, then lengths, through POLYVAL: the hash of a frame whose data is not ciphered. `reverse` takes the
/// blocks byte-reversed, as GHASH does.
///
/// Rare frames only (LCID 29): plain code, one block at a time.
#[target_feature(enable = "pclmulqdq,sse4.1,ssse3")]
pub(super) fn hash_clear(h: Block, last: Block, reverse: bool, aad: &[u8], data: &[u8]) -> Block {
    let order = |mut b: Block| {
        if reverse {
            b.reverse();
        }
        to_m128(b)
    };
    let mut y = _mm_setzero_si128();
    let mut block = [0u8; 16];
    let mut filled = 0;
    for octet in aad.iter().chain(data) {
        block[filled] = *octet;
        filled += 1;
        if filled == 16 {
            y = dot(_mm_xor_si128(y, order(block)), to_m128(h));
            (block, filled) = ([0; 16], 0);
        }
    }
    if filled > 0 {
        y = dot(_mm_xor_si128(y, order(block)), to_m128(h));
    }
    // Bits of associated data in the high half, none of ciphertext: the same value either way round.
    let bits = ((aad.len() + data.len()) as u128 * 8) << 64;
    y = dot(_mm_xor_si128(y, to_m128(bits.to_le_bytes())), to_m128(last));
    let mut out = from_m128(y);
    if reverse {
        out.reverse();
    }
    out
}

/// Octets as a register.
#[inline(always)]
pub(super) fn to_m128(b: Block) -> __m128i {
    // SAFETY: both are 16 octets without invalid values.
    unsafe { transmute::<Block, __m128i>(b) }
}

/// A register as octets.
#[inline(always)]
pub(super) fn from_m128(v: __m128i) -> Block {
    // SAFETY: both are 16 octets without invalid values.
    unsafe { transmute::<__m128i, Block>(v) }
}

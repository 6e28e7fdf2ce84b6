//! Integers of 1024 bits as sixteen 64-bit limbs, least significant first, in fixed time.
//!
//! Nothing here branches on, or indexes by, the value of a limb. Loops run over public lengths only.

use core::hint::black_box;

/// Limbs in a 1024-bit integer.
pub(crate) const LIMBS: usize = 16;

/// Octets in a 1024-bit integer.
pub(crate) const OCTETS: usize = 8 * LIMBS;

/// A 1024-bit integer, least significant limb first.
pub(crate) type Limbs = [u64; LIMBS];

/// A 2048-bit integer, least significant limb first: what a product fills before it is reduced.
pub(crate) type Wide = [u64; 2 * LIMBS];

/// `a + b + carry` as (low limb, carry 0 or 1).
#[inline(always)]
pub(crate) const fn adc(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let t = a as u128 + b as u128 + carry as u128;
    (t as u64, (t >> 64) as u64)
}

/// `a - b - borrow` as (low limb, borrow 0 or 1).
#[inline(always)]
pub(crate) const fn sbb(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let t = (a as u128).wrapping_sub(b as u128 + borrow as u128);
    (t as u64, (t >> 127) as u64)
}

/// `acc + a * b + carry` as (low limb, high limb); it cannot overflow 128 bits.
#[inline(always)]
pub(crate) const fn mac(acc: u64, a: u64, b: u64, carry: u64) -> (u64, u64) {
    let t = acc as u128 + (a as u128) * (b as u128) + carry as u128;
    (t as u64, (t >> 64) as u64)
}

/// All ones for 1, zero for 0. The value passes through a barrier so that the optimiser cannot learn that it is
/// one of two and turn the masking that follows into a branch.
#[inline(always)]
pub(crate) fn mask(bit: u64) -> u64 {
    black_box(0u64.wrapping_sub(bit))
}

/// `a + b` as (sum modulo 2^1024, carry).
#[inline(always)]
pub(crate) const fn add(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let mut out = [0; LIMBS];
    let mut carry = 0;
    let mut i = 0;
    while i < LIMBS {
        (out[i], carry) = adc(a[i], b[i], carry);
        i += 1;
    }
    (out, carry)
}

/// `a - b` as (difference modulo 2^1024, borrow).
#[inline(always)]
pub(crate) const fn sub(a: &Limbs, b: &Limbs) -> (Limbs, u64) {
    let mut out = [0; LIMBS];
    let mut borrow = 0;
    let mut i = 0;
    while i < LIMBS {
        (out[i], borrow) = sbb(a[i], b[i], borrow);
        i += 1;
    }
    (out, borrow)
}

/// `b` where `choose_b` is all ones, `a` where it is zero.
#[inline(always)]
pub(crate) fn select(a: &Limbs, b: &Limbs, choose_b: u64) -> Limbs {
    let mut out = [0; LIMBS];
    for i in 0..LIMBS {
        out[i] = a[i] ^ (choose_b & (a[i] ^ b[i]));
    }
    out
}

/// `(carry, a)` less `m` where that is not negative: brings a value below `2m` under `m`.
#[inline(always)]
pub(crate) fn subtract_once(a: &Limbs, carry: u64, m: &Limbs) -> Limbs {
    let (less, borrow) = sub(a, m);
    // Negative only if the subtraction borrowed and no carry stood above it.
    select(&less, a, mask(borrow & (carry ^ 1)))
}

/// 1 if `a` is zero, else 0.
#[inline(always)]
pub(crate) fn is_zero(a: &Limbs) -> u64 {
    let any = black_box(a.iter().fold(0, |acc, limb| acc | limb));
    ((any | any.wrapping_neg()) >> 63) ^ 1
}

/// Limbs in half of an integer: loops of this length are unrolled by the compiler, longer ones are not.
const HALF: usize = LIMBS / 2;

/// The square of an integer: the squares of its halves, and twice their product between.
#[inline(always)]
pub(crate) fn square_wide(a: &Limbs) -> Wide {
    let low: [u64; HALF] = core::array::from_fn(|i| a[i]);
    let high: [u64; HALF] = core::array::from_fn(|i| a[HALF + i]);
    let mut t = [0; 2 * LIMBS];
    t[..LIMBS].copy_from_slice(&square_half(&low));
    t[LIMBS..].copy_from_slice(&square_half(&high));
    let middle = multiply_halves(&low, &high);
    let (mut carry, mut shifted_out) = (0, 0);
    for i in 0..LIMBS {
        (t[HALF + i], carry) = adc(t[HALF + i], middle[i] << 1 | shifted_out, carry);
        shifted_out = middle[i] >> 63;
    }
    (t[HALF + LIMBS], carry) = adc(t[HALF + LIMBS], shifted_out, carry);
    for limb in &mut t[HALF + LIMBS + 1..] {
        (*limb, carry) = adc(*limb, 0, carry);
    }
    t
}

#[inline(always)]
fn multiply_halves(a: &[u64; HALF], b: &[u64; HALF]) -> Limbs {
    let mut t = [0; LIMBS];
    for i in 0..HALF {
        let mut carry = 0;
        for j in 0..HALF {
            (t[i + j], carry) = mac(t[i + j], a[j], b[i], carry);
        }
        t[i + HALF] = carry;
    }
    t
}

/// The square of half an integer: the products off the diagonal once, doubled, then the diagonal.
#[inline(always)]
fn square_half(a: &[u64; HALF]) -> Limbs {
    let mut t = [0; LIMBS];
    for i in 0..HALF - 1 {
        let mut carry = 0;
        for j in i + 1..HALF {
            (t[i + j], carry) = mac(t[i + j], a[j], a[i], carry);
        }
        t[i + HALF] = carry;
    }
    let (mut carry, mut shifted_out) = (0, 0);
    for i in 0..HALF {
        let diagonal = u128::from(a[i]) * u128::from(a[i]);
        let low = t[2 * i] << 1 | shifted_out;
        let high = t[2 * i + 1] << 1 | t[2 * i] >> 63;
        shifted_out = t[2 * i + 1] >> 63;
        (t[2 * i], carry) = adc(low, diagonal as u64, carry);
        (t[2 * i + 1], carry) = adc(high, (diagonal >> 64) as u64, carry);
    }
    t
}

/// Big-endian octets to limbs.
pub(crate) fn from_octets(octets: &[u8; OCTETS]) -> Limbs {
    let mut out = [0; LIMBS];
    for (limb, chunk) in out.iter_mut().rev().zip(octets.chunks_exact(8)) {
        *limb = chunk.iter().fold(0, |acc, &octet| (acc << 8) | u64::from(octet));
    }
    out
}

/// Limbs to big-endian octets.
pub(crate) fn to_octets(limbs: &Limbs) -> [u8; OCTETS] {
    let mut out = [0; OCTETS];
    for (chunk, limb) in out.chunks_exact_mut(8).zip(limbs.iter().rev()) {
        chunk.copy_from_slice(&limb.to_be_bytes());
    }
    out
}

//! Secret scalars as signed odd digits, so that every window of a multiplication does the same work.

use zeroize::Zeroize;

use super::curve::half;
use crate::field::limbs::{self, LIMBS, Limbs};
use crate::field::{Fq, ModQ, Modulus};

/// One digit of a recoded scalar: `-(2 * index + 1)` where `negative` is all ones, `2 * index + 1` where it is zero.
#[derive(Clone, Copy)]
pub(crate) struct Digit {
    /// Which odd multiple: the magnitude is `2 * index + 1`.
    pub(crate) index: u64,
    /// All ones for a negative digit, else zero.
    pub(crate) negative: u64,
}

/// A scalar k in 1..q-1, written as the sum of `digit_i * 2^(WIDTH * i)` with every digit odd and below `2^WIDTH`.
///
/// No digit is zero, so no window is skipped and the partial sums meet infinity only for a handful of scalars out of
/// 2^1022. An even k is replaced by q - k and the digits' signs are turned. With k odd,
/// `k' = (k + 2^(WIDTH * windows) - 1) / 2` has the windows `w_i` such that `digit_i = 2 w_i - (2^WIDTH - 1)`.
pub(crate) struct Recoded<const WIDTH: usize> {
    half: Limbs,
    turned: u64,
}

impl<const WIDTH: usize> Recoded<WIDTH> {
    /// The number of digits of every scalar.
    pub(crate) const WINDOWS: usize = 1022usize.div_ceil(WIDTH);

    /// Recodes a scalar, which must not be zero.
    pub(crate) fn new(scalar: &Fq) -> Self {
        let mut integer = scalar.to_integer();
        let (mut other, _) = limbs::sub(&ModQ::M, &integer);
        let even = limbs::mask((integer[0] & 1) ^ 1);
        let odd = limbs::select(&integer, &other, even);
        integer.zeroize();
        other.zeroize();
        Self { half: half(&odd), turned: even }
    }

    /// Digit `position`, counted from the least significant.
    #[inline]
    pub(crate) fn digit(&self, position: usize) -> Digit {
        let from = position * WIDTH;
        let low = self.half.get(from / 64).copied().unwrap_or(0) >> (from % 64);
        let straddles = from % 64 + WIDTH > 64;
        let high = self.half.get(from / 64 + 1).copied().unwrap_or(0);
        let mut window = if straddles { low | high << (64 - from % 64) } else { low };
        if position + 1 == Self::WINDOWS {
            window |= 1 << (WIDTH - 1); // the 2^(WIDTH * windows) of k'
        }
        let top = window >> (WIDTH - 1) & 1;
        let negative = limbs::mask(top ^ 1);
        let index = (window ^ negative) & ((1 << (WIDTH - 1)) - 1);
        Digit { index, negative: negative ^ self.turned }
    }
}

impl<const WIDTH: usize> Drop for Recoded<WIDTH> {
    fn drop(&mut self) {
        self.half.zeroize();
        self.turned.zeroize();
    }
}

/// All ones where `a == b`, else zero, for small indices.
#[inline(always)]
pub(crate) fn equal_mask(a: u64, b: u64) -> u64 {
    let different = a ^ b;
    limbs::mask(((different | different.wrapping_neg()) >> 63) ^ 1)
}

/// Reduces a 1024-bit integer modulo q in fixed time: 2^1024 is under 8q, so 4q, 2q and q are taken off once each.
pub(crate) fn reduce_mod_q(integer: &Limbs) -> Fq {
    let mut value = *integer;
    for shift in [2, 1, 0] {
        let mut multiple = ModQ::M;
        for _ in 0..shift {
            (multiple, _) = limbs::add(&multiple, &multiple);
        }
        value = limbs::subtract_once(&value, 0, &multiple);
    }
    let reduced = Fq::from_integer(&value);
    value.zeroize();
    reduced
}

/// A scalar, uniform but for a bias under 2^-128, from 144 random octets. Zero is as unlikely as any other value.
pub(crate) fn from_wide_octets(octets: &[u8; 144]) -> Fq {
    // high * 2^1024 + low, with high of 128 bits.
    let mut high = [0u64; LIMBS];
    for (limb, chunk) in high.iter_mut().zip(octets[..16].chunks_exact(8)) {
        *limb = chunk.iter().fold(0, |acc, &octet| (acc << 8) | u64::from(octet));
    }
    let mut low = [0; limbs::OCTETS];
    low.copy_from_slice(&octets[16..]);
    // R = 2^1024 mod q is the Montgomery form of one, hence an integer at hand.
    let r = Fq::from_integer(&ModQ::ONE);
    let scalar = Fq::from_integer(&high) * r + reduce_mod_q(&limbs::from_octets(&low));
    high.zeroize();
    low.zeroize();
    scalar
}

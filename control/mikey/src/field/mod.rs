//! Fixed-time modular arithmetic for SAKKE: the field F_p of the curve, the scalars modulo q, and F_p2.
//!
//! Values are kept in Montgomery form (`x * 2^1024 mod m`), always fully reduced, so that equality is equality of
//! limbs. No operation branches on a value or looks anything up by it; exponents and window positions are public.

pub(crate) mod fp2;
pub(crate) mod limbs;

use core::marker::PhantomData;
use core::ops::{Add, Mul, Neg, Sub};

use limbs::{LIMBS, Limbs, OCTETS, Wide};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// An odd modulus above 2^1016 and the constants of its Montgomery form.
pub(crate) trait Modulus: Copy + 'static {
    /// The modulus.
    const M: Limbs;
    /// `-M^-1 mod 2^64`.
    const NEG_INV: u64 = neg_inverse(Self::M[0]);
    /// `2^1024 mod M`: one in Montgomery form.
    const ONE: Limbs = power_of_two_mod(1024, &Self::M);
    /// `2^2048 mod M`: carries a value into Montgomery form.
    const R2: Limbs = power_of_two_mod(2048, &Self::M);
}

/// p of parameter set 1 (RFC 6509 Appendix A): 1024 bits, p = 3 mod 4.
#[derive(Clone, Copy)]
pub(crate) struct ModP;

impl Modulus for ModP {
    const M: Limbs = P;
}

/// q of parameter set 1 (RFC 6509 Appendix A): 1022 bits, p + 1 = 4q.
#[derive(Clone, Copy)]
pub(crate) struct ModQ;

impl Modulus for ModQ {
    const M: Limbs = Q;
}

/// An element of F_p.
pub(crate) type Fp = Residue<ModP>;

/// A scalar: an integer modulo the order q.
pub(crate) type Fq = Residue<ModQ>;

/// An integer modulo `M`, in Montgomery form, below `M`.
#[derive(Clone, Copy)]
pub(crate) struct Residue<M: Modulus> {
    mont: Limbs,
    modulus: PhantomData<M>,
}

impl<M: Modulus> Residue<M> {
    /// Zero.
    pub(crate) const ZERO: Self = Self::from_mont([0; LIMBS]);
    /// One.
    pub(crate) const ONE: Self = Self::from_mont(M::ONE);

    const fn from_mont(mont: Limbs) -> Self {
        Self { mont, modulus: PhantomData }
    }

    /// From an integer, which must be below the modulus (the caller has checked, or knows).
    pub(crate) fn from_integer(integer: &Limbs) -> Self {
        Self::from_mont(*integer) * Self::from_mont(M::R2)
    }

    /// The integer below the modulus.
    pub(crate) fn to_integer(self) -> Limbs {
        let mut wide = [0; 2 * LIMBS];
        wide[..LIMBS].copy_from_slice(&self.mont);
        reduce::<M>(&wide)
    }

    /// From 128 big-endian octets; nothing if the integer is not below the modulus. Whether it was is not a secret.
    pub(crate) fn from_octets(octets: &[u8; OCTETS]) -> Option<Self> {
        let integer = limbs::from_octets(octets);
        let (_, borrow) = limbs::sub(&integer, &M::M);
        (borrow == 1).then(|| Self::from_integer(&integer))
    }

    /// 128 big-endian octets.
    pub(crate) fn to_octets(self) -> [u8; OCTETS] {
        limbs::to_octets(&self.to_integer())
    }

    /// The square.
    #[inline]
    pub(crate) fn square(&self) -> Self {
        *self * *self
    }

    /// Twice the value.
    #[inline]
    pub(crate) fn double(&self) -> Self {
        *self + *self
    }

    /// The value to a public power, given as an integer: the sequence of operations depends on `exponent`.
    pub(crate) fn pow_public(&self, exponent: &Limbs) -> Self {
        let mut powers = [Self::ONE; 16];
        for i in 1..16 {
            powers[i] = powers[i - 1] * *self;
        }
        let mut acc = Self::ONE;
        for limb in exponent.iter().rev() {
            for nibble in (0..16).rev() {
                for _ in 0..4 {
                    acc = acc.square();
                }
                let digit = (limb >> (4 * nibble)) as usize & 15;
                if digit != 0 {
                    acc = acc * powers[digit];
                }
            }
        }
        acc
    }

    /// The inverse; zero for zero. By Fermat, as the moduli are prime: fixed time.
    pub(crate) fn invert(&self) -> Self {
        let mut exponent = M::M;
        exponent[0] -= 2; // both moduli end in an odd limb above 2
        self.pow_public(&exponent)
    }

    /// `b` where `choose_b` is all ones, `a` where it is zero.
    #[inline]
    pub(crate) fn select(a: &Self, b: &Self, choose_b: u64) -> Self {
        Self::from_mont(limbs::select(&a.mont, &b.mont, choose_b))
    }

    /// The negative where `choose` is all ones.
    #[inline]
    pub(crate) fn negate_if(&self, choose: u64) -> Self {
        Self::select(self, &-*self, choose)
    }

    /// 1 if zero, else 0.
    pub(crate) fn is_zero(&self) -> u64 {
        limbs::is_zero(&self.mont)
    }

    /// `a * b + c * d` with one reduction.
    #[inline]
    pub(crate) fn sum_of_products(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        *a * *b + *c * *d
    }

    /// `a * b - c * d` with one reduction.
    #[inline]
    pub(crate) fn difference_of_products(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        *a * *b - *c * *d
    }

    /// Inverts every element of `values` in place with one inversion and three products each. Zeros stay zero and do
    /// not disturb the rest.
    pub(crate) fn invert_all(values: &mut [Self]) {
        let mut prefix = Vec::with_capacity(values.len());
        let mut acc = Self::ONE;
        for value in values.iter() {
            prefix.push(acc);
            acc = acc * Self::select(value, &Self::ONE, limbs::mask(value.is_zero()));
        }
        let mut inverse = acc.invert();
        for (value, &before) in values.iter_mut().zip(&prefix).rev() {
            let zero = limbs::mask(value.is_zero());
            let next = inverse * Self::select(value, &Self::ONE, zero);
            *value = Self::select(&(inverse * before), &Self::ZERO, zero);
            inverse = next;
        }
        prefix.zeroize();
    }
}

impl<M: Modulus> Add for Residue<M> {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let (sum, carry) = limbs::add(&self.mont, &other.mont);
        Self::from_mont(limbs::subtract_once(&sum, carry, &M::M))
    }
}

impl<M: Modulus> Sub for Residue<M> {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        let (difference, borrow) = limbs::sub(&self.mont, &other.mont);
        let back = limbs::mask(borrow);
        let mut correction = M::M;
        for limb in &mut correction {
            *limb &= back;
        }
        Self::from_mont(limbs::add(&difference, &correction).0)
    }
}

impl<M: Modulus> Neg for Residue<M> {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl<M: Modulus> Mul for Residue<M> {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        multiply::<M>(&self, &other)
    }
}

impl<M: Modulus> ConstantTimeEq for Residue<M> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.mont.ct_eq(&other.mont)
    }
}

impl<M: Modulus> Zeroize for Residue<M> {
    fn zeroize(&mut self) {
        self.mont.zeroize();
    }
}

#[inline(never)]
fn multiply<M: Modulus>(a: &Residue<M>, b: &Residue<M>) -> Residue<M> {
    Residue::from_mont(reduce::<M>(&limbs::mul_wide(&a.mont, &b.mont)))
}

/// Montgomery reduction of `wide < M * 2^1024`: `wide / 2^1024 mod M`, below `M`.
#[inline(always)]
fn reduce<M: Modulus>(wide: &Wide) -> Limbs {
    let mut t = *wide;
    let mut above = 0;
    for i in 0..LIMBS {
        let factor = t[i].wrapping_mul(M::NEG_INV);
        let mut carry = 0;
        for j in 0..LIMBS {
            (t[i + j], carry) = limbs::mac(t[i + j], factor, M::M[j], carry);
        }
        (t[i + LIMBS], above) = limbs::adc(t[i + LIMBS], carry, above);
    }
    let mut high = [0; LIMBS];
    high.copy_from_slice(&t[LIMBS..]);
    limbs::subtract_once(&high, above, &M::M)
}

/// `-m^-1 mod 2^64` for odd `m`, by Newton's iteration.
const fn neg_inverse(m: u64) -> u64 {
    let mut inverse = 1u64;
    let mut i = 0;
    while i < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(inverse)));
        i += 1;
    }
    inverse.wrapping_neg()
}

/// `2^exponent mod m`, by doubling: run by the compiler only.
const fn power_of_two_mod(exponent: usize, m: &Limbs) -> Limbs {
    let mut acc = [0; LIMBS];
    acc[0] = 1;
    let mut i = 0;
    while i < exponent {
        let (twice, carry) = limbs::add(&acc, &acc);
        let (less, borrow) = limbs::sub(&twice, m);
        acc = if carry == 1 || borrow == 0 { less } else { twice };
        i += 1;
    }
    acc
}

const P: Limbs = [
    0x666d_807a_fea8_5feb,
    0x80c5_df10_ac7a_ce87,
    0xfce3_e823_8985_7db0,
    0x9f94_d6af_5697_1f1f,
    0xa7cf_3c52_1c3c_09aa,
    0xb6af_f4a8_3185_2a82,
    0x512a_c5cd_6568_1ce1,
    0xe26c_6487_326b_4cd4,
    0x356d_27f4_a666_a6d0,
    0xe791_b39f_f7c8_8a19,
    0x2287_30d5_31a5_9cb0,
    0xf40a_ab27_e2fc_0f1b,
    0xbe9a_e358_b3e0_1a2e,
    0x416c_0ce1_9cb4_8261,
    0x65c6_1198_dad0_657a,
    0x997a_bb1f_0a56_3fda,
];

const Q: Limbs = [
    0xd99b_601e_bfaa_17fb,
    0x2031_77c4_2b1e_b3a1,
    0xff38_fa08_e261_5f6c,
    0xa7e5_35ab_d5a5_c7c7,
    0xa9f3_cf14_870f_026a,
    0x6dab_fd2a_0c61_4aa0,
    0x144a_b173_595a_0738,
    0x389b_1921_cc9a_d335,
    0x4d5b_49fd_2999_a9b4,
    0x39e4_6ce7_fdf2_2286,
    0xc8a1_cc35_4c69_672c,
    0xbd02_aac9_f8bf_03c6,
    0x6fa6_b8d6_2cf8_068b,
    0x905b_0338_672d_2098,
    0x9971_8466_36b4_195e,
    0x265e_aec7_c295_8ff6,
];

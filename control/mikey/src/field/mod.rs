//! Fixed-time modular arithmetic for SAKKE: the field F_p of the curve, the scalars modulo q, and F_p2.
//!
//! Values are kept in Montgomery form (`x * 2^1024 mod m`), always fully reduced, so that equality is equality of
//! limbs. No operation branches on a value or looks anything up by it; exponents and window positions are public.

pub(crate) mod fp2;
mod invert;
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
    /// `2^3072 mod M`: carries the inverse of a Montgomery form into Montgomery form.
    const R3: Limbs = power_of_two_mod(3072, &Self::M);
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
        square(self)
    }

    /// Twice the value.
    #[inline]
    pub(crate) fn double(&self) -> Self {
        *self + *self
    }

    /// The inverse; zero for zero.
    pub(crate) fn invert(&self) -> Self {
        let inverse = invert::invert(&self.mont, &M::M, M::NEG_INV.wrapping_neg());
        Self::from_mont(inverse) * Self::from_mont(M::R3)
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
        multiply_add(a, b, c, d)
    }

    /// `a * b - c * d` with one reduction.
    #[inline]
    pub(crate) fn difference_of_products(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        multiply_add(a, b, &-*c, d)
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
        let correction = limbs::select(&[0; LIMBS], &M::M, limbs::mask(borrow));
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

/// `a * b`: product and reduction limb by limb, so that only one row is held.
#[inline(never)]
fn multiply<M: Modulus>(a: &Residue<M>, b: &Residue<M>) -> Residue<M> {
    let (a, b) = (&a.mont, &b.mont);
    // (above, t) < 2M after every round.
    let mut t = [0; LIMBS];
    let mut above = 0;
    for &by in b {
        let mut carry = 0;
        for j in 0..LIMBS {
            (t[j], carry) = limbs::mac(t[j], a[j], by, carry);
        }
        let (over, over_carry) = limbs::adc(above, carry, 0);
        let factor = t[0].wrapping_mul(M::NEG_INV);
        let (_, mut carry) = limbs::mac(t[0], factor, M::M[0], 0);
        for j in 1..LIMBS {
            (t[j - 1], carry) = limbs::mac(t[j], factor, M::M[j], carry);
        }
        (t[LIMBS - 1], carry) = limbs::adc(over, carry, 0);
        above = over_carry + carry;
    }
    Residue::from_mont(limbs::subtract_once(&t, above, &M::M))
}

/// `a * b + c * d` with one reduction.
#[inline(never)]
fn multiply_add<M: Modulus>(a: &Residue<M>, b: &Residue<M>, c: &Residue<M>, d: &Residue<M>) -> Residue<M> {
    let (a, b, c, d) = (&a.mont, &b.mont, &c.mont, &d.mont);
    // (above, t) < 3M < 2^1025 after every round: a round takes (t + (a + c) 2^64 + M 2^64) / 2^64.
    let mut t = [0; LIMBS];
    let mut above = 0;
    for i in 0..LIMBS {
        let (first, mut carry_ab) = limbs::mac(t[0], a[0], b[i], 0);
        let (first, mut carry_cd) = limbs::mac(first, c[0], d[i], 0);
        let factor = first.wrapping_mul(M::NEG_INV);
        let (_, mut carry) = limbs::mac(first, factor, M::M[0], 0);
        for j in 1..LIMBS {
            let mut limb;
            (limb, carry_ab) = limbs::mac(t[j], a[j], b[i], carry_ab);
            (limb, carry_cd) = limbs::mac(limb, c[j], d[i], carry_cd);
            (t[j - 1], carry) = limbs::mac(limb, factor, M::M[j], carry);
        }
        let top = u128::from(carry_ab) + u128::from(carry_cd) + u128::from(carry) + u128::from(above);
        t[LIMBS - 1] = top as u64;
        above = (top >> 64) as u64;
    }
    // The result is under (2 M / 2^1024 + 1) M < 2.2 M: M may go twice.
    let (less, borrow) = limbs::sub(&t, &M::M);
    let keep = borrow & (above ^ 1);
    let t = limbs::select(&less, &t, limbs::mask(keep));
    let above = above.wrapping_sub(borrow & (keep ^ 1));
    Residue::from_mont(limbs::subtract_once(&t, above, &M::M))
}

/// `a * a`.
#[inline(never)]
fn square<M: Modulus>(a: &Residue<M>) -> Residue<M> {
    Residue::from_mont(reduce::<M>(&limbs::square_wide(&a.mont)))
}

/// Montgomery reduction of `wide < M * 2^1024`: `wide / 2^1024 mod M`, below `M`.
#[inline(always)]
fn reduce<M: Modulus>(wide: &Wide) -> Limbs {
    let (low, high) = wide.split_at(LIMBS);
    let mut t = [0; LIMBS];
    t.copy_from_slice(low);
    let mut above = 0;
    for &entering in high {
        let factor = t[0].wrapping_mul(M::NEG_INV);
        let (_, mut carry) = limbs::mac(t[0], factor, M::M[0], 0);
        for j in 1..LIMBS {
            (t[j - 1], carry) = limbs::mac(t[j], factor, M::M[j], carry);
        }
        (t[LIMBS - 1], above) = limbs::adc(entering, carry, above);
    }
    limbs::subtract_once(&t, above, &M::M)
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

#[cfg(test)]
mod tests {
    //! Against `crypto-bigint`, over random values and over the edges where carries and final subtractions happen.

    use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
    use crypto_bigint::{NonZero, Odd, U1024};
    use proptest::prelude::*;

    use super::*;

    fn wide(limbs: &Limbs) -> U1024 {
        U1024::from_words(*limbs)
    }

    fn oracle<M: Modulus>(value: &Limbs) -> FixedMontyForm<16> {
        let modulus: Odd<U1024> = Odd::new(wide(&M::M)).unwrap();
        FixedMontyForm::new(&wide(value), &FixedMontyParams::new(modulus))
    }

    /// Any 1024-bit integer brought under the modulus; limbs of all ones and of zeros are frequent.
    fn below<M: Modulus>() -> impl Strategy<Value = Limbs> {
        let limb = prop_oneof![Just(0), Just(u64::MAX), Just(1), any::<u64>(), any::<u64>()];
        let any_integer = proptest::array::uniform16(limb);
        let near_modulus = (0u64..4).prop_map(|less| {
            let mut integer = M::M;
            integer[0] -= less + 1;
            integer
        });
        prop_oneof![
            any_integer.prop_map(|integer| {
                let modulus = NonZero::new(wide(&M::M)).unwrap();
                wide(&integer).rem_vartime(&modulus).to_words()
            }),
            near_modulus,
            (0u64..4).prop_map(|small| {
                let mut integer = [0; LIMBS];
                integer[0] = small;
                integer
            }),
        ]
    }

    fn check<M: Modulus>(a: &Limbs, b: &Limbs, c: &Limbs, d: &Limbs) {
        let [fa, fb, fc, fd] = [a, b, c, d].map(Residue::<M>::from_integer);
        let [oa, ob, oc, od] = [a, b, c, d].map(oracle::<M>);
        let same = |ours: Residue<M>, theirs: FixedMontyForm<16>| {
            assert_eq!(ours.to_integer(), theirs.retrieve().to_words());
            // Fully reduced: equality of limbs is equality.
            assert_eq!(limbs::sub(&ours.mont, &M::M).1, 1);
        };
        same(fa, oa);
        same(fa + fb, oa + ob);
        same(fa - fb, oa - ob);
        same(-fa, -oa);
        same(fa.double(), oa + oa);
        same(fa * fb, oa * ob);
        same(fa.square(), oa * oa);
        same(Residue::sum_of_products(&fa, &fb, &fc, &fd), oa * ob + oc * od);
        same(Residue::difference_of_products(&fa, &fb, &fc, &fd), oa * ob - oc * od);
        assert_eq!(fa.is_zero(), u64::from(*a == [0; LIMBS]));
        assert_eq!(bool::from(fa.ct_eq(&fb)), a == b);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn arithmetic_modulo_p_is_that_of_the_oracle(
            a in below::<ModP>(), b in below::<ModP>(), c in below::<ModP>(), d in below::<ModP>()
        ) {
            check::<ModP>(&a, &b, &c, &d);
        }

        #[test]
        fn arithmetic_modulo_q_is_that_of_the_oracle(
            a in below::<ModQ>(), b in below::<ModQ>(), c in below::<ModQ>(), d in below::<ModQ>()
        ) {
            check::<ModQ>(&a, &b, &c, &d);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_inverse_is_that_of_the_oracle(a in below::<ModP>(), b in below::<ModQ>()) {
            let theirs = |inverse: Option<FixedMontyForm<16>>| inverse.map_or([0; LIMBS], |i| i.retrieve().to_words());
            prop_assert_eq!(Fp::from_integer(&a).invert().to_integer(), theirs(oracle::<ModP>(&a).invert().into()));
            prop_assert_eq!(Fq::from_integer(&b).invert().to_integer(), theirs(oracle::<ModQ>(&b).invert().into()));
        }

        #[test]
        fn the_inverse_gives_one(a in below::<ModP>(), b in below::<ModQ>()) {
            let a = Fp::from_integer(&a);
            let expected = if a.is_zero() == 1 { Fp::ZERO } else { Fp::ONE };
            prop_assert_eq!((a * a.invert()).to_integer(), expected.to_integer());
            let b = Fq::from_integer(&b);
            let expected = if b.is_zero() == 1 { Fq::ZERO } else { Fq::ONE };
            prop_assert_eq!((b * b.invert()).to_integer(), expected.to_integer());
        }

        #[test]
        fn a_batch_of_inverses_is_each_of_them(values in proptest::collection::vec(below::<ModP>(), 0..6)) {
            let values: Vec<Fp> = values.iter().map(Fp::from_integer).collect();
            let mut batch = values.clone();
            Fp::invert_all(&mut batch);
            for (value, inverse) in values.iter().zip(&batch) {
                prop_assert_eq!(value.invert().to_integer(), inverse.to_integer());
            }
        }

        #[test]
        fn octets_come_back(a in below::<ModP>()) {
            let value = Fp::from_integer(&a);
            prop_assert_eq!(Fp::from_octets(&value.to_octets()).unwrap().to_integer(), a);
        }
    }

    #[test]
    fn the_modulus_itself_is_no_element() {
        assert!(Fp::from_octets(&limbs::to_octets(&ModP::M)).is_none());
        assert!(Fp::from_octets(&[0xff; OCTETS]).is_none());
        assert!(Fq::from_octets(&limbs::to_octets(&ModQ::M)).is_none());
        let (p_plus_1, _) = limbs::add(&limbs::add(&ModQ::M, &ModQ::M).0, &limbs::add(&ModQ::M, &ModQ::M).0);
        assert_eq!(limbs::sub(&p_plus_1, &ModP::M).0, {
            let mut one = [0; LIMBS];
            one[0] = 1;
            one
        });
    }
}

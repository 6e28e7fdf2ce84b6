//! The field of P-256 in four limbs, Montgomery form, always fully reduced.

use core::ops::{Add, Mul, Neg, Sub};

use crate::field::limbs::{adc, mac, sbb};

/// p = 2^256 - 2^224 + 2^192 + 2^96 - 1, least significant limb first. `-p^-1 mod 2^64` is 1.
const P: [u64; 4] = [u64::MAX, 0xffff_ffff, 0, 0xffff_ffff_0000_0001];
/// 2^512 mod p: carries an integer into Montgomery form.
const R2: Element = Element([3, 0xffff_fffb_ffff_ffff, 0xffff_ffff_ffff_fffe, 0x4_ffff_fffd]);

/// An element of the field, times 2^256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::eccsi) struct Element([u64; 4]);

impl Element {
    /// Zero.
    pub(super) const ZERO: Self = Self([0; 4]);
    /// One: 2^256 mod p.
    pub(super) const ONE: Self = Self([1, 0xffff_ffff_0000_0000, u64::MAX, 0xffff_fffe]);

    /// From 32 big-endian octets; nothing if the integer is not below p.
    pub(super) fn from_octets(octets: &[u8; 32]) -> Option<Self> {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().rev().zip(octets.chunks_exact(8)) {
            *limb = chunk.iter().fold(0, |acc, &octet| (acc << 8) | u64::from(octet));
        }
        let (_, borrow) = subtract(&limbs, &P);
        (borrow == 1).then(|| Self(limbs) * R2)
    }

    #[inline]
    pub(super) fn square(self) -> Self {
        let a = &self.0;
        // Products off the diagonal, doubled, then the diagonal.
        let mut t = [0; 8];
        let mut carry;
        (t[1], carry) = mac(0, a[0], a[1], 0);
        (t[2], carry) = mac(0, a[0], a[2], carry);
        (t[3], t[4]) = mac(0, a[0], a[3], carry);
        (t[3], carry) = mac(t[3], a[1], a[2], 0);
        (t[4], t[5]) = mac(t[4], a[1], a[3], carry);
        (t[5], t[6]) = mac(t[5], a[2], a[3], 0);
        t[7] = t[6] >> 63;
        for i in (2..7).rev() {
            t[i] = t[i] << 1 | t[i - 1] >> 63;
        }
        t[1] <<= 1;
        let mut carry = 0;
        for i in 0..4 {
            let diagonal = u128::from(a[i]) * u128::from(a[i]);
            (t[2 * i], carry) = adc(t[2 * i], diagonal as u64, carry);
            (t[2 * i + 1], carry) = adc(t[2 * i + 1], (diagonal >> 64) as u64, carry);
        }
        let mut low = [t[0], t[1], t[2], t[3]];
        let mut above = 0;
        for &entering in &t[4..] {
            (low, above) = reduce_limb(&low, entering, above);
        }
        subtract_once(&low, above)
    }

    #[inline]
    pub(super) fn double(self) -> Self {
        self + self
    }

    /// The inverse, by Fermat's theorem: the power p - 2. Zero for zero.
    pub(super) fn invert(self) -> Self {
        let mut exponent = P;
        exponent[0] -= 2;
        let mut out = Self::ONE;
        for bit in (0..256).rev() {
            out = out.square();
            if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
                out = out * self;
            }
        }
        out
    }
}

impl Add for Element {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let (sum, carry) = add(&self.0, &other.0);
        subtract_once(&sum, carry)
    }
}

impl Sub for Element {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        let (difference, borrow) = subtract(&self.0, &other.0);
        Self(add(&difference, &where_set(&P, borrow)).0)
    }
}

impl Neg for Element {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl Mul for Element {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        let a = &self.0;
        // (above, t) < 2p after every round.
        let mut t = [0; 4];
        let mut above = 0;
        for &by in &other.0 {
            let mut carry = 0;
            for j in 0..4 {
                (t[j], carry) = mac(t[j], a[j], by, carry);
            }
            (t, above) = reduce_limb(&t, carry, above);
        }
        subtract_once(&t, above)
    }
}

/// `(above, entering, t) + t[0] p`, over 2^64: the lowest limb vanishes.
#[inline(always)]
fn reduce_limb(t: &[u64; 4], entering: u64, above: u64) -> ([u64; 4], u64) {
    let factor = t[0];
    // t[0] + factor (2^64 - 1) = factor 2^64.
    let (t0, carry) = mac(t[1], factor, P[1], factor);
    let (t1, carry) = adc(t[2], carry, 0);
    let (t2, carry) = mac(t[3], factor, P[3], carry);
    let (t3, above) = adc(entering, carry, above);
    ([t0, t1, t2, t3], above)
}

/// `(carry, a)`, below 2p, brought below p.
#[inline(always)]
fn subtract_once(a: &[u64; 4], carry: u64) -> Element {
    let (less, borrow) = subtract(a, &P);
    let keep = 0u64.wrapping_sub(borrow & (carry ^ 1));
    Element(core::array::from_fn(|i| (a[i] & keep) | (less[i] & !keep)))
}

/// `a` where the bit is 1, zero where it is 0.
#[inline(always)]
fn where_set(a: &[u64; 4], bit: u64) -> [u64; 4] {
    a.map(|limb| limb & 0u64.wrapping_sub(bit))
}

/// `a + b` as (sum modulo 2^256, carry).
#[inline(always)]
fn add(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], u64) {
    let mut out = [0; 4];
    let mut carry = 0;
    for i in 0..4 {
        (out[i], carry) = adc(a[i], b[i], carry);
    }
    (out, carry)
}

/// `a - b` as (difference modulo 2^256, borrow).
#[inline(always)]
fn subtract(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], u64) {
    let mut out = [0; 4];
    let mut borrow = 0;
    for i in 0..4 {
        (out[i], borrow) = sbb(a[i], b[i], borrow);
    }
    (out, borrow)
}

#[cfg(test)]
mod tests {
    //! Against `crypto-bigint`, over random values and over the edges where carries and final subtractions happen.

    use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
    use crypto_bigint::{NonZero, Odd, U256};
    use proptest::prelude::*;

    use super::*;

    fn oracle(value: &[u64; 4]) -> FixedMontyForm<4> {
        let modulus: Odd<U256> = Odd::new(U256::from_words(P)).unwrap();
        FixedMontyForm::new(&U256::from_words(*value), &FixedMontyParams::new(modulus))
    }

    fn integer(value: Element) -> [u64; 4] {
        (value * Element([1, 0, 0, 0])).0
    }

    fn below_p() -> impl Strategy<Value = [u64; 4]> {
        let limb = prop_oneof![Just(0), Just(u64::MAX), Just(1), any::<u64>(), any::<u64>()];
        let reduced = proptest::array::uniform4(limb).prop_map(|limbs| {
            let modulus = NonZero::new(U256::from_words(P)).unwrap();
            U256::from_words(limbs).rem_vartime(&modulus).to_words()
        });
        let near = (0u64..4).prop_map(|less| [P[0] - less - 1, P[1], P[2], P[3]]);
        prop_oneof![4 => reduced, 1 => near]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn arithmetic_is_that_of_the_oracle(a in below_p(), b in below_p()) {
            let (x, y) = (Element(a) * R2, Element(b) * R2);
            let (ox, oy) = (oracle(&a), oracle(&b));
            for (ours, theirs) in [
                (x, ox), (x + y, ox + oy), (x - y, ox - oy), (-x, -ox), (x.double(), ox + ox), (x * y, ox * oy),
                (x.square(), ox * ox), (y.square(), oy * oy),
            ] {
                prop_assert_eq!(integer(ours), theirs.retrieve().to_words());
                // Fully reduced: equality of limbs is equality.
                prop_assert_eq!(subtract(&ours.0, &P).1, 1);
            }
        }

        #[test]
        fn octets_are_read(a in below_p()) {
            let octets: [u8; 32] = core::array::from_fn(|i| (a[3 - i / 8] >> (56 - 8 * (i % 8))) as u8);
            prop_assert_eq!(integer(Element::from_octets(&octets).unwrap()), a);
        }
    }

    #[test]
    fn constants_and_edges_are_right() {
        assert_eq!(integer(Element::ONE), [1, 0, 0, 0]);
        let mut modulus = [0; 32];
        for (octets, limb) in modulus.chunks_exact_mut(8).zip(P.iter().rev()) {
            octets.copy_from_slice(&limb.to_be_bytes());
        }
        assert_eq!(Element::from_octets(&modulus), None, "p itself");
        assert_eq!(Element::from_octets(&[0xff; 32]), None);
        assert_eq!(Element::from_octets(&[0; 32]), Some(Element::ZERO));
        let three = Element::ONE.double() + Element::ONE;
        assert_eq!(three * three.invert(), Element::ONE);
        assert_eq!(Element::ZERO.invert(), Element::ZERO);
    }
}

//! Points of E: y^2 = x^3 - 3x over F_p, a cyclic group of order 4q. Source: RFC 6509 Appendix A.
//!
//! Two coordinate systems: affine for what is stored and sent, Jacobian (`x = X/Z^2`, `y = Y/Z^3`) for what is being
//! computed; `Z = 0` is the point at infinity. The formulas take a fixed time. [`Jacobian::add_affine`] and
//! [`Jacobian::add`] are incomplete: equal operands, opposite operands and infinity give `Z = 0`; the callers say why
//! that cannot happen to them, or check the result.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::params;
use crate::field::limbs::{self, Limbs, OCTETS};
use crate::field::{Fp, ModQ, Modulus};

/// Octets of an encoded point: 04 || x || y.
pub(crate) const POINT_OCTETS: usize = 1 + 2 * OCTETS;

/// A point other than infinity.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) x: Fp,
    pub(crate) y: Fp,
}

/// Why an octet string is no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointError {
    /// Not 257 octets.
    Length,
    /// The first octet is not 04.
    Form,
    /// A coordinate is not below p.
    Coordinate,
    /// The curve's equation does not hold.
    OffCurve,
}

impl Affine {
    /// The base point P.
    pub(crate) fn base() -> Self {
        Self { x: Fp::from_integer(&params::PX), y: Fp::from_integer(&params::PY) }
    }

    /// Decodes 04 || x || y and checks that the point is on the curve; its order is not checked.
    pub(crate) fn from_octets(octets: &[u8]) -> Result<Self, PointError> {
        let octets: &[u8; POINT_OCTETS] = octets.try_into().map_err(|_| PointError::Length)?;
        let Some((4, coordinates)) = octets.split_first().map(|(form, rest)| (*form, rest)) else {
            return Err(PointError::Form);
        };
        let (x, y) = coordinates.split_at(OCTETS);
        let read = |part: &[u8]| part.try_into().ok().and_then(Fp::from_octets).ok_or(PointError::Coordinate);
        let point = Self { x: read(x)?, y: read(y)? };
        if point.on_curve() { Ok(point) } else { Err(PointError::OffCurve) }
    }

    /// 04 || x || y.
    pub(crate) fn to_octets(self) -> [u8; POINT_OCTETS] {
        let mut out = [4; POINT_OCTETS];
        out[1..=OCTETS].copy_from_slice(&self.x.to_octets());
        out[OCTETS + 1..].copy_from_slice(&self.y.to_octets());
        out
    }

    /// y^2 = x^3 - 3x.
    fn on_curve(&self) -> bool {
        let three = Fp::ONE.double() + Fp::ONE;
        self.y.square().ct_eq(&((self.x.square() - three) * self.x)).into()
    }

    /// Whether the order is exactly q (the only divisors of q are 1 and q, and infinity has no affine form). Fixed time:
    /// the loop runs over the bits of q.
    pub(crate) fn has_order_q(&self) -> bool {
        // (q - 1)R = -R, without touching infinity when R has order q. A point of another order gives anything else,
        // and Z = 0 where the formulas met infinity on the way.
        let mut acc = Jacobian::from(*self);
        for bit in (1..bit_length(&ModQ::M) - 1).rev() {
            acc = acc.double();
            if bit_of(&ModQ::M, bit) {
                acc = acc.add_affine(self);
            }
        }
        let acc = acc.double();
        let minus = Self { x: self.x, y: -self.y };
        acc.equals_affine(&minus)
    }

    /// The negative where `choose` is all ones.
    #[inline]
    pub(crate) fn negate_if(&self, choose: u64) -> Self {
        Self { x: self.x, y: self.y.negate_if(choose) }
    }

    /// Adds to each of `points` its addend, with one inversion for all of them: about six products an addition where
    /// Jacobian coordinates take eleven. Returns 1, and leaves useless points, if any two were equal or
    /// opposite; else 0.
    pub(crate) fn add_each(points: &mut [Self], addends: &[Self]) -> u64 {
        let mut inverses: Vec<Fp> =
            points.iter().zip(addends).map(|(point, addend)| addend.x - point.x).collect();
        let unusable = inverses.iter().fold(0, |any, difference| any | difference.is_zero());
        Fp::invert_all(&mut inverses);
        for ((point, addend), inverse) in points.iter_mut().zip(addends).zip(&inverses) {
            let slope = (addend.y - point.y) * *inverse;
            let x = slope.square() - point.x - addend.x;
            point.y = slope * (point.x - x) - point.y;
            point.x = x;
        }
        inverses.zeroize();
        unusable
    }
}

impl Zeroize for Affine {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
    }
}

/// A point in Jacobian coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Jacobian {
    pub(crate) x: Fp,
    pub(crate) y: Fp,
    pub(crate) z: Fp,
}

impl From<Affine> for Jacobian {
    fn from(point: Affine) -> Self {
        Self { x: point.x, y: point.y, z: Fp::ONE }
    }
}

impl Zeroize for Jacobian {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
        self.z.zeroize();
    }
}

impl Jacobian {
    /// Twice the point. Infinity gives infinity, and so does the point of order 2.
    #[inline]
    pub(crate) fn double(&self) -> Self {
        self.double_with_parts().0
    }

    /// Twice the point; `3(X^2 - Z^4)`, which over `Z3 = 2YZ` is the tangent's slope; `Z^2`; and `Y^2`.
    #[inline]
    pub(crate) fn double_with_parts(&self) -> (Self, Fp, Fp, Fp) {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta4 = (self.x * gamma).double().double();
        let alpha = (self.x - delta) * (self.x + delta);
        let alpha = alpha.double() + alpha;
        let x = alpha.square() - beta4.double();
        let z = (self.y * self.z).double();
        let gamma2 = gamma.double();
        // 8 gamma^2 = (2 gamma)(4 gamma)
        let y = Fp::difference_of_products(&alpha, &(beta4 - x), &gamma2, &gamma2.double());
        (Self { x, y, z }, alpha, delta, gamma)
    }

    /// The sum with an affine point; `Z = 0` if the two are equal or opposite, or if `self` is infinity.
    #[inline]
    pub(crate) fn add_affine(&self, other: &Affine) -> Self {
        self.add_affine_with_slope(other).0
    }

    /// The sum, and `Y2 Z1^3 - Y1`: with `Z3` the chord's slope is their quotient.
    #[inline]
    pub(crate) fn add_affine_with_slope(&self, other: &Affine) -> (Self, Fp) {
        let zz = self.z.square();
        let h = other.x * zz - self.x;
        let r = other.y * (zz * self.z) - self.y;
        let hh = h.square();
        let hhh = hh * h;
        let v = self.x * hh;
        let x = r.square() - hhh - v.double();
        let y = Fp::difference_of_products(&r, &(v - x), &self.y, &hhh);
        (Self { x, y, z: self.z * h }, r)
    }

    /// The sum of two points; `Z = 0` if they are equal or opposite, or if either is infinity.
    pub(crate) fn add(&self, other: &Self) -> Self {
        let zz1 = self.z.square();
        let zz2 = other.z.square();
        let u1 = self.x * zz2;
        let s1 = self.y * (zz2 * other.z);
        let h = other.x * zz1 - u1;
        let r = other.y * (zz1 * self.z) - s1;
        let hh = h.square();
        let hhh = hh * h;
        let v = u1 * hh;
        let x = r.square() - hhh - v.double();
        let y = Fp::difference_of_products(&r, &(v - x), &s1, &hhh);
        Self { x, y, z: self.z * other.z * h }
    }

    /// The negative.
    pub(crate) fn negate(&self) -> Self {
        Self { x: self.x, y: -self.y, z: self.z }
    }

    /// 1 if this is infinity (or what an incomplete addition left), else 0.
    pub(crate) fn is_infinity(&self) -> u64 {
        self.z.is_zero()
    }

    /// Whether this is the affine point, in fixed time and without an inversion. Infinity is none.
    pub(crate) fn equals_affine(&self, other: &Affine) -> bool {
        let zz = self.z.square();
        let same = self.x.ct_eq(&(other.x * zz)) & self.y.ct_eq(&(other.y * (zz * self.z)));
        bool::from(same) & (self.is_infinity() == 0)
    }

    /// The affine point, given `1/Z`.
    #[inline]
    pub(crate) fn to_affine_with(self, z_inverse: &Fp) -> Affine {
        let zz = z_inverse.square();
        Affine { x: self.x * zz, y: self.y * (zz * *z_inverse) }
    }

    /// All the points in affine form, for one inversion. None of them may be infinity.
    pub(crate) fn all_to_affine(points: &[Self]) -> Vec<Affine> {
        let mut inverses: Vec<Fp> = points.iter().map(|point| point.z).collect();
        Fp::invert_all(&mut inverses);
        points.iter().zip(&inverses).map(|(point, z)| point.to_affine_with(z)).collect()
    }
}

/// The number of bits of a public integer.
pub(crate) fn bit_length(integer: &Limbs) -> usize {
    integer
        .iter()
        .rposition(|&limb| limb != 0)
        .map_or(0, |top| 64 * (top + 1) - integer[top].leading_zeros() as usize)
}

/// Bit `index` of a public integer.
pub(crate) fn bit_of(integer: &Limbs, index: usize) -> bool {
    integer.get(index / 64).is_some_and(|limb| limb >> (index % 64) & 1 == 1)
}

/// The low `limbs::LIMBS` limbs shifted right by one: the recoding's first step.
pub(crate) fn half(integer: &Limbs) -> Limbs {
    let mut out = [0; limbs::LIMBS];
    for i in 0..limbs::LIMBS {
        let above = integer.get(i + 1).copied().unwrap_or(0);
        out[i] = integer[i] >> 1 | above << 63;
    }
    out
}

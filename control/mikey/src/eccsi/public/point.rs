//! Points of P-256 in Jacobian coordinates: `x = X/Z^2`, `y = Y/Z^3`, `Z = 0` at infinity. The additions are complete by
//! telling the cases apart: whoever makes a signature chooses its points and scalars.

use super::field::Element;
use crate::eccsi::{POINT_OCTETS, SCALAR_OCTETS};

/// A point other than infinity.
#[derive(Clone, Copy)]
pub(in crate::eccsi) struct Affine {
    x: Element,
    y: Element,
}

/// A point.
#[derive(Clone, Copy)]
pub(in crate::eccsi) struct Jacobian {
    x: Element,
    y: Element,
    z: Element,
}

impl Affine {
    /// From 04 || x || y of a point known to be on the curve; nothing if the coordinates are out of range.
    pub(in crate::eccsi) fn from_octets(octets: &[u8; POINT_OCTETS]) -> Option<Self> {
        let (x, y) = octets[1..].split_at(SCALAR_OCTETS);
        let read = |part: &[u8]| part.try_into().ok().and_then(Element::from_octets);
        Some(Self { x: read(x)?, y: read(y)? })
    }
}

impl From<Affine> for Jacobian {
    fn from(point: Affine) -> Self {
        Self { x: point.x, y: point.y, z: Element::ONE }
    }
}

impl Jacobian {
    /// The neutral element.
    pub(in crate::eccsi) const INFINITY: Self = Self { x: Element::ONE, y: Element::ONE, z: Element::ZERO };

    /// Whether this is infinity.
    pub(in crate::eccsi) fn is_infinity(&self) -> bool {
        self.z == Element::ZERO
    }

    /// Whether the x coordinate is this integer of 32 big-endian octets, below p. Infinity has none.
    pub(in crate::eccsi) fn has_x(&self, x: &[u8; SCALAR_OCTETS]) -> bool {
        !self.is_infinity() && Element::from_octets(x).is_some_and(|x| x * self.z.square() == self.x)
    }

    /// Twice the point. No point has order 2.
    pub(super) fn double(&self) -> Self {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta4 = (self.x * gamma).double().double();
        let alpha = (self.x - delta) * (self.x + delta);
        let alpha = alpha.double() + alpha;
        let x = alpha.square() - beta4.double();
        let z = (self.y * self.z).double();
        let y = alpha * (beta4 - x) - gamma.double().square().double();
        Self { x, y, z }
    }

    /// The sum with an affine point.
    pub(super) fn add_affine(&self, other: &Affine) -> Self {
        if self.is_infinity() {
            return Self::from(*other);
        }
        let zz = self.z.square();
        let h = other.x * zz - self.x;
        let r = other.y * (zz * self.z) - self.y;
        self.finish(h, r, self.x, self.y, self.z * h)
    }

    /// The sum.
    pub(in crate::eccsi) fn add(&self, other: &Self) -> Self {
        if self.is_infinity() {
            return *other;
        }
        if other.is_infinity() {
            return *self;
        }
        let (zz1, zz2) = (self.z.square(), other.z.square());
        let u1 = self.x * zz2;
        let s1 = self.y * (zz2 * other.z);
        let h = other.x * zz1 - u1;
        let r = other.y * (zz1 * self.z) - s1;
        self.finish(h, r, u1, s1, self.z * other.z * h)
    }

    /// The sum from the differences of x and y, and x, y of the first point, all over the same Z; the new Z.
    #[inline]
    fn finish(&self, h: Element, r: Element, u1: Element, s1: Element, z: Element) -> Self {
        if h == Element::ZERO {
            return if r == Element::ZERO { self.double() } else { Self::INFINITY };
        }
        let hh = h.square();
        let hhh = hh * h;
        let v = u1 * hh;
        let x = r.square() - hhh - v.double();
        let y = r * (v - x) - s1 * hhh;
        Self { x, y, z }
    }

    /// The negative.
    fn negate(&self) -> Self {
        Self { x: self.x, y: -self.y, z: self.z }
    }

    /// `[scalar]` of the point; the scalar in 32 big-endian octets, below the group's order.
    pub(in crate::eccsi) fn multiply(&self, scalar: &[u8; SCALAR_OCTETS]) -> Self {
        // Odd multiples up to 15.
        let twice = self.double();
        let mut odd = [*self; 1 << (WIDTH - 2)];
        for i in 1..odd.len() {
            odd[i] = odd[i - 1].add(&twice);
        }
        let mut acc = Self::INFINITY;
        for &digit in sliding_digits(scalar).iter().rev() {
            acc = acc.double();
            if digit != 0 {
                let multiple = odd[usize::from(digit.unsigned_abs() / 2)];
                acc = acc.add(&if digit < 0 { multiple.negate() } else { multiple });
            }
        }
        acc
    }

    /// All the points in affine form, for one inversion; nothing for infinity.
    pub(super) fn all_to_affine(points: &[Self]) -> Vec<Option<Affine>> {
        let mut acc = Element::ONE;
        let before: Vec<Element> = points
            .iter()
            .map(|point| {
                let before = acc;
                if !point.is_infinity() {
                    acc = acc * point.z;
                }
                before
            })
            .collect();
        let mut inverse = acc.invert();
        let mut out: Vec<_> = points
            .iter()
            .zip(&before)
            .rev()
            .map(|(point, &before)| {
                (!point.is_infinity()).then(|| {
                    let z = inverse * before;
                    inverse = inverse * point.z;
                    let zz = z.square();
                    Affine { x: point.x * zz, y: point.y * (zz * z) }
                })
            })
            .collect();
        out.reverse();
        out
    }
}

/// Width of a signed window: digits are odd, below 2^(WIDTH - 1) in size, and at least WIDTH apart.
const WIDTH: u32 = 5;

/// The digits of a scalar below the group's order, least significant first: zero or odd.
fn sliding_digits(scalar: &[u8; SCALAR_OCTETS]) -> [i8; 257] {
    let bit = |index: usize| {
        scalar.get(31usize.wrapping_sub(index / 8)).map_or(0, |octet| octet >> (index % 8) & 1)
    };
    let mut digits = [0; 257];
    let (mut carry, mut position) = (0, 0);
    while position < 257 {
        if bit(position) ^ carry == 0 {
            position += 1; // even: 0 + 0, or 1 + 1, which carries on
            continue;
        }
        let window = (0..WIDTH as usize).fold(0, |window, i| window | i16::from(bit(position + i)) << i);
        let window = window + i16::from(carry);
        carry = u8::from(window >= 1 << (WIDTH - 1));
        digits[position] = (window - (i16::from(carry) << WIDTH)) as i8;
        position += WIDTH as usize;
    }
    digits
}

#[cfg(test)]
pub(super) mod tests {
    use p256::elliptic_curve::PrimeField;
    use p256::{ProjectivePoint, Scalar};
    use proptest::prelude::*;

    use super::*;
    use crate::eccsi::{GENERATOR, PublicPoint};

    /// Through the octets, from `p256`, the oracle.
    pub(in crate::eccsi::public) fn of(point: &ProjectivePoint) -> Jacobian {
        if *point == ProjectivePoint::IDENTITY {
            return Jacobian::INFINITY;
        }
        Affine::from_octets(&PublicPoint::from_point(point.to_affine()).octets).unwrap().into()
    }

    pub(in crate::eccsi::public) fn same(a: &Jacobian, b: &Jacobian) -> bool {
        let (aa, bb) = (a.z.square(), b.z.square());
        (a.is_infinity() && b.is_infinity())
            || (a.is_infinity() == b.is_infinity()
                && a.x * bb == b.x * aa
                && a.y * (bb * b.z) == b.y * (aa * a.z))
    }

    fn scalar() -> impl Strategy<Value = Scalar> {
        let near_order = (0u64..70).prop_map(|less| -Scalar::from(less));
        let any = any::<[u8; 32]>().prop_filter_map("below the order", |octets| {
            Option::<Scalar>::from(Scalar::from_repr(octets.into()))
        });
        prop_oneof![3 => any, 1 => near_order, 1 => (0u64..70).prop_map(Scalar::from)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_multiple_is_that_of_p256(k in scalar(), base in scalar()) {
            let base = ProjectivePoint::GENERATOR * base;
            let found = of(&base).multiply(&k.to_repr().into());
            prop_assert!(same(&found, &of(&(base * k))));
        }

        #[test]
        fn sums_are_those_of_p256(a in scalar(), b in scalar()) {
            let (a, b) = (ProjectivePoint::GENERATOR * a, ProjectivePoint::GENERATOR * b);
            // Equal, opposite, infinite and other operands, with Z = 1 and with another Z.
            for (left, right) in [(a, b), (a, a), (a, -a), (a, ProjectivePoint::IDENTITY), (-b, b)] {
                let (l, r) = (of(&left), of(&right));
                let expected = of(&(left + right));
                prop_assert!(same(&l.add(&r), &expected));
                prop_assert!(same(&r.add(&l), &expected));
                prop_assert!(same(&l.double().add(&r), &of(&(left + left + right))));
                if let [Some(affine)] = Jacobian::all_to_affine(&[r])[..] {
                    prop_assert!(same(&l.add_affine(&affine), &expected));
                    prop_assert!(same(&l.double().add_affine(&affine), &of(&(left + left + right))));
                    prop_assert!(same(&r.double().add_affine(&affine), &of(&(right + right + right))));
                }
            }
        }
    }

    #[test]
    fn points_become_affine_together() {
        let g = Jacobian::from(Affine::from_octets(&GENERATOR).unwrap());
        let points = [g, Jacobian::INFINITY, g.double(), g.double().add(&g)];
        let affine = Jacobian::all_to_affine(&points);
        for (point, affine) in points.iter().zip(affine) {
            assert!(same(point, &affine.map_or(Jacobian::INFINITY, Jacobian::from)));
        }
    }

    #[test]
    fn infinity_has_no_x() {
        assert!(!Jacobian::INFINITY.has_x(&[0; 32]));
        let g = Jacobian::from(Affine::from_octets(&GENERATOR).unwrap());
        let x: [u8; 32] = GENERATOR[1..33].try_into().unwrap();
        assert!(g.has_x(&x) && g.double().add(&g.negate()).has_x(&x) && !g.double().has_x(&x));
    }
}

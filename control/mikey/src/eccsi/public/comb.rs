//! Multiples of points that are met again and again.

use super::point::{Affine, Jacobian};
use crate::eccsi::SCALAR_OCTETS;

/// Bits of a scalar that one addition serves.
const TEETH: usize = 6;
/// Doublings of a multiplication, and the distance between the teeth.
const COLUMNS: usize = 256usize.div_ceil(TEETH);

/// Every sum of `2^(COLUMNS * j) B` over the teeth j: 63 points, about 4 kB.
pub(in crate::eccsi) struct Comb {
    sums: Vec<Option<Affine>>,
}

impl Comb {
    /// The comb of a point.
    pub(in crate::eccsi) fn new(base: &Jacobian) -> Self {
        let mut sums = Vec::with_capacity(1 << TEETH);
        sums.push(Jacobian::INFINITY);
        let mut tooth = *base;
        for j in 0..TEETH {
            for i in 0..1 << j {
                let with = sums[i].add(&tooth);
                sums.push(with);
            }
            if j + 1 < TEETH {
                for _ in 0..COLUMNS {
                    tooth = tooth.double();
                }
            }
        }
        Self { sums: Jacobian::all_to_affine(&sums) }
    }

    /// The sum of every comb's base times its scalar, in 32 big-endian octets.
    pub(in crate::eccsi) fn multiply_add<const N: usize>(
        terms: [(&Self, &[u8; SCALAR_OCTETS]); N],
    ) -> Jacobian {
        let mut acc = Jacobian::INFINITY;
        for column in (0..COLUMNS).rev() {
            acc = acc.double();
            for (comb, scalar) in &terms {
                let index = (0..TEETH).fold(0, |index, j| index | bit(scalar, column + COLUMNS * j) << j);
                if let Some(sum) = &comb.sums[index] {
                    acc = acc.add_affine(sum);
                }
            }
        }
        acc
    }
}

/// Bit `index` of a big-endian scalar, counted from the least significant; 0 beyond the last.
fn bit(scalar: &[u8; SCALAR_OCTETS], index: usize) -> usize {
    31usize.checked_sub(index / 8).map_or(0, |at| usize::from(scalar[at] >> (index % 8) & 1))
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::PrimeField;
    use p256::{ProjectivePoint, Scalar};
    use proptest::prelude::*;

    use super::super::point::tests::{of, same};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn a_comb_multiplies(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), base in 1u64..) {
            let scalar = |octets: [u8; 32]| Option::<Scalar>::from(Scalar::from_repr(octets.into()));
            let (Some(x), Some(y)) = (scalar(a), scalar(b)) else { return Ok(()) };
            let base = ProjectivePoint::GENERATOR * Scalar::from(base);
            let (comb, generator) = (Comb::new(&of(&base)), Comb::new(&of(&ProjectivePoint::GENERATOR)));
            let found = Comb::multiply_add([(&generator, &a), (&comb, &b)]);
            prop_assert!(same(&found, &of(&(ProjectivePoint::GENERATOR * x + base * y))));
        }
    }

    #[test]
    fn edges_of_the_scalars_are_right() {
        let base = ProjectivePoint::GENERATOR * Scalar::from(77u64);
        let comb = Comb::new(&of(&base));
        for scalar in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(1u64 << 43)] {
            let found = Comb::multiply_add([(&comb, &scalar.to_repr().into())]);
            assert!(same(&found, &of(&(base * scalar))));
        }
        // Two bases that are opposite: the sums meet infinity on the way.
        let opposite = Comb::new(&of(&-base));
        let scalar = (-Scalar::from(5u64)).to_repr().into();
        assert!(Comb::multiply_add([(&comb, &scalar), (&opposite, &scalar)]).is_infinity());
    }
}

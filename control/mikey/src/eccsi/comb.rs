//! Multiples of points that are met again and again, in variable time: for public scalars only.

use p256::elliptic_curve::BatchNormalize;
use p256::elliptic_curve::group::Group;
use p256::{AffinePoint, ProjectivePoint, Scalar};

/// Bits of a scalar that one addition serves.
const TEETH: usize = 6;
/// Doublings of a multiplication, and the distance between the teeth.
const COLUMNS: usize = 256usize.div_ceil(TEETH);

/// Every sum of `2^(COLUMNS * j) B` over the teeth j: 63 points, about 4 kB.
pub(super) struct Comb {
    sums: Vec<AffinePoint>,
}

impl Comb {
    /// The comb of a point.
    pub(super) fn new(base: &ProjectivePoint) -> Self {
        let mut sums = Vec::with_capacity(1 << TEETH);
        sums.push(ProjectivePoint::IDENTITY);
        let mut tooth = *base;
        for j in 0..TEETH {
            for i in 0..1 << j {
                let with = sums[i] + tooth;
                sums.push(with);
            }
            if j + 1 < TEETH {
                for _ in 0..COLUMNS {
                    tooth = Group::double(&tooth);
                }
            }
        }
        Self { sums: ProjectivePoint::batch_normalize(sums.as_slice()) }
    }

    /// The sum of every comb's base times its scalar.
    pub(super) fn multiply_add<const N: usize>(terms: [(&Self, &Scalar); N]) -> ProjectivePoint {
        let terms = terms.map(|(comb, scalar)| (comb, <[u8; 32]>::from(scalar.to_bytes())));
        let mut acc = ProjectivePoint::IDENTITY;
        for column in (0..COLUMNS).rev() {
            acc = Group::double(&acc);
            for (comb, scalar) in &terms {
                let index = (0..TEETH).fold(0, |index, j| index | bit(scalar, column + COLUMNS * j) << j);
                if index != 0 {
                    acc += comb.sums[index];
                }
            }
        }
        acc
    }
}

/// Bit `index` of a big-endian scalar, counted from the least significant; 0 beyond the last.
fn bit(scalar: &[u8; 32], index: usize) -> usize {
    31usize.checked_sub(index / 8).map_or(0, |at| usize::from(scalar[at] >> (index % 8) & 1))
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::PrimeField;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn a_comb_multiplies(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), base in 1u64..) {
            let scalar = |octets: [u8; 32]| Option::<Scalar>::from(Scalar::from_repr(octets.into()));
            let base = ProjectivePoint::GENERATOR * Scalar::from(base);
            let (Some(a), Some(b)) = (scalar(a), scalar(b)) else { return Ok(()) };
            let (comb, generator) = (Comb::new(&base), Comb::new(&ProjectivePoint::GENERATOR));
            let found = Comb::multiply_add([(&generator, &a), (&comb, &b)]);
            prop_assert_eq!(found, ProjectivePoint::GENERATOR * a + base * b);
        }
    }

    #[test]
    fn edges_of_the_scalars_are_right() {
        let base = ProjectivePoint::GENERATOR * Scalar::from(77u64);
        let comb = Comb::new(&base);
        for scalar in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(1u64 << 43)] {
            assert_eq!(Comb::multiply_add([(&comb, &scalar)]), base * scalar);
        }
    }
}

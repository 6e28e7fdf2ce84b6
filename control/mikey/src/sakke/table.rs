//! Fixed-base tables: the odd multiples of a base at every window, so that a multiplication is additions only.
//!
//! A secret digit picks its entry by reading the window's whole row.

use zeroize::Zeroize;

use super::curve::{Affine, Jacobian};
use super::scalar::{Recoded, equal_mask};
use crate::field::fp2::Fp2;
use crate::field::{Fp, Fq};

/// Bits a window of a point table.
pub(crate) const POINT_WIDTH: usize = 6;
/// Bits a window of the table of powers of g.
pub(crate) const POWER_WIDTH: usize = 5;

const POINT_ROW: usize = 1 << (POINT_WIDTH - 1);
const POWER_ROW: usize = 1 << (POWER_WIDTH - 1);

/// Odd multiples `(2 j + 1) * 2^(6 i) * B` of a public point B of order q, for each window i and j in 0..32.
pub(crate) struct PointTable {
    entries: Vec<Affine>,
}

impl PointTable {
    /// Builds the table: 5472 points, 1.4 MB.
    pub(crate) fn new(base: &Affine) -> Self {
        let windows = Recoded::<POINT_WIDTH>::WINDOWS;
        let mut bases = Vec::with_capacity(2 * windows);
        let mut window_base = Jacobian::from(*base);
        for _ in 0..windows {
            bases.push(window_base);
            window_base = window_base.double();
            bases.push(window_base);
            for _ in 1..POINT_WIDTH {
                window_base = window_base.double();
            }
        }
        let bases = Jacobian::all_to_affine(&bases);
        let (mut column, twice): (Vec<Affine>, Vec<Affine>) =
            bases.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        let mut entries = vec![*base; windows * POINT_ROW];
        for j in 0..POINT_ROW {
            for (row, entry) in entries.chunks_exact_mut(POINT_ROW).zip(&column) {
                row[j] = *entry;
            }
            if j + 1 < POINT_ROW {
                // Odd multiples from 1 on, plus 2: never equal or opposite in a group of order q.
                Affine::add_each(&mut column, &twice);
            }
        }
        Self { entries }
    }

    /// The entry for digit `position` of a scalar: the whole row is read.
    #[inline]
    fn entry(&self, scalar: &Recoded<POINT_WIDTH>, position: usize) -> Affine {
        let digit = scalar.digit(position);
        let row = &self.entries[position * POINT_ROW..(position + 1) * POINT_ROW];
        look_up(row, digit.index).negate_if(digit.negative)
    }

    /// Adds `[scalar]B` to each of `sums` for each of `scalars`, window by window, or puts it there if there is nothing yet.
    /// Returns 1, and leaves useless sums, if an addition met equal or opposite points; else 0.
    pub(crate) fn multiply_each(&self, scalars: &[Recoded<POINT_WIDTH>], sums: &mut Vec<Affine>) -> u64 {
        let mut unusable = 0;
        let mut addends = Vec::with_capacity(scalars.len());
        for position in 0..Recoded::<POINT_WIDTH>::WINDOWS {
            addends.clear();
            addends.extend(scalars.iter().map(|scalar| self.entry(scalar, position)));
            if sums.is_empty() {
                sums.extend_from_slice(&addends);
            } else {
                unusable |= Affine::add_each(sums, &addends);
            }
        }
        addends.zeroize();
        unusable
    }

    /// `[scalar]B` in fixed time; the scalar must not be zero.
    pub(crate) fn multiply(&self, scalar: &Fq) -> Jacobian {
        let scalar = Recoded::new(scalar);
        // The partial sum of odd digits below window i is under 2^(6 i) in size and not zero, and what is added
        // is at least that: the two are neither equal nor opposite, save for a handful of scalars at the top.
        let mut acc = Jacobian::from(self.entry(&scalar, 0));
        for position in 1..Recoded::<POINT_WIDTH>::WINDOWS {
            acc = acc.add_affine(&self.entry(&scalar, position));
        }
        acc
    }
}

/// The entry of a secret index: every one is read.
#[inline]
pub(super) fn look_up(row: &[Affine], index: u64) -> Affine {
    let mut found = row[0];
    for (j, entry) in row.iter().enumerate().skip(1) {
        let hit = equal_mask(index, j as u64);
        found = Affine { x: Fp::select(&found.x, &entry.x, hit), y: Fp::select(&found.y, &entry.y, hit) };
    }
    found
}

/// Odd powers of g at every window, each as the ratio b of `1 + ib`. The conjugate is the inverse up to a factor in
/// F_p, so a negative digit only turns the sign of b.
pub(crate) struct PowerTable {
    entries: Vec<Fp>,
}

impl PowerTable {
    /// Builds the table for the element with this ratio: 3280 ratios, 0.4 MB.
    pub(crate) fn new(ratio: &Fp) -> Self {
        let mut powers = Vec::with_capacity(Recoded::<POWER_WIDTH>::WINDOWS * POWER_ROW);
        let mut window_base = Fp2 { real: Fp::ONE, imaginary: *ratio };
        for _ in 0..Recoded::<POWER_WIDTH>::WINDOWS {
            let square = window_base.square();
            let mut entry = window_base;
            powers.push(entry);
            for _ in 1..POWER_ROW {
                entry = entry.mul(&square);
                powers.push(entry);
            }
            for _ in 0..POWER_WIDTH {
                window_base = window_base.square();
            }
        }
        let mut inverses: Vec<Fp> = powers.iter().map(|power| power.real).collect();
        Fp::invert_all(&mut inverses);
        Self {
            entries: powers
                .iter()
                .zip(&inverses)
                .map(|(power, inverse)| power.imaginary * *inverse)
                .collect(),
        }
    }

    /// The element to a secret power, in fixed time; the scalar must not be zero.
    pub(crate) fn power(&self, scalar: &Fq) -> Fp2 {
        let scalar = Recoded::<POWER_WIDTH>::new(scalar);
        let mut acc = Fp2::ONE;
        for (position, row) in self.entries.chunks_exact(POWER_ROW).enumerate() {
            let digit = scalar.digit(position);
            let mut found = row[0];
            for (j, entry) in row.iter().enumerate().skip(1) {
                found = Fp::select(&found, entry, equal_mask(digit.index, j as u64));
            }
            acc = acc.mul_by_ratio(&found.negate_if(digit.negative));
        }
        acc
    }
}

#[cfg(test)]
mod tests {
    use subtle::ConstantTimeEq;

    use super::super::comb::PointComb;
    use super::*;
    use crate::field::limbs::{self, LIMBS, Limbs};
    use crate::field::{ModQ, Modulus};
    use crate::sakke::curve::bit_of;
    use crate::sakke::scalar::reduce_mod_q;

    /// Double and add, from the top, with nothing clever.
    fn slow_multiple(base: &Affine, scalar: &Limbs) -> Option<Affine> {
        let mut acc: Option<Jacobian> = None;
        for bit in (0..1024).rev() {
            acc = acc.map(|point| point.double());
            if bit_of(scalar, bit) {
                acc = Some(match acc {
                    None => Jacobian::from(*base),
                    Some(point) if point.equals_affine(base) => point.double(),
                    Some(point) => point.add_affine(base),
                });
            }
        }
        acc.filter(|point| point.is_infinity() == 0).map(|point| point.to_affine_with(&point.z.invert()))
    }

    /// Small ones, large ones, even and odd ones, and two with no pattern.
    fn scalars() -> Vec<Limbs> {
        let small = |value: u64| {
            let mut out = [0; LIMBS];
            out[0] = value;
            out
        };
        let mut all: Vec<Limbs> = [1, 2, 3, 4, 63, 64, 65, 0xffff_ffff].map(small).to_vec();
        for below in [1, 2, 3] {
            all.push(limbs::sub(&ModQ::M, &small(below)).0);
        }
        for seed in [0x9e37_79b9_7f4a_7c15u64, 0xd1b5_4a32_d192_ed03] {
            let any =
                core::array::from_fn(|i| seed.wrapping_mul(2 * i as u64 + 1) ^ seed.rotate_left(i as u32));
            all.push(reduce_mod_q(&any).to_integer());
        }
        all
    }

    fn same(a: &Affine, b: &Affine) -> bool {
        (a.x.ct_eq(&b.x) & a.y.ct_eq(&b.y)).into()
    }

    #[test]
    fn every_multiplication_is_double_and_add() {
        let base = Affine::base();
        let (table, comb) = (PointTable::new(&base), PointComb::new(&base));
        for integer in scalars() {
            let scalar = Fq::from_integer(&integer);
            let expected = slow_multiple(&base, &integer).expect("below q");
            assert!(table.multiply(&scalar).equals_affine(&expected), "{integer:x?}");
            assert!(comb.multiply(&scalar).equals_affine(&expected), "{integer:x?}");
        }
        let recoded: Vec<_> =
            scalars().iter().map(|integer| Recoded::new(&Fq::from_integer(integer))).collect();
        let mut sums = Vec::new();
        assert_eq!(table.multiply_each(&recoded, &mut sums), 0);
        for (integer, sum) in scalars().iter().zip(&sums) {
            assert!(same(sum, &slow_multiple(&base, integer).expect("below q")), "{integer:x?}");
        }
    }

    #[test]
    fn a_comb_tells_whether_its_base_has_order_q() {
        let base = Affine::base();
        assert!(PointComb::checked(&base).is_some());
        assert!(PointComb::checked(&slow_multiple(&base, &scalars()[6]).expect("below q")).is_some());
        let two_torsion = Affine { x: Fp::ZERO, y: Fp::ZERO };
        assert!(PointComb::checked(&two_torsion).is_none());
        // Of order 2q: T + P with T = (0, 0).
        let mixed = Jacobian::from(base).add_affine(&two_torsion);
        let mixed = mixed.to_affine_with(&mixed.z.invert());
        assert!(PointComb::checked(&mixed).is_none() && !mixed.has_order_q());
    }

    #[test]
    fn equal_or_opposite_points_are_told() {
        let base = Affine::base();
        let twice = slow_multiple(&base, &scalars()[1]).expect("below q");
        let opposite = base.negate_if(u64::MAX);
        assert_eq!(Affine::add_each(&mut [base, base], &[twice, base]), 1);
        assert_eq!(Affine::add_each(&mut [base, base], &[twice, opposite]), 1);
        let mut points = [base, twice];
        assert_eq!(Affine::add_each(&mut points, &[twice, base]), 0);
        assert!(
            same(&points[0], &points[1])
                && same(&points[0], &slow_multiple(&base, &scalars()[2]).expect("3 < q"))
        );
    }

    #[test]
    fn powers_are_repeated_products() {
        let ratio = Affine::base().x; // any element of F_p is the ratio of something
        // Of order p + 1, not q: so only scalars that are not turned (the odd ones) may be compared.
        let table = PowerTable::new(&ratio);
        for integer in scalars().into_iter().filter(|integer| integer[0] & 1 == 1) {
            let mut expected = Fp2::ONE;
            for bit in (0..1024).rev() {
                expected = expected.square();
                if bit_of(&integer, bit) {
                    expected = expected.mul_by_ratio(&ratio);
                }
            }
            let found = table.power(&Fq::from_integer(&integer));
            assert!(bool::from((found.real * expected.imaginary).ct_eq(&(found.imaginary * expected.real))));
        }
    }

    #[test]
    fn digits_add_up_to_the_scalar() {
        for integer in scalars() {
            let recoded = Recoded::<POINT_WIDTH>::new(&Fq::from_integer(&integer));
            let mut sum = Fq::ZERO;
            for position in (0..Recoded::<POINT_WIDTH>::WINDOWS).rev() {
                for _ in 0..POINT_WIDTH {
                    sum = sum.double();
                }
                let digit = recoded.digit(position);
                let mut magnitude = [0; LIMBS];
                magnitude[0] = 2 * digit.index + 1;
                sum = sum + Fq::from_integer(&magnitude).negate_if(digit.negative);
            }
            assert_eq!(sum.to_integer(), integer);
        }
    }

    #[test]
    fn a_thousand_bits_reduce_modulo_q_as_by_division() {
        use crypto_bigint::{NonZero, U1024};
        let q = NonZero::new(U1024::from_words(ModQ::M)).expect("not zero");
        let top = |limb: u64| {
            let mut out = [u64::MAX; LIMBS];
            out[LIMBS - 1] = limb;
            out
        };
        for integer in
            [[0; LIMBS], [u64::MAX; LIMBS], ModQ::M, top(0x2660_0000_0000_0000), top(0x4cbd_5d8f_852b_1fec)]
        {
            let expected = U1024::from_words(integer).rem_vartime(&q).to_words();
            assert_eq!(reduce_mod_q(&integer).to_integer(), expected);
        }
    }
}

//! A small table that every key of a KMS has from the start: a signed comb.
//!
//! A scalar k in 1..q-1 is the sum of `+-2^i` for i in 0..1022 (see [`Recoded`], digits of one bit). The signs at seven
//! teeth, 146 positions apart, choose one of 64 sums and its sign, so 146 doublings and additions make a
//! multiplication. A [`super::table::PointTable`] needs no doublings, but nearly a hundred times the memory.

use super::curve::{Affine, Jacobian, bit_of};
use super::scalar::Recoded;
use super::table::look_up;
use crate::field::limbs::mask;
use crate::field::{Fq, ModQ, Modulus};

/// Bits of a scalar that one addition serves.
const TEETH: usize = 7;
/// Positions of a scalar's digits.
const DIGITS: usize = Recoded::<1>::WINDOWS;
/// Doublings of a multiplication, and the distance between the teeth.
const COLUMNS: usize = DIGITS / TEETH;
const _: () = assert!(COLUMNS * TEETH == DIGITS);

/// `2^(146 * 6) B` plus or minus each `2^(146 j) B` for j in 0..6 (bit j of the index set: plus): 64 points, 16 kB.
pub(crate) struct PointComb {
    sums: Vec<Affine>,
}

impl PointComb {
    /// The comb of a public point of order q.
    pub(crate) fn new(base: &Affine) -> Self {
        Self { sums: Jacobian::all_to_affine(&sums(base)) }
    }

    /// The comb of a public point, or nothing if the point is not of order q: the comb makes that check cheap.
    pub(crate) fn checked(base: &Affine) -> Option<Self> {
        let sums = sums(base);
        if sums.iter().any(|sum| sum.is_infinity() == 1) {
            return None; // two teeth were equal or opposite: of small order
        }
        let comb = Self { sums: Jacobian::all_to_affine(&sums) };
        // [q]B but for the last addition: both sides must be opposite. With B of order q no addition before it meets
        // equal or opposite points (see `multiply`); with another B, Z = 0 stays to the end and equals nothing.
        let acc = comb.upper_columns(&sign_of_q).double();
        acc.equals_affine(&comb.entry(&sign_of_q, 0).negate_if(u64::MAX)).then_some(comb)
    }

    /// `[scalar]B` in fixed time; the scalar must not be zero.
    pub(crate) fn multiply(&self, scalar: &Fq) -> Jacobian {
        let scalar = Recoded::<1>::new(scalar);
        let sign = |position| scalar.digit(position).negative;
        // Before the last addition the operands are an even and an odd multiple of B, less than q apart or from
        // opposite: never equal nor opposite. The last is so for a handful of scalars, and then gives Z = 0.
        self.upper_columns(&sign).double().add_affine(&self.entry(&sign, 0))
    }

    /// Half of what all columns but the lowest contribute. `sign` gives all ones for a negative digit, else zero.
    fn upper_columns(&self, sign: &impl Fn(usize) -> u64) -> Jacobian {
        let mut acc = Jacobian::from(self.entry(sign, COLUMNS - 1));
        for column in (1..COLUMNS - 1).rev() {
            acc = acc.double().add_affine(&self.entry(sign, column));
        }
        acc
    }

    /// What a column adds: every sum is read.
    #[inline]
    fn entry(&self, sign: &impl Fn(usize) -> u64, column: usize) -> Affine {
        let top = sign(column + COLUMNS * (TEETH - 1));
        let index = (0..TEETH - 1)
            .fold(0, |index, tooth| index | (!(sign(column + COLUMNS * tooth) ^ top) & 1) << tooth);
        look_up(&self.sums, index).negate_if(top)
    }
}

/// The comb's sums; infinity somewhere if the base is not of order q (but not always then).
fn sums(base: &Affine) -> Vec<Jacobian> {
    let mut teeth = vec![Jacobian::from(*base)];
    while let Some(&last) = teeth.last()
        && teeth.len() < TEETH
    {
        teeth.push((0..COLUMNS).fold(last, |point, _| point.double()));
    }
    let mut sums: Vec<Jacobian> = teeth.pop().into_iter().collect();
    for tooth in &teeth {
        // The tooth's bit of the index is above those that are there: first all with minus, then all with plus.
        let plus: Vec<Jacobian> = sums.iter().map(|sum| sum.add(tooth)).collect();
        sums = sums.iter().map(|sum| sum.add(&tooth.negate())).chain(plus).collect();
    }
    sums
}

/// The signs of q's own digits.
fn sign_of_q(position: usize) -> u64 {
    mask(u64::from(position + 1 < DIGITS && !bit_of(&ModQ::M, position + 1)))
}

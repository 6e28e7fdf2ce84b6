//! The reduced Tate-Lichtenbaum pairing `<R, Q>` of RFC 6508 section 3.2, on parameter set 1.
//!
//! `<R, Q>` is Miller's function of R and q at the distorted point `(-Qx, i Qy)`, raised to `(p^2 - 1) / q`. The
//! factors in F_p vanish there, so vertical lines are left out and lines are scaled at will; what remains of the
//! exponent is `(p + 1) / q = 4`, and the value is the ratio of its two parts. The loop runs over the signed digits of q,
//! which are public. Its last addition would be a vertical line and is left out: the loop never meets infinity
//! for points of order q, and for others it yields a useless value but no failure, as nothing is divided.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::field::fp2::Fp2;
use crate::field::{Fp, ModQ, Modulus};
use crate::sakke::curve::{Affine, Jacobian};

/// The signed digits of q in non-adjacent form, least significant first.
const DIGITS: [i8; DIGIT_COUNT] = non_adjacent_form();
const DIGIT_COUNT: usize = 1022;

/// `<r, q>` up to a factor in F_p: the pairing's value is its imaginary part over its real part.
///
/// Both points must be on the curve. Fixed time in both.
pub(crate) fn pair(r: &Affine, q: &Affine) -> Fp2 {
    let minus_r = Affine { x: r.x, y: -r.y };
    // Qx + Rx, for the chords, which all go through R or -R.
    let chord_x = q.x + r.x;
    let mut v = Fp2::ONE;
    let mut c = Jacobian::from(*r);
    for (position, &digit) in DIGITS.iter().enumerate().rev().skip(1) {
        let (twice, slope, zz, yy) = c.double_with_parts();
        // The tangent l (Qx + x) - y + i Qy, times 2YZ^3 = Z3 Z^2, with l = slope / Z3, x = X/Z^2, y = Y/Z^3.
        let line = Fp2 { real: slope * (q.x * zz + c.x) - yy.double(), imaginary: q.y * (twice.z * zz) };
        v = v.square().mul(&line);
        c = twice;
        if digit != 0 && position != 0 {
            let addend = if digit > 0 { r } else { &minus_r };
            let (sum, slope) = c.add_affine_with_slope(addend);
            // The chord l (Qx + Rx) - (+-Ry) + i Qy, times Z3.
            let line = Fp2 {
                real: Fp::difference_of_products(&slope, &chord_x, &addend.y, &sum.z),
                imaginary: q.y * sum.z,
            };
            v = v.mul(&line);
            c = sum;
        }
    }
    v.square().square()
}

/// One line of Miller's loop, scaled to `slope * Qx + constant + i Qy`.
#[derive(Clone, Copy)]
struct Line {
    slope: Fp,
    constant: Fp,
}

impl Zeroize for Line {
    fn zeroize(&mut self) {
        self.slope.zeroize();
        self.constant.zeroize();
    }
}

/// The lines of one argument of the pairing, computed once. They give the argument away: secret where it is.
pub(crate) struct PreparedLines {
    lines: Vec<Line>,
}

impl Drop for PreparedLines {
    fn drop(&mut self) {
        self.lines.zeroize();
    }
}

impl ZeroizeOnDrop for PreparedLines {}

impl PreparedLines {
    /// The lines of a point of order q.
    pub(crate) fn new(r: &Affine) -> Self {
        let minus_r = Affine { x: r.x, y: -r.y };
        // (point before, slope's numerator, Z after): a line's slope is numerator / Z after.
        let mut steps: Vec<(Jacobian, Fp)> = Vec::with_capacity(2 * DIGIT_COUNT);
        let mut z_inverses: Vec<Fp> = Vec::with_capacity(2 * DIGIT_COUNT);
        let mut c = Jacobian::from(*r);
        z_inverses.push(c.z);
        for (position, &digit) in DIGITS.iter().enumerate().rev().skip(1) {
            let (twice, slope, _, _) = c.double_with_parts();
            steps.push((c, slope));
            z_inverses.push(twice.z);
            c = twice;
            if digit != 0 && position != 0 {
                let addend = if digit > 0 { r } else { &minus_r };
                let (sum, slope) = c.add_affine_with_slope(addend);
                steps.push((c, slope));
                z_inverses.push(sum.z);
                c = sum;
            }
        }
        Fp::invert_all(&mut z_inverses);
        let lines = steps
            .iter()
            .zip(z_inverses.windows(2))
            .map(|((before, numerator), inverses)| {
                let at = before.to_affine_with(&inverses[0]);
                let slope = *numerator * inverses[1];
                Line { slope, constant: slope * at.x - at.y }
            })
            .collect();
        steps.iter_mut().for_each(|(point, slope)| {
            point.zeroize();
            slope.zeroize();
        });
        z_inverses.zeroize();
        Self { lines }
    }

    /// `<r, q>` for the prepared r, up to a factor in F_p. Fixed time.
    pub(crate) fn pair(&self, q: &Affine) -> Fp2 {
        let mut v = Fp2::ONE;
        let mut lines = self.lines.iter();
        let mut next = |v: Fp2| match lines.next() {
            Some(line) => v.mul(&Fp2 { real: line.slope * q.x + line.constant, imaginary: q.y }),
            None => v, // one line a step was stored
        };
        for (position, &digit) in DIGITS.iter().enumerate().rev().skip(1) {
            v = next(v.square());
            if digit != 0 && position != 0 {
                v = next(v);
            }
        }
        v.square().square()
    }
}

/// q in non-adjacent form. Run by the compiler only.
const fn non_adjacent_form() -> [i8; DIGIT_COUNT] {
    let q = ModQ::M;
    let mut digits = [0i8; DIGIT_COUNT];
    let mut carry = 0u64;
    let mut i = 0;
    while i < DIGIT_COUNT {
        let bit = (q[i / 64] >> (i % 64)) & 1;
        let above = if (i + 1) / 64 < q.len() { (q[(i + 1) / 64] >> ((i + 1) % 64)) & 1 } else { 0 };
        let sum = bit + carry;
        if sum == 1 {
            // Odd: +1 where the next bit is clear, -1 (and a carry) where it is set.
            if above == 1 {
                digits[i] = -1;
                carry = 1;
            } else {
                digits[i] = 1;
                carry = 0;
            }
        } else if sum == 2 {
            carry = 1;
        } else {
            carry = 0;
        }
        i += 1;
    }
    assert!(carry == 0 && digits[DIGIT_COUNT - 1] == 1);
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use subtle::ConstantTimeEq;

    use super::*;
    use crate::field::Fq;
    use crate::field::limbs::{self, LIMBS, Limbs, OCTETS};
    use crate::sakke::curve::bit_of;
    use crate::sakke::table::multiply_once;

    /// The algorithm of RFC 6508 section 3.2 as it is printed: affine, an inversion a line, the bits of q - 1.
    fn slow_pairing(r: &Affine, q: &Affine) -> Fp {
        let three = Fp::ONE.double() + Fp::ONE;
        let mut exponent = ModQ::M;
        exponent[0] -= 1;
        let (mut v, mut c) = (Fp2::ONE, *r);
        let line = |slope: Fp, c: &Affine| Fp2 { real: slope * (q.x + c.x) - c.y, imaginary: q.y };
        for bit in (0..1021).rev() {
            let slope = three * (c.x.square() - Fp::ONE) * c.y.double().invert();
            v = v.square().mul(&line(slope, &c));
            let x = slope.square() - c.x.double();
            c = Affine { x, y: slope * (c.x - x) - c.y };
            if bit_of(&exponent, bit) {
                let slope = (c.y - r.y) * (c.x - r.x).invert();
                v = v.mul(&line(slope, &c));
                let x = slope.square() - c.x - r.x;
                c = Affine { x, y: slope * (c.x - x) - c.y };
            }
        }
        ratio(v.square().square())
    }

    fn ratio(value: Fp2) -> Fp {
        value.imaginary * value.real.invert()
    }

    fn same(a: Fp, b: Fp) -> bool {
        a.ct_eq(&b).into()
    }

    fn scalar(seed: [u8; OCTETS]) -> Fq {
        crate::sakke::scalar::reduce_mod_q(&limbs::from_octets(&seed))
    }

    fn point(k: &Fq) -> Affine {
        let multiple = multiply_once(&Affine::base(), k);
        multiple.to_affine_with(&multiple.z.invert())
    }

    fn octets() -> impl Strategy<Value = [u8; OCTETS]> {
        proptest::collection::vec(any::<u8>(), OCTETS).prop_map(|octets| {
            let mut out = [0; OCTETS];
            out.copy_from_slice(&octets);
            out[OCTETS - 1] |= 1; // not zero
            out
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn all_ways_give_the_pairing_of_the_standard(a in octets(), b in octets()) {
            let (a, b) = (scalar(a), scalar(b));
            let (r, q) = (point(&a), point(&b));
            let expected = slow_pairing(&r, &q);
            prop_assert!(same(ratio(pair(&r, &q)), expected));
            prop_assert!(same(ratio(pair(&q, &r)), expected), "symmetric");
            prop_assert!(same(ratio(PreparedLines::new(&r).pair(&q)), expected));
            prop_assert!(same(ratio(PreparedLines::new(&q).pair(&r)), expected));
            // Bilinear: <[a]P, [b]P> = <[ab]P, P>.
            prop_assert!(same(ratio(pair(&point(&(a * b)), &Affine::base())), expected));
        }
    }

    #[test]
    fn points_of_small_order_give_no_failure() {
        let zero = Affine { x: Fp::ZERO, y: Fp::ZERO };
        assert!(!zero.has_order_q());
        let lines = PreparedLines::new(&Affine::base());
        let _ = (pair(&zero, &Affine::base()), pair(&Affine::base(), &zero), lines.pair(&zero));
        assert!(Affine::base().has_order_q());
    }

    #[test]
    fn the_digits_are_those_of_q() {
        // Horner from the top, modulo 2^1024.
        let mut value: Limbs = [0; LIMBS];
        let mut one = [0; LIMBS];
        one[0] = 1;
        for digit in DIGITS.iter().rev() {
            value = limbs::add(&value, &value).0;
            value = match digit {
                1 => limbs::add(&value, &one).0,
                -1 => limbs::sub(&value, &one).0,
                _ => value,
            };
        }
        assert_eq!(value, ModQ::M);
        assert!(DIGITS.windows(2).all(|pair| pair[0] == 0 || pair[1] == 0), "non-adjacent");
        assert_ne!(DIGITS[0], 0);
    }
}

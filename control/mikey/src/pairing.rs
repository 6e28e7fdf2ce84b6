//! The reduced Tate-Lichtenbaum pairing `<R, Q>` of RFC 6508 section 3.2, on parameter set 1.
//!
//! `<R, Q>` is Miller's function of R and q at the distorted point `(-Qx, i Qy)`, raised to `(p^2 - 1) / q`. The
//! factors in F_p vanish there, so vertical lines are left out and lines are scaled at will; what remains of the
//! exponent is `(p + 1) / q = 4`, and the value is the ratio of its two parts. The loop runs over the signed digits of q,
//! which are public. Its last addition would be a vertical line and is left out: the loop never meets infinity
//! for points of order q, and for others it yields a useless value but no failure.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::field::fp2::Fp2;
use crate::field::{Fp, ModQ, Modulus};
use crate::sakke::curve::{Affine, Jacobian};

/// The signed digits of q for a pairing of points met once: zero or odd, up to 15 in size. Least significant first.
const WIDE: [i8; DIGIT_COUNT] = signed_digits(5);
/// The signed digits of q for lines that are kept: non-adjacent ones of size 1, for which no multiples are needed.
const NARROW: [i8; DIGIT_COUNT] = signed_digits(2);
/// A power of two may stand above q where the digits below are negative.
const DIGIT_COUNT: usize = 1023;

/// `<r, q>` up to a factor in F_p: the pairing's value is its imaginary part over its real part.
///
/// Both points must be on the curve. Fixed time in both.
pub(crate) fn pair(r: &Affine, q: &Affine) -> Fp2 {
    let multiples = Multiples::new(r, q);
    let (top, below) = split_top(&WIDE);
    let (point, mut v) = multiples.get(top);
    let mut c = Jacobian::from(point);
    for (position, &digit) in below.iter().enumerate().rev() {
        let (twice, line) = tangent(&c, q);
        v = v.square().mul(&line);
        c = twice;
        if digit != 0 {
            // f_(m + d) = f_m f_d times the chord through mR and dR.
            let (point, factor) = multiples.get(digit);
            if digit.unsigned_abs() != 1 {
                v = v.mul(&factor);
            }
            if position != 0 {
                let (sum, line) = chord(&c, &point, q);
                v = v.mul(&line);
                c = sum;
            }
        }
    }
    v.square().square()
}

/// The odd multiples d R up to 15, with Miller's functions f_d of R at the distorted Q, up to factors in F_p.
struct Multiples {
    points: Vec<Affine>,
    functions: Vec<Fp2>,
}

impl Multiples {
    const COUNT: usize = 8;

    fn new(r: &Affine, q: &Affine) -> Self {
        let (twice, f2) = tangent(&Jacobian::from(*r), q);
        let twice = twice.to_affine_with(&twice.z.invert());
        let mut c = Jacobian::from(*r);
        let mut points = vec![c];
        let mut functions = vec![Fp2::ONE];
        let mut f = Fp2::ONE;
        for _ in 1..Self::COUNT {
            let (sum, line) = chord(&c, &twice, q);
            f = f.mul(&f2).mul(&line);
            c = sum;
            points.push(c);
            functions.push(f);
        }
        Self { points: Jacobian::all_to_affine(&points), functions }
    }

    /// For an odd digit. f_-d is one over f_d, and over an element of norm n that is its conjugate over n in F_p.
    fn get(&self, digit: i8) -> (Affine, Fp2) {
        let at = usize::from(digit.unsigned_abs() / 2);
        let (point, f) = (self.points[at], self.functions[at]);
        if digit > 0 {
            (point, f)
        } else {
            (Affine { x: point.x, y: -point.y }, Fp2 { real: f.real, imaginary: -f.imaginary })
        }
    }
}

impl Drop for Multiples {
    fn drop(&mut self) {
        self.points.zeroize();
        self.functions.zeroize();
    }
}

/// Twice a point, and the tangent there at the distorted Q, up to a factor in F_p.
#[inline]
fn tangent(c: &Jacobian, q: &Affine) -> (Jacobian, Fp2) {
    let (twice, slope, zz, yy) = c.double_with_parts();
    // l (Qx + x) - y + i Qy, times 2YZ^3 = Z3 Z^2, with l = slope / Z3, x = X/Z^2, y = Y/Z^3.
    let line = Fp2 { real: slope * (q.x * zz + c.x) - yy.double(), imaginary: q.y * (twice.z * zz) };
    (twice, line)
}

/// The sum of two points, and the chord through them at the distorted Q, up to a factor in F_p.
#[inline]
fn chord(c: &Jacobian, addend: &Affine, q: &Affine) -> (Jacobian, Fp2) {
    let (sum, slope) = c.add_affine_with_slope(addend);
    // l (Qx + x) - y + i Qy, times Z3, through the addend's x and y.
    let line = Fp2 {
        real: Fp::difference_of_products(&slope, &(q.x + addend.x), &addend.y, &sum.z),
        imaginary: q.y * sum.z,
    };
    (sum, line)
}

/// The most significant digit, which is not zero, and those below it.
fn split_top(digits: &[i8; DIGIT_COUNT]) -> (i8, &[i8]) {
    let used = digits.iter().rposition(|&digit| digit != 0).unwrap_or(0);
    (digits[used], &digits[..used])
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
        for (position, &digit) in split_top(&NARROW).1.iter().enumerate().rev() {
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
        for (position, &digit) in split_top(&NARROW).1.iter().enumerate().rev() {
            v = next(v.square());
            if digit != 0 && position != 0 {
                v = next(v);
            }
        }
        v.square().square()
    }
}

/// q as digits that are zero, or odd and below `2^(width - 1)` in size and at least `width` apart. Run by the compiler only.
const fn signed_digits(width: usize) -> [i8; DIGIT_COUNT] {
    let q = ModQ::M;
    let mut digits = [0i8; DIGIT_COUNT];
    let mut carry = 0;
    let mut i = 0;
    while i < DIGIT_COUNT {
        let mut window = carry;
        let mut j = 0;
        while j < width && i + j < DIGIT_COUNT {
            window += ((q[(i + j) / 64] >> ((i + j) % 64)) as i16 & 1) << j;
            j += 1;
        }
        if window & 1 == 0 {
            i += 1; // 0 + 0, or 1 + 1, which carries on
        } else {
            carry = (window >= 1 << (width - 1)) as i16;
            digits[i] = (window - (carry << width)) as i8;
            i += width;
        }
    }
    assert!(carry == 0);
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use subtle::ConstantTimeEq;

    use super::*;
    use crate::field::Fq;
    use crate::field::limbs::{self, LIMBS, Limbs, OCTETS};
    use crate::sakke::comb::PointComb;
    use crate::sakke::curve::bit_of;

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
        let multiple = PointComb::new(&Affine::base()).multiply(k);
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
        for (digits, width) in [(NARROW, 2), (WIDE, 5)] {
            // Horner from the top, modulo 2^1024.
            let mut value: Limbs = [0; LIMBS];
            for &digit in digits.iter().rev() {
                value = limbs::add(&value, &value).0;
                let mut size = [0; LIMBS];
                size[0] = u64::from(digit.unsigned_abs());
                value = if digit < 0 { limbs::sub(&value, &size).0 } else { limbs::add(&value, &size).0 };
            }
            assert_eq!(value, ModQ::M);
            assert!(digits.windows(width).all(|near| near.iter().filter(|digit| **digit != 0).count() <= 1));
            assert!(
                digits
                    .iter()
                    .all(|digit| *digit == 0 || digit % 2 != 0 && digit.unsigned_abs() < 1 << (width - 1))
            );
            assert_ne!(digits[0], 0);
            // The loops begin with the topmost digit's own multiple, and prepared lines with R itself.
            assert!(split_top(&digits).0 > 0 && (width > 2 || split_top(&digits).0 == 1));
        }
    }
}

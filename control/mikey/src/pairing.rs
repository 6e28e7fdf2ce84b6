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

//! Inversion modulo an odd number by division steps, in fixed time.
//!
//! Source: Bernstein and Yang, "Fast constant-time gcd computation and modular inversion" (2019), in the form with half
//! steps (delta starts at 1/2). 62 steps are gathered into a 2x2 matrix that is then applied to the full numbers. For a
//! modulus of 1024 bits `(45907 * 1024 + 26313) / 19929 = 2360` steps always suffice; 39 rounds make 2418.

use core::hint::black_box;

use super::limbs::{LIMBS, Limbs};

/// Limbs of 62 bits for 1024 bits and a sign.
const WORDS: usize = 17;
const BITS: u32 = 62;
const LOW: i128 = (1 << BITS) - 1;
const ROUNDS: usize = 39;

/// A signed integer: limbs of 62 bits, least significant first; all but the last in 0..2^62, the last has the sign.
type Signed = [i64; WORDS];

/// What 62 division steps do to (f, g), times 2^62.
struct Matrix {
    u: i64,
    v: i64,
    q: i64,
    r: i64,
}

/// The inverse of `value` modulo the odd `modulus`, both as integers; zero for zero. `value` must be below the modulus
/// and have no factor in common with it.
pub(super) fn invert(value: &Limbs, modulus: &Limbs, inverse_of_modulus: u64) -> Limbs {
    let m = to_signed(modulus);
    let mut f = m;
    let mut g = to_signed(value);
    let mut d: Signed = [0; WORDS];
    let mut e: Signed = [0; WORDS];
    e[0] = 1;
    let mut zeta = -1;
    for _ in 0..ROUNDS {
        let matrix = division_steps(&mut zeta, f[0] as u64, g[0] as u64);
        update_de(&mut d, &mut e, &matrix, &m, inverse_of_modulus);
        update_fg(&mut f, &mut g, &matrix);
    }
    // g = 0, f = 1 or -1 and d = f / value: the sign is taken off while d is brought into 0..modulus.
    let negative = f[WORDS - 1] >> 63;
    from_signed(&normalize(d, negative, &m))
}

/// 62 division steps on the low limbs. `zeta` is -(delta + 1/2).
#[inline]
fn division_steps(zeta: &mut i64, mut f: u64, mut g: u64) -> Matrix {
    let (mut u, mut v, mut q, mut r) = (1u64, 0u64, 0u64, 1u64);
    for _ in 0..BITS {
        let negative = black_box(*zeta >> 63) as u64;
        let odd = black_box((g & 1).wrapping_neg());
        // g, q, r take f, u, v, negated where zeta is negative, if g is odd.
        g = g.wrapping_add((f ^ negative).wrapping_sub(negative) & odd);
        q = q.wrapping_add((u ^ negative).wrapping_sub(negative) & odd);
        r = r.wrapping_add((v ^ negative).wrapping_sub(negative) & odd);
        let swap = negative & odd;
        *zeta = (*zeta ^ swap as i64).wrapping_sub(1);
        f = f.wrapping_add(g & swap);
        u = u.wrapping_add(q & swap);
        v = v.wrapping_add(r & swap);
        g >>= 1;
        u <<= 1;
        v <<= 1;
    }
    Matrix { u: u as i64, v: v as i64, q: q as i64, r: r as i64 }
}

/// (d, e) = matrix * (d, e) / 2^62 modulo the modulus; both stay in -2 modulus..modulus.
#[inline]
fn update_de(d: &mut Signed, e: &mut Signed, matrix: &Matrix, m: &Signed, inverse_of_modulus: u64) {
    let Matrix { u, v, q, r } = *matrix;
    let product = |a: i64, b: i64| i128::from(a) * i128::from(b);
    let (sd, se) = (d[WORDS - 1] >> 63, e[WORDS - 1] >> 63);
    let mut md = (u & sd).wrapping_add(v & se);
    let mut me = (q & sd).wrapping_add(r & se);
    let mut cd = product(u, d[0]) + product(v, e[0]);
    let mut ce = product(q, d[0]) + product(r, e[0]);
    // Multiples of the modulus that make the low 62 bits vanish.
    let low = LOW as u64;
    md -= (inverse_of_modulus.wrapping_mul(cd as u64).wrapping_add(md as u64) & low) as i64;
    me -= (inverse_of_modulus.wrapping_mul(ce as u64).wrapping_add(me as u64) & low) as i64;
    cd = (cd + product(m[0], md)) >> BITS;
    ce = (ce + product(m[0], me)) >> BITS;
    for i in 1..WORDS {
        cd += product(u, d[i]) + product(v, e[i]) + product(m[i], md);
        ce += product(q, d[i]) + product(r, e[i]) + product(m[i], me);
        d[i - 1] = (cd & LOW) as i64;
        e[i - 1] = (ce & LOW) as i64;
        cd >>= BITS;
        ce >>= BITS;
    }
    d[WORDS - 1] = cd as i64;
    e[WORDS - 1] = ce as i64;
}

/// (f, g) = matrix * (f, g) / 2^62, exactly.
#[inline]
fn update_fg(f: &mut Signed, g: &mut Signed, matrix: &Matrix) {
    let Matrix { u, v, q, r } = *matrix;
    let product = |a: i64, b: i64| i128::from(a) * i128::from(b);
    let mut cf = (product(u, f[0]) + product(v, g[0])) >> BITS;
    let mut cg = (product(q, f[0]) + product(r, g[0])) >> BITS;
    for i in 1..WORDS {
        cf += product(u, f[i]) + product(v, g[i]);
        cg += product(q, f[i]) + product(r, g[i]);
        f[i - 1] = (cf & LOW) as i64;
        g[i - 1] = (cg & LOW) as i64;
        cf >>= BITS;
        cg >>= BITS;
    }
    f[WORDS - 1] = cf as i64;
    g[WORDS - 1] = cg as i64;
}

/// Brings a value in -2 modulus..modulus into 0..modulus, negated first where `negative` is all ones.
fn normalize(mut value: Signed, negative: i64, m: &Signed) -> Signed {
    let add_if_negative = |value: &mut Signed| {
        let below = black_box(value[WORDS - 1] >> 63);
        for (limb, modulus) in value.iter_mut().zip(m) {
            *limb += modulus & below;
        }
        carry(value);
    };
    add_if_negative(&mut value);
    for limb in &mut value {
        *limb = (*limb ^ negative) - negative;
    }
    carry(&mut value);
    add_if_negative(&mut value);
    value
}

/// Brings all limbs but the last into 0..2^62.
fn carry(value: &mut Signed) {
    let mut over = 0;
    for limb in &mut value[..WORDS - 1] {
        let sum = *limb + over;
        *limb = sum & LOW as i64;
        over = sum >> BITS;
    }
    value[WORDS - 1] += over;
}

fn to_signed(value: &Limbs) -> Signed {
    core::array::from_fn(|i| {
        let from = BITS as usize * i;
        let (limb, shift) = (from / 64, from % 64);
        let low = value.get(limb).copied().unwrap_or(0) >> shift;
        let high = if shift == 0 { 0 } else { value.get(limb + 1).copied().unwrap_or(0) << (64 - shift) };
        ((low | high) & LOW as u64) as i64
    })
}

fn from_signed(value: &Signed) -> Limbs {
    let mut out = [0; LIMBS];
    for (i, &word) in value.iter().enumerate() {
        let from = BITS as usize * i;
        let (limb, shift) = (from / 64, from % 64);
        if let Some(low) = out.get_mut(limb) {
            *low |= (word as u64) << shift;
        }
        if shift > 2
            && let Some(high) = out.get_mut(limb + 1)
        {
            *high |= (word as u64) >> (64 - shift);
        }
    }
    out
}

//! SNOW 3G on AVX-512: 128-EEA1 and 128-EIA1 over sixteen frames side by side. Source: TS 35.215, TS 35.216.
//!
//! - S1 is an AES round on octets moved so that its ShiftRows moves them back.
//! - S2 looks octets up in four registers, then mixes.
//! - The LFSR is kept twice: as it is for the FSM, and octet by octet as elements of the AES field, where the
//!   multiplications by alpha and its inverse are one instruction each.
//! - EIA1 is evaluated a frame at a time over eight blocks at once with powers of P, kept unreduced over up to
//!   32 blocks; powers and the last product are made for eight frames at once.
//!
//! No address and no branch depends on a secret.

use std::arch::x86_64::*;

use zeroize::Zeroize;

use super::x86_lanes::{BLOCK, Generator, Group, LANES, Row, Rows, SWAP_32, Z, field};
use super::x86_lanes::{combine, key_words, load, octets, octets4, row, transpose, transpose_128};
use crate::crypto::snow3g::SQ;
use crate::suite::Suite;

/// Words of each lane before they are moved back to the start: cells, initialisation, four blocks.
const ROWS: usize = 16 + 33 + 64;

/// State of sixteen generators.
pub(super) struct Snow3g16 {
    /// LFSR; s0 is at `at`.
    s: Rows<ROWS>,
    /// LFSR in the field of AES.
    t: Rows<ROWS>,
    at: usize,
    r1: Row,
    r2: Row,
    r3: Row,
    /// Words of the steps since the last transposition.
    z: Rows<16>,
}

impl Drop for Snow3g16 {
    fn drop(&mut self) {
        self.s.zeroize();
        self.t.zeroize();
        self.r1.zeroize();
        self.r2.zeroize();
        self.r3.zeroize();
        self.z.zeroize();
    }
}

/// From the field of alpha's coefficients into that of AES, and back.
const INTO: i64 = field::matrix(field::embedding(0xa9));
const BACK: i64 = field::matrix(field::inverse(field::embedding(0xa9)));
/// Multiplies by x in the field of S2.
const TIMES_X: i64 = field::matrix([2, 4, 8, 16, 32, 64, 128, 0x69]);

/// Powers of beta, from the most significant octet, as factors of a word's octets in memory.
const fn factors(exponents: [u32; 4]) -> Z {
    let (mut o, mut i) = ([0; 16], 0);
    while i < 16 {
        o[i] = field::pow(field::root(0xa9), exponents[3 - i % 4]);
        i += 1;
    }
    octets4(o)
}

/// Source: TS 35.216 3.4.2, 3.4.3.
const MUL_ALPHA: Z = factors([23, 245, 48, 239]);
const DIV_ALPHA: Z = factors([16, 39, 6, 64]);

/// The most and the least significant octet of each word, four times.
const TOP: Z = octets4([3, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11, 15, 15, 15, 15]);
const BOTTOM: Z = octets4([0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]);

/// What ShiftRows undoes.
const UNSHIFT: Z = {
    let (mut o, mut i) = ([0; 16], 0);
    while i < 16 {
        let (column, r) = (i / 4, i % 4);
        o[i] = ((column + 4 - r) % 4 * 4 + r) as u8;
        i += 1;
    }
    octets4(o)
};

const fn quarter_of_sq(n: usize) -> Z {
    let (mut o, mut i) = ([0; 64], 0);
    while i < 64 {
        o[i] = SQ[64 * n + i];
        i += 1;
    }
    octets(o)
}

static SQ_TABLE: [Z; 4] = [quarter_of_sq(0), quarter_of_sq(1), quarter_of_sq(2), quarter_of_sq(3)];

impl Snow3g16 {
    /// Loads key and IV words and runs the 32 + 1 initial steps. Source: TS 35.216 4.1.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes,gfni")]
    fn initialise(&mut self, k: [Z; 4], iv: [Z; 4]) {
        let ones = _mm512_set1_epi32(-1);
        let xor = |a, b| _mm512_xor_si512(a, b);
        let not = k.map(|k| xor(k, ones));
        let cells = [
            not[0],
            not[1],
            not[2],
            not[3],
            k[0],
            k[1],
            k[2],
            k[3],
            not[0],
            xor(not[1], iv[3]),
            xor(not[2], iv[2]),
            not[3],
            xor(k[0], iv[1]),
            k[1],
            k[2],
            xor(k[3], iv[0]),
        ];
        for (i, cell) in cells.into_iter().enumerate() {
            self.s.set(i, cell);
            self.t.set(i, _mm512_gf2p8affine_epi64_epi8::<0>(cell, _mm512_set1_epi64(INTO)));
        }
        self.at = 0;
        (self.r1, self.r2, self.r3) = ([0; LANES], [0; LANES], [0; LANES]);
        self.steps::<true, false>(32);
        self.steps::<false, false>(1);
    }

    /// Up to 16 words of keystream into `z` (octets in the order of the frames if `SWAP`), or initial steps.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes,gfni")]
    fn steps<const INITIAL: bool, const SWAP: bool>(&mut self, n: usize) {
        if self.at + n + 16 > ROWS {
            self.s.0.copy_within(self.at..self.at + 16, 0);
            self.t.0.copy_within(self.at..self.at + 16, 0);
            self.at = 0;
        }
        let at = self.at;
        assert!(at + n + 16 <= ROWS && n <= if INITIAL { 32 } else { 16 });
        let sq = SQ_TABLE;
        let (into, back, times_x) =
            (_mm512_set1_epi64(INTO), _mm512_set1_epi64(BACK), _mm512_set1_epi64(TIMES_X));
        let zero = _mm512_setzero_si512();
        let (mut r1, mut r2, mut r3) = (load(&self.r1), load(&self.r2), load(&self.r3));
        let mut s15 = self.s.get(at + 15);
        for i in 0..n {
            let j = at + i;
            // FSM. Source: TS 35.216 3.4.6.
            let sum = _mm512_add_epi32(s15, r1);
            let f = _mm512_xor_si512(sum, r2);
            if !INITIAL {
                let z = _mm512_ternarylogic_epi32::<0x96>(sum, r2, self.s.get(j));
                self.z.set(i, if SWAP { _mm512_shuffle_epi8(z, SWAP_32) } else { z });
            }
            let r = _mm512_add_epi32(r2, _mm512_xor_si512(r3, self.s.get(j + 5)));
            let low = _mm512_permutex2var_epi8(sq[0], r2, sq[1]);
            let high = _mm512_permutex2var_epi8(sq[2], r2, sq[3]);
            let y = _mm512_mask_blend_epi8(_mm512_movepi8_mask(r2), low, high);
            // 2 w0 + w1 + w2 + 3 w3 into the first octet and so on round: x (y + y') + y' + (y + y')'' with y' turned
            // by one octet and '' by two.
            let y1 = _mm512_rol_epi32::<24>(y);
            let t = _mm512_xor_si512(y, y1);
            let x = _mm512_gf2p8affine_epi64_epi8::<0>(t, times_x);
            r3 = _mm512_ternarylogic_epi32::<0x96>(x, y1, _mm512_rol_epi32::<16>(t));
            r2 = _mm512_aesenc_epi128(_mm512_shuffle_epi8(r1, UNSHIFT), zero);
            r1 = r;
            // LFSR, in the field of AES. Source: TS 35.216 3.4.4, 3.4.5.
            let (t0, t11) = (self.t.get(j), self.t.get(j + 11));
            let mul = _mm512_gf2p8mul_epi8(_mm512_shuffle_epi8(t0, TOP), MUL_ALPHA);
            let div = _mm512_gf2p8mul_epi8(_mm512_shuffle_epi8(t11, BOTTOM), DIV_ALPHA);
            let v = _mm512_ternarylogic_epi32::<0x96>(_mm512_slli_epi32::<8>(t0), mul, self.t.get(j + 2));
            let mut v = _mm512_ternarylogic_epi32::<0x96>(v, _mm512_srli_epi32::<8>(t11), div);
            if INITIAL {
                v = _mm512_xor_si512(v, _mm512_gf2p8affine_epi64_epi8::<0>(f, into));
            }
            self.t.set(j + 16, v);
            s15 = _mm512_gf2p8affine_epi64_epi8::<0>(v, back);
            self.s.set(j + 16, s15);
        }
        self.at = at + n;
        (self.r1, self.r2, self.r3) = (row(r1), row(r2), row(r3));
    }

    /// k0..k3 of each lane. Source: TS 35.215 3.3.
    ///
    /// # Safety
    /// The group's keys are as it says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn keys(group: &Group) -> [Z; 4] {
        // SAFETY: by the contract.
        let [w0, w1, w2, w3] = unsafe { key_words::<0>(group) };
        [w3, w2, w1, w0].map(|w| _mm512_shuffle_epi8(w, SWAP_32))
    }
}

impl Generator for Snow3g16 {
    const SUITES: [Suite; 2] = [Suite::Eea1, Suite::Eea1Eia1];

    fn new() -> Box<Self> {
        let row = [0; LANES];
        Box::new(Self {
            s: Rows([row; ROWS]),
            t: Rows([row; ROWS]),
            at: 0,
            r1: row,
            r2: row,
            r3: row,
            z: Rows([row; 16]),
        })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes,gfni,bmi2")]
    unsafe fn cipher(&mut self, groups: &[Group]) {
        for group in groups {
            // SAFETY: by the contract.
            unsafe { self.cipher_group(group) };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,vaes,vpclmulqdq,gfni,bmi2")]
    unsafe fn mac(&mut self, groups: &[Group]) -> [Row; 2] {
        let mut macs = [[0; LANES]; 2];
        for (macs, group) in macs.iter_mut().zip(groups) {
            // SAFETY: by the contract.
            *macs = unsafe { self.mac_group(group) };
        }
        macs
    }
}

impl Snow3g16 {
    /// # Safety
    /// As [`Generator::cipher`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes,gfni,bmi2")]
    unsafe fn cipher_group(&mut self, group: &Group) {
        let longest = group.longest();
        if longest == 0 {
            return;
        }
        let count = load(&group.count);
        let bearer = _mm512_slli_epi32::<24>(load(&group.bearer_direction));
        // SAFETY: by the contract.
        let k = unsafe { Self::keys(group) };
        self.initialise(k, [bearer, count, bearer, count]);
        for offset in (0..longest).step_by(BLOCK) {
            self.steps::<false, true>((longest - offset).div_ceil(4).min(16));
            // SAFETY: by the contract.
            unsafe { combine(group, offset, &transpose(&self.z)) };
        }
    }

    /// # Safety
    /// As [`Generator::mac`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,vaes,vpclmulqdq,gfni,bmi2")]
    unsafe fn mac_group(&mut self, group: &Group) -> Row {
        let count = load(&group.count);
        let packed = load(&group.bearer_direction);
        let fresh = _mm512_slli_epi32::<24>(_mm512_and_si512(packed, _mm512_set1_epi32(0xf8)));
        let direction = _mm512_and_si512(packed, _mm512_set1_epi32(4));
        let iv0 = _mm512_xor_si512(fresh, _mm512_slli_epi32::<13>(direction));
        let iv1 = _mm512_xor_si512(count, _mm512_slli_epi32::<29>(direction));
        // SAFETY: by the contract.
        let k = unsafe { Self::keys(group) };
        self.initialise(k, [iv0, iv1, fresh, count]);
        self.steps::<false, false>(5);
        // P, Q and z5 of frames 0-7 and 8-15.
        let wide = |i: usize| {
            let z = self.z.get(i);
            [_mm512_castsi512_si256(z), _mm512_extracti64x4_epi64::<1>(z)].map(|h| _mm512_cvtepu32_epi64(h))
        };
        let join =
            |a: [Z; 2], b: [Z; 2]| [0, 1].map(|h| _mm512_or_si512(_mm512_slli_epi64::<32>(a[h]), b[h]));
        let p = join(wide(0), wide(1));
        let q = join(wide(2), wide(3));
        let z5 = self.z.get(4);

        let mut sums = [_mm_setzero_si128(); LANES];
        let powers = [eight_powers(p[0]), eight_powers(p[1])];
        for lane in 0..group.lanes {
            // SAFETY: by the contract, the frame's octets are readable.
            sums[lane] = unsafe { evaluate(powers[lane / 8][lane % 8], group.data[lane], group.len[lane]) };
        }
        let mut top = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            let quad = |i: usize| {
                let s = &sums[8 * half + i..];
                let low = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(s[0]), s[1]);
                _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, s[2]), s[3])
            };
            let (a, b) = (quad(0), quad(4));
            let low = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
            let high = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
            let n = &group.len[8 * half..];
            let bits = |i: usize| n[i] as i64 * 8;
            let lengths =
                _mm512_setr_epi64(bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7));
            let eval = mul(_mm512_xor_si512(reduce_halves(low, high), lengths), q[half]);
            top[half] = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(eval));
        }
        let top = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(top[0]), top[1]);
        row(_mm512_shuffle_epi8(_mm512_xor_si512(top, z5), SWAP_32))
    }
}

/// x^64 modulo the polynomial of EIA1.
const POLY: i64 = 0x1b;

/// Products of 0x1b and what stands above bit 63 after one reduction, which is less than 16.
const CARRY: Z =
    octets4([0x00, 0x1b, 0x36, 0x2d, 0x6c, 0x77, 0x5a, 0x41, 0xd8, 0xc3, 0xee, 0xf5, 0xb4, 0xaf, 0x82, 0x99]);

/// Lanes of 128-bit values given as low and high halves, modulo the polynomial.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
fn reduce_halves(low: Z, high: Z) -> Z {
    let poly = _mm512_set1_epi64(POLY);
    let even = _mm512_clmulepi64_epi128::<0x00>(high, poly);
    let odd = _mm512_clmulepi64_epi128::<0x11>(high, poly);
    let carry = _mm512_shuffle_epi8(CARRY, _mm512_unpackhi_epi64(even, odd));
    _mm512_ternarylogic_epi64::<0x96>(low, _mm512_unpacklo_epi64(even, odd), carry)
}

/// Products of eight pairs in GF(2^64). Source: TS 35.215 4.3.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
fn mul(a: Z, b: Z) -> Z {
    let even = _mm512_clmulepi64_epi128::<0x00>(a, b);
    let odd = _mm512_clmulepi64_epi128::<0x11>(a, b);
    reduce_halves(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd))
}

/// P^8 .. P^1 of eight frames, a register a frame.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
fn eight_powers(p: Z) -> [Z; 8] {
    let p2 = mul(p, p);
    let (p3, p4) = (mul(p2, p), mul(p2, p2));
    let (p5, p6, p7, p8) = (mul(p4, p), mul(p4, p2), mul(p4, p3), mul(p4, p4));
    let pairs = [(p8, p7), (p6, p5), (p4, p3), (p2, p)];
    let even = transpose_128(pairs.map(|(a, b)| _mm512_unpacklo_epi64(a, b)));
    let odd = transpose_128(pairs.map(|(a, b)| _mm512_unpackhi_epi64(a, b)));
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}

/// Evaluates a frame's blocks at P, all but the last reduction: the 128-bit sum of block i times P^(n - i).
///
/// # Safety
/// `len` octets from `data` on are readable, at least one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vpclmulqdq")]
unsafe fn evaluate(powers: Z, data: *const u8, len: usize) -> __m128i {
    const SWAP_64: Z = octets4([7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8]);
    let blocks = len.div_ceil(8);
    let registers = blocks.div_ceil(8);
    // The last register is full of blocks, the first one begins with those that are not: they count as zero.
    let lead = 8 * registers - blocks;
    let base = data.wrapping_sub(8 * lead);
    let front = !0_u64 << (8 * lead);
    let tail = !0_u64 >> (8 * blocks - len);

    // P^8..P^1, P^16..P^9, P^24..P^17, P^32..P^25.
    let mut w = [powers; 4];
    if registers > 1 {
        w[1] = mul(powers, _mm512_broadcastq_epi64(_mm512_castsi512_si128(powers)));
    }
    if registers > 2 {
        let p16 = _mm512_broadcastq_epi64(_mm512_castsi512_si128(w[1]));
        w[2] = mul(w[0], p16);
        w[3] = mul(w[1], p16);
    }
    let mut i = 0;
    let mut eval = _mm512_setzero_si512();
    loop {
        let run = (registers - i - 1) % 4 + 1;
        let mut sum = _mm512_setzero_si512();
        for w in w[..run].iter().rev() {
            let at = base.wrapping_add(64 * i);
            let m = if i == 0 || i + 1 == registers {
                let mask = if i == 0 { front } else { !0 } & if i + 1 == registers { tail } else { !0 };
                // SAFETY: the masks leave the octets from `data` to `data + len`; the others are not read.
                unsafe { _mm512_maskz_loadu_epi8(mask, at.cast()) }
            } else {
                // SAFETY: a register neither first nor last lies within the frame.
                unsafe { _mm512_loadu_si512(at.cast()) }
            };
            let m = _mm512_xor_si512(_mm512_shuffle_epi8(m, SWAP_64), eval);
            eval = _mm512_setzero_si512();
            let (a, b) = (_mm512_clmulepi64_epi128::<0x00>(m, *w), _mm512_clmulepi64_epi128::<0x11>(m, *w));
            sum = _mm512_ternarylogic_epi64::<0x96>(sum, a, b);
            i += 1;
        }
        let half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        let sum = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        if i == registers {
            return sum;
        }
        // What was evaluated so far goes on as a part of the next block.
        let poly = _mm_set_epi64x(0, POLY);
        let fold = _mm_clmulepi64_si128::<0x01>(sum, poly);
        let carry = _mm_shuffle_epi8(_mm512_castsi512_si128(CARRY), _mm_srli_si128::<8>(fold));
        let reduced = _mm_move_epi64(_mm_ternarylogic_epi64::<0x96>(sum, fold, carry));
        eval = _mm512_zextsi128_si512(reduced);
    }
}

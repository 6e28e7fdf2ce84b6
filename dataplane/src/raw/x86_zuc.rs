//! ZUC on AVX-512: 128-EEA3 and 128-EIA3, and the generator of 256-NCA6, over sixteen frames side by side.
//! Source: TS 35.221, TS 35.222, TS 35.246.
//!
//! - Cells are kept as they are and doubled: two of them make any 32-bit window in one double shift.
//! - S0 looks octets up in four registers; S1 is the inverse in a field of 256 elements, so in that of AES, between
//!   two linear maps.
//! - EIA3 multiplies message by keystream without carries: the sum of all windows at a one bit stands in the middle of
//!   the products.
//!
//! No address and no branch depends on a secret.

use std::arch::x86_64::*;

use zeroize::Zeroize;

use super::cpu::Avx512;
use super::x86_lanes::{BLOCK, Generator, Group, LANES, Row, Rows, SWAP_32, Z, field};
use super::x86_lanes::{combine, key_words, load, octets, row, transpose, transpose_128};
use super::x86_nca::{Hqp, NcaGenerator, NcaKey};
use crate::crypto::zuc::{D_128, D_256, S0, S1};
use crate::suite::Suite;

/// Cells of each lane before they are moved back to the start: sixteen, initialisation, four blocks.
const ROWS: usize = 16 + 49 + 64;

/// Two groups of sixteen generators: while one waits for its S-boxes the other goes on.
pub(super) struct Zuc16 {
    groups: [Sixteen; 2],
    /// Keystream of the block before, by lane, and the sums of windows: EIA3.
    before: [Rows<LANES>; 2],
    sums: [Rows<LANES>; 2],
}

/// State of sixteen generators.
struct Sixteen {
    /// LFSR; s0 is at `at`.
    s: Rows<ROWS>,
    /// Twice each cell.
    twice: Rows<ROWS>,
    at: usize,
    r1: Row,
    r2: Row,
    /// Words of the steps since the last transposition.
    z: Rows<16>,
}

impl Drop for Zuc16 {
    fn drop(&mut self) {
        for g in &mut self.groups {
            g.s.zeroize();
            g.twice.zeroize();
            g.r1.zeroize();
            g.r2.zeroize();
            g.z.zeroize();
        }
        self.before.iter_mut().chain(&mut self.sums).for_each(Zeroize::zeroize);
    }
}

/// From the field that S1 is the inverse in, x^8 + x^7 + x^3 + x + 1, into that of AES.
const INTO: field::Map = field::embedding(0x8b);
const S1_BEFORE: i64 = field::matrix(INTO);
/// From the inverse in the field of AES to S1, without its constant.
const S1_AFTER: i64 = {
    let (mut map, mut x) = ([0; 8], 1);
    while x < 256 {
        // The inverse is the 254th power.
        let inverse = field::pow(field::apply(INTO, x as u8), 254);
        if inverse.is_power_of_two() {
            map[inverse.trailing_zeros() as usize] = S1[x] ^ S1[0];
        }
        x += 1;
    }
    field::matrix(map)
};
/// S1 of 0, whose inverse counts as 0.
const S1_CONSTANT: i32 = S1[0] as i32;

const fn quarter_of_s0(n: usize) -> Z {
    let (mut o, mut i) = ([0; 64], 0);
    while i < 64 {
        o[i] = S0[64 * n + i];
        i += 1;
    }
    octets(o)
}

/// Images under S0 of 0 to 63 and so on.
static S0_TABLE: [Z; 4] = [quarter_of_s0(0), quarter_of_s0(1), quarter_of_s0(2), quarter_of_s0(3)];

/// Reverses the bits of each octet.
const REVERSE: i64 = field::matrix([0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1]);

/// a + b modulo 2^31 - 1, which itself becomes 0; neither is above it.
#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Z, b: Z) -> Z {
    let sum = _mm512_add_epi32(a, b);
    _mm512_min_epu32(sum, _mm512_sub_epi32(sum, _mm512_set1_epi32(i32::MAX)))
}

/// The low half of `a`, then the high half of `b`.
#[inline]
#[target_feature(enable = "avx512vbmi2")]
fn join(a: Z, b: Z) -> Z {
    _mm512_shldi_epi32::<16>(a, b)
}

impl Sixteen {
    /// Loads cells, before the first step. Source: TS 35.222 3.6.1.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&mut self, cells: [Z; 16]) {
        for (i, cell) in cells.into_iter().enumerate() {
            self.s.set(i, cell);
            self.twice.set(i, _mm512_add_epi32(cell, cell));
        }
        self.at = 0;
        (self.r1, self.r2) = ([0; LANES], [0; LANES]);
    }

    /// Cells of ZUC-128, of keys (words as in memory) and IVs (octet i in the low octet of `iv[i]`).
    /// Source: TS 35.222 3.5.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn cells(key: [Z; 4], iv: [Z; 16]) -> [Z; 16] {
        let mut cells = iv;
        for (i, cell) in cells.iter_mut().enumerate() {
            let high = _mm512_srli_epi32::<1>(octet_at_top(&key, i));
            let d = _mm512_set1_epi32(i32::from(D_128[i]) << 8);
            *cell = _mm512_ternarylogic_epi32::<0xfe>(high, d, *cell);
        }
        cells
    }

    /// Cells of ZUC with a key of 256 bits. Source: TS 35.246.
    ///
    /// # Safety
    /// The group's keys are as it says, of 32 octets.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn cells_256(group: &Group) -> [Z; 16] {
        // SAFETY: by the contract.
        let (low, high) = unsafe { (key_words::<0>(group), key_words::<16>(group)) };
        let count = load(&group.count);
        let octet = _mm512_set1_epi32(0xff);
        // Octets 0 and 1 of the IV, and 8 to 11; the others are zero.
        let iv = [
            _mm512_or_si512(_mm512_set1_epi32(0x84 << 8), _mm512_srli_epi32::<24>(count)),
            _mm512_or_si512(
                _mm512_slli_epi32::<6>(load(&group.bearer_direction)),
                _mm512_and_si512(_mm512_srli_epi32::<16>(count), octet),
            ),
            _mm512_and_si512(_mm512_srli_epi32::<8>(count), octet),
            _mm512_and_si512(count, octet),
        ];
        let mut cells = [_mm512_setzero_si512(); 16];
        for (i, cell) in cells.iter_mut().enumerate() {
            let first = _mm512_srli_epi32::<1>(octet_at_top(&low, i));
            let d = _mm512_set1_epi32(i32::from(D_256[i]) << 16);
            let rest = match i {
                0..=6 | 15 => {
                    let j = i.min(7); // octets 23 and 31 for cell 15
                    _mm512_or_si512(
                        _mm512_srli_epi32::<16>(octet_at_top(&high, j)),
                        _mm512_srli_epi32::<24>(octet_at_top(&high, j + 8)),
                    )
                }
                7..=10 => iv[i - 7],
                _ => _mm512_setzero_si512(),
            };
            *cell = _mm512_ternarylogic_epi32::<0xfe>(first, d, rest);
        }
        cells
    }

    /// Room for `n` more steps.
    #[inline]
    fn make_room(&mut self, n: usize) {
        if self.at + n + 16 > ROWS {
            self.s.0.copy_within(self.at..self.at + 16, 0);
            self.twice.0.copy_within(self.at..self.at + 16, 0);
            self.at = 0;
        }
    }
}

/// What a step hands to the next one in registers.
#[derive(Clone, Copy)]
struct Step {
    r1: Z,
    r2: Z,
    s14: Z,
    s15: Z,
    twice15: Z,
}

impl Step {
    /// Step i of those begun at `g.at`; its word goes into `z` (octets in the order of the frames if `SWAP`), save in
    /// initialisation.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni")]
    fn next<const INITIAL: bool, const SWAP: bool>(&mut self, g: &mut Sixteen, i: usize) {
        let (s1_before, s1_after) = (_mm512_set1_epi64(S1_BEFORE), _mm512_set1_epi64(S1_AFTER));
        let high = _mm512_set1_epi32(0xff00_ff00_u32 as i32);
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let Self { r1, r2, s14, s15, twice15 } = *self;
        let j = g.at + i;
        let (s, twice) = (&g.s, &g.twice);
        // X0: the sixteen high bits of s15, which has 31, then the low ones of s14.
        // Source: TS 35.222 3.3.
        let x0 = _mm512_ternarylogic_epi32::<0xca>(upper, twice15, s14);
        let x1 = join(s.get(j + 11), twice.get(j + 9));
        let x2 = join(s.get(j + 7), twice.get(j + 5));
        // F. Source: TS 35.222 3.4.
        let w = _mm512_add_epi32(_mm512_xor_si512(x0, r1), r2);
        if !INITIAL {
            let z = _mm512_xor_si512(w, join(s.get(j + 2), twice.get(j)));
            g.z.set(i, if SWAP { _mm512_shuffle_epi8(z, SWAP_32) } else { z });
        }
        let w1 = _mm512_add_epi32(r1, x1);
        let w2 = _mm512_xor_si512(r2, x2);
        let (u, v) = (l1(join(w1, w2)), l2(join(w2, w1)));
        // Octets 3 and 1 go through S0, 2 and 0 through S1: those of both words fill a register each.
        let in0 = _mm512_ternarylogic_epi32::<0xca>(high, u, _mm512_srli_epi16::<8>(v));
        let in1 = _mm512_ternarylogic_epi32::<0xca>(high, _mm512_slli_epi16::<8>(v), u);
        let below = _mm512_permutex2var_epi8(S0_TABLE[0], in0, S0_TABLE[1]);
        let above = _mm512_permutex2var_epi8(S0_TABLE[2], in0, S0_TABLE[3]);
        let out0 = _mm512_mask_blend_epi8(_mm512_movepi8_mask(in0), below, above);
        let out1 = _mm512_gf2p8affineinv_epi64_epi8::<S1_CONSTANT>(
            _mm512_gf2p8affine_epi64_epi8::<0>(in1, s1_before),
            s1_after,
        );
        self.r1 = _mm512_ternarylogic_epi32::<0xca>(high, out0, out1);
        self.r2 = _mm512_or_si512(_mm512_slli_epi16::<8>(out0), _mm512_srli_epi16::<8>(out1));
        // LFSR: 2^15 s15 + 2^17 s13 + 2^21 s10 + 2^20 s4 + 2^8 s0 + s0; a power of two turns the 31 bits.
        // Source: TS 35.222 3.2.
        let t13 = turn::<17>(s.get(j + 13), twice.get(j + 13));
        let t10 = turn::<21>(s.get(j + 10), twice.get(j + 10));
        let t4 = turn::<20>(s.get(j + 4), twice.get(j + 4));
        let t0 = turn::<8>(s.get(j), twice.get(j));
        let mut sum = add(add(t10, t4), add(add(t0, s.get(j)), t13));
        if INITIAL {
            sum = add(sum, _mm512_srli_epi32::<1>(w));
        }
        let sum = _mm512_add_epi32(sum, turn::<15>(s15, twice15));
        // Folded this way, the modulus stays what it is: no cell is zero.
        let modulus = _mm512_set1_epi32(i32::MAX);
        self.s14 = s15;
        self.s15 = _mm512_add_epi32(_mm512_and_si512(sum, modulus), _mm512_srli_epi32::<31>(sum));
        self.twice15 = _mm512_add_epi32(self.s15, self.s15);
        g.s.set(j + 16, self.s15);
        g.twice.set(j + 16, self.twice15);
    }
}

/// Up to 16 words of keystream, or initial steps, of one or two groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni")]
fn steps<const INITIAL: bool, const SWAP: bool>(groups: &mut [Sixteen], n: usize) {
    match groups {
        [one] => lockstep::<INITIAL, SWAP, 1>([one], n),
        [one, other] => lockstep::<INITIAL, SWAP, 2>([one, other], n),
        _ => {}
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni")]
fn lockstep<const INITIAL: bool, const SWAP: bool, const N: usize>(mut groups: [&mut Sixteen; N], n: usize) {
    let zero = _mm512_setzero_si512();
    let mut state = [Step { r1: zero, r2: zero, s14: zero, s15: zero, twice15: zero }; N];
    for (g, state) in groups.iter_mut().zip(&mut state) {
        g.make_room(n);
        let at = g.at;
        assert!(at + n + 16 <= ROWS && n <= if INITIAL { 48 } else { 16 });
        *state = Step {
            r1: load(&g.r1),
            r2: load(&g.r2),
            s14: g.s.get(at + 14),
            s15: g.s.get(at + 15),
            twice15: g.twice.get(at + 15),
        };
    }
    for i in 0..n {
        for (g, state) in groups.iter_mut().zip(&mut state) {
            state.next::<INITIAL, SWAP>(g, i);
        }
    }
    for (g, state) in groups.into_iter().zip(state) {
        g.at += n;
        (g.r1, g.r2) = (row(state.r1), row(state.r2));
    }
}

/// The initial steps of loaded cells. Source: TS 35.222 3.6.1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni")]
fn initialise(groups: &mut [Sixteen], rounds: usize) {
    steps::<true, false>(groups, rounds);
    steps::<false, false>(groups, 1);
}

/// Octet i of 16 in words as in memory, as the most significant octet of a word without others.
#[inline]
#[target_feature(enable = "avx512f")]
fn octet_at_top(words: &[Z; 4], i: usize) -> Z {
    let top = match i % 4 {
        0 => return _mm512_slli_epi32::<24>(words[i / 4]),
        1 => _mm512_slli_epi32::<16>(words[i / 4]),
        2 => _mm512_slli_epi32::<8>(words[i / 4]),
        _ => words[i / 4],
    };
    _mm512_and_si512(top, _mm512_set1_epi32(0xff << 24))
}

/// Times 2^k modulo 2^31 - 1: the 31 bits turned by k places.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
fn turn<const K: i32>(s: Z, twice: Z) -> Z {
    _mm512_and_si512(_mm512_shldi_epi32::<K>(s, twice), _mm512_set1_epi32(i32::MAX))
}

/// x, turned by 0, 2, 10, 18 and 24 places, summed. Source: TS 35.222 3.4.3.
#[inline]
#[target_feature(enable = "avx512f")]
fn l1(x: Z) -> Z {
    let t = _mm512_ternarylogic_epi32::<0x96>(x, _mm512_rol_epi32::<8>(x), _mm512_rol_epi32::<16>(x));
    _mm512_ternarylogic_epi32::<0x96>(x, _mm512_rol_epi32::<24>(x), _mm512_rol_epi32::<2>(t))
}

/// x, turned by 0, 8, 14, 22 and 30 places, summed. Source: TS 35.222 3.4.3.
#[inline]
#[target_feature(enable = "avx512f")]
fn l2(x: Z) -> Z {
    let x8 = _mm512_rol_epi32::<8>(x);
    let t = _mm512_ternarylogic_epi32::<0x96>(x, x8, _mm512_rol_epi32::<16>(x));
    _mm512_ternarylogic_epi32::<0x96>(x, x8, _mm512_rol_epi32::<14>(t))
}

/// COUNT and the octet with BEARER, as octets 0-3 and 4 of an IV, twice.
#[inline]
#[target_feature(enable = "avx512f")]
fn iv_twice(count: Z, bearer: Z) -> [Z; 16] {
    let octet = _mm512_set1_epi32(0xff);
    let zero = _mm512_setzero_si512();
    let c = [
        _mm512_srli_epi32::<24>(count),
        _mm512_and_si512(_mm512_srli_epi32::<16>(count), octet),
        _mm512_and_si512(_mm512_srli_epi32::<8>(count), octet),
        _mm512_and_si512(count, octet),
        bearer,
        zero,
        zero,
        zero,
    ];
    let mut iv = [zero; 16];
    iv[..8].copy_from_slice(&c);
    iv[8..].copy_from_slice(&c);
    iv
}

impl Zuc16 {
    fn unused() -> Box<Self> {
        let row = [0; LANES];
        let sixteen = || Sixteen {
            s: Rows([row; ROWS]),
            twice: Rows([row; ROWS]),
            at: 0,
            r1: row,
            r2: row,
            z: Rows([row; 16]),
        };
        let lanes = || Rows([row; LANES]);
        Box::new(Self {
            groups: [sixteen(), sixteen()],
            before: [lanes(), lanes()],
            sums: [lanes(), lanes()],
        })
    }

    /// Combines the frames with the keystream from here on.
    ///
    /// # Safety
    /// The groups' data is as they say.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni,bmi2")]
    unsafe fn apply(&mut self, groups: &[Group]) {
        let mut left = [0; 2];
        left.iter_mut().zip(groups).for_each(|(l, g)| *l = g.longest());
        let mut offset = 0;
        while left != [0; 2] {
            // The second group is the shorter one, but for frames beyond what sorting tells apart.
            let active = if left[1] > 0 { 2 } else { 1 };
            let n = left[0].max(left[1]).div_ceil(4).min(16);
            steps::<false, true>(&mut self.groups[..active], n);
            for (group, state) in groups.iter().zip(&self.groups[..active]) {
                // SAFETY: by the contract.
                unsafe { combine(group, offset, &transpose(&state.z)) };
            }
            offset += BLOCK;
            left = left.map(|l| l.saturating_sub(BLOCK));
        }
    }
}

impl NcaGenerator for Zuc16 {
    const SUITE: Suite = Suite::Nca6;
    type Key = NcaKey;

    fn expand(_: Avx512, pek: &[u8]) -> NcaKey {
        NcaKey::new(pek)
    }

    fn new() -> Box<Self> {
        Self::unused()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni,bmi2")]
    unsafe fn start(&mut self, group: &Group) -> Hqp {
        // SAFETY: by the contract.
        let cells = unsafe { Sixteen::cells_256(group) };
        self.groups[0].load(cells);
        initialise(&mut self.groups[..1], 48);
        steps::<false, true>(&mut self.groups[..1], 12);
        let frames = transpose(&self.groups[0].z);
        let mut hqp = Hqp { h: [frames[0]; 4], q: [frames[0]; 4], p: [frames[0]; 4] };
        for four in 0..4 {
            let f = &frames[4 * four..];
            [hqp.h[four], hqp.q[four], hqp.p[four], _] = transpose_128([f[0], f[1], f[2], f[3]]);
        }
        hqp
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni,bmi2")]
    unsafe fn cipher(&mut self, group: &Group) {
        // SAFETY: by the contract.
        unsafe { self.apply(std::slice::from_ref(group)) };
    }
}

impl Generator for Zuc16 {
    const SUITES: [Suite; 2] = [Suite::Eea3, Suite::Eea3Eia3];

    fn new() -> Box<Self> {
        Self::unused()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,gfni,bmi2")]
    unsafe fn cipher(&mut self, groups: &[Group]) {
        if groups.iter().all(|g| g.longest() == 0) {
            return;
        }
        for (state, group) in self.groups.iter_mut().zip(groups) {
            let iv = iv_twice(load(&group.count), load(&group.bearer_direction));
            // SAFETY: by the contract.
            state.load(Sixteen::cells(unsafe { key_words::<0>(group) }, iv));
        }
        initialise(&mut self.groups[..groups.len()], 32);
        // SAFETY: by the contract.
        unsafe { self.apply(groups) };
    }

    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,vpclmulqdq,gfni,bmi2"
    )]
    unsafe fn mac(&mut self, groups: &[Group]) -> [Row; 2] {
        let mut words = [0; 2];
        for ((state, group), words) in self.groups.iter_mut().zip(groups).zip(&mut words) {
            let packed = load(&group.bearer_direction);
            let direction = _mm512_slli_epi32::<5>(_mm512_and_si512(packed, _mm512_set1_epi32(4)));
            let mut iv = iv_twice(load(&group.count), _mm512_and_si512(packed, _mm512_set1_epi32(0xf8)));
            iv[8] = _mm512_xor_si512(iv[8], direction);
            iv[14] = direction;
            // SAFETY: by the contract.
            state.load(Sixteen::cells(unsafe { key_words::<0>(group) }, iv));
            // A frame has ceil(LENGTH / 32) + 2 words of keystream.
            *words = group.longest().div_ceil(4) + 2;
        }
        initialise(&mut self.groups[..groups.len()], 32);

        let mut macs = [[0; LANES]; 2];
        let blocks = groups.iter().map(|g| g.longest() / BLOCK + 2).max().unwrap_or(0);
        for block in 0..blocks {
            let active = if words[1] > 0 { 2 } else { 1 };
            steps::<false, false>(&mut self.groups[..active], words[0].max(words[1]).min(16));
            words = words.map(|w: usize| w.saturating_sub(16));
            for (k, group) in groups.iter().enumerate() {
                // SAFETY: by the contract.
                unsafe { self.absorb(k, group, block, &mut macs[k]) };
            }
        }
        macs
    }
}

impl Zuc16 {
    /// Takes block `block` of group k's keystream: the block of octets before it meets its own and this one, and a frame that
    /// ends there has its MAC-I.
    ///
    /// # Safety
    /// The group's data is as it says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,gfni,bmi2")]
    unsafe fn absorb(&mut self, k: usize, group: &Group, block: usize, macs: &mut Row) {
        // A group without frames in reach has no keystream left either.
        if block > group.longest() / BLOCK + 1 {
            return;
        }
        let keystream = transpose(&self.groups[k].z);
        let (before, sums) = (&mut self.before[k], &mut self.sums[k]);
        let Some(offset) = (block * BLOCK).checked_sub(BLOCK) else {
            for lane in 0..group.lanes {
                before.set(lane, keystream[lane]);
                sums.set(lane, _mm512_setzero_si512());
            }
            return;
        };
        for lane in 0..group.lanes {
            let Some(left) = group.len[lane].checked_sub(offset) else { continue };
            let at = group.data[lane].wrapping_add(offset);
            let message = if left >= BLOCK {
                // SAFETY: by the contract, 64 octets from `at` on are the frame's.
                unsafe { _mm512_loadu_si512(at.cast()) }
            } else {
                // SAFETY: by the contract, the octets of the mask are the frame's; the others are not read.
                unsafe { _mm512_maskz_loadu_epi8(_bzhi_u64(!0, left as u32), at.cast()) }
            };
            let (now, next) = (before.get(lane), keystream[lane]);
            let sum = _mm512_xor_si512(sums.get(lane), windows(message, now, next));
            if left >= BLOCK {
                sums.set(lane, sum);
                before.set(lane, next);
            } else {
                macs[lane] = finish(sum, row(now), row(next), left);
            }
        }
    }
}

/// Sum of the keystream's windows at the one bits of 64 octets, in words 0 and 2 of each 128-bit lane.
///
/// With the bits of each octet reversed, bit i of 64 is the coefficient of x^i. The windows of its product with three
/// words z0 z1 z2 (z0 the highest) stand at x^64 to x^95: from z1 z2 there, from z0 at x^0 to x^31.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,gfni")]
fn windows(message: Z, now: Z, next: Z) -> Z {
    let m = _mm512_gf2p8affine_epi64_epi8::<0>(message, _mm512_set1_epi64(REVERSE));
    // z1 z2 with z1 in the high half, for the first 64 bits; z3 z4 for the second.
    let pairs = _mm512_shuffle_epi32::<0xb1>(_mm512_alignr_epi32::<1>(next, now));
    let first =
        _mm512_xor_si512(_mm512_clmulepi64_epi128::<0x00>(m, now), _mm512_clmulepi64_epi128::<0x11>(m, now));
    let others = _mm512_xor_si512(
        _mm512_clmulepi64_epi128::<0x00>(m, pairs),
        _mm512_clmulepi64_epi128::<0x11>(m, pairs),
    );
    _mm512_mask_blend_epi32(0x4444, first, others)
}

/// MAC-I of a frame that ends `left` octets into the block whose keystream is `now`: all sums, the window at its end and
/// its last word.
#[inline]
#[target_feature(enable = "avx512f")]
fn finish(sum: Z, now: Row, next: Row, left: usize) -> u32 {
    let sum = _mm512_maskz_mov_epi32(0x5555, sum);
    let word = |i: usize| if i < 16 { now[i] } else { next[i - 16] };
    let i = left / 4;
    let pair = u64::from(word(i)) << 32 | u64::from(word(i + 1));
    let window = (pair << (left % 4 * 8) >> 32) as u32;
    let last = word(left.div_ceil(4) + 1);
    let sums = row(sum).iter().fold(0, |a, b| a ^ b);
    (sums ^ window ^ last).swap_bytes()
}

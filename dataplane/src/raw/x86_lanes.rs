//! Stream ciphers sixteen frames side by side: what the kernels of SNOW 3G and ZUC share.
//!
//! ```text
//! run -> chunks of 64 jobs, sorted by 64-octet blocks, longest first -> groups of 16, one a 32-bit lane
//!        seal: MAC over header and data, then cipher        open: cipher, then MAC, then wipe what was wrong
//! ```
//! Two groups go together, so that a generator may clock one while it waits for the other.
//!
//! A generator clocks all lanes at once; every 16 words its rows are transposed, so that each frame gets 64 octets
//! of keystream in one register. Frames of a group that end early leave their lane idle: sorting keeps that small. A frame
//! alone takes as long as sixteen, about what the portable code takes, but without its look-ups in memory.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::transmute;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// A register of sixteen lanes.
pub(super) type Z = __m512i;

/// Frames side by side.
pub(super) const LANES: usize = 16;
/// Octets of keystream of a frame between two transpositions.
pub(super) const BLOCK: usize = 64;

/// One word of each lane.
pub(super) type Row = [u32; LANES];

/// Keys of one context; both algorithms take theirs as they are.
#[repr(C, align(32))]
#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct LaneKeys {
    pek: [u8; 16],
    pik: [u8; 16],
}

/// Up to sixteen frames, longest first. Lanes from `lanes` on repeat lane 0's key and have no octets.
#[repr(C, align(64))]
pub(super) struct Group {
    /// COUNT.
    pub(super) count: Row,
    /// BEARER || DIRECTION || 00.
    pub(super) bearer_direction: Row,
    /// Sixteen octets each, or 32 for an algorithm with a key of 256 bits; readable.
    pub(super) key: [*const u8; LANES],
    /// First octet; `len` octets from it are readable and writable.
    pub(super) data: [*mut u8; LANES],
    /// Octets.
    pub(super) len: [usize; LANES],
    /// Frames.
    pub(super) lanes: usize,
}

impl Group {
    /// Octets of the longest frame. Only blocks are sorted, not octets.
    pub(super) fn longest(&self) -> usize {
        self.len[..self.lanes].iter().copied().max().unwrap_or(0)
    }
}

/// A generator with its ciphering and integrity, and the state that these work on.
pub(super) trait Generator: Send {
    /// The suite without and with integrity.
    const SUITES: [Suite; 2];

    fn new() -> Box<Self>;

    /// Combines the frames of one or two groups with keystream.
    ///
    /// # Safety
    /// The processor has what [`Avx512`] shows, and the groups' pointers are as they say.
    unsafe fn cipher(&mut self, groups: &[Group]);

    /// MAC-I of each frame of one or two groups, as it stands in memory.
    ///
    /// # Safety
    /// The processor has what [`Avx512`] shows, and the groups' pointers are as they say.
    unsafe fn mac(&mut self, groups: &[Group]) -> [Row; 2];
}

/// An EEA, or EEA with EIA, of one generator on AVX-512.
pub(super) struct Avx512Lanes<G, const EIA: bool> {
    proof: Avx512,
    keys: KeySlab<LaneKeys>,
    /// Holds keystream between calls, and is wiped with the keys.
    generator: RefCell<Box<G>>,
    suite: PhantomData<G>,
}

impl<G: Generator, const EIA: bool> Avx512Lanes<G, EIA> {
    /// No keys yet.
    pub(super) fn new(proof: Avx512) -> Self {
        Self { proof, keys: KeySlab::new(), generator: RefCell::new(G::new()), suite: PhantomData }
    }

    fn mac_len() -> usize {
        if EIA { 4 } else { 0 }
    }

    /// Jobs admitted and in order, longest first, then `f` for each group's places in `jobs`.
    fn chunks(&self, arena: &mut [u8], jobs: &mut [Job], open: bool) {
        let mut generator = self.generator.borrow_mut();
        for chunk in jobs.chunks_mut(CHUNK) {
            for job in &*chunk {
                check(job, arena.len(), Self::mac_len(), self.keys.as_slice().len());
            }
            let order = longest_first(chunk);
            let order = &order[..chunk.len()];
            if open {
                self.cipher(&mut generator, arena, chunk, order);
            }
            if EIA {
                for places in order.chunks(2 * LANES) {
                    let groups = self.groups(arena, chunk, places, true);
                    // SAFETY: `proof` shows the features; `groups` made its pointers of admitted jobs.
                    let macs = unsafe { generator.mac(&groups[..places.len().div_ceil(LANES)]) };
                    for (place, mac) in places.iter().zip(macs.into_iter().flatten()) {
                        let job = &mut chunk[usize::from(*place)];
                        let (start, end) = (job.start as usize, job.start as usize + job.len as usize);
                        let field = &mut arena[end..end + 4];
                        if open {
                            // One comparison of a word: nothing is learnt from its time.
                            let received = u32::from_ne_bytes([field[0], field[1], field[2], field[3]]);
                            job.verified = received ^ mac == 0;
                            if !job.verified {
                                arena[start..end].zeroize(); // it was deciphered to be checked
                            }
                        } else {
                            field.copy_from_slice(&mac.to_ne_bytes());
                        }
                    }
                }
            } else if open {
                chunk.iter_mut().for_each(|job| job.verified = true);
            }
            if !open {
                self.cipher(&mut generator, arena, chunk, order);
            }
        }
    }

    fn cipher(&self, generator: &mut G, arena: &mut [u8], jobs: &[Job], order: &[u8]) {
        for places in order.chunks(2 * LANES) {
            let groups = self.groups(arena, jobs, places, false);
            // SAFETY: `proof` shows the features; `groups` made its pointers of admitted jobs.
            unsafe { generator.cipher(&groups[..places.len().div_ceil(LANES)]) };
        }
    }

    /// The frames of up to 32 admitted jobs as two groups; the second may be empty.
    fn groups(&self, arena: &mut [u8], jobs: &[Job], places: &[u8], integrity: bool) -> [Group; 2] {
        let (first, second) = places.split_at(places.len().min(LANES));
        let arena = arena.as_mut_ptr();
        [self.group(arena, jobs, first, integrity), self.group(arena, jobs, second, integrity)]
    }

    /// The frames of some admitted jobs: header and data under PIK, or data under PEK.
    fn group(&self, arena: *mut u8, jobs: &[Job], places: &[u8], integrity: bool) -> Group {
        let keys = self.keys.as_slice();
        let mut group = Group {
            count: [0; LANES],
            bearer_direction: [0; LANES],
            key: [std::ptr::null(); LANES],
            data: [arena; LANES],
            len: [0; LANES],
            lanes: places.len(),
        };
        for (lane, place) in places.iter().enumerate() {
            let job = &jobs[usize::from(*place)];
            let keys = &keys[job.key.0 as usize];
            group.count[lane] = job.count;
            group.bearer_direction[lane] = u32::from(job.bearer_direction);
            let (key, from, len) = if integrity {
                (&keys.pik, job.start as usize - Job::HEADER_LEN, job.len as usize + Job::HEADER_LEN)
            } else {
                (&keys.pek, job.start as usize, if job.clear_data { 0 } else { job.len as usize })
            };
            group.key[lane] = key.as_ptr();
            group.data[lane] = arena.wrapping_add(from);
            group.len[lane] = len;
        }
        for lane in places.len()..LANES {
            group.key[lane] = group.key[0];
        }
        group
    }
}

impl<G: Generator, const EIA: bool> Cipher for Avx512Lanes<G, EIA> {
    fn suite(&self) -> Suite {
        G::SUITES[usize::from(EIA)]
    }

    fn kernel(&self) -> Kernel {
        self.proof.kernel()
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        let mut kept = LaneKeys { pek: [0; 16], pik: *keys.pik() };
        kept.pek.copy_from_slice(keys.pek());
        self.keys.insert(kept)
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.chunks(arena, jobs, false);
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        self.chunks(arena, jobs, true);
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(keys) = self.keys.as_slice().get(key.0 as usize) {
            // SAFETY: a prefetch reads nothing; every processor of this architecture has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(keys).cast()) };
        }
    }
}

/// Places of up to [`CHUNK`] jobs, those with most blocks first: a counting sort.
pub(super) fn longest_first(jobs: &[Job]) -> [u8; CHUNK] {
    const CLASSES: usize = 32;
    // Beyond 31 blocks a frame of any length shares the first class: what the others wait there is little beside it.
    let class = |job: &Job| CLASSES - 1 - (job.len as usize).div_ceil(BLOCK).min(CLASSES - 1);
    let mut order: [u8; CHUNK] = std::array::from_fn(|i| i as u8);
    if jobs.iter().all(|j| class(j) == class(&jobs[0])) {
        return order;
    }
    let mut next = [0u8; CLASSES];
    jobs.iter().for_each(|j| next[class(j)] += 1);
    let mut at = 0;
    for n in &mut next {
        at += *n;
        *n = at - *n;
    }
    for (i, job) in jobs.iter().enumerate() {
        let n = &mut next[class(job)];
        order[usize::from(*n)] = i as u8;
        *n += 1;
    }
    order
}

/// Words of one lane each, kept in memory.
#[repr(C, align(64))]
pub(super) struct Rows<const N: usize>(pub(super) [Row; N]);

impl<const N: usize> Rows<N> {
    #[inline(always)]
    pub(super) fn get(&self, i: usize) -> Z {
        load(&self.0[i])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, i: usize, z: Z) {
        self.0[i] = row(z);
    }
}

impl<const N: usize> Zeroize for Rows<N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// A row as a register.
#[inline(always)]
pub(super) fn load(row: &Row) -> Z {
    // SAFETY: both are 64 octets without invalid values.
    unsafe { transmute::<Row, Z>(*row) }
}

/// A register as a row.
#[inline(always)]
pub(super) fn row(z: Z) -> Row {
    // SAFETY: both are 64 octets without invalid values.
    unsafe { transmute::<Z, Row>(z) }
}

/// 64 octets as a register.
#[inline(always)]
pub(super) const fn octets(o: [u8; 64]) -> Z {
    // SAFETY: both are 64 octets without invalid values.
    unsafe { transmute::<[u8; 64], Z>(o) }
}

/// 16 octets, four times.
#[inline(always)]
pub(super) const fn octets4(o: [u8; 16]) -> Z {
    // SAFETY: both are 64 octets without invalid values.
    unsafe { transmute::<[[u8; 16]; 4], Z>([o; 4]) }
}

/// Order of octets that reverses each word.
pub(super) const SWAP_32: Z = octets4([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]);

/// Lane i of the 128-bit lanes of four registers, as register i.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_128(x: [Z; 4]) -> [Z; 4] {
    let a = _mm512_shuffle_i32x4::<0x44>(x[0], x[1]);
    let b = _mm512_shuffle_i32x4::<0xee>(x[0], x[1]);
    let c = _mm512_shuffle_i32x4::<0x44>(x[2], x[3]);
    let d = _mm512_shuffle_i32x4::<0xee>(x[2], x[3]);
    [
        _mm512_shuffle_i32x4::<0x88>(a, c),
        _mm512_shuffle_i32x4::<0xdd>(a, c),
        _mm512_shuffle_i32x4::<0x88>(b, d),
        _mm512_shuffle_i32x4::<0xdd>(b, d),
    ]
}

/// Within each 128-bit lane, word i of four registers as register i.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_32_in_128(x: [Z; 4]) -> [Z; 4] {
    let a = _mm512_unpacklo_epi32(x[0], x[1]);
    let b = _mm512_unpackhi_epi32(x[0], x[1]);
    let c = _mm512_unpacklo_epi32(x[2], x[3]);
    let d = _mm512_unpackhi_epi32(x[2], x[3]);
    [
        _mm512_unpacklo_epi64(a, c),
        _mm512_unpackhi_epi64(a, c),
        _mm512_unpacklo_epi64(b, d),
        _mm512_unpackhi_epi64(b, d),
    ]
}

/// Words by step and lane in, words by lane and step out.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &Rows<16>) -> [Z; LANES] {
    let quad =
        |i: usize| transpose_32_in_128([rows.get(i), rows.get(i + 1), rows.get(i + 2), rows.get(i + 3)]);
    let (a, b, c, d) = (quad(0), quad(4), quad(8), quad(12));
    let mut out = [a[0]; LANES];
    for j in 0..4 {
        let t = transpose_128([a[j], b[j], c[j], d[j]]);
        for i in 0..4 {
            out[4 * i + j] = t[i];
        }
    }
    out
}

/// Words `OFFSET` / 4 to `OFFSET` / 4 + 3 of each lane's key, octets as in memory.
///
/// # Safety
/// The group's keys are as it says, and sixteen of their octets from `OFFSET` on are readable.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn key_words<const OFFSET: usize>(group: &Group) -> [Z; 4] {
    let mut x = [_mm512_setzero_si512(); 4];
    for (j, x) in x.iter_mut().enumerate() {
        // SAFETY: by the contract, 16 octets of each key are readable there.
        let key = |i: usize| unsafe { _mm_loadu_si128(group.key[4 * i + j].wrapping_add(OFFSET).cast()) };
        let low = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(key(0)), key(1));
        *x = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, key(2)), key(3));
    }
    transpose_32_in_128(x)
}

/// Combines octets from `offset` on of each frame with its 64 octets of keystream.
///
/// # Safety
/// The group's data is as it says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) unsafe fn combine(group: &Group, offset: usize, keystream: &[Z; LANES]) {
    for lane in 0..group.lanes {
        // SAFETY: by the contract.
        unsafe { combine_one(group, lane, offset, keystream[lane]) };
    }
}

/// Combines octets from `offset` on of one frame with 64 octets of keystream.
///
/// # Safety
/// The group's data is as it says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) unsafe fn combine_one(group: &Group, lane: usize, offset: usize, keystream: Z) {
    let left = group.len[lane].saturating_sub(offset);
    let at = group.data[lane].wrapping_add(offset);
    if left >= BLOCK {
        // SAFETY: by the contract, 64 octets from `at` on are the frame's.
        unsafe {
            let data = _mm512_loadu_si512(at.cast());
            _mm512_storeu_si512(at.cast(), _mm512_xor_si512(data, keystream));
        }
    } else if left > 0 {
        let mask = _bzhi_u64(!0, left as u32);
        // SAFETY: by the contract, the octets of the mask are the frame's; the others are not touched.
        unsafe {
            let data = _mm512_maskz_loadu_epi8(mask, at.cast());
            _mm512_mask_storeu_epi8(at.cast(), mask, _mm512_xor_si512(data, keystream));
        }
    }
}

/// Linear maps of octets, and fields of 256 elements within that of AES, for the instructions that know only that one.
pub(super) mod field {
    /// Images of the eight single bits.
    pub(crate) type Map = [u8; 8];

    /// Product in the field of AES.
    pub(crate) const fn mul(a: u8, b: u8) -> u8 {
        mul_modulo(a, b, 0x1b)
    }

    /// Product in the field whose polynomial is x^8 + `c`.
    pub(crate) const fn mul_modulo(mut a: u8, mut b: u8, c: u8) -> u8 {
        let mut product = 0;
        while b != 0 {
            if b & 1 != 0 {
                product ^= a;
            }
            a = a << 1 ^ if a & 0x80 != 0 { c } else { 0 };
            b >>= 1;
        }
        product
    }

    pub(crate) const fn pow(a: u8, n: u32) -> u8 {
        let (mut power, mut i) = (1, 0);
        while i < n {
            power = mul(power, a);
            i += 1;
        }
        power
    }

    /// A root, in the field of AES, of x^8 + `c`: where x goes when the other field is laid over this one.
    pub(crate) const fn root(c: u8) -> u8 {
        let mut r = 2;
        loop {
            let (mut value, mut i) = (pow(r, 8), 0);
            while i < 8 {
                if c >> i & 1 != 0 {
                    value ^= pow(r, i);
                }
                i += 1;
            }
            if value == 0 {
                return r;
            }
            r += 1; // one of the 256 is a root, since there is but one field of that size
        }
    }

    /// From the field of x^8 + `c` into that of AES.
    pub(crate) const fn embedding(c: u8) -> Map {
        let (mut map, mut i) = ([0; 8], 0);
        while i < 8 {
            map[i] = pow(root(c), i as u32);
            i += 1;
        }
        map
    }

    pub(crate) const fn apply(map: Map, x: u8) -> u8 {
        let (mut y, mut i) = (0, 0);
        while i < 8 {
            if x >> i & 1 != 0 {
                y ^= map[i];
            }
            i += 1;
        }
        y
    }

    pub(crate) const fn inverse(map: Map) -> Map {
        let (mut inverse, mut x) = ([0; 8], 0);
        while x < 256 {
            let y = apply(map, x as u8);
            if y.is_power_of_two() {
                inverse[y.trailing_zeros() as usize] = x as u8;
            }
            x += 1;
        }
        inverse
    }

    /// As the operand of `gf2p8affineqb`: octet 7 - i selects the bits that make bit i.
    pub(crate) const fn matrix(map: Map) -> i64 {
        let (mut rows, mut i) = ([0; 8], 0);
        while i < 8 {
            let mut j = 0;
            while j < 8 {
                rows[7 - i] |= (map[j] >> i & 1) << j;
                j += 1;
            }
            i += 1;
        }
        i64::from_le_bytes(rows)
    }
}

//! 128-EEA2 and 128-EIA2 on AVX-512.
//!
//! ```text
//! EEA2: eight slots of 64 octets at a time, of whatever frames       EIA2: 32 frames side by side, block by block
//! seal: MAC over header and data, then cipher                       open: cipher, then MAC, then wipe what was wrong
//! ```
//!
//! In counter mode a slot is independent of every other, so slots of many frames, each with its own key and nonce, are simply
//! taken in turn. CMAC is a chain within a frame: only other frames can fill the time that a round takes. Their
//! blocks stand one a lane, under round keys merged lane by lane once a group.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cpu::Avx512;
use super::jobs::{CHUNK, check};
use super::x86::{self, Block};
use super::x86_512::*;
use crate::cipher::{Cipher, Job, Kernel, KeyIndex, KeySlab};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// Octets of a slot.
const SLOT: usize = 64;
/// Slots ciphered at a time.
const SLOTS: usize = 8;
/// Registers of frames whose MACs are made at a time, four frames each.
const WIDTH: usize = 8;
/// Frames of a group.
const GROUP: usize = 4 * WIDTH;
/// Octets of a CMAC's message before the data: COUNT to zeros (8), PDCP header (5).
const BEFORE: usize = 8 + Job::HEADER_LEN;
/// Round keys.
const RK: usize = 11;

/// Expanded keys of one context.
#[repr(C, align(64))]
#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct Eea2Key {
    /// Of PEK.
    cipher: [Block; RK],
    /// Of PIK.
    mac: [Block; RK],
    /// Subkeys of CMAC. Source: SP 800-38B 6.1.
    sub: [Block; 2],
}

impl Eea2Key {
    #[target_feature(enable = "aes,sse4.1")]
    fn expand(keys: &FrameKeys) -> Self {
        let double = |b: Block| {
            let v = u128::from_be_bytes(b);
            (v << 1 ^ ((v >> 127).wrapping_neg() & 0x87)).to_be_bytes()
        };
        let mut key =
            Self { cipher: x86::round_keys(keys.pek()), mac: x86::round_keys(keys.pik()), ..Self::default() };
        key.sub[0] = double(x86::encrypt_block(&key.mac, [0; 16]));
        key.sub[1] = double(key.sub[0]);
        key
    }
}

/// `eea2`, or with `EIA` `eea2-eia2`, on AVX-512.
pub(super) struct Avx512Eea2<const EIA: bool> {
    proof: Avx512,
    keys: KeySlab<Eea2Key>,
}

impl<const EIA: bool> Avx512Eea2<EIA> {
    /// No keys yet.
    pub(super) fn new(proof: Avx512) -> Self {
        Self { proof, keys: KeySlab::new() }
    }
}

impl<const EIA: bool> Cipher for Avx512Eea2<EIA> {
    fn suite(&self) -> Suite {
        if EIA { Suite::Eea2Eia2 } else { Suite::Eea2 }
    }

    fn kernel(&self) -> Kernel {
        self.proof.kernel()
    }

    fn insert(&mut self, keys: &FrameKeys) -> KeyIndex {
        // SAFETY: the proof shows every feature that `expand` enables.
        self.keys.insert(unsafe { Eea2Key::expand(keys) })
    }

    fn remove(&mut self, key: KeyIndex) {
        self.keys.remove(key);
    }

    fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for chunk in jobs.chunks_mut(CHUNK) {
            // SAFETY: the proof shows every feature that `run` enables.
            unsafe { run::<EIA, false>(self.keys.as_slice(), arena, chunk) }
        }
    }

    fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
        for chunk in jobs.chunks_mut(CHUNK) {
            // SAFETY: the proof shows every feature that `run` enables.
            unsafe { run::<EIA, true>(self.keys.as_slice(), arena, chunk) }
        }
    }

    fn prefetch(&self, key: KeyIndex) {
        if let Some(key) = self.keys.as_slice().get(key.0 as usize) {
            prefetch(key);
        }
    }
}

#[inline(always)]
fn prefetch(key: &Eea2Key) {
    let p = std::ptr::from_ref(key).cast::<i8>();
    for line in (0..size_of::<Eea2Key>()).step_by(64) {
        // SAFETY: a prefetch reads nothing, and the address is inside `key`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line)) };
    }
}

/// A frame, admitted: `data - 5 .. data + len + 4` (without EIA, `data + len`) is inside the arena.
#[derive(Clone, Copy)]
struct Lane {
    job: *mut Job,
    data: *mut u8,
    len: usize,
    key: *const Eea2Key,
}

/// One slot to cipher: `len` octets, at most 64, from `data`.
#[derive(Clone, Copy)]
struct Slot {
    job: *const Job,
    data: *mut u8,
    len: usize,
    key: *const Eea2Key,
    /// Its first counter.
    block: u32,
}

macro_rules! round_key {
    ($key:expr, $part:ident, $r:literal) => {{
        let out: Z;
        // SAFETY: reads a round key of a key that the caller vouched for.
        asm!("vbroadcasti32x4 {0}, xmmword ptr [{1} + {2}]", out(zmm_reg) out, in(reg) $key,
            const offset_of!(Eea2Key, $part) + 16 * $r, options(readonly, nostack, preserves_flags));
        out
    }};
}

macro_rules! rounds {
    ($round:ident) => {
        $round!(aesenc, 1);
        $round!(aesenc, 2);
        $round!(aesenc, 3);
        $round!(aesenc, 4);
        $round!(aesenc, 5);
        $round!(aesenc, 6);
        $round!(aesenc, 7);
        $round!(aesenc, 8);
        $round!(aesenc, 9);
        $round!(aesenclast, 10);
    };
}

#[repr(align(64))]
struct Aligned<T>(T);

kernel_fn! {
    fn run<const EIA: bool, const OPEN: bool>(keys: &[Eea2Key], arena: &mut [u8], jobs: &mut [Job]) {
        let mac_len = if EIA { 4 } else { 0 };
        let (mut least, mut most) = (u32::MAX, 0);
        let mut asked = u32::MAX;
        for job in &*jobs {
            check(job, arena.len(), mac_len, keys.len());
            // Contexts of many keys do not stay near: all of a burst are asked for before the first is needed.
            if job.key.0 != asked {
                asked = job.key.0;
                prefetch(&keys[asked as usize]);
            }
            (least, most) = (least.min(job.len), most.max(job.len));
        }
        let n = jobs.len();
        let (arena, jobs_at) = (arena.as_mut_ptr(), jobs.as_mut_ptr());
        let mut lanes = [MaybeUninit::<Lane>::uninit(); CHUNK];
        let lane = |i: usize| {
            // SAFETY: `check` admitted job i: its data lies in the arena and its key exists.
            unsafe {
                let job = jobs_at.add(i);
                let data = arena.add((*job).start as usize);
                Lane { job, data, len: (*job).len as usize, key: keys.as_ptr().add((*job).key.0 as usize) }
            }
        };
        // For MACs, frames of like length side by side, longest first; 64 octets are a class, from 2 KiB on there is only
        // one.
        if EIA && most / 64 != least / 64 {
            let class = |i: usize| {
                // SAFETY: i is below the number of jobs.
                31 - unsafe { ((*jobs_at.add(i)).len as usize / 64).min(31) }
            };
            let mut next = [0u8; 33];
            for i in 0..n {
                next[class(i) + 1] += 1;
            }
            for c in 1..33 {
                next[c] += next[c - 1];
            }
            for i in 0..n {
                let at = &mut next[class(i)];
                lanes[usize::from(*at)].write(lane(i));
                *at += 1;
            }
        } else {
            for (i, place) in lanes[..n].iter_mut().enumerate() {
                place.write(lane(i));
            }
        }
        // SAFETY: the sort wrote each of the first n places once; lanes are admitted.
        unsafe {
            let lanes = std::slice::from_raw_parts(lanes.as_ptr().cast::<Lane>(), n);
            if OPEN {
                cipher::<EIA>(lanes);
            }
            if EIA {
                for group in lanes.chunks(GROUP) {
                    macs::<OPEN>(group);
                }
            } else if OPEN {
                for lane in lanes {
                    (*lane.job).verified = true;
                }
            }
            if !OPEN {
                cipher::<EIA>(lanes);
            }
        }
    }

    /// Ciphers every frame, eight slots at a time.
    ///
    /// # Safety
    /// Lanes are admitted.
    unsafe fn cipher<const EIA: bool>(lanes: &[Lane]) {
        let Some(first) = lanes.first() else { return };
        // SAFETY: slots lie within admitted frames.
        unsafe {
            let nothing = Slot { job: first.job, data: first.data, len: 0, key: first.key, block: 0 };
            let mut slots = [nothing; SLOTS];
            let mut n = 0;
            for lane in lanes {
                if (*lane.job).clear_data {
                    continue;
                }
                let (mut data, mut left, mut block) = (lane.data, lane.len, 0);
                while left >= SLOTS * SLOT {
                    cipher_whole(lane, data, block);
                    (data, left, block) = (data.add(SLOTS * SLOT), left - SLOTS * SLOT, block + 4 * SLOTS as u32);
                }
                while left > 0 {
                    slots[n] = Slot { job: lane.job, data, len: left.min(SLOT), key: lane.key, block };
                    n += 1;
                    if n == SLOTS {
                        cipher_slots(&slots);
                        n = 0;
                    }
                    if left <= SLOT {
                        break;
                    }
                    (data, left, block) = (data.add(SLOT), left - SLOT, block + 4);
                }
            }
            if n > 0 {
                slots[n..].fill(nothing);
                cipher_slots(&slots);
            }
        }
    }

    /// Keystream input of slot `s` after `block`, xor the first round key. Source: TS 33.401 B.1.3; a frame has fewer than
    /// 2^32 blocks.
    ///
    /// # Safety
    /// Job and key are readable.
    unsafe fn input(job: *const Job, key: *const Eea2Key, block: u32, s: u32) -> Z {
        const COUNT: usize = offset_of!(Job, count);
        const { assert!(offset_of!(Job, bearer_direction) == COUNT + 4 && COUNT + 16 <= size_of::<Job>()) };
        // COUNT from little-endian, BEARER and DIRECTION, zeros.
        let nonce_order = _mm512_broadcast_i32x4(_mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 4, 0, 1, 2, 3));
        let counter_order =
            _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        let lanes = _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        // SAFETY: as the caller vouches.
        unsafe {
            let nonce = _mm512_shuffle_epi8(broadcast(job.cast::<u8>().add(COUNT)), nonce_order);
            let counter = _mm512_add_epi32(lanes, _mm512_set1_epi32((block + 4 * s) as i32));
            let key = broadcast(key.cast::<u8>().add(offset_of!(Eea2Key, cipher)));
            xor3(nonce, _mm512_shuffle_epi8(counter, counter_order), key)
        }
    }

    /// Eight slots, each with a key of its own.
    ///
    /// # Safety
    /// `len` octets from `data` of each slot are writable; job and key are readable.
    unsafe fn cipher_slots(slots: &[Slot; SLOTS]) {
        // SAFETY: as the caller vouches; masks end at the length.
        unsafe {
            let mut x = [_mm512_setzero_si512(); SLOTS];
            each!(s < SLOTS, {
                x[s] = input(slots[s].job, slots[s].key, slots[s].block, 0);
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    each!(s < SLOTS, {
                        let k = round_key!(slots[s].key, cipher, $r);
                        x[s] = $op(x[s], k);
                    });
                }};
            }
            rounds!(round);
            each!(s < SLOTS, {
                let Slot { data, len, .. } = slots[s];
                let mask = _bzhi_u64(u64::MAX, len as u32);
                let text = _mm512_maskz_loadu_epi8(mask, data.cast());
                _mm512_mask_storeu_epi8(data.cast(), mask, _mm512_xor_si512(text, x[s]));
            });
        }
    }

    /// Eight whole slots of one frame.
    ///
    /// # Safety
    /// 512 octets from `data` are writable; job and key are readable.
    unsafe fn cipher_whole(lane: &Lane, data: *mut u8, block: u32) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut x = [_mm512_setzero_si512(); SLOTS];
            each!(s < SLOTS, {
                x[s] = input(lane.job, lane.key, block, s as u32);
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let k = round_key!(lane.key, cipher, $r);
                    each!(s < SLOTS, {
                        x[s] = $op(x[s], k);
                    });
                }};
            }
            rounds!(round);
            each!(s < SLOTS, {
                let at = data.add(SLOT * s);
                let text = _mm512_loadu_si512(at.cast());
                _mm512_storeu_si512(at.cast(), _mm512_xor_si512(text, x[s]));
            });
        }
    }

    /// Makes the MACs of up to 32 frames as they stand in memory; writes them, or compares and wipes.
    /// Source: TS 33.401 B.2.3, SP 800-38B 6.2.
    ///
    /// # Safety
    /// Lanes are admitted; there are 1 to 32.
    unsafe fn macs<const OPEN: bool>(lanes: &[Lane]) {
        // SAFETY: blocks that are read lie between a frame's header and its end, round keys in its key.
        unsafe {
            let mut first = [[0u8; 16]; GROUP];
            let mut last = Aligned([[0u8; 16]; GROUP]);
            let mut blocks = [0usize; GROUP];
            let mut frame = [lanes[0]; GROUP];
            frame[..lanes.len()].copy_from_slice(lanes);
            for (i, lane) in lanes.iter().enumerate() {
                let message = BEFORE + lane.len;
                blocks[i] = message.div_ceil(16);
                let rest = message - 16 * (blocks[i] - 1);
                // The first block: eight octets of the job, then header and data as far as they go.
                let input = (*lane.job).count_bearer_direction();
                let mask = _bzhi_u32(0xffff, 16.min(message) as u32) as u16 & 0xff00;
                let head = _mm_maskz_loadu_epi8(mask, lane.data.wrapping_sub(BEFORE).cast());
                let head = _mm_or_si128(head, _mm_set_epi64x(0, i64::from_le_bytes(input)));
                let end = if blocks[i] == 1 {
                    head
                } else {
                    let at = lane.data.wrapping_sub(BEFORE).wrapping_add(16 * (blocks[i] - 1));
                    _mm_maskz_loadu_epi8(_bzhi_u32(0xffff, rest as u32) as u16, at.cast())
                };
                let padding = _mm_maskz_set1_epi8((1u32 << rest) as u16, 0x80_u8 as i8);
                let sub = x86::to_m128((*lane.key).sub[usize::from(rest != 16)]);
                last.0[i] = x86::from_m128(_mm_xor_si128(_mm_xor_si128(end, padding), sub));
                first[i] = if blocks[i] == 1 { last.0[i] } else { x86::from_m128(head) };
            }
            let used = lanes.len();
            let (mut fewest, mut most) = (usize::MAX, 0);
            for b in &blocks[..used] {
                (fewest, most) = (fewest.min(*b), most.max(*b));
            }
            // Lanes without a frame repeat the first one's key; their blocks count for nothing.
            let same = lanes.iter().all(|l| l.key == lanes[0].key);
            let mut keys = MaybeUninit::<Keys>::uninit();
            let keys = merge_keys(&mut keys, &frame, same);
            let mut body = [std::ptr::null::<u8>(); GROUP];
            let mut end = [std::ptr::null::<u8>(); GROUP];
            // Blocks of the longest frame in each register and those behind it: what is over is not clocked on.
            let mut longest = [0; WIDTH + 1];
            for l in (0..GROUP).rev() {
                body[l] = frame[l].data.wrapping_sub(BEFORE);
                end[l] = last.0[l].as_ptr();
                longest[l / 4] = blocks[l].max(longest[l / 4]).max(longest[l / 4 + 1]);
            }
            let mut x = [_mm512_setzero_si512(); WIDTH];
            let mut done = x;
            macro_rules! step {
                ($w:literal, $t:expr) => {{
                    encrypt::<$w>(keys, &mut x, same);
                    if $t + 1 >= fewest {
                        each!(g < $w, {
                            let mut ends = 0;
                            for l in 0..4 {
                                ends |= u8::from(blocks[4 * g + l] == $t + 1) << (2 * l);
                            }
                            done[g] = _mm512_mask_mov_epi64(done[g], ends * 3, x[g]);
                        });
                    }
                }};
            }
            each!(g < WIDTH, {
                x[g] = _mm512_loadu_si512(first.as_ptr().add(4 * g).cast());
            });
            step!(8, 0);
            for t in 1..most {
                let at = |l: usize| if t + 1 < blocks[l] { body[l].wrapping_add(16 * t) } else { end[l] };
                macro_rules! gather_and_step {
                    ($w:literal) => {{
                        each!(g < $w, {
                            let block = gather([at(4 * g), at(4 * g + 1), at(4 * g + 2), at(4 * g + 3)]);
                            x[g] = _mm512_xor_si512(x[g], block);
                        });
                        step!($w, t)
                    }};
                }
                if longest[4] > t {
                    gather_and_step!(8);
                } else if longest[2] > t {
                    gather_and_step!(4);
                } else {
                    gather_and_step!(2);
                }
            }
            let mut macs = [[0u8; 16]; GROUP];
            each!(g < WIDTH, {
                _mm512_storeu_si512(macs.as_mut_ptr().add(4 * g).cast(), done[g]);
            });
            for (lane, mac) in lanes.iter().zip(macs.iter()) {
                let mac = u32::from_ne_bytes([mac[0], mac[1], mac[2], mac[3]]);
                let field = lane.data.add(lane.len).cast::<u32>();
                if OPEN {
                    // One comparison of a word: nothing is learnt from its time.
                    let verified = field.read_unaligned() ^ mac == 0;
                    (*lane.job).verified = verified;
                    if !verified {
                        lane.data.write_bytes(0, lane.len);
                    }
                } else {
                    field.write_unaligned(mac);
                }
            }
            wipe(keys, same);
            for g in 0..WIDTH {
                last.0.as_mut_ptr().cast::<Z>().add(g).write_volatile(_mm512_setzero_si512());
            }
        }
    }

    /// Four blocks, one a lane.
    ///
    /// # Safety
    /// All are readable.
    unsafe fn gather(at: [*const u8; 4]) -> Z {
        // SAFETY: as the caller vouches.
        unsafe {
            let x = broadcast(at[0]);
            let x = _mm512_mask_broadcast_i32x4(x, 0x00f0, _mm_loadu_si128(at[1].cast()));
            let x = _mm512_mask_broadcast_i32x4(x, 0x0f00, _mm_loadu_si128(at[2].cast()));
            _mm512_mask_broadcast_i32x4(x, 0xf000, _mm_loadu_si128(at[3].cast()))
        }
    }
}

/// Round keys of CMAC of a group, lane by lane; one register a round where all frames have the same key.
struct Keys([[Z; WIDTH]; RK]);

kernel_fn! {
    /// Fills what [`encrypt`] reads.
    ///
    /// # Safety
    /// Keys of the frames are readable. With `same`, only the first counts.
    unsafe fn merge_keys(place: &mut MaybeUninit<Keys>, frame: &[Lane; GROUP], same: bool) -> *mut Keys {
        let keys = place.as_mut_ptr();
        // SAFETY: as the caller vouches; writes within `place`.
        unsafe {
            let at = |l: usize, r: usize| frame[l].key.cast::<u8>().add(offset_of!(Eea2Key, mac) + 16 * r);
            for r in 0..RK {
                for g in 0..if same { 1 } else { WIDTH } {
                    let k = gather([at(4 * g, r), at(4 * g + 1, r), at(4 * g + 2, r), at(4 * g + 3, r)]);
                    (&raw mut (*keys).0[r][g]).write(k);
                }
            }
        }
        keys
    }

    /// # Safety
    /// `keys` comes from [`merge_keys`] with the same `same`.
    unsafe fn encrypt<const W: usize>(keys: *const Keys, x: &mut [Z; WIDTH], same: bool) {
        // SAFETY: what is read was written.
        unsafe {
            let key = |r: usize, g: usize| (&raw const (*keys).0[r][g]).read();
            macro_rules! all {
                ($of:expr) => {{
                    let of = $of;
                    each!(g < W, {
                        x[g] = _mm512_xor_si512(x[g], of(0, g));
                    });
                    macro_rules! round {
                        ($op:ident, $r:literal) => {{
                            each!(g < W, {
                                x[g] = $op(x[g], of($r, g));
                            });
                        }};
                    }
                    rounds!(round);
                }};
            }
            if same {
                all!(|r: usize, _: usize| key(r, 0));
            } else {
                all!(|r: usize, g: usize| key(r, g));
            }
        }
    }

    /// # Safety
    /// As [`encrypt`]; afterwards the keys are gone.
    unsafe fn wipe(keys: *mut Keys, same: bool) {
        // SAFETY: writes within the keys.
        unsafe {
            for r in 0..RK {
                for g in 0..if same { 1 } else { WIDTH } {
                    (&raw mut (*keys).0[r][g]).write_volatile(_mm512_setzero_si512());
                }
            }
        }
    }
}

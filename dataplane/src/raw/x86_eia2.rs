//! 128-EIA2 on AVX-512: the MACs of 32 frames side by side.
//!
//! ```text
//! block   0 COUNT BEARER DIRECTION 0 | PDCP header | 3 octets    1-4 | 5-8 | ...    four blocks, a slot, begin at octet 3 of the data
//!         one block of a frame is a lane, four frames are a register, eight registers go step by step
//! ```
//!
//! CMAC is a chain within a frame, so only other frames can fill the time that a round takes: eight registers are what two rounds a
//! cycle with a latency of four want. Frames are read 64 octets at a time; four of them, transposed, give four steps of one register.
//! That is done for the next slot between the rounds of this one. Round keys stand merged lane by lane in memory, transposed in the
//! same way, unless all frames have the same key.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

use super::x86_512::*;
use super::x86_eea2::{Eea2Key, Lane, round_key};
use super::x86_lanes::transpose_128;
use crate::cipher::Job;

/// Frames of a group.
pub(super) const GROUP: usize = 4 * WIDTH;
/// Blocks of the key as [`Eea2Key::mac`] has them.
pub(super) const KEYS: usize = 12;
/// Where in it stands the first round key.
pub(super) const FIRST: usize = 10;
/// Where in it stands the subkey of a last block that is padded.
pub(super) const K2: usize = 11;

/// Registers of four frames each.
const WIDTH: usize = 8;
/// Octets of a slot: four blocks.
const SLOT: usize = 64;
/// Octets of data in the first block, which also has COUNT to zeros (8) and the PDCP header (5).
const HEAD: usize = 16 - 8 - Job::HEADER_LEN;

/// What is known of a group while it is under way. All pointers are those of admitted frames.
#[repr(C, align(64))]
struct Work {
    /// The key of each lane, block by block; unused where all frames have the same.
    keys: [[Z; KEYS]; WIDTH],
    /// Four steps of each register, of this slot and the next.
    text: [[[Z; 4]; WIDTH]; 2],
    /// Padding and subkey, for the last block of each lane.
    tail: [Z; WIDTH],
    /// Blocks of each lane's message, as 64 bits twice.
    blocks: [Z; WIDTH],
    /// The chains, first round key added.
    x: [Z; WIDTH],
    /// Chains that came to their end.
    done: [Z; WIDTH],
    /// First octet of the first slot.
    data: [*const u8; GROUP],
    /// Octets from there.
    left: [usize; GROUP],
    /// Blocks of the longest message.
    most: usize,
    /// Slots that every frame has whole, with a block to follow: none ends before.
    whole: usize,
    /// Key of all frames, where it is the same.
    key: *const Eea2Key,
}

/// A register's frames before they are put into lanes.
#[repr(C, align(64))]
struct Heads {
    first: [[u64; 2]; 4],
    padding: [[u64; 2]; 4],
    blocks: [[u64; 2]; 4],
}

/// A bit of one behind so many octets, and nothing after 16: 16 octets from 16 - n on.
static PADDING: [u8; 32] = {
    let mut p = [0; 32];
    p[16] = 0x80;
    p
};

/// Calls `round!(operation, instruction, number)` for each round after the first key.
macro_rules! rounds {
    ($round:ident) => {
        $round!(aesenc, "vaesenc", 1);
        $round!(aesenc, "vaesenc", 2);
        $round!(aesenc, "vaesenc", 3);
        $round!(aesenc, "vaesenc", 4);
        $round!(aesenc, "vaesenc", 5);
        $round!(aesenc, "vaesenc", 6);
        $round!(aesenc, "vaesenc", 7);
        $round!(aesenc, "vaesenc", 8);
        $round!(aesenc, "vaesenc", 9);
        $round!(aesenclast, "vaesenclast", 10);
    };
}

/// A round of `$n` registers of `$x`: with one key for all, or with merged keys straight from memory.
macro_rules! encrypt {
    ($op:ident, $instruction:literal, $r:literal, $w:ident, $x:ident, $n:ident, $same:ident) => {
        if $same {
            let key = round_key!((*$w).key, mac, $r - 1);
            each!(g < $n, {
                $x[g] = $op($x[g], key);
            });
        } else {
            each_const!(g < $n, {
                // SAFETY: reads a block of keys that were merged.
                asm!(concat!($instruction, " {0}, {0}, zmmword ptr [{1} + {2}]"), inout(zmm_reg) $x[g], in(reg) $w,
                    const offset_of!(Work, keys) + 64 * (KEYS * g + $r - 1), options(readonly, nostack, preserves_flags));
            });
        }
    };
}

kernel_fn! {
    /// Makes the MACs of up to 32 frames as they stand in memory; writes them, or compares and wipes.
    /// Source: TS 33.401 B.2.3, SP 800-38B 6.2.
    ///
    /// # Safety
    /// Lanes are admitted; there are 1 to 32.
    pub(super) unsafe fn macs<const OPEN: bool>(lanes: &[Lane]) {
        let key = lanes[0].key;
        // SAFETY: as the caller vouches.
        unsafe {
            if lanes.iter().all(|l| l.key == key) {
                group::<OPEN, true>(lanes);
            } else {
                group::<OPEN, false>(lanes);
            }
        }
    }

    /// As [`macs`]; with `SAME` all frames have the same key.
    ///
    /// # Safety
    /// Lanes are admitted; there are 1 to 32.
    unsafe fn group<const OPEN: bool, const SAME: bool>(lanes: &[Lane]) {
        let mut place = MaybeUninit::<Work>::uninit();
        let w = place.as_mut_ptr();
        // SAFETY: of `w` only what was written is read; blocks that are read lie between a frame's header and its end, round keys
        // in its key.
        unsafe {
            let width = match lanes.len() {
                0..=8 => 2,
                9..=16 => 4,
                _ => WIDTH,
            };
            (*w).key = lanes[0].key;
            // Slots of the longest frame in each register and those behind it: what is over is not clocked on.
            let mut longest = [0; WIDTH + 1];
            let (mut least, mut most) = (usize::MAX, 0);
            for g in 0..width {
                let (shortest, blocks) = head::<SAME>(w, g, lanes);
                longest[g] = (blocks - 1).div_ceil(4);
                (least, most) = (least.min(shortest), most.max(blocks));
            }
            for g in (0..WIDTH).rev() {
                longest[g] = longest[g].max(longest[g + 1]);
            }
            (*w).most = most;
            (*w).whole = least.saturating_sub(2) / 4;
            for g in width..WIDTH {
                (&raw mut (*w).x[g]).write(_mm512_setzero_si512());
                (&raw mut (*w).done[g]).write(_mm512_setzero_si512());
            }
            begin::<SAME>(w, width, least == 1);
            if longest[4] > 0 {
                slots::<8, SAME>(w, 0, longest[4]);
            }
            if longest[2] > longest[4] {
                slots::<4, SAME>(w, longest[4], longest[2]);
            }
            if longest[0] > longest[2] {
                slots::<2, SAME>(w, longest[2], longest[0]);
            }
            let mut macs = [[0u32; 4]; GROUP];
            for g in 0..width {
                let mac = _mm512_xor_si512((*w).done[g], key_block::<SAME>(w, g, FIRST));
                _mm512_storeu_si512(macs.as_mut_ptr().add(4 * g).cast(), mac);
            }
            for (lane, mac) in lanes.iter().zip(&macs) {
                let field = lane.data.add(lane.len).cast::<u32>();
                if OPEN {
                    // One comparison of a word: nothing is learnt from its time.
                    let verified = field.read_unaligned() ^ mac[0] == 0;
                    (*lane.job).verified = verified;
                    if !verified {
                        lane.data.write_bytes(0, lane.len);
                    }
                } else {
                    field.write_unaligned(mac[0]);
                }
            }
            for g in 0..width {
                (&raw mut (*w).tail[g]).write_volatile(_mm512_setzero_si512());
                if !SAME {
                    for r in 0..KEYS {
                        (&raw mut (*w).keys[g][r]).write_volatile(_mm512_setzero_si512());
                    }
                }
            }
        }
    }

    /// Block `r` of each lane's key.
    ///
    /// # Safety
    /// The register's keys are merged, or with `SAME` the key is readable.
    unsafe fn key_block<const SAME: bool>(w: *const Work, g: usize, r: usize) -> Z {
        // SAFETY: as the caller vouches.
        unsafe {
            if SAME {
                broadcast((&raw const (*(*w).key).mac[r]).cast())
            } else {
                (*w).keys[g][r]
            }
        }
    }

    /// Sets up four frames: their keys, first blocks and what their last blocks are to be added. How many blocks the shortest and the
    /// longest of them have. Lanes without a frame repeat the last one.
    ///
    /// # Safety
    /// Lanes are admitted.
    unsafe fn head<const SAME: bool>(w: *mut Work, g: usize, lanes: &[Lane]) -> (usize, usize) {
        let mut heads = MaybeUninit::<Heads>::uninit();
        let heads = heads.as_mut_ptr();
        let (mut least, mut most) = (usize::MAX, 0);
        let mut frames = [&lanes[lanes.len() - 1]; 4];
        let mut unpadded = 0u8;
        // SAFETY: header and data of an admitted lane are readable, every place of `heads` is written.
        unsafe {
            each!(l < 4, {
                let lane = lanes.get(4 * g + l).unwrap_or(frames[l]);
                frames[l] = lane;
                let Lane { job, data, len, .. } = *lane;
                let from = data.sub(Job::HEADER_LEN).cast_const();
                let input = u64::from((*job).count.swap_bytes()) | u64::from((*job).bearer_direction) << 32;
                let (text, left, rest) = if len > HEAD {
                    (from.cast::<u64>().read_unaligned(), len - HEAD, (len - HEAD - 1) % 16 + 1)
                } else {
                    let mut text = [0; 8];
                    from.copy_to_nonoverlapping(text.as_mut_ptr(), Job::HEADER_LEN + len);
                    (u64::from_le_bytes(text), 0, 8 + Job::HEADER_LEN + len)
                };
                let blocks = 1 + left.div_ceil(16);
                (*heads).first[l] = [input, text];
                (*heads).blocks[l] = [blocks as u64; 2];
                let padding = PADDING.as_ptr().add(16 - rest).cast();
                _mm_storeu_si128((&raw mut (*heads).padding[l]).cast(), _mm_loadu_si128(padding));
                unpadded |= u8::from(rest == 16) * (3 << (2 * l));
                (&raw mut (*w).data[4 * g + l]).write(data.wrapping_add(HEAD));
                (&raw mut (*w).left[4 * g + l]).write(left);
                (least, most) = (least.min(blocks), most.max(blocks));
            });
            if !SAME {
                each!(q < 3, {
                    let at = |l: usize| _mm512_load_si512((&raw const (*frames[l].key).mac).cast::<Z>().add(q).cast());
                    let merged = transpose_128([at(0), at(1), at(2), at(3)]);
                    each!(r < 4, {
                        (&raw mut (*w).keys[g]).cast::<Z>().add(4 * q + r).write(merged[r]);
                    });
                });
            }
            let mut sub = key_block::<SAME>(w, g, K2);
            if unpadded != 0 {
                let at = |l: usize| _mm_load_si128((&raw const (*frames[l].key).k1).cast());
                let k1 = _mm512_castsi128_si512(at(0));
                let k1 = _mm512_inserti32x4::<2>(_mm512_inserti32x4::<1>(k1, at(1)), at(2));
                sub = _mm512_mask_mov_epi64(sub, unpadded, _mm512_inserti32x4::<3>(k1, at(3)));
            }
            let load = |at: &[[u64; 2]; 4]| _mm512_load_si512(at.as_ptr().cast());
            (&raw mut (*w).tail[g]).write(_mm512_xor_si512(sub, load(&(*heads).padding)));
            (&raw mut (*w).blocks[g]).write(load(&(*heads).blocks));
            let first = _mm512_xor_si512(load(&(*heads).first), key_block::<SAME>(w, g, FIRST));
            (&raw mut (*w).x[g]).write(first);
            (&raw mut (*w).done[g]).write(first); // until the chain ends
        }
        (least, most)
    }

    /// The first block of each frame, and the first slots made ready; with `ends` it is the last block of some.
    ///
    /// # Safety
    /// The first `width` registers are set up.
    unsafe fn begin<const SAME: bool>(w: *mut Work, width: usize, ends: bool) {
        // SAFETY: as the caller vouches.
        unsafe {
            let one = _mm512_set1_epi64(1);
            if ends {
                for g in 0..width {
                    let mask = _mm512_cmpeq_epi64_mask((*w).blocks[g], one);
                    (*w).x[g] = _mm512_mask_xor_epi64((*w).x[g], mask, (*w).x[g], (*w).tail[g]);
                }
            }
            match width {
                2 => first_step::<2, SAME>(w),
                4 => first_step::<4, SAME>(w),
                _ => first_step::<8, SAME>(w),
            }
            if ends {
                for g in 0..width {
                    let mask = _mm512_cmpeq_epi64_mask((*w).blocks[g], one);
                    (*w).done[g] = _mm512_mask_mov_epi64((*w).done[g], mask, (*w).x[g]);
                }
            }
        }
    }

    /// Puts the first block through AES and makes ready the first slot.
    ///
    /// # Safety
    /// The first `W` registers are set up.
    unsafe fn first_step<const W: usize, const SAME: bool>(w: *mut Work) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut x = (*w).x;
            let whole = (*w).whole > 0;
            macro_rules! round {
                ($op:ident, $instruction:literal, $r:literal) => {{
                    encrypt!($op, $instruction, $r, w, x, W, SAME);
                    if $r <= W {
                        if whole { gather::<true>(w, 0, $r - 1) } else { gather::<false>(w, 0, $r - 1) }
                    }
                }};
            }
            rounds!(round);
            (*w).x = x;
        }
    }

    /// Slots `from` to `to` of `W` registers.
    ///
    /// # Safety
    /// The first `W` registers are set up, and slot `from` of each is gathered.
    unsafe fn slots<const W: usize, const SAME: bool>(w: *mut Work, from: usize, to: usize) {
        // SAFETY: as the caller vouches.
        unsafe {
            let inner = (*w).whole.clamp(from, to);
            steps::<W, SAME, false>(w, from, inner);
            steps::<W, SAME, true>(w, inner, to);
        }
    }

    /// As [`slots`]; frames end here only with `ENDS`.
    ///
    /// # Safety
    /// As [`slots`].
    unsafe fn steps<const W: usize, const SAME: bool, const ENDS: bool>(w: *mut Work, from: usize, to: usize) {
        // SAFETY: as the caller vouches; text of a slot is read after it was gathered.
        unsafe {
            let (mut x, mut done) = ((*w).x, (*w).done);
            let most = (*w).most;
            for k in from..to {
                let more = 4 * k + 5 < most;
                let whole = k + 1 < (*w).whole;
                let text = &raw const (*w).text[k % 2];
                macro_rules! step {
                    ($s:literal) => {{
                        let t = 4 * k + 1 + $s;
                        let mut mask = [0; W];
                        each!(g < W, {
                            x[g] = _mm512_xor_si512(x[g], (*text)[g][$s]);
                            if ENDS {
                                mask[g] = _mm512_cmpeq_epi64_mask((*w).blocks[g], _mm512_set1_epi64(t as i64 + 1));
                                x[g] = _mm512_mask_xor_epi64(x[g], mask[g], x[g], (*w).tail[g]);
                            }
                        });
                        macro_rules! round {
                            ($op:ident, $instruction:literal, $r:literal) => {{
                                encrypt!($op, $instruction, $r, w, x, W, SAME);
                                // The next slot of a register or two a step.
                                let g = W * $s / 4 + $r / 5;
                                if ($r == 2 || $r == 7) && g < W * ($s + 1) / 4 && more {
                                    if whole { gather::<true>(w, k + 1, g) } else { gather::<false>(w, k + 1, g) }
                                }
                            }};
                        }
                        rounds!(round);
                        if ENDS {
                            each!(g < W, {
                                done[g] = _mm512_mask_mov_epi64(done[g], mask[g], x[g]);
                            });
                        }
                    }};
                }
                step!(0);
                if ENDS && 4 * k + 2 >= most { continue }
                step!(1);
                if ENDS && 4 * k + 3 >= most { continue }
                step!(2);
                if ENDS && 4 * k + 4 >= most { continue }
                step!(3);
            }
            (*w).x = x;
            (*w).done = done;
        }
    }

    /// Slot `k` of four frames, one step a register; with `WHOLE` all have it whole, else what they do not have is zero.
    ///
    /// # Safety
    /// The register is set up.
    unsafe fn gather<const WHOLE: bool>(w: *mut Work, k: usize, g: usize) {
        // SAFETY: as the caller vouches; masks end at the frame's end.
        unsafe {
            let at = |l: usize| {
                let data = (*w).data[4 * g + l].wrapping_add(SLOT * k);
                if WHOLE {
                    return _mm512_loadu_si512(data.cast());
                }
                let left = (*w).left[4 * g + l].saturating_sub(SLOT * k).min(SLOT);
                _mm512_maskz_loadu_epi8(_bzhi_u64(!0, left as u32), data.cast())
            };
            (*w).text[k % 2][g] = transpose_128([at(0), at(1), at(2), at(3)]);
        }
    }
}

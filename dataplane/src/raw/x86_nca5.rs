//! 256-NCA5 on AVX-512: AES-256 under the POLYVAL of the family. Source: TS 35.243, as read off its test data.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::offset_of;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cpu::Avx512;
use super::x86::{self, Block};
use super::x86_512::*;
use super::x86_lanes::{BLOCK, Group, LANES, transpose_128};
use super::x86_nca::{Hqp, NcaGenerator};
use crate::suite::Suite;

/// Round keys.
const RK: usize = 15;
/// Registers ciphered at a time.
const SLOTS: usize = 8;

/// Round keys of a context.
#[repr(C, align(64))]
#[derive(Default, Zeroize, ZeroizeOnDrop)]
pub(super) struct Aes256Key {
    rk: [Block; RK],
}

/// Counter mode has no state between calls.
pub(super) struct Aes256Ctr;

impl NcaGenerator for Aes256Ctr {
    const SUITE: Suite = Suite::Nca5;
    type Key = Aes256Key;

    fn new() -> Box<Self> {
        Box::new(Self)
    }

    fn expand(_: Avx512, pek: &[u8]) -> Aes256Key {
        // SAFETY: the proof shows AES, SSE4.1 and SSSE3.
        Aes256Key { rk: unsafe { x86::round_keys(pek) } }
    }

    unsafe fn start(&mut self, group: &Group) -> Hqp {
        // SAFETY: as the caller vouches.
        unsafe { start(group) }
    }

    unsafe fn cipher(&mut self, group: &Group) {
        // SAFETY: as the caller vouches.
        unsafe { cipher(group) }
    }
}

/// Up to 64 octets of lane `lane` of a group, from `at`, with counters from `block`.
#[derive(Clone, Copy)]
struct Slot {
    lane: usize,
    at: usize,
    len: usize,
    block: u32,
}

macro_rules! round_key {
    ($key:expr, $r:literal) => {{
        let out: Z;
        // SAFETY: reads a round key of a key that the caller vouched for.
        asm!("vbroadcasti32x4 {0}, xmmword ptr [{1} + {2}]", out(zmm_reg) out, in(reg) $key,
            const offset_of!(Aes256Key, rk) + 16 * $r, options(readonly, nostack, preserves_flags));
        out
    }};
}

kernel_fn! {
    /// H, Q and P: counters 0, 1, 2 of the IV that has the lowest bit of its first octet set.
    ///
    /// # Safety
    /// Keys of the group are readable.
    unsafe fn start(group: &Group) -> Hqp {
        let zero = _mm512_setzero_si512();
        let mut out = Hqp { h: [zero; 4], q: [zero; 4], p: [zero; 4] };
        for half in 0..2 {
            let slots = std::array::from_fn(|i| Slot { lane: SLOTS * half + i, at: 0, len: 0, block: 0 });
            // SAFETY: as the caller vouches.
            let x = unsafe { keystream(group, &slots, 0x85) };
            for four in 0..2 {
                let [h, q, p, _] = transpose_128([x[4 * four], x[4 * four + 1], x[4 * four + 2], x[4 * four + 3]]);
                let to = 2 * half + four;
                (out.h[to], out.q[to], out.p[to]) = (h, q, p);
            }
        }
        out
    }

    /// Ciphers every frame, eight registers at a time, of whatever frames.
    ///
    /// # Safety
    /// The group's pointers are as it says.
    unsafe fn cipher(group: &Group) {
        let nothing = Slot { lane: 0, at: 0, len: 0, block: 0 };
        let mut slots = [nothing; SLOTS];
        let mut n = 0;
        for lane in 0..group.lanes.min(LANES) {
            let mut at = 0;
            while at < group.len[lane] {
                slots[n] = Slot { lane, at, len: (group.len[lane] - at).min(BLOCK), block: (at / 16) as u32 };
                n += 1;
                at += BLOCK;
                if n == SLOTS {
                    // SAFETY: slots lie within their frames.
                    unsafe { combine(group, &slots) };
                    n = 0;
                }
            }
        }
        if n > 0 {
            slots[n..].fill(nothing);
            // SAFETY: slots lie within their frames.
            unsafe { combine(group, &slots) };
        }
    }

    /// # Safety
    /// The group's pointers are as it says and slots lie within its frames.
    unsafe fn combine(group: &Group, slots: &[Slot; SLOTS]) {
        // SAFETY: as the caller vouches; masks end at the length.
        unsafe {
            let x = keystream(group, slots, 0x84);
            each!(s < SLOTS, {
                let Slot { lane, at, len, .. } = slots[s];
                let at = group.data[lane].wrapping_add(at).cast();
                let mask = _bzhi_u64(u64::MAX, len as u32);
                let text = _mm512_maskz_loadu_epi8(mask, at);
                _mm512_mask_storeu_epi8(at, mask, _mm512_xor_si512(text, x[s]));
            });
        }
    }

    /// AES-256 of four counters of each slot; the IV begins with octet `first`.
    ///
    /// # Safety
    /// Keys of the group are readable.
    unsafe fn keystream(group: &Group, slots: &[Slot; SLOTS], first: u8) -> [Z; SLOTS] {
        let counter_order =
            _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        let lanes = _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        let mut x = [_mm512_setzero_si512(); SLOTS];
        // SAFETY: as the caller vouches.
        unsafe {
            each!(s < SLOTS, {
                let Slot { lane, block, .. } = slots[s];
                // BEARER and DIRECTION move down from the high six bits.
                let head = i32::from(first) | (group.bearer_direction[lane] as i32 >> 2) << 8;
                let iv = _mm512_broadcast_i32x4(_mm_set_epi32(0, group.count[lane].swap_bytes() as i32, 0, head));
                let counter = _mm512_shuffle_epi8(_mm512_add_epi32(lanes, _mm512_set1_epi32(block as i32)), counter_order);
                x[s] = xor3(iv, counter, broadcast(group.key[lane]));
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    each!(s < SLOTS, {
                        let k = round_key!(group.key[slots[s].lane], $r);
                        x[s] = $op(x[s], k);
                    });
                }};
            }
            round!(aesenc, 1);
            round!(aesenc, 2);
            round!(aesenc, 3);
            round!(aesenc, 4);
            round!(aesenc, 5);
            round!(aesenc, 6);
            round!(aesenc, 7);
            round!(aesenc, 8);
            round!(aesenc, 9);
            round!(aesenc, 10);
            round!(aesenc, 11);
            round!(aesenc, 12);
            round!(aesenc, 13);
            round!(aesenclast, 14);
        }
        x
    }
}

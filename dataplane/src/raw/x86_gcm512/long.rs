//! Frames of more than four slots, one by one: eight slots a step.

use super::*;

kernel_fn! {
    /// H^(4 * `slots`) in all lanes, and its halves summed; `slots` is 1 to 8.
    ///
    /// # Safety
    /// `key` is readable.
    unsafe fn bulk<const RK: usize>(key: *const GcmKey<RK>, slots: usize) -> (Z, Z) {
        let at = if slots <= 4 { (TAIL - 4 * slots) * 16 } else { offset_of!(GcmKey<RK>, bulk) + (8 - slots) * 16 };
        let sum = offset_of!(GcmKey<RK>, bulk_sum) + (8 - slots) * 8;
        // SAFETY: both are inside the key.
        unsafe { (broadcast(key.cast::<u8>().add(at)), _mm512_set1_epi64(key.cast::<u8>().add(sum).cast::<i64>().read())) }
    }

    /// A frame of more than four slots: whole steps of eight slots, then one of one to eight.
    ///
    /// Lane j of the running hash holds what lane j of the slots so far adds up to; AAD counts as the last lane of a slot before the first.
    ///
    /// # Safety
    /// The lane is admitted and has data.
    pub(super) unsafe fn long<const RK: usize, const OPEN: bool>(lane: Lane<RK>) {
        // SAFETY: `step` is given whole slots of the frame, `last` the rest of it.
        unsafe {
            let input = input(&lane);
            let nonce = nonce(&lane, input);
            let aad = broadcast(lane.job.cast::<u8>().cast_const());
            let received = if OPEN { broadcast(lane.data.add(lane.len).cast_const()) } else { aad };
            let mut hash = _mm512_maskz_mov_epi64(0xc0, reversed(aad));
            let mut counter = _mm512_set_epi32(5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0);
            let (mut data, mut len) = (lane.data, lane.len);
            while len > STEP * SLOT {
                hash = step::<RK, OPEN>(lane.key, nonce, counter, hash, data);
                counter = _mm512_add_epi32(counter, counters(STEP));
                data = data.add(STEP * SLOT);
                len -= STEP * SLOT;
            }
            macro_rules! last {
                ($s:literal) => {
                    last::<RK, OPEN, $s>(lane.key, nonce, counter, hash, data, len, lengths(input))
                };
            }
            let tag = match len.div_ceil(SLOT) {
                1 => last!(1),
                2 => last!(2),
                3 => last!(3),
                4 => last!(4),
                5 => last!(5),
                6 => last!(6),
                7 => last!(7),
                _ => last!(8),
            };
            settle::<RK, OPEN, 1>(&[lane], tag, received);
        }
    }

    /// Counter increment of so many slots.
    fn counters(slots: usize) -> Z {
        _mm512_maskz_set1_epi32(0x8888, 4 * slots as i32)
    }

    /// Counter blocks of slot `s` after `counter`, xor the nonce.
    fn counter_block(nonce: Z, counter: Z, s: usize) -> Z {
        let order = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        _mm512_xor_si512(nonce, _mm512_shuffle_epi8(_mm512_add_epi32(counter, counters(s)), order))
    }

    /// Eight whole slots; the hash with them.
    ///
    /// # Safety
    /// `key` is readable, 512 octets from `data` writable.
    unsafe fn step<const RK: usize, const OPEN: bool>(
        key: *const GcmKey<RK>, nonce: Z, counter: Z, hash: Z, data: *mut u8,
    ) -> Z {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut x = [_mm512_setzero_si512(); STEP];
            each!(s < STEP, {
                x[s] = counter_block(nonce, counter, s);
            });
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let k = round_key!(RK, key, $r);
                    each!(s < STEP, {
                        x[s] = $op(x[s], k);
                    });
                }};
            }
            rounds!(round, RK);
            let (p, p_sum) = bulk(key, STEP);
            let mut sum = add_karatsuba(zero(), hash, p, p_sum);
            let mut block = hash;
            each!(s < STEP, {
                let at = data.add(SLOT * s);
                let text = _mm512_loadu_si512(at.cast());
                let out = _mm512_xor_si512(text, x[s]);
                _mm512_storeu_si512(at.cast(), out);
                block = reversed(if OPEN { text } else { out });
                if s + 1 < STEP {
                    let (p, p_sum) = bulk(key, STEP - 1 - s);
                    sum = add_karatsuba(sum, block, p, p_sum);
                }
            });
            _mm512_xor_si512(reduce_karatsuba(sum), block)
        }
    }

    /// The last `S` slots, the last of them with one octet or more; the tag in all lanes.
    ///
    /// # Safety
    /// `key` is readable, `len` octets from `data` writable; `len` is over 64 * (`S` - 1) and at most 64 * `S`.
    unsafe fn last<const RK: usize, const OPEN: bool, const S: usize>(
        key: *const GcmKey<RK>, nonce: Z, counter: Z, hash: Z, data: *mut u8, len: usize, lengths: Z,
    ) -> Z {
        // SAFETY: as the caller vouches; the mask ends at `len`.
        unsafe {
            let mut x = [_mm512_setzero_si512(); S];
            each!(s < S, {
                x[s] = counter_block(nonce, counter, s);
            });
            let mut j0 = first_counter(nonce);
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let k = round_key!(RK, key, $r);
                    each!(s < S, {
                        x[s] = $op(x[s], k);
                    });
                    j0 = $op(j0, k);
                }};
            }
            rounds!(round, RK);
            let mut sum = zero();
            let mut block = hash;
            if S > 1 {
                let (p, p_sum) = bulk(key, S - 1);
                sum = add_karatsuba(sum, hash, p, p_sum);
                each!(s < S - 1, {
                    let at = data.add(SLOT * s);
                    let text = _mm512_loadu_si512(at.cast());
                    let out = _mm512_xor_si512(text, x[s]);
                    _mm512_storeu_si512(at.cast(), out);
                    block = reversed(if OPEN { text } else { out });
                    if s + 2 < S {
                        let (p, p_sum) = bulk(key, S - 2 - s);
                        sum = add_karatsuba(sum, block, p, p_sum);
                    }
                });
                block = _mm512_xor_si512(reduce_karatsuba(sum), block);
            }
            let mask = mask(len, S - 1);
            let at = data.add(SLOT * (S - 1)).cast::<i8>();
            let text = _mm512_maskz_loadu_epi8(mask, at);
            let out = _mm512_xor_si512(text, x[S - 1]);
            _mm512_mask_storeu_epi8(at, mask, out);
            let end = reversed(if OPEN { text } else { _mm512_maskz_mov_epi8(mask, out) });
            // The last slot and the lengths, and before them the slots that were whole.
            let blocks = len.div_ceil(16) - 4 * (S - 1);
            let first = key.cast::<u8>().add((TAIL - 5 - blocks) * 16);
            let p = _mm512_loadu_si512(first.cast());
            sum = add_karatsuba(zero(), block, p, halves(p));
            let p = _mm512_loadu_si512(first.add(SLOT).cast());
            sum = add_karatsuba(sum, end, p, halves(p));
            let p = broadcast(key.cast::<u8>().add((TAIL - 1) * 16));
            sum = add_karatsuba(sum, _mm512_maskz_mov_epi64(0x03, lengths), p, halves(p));
            let sum = Sum { lo: sum_parts::<1>(sum.lo), mid: sum_parts::<1>(sum.mid), hi: sum_parts::<1>(sum.hi) };
            _mm512_xor_si512(reversed(reduce_karatsuba(sum)), j0)
        }
    }
}

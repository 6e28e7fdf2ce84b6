//! Frames of at most four slots, several at once.
//!
//! A group is ciphered; between the rounds of the next group it is hashed. Data blocks stand frame by frame, what stands around the
//! data lane by lane, so that lanes summed across frames take one reduction.

use super::*;

/// A group whose frames are ciphered and not hashed yet.
struct Ciphered<const RK: usize, const F: usize, const S: usize> {
    lanes: *const [Lane<RK>; F],
    /// Ciphertext, octets of each block reversed.
    blocks: [[Z; S]; F],
    aad: Z,
    lengths: Z,
    /// E(K, J0).
    j0: Z,
    /// Tags to compare with, on opening.
    received: Z,
}

/// How far the hash of a group is.
struct Hashing<const F: usize> {
    sums: [Sum; F],
    sum: Sum,
    hash: Z,
}

/// Counter blocks of the first slots, big-endian in the last four octets of each block: 2, 3, 4, ...
static COUNTERS: Aligned<[[u32; 16]; STEP]> = Aligned({
    let mut c = [[0; 16]; STEP];
    let mut i = 0;
    while i < STEP * 4 {
        c[i / 4][i % 4 * 4 + 3] = (i as u32 + 2).swap_bytes();
        i += 1;
    }
    c
});

#[repr(align(64))]
struct Aligned<T>(T);

kernel_fn! {
    /// Four lanes of powers for slot `s` of a frame, descending. Lanes beyond H^1 are other parts of the key and meet no data.
    ///
    /// # Safety
    /// The lane's key is readable, the frame has at most 16 blocks and `s` is at most 3.
    unsafe fn powers<const RK: usize>(lane: &Lane<RK>, s: usize) -> Z {
        const { assert!((TAIL - 1 + 12) * 16 + 64 <= size_of::<GcmKey<RK>>()) };
        // SAFETY: at most 464 + 64 octets from the start of the key, which is longer.
        unsafe { _mm512_loadu_si512(lane.power.add(SLOT * s).cast()) }
    }

    /// Lanes of the register of each frame that belong to it: one of four, or two of four, or all.
    fn merge<const F: usize>(x: [Z; F]) -> Z {
        let mut out = x[0];
        if F == 4 {
            out = _mm512_mask_mov_epi64(out, 0x0c, x[1]);
            out = _mm512_mask_mov_epi64(out, 0x30, x[2]);
            out = _mm512_mask_mov_epi64(out, 0xc0, x[3]);
        } else if F == 2 {
            out = _mm512_mask_mov_epi64(out, 0xf0, x[1]);
        }
        out
    }

    /// Sums over the lanes of each frame, into lanes as [`merge`] deals them; the sum of `F` = 2 is still in two parts, that of
    /// one frame in four.
    fn sum_lanes<const F: usize>(x: [Z; F]) -> Z {
        match F {
            4 => {
                let pair = |a: Z, b: Z| {
                    _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b))
                };
                let (ab, cd) = (pair(x[0], x[1]), pair(x[2], x[3]));
                _mm512_xor_si512(_mm512_shuffle_i64x2::<0x88>(ab, cd), _mm512_shuffle_i64x2::<0xdd>(ab, cd))
            }
            2 => _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(x[0], x[1]), _mm512_shuffle_i64x2::<0xee>(x[0], x[1])),
            _ => x[0],
        }
    }

    /// sum + x * p: four frames wait for instructions, fewer with more slots for the multiplier.
    fn add_product<const F: usize>(sum: Sum, x: Z, p: Z) -> Sum {
        if F == 4 { add_schoolbook(sum, x, p) } else { add_karatsuba(sum, x, p, halves(p)) }
    }

    /// Ciphers a group and, between the rounds, hashes the group before it, `prior`.
    ///
    /// # Safety
    /// Lanes are admitted and no longer than 64 * `S`, which is at most 256; so were those of `prior`.
    unsafe fn turn<const RK: usize, const OPEN: bool, const HASH: bool, const F: usize, const S: usize>(
        lanes: &[Lane<RK>; F], prior: &Ciphered<RK, F, S>,
    ) -> Ciphered<RK, F, S> {
        // SAFETY: all addresses are within an admitted lane's job, key, data and MAC field; masks end at its length.
        unsafe {
            let null = _mm512_setzero_si512();
            let (mut inputs, mut nonces) = ([null; F], [null; F]);
            let mut x = [[null; S]; F];
            each!(f < F, {
                let lane = &lanes[f];
                inputs[f] = input(lane);
                nonces[f] = nonce(lane, inputs[f]);
                each!(s < S, {
                    x[f][s] = _mm512_xor_si512(nonces[f], _mm512_load_si512(COUNTERS.0[s].as_ptr().cast()));
                });
            });
            let mut j0 = first_counter(merge(nonces));
            let mut hashing = Hashing { sums: [zero(); F], sum: zero(), hash: null };
            macro_rules! round {
                ($op:ident, $r:literal) => {{
                    let mut k = [null; F];
                    each!(f < F, {
                        k[f] = round_key!(RK, lanes[f].key, $r);
                        each!(s < S, {
                            x[f][s] = $op(x[f][s], k[f]);
                        });
                    });
                    j0 = $op(j0, merge(k));
                    if HASH {
                        piece::<RK, F, S, { $r - 1 }>(&mut hashing, prior);
                    }
                }};
            }
            rounds!(round, RK);
            if HASH {
                if RK == 11 {
                    piece::<RK, F, S, 10>(&mut hashing, prior);
                }
                settle::<RK, OPEN, F>(&*prior.lanes, _mm512_xor_si512(hashing.hash, prior.j0), prior.received);
            }
            // What lies in memory as single blocks is loaded before anything wide is stored near it, but not before the rounds, which
            // need all registers.
            let (mut aad, mut received) = ([null; F], [null; F]);
            each!(f < F, {
                let lane = &lanes[f];
                inputs[f] = input(lane);
                aad[f] = broadcast(lane.job.cast::<u8>().cast_const());
                if OPEN {
                    received[f] = broadcast(lane.data.add(lane.len).cast_const());
                }
            });
            let (aad, received) = (reversed(merge(aad)), merge(received));
            let lengths = lengths(merge(inputs));
            let mut blocks = [[null; S]; F];
            each!(f < F, {
                let Lane { data, len, .. } = lanes[f];
                each!(s < S, {
                    let mask = mask(len, s);
                    let at = data.wrapping_add(SLOT * s).cast::<i8>();
                    let text = _mm512_maskz_loadu_epi8(mask, at);
                    let out = _mm512_xor_si512(text, x[f][s]);
                    _mm512_mask_storeu_epi8(at, mask, out);
                    blocks[f][s] = reversed(if OPEN { text } else { _mm512_maskz_mov_epi8(mask, out) });
                });
            });
            Ciphered { lanes, blocks, aad, lengths, j0, received }
        }
    }

    /// Hashes and settles a group that was ciphered.
    ///
    /// # Safety
    /// Its lanes are admitted.
    unsafe fn finish<const RK: usize, const OPEN: bool, const F: usize, const S: usize>(prior: &Ciphered<RK, F, S>) {
        let mut h = Hashing { sums: [zero(); F], sum: zero(), hash: _mm512_setzero_si512() };
        // SAFETY: as the caller vouches.
        unsafe {
            piece::<RK, F, S, 0>(&mut h, prior);
            piece::<RK, F, S, 1>(&mut h, prior);
            piece::<RK, F, S, 2>(&mut h, prior);
            piece::<RK, F, S, 3>(&mut h, prior);
            piece::<RK, F, S, 4>(&mut h, prior);
            piece::<RK, F, S, 5>(&mut h, prior);
            piece::<RK, F, S, 6>(&mut h, prior);
            piece::<RK, F, S, 7>(&mut h, prior);
            piece::<RK, F, S, 8>(&mut h, prior);
            piece::<RK, F, S, 9>(&mut h, prior);
            piece::<RK, F, S, 10>(&mut h, prior);
            settle::<RK, OPEN, F>(&*prior.lanes, _mm512_xor_si512(h.hash, prior.j0), prior.received);
        }
    }

    /// Part `P` of hashing a group: a product for each of its slots, one for what stands around the data, the sum over
    /// lanes, its reduction. Parts 0 to 10 are all.
    ///
    /// # Safety
    /// Its lanes are admitted.
    unsafe fn piece<const RK: usize, const F: usize, const S: usize, const P: usize>(
        h: &mut Hashing<F>, g: &Ciphered<RK, F, S>,
    ) {
        // SAFETY: powers are read from the lanes' keys.
        unsafe {
            if P < F * S {
                let (f, s) = (P / S, P % S);
                let p = powers(&(&*g.lanes)[f], s);
                h.sums[f] = add_product::<F>(h.sums[f], g.blocks[f][s], p);
            } else if P == F * S {
                // Associated data and lengths, in lanes of their frame.
                let (mut aad_power, mut one) = ([_mm512_setzero_si512(); F], [_mm512_setzero_si512(); F]);
                each!(f < F, {
                    let Lane { key, power, .. } = (&*g.lanes)[f];
                    aad_power[f] = broadcast(power.sub(16));
                    one[f] = broadcast(key.cast::<u8>().add((TAIL - 1) * 16));
                });
                let (p, one) = (merge(aad_power), merge(one));
                if F == 4 {
                    h.sum = add_product::<F>(h.sum, g.aad, p);
                    h.sum = add_product::<F>(h.sum, g.lengths, one);
                } else {
                    let both = _mm512_mask_mov_epi64(g.aad, 0xcc, g.lengths);
                    let p = _mm512_mask_mov_epi64(p, 0xcc, one);
                    h.sum = add_product::<F>(h.sum, _mm512_maskz_mov_epi64(if F == 2 { 0xff } else { 0x0f }, both), p);
                }
            } else if P == F * S + 1 {
                h.sum = Sum {
                    lo: sum_parts::<F>(_mm512_xor_si512(h.sum.lo, sum_lanes(h.sums.map(|s| s.lo)))),
                    mid: sum_parts::<F>(_mm512_xor_si512(h.sum.mid, sum_lanes(h.sums.map(|s| s.mid)))),
                    hi: sum_parts::<F>(_mm512_xor_si512(h.sum.hi, sum_lanes(h.sums.map(|s| s.hi)))),
                };
            } else if P == F * S + 2 {
                h.hash = reversed(if F == 4 { reduce(h.sum) } else { reduce_karatsuba(h.sum) });
            }
        }
    }

    /// Seals or opens frames in groups of `F`, of which there are whole ones.
    ///
    /// # Safety
    /// Lanes are admitted and no longer than 64 * `S`, which is at most 256; `F` * `S` is at most 8.
    pub(super) unsafe fn train<const RK: usize, const OPEN: bool, const F: usize, const S: usize>(lanes: &[Lane<RK>]) {
        let (groups, _) = lanes.as_chunks::<F>();
        let Some((first, groups)) = groups.split_first() else { return };
        let null = _mm512_setzero_si512();
        let nothing = Ciphered { lanes: first, blocks: [[null; S]; F], aad: null, lengths: null, j0: null, received: null };
        // SAFETY: as the caller vouches.
        unsafe {
            let mut prior = turn::<RK, OPEN, false, F, S>(first, &nothing);
            for group in groups {
                prior = turn::<RK, OPEN, true, F, S>(group, &prior);
            }
            finish::<RK, OPEN, F, S>(&prior);
        }
    }
}

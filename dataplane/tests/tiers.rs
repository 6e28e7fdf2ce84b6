//! Every tier of every suite against the portable one, over random bursts.
#![allow(clippy::unwrap_used)]

use pc5_dataplane::cipher::{Cipher, Job, Kernel, KeyIndex};
use pc5_dataplane::crypto;
use pc5_dataplane::kdf::FrameKeys;
use pc5_dataplane::suite::Suite;
use proptest::prelude::*;

/// One frame of a burst before sealing.
#[derive(Clone, Debug)]
struct Frame {
    len: usize,
    /// Octets between this frame and the one before: any alignment.
    gap: usize,
    key: usize,
    count: u32,
    bearer: u8,
    direction: u8,
    clear_data: bool,
    /// Where a bit is flipped before opening, as a fraction of header, data and MAC field; none where the frame is good.
    damage: Option<u16>,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0..=2_100usize,
        3 => 0..=80usize,
        // Around whole blocks, registers and what a kernel may treat specially.
        3 => (0..=32usize, 0..=4usize).prop_map(|(blocks, off)| (blocks * 64 + off).saturating_sub(2)),
        2 => prop::sample::select(vec![64usize, 576, 1_420]),
    ]
}

fn frame(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Frame> {
    let damage = prop_oneof![2 => Just(None), 1 => any::<u16>().prop_map(Some)];
    let clear = prop::bool::weighted(0.05);
    (len, 0..70usize, 0..1_000usize, any::<u32>(), 0..32u8, 0..2u8, clear, damage).prop_map(
        |(len, gap, key, count, bearer, direction, clear_data, damage)| Frame {
            len,
            gap,
            key,
            count,
            bearer,
            direction,
            clear_data,
            damage,
        },
    )
}

/// Bursts of one length, of the mixes of the Internet, and of anything; short, full, and longer than a kernel's chunk.
fn burst() -> impl Strategy<Value = Vec<Frame>> {
    prop_oneof![
        (length(), 1..70usize).prop_flat_map(|(len, n)| prop::collection::vec(frame(Just(len)), n)),
        prop::collection::vec(frame(length()), 0..5),
        prop::collection::vec(frame(length()), 5..140),
    ]
}

struct Burst {
    arena: Vec<u8>,
    jobs: Vec<Job>,
}

/// Lays frames out with contents from `seed`.
fn lay_out(frames: &[Frame], keys: usize, mac_len: usize, mut seed: u64) -> Burst {
    let mut octet = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let (mut arena, mut jobs) = (Vec::new(), Vec::new());
    for (slot, f) in frames.iter().enumerate() {
        arena.extend((0..f.gap).map(|_| octet()));
        let mut aad = [0; 16];
        aad[..Job::AAD_LEN].fill_with(&mut octet);
        arena.extend(&aad[8..Job::AAD_LEN]);
        let start = arena.len();
        arena.extend((0..f.len + mac_len).map(|_| octet()));
        jobs.push(Job {
            aad,
            start: start as u32,
            len: f.len as u32,
            key: KeyIndex((f.key % keys) as u32),
            count: f.count,
            bearer_direction: Job::pack_bearer_direction(f.bearer, f.direction),
            clear_data: f.clear_data,
            verified: octet() & 1 == 0,
            slot: slot as u16,
        });
    }
    Burst { arena, jobs }
}

fn insert(cipher: &mut dyn Cipher, keys: usize) {
    for i in 0..keys {
        let o = |salt: u8| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ salt;
        let pek: [u8; 32] = std::array::from_fn(|j| o(j as u8 * 5));
        let pek = &pek[..cipher.suite().pek_len()];
        let keys = FrameKeys::from_parts(pek, std::array::from_fn(|j| o(0x80 ^ j as u8)), [o(7); 12]);
        let index = cipher.insert(&keys);
        assert!(index == KeyIndex(i as u32) || cipher.suite() == Suite::Eea0);
    }
}

fn check(
    suite: Suite,
    kernel: Kernel,
    frames: &[Frame],
    keys: usize,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut oracle = crypto::cipher(suite, Kernel::Portable).unwrap();
    let mut cipher = crypto::cipher(suite, kernel).unwrap();
    insert(&mut *oracle, keys);
    insert(&mut *cipher, keys);
    let plain = lay_out(frames, keys, suite.mac_len(), seed);

    let (mut expected, mut jobs) = (plain.arena.clone(), plain.jobs.clone());
    oracle.seal(&mut expected, &mut jobs);
    let (mut sealed, mut jobs) = (plain.arena.clone(), plain.jobs.clone());
    cipher.seal(&mut sealed, &mut jobs);
    prop_assert!(sealed == expected, "{suite} {kernel:?} seals otherwise");

    // Good and bad frames side by side.
    let mut bad = vec![false; frames.len()];
    for (i, (f, job)) in frames.iter().zip(&plain.jobs).enumerate() {
        // The header of an AEAD is read from the job, not from the arena.
        let first = if suite.is_aead() { job.start as usize } else { job.start as usize - Job::HEADER_LEN };
        let octets = job.start as usize + f.len + suite.mac_len() - first;
        if let (Some(damage), true) = (f.damage, octets > 0) {
            sealed[first + usize::from(damage) % octets] ^= 1 << (damage % 8);
            bad[i] = suite.has_integrity();
        }
    }
    let mut opened = sealed.clone();
    let mut jobs = plain.jobs.clone();
    cipher.open(&mut opened, &mut jobs);
    let (mut expected, mut expected_jobs) = (sealed.clone(), plain.jobs.clone());
    oracle.open(&mut expected, &mut expected_jobs);
    let mut at = 0;
    for (i, (job, other)) in jobs.iter().zip(&expected_jobs).enumerate() {
        let (start, end) = (job.start as usize, (job.start + job.len) as usize);
        prop_assert!(job.verified != bad[i], "{suite} {kernel:?} frame {i} of {}", job.len);
        prop_assert_eq!(other.verified, job.verified);
        prop_assert_eq!((job.slot, job.count, job.len), (i as u16, other.count, other.len));
        if !suite.has_integrity() {
            prop_assert!(opened[start..end] == expected[start..end]);
        } else if job.verified {
            prop_assert!(opened[start..end] == plain.arena[start..end], "{suite} {kernel:?} frame {i}");
        } else if !job.clear_data {
            let data = &opened[start..end];
            let kept = data == &sealed[start..end] || data.iter().all(|o| *o == 0);
            prop_assert!(kept, "{suite} {kernel:?} releases unverified data of {}", job.len);
        }
        // Nothing beside the data changes.
        prop_assert!(opened[at..start] == sealed[at..start]);
        at = end;
    }
    prop_assert!(opened[at..] == sealed[at..]);
    Ok(())
}

fn check_suite(suite: Suite) {
    // The lowest tier against itself too: what it opens is what was sealed.
    for kernel in crypto::kernels(suite) {
        let keys = prop::sample::select(vec![1, 2, 7, 64, 1_000]);
        let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(frames in burst(), keys in keys, seed: u64)| {
            check(suite, kernel, &frames, keys, seed)?;
        });
    }
}

/// Every length once, in bursts that also change shape.
fn check_lengths(suite: Suite) {
    for kernel in crypto::kernels(suite).into_iter().filter(|k| *k != Kernel::Portable) {
        let frames: Vec<Frame> = (0..=2_100)
            .map(|len| Frame {
                len,
                gap: len % 67,
                key: len,
                count: len as u32 * 0x0101,
                bearer: (len % 32) as u8,
                direction: (len % 2) as u8,
                clear_data: false,
                damage: (len % 5 == 0).then_some((len * 13) as u16),
            })
            .collect();
        check(suite, kernel, &frames, 3, 1).unwrap();
        for n in 1..=20 {
            check(suite, kernel, &frames[..n], 3, 2).unwrap();
            check(suite, kernel, &frames[100 * n..101 * n + n], 3, 3).unwrap();
        }
    }
}

macro_rules! suites {
    ($($name:ident $suite:ident,)*) => {
        mod bursts { $(#[test] fn $name() { super::check_suite(super::Suite::$suite) })* }
        mod lengths { $(#[test] fn $name() { super::check_lengths(super::Suite::$suite) })* }
        const COVERED: &[Suite] = &[$(Suite::$suite),*];
    };
}

suites! {
    eea0 Eea0,
    eea1 Eea1,
    eea2 Eea2,
    eea3 Eea3,
    eea1_eia1 Eea1Eia1,
    eea2_eia2 Eea2Eia2,
    eea3_eia3 Eea3Eia3,
    aes_128_gcm Aes128Gcm,
    aes_256_gcm Aes256Gcm,
    nca5 Nca5,
    nca4 Nca4,
    nca6 Nca6,
}

#[test]
fn no_suite_is_left_out() {
    assert_eq!(COVERED, Suite::ALL);
}

#[test]
fn a_job_outside_its_arena_panics() {
    for suite in Suite::ALL.into_iter().filter(|s| *s != Suite::Eea0) {
        for kernel in crypto::kernels(suite) {
            let plain = lay_out(
                &[Frame {
                    len: 40,
                    gap: 3,
                    key: 0,
                    count: 0,
                    bearer: 0,
                    direction: 0,
                    clear_data: false,
                    damage: None,
                }],
                1,
                suite.mac_len(),
                1,
            );
            let job = plain.jobs[0];
            let outside = [
                Job { len: job.len + 1, ..job },
                Job { len: u32::MAX, ..job },
                Job { start: u32::MAX, ..job },
                Job { key: KeyIndex(1), ..job },
            ];
            for job in outside {
                let mut arena = plain.arena.clone();
                let result = std::panic::catch_unwind(move || {
                    let mut cipher = crypto::cipher(suite, kernel).unwrap();
                    insert(&mut *cipher, 1);
                    cipher.seal(&mut arena, &mut [job]);
                });
                assert!(result.is_err(), "{suite} {kernel:?} {job:?}");
            }
        }
    }
}

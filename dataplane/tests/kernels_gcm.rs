//! AES-GCM kernels of every tier this machine has, against the `aes-gcm` crate frame by frame.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use std::panic::AssertUnwindSafe;

use pc5_dataplane::cipher::{Cipher, Job, Kernel, KeyIndex};
use pc5_dataplane::crypto;
use pc5_dataplane::kdf::FrameKeys;
use pc5_dataplane::suite::Suite;
use proptest::prelude::*;

/// Every kernel of both suites on this machine, highest tier first.
fn kernels() -> Vec<Box<dyn Cipher>> {
    let of = |suite| {
        let tiers = crypto::kernels(suite).into_iter().rev().filter(|k| *k != Kernel::Portable);
        tiers.map(move |k| crypto::cipher(suite, k).expect("a tier that was listed"))
    };
    [Suite::Aes128Gcm, Suite::Aes256Gcm].into_iter().flat_map(of).collect()
}

/// What one frame of a test looks like.
#[derive(Clone, Debug)]
struct Frame {
    len: usize,
    gap: usize,
    key: usize,
    count: u32,
    bearer: u8,
    direction: u8,
    clear: bool,
    spoil: Option<usize>,
}

const KEYS: usize = 9;

fn key_octets(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|j| (i * 77 + j * 13 + 5) as u8).collect()
}

fn salt(i: usize) -> [u8; 12] {
    std::array::from_fn(|j| (i * 31 + j * 7) as u8)
}

/// The frame as the crate has it: data and tag.
fn oracle(suite: Suite, key: usize, nonce: [u8; 12], aad: &[u8], data: &[u8], clear: bool) -> Vec<u8> {
    let k = key_octets(key, suite.pek_len());
    let (mut out, aad) =
        if clear { (Vec::new(), [aad, data].concat()) } else { (data.to_vec(), aad.to_vec()) };
    let (nonce, buffer) = (nonce.into(), out.as_mut_slice().into());
    let tag = match suite {
        Suite::Aes128Gcm => {
            Aes128Gcm::new_from_slice(&k).map(|c| c.encrypt_inout_detached(&nonce, &aad, buffer))
        }
        _ => Aes256Gcm::new_from_slice(&k).map(|c| c.encrypt_inout_detached(&nonce, &aad, buffer)),
    }
    .expect("key of the suite's length")
    .expect("a short frame");
    if clear {
        out.extend_from_slice(data);
    }
    out.extend_from_slice(&tag);
    out
}

fn check(frames: &[Frame]) {
    for mut cipher in kernels() {
        let suite = cipher.suite();
        let keys: Vec<KeyIndex> = (0..KEYS)
            .map(|i| cipher.insert(&FrameKeys::from_parts(&key_octets(i, suite.pek_len()), [0; 16], salt(i))))
            .collect();
        let mut arena: Vec<u8> = Vec::new();
        let mut jobs = Vec::new();
        let mut expected: Vec<u8> = Vec::new();
        for (i, f) in frames.iter().enumerate() {
            let filler: Vec<u8> = (0..f.gap + Job::HEADER_LEN).map(|j| (j * 3 + i) as u8).collect();
            let data: Vec<u8> = (0..f.len).map(|j| (j * 7 + i * 11) as u8).collect();
            let mut aad = [0u8; 16];
            for (j, a) in aad[..13].iter_mut().enumerate() {
                *a = (i * 5 + j * 3) as u8;
            }
            for v in [&mut arena, &mut expected] {
                v.extend_from_slice(&filler);
            }
            let job = Job {
                aad,
                start: arena.len() as u32,
                len: f.len as u32,
                key: keys[f.key],
                count: f.count,
                bearer_direction: Job::pack_bearer_direction(f.bearer, f.direction),
                clear_data: f.clear,
                verified: false,
                slot: i as u16,
            };
            let mut nonce = salt(f.key);
            for (n, x) in nonce.iter_mut().zip(job.gcm_nonce_input()) {
                *n ^= x;
            }
            arena.extend_from_slice(&data);
            arena.extend_from_slice(&[0xaa; 16]);
            expected.extend_from_slice(&oracle(suite, f.key, nonce, &aad[..13], &data, f.clear));
            jobs.push(job);
        }
        cipher.seal(&mut arena, &mut jobs);
        assert_eq!(first_difference(&arena, &expected), None, "sealed otherwise than the oracle");

        // Some tags or data are spoilt; those frames alone are refused and not left deciphered.
        for (f, job) in frames.iter().zip(&jobs) {
            if let Some(at) = f.spoil {
                arena[job.start as usize + at % (f.len + 16)] ^= 1 << (at % 8);
            }
        }
        let received = arena.clone();
        cipher.open(&mut arena, &mut jobs);
        for (f, job) in frames.iter().zip(&jobs) {
            assert_eq!(job.verified, f.spoil.is_none(), "{f:?}");
            let data = job.start as usize..job.start as usize + f.len;
            if f.spoil.is_none() {
                assert!(arena[data] == plain_data(frames, job.slot as usize)[..], "{f:?} opened otherwise");
            } else {
                let left = &arena[data.clone()];
                assert!(left == &received[data] || left.iter().all(|b| *b == 0), "{f:?} left deciphered");
            }
            let (header, mac) = (job.start as usize - Job::HEADER_LEN, job.start as usize + f.len);
            assert_eq!(arena[header..header + Job::HEADER_LEN], received[header..header + Job::HEADER_LEN]);
            assert_eq!(arena[mac..mac + 16], received[mac..mac + 16]);
        }
    }
}

fn plain_data(frames: &[Frame], i: usize) -> Vec<u8> {
    (0..frames[i].len).map(|j| (j * 7 + i * 11) as u8).collect()
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).position(|(a, b)| a != b)
}

fn frame(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Frame> {
    (
        len,
        prop_oneof![Just(0), Just(59), 0usize..70],
        0..KEYS,
        any::<u32>(),
        0u8..32,
        0u8..2,
        prop::bool::weighted(0.03),
        prop::option::weighted(0.2, any::<usize>()),
    )
        .prop_map(|(len, gap, key, count, bearer, direction, clear, spoil)| Frame {
            len,
            gap,
            key,
            count,
            bearer,
            direction,
            clear,
            spoil,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mixed_bursts(frames in prop::collection::vec(frame(prop_oneof![0usize..70, 0usize..300, 0usize..2101]), 0..80)) {
        check(&frames);
    }

    #[test]
    fn bursts_of_one_size(len in prop_oneof![0usize..140, 0usize..2101], frames in prop::collection::vec(frame(Just(0)), 1..20)) {
        let frames: Vec<Frame> = frames.into_iter().map(|f| Frame { len, ..f }).collect();
        check(&frames);
    }
}

#[test]
fn every_length_alone_and_in_company() {
    for len in 0..2101 {
        let f = Frame {
            len,
            gap: len % 64,
            key: len % KEYS,
            count: len as u32,
            bearer: 3,
            direction: 1,
            clear: false,
            spoil: None,
        };
        check(std::slice::from_ref(&f));
        if len <= 520 {
            check(&vec![f; 4]);
        }
    }
}

/// The counter's low octet wraps at 4,064 octets, its second at 1 MiB.
#[test]
fn long_frames_carry_the_counter() {
    for len in [4063, 4064, 4065, 8188, 65_535, (1 << 20) + 77] {
        check(&[Frame {
            len,
            gap: 1,
            key: 1,
            count: u32::MAX,
            bearer: 31,
            direction: 1,
            clear: false,
            spoil: None,
        }]);
    }
}

#[test]
fn job_beyond_the_arena_is_refused() {
    for mut cipher in kernels() {
        let pek = vec![1; cipher.suite().pek_len()];
        let key = cipher.insert(&FrameKeys::from_parts(&pek, [0; 16], [0; 12]));
        let job = Job {
            aad: [0; 16],
            start: 64,
            len: 64,
            key,
            count: 0,
            bearer_direction: 0,
            clear_data: false,
            verified: false,
            slot: 0,
        };
        let sealed = std::panic::catch_unwind(AssertUnwindSafe(|| cipher.seal(&mut [0; 143], &mut [job])));
        assert!(sealed.is_err(), "sealed beyond the end");
    }
}

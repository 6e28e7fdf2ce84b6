use super::*;
use crate::cipher::Job;
use crate::kdf::FrameKeys;

/// What `cipher` made of one frame: its octets from the header on.
fn seal_one(cipher: &mut dyn Cipher, keys: &FrameKeys, job: Job, data: &[u8]) -> Vec<u8> {
    let key = cipher.insert(keys);
    let mut arena = [&job.aad[8..13], data, &vec![0; cipher.suite().mac_len()]].concat();
    cipher.seal(&mut arena, &mut [Job { start: 5, len: data.len() as u32, key, ..job }]);
    arena
}

const JOB: Job = Job {
    aad: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 0, 0],
    start: 0,
    len: 0,
    key: crate::cipher::KeyIndex(0),
    count: 0x0001_0005,
    bearer_direction: 0x08,
    clear_data: false,
    verified: false,
    slot: 0,
};

#[test]
fn every_suite_passes_on_every_tier() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn a_wrong_answer_is_named() {
    /// A cipher that seals as another suite does.
    struct Mistaken(Box<dyn Cipher>, Suite);
    impl Cipher for Mistaken {
        fn suite(&self) -> Suite {
            self.1
        }
        fn kernel(&self) -> Kernel {
            self.0.kernel()
        }
        fn insert(&mut self, keys: &FrameKeys) -> crate::cipher::KeyIndex {
            self.0.insert(keys)
        }
        fn remove(&mut self, key: crate::cipher::KeyIndex) {
            self.0.remove(key);
        }
        fn seal(&self, arena: &mut [u8], jobs: &mut [Job]) {
            self.0.seal(arena, jobs);
        }
        fn open(&self, arena: &mut [u8], jobs: &mut [Job]) {
            self.0.open(arena, jobs);
        }
    }
    let mut c = Mistaken(cipher(Suite::Eea0, Kernel::Portable).unwrap(), Suite::Eea2);
    assert_eq!(self_test::check(&mut c), Err("seals wrongly"));
}

#[test]
fn a_tier_that_is_not_there_is_refused_by_name() {
    let error = cipher(Suite::Eea0, Kernel::Ring).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "suite 'eea0' has no kernel 'ring' on this machine; it has: portable");
    assert!(kernels(Suite::Aes256Gcm).contains(&Kernel::Ring));
    assert!(best(Suite::Aes256Gcm) >= Kernel::Ring);
}

#[test]
fn tiers_of_a_suite_have_one_row_each() {
    for (i, a) in TIERS.iter().enumerate() {
        for b in &TIERS[i + 1..] {
            assert!(a.kernel != b.kernel || !a.suites.iter().any(|s| b.suites.contains(s)));
        }
    }
}

#[test]
fn a_mac_covers_the_header_and_is_not_ciphered() {
    let keys = FrameKeys::from_parts(&[7; 16], [9; 16], [0; 12]);
    let mut c = cipher(Suite::Eea2Eia2, Kernel::Portable).unwrap();
    let sealed = seal_one(&mut *c, &keys, JOB, b"hello");
    let plain = [&JOB.aad[8..13], b"hello"].concat();
    let mac = eia2::Eia2::new(&[9; 16]).mac(JOB.count_bearer_direction(), &plain, 80);
    assert_eq!(sealed[10..], mac);
    assert_eq!(sealed[..5], plain[..5]);
    assert_ne!(sealed[5..10], plain[5..]);
    let clear = seal_one(&mut *c, &keys, Job { clear_data: true, ..JOB }, b"hello");
    assert_eq!(clear[..10], plain);
    assert_eq!(clear[10..], mac);
}

#[test]
fn removed_keys_make_room() {
    for suite in Suite::ALL {
        for kernel in kernels(suite) {
            let mut c = cipher(suite, kernel).unwrap();
            let keys = |o: u8| FrameKeys::from_parts(&[o; 32][..suite.pek_len()], [o; 16], [o; 12]);
            let expected = seal_one(&mut *cipher(suite, kernel).unwrap(), &keys(1), JOB, b"some data");
            // More than one growth of the slab, with holes.
            let all: Vec<_> = (0..100).map(|o| c.insert(&keys(o))).collect();
            all.iter().step_by(3).for_each(|&k| c.remove(k));
            assert_eq!(seal_one(&mut *c, &keys(1), JOB, b"some data"), expected, "{suite} {kernel:?}");
        }
    }
}

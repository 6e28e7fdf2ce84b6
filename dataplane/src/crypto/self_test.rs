//! Known answers at start-up: every suite on every tier of this machine seals and opens one burst.
//!
//! The burst has frames of many lengths under several keys, so that it fills the lanes of multi-buffer kernels and
//! leaves some over. What it must look like sealed is kept as a SHA-256 for each suite; the algorithms under it
//! are held against the published vectors by the tests.

use sha2::{Digest, Sha256};

use super::{cipher, kernels};
use crate::cipher::{Cipher, Job, Kernel, KeyIndex};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// A kernel that does not compute what its suite is. The appliance refuses to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("self test failed: suite '{suite}' on kernel '{}' {found}; choose another with --kernel and report it", .kernel.name())]
pub struct SelfTestError {
    /// The suite.
    pub suite: Suite,
    /// The tier.
    pub kernel: Kernel,
    /// What was wrong.
    pub found: &'static str,
}

/// Tests every suite on every tier of this machine.
///
/// # Errors
/// The first suite and kernel that gave a wrong answer.
pub fn self_test() -> Result<(), SelfTestError> {
    for suite in Suite::ALL {
        for kernel in kernels(suite) {
            let tested = cipher(suite, kernel).map_err(|_| "vanished").and_then(|mut c| check(&mut *c));
            tested.map_err(|found| SelfTestError { suite, kernel, found })?;
        }
    }
    Ok(())
}

/// Holds one cipher against the known answer of its suite.
pub(super) fn check(cipher: &mut dyn Cipher) -> Result<(), &'static str> {
    let suite = cipher.suite();
    let (mut arena, mut jobs) = burst(cipher);
    let plain = arena.clone();
    cipher.seal(&mut arena, &mut jobs);
    if !ANSWERS.iter().any(|(s, answer)| *s == suite && *answer == answer_of(&arena)) {
        return Err("seals wrongly");
    }
    let mut opened = arena.clone();
    cipher.open(&mut opened, &mut jobs);
    if jobs.iter().any(|j| !j.verified) {
        return Err("refuses what it sealed");
    }
    for job in &jobs {
        let data = job.start as usize - Job::HEADER_LEN..(job.start + job.len) as usize;
        if opened[data.clone()] != plain[data] {
            return Err("opens wrongly");
        }
    }
    if suite.has_integrity() {
        // Every other frame is damaged in its header, data or MAC field: exactly those must be refused.
        let mut forged = arena;
        for (i, job) in jobs.iter_mut().enumerate().skip(1).step_by(2) {
            let frame_len = Job::HEADER_LEN + job.len as usize + suite.mac_len();
            // A header is part of an AEAD's associated data, not read from the arena.
            let first = if suite.is_aead() { Job::HEADER_LEN } else { 0 };
            let place = job.start as usize - Job::HEADER_LEN + first + i * 7 % (frame_len - first);
            forged[place] ^= 1 << (i % 8);
        }
        cipher.open(&mut forged, &mut jobs);
        if jobs.iter().enumerate().any(|(i, j)| j.verified != (i % 2 == 0)) {
            return Err("accepts a forged frame, or refuses one beside it");
        }
        for job in jobs.iter().filter(|j| !j.verified && !j.clear_data && j.len > 16) {
            let data = job.start as usize..(job.start + job.len) as usize;
            if forged[data.clone()] == plain[data] {
                return Err("leaves unverified data deciphered");
            }
        }
    }
    Ok(())
}

/// Frames of the burst.
const FRAMES: u32 = 37;

/// A fixed arena and jobs, with three keys inserted into `cipher`.
pub(super) fn burst(cipher: &mut dyn Cipher) -> (Vec<u8>, Vec<Job>) {
    let suite = cipher.suite();
    let mut stream = 0x5043_3500_u32;
    let mut next = || {
        // The generator of Numerical Recipes: any fixed sequence does.
        stream = stream.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (stream >> 24) as u8
    };
    let mut keys = [KeyIndex(0); 3];
    for key in &mut keys {
        let pek: [u8; 32] = std::array::from_fn(|_| next());
        let parts = FrameKeys::from_parts(
            &pek[..suite.pek_len()],
            std::array::from_fn(|_| next()),
            std::array::from_fn(|_| next()),
        );
        *key = cipher.insert(&parts);
    }
    let (mut arena, mut jobs) = (Vec::new(), Vec::new());
    for i in 0..FRAMES {
        // 0 to 1,332 octets, unordered, with neighbours of one length and every remainder of 16.
        let len = (i / 2 * 37 * 37 % 1_333) + i % 2 * (i % 4 / 2);
        let mut aad = [0; 16];
        aad[..Job::AAD_LEN].fill_with(&mut next);
        let start = arena.len() as u32 + Job::HEADER_LEN as u32;
        arena.extend_from_slice(&aad[8..Job::AAD_LEN]);
        arena.extend((0..len).map(|_| next()));
        arena.extend([0; 16]); // MAC field, and a gap after a short one
        let count = u32::from_be_bytes(std::array::from_fn(|_| next()));
        let clear_data = i % 11 == 7;
        jobs.push(Job {
            aad,
            start,
            len,
            key: keys[i as usize % 3],
            count,
            bearer_direction: if clear_data { Job::pack_bearer_direction(29, 1) } else { next() & 0xfc },
            clear_data,
            verified: false,
            slot: i as u16,
        });
    }
    (arena, jobs)
}

fn answer_of(arena: &[u8]) -> String {
    hex::encode(Sha256::digest(arena))
}

/// SHA-256 of the sealed burst in hexadecimal, the same on every kernel. All but that of `nca4`, which rests on the
/// vectors of its parts alone, came from an implementation independent of this one.
const ANSWERS: &[(Suite, &str)] = &[
    (Suite::Eea0, "a60caf6aa1775cf18430f8d19d933127ccf63af4b170c630a32c19a83d67dff5"),
    (Suite::Eea1, "3bfd8cb043dccaf17c4b89ea8142e884198a957ebc8c2e0ea569c70e4769a79a"),
    (Suite::Eea2, "1319490ae3c2708a1fc9272d7f7169c048e48886a14deae42ade96753c57de91"),
    (Suite::Eea3, "c9ebd3acadf7581000686574dffbb854a9cdb8fff0dcdbf40e594068c51984be"),
    (Suite::Eea1Eia1, "57a1f6bb44a64b16f831d35c5964204736c099fb05f574646c25cdd7784421bf"),
    (Suite::Eea2Eia2, "68a7996bc750b9f9f500744831c6aa6833f4705ef90231f89521da3a61f66576"),
    (Suite::Eea3Eia3, "628ff99bfdbacf109f1754ae61f7e23d1d06689fdef39fca57a19abc45589a7d"),
    (Suite::Aes128Gcm, "8e6f8f0d10b42a4291d985ef370ba3575528c0f8be47e0218ee7f44a1dfb3f6e"),
    (Suite::Aes256Gcm, "9fd472e71361df1be12c4ae722366607ec8b37ba13cb8992b94e26474ce19f3a"),
    (Suite::Nca5, "4221eb1ec2676f89f0e8485a7682e7def0e200600dcd3801a996ea2cb843b551"),
    (Suite::Nca4, "c4174ca282714f6e6e454d992eb6092cd0be5ee367f6620c687640d551dc2c71"),
    (Suite::Nca6, "eb2d4ce02bf8130ad4eae165efc8a001cc0093d4f7da86c0cd5fb6c47c14a388"),
];

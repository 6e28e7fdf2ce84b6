//! Wycheproof through our own code: AES-CMAC whole; of AES-GCM what has the shape of a frame, on every tier.
#![allow(clippy::unwrap_used)]

use pc5_dataplane::cipher::{Cipher, Job, KeyIndex};
use pc5_dataplane::crypto::{self, cmac::Cmac};
use pc5_dataplane::kdf::FrameKeys;
use pc5_dataplane::suite::Suite;
use wycheproof::{TestResult, aead, mac};

#[test]
fn aes_cmac() {
    let mut run = 0;
    for group in mac::TestSet::load(mac::TestName::AesCmac).unwrap().test_groups {
        for test in group.tests {
            let Ok(key) = test.key[..].try_into() else { continue };
            let tag = Cmac::new(key).mac(&[], &test.msg, test.msg.len() * 8);
            let right = tag[..group.tag_size / 8] == test.tag[..];
            assert_eq!(right, test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
            // A prefix is a part of the message like any other.
            let (prefix, rest) = test.msg.split_at(test.msg.len() / 2);
            assert_eq!(Cmac::new(key).mac(prefix, rest, rest.len() * 8), tag);
            run += 1;
        }
    }
    assert!(run >= 90, "{run}");
}

/// A frame of which all but data and MAC field is fixed; the nonce of the vector is the salt.
fn job(aad: &[u8], len: usize, key: KeyIndex, clear_data: bool) -> Job {
    let mut job = Job {
        aad: [0; 16],
        start: Job::HEADER_LEN as u32,
        len: len as u32,
        key,
        count: 0,
        bearer_direction: 0,
        clear_data,
        verified: false,
        slot: 0,
    };
    job.aad[..aad.len()].copy_from_slice(aad);
    job
}

fn seal(cipher: &mut dyn Cipher, key: KeyIndex, aad: &[u8], data: &[u8], clear: bool) -> (Vec<u8>, Vec<u8>) {
    let mut arena = [&[0; Job::HEADER_LEN], data, &[0; 16]].concat();
    cipher.seal(&mut arena, &mut [job(aad, data.len(), key, clear)]);
    let tag = arena.split_off(arena.len() - 16);
    (arena.split_off(Job::HEADER_LEN), tag)
}

fn open(
    cipher: &mut dyn Cipher,
    key: KeyIndex,
    aad: &[u8],
    data: &[u8],
    tag: &[u8],
    clear: bool,
) -> Option<Vec<u8>> {
    let mut arena = [&[0; Job::HEADER_LEN], data, tag].concat();
    let mut jobs = [job(aad, data.len(), key, clear)];
    cipher.open(&mut arena, &mut jobs);
    jobs[0].verified.then(|| arena[Job::HEADER_LEN..arena.len() - 16].to_vec())
}

#[test]
fn aes_gcm() {
    let (mut keystreams, mut whole) = (0, 0);
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm] {
        for kernel in crypto::kernels(suite) {
            let mut cipher = crypto::cipher(suite, kernel).unwrap();
            for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
                if group.key_size != suite.pek_len() * 8 || group.nonce_size != 96 || group.tag_size != 128 {
                    continue;
                }
                for test in &group.tests {
                    let salt = test.nonce[..].try_into().unwrap();
                    let key = cipher.insert(&FrameKeys::from_parts(&test.key, [0; 16], salt));
                    let valid = test.result == TestResult::Valid;
                    let name = format!("{suite} {kernel:?} {} {}", test.tc_id, test.comment);
                    if test.aad.len() == Job::AAD_LEN {
                        let opened = open(&mut *cipher, key, &test.aad, &test.ct, &test.tag, false);
                        assert_eq!(opened, valid.then(|| test.pt.to_vec()), "{name}");
                        whole += 1;
                    }
                    if test.pt.is_empty() && test.aad.len() >= Job::AAD_LEN {
                        // Associated data beyond the 13 octets is the data of a frame that is not ciphered.
                        let (aad, data) = test.aad.split_at(Job::AAD_LEN);
                        let opened = open(&mut *cipher, key, aad, data, &test.tag, true);
                        assert_eq!(opened, valid.then(|| data.to_vec()), "{name}");
                        whole += 1;
                    }
                    if valid {
                        // The ciphertext does not depend on associated data; what we seal under ours must open again.
                        let (data, tag) = seal(&mut *cipher, key, &[7; 13], &test.pt, false);
                        assert_eq!(data[..], test.ct[..], "{name}");
                        let opened = open(&mut *cipher, key, &[7; 13], &data, &tag, false);
                        assert_eq!(opened.as_deref(), Some(&test.pt[..]), "{name}");
                        keystreams += 1;
                    }
                    cipher.remove(key);
                }
            }
        }
    }
    println!("{keystreams} ciphertexts, {whole} with their tags");
    assert!(keystreams >= 200 && whole >= 4, "{keystreams} {whole}");
}

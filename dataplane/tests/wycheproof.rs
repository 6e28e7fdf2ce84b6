//! Wycheproof through our own code: AES-CMAC, and AES-GCM on every tier in the shape of frames.
#![allow(clippy::unwrap_used)]

use aes::cipher::{BlockCipherEncrypt, KeyInit};
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

/// GHASH bit by bit. Source: SP 800-38D 6.3, 6.4.
fn ghash(h: u128, aad: &[u8], ciphertext: &[u8]) -> u128 {
    let mut y = 0;
    let mut absorb = |block: u128| {
        let (mut v, x) = (h, y ^ block);
        y = 0;
        for i in (0..128).rev() {
            y ^= if x >> i & 1 == 1 { v } else { 0 };
            v = v >> 1 ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
    };
    for part in [aad, ciphertext] {
        for chunk in part.chunks(16) {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            absorb(u128::from_be_bytes(block));
        }
    }
    absorb(((aad.len() as u128 * 8) << 64) | (ciphertext.len() as u128 * 8));
    y
}

fn hash_key(key: &[u8]) -> u128 {
    let mut block = aes::Block::default();
    match key.len() {
        16 => aes::Aes128::new_from_slice(key).unwrap().encrypt_block(&mut block),
        _ => aes::Aes256::new_from_slice(key).unwrap().encrypt_block(&mut block),
    }
    u128::from_be_bytes(block.into())
}

#[test]
fn aes_gcm() {
    const AAD: [u8; Job::AAD_LEN] = *b"associated 13";
    let mut right = [0; 2];
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
                    // No vector has 13 octets of associated data, but a tag is a sum of which GHASH is one part: its tag,
                    // right or wrong, is carried over to ours.
                    let h = hash_key(&test.key);
                    let moved = |aad: &[u8], ct: &[u8]| {
                        let tag = u128::from_be_bytes(test.tag[..].try_into().unwrap());
                        (tag ^ ghash(h, &test.aad, &test.ct) ^ ghash(h, aad, ct)).to_be_bytes()
                    };
                    let tag = moved(&AAD, &test.ct);
                    let opened = open(&mut *cipher, key, &AAD, &test.ct, &tag, false);
                    assert_eq!(opened, valid.then(|| test.pt.to_vec()), "{name}");
                    // The same octets as data of a frame that is not ciphered.
                    let clear = moved(&[&AAD, &test.pt[..]].concat(), &[]);
                    let opened = open(&mut *cipher, key, &AAD, &test.pt, &clear, true);
                    assert_eq!(opened, valid.then(|| test.pt.to_vec()), "{name}");
                    if valid {
                        let sealed = seal(&mut *cipher, key, &AAD, &test.pt, false);
                        assert_eq!(sealed, (test.ct.to_vec(), tag.to_vec()), "{name}");
                        let sealed = seal(&mut *cipher, key, &AAD, &test.pt, true);
                        assert_eq!(sealed, (test.pt.to_vec(), clear.to_vec()), "{name}");
                    }
                    right[usize::from(valid)] += 1;
                    cipher.remove(key);
                }
            }
        }
    }
    // Two suites on two tiers at least.
    assert!(right[0] >= 4 * 27 && right[1] >= 4 * 35, "{right:?}");
}

//! Wycheproof over the primitives of certificates, handshake and HPKE as this package calls them.
#![allow(clippy::unwrap_used)]

use hkdf::Hkdf;
use p256::SecretKey;
use pc5_control::credential::key::{diffie_hellman, public_key, verify_message};
use sha2::Sha256;
use wycheproof::{TestResult, ecdh, ecdsa, hkdf as hkdf_vectors};

#[test]
fn ecdsa_p256_sha256_r_and_s() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in &set.test_groups {
        let key = public_key(&group.key.key).unwrap();
        for test in &group.tests {
            // Another length is no signature of 64 octets to begin with.
            let verified = test.sig.as_slice().try_into().is_ok_and(|s| verify_message(&key, &test.msg, s));
            assert_eq!(verified, !test.result.must_fail(), "tcId {} {}", test.tc_id, test.comment);
            if verified { accepted += 1 } else { refused += 1 }
        }
    }
    assert!(accepted > 100 && refused > 50, "{accepted} accepted, {refused} refused");
}

#[test]
fn ecdh_p256_points() {
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|g| &g.tests) {
        let scalar = test.private_key.as_slice();
        let scalar = &scalar[scalar.len().saturating_sub(32)..];
        let mut padded = [0; 32];
        padded[32 - scalar.len()..].copy_from_slice(scalar);
        let secret = SecretKey::from_slice(&padded).unwrap();
        match public_key(&test.public_key) {
            Some(peer) => {
                assert_ne!(test.result, TestResult::Invalid, "tcId {}", test.tc_id);
                assert_eq!(
                    diffie_hellman(&secret, &peer).as_slice(),
                    test.shared_secret.as_slice(),
                    "{}",
                    test.tc_id
                );
                agreed += 1;
            }
            // Compressed points are acceptable elsewhere; here they are refused like what is off the curve.
            None => {
                assert_ne!(test.result, TestResult::Valid, "tcId {}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert!(agreed > 200 && refused > 5, "{agreed} agreed, {refused} refused");
}

#[test]
fn hkdf_sha256() {
    let set = hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).unwrap();
    let (mut derived, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|g| &g.tests) {
        let hkdf = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm);
        let mut okm = vec![0; test.size];
        match hkdf.expand(&test.info, &mut okm) {
            Ok(()) => {
                assert!(!test.result.must_fail(), "tcId {}", test.tc_id);
                assert_eq!(okm.as_slice(), test.okm.as_slice(), "tcId {}", test.tc_id);
                derived += 1;
            }
            Err(_) => {
                assert!(test.result.must_fail(), "tcId {}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert!(derived > 50 && refused > 0, "{derived} derived, {refused} refused");
}

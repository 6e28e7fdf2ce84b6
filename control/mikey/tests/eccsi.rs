//! ECCSI against the vectors of RFC 6507 and against what an attacker may alter.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
use mikey_sakke::eccsi::{
    EccsiError, KmsSecretAuthKey, Kpak, Pvt, Signature, SigningKey, Ssk, Verifier, sign, validate,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/eccsi_rfc6507.json")).unwrap()
}

fn octets(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

#[test]
fn the_appendix_signature_verifies_and_its_key_is_valid() {
    let v = vectors();
    let kpak = Kpak::from_octets(&octets(&v["kms"]["KPAK"])).unwrap();
    let id = octets(&v["signer"]["id"]);
    let ssk = Ssk::from_octets(&octets(&v["signer"]["SSK"])).unwrap();
    let pvt = Pvt::from_octets(&octets(&v["signer"]["PVT"])).unwrap();
    validate(&id, &ssk, &pvt, &kpak).unwrap();
    let verifier = Verifier::new(kpak.clone());
    let signature = Signature::from_octets(&octets(&v["sign"]["signature"])).unwrap();
    verifier.verify(&id, &octets(&v["sign"]["message"]), &signature).unwrap();

    let ours = sign(&ssk, &pvt, &kpak, &id, b"another", &mut rng(1));
    verifier.verify(&id, b"another", &ours).unwrap();
}

#[test]
fn every_case_of_the_vectors_has_the_expected_end() {
    let v = vectors();
    let kpak = Kpak::from_octets(&octets(&v["kms"]["KPAK"])).unwrap();
    let mut seen = 0;
    // With an empty cache, with one that met the signer once and with one that knows it.
    for met in 0..3 {
        let verifier = Verifier::new(kpak.clone());
        for _ in 0..met {
            let signature = Signature::from_octets(&octets(&v["sign"]["signature"])).unwrap();
            verifier.verify(&octets(&v["signer"]["id"]), &octets(&v["sign"]["message"]), &signature).unwrap();
        }
        for case in v["cases"].as_array().unwrap() {
            let end = Signature::from_octets(&octets(&case["signature"])).and_then(|signature| {
                verifier.verify(&octets(&case["id"]), &octets(&case["message"]), &signature)
            });
            let name = case["name"].as_str().unwrap();
            match case["expect"].as_str().unwrap() {
                "reject" => assert!(end.is_err(), "{name} was accepted"),
                "accept-by-RFC" => assert_eq!(end, Ok(()), "{name}"),
                other => panic!("unknown expectation {other}"),
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 36);
}

#[test]
fn a_flipped_bit_in_any_octet_is_refused() {
    let mut rng = rng(2);
    let kms = KmsSecretAuthKey::generate(&mut rng);
    let id = b"2026-11\0tel:+447700900123\0";
    let (ssk, pvt) = kms.extract(id, &mut rng);
    let key = SigningKey::new(id, ssk, pvt, kms.kpak()).unwrap();
    let message: Vec<u8> = (0..64).collect();
    let signature = key.sign(&message, &mut rng);
    let verifier = Verifier::new(kms.kpak().clone());
    for _ in 0..3 {
        verifier.verify(id, &message, &signature).unwrap();
    }
    for at in 0..signature.as_octets().len() {
        let mut altered = *signature.as_octets();
        altered[at] ^= 1 << (at % 8);
        let altered = Signature::from_octets(&altered).unwrap();
        assert!(verifier.verify(id, &message, &altered).is_err(), "signature octet {at}");
    }
    for at in 0..message.len() {
        let mut altered = message.clone();
        altered[at] ^= 1 << (at % 8);
        assert_eq!(
            verifier.verify(id, &altered, &signature),
            Err(EccsiError::Signature),
            "message octet {at}"
        );
    }
    for at in 0..id.len() {
        let mut altered = id.to_vec();
        altered[at] ^= 1 << (at % 8);
        assert_eq!(
            verifier.verify(&altered, &message, &signature),
            Err(EccsiError::Signature),
            "id octet {at}"
        );
    }
}

#[test]
fn keys_of_another_identity_kms_or_token_are_refused() {
    let mut rng = rng(3);
    let (kms, other) = (KmsSecretAuthKey::generate(&mut rng), KmsSecretAuthKey::generate(&mut rng));
    let (ssk, pvt) = kms.extract(b"alice", &mut rng);
    let (ssk_again, pvt_again) = kms.extract(b"alice", &mut rng);
    assert_ne!(pvt, pvt_again, "each extraction gives another pair");
    assert_eq!(validate(b"alice", &ssk, &pvt, kms.kpak()), Ok(()));
    assert_eq!(validate(b"alice", &ssk_again, &pvt_again, kms.kpak()), Ok(()));
    assert_eq!(validate(b"bob", &ssk, &pvt, kms.kpak()), Err(EccsiError::Validation));
    assert_eq!(validate(b"alice", &ssk, &pvt_again, kms.kpak()), Err(EccsiError::Validation));
    assert_eq!(validate(b"alice", &ssk, &pvt, other.kpak()), Err(EccsiError::Validation));
    let key = SigningKey::new(b"alice", ssk, pvt, kms.kpak()).unwrap();
    let signature = key.sign(b"hello", &mut rng);
    assert_eq!(
        Verifier::new(other.kpak().clone()).verify(b"alice", b"hello", &signature),
        Err(EccsiError::Signature)
    );
}

/// A generator that always yields the same octet.
struct Stuck;

impl rand_core::TryRng for Stuck {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0x0707_0707)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0x0707_0707_0707_0707)
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        dst.fill(7);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Stuck {}

#[test]
fn a_stuck_generator_does_not_repeat_a_nonce() {
    let kms = KmsSecretAuthKey::generate(&mut rng(4));
    let (ssk, pvt) = kms.extract(b"alice", &mut Stuck);
    let (_, pvt_bob) = kms.extract(b"bob", &mut Stuck);
    assert_ne!(pvt, pvt_bob, "v depends on the identity");
    let key = SigningKey::new(b"alice", ssk, pvt, kms.kpak()).unwrap();
    let (one, two) = (key.sign(b"one", &mut Stuck), key.sign(b"two", &mut Stuck));
    assert_ne!(one.as_octets()[..32], two.as_octets()[..32], "r shows j");
    let (ssk, pvt) = kms.extract(b"alice", &mut rng(5));
    let other = SigningKey::new(b"alice", ssk, pvt, kms.kpak()).unwrap();
    assert_ne!(
        one.as_octets()[..32],
        other.sign(b"one", &mut Stuck).as_octets()[..32],
        "j depends on the SSK"
    );
    // And with a good generator the same message is signed with another nonce each time.
    let mut rng = rng(6);
    assert_ne!(key.sign(b"one", &mut rng).as_octets()[..32], key.sign(b"one", &mut rng).as_octets()[..32]);
}

#[test]
fn the_cache_is_bounded_and_forgeries_do_not_enter_it() {
    let mut rng = rng(7);
    let kms = KmsSecretAuthKey::generate(&mut rng);
    for capacity in [0, 1, 3] {
        let verifier = Verifier::with_capacity(kms.kpak().clone(), capacity);
        for round in 0..2 {
            for signer in 0..5u8 {
                let (ssk, pvt) = kms.extract(&[signer], &mut rng);
                let key = SigningKey::new(&[signer], ssk, pvt, kms.kpak()).unwrap();
                let signature = key.sign(b"m", &mut rng);
                assert!(verifier.verify(&[signer], b"n", &signature).is_err());
                verifier.verify(&[signer], b"m", &signature).unwrap();
                verifier.verify(&[signer], b"m", &signature).unwrap();
                assert!(verifier.cached_signers() <= capacity, "round {round}");
            }
        }
        assert_eq!(verifier.cached_signers(), capacity.min(5));
    }
}

#[test]
fn keys_out_of_range_are_refused() {
    let q = octets(&vectors()["curve"]["q"]);
    assert!(matches!(Ssk::from_octets(&q), Err(EccsiError::OutOfRange { .. })));
    assert!(matches!(Ssk::from_octets(&[0; 32]), Err(EccsiError::OutOfRange { .. })));
    assert!(matches!(Ssk::from_octets(&[1; 31]), Err(EccsiError::Length { found: 31, wanted: 32, .. })));
    assert!(matches!(KmsSecretAuthKey::from_octets(&q), Err(EccsiError::OutOfRange { .. })));
    let mut kpak = octets(&vectors()["kms"]["KPAK"]);
    assert!(matches!(Kpak::from_octets(&kpak[..64]), Err(EccsiError::Length { found: 64, .. })));
    kpak[64] ^= 1;
    assert!(matches!(Kpak::from_octets(&kpak), Err(EccsiError::OffCurve { .. })));
    kpak[0] = 3;
    assert!(matches!(Kpak::from_octets(&kpak), Err(EccsiError::PointForm { .. })));
    // The point at infinity has no form of its own here.
    assert!(Kpak::from_octets(&[4; 65]).is_err());
    assert!(Kpak::from_octets(&[0]).is_err());
}

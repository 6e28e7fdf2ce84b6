//! SAKKE against the vectors of RFC 6508 and against what an attacker may alter.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
use mikey_sakke::sakke::{
    KmsMasterSecret, KmsPublicKey, PreparedRsk, Rsk, SakkeError, Ssv, Ssv32, decapsulate, decapsulate_ssv32,
    encapsulate, encapsulate_many, encapsulate_ssv32, hash_to_integer_range, validate,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sakke_rfc6508.json")).unwrap()
}

fn octets(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn master(value: &Value) -> KmsMasterSecret {
    let z = octets(value);
    let mut padded = [0; 128];
    padded[128 - z.len()..].copy_from_slice(&z);
    KmsMasterSecret::from_octets(&padded).unwrap()
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

#[test]
fn the_appendix_values_come_out() {
    let v = vectors();
    let secret = master(&v["kms"]["z"]);
    let kms = secret.public_key();
    assert_eq!(kms.to_octets().to_vec(), octets(&v["kms"]["Z"]));
    let id = octets(&v["receiver"]["id"]);
    let rsk = secret.extract(&id).unwrap();
    assert_eq!(rsk.to_octets().to_vec(), octets(&v["receiver"]["RSK"]));

    let hashed = hash_to_integer_range(&octets(&v["hash_to_integer_range"]["M"]));
    assert_eq!(hashed.to_vec(), octets(&v["encapsulation"]["r"]));

    let kms = KmsPublicKey::from_octets(&octets(&v["kms"]["Z"])).unwrap();
    let rsk = Rsk::from_octets(&octets(&v["receiver"]["RSK"])).unwrap();
    validate(&id, &rsk, &kms).unwrap();
    let ssv = Ssv::from_octets(octets(&v["encapsulation"]["SSV"]).try_into().unwrap());
    let expected = octets(&v["encapsulation"]["encapsulated_data"]);
    assert_eq!(encapsulate(&ssv, &id, &kms).unwrap().to_vec(), expected);
    assert!(decapsulate(&id, &rsk, &kms, &expected).unwrap() == ssv);
    kms.prepare();
    assert_eq!(encapsulate(&ssv, &id, &kms).unwrap().to_vec(), expected, "with the table of Z_T");
    let many = encapsulate_many(&ssv, &[&id, &b"bob".to_vec(), &id], &kms);
    assert_eq!(many[0].unwrap().to_vec(), expected, "in bulk");
    assert_eq!(many[2].unwrap().to_vec(), expected, "in bulk");
    let prepared = PreparedRsk::new(&id, &rsk, &kms).unwrap();
    assert!(prepared.decapsulate(&expected).unwrap() == ssv);
}

#[test]
fn every_case_of_the_vectors_is_refused() {
    let v = vectors();
    let kms = KmsPublicKey::from_octets(&octets(&v["kms"]["Z"])).unwrap();
    let id = octets(&v["receiver"]["id"]);
    let rsk = Rsk::from_octets(&octets(&v["receiver"]["RSK"])).unwrap();
    let prepared = PreparedRsk::new(&id, &rsk, &kms).unwrap();
    let cases = v["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let (name, data) = (case["name"].as_str().unwrap(), octets(&case["data"]));
        let error =
            decapsulate(&id, &rsk, &kms, &data).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!(prepared.decapsulate(&data).err(), Some(error), "{name}");
        let expected = match name {
            "H bit flipped" => error == SakkeError::Decapsulation,
            "x coordinate + p" => matches!(error, SakkeError::Coordinate { .. }),
            "prefix 02" => matches!(error, SakkeError::PointForm { .. }),
            "272 octets" | "274 octets" => matches!(error, SakkeError::Length { wanted: 273, .. }),
            "R off the curve" => matches!(error, SakkeError::OffCurve { .. }),
            _ => error == SakkeError::Decapsulation,
        };
        assert!(expected, "{name}: {error}");
        // The same points are no keys either.
        if data.len() >= 257 && !name.starts_with("H bit") && !name.ends_with("octets") {
            assert!(KmsPublicKey::from_octets(&data[..257]).is_err(), "{name} as Z_T");
            assert!(Rsk::from_octets(&data[..257]).is_err(), "{name} as RSK");
        }
    }
}

#[test]
fn the_field_sample_with_32_octets_opens() {
    let v: Value = serde_json::from_str(include_str!("vectors/sakke_ssv32_field.json")).unwrap();
    let kms = KmsPublicKey::from_octets(&octets(&v["Z"])).unwrap();
    let id = octets(&v["id"]);
    let rsk = Rsk::from_octets(&octets(&v["RSK"])).unwrap();
    validate(&id, &rsk, &kms).unwrap();
    let expected = octets(&v["encapsulated_data"]);
    let ssv = Ssv32::from_octets(octets(&v["SSV"]).try_into().unwrap());
    assert!(decapsulate_ssv32(&id, &rsk, &kms, &expected).unwrap() == ssv);
    assert_eq!(encapsulate_ssv32(&ssv, &id, &kms).unwrap().to_vec(), expected);
    let prepared = PreparedRsk::new(&id, &rsk, &kms).unwrap();
    assert!(prepared.decapsulate_ssv32(&expected).unwrap() == ssv);
    assert!(matches!(prepared.decapsulate(&expected).err(), Some(SakkeError::Length { .. })));
}

#[test]
fn keys_of_another_identity_or_kms_are_refused() {
    let mut rng = rng(1);
    let (one, two) = (KmsMasterSecret::generate(&mut rng), KmsMasterSecret::generate(&mut rng));
    let (kms, other) = (one.public_key(), two.public_key());
    let rsk = one.extract(b"alice").unwrap();
    assert_eq!(validate(b"alice", &rsk, &kms), Ok(()));
    assert_eq!(validate(b"bob", &rsk, &kms), Err(SakkeError::Validation));
    assert_eq!(validate(b"alice", &rsk, &other), Err(SakkeError::Validation));
    assert_eq!(PreparedRsk::new(b"bob", &rsk, &kms).err(), Some(SakkeError::Validation));
    let ssv = Ssv::generate(&mut rng);
    let data = encapsulate(&ssv, b"alice", &kms).unwrap();
    assert!(decapsulate(b"alice", &rsk, &kms, &data).unwrap() == ssv);
    assert_eq!(decapsulate(b"alice", &rsk, &other, &data).err(), Some(SakkeError::Decapsulation));
    assert_eq!(decapsulate(b"bob", &rsk, &kms, &data).err(), Some(SakkeError::Decapsulation));
    let bobs = one.extract(b"bob").unwrap();
    assert_eq!(decapsulate(b"alice", &bobs, &kms, &data).err(), Some(SakkeError::Decapsulation));
    // The integer is the same, the hashed octets are not.
    assert_eq!(decapsulate(b"\0alice", &rsk, &kms, &data).err(), Some(SakkeError::Decapsulation));
}

#[test]
fn identifiers_must_be_in_range() {
    let mut rng = rng(2);
    let secret = KmsMasterSecret::generate(&mut rng);
    let kms = secret.public_key();
    let params: Value = serde_json::from_str(include_str!("vectors/sakke_params1.json")).unwrap();
    let q = octets(&params["q"]);
    let mut less = q.clone();
    *less.last_mut().unwrap() -= 1;
    let ssv = Ssv::generate(&mut rng);
    for (id, legal) in [
        (vec![], false),
        (vec![0], false),
        (vec![0; 200], false),
        (vec![1], false),
        (vec![0, 1], false),
        (vec![2], true),
        (vec![0, 2], true),
        (less, true),
        (q, false),
        (vec![0xff; 128], false),
        (vec![1; 129], false),
    ] {
        let data = encapsulate(&ssv, &id, &kms);
        assert_eq!(data.is_ok(), legal, "{id:02x?}");
        if let Ok(data) = data {
            let rsk = secret.extract(&id).unwrap();
            assert!(decapsulate(&id, &rsk, &kms, &data).unwrap() == ssv);
        } else {
            assert_eq!(secret.extract(&id).err(), Some(SakkeError::Identifier));
        }
    }
}

#[test]
fn bulk_equals_one_by_one_and_a_refused_receiver_stops_nobody() {
    let mut rng = rng(3);
    let secret = KmsMasterSecret::generate(&mut rng);
    let kms = secret.public_key();
    let ssv = Ssv::generate(&mut rng);
    // More than two chunks, equal receivers among them, and some that are out of range.
    let ids: Vec<Vec<u8>> = (0..150u8)
        .map(|i| match i {
            17 => vec![],
            64 => vec![1],
            149 => vec![0xff; 128],
            _ => vec![7, i % 100, 9],
        })
        .collect();
    let many = encapsulate_many(&ssv, &ids, &kms);
    assert_eq!(many.len(), ids.len());
    for (id, data) in ids.iter().zip(&many) {
        assert_eq!(data, &encapsulate(&ssv, id, &kms));
    }
    assert_eq!(many.iter().filter(|data| data.is_err()).count(), 3);
    assert!(encapsulate_many::<Vec<u8>>(&ssv, &[], &kms).is_empty());
    let refused = encapsulate_many(&ssv, &[vec![], vec![0]], &kms);
    assert!(refused.iter().all(|data| *data == Err(SakkeError::Identifier)));
}

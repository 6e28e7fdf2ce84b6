//! PRFs, derived keys, GUK-ID, DPCK and UID against published values.
#![allow(clippy::unwrap_used)]

mod common;

use common::{hex_number, list, number, octets, text, vectors};
use mikey_sakke::{
    codec::PrfFunc,
    identifier::{KeyPeriod, Uid},
    keys::{Bundle, EnvelopeKey, GukId, KeyId, SessionKey, dpck, user_salt},
    prf::Prf,
};

#[test]
fn prf_mikey_1() {
    let v = vectors("mikey_prf_sha1.json");
    let inkey = |n: u64| (0..n).map(|i| (7 * i + 1) as u8).collect::<Vec<_>>();
    let bundle = Bundle { csb_id: 0x1234_5678, rand: vec![0x5a; 16], prf: Prf::Mikey1 };
    let mut seen = 0;
    for entry in list(&v["prf"]) {
        let out = octets(&entry["out"]);
        assert_eq!(out.len() as u64, number(&entry["out_len"]));
        let key = bundle.session_key(&inkey(number(&entry["inkey_len"])), SessionKey::Tek, 0, out.len());
        assert_eq!(key.expose(), out, "{entry}");
        seen += 1;
    }
    for entry in list(&v["derivation"]) {
        let key = inkey(number(&entry["inkey_len"]));
        let out = octets(&entry["out"]);
        let cs_id = hex_number(&entry["cs_id"]) as u8;
        let session = |kind| bundle.session_key(&key, kind, cs_id, out.len());
        let envelope = |kind| {
            assert_eq!(cs_id, 0xff);
            bundle.envelope_key(&key, kind, out.len())
        };
        let ours = match text(&entry["constant"]) {
            "2ad01c64" => session(SessionKey::Tek),
            "1b5c7973" => session(SessionKey::Auth),
            "15798cef" => session(SessionKey::Encr),
            "39a2c14b" => session(SessionKey::Salt),
            "150533e1" => envelope(EnvelopeKey::Encr),
            "2d22ac75" => envelope(EnvelopeKey::Auth),
            "29b88916" => envelope(EnvelopeKey::Salt),
            other => panic!("unknown constant {other}"),
        };
        assert_eq!(ours.expose(), out, "{entry}");
        seen += 1;
    }
    assert_eq!(seen, 58);
}

#[test]
fn prf_func_codes() {
    assert_eq!(Prf::try_from(PrfFunc(0)), Ok(Prf::Mikey1));
    assert_eq!(Prf::try_from(PrfFunc(1)), Ok(Prf::HmacSha256));
    assert!(Prf::try_from(PrfFunc(2)).is_err());
}

#[test]
fn media_keys_of_three_vendors() {
    let v = vectors("mikey_kdf_33180.json");
    for entry in list(&v["master_key_and_salt"]) {
        let bundle = Bundle {
            csb_id: hex_number(&entry["csb_id"]) as u32,
            rand: octets(&entry["rand"]),
            prf: Prf::HmacSha256,
        };
        let first = if text(&entry["first"]).starts_with("TEK") { SessionKey::Tek } else { SessionKey::Encr };
        let (key, cs_id) = (octets(&entry["key"]), number(&entry["cs_id"]) as u8);
        assert_eq!(bundle.session_key(&key, first, cs_id, 16).expose(), octets(&entry["out16"]), "{entry}");
        let salt = bundle.session_key(&key, SessionKey::Salt, cs_id, 12);
        assert_eq!(salt.expose(), octets(&entry["salt12"]), "{entry}");
    }
    assert_eq!(list(&v["master_key_and_salt"]).len(), 7);
}

#[test]
fn guk_id_and_back() {
    let v = vectors("mikey_kdf_33180.json");
    for entry in list(&v["guk"]) {
        let (gmk, uri) = (octets(&entry["gmk"]), text(&entry["uri"]));
        let gmk_id = KeyId(hex_number(&entry["gmk_id"]) as u32);
        let guk_id = GukId(hex_number(&entry["guk_id"]) as u32);
        assert_eq!(u64::from(user_salt(&gmk, uri).unwrap()), hex_number(&entry["user_salt"]));
        assert_eq!(GukId::new(&gmk, gmk_id, uri), Ok(guk_id));
        assert_eq!(guk_id.gmk_id(&gmk, uri), Ok(gmk_id));
    }
    assert_eq!(list(&v["guk"]).len(), 7);
}

#[test]
fn dpck_values() {
    let v = vectors("mikey_kdf_33180.json");
    for entry in list(&v["dpck"]) {
        let key = dpck(&octets(&entry["key"]), hex_number(&entry["dppk_id"]) as u32).unwrap();
        assert_eq!(key.expose(), octets(&entry["dpck"]));
    }
    assert!(!list(&v["dpck"]).is_empty());
}

#[test]
fn uid_values() {
    let v = vectors("mikey_uid_33180.json");
    for entry in list(&v["vectors"]) {
        let period = KeyPeriod::new(number(&entry["key_period"]), number(&entry["offset"])).unwrap();
        let uid =
            Uid::new(text(&entry["user_uri"]), text(&entry["kms_uri"]), period, number(&entry["period_no"]));
        assert_eq!(uid.unwrap().0.as_slice(), octets(&entry["uid"]), "{entry}");
    }
    assert!(list(&v["vectors"]).len() >= 15);
}

#[test]
fn period_numbers() {
    let period = KeyPeriod::new(16_777_215, 0).unwrap();
    assert_eq!(period.number_at(common::published_time()), Some(236));
    let shifted = KeyPeriod::new(10, 5).unwrap();
    let at = |s: u64| mikey_sakke::NtpTime::from_wire(s << 32 | 0x8000_0000_0000_0000);
    let base = 0x8000_0000u64;
    assert_eq!(shifted.number_at(at(0)), Some((base - 5) / 10));
    assert_eq!(KeyPeriod::new(10, 1 << 40).unwrap().number_at(at(0)), None);
    assert!(KeyPeriod::new(0, 0).is_err());
}

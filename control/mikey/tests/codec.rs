//! The codec: published messages field by field, and properties over made-up and arbitrary octets.
#![allow(clippy::unwrap_used)]

mod common;

use common::{hex_number, list, number, octets, text, vectors};
use mikey_sakke::{
    Message, Secret,
    codec::{Field, KeyData, KeyType, KeyValidity, Payload, PayloadType, Timestamp},
    error::Problem,
};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn published_messages() {
    let v = vectors("mikey_sakke_messages.json");
    for entry in list(&v["messages"]) {
        let message = octets(&entry["message"]);
        assert_eq!(message.len() as u64, number(&entry["message_len"]));
        let (decoded, spans) = Message::decode_with_spans(&message).unwrap();
        assert_eq!(decoded.encode().unwrap(), message);
        let listed = list(&entry["payloads"]);
        check_header(&decoded, &listed[0]);
        assert_eq!(decoded.payloads.len(), listed.len() - 1);
        for ((payload, span), listed) in decoded.payloads.iter().zip(&spans).zip(&listed[1..]) {
            assert_eq!(u64::from(payload.payload_type().0), number(&listed["type"]));
            assert_eq!(span.start as u64, number(&listed["off"]));
            assert_eq!((span.end - span.start) as u64, number(&listed["len"]));
            check_payload(payload, listed);
        }
    }
    assert_eq!(list(&v["messages"]).len(), 2);
}

fn check_header(m: &Message, listed: &Value) {
    let h = &m.header;
    assert_eq!(u64::from(h.data_type.0), number(&listed["data_type"]));
    assert_eq!(u64::from(h.prf.0), number(&listed["prf"]));
    assert_eq!(u64::from(h.verification), number(&listed["V"]));
    assert_eq!(u64::from(h.csb_id), hex_number(&listed["csb_id"]));
    assert_eq!(u64::from(h.map.map_type().0), number(&listed["map_type"]));
    if let mikey_sakke::codec::CsIdMap::GenericId(sessions) = &h.map {
        let cs = &listed["cs"][0];
        assert_eq!(sessions.len(), 1);
        assert_eq!(u64::from(sessions[0].cs_id), number(&cs["cs_id"]));
        assert_eq!(sessions[0].spi, octets(&cs["spi"]));
        assert_eq!(sessions[0].policies, [0]);
        assert_eq!(sessions[0].srtp(), None);
    }
}

fn check_payload(payload: &Payload, listed: &Value) {
    match payload {
        Payload::T(t) => assert_eq!(*t, Timestamp::NtpUtc(hex_number(&listed["ts"]))),
        Payload::Rand(rand) => assert_eq!(*rand, octets(&listed["rand"])),
        Payload::Idr(idr) => {
            assert_eq!(u64::from(idr.role.0), number(&listed["role"]));
            assert_eq!(u64::from(idr.id_type.0), number(&listed["id_type"]));
            assert_eq!(idr.data, octets(&listed["id"]));
        }
        Payload::Sp(sp) => {
            let params: Vec<_> =
                list(&listed["params"]).iter().map(|p| (number(&p[0]) as u8, octets(&p[1]))).collect();
            assert_eq!(sp.params, params);
        }
        Payload::Sakke(s) => {
            assert_eq!(u64::from(s.params.0), number(&listed["params_id"]));
            assert_eq!(u64::from(s.id_scheme.0), number(&listed["scheme"]));
            assert_eq!(s.data, octets(&listed["sed"]));
        }
        Payload::GeneralExtension(e) => {
            assert_eq!(u64::from(e.extension_type().0), number(&listed["ext_type"]));
        }
        Payload::Sign(s) => assert_eq!(s.signature, octets(&listed["sig"])),
        other => panic!("unexpected {other:?}"),
    }
}

/// All vectors that are messages.
fn messages() -> Vec<Vec<u8>> {
    let sakke = vectors("mikey_sakke_messages.json");
    let psk = vectors("mikey_psk.json");
    let gsk = vectors("mikey_gsk_candidate.json");
    let mut all: Vec<_> = list(&sakke["messages"]).iter().map(|m| octets(&m["message"])).collect();
    for v in list(&psk["vectors"]) {
        all.push(octets(&v["message"]));
        all.extend(v.get("response").map(octets));
    }
    for variant in ["prf_mikey1_hmac_sha1", "prf_sha256_hmac_sha256"] {
        all.push(octets(&gsk[variant]["message"]));
    }
    all
}

#[test]
fn every_truncation_is_an_error_that_names_a_place() {
    for message in messages() {
        for length in 0..message.len() {
            let error = Message::decode(&message[..length]).unwrap_err();
            assert!(matches!(error.problem, Problem::Truncated { .. }), "{length}: {error}");
            assert!(error.offset <= length && !error.field.is_empty(), "{length}: {error}");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(Message::decode(&longer).unwrap_err().problem, Problem::Trailing(1));
    }
}

/// The leaves of the record lie side by side and cover the whole message.
fn tiles(fields: &[Field], mut at: usize) -> usize {
    for field in fields {
        assert_eq!(field.offset, at, "{field:?}");
        let end = if field.children.is_empty() { at + field.length } else { tiles(&field.children, at) };
        assert_eq!(end, field.offset + field.length, "{field:?}");
        at = end;
    }
    at
}

#[test]
fn record_covers_published_messages() {
    for message in messages() {
        let (fields, decoded) = Message::inspect(&message);
        assert_eq!(decoded, Message::decode(&message));
        assert_eq!(tiles(&fields, 0), message.len());
    }
}

#[test]
fn record_of_a_broken_message_reaches_the_error() {
    let message = &messages()[0][..300];
    let (fields, decoded) = Message::inspect(message);
    let error = decoded.unwrap_err();
    assert_eq!((error.field, error.offset), ("SAKKE data", 222));
    assert_eq!(tiles(&fields, 0), 222);
}

#[test]
fn claimed_lengths_reserve_nothing() {
    // A KEMAC that claims 65,535 octets in a message of 20: refused before anything is copied.
    let mut message = hex::decode("0100010001020304000105001020304050607080").unwrap();
    message[2] = 1;
    message.truncate(10);
    message.extend([0, 1, 0xff, 0xff, 1, 2, 3]);
    let error = Message::decode(&message).unwrap_err();
    assert_eq!(error.problem, Problem::Truncated { needed: 0xffff, left: 3 });
    assert_eq!((error.field, error.offset), ("KEMAC encr data", 14));
}

#[test]
fn unknown_map_type_keeps_everything() {
    let octets = hex::decode("0100050001020304010900112233").unwrap();
    let message = Message::decode(&octets).unwrap();
    assert_eq!(message.payloads.len(), 1);
    assert_eq!(message.encode().unwrap(), octets);
    let (fields, _) = Message::inspect(&octets);
    assert_eq!(tiles(&fields, 0), octets.len());
}

#[test]
fn misplaced_sign_and_wrong_lengths_do_not_encode() {
    let v = &messages()[0];
    let mut m = Message::decode(v).unwrap();
    let sign = m.payloads.pop().unwrap();
    m.payloads.insert(0, sign);
    assert!(m.encode().is_err());
    m.payloads = vec![Payload::Rand(vec![0; 256])];
    assert!(m.encode().is_err());
    m.payloads = vec![Payload::T(Timestamp::Counter(5))];
    assert_eq!(Message::decode(&m.encode().unwrap()).unwrap(), m);
    m.header.prf.0 = 0x80;
    assert!(m.encode().is_err());
}

#[test]
fn reserved_next_payload_zero_ends_the_message() {
    let m = Message::decode(&hex::decode("01060000010203040001").unwrap()).unwrap();
    assert!(m.payloads.is_empty());
    assert_eq!(PayloadType(0), PayloadType::LAST);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn made_up_messages_survive(m in common::generate::message()) {
        let octets = m.encode().unwrap();
        prop_assert_eq!(&Message::decode(&octets).unwrap(), &m);
        let (fields, decoded) = Message::inspect(&octets);
        prop_assert_eq!(decoded.as_ref(), Ok(&m));
        prop_assert_eq!(tiles(&fields, 0), octets.len());
    }

    /// An octet changed anywhere: refused, or read as something that gives the same octets back.
    #[test]
    fn altered_messages_are_kept_or_refused(
        m in common::generate::message(),
        at: prop::sample::Index,
        to: u8,
    ) {
        let mut octets = m.encode().unwrap();
        let at = at.index(octets.len());
        octets[at] = to;
        if let Ok(m) = Message::decode(&octets) {
            prop_assert_eq!(m.encode().unwrap(), octets);
        }
    }

    #[test]
    fn arbitrary_octets_are_kept_or_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Some(version) = octets.first_mut() {
            *version = 1;
        }
        if let Ok(m) = Message::decode(&octets) {
            prop_assert_eq!(m.encode().unwrap(), octets);
        }
    }

    #[test]
    fn key_data_survives(
        keys in proptest::collection::vec(
            (0u8..7, proptest::collection::vec(any::<u8>(), 0..80), common::generate::validity()), 1..5),
    ) {
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(t, key, validity)| KeyData {
                key_type: KeyType(t),
                key: Secret::new(&key),
                salt: (t % 2 == 1).then(|| Secret::new(&key[..key.len() / 2])),
                validity,
            })
            .collect();
        let octets = KeyData::encode_all(&keys).unwrap();
        let back = KeyData::decode_all(&octets).unwrap();
        prop_assert_eq!(back.len(), keys.len());
        for (a, b) in keys.iter().zip(&back) {
            prop_assert!(a.key_type == b.key_type && a.validity == b.validity);
            prop_assert!(a.key.ct_eq(b.key.expose()));
            prop_assert_eq!(a.salt.as_ref().map(Secret::expose), b.salt.as_ref().map(Secret::expose));
        }
        prop_assert_eq!(&*KeyData::encode_all(&back).unwrap(), &*octets);
        for length in 0..octets.len() {
            prop_assert!(KeyData::decode_all(&octets[..length]).is_err());
        }
    }
}

#[test]
fn key_data_of_unknown_kind_is_refused() {
    for bad in ["007000010b", "000300010b", "012000010b", "ff2000010b", "002000010b00", ""] {
        assert!(KeyData::decode_all(&hex::decode(bad).unwrap()).is_err(), "{bad}");
    }
    let good = KeyData::decode_all(&hex::decode("002000010b").unwrap()).unwrap();
    assert!(good.len() == 1 && good[0].validity == KeyValidity::Null);
}

#[test]
fn text_names() {
    assert_eq!(PayloadType::SAKKE.to_string(), "SAKKE");
    assert_eq!(PayloadType(99).to_string(), "unknown (99)");
    let v = vectors("mikey_gsk_candidate.json");
    let m = octets(&v["prf_mikey1_hmac_sha1"]["message"]);
    let (fields, _) = Message::inspect(&m);
    assert_eq!(fields[1].name, "T");
    assert_eq!(fields[1].children[2].meaning, "2025-10-02T23:47:52Z");
    let _ = text(&v["status"]);
}

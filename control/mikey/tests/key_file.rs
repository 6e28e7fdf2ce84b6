//! The key file: what is documented is read, what is wrong is refused without quoting keys.
#![cfg(feature = "key-file")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{list, octets, published_time, text, vectors, world::cache};
use mikey_sakke::{key_file::KeyFile, sakke_mode};
use serde_json::{Value, json};

/// The published KMS and users as a key file.
fn published() -> Value {
    let v = vectors("mikey_sakke_messages.json");
    let k = &v["kms"]["streamwide"];
    let users: Vec<_> = list(&k["users"])
        .iter()
        .map(|u| {
            json!({
                "uri": u["uri"], "kms": k["kms_uri"], "period": u["key_period_no"],
                "rsk": u["RSK"], "ssk": u["SSK"], "pvt": u["PVT"],
            })
        })
        .collect();
    json!({
        "kms": [{
            "uri": k["kms_uri"], "scheme": "uid", "key_period": k["key_period"], "key_offset": k["offset"],
            "kpak": k["KPAK"], "z": k["Z"],
        }],
        "users": users,
        "psks": [{ "name": "0df9bc39", "key": "000102030405060708090a0b0c0d0e0f" }],
        "signers": [
            { "kind": "group", "uri": "gms@streamwide.com", "kms": k["kms_uri"] },
            { "kind": "peer", "uri": "sip:alice@streamwide.com", "kms": k["kms_uri"] },
        ],
    })
}

#[test]
fn published_keys_open_published_messages() {
    let file = KeyFile::parse(&published().to_string()).unwrap();
    let v = vectors("mikey_sakke_messages.json");
    for (entry, signer) in list(&v["messages"]).iter().zip(&file.signers) {
        let receiver = &file.receiving[text(&entry["responder"])];
        let message = octets(&entry["message"]);
        let mut cache = cache();
        let opened =
            sakke_mode::open(&message, receiver, signer, &file.trusted, &mut cache, published_time());
        assert_eq!(opened.unwrap().key.as_octets().as_slice(), octets(&entry["key"]));
    }
    assert_eq!(file.signing.len(), 3);
    assert!(file.psks.get(&[0x0d, 0xf9, 0xbc, 0x39]).is_some());
    assert!(KeyFile::parse("{}").is_ok());
}

#[test]
fn wrong_files_are_refused_without_quoting_keys() {
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut file = published();
        edit(&mut file);
        let Err(error) = KeyFile::parse(&file.to_string()) else { panic!("accepted") };
        let shown = error.to_string();
        for secret in [published()["users"][0]["ssk"].as_str().unwrap(), "xyzzy", "0011"] {
            assert!(!shown.contains(&secret[..4]), "{shown}");
        }
        shown
    };
    let user = |name: &'static str, value: Value| edit(&move |f| f["users"][0][name] = value.clone());
    let v = published();
    // Keys of another user, of another period, cut, altered.
    assert!(user("rsk", v["users"][1]["rsk"].clone()).contains("not of this identity"));
    assert!(user("pvt", v["users"][1]["pvt"].clone()).contains("not of this identity"));
    assert!(user("period", json!(237)).contains("not of this identity"));
    assert!(user("period", json!("2025-10")).contains("scheme"));
    assert!(user("ssk", json!("00")).contains("octets"));
    assert!(user("ssk", json!("xyzzy")).contains("not hexadecimal"));
    assert!(user("ssk", Value::Null).contains("go together"));
    assert!(user("kms", json!("elsewhere")).contains("no KMS"));
    assert!(user("colour", json!(1)).contains("unknown field"));
    assert!(edit(&|f| f["kms"][0]["scheme"] = json!("tel-monthly")).contains("month"));
    assert!(edit(&|f| f["kms"][0]["key_period"] = json!(0)).contains("zero"));
    assert!(edit(&|f| f["kms"][0]["key_period"] = Value::Null).contains("key_period"));
    assert!(edit(&|f| f["kms"][0]["z"] = f["users"][0]["pvt"].clone()).contains("octets"));
    assert!(edit(&|f| f["psks"][0]["key"] = json!("0011")).contains("at least 16"));
    assert!(KeyFile::parse("{").is_err());
}

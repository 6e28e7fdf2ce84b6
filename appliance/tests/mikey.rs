//! `pc5 mikey` as it is called from a shell, on published messages and on its own.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const T: &str = "2025-10-02T23:47:52Z";
const KMS: &str = "kms.mydev.streamwide.com";
const GROUP: &str = "gms@streamwide.com";
const ALICE: &str = "sip:alice@streamwide.com";
const GMK: &str = "000102030405060708090a0b0c0d0e0f";

fn vectors(file: &str) -> Value {
    let path = format!("{}/../control/mikey/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A key file of the published KMS and users, in a directory of its own.
fn keys() -> (tempfile::TempDir, String) {
    let v = vectors("mikey_sakke_messages.json");
    let k = &v["kms"]["streamwide"];
    let user = |u: &Value| {
        json!({ "uri": u["uri"], "kms": KMS, "period": u["key_period_no"],
                "rsk": u["RSK"], "ssk": u["SSK"], "pvt": u["PVT"] })
    };
    let users: Vec<_> = k["users"].as_array().unwrap().iter().map(user).collect();
    let file = json!({
        "kms": [{ "uri": KMS, "scheme": "uid", "key_period": k["key_period"], "kpak": k["KPAK"], "z": k["Z"] }],
        "users": users,
        "psks": [{ "name": "0df9bc39", "key": GMK }],
        "signers": [
            { "kind": "group", "uri": GROUP, "kms": KMS },
            { "kind": "peer", "uri": ALICE, "kms": KMS },
            { "kind": "speaker", "uri": ALICE, "kms": KMS },
        ],
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    std::fs::write(&path, file.to_string()).unwrap();
    (dir, path.display().to_string())
}

fn pc5(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pc5"))
        .arg("mikey")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that is refused for its arguments may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(o: &Output) -> String {
    String::from_utf8(o.stdout.clone()).unwrap()
}

fn err(o: &Output) -> String {
    String::from_utf8(o.stderr.clone()).unwrap()
}

fn published() -> Vec<(String, String)> {
    let v = vectors("mikey_sakke_messages.json");
    let get = |m: &Value, f: &str| m[f].as_str().unwrap().to_owned();
    v["messages"].as_array().unwrap().iter().map(|m| (get(m, "message"), get(m, "key"))).collect()
}

#[test]
fn decode_shows_offsets() {
    let (gmk, _) = &published()[0];
    let o = pc5(&["decode", "-"], gmk);
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    let text = out(&o);
    let line = |name: &str| text.lines().find(|l| l.contains(name)).unwrap().to_owned();
    assert_eq!(line("HDR CSB ID").split_whitespace().next(), Some("4"));
    assert!(line("T TS value").contains("2025-10-02T23:47:52Z"));
    assert!(line("SAKKE data  ").trim_start().starts_with("222   273"));
    let o = pc5(&["decode", "-o", "json", "-"], gmk);
    let v: Value = serde_json::from_str(&out(&o)).unwrap();
    assert_eq!(v["octets"], 701);
    assert_eq!(v["fields"][0]["name"], "HDR");
    assert_eq!(v["malformed"], Value::Null);
    // Cut: what is there is shown, then the error with its place.
    let o = pc5(&["decode", "-"], &gmk[..600]);
    assert_eq!(o.status.code(), Some(1));
    assert!(err(&o).contains("SAKKE data at octet 222"), "{}", err(&o));
    assert!(out(&o).contains("RAND"));
}

#[test]
fn open_and_verify_published_messages() {
    let (_dir, keys) = keys();
    for (message, key) in published() {
        let o = pc5(&["open", "--keys", &keys, "--at", "message", "-o", "json", "-"], &message);
        assert_eq!(o.status.code(), Some(0), "{}", err(&o));
        assert!(!out(&o).contains(&key), "shown without being asked");
        let o = pc5(&["open", "--keys", &keys, "--at", T, "--show-key", "-o", "json", "-"], &message);
        let v: Value = serde_json::from_str(&out(&o)).unwrap();
        assert_eq!(v["key"], key);
        let o = pc5(&["verify", "--keys", &keys, "--at", "message", "-"], &message);
        assert_eq!(o.status.code(), Some(0), "{}", err(&o));
        // Today it is old.
        let o = pc5(&["verify", "--keys", &keys, "-o", "json", "-"], &message);
        assert_eq!(o.status.code(), Some(4));
        let v: Value = serde_json::from_str(&out(&o)).unwrap();
        assert_eq!(v["refused"], "timestamp-out-of-range");
        // The last octet of the signature.
        let mut altered = message.clone();
        altered.replace_range(altered.len() - 1.., if altered.ends_with('0') { "1" } else { "0" });
        let o = pc5(&["open", "--keys", &keys, "--at", "message", "-"], &altered);
        assert_eq!(o.status.code(), Some(4));
        assert!(err(&o).contains("refused: authentication-failed"), "{}", err(&o));
    }
}

#[test]
fn made_gmk_opens() {
    let (_dir, keys) = keys();
    let make = |extra: &[&str]| {
        let mut args = vec!["make", "gmk", "--keys", &keys, "--from", GROUP, "--to", ALICE, "--at", T];
        args.extend(extra);
        pc5(&args, "")
    };
    for extra in [&["--clear"][..], &["--policy"], &["--expires-in", "3600"]] {
        let o = make(&[&["--key", GMK, "--key-id", "0abcdef0"], extra].concat());
        assert_eq!(o.status.code(), Some(0), "{}", err(&o));
        let opened = pc5(&["open", "--keys", &keys, "--at", T, "--show-key", "-o", "json", "-"], &out(&o));
        assert_eq!(opened.status.code(), Some(0), "{}", err(&opened));
        let v: Value = serde_json::from_str(&out(&opened)).unwrap();
        assert_eq!((v["key"].as_str(), v["key_id"].as_str()), (Some(GMK), Some("0abcdef0")));
        assert_eq!(v["signer"], GROUP);
    }
    // A drawn key must be shown; a member is no group.
    assert_eq!(make(&[]).status.code(), Some(2));
    let o = make(&["--show-key"]);
    assert!(err(&o).contains("key id 0"), "{}", err(&o));
    let by_alice =
        pc5(&["make", "gmk", "--keys", &keys, "--from", ALICE, "--to", ALICE, "--at", T, "--key", GMK], "");
    let o = pc5(&["open", "--keys", &keys, "--at", T, "--signer", ALICE, "-"], &out(&by_alice));
    assert_eq!(o.status.code(), Some(4));
    assert!(err(&o).contains("signer-not-allowed"), "{}", err(&o));
    let o = pc5(&["open", "--keys", &keys, "--at", T, "--signer", GROUP, "-"], &out(&by_alice));
    assert!(err(&o).contains("wrong-initiator"), "{}", err(&o));
}

#[test]
fn made_gsk_opens() {
    let (_dir, keys) = keys();
    let args =
        ["make", "gsk", "--keys", &keys, "--from", ALICE, "--gmk-id", "0df9bc39", "--key-id", "00000007"];
    let key = "40".repeat(32);
    let o = pc5(&[&args[..], &["--at", T, "--key", "-"]].concat(), &key);
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    let message = out(&o);
    let o = pc5(&["open", "--keys", &keys, "--at", T, "--show-key", "-o", "json", "-"], &message);
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    let v: Value = serde_json::from_str(&out(&o)).unwrap();
    assert_eq!((v["key"].as_str(), v["gsk_id"].as_str()), (Some(key.as_str()), Some("00000007")));
    assert_eq!(v["gmk_id"], "0df9bc39");
    let o = pc5(&["verify", "--keys", &keys, "--at", T, "-"], &message);
    assert_eq!(o.status.code(), Some(0));
    let missing = pc5(
        &[
            "make", "gsk", "--keys", &keys, "--from", ALICE, "--gmk-id", "00000001", "--key-id", "01",
            "--key", &key,
        ],
        "",
    );
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn pre_shared_key_mode() {
    let v = &vectors("mikey_psk.json")["vectors"][0];
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.json").display().to_string();
    std::fs::write(&keys, json!({ "psks": [{ "name": "", "key": v["psk"] }] }).to_string()).unwrap();
    let message = v["message"].as_str().unwrap();
    let o = pc5(&["open", "--keys", &keys, "--at", "message", "--show-key", "-o", "json", "-"], message);
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    let shown: Value = serde_json::from_str(&out(&o)).unwrap();
    assert_eq!((&shown["key_1"], &shown["response"]), (&v["tgk"], &v["response"]));
    let o = pc5(&["verify", "--keys", &keys, "--at", "message", "-"], v["response"].as_str().unwrap());
    assert_eq!(o.status.code(), Some(4));
    assert!(err(&o).contains("data-type"), "{}", err(&o));
}

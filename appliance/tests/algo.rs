//! `pc5 algo` over published vectors.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

fn algo(args: &[&str]) -> (i32, Value) {
    let out =
        Command::new(env!("CARGO_BIN_EXE_pc5")).arg("algo").args(args).args(["-o", "json"]).output().unwrap();
    (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap_or(Value::Null))
}

fn vectors(name: &str, most: usize) -> Vec<Value> {
    let path = format!("{}/../dataplane/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    vectors
        .iter()
        .filter(|v| v["length_bits"].as_u64().is_none_or(|n| n < 20_000))
        .take(most)
        .cloned()
        .collect()
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_else(|| panic!("{key} in {v}"))
}

#[test]
fn ciphers_and_macs_of_128_bits() {
    for (name, file) in [("eea1", "eea1_nea1"), ("nea2", "eea2_nea2"), ("eea3", "eea3_nea3")] {
        for v in vectors(file, 4) {
            let (bits, bearer) =
                (v["length_bits"].to_string(), format!("{:x}", v["bearer"].as_u64().unwrap()));
            let direction = v["direction"].to_string();
            let mut args = vec!["cipher", name, "--key", text(&v, "key"), "--count", text(&v, "count")];
            args.extend([
                "--bearer",
                &bearer,
                "--direction",
                &direction,
                "--bits",
                &bits,
                text(&v, "plaintext"),
            ]);
            let (code, out) = algo(&args);
            assert_eq!(
                (code, text(&out, "data")),
                (0, text(&v, "ciphertext").to_lowercase().as_str()),
                "{v}"
            );
        }
    }
    for (name, file) in
        [("eia1", "eia1_nia1"), ("nia2", "eia2_nia2"), ("eia3", "eia3_nia3"), ("uia2", "uia2")]
    {
        for v in vectors(file, 4) {
            let (bits, direction) = (v["length_bits"].to_string(), v["direction"].to_string());
            let mut args = vec!["mac", name, "--key", text(&v, "key"), "--count", text(&v, "count")];
            let bearer = v["bearer"].as_u64().map(|b| format!("{b:x}"));
            match &bearer {
                Some(bearer) => args.extend(["--bearer", bearer]),
                None => args.extend(["--fresh", text(&v, "fresh")]),
            }
            args.extend(["--direction", &direction, "--bits", &bits, text(&v, "message")]);
            let (code, out) = algo(&args);
            assert_eq!((code, text(&out, "mac")), (0, text(&v, "mac").to_lowercase().as_str()), "{v}");
        }
    }
}

#[test]
fn algorithms_of_256_bits_and_kdf() {
    for v in vectors("256_nea5", 4) {
        let (_, out) =
            algo(&["cipher", "nea5", "--key", text(&v, "key"), "--iv", text(&v, "iv"), text(&v, "msg")]);
        assert_eq!(text(&out, "data"), text(&v, "ct"));
    }
    for v in vectors("256_nia6", 4) {
        let (_, out) =
            algo(&["mac", "nia6", "--key", text(&v, "key"), "--iv", text(&v, "iv"), text(&v, "msg")]);
        assert_eq!(text(&out, "mac"), text(&v, "tag"));
    }
    for v in vectors("256_nca4", 4) {
        let call = ["nca4", "--key", text(&v, "key"), "--iv", text(&v, "iv"), "--aad", text(&v, "aad")];
        let (_, out) = algo(&[&["seal"], &call[..], &[text(&v, "msg")]].concat());
        assert_eq!((text(&out, "data"), text(&out, "mac")), (text(&v, "ct"), text(&v, "tag")));
        let open = |tag: &str| algo(&[&["open"], &call[..], &["--tag", tag, text(&v, "ct")]].concat());
        let (code, out) = open(text(&v, "tag"));
        assert_eq!((code, text(&out, "data")), (0, text(&v, "msg")));
        let wrong: String = text(&v, "tag").chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
        assert_eq!(open(&wrong), (1, Value::Null));
    }
    for v in vectors("kdf", 99) {
        let mut args = vec!["kdf", "--key", text(&v, "key"), "--fc", text(&v, "fc")];
        args.extend(v["params"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()));
        let (code, out) = algo(&args);
        assert_eq!((code, text(&out, "key")), (0, text(&v, "out")), "{v}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_of_usage() {
    let key = "00".repeat(16);
    for args in [
        &["cipher", "eea9", "--key", &key, "--count", "0", "00"][..],
        &["cipher", "eea2", "--key", "00", "--count", "0", "00"],
        &["cipher", "eia2", "--key", &key, "--count", "0", "00"],
        &["cipher", "eea2", "--key", &key, "--count", "123456789", "00"],
        &["cipher", "eea2", "--key", &key, "--count", "0", "--bearer", "20", "00"],
        &["cipher", "eea2", "--key", &key, "--count", "0", "--bits", "9", "00"],
        &["cipher", "eea2", "--key", &key, "00"],
        &["cipher", "eea2", "--key", &key, "--count", "0", "0g"],
        &["mac", "nia5", "--key", &key, "--iv", "00", "00"],
        &["kdf", "--key", "", "--fc", "4a4b"],
        &["hash"],
    ] {
        assert_eq!(algo(args), (2, Value::Null), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_the_program_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut pc5 = Command::new(env!("CARGO_BIN_EXE_pc5"));
    let ended = pc5.args(["bench", "--suite", "eea0"]).stdout(writer).output().unwrap();
    assert!(ended.status.signal().is_some() && ended.stderr.is_empty(), "{ended:?}");
}

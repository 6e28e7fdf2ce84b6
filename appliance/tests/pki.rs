//! `pc5 pki` from root to revocation.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn pki(folder: &Path, args: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc5"));
    let out = command.current_dir(folder).arg("pki").args(args.split(' ')).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), text)
}

#[test]
fn a_network_from_root_to_revocation() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let ok = |args: &str| {
        let (code, text) = pki(folder, args);
        assert_eq!(code, 0, "{args}: {text}");
        text
    };
    ok("root home --plmn 001-01");
    ok("intermediate ops --under home --name operations --curve p384");
    ok("issue ops ue-1 --role member --group a0b0c0");
    ok("issue home pc5:001-01:ue:go-1 --role owner --role relay");
    let check = "check ops/issued/ue-1.pem --root 001-01=home/ca.pem --crl home/crl.pem --crl ops/crl.pem";
    let json: Value = serde_json::from_str(&ok(&format!("{check} --group a0b0c0 -o json"))).unwrap();
    assert_eq!(json["identity"], "pc5:001-01:ue:ue-1");
    assert_eq!(json["crl_in_grace"], false);
    ok("check home/issued/go-1.pem --root 001-01=home/ca.pem --crl home/crl.pem --role owner");

    for (args, word) in [
        (format!("{check} --role owner"), "role owner"),
        (format!("{check} --group 000001"), "group 000001"),
        (check.replace("001-01=", "002-02="), "001-01"),
        (check.replace(" --crl ops/crl.pem", ""), "no CRL"),
    ] {
        let (code, text) = pki(folder, &args);
        assert!(code == 4 && text.contains(word), "{args}: {code} {text}");
    }
    let crl: Value = serde_json::from_str(&ok("revoke ops ue-1 -o json")).unwrap();
    assert_eq!(
        (crl["crl"]["number"].as_str(), crl["crl"]["revoked"].as_array().unwrap().len()),
        (Some("2"), 1)
    );
    let (code, text) = pki(folder, check);
    assert!(code == 4 && text.contains("revoked"), "{code} {text}");
    let (code, text) = pki(folder, "revoke ops ue-1");
    assert!(code == 1 && text.contains("already"), "{text}");
    ok("crl ops --days 1");
    assert!(ok("show ops").contains("3"));
    assert!(ok("show ops/crl.pem").contains("revoked"));
    assert!(ok("show ops/issued/ue-1.pem").contains("pc5:group:a0b0c0"));
    ok("server home localhost 127.0.0.1");
    assert!(ok("show home/issued/localhost.pem").contains("IP:127.0.0.1"));
}

/// Each example says in its head what makes the files that it names; with them it is good.
#[test]
fn the_examples_are_good_after_the_commands_in_their_heads() {
    for name in ["owner.toml", "member.toml"] {
        let temp = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
        let text = std::fs::read_to_string(example).unwrap();
        std::fs::write(temp.path().join(name), &text).unwrap();
        let check = || {
            let mut pc5 = Command::new(env!("CARGO_BIN_EXE_pc5"));
            pc5.current_dir(temp.path()).args(["check", name]).output().unwrap()
        };
        assert_eq!(check().status.code(), Some(1), "{name} names files that are not there yet");
        let commands: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("#   pc5 pki ")).collect();
        assert_eq!(commands.len(), 2, "{name}");
        for command in commands {
            let (code, said) = pki(temp.path(), command);
            assert_eq!(code, 0, "{command}: {said}");
        }
        let checked = check();
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn misuse_says_what_is_wanted() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(pki(temp.path(), "root home --plmn 001-01").0, 0);
    for (args, code, word) in [
        ("root home --plmn 001-01", 1, "exists"),
        ("root other --plmn 1-1", 2, "MCC-MNC"),
        ("issue home ue-1", 2, "--role"),
        ("issue home UE_1 --role member", 2, "a-z"),
        ("issue home ue-1 --role king", 2, "public-safety"),
        ("issue home pc5:002-02:ue:a --role member", 1, "001-01"),
        ("issue nowhere ue-1 --role member", 2, "nowhere"),
        ("revoke home", 2, "--serial"),
        ("revoke home --serial xyz", 2, "hexadecimal"),
        ("server home ../../x", 1, ""),
        ("show home/state.json", 1, "PEM"),
    ] {
        let (found, text) = pki(temp.path(), args);
        assert!(found == code && text.contains(word), "{args}: {found} {text}");
    }
}

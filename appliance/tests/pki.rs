//! `pc5 pki` from root to revocation.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
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

/// A file that only its owner may read.
fn secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn keys_are_made_imported_and_listed_in_a_sealed_vault() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    secret(&folder.join("pass"), "twelve octets or more\n");
    let vault = |args: &str| {
        let (code, text) = pki(folder, &format!("vault v --pass-phrase-file pass -o json{args}"));
        let json = serde_json::from_str::<Value>(text.lines().collect::<String>().as_str()).ok();
        (code, text, json)
    };
    let ok = |args: &str| {
        let (code, text, json) = vault(args);
        assert_eq!(code, 0, "{args}: {text}");
        json.unwrap()
    };
    // What is read has to be there; nothing is made by looking.
    assert_eq!(vault(" --list").0, 2);
    assert_eq!(vault(" --existing").0, 2);
    assert!(!folder.join("v").exists());
    // Made, with its request, and certified.
    let made = ok(" --csr r --identity pc5:001-01:ue:ue-1");
    assert_eq!((made["entry"].as_str(), made["csr"].as_str()), (Some("certificate"), Some("r")));
    assert_eq!(std::fs::metadata(folder.join("v")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(pki(folder, "root home --plmn 001-01").0, 0);
    assert_eq!(pki(folder, "issue home ue-1 --role member --csr r").0, 0);
    assert!(!folder.join("home/issued/ue-1.key").exists());
    // Asked for again for the key that is there: the same, and never another in its place.
    assert_eq!(ok(" --existing --csr again --identity pc5:001-01:ue:ue-1")["public_key"], made["public_key"]);
    let (code, text, _) = vault("");
    assert!(code == 1 && text.contains("holds 'certificate' already"), "{text}");
    // Imported.
    assert_eq!(pki(folder, "issue home ue-2 --role member").0, 0);
    let plain = folder.join("home/issued/ue-2.key");
    let imported = ok(" --entry two --import home/issued/ue-2.key");
    let listed = ok(" --list");
    let entries: Vec<_> = listed["entries"].as_array().unwrap().iter().collect();
    assert_eq!(entries.len(), 2, "{listed}");
    assert_eq!(
        (entries[0]["name"].as_str(), &entries[0]["public_key"]),
        (Some("certificate"), &made["public_key"])
    );
    assert_eq!(
        (entries[1]["name"].as_str(), &entries[1]["public_key"]),
        (Some("two"), &imported["public_key"])
    );
    // No secret is shown, and none shows through.
    let secret_lines = std::fs::read_to_string(&plain).unwrap();
    let text = vault(" --list").1;
    assert!(secret_lines.lines().filter(|l| !l.starts_with('-')).all(|l| !text.contains(l)));
    assert_eq!(ok(" --entry two --remove")["entries"].as_array().unwrap().len(), 1);
    assert_eq!(vault(" --entry two --remove").0, 1);
    // What others can read is no secret any more.
    let everybody =
        |file: &Path| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    everybody(&plain);
    let (code, text, _) = vault(" --entry two --import home/issued/ue-2.key");
    assert!(code == 1 && text.contains("ue-2.key: mode 0644"), "{text}");
    everybody(&folder.join("v"));
    let (code, text, _) = vault(" --list");
    assert!(code == 1 && text.contains("v: mode 0644"), "{text}");
    std::fs::set_permissions(folder.join("v"), std::fs::Permissions::from_mode(0o600)).unwrap();
    everybody(&folder.join("pass"));
    let (code, text, _) = vault(" --list");
    assert!(code == 1 && text.contains("pass: mode 0644"), "{text}");
    // A pass phrase is right, and long enough for a new vault.
    secret(&folder.join("pass"), "another pass phrase");
    assert!(vault(" --list").1.contains("wrong pass phrase"));
    secret(&folder.join("pass"), "short");
    let (code, text) = pki(folder, "vault w --pass-phrase-file pass");
    assert!(code == 1 && text.contains("at least 12 octets"), "{text}");
    assert!(!folder.join("w").exists());
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
        let commands: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("#   ")).collect();
        assert_eq!(commands.len(), 4, "{name}");
        let folder = Path::new(env!("CARGO_BIN_EXE_pc5")).parent().unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        for command in commands {
            let mut shell = Command::new("sh");
            let out =
                shell.current_dir(temp.path()).env("PATH", &path).args(["-c", command]).output().unwrap();
            assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
        }
        let checked = check();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
        // The default is the vault; a plain key serves as well, and is named for what it is.
        assert!(said.contains("private key: 'certificate' in the sealed vault "), "{said}");
        let id = if name == "owner.toml" { "go-1" } else { "ue-1" };
        let role = if name == "owner.toml" { "owner" } else { "member" };
        assert_eq!(pki(temp.path(), &format!("issue pki {id} --role {role} --group f00001")).0, 0);
        let is_sealed = |l: &&str| ["vault", "pass_phrase"].iter().any(|key| l.starts_with(key));
        let plain: Vec<_> = text.lines().filter(|l| !is_sealed(l)).collect();
        let plain = plain.join("\n").replace("# key = \"pki/", "key = \"pki/");
        std::fs::write(temp.path().join(name), plain).unwrap();
        let checked = check();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
        assert!(said.contains("which is for laboratories"), "{said}");
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

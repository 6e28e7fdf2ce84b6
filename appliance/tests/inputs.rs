//! Files that commands take: what the command line names and is not there is an error of usage, what never ends is none.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::path::Path;
use std::process::Command;

/// Every command that takes a file; FILE stands for it.
const TAKES_A_FILE: [&str; 17] = [
    "replay FILE",
    "replay SAMPLE --op verify --keys FILE",
    "run FILE",
    "check FILE",
    "serve est FILE",
    "mikey decode FILE",
    "mikey open FILE --keys good.json",
    "mikey verify message --keys FILE",
    "pki show FILE",
    "pki check FILE --root 001-01=ca/ca.pem",
    "pki check ca/ca.pem --root 001-01=FILE",
    "pki check ca/ca.pem --root 001-01=ca/ca.pem --crl FILE",
    "pki issue ca ue-1 --role member --csr FILE",
    "pki revoke ca --certificate FILE",
    "pki vault FILE --pass-phrase-file pass --list",
    "pki vault v --pass-phrase-file FILE",
    "pki vault v --pass-phrase-file pass --import FILE",
];

/// What a command ends with, and what it says, in a folder that has what the others name.
fn said(folder: &Path, command: &str, file: &str) -> (i32, String) {
    let sample = format!("{}/../samples/dns.pcap", env!("CARGO_MANIFEST_DIR"));
    let args = command.split(' ').map(|arg| arg.replace("FILE", file).replace("SAMPLE", &sample));
    let out = Command::new(env!("CARGO_BIN_EXE_pc5")).current_dir(folder).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap_or(-1), text)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.json"), "{}").unwrap();
    std::fs::write(folder.path().join("message"), "0100").unwrap();
    let pass = folder.path().join("pass");
    std::fs::write(&pass, "twelve octets or more").unwrap();
    std::fs::set_permissions(pass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, text) = said(folder.path(), "pki root ca --plmn 001-01", "");
    assert_eq!(code, 0, "{text}");
    folder
}

#[test]
fn what_is_not_there_is_an_error_of_usage() {
    let folder = folder();
    for command in TAKES_A_FILE {
        for file in ["nowhere", "message/below", "ca"] {
            if (command, file) == ("pki show FILE", "ca") {
                continue;
            }
            let (code, text) = said(folder.path(), command, file);
            assert!(code == 2 && text.contains(file), "{command} {file}: {code} {text}");
            assert!(text.matches("os error").count() <= 1, "said once: {text}");
        }
    }
    for command in ["pki crl nowhere", "pki intermediate ops --under nowhere --name operations"] {
        let (code, text) = said(folder.path(), command, "");
        assert!(code == 2 && text.contains("nowhere"), "{command}: {code} {text}");
    }
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn what_never_ends_is_not_waited_for() {
    let folder = folder();
    // A capture has no end that it needs.
    for command in &TAKES_A_FILE[1..] {
        let (code, text) = said(folder.path(), command, "/dev/zero");
        assert!(code == 1 && text.contains("/dev/zero: longer than any"), "{command}: {code} {text}");
    }
}

/// What a configuration names is another matter: it may be there when the daemon starts.
#[test]
fn what_a_configuration_names_is_not_the_command_line() {
    let folder = folder();
    std::fs::write(
        folder.path().join("est.toml"),
        "folder = \"nowhere\"\n[server]\nlisten = \"127.0.0.1:0\"\ncertificate = \"x\"\nkey = \"x\"\n",
    )
    .unwrap();
    let (code, text) = said(folder.path(), "serve est est.toml", "");
    assert!(code == 1 && text.contains("nowhere"), "{code} {text}");
}

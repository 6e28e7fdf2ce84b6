//! `pc5 serve est` as a process: starts, enrols a device that asks with curl, stops on SIGTERM.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn sh(folder: &Path, command: &str) -> (bool, String) {
    let out = Command::new("sh").current_dir(folder).args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

fn pki(folder: &Path, args: &str) {
    let pc5 = env!("CARGO_BIN_EXE_pc5");
    let (ok, text) = sh(folder, &format!("{pc5} pki {args}"));
    assert!(ok, "{args}: {text}");
}

const CONFIG: &str = r#"
folder = "home"
[server]
listen = "127.0.0.1:0"
certificate = "home/issued/localhost.pem"
key = "home/issued/localhost.key"
[foreign]
"002-02" = ["other/ca.pem"]
[[device]]
identity = "ue-1"
roles = ["member"]
groups = ["a0b0c0"]
secret = "long enough to serve"
"#;

/// Killed if a test fails before it was stopped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_device_enrols_with_curl() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    pki(folder, "root home --plmn 001-01");
    pki(folder, "root other --plmn 002-02");
    pki(folder, "server home localhost 127.0.0.1");
    std::fs::write(folder.join("est.toml"), CONFIG).unwrap();
    // From another folder: paths are relative to the configuration.
    let child = Command::new(env!("CARGO_BIN_EXE_pc5"))
        .args(["serve", "est"])
        .arg(folder.join("est.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse::<u16>().unwrap_or_else(|_| panic!("{line}"));

    if sh(folder, "curl --version && openssl version").0 {
        let est = format!("curl -sS --cacert home/ca.pem https://localhost:{port}/.well-known/est");
        let (ok, text) = sh(
            folder,
            &format!(
                "{est}/plmn-002-02/cacerts | openssl base64 -d | openssl pkcs7 -inform DER -print_certs"
            ),
        );
        assert!(ok && text.contains("pc5 root 002-02"), "{text}");
        let (ok, text) = sh(
            folder,
            &format!(
                "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -subj /CN=x \
                 -outform DER | openssl base64 > r && {est}/simpleenroll -u 'ue-1:long enough to serve' \
                 -H 'Content-Type: application/pkcs10' --data-binary @r \
                 | openssl base64 -d | openssl pkcs7 -inform DER -print_certs > c.pem && cat c.pem"
            ),
        );
        assert!(ok && text.contains("CN = ue-1"), "{text}");
        pki(folder, "check c.pem --root 001-01=home/ca.pem --crl home/crl.pem --group a0b0c0");
        // OpenSSL completes the chain that it shows from --cacert: the root comes along.
        let renew = || {
            sh(
                folder,
                &format!(
                    "{est}/simplereenroll --cert c.pem --key k -H 'Content-Type: application/pkcs10' \
                     --data-binary @r > out && openssl base64 -d < out \
                     | openssl pkcs7 -inform DER -print_certs > d.pem; cat d.pem out",
                ),
            )
        };
        let (ok, text) = renew();
        assert!(ok && text.contains("CN = ue-1"), "{text}");
        pki(folder, "check d.pem --root 001-01=home/ca.pem --crl home/crl.pem --group a0b0c0");
        // What is revoked stays refused, the root beside it or not.
        pki(folder, "revoke home --certificate c.pem");
        let (ok, text) = renew();
        assert!(text.contains("the certificate is revoked"), "{ok}: {text}");
    } else {
        eprintln!("skipped in part: curl or openssl is not installed");
    }
    assert!(sh(folder, &format!("kill -TERM {}", server.0.id())).0);
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_configuration_opens_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    pki(folder, "root home --plmn 001-01");
    pki(folder, "root other --plmn 002-02");
    pki(folder, "server home localhost");
    // So that what is wrong with it as a key is said, not with its mode.
    assert!(sh(folder, "chmod 600 home/issued/localhost.pem").0);
    let pc5 = env!("CARGO_BIN_EXE_pc5");
    for (from, to, word) in [
        ("folder = \"home\"", "folder = \"nowhere\"", "nowhere"),
        ("other/ca.pem", "other/ca.key", "CERTIFICATE"),
        ("\"002-02\"", "\"2-2\"", "MCC-MNC"),
        ("localhost.key", "localhost.pem", "no private key"),
        ("[\"member\"]", "[]", "at least one role"),
        ("[\"member\"]", "[\"king\"]", "public-safety"),
        ("long enough to serve", "short", "12 octets"),
        ("\"ue-1\"", "\"pc5:002-02:ue:x\"", "its own network"),
        ("secret =", "sekret =", "line 13"),
    ] {
        std::fs::write(folder.join("est.toml"), CONFIG.replace(from, to)).unwrap();
        let (ok, text) = sh(folder, &format!("{pc5} serve est est.toml"));
        assert!(!ok && text.contains(word), "{to}: {text}");
        assert!(!text.contains("long enough"), "{text}");
    }
}

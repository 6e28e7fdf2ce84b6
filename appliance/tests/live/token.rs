//! Certificate keys in PKCS#11 tokens: made there, certified by request, used after rights were given up. Skipped where
//! SoftHSM2 is not installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Node, Text, said};

const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A token, outside the folders that a daemon is left with.
struct Hsm {
    folder: tempfile::TempDir,
    module: &'static str,
}

impl Hsm {
    fn new() -> Option<Self> {
        let Some(module) = MODULES.into_iter().find(|m| Path::new(m).is_file()) else {
            eprintln!("skipped: SoftHSM2 is not installed (no libsofthsm2.so)");
            return None;
        };
        let hsm = Self { folder: tempfile::tempdir().unwrap(), module };
        fs::create_dir(hsm.tokens()).unwrap();
        let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", hsm.tokens().display());
        fs::write(hsm.conf(), conf).unwrap();
        let pin = hsm.folder.path().join("pin");
        fs::write(&pin, "4711-test\n").unwrap();
        fs::set_permissions(pin, fs::Permissions::from_mode(0o600)).unwrap();
        let args = ["--init-token", "--free", "--label", "pc5", "--so-pin", "so-pin-1", "--pin", "4711-test"];
        let out = Command::new("softhsm2-util").env("SOFTHSM2_CONF", hsm.conf()).args(args).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        Some(hsm)
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    fn uri(&self, object: &str) -> String {
        let pin = self.folder.path().join("pin");
        format!("pkcs11:token=pc5;{object}?module-path={}&pin-source=file:{}", self.module, pin.display())
    }

    fn pc5(&self, lab: &Lab, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc5"));
        command.current_dir(lab.folder()).env("SOFTHSM2_CONF", self.conf()).args(args).output().unwrap()
    }

    /// A node whose key is made in the token, certified by request, and never anywhere else.
    fn node(&self, lab: &Lab, (name, id): (&str, &str), role: &str, config: &Text) -> Node {
        let uri = self.uri(&format!("object={name};id={id}"));
        let (csr, identity) = (format!("{name}.csr"), format!("pc5:001-01:ue:{name}"));
        let out = self.pc5(lab, &["pki", "token", &uri, "--csr", &csr, "--identity", &identity]);
        assert!(out.status.success(), "{}", said(&out));
        let duty = if role == "owner" { "owner" } else { "member" };
        lab.pc5(&["pki", "issue", "pki", name, "--role", duty, "--csr", &csr]);
        assert!(!lab.folder().join(format!("pki/issued/{name}.key")).exists());
        let mut node = lab.node_at(lab.station(name), name, role, config);
        self.configure(&node, &format!("key = \"pki/issued/{name}.key\""), &uri);
        node.environment.push(("SOFTHSM2_CONF", self.conf()));
        node
    }

    fn configure(&self, node: &Node, before: &str, uri: &str) {
        let text = fs::read_to_string(&node.config).unwrap();
        assert!(text.contains(before), "{text}");
        let folders = format!("\npkcs11_folders = [\"{}\"]", self.tokens().display());
        let folders = if text.contains("pkcs11_folders") { "" } else { &folders };
        fs::write(&node.config, text.replace(before, &format!("key = \"{uri}\"{folders}"))).unwrap();
    }
}

#[test]
fn a_join_with_both_keys_in_a_token() {
    // One each: SoftHSM2 does not withstand two processes that log in at the same time.
    let (Some(owners), Some(hsm)) = (Hsm::new(), Hsm::new()) else { return };
    let Some(lab) = Lab::new("token") else { return };
    let group = "[[group]]\nid = \"f00001\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n";
    let config = Text { tables: group.into(), ..Text::default() };
    let mut go = owners.node(&lab, ("go-1", "%01"), "owner", &config);
    let mut ue = hsm.node(&lab, ("ue-1", "%02"), "ue", &Text::ue(1));
    let out = hsm.pc5(&lab, &["check", "ue-1.toml"]);
    assert!(out.status.success() && said(&out).contains("good, for pc5:001-01:ue:ue-1"), "{}", said(&out));
    go.start();
    ue.start();
    go.await_members(1);
    ue.await_joined();
    // The key is used again when rights are long given up.
    for _ in 0..3 {
        let out = ue.ask(&["link", "rekey", "--refresh"]);
        assert!(out.status.success(), "{}", said(&out));
        let out = go.ask(&["group", "rekey"]);
        assert!(out.status.success(), "{}", said(&out));
    }
    ue.await_show("groups", |s| s["groups"][0]["epoch"].as_u64().is_some_and(|epoch| epoch >= 4));
    assert!(ue.stop() && go.stop(), "{}\n{}", ue.log(), go.log());
    go.start();
    ue.start();
    go.await_members(1);
    assert!(ue.stop() && go.stop(), "{}\n{}", ue.log(), go.log());

    // What the module needs is not left to the daemon: it says so instead of refusing everybody.
    if !go.log().contains("landlock=\"none") {
        let text = fs::read_to_string(&go.config).unwrap();
        let without: Vec<_> = text.lines().filter(|line| !line.starts_with("pkcs11_folders")).collect();
        fs::write(&go.config, without.join("\n")).unwrap();
        go.start();
        let began = Instant::now();
        while !go.log().contains("name the folders that its module reads in `pkcs11_folders`") {
            assert!(began.elapsed() < Duration::from_secs(10), "{}", go.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    // Another key of the token.
    let out = hsm.pc5(&lab, &["pki", "token", &hsm.uri("object=go-1;id=%03")]);
    assert!(out.status.success(), "{}", said(&out));
    let uri = hsm.uri("object=ue-1;id=%02");
    hsm.configure(&ue, &format!("key = \"{uri}\""), &hsm.uri("object=go-1"));
    let out = hsm.pc5(&lab, &["check", "ue-1.toml"]);
    assert!(!out.status.success() && said(&out).contains("not of this private key"), "{}", said(&out));
    hsm.configure(&ue, &format!("key = \"{}\"", hsm.uri("object=go-1")), &hsm.uri("object=ue-7"));
    let out = hsm.pc5(&lab, &["check", "ue-1.toml"]);
    assert!(!out.status.success() && said(&out).contains("\"ue-7\": no such key, only"), "{}", said(&out));
    fs::write(hsm.folder.path().join("pin"), "0000-wrong").unwrap();
    let out = hsm.pc5(&lab, &["check", "ue-1.toml"]);
    assert!(said(&out).contains("PinIncorrect") && !said(&out).contains("0000-wrong"), "{}", said(&out));
}

//! Certificate keys in PKCS#11 tokens (SoftHSM2): a join between two of them, and what is said when they cannot be
//! used. Skipped where SoftHSM2 is not installed.
//!
//! A module reads its environment when it starts, and starts once a process: each test runs again in one of its own.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pc5_control::credential::key::{SignRole, verify};
use pc5_control::credential::{LongTermKey, Role, SoftwareKey, TokenError, TokenKey, TokenUri};
use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{Device, MemberState, Owner};
use pc5_control::hpke;
use pc5_control::pki::{Request, Validity};
use pc5_control::policy::OwnerPolicy;
use pc5_control::store::MemoryStore;

use self::world::*;

#[allow(dead_code)]
#[path = "group_owner/world.rs"]
mod world;

const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
const FOLDER: &str = "PC5_TEST_TOKENS";
const PIN: &str = "4711-test";

/// Tokens of a test, in a folder of its own.
struct Tokens {
    folder: PathBuf,
    module: &'static str,
}

/// Runs `body` in a process whose SoftHSM2 has the tokens that `make` made.
fn with_tokens(test: &str, make: impl FnOnce(&Tokens), body: impl FnOnce(&Tokens)) {
    let Some(module) = MODULES.into_iter().find(|m| Path::new(m).is_file()) else {
        return eprintln!("skipped: SoftHSM2 is not installed (no libsofthsm2.so)");
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        body(&Tokens { folder: folder.into(), module });
        return println!("ran {test}");
    }
    let temp = tempfile::tempdir().unwrap();
    let tokens = Tokens { folder: temp.path().into(), module };
    std::fs::create_dir(temp.path().join("tokens")).unwrap();
    let conf =
        format!("directories.tokendir = {}/tokens\nobjectstore.backend = file\n", temp.path().display());
    std::fs::write(tokens.conf(), conf).unwrap();
    let pin = temp.path().join("pin");
    std::fs::write(&pin, format!("{PIN}\n")).unwrap();
    std::fs::set_permissions(pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    make(&tokens);
    let out = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", tokens.conf())
        .env(FOLDER, temp.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains(&format!("ran {test}")), "{}: {text}", out.status);
}

impl Tokens {
    fn conf(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    fn util(&self, args: &[&str]) {
        let out =
            Command::new("softhsm2-util").env("SOFTHSM2_CONF", self.conf()).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn token(&self, label: &str) {
        self.util(&["--init-token", "--free", "--label", label, "--so-pin", "so-pin-1", "--pin", PIN]);
    }

    /// A key made here goes into a token; what is left outside is its twin.
    fn import(&self, token: &str, label: &str, id: &str) -> TokenKey {
        let key = SoftwareKey::generate(&mut rng());
        std::fs::write(self.twin_file(label), key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        TokenKey::import(&self.uri(&format!("token={token};object={label};id=%{id}")), &key).unwrap()
    }

    fn import_file(&self, file: &Path, token: &str, label: &str, id: &str, more: &[&str]) {
        let file = file.to_str().unwrap();
        let args = ["--import", file, "--token", token, "--label", label, "--id", id, "--pin", PIN];
        self.util(&[&args, more].concat());
    }

    fn twin_file(&self, label: &str) -> PathBuf {
        self.folder.join(format!("{label}.pem"))
    }

    fn twin(&self, label: &str) -> SoftwareKey {
        SoftwareKey::from_pkcs8_pem(&std::fs::read_to_string(self.twin_file(label)).unwrap()).unwrap()
    }

    /// `which`: the path attributes of a URI.
    fn uri(&self, which: &str) -> TokenUri {
        let text = format!("pkcs11:{which}?module-path={}&pin-source=file:pin", self.module);
        text.parse::<TokenUri>().unwrap().relative_to(&self.folder)
    }

    fn open(&self, which: &str) -> TokenKey {
        TokenKey::open(&self.uri(which)).unwrap()
    }

    fn refusal(&self, which: &str) -> TokenError {
        TokenKey::open(&self.uri(which)).err().unwrap()
    }
}

#[test]
fn a_token_does_what_the_key_outside_does() {
    let make = |t: &Tokens| t.token("pc5");
    with_tokens("a_token_does_what_the_key_outside_does", make, |t| {
        t.import("pc5", "ue-1", "01");
        t.import("pc5", "ue-2", "02");
        let (key, twin) = (t.open("token=pc5;object=ue-1"), t.twin("ue-1"));
        assert!(key.public_key() == twin.public_key());
        assert!(t.open("token=pc5;id=%02").public_key() == t.twin("ue-2").public_key());
        for n in 0..32 {
            let signature = key.sign(SignRole::Member, &[n; 32]).unwrap();
            assert!(verify(twin.public_key(), SignRole::Member, &[n; 32], &signature));
            assert!(!verify(twin.public_key(), SignRole::Owner, &[n; 32], &signature));
            let peer = SoftwareKey::generate(&mut rng());
            assert_eq!(key.ecdh(peer.public_key()).unwrap(), twin.ecdh(peer.public_key()).unwrap());
        }
        let context = hpke::Context { info: b"info", aad: b"aad", psk: &[7; 32], psk_id: b"id" };
        let sealed = hpke::seal(twin.public_key(), context, b"group key", &mut rng()).unwrap();
        assert_eq!(*hpke::open(&key, context, &sealed.enc, &sealed.ciphertext).unwrap(), b"group key");
        let other = t.open("token=pc5;object=ue-2");
        assert!(hpke::open(&other, context, &sealed.enc, &sealed.ciphertext).is_err());
        // From several threads: a session serves one at a time.
        std::thread::scope(|scope| {
            for n in 0..4 {
                let key = &key;
                scope.spawn(move || {
                    for _ in 0..16 {
                        let signature = key.sign(SignRole::Owner, &[n; 32]).unwrap();
                        assert!(verify(key.public_key(), SignRole::Owner, &[n; 32], &signature));
                    }
                });
            }
        });
    });
}

/// A device with a certificate of the laboratory for a key in a token.
fn device(w: &World, id: &str, role: Role, key: TokenKey) -> Device {
    let identity = w.lab.identity(id);
    let request =
        Request { identity, roles: vec![role], groups: vec![GROUP], validity: Validity::days(T, 365) };
    let leaf = w.lab.root.issue(&request, key.public_key(), &mut rng()).unwrap();
    Device::new(Arc::new(key), vec![leaf], w.trust.clone()).unwrap()
}

#[test]
fn a_member_joins_an_owner_with_both_keys_in_tokens() {
    let make = |t: &Tokens| {
        t.token("owner");
        t.token("member");
    };
    with_tokens("a_member_joins_an_owner_with_both_keys_in_tokens", make, |t| {
        let mut w = World::without_owner(Conditions::PERFECT);
        let owner = device(&w, "go-1", Role::Owner, t.import("owner", "go-1", "01"));
        // This one was never outside.
        let key = TokenKey::generate(&t.uri("token=member;object=ue-1")).unwrap();
        let member = device(&w, "ue-1", Role::Member, key);
        let store = Box::new(MemoryStore::default());
        w.put_owner(Owner::new(owner, OwnerPolicy::default(), vec![group_policy()], store).unwrap());
        w.put_member(w.member_with(member, 1));
        assert!(w.join_all());
        w.assert_consistent();
        let member = w.run.member(member_id(1)).unwrap();
        assert_eq!(member.state(), MemberState::Joined);
        assert_eq!(member.owner().unwrap().to_string(), "pc5:001-01:ue:go-1");
    });
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let make = |t: &Tokens| t.token("pc5");
    with_tokens("a_certificate_of_another_key_is_refused", make, |t| {
        let w = World::without_owner(Conditions::PERFECT);
        let chain = w.lab.member_device(1, w.trust.clone()).chain.to_vec();
        let refused = Device::new(Arc::new(t.import("pc5", "ue-1", "01")), chain, w.trust.clone());
        assert_eq!(refused.err().unwrap().to_string(), "the certificate is not of this private key");
    });
}

#[test]
fn what_cannot_be_used_is_named() {
    let make = |t: &Tokens| {
        t.token("pc5");
        t.token("twice");
        t.token("twice");
        let pem = t.twin_file("foreign");
        let key = SoftwareKey::generate(&mut rng());
        std::fs::write(&pem, key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        t.import_file(&pem, "pc5", "foreign", "05", &[]);
        t.import_file(&pem, "pc5", "alone", "03", &["--no-public-key"]);
        let args = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out"];
        let p384 = t.twin_file("p384");
        if Command::new("openssl").args(args).arg(&p384).output().is_ok_and(|o| o.status.success()) {
            t.import_file(&p384, "pc5", "p384", "04", &[]);
        }
    };
    with_tokens("what_cannot_be_used_is_named", make, |t| {
        let says = |which: &str| t.refusal(which).to_string();
        // The PIN first: who is logged in stays so for the process.
        std::fs::write(t.folder.join("pin"), "0000-wrong").unwrap();
        let wrong = says("token=pc5;object=ue-1");
        assert!(
            wrong.starts_with("token label \"pc5\": the PIN in ") && wrong.contains("PinIncorrect"),
            "{wrong}"
        );
        assert!(!wrong.contains("0000-wrong"), "{wrong}");
        let mut uri = t.uri("token=pc5;object=ue-1");
        uri.pin = None;
        let none = TokenKey::open(&uri).err().unwrap();
        assert_eq!(none.to_string(), "token label \"pc5\" wants a PIN: write pin-source=FILE");
        uri.pin = Some(t.folder.join("nowhere"));
        assert!(
            matches!(TokenKey::open(&uri), Err(TokenError::PinFile { path, .. }) if path.ends_with("nowhere"))
        );
        std::fs::write(t.folder.join("pin"), PIN).unwrap();

        t.import("pc5", "ue-1", "01");
        let taken = TokenKey::generate(&t.uri("token=pc5;object=ue-1;id=%11")).err().unwrap().to_string();
        assert!(taken.contains("is taken"), "{taken}");
        let taken = TokenKey::generate(&t.uri("token=pc5;object=ue-3;id=%01")).err().unwrap().to_string();
        assert!(taken.contains("is taken"), "{taken}");
        // softhsm2-util imports keys that sign and do not derive.
        let foreign = says("token=pc5;object=foreign");
        assert!(foreign.contains("does not serve") && foreign.contains("DeriveKey"), "{foreign}");
        let missing = says("token=pc5;object=ue-9");
        assert!(missing.starts_with("private key label \"ue-9\": no such key, only \""), "{missing}");
        assert!(missing.contains("\"ue-1\"") && missing.ends_with("in token label \"pc5\""), "{missing}");
        let missing = says("token=nobody;object=ue-1");
        assert!(missing.starts_with("token label \"nobody\": no such token, only \""), "{missing}");
        assert!(says("token=twice;object=ue-1").contains("add serial=NUMBER"));
        let alone = says("token=pc5;object=alone");
        assert!(alone.contains("import both halves"), "{alone}");
        if t.twin_file("p384").exists() {
            assert!(says("token=pc5;object=p384").contains("P-256"), "{}", says("token=pc5;object=p384"));
        }
        let mut uri = t.uri("token=pc5;object=ue-1");
        uri.module = t.folder.join("no-module.so");
        let module = TokenKey::open(&uri).err().unwrap().to_string();
        assert!(module.starts_with("PKCS#11 module ") && module.contains("no-module.so"), "{module}");
        // All of it wrong before, none of it stuck.
        assert!(TokenKey::open(&t.uri("token=pc5;object=ue-1")).is_ok());
    });
}

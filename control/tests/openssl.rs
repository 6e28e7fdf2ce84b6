//! OpenSSL as a foreign authority and a foreign checker of certificates and CRLs. Skipped where it is not installed.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use pc5_control::credential::{Clock, Freshness, Judge, Need, Refusal, Role, TrustEntry};
use pc5_control::pki::{Authority, Curve, Folder, Request, Validity, read_certificates, serial_of};
use rand_core::UnwrapErr;

const MEMBER: Need = Need { role: Role::Member, group: None };

fn openssl(folder: &Path, args: &[&str]) -> (bool, String) {
    let out = Command::new("openssl").current_dir(folder).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

/// False, with a word about it, where there is no OpenSSL.
fn installed() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("skipped: openssl is not installed");
    }
    there
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn request(identity: &str) -> Request {
    let (roles, groups) = (vec![Role::Member], vec!["a0b0c0".parse().unwrap()]);
    Request { identity: identity.parse().unwrap(), roles, groups, validity: Validity::days(now(), 30) }
}

#[test]
fn openssl_verifies_the_laboratory_authority() {
    if !installed() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let rng = &mut UnwrapErr(SysRng);
    let plmn = "001-01".parse().unwrap();
    let validity = Validity::days(now(), 365);
    let root = Authority::root(plmn, Curve::P384, validity, rng).unwrap();
    let one = root.intermediate("one", Curve::P256, validity, rng).unwrap();
    let (root_path, one_path) = (temp.path().join("root"), temp.path().join("one"));
    let mut root = Folder::create(&root_path, root).unwrap();
    let mut one = Folder::create(&one_path, one).unwrap();
    assert!(Folder::create(&root_path, Authority::root(plmn, Curve::P256, validity, rng).unwrap()).is_err());

    let good = request("pc5:001-01:ue:ue-1");
    let device = one.authority().enrol(&good, rng).unwrap();
    let leaf = one.store_leaf(&good.identity, &device.chain[0], Some(&device.key)).unwrap();
    assert_eq!(read_certificates(&leaf).unwrap(), device.chain);
    root.publish_crl(now() - 10, now() + 3600).unwrap();
    one.publish_crl(now() - 10, now() + 3600).unwrap();

    let verify = |leaf: &str| {
        openssl(
            temp.path(),
            &[
                "verify",
                "-x509_strict",
                "-crl_check_all",
                "-CAfile",
                "root/ca.pem",
                "-untrusted",
                "one/ca.pem",
                "-CRLfile",
                "root/crl.pem",
                "-CRLfile",
                "one/crl.pem",
                leaf,
            ],
        )
    };
    let (ok, text) = verify("one/issued/ue-1.pem");
    assert!(ok, "{text}");
    let (ok, text) =
        openssl(temp.path(), &["crl", "-in", "root/crl.pem", "-CAfile", "root/ca.pem", "-noout"]);
    assert!(ok && text.contains("verify OK"), "{text}");
    let (_, text) = openssl(temp.path(), &["x509", "-in", "one/issued/ue-1.pem", "-noout", "-text"]);
    for part in ["URI:pc5:001-01:ue:ue-1", "URI:pc5:role:member", "URI:pc5:group:a0b0c0", "Key Agreement"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (ok, text) = openssl(temp.path(), &["pkey", "-in", "one/issued/ue-1.key", "-check", "-noout"]);
    assert!(ok, "{text}");

    // Reopened, the folder goes on where it was: revoked is revoked, the number rises.
    // One holder at a time, or a CRL number could be given twice.
    assert!(Folder::open(&one_path).err().unwrap().to_string().contains("in use"));
    drop((root, one));
    let mut one = Folder::open(&one_path).unwrap();
    assert_eq!(one.authority().crl_number(), 1);
    assert_eq!(one.authority().chain().len(), 1);
    assert!(Folder::open(&root_path).unwrap().authority().chain().is_empty());
    one.authority_mut().revoke(&serial_of(&device.chain[0]).unwrap(), now());
    one.publish_crl(now() - 5, now() + 3600).unwrap();
    let (ok, text) = verify("one/issued/ue-1.pem");
    assert!(!ok && text.contains("certificate revoked"), "{text}");
    let (_, text) = openssl(temp.path(), &["crl", "-in", "one/crl.pem", "-noout", "-crlnumber"]);
    assert!(text.contains("0x02") || text.contains("=02"), "{text}");

    use std::os::unix::fs::PermissionsExt;
    for key in ["root/ca.key", "one/issued/ue-1.key"] {
        let mode = std::fs::metadata(temp.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

const CONFIGURATION: &str = "
[ca]
default_ca = lab
[lab]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 7
certificate = root.pem
private_key = root.key
new_certs_dir = .
serial = serial
policy = any
default_days = 30
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
keyUsage = critical,digitalSignature,keyAgreement
subjectAltName = URI:pc5:001-01:ue:ue-7,URI:pc5:role:member,URI:pc5:role:relay
[rsa]
keyUsage = critical,digitalSignature,keyAgreement
subjectAltName = URI:pc5:001-01:ue:ue-8,URI:pc5:role:member
";

#[test]
fn what_openssl_issues_and_revokes_is_judged() {
    if !installed() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    for (name, content) in
        [("c.cnf", CONFIGURATION), ("index.txt", ""), ("crlnumber", "0a\n"), ("serial", "77\n")]
    {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let run = |args: &str| {
        let (ok, text) = openssl(folder, &args.split(' ').collect::<Vec<_>>());
        assert!(ok, "{args}: {text}");
    };
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run(&format!(
        "req -config c.cnf -x509 {curve} -keyout root.key -out root.pem -subj /CN=root -days 90 -extensions root"
    ));
    run(&format!("req -config c.cnf {curve} -keyout leaf.key -out leaf.csr -subj /CN=ue-7"));
    run("ca -config c.cnf -batch -notext -in leaf.csr -out leaf.pem -extensions leaf");
    run("req -config c.cnf -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.csr -subj /CN=ue-8");
    run("ca -config c.cnf -batch -notext -in rsa.csr -out rsa.pem -extensions rsa");
    let crl = |out: &str| {
        run("ca -config c.cnf -gencrl -out crl.pem");
        run(&format!("crl -in crl.pem -outform DER -out {out}"));
        std::fs::read(folder.join(out)).unwrap()
    };
    let chain = |name: &str| read_certificates(&folder.join(name)).unwrap();

    let clock = Clock { now: now() + 1, floor: 0 };
    let root = TrustEntry::new("001-01".parse().unwrap(), &chain("root.pem")[0]).unwrap();
    let mut judge = Judge::new(vec![root], Freshness::Refuse);
    let first = judge.install_crl(&crl("1.der"), clock).unwrap();
    assert_eq!(first.number, 10.into());
    let leaf = judge.judge(&chain("leaf.pem"), MEMBER, clock).unwrap();
    assert_eq!(leaf.identity.to_string(), "pc5:001-01:ue:ue-7");
    assert!(leaf.roles.contains(Role::Relay) && leaf.groups.is_none());
    let refusal = judge.judge(&chain("rsa.pem"), MEMBER, clock).unwrap_err();
    assert!(matches!(refusal, Refusal::Profile { position: 0, .. }), "{refusal}");

    run("ca -config c.cnf -revoke leaf.pem");
    judge.install_crl(&crl("2.der"), clock).unwrap();
    let refusal = judge.judge(&chain("leaf.pem"), MEMBER, clock).unwrap_err();
    assert_eq!(refusal, Refusal::Revoked { position: 0 });
}

//! Certificate keys in sealed vaults: made there by `pc5 pki vault` or by the first enrolment, never anywhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::enrolment::{device, network, serve, unenrolled};
use crate::lab::{GROUP, Lab, Node, Text, pc5, said};

/// In place of the plain key that laboratories have.
fn seal(node: &Node) {
    let (text, name) = (fs::read_to_string(&node.config).unwrap(), &node.name);
    let plain = format!("key = \"pki/issued/{name}.key\"");
    let sealed =
        format!("vault = \"{name}.vault\"\nvault_entry = \"certificate\"\npass_phrase_file = \"pass\"");
    assert!(text.contains(&plain), "{text}");
    fs::write(&node.config, text.replace(&plain, &sealed)).unwrap();
}

#[test]
fn a_join_with_both_keys_in_a_vault() {
    let Some(lab) = Lab::new("vault") else { return };
    network(&lab);
    lab.secret("pass", "a pass phrase, made by a test\n");
    // The owner's is made by its operator, and certified by request.
    let request = ["--csr", "go-1.csr", "--identity", "pc5:001-01:ue:go-1"];
    lab.pc5(&[&["pki", "vault", "go-1.vault", "--pass-phrase-file", "pass"][..], &request].concat());
    lab.pc5(&["pki", "issue", "pki", "go-1", "--role", "owner", "--csr", "go-1.csr"]);
    let group = format!("[[group]]\nid = \"{GROUP}\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n");
    let config = Text { tables: group, ..Text::default() };
    let mut go = lab.node_at(lab.station("go-1"), "go-1", "owner", &config);
    seal(&go);
    let checked = lab.pc5(&["check", "go-1.toml"]);
    assert!(
        checked.contains("private key: 'certificate' in the sealed vault ")
            && checked.contains("good, for pc5:"),
        "{checked}"
    );
    // The UE's is made by the first enrolment, in a vault that is made as well.
    let mut ue = unenrolled(&lab, 1);
    seal(&ue);
    let checked = lab.pc5(&["check", "ue-1.toml"]);
    assert!(checked.contains("to be had from") && checked.contains("sealed vault"), "{checked}");
    assert!(!lab.folder().join("ue-1.vault").exists(), "a check makes nothing");
    let server = serve(&lab, "pki", 8443, &device("ue-1"));
    go.start();
    ue.start();
    go.await_members(1);
    ue.await_joined();
    assert!(ue.ping("10.77.0.1"), "{}", ue.story());
    // Nothing of either is plain on the disk.
    for name in ["go-1", "ue-1"] {
        assert!(!lab.folder().join(format!("pki/issued/{name}.key")).exists(), "{name}");
        let vault = lab.folder().join(format!("{name}.vault"));
        assert_eq!(fs::metadata(vault).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    // What was made is kept: both come back with the same key, the UE without its network.
    drop(server);
    let held = || lab.pc5(&["pki", "vault", "ue-1.vault", "--pass-phrase-file", "pass", "--list"]);
    let before = held();
    assert!(before.contains("certificate"), "{before}");
    assert!(ue.stop() && go.stop(), "{}\n{}", ue.log(), go.log());
    go.start();
    ue.start();
    go.await_members(1);
    ue.await_joined();
    assert_eq!(held(), before);
    assert!(ue.stop() && go.stop(), "{}\n{}", ue.log(), go.log());

    // Without the pass phrase there is nothing, and one that everybody can read is none.
    lab.secret("pass", "another pass phrase\n");
    let out = pc5(lab.folder(), &["check", "ue-1.toml"]);
    assert!(!out.status.success() && said(&out).contains("wrong pass phrase"), "{}", said(&out));
    lab.secret("pass", "a pass phrase, made by a test\n");
    fs::set_permissions(lab.folder().join("pass"), fs::Permissions::from_mode(0o644)).unwrap();
    for command in ["check", "run"] {
        let out = pc5(lab.folder(), &[command, "ue-1.toml"]);
        assert!(!out.status.success() && said(&out).contains("pass: mode 0644"), "{}", said(&out));
    }
}

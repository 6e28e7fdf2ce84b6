//! A CRL past its time: who it should speak for is not admitted, or within grace only and loudly.

use std::fs;
use std::time::UNIX_EPOCH;

use pc5_control::pki::Folder;
use serde_json::Value;

use crate::lab::{Lab, Node, Text, said};

/// A CRL of the other network, made long ago and due for `next` seconds (or, negative, due since).
fn publish(lab: &Lab, next: i64) {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut folder = Folder::open(&lab.folder().join("other")).unwrap();
    folder.publish_crl(now - 100_000, now.checked_add_signed(next).unwrap()).unwrap();
}

fn crl<'a>(shown: &'a Value, plmn: &str) -> &'a Value {
    let rows = shown["runtime"]["crls"].as_array().unwrap();
    rows.iter().find(|c| c["plmn"] == plmn).unwrap()
}

/// Reads its configuration again, with another freshness.
fn reload(go: &Node, from: &str, to: &str) {
    let text = fs::read_to_string(&go.config).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&go.config, text.replace(from, to)).unwrap();
    let reloads = |s: &str| s.matches("configuration read again").count();
    let before = reloads(&go.log());
    let pid = go.pid().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    go.await_show("runtime", |_| reloads(&go.log()) > before);
}

#[test]
fn a_crl_past_its_time_refuses_joins_or_admits_them_within_grace_and_says_so() {
    let Some(lab) = Lab::new("crl") else { return };
    // The UE comes from another network than the owner, and it is that network's CRL that is old.
    lab.pc5(&["pki", "root", "other", "--plmn", "002-02"]);
    lab.pc5(&["pki", "issue", "other", "ue-2", "--role", "member"]);
    publish(&lab, -50);
    let trust = "[[trust]]\nplmn = \"002-02\"\nroot = \"other/ca.pem\"\ncrl = [\"other/crl.pem\"]\n";
    let group = "[[group]]\nid = \"f00001\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n";
    let text =
        Text { top: "crl_freshness = \"refuse\"".into(), tables: trust.to_owned() + group, port: None };
    let mut go = lab.node("go-1", "owner", &text);
    let mut home = lab.ue(1);
    let text = Text { tables: Text::ue(2).tables + trust, ..Text::default() };
    let mut other = lab.node_at(lab.station("ue-2"), "ue-2", "ue", &text);
    let config = fs::read_to_string(&other.config).unwrap().replace("pki/issued/", "other/issued/");
    fs::write(&other.config, config).unwrap();
    go.start();
    home.start();
    other.start();
    home.await_joined();

    // Refused, to it alone, and everybody who looks sees why.
    let count = |s: &Value, what: &str| s["runtime"]["notices"][what].as_u64().unwrap_or(0);
    let shown = go.await_show("runtime", |s| count(s, "refused") > 0);
    other.await_show("runtime", |s| count(s, "peer_refused") > 0);
    assert_eq!(go.show("members").unwrap()["members"].as_array().unwrap().len(), 1);
    let (fresh, stale) = (crl(&shown, "001-01"), crl(&shown, "002-02"));
    assert_eq!((&fresh["state"], &stale["state"]), (&"fresh".into(), &"stale".into()), "{shown:#}");
    let time = |c: &Value, what: &str| c[what].as_u64().unwrap();
    assert!(time(stale, "this_update") < time(stale, "next_update"));
    assert!(
        time(stale, "next_update") < time(stale, "taken")
            && time(fresh, "taken") < time(fresh, "next_update")
    );
    assert_eq!(time(stale, "usable_until"), time(stale, "next_update"));
    let number: u64 = stale["number"].as_str().unwrap().parse().unwrap();
    assert_eq!(go.show("groups").unwrap()["groups"][0]["crl"], "stale");
    let text = said(&go.ask(&["show", "runtime"]));
    assert!(text.contains(&format!("number {number}: stale since")), "{text}");
    assert!(go.log().contains("CrlMissingOrOld"), "{}", go.log());

    // Within grace it is admitted, with a warning.
    reload(&go, "\"refuse\"", "\"grace 1h\"");
    let shown = go.show("runtime").unwrap();
    assert_eq!(crl(&shown, "002-02")["state"], "grace", "{shown:#}");
    assert_eq!(
        time(crl(&shown, "002-02"), "usable_until"),
        time(crl(&shown, "002-02"), "next_update") + 3_600
    );
    assert!(other.ask(&["link", "connect"]).status.success());
    other.await_joined();
    go.await_members(2);
    let shown = go.show("runtime").unwrap();
    assert!(count(&shown, "crl_in_grace") > 0, "{shown:#}");
    assert!(go.log().contains("within the CRL's grace only"), "{}", go.log());
    let members = go.show("members").unwrap();
    let of = |plmn: &str| {
        let rows = members["members"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|m| m["identity"].as_str().unwrap().starts_with(&format!("pc5:{plmn}")))
            .unwrap();
        row["crl"].clone()
    };
    assert_eq!((of("001-01"), of("002-02")), ("fresh".into(), "grace".into()), "{members:#}");
    let text = said(&go.ask(&["show"]));
    assert!(text.contains("in grace until"), "{text}");

    // A new one ends that; under `refuse` it is admitted as well then.
    publish(&lab, 86_400);
    reload(&go, "\"grace 1h\"", "\"refuse\"");
    let shown = go.show("runtime").unwrap();
    let new = crl(&shown, "002-02");
    assert_eq!(new["state"], "fresh", "{shown:#}");
    assert!(new["number"].as_str().unwrap().parse::<u64>().unwrap() > number);
    go.await_members(2);
    assert_eq!(go.show("groups").unwrap()["groups"][0]["crl"], "fresh");
}

#[test]
fn a_member_that_had_a_newer_crl_from_its_owner_starts_again_with_its_old_file() {
    let Some(lab) = Lab::new("crl: old file") else { return };
    let old = fs::read(lab.folder().join("pki/crl.pem")).unwrap();
    fs::write(lab.folder().join("old.pem"), old).unwrap();
    lab.issue("ue-9", "member");
    let mut go = lab.owner("", "");
    let mut ue = lab.ue(1);
    let text = fs::read_to_string(&ue.config).unwrap();
    fs::write(&ue.config, text.replace("pki/crl.pem", "old.pem")).unwrap();
    lab.pc5(&["pki", "revoke", "pki", "ue-9"]);
    go.start();
    ue.start();
    ue.await_joined();
    let number = |s: &Value| s["runtime"]["crls"][0]["number"] == "2";
    ue.await_show("runtime", number);
    assert!(ue.stop(), "{}", ue.log());
    ue.start();
    ue.await_joined();
    ue.await_show("runtime", number);
    assert!(
        ue.log().contains("old.pem: CRL number 1 is lower than 2, which is held: passed over"),
        "{}",
        ue.log()
    );
}

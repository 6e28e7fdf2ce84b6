//! The home network comes and goes: enrolment, renewal, CRLs and roots of other networks by EST.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use pc5_control::credential::Role;
use pc5_control::pki::{Folder, Request, Validity};
use serde_json::Value;

use crate::lab::{GROUP, Lab, Node, Text};

/// `pc5 serve est`, on the wire's own address.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SECRET: &str = "open sesame, please";

/// Makes the wire reachable, and the server's certificate.
pub(crate) fn network(lab: &Lab) {
    lab.hub.ip("addr add 192.0.2.254/24 dev br0").unwrap();
    lab.pc5(&["pki", "server", "pki", "192.0.2.254"]);
    lab.secret("secret", &format!("{SECRET}\n"));
}

/// A server for an authority's folder, with tables at the end of its configuration.
pub(crate) fn serve(lab: &Lab, folder: &str, port: u16, tables: &str) -> Server {
    let file = lab.folder().join(format!("est-{folder}.toml"));
    let text = format!(
        "folder = \"{folder}\"\n[server]\nlisten = \"192.0.2.254:{port}\"\n\
         certificate = \"pki/issued/192.0.2.254.pem\"\nkey = \"pki/issued/192.0.2.254.key\"\n{tables}\n"
    );
    fs::write(&file, text).unwrap();
    let child = Command::new("ip")
        .args(["netns", "exec", lab.hub.name(), env!("CARGO_BIN_EXE_pc5"), "serve", "est"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let listens = || lab.hub.inside(|| TcpStream::connect(("192.0.2.254", port)).is_ok()).unwrap();
    let there = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        listens()
    });
    assert!(there, "the server of {folder} does not listen");
    server
}

pub(crate) fn device(id: &str) -> String {
    format!("[[device]]\nidentity = \"{id}\"\nroles = [\"member\"]\nsecret = \"{SECRET}\"\n")
}

fn est(id: Option<&str>, more: &str) -> String {
    let first = id.map_or(String::new(), |id| format!("identity = \"{id}\"\nsecret_file = \"secret\"\n"));
    format!(
        "[est]\nurl = \"https://192.0.2.254:8443\"\nroot = \"pki/ca.pem\"\nevery = \"1s\"\n{first}{more}\n"
    )
}

/// UE `n`, reachable by the network, without a certificate yet.
pub(crate) fn unenrolled(lab: &Lab, n: u8) -> Node {
    let est = est(Some(&format!("pc5:001-01:ue:ue-{n}")), "");
    let text = Text { tables: Text::ue(n).tables + &est, ..Text::default() };
    let name = format!("ue-{n}");
    let node = lab.node_at(lab.station(&name), &name, "ue", &text);
    node.space.ip(&format!("addr add 192.0.2.{n}/24 dev eth0")).unwrap();
    node
}

fn network_of(shown: &Value) -> &Value {
    &shown["runtime"]["network"]
}

fn members(node: &Node) -> usize {
    node.show("members").unwrap()["members"].as_array().unwrap().len()
}

#[test]
fn a_ue_is_enrolled_and_brings_the_crl_to_a_group_off_the_network() {
    let Some(lab) = Lab::new("enrolment: CRL") else { return };
    network(&lab);
    let server = serve(&lab, "pki", 8443, &device("ue-1"));
    // The owner and UE-2 are off the network, UE-1 is not, and has no certificate yet.
    let mut go = lab.owner("", "");
    let mut second = lab.ue(2);
    let mut first = unenrolled(&lab, 1);
    let said = lab.pc5(&["check", "ue-1.toml"]);
    assert!(said.contains("to be had from"), "{said}");
    go.start();
    second.start();
    std::thread::sleep(Duration::from_millis(300));
    first.start();
    first.await_joined();
    go.await_members(2);
    assert!(first.ping("10.77.0.2"), "{}", first.story());

    // UE-2 is revoked; the network tells UE-1, UE-1 the owner, and the owner evicts.
    let number = |s: &Value| s["runtime"]["crls"][0]["number"].as_str().unwrap().parse::<u64>().unwrap();
    let before = number(&go.show("runtime").unwrap());
    lab.pc5(&["pki", "revoke", "pki", "ue-2"]);
    go.await_show("members", |s| s["members"].as_array().unwrap().len() == 1);
    let runtime = go.show("runtime").unwrap();
    assert_eq!(runtime["runtime"]["notices"]["crl_taken"], 1, "{runtime:#}\n{}", go.story());
    assert!(number(&runtime) > before && runtime["runtime"]["crls"][0]["revoked"] == 1, "{runtime:#}");
    let epoch = go.show("groups").unwrap()["groups"][0]["epoch"].as_u64().unwrap();
    assert!(epoch > 1, "an epoch of its own follows");
    let args = ["netns", "exec", second.space.name(), "ping", "-n", "-c", "1", "-W", "1", "10.77.0.1"];
    assert!(!Command::new("ip").args(args).output().unwrap().status.success());
    // Off the network UE-1 goes on with what it has, after a restart too.
    drop(server);
    first.stop();
    first.start();
    go.await_members(1);
    first.await_joined();
    let runtime = first.await_show("runtime", |s| network_of(s)["error"].is_string());
    assert_eq!(network_of(&runtime)["state"], "away", "{runtime:#}");
    assert!(first.log().contains("going on with what there is"), "{}", first.log());
}

#[test]
fn a_device_waits_in_sight_for_its_network_and_goes_on_when_it_comes() {
    let Some(lab) = Lab::new("enrolment: waiting") else { return };
    network(&lab);
    let mut go = lab.owner("", "");
    let mut ue = unenrolled(&lab, 1);
    go.start();
    ue.start();
    // Nobody answers: it is on every screen as what it is configured to be, and not there.
    let runtime = ue.await_show("runtime", |s| network_of(s)["error"].is_string());
    let waiting = network_of(&runtime);
    assert_eq!(waiting["state"], "enrolling");
    assert!(waiting["next"].is_u64() && waiting["reached"].is_null(), "{waiting:#}");
    assert_eq!(runtime["runtime"]["data"]["ports"][1]["link"], "not opened", "{runtime:#}");
    let groups = ue.show("groups").unwrap();
    assert_eq!(
        (&groups["groups"][0]["group"], &groups["groups"][0]["state"]),
        (&GROUP.into(), &"enrolling".into())
    );
    let text = ue.ask(&["show"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("https://192.0.2.254:8443: enrolling; not reached yet, asked again"), "{text}");
    assert_eq!(ue.ask(&["link", "connect"]).status.code(), Some(1), "nothing runs yet");
    // Its key is made, once; a signal ends the wait as it ends a daemon.
    let key = lab.folder().join("pki/issued/ue-1.key");
    let made = fs::read(&key).unwrap();
    assert!(ue.stop(), "{}", ue.log());
    ue.start();
    ue.await_show("runtime", |s| network_of(s)["error"].is_string());
    assert_eq!(fs::read(&key).unwrap(), made);

    // Who is not known to the server is told so, and does not ask for ever.
    let server = serve(&lab, "pki", 8443, &device("ue-1"));
    ue.await_joined();
    go.await_members(1);
    let runtime = ue.await_show("runtime", |s| network_of(s)["state"] == "there");
    assert!(network_of(&runtime)["certificate_until"].is_u64() && network_of(&runtime)["error"].is_null());
    assert_eq!(runtime["runtime"]["privileges"]["capabilities"], 0, "rights are given up all the same");
    let mut stranger = unenrolled(&lab, 2);
    stranger.start();
    let ended = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        stranger.log().contains("401")
    });
    assert!(ended, "{}", stranger.log());
    drop(server);
    assert!(ue.stop(), "{}", ue.log());
}

/// A certificate whose end is near, or was, so many seconds from now, in place of the one that is there.
fn ends_in(lab: &Lab, name: &str, seconds: i64) {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let folder = Folder::open(&lab.folder().join("pki")).unwrap();
    let request = Request {
        identity: format!("pc5:001-01:ue:{name}").parse().unwrap(),
        roles: vec![Role::Member],
        groups: Vec::new(),
        validity: Validity { not_before: now - 10_000, not_after: now.checked_add_signed(seconds).unwrap() },
    };
    let device = folder.authority().enrol(&request, &mut rand_core::UnwrapErr(getrandom::SysRng)).unwrap();
    folder.store_leaf(&request.identity, &device.chain[0], Some(&device.key)).unwrap();
}

#[test]
fn certificates_are_renewed_and_roots_of_other_networks_come_and_go() {
    let Some(lab) = Lab::new("enrolment: renewal, roaming") else { return };
    network(&lab);
    lab.pc5(&["pki", "root", "other", "--plmn", "002-02"]);
    lab.pc5(&["pki", "issue", "other", "ue-9", "--role", "member"]);
    let roaming = "[foreign]\n\"002-02\" = [\"other/ca.pem\"]\n";
    // Where CRLs of the other network are to be had.
    let _other = serve(&lab, "other", 8444, "");

    let more = "foreign = [\"002-02\"]\ncrl = [\"https://192.0.2.254:8444/pc5/crl.der\"]\n";
    let group = format!("[[group]]\nid = \"{GROUP}\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n");
    let mut go = lab.node("go-1", "owner", &Text { tables: group + &est(None, more), ..Text::default() });
    go.space.ip("addr add 192.0.2.10/24 dev eth0").unwrap();
    // Besides the home network's root it believes another one of the same network.
    lab.pc5(&["pki", "root", "second", "--plmn", "001-01"]);
    let pem = |name: &str| fs::read_to_string(lab.folder().join(name)).unwrap();
    let roots = lab.folder().join("roots.pem");
    fs::write(&roots, pem("pki/ca.pem") + &pem("second/ca.pem")).unwrap();
    let config = fs::read_to_string(&go.config).unwrap();
    fs::write(&go.config, config.replace("root = \"pki/ca.pem\"\ncrl", "root = \"roots.pem\"\ncrl")).unwrap();
    let mut near = unenrolled(&lab, 1);
    ends_in(&lab, "ue-1", 1_000);
    let certificate = lab.folder().join("pki/issued/ue-1.pem");
    let before = fs::read(&certificate).unwrap();
    // A UE of another network, which believes the owner's and its own.
    let trust = "[[trust]]\nplmn = \"002-02\"\nroot = \"other/ca.pem\"\ncrl = [\"other/crl.pem\"]\n";
    let text = Text { tables: Text::ue(9).tables + trust, ..Text::default() };
    let mut roamer = lab.node_at(lab.station("ue-9"), "ue-9", "ue", &text);
    let config = fs::read_to_string(&roamer.config).unwrap().replace("pki/issued/", "other/issued/");
    fs::write(&roamer.config, config).unwrap();

    go.start();
    near.start();
    roamer.start();
    // The one is renewed before its end, for the same key, once the network is there, and shown to the owner by a join.
    near.await_joined();
    let server = serve(&lab, "pki", 8443, &device("ue-1"));
    let end = UNIX_EPOCH.elapsed().unwrap().as_secs() + 86_400;
    near.await_show("runtime", |s| network_of(s)["certificate_until"].as_u64().unwrap_or(0) > end);
    assert_ne!(fs::read(&certificate).unwrap(), before);
    near.await_show("runtime", |s| s["runtime"]["notices"]["joined"].as_u64().unwrap_or(0) >= 2);
    near.await_joined();
    // The other is nobody's here, until the home network gives the root of its own.
    let refused = |s: &Value| s["runtime"]["notices"]["refused"].as_u64().unwrap_or(0) > 0;
    go.await_show("runtime", refused);
    assert_eq!(members(&go), 1, "{}", go.story());
    drop(server);
    let tables = roaming.to_owned() + &device("ue-1");
    let server = serve(&lab, "pki", 8443, &tables);
    let runtime = go.await_show("runtime", |s| {
        let fresh = |c: &Value| c["plmn"] == "002-02" && c["state"] == "fresh";
        s["runtime"]["crls"].as_array().unwrap().iter().any(fresh)
    });
    assert_eq!(network_of(&runtime)["foreign"][0], "002-02", "{runtime:#}");
    // It asks again by itself, later each time; here at once.
    assert!(roamer.ask(&["link", "connect"]).status.success());
    roamer.await_joined();
    go.await_members(2);
    assert!(roamer.ping("10.77.0.1"), "{}", roamer.story());
    // A configured root that is taken out of its file is gone when that is read again; the one that was fetched stays.
    let networks = |s: &Value| {
        let rows = s["runtime"]["crls"].as_array().unwrap();
        rows.iter().map(|c| c["plmn"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(networks(&go.show("runtime").unwrap()), ["001-01", "001-01", "002-02"]);
    fs::write(&roots, pem("pki/ca.pem")).unwrap();
    let pid = go.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    go.await_show("runtime", |s| networks(s) == ["001-01", "002-02"]);
    assert!(go.log().contains("applied=\"[[trust]]\""), "{}", go.log());
    assert_eq!(members(&go), 2, "{}", go.story());
    // The other network's is believed no longer when the home network has it no more; the removed one does not come back.
    drop(server);
    let _server = serve(&lab, "pki", 8443, &device("ue-1"));
    go.await_show("members", |s| s["members"].as_array().unwrap().len() == 1);
    assert_eq!(networks(&go.show("runtime").unwrap()), ["001-01"]);
    for node in [&go, &near, &roamer] {
        node.assert_adds_up();
    }
}

#[test]
fn a_certificate_is_kept_where_the_daemon_may_write_and_one_that_has_ended_is_replaced() {
    let Some(lab) = Lab::new("enrolment: kept, ended") else { return };
    network(&lab);
    fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut go = lab.owner("", "");
    go.start();
    let mut ues = [1, 2, 3].map(|n| unenrolled(&lab, n));
    // UE-1 becomes a user who reaches its state, and not the folder of certificates.
    fs::create_dir(lab.folder().join("state")).unwrap();
    chown(lab.folder().join("state"), Some(54_321), Some(54_321)).unwrap();
    let config = fs::read_to_string(&ues[0].config).unwrap();
    let config =
        config.replace("\"ue-1.sqlite\"", "\"state/ue.sqlite\"").replace("pki/issued/ue-1", "own/ue-1");
    fs::write(&ues[0].config, config).unwrap();
    // Its certificate is to be renewed; that of UE-2 has ended, that of UE-3 ends while it runs.
    for (name, seconds) in [("ue-1", 1_000), ("ue-2", -5), ("ue-3", 8)] {
        ends_in(&lab, name, seconds);
    }
    let said = lab.pc5(&["check", "ue-2.toml"]);
    assert!(
        said.contains("its certificate was valid until") && said.contains("a new one is to be had"),
        "{said}"
    );
    // The authority has its own record of what it issued.
    fs::create_dir(lab.folder().join("own")).unwrap();
    for name in ["ue-1.pem", "ue-1.key"] {
        let issued = lab.folder().join("pki/issued").join(name);
        fs::copy(issued, lab.folder().join("own").join(name)).unwrap();
    }
    let file = lab.folder().join("own/ue-1.pem");
    let before = fs::read(&file).unwrap();
    for n in [0, 2] {
        ues[n].start();
    }
    ues[0].await_joined();
    let now = || UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ended = |s: &Value| network_of(s)["certificate_until"].as_u64().is_some_and(|end| end < now());
    ues[2].await_show("runtime", ended);
    ues[1].start();
    ues[1].await_show("groups", |s| s["groups"][0]["state"] == "enrolling");

    // The network comes: all have a new one.
    let devices: String = ["ue-1", "ue-2", "ue-3"].iter().map(|id| device(id)).collect();
    let server = serve(&lab, "pki", 8443, &devices);
    let tomorrow = now() + 86_400;
    let renewed = |s: &Value| network_of(s)["certificate_until"].as_u64().unwrap_or(0) > tomorrow;
    for ue in &ues {
        ue.await_show("runtime", renewed);
    }
    // It was refused meanwhile, and asks again by itself, later each time; here at once.
    assert!(ues[2].ask(&["link", "connect"]).status.success());
    for ue in &ues {
        ue.await_joined();
    }
    assert!(ues[1].log().contains("enrolling anew"), "{}", ues[1].log());

    // And after a restart off the network, too.
    drop(server);
    let kept = |s: &Value| {
        network_of(s)["certificate_kept"]
            .as_str()
            .is_some_and(|k| k.ends_with("state/ue.sqlite.certificate.pem"))
    };
    let place = ues[0].show("runtime").unwrap();
    assert!(kept(&place), "{place:#}");
    assert!(fs::read(&file).unwrap() == before, "its user may not write there");
    for ue in &mut ues {
        assert!(ue.stop(), "{}", ue.log());
        ue.start();
    }
    for ue in &ues {
        ue.await_joined();
        ue.await_show("runtime", renewed);
    }
    assert!(kept(&ues[0].show("runtime").unwrap()));
    lab.pc5(&["check", "ue-1.toml"]);
}

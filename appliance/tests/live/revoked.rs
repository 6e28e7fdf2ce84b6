//! A member whose certificate a new CRL names hears nothing from the next epoch on, whatever keys for times to come it holds.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use pc5_dataplane::keylog::{self, KeyLogLine};
use pc5_dataplane::pdu::{Destination, Header, parse};
use serde_json::Value;

use crate::lab::{Lab, MULTICAST, Node, listener, octets, talker};
use crate::raw::id;
use crate::wire::{Decoder, Eavesdropper};

/// Handed out ahead.
const FUTURE: usize = 3;

fn protected(frames: &[Vec<u8>]) -> impl Iterator<Item = (Header, &[u8])> {
    let ours = frames.iter().filter(|f| f.get(12..14) == Some(&[0x88, 0xb5]));
    ours.filter_map(|f| Some((parse(f).ok()?, &f[..]))).filter(|(h, _)| h.key_id != 0)
}

fn to_group(h: &Header) -> bool {
    matches!(h.address.destination(), Destination::Group(_))
}

/// Datagrams of `ue` to the group, and who of `ears` heard all of them.
fn heard(ue: &Node, n: u8, ears: &[&Node]) -> Vec<usize> {
    let sockets: Vec<_> = ears.iter().map(|ear| listener(ear, ear.name.as_bytes()[3] - b'0')).collect();
    let datagrams: HashSet<Vec<u8>> = (0..10).map(|_| octets(600)).collect();
    let talker = talker(ue, n);
    for datagram in &datagrams {
        talker.send_to(datagram, SocketAddr::from((MULTICAST, 7000))).unwrap();
    }
    let count = |socket: std::net::UdpSocket| {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (mut buffer, mut heard) = ([0; 2_048], 0);
        while let Ok(n) = socket.recv(&mut buffer) {
            heard += usize::from(datagrams.contains(&buffer[..n]));
            if heard == datagrams.len() {
                break;
            }
        }
        heard
    };
    sockets.into_iter().map(count).collect()
}

#[test]
fn a_revoked_ue_hears_nothing_although_it_holds_future_keys() {
    let Some(lab) = Lab::new("revoked") else { return };
    let group = format!("key_lifetime = \"20m\"\nrekey_after = \"10m\"\nfuture_epochs = {FUTURE}");
    let mut go = lab.owner("", &group);
    let mut ues: Vec<Node> = (1..=3).map(|n| lab.ue(n)).collect();
    let eve = lab.station("eve");
    let log_of = |name: &str| std::fs::read_to_string(lab.folder().join(format!("{name}.keys"))).unwrap();
    let group_keys = |name: &str| -> Vec<[u8; 32]> {
        let key = |line| match line {
            KeyLogLine::Group { pgk, .. } => Some(*pgk.expose()),
            KeyLogLine::Link { .. } => None,
        };
        keylog::parse(&log_of(name)).unwrap().into_iter().filter_map(key).collect()
    };
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);

    // It holds the key in use and those of the next epochs, and hears the group.
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let future = |s: &Value| {
        let rows = s["keys"].as_array().unwrap();
        rows.iter().filter(|k| k["not_before"].as_u64().unwrap() > now + 5).count()
    };
    ues[2].await_show("keys", |s| future(s) == FUTURE);
    let eavesdropper = Eavesdropper::new(&eve);
    assert_eq!(heard(&ues[0], 1, &[&ues[1], &ues[2]]), [10, 10], "{}", go.story());
    let before = eavesdropper.frames();
    let mut his = Decoder::new(&log_of("ue-3"));
    let opened = protected(&before).filter(|(h, f)| to_group(h) && his.open(f).is_some()).count();
    assert!(opened >= 10, "its keys are those of the group until then: {opened}");

    let epoch = |s: &Value| s["groups"][0]["epoch"].as_u64().unwrap();
    let old = epoch(&go.show("groups").unwrap());
    lab.pc5(&["pki", "revoke", "pki", "ue-3"]);
    let pid = go.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let settled = |s: &Value| s["groups"][0]["members"] == 2 && s["groups"][0]["by_link"] == 0;
    let shown = go.await_show("groups", |s| settled(s) && epoch(s) > old);
    let excluding = epoch(&shown);
    assert!(excluding > old + FUTURE as u64, "an epoch that it held is in use: {old}, {excluding}");

    // Neither in that epoch nor in the one after it.
    let eavesdropper = Eavesdropper::new(&eve);
    assert_eq!(heard(&ues[0], 1, &[&ues[1], &ues[2]]), [10, 0], "{}", go.story());
    assert!(go.ask(&["group", "rekey"]).status.success());
    go.await_show("groups", |s| settled(s) && epoch(s) > excluding);
    assert_eq!(heard(&ues[1], 2, &[&ues[0], &ues[2]]), [10, 0], "{}", go.story());
    assert!(!ues[2].ping("10.77.0.1"), "it still gets through");
    let after = eavesdropper.frames();

    // With every key that it ever held, by whatever ids: nothing of the group, nothing of others' links.
    let (mut all, his) = (Decoder::new(&lab.key_logs()), Decoder::new(&log_of("ue-3")));
    let his_own =
        |h: &Header| h.address.source() == id(3) || h.address.destination() == Destination::Ue(id(3));
    let (mut of_group, mut of_links) = (0, 0);
    for (h, frame) in protected(&after).filter(|(h, _)| !his_own(h)) {
        assert!(all.open(frame).is_some(), "the right keys open it: {h:?}");
        assert!(!his.opens_by_any_means(frame), "{h:?}");
        *(if to_group(&h) { &mut of_group } else { &mut of_links }) += 1;
    }
    assert!(of_group >= 20 && of_links >= 20, "{of_group} {of_links}");
    let held: HashSet<_> = group_keys("ue-3").into_iter().collect();
    assert!(held.len() > FUTURE);
    let later = group_keys("ue-1").into_iter().filter(|k| !held.contains(k)).count();
    assert!(later >= 2, "the others have keys of their own since then: {later}");

    // It stays out, and the others got the CRL from the owner.
    let _ = ues[2].ask(&["link", "connect"]);
    ues[2].await_show("runtime", |s| s["runtime"]["notices"]["peer_refused"].as_u64().unwrap_or(0) > 0);
    assert!(settled(&go.show("groups").unwrap()));
    for ue in &ues[..2] {
        ue.await_show("runtime", |s| s["runtime"]["crls"][0]["number"] == "2");
    }
    for node in std::iter::once(&go).chain(&ues) {
        node.assert_adds_up();
    }
    eprintln!("revoked: {of_group} group frames, {of_links} of links, {} group keys held", held.len());
}

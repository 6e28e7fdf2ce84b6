//! The demonstration: joining, traffic of ordinary programs, rekeying, eviction, and an owner that is killed and comes back.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, MULTICAST, Node, listener, octets, pc5, said, talker};
use crate::traffic::there_and_back;
use crate::wire::{Eavesdropper, readable};

fn heard(socket: &UdpSocket, wanted: &[u8], patience: Duration) -> bool {
    let began = Instant::now();
    let mut buffer = [0; 2_048];
    while began.elapsed() < patience {
        if socket.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == wanted) {
            return true;
        }
    }
    false
}

fn multicast(node: &Node, n: u8, payload: &[u8]) {
    talker(node, n).send_to(payload, SocketAddr::from((MULTICAST, 7000))).unwrap();
}

#[test]
fn a_group_owner_and_three_ues_on_one_wire() {
    let Some(lab) = Lab::new("demo") else { return };
    let folder = lab.folder();
    let mut go = lab.owner("crl_freshness = \"refuse\"", "");
    let mut ues: Vec<Node> = (1..=3).map(|n| lab.ue(n)).collect();
    let eve = lab.station("eve");
    let eavesdropper = Eavesdropper::new(&eve);

    let out = pc5(folder, &["check", "go-1.toml"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = pc5(folder, &["show", "--admin", "nobody.sock"]);
    assert_eq!(out.status.code(), Some(3), "nobody answers yet: {}", said(&out));

    // Two join, the third comes late, into running group traffic.
    go.start();
    ues[0].start();
    ues[1].start();
    go.await_show("members", |s| s["members"].as_array().unwrap().len() == 2);
    for ue in &ues[..2] {
        ue.await_show("groups", |s| s["groups"][0]["state"] == "joined" && s["groups"][0]["epoch"] != 0);
    }
    let stations = |s: &Value, n: usize| {
        let members = s["members"].as_array().unwrap();
        members.len() == n && members.iter().all(|m| !m["addresses"].as_array().unwrap().is_empty())
    };
    go.await_show("members", |s| stations(s, 2));
    assert!(ues[0].ping("10.77.0.2"), "{}\n{}", go.log(), ues[0].log());

    // Random octets by TCP through the owner's bridge, and back.
    let payload = octets(512 << 10);
    there_and_back(&ues[0].space, &ues[1].space, "10.77.0.2:7001", &payload);

    ues[2].start();
    go.await_show("members", |s| stations(s, 3));
    ues[2].await_show("groups", |s| s["groups"][0]["state"] == "joined" && s["groups"][0]["epoch"] != 0);

    // Multicast of one UE reaches the two others.
    let sockets: Vec<UdpSocket> = (1u8..=3).zip(&ues).map(|(n, ue)| listener(ue, n)).collect();
    let datagram = octets(1_200);
    multicast(&ues[0], 1, &datagram);
    for n in [1, 2] {
        assert!(heard(&sockets[n], &datagram, Duration::from_secs(3)), "ue-{}\n{}", n + 1, go.log());
    }

    // The group key changes, nothing is lost.
    let admin = go.admin.to_str().unwrap();
    let epoch = |s: &Value| s["groups"][0]["epoch"].as_u64().unwrap();
    let before = epoch(&go.show("groups").unwrap());
    assert!(pc5(folder, &["group", "rekey", "--admin", admin]).status.success());
    go.await_show("groups", |s| epoch(s) > before && s["groups"][0]["by_link"] == 0);
    let datagram = octets(1_200);
    multicast(&ues[1], 2, &datagram);
    for n in [0, 2] {
        assert!(heard(&sockets[n], &datagram, Duration::from_secs(3)), "ue-{} after the rekey", n + 1);
    }
    assert!(pc5(folder, &["link", "rekey", "000001", "--refresh", "--admin", admin]).status.success());

    // Who is evicted hears nothing further; the others go on.
    let out = pc5(folder, &["group", "evict", "pc5:001-01:ue:ue-3", "--admin", admin]);
    assert!(out.status.success(), "{}", said(&out));
    go.await_show("groups", |s| s["groups"][0]["members"] == 2 && s["groups"][0]["by_link"] == 0);
    let datagram = octets(1_200);
    multicast(&ues[0], 1, &datagram);
    assert!(heard(&sockets[1], &datagram, Duration::from_secs(3)), "ue-2 after the eviction");
    assert!(!heard(&sockets[2], &datagram, Duration::from_secs(1)), "the evicted one heard it");
    assert!(!ues[2].ping("10.77.0.1"), "the evicted one still gets through");
    assert!(ues[0].ping("10.77.0.2"));
    let out = pc5(folder, &["group", "rekey", "--admin", ues[0].admin.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(4), "only the owner: {}", said(&out));

    // The owner is killed and comes back: everybody joins again, and who was evicted stays out.
    go.kill();
    go.start();
    go.await_show("members", |s| stations(s, 2));
    let groups = go.show("groups").unwrap();
    assert_eq!(groups["groups"][0]["evicted"][0], "pc5:001-01:ue:ue-3", "{groups:#}");
    assert!(epoch(&groups) > before, "epochs only rise");
    assert!(ues[1].ping("10.77.0.1"), "{}", go.log());

    // Every screen answers; counters add up on every node.
    for node in std::iter::once(&go).chain(&ues) {
        for what in ["all", "groups", "links", "members", "keys", "runtime", "drops"] {
            let shown =
                node.show(what).unwrap_or_else(|| panic!("{what} of {:?}: {}", node.config, node.log()));
            assert_eq!(shown["version"], 1);
        }
        let began = Instant::now();
        let runtime = node.show("runtime").unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(runtime["runtime"]["discrepancies"], Value::Array(vec![]), "{runtime:#}");
        assert_ne!(runtime["runtime"]["data"]["opened"]["accepted"], 0);
    }

    // Nothing of the payload was readable on the wire.
    let frames = eavesdropper.frames();
    let captured: usize = frames.iter().map(Vec::len).sum();
    assert!(captured > 2 * payload.len(), "the eavesdropper saw {captured} octets only");
    assert_eq!(readable(&payload, &frames), 0, "runs of 8 octets of the payload on the wire");

    for node in ues.iter_mut().chain([&mut go]) {
        assert!(node.stop(), "{:?} did not end well\n{}", node.config, node.log());
        assert!(!node.admin.exists(), "the admin socket is removed");
    }
    eprintln!("demo: {} frames, {captured} octets on the wire", frames.len());
}

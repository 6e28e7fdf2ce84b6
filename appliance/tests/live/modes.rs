//! Other ways to be set up: over UDP, without an owner, several groups and owners on one wire.

use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, Node, Text, listener, listener_in, octets, talker, talker_from};
use crate::wire::{Eavesdropper, readable};

/// A UE of a group, with its owner's Layer-2 id.
fn ue_of(lab: &Lab, n: u8, group: &str, owner: &str) -> Node {
    let text = Text::ue(n)
        .tables
        .replace("group = \"f00001\"", &format!("group = \"{group}\"\nowner = \"{owner}\""));
    lab.node(&format!("ue-{n}"), "ue", &Text { tables: text, ..Text::default() })
}

#[test]
fn groups_and_owners_on_one_wire_keep_apart() {
    let Some(lab) = Lab::new("modes: groups") else { return };
    let group =
        |id, owner| format!("[[group]]\nid = \"{id}\"\nowner = \"{owner}\"\nnetworks = [\"10.77.0.0/24\"]\n");
    // One owner of two groups, and another of a group with the same id.
    let two = group("f00001", "fffffe") + &group("f00002", "fffffd");
    let mut first = lab.node("go-1", "owner", &Text { tables: two, ..Text::default() });
    let mut second =
        lab.node("go-2", "owner", &Text { tables: group("f00001", "fffffb"), ..Text::default() });
    let homes = [("f00001", "fffffe"), ("f00002", "fffffd"), ("f00001", "fffffb")];
    let mut ues: Vec<Node> = (0..6u8)
        .map(|i| ue_of(&lab, i + 1, homes[usize::from(i) / 2].0, homes[usize::from(i) / 2].1))
        .collect();
    let eve = lab.station("eve");
    let eavesdropper = Eavesdropper::new(&eve);
    first.start();
    second.start();
    ues.iter_mut().for_each(Node::start);
    first.await_members(4);
    second.await_members(2);
    ues.iter().for_each(Node::await_joined);
    let payload = octets(1_000);
    for (i, ue) in ues.iter().enumerate() {
        let partner = format!("10.77.0.{}", (i ^ 1) + 1);
        assert!(ue.ping(&partner), "{} to {partner}\n{}\n{}", ue.name, first.story(), second.story());
        let stranger = format!("10.77.0.{}", (i + 2) % 6 + 1);
        let args = ["netns", "exec", ue.space.name(), "ping", "-n", "-c", "1", "-W", "1", &stranger];
        assert!(
            !Command::new("ip").args(args).output().unwrap().status.success(),
            "{} to {stranger}",
            ue.name
        );
    }
    // Multicast too stays where it belongs.
    let ears: Vec<_> = ues.iter().zip(1u8..).map(|(ue, n)| listener(ue, n)).collect();
    talker(&ues[0], 1).send_to(&payload, "239.77.0.1:7000").unwrap();
    let mut buffer = [0; 2_048];
    let heard: Vec<bool> =
        ears.iter().map(|ear| ear.recv(&mut buffer).is_ok_and(|n| buffer[..n] == payload)).collect();
    // The sender's own system loops it back to its own listener.
    assert_eq!(heard[1..], [true, false, false, false, false]);
    assert_eq!(readable(&payload, &eavesdropper.frames()), 0);
    for node in [&first, &second] {
        node.assert_adds_up();
    }
    let keys = lab.key_logs();
    let pgks: std::collections::BTreeSet<&str> =
        keys.lines().filter(|l| l.starts_with("GROUP")).filter_map(|l| l.split(' ').next_back()).collect();
    assert!(pgks.len() >= 3, "each group at each owner has keys of its own");
}

#[test]
fn one_ue_is_a_member_of_two_groups_at_once() {
    let Some(lab) = Lab::new("modes: memberships") else { return };
    let group = |id: &str, owner: &str, network: &str| {
        format!("[[group]]\nid = \"{id}\"\nowner = \"{owner}\"\nnetworks = [\"{network}\"]\n")
    };
    let owner =
        |name: &str, group: String| lab.node(name, "owner", &Text { tables: group, ..Text::default() });
    let mut first = owner("go-1", group("f00001", "fffffe", "10.77.0.0/24"));
    let mut second = owner("go-2", group("f00002", "fffffd", "10.78.0.0/24"));
    let more = "[[membership]]\ngroup = \"f00002\"\nlayer2 = \"000101\"\n\
                [membership.tun]\nname = \"pc5-2\"\naddresses = [\"10.78.0.1/24\"]\n";
    let both = Text { tables: Text::ue(1).tables + more, ..Text::default() };
    let other = Text::ue(3).tables.replace("f00001", "f00002").replace("10.77.", "10.78.");
    let mut ues = [
        lab.node("ue-1", "ue", &both),
        lab.ue(2),
        lab.node("ue-3", "ue", &Text { tables: other, ..Text::default() }),
    ];
    let eve = lab.station("eve");
    let eavesdropper = Eavesdropper::new(&eve);
    first.start();
    second.start();
    ues.iter_mut().for_each(Node::start);
    first.await_members(2);
    second.await_members(2);
    let joined = |s: &Value| {
        let groups = s["groups"].as_array().unwrap();
        groups.iter().filter(|g| g["state"] == "joined" && g["epoch"] != 0).count()
    };
    let shown = ues[0].await_show("groups", |s| joined(s) == 2);
    assert_eq!([&shown["groups"][0]["group"], &shown["groups"][1]["group"]], ["f00001", "f00002"]);
    ues[1..].iter().for_each(Node::await_joined);
    for (at, to) in [(0, "10.77.0.2"), (0, "10.78.0.3"), (1, "10.77.0.1"), (2, "10.78.0.1")] {
        assert!(ues[at].ping(to), "{to}\n{}\n{}\n{}", ues[at].story(), first.story(), second.story());
    }

    // What is said in one group is not heard in the other, whoever is in both.
    let ears = [listener(&ues[1], 2), listener_in(&ues[2], "10.78.0.3")];
    let talkers = ["10.77.0.1", "10.78.0.1"].map(|from| talker_from(&ues[0], from));
    let mut buffer = [0; 2_048];
    for (i, talker) in talkers.iter().enumerate() {
        let payload = octets(1_000);
        talker.send_to(&payload, "239.77.0.1:7000").unwrap();
        let heard = ears.each_ref().map(|e| e.recv(&mut buffer).is_ok_and(|n| buffer[..n] == payload));
        assert_eq!(heard, [i == 0, i == 1], "{}", ues[0].story());
    }
    let payload = octets(1_000);
    talker(&ues[1], 2).send_to(&payload, "239.77.0.1:7000").unwrap();
    assert!(!ears[1].recv(&mut buffer).is_ok_and(|n| buffer[..n] == payload));
    assert_eq!(readable(&payload, &eavesdropper.frames()), 0);

    // It leaves one of them and stays in the other.
    let said = ues[0].ask(&["link", "release", "--group", "f00002"]);
    assert!(said.status.success(), "{}", crate::lab::said(&said));
    second.await_show("groups", |s| s["groups"][0]["members"] == 1);
    ues[0]
        .await_show("groups", |s| s["groups"][1]["state"] == "apart" && s["groups"][0]["state"] == "joined");
    assert!(ues[0].ping("10.77.0.2"));
    let links = ues[0].show("links").unwrap();
    assert!(links["links"].as_array().unwrap().iter().all(|l| l["local"] == "000001"), "{links:#}");
    assert!(ues[0].ask(&["link", "connect", "--group", "f00002"]).status.success());
    ues[0].await_show("groups", |s| joined(s) == 2);
    // Evicted from one group, it is a member of the other.
    assert!(first.ask(&["group", "evict", "pc5:001-01:ue:ue-1"]).status.success());
    ues[0]
        .await_show("groups", |s| s["groups"][0]["state"] != "joined" && s["groups"][1]["state"] == "joined");
    assert!(ues[0].ping("10.78.0.3"), "{}", ues[0].story());
    for node in [&first, &second].into_iter().chain(&ues) {
        node.assert_adds_up();
    }
    assert!(ues[0].stop(), "{}", ues[0].log());
}

#[test]
fn a_group_without_owner_talks_under_session_keys() {
    let Some(lab) = Lab::new("modes: sessions") else { return };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for name in ["gk.hex", "other.hex"] {
        lab.secret(name, &(hex::encode(octets(32)) + "\n"));
    }
    let member = |n: u8, key: &str| {
        let key = format!(
            "[[ue.group_key]]\nid = 7\nfile = \"{key}\"\nnot_before = {}\nnot_after = {}\n",
            now - 60,
            now + 3_600
        );
        lab.node(&format!("ue-{n}"), "ue", &Text { tables: Text::ue(n).tables + &key, ..Text::default() })
    };
    let mut ues = vec![member(1, "gk.hex"), member(2, "gk.hex"), member(3, "gk.hex")];
    let mut outsider = member(4, "other.hex");
    let eve = lab.station("eve");
    let eavesdropper = Eavesdropper::new(&eve);
    ues[0].start();
    ues[1].start();
    outsider.start();
    for ue in &ues[..2] {
        ue.await_show("groups", |s| s["groups"][0]["state"] == "talking" && s["groups"][0]["members"] == 1);
    }
    assert!(ues[0].ping("10.77.0.2"), "{}\n{}", ues[0].story(), ues[1].story());
    // Late entry.
    ues[2].start();
    ues[2].await_show("groups", |s| s["groups"][0]["members"] == 2);
    ues[0].await_show("groups", |s| s["groups"][0]["members"] == 2);
    assert!(ues[2].ping("10.77.0.1"), "{}", ues[2].story());
    let ears = [listener(&ues[1], 2), listener(&ues[2], 3), listener(&outsider, 4)];
    let payload = octets(1_000);
    talker(&ues[0], 1).send_to(&payload, "239.77.0.1:7000").unwrap();
    let mut buffer = [0; 2_048];
    let heard: Vec<bool> =
        ears.iter().map(|ear| ear.recv(&mut buffer).is_ok_and(|n| buffer[..n] == payload)).collect();
    assert_eq!(heard, [true, true, false], "{}", ues[1].story());
    let shown = outsider.show("groups").unwrap();
    assert_eq!(shown["groups"][0]["members"], 0, "the group key proves membership: {shown:#}");
    // Who is killed and comes back talks under another session; nobody takes the old one for it.
    ues[0].kill();
    ues[0].start();
    ues[1].await_show("members", |s| s["members"].as_array().unwrap().len() >= 2);
    ues[0].await_show("groups", |s| s["groups"][0]["members"] == 2);
    assert!(ues[0].ping("10.77.0.3"), "{}", ues[0].story());
    let frames = eavesdropper.frames();
    assert_eq!(readable(&payload, &frames), 0);
    let judged = crate::wire::judge(&frames, &lab.key_logs());
    eprintln!("sessions: {judged:?}");
    assert_eq!((judged.repeated, judged.unknown), (0, 0));
    for ue in &mut ues {
        ue.assert_adds_up();
        assert!(ue.stop(), "{}", ue.log());
    }
}

#[test]
fn frames_travel_over_udp() {
    let Some(lab) = Lab::new("modes: udp") else { return };
    let peer =
        |id: &str, n: u8| format!("[[port.peer]]\nlayer2 = \"{id}\"\naddress = \"192.0.2.{n}:34997\"\n");
    let port = |peers: String| Some(format!("kind = \"udp\"\nbind = \"0.0.0.0:34997\"\n{peers}"));
    let group = "[[group]]\nid = \"f00001\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n".to_owned();
    let text = Text { tables: group, port: port(peer("000001", 1) + &peer("000002", 2)), ..Text::default() };
    let mut go = lab.node("go-1", "owner", &text);
    let mut ues: Vec<Node> = (1..=2u8)
        .map(|n| lab.node(&format!("ue-{n}"), "ue", &Text { port: port(peer("fffffe", 254)), ..Text::ue(n) }))
        .collect();
    for (node, n) in [(&go, 254), (&ues[0], 1), (&ues[1], 2)] {
        node.space.ip(&format!("addr add 192.0.2.{n}/24 dev eth0")).unwrap();
    }
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(2);
    ues.iter().for_each(Node::await_joined);
    assert!(ues[0].ping("10.77.0.2"), "{}\n{}", go.story(), ues[0].story());
    let ear = listener(&ues[1], 2);
    let payload = octets(1_000);
    talker(&ues[0], 1).send_to(&payload, "239.77.0.1:7000").unwrap();
    let mut buffer = [0; 2_048];
    assert!(ear.recv(&mut buffer).is_ok_and(|n| buffer[..n] == payload), "{}", go.story());
    std::iter::once(&go).chain(&ues).for_each(|node| drop(node.assert_adds_up()));
}

//! Somebody in the path between one UE and everybody else, who can do what he likes with every frame: nothing of his is
//! accepted, nothing hangs, no loop forms, and once he is quiet traffic is back.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pc5_control::codec::Body;
use pc5_control::codec::go::{GoAnnounce, Message, Rejection};
use pc5_control::codec::segment::segment;
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::pdu::Destination;

use crate::lab::{Lab, Node, Text, listener_at, long, pc5, said, talker};
use crate::raw::{GROUP_ID, OWNER, Wire, clear_frame, id};
use crate::traffic::{Pool, Random, Receiver, Sender};
use crate::wire::{Eavesdropper, judge};

/// What he does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Act {
    /// Passes everything, and keeps a copy.
    Pass,
    Drop,
    /// Drops a third.
    Lose,
    /// Every frame three times, and old ones in between.
    Repeat,
    Reorder,
    /// An altered copy before each frame, another field each time; before PC5-S one for every field.
    AlterBeside,
    /// An altered copy instead of each frame.
    AlterInstead,
    /// Every frame goes back as well, as it is and with its addresses turned round.
    Reflect,
    /// Frames of his own making.
    Inject,
    /// Everything he ever kept: joins, rekeys, old epochs.
    Replay,
    /// Weaker suites in messages 1 and 2 of a join.
    BidDown,
}

const ALL: [Act; 11] = [
    Act::Pass,
    Act::Drop,
    Act::Lose,
    Act::Repeat,
    Act::Reorder,
    Act::AlterBeside,
    Act::AlterInstead,
    Act::Reflect,
    Act::Inject,
    Act::Replay,
    Act::BidDown,
];

/// Frames that he keeps, of data and of PC5-S each.
const KEPT: usize = 20_000;
/// Ways in which he alters a frame.
const FIELDS: usize = 28;

struct Attacker {
    act: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attacker {
    /// Between two interfaces of his own.
    fn new(space: &Namespace, inner: &str, outer: &str, random: &mut Random) -> Self {
        let (act, stop) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
        let (a, b) = (Wire::new(space, inner), Wire::new(space, outer));
        // One socket an interface: what he sends he does not hear.
        let (a_tx, b_tx) = (Arc::new(Mutex::new(a.tx)), Arc::new(Mutex::new(b.tx)));
        let ways = [(a.rx, b_tx.clone(), a_tx.clone()), (b.rx, a_tx, b_tx)];
        let threads = ways.map(|(mut rx, onward, back)| {
            let (act, stop) = (act.clone(), stop.clone());
            let mut mind =
                Mind { random: random.another(), kept: Default::default(), held: Vec::new(), field: 0 };
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let act = ALL[usize::from(act.load(Ordering::Relaxed))];
                    let out = match rx.next() {
                        Ok(frame) => mind.take(act, frame),
                        // Nothing came: he lets go of what he held.
                        Err(_) => {
                            std::mem::take(&mut mind.held).into_iter().map(|f| (f, Way::Onward)).collect()
                        }
                    };
                    for (frame, way) in out {
                        let tx = if way == Way::Onward { &onward } else { &back };
                        let _ = tx.lock().unwrap().send_to(&frame, None);
                    }
                }
            })
        });
        Self { act, stop, threads: threads.into() }
    }

    fn does(&self, act: Act) {
        self.act.store(act as u8, Ordering::Relaxed);
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Onward,
    Back,
}

/// One direction of his.
struct Mind {
    random: Random,
    /// Data, and PC5-S: joins, rekeys of link and group.
    kept: [Vec<Vec<u8>>; 2],
    held: Vec<Vec<u8>>,
    field: usize,
}

impl Mind {
    fn take(&mut self, act: Act, frame: &[u8]) -> Vec<(Vec<u8>, Way)> {
        let whole = frame.to_vec();
        let onward = |f: Vec<u8>| (f, Way::Onward);
        match act {
            Act::Pass => {
                let kept = &mut self.kept[usize::from(is_signalling(frame))];
                if kept.len() < KEPT {
                    kept.push(whole.clone());
                }
                vec![onward(whole)]
            }
            Act::Drop => Vec::new(),
            Act::Lose if self.random.below(3) == 0 => Vec::new(),
            Act::Lose => vec![onward(whole)],
            Act::Repeat => {
                let mut out = vec![onward(whole.clone()), onward(whole.clone()), onward(whole)];
                out.extend(self.one_kept().map(onward));
                out
            }
            Act::Reorder => {
                self.held.push(whole);
                if self.held.len() < 16 {
                    return Vec::new();
                }
                let at = self.random.below(self.held.len() as u64) as usize;
                vec![onward(self.held.swap_remove(at))]
            }
            Act::AlterBeside => {
                let copies = if is_signalling(frame) { FIELDS } else { 1 };
                let mut out: Vec<_> = (0..copies).map(|_| onward(self.altered(frame))).collect();
                out.push(onward(whole));
                out
            }
            Act::AlterInstead => vec![onward(self.altered(frame))],
            Act::Reflect => {
                let mut turned = whole.clone();
                let (to, from) = (turned[..6].to_vec(), turned[6..12].to_vec());
                turned[..6].copy_from_slice(&from);
                turned[6..12].copy_from_slice(&to);
                vec![onward(whole.clone()), (whole, Way::Back), (turned, Way::Back)]
            }
            Act::Inject => {
                let mut out: Vec<_> = (0..3).map(|_| onward(self.invented(frame))).collect();
                out.insert(1, onward(whole));
                out
            }
            Act::Replay => {
                let mut out = vec![onward(whole)];
                for _ in 0..3 {
                    out.extend(self.one_kept().map(onward));
                    out.extend(self.one_kept().map(|f| (f, Way::Back)));
                }
                out
            }
            Act::BidDown => vec![onward(self.weaker(whole))],
        }
    }

    /// As often PC5-S as data.
    fn one_kept(&mut self) -> Option<Vec<u8>> {
        let kept = &self.kept[self.random.below(2) as usize];
        let n = kept.len() as u64;
        (n > 0).then(|| kept[self.random.below(n) as usize].clone())
    }

    /// Another field each time: every octet of the headers in turn, then data, MAC field, length, a tag.
    fn altered(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut f = frame.to_vec();
        self.field = (self.field + 1) % FIELDS;
        let by = 1 + self.random.below(255) as u8;
        match self.field {
            at @ 0..21 => f[at] ^= by,
            21 => f[21] ^= by,
            22 | 23 => {
                let at = 21 + self.random.below(f.len() as u64 - 21) as usize;
                f[at] ^= by;
            }
            24 => *f.last_mut().unwrap() ^= by,
            25 => f.truncate(f.len() - 1 - self.random.below(f.len() as u64 - 15) as usize),
            26 => f.extend(vec![by; 1 + usize::from(by % 16)]),
            _ => drop(f.splice(12..12, [0x81, 0, 0, by]).collect::<Vec<_>>()),
        }
        f
    }

    /// A frame of his own, in the likeness of one that passes.
    fn invented(&mut self, like: &[u8]) -> Vec<u8> {
        let r = &mut self.random;
        let (owner, member) = (id(OWNER), 1 + r.below(3) as u32);
        let nonce_1 = std::array::from_fn(|_| r.below(256) as u8);
        let clear = |r: &mut Random, to, from, body| {
            let message = Message { seq: r.below(65_536) as u16, body }.encode().unwrap();
            clear_frame(to, from, &segment(&message, 1_400).unwrap()[0])
        };
        match r.below(6) {
            0 => {
                let tag = (r.below(2) == 0).then_some(nonce_1);
                let rejection = Rejection { nonce_1, cause: 0x80 + r.below(19) as u8, tag };
                clear(r, Destination::Ue(id(member)), OWNER, Body::Reject(rejection))
            }
            1 => {
                let announce = GoAnnounce {
                    instance: std::array::from_fn(|_| r.below(256) as u8),
                    epoch: r.below(1 << 30),
                    spread: 0,
                    suites: vec![0x00],
                };
                clear(r, Destination::Group(GROUP_ID), OWNER, Body::GoAnnounce(announce))
            }
            // PC5-S of any type with any body, in clear: RELEASE and GROUP_KEY_UPDATE among them.
            2 => {
                let kinds = [
                    4, 5, 6, 7, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x89, 0x8c, 0x8e, 0x8f, 0x90, 0xa0,
                    0xa1,
                ];
                let mut sdu = vec![kinds[r.below(kinds.len() as u64) as usize], 0, 1, 0, 0, 0, 0];
                sdu.extend((0..r.below(200)).map(|_| r.below(256) as u8));
                let (to, from) = if r.below(2) == 0 { (owner, member) } else { (id(member), OWNER) };
                clear_frame(Destination::Ue(to), from, &sdu)
            }
            // Under the header of a live context: the next SNs, other channels.
            3 | 4 => {
                let mut f = like.to_vec();
                f[14] = [1, 2, 10, 29, 30][r.below(5) as usize];
                f[16] = f[16] & 0x1f | if f[14] >= 29 { 0x40 } else { 0 };
                f[20] = f[20].wrapping_add(1 + r.below(8) as u8);
                f[21..].iter_mut().for_each(|o| *o = r.below(256) as u8);
                f
            }
            // A member that is somebody else.
            _ => {
                let mut f = like.to_vec();
                f[9..12].copy_from_slice(&id(member).octets());
                f
            }
        }
    }

    /// JOIN_REQUEST with fewer or weaker suites, JOIN_CHALLENGE with another one.
    fn weaker(&mut self, mut f: Vec<u8>) -> Vec<u8> {
        // Type at 21, sequence and index to 27; then version, group, Nonce_1, MSB, E_m: the list of suites is at 114.
        if f.len() > 117 && f[12..15] == [0x88, 0xb5, 28] {
            let weak = [0x44, 0x11, 0x20, 0x00][self.random.below(4) as usize];
            match f[21] {
                0x80 => f[115..117].fill(weak),
                0x82 => f[28 + 17] = weak,
                _ => {}
            }
        }
        f
    }
}

fn is_signalling(frame: &[u8]) -> bool {
    matches!(frame.get(14), Some(28..=30))
}

/// The stream that is sent to the group.
const BY_GROUP: &str = "from the group";

/// Traffic both ways past the attacker, and to the group.
struct Streams {
    senders: Vec<Sender>,
    receivers: Vec<(&'static str, Receiver)>,
}

impl Streams {
    fn new(ues: &[Node]) -> Self {
        let pool = Pool::new();
        let ways = [
            (BY_GROUP, 2u8, "10.77.0.255:7001", 1u8),
            ("to ue-1", 3, "10.77.0.1:7002", 1),
            ("from ue-1", 1, "10.77.0.2:7003", 2),
        ];
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (name, from, to, at) in ways {
            let to: std::net::SocketAddr = to.parse().unwrap();
            receivers
                .push((name, Receiver::new(listener_at(&ues[usize::from(at - 1)], to.port()), pool.clone())));
            let socket = talker(&ues[usize::from(from - 1)], from);
            socket.set_broadcast(true).unwrap();
            senders.push(Sender::new(socket, to, pool.clone(), 200 * 8 * 200, 200));
        }
        Self { senders, receivers }
    }

    fn arrived(&self) -> Vec<u64> {
        self.receivers.iter().map(|(_, r)| r.arrived.load(Ordering::Relaxed)).collect()
    }

    /// Until each has 20 more.
    fn back(&self, patience: Duration, why: &dyn Fn() -> String) -> Duration {
        let (began, before) = (Instant::now(), self.arrived());
        loop {
            let now = self.arrived();
            if before.iter().zip(&now).all(|(b, n)| *n >= b + 20) {
                return began.elapsed();
            }
            assert!(began.elapsed() < patience, "traffic does not come back: {before:?} {now:?}\n{}", why());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn somebody_in_the_path_gets_nowhere() {
    let Some(lab) = Lab::new("attacker") else { return };
    let mut random = Random::new();
    eprintln!("attacker: seed {}", random.seed());
    let mut go = lab
        .owner("", "key_lifetime = \"60s\"\nrekey_after = \"1s\"\nkeepalive = \"1s\"\nlost_after = \"30s\"");
    // UE-1 has the attacker before its door, the others are on the wire.
    let (middle, home) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    middle.wire("inner", &home, "eth0").unwrap();
    lab.hub.wire("ue-1", &middle, "outer").unwrap();
    lab.hub.ip("link set ue-1 master br0").unwrap();
    let attacker = Attacker::new(&middle, "inner", "outer", &mut random);
    lab.issue("ue-1", "member");
    let mut ues = vec![lab.node_at(home, "ue-1", "ue", &Text::ue(1)), lab.ue(2), lab.ue(3)];
    let eve = lab.station("eve");
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);
    let story = || std::iter::once(&go).chain(&ues).map(Node::story).collect::<Vec<_>>().join("\n");
    let streams = Streams::new(&ues);
    streams.back(Duration::from_secs(10), &story);
    // He has seen joins, rekeys of group and link, and traffic of several epochs.
    assert!(go.ask(&["link", "rekey", "000001", "--refresh"]).status.success());
    std::thread::sleep(Duration::from_secs(2));

    for act in &ALL[1..] {
        if *act == Act::BidDown {
            assert!(ues[0].ask(&["link", "release"]).status.success());
            std::thread::sleep(Duration::from_millis(300));
        }
        attacker.does(*act);
        let (began, before) = (Instant::now(), streams.arrived());
        // There is something to attack: keys change all the while, of the link too.
        let _ = go.ask(&["link", "rekey", "000001"]);
        if *act == Act::BidDown {
            assert!(ues[0].ask(&["link", "connect"]).status.success());
        }
        std::thread::sleep(Duration::from_millis(if long() { 10_000 } else { 1_500 }));
        let (after, seconds) = (streams.arrived(), began.elapsed().as_secs_f64());
        for node in std::iter::once(&go).chain(&ues) {
            let asked = Instant::now();
            node.assert_adds_up();
            assert!(asked.elapsed() < Duration::from_secs(1), "{} under {act:?}", node.name);
        }
        let rates: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) as f64 / seconds).collect();
        match act {
            Act::Drop | Act::AlterInstead => {}
            Act::Lose => assert!(rates.iter().all(|r| *r > 50.0), "{act:?}: {rates:?}\n{}", story()),
            Act::BidDown => {
                let links = ues[0].show("links").unwrap();
                assert_eq!(links["links"].as_array().unwrap().len(), 0, "{links:#}\n{}", story());
            }
            // The frames themselves come through: so does the traffic.
            _ => assert!(rates.iter().all(|r| (150.0..220.0).contains(r)), "{act:?}: {rates:?}\n{}", story()),
        }
        // A join of his victim meets him, too. It may fail then; it must not hang.
        let joined = *act != Act::BidDown && {
            assert!(ues[0].ask(&["link", "release"]).status.success());
            assert!(ues[0].ask(&["link", "connect"]).status.success());
            std::thread::sleep(Duration::from_millis(if long() { 3_000 } else { 300 }));
            ues[0].show("groups").unwrap()["groups"][0]["state"] == "joined"
        };
        attacker.does(Act::Pass);
        let back = streams.back(Duration::from_secs(15), &story);
        // So does the group key go on changing; who does not acknowledge for 6 s would have to join again.
        let epoch = |s: &serde_json::Value| s["groups"][0]["epoch"].as_u64().unwrap();
        let now = epoch(&go.show("groups").unwrap());
        go.await_show("groups", |s| epoch(s) > now);
        eprintln!(
            "attacker: {act:?}: {rates:.0?} a second of 200 each; a join meanwhile {}; all back after {back:.2?}",
            if joined { "succeeds" } else { "fails" }
        );
    }
    go.await_show("groups", |s| s["groups"][0]["members"] == 3);

    // Members that are none: somebody else's Layer-2 id, another authority's word.
    let mut thief = lab.node(
        "ue-9",
        "ue",
        &Text { tables: Text::ue(9).tables.replace("000009", "000002"), ..Text::default() },
    );
    thief.start();
    let foreign = lab.folder().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    for args in [
        &["pki", "root", "pki", "--plmn", "001-01"][..],
        &["pki", "issue", "pki", "ue-8", "--role", "member"],
    ] {
        let out = pc5(&foreign, args);
        assert!(out.status.success(), "{}", said(&out));
    }
    let mut stranger = lab.node("ue-8", "ue", &Text::ue(8));
    for file in ["ue-8.pem", "ue-8.key"] {
        std::fs::copy(foreign.join("pki/issued").join(file), lab.folder().join("pki/issued").join(file))
            .unwrap();
    }
    // It believes everybody; nobody believes it.
    let text = std::fs::read_to_string(&stranger.config).unwrap();
    let both =
        "[[trust]]\nplmn = \"001-01\"\nroot = \"foreign/pki/ca.pem\"\ncrl = [\"foreign/pki/crl.pem\"]\n";
    std::fs::write(&stranger.config, text + both).unwrap();
    stranger.start();
    for impostor in [&thief, &stranger] {
        let told = |n: &serde_json::Value| n["runtime"]["notices"]["peer_refused"].as_u64().unwrap_or(0) > 0;
        impostor.await_show("runtime", told);
        assert_ne!(impostor.show("groups").unwrap()["groups"][0]["state"], "joined");
    }
    streams.back(Duration::from_secs(3), &story);
    drop((thief, stranger));

    let Streams { senders, receivers } = streams;
    let sent: u64 = senders.into_iter().map(Sender::stop).sum();
    // Nothing goes on that was not sent: what the owner bridged, each once, are datagrams of the members and the few packets
    // that their systems send by themselves.
    let bridged = go.assert_adds_up()["data"]["bridged"]["accepted"].as_u64().unwrap();
    assert!(bridged <= sent + 200, "{bridged} bridged of {sent} sent\n{}", story());
    for (name, receiver) in receivers {
        let a = receiver.stop();
        eprintln!("attacker: {name}: {a:?}");
        assert_eq!(a.altered, 0, "{name}: {a:?}");
        // What goes over a link comes once. Group data comes by link and by group where a change of the key excludes
        // somebody, as each leave here does: it goes to every member over its link until its GROUP_KEY_ACK came, and to the
        // group under the new key from the first. Nothing in a frame says which other one carries the same, so neither side
        // could leave one out and lose nothing (go-mode.md section 5). One of the two can be held back on the way, some
        // seconds at most, far from anything that was kept.
        let (repeated, late) = if name == BY_GROUP { (50, 1_000) } else { (1, 1) };
        assert!(a.repeated < repeated && a.late < late, "{name}: {a:?}");
    }
    // Quiet is quiet: nothing goes round.
    let ear = Eavesdropper::new(&eve);
    std::thread::sleep(Duration::from_secs(2));
    let seen = ear.frames();
    eprintln!("attacker: {sent} sent in all, {bridged} bridged; {} frames in two quiet seconds", seen.len());
    assert!(seen.len() < 150, "{} frames\n{}", seen.len(), story());
    let judged = judge(&seen, &lab.key_logs());
    assert_eq!((judged.repeated, judged.unknown), (0, 0), "{judged:?}");
}

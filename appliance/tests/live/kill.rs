//! Owner and UEs killed at random during traffic, and started again, once each with the state of an earlier day: no COUNT
//! comes twice, and everybody is back soon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Node, listener_at, long, talker};
use crate::traffic::{Pool, Random, Receiver, Sender};
use crate::wire::{Eavesdropper, judge};

/// From the start of who was killed until every stream arrives everywhere again.
const BACK: Duration = Duration::from_secs(3);

/// Three streams that never stop: one to the group, two from UE to UE. Each has a port of its own.
struct Streams {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
}

impl Streams {
    fn new(ues: &[Node]) -> Self {
        let pool = Pool::new();
        // Broadcast, since membership of a multicast group ends with the device that a kill takes away.
        let ways = [
            (1u8, "10.77.0.255:7001", &[2u8, 3][..]),
            (2, "10.77.0.3:7002", &[3]),
            (3, "10.77.0.1:7003", &[1]),
        ];
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (from, to, at) in ways {
            let to: SocketAddr = to.parse().unwrap();
            for n in at {
                let socket = listener_at(&ues[usize::from(n - 1)], to.port());
                receivers.push(Receiver::new(socket, pool.clone()));
            }
            let socket = talker(&ues[usize::from(from - 1)], from);
            socket.set_broadcast(true).unwrap();
            senders.push(Sender::new(socket, to, pool.clone(), 300 * 8 * 200, 200));
        }
        Self { senders, receivers }
    }

    fn arrived(&self) -> Vec<u64> {
        self.receivers.iter().map(|r| r.arrived.load(std::sync::atomic::Ordering::Relaxed)).collect()
    }

    /// Waits until each receiver has 10 more than now. Gives how long that took.
    fn all_arrive(&self, began: Instant, patience: Duration, who: &dyn Fn() -> String) -> Duration {
        let before = self.arrived();
        loop {
            let now = self.arrived();
            if before.iter().zip(&now).all(|(b, n)| *n >= b + 10) {
                return began.elapsed();
            }
            assert!(began.elapsed() < patience, "{before:?} -> {now:?} only\n{}", who());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where the copy of a state file is.
fn old(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

fn keep_copy(node: &Node) {
    for file in node.state_files().iter().filter(|f| f.exists()) {
        std::fs::copy(file, old(file)).unwrap();
    }
}

fn restore(node: &Node) {
    for file in node.state_files() {
        let old = old(&file);
        let _ = std::fs::remove_file(&file);
        if old.exists() {
            std::fs::copy(old, file).unwrap();
        }
    }
}

fn killed_at_random(transmit: &str, kills: usize) {
    let Some(lab) = Lab::new("kill") else { return };
    let mut random = Random::new();
    eprintln!("kill: {transmit}, seed {}", random.seed());
    // Half of the kills meet a group key that is just being changed.
    let mut go =
        lab.owner("", &format!("transmit = \"{transmit}\"\nkey_lifetime = \"60s\"\nrekey_after = \"2s\""));
    let mut ues: Vec<_> = (1..=3).map(|n| lab.ue(n)).collect();
    let eve = lab.station("eve");
    let eavesdropper = Eavesdropper::new(&eve);
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);
    let streams = Streams::new(&ues);
    streams.all_arrive(Instant::now(), Duration::from_secs(10), &|| go.log());

    let mut took = Vec::new();
    for n in 0..kills {
        // The owner is worth as much as all UEs. First and last of both: the state of the first comes back at the last.
        let which = match n {
            0 => 0,
            1 => 1,
            _ if n == kills - 2 => 0,
            _ if n == kills - 1 => 1,
            _ if random.below(2) == 0 => 0,
            _ => 1 + random.below(3) as usize,
        };
        let node = if which == 0 { &mut go } else { &mut ues[which - 1] };
        node.kill();
        match n {
            0 | 1 => keep_copy(node),
            _ if n + 2 >= kills => restore(node),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        let began = Instant::now();
        node.start();
        let name = node.name.clone();
        let who = || {
            let nodes: Vec<_> = std::iter::once(&go).chain(&ues).map(Node::story).collect();
            format!("kill {n} of {name}\n{}", nodes.join("\n"))
        };
        took.push(streams.all_arrive(began, BACK, &who));
        std::thread::sleep(Duration::from_millis(random.below(500)));
    }
    let Streams { senders, receivers } = streams;
    let sent: u64 = senders.into_iter().map(Sender::stop).sum();
    let arrived: Vec<_> = receivers.into_iter().map(Receiver::stop).collect();
    std::iter::once(&go).chain(&ues).for_each(|node| drop(node.assert_adds_up()));
    let judged = judge(&eavesdropper.frames(), &lab.key_logs());
    took.sort();
    eprintln!(
        "kill: {transmit}, {kills} kills, back after {:?} in the middle, {:?} at most; {sent} sent, {judged:?}",
        took[kills / 2],
        took[kills - 1]
    );
    for a in arrived {
        assert_eq!((a.altered, a.repeated), (0, 0));
    }
    assert_eq!((judged.repeated, judged.unknown), (0, 0), "{judged:?}");
    assert!(judged.opened as u64 > sent / 2, "the eavesdropper saw too little: {judged:?}");
}

#[test]
fn no_count_comes_twice_when_members_send_by_the_owner() {
    killed_at_random("owner", if long() { 50 } else { 6 });
}

#[test]
fn no_count_comes_twice_when_members_send_to_the_group() {
    killed_at_random("direct", if long() { 50 } else { 6 });
}

//! Ping through the owner: idle, and beside 200 Mbit/s.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, Node, long, talker};
use crate::traffic::{Pool, Sender};

/// Round trips in ms, sorted.
fn round_trips(from: &Node, to: &str, n: usize) -> Vec<f64> {
    let count = n.to_string();
    let args = ["netns", "exec", from.space.name(), "ping", "-n", "-c", &count, "-i", "0.005", "-W", "1", to];
    let said = String::from_utf8_lossy(&Command::new("ip").args(args).output().unwrap().stdout).into_owned();
    let time = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse().ok();
    let mut times: Vec<f64> = said.lines().filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn ping_through_the_owner() {
    let Some(lab) = Lab::new("latency") else { return };
    let mut go = lab.owner("", "");
    let mut ues: Vec<_> = (1..=3).map(|n| lab.ue(n)).collect();
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);
    let (n, rate) = if long() { (2_000, 200_000_000) } else { (200, 10_000_000) };
    let told = |what: &str, times: &[f64]| {
        let at = |share: usize| times[times.len() * share / 1_000];
        let (p50, p99, p999) = (at(500), at(990), at(999));
        eprintln!(
            "latency: {what}: {} of {n}, p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms",
            times.len()
        );
        p99
    };
    let idle = told("idle", &round_trips(&ues[2], "10.77.0.2", n));
    let to = SocketAddr::from(([10, 77, 0, 2], 7000));
    // Nobody answers there that the port is closed.
    let ear = crate::lab::listener_at(&ues[1], 7000);
    let sender = Sender::new(talker(&ues[0], 1), to, Pool::new(), rate, 1_400);
    std::thread::sleep(Duration::from_millis(300));
    let loaded = told(&format!("beside {} Mbit/s", rate / 1_000_000), &round_trips(&ues[2], "10.77.0.2", n));
    let sent = sender.stop();
    drop(ear);
    eprintln!("latency: {sent} datagrams meanwhile");
    // The promise is one for a machine of its own; elsewhere the figures are looked at.
    if long() {
        assert!(idle <= 2.0 && loaded <= 5.0, "{idle} {loaded}");
    }
}

//! Group keys that change all the time under load: nothing is lost to it, and every node's counters add up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, MULTICAST, Node, listener, long, talker};
use crate::traffic::{Pool, Receiver, Sender};
use crate::wire::{Eavesdropper, readable};

/// Drops that overload explains. Everything else a rekey could have caused.
const OVERLOAD: [&str; 7] = [
    "port-data kernel_drops",
    "port-signalling kernel_drops",
    "port-data overload",
    "port-signalling overload",
    "tun overload",
    "deliver overload",
    "bridge overload",
];
/// What is no loss: frames for others, since the wire does not learn, and the sender's own multicast coming back.
const USUAL: [&str; 2] = ["open not_for_us", "deliver own_source"];

#[test]
fn nothing_is_lost_to_rekeying_under_load() {
    let Some(lab) = Lab::new("rekey") else { return };
    // The long form is what the appliance promises; the short one goes round the 5-bit index just the same.
    let (rate, last, period) = if long() {
        (200_000_000, Duration::from_secs(45), "1s")
    } else {
        (10_000_000, Duration::from_secs(9), "200ms")
    };
    let mut go = lab.owner("", &format!("key_lifetime = \"60s\"\nrekey_after = \"{period}\""));
    let mut ues: Vec<_> = (1..=3).map(|n| lab.ue(n)).collect();
    go.start();
    ues.iter_mut().for_each(|ue| ue.start());
    go.await_members(3);
    ues.iter().for_each(|ue| ue.await_joined());

    // What a loaded machine takes its time for waits in the device.
    ues[0].space.ip("link set pc5 txqueuelen 10000").unwrap();
    let pool = Pool::new();
    let eve = lab.station("eve");
    let receivers: Vec<_> =
        (2u8..=3).map(|n| Receiver::new(listener(&ues[usize::from(n) - 1], n), pool.clone())).collect();
    let epoch = |s: &Value| s["groups"][0]["epoch"].as_u64().unwrap();
    let before = epoch(&go.show("groups").unwrap());
    let dropped_before: Vec<_> = std::iter::once(&go).chain(&ues).map(Node::drops).collect();
    let began = Instant::now();
    let sender =
        Sender::new(talker(&ues[0], 1), SocketAddr::from((MULTICAST, 7000)), pool.clone(), rate, 1_400);
    std::thread::sleep(last / 2);
    // A second of it, as somebody without keys sees it.
    let eavesdropper = Eavesdropper::new(&eve);
    std::thread::sleep(Duration::from_secs(1));
    let overheard = eavesdropper.frames();
    std::thread::sleep(last / 2 - Duration::from_secs(1));
    let sent = sender.stop();
    let seconds = began.elapsed().as_secs_f64();
    let epochs = epoch(&go.show("groups").unwrap()) - before;
    std::thread::sleep(Duration::from_millis(300));
    let arrived: Vec<_> = receivers.into_iter().map(Receiver::stop).collect();

    eprintln!(
        "rekey: {sent} datagrams in {seconds:.1} s, {:.0} Mbit/s, {epochs} epochs; arrived {arrived:?}",
        sent as f64 * 1_400.0 * 8.0 / seconds / 1e6
    );
    // Programs that are faster than the appliance gets the processor fill the queue of their device.
    let mut excused = ues[0].device_overload();
    eprintln!("rekey: {excused} found no room in the queue of ue-1's device");
    for (node, before) in std::iter::once(&go).chain(&ues).zip(dropped_before) {
        let runtime = node.assert_adds_up();
        eprintln!("rekey: {}: {:?}, {} copies", node.name, node.drops(), runtime["data"]["copies"]);
        for (cause, n) in node.drops() {
            let n = n - before.iter().find(|(c, _)| *c == cause).map_or(0, |(_, n)| *n);
            if n == 0 || USUAL.contains(&cause.as_str()) {
                continue;
            }
            assert!(
                OVERLOAD.contains(&cause.as_str()),
                "{}: {n} dropped as {cause}\n{}",
                node.name,
                node.log()
            );
            excused += n;
        }
    }
    assert!(epochs > 31, "the 5-bit index went round: {epochs}");
    for a in &arrived {
        assert_eq!((a.altered, a.repeated), (0, 0));
        assert!(sent - a.datagrams <= excused, "{} lost, {excused} dropped", sent - a.datagrams);
    }
    assert!(overheard.len() > 500, "{} frames overheard", overheard.len());
    assert_eq!(readable(pool.octets(), &overheard), 0, "runs of 8 octets of the payload on the wire");
}

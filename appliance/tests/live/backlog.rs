//! PC5-S is opened before the data that waits in the port's ring, under the same SNs: none of that data is too old for it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, MULTICAST, Node, listener, talker};
use crate::traffic::{Pool, Receiver, Sender};

#[test]
fn data_that_waits_outlives_the_keepalive_that_overtakes_it() {
    let Some(lab) = Lab::new("backlog") else { return };
    let mut go = lab.owner("", "keepalive = \"300ms\"");
    let mut ues: Vec<_> = (1..=2).map(|n| lab.ue(n)).collect();
    go.start();
    ues.iter_mut().for_each(|ue| ue.start());
    go.await_members(2);
    ues.iter().for_each(Node::await_joined);
    ues[0].space.ip("link set pc5 txqueuelen 10000").unwrap();
    let pool = Pool::new();
    let receiver = Receiver::new(listener(&ues[1], 2), pool.clone());

    // An owner that gets no processor for a while: several times the usual window waits in its ring, a keepalive behind it.
    let pid = go.pid().unwrap().to_string();
    let tell = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    tell("-STOP");
    let to = SocketAddr::from((MULTICAST, 7000));
    let sender = Sender::new(talker(&ues[0], 1), to, pool.clone(), 16_000_000, 100);
    std::thread::sleep(Duration::from_millis(250));
    let sent = sender.stop();
    std::thread::sleep(Duration::from_millis(700));
    tell("-CONT");
    std::thread::sleep(Duration::from_millis(500));
    let arrived = receiver.stop();

    let dropped =
        |node: &Node, cause: &str| node.drops().iter().find(|(c, _)| c == cause).map_or(0, |(_, n)| *n);
    let kernel = dropped(&go, "port-data kernel_drops") + dropped(&go, "port-data interface_drops");
    eprintln!("backlog: {sent} waited, {} arrived, {kernel} had no room in the ring", arrived.datagrams);
    assert!(sent > 2_048, "{sent}");
    assert_eq!(dropped(&go, "open too_old"), 0, "{}", go.story());
    assert_eq!((arrived.altered, arrived.repeated), (0, 0));
    let excused = kernel + ues[0].device_overload();
    assert!(arrived.datagrams + excused >= sent, "{} of {sent}, {excused} excused", arrived.datagrams);
}

//! A UE's device that somebody takes down or away.

use crate::lab::{Lab, Node};

#[test]
fn a_device_that_is_down_shows_and_one_that_is_gone_ends_the_daemon() {
    let Some(lab) = Lab::new("device") else { return };
    let mut go = lab.owner("", "");
    let mut ues: Vec<_> = (1..=2).map(|n| lab.ue(n)).collect();
    go.start();
    ues.iter_mut().for_each(|ue| ue.start());
    go.await_members(2);
    ues.iter().for_each(Node::await_joined);
    let shows = |ue: &Node, link: &str| {
        ue.await_show("runtime", |s| s["runtime"]["data"]["tun"][2] == link);
    };

    shows(&ues[0], "up");
    ues[0].space.ip("link set pc5 down").unwrap();
    shows(&ues[0], "down");
    ues[0].space.ip("link set pc5 up").unwrap();
    shows(&ues[0], "up");
    assert!(ues[0].ping("10.77.0.2"), "{}", ues[0].story());

    ues[0].space.ip("link del pc5").unwrap();
    assert_eq!(ues[0].await_end(), Some(1), "{}", ues[0].log());
    let log = ues[0].log();
    assert!(log.contains("pc5: the device was removed") && log.contains("start it again"), "{log}");
    // Which is what systemd does.
    ues[0].start();
    ues[0].await_joined();
    assert!(ues[0].ping("10.77.0.2"), "{}", ues[0].story());
}

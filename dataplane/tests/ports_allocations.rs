//! Ports allocate nothing once they are warm. Over a veth pair, skipped where there can be none, and over loopback.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

mod counting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::io::af_packet::{AfPacket, Receive, Settings};
use pc5_dataplane::io::af_xdp::Queue;
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::io::udp::{self, Udp};
use pc5_dataplane::io::{PacketIo, Peers};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::Verdict;

fn id(n: u32) -> Layer2Id {
    Layer2Id::new(n).unwrap()
}

/// A burst of 64 frames, as if they had been sealed.
fn burst() -> Batch {
    let mut batch = Batch::new(64);
    for i in 0..64 {
        let mut f = Address::link(id(1), id(2)).ethernet_header().to_vec();
        f.extend([1, 0, 0x60, 0, 7, 0, 0]);
        f.resize(64 + i % 3 * 200, i as u8);
        let slot = batch.push_frame(&f, Meta::default()).unwrap();
        let s = &mut batch.slots_mut()[slot];
        (s.len, s.verdict) = (f.len() as u32 - 21, Verdict::Accepted);
    }
    batch
}

/// Allocations of 50 bursts through warm ports.
fn allocations(near: &mut dyn PacketIo, far: &mut dyn PacketIo) -> u64 {
    let (frames, mut got) = (burst(), Batch::new(64));
    let mut round = || {
        assert_eq!(near.tx(&frames).unwrap().sent, 64);
        let (mut n, end) = (0, Instant::now() + Duration::from_secs(5));
        while n < 64 && Instant::now() < end {
            got.clear();
            n += far.rx(&mut got, Duration::from_millis(20)).unwrap();
        }
        assert_eq!(n, 64);
        // Far from busy: a port that changes its way in may allocate.
        std::thread::sleep(Duration::from_millis(3));
    };
    for _ in 0..4 {
        round();
    }
    let before = counting::allocations();
    for _ in 0..50 {
        round();
    }
    near.counters();
    far.counters();
    counting::allocations() - before
}

#[test]
fn ports_on_an_interface_allocate_nothing() {
    let test = "ports_on_an_interface_allocate_nothing";
    let (Some(a), Some(b)) = (Namespace::or_skip(test), Namespace::or_skip(test)) else { return };
    a.wire("air0", &b, "air1").unwrap();
    for receive in [Receive::Adaptive, Receive::FRAMES, Receive::BLOCKS, Receive::Socket] {
        for xdp in [None, Some(Queue::default())] {
            let open = |ns: &Namespace, name: &str, tag| {
                let settings = Settings { receive, xdp, tag, ..Settings::new(name) };
                ns.inside(|| AfPacket::open(&settings)).unwrap().unwrap()
            };
            let (mut near, mut far) = (open(&a, "air0", Some(5)), open(&b, "air1", None));
            assert_eq!(allocations(&mut near, &mut far), 0, "{receive:?} {xdp:?}");
        }
    }
}

#[test]
fn udp_ports_allocate_nothing() {
    for offload in [true, false] {
        let open = |peers: Vec<(Layer2Id, SocketAddr)>| {
            let bind = "127.0.0.1:0".parse().unwrap();
            Udp::open(&udp::Settings { bind, peers: Peers::new(peers), offload }).unwrap()
        };
        let mut far = open(vec![]);
        let mut near = open(vec![(id(1), far.local().unwrap())]);
        assert_eq!(allocations(&mut near, &mut far), 0, "offload {offload}");
    }
}

//! An owner with two workers: members of both talk with each other, in order, and every worker has its input.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::lab::{Lab, MULTICAST, Node, listener, listener_at, octets, pc5, said, talker};

/// Numbered datagrams from one UE to another while session and group keys change.
const DATAGRAMS: u32 = 4_000;

#[test]
fn two_workers_bridge_between_their_members_in_order() {
    let Some(lab) = Lab::new("workers") else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("workers: skipped, one processor");
        return;
    }
    let mut go = lab.owner("workers = 2", "");
    let mut ues: Vec<Node> = (1..=3).map(|n| lab.ue(n)).collect();
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);

    // 000001, 000002 and what goes to the group belong to one worker, 000003 to the other.
    for (from, to) in [(0, "10.77.0.2"), (1, "10.77.0.3"), (2, "10.77.0.1")] {
        assert!(ues[from].ping(to), "{}", go.story());
    }
    let admin = go.admin.to_str().unwrap().to_owned();
    let socket = listener_at(&ues[2], 7_002);
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let sender = talker(&ues[0], 1);
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut got, mut buffer) = (Vec::new(), [0; 2_048]);
            let began = Instant::now();
            while got.len() < DATAGRAMS as usize && began.elapsed() < Duration::from_secs(30) {
                if let Ok(n) = socket.recv(&mut buffer) {
                    assert_eq!(n, 600);
                    got.push(u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
                }
            }
            got
        });
        let mut datagram = octets(600);
        for n in 0..DATAGRAMS {
            datagram[..4].copy_from_slice(&n.to_be_bytes());
            sender.send_to(&datagram, SocketAddr::from(([10, 77, 0, 3], 7_002))).unwrap();
            if n % 20 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if n == DATAGRAMS / 2 {
                for args in
                    [&["group", "rekey"][..], &["link", "rekey", "000001"], &["link", "rekey", "000003"]]
                {
                    let out = pc5(lab.folder(), &[args, &["--admin", &admin]].concat());
                    assert!(out.status.success(), "{}", said(&out));
                }
            }
        }
        receiver.join().unwrap()
    });
    assert!(received.is_sorted(), "out of order");
    assert_eq!(received.len(), DATAGRAMS as usize, "{}", go.story());

    // Group data, by whichever worker has the owner's group context.
    let sockets: Vec<_> = (1u8..=3).zip(&ues).map(|(n, ue)| listener(ue, n)).collect();
    for n in 1..=3u8 {
        let datagram = octets(900);
        talker(&ues[n as usize - 1], n).send_to(&datagram, SocketAddr::from((MULTICAST, 7_000))).unwrap();
        for (other, socket) in (1u8..).zip(&sockets).filter(|(other, _)| *other != n) {
            let mut buffer = [0; 2_048];
            let began = Instant::now();
            let mut heard = false;
            while !heard && began.elapsed() < Duration::from_secs(5) {
                heard = socket.recv(&mut buffer).is_ok_and(|len| buffer[..len] == datagram);
            }
            assert!(heard, "from {n} to {other}\n{}", go.story());
        }
    }

    let runtime = go.assert_adds_up();
    let workers = runtime["data"]["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{runtime:#}");
    for worker in workers {
        assert!(worker["received"].as_u64().unwrap() > 5, "a worker without input: {runtime:#}");
        assert!(worker["sealed"].as_u64().unwrap() > 5, "{runtime:#}");
    }
    assert_ne!(workers[0]["processor"], workers[1]["processor"], "pinned: {runtime:#}");
    assert_eq!(runtime["data"]["handover_overload"], 0);

    // An eviction by one worker's table is known to the other.
    let out = pc5(lab.folder(), &["group", "evict", "pc5:001-01:ue:ue-3", "--admin", &admin]);
    assert!(out.status.success(), "{}", said(&out));
    go.await_members(2);
    assert!(!ues[1].ping("10.77.0.3"), "the evicted one is still reached");
    assert!(ues[0].ping("10.77.0.2"), "{}", go.story());
    for node in ues.iter_mut().chain([&mut go]) {
        assert!(node.stop(), "{}", node.story());
    }
}

#[test]
fn a_worker_without_input_is_refused() {
    let Some(lab) = Lab::new("workers") else { return };
    let refused = |node: &Node, because: &str| {
        let out = pc5(lab.folder(), &["check", node.config.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(1));
        assert!(said(&out).contains(because), "{}", said(&out));
    };
    refused(&lab.owner("workers = 2", "max_members = 1"), "the others would have no input");
    let ue = lab.ue(1);
    let text = std::fs::read_to_string(&ue.config).unwrap();
    std::fs::write(&ue.config, format!("workers = 2\n{text}")).unwrap();
    refused(&ue, "a UE has one link");
    std::fs::write(&ue.config, format!("workers = 0\n{text}")).unwrap();
    refused(&ue, "write 1 to 64");
}

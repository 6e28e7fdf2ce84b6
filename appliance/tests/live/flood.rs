//! A hundred thousand forged joins: the three who are in there notice nothing, and the owner does not grow.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use pc5_control::codec::Body;
use pc5_control::codec::go::{JoinRequest, Message, Rejection};
use pc5_control::codec::segment::segment;
use pc5_control::credential::{LongTermKey, SoftwareKey};
use pc5_dataplane::pdu::Destination;
use rand_core::UnwrapErr;

use crate::lab::{Lab, Node};
use crate::raw::{GROUP_ID, OWNER, Wire, clear_frame, id};
use crate::traffic::Random;

const FORGED: usize = 100_000;

/// Requests that cost as much as they can: good points, cookies that are none, sources of members and of nobody.
fn forge(random: &mut Random, points: &[p256::PublicKey]) -> Vec<u8> {
    let source = match random.below(8) {
        0 => 1 + random.below(3),
        _ => 1 + random.below(0xff_0000),
    };
    let mut nonce_1 = [0; 16];
    nonce_1[..8].copy_from_slice(&random.below(u64::from(u32::MAX)).to_be_bytes());
    let cookie = (random.below(2) == 0).then_some(nonce_1);
    let e_m = points[random.below(points.len() as u64) as usize];
    let body = match random.below(10) {
        // A refusal of nobody's join.
        0 => Body::Reject(Rejection { nonce_1, cause: 0x80 + random.below(19) as u8, tag: None }),
        _ => Body::JoinRequest(JoinRequest {
            group: GROUP_ID,
            nonce_1,
            msb: 1,
            e_m,
            suites: vec![0x55, 0x44],
            cookie,
        }),
    };
    let message = Message { seq: random.below(65_536) as u16, body }.encode().unwrap();
    let whole = &segment(&message, 1_400).unwrap()[0];
    let mut sdu = whole.to_vec();
    match random.below(10) {
        // The first of two parts, whose second never comes.
        0 => sdu[6] = 1,
        // A JOIN_AUTHENTICATE of nobody's.
        1 => sdu[0] = 0x83,
        _ => {}
    }
    clear_frame(Destination::Ue(id(OWNER)), source as u32, &sdu)
}

#[test]
fn forged_joins_cost_members_nothing() {
    let Some(lab) = Lab::new("flood") else { return };
    let mut go = lab.owner("", "");
    let mut ues: Vec<_> = (1..=3).map(|n| lab.ue(n)).collect();
    let stranger = lab.station("stranger");
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);

    let mut random = Random::new();
    eprintln!("flood: seed {}", random.seed());
    let points: Vec<_> =
        (0..16).map(|_| *SoftwareKey::generate(&mut UnwrapErr(SysRng)).public_key()).collect();
    let mut wire = Wire::new(&stranger, "eth0");
    let mut forge_some = |n: usize| {
        let began = Instant::now();
        for i in 0..n {
            wire.send(&forge(&mut random, &points));
            // 10,000 a second, in bursts.
            if i % 50 == 49 {
                let due = Duration::from_micros(100) * i as u32;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        began.elapsed()
    };
    // What there is at most under way is under way then.
    forge_some(FORGED / 5);
    let memory = go.memory();
    let pings: Vec<_> = [(0, 2u8), (1, 3), (2, 1)]
        .map(|(from, to)| {
            let to = format!("10.77.0.{to}");
            let args = [
                "netns",
                "exec",
                ues[from].space.name(),
                "ping",
                "-n",
                "-q",
                "-i",
                "0.05",
                // By number, not by time: the last ones are waited for.
                "-c",
                "150",
                "-W",
                "2",
            ];
            Command::new("ip").args(args).arg(&to).stdout(Stdio::piped()).spawn().unwrap()
        })
        .into();
    let took = forge_some(FORGED - FORGED / 5);
    for ping in pings {
        let out = ping.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        eprintln!("flood: {}", said.lines().skip(2).collect::<Vec<_>>().join("; "));
        assert!(said.contains(" 0% packet loss"), "{said}\n{}", go.story());
    }
    let grown = go.memory().saturating_sub(memory);
    let runtime = go.assert_adds_up();
    eprintln!(
        "flood: {FORGED} forged joins, the last {} in {took:.1?}; the owner has {memory} KiB, {grown} KiB more at the end; {} {:?}",
        FORGED - FORGED / 5,
        runtime["notices"],
        go.drops()
    );
    assert!(grown < 2_048, "{grown} KiB more");
    // What strangers cause is counted; in the log it is a line a second of each cause at most.
    assert!(runtime["notices"]["peer_refused"].as_u64().unwrap() > 100, "{}", runtime["notices"]);
    let log = go.log();
    assert!(!log.contains("the other side refuses"), "{log}");
    assert!(log.lines().count() < 2_000, "{} lines", log.lines().count());
    let began = Instant::now();
    let groups = go.show("groups").unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(groups["groups"][0]["members"], 3, "{groups:#}");
    assert!(groups["groups"][0]["joining"].as_u64().unwrap() <= 1_024);
    // Who has a certificate still gets in.
    let mut late = lab.ue(4);
    late.start();
    go.await_members(4);
    assert!(late.ping("10.77.0.1"), "{}", late.story());
}

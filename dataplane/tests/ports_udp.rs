//! The UDP port over loopback, and over a veth pair where namespaces can be made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::io::udp::{Settings, Udp};
use pc5_dataplane::io::{PacketIo, Peers, Share, TxOutcome};
use pc5_dataplane::pdu::{Address, parse};
use pc5_dataplane::verdict::Verdict;

const SOON: Duration = Duration::from_millis(100);

fn id(n: u32) -> Layer2Id {
    Layer2Id::new(n).unwrap()
}

/// A frame of `len` octets without padding, with a serial number behind its headers.
fn frame(address: Address, lcid: u8, serial: u32, len: usize) -> Vec<u8> {
    let sdu_type = if lcid < 28 { 3 } else { 2 };
    let key_id = if lcid == 28 { 0 } else { 7 };
    let mut f = address.ethernet_header().to_vec();
    f.extend([lcid, if len < 60 { (len - 16) as u8 } else { 0 }, sdu_type << 5, 0, key_id, 0, 0]);
    f.extend(serial.to_be_bytes());
    f.resize(len, serial as u8);
    f
}

fn sealed(frames: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new(1_024);
    for f in frames {
        let slot = batch.push_frame(f, Meta::default()).unwrap();
        let s = &mut batch.slots_mut()[slot];
        (s.len, s.verdict) = (f.len() as u32 - 21, Verdict::Accepted);
    }
    batch
}

/// Receives until nothing comes for a while, or `most` frames; with where they came from.
fn drain_from(port: &mut Udp, most: usize, slots: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut all = Vec::new();
    let mut batch = Batch::new(slots);
    let end = Instant::now() + Duration::from_secs(5);
    while all.len() < most && Instant::now() < end {
        batch.clear();
        if port.rx(&mut batch, SOON).unwrap() == 0 {
            break;
        }
        all.extend((0..batch.len()).map(|i| (batch.received(i).to_vec(), port.origin(i).unwrap())));
    }
    all
}

fn drain(port: &mut Udp, most: usize) -> Vec<Vec<u8>> {
    drain_from(port, most, 64).into_iter().map(|(f, _)| f).collect()
}

fn sent(n: u64) -> TxOutcome {
    TxOutcome { sent: n, ..TxOutcome::default() }
}

fn local(ip: &str, peers: Peers, offload: bool) -> Udp {
    let bind = SocketAddr::new(ip.parse().unwrap(), 0);
    Udp::open(&Settings { bind, peers, offload }).unwrap()
}

fn at(port: &Udp) -> SocketAddr {
    port.local().unwrap()
}

/// To Layer-2 id `to` from Layer-2 id `from`.
fn link(to: u32, from: u32) -> Address {
    Address::link(id(to), id(from))
}

#[test]
fn frames_cross_whole_and_in_order() {
    for offload in [true, false] {
        for ip in ["127.0.0.1", "::1"] {
            let mut near = local(ip, Peers::new([]), offload);
            let far_peers = Peers::new([]);
            let mut far = local(ip, far_peers, offload);
            near.learn(id(1), at(&far));
            // Runs, shorter ends, single ones, and none of them padded.
            let lengths = [21, 28, 60, 60, 60, 59, 100, 100, 101, 1_400, 1_400, 9_000, 65_000, 22];
            let frames: Vec<_> = (0..400)
                .map(|i| frame(link(1, 2), 1, i, lengths[i as usize / 7 % lengths.len()].max(25)))
                .collect();
            for part in frames.chunks(50) {
                assert_eq!(near.tx(&sealed(part)).unwrap(), sent(50));
                // A batch smaller than a message: the rest of it waits for the next one.
                let got = drain_from(&mut far, 50, 3);
                assert!(got.iter().all(|(_, from)| *from == at(&near)));
                let got: Vec<_> = got.into_iter().map(|(f, _)| f).collect();
                assert_eq!(got, part, "{ip} offload {offload}");
            }
            let counters = far.counters();
            assert_eq!((counters.received, counters.kernel_drops, counters.refused), (400, 0, 0));
        }
    }
}

#[test]
fn an_address_is_learnt_only_when_said_and_claimed_only_for_the_first_messages() {
    let mut member = local("127.0.0.1", Peers::new([]), true);
    let mut owner = local("127.0.0.1", Peers::new([]), true);
    member.learn(id(9), at(&owner));
    member.tx(&sealed(&[frame(link(9, 2), 1, 1, 80)])).unwrap();
    let (_, from) = drain_from(&mut owner, 1, 8)[0];
    assert_eq!(from, at(&member));
    let lost = TxOutcome { no_address: 1, ..TxOutcome::default() };
    for lcid in [1, 28, 29, 30] {
        assert_eq!(owner.tx(&sealed(&[frame(link(2, 9), lcid, 1, 80)])).unwrap(), lost, "LCID {lcid}");
    }
    // A message without protection, or the one that sets protection up, is answered where it came from.
    member.tx(&sealed(&[frame(link(9, 2), 28, 1, 80)])).unwrap();
    assert_eq!(drain(&mut owner, 1).len(), 1);
    for (lcid, outcome) in [(1, lost), (28, sent(1)), (29, sent(1)), (30, lost)] {
        assert_eq!(owner.tx(&sealed(&[frame(link(2, 9), lcid, 1, 80)])).unwrap(), outcome, "LCID {lcid}");
    }
    assert_eq!(drain(&mut member, 2).len(), 2);
    owner.learn(id(2), from);
    assert_eq!(owner.tx(&sealed(&[frame(link(2, 9), 30, 1, 80)])).unwrap(), sent(1));
    assert_eq!(drain(&mut member, 1).len(), 1);

    // A liar's claim neither takes the member's frames nor its answers away.
    let mut liar = local("127.0.0.1", Peers::new([(id(9), at(&owner))]), true);
    liar.tx(&sealed(&[frame(link(9, 2), 28, 1, 80)])).unwrap();
    assert_eq!(drain(&mut owner, 1).len(), 1);
    assert_eq!(
        owner.tx(&sealed(&[frame(link(2, 9), 28, 1, 80), frame(link(2, 9), 1, 2, 80)])).unwrap(),
        sent(2)
    );
    assert_eq!(drain(&mut member, 2).len(), 2);
    assert_eq!(drain(&mut liar, 2).len(), 1, "the unprotected answer only");
}

#[test]
fn a_group_frame_goes_once_to_each_peer() {
    let mut members: Vec<_> = (0..3).map(|_| local("127.0.0.1", Peers::new([]), true)).collect();
    let mut peers: Vec<_> = members.iter().zip(1..).map(|(m, n)| (id(n), at(m))).collect();
    // Two ids behind the first address.
    peers.push((id(77), at(&members[0])));
    let mut owner = local("127.0.0.1", Peers::new(peers), true);
    let group = Address::group(GroupId::new(0xf0_0001).unwrap(), id(9));
    let frames: Vec<_> = (0..20)
        .map(|i| if i % 4 == 3 { frame(link(2, 9), 1, i, 70) } else { frame(group, 1, i, 70) })
        .collect();
    assert_eq!(owner.tx(&sealed(&frames)).unwrap(), sent(20));
    for (n, member) in members.iter_mut().enumerate() {
        let mut got = drain(member, 20);
        got.sort();
        let mut want: Vec<_> = frames.iter().filter(|f| f[0] & 1 == 1 || n == 1).cloned().collect();
        want.sort();
        assert_eq!(got, want, "member {n}");
    }
    let mut alone = local("127.0.0.1", Peers::new([]), true);
    assert_eq!(alone.tx(&sealed(&frames)).unwrap().no_address, 20);
}

#[test]
fn what_does_not_fit_is_named_and_the_rest_goes() {
    let mut far = local("127.0.0.1", Peers::new([]), true);
    let mut near = local("127.0.0.1", Peers::new([(id(1), at(&far))]), true);
    let lengths = [100, 65_507, 65_508, 100, 100, 90_000, 100];
    let frames: Vec<_> = (0..7).map(|i| frame(link(1, 2), 1, i, lengths[i as usize])).collect();
    let outcome = near.tx(&sealed(&frames)).unwrap();
    assert_eq!((outcome.sent, outcome.too_long, outcome.total()), (5, 2, 7));
    assert_eq!(drain(&mut far, 5).len(), 5);
    // Nobody listens there: the system says so on a later call, and that is no reason to stop.
    drop(far);
    for _ in 0..3 {
        near.tx(&sealed(&[frame(link(1, 2), 1, 1, 100)])).unwrap();
        near.rx(&mut Batch::new(4), Duration::from_millis(1)).unwrap();
    }
}

/// Two namespaces joined by a veth pair, 10.9.0.1 and 10.9.0.2.
fn wire(test: &str) -> Option<(Namespace, Namespace)> {
    let a = Namespace::or_skip(test)?;
    let b = Namespace::or_skip(test)?;
    a.wire("air0", &b, "air1").unwrap();
    a.ip("addr add 10.9.0.1/24 dev air0").unwrap();
    b.ip("addr add 10.9.0.2/24 dev air1").unwrap();
    Some((a, b))
}

#[test]
fn signalling_and_workers_have_sockets_of_their_own() {
    let Some((a, b)) = wire("signalling_and_workers_have_sockets_of_their_own") else { return };
    let near = Peers::new([(id(0xff_fffe), "10.9.0.2:34997".parse().unwrap())]);
    let (mut near_calls, mut near_data) =
        a.inside(|| Udp::open_shared(&Settings::new(near), 1)).unwrap().unwrap();
    let (mut calls, mut data) =
        b.inside(|| Udp::open_shared(&Settings::new(Peers::new([])), 3)).unwrap().unwrap();
    let mut want = 0;
    for round in 0..10u32 {
        // Runs for the kernel to cut and join, by sender.
        let frames: Vec<_> = (0..120).map(|i| frame(link(0xff_fffe, 1 + i / 10), 1, round, 100)).collect();
        assert_eq!(near_data[0].tx(&sealed(&frames)).unwrap(), sent(120));
        let call = [frame(link(0xff_fffe, 1), 28 + (round % 3) as u8, round, 100)];
        assert_eq!(near_calls.tx(&sealed(&call)).unwrap(), sent(1));
        want += 120;
    }
    let got = drain(&mut calls, 10);
    assert_eq!(got.len(), 10);
    assert!(got.iter().all(|f| (28..=30).contains(&f[14])));
    // The kernel joins runs whatever frames are in them; a port gets what belongs to it by way of the others, too.
    let mut total = 0;
    for _ in 0..3 {
        for (worker, port) in data.iter_mut().enumerate() {
            for f in drain(port, want) {
                let header = parse(&f).unwrap();
                assert!(header.lcid.is_user());
                assert_eq!(Share::owner(header.address, 3), worker);
                total += 1;
            }
        }
    }
    assert_eq!(total, want);
}

#[test]
fn data_that_overflow_cost_no_signalling() {
    let Some((a, b)) = wire("data_that_overflow_cost_no_signalling") else { return };
    let peers = Peers::new([(id(0xff_fffe), "10.9.0.2:34997".parse().unwrap())]);
    let near = Settings { offload: false, ..Settings::new(peers) };
    let mut near = a.inside(|| Udp::open(&near)).unwrap().unwrap();
    let (mut calls, mut data) =
        b.inside(|| Udp::open_shared(&Settings::new(Peers::new([])), 1)).unwrap().unwrap();
    // Nobody reads: what does not fit the buffer of the data socket is lost, and counted.
    let flood: Vec<_> = (0..500).map(|i| frame(link(0xff_fffe, 2), 1, i, 1_000)).collect();
    let (flood, mut asked, mut offered) = (sealed(&flood), Vec::new(), 0);
    for round in 0..200 {
        offered += near.tx(&flood).unwrap().sent;
        asked.push(frame(link(0xff_fffe, 2), 28 + (round % 3) as u8, round, 90));
        assert_eq!(near.tx(&sealed(&asked[round as usize..])).unwrap(), sent(1));
        if round > 20 && data[0].counters().kernel_drops > 1_000 {
            break;
        }
    }
    assert_eq!(drain(&mut calls, asked.len()), asked);
    assert_eq!(calls.counters().kernel_drops, 0);
    let got = drain(&mut data[0], offered as usize).len() as u64;
    let counters = data[0].counters();
    assert!(counters.kernel_drops > 1_000, "{counters:?}");
    assert_eq!((counters.received, counters.received + counters.kernel_drops), (got, offered));
}

#[test]
fn frames_longer_than_the_path_arrive_all_the_same() {
    let Some((a, b)) = wire("frames_longer_than_the_path_arrive_all_the_same") else { return };
    let near = Peers::new([(id(1), "10.9.0.2:34997".parse().unwrap())]);
    let mut near = a.inside(|| Udp::open(&Settings::new(near))).unwrap().unwrap();
    let mut far = b.inside(|| Udp::open(&Settings::new(Peers::new([])))).unwrap().unwrap();
    for len in [1_480, 3_000, 100] {
        let frames: Vec<_> = (0..30).map(|i| frame(link(1, 2), 1, i, len)).collect();
        for _ in 0..2 {
            assert_eq!(near.tx(&sealed(&frames)).unwrap(), sent(30), "{len}");
            assert_eq!(drain(&mut far, 30), frames, "{len}");
        }
    }
    a.ip("link set air0 down").unwrap();
    let outcome = near.tx(&sealed(&[frame(link(1, 2), 1, 1, 100)])).unwrap();
    assert_eq!((outcome.link_down, outcome.total()), (1, 1));
    a.ip("link set air0 up").unwrap();
    assert_eq!(near.tx(&sealed(&[frame(link(1, 2), 1, 1, 100)])).unwrap(), sent(1));
    assert_eq!(drain(&mut far, 1).len(), 1);
}

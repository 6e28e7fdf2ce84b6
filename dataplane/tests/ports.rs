//! Packet ports over veth pairs in namespaces of their own. Skipped, with the reason printed, where there can be none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::ids::{GroupId, Layer2Id, Lcid, SduType};
use pc5_dataplane::io::af_packet::{AfPacket, Receive, Settings};
use pc5_dataplane::io::af_xdp::Queue;
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::io::pnet::Pnet;
use pc5_dataplane::io::probe::{self, Choice, Request, Way};
use pc5_dataplane::io::steer::{Standing, Steer, Steering};
use pc5_dataplane::io::tun::{Kind, Tun, fitting_mtu};
use pc5_dataplane::io::{Interface, Link, PacketIo, Share, Traffic, TxOutcome};
use pc5_dataplane::pdu::{Address, parse};
use pc5_dataplane::suite::Suite;
use pc5_dataplane::verdict::Verdict;

const SOON: Duration = Duration::from_millis(100);

fn id(n: u32) -> Layer2Id {
    Layer2Id::new(n).unwrap()
}

fn link() -> Address {
    Address::link(id(0xff_fffe), id(1))
}

/// A frame of `len` octets with a serial number behind its headers.
fn frame(address: Address, lcid: u8, serial: u32, len: usize) -> Vec<u8> {
    let sdu_type = if lcid < 28 { 3 } else { 2 };
    let key_id = if lcid == 28 { 0 } else { 7 };
    let mut f = address.ethernet_header().to_vec();
    f.extend([lcid, if len < 60 { (len - 16) as u8 } else { 0 }, sdu_type << 5, 0, key_id, 0, 0]);
    f.extend(serial.to_be_bytes());
    f.resize(len, serial as u8);
    f
}

/// Frames as if they had been sealed.
fn sealed(frames: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new(frames.len());
    for f in frames {
        let slot = batch.push_frame(f, Meta::default()).unwrap();
        let s = &mut batch.slots_mut()[slot];
        (s.len, s.verdict) = (f.len() as u32 - 21, Verdict::Accepted);
    }
    batch
}

/// Receives until nothing comes for a while, or `most` frames.
fn drain(port: &mut dyn PacketIo, most: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut batch = Batch::new(64);
    let end = Instant::now() + Duration::from_secs(5);
    // On a loaded machine the kernel's own thread may be late: one silence is not the end.
    let mut silences = 0;
    while all.len() < most && Instant::now() < end && silences < 4 {
        batch.clear();
        silences = if port.rx(&mut batch, SOON).unwrap() == 0 { silences + 1 } else { 0 };
        all.extend((0..batch.len()).map(|i| batch.received(i).to_vec()));
    }
    all
}

fn sent(n: u64) -> TxOutcome {
    TxOutcome { sent: n, ..TxOutcome::default() }
}

/// Two namespaces, `a` and `b`, with interfaces of the same names.
fn wire(test: &str) -> Option<(Namespace, Namespace)> {
    let a = Namespace::or_skip(test)?;
    let b = Namespace::or_skip(test)?;
    a.wire("air0", &b, "air1").unwrap();
    Some((a, b))
}

fn open(ns: &Namespace, settings: &Settings) -> AfPacket {
    ns.inside(|| AfPacket::open(settings)).unwrap().unwrap()
}

/// Ways in, and ways out.
const WAYS: [(Receive, Option<Queue>); 5] = [
    (Receive::Adaptive, None),
    (Receive::BLOCKS, None),
    (Receive::FRAMES, None),
    (Receive::Socket, None),
    (Receive::BLOCKS, Some(Queue { index: 0, zero_copy: false })),
];

#[test]
fn frames_cross_in_order_and_are_counted() {
    let Some((a, b)) = wire("frames_cross_in_order_and_are_counted") else { return };
    for (receive, xdp) in WAYS {
        let mut near = open(&a, &Settings { receive, xdp, ..Settings::new("air0") });
        let mut far = open(&b, &Settings { receive, xdp, ..Settings::new("air1") });
        let frames: Vec<_> = (0..600).map(|i| frame(link(), 1, i, 60 + i as usize % 1_455)).collect();
        let mut batch = sealed(&frames);
        batch.slots_mut()[3].verdict = Verdict::NoKey;
        assert_eq!(near.tx(&batch).unwrap(), sent(599), "{receive:?}");
        let got = drain(&mut far, 599);
        let want: Vec<_> = (0..600).filter(|&i| i != 3).map(|i| frames[i].clone()).collect();
        assert_eq!(got.len(), want.len(), "{receive:?}");
        assert_eq!(got, want, "{receive:?}");
        let counters = far.counters();
        assert_eq!((counters.received, counters.kernel_drops, counters.refused), (599, 0, 0));
        assert_eq!(near.counters().tx, sent(599));
        assert_eq!(near.counters().received, 0, "no copies of what went out");
        far.tx(&sealed(&frames[..2])).unwrap();
        assert_eq!(drain(&mut near, 2), frames[..2], "and back");
    }
}

#[test]
fn a_tag_is_put_on_what_leaves_and_taken_off_what_comes() {
    let Some((a, b)) = wire("a_tag_is_put_on_what_leaves_and_taken_off_what_comes") else { return };
    for (receive, xdp) in WAYS {
        let mut near = open(&a, &Settings { tag: Some(0x2005), xdp, ..Settings::new("air0") });
        let mut far = open(&b, &Settings { receive, xdp, ..Settings::new("air1") });
        let frames = [frame(link(), 1, 1, 60), frame(link(), 1, 2, 1_514)];
        let wire = Tcpdump::start(&b, "air1");
        assert_eq!(near.tx(&sealed(&frames)).unwrap(), sent(2));
        let got = drain(&mut far, 2);
        assert_eq!(got, frames, "{receive:?}");
        assert!(parse(&got[0]).is_ok());
        if let Some(octets) = wire.map(Tcpdump::stop) {
            let tagged = [&link().ethernet_header()[..12], &[0x81, 0, 0x20, 5, 0x88, 0xb5, 1]].concat();
            assert_eq!(octets.windows(tagged.len()).filter(|w| *w == tagged).count(), 2, "{receive:?}");
        }
    }
}

/// Captures two frames as they are on the wire; `None` where there is no tcpdump.
struct Tcpdump(std::process::Child);

impl Tcpdump {
    fn start(ns: &Namespace, interface: &str) -> Option<Self> {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let mut child = Command::new("ip")
            .args([
                "netns",
                "exec",
                ns.name(),
                "tcpdump",
                "--immediate-mode",
                "-c",
                "2",
                "-U",
                "-w",
                "-",
                "-i",
                interface,
            ])
            .args(["ether", "proto", "0x88b5", "or", "vlan"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = BufReader::new(child.stderr.take()?).lines().map_while(Result::ok);
        if said.any(|line| line.contains("listening on")) {
            std::thread::spawn(move || said.count());
            return Some(Self(child));
        }
        let _ = child.wait();
        eprintln!("no tcpdump: the tag on the wire is not looked at");
        None
    }

    fn stop(mut self) -> Vec<u8> {
        std::thread::sleep(SOON);
        // It ends by itself after two frames; if they did not come, now.
        let _ = self.0.kill();
        self.0.wait_with_output().unwrap().stdout
    }
}

#[test]
fn what_does_not_fit_is_named_and_the_rest_goes() {
    let Some((a, b)) = wire("what_does_not_fit_is_named_and_the_rest_goes") else { return };
    let mut far = open(&b, &Settings::new("air1"));
    for (_, xdp) in WAYS {
        let mut near = open(&a, &Settings { xdp, ..Settings::new("air0") });
        assert_eq!(near.max_frame(), 1_514);
        let frames: Vec<_> =
            [100, 1_514, 1_515, 9_000, 100].iter().map(|&len| frame(link(), 1, len as u32, len)).collect();
        let outcome = near.tx(&sealed(&frames)).unwrap();
        assert_eq!((outcome.sent, outcome.too_long, outcome.total()), (3, 2, 5));
        assert_eq!(drain(&mut far, 3).len(), 3);
    }
}

#[test]
fn other_ethertypes_are_not_seen() {
    let Some((a, b)) = wire("other_ethertypes_are_not_seen") else { return };
    let mut near = open(&a, &Settings::new("air0"));
    let mut far = open(&b, &Settings::new("air1"));
    let mut other = frame(link(), 1, 1, 80);
    other[12..14].copy_from_slice(&[0x88, 0xb6]);
    let mut frames = vec![other; 20];
    frames.push(frame(link(), 1, 2, 80));
    near.tx(&sealed(&frames)).unwrap();
    assert_eq!(drain(&mut far, 2), [frame(link(), 1, 2, 80)]);
    let counters = far.counters();
    assert!(counters.interface_drops >= 20, "nobody takes the others: {counters:?}");
    assert_eq!((counters.received, counters.kernel_drops), (1, 0));
    let again = far.counters().interface_drops;
    assert!(again < 2 * counters.interface_drops, "counted once: {again}");
}

#[test]
fn data_that_overflow_cost_no_signalling() {
    let Some((a, b)) = wire("data_that_overflow_cost_no_signalling") else { return };
    for receive in
        [Receive::Blocks { block_len: 1 << 16, blocks: 2, timer_ms: 1 }, Receive::Frames { frames: 64 }]
    {
        let mut near = open(&a, &Settings::new("air0"));
        let data = Settings { traffic: Traffic::Data, receive, ..Settings::new("air1") };
        let mut data = open(&b, &data);
        let signalling =
            Settings { traffic: Traffic::Signalling, receive: Receive::Socket, ..Settings::new("air1") };
        let mut signalling = open(&b, &signalling);
        let flood: Vec<_> = (0..2_000).map(|i| frame(link(), 1, i, 500)).collect();
        let calls: Vec<_> = (0..60).map(|i| frame(link(), 28 + (i % 3) as u8, i, 90)).collect();
        for (part, call) in flood.chunks(100).zip(calls.chunks(3)) {
            assert_eq!(near.tx(&sealed(part)).unwrap(), sent(100));
            assert_eq!(near.tx(&sealed(call)).unwrap(), sent(3));
        }
        assert_eq!(drain(&mut signalling, 60), calls, "{receive:?}");
        assert_eq!(signalling.counters().kernel_drops, 0);
        let got = drain(&mut data, 2_000).len() as u64;
        let counters = data.counters();
        assert!(counters.kernel_drops > 500, "{receive:?}: {counters:?}");
        assert_eq!(counters.received, got);
        assert_eq!(counters.received + counters.kernel_drops, 2_000, "{receive:?}: {counters:?}");
    }
}

#[test]
fn workers_share_frames_by_address_pair() {
    let Some((a, b)) = wire("workers_share_frames_by_address_pair") else { return };
    let mut near = open(&a, &Settings::new("air0"));
    let settings = Settings { traffic: Traffic::Data, ..Settings::new("air1") };
    let mut far = b.inside(|| AfPacket::open_shared(&settings, 3)).unwrap().unwrap();
    let addresses: Vec<_> = (1..=100)
        .map(|n| match n % 4 {
            0 => Address::group(GroupId::new(0xf0_0001).unwrap(), id(n)),
            _ => Address::link(id(0xff_fffe), id(n)),
        })
        .collect();
    let frames: Vec<_> = addresses.iter().map(|&a| frame(a, 1, 9, 100)).collect();
    for _ in 0..5 {
        assert_eq!(near.tx(&sealed(&frames)).unwrap(), sent(100));
    }
    let mut total = 0;
    for (worker, port) in far.iter_mut().enumerate() {
        let got = drain(port, 500);
        assert!(!got.is_empty());
        total += got.len();
        for f in got {
            assert_eq!(Share::owner(parse(&f).unwrap().address, 3), worker);
        }
    }
    assert_eq!(total, 500);
}

#[test]
fn a_link_that_gets_busy_and_quiet_again_loses_and_doubles_nothing() {
    let Some((a, b)) = wire("a_link_that_gets_busy_and_quiet_again_loses_and_doubles_nothing") else {
        return;
    };
    let mut near = open(&a, &Settings::new("air0"));
    let settings = Settings { traffic: Traffic::Data, ..Settings::new("air1") };
    for workers in [1, 2] {
        let mut far = b.inside(|| AfPacket::open_shared(&settings, workers)).unwrap().unwrap();
        let (mut sent_frames, mut received) = (0, 0);
        let mut last = [None; 4];
        let mut batch = Batch::new(256);
        let mut take = |far: &mut Vec<AfPacket>, wait| {
            let mut n = 0;
            for port in far {
                batch.clear();
                n += port.rx(&mut batch, wait).unwrap();
                for i in 0..batch.len() {
                    let f = batch.received(i);
                    let (of, serial) = (f[11] as usize, u32::from_be_bytes(f[21..25].try_into().unwrap()));
                    assert!(last[of] < Some(serial), "{:?} before {serial} of {of}", last[of]);
                    last[of] = Some(serial);
                }
            }
            n
        };
        // Bursts close on each other, then far apart, three times over.
        for _ in 0..3 {
            for (pause, until) in [(0, 300), (20, 400)] {
                let (began, before) = (Instant::now(), sent_frames);
                let end = began + Duration::from_millis(until);
                while Instant::now() < end {
                    let frames: Vec<_> = (0..64u32)
                        .map(|i| frame(Address::link(id(0xff_fffe), id(i % 4)), 1, sent_frames + i, 64))
                        .collect();
                    assert_eq!(near.tx(&sealed(&frames)).unwrap(), sent(64));
                    sent_frames += 64;
                    received += take(&mut far, Duration::ZERO);
                    std::thread::sleep(Duration::from_millis(pause));
                }
                let rate = f64::from(sent_frames - before) / began.elapsed().as_secs_f64();
                // A slow machine may be neither busy nor quiet.
                if pause == 0 && rate > 200_000.0 * workers as f64 {
                    assert!(far.iter().all(AfPacket::takes_blocks), "{rate} frames a second");
                } else if pause > 0 {
                    assert!(!far.iter().any(AfPacket::takes_blocks), "{rate} frames a second");
                }
            }
        }
        let end = Instant::now() + Duration::from_secs(5);
        while received < sent_frames as usize && Instant::now() < end {
            received += take(&mut far, Duration::from_millis(5));
        }
        let drops: u64 = far.iter_mut().map(|port| port.counters().kernel_drops).sum();
        assert_eq!((received, drops), (sent_frames as usize, 0), "{workers} workers");
    }
}

#[test]
fn a_link_that_goes_down_or_away_comes_back() {
    let Some((a, b)) = wire("a_link_that_goes_down_or_away_comes_back") else { return };
    for (receive, xdp) in WAYS {
        a.inside(|| {
            let mut near = AfPacket::open(&Settings { receive, xdp, ..Settings::new("air0") }).unwrap();
            let settings = Settings { receive, xdp, ..Settings::new("air1") };
            let mut far = b.inside(|| AfPacket::open(&settings)).unwrap().unwrap();
            let one = sealed(&[frame(link(), 1, 1, 100)]);
            near.tx(&one).unwrap();
            assert_eq!(drain(&mut far, 1).len(), 1);
            await_link(&mut near, Link::Up);
            await_link(&mut far, Link::Up);

            a.ip("link set air0 down").unwrap();
            assert_eq!(near.link(), Link::Down);
            let outcome = near.tx(&one).unwrap();
            assert_eq!((outcome.link_down, outcome.total()), (1, 1), "{receive:?}");
            assert!(drain(&mut near, 1).is_empty());
            a.ip("link set air0 up").unwrap();
            await_link(&mut near, Link::Up);
            assert_eq!(near.tx(&one).unwrap(), sent(1), "{receive:?}");
            assert_eq!(drain(&mut far, 1).len(), 1);
            far.tx(&one).unwrap();
            assert_eq!(drain(&mut near, 1).len(), 1);

            a.ip("link del air0").unwrap();
            assert_eq!(near.link(), Link::Gone);
            assert_eq!(near.tx(&one).unwrap().link_down, 1);
            assert!(drain(&mut near, 1).is_empty());
            a.wire("air0", &b, "air1").unwrap();
            let mut far = b.inside(|| AfPacket::open(&settings)).unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(250));
            // Idle, the port finds the interface anew by itself.
            assert!(drain(&mut near, 1).is_empty());
            await_link(&mut near, Link::Up);
            assert_eq!(near.tx(&one).unwrap(), sent(1));
            assert_eq!(drain(&mut far, 1).len(), 1);
            far.tx(&one).unwrap();
            assert_eq!(drain(&mut near, 1).len(), 1, "{receive:?}");
            assert_eq!(near.counters().received, 2);
        })
        .unwrap();
    }
}

/// The carrier is noticed a moment after the link is up.
fn await_link(port: &mut dyn PacketIo, state: Link) {
    let end = Instant::now() + Duration::from_secs(3);
    while port.link() != state && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(port.link(), state);
}

#[test]
fn pnet_is_a_port_like_the_others() {
    let Some((a, b)) = wire("pnet_is_a_port_like_the_others") else { return };
    a.inside(|| {
        let open = |settings: &Settings, share| Pnet::open(settings, share).unwrap();
        let mut near = open(&Settings { tag: Some(5), ..Settings::new("air0") }, Share::WHOLE);
        let data = Settings { traffic: Traffic::Data, ..Settings::new("air1") };
        let calls = Settings { traffic: Traffic::Signalling, ..Settings::new("air1") };
        let (mut data, mut calls) = b
            .inside(|| {
                let data = [0, 1].map(|worker| open(&data, Share { worker, workers: 2 }));
                (data, open(&calls, Share::WHOLE))
            })
            .unwrap();
        let addresses: Vec<_> = (1..=200).map(|n| Address::link(id(0xff_fffe), id(n))).collect();
        let frames: Vec<_> = addresses.iter().map(|&a| frame(a, 1, 9, 100)).collect();
        assert_eq!(near.tx(&sealed(&frames)).unwrap(), sent(200));
        assert_eq!(near.tx(&sealed(&[frame(link(), 28, 1, 60)])).unwrap(), sent(1));
        for (worker, port) in data.iter_mut().enumerate() {
            let got = drain(port, 200);
            let mine = addresses.iter().zip(&frames).filter(|(a, _)| Share::owner(**a, 2) == worker);
            assert_eq!(got, mine.map(|(_, f)| f.clone()).collect::<Vec<_>>());
            assert_eq!(port.counters().received, got.len() as u64);
        }
        assert_eq!(drain(&mut calls, 1), [frame(link(), 28, 1, 60)]);
        let outcome = near.tx(&sealed(&[frame(link(), 1, 1, 1_515)])).unwrap();
        assert_eq!((outcome.too_long, outcome.total()), (1, 1));
        assert!(drain(&mut near, 1).is_empty(), "no copies of what went out");

        let one = sealed(&[frame(link(), 28, 1, 100)]);
        a.ip("link set air0 down").unwrap();
        assert_eq!(near.tx(&one).unwrap().link_down, 1);
        assert!(drain(&mut near, 1).is_empty());
        a.ip("link set air0 up").unwrap();
        await_link(&mut near, Link::Up);
        assert_eq!(near.tx(&one).unwrap(), sent(1));
        assert_eq!(drain(&mut calls, 1).len(), 1);
    })
    .unwrap();
}

#[test]
fn programs_talk_through_a_device() {
    let test = "programs_talk_through_a_device";
    let Some(ns) = Namespace::or_skip(test) else { return };
    ns.inside(|| {
        let mtu = fitting_mtu(1_514, Suite::Aes256Gcm, Kind::Ip);
        assert_eq!((mtu, fitting_mtu(1_514, Suite::Aes256Gcm, Kind::Ethernet)), (1_477, 1_463));
        let mut tun = match Tun::open("ue%d", Kind::Ip, mtu) {
            Ok(tun) => tun,
            Err(e) => return eprintln!("{test} skipped: {e}"),
        };
        assert_eq!((tun.name(), Interface::find("ue0").unwrap().mtu), ("ue0", mtu));
        ns.ip("addr add 10.1.0.1/24 dev ue0").unwrap();
        let socket = std::net::UdpSocket::bind("10.1.0.1:7000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // One that the kernel has to cut, so that nothing longer than the MTU comes.
        socket.send_to(&[7; 3_000], "10.1.0.2:8000").unwrap();
        socket.send_to(b"ask", "10.1.0.2:8000").unwrap();
        let mut batch = Batch::new(16);
        let end = Instant::now() + Duration::from_secs(2);
        let is_ours = |sdu: &[u8]| (sdu[0] >> 4 == 4 && sdu[9] == 17).then(link);
        while batch.len() < 4 && Instant::now() < end {
            tun.rx(&mut batch, SOON, is_ours).unwrap();
        }
        assert_eq!(batch.len(), 4, "three fragments and a whole one");
        assert!((0..4).all(|i| batch.data(i).len() <= mtu));
        assert_eq!(batch.slots()[3].sdu_type, SduType::Ip);

        // The last one goes back, addresses turned round; the checksums stay right.
        let mut answer = batch.data(3).to_vec();
        let (source, destination) = (answer[12..16].to_vec(), answer[16..20].to_vec());
        answer[12..16].copy_from_slice(&destination);
        answer[16..20].copy_from_slice(&source);
        let ports: Vec<u8> = [&answer[22..24], &answer[20..22]].concat();
        answer[20..24].copy_from_slice(&ports);
        batch.clear();
        for (sdu, sdu_type) in
            [(&answer[..], SduType::Ip), (b"\0no packet", SduType::Ip), (&answer, SduType::NonIp)]
        {
            let slot = batch.push_sdu(link(), Lcid::USER, sdu_type, sdu, Meta::default()).unwrap();
            batch.slots_mut()[slot].verdict = Verdict::Accepted;
        }
        let outcome = tun.tx(&batch).unwrap();
        assert_eq!((outcome.sent, outcome.failed()), (1, 1), "{outcome:?}");
        let mut got = [0; 16];
        let (n, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((&got[..n], from.to_string().as_str()), (&b"ask"[..], "10.1.0.2:8000"));
        assert_eq!(tun.counters().received, 4);

        let tap = Tun::open("tap0", Kind::Ethernet, 1_400).unwrap();
        assert_eq!((tap.mtu(), Interface::find("tap0").unwrap().mtu), (1_400, 1_400));
        drop(tap);
        assert!(Interface::find("tap0").is_err(), "gone with its port");
    })
    .unwrap();
}

#[test]
fn the_best_way_is_taken_and_says_what_it_lacks() {
    let Some((a, b)) = wire("the_best_way_is_taken_and_says_what_it_lacks") else { return };
    let request = |name: &str, choice| Request {
        choice,
        raw: Some(Settings::new(name)),
        udp: None,
        workers: 2,
        steer: Steer::Off,
    };
    let make = |ns: &Namespace, request: &Request| ns.inside(|| probe::open(request)).unwrap().unwrap();
    let ways = [Way::AfPacket, Way::Pnet, Way::AfXdp].map(Choice::Only);
    for choice in ways.into_iter().chain([Choice::Auto]) {
        let mut near = make(&a, &request("air0", choice));
        let mut far = make(&b, &request("air1", choice));
        assert!(choice == Choice::Only(near.way) || choice == Choice::Auto);
        if near.way == Way::AfXdp {
            // A veth pair has one queue: the second worker sends otherwise, and that is said.
            let [lack] = &near.refused[..] else { panic!("{:?}", near.refused) };
            assert!(lack.to_string().contains("AF_XDP"), "{lack}");
        } else {
            assert!(near.refused.is_empty() || choice == Choice::Auto, "{:?}", near.refused);
        }
        let frames: Vec<_> =
            (1..=40).map(|n| frame(Address::link(id(0xff_fffe), id(n)), 1, n, 200)).collect();
        for port in &mut near.data {
            assert_eq!(port.tx(&sealed(&frames)).unwrap(), sent(40), "{}", port.name());
        }
        near.signalling.tx(&sealed(&[frame(link(), 28, 1, 60)])).unwrap();
        assert_eq!(drain(far.signalling.as_mut(), 1).len(), 1);
        let got: usize = far.data.iter_mut().map(|port| drain(port.as_mut(), 80).len()).sum();
        assert_eq!(got, 80, "{choice:?}");
    }
}

/// `rps_cpus` of a receive queue, as `ip netns exec` shows it; written first, if there is something to write.
fn rps_cpus(ns: &Namespace, interface: &str, queue: usize, write: Option<&str>) -> String {
    let file = format!("/sys/class/net/{interface}/queues/rx-{queue}/rps_cpus");
    let script =
        write.map_or_else(|| format!("cat {file}"), |mask| format!("echo {mask} > {file} && cat {file}"));
    let out = std::process::Command::new("ip")
        .args(["netns", "exec", ns.name(), "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().replace(',', "").trim_start_matches('0').to_owned()
}

#[test]
fn receiving_is_steered_once_and_put_back() {
    let Some((a, b)) = wire("receiving_is_steered_once_and_put_back") else { return };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let open = |steer, workers| {
        let raw = Some(Settings::new("air1"));
        let request = Request { choice: Choice::Auto, raw, udp: None, workers, steer };
        b.inside(|| probe::open(&request)).unwrap().unwrap()
    };
    let now = || rps_cpus(&b, "air1", 0, None);
    let ports = open(Steer::Auto, 1);
    if processors > 1 {
        let Standing::To(cpus) = ports.steering.standing().clone() else {
            panic!("{}", ports.steering.standing())
        };
        let [cpu] = cpus[..] else { panic!("{cpus:?}") };
        assert_eq!(u64::from_str_radix(&now(), 16).unwrap(), 1 << cpu);
        // Frames come as ever, and a second port on the interface leaves alone what the first has set.
        let mut near = open_at(&a, Steer::Off);
        let mut far = ports;
        near.data[0].tx(&sealed(&[frame(link(), 1, 1, 200)])).unwrap();
        assert_eq!(drain(far.data[0].as_mut(), 1).len(), 1);
        let standing = b.inside(|| open(Steer::Auto, 1).steering.standing().clone()).unwrap();
        assert!(matches!(&standing, Standing::Left(why) if why.contains("already")), "{standing}");
        assert!(!now().is_empty(), "still set");
        drop(far);
    } else {
        assert!(matches!(ports.steering.standing(), Standing::Left(_)));
    }
    assert_eq!(now(), "", "put back");

    // Off, or a worker on each processor: nothing is touched.
    assert_eq!(open(Steer::Off, 1).steering.standing(), &Standing::Off);
    let ports = open(Steer::Auto, processors);
    assert!(matches!(ports.steering.standing(), Standing::Left(_)), "{}", ports.steering.standing());
    assert_eq!(now(), "");
    drop(ports);

    // Named processors are taken at their word, those that are not there are refused in words.
    let mut ports = open(Steer::To(vec![0]), processors);
    assert_eq!((ports.steering.standing(), now().as_str()), (&Standing::To(vec![0]), "1"));
    ports.steering.put_back().unwrap();
    assert_eq!(now(), "");
    let ports = open(Steer::To(vec![1_000]), 1);
    let Standing::Left(why) = ports.steering.standing() else { panic!("{}", ports.steering.standing()) };
    assert!(why.contains("as root: echo "), "{why}");
    drop(ports);

    // What an operator has set stays, before and after.
    assert_eq!(rps_cpus(&b, "air1", 0, Some("1")), "1");
    for steer in [Steer::Auto, Steer::All, Steer::To(vec![0])] {
        assert!(matches!(open(steer, 1).steering.standing(), Standing::Left(_)));
        assert_eq!(now(), "1");
    }
    rps_cpus(&b, "air1", 0, Some("0"));
    let ports = open(Steer::All, 1);
    assert!(matches!(ports.steering.standing(), Standing::To(cpus) if cpus.len() == processors));
    if processors > 1 {
        assert_eq!(rps_cpus(&b, "air1", 0, Some("2")), "2");
        drop(ports);
        assert_eq!(now(), "2", "set by somebody else since");
    }
}

fn open_at(ns: &Namespace, steer: Steer) -> probe::Ports {
    let request =
        Request { choice: Choice::Auto, raw: Some(Settings::new("air0")), udp: None, workers: 1, steer };
    ns.inside(|| probe::open(&request)).unwrap().unwrap()
}

#[test]
fn several_receive_queues_are_left_to_their_interrupts() {
    let Some((a, _b)) = wire("several_receive_queues_are_left_to_their_interrupts") else { return };
    a.ip("link add wide0 numrxqueues 2 type veth peer name wide1").unwrap();
    let set =
        |steer: Steer| a.inside(|| Steering::set(&Interface::find("wide0").unwrap(), &steer, 1)).unwrap();
    let auto = set(Steer::Auto);
    assert!(matches!(auto.standing(), Standing::Left(_)), "{}", auto.standing());
    let all = set(Steer::All);
    assert!(matches!(all.standing(), Standing::To(_)), "{}", all.standing());
    assert!((0..2).all(|queue| !rps_cpus(&a, "wide0", queue, None).is_empty()));
    drop(all);
    assert!((0..2).all(|queue| rps_cpus(&a, "wide0", queue, None).is_empty()));
}

#[test]
fn refusals_say_what_to_do() {
    let e = AfPacket::open(&Settings::new("no-such-0")).err().unwrap().to_string();
    assert!(e.contains("no-such-0") && e.contains("ip link"), "{e}");
}

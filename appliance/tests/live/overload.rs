//! At more than twice the load that an owner can take, new data frames give way, by name; keepalives, re-keyings and
//! operators get through.
//!
//! One sender offers more than an owner with a fast kernel refuses, so this one is slow: the portable kernel and a suite that costs
//! it tens of microseconds a frame.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::io::PacketIo;
use pc5_dataplane::io::af_packet::{AfPacket, Settings};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::Verdict;
use serde_json::Value;

use crate::lab::{Lab, Node, Text, long};
use crate::raw::{OWNER, id};

/// Where the portable kernel has most to do.
const SUITE: &str = "eea3-eia3";
/// Octets of a frame.
const LENGTH: usize = 1_400;
/// First SN of what is made up: ahead of everything that is sent, so that the window lets it through to the cipher.
const FIRST_SN: u16 = 0x4000;

const SHOW_DROPS: &str = r#"{"version":1,"ask":"show","what":"drops"}"#;
const SHOW_ALL: &str = r#"{"version":1,"ask":"show","what":"all"}"#;

/// User data on a member's live link whose MAC is wrong: it costs the owner the opening of a whole frame.
fn costly(key_id: u16) -> Batch {
    let mut batch = Batch::new(256);
    for sn in FIRST_SN..FIRST_SN + 256 {
        let mut frame = Address::link(id(OWNER), id(1)).ethernet_header().to_vec();
        frame.extend([1, 0, 0]);
        frame.extend(key_id.to_be_bytes());
        frame.extend(sn.to_be_bytes());
        frame.resize(LENGTH, 0x5a);
        let i = batch.push_frame(&frame, Meta::default()).unwrap();
        // As if it had been sealed.
        batch.slots_mut()[i].verdict = Verdict::Accepted;
    }
    batch
}

/// The newest KD-sess id of a UE's link.
fn key_id(ue: &Node) -> u16 {
    let (links, _) = ask(ue, r#"{"version":1,"ask":"show","what":"links"}"#);
    let links = links["shown"]["links"].as_array().unwrap().clone();
    // One that is being replaced is there as well, and takes frames for a while.
    let newest = links.iter().find(|l| l["phase"] == "active").or(links.first()).unwrap();
    u16::from_str_radix(newest["id"].as_str().unwrap(), 16).unwrap()
}

/// The calling thread goes before whatever else runs here: what is looked at is the owner, and nobody else's slowness.
fn hurry() {
    let task = std::fs::read_link("/proc/thread-self").unwrap();
    let task = task.file_name().unwrap().to_str().unwrap().to_owned();
    for args in [&["renice", "-n", "-19", "-p", &task][..], &["taskset", "-p", "-c", "1", &task]] {
        let done = Command::new(args[0]).args(&args[1..]).stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{args:?}");
    }
}

/// The answer to one question, and how long it took.
fn ask(node: &Node, line: &str) -> (Value, Duration) {
    let began = Instant::now();
    let mut stream = UnixStream::connect(&node.admin).unwrap();
    writeln!(stream, "{line}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    (serde_json::from_str(&answer).unwrap(), began.elapsed())
}

/// What an owner says of the frames that came to it.
struct Account {
    offered: u64,
    verified: u64,
    /// Reached the cipher and were found wrong.
    forged: u64,
    /// Shed by the kernel before they cost anything.
    shed: u64,
    /// All that were dropped, by whatever name.
    dropped: u64,
}

impl Account {
    fn of(go: &Node) -> Self {
        let (answer, _) = ask(go, SHOW_DROPS);
        let drops = &answer["shown"]["drops"];
        let totals = drops["totals"].as_object().unwrap();
        let one = |cause: &str| totals.get(cause).and_then(Value::as_u64).unwrap_or(0);
        let received = |cause: &str| {
            cause.starts_with("open ")
                || cause.ends_with(" kernel_drops")
                || cause.ends_with(" interface_drops")
                || cause.ends_with(" refused")
        };
        Self {
            offered: drops["offered"].as_u64().unwrap(),
            verified: drops["verified"].as_u64().unwrap(),
            forged: one("open forged"),
            shed: one("port-data kernel_drops") + one("port-data interface_drops"),
            dropped: totals.iter().filter(|(c, _)| received(c)).map(|(_, n)| n.as_u64().unwrap()).sum(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            offered: self.offered - before.offered,
            verified: self.verified - before.verified,
            forged: self.forged - before.forged,
            shed: self.shed - before.shed,
            dropped: self.dropped - before.dropped,
        }
    }
}

/// What was ordered under load, and when it had come to its end.
#[derive(Default)]
struct Orders {
    given: usize,
    links: [Option<Duration>; 3],
    group: Option<Duration>,
}

impl Orders {
    /// Gives the next order, if there is one left: each link is to be re-keyed, then the group.
    fn give(&mut self, go: &Node) {
        let line = match self.given {
            n @ 0..3 => {
                format!(r#"{{"version":1,"ask":"rekey_link","peer":"{:06x}","refresh":false}}"#, n + 1)
            }
            3 => r#"{"version":1,"ask":"rekey_group","group":null}"#.to_owned(),
            _ => return,
        };
        self.given += 1;
        let (answer, _) = ask(go, &line);
        assert!(answer["done"].is_string(), "{line}: {answer}");
    }

    fn look(&mut self, before: &Value, shown: &Value, at: Duration) {
        let members = |s: &Value| s["members"].as_array().unwrap().clone();
        for (done, (old, new)) in self.links.iter_mut().zip(members(before).iter().zip(&members(shown))) {
            assert_eq!(old["layer2"], new["layer2"]);
            let rekeyings = |m: &Value| m["rekeyings"].as_u64().unwrap();
            if done.is_none() && rekeyings(new) > rekeyings(old) {
                *done = Some(at);
            }
        }
        let group = |s: &Value, what: &str| s["groups"][0][what].as_u64().unwrap();
        if self.group.is_none()
            && group(shown, "epoch") > group(before, "epoch")
            && group(shown, "by_link") == 0
        {
            self.group = Some(at);
        }
    }

    fn all_done(&self) -> bool {
        self.group.is_some() && self.links.iter().all(Option::is_some)
    }
}

#[test]
fn new_data_gives_way_to_keepalives_rekeying_and_operators() {
    let Some(lab) = Lab::new("overload") else { return };
    // What others do here, before this test does anything.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load_before: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let has_taskset = Command::new("taskset").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !has_taskset || processors < 2 {
        eprintln!("overload: skipped, it wants taskset and two processors");
        return;
    }
    let lasts = Duration::from_secs(if long() { 20 } else { 5 });
    let mut go = lab.owner(
        "kernel = \"portable\"",
        &format!("keepalive = \"1s\"\nlost_after = \"4s\"\nsuite = \"{SUITE}\"\nlink_suites = [\"{SUITE}\"]"),
    );
    let mut ues: Vec<Node> = (1..=3)
        .map(|n| {
            let text = Text::ue(n);
            let tables = text.tables.replace("[tun]", &format!("suites = [\"{SUITE}\"]\n[tun]"));
            lab.node(&format!("ue-{n}"), "ue", &Text { tables, ..text })
        })
        .collect();
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(3);
    ues.iter().for_each(Node::await_joined);

    let pid = go.pid().unwrap().to_string();
    let pinned = Command::new("taskset").args(["-a", "-p", "-c", "0", &pid]).stdout(Stdio::null()).status();
    assert!(pinned.unwrap().success());
    let before = ask(&go, SHOW_ALL).0["shown"].clone();
    assert_eq!(before["runtime"]["data"]["kernels"][SUITE], "portable", "{before:#}");

    let key = AtomicU16::new(key_id(&ues[0]));
    let (go_on, stop, sent) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let mut orders = Orders::default();
    let (made, account, took, (mut answers, unanswered), idle) = std::thread::scope(|scope| {
        scope.spawn(|| {
            hurry();
            // The far end of the owner's wire, past the bridge: it would spend more on a frame than the owner.
            let mut port = lab.hub.inside(|| AfPacket::open(&Settings::new("go-1")).unwrap()).unwrap();
            while !go_on.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let (mut under, mut batch) = (0, Batch::new(1));
            let end = Instant::now() + 4 * lasts;
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                let newest = key.load(Ordering::Relaxed);
                if under != newest {
                    (under, batch) = (newest, costly(newest));
                }
                sent.fetch_add(port.tx(&batch).unwrap().sent, Ordering::Relaxed);
            }
        });
        hurry();
        // What an answer takes without load, on a machine that may have other things to do.
        let mut idle: Vec<Duration> = (0..20).map(|_| ask(&go, SHOW_ALL).1).collect();
        idle.sort();
        go_on.store(true, Ordering::Release);
        std::thread::sleep(Duration::from_millis(500));
        let (start, first, began) = (sent.load(Ordering::Relaxed), Account::of(&go), Instant::now());
        let (mut answers, mut unanswered) = (Vec::new(), 0);
        while began.elapsed() < lasts {
            let (answer, took) = ask(&go, SHOW_ALL);
            answers.push(took);
            match answer.get("shown") {
                // The worker did not say in time how it stands.
                None => unanswered += 1,
                Some(shown) => {
                    assert_eq!(shown["members"].as_array().unwrap().len(), 3, "{}", go.story());
                    orders.look(&before, shown, began.elapsed());
                }
            }
            orders.give(&go);
            // The load follows the link's key, or it would be told from real frames before the cipher.
            key.store(key_id(&ues[0]), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        let (last, took) = (Account::of(&go), began.elapsed());
        let made = sent.load(Ordering::Relaxed) - start;
        assert!(orders.all_done(), "not all orders done under load: {:?}\n{}", orders.links, go.story());
        for ue in &ues {
            let events = ue.show("runtime").unwrap()["runtime"]["notices"].clone();
            assert_eq!(events["joined"], 1, "{} kept its link: {events}", ue.name);
        }
        stop.store(true, Ordering::Relaxed);
        (made, last.since(&first), took, (answers, unanswered), idle[10])
    });
    answers.sort();
    let (median, worst) = (answers[answers.len() / 2], *answers.last().unwrap());
    let taken = account.offered - account.shed;
    let a_second = |n: u64| n as f64 / took.as_secs_f64() / 1e3;
    eprintln!(
        "overload: {:.1} k frames/s of {LENGTH} octets made, {:.1} k offered, {:.1} k taken ({:.1} k forged, {} \
         verified), {:.1} k shed as port-data kernel_drops: {:.1} times what it can take; {} answers, {unanswered} of \
         them without figures, median {median:?}, worst {worst:?}, without load {idle:?}; links re-keyed after {:.1?}, group after {:.1?}",
        a_second(made),
        a_second(account.offered),
        a_second(taken),
        a_second(account.forged),
        account.verified,
        a_second(account.shed),
        account.offered as f64 / taken as f64,
        answers.len(),
        orders.links.map(Option::unwrap),
        orders.group.unwrap(),
    );
    assert!(account.offered >= 2 * taken, "no overload");
    assert!(account.forged >= taken / 2, "what was taken did not cost what it should");
    assert_eq!(account.offered, account.verified + account.dropped, "every frame has a name");
    if load_before < processors as f64 {
        assert!(median < Duration::from_millis(100), "median {median:?}, worst {worst:?}");
        assert!(unanswered * 20 <= answers.len(), "{unanswered} of {} without figures", answers.len());
    } else {
        eprintln!(
            "overload: times of answers are not judged, {load_before} others wanted {processors} processors"
        );
    }
    let runtime = go.assert_adds_up();
    let signalling = &runtime["data"]["ports"][0];
    assert_eq!((&signalling["traffic"], &signalling["kernel_drops"]), (&"signalling".into(), &0.into()));

    // When it is over, data passes as before.
    assert!(ues[0].ping("10.77.0.2"), "{}", go.story());
    for node in ues.iter_mut().chain([&mut go]) {
        assert!(node.stop(), "{}", node.story());
    }
}

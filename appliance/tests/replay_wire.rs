//! `pc5 replay --to`: protected frames on a veth pair, received by a port and verified from a capture of what came.
//! Skipped, with the reason printed, where there can be no network namespace.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pc5_dataplane::batch::Batch;
use pc5_dataplane::io::PacketIo;
use pc5_dataplane::io::af_packet::{AfPacket, Settings};
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::pdu::parse;
use pc5_pcap::{Format, Interface, LinkType, Reader, Writer};
use serde_json::Value;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name)
}

fn pc5_in(ns: &Namespace, args: &[&str]) -> Output {
    let exec = ["netns", "exec", ns.name(), env!("CARGO_BIN_EXE_pc5")];
    Command::new("ip").args(exec).args(args).output().unwrap()
}

/// Two namespaces, `air0` in the first and `air1` in the second.
fn wire(test: &str) -> Option<(Namespace, Namespace)> {
    let (a, b) = (Namespace::or_skip(test)?, Namespace::or_skip(test)?);
    a.wire("air0", &b, "air1").unwrap();
    Some((a, b))
}

/// Runs a replay from `a` and gives its report, with the frames that came to `b` and when.
fn replay(a: &Namespace, b: &Namespace, args: &[&str]) -> (Value, Vec<(Vec<u8>, Duration)>) {
    let mut port = b.inside(|| AfPacket::open(&Settings::new("air1"))).unwrap().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut batch, mut got, began) = (Batch::new(64), Vec::new(), Instant::now());
            loop {
                let last = done.load(Ordering::Relaxed);
                batch.clear();
                let n = port.rx(&mut batch, Duration::from_millis(100)).unwrap();
                got.extend((0..n).map(|i| (batch.received(i).to_vec(), began.elapsed())));
                if last && n == 0 {
                    assert_eq!(port.counters().kernel_drops, 0);
                    return got;
                }
            }
        });
        let mut all = vec!["replay"];
        all.extend(args);
        all.extend(["--to", "air0", "-o", "json"]);
        let out = pc5_in(a, &all);
        done.store(true, Ordering::Relaxed);
        let got = receiver.join().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        (serde_json::from_slice(&out.stdout).unwrap(), got)
    })
}

fn captured(path: &Path) -> Vec<Vec<u8>> {
    let (mut reader, mut frames) = (Reader::open(path).unwrap(), Vec::new());
    while let Some(record) = reader.next().unwrap() {
        frames.push(record.data.to_vec());
    }
    frames
}

/// Octets that AES-256-GCM adds: PC5 headers and MAC field.
const OVERHEAD: usize = 37;
const LONGEST: usize = 1_514;

#[test]
fn what_is_put_on_the_wire_verifies_and_what_is_too_long_is_named() {
    let Some((a, b)) = wire("what_is_put_on_the_wire_verifies_and_what_is_too_long_is_named") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let input = sample("transfer.pcap");
    let frames = captured(&input);
    let fitting: Vec<_> = frames.iter().filter(|f| f.len() + OVERHEAD <= LONGEST).cloned().collect();
    assert!(!fitting.is_empty() && fitting.len() < frames.len(), "both kinds are there");
    for (op, workers) in [("protect", "1"), ("protect", "3"), ("bridge", "1"), ("bridge", "2")] {
        let (keys, air, back) = (at("keys"), at("air.pcapng"), at("back.pcapng"));
        let args =
            [input.to_str().unwrap(), "--op", op, "--workers", workers, "--keylog", &keys, "--signalling"];
        let (report, got) = replay(&a, &b, &args);
        assert_eq!(report["adds_up"], true);
        assert_eq!(report["frames"]["read"], frames.len());
        assert_eq!(report["frames"]["accepted"], fitting.len());
        assert_eq!(report["frames"]["dropped"]["too_long"], frames.len() - fitting.len());
        assert_eq!(report["wire"]["frames"], fitting.len());
        let (user, calls): (Vec<_>, Vec<_>) =
            got.into_iter().map(|(f, _)| f).partition(|f| parse(f).unwrap().lcid.is_user());
        assert_eq!(report["wire"]["signalling"], calls.len());
        assert!(!calls.is_empty(), "the keying is on the wire, too");

        let mut writer = Writer::create(Path::new(&air), Format::PcapNg).unwrap();
        let ethernet = Interface {
            link_type: LinkType::ETHERNET,
            ..Reader::open(&input).unwrap().interfaces()[0].clone()
        };
        writer.add_interface(&ethernet.carrier()).unwrap();
        for (frame, n) in user.iter().zip(0..) {
            writer.write(0, n, frame.len() as u32, frame).unwrap();
        }
        writer.finish().unwrap();
        let out = pc5_in(&a, &["replay", &air, "--op", "verify", "--keys", &keys, "--out", &back]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(captured(Path::new(&back)), fitting, "{op}, {workers} workers: all, whole and in order");
    }
}

#[test]
fn a_pace_is_kept_on_the_wire() {
    let Some((a, b)) = wire("a_pace_is_kept_on_the_wire") else { return };
    let input = sample("dns.pcap");
    let n = captured(&input).len() as u32;
    let args = [input.to_str().unwrap(), "--op", "protect", "--pace", "pps:500", "--loop", "2"];
    let (report, got) = replay(&a, &b, &args);
    assert_eq!((report["wire"]["frames"].as_u64(), got.len()), (Some(u64::from(2 * n)), 2 * n as usize));
    let due = 0.002 * f64::from(2 * n - 1);
    let took = report["timing"]["wall_s"].as_f64().unwrap();
    assert!(took >= due, "{took} s for frames of {due} s");
    // They come as they are due, not a batch at a time. A loaded machine may hold some of them up.
    let ways_through = [0.25, 0.5, 0.75].map(|part| got[(got.len() as f64 * part) as usize].1.as_secs_f64());
    let first = got[0].1.as_secs_f64();
    let last = got[got.len() - 1].1.as_secs_f64();
    let between = ways_through.iter().filter(|&&t| t > first && t < last - 0.01).count();
    assert!(between >= 2 && last - first > due / 2.0, "{first} {ways_through:?} {last}");
}

#[test]
fn refusals_say_what_to_do() {
    let run =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_pc5")).arg("replay").args(args).output().unwrap();
    let input = sample("dns.pcap");
    let input = input.to_str().unwrap();
    for (args, code, says) in [
        (vec![input, "--to", "lo"], 2, "--op protect or bridge"),
        (vec![input, "--op", "protect", "--to", "no-such-0"], 1, "no interface \"no-such-0\""),
    ] {
        let out = run(&args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

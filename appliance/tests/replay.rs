//! `pc5 replay` as a user runs it, over the committed samples.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pc5_dataplane::suite::Suite;
use pc5_pcap::{Format, Interface, Reader, Writer};
use serde_json::Value;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name)
}

const SAMPLES: [&str; 5] = ["dns.pcap", "transfer.pcap", "neighbours.pcapng", "relay.pcapng", "cooked.pcap"];

fn pc5(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pc5")).args(args).output().unwrap()
}

fn replay(input: &Path, args: &[&str]) -> Output {
    let mut all = vec!["replay", input.to_str().unwrap()];
    all.extend(args);
    pc5(&all)
}

#[track_caller]
fn ok(out: &Output) -> &Output {
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    out
}

/// The report without what hangs on the clock and the machine.
#[track_caller]
fn json(out: &Output) -> Value {
    let mut report: Value = serde_json::from_slice(&ok(out).stdout).unwrap();
    report.as_object_mut().unwrap().remove("timing").unwrap();
    report
}

#[derive(Debug, PartialEq)]
struct Frame {
    ticks: u64,
    original_len: u32,
    interface: u32,
    data: Vec<u8>,
}

fn frames(path: &Path) -> (Vec<Interface>, Vec<Frame>) {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(r) = reader.next().unwrap() {
        let (ticks, original_len, interface) = (r.ticks, r.original_len, r.interface);
        frames.push(Frame { ticks, original_len, interface, data: r.data.to_vec() });
    }
    (reader.interfaces().to_vec(), frames)
}

/// Every suite and cast on every sample: nothing is lost or altered, and the report is the same for any workers and batch.
#[test]
fn reports_do_not_hang_on_workers_or_batch() {
    for name in SAMPLES {
        for suite in Suite::ALL {
            for cast in ["auto", "link", "group"] {
                let run = |workers: &str, batch: &str| {
                    let args = [
                        "--suite",
                        suite.name(),
                        "--cast",
                        cast,
                        "--workers",
                        workers,
                        "--batch",
                        batch,
                        "-o",
                        "json",
                    ];
                    replay(&sample(name), &args)
                };
                if !suite.has_integrity() && cast != "group" {
                    let out = run("1", "64");
                    assert_eq!(out.status.code(), Some(4), "{suite} {cast}");
                    continue;
                }
                let report = json(&run("1", "64"));
                assert_eq!(report["compared"]["differing"], 0, "{name} {suite} {cast}");
                assert_eq!(report["adds_up"], true);
                assert_eq!(report["frames"]["read"], report["frames"]["accepted"], "{name} {suite} {cast}");
                assert_eq!(json(&run("2", "1")), report, "{name} {suite} {cast}");
                assert_eq!(json(&run("4", "256")), report, "{name} {suite} {cast}");
            }
        }
    }
}

#[test]
fn what_is_protected_comes_back_as_it_was() {
    for name in SAMPLES {
        for (cast, suite) in [("auto", "aes-256-gcm"), ("link", "eea2-eia2"), ("group", "eea2")] {
            let dir = tempfile::tempdir().unwrap();
            let path = |n: &str| dir.path().join(n);
            let text = |n: &str| path(n).to_str().unwrap().to_owned();
            let input = sample(name);
            ok(&replay(
                &input,
                &[
                    "--op",
                    "protect",
                    "--cast",
                    cast,
                    "--suite",
                    suite,
                    "--out",
                    &text("p"),
                    "--keylog",
                    &text("k"),
                ],
            ));
            ok(&replay(&path("p"), &["--op", "verify", "--keys", &text("k"), "--out", &text("v")]));
            same_capture(&input, &path("v"));
            let (interfaces, protected) = frames(&path("p"));
            assert!(
                interfaces
                    .iter()
                    .all(|i| i.link_type == pc5_pcap::LinkType::ETHERNET && i.carried().is_some())
            );
            let secret = &frames(&input).1[0].data;
            assert!(protected.iter().all(|f| f.data.len() >= 60 && !contains(&f.data, secret)));

            if cast == "group" {
                continue;
            }
            ok(&replay(
                &path("p"),
                &[
                    "--op",
                    "bridge",
                    "--keying",
                    "file",
                    "--keys",
                    &text("k"),
                    "--out",
                    &text("b"),
                    "--keylog",
                    &text("k2"),
                    "--cast",
                    cast,
                    "--suite",
                    suite,
                    "--workers",
                    "2",
                ],
            ));
            ok(&replay(&path("b"), &["--op", "verify", "--keys", &text("k2"), "--out", &text("v2")]));
            same_capture(&input, &path("v2"));
            // The keys of one side of the bridge open nothing of the other.
            let out = replay(&path("b"), &["--op", "verify", "--keys", &text("k"), "-o", "json"]);
            let report: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!((out.status.code(), &report["frames"]["accepted"]), (Some(1), &Value::from(0)));
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|w| w == needle)
}

#[track_caller]
fn same_capture(a: &Path, b: &Path) {
    let ((ia, fa), (ib, fb)) = (frames(a), frames(b));
    assert_eq!(fa, fb);
    let shape = |i: &Interface| (i.link_type, i.snap_len, i.resolution);
    assert!(ia.iter().map(shape).eq(ib.iter().map(shape)));
}

#[test]
fn a_link_passes_rekeys_and_a_group_sender_ptks_with_nothing_lost() {
    // 66 frames between two stations: one link carries about half of them.
    let report = json(&replay(&sample("transfer.pcap"), &["--cast", "link", "--loop", "6500", "-o", "json"]));
    assert_eq!(report["frames"]["accepted"], 429_000);
    assert_eq!(report["frames"]["dropped"], serde_json::json!({}));
    assert_eq!(report["compared"]["differing"], 0);
    let rekeys = report["keys"]["link_rekeys"].as_u64().unwrap();
    assert!(rekeys >= 2 * 3, "{rekeys} rekeys of two links");
    let again = ["--cast", "link", "--loop", "6500", "-o", "json", "--workers", "2", "--batch", "7"];
    assert_eq!(json(&replay(&sample("transfer.pcap"), &again)), report);

    let report =
        json(&replay(&sample("transfer.pcap"), &["--cast", "group", "--loop", "6500", "-o", "json"]));
    assert_eq!(report["frames"]["accepted"], 429_000, "each of two senders passes three PTKs");
    assert_eq!(report["compared"]["differing"], 0);
}

/// A capture of some blocks, many stations and two interfaces, the second described in its middle.
fn crowd(path: &Path, frames: u64) {
    let mut writer = Writer::create(path, Format::PcapNg).unwrap();
    writer.add_interface(&Interface::ethernet()).unwrap();
    for n in 0..frames {
        if n == frames / 2 {
            writer.add_interface(&Interface { snap_len: 900, ..Interface::ethernet() }).unwrap();
        }
        // New stations come all the time, each with a frame for one that came before.
        let source = n * n % (n / 600 + 2);
        // In the second half all have one way out, which then gets more at once than any lane had on the first hop.
        let destination = if n < frames / 2 { n % (source + 1) } else { 1 };
        let longer = if n % 8 == 0 { n * 37 % 900 } else { 0 };
        let mut frame = vec![n as u8; 60 + longer as usize];
        frame[..6].copy_from_slice(&(destination << 16 | 2).to_be_bytes()[2..]);
        frame[6..12].copy_from_slice(&(source << 16 | 2).to_be_bytes()[2..]);
        frame[0] &= 0xfe;
        if n % 50 == 0 {
            frame[..6].fill(0xff);
        }
        let interface = u32::from(n >= frames / 2 && n % 3 == 0);
        writer.write(interface, n, frame.len() as u32, &frame).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn files_do_not_hang_on_workers_or_batch() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("crowd.pcapng");
    let frames_in = 40_000; // Two looks at the engines, some 20 blocks.
    crowd(&input, frames_in);
    let path = |n: &str, workers: &str| dir.path().join(format!("{n}{workers}"));
    let mut one = None;
    for (workers, batch) in [("1", "64"), ("1", "7"), ("2", "64"), ("4", "256")] {
        // SDUs come out as they went in: the same file, octet for octet.
        let out = path("sdus", workers);
        let run = ["--workers", workers, "--batch", batch, "-o", "json", "--out", out.to_str().unwrap()];
        let mut report = json(&replay(&input, &run));
        assert_eq!(report["frames"]["accepted"], frames_in);
        assert_eq!(report["compared"]["differing"], 0);
        report.as_object_mut().unwrap().remove("output").unwrap();
        // Protected ones under new keys each time, but PC5-S always stands where it was needed.
        let air = path("air", workers);
        let run = [
            "--op",
            "protect",
            "--signalling",
            "--workers",
            workers,
            "--batch",
            batch,
            "--out",
            air.to_str().unwrap(),
        ];
        ok(&replay(&input, &run));
        let air: Vec<(u64, u32, bool)> = frames(&air)
            .1
            .iter()
            .map(|f| (f.ticks, f.interface, pc5_dataplane::pdu::parse(&f.data).unwrap().lcid.is_user()))
            .collect();
        assert!(air.len() as u64 > frames_in);
        let got = (report, std::fs::read(&out).unwrap(), air);
        let one = one.get_or_insert_with(|| got.clone());
        assert_eq!(got.0, one.0, "workers {workers} batch {batch}");
        assert!(got.1 == one.1, "the same file with workers {workers} batch {batch}");
        assert!(got.2 == one.2, "the same order with workers {workers} batch {batch}");
    }
}

/// Every stage takes what the one before it accepted, and PC5-S stands apart, in the report as in the file.
#[test]
fn the_rows_of_a_report_follow_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let text = |n: &str| dir.path().join(n).to_str().unwrap().to_owned();
    let number = |v: &Value| v.as_u64().unwrap();
    let follow = |report: &Value, stages: &[&str]| {
        let mut before = number(&report["frames"]["read"]);
        for stage in stages {
            let row = &report["stages"][stage];
            let dropped: u64 = row["dropped"].as_object().unwrap().values().map(number).sum();
            assert_eq!(number(&row["accepted"]) + dropped, before, "{stage}: {report}");
            before = number(&row["accepted"]);
        }
        assert_eq!(before, number(&report["frames"]["accepted"]), "{report}");
        assert_eq!(report["stages"].as_object().unwrap().len(), stages.len());
    };
    for name in SAMPLES {
        let report = json(&replay(&sample(name), &["-o", "json"]));
        follow(&report, &["ue_protect", "owner_verify", "bridge", "owner_protect", "ue_verify"]);
        let (air, keys) = (text("air"), text("keys"));
        let args = ["--op", "protect", "--signalling", "--out", &air, "--keylog", &keys, "-o", "json"];
        let report = json(&replay(&sample(name), &args));
        follow(&report, &["ue_protect"]);
        assert_eq!(report["output"]["frames"], report["frames"]["accepted"]);
        assert_eq!(report["output"]["signalling"], report["keys"]["signalling_frames"]);
        assert!(number(&report["stages"]["ue_protect"]["signalling"]) > 0);
        let written = frames(Path::new(&air)).1.len() as u64;
        assert_eq!(written, number(&report["output"]["frames"]) + number(&report["output"]["signalling"]));
    }
    // Of a capture that is none of PC5 nothing gets through, by name.
    let out = replay(&sample("dns.pcap"), &["--op", "verify", "--keys", &text("keys"), "-o", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    follow(&report, &["key_log_verify"]);
    assert_eq!(report["stages"]["key_log_verify"]["dropped"]["not_pc5"], 46);
}

/// What is gone through again in memory comes out as what is read again, which a pace makes it.
#[test]
fn further_passes_in_memory_are_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for frames_in in [700, 17_000] {
        let input = dir.path().join(format!("{frames_in}.pcapng"));
        crowd(&input, frames_in);
        let passes = if frames_in < 1_000 { "80" } else { "4" };
        let run = |pace: &str, workers: &str| {
            let out = dir.path().join("out");
            let options = [
                "--loop",
                passes,
                "--pace",
                pace,
                "--workers",
                workers,
                "-o",
                "json",
                "--out",
                out.to_str().unwrap(),
            ];
            (json(&replay(&input, &options)), std::fs::read(&out).unwrap())
        };
        let read = run("pps:1000000000000", "1");
        assert_eq!(read.0["frames"]["accepted"], frames_in * passes.parse::<u64>().unwrap());
        for workers in ["1", "3"] {
            let kept = run("max", workers);
            assert_eq!(kept.0, read.0, "{frames_in} frames, {workers} workers");
            assert!(kept.1 == read.1, "the same file of {frames_in} frames with {workers} workers");
        }
    }
}

#[test]
fn a_cut_file_is_processed_up_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.pcap");
    let whole = std::fs::read(sample("dns.pcap")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 5]).unwrap();
    let out = replay(&cut, &["-o", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["frames"]["read"], 45);
    assert_eq!(report["frames"]["accepted"], 45);
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(message.contains("45 frames before it were processed"), "{message}");
    assert!(
        report["defect"].as_str().is_some_and(|d| d.contains("octet") || d.contains("offset")),
        "{report}"
    );
}

#[test]
fn what_does_not_fit_together_says_what_to_write_instead() {
    let dns = sample("dns.pcap");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("o").to_str().unwrap().to_owned();
    let dns_text = dns.to_str().unwrap().to_owned();
    let cases: [(&[&str], i32, &str); 20] = [
        (&["--keying", "kmf"], 2, "--keying go"),
        (&["--keying", "mikey"], 2, "--keying go"),
        (&["--to", "eth0"], 2, "--op protect"),
        (&["--op", "verify"], 2, "--keys"),
        (&["--keying", "file"], 2, "--keys"),
        (&["--keys", "k"], 2, "--op verify"),
        (&["--op", "bridge", "--cast", "group"], 2, "--cast auto"),
        (&["--signalling"], 2, "--out"),
        (&["--members", "1"], 2, "--members 2"),
        (&["--op", "protect", "--keying", "file", "--keys", "k"], 4, "--op verify"),
        (&["--suite", "eea2", "--cast", "link"], 4, "--cast group"),
        (&["--suite", "rot13"], 2, "aes-256-gcm"),
        (&["--op", "verify", "--keys", "k", "--suite", "eea2"], 2, "no --suite"),
        (&["--op", "verify", "--keys", "k", "--cast", "auto"], 2, "no --cast"),
        (&["--op", "verify", "--keys", "k", "--members", "3"], 2, "no --members"),
        (&["--op", "verify", "--keys", "k", "--keylog", "l"], 2, "no --keylog"),
        (&["--op", "verify", "--keys", "k", "--duration", "1"], 2, "leave out --loop"),
        (&["--op", "bridge", "--keying", "file", "--keys", "k", "--loop", "2"], 2, "leave out --loop"),
        (&["--suite", "eea1-eia1", "--kernel", "ring"], 4, "portable"),
        (&["--op", "protect", "--out", "-", "--keylog", "/dev/stdout"], 2, "would mix"),
    ];
    for (args, code, says) in cases {
        let got = replay(&dns, args);
        let message = String::from_utf8_lossy(&got.stderr).into_owned();
        assert_eq!(got.status.code(), Some(code), "{args:?}: {message}");
        assert!(message.contains(says), "{args:?}: {message}");
    }
    let got = replay(&dns, &["--op", "protect", "--out", &dns_text]);
    assert_eq!(got.status.code(), Some(2), "the input is not overwritten");
    assert_eq!(replay(Path::new("/nowhere/at.pcap"), &["--out", &out]).status.code(), Some(2));
    assert!(!Path::new(&out).exists(), "no output for what was not read");
    let got = replay(&sample("README.md"), &[]);
    assert_eq!(got.status.code(), Some(1));
    assert_eq!(pc5(&["replay"]).status.code(), Some(2));
    assert_eq!(pc5(&["--help"]).status.code(), Some(0));
}

/// A key log can have keys of several suites; what serves them is told, and a forced kernel has to serve them all.
#[test]
fn kernels_are_those_of_the_suites_in_the_key_log() {
    let dir = tempfile::tempdir().unwrap();
    let text = |n: &str| dir.path().join(n).to_str().unwrap().to_owned();
    let (air, keys) = (text("p"), text("k"));
    let protect = ["--op", "protect", "--suite", "eea1-eia1", "--out", &air, "--keylog", &keys];
    ok(&replay(&sample("dns.pcap"), &protect));
    let air = Path::new(&air);
    let verify = |more: &[&str]| {
        let mut args = vec!["--op", "verify", "--keys", &keys, "-o", "json"];
        args.extend(more);
        replay(air, &args)
    };
    let got = verify(&["--kernel", "ring"]);
    let message = String::from_utf8_lossy(&got.stderr).into_owned();
    assert_eq!(got.status.code(), Some(4), "{message}");
    assert!(message.contains("suite eea1-eia1 has no kernel ring"), "{message}");
    let report: Value = serde_json::from_slice(&ok(&verify(&["--kernel", "portable"])).stdout).unwrap();
    assert_eq!(report["timing"]["kernel"], "portable");
    assert_eq!((&report["suite"], &report["cast"]), (&Value::Null, &Value::Null));
    let line = format!("GROUP f00001 01 aes-128-gcm {}\n", "00".repeat(32));
    std::fs::write(&keys, std::fs::read_to_string(&keys).unwrap() + &line).unwrap();
    let report: Value = serde_json::from_slice(&ok(&verify(&[])).stdout).unwrap();
    let kernel = report["timing"]["kernel"].as_str().unwrap();
    let (snow, gcm) =
        (pc5_dataplane::crypto::best(Suite::Eea1Eia1), pc5_dataplane::crypto::best(Suite::Aes128Gcm));
    let expected = format!("eea1-eia1 {}, aes-128-gcm {}", snow.name(), gcm.name());
    assert_eq!(kernel, if snow == gcm { snow.name() } else { &expected });
}

#[test]
fn keys_are_written_only_when_asked_for_and_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("keys");
    let out = replay(&sample("dns.pcap"), &["--keylog", log.to_str().unwrap(), "-o", "json"]);
    ok(&out);
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().any(|l| l.starts_with("GROUP f00001 01 aes-256-gcm ")));
    assert!(text.lines().any(|l| l.starts_with("LINK 000001 fffffe ")));
    for line in text.lines() {
        let key = line.rsplit(' ').next().unwrap();
        assert!(!String::from_utf8_lossy(&out.stdout).contains(key));
        assert!(!String::from_utf8_lossy(&out.stderr).contains(key));
    }
}

//! What `pc5 replay` leaves behind: whole files or none, for the right eyes, whatever ends it.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pc5_pcap::{Format, Interface, Reader, Writer};

fn sample() -> String {
    format!("{}/../samples/dns.pcap", env!("CARGO_MANIFEST_DIR"))
}

fn pc5(args: &[&str]) -> Command {
    let mut pc5 = Command::new(env!("CARGO_BIN_EXE_pc5"));
    pc5.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    pc5
}

#[track_caller]
fn ended(out: &Output, code: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_key_log_is_for_its_owner_alone_even_where_a_file_was() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::write(&keys, "old").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    let out =
        pc5(&["replay", &sample(), "--op", "protect", "--keylog", keys.to_str().unwrap()]).output().unwrap();
    ended(&out, 0, "");
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&keys).unwrap().starts_with("GROUP "));
    assert_eq!(names(folder.path()), ["keys"]);
}

#[test]
fn outputs_that_would_take_each_others_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    let file = file.to_str().unwrap();
    for (one, other) in [("--out", "--keylog"), ("--out", "--report"), ("--keylog", "--report")] {
        let out = pc5(&["replay", &sample(), "--op", "protect", one, file, other, file]).output().unwrap();
        ended(&out, 2, "would overwrite");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_cannot_be_written_is_found_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let out_file = folder.path().join("out.pcapng");
    let nowhere = folder.path().join("no/such/file");
    for option in ["--keylog", "--report"] {
        let args = ["replay", &sample(), "--op", "protect", "--out", out_file.to_str().unwrap()];
        let out = pc5(&args).args([option, nowhere.to_str().unwrap()]).output().unwrap();
        ended(&out, 2, "no/such/file: No such file or directory");
    }
    let out = pc5(&["replay", nowhere.to_str().unwrap()]).output().unwrap();
    ended(&out, 2, "no/such/file: cannot open: No such file or directory");
    assert_eq!(String::from_utf8_lossy(&out.stderr).matches("No such file").count(), 1);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn other_keys_verify_nothing_and_that_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (air, keys, others) = (at("air.pcapng"), at("keys"), at("others"));
    ended(
        &pc5(&["replay", &sample(), "--op", "protect", "--out", &air, "--keylog", &keys]).output().unwrap(),
        0,
        "",
    );
    ended(&pc5(&["replay", &sample(), "--op", "protect", "--keylog", &others]).output().unwrap(), 0, "");
    ended(&pc5(&["replay", &air, "--op", "verify", "--keys", &keys]).output().unwrap(), 0, "");
    ended(&pc5(&["replay", &air, "--op", "verify", "--keys", &others]).output().unwrap(), 1, "none of 46");
}

/// A log of weeks: reading it costs so much a line, however many there are. Comparing each with all before took a minute.
#[test]
fn a_long_key_log_is_read_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (air, keys) = (at("air.pcapng"), at("keys"));
    let protect = ["replay", &sample(), "--op", "protect", "--out", &air, "--keylog", &keys];
    ended(&pc5(&protect).output().unwrap(), 0, "");
    let mut log = String::new();
    for i in 0..50_000u32 {
        // One group, one link: what has most to compare with.
        writeln!(log, "GROUP f00001 {:02x} aes-256-gcm {i:064x}", i % 256).unwrap();
        writeln!(log, "LINK 000001 fffffe {:04x} aes-256-gcm {i:064x}", 1 + i % 65_535).unwrap();
    }
    log += &fs::read_to_string(&keys).unwrap();
    fs::write(&keys, log).unwrap();
    let began = Instant::now();
    ended(&pc5(&["replay", &air, "--op", "verify", "--keys", &keys]).output().unwrap(), 0, "");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

/// What goes on for ever or is no text ends with a word about it.
#[test]
fn what_is_no_key_log_is_named() {
    let args = ["replay", &sample(), "--op", "verify", "--keys"];
    ended(&pc5(&args).arg("/dev/zero").output().unwrap(), 1, "longer than any key log");
    ended(&pc5(&args).arg(sample()).output().unwrap(), 1, "so no key log");
}

fn fed(args: &[&str], input: &[u8]) -> Output {
    let mut child = pc5(args).stdin(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// `pc5 replay - --out -` stands in a pipe: the capture alone goes on, the report to whoever looks.
#[test]
fn a_capture_comes_and_goes_by_standard_streams() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let keys = keys.to_str().unwrap();
    let capture = fs::read(sample()).unwrap();
    for out_file in ["-", "/dev/stdout"] {
        let args = ["replay", "-", "--op", "protect", "--out", out_file, "--keylog", keys];
        let air = fed(&args, &capture);
        ended(&air, 0, "frames read");
        let back = fed(&["replay", "-", "--op", "verify", "--keys", keys, "--out", "-"], &air.stdout);
        ended(&back, 0, "frames read");
        let path = folder.path().join("back.pcapng");
        fs::write(&path, &back.stdout).unwrap();
        let (mut is, mut was) = (Reader::open(&path).unwrap(), Reader::open(sample()).unwrap());
        loop {
            match (is.next().unwrap(), was.next().unwrap()) {
                (Some(is), Some(was)) => assert_eq!(is.data, was.data),
                (None, None) => break,
                _ => panic!("not as many frames"),
            }
        }
    }
    let log = fed(&["replay", "-", "--op", "protect", "--keylog", "-"], &capture);
    ended(&log, 0, "frames read");
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(log.lines().all(|l| l.starts_with("GROUP ") || l.starts_with("LINK ")), "{log}");

    ended(&fed(&["replay", "-", "--loop", "2"], &capture), 2, "comes once");
    ended(&fed(&["replay", "-", "--op", "verify", "--keys", "-"], &capture), 2, "name a file");
}

/// Replacing the file that standard output goes to would lose whatever else goes there.
#[test]
fn a_file_behind_standard_output_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for option in ["--keylog", "--report", "--out"] {
        let args = ["replay", &sample(), "--op", "protect", option, "/dev/stdout"];
        let out = pc5(&args).stdout(fs::File::create(&file).unwrap()).output().unwrap();
        ended(&out, 2, "name that file");
    }
    assert_eq!(names(folder.path()), ["file"]);
    // What a link names is replaced, and the link stays.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let args = ["replay", &sample(), "--op", "protect", "--keylog", link.to_str().unwrap()];
    ended(&pc5(&args).output().unwrap(), 0, "");
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&file).unwrap().starts_with("GROUP "));
}

#[test]
fn an_interruption_completes_what_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (air, keys) = (at("air.pcapng"), at("keys"));
    // The first frame goes at once, the next ones at their times: there is time to be interrupted in.
    let args = ["replay", &sample(), "--op", "protect", "--pace", "pps:1", "--out", &air, "--keylog", &keys];
    let child = pc5(&args).spawn().unwrap();
    let began = Instant::now();
    while names(folder.path()).len() < 2 && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // The files are there before the signals are looked at.
    std::thread::sleep(Duration::from_secs(1));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let out = child.wait_with_output().unwrap();
    ended(&out, 1, "interrupted");
    assert_eq!(names(folder.path()), ["air.pcapng", "keys"]);
    let mut frames = 0;
    let mut reader = Reader::open(&air).unwrap();
    while reader.next().unwrap().is_some() {
        frames += 1;
    }
    assert!((1..46).contains(&frames), "{frames}");
}

#[test]
fn a_pause_of_the_capture_does_not_outlast_the_duration() {
    let began = Instant::now();
    let out = pc5(&["replay", &sample(), "--pace", "pps:1", "--duration", "1"]).output().unwrap();
    ended(&out, 0, "");
    assert!(began.elapsed() < Duration::from_secs(15), "46 frames would take 45 s: {:?}", began.elapsed());
}

#[test]
fn a_report_that_nobody_gets_is_a_failure() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [&["replay", &sample(), "-o", "json"][..], &["bench", "--suite", "eea0"]] {
        ended(&pc5(args).stdout(full()).output().unwrap(), 1, "standard output: No space left");
    }
}

#[test]
fn the_longest_frame_that_a_capture_holds_goes_out_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, air, keys, back) = (at("in.pcapng"), at("air.pcapng"), at("keys"), at("back.pcapng"));
    let longest = vec![0x5a; 262_144];
    let mut writer = Writer::create(Path::new(&input), Format::PcapNg).unwrap();
    let interface = writer.add_interface(&Interface::ethernet()).unwrap();
    writer.write(interface, 1, 262_144, &longest).unwrap();
    writer.finish().unwrap();
    let protect = ["replay", &input, "--op", "protect", "--out", &air, "--keylog", &keys];
    ended(&pc5(&protect).output().unwrap(), 0, "");
    ended(
        &pc5(&["replay", &air, "--op", "verify", "--keys", &keys, "--out", &back]).output().unwrap(),
        0,
        "",
    );
    let mut reader = Reader::open(&back).unwrap();
    assert!(reader.next().unwrap().unwrap().data == longest);
}

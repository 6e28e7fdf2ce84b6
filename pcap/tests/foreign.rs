//! Captures of other programs, and what other programs say of ours.
//!
//! The samples are always there. Wireshark's programs and further captures are asked where they are installed; where
//! not, the test says so and passes.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Frame, Outcome, read_in_blocks, read_on};
use pc5_pcap::{Format, Interface, Reader, Writer};
use std::path::{Path, PathBuf};
use std::process::Command;

fn captures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for (folder, at_least) in [("samples", 5), ("../shared/captures", 0)] {
        let before = found.len();
        if let Ok(entries) = root.join(folder).read_dir() {
            let paths = entries.map(|entry| entry.unwrap().path());
            found.extend(paths.filter(|path| {
                path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
            }));
        }
        if found.len() == before {
            println!("no captures in {folder}");
        }
        assert!(found.len() >= before + at_least, "{folder}");
    }
    found.sort();
    found
}

fn open_and_read(path: &Path) -> (Outcome, Format) {
    let mut reader = Reader::open(path).unwrap();
    (read_on(&mut reader), reader.format())
}

/// Runs a program and gives its lines, or `None` with the reason printed when it is not installed.
fn lines_of(program: &str, arguments: &[&str], path: &Path) -> Option<Vec<String>> {
    let output = match Command::new(program).args(arguments).arg(path).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {program} is not installed");
            return None;
        }
        other => other.unwrap(),
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program} {path:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(text.lines().map(str::to_owned).collect())
}

/// What tshark says of each frame: interface, time, lengths.
fn by_tshark(path: &Path) -> Option<Vec<String>> {
    let fields = ["frame.interface_id", "frame.time_epoch", "frame.cap_len", "frame.len"];
    let mut arguments = vec!["-n", "-T", "fields", "-t", "e"];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    arguments.push("-r");
    lines_of("tshark", &arguments, path)
}

fn as_tshark(outcome: &Outcome, format: Format) -> Vec<String> {
    let line = |frame: &Frame| {
        let (seconds, ns) = (frame.timestamp_ns / 1_000_000_000, frame.timestamp_ns % 1_000_000_000);
        let interface = match format {
            Format::Pcap => String::new(),
            Format::PcapNg => frame.interface.to_string(),
        };
        format!("{interface}\t{seconds}.{ns:09}\t{}\t{}", frame.data.len(), frame.original_len)
    };
    outcome.frames.iter().map(line).collect()
}

fn check_with_tshark(path: &Path, outcome: &Outcome, format: Format) {
    if let Some(lines) = by_tshark(path) {
        assert_eq!(lines, as_tshark(outcome, format), "{path:?}");
    }
}

#[test]
fn captures_are_read_whole() {
    for path in captures() {
        let (outcome, format) = open_and_read(&path);
        assert_eq!(outcome.error_text(), None, "{path:?}");
        assert!(!outcome.frames.is_empty());
        let file = std::fs::read(&path).unwrap();
        for block_len in [997, 65_536] {
            let other = read_in_blocks(&file, block_len);
            assert!(other.frames == outcome.frames && other.interfaces == outcome.interfaces, "{path:?}");
        }
        check_with_tshark(&path, &outcome, format);
    }
}

#[test]
fn captures_written_again_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for path in captures() {
        let (outcome, format) = open_and_read(&path);
        for to in [Format::PcapNg, Format::Pcap] {
            if to == Format::Pcap && format == Format::PcapNg {
                continue; // Not every pcapng can be said in pcap.
            }
            let copy = folder.path().join("copy");
            let mut writer = Writer::create(&copy, to).unwrap();
            for interface in &outcome.interfaces {
                writer.add_interface(interface).unwrap();
            }
            for frame in &outcome.frames {
                writer.write(frame.interface, frame.ticks, frame.original_len, &frame.data).unwrap();
            }
            writer.finish().unwrap();
            let (again, _) = open_and_read(&copy);
            assert!(again.frames == outcome.frames && again.interfaces == outcome.interfaces, "{path:?}");
            check_with_tshark(&copy, &outcome, to);
            if to == format && to == Format::Pcap && cfg!(target_endian = "little") {
                // What libpcap writes here is what we write, octet for octet, but for the header's unused words.
                let (one, other) = (std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
                if one[..4] == other[..4] {
                    assert!(one[24..] == other[24..], "{path:?}");
                }
            }
        }
    }
}

#[test]
fn others_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("several.pcapng");
    let radio = Interface {
        snap_len: 96,
        name: Some("radio0".to_owned()),
        description: Some("first".to_owned()),
        ..Interface::ethernet()
    };
    let mut writer = Writer::create(&path, Format::PcapNg).unwrap();
    let carried = writer.add_interface(&radio.carrier()).unwrap();
    let other = writer
        .add_interface(&Interface { resolution: pc5_pcap::Resolution::MICRO, ..Interface::ethernet() })
        .unwrap();
    let frame: Vec<u8> =
        [&[2u8, 0x50, 0x43, 0, 0, 1, 2, 0x50, 0x43, 0, 0, 2, 0x88, 0xB5][..], &[0; 50]].concat();
    writer.write(carried, 1_700_000_000_123_456_789, 1_600, &frame).unwrap();
    writer.write(other, 1_700_000_000_123_456, 64, &frame).unwrap();
    // Larger than any wire: legal in a file.
    writer.write(carried, 1_700_000_001_000_000_000, 262_144, &vec![0x55; 262_144]).unwrap();
    writer.finish().unwrap();
    let (outcome, format) = open_and_read(&path);
    assert_eq!(outcome.frames.len(), 3);
    check_with_tshark(&path, &outcome, format);
    if let Some(lines) = lines_of("capinfos", &["-I", "-c", "-T", "-r", "-m"], &path) {
        assert!(lines[0].ends_with(",3"), "{lines:?}");
    }
    if let Some(lines) = lines_of("capinfos", &["-I"], &path) {
        let text = lines.join("\n");
        for part in
            ["Name = radio0", "Description = pc5 linktype=1 snaplen=96", "Time precision = nanoseconds (9)"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
    let path = folder.path().join("one.pcap");
    let mut writer = Writer::create(&path, Format::Pcap).unwrap();
    writer.add_interface(&Interface::ethernet()).unwrap();
    writer.write(0, 1_700_000_000_123_456_789, 1_600, &frame).unwrap();
    writer.finish().unwrap();
    if let Some(lines) = lines_of("tcpdump", &["-n", "-tt", "--time-stamp-precision=nano", "-r"], &path) {
        assert!(lines[0].starts_with("1700000000.123456789 "), "{lines:?}");
        assert!(lines[0].contains("length 1600"), "{lines:?}");
    }
}

//! The reader and `pcap-parser` in turns, so that what else the machine does meets both: medians of nanoseconds a
//! frame, and how many times as many frames a second the reader does.
//!
//! `memory` reads from memory, `file` from the page cache; `taskset -c 0 cargo bench ...` keeps both to one core.
#![allow(missing_docs, clippy::unwrap_used)] // A panic ends the bench.

mod common;

use common::{CAPTURED, by_chunk, by_record, capture, peer};
use pc5_pcap::{Format, IoChoice, Reader};
use std::fs::File;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 21;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only builds it.
    }
    let folder = tempfile::tempdir().unwrap();
    println!("{:<36} {:>9} {:>9} {:>9}", "ns a frame", "reader", "peer", "times");
    for format in [Format::Pcap, Format::PcapNg] {
        for len in [64, 256, 1_420] {
            let octets = capture(format, len);
            let path = folder.path().join("capture");
            std::fs::write(&path, &octets).unwrap();
            let in_memory = || peer(format, black_box(octets.as_slice()));
            let in_file = || peer(format, File::open(&path).unwrap());
            let open = |choice| Reader::open_with(&path, choice).unwrap();
            type Way<'a> = (&'a str, &'a dyn Fn() -> u64, &'a dyn Fn() -> u64);
            let ways: [Way<'_>; 5] = [
                ("memory, chunks", &|| by_chunk(Reader::from_read(octets.as_slice()).unwrap()), &in_memory),
                ("memory, records", &|| by_record(Reader::from_read(octets.as_slice()).unwrap()), &in_memory),
                ("file, chunks", &|| by_chunk(open(IoChoice::Auto)), &in_file),
                ("file, chunks, io_uring", &|| by_chunk(open(IoChoice::Ahead)), &in_file),
                ("file, chunks, plain", &|| by_chunk(open(IoChoice::Plain)), &in_file),
            ];
            let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
            for _ in 0..ROUNDS {
                for ((_, ours, theirs), (our_times, their_times)) in ways.iter().zip(&mut times) {
                    let began = Instant::now();
                    let sum = ours();
                    our_times.push(began.elapsed());
                    let began = Instant::now();
                    assert_eq!(sum, theirs(), "the readers disagree");
                    their_times.push(began.elapsed());
                }
            }
            for ((name, ..), (our_times, their_times)) in ways.iter().zip(&mut times) {
                let median = |times: &mut Vec<std::time::Duration>| {
                    times.sort();
                    times[ROUNDS / 2].as_nanos() as f64 / (CAPTURED / len) as f64
                };
                let (ours, theirs) = (median(our_times), median(their_times));
                let name = format!("{} {len} {name}", format.name());
                println!("{name:<36} {ours:>9.2} {theirs:>9.2} {:>9.2}", theirs / ours);
            }
        }
    }
}

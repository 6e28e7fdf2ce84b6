//! Frames a second through the reader, next to `pcap-parser` doing the same: every frame's octets, time and lengths
//! are looked at, and both must come to the same sum before the clock starts.
//!
//! `memory` reads from memory and shows the parsers alone; `file` reads a file from the page cache.
#![allow(missing_docs, clippy::unwrap_used)] // Macros of criterion; a panic ends the bench.

mod common;

use common::{CAPTURED, by_chunk, by_record, capture, peer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pc5_pcap::{Format, IoChoice, Reader};
use std::fs::File;
use std::hint::black_box;

fn reading(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Pcap, Format::PcapNg] {
        for len in [64, 1_420] {
            let octets = capture(format, len);
            let path = folder.path().join(format!("{}-{len}", format.name()));
            std::fs::write(&path, &octets).unwrap();
            let memory = || Reader::from_read(octets.as_slice()).unwrap();
            let sum = peer(format, octets.as_slice());
            for other in [
                by_record(memory()),
                by_chunk(memory()),
                by_record(Reader::open(&path).unwrap()),
                by_chunk(Reader::open_with(&path, IoChoice::Plain).unwrap()),
            ] {
                assert_eq!(sum, other, "the readers disagree");
            }

            let name = format!("{} {len}", format.name());
            let mut group = c.benchmark_group(format!("memory {name}"));
            group.throughput(Throughput::Elements((CAPTURED / len) as u64));
            group.bench_function(BenchmarkId::from_parameter("chunks"), |b| b.iter(|| by_chunk(memory())));
            group.bench_function(BenchmarkId::from_parameter("records"), |b| b.iter(|| by_record(memory())));
            group.bench_function(BenchmarkId::from_parameter("pcap-parser"), |b| {
                b.iter(|| peer(format, black_box(octets.as_slice())))
            });
            group.finish();

            let mut group = c.benchmark_group(format!("file {name}"));
            group.throughput(Throughput::Elements((CAPTURED / len) as u64));
            for (way, choice) in
                [("auto", IoChoice::Auto), ("io_uring", IoChoice::Ahead), ("plain", IoChoice::Plain)]
            {
                group.bench_function(BenchmarkId::new("chunks", way), |b| {
                    b.iter(|| by_chunk(Reader::open_with(&path, choice).unwrap()))
                });
            }
            group.bench_function(BenchmarkId::from_parameter("pcap-parser"), |b| {
                b.iter(|| peer(format, File::open(&path).unwrap()))
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = reading
}
criterion_main!(benches);

//! Frames a second through the reader, next to `pcap-parser` doing the same: every frame's octets, time and lengths
//! are looked at, and both must come to the same sum before the clock starts.
//!
//! `memory` reads from memory and shows the parsers alone; `file` reads a file from the page cache.
#![allow(missing_docs, clippy::unwrap_used)] // Macros of criterion; a panic ends the bench.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pc5_pcap::{Format, Interface, IoChoice, Reader, Writer, stream::BlockSource};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};
use std::fs::File;
use std::hint::black_box;
use std::io::Read;

/// Octets of frames in a capture: more than the caches hold.
const CAPTURED: usize = 64 << 20;

fn capture(format: Format, len: usize) -> Vec<u8> {
    let mut writer = Writer::to_write(Vec::new(), format);
    let port = writer.add_interface(&Interface::ethernet()).unwrap();
    let mut data = vec![0; len];
    for n in 0..(CAPTURED / len) as u64 {
        data[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        writer.write(port, 1_700_000_000_000_000_000 + n * 1_000, len as u32, &data).unwrap();
    }
    writer.finish().unwrap().0
}

#[inline(always)]
fn look(sum: u64, data: &[u8], time: u64, original_len: u32) -> u64 {
    sum.wrapping_mul(3).wrapping_add(u64::from(data[0]) + data.len() as u64 + time + u64::from(original_len))
}

fn by_record<S: BlockSource>(mut reader: Reader<S>) -> u64 {
    let mut sum = 0;
    while let Some(record) = reader.next().unwrap() {
        sum = look(sum, record.data, record.ticks, record.original_len);
    }
    sum
}

fn by_chunk<S: BlockSource>(mut reader: Reader<S>) -> u64 {
    let mut sum = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        for record in chunk {
            sum = look(sum, record.data, record.ticks, record.original_len);
        }
    }
    sum
}

/// `pcap-parser`'s own loop, with a buffer that suits it: larger ones were slower.
fn peer<R: Read>(format: Format, input: R) -> u64 {
    match format {
        Format::Pcap => peer_loop(LegacyPcapReader::new(1 << 16, input).unwrap()),
        Format::PcapNg => peer_loop(PcapNGReader::new(1 << 16, input).unwrap()),
    }
}

fn peer_loop(mut reader: impl PcapReaderIterator) -> u64 {
    let mut sum = 0;
    loop {
        match reader.next() {
            Ok((len, block)) => {
                match block {
                    PcapBlockOwned::Legacy(record) => {
                        let time = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec);
                        sum = look(sum, &record.data[..record.caplen as usize], time, record.origlen);
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(record)) => {
                        let time = u64::from(record.ts_high) << 32 | u64::from(record.ts_low);
                        sum = look(sum, &record.data[..record.caplen as usize], time, record.origlen);
                    }
                    _ => {}
                }
                reader.consume(len);
            }
            Err(PcapError::Eof) => return sum,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

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
            for (way, choice) in [("io_uring", IoChoice::Auto), ("plain", IoChoice::Plain)] {
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

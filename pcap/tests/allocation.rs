//! In its steady state the reader allocates nothing for a frame, and with plain calls next to nothing for a block; nor does
//! the writer.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

use pc5_pcap::{Format, Interface, IoChoice, Reader, Writer};

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Allocations so far, of every thread.
fn allocations() -> u64 {
    dhat::HeapStats::get().total_blocks
}

/// The counter is one for the process, so this is one test.
#[test]
fn no_frame_costs_an_allocation() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Pcap, Format::PcapNg] {
        let path = folder.path().join(format.name());
        let mut writer = Writer::create_with(&path, format, IoChoice::Plain).unwrap();
        writer.add_interface(&Interface::ethernet()).unwrap();
        let data = [7; 64];
        let frames = 200_000;
        let mut warm = 0;
        for n in 0..frames {
            if n == frames / 2 {
                warm = allocations();
            }
            writer.write(0, n, 64, &data).unwrap();
        }
        let grown = allocations() - warm;
        // The channels between the threads grow by a segment of some dozens of blocks at a time.
        assert!(grown <= 16, "{grown} allocations for {} frames written", frames / 2);
        writer.finish().unwrap();

        let mut reader = Reader::open_with(&path, IoChoice::Plain).unwrap();
        let mut sum = 0;
        for n in 0..frames {
            if n == frames / 2 {
                warm = allocations();
            }
            sum += reader.next().unwrap().unwrap().data.len();
        }
        let grown = allocations() - warm;
        assert!(grown <= 16, "{grown} allocations for {} frames read", frames / 2);
        assert_eq!(sum as u64, frames * 64);

        // io_uring costs its runtime a few for a block of 1 MiB, that is for some 12,000 of these frames.
        let mut reader = Reader::open(&path).unwrap();
        for n in 0..frames {
            if n == frames / 2 {
                warm = allocations();
            }
            reader.next().unwrap().unwrap();
        }
        let grown = allocations() - warm;
        assert!(grown <= 200, "{grown} allocations for {} frames read by {}", frames / 2, reader.io_path());

        // From memory nothing at all, once the first two blocks are there.
        let file = std::fs::read(&path).unwrap();
        let mut reader = Reader::from_read(file.as_slice()).unwrap();
        let (mut records, mut chunks) = (0, 0);
        while let Some(chunk) = reader.next_chunk().unwrap() {
            chunks += 1;
            if chunks == 3 {
                warm = allocations();
            }
            records += chunk.count() as u64;
        }
        assert!(chunks > 10);
        assert_eq!(allocations(), warm);
        assert_eq!(records, frames);
    }
}

//! The captures that the benches read, and the loops that read them.
#![allow(dead_code, unreachable_pub)] // Each bench uses its own part of it.

use pc5_pcap::{Format, Interface, Reader, Writer, stream::BlockSource};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};
use std::io::Read;

/// Octets of frames in a capture: more than the caches hold.
pub const CAPTURED: usize = 64 << 20;

pub fn capture(format: Format, len: usize) -> Vec<u8> {
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

pub fn by_record<S: BlockSource>(mut reader: Reader<S>) -> u64 {
    let mut sum = 0;
    while let Some(record) = reader.next().unwrap() {
        sum = look(sum, record.data, record.ticks, record.original_len);
    }
    sum
}

pub fn by_chunk<S: BlockSource>(mut reader: Reader<S>) -> u64 {
    let mut sum = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        for record in chunk {
            sum = look(sum, record.data, record.ticks, record.original_len);
        }
    }
    sum
}

/// `pcap-parser`'s own loop, with a buffer that suits it: larger ones were slower.
pub fn peer<R: Read>(format: Format, input: R) -> u64 {
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

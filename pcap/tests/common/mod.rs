//! Capture files laid down octet by octet, independent of the writer under test.
#![allow(dead_code, unreachable_pub)] // Each test file uses its own part of it.

use pc5_pcap::stream::BlockSource;
use pc5_pcap::{Interface, PcapError, ReadSource, Reader};
use std::io::Read;

/// Lays down fields in one byte order.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub const BOTH: [Self; 2] = [Self::Little, Self::Big];

    pub fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    pub fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    pub fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|&value| self.u32(value)).collect()
    }

    /// The header of a pcap file.
    pub fn pcap(self, magic: u32, snap_len: u32, link_type: u32) -> Vec<u8> {
        let version = [self.u16(2), self.u16(4)].concat();
        [self.u32(magic).to_vec(), version, self.words(&[0, 0, snap_len, link_type])].concat()
    }

    /// A pcap record.
    pub fn record(self, seconds: u32, fraction: u32, original_len: u32, data: &[u8]) -> Vec<u8> {
        [self.words(&[seconds, fraction, data.len() as u32, original_len]), data.to_vec()].concat()
    }

    /// A pcapng block around `body`, padded.
    pub fn block(self, block_type: u32, body: &[u8]) -> Vec<u8> {
        let body = padded(body);
        let len = self.u32(body.len() as u32 + 12);
        [self.u32(block_type).as_slice(), &len, &body, &len].concat()
    }

    pub fn section(self) -> Vec<u8> {
        let body = [self.u32(0x1A2B_3C4D).as_slice(), &self.u16(1), &self.u16(0), &[0xFF; 8]].concat();
        self.block(0x0A0D_0D0A, &body)
    }

    pub fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        [self.u16(code).as_slice(), &self.u16(value.len() as u16), &padded(value)].concat()
    }

    pub fn interface(self, link_type: u16, snap_len: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [self.u16(link_type).as_slice(), &[0, 0], &self.u32(snap_len)].concat();
        for (code, value) in options {
            body.extend(self.option(*code, value));
        }
        if !options.is_empty() {
            body.extend(self.option(0, &[]));
        }
        self.block(1, &body)
    }

    pub fn enhanced(self, interface: u32, ticks: u64, original_len: u32, data: &[u8]) -> Vec<u8> {
        let fields =
            self.words(&[interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, original_len]);
        self.block(6, &[fields, data.to_vec()].concat())
    }

    pub fn old_packet(self, interface: u16, ticks: u64, original_len: u32, data: &[u8]) -> Vec<u8> {
        let head = [self.u16(interface), self.u16(0xFFFF)].concat();
        let fields = self.words(&[(ticks >> 32) as u32, ticks as u32, data.len() as u32, original_len]);
        self.block(2, &[head, fields, data.to_vec()].concat())
    }

    pub fn simple(self, original_len: u32, data: &[u8]) -> Vec<u8> {
        self.block(3, &[self.u32(original_len).to_vec(), data.to_vec()].concat())
    }
}

pub fn padded(octets: &[u8]) -> Vec<u8> {
    let mut padded = octets.to_vec();
    padded.resize(octets.len().next_multiple_of(4), 0);
    padded
}

/// A frame that owns its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub interface: u32,
    pub ticks: u64,
    pub timestamp_ns: u64,
    pub original_len: u32,
    pub data: Vec<u8>,
}

impl From<pc5_pcap::Record<'_>> for Frame {
    fn from(record: pc5_pcap::Record<'_>) -> Self {
        Self {
            interface: record.interface,
            ticks: record.ticks,
            timestamp_ns: record.timestamp_ns,
            original_len: record.original_len,
            data: record.data.to_vec(),
        }
    }
}

/// What came of a capture: interfaces, frames, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub interfaces: Vec<Interface>,
    pub frames: Vec<Frame>,
    pub error: Option<PcapError>,
}

impl Outcome {
    pub fn error_text(&self) -> Option<String> {
        self.error.as_ref().map(ToString::to_string)
    }
}

/// Reads frame by frame.
pub fn read_on<S: BlockSource>(reader: &mut Reader<S>) -> Outcome {
    let mut frames = Vec::new();
    let error = loop {
        match reader.next() {
            Ok(Some(record)) => frames.push(record.into()),
            Ok(None) => break None,
            Err(error) => {
                assert!(reader.next().unwrap().is_none(), "an error ends the capture");
                assert!(reader.next_chunk().unwrap().is_none(), "an error ends the capture");
                break Some(error);
            }
        }
    };
    assert_eq!(reader.stats().records, frames.len() as u64);
    Outcome { interfaces: reader.interfaces().to_vec(), frames, error }
}

/// Reads chunk by chunk.
pub fn read_chunks<S: BlockSource>(reader: &mut Reader<S>) -> Outcome {
    let mut frames = Vec::new();
    let error = loop {
        match reader.next_chunk() {
            Ok(Some(chunk)) => {
                let before = frames.len();
                frames.extend(chunk.map(Frame::from));
                assert!(frames.len() > before, "a chunk is never empty");
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert_eq!(reader.stats().records, frames.len() as u64);
    Outcome { interfaces: reader.interfaces().to_vec(), frames, error }
}

/// Reads `file` in blocks of `block_len`.
pub fn read_in_blocks(file: &[u8], block_len: usize) -> Outcome {
    match Reader::from_source(ReadSource::with_block_len(file, block_len)) {
        Ok(mut reader) => read_on(&mut reader),
        Err(error) => Outcome { interfaces: Vec::new(), frames: Vec::new(), error: Some(error) },
    }
}

/// Reads `file` whole.
pub fn read(file: &[u8]) -> Outcome {
    read_in_blocks(file, 1 << 20)
}

/// Gives at most `at_once` octets a call, and an interrupted call now and then.
pub struct Dribble<'a> {
    pub file: &'a [u8],
    pub at_once: usize,
    pub calls: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let len = self.at_once.min(room.len());
        self.file.read(&mut room[..len])
    }
}

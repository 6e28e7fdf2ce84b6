//! Reading captures of either format, a block at a time.

use crate::error::{Expected, PcapError};
use crate::format::{Format, limits, spec};
use crate::interface::{Interface, LinkType, Resolution};
use crate::parse::{self, Layout, Packet, Stop, Unit};
use crate::stream::{BlockSource, FileSource, IoChoice, ReadSource};
use std::io::Read;
use std::path::Path;

mod window;

pub use window::Memory;
use window::{Lent, Window};

/// One captured frame, lent out of the block that it was read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The octets captured.
    pub data: &'a [u8],
    /// Nanoseconds since 1970-01-01 00:00 UTC, rounded down and held within the range of the type; 0 where the capture
    /// gives no time (Simple Packet Blocks).
    pub timestamp_ns: u64,
    /// The timestamp as written, in units of the interface's resolution and counted from its offset. Written to an
    /// interface with the same resolution and offset it comes out exactly, which nanoseconds may not.
    pub ticks: u64,
    /// Octets that the frame had on the wire. Usually at least `data.len()`, but nothing holds a capture to it.
    pub original_len: u32,
    /// Index into [`Reader::interfaces`].
    pub interface: u32,
}

/// What a [`Reader`] went through since it was opened; rewinding does not reset it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadStats {
    /// Octets parsed.
    pub octets: u64,
    /// Frames delivered.
    pub records: u64,
    /// Blocks taken from the system.
    pub blocks: u64,
    /// pcapng blocks passed over: statistics, name resolution and others that hold no frame.
    pub passed_over: u64,
    /// pcapng sections begun; 1 for a pcap file.
    pub sections: u64,
}

/// Reads a capture from `S` with bounded memory: a few blocks of 1 MiB and the table of interfaces.
///
/// After an error the reader is at its end: further calls deliver nothing.
#[derive(Debug)]
pub struct Reader<S = FileSource> {
    source: S,
    block: Window,
    /// Blocks that somebody else still reads.
    lent: Lent,
    /// Offset in the file of what is at index 0 of `block`: below 0 while that is headroom, and then wrapped.
    base: u64,
    /// Octets parsed before the last rewind.
    octets_before: u64,
    layout: Layout,
    interfaces: Vec<Interface>,
    text_len: usize,
    /// Units of the current section's interfaces.
    units: Vec<Unit>,
    /// Indices of the section before's interfaces.
    previous: Vec<u32>,
    /// How many blocks were taken since the start of the file.
    blocks_since_start: u64,
    at_end: bool,
    failed: bool,
    stats: ReadStats,
}

impl Reader<FileSource> {
    /// Opens the capture at `path`: a file, pipe or device.
    ///
    /// Fails when the file cannot be opened or read, or does not begin like a capture.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PcapError> {
        Self::open_with(path, IoChoice::Auto)
    }

    /// As [`Reader::open`], with the way to the system chosen.
    pub fn open_with(path: impl AsRef<Path>, choice: IoChoice) -> Result<Self, PcapError> {
        let path = path.as_ref();
        let source = FileSource::open(path, choice).map_err(|source| PcapError::Open {
            path: path.to_owned(),
            action: "open",
            source,
        })?;
        Self::from_source(source)
    }
}

impl<R: Read> Reader<ReadSource<R>> {
    /// Reads a capture from anything that can be read, from where it stands.
    pub fn from_read(input: R) -> Result<Self, PcapError> {
        Self::from_source(ReadSource::new(input))
    }
}

impl<S: BlockSource> Reader<S> {
    /// Reads a capture from blocks.
    pub fn from_source(source: S) -> Result<Self, PcapError> {
        let mut reader = Self {
            source,
            block: Window::default(),
            lent: Lent::default(),
            base: 0,
            octets_before: 0,
            layout: Layout::PcapNg { big_endian: false },
            interfaces: Vec::new(),
            text_len: 0,
            units: Vec::new(),
            previous: Vec::new(),
            blocks_since_start: 0,
            at_end: false,
            failed: false,
            stats: ReadStats::default(),
        };
        reader.begin()?;
        Ok(reader)
    }

    /// The next frame, or `None` at the end of the capture.
    ///
    /// Fails at a defect, after everything before it was delivered.
    #[inline]
    #[allow(clippy::should_implement_trait)] // It lends: an Iterator could not.
    pub fn next(&mut self) -> Result<Option<Record<'_>>, PcapError> {
        let packet = match parse::packet(self.layout, self.block.rest(), &self.units) {
            Ok(packet) => packet,
            Err(_) => match self.settle()? {
                Some(packet) => packet,
                None => return Ok(None),
            },
        };
        let at = self.block.start + packet.data_at;
        self.block.start += packet.len;
        self.stats.records += 1;
        let data = self.block.octets().get(at..at + packet.data_len).unwrap_or(&[]);
        Ok(Some(record(&packet, data)))
    }

    /// The frames that are in memory from here on, or `None` at the end of the capture. A chunk holds at least one
    /// frame and ends with the block, the section or a defect, which the next call then reports.
    ///
    /// This is the fastest way through a capture. The frames of one chunk can be held side by side; those that are not
    /// taken from it come again with the next call.
    #[inline]
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, PcapError> {
        if self.settle()?.is_none() {
            return Ok(None);
        }
        Ok(Some(Chunk {
            rest: self.block.memory.octets().get(self.block.start..self.block.end).unwrap_or(&[]),
            memory: &self.block.memory,
            end: self.block.end,
            layout: self.layout,
            units: &self.units,
            interfaces: &self.interfaces,
            octets: 0,
            records: 0,
            start: &mut self.block.start,
            all_records: &mut self.stats.records,
        }))
    }

    /// The interfaces described so far, those of every section in the order of the file. A frame's interface is always
    /// among them by the time the frame is delivered.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The capture's format.
    pub fn format(&self) -> Format {
        match self.layout {
            Layout::Pcap { .. } => Format::Pcap,
            Layout::PcapNg { .. } => Format::PcapNg,
        }
    }

    /// Offset in the file of the next octet to be parsed.
    pub fn offset(&self) -> u64 {
        self.base.wrapping_add(self.block.start as u64)
    }

    /// What was read so far.
    pub fn stats(&self) -> ReadStats {
        ReadStats { octets: self.octets_before + self.offset(), ..self.stats }
    }

    /// How the capture is read by now: from the page cache, by `io_uring`, or the plain way and why.
    pub fn io_path(&self) -> &str {
        self.source.io_path()
    }

    /// Starts again at the first frame. The interfaces are forgotten and come again with the same indices. A capture
    /// that fits one block is not read again.
    ///
    /// Fails when the input is no regular file, or does not begin like a capture any more.
    pub fn rewind(&mut self) -> Result<(), PcapError> {
        let offset = self.offset();
        if self.at_end && !self.failed && self.blocks_since_start == 1 {
            // Everything there is of the file still lies in this block, from here back to its first octet.
            let len = usize::try_from(offset).unwrap_or(usize::MAX);
            self.block.start = self.block.start.saturating_sub(len);
        } else {
            self.source.rewind().map_err(|source| PcapError::Rewind { source })?;
            let spent = std::mem::take(&mut self.block);
            self.lent.recycle(spent.memory, &mut self.source);
            self.base = 0;
            self.blocks_since_start = 0;
            self.at_end = false;
        }
        self.octets_before += offset;
        self.failed = false;
        self.interfaces.clear();
        self.text_len = 0;
        self.begin()
    }

    /// Recognises the format and takes the header of a pcap file.
    fn begin(&mut self) -> Result<(), PcapError> {
        self.units.clear();
        self.previous.clear();
        let result = self.recognise();
        if result.is_err() {
            self.fail();
        }
        result
    }

    /// Nothing more is delivered. What is left in the block goes, so that it cannot be taken for a frame.
    fn fail(&mut self) {
        self.failed = true;
        self.block.end = self.block.start;
    }

    fn recognise(&mut self) -> Result<(), PcapError> {
        while self.block.rest().len() < 4 && self.refill()? {}
        let Some(magic) = self.block.rest().first_chunk::<4>() else {
            return Err(PcapError::NotACapture { found: self.block.rest().to_vec() });
        };
        let (little, big) = (u32::from_le_bytes(*magic), u32::from_be_bytes(*magic));
        self.layout = match (little, big) {
            (spec::MAGIC_MICRO, _) => Layout::Pcap { big_endian: false, nanos: false },
            (_, spec::MAGIC_MICRO) => Layout::Pcap { big_endian: true, nanos: false },
            (spec::MAGIC_NANO, _) => Layout::Pcap { big_endian: false, nanos: true },
            (_, spec::MAGIC_NANO) => Layout::Pcap { big_endian: true, nanos: true },
            (spec::SECTION_HEADER, _) => {
                self.layout = Layout::PcapNg { big_endian: false };
                return Ok(());
            }
            _ => return Err(foreign(*magic, little, big)),
        };
        while self.block.rest().len() < spec::PCAP_HEADER_LEN && self.refill()? {}
        self.pcap_header()
    }

    /// magic(4) | major(2) | minor(2) | reserved(8) | snap length(4) | FCS(4 bits) reserved(12) link type(16)
    fn pcap_header(&mut self) -> Result<(), PcapError> {
        let Layout::Pcap { big_endian, nanos } = self.layout else { return Ok(()) };
        let rest = self.block.rest();
        let Some(header) = rest.first_chunk::<{ spec::PCAP_HEADER_LEN }>() else {
            return Err(PcapError::CutOff {
                offset: 0,
                what: "pcap file header",
                found: rest.len() as u64,
                expected: spec::PCAP_HEADER_LEN as u64,
            });
        };
        let [_, _, _, _, v0, v1, v2, v3, _, _, _, _, _, _, _, _, s0, s1, s2, s3, l0, l1, l2, l3] = *header;
        let version = (parse::word16(big_endian, [v0, v1]), parse::word16(big_endian, [v2, v3]));
        if version != spec::PCAP_VERSION {
            return Err(PcapError::Malformed {
                offset: if version.0 == spec::PCAP_VERSION.0 { 6 } else { 4 },
                field: "version of the pcap file",
                found: u64::from(if version.0 == spec::PCAP_VERSION.0 { version.1 } else { version.0 }),
                expected: Expected::Rule("version 2.4"),
            });
        }
        let link_type = parse::word32(big_endian, [l0, l1, l2, l3]);
        // Source: draft-ietf-opsawg-pcap 4: bit 26 says that the 4 bits above count the FCS in units of 16 bits.
        let fcs_len = (link_type & 1 << 26 != 0).then_some((link_type >> 28) as u8 * 2);
        let interface = Interface {
            link_type: LinkType(link_type as u16),
            snap_len: parse::word32(big_endian, [s0, s1, s2, s3]),
            resolution: if nanos { Resolution::NANO } else { Resolution::MICRO },
            offset_s: 0,
            fcs_len,
            name: None,
            description: None,
        };
        self.stats.sections += 1;
        self.add_interface(interface)?;
        self.consume(spec::PCAP_HEADER_LEN);
        Ok(())
    }

    /// Goes on until a packet is at the start of the block, or the capture at its end.
    #[inline(never)]
    fn settle(&mut self) -> Result<Option<Packet>, PcapError> {
        if self.failed {
            return Ok(None);
        }
        loop {
            let stopped = match parse::packet(self.layout, self.block.rest(), &self.units) {
                Ok(packet) => return Ok(Some(packet)),
                Err(stop) => self.pass(stop),
            };
            match stopped {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.fail();
                    return Err(error);
                }
            }
        }
    }

    /// Does what it takes to parse on; `false` at the end of the capture.
    fn pass(&mut self, stop: Stop) -> Result<bool, PcapError> {
        match stop {
            Stop::Need(what, expected) => {
                if self.refill()? {
                    return Ok(true);
                }
                match self.block.rest().len() {
                    0 => Ok(false),
                    found => Err(PcapError::CutOff {
                        offset: self.offset(),
                        what,
                        found: found as u64,
                        expected: expected as u64,
                    }),
                }
            }
            Stop::Defect(defect) => Err(PcapError::Malformed {
                offset: self.offset() + defect.at as u64,
                field: defect.field,
                found: defect.found,
                expected: defect.expected,
            }),
            Stop::OtherBlock { block_type: spec::SECTION_HEADER, .. } => {
                match parse::section_header(self.block.rest()) {
                    Ok((layout, len)) => {
                        self.layout = layout;
                        self.previous.clear();
                        self.previous.extend(self.units.drain(..).map(|unit| unit.index));
                        self.stats.sections += 1;
                        self.consume(len);
                        Ok(true)
                    }
                    Err(stop) => self.pass(stop),
                }
            }
            Stop::OtherBlock { block_type: spec::INTERFACE_DESCRIPTION, len } => {
                match parse::interface_description(self.big_endian(), self.block.rest(), len) {
                    Ok(interface) => {
                        self.add_interface(interface)?;
                        self.consume(len as usize);
                        Ok(true)
                    }
                    Err(stop) => self.pass(stop),
                }
            }
            Stop::OtherBlock { len, .. } => self.pass_over(len),
        }
    }

    /// Passes over a block of any length, checking that it is whole and ends as it should.
    fn pass_over(&mut self, total_len: u32) -> Result<bool, PcapError> {
        let begin = self.offset();
        let mut left = total_len as usize - 4;
        loop {
            let step = left.min(self.block.rest().len());
            self.consume(step);
            left -= step;
            match self.block.rest().first_chunk::<4>() {
                Some(trailer) if left == 0 => {
                    let repeated = parse::word32(self.big_endian(), *trailer);
                    if repeated != total_len {
                        return Err(PcapError::Malformed {
                            offset: self.offset(),
                            field: parse::TRAILER,
                            found: u64::from(repeated),
                            expected: Expected::Exactly(u64::from(total_len)),
                        });
                    }
                    self.consume(4);
                    self.stats.passed_over += 1;
                    return Ok(true);
                }
                _ => {}
            }
            if !self.refill()? {
                return Err(PcapError::CutOff {
                    offset: begin,
                    what: "block",
                    found: self.offset() - begin + self.block.rest().len() as u64,
                    expected: u64::from(total_len),
                });
            }
        }
    }

    fn add_interface(&mut self, interface: Interface) -> Result<(), PcapError> {
        if self.interfaces.len() >= limits::REUSE_INTERFACES_FROM {
            let same = self.previous.get(self.units.len()).copied();
            if let Some(index) = same.filter(|&index| self.interfaces.get(index as usize) == Some(&interface))
            {
                self.units.push(Unit::of(&interface, index));
                return Ok(());
            }
        }
        let text_len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.text_len += text_len(&interface.name) + text_len(&interface.description);
        let beyond = if self.interfaces.len() >= limits::MAX_INTERFACES {
            Some(("interfaces", limits::MAX_INTERFACES))
        } else if self.text_len > limits::MAX_INTERFACE_TEXT_LEN {
            Some(("octets of interface names and descriptions", limits::MAX_INTERFACE_TEXT_LEN))
        } else {
            None
        };
        if let Some((what, limit)) = beyond {
            return Err(PcapError::Limit { offset: self.offset(), what, limit: limit as u64 });
        }
        // The limit is far below 2^32.
        self.units.push(Unit::of(&interface, self.interfaces.len() as u32));
        self.interfaces.push(interface);
        Ok(())
    }

    fn big_endian(&self) -> bool {
        match self.layout {
            Layout::Pcap { big_endian, .. } | Layout::PcapNg { big_endian } => big_endian,
        }
    }

    fn consume(&mut self, len: usize) {
        self.block.start += len;
    }

    /// Puts the next block of the file behind what is left of this one; `false` when there is none.
    fn refill(&mut self) -> Result<bool, PcapError> {
        if self.at_end {
            return Ok(false);
        }
        let read = self.source.next_block();
        let mut next = read.map_err(|source| PcapError::Read {
            offset: self.offset() + self.block.rest().len() as u64,
            source,
        })?;
        self.at_end = next.last;
        if next.rest().is_empty() {
            self.source.recycle(next);
            return Ok(!self.at_end);
        }
        self.stats.blocks += 1;
        self.blocks_since_start += 1;
        let offset = self.offset();
        next.prepend(self.block.rest());
        self.base = offset.wrapping_sub(next.start as u64);
        let spent = {
            let next = self.lent.window(next);
            std::mem::replace(&mut self.block, next)
        };
        self.lent.recycle(spent.memory, &mut self.source);
        Ok(true)
    }
}

/// Frames in memory, one after the other; see [`Reader::next_chunk`].
#[derive(Debug)]
pub struct Chunk<'a> {
    rest: &'a [u8],
    memory: &'a Memory,
    /// Where `rest` ends in `memory`.
    end: usize,
    layout: Layout,
    units: &'a [Unit],
    interfaces: &'a [Interface],
    // Counted here and settled once, when the chunk goes.
    octets: usize,
    records: u64,
    start: &'a mut usize,
    all_records: &'a mut u64,
}

impl<'a> Chunk<'a> {
    /// The interfaces described so far, as [`Reader::interfaces`].
    pub fn interfaces(&self) -> &'a [Interface] {
        self.interfaces
    }

    /// The memory that its frames lie in; a clone of it outlives the chunk. Whoever keeps one keeps a block of the file in
    /// memory, and the reader takes another in its place.
    pub fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The next frame, and where its data begins in [`Self::memory`].
    #[inline(always)]
    pub fn next_in_place(&mut self) -> Option<(usize, Record<'a>)> {
        let packet = parse::packet(self.layout, self.rest, self.units).ok()?;
        let data = self.rest.get(packet.data_at..packet.data_at + packet.data_len)?;
        let at = self.end - self.rest.len() + packet.data_at;
        self.rest = self.rest.get(packet.len..)?;
        self.octets += packet.len;
        self.records += 1;
        Some((at, record(&packet, data)))
    }
}

impl<'a> Iterator for Chunk<'a> {
    type Item = Record<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Record<'a>> {
        self.next_in_place().map(|(_, record)| record)
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        *self.start += self.octets;
        *self.all_records += self.records;
    }
}

#[inline(always)]
fn record<'a>(packet: &Packet, data: &'a [u8]) -> Record<'a> {
    Record {
        data,
        timestamp_ns: packet.timestamp_ns,
        ticks: packet.ticks,
        original_len: packet.original_len,
        interface: packet.interface,
    }
}

/// A file that begins with none of the magic numbers that are read.
fn foreign(magic: [u8; 4], little: u32, big: u32) -> PcapError {
    let is = |number: u32| little == number || big == number;
    let convert = "convert it with `editcap -F pcapng`";
    let (name, advice) = if is(spec::MAGIC_MODIFIED) {
        ("modified pcap (Kuznetzov's libpcap, magic number a1b2cd34)", convert)
    } else if is(spec::MAGIC_IXIA_HARDWARE) {
        ("modified pcap (IXIA hardware capture, magic number 1c0001ac)", convert)
    } else if is(spec::MAGIC_IXIA_SOFTWARE) {
        ("modified pcap (IXIA software capture, magic number 1c0001ab)", convert)
    } else {
        match &magic {
            [0x1F, 0x8B, 0x08, _] => ("a gzip-compressed file", "decompress it with `gunzip`"),
            [0x28, 0xB5, 0x2F, 0xFD] => ("a zstd-compressed file", "decompress it with `unzstd`"),
            [0x04, 0x22, 0x4D, 0x18] => ("an lz4-compressed file", "decompress it with `unlz4`"),
            [0xFD, b'7', b'z', b'X'] => ("an xz-compressed file", "decompress it with `unxz`"),
            b"BZh0" | b"BZh1" | b"BZh2" | b"BZh3" | b"BZh4" | b"BZh5" | b"BZh6" | b"BZh7" | b"BZh8"
            | b"BZh9" => ("a bzip2-compressed file", "decompress it with `bunzip2`"),
            b"snoo" => ("snoop", convert),
            b"GMBU" => ("Network Monitor 2", convert),
            b"RTSS" => ("Network Monitor 1", convert),
            _ => return PcapError::NotACapture { found: magic.to_vec() },
        }
    };
    PcapError::Unsupported { offset: 0, name, advice }
}

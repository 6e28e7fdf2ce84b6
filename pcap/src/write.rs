//! Writing captures of either format, a block at a time.

use crate::error::{Expected, PcapError};
use crate::format::{Format, limits, spec};
use crate::interface::{Interface, LinkType, Resolution};
use crate::stream::{BlockSink, FileSink, IoChoice, WriteSink};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// What a [`Writer`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteStats {
    /// Octets of the file so far.
    pub octets: u64,
    /// Frames written.
    pub records: u64,
    /// Blocks given to the system.
    pub blocks: u64,
}

/// Writes a capture, little-endian, to `K` in blocks of about 1 MiB, or 256 KiB with [`IoChoice::Here`].
///
/// pcapng takes any number of interfaces, before or between frames, each with its own unit of time. pcap takes exactly
/// one, before the first frame, in micro- or nanoseconds.
///
/// A capture is complete only after [`Writer::finish`]. Dropped before, a file is not left behind.
#[derive(Debug)]
pub struct Writer<K = FileSink> {
    sink: K,
    format: Format,
    block: Vec<u8>,
    /// Octets at which a block is full.
    block_len: usize,
    interfaces: u32,
    /// pcap: units of the timestamps in a second.
    per_second: u64,
    stats: WriteStats,
}

impl Writer<FileSink> {
    /// Creates the capture at `path`. The file takes the place of an earlier one when it is finished, not before.
    pub fn create(path: impl AsRef<Path>, format: Format) -> Result<Self, PcapError> {
        Self::create_with(path, format, IoChoice::Auto)
    }

    /// As [`Writer::create`], with the way to the system chosen.
    pub fn create_with(path: impl AsRef<Path>, format: Format, choice: IoChoice) -> Result<Self, PcapError> {
        let path = path.as_ref();
        let sink = FileSink::create(path, choice).map_err(|source| PcapError::Open {
            path: path.to_owned(),
            action: "create",
            source,
        })?;
        // Where a block is written by who filled it, it should still be in the core's second cache.
        let block_len = if choice == IoChoice::Here { limits::PIPE_BLOCK_LEN } else { limits::BLOCK_LEN };
        Ok(Self { block_len, ..Self::to_sink(sink, format) })
    }
}

impl<W: Write> Writer<WriteSink<W>> {
    /// Writes a capture to anything that can be written.
    pub fn to_write(output: W, format: Format) -> Self {
        Self::to_sink(WriteSink::new(output), format)
    }
}

impl<K: BlockSink> Writer<K> {
    /// Writes a capture to `sink`.
    pub fn to_sink(sink: K, format: Format) -> Self {
        let mut block = Vec::with_capacity(CAPACITY);
        if format == Format::PcapNg {
            block.extend(SECTION_HEADER);
        }
        Self {
            sink,
            format,
            block,
            block_len: limits::BLOCK_LEN,
            interfaces: 0,
            per_second: 0,
            stats: WriteStats::default(),
        }
    }

    /// Adds an interface and gives its index for [`Writer::write`].
    ///
    /// Fails for a second interface of a pcap file, for what its header cannot say (another unit than micro- or
    /// nanoseconds, an offset), and for texts over 65,535 octets. A pcap file does not keep name and description.
    pub fn add_interface(&mut self, interface: &Interface) -> Result<u32, PcapError> {
        match self.format {
            Format::Pcap => self.pcap_header(interface)?,
            Format::PcapNg => self.interface_description(interface)?,
        }
        let index = self.interfaces;
        self.interfaces += 1;
        Ok(index)
    }

    /// How many interfaces were added.
    pub fn interfaces(&self) -> u32 {
        self.interfaces
    }

    /// Writes one frame: `ticks` in the unit of its interface and counted from its offset, `original_len` octets on the
    /// wire, `data` captured of them, at most 262,144 octets.
    ///
    /// Fails when the interface was not added, or the frame or its time does not fit the format, which leaves the
    /// capture as it was; or in the system, perhaps for an earlier block.
    #[inline]
    pub fn write(
        &mut self,
        interface: u32,
        ticks: u64,
        original_len: u32,
        data: &[u8],
    ) -> Result<(), PcapError> {
        if interface >= self.interfaces {
            return Err(PcapError::NoSuchInterface { found: interface, known: self.interfaces });
        }
        match self.format {
            Format::PcapNg => enhanced_packet(&mut self.block, interface, ticks, original_len, data)?,
            Format::Pcap => {
                let captured_len = captured_len(data)?;
                let (seconds, fraction) = (ticks / self.per_second, ticks % self.per_second);
                let seconds = u32::try_from(seconds).map_err(|_| PcapError::Unwritable {
                    what: "time of a pcap record in seconds",
                    found: seconds,
                    expected: Expected::AtMost(u64::from(u32::MAX)),
                })?;
                let mut header = [0; 16];
                // The remainder is below 10^9.
                put_words(&mut header, [seconds, fraction as u32, captured_len, original_len]);
                self.block.extend_from_slice(&header);
                self.block.extend_from_slice(data);
            }
        }
        self.stats.records += 1;
        if self.block.len() >= self.block_len { self.flush_block() } else { Ok(()) }
    }

    /// Writes the frames of `range` that were rendered elsewhere; a pcapng capture only.
    ///
    /// Fails as [`Writer::write`], and where `records` does not have them.
    pub fn write_records(&mut self, records: &Records, range: Range<usize>) -> Result<(), PcapError> {
        if range.is_empty() {
            return Ok(());
        }
        if records.interfaces > self.interfaces {
            let found = records.interfaces - 1;
            return Err(PcapError::NoSuchInterface { found, known: self.interfaces });
        }
        if self.format != Format::PcapNg || range.end > records.len() {
            return Err(PcapError::Unwritable {
                what: "number of rendered records",
                found: range.end as u64,
                expected: Expected::Rule("those of a pcapng capture, as many as there are"),
            });
        }
        let mut from = range.start;
        while from < range.end {
            let begin = records.begin_of(from);
            let room = (CAPACITY - limits::BLOCK_LEN + self.block_len).saturating_sub(self.block.len());
            // All of them, as a rule. A block that is not full has room for any one.
            let to = match records.begin_of(range.end) - begin <= room {
                true => range.end,
                false => {
                    from + records.ends[from..range.end].partition_point(|end| end - begin <= room).max(1)
                }
            };
            self.block.extend_from_slice(&records.octets[begin..records.begin_of(to)]);
            self.stats.records += (to - from) as u64;
            from = to;
            if self.block.len() >= self.block_len {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// What was written so far.
    pub fn stats(&self) -> WriteStats {
        WriteStats { octets: self.stats.octets + self.block.len() as u64, ..self.stats }
    }

    /// How the capture is written: `io_uring`, or the plain way and why.
    pub fn io_path(&self) -> &str {
        self.sink.io_path()
    }

    /// Writes what is left and, for a file, gives it its name.
    ///
    /// Fails when the system cannot, and for a pcap file without an interface, which has no header.
    pub fn finish(self) -> Result<(K::Done, WriteStats), PcapError> {
        if self.format == Format::Pcap && self.interfaces == 0 {
            return Err(PcapError::NoSuchInterface { found: 0, known: 0 });
        }
        let mut stats = self.stats();
        stats.blocks += u64::from(!self.block.is_empty());
        let offset = self.stats.octets;
        let done = self.sink.finish(self.block).map_err(|source| PcapError::Write { offset, source })?;
        Ok((done, stats))
    }

    #[inline(never)]
    fn flush_block(&mut self) -> Result<(), PcapError> {
        let offset = self.stats.octets;
        let full = std::mem::take(&mut self.block);
        let len = full.len() as u64;
        self.block = self.sink.write_block(full).map_err(|source| PcapError::Write { offset, source })?;
        self.stats.octets += len;
        self.stats.blocks += 1;
        Ok(())
    }

    fn pcap_header(&mut self, interface: &Interface) -> Result<(), PcapError> {
        let refuse = |what, found, expected: &'static str| {
            Err(PcapError::Unwritable { what, found, expected: Expected::Rule(expected) })
        };
        if self.interfaces > 0 {
            return refuse("number of interfaces of a pcap file", 2, "one; write pcapng for several");
        }
        if interface.offset_s != 0 {
            return refuse(
                "time offset of a pcap file",
                interface.offset_s as u64,
                "0; write pcapng for others",
            );
        }
        let magic = match interface.resolution {
            Resolution::MICRO => spec::MAGIC_MICRO,
            Resolution::NANO => spec::MAGIC_NANO,
            other => {
                let octet = u64::from(other.octet());
                return refuse(
                    "timestamp resolution of a pcap file",
                    octet,
                    "6 or 9; write pcapng for others",
                );
            }
        };
        self.per_second = if magic == spec::MAGIC_MICRO { 1_000_000 } else { 1_000_000_000 };
        let LinkType(link_type) = interface.link_type;
        let fcs = interface.fcs_len.map_or(0, |len| u32::from((len / 2) & 0xF) << 28 | 1 << 26);
        // Readers take 0 for a file without room for a frame, so "no limit" becomes the largest there is.
        let snap_len = if interface.snap_len == 0 { limits::SNAP_LEN } else { interface.snap_len };
        let (major, minor) = spec::PCAP_VERSION;
        let mut header = [0; spec::PCAP_HEADER_LEN];
        let version = u32::from(minor) << 16 | u32::from(major);
        put_words(&mut header, [magic, version, 0, 0, snap_len, fcs | u32::from(link_type)]);
        self.block.extend_from_slice(&header);
        Ok(())
    }

    fn interface_description(&mut self, interface: &Interface) -> Result<(), PcapError> {
        for (what, text) in
            [("interface name", &interface.name), ("interface description", &interface.description)]
        {
            if let Some(text) = text.as_ref().filter(|text| text.len() > usize::from(u16::MAX)) {
                return Err(PcapError::Unwritable {
                    what,
                    found: text.len() as u64,
                    expected: Expected::AtMost(u64::from(u16::MAX)),
                });
            }
        }
        let begin = self.block.len();
        let LinkType(link_type) = interface.link_type;
        let mut header = [0; 16];
        put_words(&mut header, [spec::INTERFACE_DESCRIPTION, 0, u32::from(link_type), interface.snap_len]);
        self.block.extend_from_slice(&header);
        if let Some(name) = &interface.name {
            self.option(spec::IF_NAME, name.as_bytes());
        }
        if let Some(description) = &interface.description {
            self.option(spec::IF_DESCRIPTION, description.as_bytes());
        }
        if interface.resolution != Resolution::MICRO {
            self.option(spec::IF_TSRESOL, &[interface.resolution.octet()]);
        }
        if let Some(len) = interface.fcs_len {
            self.option(spec::IF_FCSLEN, &[len]);
        }
        if interface.offset_s != 0 {
            self.option(spec::IF_TSOFFSET, &interface.offset_s.to_le_bytes());
        }
        if self.block.len() > begin + header.len() {
            self.option(spec::OPT_END, &[]);
        }
        // Two texts of 16 bits' length and little else.
        let total_len = (self.block.len() - begin + 4) as u32;
        self.block.extend_from_slice(&total_len.to_le_bytes());
        if let Some(field) = self.block.get_mut(begin + 4..begin + 8) {
            field.copy_from_slice(&total_len.to_le_bytes());
        }
        if self.block.len() >= self.block_len { self.flush_block() } else { Ok(()) }
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.block.extend_from_slice(&code.to_le_bytes());
        // Callers have checked the length of what is not fixed.
        self.block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.block.extend_from_slice(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.block.extend_from_slice(&[0; 3][..padding]);
    }
}

/// Frames as they stand in a pcapng section, apart from the [`Writer`] that takes them in the end: threads can render their
/// frames side by side and leave only the order to one.
#[derive(Debug, Default)]
pub struct Records {
    octets: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// Interfaces that it takes.
    interfaces: u32,
}

impl Records {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one frame, as [`Writer::write`].
    ///
    /// Fails when the frame does not fit the format.
    #[inline]
    pub fn push(
        &mut self,
        interface: u32,
        ticks: u64,
        original_len: u32,
        data: &[u8],
    ) -> Result<(), PcapError> {
        enhanced_packet(&mut self.octets, interface, ticks, original_len, data)?;
        self.interfaces = self.interfaces.max(interface.saturating_add(1));
        self.ends.push(self.octets.len());
        Ok(())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes all out; their memory stays.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
        self.interfaces = 0;
    }

    fn begin_of(&self, record: usize) -> usize {
        record.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }
}

/// type | total length | interface | timestamp(8) | captured length | original length | data | padding | total length
#[inline(always)]
fn enhanced_packet(
    block: &mut Vec<u8>,
    interface: u32,
    ticks: u64,
    original_len: u32,
    data: &[u8],
) -> Result<(), PcapError> {
    let captured_len = captured_len(data)?;
    let padded_len = captured_len.next_multiple_of(4);
    let total_len = padded_len + spec::ENHANCED_PACKET_LEN as u32;
    let mut header = [0; 28];
    put_words(
        &mut header,
        [
            spec::ENHANCED_PACKET,
            total_len,
            interface,
            (ticks >> 32) as u32,
            ticks as u32,
            captured_len,
            original_len,
        ],
    );
    block.extend_from_slice(&header);
    block.extend_from_slice(data);
    // Padding and the length again, in one piece whose first octets may go.
    let mut end = [0; 8];
    let end_len = 4 + (padded_len - captured_len) as usize;
    end[4..].copy_from_slice(&total_len.to_le_bytes());
    block.extend_from_slice(&end[8 - end_len..]);
    Ok(())
}

#[inline(always)]
fn captured_len(data: &[u8]) -> Result<u32, PcapError> {
    match u32::try_from(data.len()) {
        Ok(len) if len <= limits::MAX_FRAME_LEN => Ok(len),
        _ => Err(too_long(data.len())),
    }
}

/// A block, and whatever may be added to it before it is found full.
const CAPACITY: usize = limits::BLOCK_LEN + limits::MAX_FRAME_LEN as usize + spec::ENHANCED_PACKET_LEN;

/// type | total length | byte-order magic | version 1.0 | section length -1: not given | total length
const SECTION_HEADER: [u8; spec::SECTION_HEADER_LEN] = {
    let mut block = [0; spec::SECTION_HEADER_LEN];
    put_words(&mut block, [spec::SECTION_HEADER, 28, spec::BYTE_ORDER, 1, u32::MAX, u32::MAX, 28]);
    block
};

/// Puts `W` words in little-endian order; `N` must be 4 `W`.
#[inline(always)]
const fn put_words<const N: usize, const W: usize>(octets: &mut [u8; N], words: [u32; W]) {
    const { assert!(N == 4 * W) };
    let mut i = 0;
    while i < W {
        let word = words[i].to_le_bytes();
        octets[4 * i] = word[0];
        octets[4 * i + 1] = word[1];
        octets[4 * i + 2] = word[2];
        octets[4 * i + 3] = word[3];
        i += 1;
    }
}

#[cold]
fn too_long(len: usize) -> PcapError {
    PcapError::Unwritable {
        what: "captured length of a frame",
        found: len as u64,
        expected: Expected::AtMost(u64::from(limits::MAX_FRAME_LEN)),
    }
}

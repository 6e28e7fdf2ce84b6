//! Records and blocks as they lie in memory: octets to offsets, no state, no input or output.
//!
//! Every function takes what is in memory from the record or block on and returns where its parts are, or says why it
//! cannot. The same functions serve the fast path and the one that words errors, so the two cannot disagree.

use crate::error::Expected;
use crate::format::{limits, spec};
use crate::interface::{Interface, LinkType, POWERS_OF_10, Resolution};

/// Name of the field that repeats a block's length.
pub(crate) const TRAILER: &str = "Block Total Length at the end of the block";

/// How records of the current file or section are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Pcap { big_endian: bool, nanos: bool },
    PcapNg { big_endian: bool },
}

/// Where the parts of a packet are, counted from the start of the octets that were parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    /// First octet of the frame.
    pub(crate) data_at: usize,
    /// Octets captured.
    pub(crate) data_len: usize,
    /// Octets to the next record or block.
    pub(crate) len: usize,
    /// Timestamp in units of the interface.
    pub(crate) ticks: u64,
    /// Nanoseconds since 1970, held within 0..=u64::MAX.
    pub(crate) timestamp_ns: u64,
    /// Octets that the frame had on the wire.
    pub(crate) original_len: u32,
    /// Interface, among those of all sections.
    pub(crate) interface: u32,
}

/// Why no packet was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The named thing takes at least this many octets, and not all of them are in memory.
    Need(&'static str, usize),
    /// A block of this type and length that is no packet.
    OtherBlock { block_type: u32, len: u32 },
    /// A field that cannot be as it is.
    Defect(Defect),
}

/// A field that cannot be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defect {
    /// Where the field is, counted from the start of the octets that were parsed.
    pub(crate) at: usize,
    pub(crate) field: &'static str,
    pub(crate) found: u64,
    pub(crate) expected: Expected,
}

/// What the packets of an interface need to know of it, kept small and apart from its texts.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// The interface's index among those of all sections.
    pub(crate) index: u32,
    /// Nanoseconds in a unit, or 0 where it takes more than a multiplication.
    multiply: u64,
    snap_len: u32,
    resolution: Resolution,
    offset_s: i64,
}

impl Unit {
    pub(crate) fn of(interface: &Interface, index: u32) -> Self {
        let multiply = match interface.resolution {
            Resolution::Decimal(n @ 0..=9) if interface.offset_s == 0 => POWERS_OF_10[usize::from(9 - n)],
            _ => 0,
        };
        Self {
            index,
            multiply,
            snap_len: interface.snap_len,
            resolution: interface.resolution,
            offset_s: interface.offset_s,
        }
    }

    #[inline(always)]
    fn nanoseconds(&self, ticks: u64) -> u64 {
        match self.multiply {
            0 => self.nanoseconds_in_general(ticks),
            multiply => ticks.saturating_mul(multiply),
        }
    }

    #[cold]
    fn nanoseconds_in_general(&self, ticks: u64) -> u64 {
        let unit =
            Interface { resolution: self.resolution, offset_s: self.offset_s, ..Interface::ethernet() };
        let ns = unit.nanoseconds(ticks);
        u64::try_from(ns).unwrap_or(if ns < 0 { 0 } else { u64::MAX })
    }
}

/// Parses the packet at the start of `octets`; `units` are those of the section's interfaces.
#[inline(always)]
pub(crate) fn packet(layout: Layout, octets: &[u8], units: &[Unit]) -> Result<Packet, Stop> {
    match layout {
        Layout::Pcap { big_endian: false, nanos } => pcap_record::<false>(octets, nanos),
        Layout::Pcap { big_endian: true, nanos } => pcap_record::<true>(octets, nanos),
        Layout::PcapNg { big_endian: false } => block::<false>(octets, units),
        Layout::PcapNg { big_endian: true } => block::<true>(octets, units),
    }
}

/// seconds(4) | micro- or nanoseconds(4) | captured length(4) | original length(4) | data
#[inline(always)]
fn pcap_record<const BIG_ENDIAN: bool>(octets: &[u8], nanos: bool) -> Result<Packet, Stop> {
    let Some(header) = octets.first_chunk::<{ spec::PCAP_RECORD_LEN }>() else {
        return Err(Stop::Need("packet record header", spec::PCAP_RECORD_LEN));
    };
    let [seconds, fraction, captured_len, original_len] = words::<16, 4, BIG_ENDIAN>(header);
    if captured_len > limits::MAX_FRAME_LEN {
        return Err(captured_len_defect(8, captured_len, limits::MAX_FRAME_LEN));
    }
    let data_len = captured_len as usize;
    let len = spec::PCAP_RECORD_LEN + data_len;
    if octets.len() < len {
        return Err(Stop::Need("packet record", len));
    }
    // Both factors are below 2^32 and 2^30, so neither the products nor the sums pass 64 bits.
    let (per_second, ns) = if nanos { (1_000_000_000, 1) } else { (1_000_000, 1_000) };
    let ticks = u64::from(seconds) * per_second + u64::from(fraction);
    let timestamp_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * ns;
    Ok(Packet {
        data_at: spec::PCAP_RECORD_LEN,
        data_len,
        len,
        ticks,
        timestamp_ns,
        original_len,
        interface: 0,
    })
}

/// type(4) | total length(4) | body | total length(4)
#[inline(always)]
fn block<const BIG_ENDIAN: bool>(octets: &[u8], units: &[Unit]) -> Result<Packet, Stop> {
    // Nearly all blocks of a capture are Enhanced Packet Blocks, so theirs is the path without detours.
    let Some(header) = octets.first_chunk::<{ spec::ENHANCED_PACKET_LEN - 4 }>() else {
        return short_block::<BIG_ENDIAN>(octets, units);
    };
    let [block_type, total_len, interface, ticks_high, ticks_low, captured_len, original_len] =
        words::<28, 7, BIG_ENDIAN>(header);
    if block_type != spec::ENHANCED_PACKET {
        return other_block::<BIG_ENDIAN>(octets, units);
    }
    let len = total_len as usize;
    if octets.len() < len
        || !length_fits(total_len, spec::ENHANCED_PACKET_LEN)
        || len > limits::MAX_PARSED_LEN
    {
        return Err(unfit_block("Enhanced Packet Block", octets, total_len, spec::ENHANCED_PACKET_LEN));
    }
    if captured_len > limits::MAX_FRAME_LEN || captured_len as usize > len - spec::ENHANCED_PACKET_LEN {
        return Err(captured_len_defect(20, captured_len, total_len - spec::ENHANCED_PACKET_LEN as u32));
    }
    let Some(unit) = units.get(interface as usize) else {
        return Err(no_such_interface(8, interface, units.len()));
    };
    trailer::<BIG_ENDIAN>(octets, total_len)?;
    let ticks = u64::from(ticks_high) << 32 | u64::from(ticks_low);
    Ok(Packet {
        data_at: 28,
        data_len: captured_len as usize,
        len,
        ticks,
        timestamp_ns: unit.nanoseconds(ticks),
        original_len,
        interface: unit.index,
    })
}

/// A block at the end of what is in memory, perhaps shorter than an Enhanced Packet Block.
#[cold]
fn short_block<const BIG_ENDIAN: bool>(octets: &[u8], units: &[Unit]) -> Result<Packet, Stop> {
    match octets.first_chunk::<8>().map(words::<8, 2, BIG_ENDIAN>) {
        None => Err(Stop::Need("block", spec::BLOCK_LEN)),
        Some([spec::ENHANCED_PACKET, total_len]) => {
            Err(unfit_block("Enhanced Packet Block", octets, total_len, spec::ENHANCED_PACKET_LEN))
        }
        Some(_) => other_block::<BIG_ENDIAN>(octets, units),
    }
}

/// A block that is no Enhanced Packet Block.
#[inline(never)]
fn other_block<const BIG_ENDIAN: bool>(octets: &[u8], units: &[Unit]) -> Result<Packet, Stop> {
    let Some([block_type, len]) = octets.first_chunk::<8>().map(words::<8, 2, BIG_ENDIAN>) else {
        return Err(Stop::Need("block", spec::BLOCK_LEN));
    };
    match block_type {
        spec::SIMPLE_PACKET => simple_packet::<BIG_ENDIAN>(octets, len, units),
        spec::PACKET => old_packet::<BIG_ENDIAN>(octets, len, units),
        // Its length is in a byte order that only its body tells.
        spec::SECTION_HEADER => Err(Stop::OtherBlock { block_type, len: 0 }),
        _ if !length_fits(len, spec::BLOCK_LEN) => Err(length_defect(len, spec::BLOCK_LEN)),
        _ => Err(Stop::OtherBlock { block_type, len }),
    }
}

/// type | total length | original length(4) | data | total length
fn simple_packet<const BIG_ENDIAN: bool>(
    octets: &[u8],
    total_len: u32,
    units: &[Unit],
) -> Result<Packet, Stop> {
    whole_block("Simple Packet Block", octets, total_len, spec::SIMPLE_PACKET_LEN)?;
    let Some([_, _, original_len]) = octets.first_chunk::<12>().map(words::<12, 3, BIG_ENDIAN>) else {
        return Err(Stop::Need("Simple Packet Block", spec::SIMPLE_PACKET_LEN));
    };
    let Some(unit) = units.first() else {
        return Err(no_such_interface(0, 0, 0));
    };
    // The captured length is not written: it is the smaller of the original length and the snap length.
    let captured_len = if unit.snap_len == 0 { original_len } else { original_len.min(unit.snap_len) };
    let room = total_len - spec::SIMPLE_PACKET_LEN as u32;
    if captured_len > limits::MAX_FRAME_LEN || captured_len > room {
        return Err(captured_len_defect(8, captured_len, room));
    }
    trailer::<BIG_ENDIAN>(octets, total_len)?;
    Ok(Packet {
        data_at: 12,
        data_len: captured_len as usize,
        len: total_len as usize,
        ticks: 0,
        timestamp_ns: 0,
        original_len,
        interface: unit.index,
    })
}

/// type | total length | interface(2) | drops(2) | timestamp(8) | captured length(4) | original length(4) | data | ...
fn old_packet<const BIG_ENDIAN: bool>(octets: &[u8], total_len: u32, units: &[Unit]) -> Result<Packet, Stop> {
    whole_block("Packet Block", octets, total_len, spec::ENHANCED_PACKET_LEN)?;
    let Some(header) = octets.first_chunk::<28>() else {
        return Err(Stop::Need("Packet Block", spec::ENHANCED_PACKET_LEN));
    };
    let [_, _, interface_and_drops, ticks_high, ticks_low, captured_len, original_len] =
        words::<28, 7, BIG_ENDIAN>(header);
    let interface = if BIG_ENDIAN { interface_and_drops >> 16 } else { interface_and_drops & 0xFFFF };
    let room = total_len - spec::ENHANCED_PACKET_LEN as u32;
    if captured_len > limits::MAX_FRAME_LEN || captured_len > room {
        return Err(captured_len_defect(20, captured_len, room));
    }
    let Some(unit) = units.get(interface as usize) else {
        return Err(no_such_interface(8, interface, units.len()));
    };
    trailer::<BIG_ENDIAN>(octets, total_len)?;
    let ticks = u64::from(ticks_high) << 32 | u64::from(ticks_low);
    Ok(Packet {
        data_at: 28,
        data_len: captured_len as usize,
        len: total_len as usize,
        ticks,
        timestamp_ns: unit.nanoseconds(ticks),
        original_len,
        interface: unit.index,
    })
}

/// Byte order, length and version of the Section Header Block at the start of `octets`.
pub(crate) fn section_header(octets: &[u8]) -> Result<(Layout, usize), Stop> {
    let Some(header) = octets.first_chunk::<12>() else {
        return Err(Stop::Need("Section Header Block", spec::SECTION_HEADER_LEN));
    };
    let [_, len, byte_order] = words::<12, 3, false>(header);
    let big_endian = match byte_order {
        spec::BYTE_ORDER => false,
        other if other == spec::BYTE_ORDER.swap_bytes() => true,
        other => {
            return Err(Stop::Defect(Defect {
                at: 8,
                field: "Byte-Order Magic of the Section Header Block",
                found: u64::from(other),
                expected: Expected::Rule("439041101 in either byte order"),
            }));
        }
    };
    let len = if big_endian { len.swap_bytes() } else { len };
    whole_block("Section Header Block", octets, len, spec::SECTION_HEADER_LEN)?;
    let Some(version) = octets.get(12..16).and_then(|v| v.first_chunk::<4>()) else {
        return Err(Stop::Need("Section Header Block", spec::SECTION_HEADER_LEN));
    };
    let (major, minor) =
        (word16(big_endian, [version[0], version[1]]), word16(big_endian, [version[2], version[3]]));
    // Source: pcapng 4.1: 1.0, and 1.2 which some writers wrote for the same layout. The section length is not
    // needed: a section ends at the next Section Header Block.
    for (at, field, value, fits) in [
        (12, "major version of the section", major, major == 1),
        (14, "minor version of the section", minor, minor == 0 || minor == 2),
    ] {
        if !fits {
            let expected = Expected::Rule("version 1.0 or 1.2");
            return Err(Stop::Defect(Defect { at, field, found: u64::from(value), expected }));
        }
    }
    if big_endian {
        trailer::<true>(octets, len)?
    } else {
        trailer::<false>(octets, len)?
    }
    Ok((Layout::PcapNg { big_endian }, len as usize))
}

/// The Interface Description Block at the start of `octets`, whose length is `total_len`.
pub(crate) fn interface_description(
    big_endian: bool,
    octets: &[u8],
    total_len: u32,
) -> Result<Interface, Stop> {
    whole_block("Interface Description Block", octets, total_len, spec::INTERFACE_DESCRIPTION_LEN)?;
    if big_endian {
        trailer::<true>(octets, total_len)?
    } else {
        trailer::<false>(octets, total_len)?
    }
    let need = Stop::Need("Interface Description Block", spec::INTERFACE_DESCRIPTION_LEN);
    let Some(&[a, b, _, _, c, d, e, f]) = octets.get(8..16).and_then(|body| body.first_chunk::<8>()) else {
        return Err(need);
    };
    let mut interface = Interface {
        link_type: LinkType(word16(big_endian, [a, b])),
        snap_len: word32(big_endian, [c, d, e, f]),
        resolution: Resolution::MICRO,
        offset_s: 0,
        fcs_len: None,
        name: None,
        description: None,
    };
    let mut at = 16;
    let end = (total_len as usize).saturating_sub(4);
    while at < end {
        // whole_block saw to it that the options end inside `octets`, and lengths are multiples of 4.
        let Some(&[k0, k1, l0, l1]) = octets.get(at..end).and_then(|options| options.first_chunk::<4>())
        else {
            return Err(need);
        };
        let (code, len) = (word16(big_endian, [k0, k1]), usize::from(word16(big_endian, [l0, l1])));
        if code == spec::OPT_END {
            break;
        }
        let room = end - at - 4;
        let Some(value) = octets.get(at + 4..at + 4 + len).filter(|_| len <= room) else {
            return Err(option_defect(at, len, Expected::AtMost(room as u64)));
        };
        match (code, value) {
            (spec::IF_NAME, text) => interface.name = Some(String::from_utf8_lossy(text).into_owned()),
            (spec::IF_DESCRIPTION, text) => {
                interface.description = Some(String::from_utf8_lossy(text).into_owned());
            }
            (spec::IF_TSRESOL, &[octet]) => interface.resolution = Resolution::from_octet(octet),
            (spec::IF_FCSLEN, &[octet]) => interface.fcs_len = Some(octet),
            (spec::IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                let octets = [a, b, c, d, e, f, g, h];
                interface.offset_s =
                    if big_endian { i64::from_be_bytes(octets) } else { i64::from_le_bytes(octets) };
            }
            (spec::IF_TSRESOL | spec::IF_FCSLEN, _) => {
                return Err(option_defect(at, len, Expected::Exactly(1)));
            }
            (spec::IF_TSOFFSET, _) => return Err(option_defect(at, len, Expected::Exactly(8))),
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    Ok(interface)
}

/// The length repeated at the end of a block, which must be whole in `octets`.
#[inline(always)]
fn trailer<const BIG_ENDIAN: bool>(octets: &[u8], total_len: u32) -> Result<(), Stop> {
    let at = total_len as usize - 4;
    match octets.get(at..).and_then(|end| end.first_chunk::<4>()).map(words::<4, 1, BIG_ENDIAN>) {
        Some([repeated]) if repeated == total_len => Ok(()),
        Some([repeated]) => Err(trailer_defect(at, repeated, total_len)),
        None => Err(Stop::Need("block", total_len as usize)),
    }
}

#[cold]
fn trailer_defect(at: usize, found: u32, expected: u32) -> Stop {
    Stop::Defect(Defect {
        at,
        field: TRAILER,
        found: u64::from(found),
        expected: Expected::Exactly(u64::from(expected)),
    })
}

/// 16 bits in the given byte order.
pub(crate) fn word16(big_endian: bool, octets: [u8; 2]) -> u16 {
    if big_endian { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) }
}

/// 32 bits in the given byte order.
pub(crate) fn word32(big_endian: bool, octets: [u8; 4]) -> u32 {
    if big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
}

/// `W` words of 32 bits; `N` must be 4 `W`.
#[inline(always)]
fn words<const N: usize, const W: usize, const BIG_ENDIAN: bool>(octets: &[u8; N]) -> [u32; W] {
    const { assert!(N == 4 * W) };
    let (words, _) = octets.as_chunks::<4>();
    std::array::from_fn(
        |i| if BIG_ENDIAN { u32::from_be_bytes(words[i]) } else { u32::from_le_bytes(words[i]) },
    )
}

#[inline(always)]
fn length_fits(total_len: u32, at_least: usize) -> bool {
    total_len.is_multiple_of(4) && total_len as usize >= at_least
}

/// A block that is looked into must have a possible length and be in memory to its end.
fn whole_block(name: &'static str, octets: &[u8], total_len: u32, at_least: usize) -> Result<(), Stop> {
    let len = total_len as usize;
    if length_fits(total_len, at_least) && octets.len() >= len && len <= limits::MAX_PARSED_LEN {
        return Ok(());
    }
    Err(unfit_block(name, octets, total_len, at_least))
}

/// Why a block of this length is not, or not yet, taken; called when [`whole_block`] would not pass it.
#[cold]
fn unfit_block(name: &'static str, octets: &[u8], total_len: u32, at_least: usize) -> Stop {
    if octets.len() < 8 {
        return Stop::Need(name, at_least);
    }
    if !length_fits(total_len, at_least) {
        return length_defect(total_len, at_least);
    }
    if total_len as usize > limits::MAX_PARSED_LEN {
        let expected = Expected::AtMost(limits::MAX_PARSED_LEN as u64);
        return Stop::Defect(Defect {
            at: 4,
            field: "Block Total Length",
            found: u64::from(total_len),
            expected,
        });
    }
    Stop::Need(name, total_len as usize)
}

#[cold]
fn length_defect(total_len: u32, at_least: usize) -> Stop {
    let expected = if total_len.is_multiple_of(4) {
        Expected::AtLeast(at_least as u64)
    } else {
        Expected::Rule("a multiple of 4")
    };
    Stop::Defect(Defect { at: 4, field: "Block Total Length", found: u64::from(total_len), expected })
}

#[cold]
fn captured_len_defect(at: usize, found: u32, room: u32) -> Stop {
    let expected = Expected::AtMost(u64::from(room.min(limits::MAX_FRAME_LEN)));
    Stop::Defect(Defect { at, field: "captured length", found: u64::from(found), expected })
}

#[cold]
fn no_such_interface(at: usize, found: u32, known: usize) -> Stop {
    let expected = match known {
        0 => Expected::Rule("an Interface Description Block before the first packet"),
        known => Expected::Below(known as u64),
    };
    Stop::Defect(Defect { at, field: "interface of the packet", found: u64::from(found), expected })
}

#[cold]
fn option_defect(at: usize, len: usize, expected: Expected) -> Stop {
    Stop::Defect(Defect { at: at + 2, field: "length of an interface's option", found: len as u64, expected })
}

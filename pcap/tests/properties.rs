//! What holds for every capture: writer to reader and back, and the same result however the octets come.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Dribble, Frame, Order, read, read_chunks, read_in_blocks, read_on};
use pc5_pcap::{Format, Interface, LinkType, ReadSource, Reader, Resolution, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

fn interfaces() -> impl Strategy<Value = Interface> {
    let text = proptest::option::of("[ -~äµ]{0,20}");
    (
        any::<u16>(),
        any::<u32>(),
        any::<u8>(),
        prop_oneof![Just(0), any::<i64>()],
        any::<Option<u8>>(),
        text.clone(),
        text,
    )
        .prop_map(|(link_type, snap_len, resolution, offset_s, fcs_len, name, description)| Interface {
            link_type: LinkType(link_type),
            snap_len,
            resolution: Resolution::from_octet(resolution),
            offset_s,
            fcs_len,
            name,
            description,
        })
}

/// A frame on one of `interfaces` interfaces, without its time in nanoseconds.
fn frames(interfaces: u32) -> impl Strategy<Value = Frame> {
    (0..interfaces, any::<u64>(), any::<u32>(), vec(any::<u8>(), 0..200)).prop_map(
        |(interface, ticks, original_len, data)| Frame {
            interface,
            ticks,
            timestamp_ns: 0,
            original_len,
            data,
        },
    )
}

fn nanoseconds(interface: &Interface, ticks: u64) -> u64 {
    interface.nanoseconds(ticks).clamp(0, u64::MAX.into()) as u64
}

proptest! {
    #[test]
    fn pcapng_comes_back(
        (described, frames) in vec(interfaces(), 1..5)
            .prop_flat_map(|described| { let n = described.len() as u32; (Just(described), vec(frames(n), 0..40)) }),
        block_len in 1usize..5_000,
        late in any::<bool>(),
    ) {
        let mut writer = Writer::to_write(Vec::new(), Format::PcapNg);
        // Interfaces at the start, or each just before its first frame.
        let mut added = 0;
        let mut add_to = |writer: &mut Writer<_>, count: u32| while added < count {
            assert_eq!(writer.add_interface(&described[added as usize]).unwrap(), added);
            added += 1;
        };
        if !late {
            add_to(&mut writer, described.len() as u32);
        }
        for frame in &frames {
            add_to(&mut writer, frame.interface + 1);
            writer.write(frame.interface, frame.ticks, frame.original_len, &frame.data).unwrap();
        }
        let (file, stats) = writer.finish().unwrap();
        prop_assert_eq!(stats.octets, file.len() as u64);
        prop_assert_eq!(stats.records, frames.len() as u64);

        let outcome = read_in_blocks(&file, block_len);
        prop_assert_eq!(outcome.error_text(), None);
        prop_assert_eq!(&outcome.interfaces[..], &described[..added as usize]);
        let expected: Vec<Frame> = frames.into_iter().map(|frame| Frame {
            timestamp_ns: nanoseconds(&described[frame.interface as usize], frame.ticks), ..frame
        }).collect();
        prop_assert_eq!(outcome.frames, expected);
    }

    #[test]
    fn pcap_comes_back(
        nanos in any::<bool>(),
        link_type in any::<u16>(),
        snap_len in 1u32..,
        fcs_len in proptest::option::of((0u8..16).prop_map(|n| 2 * n)),
        frames in vec(frames(1), 0..40),
        block_len in 1usize..5_000,
    ) {
        let resolution = if nanos { Resolution::NANO } else { Resolution::MICRO };
        let per_second = if nanos { 1_000_000_000 } else { 1_000_000 };
        let interface = Interface {
            link_type: LinkType(link_type), snap_len, resolution, fcs_len, ..Interface::ethernet()
        };
        let mut writer = Writer::to_write(Vec::new(), Format::Pcap);
        writer.add_interface(&interface).unwrap();
        let mut expected = Vec::new();
        for frame in frames {
            let ticks = frame.ticks % (per_second << 32);
            writer.write(0, ticks, frame.original_len, &frame.data).unwrap();
            expected.push(Frame { ticks, timestamp_ns: nanoseconds(&interface, ticks), ..frame });
        }
        let (file, _) = writer.finish().unwrap();
        let outcome = read_in_blocks(&file, block_len);
        prop_assert_eq!(outcome.error_text(), None);
        prop_assert_eq!(&outcome.interfaces[..], &[interface]);
        prop_assert_eq!(outcome.frames, expected);
    }

    /// Broken captures too: the frames, the error and its offset do not depend on how the octets come.
    #[test]
    fn blocks_do_not_matter(
        pieces in vec(pieces(), 0..30),
        big in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        block_len in 1usize..300,
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let mut file = [order.section(), order.interface(1, 60, &[])].concat();
        for piece in &pieces {
            file.extend(piece.lay_down(order));
        }
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] ^= value;
        }
        file.truncate(cut.index(file.len() + 1));
        let whole = read(&file);
        let pieces = read_in_blocks(&file, block_len);
        prop_assert_eq!(pieces.error_text(), whole.error_text());
        prop_assert_eq!(&pieces.frames, &whole.frames);
        prop_assert_eq!(&pieces.interfaces, &whole.interfaces);
        if let Some(offset) = whole.error.as_ref().and_then(|error| error.offset()) {
            prop_assert!(offset <= file.len() as u64);
        }
        let dribble = Dribble { file: &file, at_once: block_len, calls: 0 };
        if let Ok(mut reader) = Reader::from_read(dribble) {
            let outcome = read_on(&mut reader);
            prop_assert_eq!(outcome.error_text(), whole.error_text());
            prop_assert_eq!(&outcome.frames, &whole.frames);
        }
        if let Ok(mut reader) = Reader::from_source(ReadSource::with_block_len(file.as_slice(), block_len)) {
            let outcome = read_chunks(&mut reader);
            prop_assert_eq!(outcome.error_text(), whole.error_text());
            prop_assert_eq!(&outcome.frames, &whole.frames);
        }
    }

    #[test]
    fn any_octets_are_read_without_a_panic(
        magic in prop::sample::select(vec![
            vec![], vec![0xA1, 0xB2, 0xC3, 0xD4, 0, 2, 0, 4], vec![0x4D, 0x3C, 0xB2, 0xA1, 2, 0, 4, 0],
            Order::Little.section(), Order::Big.section(),
            [Order::Big.section(), Order::Big.interface(1, 0, &[])].concat(),
        ]),
        rest in vec(any::<u8>(), 0..300),
    ) {
        read(&[magic, rest].concat());
    }
}

/// Parts of a pcapng file.
#[derive(Debug, Clone)]
enum Piece {
    Section,
    Interface(u16, u32, u8),
    Enhanced(u32, u64, Vec<u8>),
    Old(u16, u64, Vec<u8>),
    Simple(Vec<u8>),
    Other(u32, Vec<u8>),
}

fn pieces() -> impl Strategy<Value = Piece> {
    let data = || vec(any::<u8>(), 0..80);
    prop_oneof![
        1 => Just(Piece::Section),
        2 => (any::<u16>(), 0u32..100, any::<u8>()).prop_map(|(l, s, r)| Piece::Interface(l, s, r)),
        6 => (0u32..3, any::<u64>(), data()).prop_map(|(i, t, d)| Piece::Enhanced(i, t, d)),
        2 => (0u16..3, any::<u64>(), data()).prop_map(|(i, t, d)| Piece::Old(i, t, d)),
        2 => data().prop_map(Piece::Simple),
        2 => (7u32.., vec(any::<u8>(), 0..400)).prop_map(|(t, d)| Piece::Other(t, d)),
    ]
}

impl Piece {
    fn lay_down(&self, order: Order) -> Vec<u8> {
        match self {
            Self::Section => order.section(),
            Self::Interface(link_type, snap_len, resolution) => {
                order.interface(*link_type, *snap_len, &[(9, &[*resolution]), (3, b"described")])
            }
            Self::Enhanced(interface, ticks, data) => order.enhanced(*interface, *ticks, 1_500, data),
            Self::Old(interface, ticks, data) => order.old_packet(*interface, *ticks, 1_500, data),
            Self::Simple(data) => order.simple(data.len() as u32, data),
            Self::Other(block_type, body) => order.block(*block_type, body),
        }
    }
}

//! What the formats say is read: byte orders, units, blocks, sections, interfaces.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Frame, Order, read, read_in_blocks};
use pc5_pcap::{Format, LinkType, PcapError, ReadSource, Reader, Resolution};

fn frame(interface: u32, ticks: u64, timestamp_ns: u64, original_len: u32, data: &[u8]) -> Frame {
    Frame { interface, ticks, timestamp_ns, original_len, data: data.to_vec() }
}

#[test]
fn pcap_of_both_orders_and_units() {
    for order in Order::BOTH {
        for (magic, per_second, ns, resolution) in [
            (0xA1B2_C3D4, 1_000_000, 1_000, Resolution::MICRO),
            (0xA1B2_3C4D, 1_000_000_000, 1, Resolution::NANO),
        ] {
            let file = [
                order.pcap(magic, 96, 113),
                order.record(1_700_000_000, 123_456, 60, b"whole frame"),
                order.record(u32::MAX, 999_999, 1_500, b""),
            ]
            .concat();
            let outcome = read(&file);
            assert_eq!(outcome.error_text(), None);
            let [interface] = &outcome.interfaces[..] else { panic!("{:?}", outcome.interfaces) };
            assert_eq!((interface.link_type, interface.snap_len), (LinkType::LINUX_SLL, 96));
            assert_eq!((interface.resolution, interface.fcs_len), (resolution, None));
            let seconds = 1_700_000_000_u64;
            let late = u64::from(u32::MAX);
            assert_eq!(
                outcome.frames,
                [
                    frame(
                        0,
                        seconds * per_second + 123_456,
                        seconds * 1_000_000_000 + 123_456 * ns,
                        60,
                        b"whole frame"
                    ),
                    frame(0, late * per_second + 999_999, late * 1_000_000_000 + 999_999 * ns, 1_500, b""),
                ]
            );
        }
    }
}

#[test]
fn pcap_with_frame_check_sequences() {
    let file = Order::Big.pcap(0xA1B2_C3D4, 65_535, 2 << 28 | 1 << 26 | 1);
    let outcome = read(&file);
    assert_eq!(outcome.interfaces[0].link_type, LinkType::ETHERNET);
    assert_eq!(outcome.interfaces[0].fcs_len, Some(4));
}

#[test]
fn pcapng_of_both_orders_and_every_packet_block() {
    for order in Order::BOTH {
        let file = [
            order.section(),
            order.interface(1, 4, &[]),
            order.interface(
                195,
                0,
                &[
                    (2, b"radio0"),
                    (3, b"pc5 linktype=195 snaplen=0"),
                    (9, &[9]),
                    (11, b"\0not 0"),
                    (13, &[2]),
                ],
            ),
            order.block(5, &[0; 12]),
            order.enhanced(1, 1_700_000_000_123_456_789, 70, b"enhanced"),
            order.block(0x8000_0001, b"local use"),
            order.simple(9, b"simp"),
            order.simple(3, b"sim"),
            order.old_packet(0, 1_700_000_000_123_456, 8, b"packet"),
        ]
        .concat();
        let mut reader = Reader::from_read(file.as_slice()).unwrap();
        assert_eq!(reader.format(), Format::PcapNg);
        let outcome = common::read_on(&mut reader);
        assert_eq!(outcome.error_text(), None);
        let [first, second] = &outcome.interfaces[..] else { panic!("{:?}", outcome.interfaces) };
        assert_eq!((first.link_type, first.snap_len), (LinkType::ETHERNET, 4));
        assert_eq!((&first.name, &first.description), (&None, &None));
        assert_eq!(first.resolution, Resolution::MICRO);
        assert_eq!((second.name.as_deref(), second.fcs_len), (Some("radio0"), Some(2)));
        assert_eq!(second.resolution, Resolution::NANO);
        assert_eq!(second.carried().unwrap().link_type, LinkType(195));
        assert_eq!(
            outcome.frames,
            [
                frame(1, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789, 70, b"enhanced"),
                frame(0, 0, 0, 9, b"simp"),
                frame(0, 0, 0, 3, b"sim"),
                frame(0, 1_700_000_000_123_456, 1_700_000_000_123_456_000, 8, b"packet"),
            ]
        );
        let stats = reader.stats();
        assert_eq!((stats.octets, stats.records, stats.blocks), (file.len() as u64, 4, 1));
        assert_eq!((stats.passed_over, stats.sections), (2, 1));
        assert_eq!(reader.offset(), file.len() as u64);
    }
}

#[test]
fn sections_have_interfaces_and_byte_orders_of_their_own() {
    let (little, big) = (Order::Little, Order::Big);
    let file = [
        little.section(),
        little.interface(1, 0, &[]),
        little.interface(101, 0, &[]),
        little.enhanced(1, 1, 1, b"a"),
        big.section(),
        big.interface(228, 0, &[(9, &[3])]),
        big.enhanced(0, 2, 1, b"b"),
        little.section(),
        big.section(),
        big.interface(229, 0, &[]),
        big.enhanced(0, 3, 1, b"c"),
        big.interface(113, 0, &[]),
        big.enhanced(1, 4, 1, b"d"),
    ]
    .concat();
    for block_len in 1..100 {
        let outcome = read_in_blocks(&file, block_len);
        assert_eq!(outcome.error_text(), None, "blocks of {block_len}");
        let link_types: Vec<u16> = outcome.interfaces.iter().map(|i| i.link_type.0).collect();
        assert_eq!(link_types, [1, 101, 228, 229, 113]);
        assert_eq!(
            outcome.frames,
            [
                frame(1, 1, 1_000, 1, b"a"),
                frame(2, 2, 2_000_000, 1, b"b"),
                frame(3, 3, 3_000, 1, b"c"),
                frame(4, 4, 4_000, 1, b"d"),
            ]
        );
    }
    // An interface of the section before is none of this one.
    let file =
        [little.section(), little.interface(1, 0, &[]), little.section(), little.enhanced(0, 0, 0, b"")];
    let outcome = read(&file.concat());
    assert_eq!(outcome.frames, []);
    assert!(matches!(outcome.error, Some(PcapError::Malformed { offset: 84, found: 0, .. })), "{outcome:?}");
}

#[test]
fn timestamps_in_every_resolution() {
    for order in Order::BOTH {
        for (octet, offset_s, ticks, ns) in [
            (0, 0i64, 7, 7_000_000_000),
            (3, 0, 7, 7_000_000),
            (6, 10, 7, 10_000_007_000),
            (9, -1, 2_000_000_003, 1_000_000_003),
            (9, -3, 2_000_000_003, 0),
            (9, i64::MAX, 1, u64::MAX),
            (0, 0, u64::MAX, u64::MAX),
            (12, 0, 5_999, 5),
            (28, 0, u64::MAX, 1),
            (127, 0, u64::MAX, 0),
            (0x80, 0, 7, 7_000_000_000),
            (0x80 | 10, 0, 512, 500_000_000),
            (0x80 | 32, 1, 1 << 30, 1_250_000_000),
            (0xFF, 1, u64::MAX, 1_000_000_000),
        ] {
            let offset = match order {
                Order::Little => offset_s.to_le_bytes(),
                Order::Big => offset_s.to_be_bytes(),
            };
            let file = [
                order.section(),
                order.interface(1, 0, &[(9, &[octet]), (14, &offset)]),
                order.enhanced(0, ticks, 0, b""),
            ]
            .concat();
            let outcome = read(&file);
            assert_eq!(outcome.error_text(), None);
            assert_eq!(outcome.frames, [frame(0, ticks, ns, 0, b"")], "octet {octet} offset {offset_s}");
            assert_eq!(outcome.interfaces[0].offset_s, offset_s);
        }
    }
}

#[test]
fn frames_up_to_the_limit() {
    let order = Order::Little;
    let longest = vec![0x5A; 262_208];
    let too_long = vec![0x5A; 262_209];
    for (data, fits) in [(&longest, true), (&too_long, false)] {
        let pcap =
            [order.pcap(0xA1B2_C3D4, 0, 1), order.record(1, 0, 1, data), order.record(2, 0, 1, b"after")];
        let pcapng = [
            order.section(),
            order.interface(1, 0, &[]),
            order.enhanced(0, 1, 1, data),
            order.simple(5, b"after"),
        ];
        for file in [pcap.concat(), pcapng.concat()] {
            for block_len in [4_096, 300_000, 1 << 20] {
                let outcome = read_in_blocks(&file, block_len);
                assert_eq!(outcome.frames.len(), if fits { 2 } else { 0 });
                assert_eq!(
                    matches!(outcome.error, Some(PcapError::Malformed { found: 262_209, .. })),
                    !fits,
                    "{:?}",
                    outcome.error
                );
            }
        }
    }
}

#[test]
fn long_blocks_are_passed_over() {
    let order = Order::Big;
    let file = [
        order.section(),
        order.block(0x0BAD, &vec![1; 3 << 20]),
        order.interface(1, 0, &[]),
        order.enhanced(0, 1, 3, b"end"),
    ]
    .concat();
    for block_len in [10_000, 1 << 20] {
        let outcome = read_in_blocks(&file, block_len);
        assert_eq!(outcome.error_text(), None);
        assert_eq!(outcome.frames, [frame(0, 1, 1_000, 3, b"end")]);
    }
}

#[test]
fn a_small_capture_is_read_again_where_it_lies() {
    let order = Order::Little;
    let pcap = [order.pcap(0xA1B2_C3D4, 0, 1), order.record(1, 0, 1, b"x")].concat();
    let pcapng = [order.section(), order.interface(1, 0, &[]), order.enhanced(0, 1, 1, b"x")].concat();
    for file in [pcap, pcapng] {
        let mut reader = Reader::from_read(file.as_slice()).unwrap();
        for round in 1..=3 {
            assert_eq!(reader.next().unwrap().unwrap().data, b"x");
            assert!(reader.next().unwrap().is_none());
            assert_eq!(reader.interfaces().len(), 1);
            assert_eq!(reader.stats().records, round);
            assert_eq!(reader.stats().octets, round * file.len() as u64);
            assert_eq!(reader.stats().blocks, 1);
            reader.rewind().unwrap();
            assert_eq!(reader.stats().sections, round + u64::from(reader.format() == Format::Pcap));
        }
        // Not from the middle of a pipe.
        let mut reader = Reader::from_source(ReadSource::with_block_len(file.as_slice(), 30)).unwrap();
        while reader.next().unwrap().is_some() {}
        assert!(matches!(reader.rewind(), Err(PcapError::Rewind { .. })));
    }
}

#[test]
fn frames_left_in_a_chunk_come_again() {
    let order = Order::Little;
    let mut file = order.pcap(0xA1B2_C3D4, 0, 1);
    for n in 0..10u8 {
        file.extend(order.record(0, 0, 1, &[n]));
    }
    let mut reader = Reader::from_source(ReadSource::with_block_len(file.as_slice(), 70)).unwrap();
    let mut seen: Vec<u8> = Vec::new();
    while let Some(mut chunk) = reader.next_chunk().unwrap() {
        assert_eq!(chunk.interfaces().len(), 1);
        seen.extend(chunk.next().unwrap().data);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(reader.stats().records, 10);
}

//! Broken and cut captures: everything before the defect is delivered, then an error says where and what.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Order, read, read_in_blocks};
use pc5_pcap::{Expected, PcapError};

/// A capture, and where each of its pieces ends: what stands before the first frame, then every frame.
struct Laid {
    file: Vec<u8>,
    ends: Vec<usize>,
}

impl Laid {
    fn of(head: Vec<u8>, frames: &[Vec<u8>]) -> Self {
        let mut ends = vec![head.len()];
        let mut file = head;
        for frame in frames {
            file.extend(frame);
            ends.push(file.len());
        }
        Self { file, ends }
    }
}

fn samples(order: Order) -> [Laid; 3] {
    [
        Laid::of(
            order.pcap(0xA1B2_3C4D, 0, 1),
            &[
                order.record(1, 2, 9, b"first"),
                order.record(1, 2, 9, b""),
                order.record(3, 4, 9, b"the third frame"),
            ],
        ),
        Laid::of(
            [order.section(), order.interface(1, 0, &[(2, b"port"), (9, &[9])])].concat(),
            &[
                order.enhanced(0, 1, 9, b"first"),
                order.enhanced(0, 2, 9, b""),
                order.old_packet(0, 3, 9, b"the third frame"),
                order.simple(7, b"the end"),
            ],
        ),
        // Between the frames: a block to pass over, another section, another interface.
        Laid::of(
            [order.section(), order.interface(1, 0, &[])].concat(),
            &[
                [order.block(0xABC, b"passed over"), order.enhanced(0, 1, 9, b"first")].concat(),
                [order.section(), order.interface(101, 0, &[]), order.enhanced(0, 1, 9, b"second")].concat(),
                [order.interface(113, 0, &[]), order.enhanced(1, 1, 9, b"third")].concat(),
            ],
        ),
    ]
}

#[test]
fn every_cut_is_found() {
    for order in Order::BOTH {
        for laid in samples(order) {
            let whole = read(&laid.file);
            assert_eq!(whole.error_text(), None);
            for cut in 0..laid.file.len() {
                let file = &laid.file[..cut];
                let frames = laid.ends[1..].iter().filter(|&&end| end <= cut).count();
                for block_len in [7, 1 << 20] {
                    let outcome = read_in_blocks(file, block_len);
                    assert_eq!(outcome.frames, whole.frames[..frames], "cut at {cut}");
                    match outcome.error {
                        // Only between two blocks is a shorter file a whole one.
                        None => assert!(starts_a_block(&laid, cut), "cut at {cut}"),
                        Some(PcapError::NotACapture { found }) => assert_eq!(found, file[..cut.min(4)]),
                        Some(PcapError::CutOff { offset, found, expected, .. }) => {
                            assert!(offset < cut as u64, "cut at {cut}");
                            assert!(
                                offset
                                    >= laid
                                        .ends
                                        .iter()
                                        .rfind(|&&end| end <= cut)
                                        .map_or(0, |&end| end as u64)
                            );
                            assert_eq!(offset + found, cut as u64, "cut at {cut}");
                            assert!(expected > found, "cut at {cut}");
                            assert!(offset + expected <= laid.file.len() as u64, "cut at {cut}");
                        }
                        Some(other) => panic!("cut at {cut}: {other}"),
                    }
                }
            }
        }
    }
}

/// Whether the octet at `cut` is the first of a block or record. Found by cutting the rest away: what is left has no
/// frame more than before and no octet unread.
fn starts_a_block(laid: &Laid, cut: usize) -> bool {
    let reader = pc5_pcap::Reader::from_read(&laid.file[..]);
    let mut reader = reader.unwrap();
    let mut starts = vec![reader.offset()];
    while reader.next().unwrap().is_some() {
        starts.push(reader.offset());
    }
    // Blocks without frames lie between these; they are told by their type and length.
    starts.contains(&(cut as u64)) || block_starts(&laid.file).contains(&cut)
}

fn block_starts(file: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while file.starts_with(&[0x0A, 0x0D, 0x0D, 0x0A]) && at < file.len() {
        starts.push(at);
        let len: [u8; 4] = file[at + 4..at + 8].try_into().unwrap();
        at += u32::from_le_bytes(len).min(u32::from_be_bytes(len)) as usize;
    }
    starts
}

/// Overwrites 32 bits and says what the reader makes of it.
fn spoilt(order: Order, laid: &Laid, at: usize, value: u32) -> (usize, Option<PcapError>) {
    let mut file = laid.file.clone();
    file[at..at + 4].copy_from_slice(&order.u32(value));
    let outcome = read(&file);
    let in_pieces = read_in_blocks(&file, 11);
    assert_eq!(outcome.error_text(), in_pieces.error_text());
    assert_eq!(outcome.frames, in_pieces.frames);
    (outcome.frames.len(), outcome.error)
}

#[test]
fn impossible_fields_are_named() {
    for order in Order::BOTH {
        let [pcap, pcapng, sections] = samples(order);
        let at_least = Expected::AtLeast;
        let multiple = Expected::Rule("a multiple of 4");
        let length = "Block Total Length";
        let captured = "captured length";
        let second = pcap.ends[1];
        let [enhanced, _, old, simple, _] = pcapng.ends[..] else { panic!("four frames") };
        let [other, section, ..] = sections.ends[..] else { panic!("three frames") };
        // capture, where to put what, frames before, name of the field, expected
        let cases = [
            (&pcap, second + 8, 262_209, 1, captured, Expected::AtMost(262_208)),
            (&pcap, second + 8, u32::MAX, 1, captured, Expected::AtMost(262_208)),
            (&pcapng, enhanced + 4, 35, 0, length, multiple),
            (&pcapng, enhanced + 4, 28, 0, length, at_least(32)),
            (&pcapng, enhanced + 4, 1 << 20, 0, length, Expected::AtMost(512 << 10)),
            (&pcapng, enhanced + 8, 1, 0, "interface of the packet", Expected::Below(1)),
            (&pcapng, enhanced + 20, 9, 0, captured, Expected::AtMost(8)),
            (
                &pcapng,
                enhanced + 36,
                44,
                0,
                "Block Total Length at the end of the block",
                Expected::Exactly(40),
            ),
            (&pcapng, old + 20, 17, 2, captured, Expected::AtMost(16)),
            (&pcapng, simple + 8, 9, 3, captured, Expected::AtMost(8)),
            (&pcapng, simple + 4, 12, 3, length, at_least(16)),
            (&sections, other + 4, 8, 0, length, at_least(12)),
            (&sections, other + 4, 13, 0, length, multiple),
            (&sections, section + 4, 24, 1, length, at_least(28)),
        ];
        for (laid, at, value, frames, field, expected) in cases {
            let (delivered, error) = spoilt(order, laid, at, value);
            assert_eq!(delivered, frames, "{field} {value}");
            let Some(PcapError::Malformed { offset, field: f, found, expected: e }) = error else {
                panic!("{field} {value}: {error:?}")
            };
            assert_eq!((offset, f, found, e), (at as u64, field, u64::from(value), expected));
        }
        // Of a block that is passed over, too.
        let trailer = sections.ends[0] + 12 + "passed over".len().next_multiple_of(4) - 4;
        let (delivered, error) = spoilt(order, &sections, trailer, 20);
        assert_eq!(delivered, 0);
        assert!(
            matches!(error, Some(PcapError::Malformed { offset, found: 20, expected: Expected::Exactly(24), .. }) if offset == trailer as u64)
        );
        // A length that points behind the end of the file is a cut.
        let (delivered, error) = spoilt(order, &sections, sections.ends[0] + 4, u32::MAX - 3);
        assert_eq!(delivered, 0);
        assert!(
            matches!(error, Some(PcapError::CutOff { what: "block", expected: 0xFFFF_FFFC, .. })),
            "{error:?}"
        );
    }
}

#[test]
fn nothing_follows_a_defect() {
    for order in Order::BOTH {
        // A block passed over whose length at the end is wrong in such a way that it begins a packet.
        let packet = order.enhanced(0, 1, 1, b"not a packet");
        let mut block = order.block(0xABC, b"body");
        block.truncate(block.len() - 4);
        let file = [order.section(), order.interface(1, 0, &[]), block, packet].concat();
        let mut reader = pc5_pcap::Reader::from_read(file.as_slice()).unwrap();
        let error = reader.next().unwrap_err();
        assert!(
            matches!(error, PcapError::Malformed { found: 6, expected: Expected::Exactly(16), .. }),
            "{error}"
        );
        assert_eq!(error.offset(), Some(reader.offset()));
        for _ in 0..3 {
            assert!(reader.next().unwrap().is_none());
            assert!(reader.next_chunk().unwrap().is_none());
        }
    }
}

#[test]
fn headers_of_other_kinds_are_named() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "not a capture: found an empty file"),
        (b"\xA1", "not a capture: found a1"),
        (b"GET / HTTP/1.1", "not a capture: found 47 45 54 20"),
        (b"\xA1\xB2\xCD\x34", "modified pcap (Kuznetzov's libpcap, magic number a1b2cd34) is not read here"),
        (b"\x34\xCD\xB2\xA1", "modified pcap (Kuznetzov's libpcap, magic number a1b2cd34) is not read here"),
        (b"\x1C\x00\x01\xAC", "IXIA hardware"),
        (b"\xAC\x01\x00\x1C", "IXIA hardware"),
        (b"\x1C\x00\x01\xAB", "IXIA software"),
        (b"\xAB\x01\x00\x1C", "IXIA software"),
        (b"\x1F\x8B\x08\x00", "gzip-compressed file is not read here; decompress it with `gunzip`"),
        (b"\x28\xB5\x2F\xFD", "zstd"),
        (b"\x04\x22\x4D\x18", "lz4"),
        (b"\xFD7zXZ", "xz"),
        (b"BZh9", "bzip2"),
        (b"snoop\0\0\0", "snoop is not read here; convert it with `editcap -F pcapng`"),
        (b"GMBU", "Network Monitor 2"),
    ];
    for (file, text) in cases {
        let outcome = read(file);
        let error = outcome.error_text().unwrap();
        assert!(error.contains(text), "{error}");
        assert!(error.starts_with("at octet 0: "), "{error}");
        assert_eq!(outcome.error.unwrap().offset(), Some(0));
    }
}

#[test]
fn versions_are_checked() {
    for order in Order::BOTH {
        for (at, value, offset) in [(4, [1, 4], 4), (4, [2, 3], 6), (4, [543, 0], 4)] {
            let mut file = order.pcap(0xA1B2_C3D4, 0, 1);
            file[at..at + 2].copy_from_slice(&order.u16(value[0]));
            file[at + 2..at + 4].copy_from_slice(&order.u16(value[1]));
            let error = read(&file).error.unwrap();
            assert_eq!(error.offset(), Some(offset), "{error}");
            assert!(error.to_string().ends_with("expected version 2.4"), "{error}");
        }
        for (version, offset) in [([1, 0], None), ([1, 2], None), ([1, 1], Some(14)), ([2, 0], Some(12))] {
            let mut file = order.section();
            file[12..14].copy_from_slice(&order.u16(version[0]));
            file[14..16].copy_from_slice(&order.u16(version[1]));
            let error = read(&file).error;
            assert_eq!(error.as_ref().and_then(PcapError::offset), offset, "{error:?}");
        }
        let mut file = order.section();
        file[8] = 0;
        let error = read(&file).error.unwrap();
        assert_eq!(error.offset(), Some(8));
        assert!(error.to_string().contains("Byte-Order Magic"), "{error}");
    }
}

#[test]
fn options_are_checked() {
    for order in Order::BOTH {
        let head = order.section();
        for (code, value, expected) in [
            (9, &[6, 6][..], Expected::Exactly(1)),
            (9, &[], Expected::Exactly(1)),
            (13, &[0; 4], Expected::Exactly(1)),
            (14, &[0; 4], Expected::Exactly(8)),
        ] {
            let file = [head.clone(), order.interface(1, 0, &[(2, b"name"), (code, value)])].concat();
            let error = read(&file).error.unwrap();
            let PcapError::Malformed { offset, field, found, expected: e } = error else { panic!("{error}") };
            assert_eq!((offset, found, e), (28 + 16 + 8 + 2, value.len() as u64, expected));
            assert_eq!(field, "length of an interface's option");
        }
        // A length that leaves the block.
        let mut body = [order.u16(1).as_slice(), &[0, 0], &order.u32(0)].concat();
        body.extend([order.u16(3), order.u16(9)].concat());
        body.extend(b"12345678");
        let file = [head.clone(), order.block(1, &body)].concat();
        let error = read(&file).error.unwrap();
        assert!(
            matches!(error, PcapError::Malformed { found: 9, expected: Expected::AtMost(8), .. }),
            "{error}"
        );
        // Texts of every kind are taken; the list need not be ended.
        let mut body = [order.u16(1).as_slice(), &[0, 0], &order.u32(0)].concat();
        body.extend(order.option(3, b"\xFFtext"));
        let file = [head.clone(), order.block(1, &body)].concat();
        assert_eq!(read(&file).interfaces[0].description.as_deref(), Some("\u{FFFD}text"));
    }
}

#[test]
fn packets_without_an_interface_are_named() {
    for order in Order::BOTH {
        for packet in [order.simple(1, b"x"), order.enhanced(0, 0, 1, b"x"), order.old_packet(0, 0, 1, b"x")]
        {
            let error = read(&[order.section(), packet].concat()).error_text().unwrap();
            assert!(error.contains("an Interface Description Block before the first packet"), "{error}");
        }
    }
}

#[test]
fn what_would_not_fit_memory_is_refused() {
    let order = Order::Little;
    let mut file = order.section();
    let text = vec![b'x'; 65_535];
    for _ in 0..300 {
        file.extend(order.interface(1, 0, &[(3, &text)]));
    }
    let error = read(&file).error.unwrap();
    assert!(matches!(error, PcapError::Limit { limit, .. } if limit == 16 << 20), "{error}");

    let mut file = order.section();
    for _ in 0..=131_072 {
        file.extend(order.interface(1, 0, &[]));
    }
    let outcome = read(&file);
    assert_eq!(outcome.interfaces.len(), 131_072);
    let error = outcome.error.unwrap();
    assert!(
        matches!(error, PcapError::Limit { limit: 131_072, offset, .. } if offset == 28 + 131_072 * 20),
        "{error}"
    );
}

#[test]
fn a_capture_strung_together_without_end_is_read() {
    let order = Order::Little;
    let one = [
        order.section(),
        order.interface(1, 0, &[(2, b"port0")]),
        order.interface(101, 0, &[(2, b"port1")]),
        order.enhanced(0, 1, 1, b"a"),
        order.enhanced(1, 2, 1, b"b"),
    ]
    .concat();
    let times = 100_000;
    let outcome = read(&one.repeat(times));
    assert_eq!(outcome.error_text(), None);
    assert_eq!(outcome.frames.len(), 2 * times);
    assert_eq!(outcome.interfaces.len(), 65_536);
    for (n, frame) in outcome.frames.iter().enumerate() {
        let interface = &outcome.interfaces[frame.interface as usize];
        assert_eq!(interface.name.as_deref(), Some(["port0", "port1"][n % 2]));
        assert_eq!(frame.interface, n.min(65_534 + n % 2) as u32);
    }
    // Another interface is still another.
    let other = [order.section(), order.interface(113, 0, &[]), order.enhanced(0, 3, 1, b"c")].concat();
    let outcome = read(&[one.repeat(times), other].concat());
    assert_eq!(outcome.interfaces.len(), 65_537);
    assert_eq!(outcome.frames.last().unwrap().interface, 65_536);
}

#[test]
fn a_source_that_fails_is_read_up_to_there() {
    use std::io::Read;
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable is out"))
        }
    }
    let [pcap, pcapng, sections] = samples(Order::Little);
    for laid in [pcap, pcapng, sections] {
        let cut = laid.ends[2] + 3;
        let mut reader = pc5_pcap::Reader::from_read(laid.file[..cut].chain(Fails)).unwrap();
        let outcome = common::read_on(&mut reader);
        assert_eq!(outcome.frames.len(), 2);
        let error = outcome.error.unwrap();
        assert_eq!(error.to_string(), format!("at octet {cut}: reading failed: the cable is out"));
    }
}

#[test]
fn original_lengths_are_not_judged() {
    // 0, below and above the captured length: captures with each of them are around.
    for order in Order::BOTH {
        let mut file = order.pcap(0xA1B2_C3D4, 2, 1);
        for original_len in [0, 2, 3, u32::MAX] {
            file.extend(order.record(0, 0, original_len, b"abc"));
        }
        let outcome = read(&file);
        assert_eq!(outcome.error_text(), None);
        let lengths: Vec<u32> = outcome.frames.iter().map(|frame| frame.original_len).collect();
        assert_eq!(lengths, [0, 2, 3, u32::MAX]);
    }
}

//! What the writer lays down, octet for octet, and what it refuses.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Order, read};
use pc5_pcap::{Expected, Format, Interface, LinkType, PcapError, Records, Resolution, Writer};

fn to_memory(format: Format) -> Writer<pc5_pcap::WriteSink<Vec<u8>>> {
    Writer::to_write(Vec::new(), format)
}

#[test]
fn pcapng_is_laid_down_as_described() {
    let order = Order::Little;
    let radio = Interface {
        link_type: LinkType(195),
        snap_len: 96,
        name: Some("radio0".to_owned()),
        fcs_len: Some(4),
        offset_s: -2,
        ..Interface::ethernet()
    };
    let plain = Interface { resolution: Resolution::MICRO, ..Interface::ethernet() };
    let mut writer = to_memory(Format::PcapNg);
    assert_eq!(writer.add_interface(&radio.carrier()).unwrap(), 0);
    writer.write(0, 0x1234_5678_9ABC_DEF0, 70, b"carried").unwrap();
    assert_eq!(writer.add_interface(&plain).unwrap(), 1);
    writer.write(1, 7, 4, b"four").unwrap();
    assert_eq!(writer.add_interface(&radio).unwrap(), 2);
    assert_eq!(writer.interfaces(), 3);
    assert_eq!(writer.io_path(), "write: not a file");
    let (file, stats) = writer.finish().unwrap();
    let offset = (-2i64).to_le_bytes();
    let expected = [
        order.section(),
        order.interface(
            1,
            0,
            &[(2, b"radio0"), (3, b"pc5 linktype=195 snaplen=96"), (9, &[9]), (14, &offset)],
        ),
        order.enhanced(0, 0x1234_5678_9ABC_DEF0, 70, b"carried"),
        order.interface(1, 0, &[]),
        order.enhanced(1, 7, 4, b"four"),
        order.interface(195, 96, &[(2, b"radio0"), (9, &[9]), (13, &[4]), (14, &offset)]),
    ]
    .concat();
    assert_eq!(file, expected);
    assert_eq!((stats.octets, stats.records, stats.blocks), (file.len() as u64, 2, 1));
}

#[test]
fn pcap_is_laid_down_as_described() {
    let order = Order::Little;
    for (resolution, magic, per_second) in
        [(Resolution::MICRO, 0xA1B2_C3D4, 1_000_000), (Resolution::NANO, 0xA1B2_3C4D, 1_000_000_000)]
    {
        let mut writer = to_memory(Format::Pcap);
        writer.add_interface(&Interface { resolution, fcs_len: Some(4), ..Interface::ethernet() }).unwrap();
        writer.write(0, 5 * per_second + 6, 70, b"frame").unwrap();
        let (file, _) = writer.finish().unwrap();
        let head = order.pcap(magic, 262_144, 2 << 28 | 1 << 26 | 1);
        assert_eq!(file, [head, order.record(5, 6, 70, b"frame")].concat());
    }
}

#[test]
fn what_a_format_cannot_say_is_refused() {
    let mut writer = to_memory(Format::Pcap);
    for interface in [
        Interface { resolution: Resolution::Decimal(3), ..Interface::ethernet() },
        Interface { offset_s: 1, ..Interface::ethernet() },
    ] {
        let error = writer.add_interface(&interface).unwrap_err().to_string();
        assert!(error.ends_with("write pcapng for others"), "{error}");
    }
    assert!(matches!(writer.write(0, 0, 0, b""), Err(PcapError::NoSuchInterface { found: 0, known: 0 })));
    writer.add_interface(&Interface::ethernet()).unwrap();
    let error = writer.add_interface(&Interface::ethernet()).unwrap_err().to_string();
    assert!(error.contains("write pcapng for several"), "{error}");
    assert!(matches!(writer.write(1, 0, 0, b""), Err(PcapError::NoSuchInterface { found: 1, known: 1 })));
    // 2^32 s after 1970.
    let error = writer.write(0, 4_294_967_296_000_000_000, 0, b"").unwrap_err();
    assert!(matches!(
        error,
        PcapError::Unwritable { found: 4_294_967_296, expected: Expected::AtMost(4_294_967_295), .. }
    ));
    writer.write(0, 4_294_967_295_999_999_999, 0, b"last").unwrap();
    let too_long = vec![0; 262_209];
    assert!(matches!(writer.write(0, 0, 0, &too_long), Err(PcapError::Unwritable { found: 262_209, .. })));
    // What was refused left nothing behind.
    let (file, stats) = writer.finish().unwrap();
    assert_eq!(stats.records, 1);
    let outcome = read(&file);
    assert_eq!(outcome.error_text(), None);
    assert_eq!(outcome.frames[0].timestamp_ns, 4_294_967_295_999_999_999);

    let mut writer = to_memory(Format::PcapNg);
    let long = Interface { description: Some("x".repeat(65_536)), ..Interface::ethernet() };
    let error = writer.add_interface(&long).unwrap_err().to_string();
    assert_eq!(error, "interface description is 65536, expected at most 65535");
    let (file, _) = writer.finish().unwrap();
    assert_eq!(file, Order::Little.section());

    let error = to_memory(Format::Pcap).finish().unwrap_err();
    assert!(matches!(error, PcapError::NoSuchInterface { .. }), "a pcap file has no header without one");
}

#[test]
fn the_longest_frames_and_texts_fit() {
    for format in [Format::Pcap, Format::PcapNg] {
        let mut writer = to_memory(format);
        let text = Some("x".repeat(65_535));
        let interface = Interface { name: text.clone(), description: text, ..Interface::ethernet() };
        writer.add_interface(&interface).unwrap();
        let frame = vec![0xA5; 262_144];
        for n in 0..20 {
            writer.write(0, n, u32::MAX, &frame).unwrap();
        }
        let (file, stats) = writer.finish().unwrap();
        assert!(stats.blocks > 3, "{stats:?}");
        assert_eq!(stats.octets, file.len() as u64);
        let outcome = read(&file);
        assert_eq!(outcome.error_text(), None);
        assert_eq!(outcome.frames.len(), 20);
        assert!(outcome.frames.iter().all(|read| read.data == frame && read.original_len == u32::MAX));
    }
}

#[test]
fn records_rendered_apart_are_those_of_the_writer() {
    let frame = |n: usize| vec![n as u8; n * 1_499 % 1_600];
    let frames = 3_000; // Some two blocks.
    let mut direct = to_memory(Format::PcapNg);
    let mut copied = to_memory(Format::PcapNg);
    for writer in [&mut direct, &mut copied] {
        writer.add_interface(&Interface::ethernet()).unwrap();
        writer.add_interface(&Interface::ethernet()).unwrap();
    }
    // Two hands render every third frame and the others; the longest there is comes too.
    let mut hands = [Records::new(), Records::new()];
    for n in 0..frames {
        let data = if n == 700 { vec![7; 262_144] } else { frame(n) };
        let (interface, ticks, original_len) = (n as u32 % 2, n as u64, data.len() as u32 + 1);
        direct.write(interface, ticks, original_len, &data).unwrap();
        hands[usize::from(n % 3 == 0)].push(interface, ticks, original_len, &data).unwrap();
    }
    let mut taken = [0, 0];
    for n in 0..frames {
        let hand = usize::from(n % 3 == 0);
        // One by one, two of a hand where two follow.
        if n % 3 == 2 {
            continue;
        }
        let to = (taken[hand] + if n % 3 == 1 { 2 } else { 1 }).min(hands[hand].len());
        copied.write_records(&hands[hand], taken[hand]..to).unwrap();
        taken[hand] = to;
    }
    assert_eq!(copied.stats().octets, direct.stats().octets);
    let ((copied, stats), (direct, _)) = (copied.finish().unwrap(), direct.finish().unwrap());
    assert!(copied == direct, "the same octets");
    assert_eq!((stats.octets, stats.records), (direct.len() as u64, frames as u64));

    // All at once: more than a block of the writer holds.
    let mut whole = to_memory(Format::PcapNg);
    let mut each = to_memory(Format::PcapNg);
    let records = &mut hands[0];
    for writer in [&mut whole, &mut each] {
        writer.add_interface(&Interface::ethernet()).unwrap();
        writer.add_interface(&Interface::ethernet()).unwrap();
    }
    whole.write_records(records, 0..records.len()).unwrap();
    (0..records.len()).for_each(|i| each.write_records(records, i..i + 1).unwrap());
    assert!(whole.finish().unwrap().0 == each.finish().unwrap().0);

    let mut one = to_memory(Format::PcapNg);
    one.add_interface(&Interface::ethernet()).unwrap();
    let refused = one.write_records(records, 0..1).unwrap_err();
    assert!(matches!(refused, PcapError::NoSuchInterface { found: 1, known: 1 }), "{refused}");
    one.write_records(records, 0..0).unwrap();
    one.add_interface(&Interface::ethernet()).unwrap();
    assert!(one.write_records(records, 0..records.len() + 1).is_err(), "more than there are");
    assert_eq!(one.stats().records, 0);
    let mut pcap = to_memory(Format::Pcap);
    pcap.add_interface(&Interface::ethernet()).unwrap();
    records.clear();
    records.push(0, 0, 1, b"x").unwrap();
    assert!(pcap.write_records(records, 0..1).is_err(), "pcap has other records");
    assert!(records.push(0, 0, 0, &vec![0; 262_209]).is_err());
    assert_eq!(records.len(), 1);
}

//! What the writer lays down, octet for octet, and what it refuses.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Order, read};
use pc5_pcap::{Expected, Format, Interface, LinkType, PcapError, Resolution, Writer};

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
    let too_long = vec![0; 262_145];
    assert!(matches!(writer.write(0, 0, 0, &too_long), Err(PcapError::Unwritable { found: 262_145, .. })));
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

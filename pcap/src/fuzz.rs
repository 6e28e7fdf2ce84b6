//! Bodies of the fuzz targets, here so that ordinary tests replay their corpus. They panic on what must not happen.

use crate::{Format, PcapError, ReadSource, Reader, Record, Writer};

/// The first two octets say in what pieces the rest, a capture, is read.
///
/// Whole and in pieces it must give the same frames and end the same way; what was delivered must come back when it is
/// written as pcapng; an error must lie within the capture.
pub fn read(octets: &[u8]) {
    let Some((&[low, high], capture)) = octets.split_first_chunk::<2>() else { return };
    let block_len = 1 + usize::from(u16::from_le_bytes([low, high]));
    let pieces = Reader::from_source(ReadSource::with_block_len(capture, block_len));
    let (mut whole, mut pieces) = match (Reader::from_read(capture), pieces) {
        (Ok(whole), Ok(pieces)) => (whole, pieces),
        (Err(one), Err(other)) => return same_end(capture, &one, &other),
        _ => panic!("the header was taken one way and not the other"),
    };
    let mut writer = Writer::to_write(Vec::new(), Format::PcapNg);
    loop {
        match (whole.next(), pieces.next()) {
            (Ok(Some(one)), Ok(Some(other))) => {
                assert_eq!(one, other);
                let record = one;
                // The interfaces may not be borrowed while the record is; both come from the same place.
                for interface in pieces.interfaces().iter().skip(writer.interfaces() as usize) {
                    if writer.add_interface(interface).is_err() {
                        return; // Text that grew beyond 16 bits when it was made UTF-8.
                    }
                }
                writer
                    .write(record.interface, record.ticks, record.original_len, record.data)
                    .expect("what was read can be written");
            }
            (Ok(None), Ok(None)) => {
                assert_eq!(whole.offset(), capture.len() as u64, "read to the end");
                break;
            }
            (Err(one), Err(other)) => {
                same_end(capture, &one, &other);
                break;
            }
            (one, other) => panic!("{one:?} is not {other:?}"),
        }
    }
    assert_eq!(whole.interfaces(), pieces.interfaces());
    let (written, _) = writer.finish().expect("memory takes everything");
    let mut again = Reader::from_read(written.as_slice()).expect("what was written is a capture");
    let mut first = Reader::from_read(capture).expect("it was one before");
    while let Some(chunk) = again.next_chunk().expect("what was written is whole") {
        for record in chunk {
            let expected = first.next().expect("the frames before the defect").expect("as many");
            // A Simple Packet Block has no time and comes back with tick 0, which the interface may move.
            let expected = Record { timestamp_ns: record.timestamp_ns, ..expected };
            assert_eq!(record, expected);
        }
    }
}

fn same_end(capture: &[u8], one: &PcapError, other: &PcapError) {
    assert_eq!(one.to_string(), other.to_string());
    let offset = one.offset().expect("a defect has a place");
    assert!(offset <= capture.len() as u64, "{one}");
}

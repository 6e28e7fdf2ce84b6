//! Files in and out, by every way to the system: read ahead, written behind, never left half written.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::{Order, read_chunks, read_on};
use pc5_pcap::{FileSink, Format, Interface, IoChoice, Memory, PcapError, Reader, Writer};
use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const WAYS: [IoChoice; 4] = [IoChoice::Auto, IoChoice::Ahead, IoChoice::Plain, IoChoice::Here];

/// Frame `n` of the captures written here: a length and content of its own.
fn content(n: usize) -> Vec<u8> {
    let len = 40 + n * 37 % 1_460;
    (0..len).map(|i| (n * 31 + i * 7) as u8).collect()
}

fn write_frames(writer: &mut Writer<FileSink>, frames: usize) {
    let port = writer.add_interface(&Interface::ethernet()).unwrap();
    for n in 0..frames {
        let data = content(n);
        writer.write(port, n as u64, data.len() as u32 + 1, &data).unwrap();
    }
}

fn check_path(io_path: &str, direction: &str, choice: IoChoice) {
    match choice {
        IoChoice::Plain => assert_eq!(io_path, format!("{direction}: plain calls asked for")),
        IoChoice::Here => assert_eq!(io_path, format!("{direction}: in the caller's thread")),
        // What was just written is in memory, where the file system can tell.
        IoChoice::Auto if direction == "read" && io_path == "read: from the page cache" => {}
        IoChoice::Auto | IoChoice::Ahead if io_path == "io_uring" => {}
        IoChoice::Auto | IoChoice::Ahead => {
            assert!(io_path.starts_with(&format!("{direction}: io_uring refused: ")), "{io_path}");
            println!("io_uring was not tested: {io_path}");
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_of_many_blocks_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let frames = 9_000;
    let mut files = Vec::new();
    for choice in WAYS {
        for format in [Format::Pcap, Format::PcapNg] {
            let path = folder.path().join(format!("{}-{choice:?}", format.name()));
            let mut writer = Writer::create_with(&path, format, choice).unwrap();
            check_path(writer.io_path(), "write", choice);
            write_frames(&mut writer, frames);
            let ((), written) = writer.finish().unwrap();
            let len = fs::metadata(&path).unwrap().len();
            assert!(len > 6 << 20, "{len}");
            assert_eq!((written.octets, written.records), (len, frames as u64));
            assert!(written.blocks >= len >> 20);
            files.push((format, fs::read(&path).unwrap()));

            for choice in WAYS {
                let mut reader = Reader::open_with(&path, choice).unwrap();
                check_path(reader.io_path(), "read", choice);
                assert_eq!(reader.format(), format);
                for round in 1..=3 {
                    let mut n = 0;
                    while let Some(record) = reader.next().unwrap() {
                        assert_eq!(record.data, content(n));
                        assert_eq!(record.timestamp_ns, n as u64);
                        assert_eq!(record.original_len as usize, record.data.len() + 1);
                        n += 1;
                    }
                    assert_eq!(n, frames);
                    assert_eq!(reader.offset(), len);
                    assert_eq!(reader.stats().octets, round * len);
                    reader.rewind().unwrap();
                }
                // From the middle of the file, where blocks read ahead are under way.
                for n in 0..100 {
                    assert_eq!(reader.next().unwrap().unwrap().data, content(n));
                }
                reader.rewind().unwrap();
                let outcome = read_chunks_anew(&mut reader);
                assert_eq!(outcome, frames);
            }
        }
    }
    // Both ways write the same octets.
    assert!(files[0] == files[2] && files[1] == files[3]);
}

fn read_chunks_anew(reader: &mut Reader) -> usize {
    let mut n = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        for record in chunk {
            assert_eq!(record.data, content(n));
            n += 1;
        }
    }
    n
}

#[test]
fn small_files_are_rewound_often() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.pcapng");
    let mut writer = Writer::create(&path, Format::PcapNg).unwrap();
    write_frames(&mut writer, 10);
    writer.finish().unwrap();
    for choice in WAYS {
        let mut reader = Reader::open_with(&path, choice).unwrap();
        for _ in 0..10_000 {
            while reader.next().unwrap().is_some() {}
            reader.rewind().unwrap();
        }
        assert_eq!(reader.stats().records, 100_000);
        assert_eq!(reader.stats().blocks, 1, "read once");
    }
}

#[test]
fn files_of_awkward_lengths_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let order = Order::Little;
    for len in [0, 24, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2 << 20, 5 << 20, (5 << 20) + 17] {
        let path = folder.path().join("file");
        // Records of 1,024 octets, and a last one that fills up.
        let mut file = order.pcap(0xA1B2_C3D4, 0, 1);
        while file.len() + 2_048 < len {
            file.extend(order.record(0, 0, 0, &[7; 1_008]));
        }
        if len >= file.len() + 16 {
            let rest = vec![9; len - file.len() - 16];
            file.extend(order.record(1, 0, 0, &rest));
        }
        file.truncate(len);
        fs::write(&path, &file).unwrap();
        for choice in WAYS {
            let mut reader = match Reader::open_with(&path, choice) {
                Ok(reader) => reader,
                Err(error) => {
                    assert!(len == 0 && matches!(error, PcapError::NotACapture { .. }), "{error}");
                    assert!(error.to_string().contains("an empty file"));
                    continue;
                }
            };
            for _ in 0..2 {
                while reader.next().unwrap().is_some() {}
                assert_eq!(reader.offset(), len as u64);
                reader.rewind().unwrap();
            }
            assert_eq!(read_chunks(&mut Reader::open_with(&path, choice).unwrap()).error_text(), None);
        }
    }
}

#[test]
fn a_cut_file_is_read_to_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcapng");
    let mut writer = Writer::create(&path, Format::PcapNg).unwrap();
    write_frames(&mut writer, 5_000);
    writer.finish().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 10).unwrap();
    for choice in WAYS {
        let mut reader = Reader::open_with(&path, choice).unwrap();
        let outcome = read_on(&mut reader);
        assert_eq!(outcome.frames.len(), 4_999);
        let last = 28 + 4 + content(4_999).len().next_multiple_of(4) as u64;
        let error = outcome.error.unwrap();
        assert_eq!(error.offset(), Some(len - last));
        let PcapError::CutOff { found, expected, .. } = error else { panic!("{error}") };
        assert_eq!((found, expected), (last - 10, last));
        // And the same the next time round.
        reader.rewind().unwrap();
        let mut records = 0;
        let error = loop {
            match reader.next() {
                Ok(Some(_)) => records += 1,
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        assert_eq!((records, error.offset()), (4_999, Some(len - last)));
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shrinking.pcap");
    let mut writer = Writer::create(&path, Format::Pcap).unwrap();
    write_frames(&mut writer, 20_000);
    writer.finish().unwrap();
    for choice in WAYS {
        let copy = folder.path().join("copy.pcap");
        fs::copy(&path, &copy).unwrap();
        let mut reader = Reader::open_with(&copy, choice).unwrap();
        assert!(reader.next().unwrap().is_some());
        fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(10_000).unwrap();
        let mut records = 1;
        // What was read ahead is delivered; how much that is, nobody can say.
        let error = loop {
            match reader.next() {
                Ok(Some(record)) => assert_eq!(record.data, content(records)),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            records += 1;
        };
        assert!(records < 20_000);
        assert!(matches!(error, None | Some(PcapError::CutOff { .. })), "{error:?}");
    }
}

#[test]
fn a_target_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcapng");
    for choice in WAYS {
        let mut writer = Writer::create_with(&path, Format::PcapNg, choice).unwrap();
        write_frames(&mut writer, 3_000);
        assert!(!path.exists());
        assert_eq!(names_in(folder.path()).len(), 1, "the temporary file");
        drop(writer);
        assert_eq!(names_in(folder.path()), [""; 0], "dropped unfinished");

        fs::write(&path, "earlier").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut writer = Writer::create_with(&path, Format::PcapNg, choice).unwrap();
        write_frames(&mut writer, 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier");
        writer.finish().unwrap();
        assert_eq!(names_in(folder.path()), ["out.pcapng"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(read_on(&mut Reader::open(&path).unwrap()).frames.len(), 3);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_capture_can_be_replaced_by_what_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in-and-out.pcap");
    let mut writer = Writer::create(&path, Format::Pcap).unwrap();
    write_frames(&mut writer, 5_000);
    writer.finish().unwrap();
    let before = fs::read(&path).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let mut writer = Writer::create(&path, Format::Pcap).unwrap();
    let port = writer.add_interface(&reader.interfaces()[0]).unwrap();
    while let Some(record) = reader.next().unwrap() {
        writer.write(port, record.ticks, record.original_len, record.data).unwrap();
    }
    writer.finish().unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "").unwrap();
    symlink(&target, &link).unwrap();
    let mut writer = Writer::create(&link, Format::PcapNg).unwrap();
    write_frames(&mut writer, 1);
    writer.finish().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(read_on(&mut Reader::open(&target).unwrap()).frames.len(), 1);
}

#[test]
fn pipes_are_read_and_written_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let other_end = pipe.clone();
    let writing = std::thread::spawn(move || {
        let mut writer = Writer::create(&other_end, Format::PcapNg).unwrap();
        assert_eq!(writer.io_path(), "write: not a regular file");
        write_frames(&mut writer, 5_000);
        writer.finish().unwrap();
    });
    let mut reader = Reader::open(&pipe).unwrap();
    assert_eq!(reader.io_path(), "read: not a regular file");
    let outcome = read_on(&mut reader);
    writing.join().unwrap();
    assert_eq!(outcome.error_text(), None);
    assert_eq!(outcome.frames.len(), 5_000);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(matches!(reader.rewind(), Err(PcapError::Rewind { .. })));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/file.pcap");
    let error = Reader::open(&missing).unwrap_err().to_string();
    assert!(error.contains("missing/file.pcap: cannot open: No such file"), "{error}");
    let error = Writer::create(&missing, Format::Pcap).unwrap_err().to_string();
    assert!(error.contains("missing/file.pcap: cannot create: No such file"), "{error}");
    let error = Reader::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
    let error = Writer::create(folder.path(), Format::Pcap).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn both_ends_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Reader>();
    moves::<Writer>();
    moves::<PcapError>();
}

#[test]
fn a_full_disk_is_an_error() {
    // Its device: every write fails.
    let mut writer = Writer::create("/dev/full", Format::PcapNg).unwrap();
    assert_eq!(writer.io_path(), "write: not a regular file");
    writer.add_interface(&Interface::ethernet()).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, PcapError::Write { offset: 0, .. }), "{error}");
}

/// The page cache is asked to let go of all but the first half: the reader changes over where it ends.
#[test]
fn a_file_half_in_memory_comes_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture");
    let mut writer = Writer::create_with(&path, Format::PcapNg, IoChoice::Plain).unwrap();
    let frames = 9_000;
    write_frames(&mut writer, frames);
    writer.finish().unwrap();
    let file = fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    let half = file.metadata().unwrap().len() / 2;
    rustix::fs::fadvise(&file, half, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    for round in 0..2 {
        let mut n = 0;
        while let Some(record) = reader.next().unwrap() {
            assert_eq!(record.data, content(n));
            n += 1;
        }
        assert_eq!(n, frames);
        if round == 0 && reader.io_path() == "read: from the page cache" {
            println!("changing over was not tested: the file stayed in memory");
        }
        reader.rewind().unwrap();
    }
}

/// Frames outlive their chunk in the memory that they lie in, however the blocks come, and however many are kept; blocks that
/// were let go of are used again.
#[test]
fn memory_that_is_kept_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture");
    let frames = 20_000; // Some 15 MB.
    let mut writer = Writer::create(&path, Format::PcapNg).unwrap();
    write_frames(&mut writer, frames);
    writer.finish().unwrap();
    for choice in WAYS {
        // All blocks at once, and a few.
        for most in [usize::MAX, 5] {
            let mut reader = Reader::open_with(&path, choice).unwrap();
            let mut kept: VecDeque<(Memory, Vec<(usize, usize)>)> = VecDeque::new();
            let mut addresses = HashSet::new();
            let mut checked = 0;
            let mut check = |(memory, places): (Memory, Vec<(usize, usize)>)| {
                for (at, len) in places {
                    assert!(memory.octets()[at..at + len] == content(checked), "{choice:?} frame {checked}");
                    checked += 1;
                }
            };
            while let Some(mut chunk) = reader.next_chunk().unwrap() {
                let memory = chunk.memory().clone();
                addresses.insert(memory.octets().as_ptr() as usize);
                let mut places = Vec::new();
                while let Some((at, record)) = chunk.next_in_place() {
                    assert_eq!(memory.octets()[at..at + record.data.len()], *record.data);
                    places.push((at, record.data.len()));
                }
                drop(chunk);
                assert!(kept.back().is_none_or(|(before, _)| !before.is_same(&memory)));
                kept.push_back((memory, places));
                if kept.len() > most {
                    kept.pop_front().into_iter().for_each(&mut check);
                }
            }
            let blocks = reader.stats().blocks as usize;
            kept.drain(..).for_each(&mut check);
            assert_eq!(checked, frames);
            // Those kept, the one that is parsed, and what a source has under way.
            let bound = most.saturating_add(8);
            assert!(blocks > 12 && addresses.len() <= bound, "{choice:?}: {} of {blocks}", addresses.len());
        }
    }
}

//! The `io_uring` way: whether the kernel allows it, and whole transfers at an offset.

use super::{Block, HEADROOM, IoChoice};
use std::fs::File;
use std::io;
use std::panic;
use tokio_uring::buf::BoundedBuf;

/// A runtime for the calling thread, or why there is none. A kernel may lack `io_uring`, or an administrator or a
/// container forbid it.
pub(super) fn runtime(choice: IoChoice) -> Result<tokio_uring::Runtime, String> {
    if choice == IoChoice::Plain {
        return Err("plain calls asked for".to_owned());
    }
    let mut builder = tokio_uring::builder();
    // One operation a block under way, and one to try it.
    builder.entries(8);
    let refused = |error: io::Error| format!("io_uring refused: {error}");
    // Out of descriptors half way, it panics instead of saying so.
    let runtime = panic::catch_unwind(|| tokio_uring::Runtime::new(&builder))
        .map_err(|_| "io_uring refused: no runtime for it".to_owned())?
        .map_err(refused)?;
    // A ring that was granted may still refuse the operation, so one is tried where nothing can go wrong.
    let null = File::open("/dev/null").map_err(refused)?;
    let (read, _) = runtime.block_on(async move {
        let null = tokio_uring::fs::File::from_std(null);
        null.read_at(vec![0], 0).await
    });
    read.map_err(refused)?;
    Ok(runtime)
}

/// Fills `block` from offset `at`; short only at the end of a file that was `file_len` long, or is longer by now.
pub(super) async fn fill(
    file: &tokio_uring::fs::File,
    mut block: Block,
    at: u64,
    file_len: u64,
) -> io::Result<Block> {
    let mut octets = std::mem::take(&mut block.octets);
    let room = octets.len();
    let mut end = HEADROOM;
    while end < room {
        let offset = at + (end - HEADROOM) as u64;
        let (read, slice) = file.read_at(octets.slice(end..room), offset).await;
        octets = slice.into_inner();
        match read {
            Ok(0) => break,
            Ok(len) => end += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if at + (end - HEADROOM) as u64 >= file_len {
            break;
        }
    }
    Ok(Block { last: end < room, octets, start: HEADROOM, end })
}

/// Writes `full` at offset `at` and gives it back empty.
pub(super) async fn write(file: &tokio_uring::fs::File, full: Vec<u8>, at: u64) -> io::Result<Vec<u8>> {
    let (written, mut octets) = file.write_all_at(full, at).await;
    written?;
    octets.clear();
    Ok(octets)
}

//! Moving blocks of a capture between memory and the system.
//!
//! ```text
//!   FileSource   page cache  ---> block --------------> Reader            the blocks go round, so that
//!                thread: read ahead ---> full blocks --->                 memory stays bounded
//!                               <------- spent blocks <---
//!   FileSink     Writer ---> full blocks ---> thread: write behind
//!                      <---- empty blocks <---
//! ```
//!
//! What of a regular file lies in the page cache is read where it is parsed: another thread would only carry it from one
//! core's caches to another's. What does not is read ahead by a thread, and files are written behind by one, with `io_uring`
//! where the kernel allows it and with `read(2)` / `write(2)` where not. Pipes, terminals and devices are read and written
//! plainly, without a thread, and so is everything for a caller that asks for it.
//! `io_path` of each says which it was, and why.

mod plain;
mod sink;
mod source;
mod uring;

pub use plain::{ReadSource, WriteSink};
pub use sink::FileSink;
pub use source::FileSource;

use crate::format::limits;
use std::io;

/// Octets kept free before a block, so that the tail of the block before can be put in front of it: a record is always
/// in one piece.
pub(crate) const HEADROOM: usize = limits::MAX_PARSED_LEN;

/// Blocks of a file read ahead of the parser. More than one, so that neither side waits for the other; few, because
/// what was read lies in the processor's caches only for so long.
pub(crate) const READ_AHEAD: usize = 2;

/// Blocks of a file that may wait to be written: a disk that pauses should not stop the writer at once.
pub(crate) const WRITE_BEHIND: usize = 4;

/// Which way to the system to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// Reading, what the page cache has at once, and the rest as [`IoChoice::Ahead`]; writing, as that.
    #[default]
    Auto,
    /// By a thread, with `io_uring` where the kernel allows it, plain calls elsewhere.
    Ahead,
    /// By a thread, with plain calls.
    Plain,
    /// In the caller's thread, with plain calls that wait for the disk: for callers that have threads enough.
    Here,
}

/// A piece of a file in memory.
#[derive(Debug, Default)]
pub struct Block {
    /// [`HEADROOM`] octets, then the block.
    pub(crate) octets: Vec<u8>,
    /// The first octet of what was read and not yet parsed.
    pub(crate) start: usize,
    /// The end of what was read.
    pub(crate) end: usize,
    /// Whether the file ends with this block.
    pub(crate) last: bool,
}

impl Block {
    /// An empty block with room for `len` octets.
    pub(crate) fn with_len(len: usize) -> Self {
        Self::empty(vec![0; HEADROOM + len])
    }

    /// An empty block in this memory, headroom included.
    pub(crate) fn empty(octets: Vec<u8>) -> Self {
        Self { octets, start: HEADROOM, end: HEADROOM, last: false }
    }

    /// What is left to parse.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or(&[])
    }

    /// Puts `tail`, shorter than [`HEADROOM`], in front of what was read.
    pub(crate) fn prepend(&mut self, tail: &[u8]) {
        let start = self.start.saturating_sub(tail.len());
        if let Some(room) = self.octets.get_mut(start..start + tail.len()) {
            room.copy_from_slice(tail);
            self.start = start;
        }
    }
}

/// Where a [`Reader`](crate::Reader) gets its blocks from.
pub trait BlockSource {
    /// The next block of the file. Empty and `last` at its end.
    fn next_block(&mut self) -> io::Result<Block>;

    /// Takes back a block that was parsed.
    fn recycle(&mut self, spent: Block);

    /// Starts again at the first octet. Fails where the source cannot be read twice.
    fn rewind(&mut self) -> io::Result<()>;

    /// How the blocks come, and why in this way; for reports.
    fn io_path(&self) -> &str;
}

/// Where a [`Writer`](crate::Writer) leaves its blocks.
pub trait BlockSink {
    /// What is left of the sink once everything was written.
    type Done;

    /// Takes a full block and gives back an empty one. An error may be that of an earlier block.
    fn write_block(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>>;

    /// Takes the last block, waits until all are written, and makes the result visible.
    fn finish(self, last: Vec<u8>) -> io::Result<Self::Done>;

    /// How the blocks go, and why in this way; for reports.
    fn io_path(&self) -> &str;
}

//! Blocks by plain calls, in the caller's thread.

use super::{Block, BlockSink, BlockSource, HEADROOM};
use crate::format::limits;
use std::io::{self, ErrorKind, Read, Write};

/// Blocks from anything that can be read; read once, from where it stands.
#[derive(Debug)]
pub struct ReadSource<R> {
    input: R,
    block_len: usize,
    free: Vec<Block>,
    io_path: &'static str,
}

impl<R: Read> ReadSource<R> {
    /// Reads in blocks of 256 KiB, or of what `input` gives at once.
    pub fn new(input: R) -> Self {
        Self::with_block_len(input, limits::PIPE_BLOCK_LEN)
    }

    /// Reads in blocks of at most `block_len` octets; at least one.
    pub fn with_block_len(input: R, block_len: usize) -> Self {
        Self { input, block_len: block_len.max(1), free: Vec::new(), io_path: "read: not a file" }
    }

    pub(super) fn named(self, io_path: &'static str) -> Self {
        Self { io_path, ..self }
    }
}

impl<R: Read> BlockSource for ReadSource<R> {
    fn next_block(&mut self) -> io::Result<Block> {
        let mut block = self.free.pop().unwrap_or_else(|| Block::with_len(self.block_len));
        let room = block.octets.get_mut(HEADROOM..).unwrap_or(&mut []);
        let len = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        (block.start, block.end, block.last) = (HEADROOM, HEADROOM + len, len == 0);
        Ok(block)
    }

    fn recycle(&mut self, spent: Block) {
        if spent.octets.len() == HEADROOM + self.block_len {
            self.free.push(spent);
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        Err(ErrorKind::NotSeekable.into())
    }

    fn io_path(&self) -> &str {
        self.io_path
    }
}

/// Blocks to anything that can be written.
#[derive(Debug)]
pub struct WriteSink<W> {
    output: W,
}

impl<W: Write> WriteSink<W> {
    /// Writes to `output`, which is given back at the end.
    pub fn new(output: W) -> Self {
        Self { output }
    }
}

impl<W: Write> BlockSink for WriteSink<W> {
    type Done = W;

    fn write_block(&mut self, mut full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.output.write_all(&full)?;
        full.clear();
        Ok(full)
    }

    fn finish(mut self, last: Vec<u8>) -> io::Result<W> {
        self.output.write_all(&last)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn io_path(&self) -> &str {
        "write: not a file"
    }
}

//! The block under the parser, and those that others still read.

use crate::stream::{Block, BlockSource};
use std::collections::VecDeque;
use std::sync::Arc;

/// A block of a capture, counted, so that the frames in it can outlive their [`Chunk`](crate::Chunk), on other threads too.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Vec<u8>>);

impl Memory {
    /// All of it: a frame is where [`Chunk::next_in_place`](crate::Chunk::next_in_place) said, the rest is nothing to rely on.
    #[inline(always)]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether the other is the same block, not one that happens to be equal.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Vec<u8>> for Memory {
    /// Frames from elsewhere.
    fn from(octets: Vec<u8>) -> Self {
        Self(Arc::new(octets))
    }
}

/// What the parser has before it: a [`Block`] whose octets others may read too.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) memory: Memory,
    /// The first octet not yet parsed.
    pub(super) start: usize,
    /// The end of what was read.
    pub(super) end: usize,
}

impl Window {
    #[inline(always)]
    pub(super) fn octets(&self) -> &[u8] {
        self.memory.octets()
    }

    /// What is left to parse.
    #[inline(always)]
    pub(super) fn rest(&self) -> &[u8] {
        self.octets().get(self.start..self.end).unwrap_or(&[])
    }
}

/// Blocks that were parsed while somebody else had not yet done with them. They go back to their source one by one, each in
/// the place of one that was lent later; so there are never more of them than were out at once.
#[derive(Debug, Default)]
pub(super) struct Lent {
    blocks: VecDeque<Memory>,
    /// What counted blocks that went back: used again, so that a block costs no allocation.
    counts: Vec<Memory>,
}

impl Lent {
    /// Puts a block before the parser.
    pub(super) fn window(&mut self, block: Block) -> Window {
        let mut memory = self.counts.pop().unwrap_or_default();
        match Arc::get_mut(&mut memory.0) {
            Some(octets) => *octets = block.octets,
            None => memory = Memory(Arc::new(block.octets)),
        }
        Window { memory, start: block.start, end: block.end }
    }

    /// Gives the source its block back, or another as long.
    pub(super) fn recycle(&mut self, spent: Memory, source: &mut impl BlockSource) {
        let len = spent.0.len();
        self.blocks.push_back(spent);
        // A source with a fixed number of blocks would wait for this one while its reader waits for the source.
        let free = self.take_free(len).unwrap_or_else(|| vec![0; len]);
        source.recycle(Block::empty(free));
    }

    /// One that nobody reads any more.
    fn take_free(&mut self, len: usize) -> Option<Vec<u8>> {
        let i = self.blocks.iter().position(|m| m.0.len() == len && Arc::strong_count(&m.0) == 1)?;
        let mut memory = self.blocks.remove(i)?;
        let octets = std::mem::take(Arc::get_mut(&mut memory.0)?);
        self.counts.push(memory);
        Some(octets)
    }
}

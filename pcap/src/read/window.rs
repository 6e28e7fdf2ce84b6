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

impl From<Block> for Window {
    fn from(block: Block) -> Self {
        Self { memory: Memory(Arc::new(block.octets)), start: block.start, end: block.end }
    }
}

/// Blocks that were parsed while somebody else had not yet done with them. They go back to their source one by one, each in
/// the place of one that was lent later; so there are never more of them than were out at once.
#[derive(Debug, Default)]
pub(super) struct Lent(VecDeque<Memory>);

impl Lent {
    /// Gives the source its block back, or another as long.
    pub(super) fn recycle(&mut self, spent: Memory, source: &mut impl BlockSource) {
        let len = spent.0.len();
        let free = match Arc::try_unwrap(spent.0) {
            Ok(octets) => octets,
            Err(shared) => {
                self.0.push_back(Memory(shared));
                match self.take_free(len) {
                    Some(octets) => octets,
                    // A source with a fixed number of blocks would wait for this one while its reader waits for the source.
                    None => vec![0; len],
                }
            }
        };
        source.recycle(Block::empty(free));
    }

    /// One that nobody reads any more.
    fn take_free(&mut self, len: usize) -> Option<Vec<u8>> {
        let i = self.0.iter().position(|m| m.0.len() == len && Arc::strong_count(&m.0) == 1)?;
        Arc::try_unwrap(self.0.remove(i)?.0).ok()
    }
}

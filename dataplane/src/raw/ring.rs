//! Receive rings that the kernel fills in memory shared with it: blocks (TPACKET_V3) and frames (TPACKET_V2).
//!
//! ```text
//! blocks   kernel fills a block with frames, hands it over when it is full or its timer (>= 1 ms) fires
//! frames   kernel hands each frame over at once
//! ```
//! Ownership of a block or frame is one 32-bit word in the shared memory. While it says "user" the kernel does not write
//! there; every offset read from the memory is checked against its bounds all the same.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::sys;

/// Memory shared with the kernel.
struct Map {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; access needs `&self` or `&mut self` of the ring.
unsafe impl Send for Map {}

impl Map {
    fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping, placed by the kernel, overlaps nothing.
        let at = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                fd,
                0,
            )
        }?;
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { at, len })
    }

    /// The ownership word at `offset`, a multiple of 4.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len);
        // SAFETY: in bounds and aligned (the mapping is page-aligned); both sides access ownership words atomically.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().add(offset).cast()) }
    }

    /// A word that does not change while we own its block or frame.
    fn read(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Relaxed)
    }

    fn read_half(&self, offset: usize) -> u16 {
        let word = self.read(offset & !3).to_ne_bytes();
        u16::from_ne_bytes([word[offset & 2], word[(offset & 2) + 1]])
    }

    /// Octets of a block or frame that we own, `None` where they would leave `within`.
    fn octets(&self, from: usize, len: usize, within: std::ops::Range<usize>) -> Option<&[u8]> {
        let end = from.checked_add(len)?;
        if from < within.start || end > within.end || end > self.len {
            return None;
        }
        // SAFETY: in bounds; the ownership word was read as ours with acquire ordering, and it is given back only through
        // `&mut` of the ring, when no such slice lives any more.
        Some(unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(from), len) })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; nothing borrows from it any more.
        // An error could only mean that it is not mapped, and there is nobody to tell.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// A frame in a ring.
#[derive(Clone, Copy)]
pub(crate) struct RingFrame<'a> {
    /// Octets from the destination address on, an 802.1Q tag taken out by the kernel.
    pub(crate) data: &'a [u8],
    /// Whether the ring had no room for all of it.
    pub(crate) truncated: bool,
    /// When it was received, nanoseconds since 1970.
    pub(crate) timestamp_ns: u64,
}

/// What the sink says of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// Taken.
    Taken,
    /// No room: it stays in the ring, and so do all behind it.
    Full,
}

/// Ring of blocks.
pub(crate) struct BlockRing {
    map: Map,
    block_len: usize,
    blocks: usize,
    /// Block to read next.
    block: usize,
    /// Within a block that is ours: offset of the next frame, frames left.
    cursor: Option<(usize, u32)>,
}

/// Layout of a block's header: `tpacket_block_desc`, of a frame's: `tpacket3_hdr`.
mod v3 {
    pub(super) const BLOCK_STATUS: usize = 8;
    pub(super) const NUM_PKTS: usize = 12;
    pub(super) const FIRST_PKT: usize = 16;
    pub(super) const NEXT: usize = 0;
    pub(super) const SEC: usize = 4;
    pub(super) const NSEC: usize = 8;
    pub(super) const SNAPLEN: usize = 12;
    pub(super) const LEN: usize = 16;
    pub(super) const MAC: usize = 24;
    pub(super) const HEADER: usize = 28;
}

impl BlockRing {
    /// `blocks` blocks of `block_len` octets (a power of two, whole pages), handed over after `timer_ms` at the latest.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        block_len: usize,
        blocks: usize,
        timer_ms: u32,
    ) -> io::Result<Self> {
        // Only the product of frame size and number is looked at in this version; frames lie packed.
        let frame_size = 2_048;
        sys::set_block_ring(
            fd,
            &libc::tpacket_req3 {
                tp_block_size: block_len as u32,
                tp_block_nr: blocks as u32,
                tp_frame_size: frame_size,
                tp_frame_nr: (block_len / frame_size as usize * blocks) as u32,
                tp_retire_blk_tov: timer_ms,
                tp_sizeof_priv: 0,
                tp_feature_req_word: 0,
            },
        )?;
        Ok(Self { map: Map::new(fd, block_len * blocks)?, block_len, blocks, block: 0, cursor: None })
    }

    /// Gives frames to `sink` until it is full or the ring is empty.
    pub(crate) fn drain(&mut self, mut sink: impl FnMut(RingFrame<'_>) -> Take) {
        // Once round at most: a kernel that refills as fast as we read must not keep us here.
        for _ in 0..=self.blocks {
            let base = self.block * self.block_len;
            let (mut at, mut left) = match self.cursor {
                Some(cursor) => cursor,
                None => {
                    let status = self.map.word(base + v3::BLOCK_STATUS).load(Ordering::Acquire);
                    if status & libc::TP_STATUS_USER == 0 {
                        return;
                    }
                    (base + self.map.read(base + v3::FIRST_PKT) as usize, self.map.read(base + v3::NUM_PKTS))
                }
            };
            let within = base..base + self.block_len;
            while left > 0 {
                let Some(frame) = self.frame(at, within.clone()) else { break };
                if sink(frame) == Take::Full {
                    self.cursor = Some((at, left));
                    return;
                }
                left -= 1;
                at += self.map.read(at + v3::NEXT) as usize;
            }
            self.cursor = None;
            self.map.word(base + v3::BLOCK_STATUS).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.block = (self.block + 1) % self.blocks;
        }
    }

    fn frame(&self, at: usize, within: std::ops::Range<usize>) -> Option<RingFrame<'_>> {
        if at < within.start || at + v3::HEADER > within.end || !at.is_multiple_of(4) {
            return None;
        }
        let len = self.map.read(at + v3::SNAPLEN) as usize;
        let data = self.map.octets(at + self.map.read_half(at + v3::MAC) as usize, len, within)?;
        Some(RingFrame {
            data,
            truncated: (self.map.read(at + v3::LEN) as usize) > len,
            timestamp_ns: nanoseconds(self.map.read(at + v3::SEC), self.map.read(at + v3::NSEC)),
        })
    }
}

/// Ring of frames.
pub(crate) struct FrameRing {
    map: Map,
    frame_len: usize,
    /// Frames in a block: none lies across the end of one.
    in_block: usize,
    block_len: usize,
    frames: usize,
    /// Frame to read next.
    next: usize,
}

/// Layout of a frame's header: `tpacket2_hdr`.
mod v2 {
    pub(super) const STATUS: usize = 0;
    pub(super) const LEN: usize = 4;
    pub(super) const SNAPLEN: usize = 8;
    pub(super) const MAC: usize = 12;
    pub(super) const SEC: usize = 16;
    pub(super) const NSEC: usize = 20;
}

impl FrameRing {
    /// At least `frames` places of at least `frame_len` octets, headers included.
    pub(crate) fn new(fd: BorrowedFd<'_>, frame_len: usize, frames: usize) -> io::Result<Self> {
        // An odd number of cache lines: places then begin in all sets of the caches, not in a few.
        let frame_len = (frame_len.div_ceil(64) | 1) * 64;
        let block_len = frame_len.next_power_of_two().max(1 << 18);
        let in_block = block_len / frame_len;
        let blocks = frames.div_ceil(in_block);
        let frames = blocks * in_block;
        sys::set_frame_ring(
            fd,
            &libc::tpacket_req {
                tp_block_size: block_len as u32,
                tp_block_nr: blocks as u32,
                tp_frame_size: frame_len as u32,
                tp_frame_nr: frames as u32,
            },
        )?;
        Ok(Self { map: Map::new(fd, blocks * block_len)?, frame_len, in_block, block_len, frames, next: 0 })
    }

    /// Where the next frame is.
    fn base(&self) -> usize {
        self.next / self.in_block * self.block_len + self.next % self.in_block * self.frame_len
    }

    /// Whether there is a frame.
    pub(crate) fn is_ready(&self) -> bool {
        self.map.word(self.base() + v2::STATUS).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Gives frames to `sink` until it is full or the ring is empty.
    pub(crate) fn drain(&mut self, mut sink: impl FnMut(RingFrame<'_>) -> Take) {
        // Once round at most: a kernel that refills as fast as we read must not keep us here.
        for _ in 0..self.frames {
            if !self.is_ready() {
                return;
            }
            let base = self.base();
            let len = self.map.read(base + v2::SNAPLEN) as usize;
            let from = base + self.map.read_half(base + v2::MAC) as usize;
            if let Some(data) = self.map.octets(from, len, base..base + self.frame_len) {
                let frame = RingFrame {
                    data,
                    truncated: (self.map.read(base + v2::LEN) as usize) > len,
                    timestamp_ns: nanoseconds(self.map.read(base + v2::SEC), self.map.read(base + v2::NSEC)),
                };
                if sink(frame) == Take::Full {
                    return;
                }
            }
            self.map.word(base + v2::STATUS).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.frames;
        }
    }
}

fn nanoseconds(sec: u32, nsec: u32) -> u64 {
    u64::from(sec) * 1_000_000_000 + u64::from(nsec)
}

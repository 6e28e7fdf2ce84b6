//! Two ways in for one worker: a ring of frames while the link is quiet, since each frame is there at once, and a ring of
//! blocks while it is busy, since that costs sender and receiver least.
//!
//! ```text
//!            quiet -> frames   rate over UP for 20 ms: the kernel's program of the group is exchanged
//! group of 2
//!            busy  -> blocks   rate under DOWN for 100 ms: back again
//! ```
//! The kernel exchanges the program at one instant, so no frame is lost or comes twice. Frames are read first: what is there
//! was before what is in the blocks. On the way back that is the other way round, and they wait until the last block must
//! have come.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use socket2::Socket;

use super::fanout::Fanout;
use crate::raw::ring::{BlockRing, FrameRing, RingFrame, Take};
use crate::raw::sys;

pub(super) struct Adaptive {
    frames: FrameRing,
    blocks: BlockRing,
    /// Sockets of both, frames first.
    sockets: [Arc<Socket>; 2],
    /// Readable when one of them is.
    either: OwnedFd,
    fanout: Fanout,
    worker: usize,
    phase: Phase,
    load: Load,
    /// The system does not let us change any more.
    is_fixed: bool,
}

enum Phase {
    Frames,
    ToBlocks(Arc<AtomicU8>),
    Blocks,
    /// With the instant since which nothing new goes into blocks.
    ToFrames(Arc<AtomicU8>, Option<Instant>),
}

/// What a change that another thread asks of the kernel has come to.
mod change {
    pub(super) const UNDER_WAY: u8 = 0;
    pub(super) const DONE: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
}

impl Adaptive {
    /// Over two sockets that are in the worker's places of the group.
    pub(super) fn new(
        (frames, frames_socket): (FrameRing, Arc<Socket>),
        (blocks, blocks_socket): (BlockRing, Arc<Socket>),
        fanout: Fanout,
        worker: usize,
    ) -> io::Result<Self> {
        let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (socket, n) in [&frames_socket, &blocks_socket].into_iter().zip(0..) {
            epoll::add(&either, socket.as_fd(), epoll::EventData::new_u64(n), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            frames,
            blocks,
            sockets: [frames_socket, blocks_socket],
            either,
            fanout,
            worker,
            phase: Phase::Frames,
            load: Load::new(),
            is_fixed: false,
        })
    }

    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }

    /// Whether frames come one by one, so that waiting a moment saves wake-ups.
    pub(super) fn wakes_by_frame(&self) -> bool {
        matches!(self.phase, Phase::Frames | Phase::ToBlocks(_))
    }

    /// Gives frames to `sink` until it is full or both rings are empty.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(RingFrame<'_>) -> Take) {
        self.advance();
        let (mut n, is_full) = (0, Cell::new(false));
        let mut counting = |frame: RingFrame<'_>| {
            let take = sink(frame);
            is_full.set(take == Take::Full);
            n += u32::from(take == Take::Taken);
            take
        };
        if !matches!(self.phase, Phase::ToFrames(..)) {
            self.frames.drain(&mut counting);
        }
        if !is_full.get() {
            self.blocks.drain(&mut counting);
        }
        if let Some(is_busy) = self.load.note(n, is_full.get())
            && !self.is_fixed
        {
            match (&self.phase, is_busy) {
                (Phase::Frames, true) => self.phase = Phase::ToBlocks(self.change(true)),
                (Phase::Blocks, false) => self.phase = Phase::ToFrames(self.change(false), None),
                _ => {}
            }
        }
    }

    fn advance(&mut self) {
        let (phase, refused) = match &mut self.phase {
            Phase::ToBlocks(state) => match state.load(Ordering::Acquire) {
                change::UNDER_WAY => return,
                change::DONE => (Phase::Blocks, false),
                _ => (Phase::Frames, true),
            },
            Phase::ToFrames(state, since) => match state.load(Ordering::Acquire) {
                change::REFUSED => (Phase::Blocks, true),
                state => {
                    if since.is_none() && (state == change::DONE || self.frames.is_ready()) {
                        *since = Some(Instant::now());
                    }
                    if since.is_none_or(|since| since.elapsed() < LAST_BLOCK) {
                        return;
                    }
                    (Phase::Frames, false)
                }
            },
            _ => return,
        };
        self.phase = phase;
        self.is_fixed |= refused;
    }

    /// Asks the kernel on a thread of its own, which waits as long as that takes. It is made anew each time, so that it has
    /// no rights that the process has given up.
    fn change(&mut self, is_busy: bool) -> Arc<AtomicU8> {
        let state = Arc::new(AtomicU8::new(change::UNDER_WAY));
        let (fanout, socket, worker) = (self.fanout.clone(), self.sockets[0].clone(), self.worker);
        let told = state.clone();
        let ask = move || {
            let outcome = fanout.set_busy(socket.as_fd(), worker, is_busy);
            told.store(if outcome.is_ok() { change::DONE } else { change::REFUSED }, Ordering::Release);
        };
        if std::thread::Builder::new().name("pc5-port".to_owned()).spawn(ask).is_err() {
            state.store(change::REFUSED, Ordering::Release);
        }
        state
    }

    /// Takes errors that say only that the link went down; until then the sockets look ready.
    pub(super) fn clear_errors(&self) {
        for socket in &self.sockets {
            let _ = socket.take_error();
        }
    }

    /// Frames dropped by the kernel since the last call.
    pub(super) fn take_drops(&self) -> u64 {
        let drops = |socket: &Arc<Socket>| sys::take_packet_statistics(socket.as_fd()).map_or(0, |(_, d)| d);
        self.sockets.iter().map(drops).sum()
    }
}

/// Rate of a link over windows of [`WINDOW`].
struct Load {
    since: Instant,
    frames: u32,
    /// How long the rate has been over [`UP`], and under [`DOWN`].
    over: Duration,
    under: Duration,
}

impl Load {
    fn new() -> Self {
        Self { since: Instant::now(), frames: 0, over: Duration::ZERO, under: Duration::ZERO }
    }

    /// Counts; says at the end of a window whether the link is busy or quiet, where that is clear. A window does not end
    /// with frames left behind: a thread that was late would take what came meanwhile for little.
    fn note(&mut self, frames: u32, is_more: bool) -> Option<bool> {
        self.frames = self.frames.saturating_add(frames);
        let elapsed = self.since.elapsed();
        if elapsed < WINDOW || (is_more && elapsed < DOWN_FOR) {
            return None;
        }
        let rate = f64::from(self.frames) / elapsed.as_secs_f64();
        (self.since, self.frames) = (Instant::now(), 0);
        self.over = if rate > UP { self.over + elapsed } else { Duration::ZERO };
        self.under = if rate < DOWN { self.under + elapsed } else { Duration::ZERO };
        if self.over >= UP_FOR {
            Some(true)
        } else if self.under >= DOWN_FOR {
            Some(false)
        } else {
            None
        }
    }
}

const WINDOW: Duration = Duration::from_millis(10);
/// Frames a second from which on a link is busy, and below which it is quiet. Near a gigabit a second of whole frames is quiet
/// still: blocks add up to twice their timer at every node, and until here a processor has time to wake up for frames.
const UP: f64 = 100_000.0;
const DOWN: f64 = 50_000.0;
/// For how long.
const UP_FOR: Duration = Duration::from_millis(20);
const DOWN_FOR: Duration = Duration::from_millis(100);
/// Longest time from a frame in a block to the block: twice its timer, and some.
const LAST_BLOCK: Duration = Duration::from_millis(3);

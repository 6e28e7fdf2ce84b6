//! Frames out: by peer, in runs of equal length that the kernel cuts into datagrams.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;

use super::{MAX_DATAGRAM, id_at, is_about_a_peer, is_before_keys};
use crate::batch::Batch;
use crate::io::peers::{Known, Peers, for_ipv6_socket};
use crate::io::socket::{SendError, wait_for};
use crate::io::{TxOutcome, limits};
use crate::pdu::spec;
use crate::raw::sys::{Outgoing, SendBurst};
use crate::verdict::Verdict;

/// Frames of equal length, and at most a shorter one behind them.
struct Run {
    /// In the arena.
    octets: Range<u32>,
    segment: u16,
    /// In the list of slots.
    frames: Range<u32>,
}

/// What became of a frame; the largest counts, since a group frame goes to several peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    NotGiven,
    NoAddress,
    LinkDown,
    TooLong,
    Overload,
    Sent,
}

/// Reused from burst to burst.
pub(super) struct Output {
    cuts: bool,
    /// Longest datagrams that the kernel was willing to cut.
    segment_limit: usize,
    /// Datagrams that the kernel was willing to cut a message into.
    max_segments: usize,
    burst: SendBurst,
    arena: Vec<u8>,
    fates: Vec<Fate>,
    /// Slots by target, then of groups.
    of_target: Vec<Vec<u32>>,
    touched: Vec<u32>,
    of_groups: Vec<u32>,
    /// Slots in the order of the runs.
    slots: Vec<u32>,
    runs: Vec<Run>,
    /// Run and address of each message.
    messages: Vec<(u32, SocketAddr)>,
}

impl Output {
    pub(super) fn new(cuts: bool) -> Self {
        Self {
            cuts,
            segment_limit: MAX_DATAGRAM,
            max_segments: MAX_SEGMENTS,
            burst: SendBurst::new(limits::BURST),
            arena: Vec::new(),
            fates: Vec::new(),
            of_target: Vec::new(),
            touched: Vec::new(),
            of_groups: Vec::new(),
            slots: Vec::new(),
            runs: Vec::new(),
            messages: Vec::new(),
        }
    }

    pub(super) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        batch: &Batch,
        peers: &Peers,
        is_ipv6: bool,
    ) -> io::Result<TxOutcome> {
        let known = peers.known();
        self.sort(batch, &known, peers);
        self.make_runs(batch, &known);
        if is_ipv6 {
            for (_, to) in &mut self.messages {
                *to = for_ipv6_socket(*to);
            }
        }
        self.transmit(fd)?;
        Ok(self.outcome())
    }

    /// Slots by target, in order. What goes to nobody has its fate already.
    fn sort(&mut self, batch: &Batch, known: &Known, peers: &Peers) {
        self.clear();
        self.fates.resize(batch.len(), Fate::NotGiven);
        if self.of_target.len() < known.targets().len() {
            self.of_target.resize_with(known.targets().len(), Vec::new);
        }
        let mut last = None;
        for (i, slot) in batch.slots().iter().enumerate() {
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            self.fates[i] = Fate::NoAddress;
            let Some(head) = batch.unpadded_frame(i).first_chunk::<{ spec::HEADER_LEN }>() else { continue };
            if head[0] & 1 != 0 {
                self.of_groups.push(i as u32);
                continue;
            }
            let id = id_at(head, 3);
            if is_before_keys(head[14]) {
                self.answer(batch, i, known, id, peers);
                continue;
            }
            // A burst is mostly for one peer.
            let target = match last {
                Some((of, target)) if of == id => target,
                _ => known.index_of(id),
            };
            last = Some((id, target));
            if let Some(target) = target {
                let slots = &mut self.of_target[target as usize];
                if slots.is_empty() {
                    self.touched.push(target);
                }
                slots.push(i as u32);
            }
        }
    }

    fn clear(&mut self) {
        for target in self.touched.drain(..) {
            self.of_target[target as usize].clear();
        }
        self.arena.clear();
        self.fates.clear();
        self.of_groups.clear();
        self.slots.clear();
        self.runs.clear();
        self.messages.clear();
    }

    /// A message that nothing was verified for yet goes where the peer is known to be and where it says it is: the first
    /// may be out of date, the second a lie.
    fn answer(&mut self, batch: &Batch, slot: usize, known: &Known, id: u32, peers: &Peers) {
        let at = known.index_of(id).and_then(|i| known.targets().get(i as usize)).copied();
        let claimed = peers.claimed(id).filter(|&c| Some(c) != at);
        self.append(batch, slot);
        let run = self.push_run(self.arena.len() as u32, self.slots.len() as u32 - 1, 0);
        self.messages.extend(at.into_iter().chain(claimed).map(|to| (run, to)));
    }

    fn make_runs(&mut self, batch: &Batch, known: &Known) {
        let mut touched = std::mem::take(&mut self.touched);
        for &target in &touched {
            let slots = std::mem::take(&mut self.of_target[target as usize]);
            let runs = self.runs_of(batch, &slots);
            let to = known.targets()[target as usize];
            self.messages.extend(runs.map(|run| (run, to)));
            self.of_target[target as usize] = slots;
        }
        std::mem::swap(&mut self.touched, &mut touched);
        let groups = std::mem::take(&mut self.of_groups);
        let runs = self.runs_of(batch, &groups);
        self.of_groups = groups;
        for &to in known.targets() {
            self.messages.extend(runs.clone().map(|run| (run, to)));
        }
    }

    fn runs_of(&mut self, batch: &Batch, slots: &[u32]) -> Range<u32> {
        let first_run = self.runs.len() as u32;
        let mut open: Option<(usize, usize, usize)> = None; // Length, octets so far, frames so far.
        for &slot in slots {
            let len = batch.unpadded_frame(slot as usize).len();
            match &mut open {
                Some((segment, octets, frames))
                    if self.cuts
                        && len <= *segment
                        && *segment < self.segment_limit
                        && *octets + len <= MAX_DATAGRAM
                        && *frames < self.max_segments
                        && *octets == *segment * *frames =>
                {
                    self.append(batch, slot as usize);
                    (*octets, *frames) = (*octets + len, *frames + 1);
                    if let Some(run) = self.runs.last_mut() {
                        run.octets.end = self.arena.len() as u32;
                        run.frames.end = self.slots.len() as u32;
                    }
                }
                _ => {
                    self.append(batch, slot as usize);
                    self.push_run(self.arena.len() as u32, self.slots.len() as u32 - 1, len as u16);
                    open = Some((len, len, 1));
                }
            }
        }
        first_run..self.runs.len() as u32
    }

    fn append(&mut self, batch: &Batch, slot: usize) {
        self.arena.extend_from_slice(batch.unpadded_frame(slot));
        self.slots.push(slot as u32);
    }

    /// A run of the frame that was appended last.
    fn push_run(&mut self, end: u32, frame: u32, segment: u16) -> u32 {
        let start = self.runs.last().map_or(0, |r| r.octets.end);
        self.runs.push(Run { octets: start..end, segment, frames: frame..frame + 1 });
        self.runs.len() as u32 - 1
    }

    fn transmit(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut patience = None;
        let mut at = 0;
        while at < self.messages.len() {
            let (runs, arena) = (&self.runs, &self.arena);
            let outgoing = self.messages[at..].iter().map(|&(run, to)| {
                let run = &runs[run as usize];
                let octets = &arena[run.octets.start as usize..run.octets.end as usize];
                let segment = (run.frames.len() > 1).then_some(run.segment);
                Outgoing { parts: [octets, &[], &[]], to: Some(to), segment }
            });
            match self.burst.send(fd, outgoing) {
                Ok(n) => {
                    for i in at..at + n {
                        self.settle(i, Fate::Sent);
                    }
                    at += n;
                }
                Err(e) => {
                    let is_run = self.runs[self.messages[at].0 as usize].frames.len() > 1;
                    match SendError::of(&e) {
                        SendError::Again => {}
                        SendError::Full => {
                            let deadline =
                                *patience.get_or_insert_with(|| Instant::now() + limits::TX_PATIENCE);
                            let left = deadline.saturating_duration_since(Instant::now());
                            if left.is_zero() {
                                for i in at..self.messages.len() {
                                    self.settle(i, Fate::Overload);
                                }
                                return Ok(());
                            }
                            wait_for(fd, PollFlags::OUT, left)?;
                        }
                        // The kernel does not cut this: too long a segment, or a way out that cannot.
                        _ if is_run && refuses_to_cut(&e) => self.split(at),
                        SendError::NoBuffer => {
                            self.settle(at, Fate::Overload);
                            at += 1;
                        }
                        SendError::TooLong => {
                            self.settle(at, Fate::TooLong);
                            at += 1;
                        }
                        SendError::Down => {
                            self.settle(at, Fate::LinkDown);
                            at += 1;
                        }
                        SendError::Other if is_about_a_peer(&e) => {
                            self.settle(at, Fate::LinkDown);
                            at += 1;
                        }
                        SendError::Other => return Err(e),
                    }
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, message: usize, fate: Fate) {
        let frames = self.runs[self.messages[message].0 as usize].frames.clone();
        for &slot in &self.slots[frames.start as usize..frames.end as usize] {
            let f = &mut self.fates[slot as usize];
            *f = fate.max(*f);
        }
    }

    /// Replaces a run by shorter ones, or by its frames, and remembers not to try that again.
    fn split(&mut self, message: usize) {
        let (run, to) = self.messages[message];
        let Run { octets, segment, frames } = &self.runs[run as usize];
        let (octets, segment, frames) = (octets.clone(), u32::from(*segment), frames.clone());
        let piece = if frames.len() > OLD_MAX_SEGMENTS {
            self.max_segments = OLD_MAX_SEGMENTS;
            OLD_MAX_SEGMENTS as u32
        } else if segment as usize > SMALL {
            self.segment_limit = self.segment_limit.min(segment as usize);
            1
        } else {
            self.cuts = false;
            1
        };
        let first = self.runs.len() as u32;
        for from in frames.clone().step_by(piece as usize) {
            let to = (from + piece).min(frames.end);
            let start = octets.start + (from - frames.start) * segment;
            let end = (start + (to - from) * segment).min(octets.end);
            self.runs.push(Run { octets: start..end, segment: segment as u16, frames: from..to });
        }
        self.messages.splice(message..=message, (first..self.runs.len() as u32).map(|run| (run, to)));
    }

    fn outcome(&self) -> TxOutcome {
        let mut outcome = TxOutcome::default();
        for fate in &self.fates {
            match fate {
                Fate::NotGiven => {}
                Fate::NoAddress => outcome.no_address += 1,
                Fate::LinkDown => outcome.link_down += 1,
                Fate::TooLong => outcome.too_long += 1,
                Fate::Overload => outcome.overload += 1,
                Fate::Sent => outcome.sent += 1,
            }
        }
        outcome
    }
}

fn refuses_to_cut(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

/// Datagrams that a message may be cut into, since Linux 6.9 and before it.
const MAX_SEGMENTS: usize = 128;
const OLD_MAX_SEGMENTS: usize = 64;
/// A segment of up to this length fits every path: if the kernel does not cut it, it cuts nothing.
const SMALL: usize = 1_200;

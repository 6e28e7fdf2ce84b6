//! Datagrams in: joined by the kernel, cut here, and handed to the worker they belong to.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use super::{MAX_DATAGRAM, is_about_a_peer};
use crate::batch::{Batch, Meta};
use crate::io::handover::{Handover, Parcel};
use crate::io::socket::is_silence;
use crate::io::{PortCounters, limits};
use crate::raw::sys::ReceiveBurst;

pub(super) struct Input {
    burst: Box<ReceiveBurst>,
    /// Messages of the burst, the next of them, and octets of that one already taken.
    messages: usize,
    next: usize,
    taken: usize,
    /// First slot of each message in the batch of the last call, and where it came from.
    pub(super) origins: Vec<(u32, SocketAddr)>,
    pub(super) last_drops: u32,
    /// With other workers' ports.
    pub(super) handover: Option<Handover>,
    /// What another worker handed over, and the next frame of it.
    parcel: Option<(Parcel, usize)>,
}

impl Input {
    pub(super) fn new(joins: bool) -> Self {
        let messages = if joins { JOINED_BURST } else { PLAIN_BURST };
        Self {
            burst: Box::new(ReceiveBurst::new(messages, MAX_DATAGRAM)),
            messages: 0,
            next: 0,
            taken: 0,
            origins: Vec::with_capacity(limits::BURST),
            last_drops: 0,
            handover: None,
            parcel: None,
        }
    }

    pub(super) fn fill(
        &mut self,
        fd: BorrowedFd<'_>,
        batch: &mut Batch,
        counters: &mut PortCounters,
    ) -> io::Result<()> {
        let mut now = None;
        if !self.unpack(batch, counters, &mut now) {
            return Ok(());
        }
        loop {
            while self.next < self.messages {
                let timestamp_ns = *now.get_or_insert_with(wall_clock_ns);
                if !self.cut(batch, counters, timestamp_ns) {
                    return Ok(());
                }
                (self.next, self.taken) = (self.next + 1, 0);
            }
            if batch.is_full_for(0) {
                return Ok(());
            }
            (self.next, self.messages) = (0, 0);
            match self.burst.receive(fd, usize::MAX) {
                Ok(0) => return Ok(()),
                Ok(n) => self.messages = n,
                Err(e) if is_silence(&e) || is_about_a_peer(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Puts what other workers handed over into the batch; `false` when there is no room for all.
    fn unpack(&mut self, batch: &mut Batch, counters: &mut PortCounters, now: &mut Option<u64>) -> bool {
        let Some(handover) = &mut self.handover else { return true };
        while let Some((parcel, mut next)) = self.parcel.take().or_else(|| Some((handover.take()?, 0))) {
            let timestamp_ns = *now.get_or_insert_with(wall_clock_ns);
            self.origins.push((batch.len() as u32, parcel.from));
            while let Some(frame) = parcel.frame(next) {
                if !push(batch, counters, frame, timestamp_ns) {
                    self.parcel = Some((parcel, next));
                    return false;
                }
                next += 1;
            }
        }
        true
    }

    /// Puts the datagrams of the current message into the batch; `false` when there is no room for all.
    fn cut(&mut self, batch: &mut Batch, counters: &mut PortCounters, timestamp_ns: u64) -> bool {
        let message = self.burst.get(self.next);
        let Some(from) = message.from else {
            counters.refused += 1;
            return true;
        };
        let segment = message.segment.unwrap_or(message.data.len()).max(1);
        self.origins.push((batch.len() as u32, from));
        loop {
            let rest = &message.data[self.taken..];
            let frame = &rest[..segment.min(rest.len())];
            let cut_off = message.truncated && frame.len() == rest.len();
            let handed = |h: &mut Handover| h.pack(frame, from);
            if cut_off {
                counters.refused += 1;
            } else if !self.handover.as_mut().is_some_and(handed)
                && !push(batch, counters, frame, timestamp_ns)
            {
                counters.kernel_drops += self.handover.as_mut().map_or(0, Handover::deliver);
                return false;
            }
            self.taken += frame.len();
            if self.taken >= message.data.len() {
                counters.kernel_drops += self.handover.as_mut().map_or(0, Handover::deliver);
                return true;
            }
        }
    }
}

/// Puts a frame into the batch; `false` when it is full. What not even an empty one has room for is refused.
fn push(batch: &mut Batch, counters: &mut PortCounters, frame: &[u8], timestamp_ns: u64) -> bool {
    let meta = Meta { timestamp: timestamp_ns, ..Meta::default() };
    if batch.push_frame(frame, meta).is_some() {
        counters.received += 1;
    } else if batch.is_empty() {
        counters.refused += 1;
    } else {
        return false;
    }
    true
}

fn wall_clock_ns() -> u64 {
    // A clock before 1970 is no reason to stop: nothing depends on the time of a frame.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Messages a call: with joining each may have 64 KiB.
const JOINED_BURST: usize = 16;
const PLAIN_BURST: usize = 64;

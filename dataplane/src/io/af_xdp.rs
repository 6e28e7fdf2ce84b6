//! AF_XDP for sending: the fastest way out on drivers without anything better, one copy and no message a frame.
//!
//! Receiving stays with the AF_PACKET ring, which costs us less than AF_XDP in copy mode and needs no program on the
//! interface. One socket has a queue of the interface to itself; workers beyond the number of queues send by `sendmmsg`.

use std::io;
use std::time::{Duration, Instant};

use super::error::{IoError, Step};
use super::socket::SendError;
use super::{Interface, TxOutcome, limits};
use crate::batch::Batch;
use crate::pdu::spec;
use crate::raw::sys;
use crate::raw::xdp::XdpSender;
use crate::verdict::Verdict;

/// Which queue to send on, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    /// Number of the queue, from 0.
    pub index: u32,
    /// Lets the device read our memory. The driver then takes the queue over, and what arrives on it is not received by
    /// anybody: only for interfaces whose flows are steered elsewhere.
    pub zero_copy: bool,
}

pub(super) struct XdpOutput {
    sender: XdpSender,
    slots: Vec<u32>,
    tag: Option<[u8; spec::TAG_LEN]>,
    longest: usize,
    patience: Duration,
}

impl XdpOutput {
    pub(super) fn open(
        queue: Queue,
        interface: &Interface,
        tag: Option<[u8; spec::TAG_LEN]>,
        patience: Duration,
    ) -> Result<Self, IoError> {
        let longest = interface.mtu + spec::ETHERNET_HEADER_LEN;
        if longest + spec::TAG_LEN > XdpSender::MAX_FRAME {
            return Err(IoError::Setting {
                name: interface.name.clone(),
                reason: format!(
                    "AF_XDP sends frames of up to {} octets, the MTU asks for {longest}",
                    XdpSender::MAX_FRAME
                ),
            });
        }
        let open = || XdpSender::open(interface.index, queue.index, longest + spec::TAG_LEN, queue.zero_copy);
        let mut sender = open();
        // A queue is free again only a moment after its last socket was closed.
        for _ in 0..BUSY_TRIES {
            if !sender.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY)) {
                break;
            }
            std::thread::sleep(BUSY_PAUSE);
            sender = open();
        }
        let sender = sender.map_err(IoError::open(&interface.name, Step::Xdp))?;
        sys::grow_buffer(sender.fd(), sys::Buffer::Send, limits::SOCKET_BUFFER)
            .map_err(IoError::open(&interface.name, Step::Xdp))?;
        Ok(Self { sender, slots: Vec::new(), tag, longest, patience })
    }

    pub(super) fn send(&mut self, batch: &Batch) -> io::Result<TxOutcome> {
        let mut outcome = TxOutcome::default();
        self.slots.clear();
        for (i, slot) in batch.slots().iter().enumerate() {
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            if batch.frame(i).len() > self.longest {
                outcome.too_long += 1;
            } else {
                self.slots.push(i as u32);
            }
        }
        // On a link that is down the ring would keep the frames and send them late, so ask first.
        if self.flush(&mut outcome, Instant::now())? == Flushed::Down {
            outcome.link_down += self.slots.len() as u64;
            return Ok(outcome);
        }
        let deadline = Instant::now() + self.patience;
        let mut at = 0;
        while at < self.slots.len() {
            let room = self.sender.reclaim();
            let tag = self.tag;
            let parts = self.slots[at..].iter().take(room.min(AT_ONCE)).map(|&slot| {
                let frame = batch.frame(slot as usize);
                match &tag {
                    None => [frame, &[][..], &[]],
                    Some(tag) => [&frame[..spec::TAG_AT], tag, &frame[spec::TAG_AT..]],
                }
            });
            let n = self.sender.put(parts);
            at += n;
            outcome.sent += n as u64;
            if self.flush(&mut outcome, deadline)? == Flushed::Down {
                outcome.sent -= n as u64;
                outcome.link_down += (n + self.slots.len() - at) as u64;
                break;
            }
            if n == 0 {
                if Instant::now() >= deadline {
                    outcome.overload += (self.slots.len() - at) as u64;
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(outcome)
    }

    /// Lets the kernel send what is in the ring.
    fn flush(&mut self, outcome: &mut TxOutcome, deadline: Instant) -> io::Result<Flushed> {
        for tries in 0.. {
            let Err(e) = self.sender.kick() else { return Ok(Flushed::All) };
            match (e.raw_os_error(), SendError::of(&e)) {
                // The device dropped one.
                (Some(libc::EBUSY), _) => {
                    outcome.overload += 1;
                    outcome.sent = outcome.sent.saturating_sub(1);
                }
                // A call sends so many and no more.
                (_, SendError::Again | SendError::Full) => {}
                (_, SendError::NoBuffer) => std::thread::sleep(PAUSE),
                (_, SendError::Down) => return Ok(Flushed::Down),
                _ => return Err(e),
            }
            // What stays in the ring goes with the next burst. Each call sends some, so a thread that lost its
            // processor for longer than the deadline still finishes a burst.
            if tries >= LEAST_TRIES && Instant::now() >= deadline {
                break;
            }
        }
        Ok(Flushed::Some)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushed {
    All,
    Some,
    Down,
}

/// Frames given to the kernel at once. Where it has copied them when the call returns, the next ones take the same places,
/// which are in the processor's cache then.
const AT_ONCE: usize = 64;
/// Calls that send a whole burst of 256, 32 frames each, and as many again.
const LEAST_TRIES: usize = 16;
const BUSY_TRIES: usize = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Between two tries for room.
const PAUSE: Duration = Duration::from_micros(20);

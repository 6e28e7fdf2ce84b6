//! The way out of an interface: `sendmmsg` past the queueing discipline, or AF_XDP.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::Socket;

use super::af_xdp::{Queue, XdpOutput};
use super::error::{IoError, Step};
use super::socket::{SendError, packet_socket, wait_for};
use super::{Interface, TxOutcome, limits};
use crate::batch::Batch;
use crate::pdu::spec;
use crate::raw::sys::{self, Outgoing, SendBurst};
use crate::verdict::Verdict;

/// What a way out is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// 802.1Q tag control information.
    pub(super) tag: Option<u16>,
    /// Past the queueing discipline.
    pub(super) bypass: bool,
    /// Through AF_XDP instead of `sendmmsg`.
    pub(super) xdp: Option<Queue>,
    /// How long to wait for room.
    pub(super) patience: Duration,
}

/// The way out.
pub(super) enum Output {
    Socket(SocketOutput),
    Xdp(Box<XdpOutput>),
}

impl Output {
    pub(super) fn open(settings: &Settings, interface: &Interface) -> Result<Self, IoError> {
        let tag = settings.tag.map(|tci| {
            let ([a, b], [c, d]) = (spec::TPID.to_be_bytes(), tci.to_be_bytes());
            [a, b, c, d]
        });
        match settings.xdp {
            None => SocketOutput::open(settings, interface, tag).map(Self::Socket),
            Some(queue) => {
                XdpOutput::open(queue, interface, tag, settings.patience).map(|o| Self::Xdp(Box::new(o)))
            }
        }
    }

    pub(super) fn send(&mut self, batch: &Batch) -> io::Result<TxOutcome> {
        match self {
            Self::Socket(output) => output.send(batch),
            Self::Xdp(output) => output.send(batch),
        }
    }
}

/// The sending socket.
pub(super) struct SocketOutput {
    socket: Socket,
    burst: SendBurst,
    /// Slots under way in one call of `send`.
    slots: Vec<u32>,
    tag: Option<[u8; spec::TAG_LEN]>,
    patience: Duration,
}

impl SocketOutput {
    fn open(
        settings: &Settings,
        interface: &Interface,
        tag: Option<[u8; spec::TAG_LEN]>,
    ) -> Result<Self, IoError> {
        let name = &interface.name;
        let socket = packet_socket().map_err(IoError::open(name, Step::Socket))?;
        if settings.bypass {
            sys::set_packet_option(socket.as_fd(), libc::PACKET_QDISC_BYPASS, 1)
                .map_err(IoError::open(name, Step::Options))?;
        }
        sys::grow_buffer(socket.as_fd(), sys::Buffer::Send, limits::SOCKET_BUFFER)
            .map_err(IoError::open(name, Step::Options))?;
        // EtherType 0: a socket that never receives.
        socket.bind(&sys::link_address(interface.index, 0)).map_err(IoError::open(name, Step::Bind))?;
        let _ = socket.take_error();
        let (burst, patience) = (SendBurst::new(limits::BURST), settings.patience);
        Ok(Self { socket, burst, slots: Vec::new(), tag, patience })
    }

    fn send(&mut self, batch: &Batch) -> io::Result<TxOutcome> {
        let mut outcome = TxOutcome::default();
        let accepted = batch.slots().iter().enumerate().filter(|(_, s)| s.verdict == Verdict::Accepted);
        self.slots.clear();
        self.slots.extend(accepted.map(|(i, _)| i as u32));
        let tag = self.tag;
        let mut patience = None;
        let mut at = 0;
        while at < self.slots.len() {
            let messages = self.slots[at..].iter().map(|&slot| {
                let frame = batch.frame(slot as usize);
                let parts = match &tag {
                    None => [frame, &[][..], &[]],
                    Some(tag) => [&frame[..spec::TAG_AT], tag, &frame[spec::TAG_AT..]],
                };
                Outgoing { parts, to: None, segment: None }
            });
            match self.burst.send(self.socket.as_fd(), messages) {
                Ok(n) => {
                    outcome.sent += n as u64;
                    at += n;
                    continue;
                }
                Err(e) => match SendError::of(&e) {
                    SendError::Again => {}
                    full @ (SendError::Full | SendError::NoBuffer) => {
                        let deadline = *patience.get_or_insert_with(|| Instant::now() + self.patience);
                        let left = deadline.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            outcome.overload += (self.slots.len() - at) as u64;
                            break;
                        }
                        if full == SendError::Full {
                            wait_for(self.socket.as_fd(), PollFlags::OUT, left)?;
                        } else {
                            // The device's queue is full, which nothing tells the end of.
                            std::thread::sleep(PAUSE.min(left));
                        }
                    }
                    SendError::TooLong => {
                        outcome.too_long += 1;
                        at += 1;
                    }
                    SendError::Down => {
                        let _ = self.socket.take_error();
                        outcome.link_down += (self.slots.len() - at) as u64;
                        break;
                    }
                    SendError::Other => return Err(e),
                },
            }
        }
        Ok(outcome)
    }
}

/// Between two tries of a device that has no room.
const PAUSE: Duration = Duration::from_micros(20);

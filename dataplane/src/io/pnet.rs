//! `pnet`: the plain fallback port, a system call a frame, where the kernel gives no ring.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::{Duration, Instant};

use pnet::datalink::{self, Channel, ChannelType, DataLinkReceiver, DataLinkSender};
use rustix::event::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::af_packet::Settings;
use super::backlog::Backlog;
use super::error::{IoError, Step};
use super::socket::{SendError, is_silence, wait_for};
use super::{Interface, Link, PacketIo, PortCounters, Share, Traffic, TxOutcome, filter, limits};
use crate::batch::{Batch, Meta};
use crate::pdu::spec;
use crate::raw::sys;
use crate::verdict::Verdict;

/// A port on an interface by `pnet`.
pub struct Pnet {
    name: String,
    settings: Settings,
    share: Share,
    channel: Open,
    /// A tagged frame is put together here.
    tagged: Vec<u8>,
    counters: PortCounters,
    /// With the first worker.
    backlog: Option<Backlog>,
    looked: Instant,
}

struct Open {
    interface: Interface,
    tx: Box<dyn DataLinkSender>,
    rx: Box<dyn DataLinkReceiver>,
    /// The socket that `pnet` has, for what it has no call for.
    socket: Socket,
    /// Octets that `pnet` reads at most.
    buffer: usize,
    /// Received, but the batch had no room.
    held: Option<Box<[u8]>>,
}

impl Pnet {
    /// A port for one share of the frames. `receive` and `bypass` of the settings mean nothing here.
    ///
    /// # Errors
    /// [`IoError::Open`] with the step that failed.
    pub fn open(settings: &Settings, share: Share) -> Result<Self, IoError> {
        let tells = share.worker == 0 && settings.traffic != Traffic::Signalling;
        Ok(Self {
            name: format!("{} (pnet)", settings.interface),
            settings: settings.clone(),
            share,
            channel: Open::new(settings, share)?,
            tagged: Vec::new(),
            counters: PortCounters::default(),
            backlog: if tells { Backlog::new(&settings.interface) } else { None },
            looked: Instant::now(),
        })
    }

    fn recover(&mut self) {
        if self.looked.elapsed() < limits::RECOVERY_INTERVAL {
            return;
        }
        self.looked = Instant::now();
        let found = Interface::find_through(self.channel.socket.as_fd(), &self.channel.interface.name);
        if found.is_ok_and(|i| i.index != self.channel.interface.index)
            && let Ok(channel) = Open::new(&self.settings, self.share)
        {
            self.counters.kernel_drops += self.channel.take_drops();
            self.channel = channel;
        }
    }

    fn next(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let frame = match self.channel.held.take() {
            Some(frame) => return Ok(self.push_held(batch, frame)),
            None => match self.channel.rx.next() {
                Ok(frame) => frame,
                // It names an error on the socket, of which there is only the link's, just so.
                Err(e) if e.kind() == ErrorKind::Other && e.raw_os_error().is_none() => {
                    let _ = self.channel.socket.take_error();
                    return Ok(false);
                }
                Err(e) if e.kind() == ErrorKind::TimedOut || is_silence(&e) => return Ok(false),
                Err(e) => return Err(e),
            },
        };
        if frame.len() >= self.channel.buffer {
            self.counters.refused += 1;
            return Ok(true);
        }
        if batch.push_frame(frame, Meta::default()).is_some() {
            self.counters.received += 1;
            return Ok(true);
        }
        let frame = frame.into();
        Ok(self.push_held(batch, frame))
    }

    fn push_held(&mut self, batch: &mut Batch, frame: Box<[u8]>) -> bool {
        if batch.push_frame(&frame, Meta::default()).is_some() {
            self.counters.received += 1;
        } else if batch.is_empty() {
            self.counters.refused += 1;
        } else {
            self.channel.held = Some(frame);
            return false;
        }
        true
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let frame = match self.settings.tag {
            None => frame,
            Some(tci) => {
                self.tagged.clear();
                self.tagged.extend_from_slice(&frame[..spec::TAG_AT]);
                self.tagged.extend(spec::TPID.to_be_bytes());
                self.tagged.extend(tci.to_be_bytes());
                self.tagged.extend_from_slice(&frame[spec::TAG_AT..]);
                &self.tagged
            }
        };
        // `None` is for buffers that are too small, which this call does not use.
        self.channel.tx.send_to(frame, None).unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    }
}

impl PacketIo for Pnet {
    fn name(&self) -> &str {
        &self.name
    }

    fn rx(&mut self, batch: &mut Batch, wait: Duration) -> Result<usize, IoError> {
        let before = batch.len();
        for round in 0..2 {
            while !batch.is_full_for(0)
                && self.next(batch).map_err(IoError::broken(&self.name, Step::Receive))?
            {}
            if batch.len() > before || wait.is_zero() || round == 1 {
                break;
            }
            let ready = wait_for(self.channel.socket.as_fd(), PollFlags::IN, wait)
                .map_err(IoError::broken(&self.name, Step::Receive))?;
            if ready.is_empty() || ready.intersects(PollFlags::ERR) {
                self.recover();
            }
        }
        Ok(batch.len() - before)
    }

    fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        let mut outcome = TxOutcome::default();
        for (i, slot) in batch.slots().iter().enumerate() {
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            match self.send(batch.frame(i)) {
                Ok(()) => outcome.sent += 1,
                Err(e) => match SendError::of(&e) {
                    SendError::TooLong => outcome.too_long += 1,
                    SendError::Down => outcome.link_down += 1,
                    SendError::Again | SendError::Full | SendError::NoBuffer => outcome.overload += 1,
                    SendError::Other if e.kind() == ErrorKind::TimedOut => outcome.overload += 1,
                    SendError::Other if e.raw_os_error().is_none() => outcome.link_down += 1,
                    SendError::Other => return Err(IoError::broken(&self.name, Step::Send)(e)),
                },
            }
        }
        if outcome.link_down > 0 {
            let _ = self.channel.socket.take_error();
            self.recover();
        }
        self.counters.tx.add(&outcome);
        Ok(outcome)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters.kernel_drops += self.channel.take_drops();
        self.counters.interface_drops += self.backlog.as_mut().map_or(0, Backlog::take_drops);
        self.counters
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.socket.as_fd())
    }

    fn link(&mut self) -> Link {
        self.channel.interface.link_through(self.channel.socket.as_fd())
    }

    fn max_frame(&self) -> usize {
        self.channel.interface.mtu + spec::ETHERNET_HEADER_LEN
    }
}

impl Open {
    fn new(settings: &Settings, share: Share) -> Result<Self, IoError> {
        let name = &settings.interface;
        let interface = Interface::find(name)?;
        let Some(known) = datalink::interfaces().into_iter().find(|i| i.index == interface.index) else {
            return Err(IoError::NoInterface { name: name.clone() });
        };
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
            .map_err(IoError::open(name, Step::Socket))?;
        sys::grow_buffer(socket.as_fd(), sys::Buffer::Receive, limits::SOCKET_BUFFER)
            .map_err(IoError::open(name, Step::Options))?;
        let program = filter::program(&filter::accept(settings.traffic, share));
        socket.attach_filter(&program).map_err(IoError::open(name, Step::Filter))?;
        let for_pnet = socket.try_clone().map_err(IoError::open(name, Step::Socket))?;
        let buffer = interface.mtu + ROOM;
        let config = datalink::Config {
            read_buffer_size: buffer,
            // It asks before each frame; waiting is done here, once for all frames that are there.
            read_timeout: Some(Duration::ZERO),
            write_timeout: Some(limits::TX_PATIENCE),
            promiscuous: settings.promiscuous,
            // On our raw socket "layer 3" means only that it is bound to this EtherType instead of all.
            channel_type: ChannelType::Layer3(spec::ETHERTYPE),
            // Closed by the channel.
            socket_fd: Some(for_pnet.into_raw_fd()),
            ..datalink::Config::default()
        };
        let (tx, rx) = match datalink::channel(&known, config).map_err(IoError::open(name, Step::Bind))? {
            Channel::Ethernet(tx, rx) => (tx, rx),
            _ => {
                return Err(IoError::Setting {
                    name: name.clone(),
                    reason: "pnet gave a channel other than Ethernet".to_owned(),
                });
            }
        };
        let _ = socket.take_error();
        Ok(Self { interface, tx, rx, socket, buffer, held: None })
    }

    fn take_drops(&mut self) -> u64 {
        sys::take_packet_statistics(self.socket.as_fd()).map_or(0, |(_, drops)| drops)
    }
}

/// Octets read beyond the MTU: a frame that fills the buffer was longer.
const ROOM: usize = 64;

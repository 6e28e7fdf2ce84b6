//! The receiving side of an AF_PACKET port: sockets with their rings and filters.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use socket2::Socket;

use super::adaptive::Adaptive;
use super::fanout::Fanout;
use super::{Receive, Settings};
use crate::batch::{Batch, Meta};
use crate::io::error::{IoError, Step};
use crate::io::filter::{self, Instruction};
use crate::io::socket::{is_silence, packet_socket};
use crate::io::{Interface, PortCounters, Share, limits};
use crate::pdu::spec;
use crate::raw::ring::{BlockRing, FrameRing, RingFrame, Take};
use crate::raw::sys::{self, ReceiveBurst};

/// The receiving socket. Fields are dropped in order: the ring before its socket.
pub(super) struct Input {
    way: InputWay,
    socket: Arc<Socket>,
}

enum InputWay {
    Blocks(BlockRing),
    Frames(FrameRing),
    Adaptive(Box<Adaptive>),
    /// Burst, next message to take, messages in it.
    Socket(Box<ReceiveBurst>, usize, usize),
}

impl Input {
    pub(super) fn open(
        settings: &Settings,
        share: Share,
        fanout: Option<&Fanout>,
        interface: &Interface,
    ) -> Result<Self, IoError> {
        let name = &interface.name;
        let in_pairs = fanout.is_some_and(Fanout::in_pairs);
        let place = if in_pairs { 2 * share.worker } else { share.worker };
        let socket = packet_socket().map_err(IoError::open(name, Step::Socket))?;
        // Everything is set before binding: nothing arrives that filter or ring would have treated otherwise.
        let way = match settings.receive {
            Receive::Blocks { block_len, blocks, timer_ms } => {
                let block_len = block_len.next_power_of_two().clamp(1 << 16, 1 << 22);
                BlockRing::new(socket.as_fd(), block_len, blocks.clamp(2, 4_096), timer_ms)
                    .map(InputWay::Blocks)
            }
            Receive::Frames { frames } => frame_ring(&socket, interface, frames).map(InputWay::Frames),
            Receive::Adaptive => frame_ring(&socket, interface, QUIET_FRAMES).map(InputWay::Frames),
            Receive::Socket => {
                let longest = interface.mtu + spec::ETHERNET_HEADER_LEN + spec::TAG_LEN;
                Ok(InputWay::Socket(Box::new(ReceiveBurst::new(SOCKET_BURST, longest)), 0, 0))
            }
        }
        .map_err(IoError::open(name, Step::Ring))?;
        if matches!(way, InputWay::Socket(..)) {
            sys::grow_buffer(socket.as_fd(), sys::Buffer::Receive, limits::SOCKET_BUFFER)
                .map_err(IoError::open(name, Step::Options))?;
        }
        set_filter(&socket, &filter::accept(settings.traffic, share))
            .map_err(IoError::open(name, Step::Filter))?;
        if settings.promiscuous {
            sys::set_promiscuous(socket.as_fd(), interface.index)
                .map_err(IoError::open(name, Step::Options))?;
        }
        bind(&socket, interface).map_err(IoError::open(name, Step::Bind))?;
        let mut it = Self { way, socket: Arc::new(socket) };
        if let Some(fanout) = fanout {
            match fanout.join(it.socket.as_fd(), place, interface.index) {
                Ok(()) => {}
                // Kernels before 6.13 let nobody join while the link is down. A worker alone needs no group.
                Err(_) if share.workers == 1 => return Ok(it),
                Err(e) => return Err(IoError::open(name, Step::Fanout)(e)),
            }
            if in_pairs {
                it = it
                    .with_blocks(settings, share, fanout, interface)
                    .map_err(IoError::open(name, Step::Fanout))?;
            }
        }
        Ok(it)
    }

    /// Adds the socket for busy times.
    fn with_blocks(
        self,
        settings: &Settings,
        share: Share,
        fanout: &Fanout,
        interface: &Interface,
    ) -> io::Result<Self> {
        let InputWay::Frames(frames) = self.way else { return Ok(self) };
        let Receive::Blocks { block_len, blocks, timer_ms } = Receive::BLOCKS else {
            return Ok(Self { way: InputWay::Frames(frames), ..self });
        };
        let socket = packet_socket()?;
        let blocks = BlockRing::new(socket.as_fd(), block_len, blocks, timer_ms)?;
        // Between binding and its place in the group it would get what the first socket gets.
        set_filter(&socket, &filter::nothing())?;
        bind(&socket, interface)?;
        fanout.join(socket.as_fd(), 2 * share.worker + 1, interface.index)?;
        set_filter(&socket, &filter::accept(settings.traffic, share))?;
        let (first, second) = ((frames, self.socket.clone()), (blocks, Arc::new(socket)));
        let adaptive = Adaptive::new(first, second, fanout.clone(), share.worker)?;
        Ok(Self { way: InputWay::Adaptive(Box::new(adaptive)), socket: self.socket })
    }

    /// For asking about the interface.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Becomes readable when there is something.
    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            InputWay::Adaptive(adaptive) => adaptive.poll_fd(),
            _ => self.socket.as_fd(),
        }
    }

    /// Whether frames come one by one, so that waiting a moment saves wake-ups.
    pub(super) fn wakes_by_frame(&self) -> bool {
        match &self.way {
            InputWay::Frames(_) => true,
            InputWay::Adaptive(adaptive) => adaptive.wakes_by_frame(),
            InputWay::Blocks(_) | InputWay::Socket(..) => false,
        }
    }

    pub(super) fn takes_blocks(&self) -> bool {
        match &self.way {
            InputWay::Blocks(_) => true,
            InputWay::Adaptive(adaptive) => !adaptive.wakes_by_frame(),
            InputWay::Frames(_) | InputWay::Socket(..) => false,
        }
    }

    /// Takes errors that say only that the link went down; until then the port looks ready.
    pub(super) fn clear_errors(&self) {
        match &self.way {
            InputWay::Adaptive(adaptive) => adaptive.clear_errors(),
            _ => drop(self.socket.take_error()),
        }
    }

    /// Whether errors do not show in what polling says.
    pub(super) fn hides_errors(&self) -> bool {
        matches!(self.way, InputWay::Adaptive(_))
    }

    pub(super) fn fill(&mut self, batch: &mut Batch, counters: &mut PortCounters) -> io::Result<()> {
        match &mut self.way {
            InputWay::Blocks(ring) => ring.drain(|frame| push(batch, counters, frame)),
            InputWay::Frames(ring) => ring.drain(|frame| push(batch, counters, frame)),
            InputWay::Adaptive(rings) => rings.drain(|frame| push(batch, counters, frame)),
            InputWay::Socket(burst, next, len) => loop {
                while *next < *len {
                    let m = burst.get(*next);
                    let frame = RingFrame { data: m.data, truncated: m.truncated, timestamp_ns: 0 };
                    if push(batch, counters, frame) == Take::Full {
                        return Ok(());
                    }
                    *next += 1;
                }
                if batch.is_full_for(0) {
                    return Ok(());
                }
                (*next, *len) = (0, 0);
                match burst.receive(self.socket.as_fd(), usize::MAX) {
                    Ok(n) => *len = n,
                    Err(e) if is_silence(&e) => return Ok(()),
                    Err(e) => return Err(e),
                }
                if *len == 0 {
                    return Ok(());
                }
            },
        }
        Ok(())
    }

    /// Frames dropped by the kernel since the last call.
    pub(super) fn take_drops(&mut self) -> u64 {
        if let InputWay::Adaptive(adaptive) = &self.way {
            return adaptive.take_drops();
        }
        // On a live packet socket the call does not fail; if it does there is nothing to add.
        sys::take_packet_statistics(self.socket.as_fd()).map_or(0, |(_, drops)| drops)
    }
}

fn frame_ring(socket: &Socket, interface: &Interface, frames: usize) -> io::Result<FrameRing> {
    let frames = frames.next_power_of_two().clamp(64, 1 << 17);
    FrameRing::new(socket.as_fd(), interface.mtu + RING_OVERHEAD, frames)
}

fn set_filter(socket: &Socket, instructions: &[Instruction]) -> io::Result<()> {
    socket.attach_filter(&filter::program(instructions))
}

fn bind(socket: &Socket, interface: &Interface) -> io::Result<()> {
    // Bound to one EtherType the kernel gives us no outgoing copies anyway; kernels before 4.20 do not know the option.
    let _ = sys::set_packet_option(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1);
    socket.bind(&sys::link_address(interface.index, spec::ETHERTYPE))?;
    // Binding to an interface that is down leaves an error behind that means nothing to us.
    let _ = socket.take_error();
    Ok(())
}

fn push(batch: &mut Batch, counters: &mut PortCounters, frame: RingFrame<'_>) -> Take {
    let meta = Meta { timestamp: frame.timestamp_ns, ..Meta::default() };
    if frame.truncated {
        counters.refused += 1;
        return Take::Taken;
    }
    if batch.push_frame(frame.data, meta).is_some() {
        counters.received += 1;
        return Take::Taken;
    }
    if batch.is_empty() {
        counters.refused += 1;
        return Take::Taken;
    }
    Take::Full
}

/// Headers of a place in a ring of frames, rounded up.
const RING_OVERHEAD: usize = 128;
/// Messages a call where there is no ring.
const SOCKET_BURST: usize = 64;
/// Places for quiet times: what comes while the reader has no processor, 80 ms at the busiest, and from the beginning of a
/// load to the change to blocks.
const QUIET_FRAMES: usize = 8_192;

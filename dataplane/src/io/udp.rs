//! The UDP port: a frame from its first octet in a datagram, no padding. Source: `design.md` section 3.
//!
//! ```text
//! batch -> frames by peer -> runs of equal length -> one message a run, cut into datagrams by the kernel (GSO)
//! datagrams joined by the kernel (GRO) -> one message -> cut by us -> batch
//! ```
//! The kernel's work is by the message, so a run of 64 frames costs it little more than one. Order within a peer is kept: a
//! run ends with the first frame of another length, which may still be its last one if it is shorter.
//!
//! Signalling has a socket of its own behind the same UDP port, and goes out under another DSCP: receivers that join
//! datagrams never join it to data.

mod input;
mod output;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use self::input::Input;
use self::output::Output;
use super::error::{IoError, Step};
use super::handover::Handover;
use super::peers::{Peers, canonical};
use super::socket::wait_for;
use super::{PacketIo, PortCounters, Traffic, TxOutcome, filter, limits};
use crate::batch::Batch;
use crate::ids::{Layer2Id, Lcid};
use crate::pdu::spec;
use crate::raw::sys;

/// UDP port of PC5 frames.
pub const PORT: u16 = 34_997;

/// What a port is to be.
#[derive(Clone)]
pub struct Settings {
    /// Local address.
    pub bind: SocketAddr,
    /// Where peers are.
    pub peers: Peers,
    /// Lets the kernel cut and join datagrams.
    pub offload: bool,
}

impl Settings {
    /// Any local address, the usual UDP port.
    pub fn new(peers: Peers) -> Self {
        Self { bind: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT), peers, offload: true }
    }
}

/// A UDP port.
pub struct Udp {
    name: String,
    socket: Socket,
    peers: Peers,
    is_ipv6: bool,
    traffic: Traffic,
    input: Input,
    output: Output,
    counters: PortCounters,
}

impl Udp {
    /// A port that takes everything.
    ///
    /// # Errors
    /// [`IoError::Open`] with the step that failed.
    pub fn open(settings: &Settings) -> Result<Self, IoError> {
        Self::open_as(settings, Traffic::All)
    }

    /// A signalling port and `workers` data ports behind one UDP port; all frames of an address pair go to the data port
    /// that [`super::Share::owner`] says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_shared(settings: &Settings, workers: usize) -> Result<(Self, Vec<Self>), IoError> {
        let workers = workers.max(1);
        // The kernel's choice is by place in the group: signalling comes first.
        let signalling = Self::open_as(settings, Traffic::Signalling)?;
        let program = filter::program(&filter::spread_datagrams(workers));
        sys::set_program(
            signalling.socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            &program,
        )
        .map_err(IoError::open(&signalling.name, Step::Filter))?;
        // Port 0 asks for any: the others must have the same one.
        let bound = signalling.local()?;
        let settings = Settings { bind: bound, ..settings.clone() };
        let mut data =
            (0..workers).map(|_| Self::open_as(&settings, Traffic::Data)).collect::<Result<Vec<_>, _>>()?;
        if workers > 1 {
            let handover = Handover::between(data.iter().map(|port| port.socket.as_fd()))
                .map_err(IoError::open(&signalling.name, Step::Fanout))?;
            for (port, handover) in data.iter_mut().zip(handover) {
                port.input.handover = Some(handover);
            }
        }
        Ok((signalling, data))
    }

    fn open_as(settings: &Settings, traffic: Traffic) -> Result<Self, IoError> {
        let name = format!("udp {}", settings.bind);
        let is_ipv6 = settings.bind.is_ipv6();
        let domain = Domain::for_address(settings.bind);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
            .map_err(IoError::open(&name, Step::Socket))?;
        let fd = socket.as_fd();
        let options = || -> io::Result<bool> {
            if is_ipv6 {
                socket.set_only_v6(false)?;
            }
            if traffic != Traffic::All {
                socket.set_reuse_port(true)?;
            }
            if traffic == Traffic::Signalling {
                if is_ipv6 {
                    socket.set_tclass_v6(CS6)?;
                }
                // For IPv4 peers of an IPv6 socket, too.
                socket.set_tos_v4(CS6)?;
            }
            sys::grow_buffer(fd, sys::Buffer::Receive, limits::SOCKET_BUFFER)?;
            sys::grow_buffer(fd, sys::Buffer::Send, limits::SOCKET_BUFFER)?;
            // Kernels before 5.0 join nothing, those before 4.18 cut nothing: then it goes datagram by datagram.
            let join = settings.offload && sys::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
            Ok(join)
        };
        let joins = options().map_err(IoError::open(&name, Step::Options))?;
        let cuts = settings.offload && sys::set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        socket.bind(&settings.bind.into()).map_err(IoError::open(&name, Step::Bind))?;
        let mut it = Self {
            name,
            peers: settings.peers.clone(),
            is_ipv6,
            traffic,
            input: Input::new(joins),
            output: Output::new(cuts),
            counters: PortCounters::default(),
            socket,
        };
        it.name = format!("udp {}", it.local()?);
        Ok(it)
    }

    /// Local address.
    ///
    /// # Errors
    /// The system says no.
    pub fn local(&self) -> Result<SocketAddr, IoError> {
        let address = self.socket.local_addr().map_err(IoError::open(&self.name, Step::Bind))?;
        address.as_socket().ok_or_else(|| IoError::Setting {
            name: self.name.clone(),
            reason: "found a local address that is no Internet address".to_owned(),
        })
    }

    /// Where peers are.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<(), IoError> {
        self.input
            .fill(self.socket.as_fd(), batch, &mut self.counters)
            .map_err(IoError::broken(&self.name, Step::Receive))
    }
}

impl PacketIo for Udp {
    fn name(&self) -> &str {
        &self.name
    }

    fn rx(&mut self, batch: &mut Batch, wait: Duration) -> Result<usize, IoError> {
        let before = batch.len();
        self.input.origins.clear();
        self.fill(batch)?;
        if batch.len() == before && !wait.is_zero() {
            let fd = self.input.handover.as_ref().map_or(self.socket.as_fd(), Handover::poll_fd);
            wait_for(fd, PollFlags::IN, wait).map_err(IoError::broken(&self.name, Step::Receive))?;
            self.fill(batch)?;
        }
        if self.traffic != Traffic::Data {
            note_claims(&self.peers, batch, before, &self.input.origins);
        }
        Ok(batch.len() - before)
    }

    fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        let outcome = self
            .output
            .send(self.socket.as_fd(), batch, &self.peers, self.is_ipv6)
            .map_err(IoError::broken(&self.name, Step::Send))?;
        self.counters.tx.add(&outcome);
        Ok(outcome)
    }

    /// A burst that the kernel joined and then had to drop counts once in its figures, so `kernel_drops` is a lower bound.
    fn counters(&mut self) -> PortCounters {
        let dropped = sys::socket_drops(self.socket.as_fd()).unwrap_or(self.input.last_drops);
        self.counters.kernel_drops += u64::from(dropped.wrapping_sub(self.input.last_drops));
        self.input.last_drops = dropped;
        self.counters
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.handover.as_ref().map_or(self.socket.as_fd(), Handover::poll_fd))
    }

    fn max_frame(&self) -> usize {
        MAX_DATAGRAM
    }

    fn origin(&self, slot: usize) -> Option<SocketAddr> {
        let i = self.input.origins.partition_point(|&(first, _)| first as usize <= slot);
        self.input.origins.get(i.checked_sub(1)?).map(|&(_, from)| canonical(from))
    }

    fn learn(&mut self, sender: Layer2Id, address: SocketAddr) {
        self.peers.learn(sender, address);
    }
}

/// Remembers where messages came from that are answered before anything can have verified.
fn note_claims(peers: &Peers, batch: &Batch, first: usize, origins: &[(u32, SocketAddr)]) {
    let mut origins = origins.iter().peekable();
    let mut from = None;
    for slot in first..batch.len() {
        while let Some((_, address)) = origins.next_if(|(at, _)| *at as usize <= slot) {
            from = Some(*address);
        }
        let Some(head) = batch.received(slot).first_chunk::<{ spec::HEADER_LEN }>() else { continue };
        if is_before_keys(head[14])
            && head[6..9] == spec::UNICAST_PREFIX
            && let Some(from) = from
        {
            peers.claim(id_at(head, 9), from);
        }
    }
}

fn is_before_keys(octet_14: u8) -> bool {
    octet_14 == Lcid::CLEAR.get() || octet_14 == Lcid::SECURITY_MODE.get()
}

fn id_at(frame: &[u8; spec::HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes([0, frame[at], frame[at + 1], frame[at + 2]])
}

/// Errors that one peer causes and that say nothing of the socket.
fn is_about_a_peer(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM
                | libc::EACCES
                | libc::EINVAL
                | libc::EHOSTDOWN
                | libc::EPROTO
                | libc::EAFNOSUPPORT
        )
    )
}

/// Longest frame whose datagram crosses an Ethernet link whole, over IPv6, too.
pub const WHOLE_FRAME: usize = 1_500 - 40 - 8;
/// Longest payload of a datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// DSCP of network control.
const CS6: u32 = 48 << 2;

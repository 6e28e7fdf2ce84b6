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

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::af_packet::{SendError, is_silence, wait_for};
use super::error::{IoError, Step};
use super::handover::{Handover, Parcel};
use super::peers::{Known, Peers, canonical, for_ipv6_socket};
use super::{PacketIo, PortCounters, Traffic, TxOutcome, filter, limits};
use crate::batch::{Batch, Meta};
use crate::ids::{Layer2Id, Lcid};
use crate::pdu::spec;
use crate::raw::sys::{self, Outgoing, ReceiveBurst, SendBurst};
use crate::verdict::Verdict;

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

struct Input {
    burst: Box<ReceiveBurst>,
    /// Messages of the burst, the next of them, and octets of that one already taken.
    messages: usize,
    next: usize,
    taken: usize,
    /// First slot of each message in the batch of the last call, and where it came from.
    origins: Vec<(u32, SocketAddr)>,
    last_drops: u32,
    /// With other workers' ports.
    handover: Option<Handover>,
    /// What another worker handed over, and the next frame of it.
    parcel: Option<(Parcel, usize)>,
}

impl Input {
    fn new(joins: bool) -> Self {
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

    fn fill(&mut self, fd: BorrowedFd<'_>, batch: &mut Batch, counters: &mut PortCounters) -> io::Result<()> {
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
        )
    )
}

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
struct Output {
    cuts: bool,
    /// Longest datagrams that the kernel was willing to cut.
    segment_limit: usize,
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
    fn new(cuts: bool) -> Self {
        Self {
            cuts,
            segment_limit: MAX_DATAGRAM,
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

    fn send(
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
                        && *frames < MAX_SEGMENTS
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

    /// Replaces a run by its frames, and remembers not to try that again.
    fn split(&mut self, message: usize) {
        let (run, to) = self.messages[message];
        let Run { octets, segment, frames } = &self.runs[run as usize];
        let (octets, segment, frames) = (octets.clone(), u32::from(*segment), frames.clone());
        if segment as usize > SMALL {
            self.segment_limit = self.segment_limit.min(segment as usize);
        } else {
            self.cuts = false;
        }
        let first = self.runs.len() as u32;
        for (i, frame) in frames.enumerate() {
            let start = octets.start + i as u32 * segment;
            let end = (start + segment).min(octets.end);
            self.runs.push(Run { octets: start..end, segment: 0, frames: frame..frame + 1 });
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

/// Longest payload of a datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// Datagrams that a message may be cut into, on every kernel that cuts.
const MAX_SEGMENTS: usize = 64;
/// A segment of up to this length fits every path: if the kernel does not cut it, it cuts nothing.
const SMALL: usize = 1_200;
/// Messages a call: with joining each may have 64 KiB.
const JOINED_BURST: usize = 16;
const PLAIN_BURST: usize = 64;
/// DSCP of network control.
const CS6: u32 = 48 << 2;

//! AF_PACKET: a receive ring shared with the kernel, and bursts of `sendmmsg` past the queueing discipline.
//!
//! ```text
//! interface -> fanout by address pair -> filter: data of this worker -> ring    -> rx
//!                                     -> filter: PC5 signalling      -> socket  -> rx   (a port of its own)
//!                                                          tx -> sendmmsg, 256 a call -> interface
//! ```

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::af_xdp::{Queue, XdpOutput};
use super::error::{IoError, Step};
use super::{Interface, Link, PacketIo, PortCounters, Share, Traffic, TxOutcome, filter, limits};
use crate::batch::{Batch, Meta};
use crate::pdu::spec;
use crate::raw::ring::{BlockRing, FrameRing, RingFrame, Take};
use crate::raw::sys::{self, Outgoing, ReceiveBurst, SendBurst};
use crate::verdict::Verdict;

/// How frames come from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receive {
    /// TPACKET_V3: frames packed into blocks. Cheapest under load, but a frame on an idle link waits for the block timer,
    /// which is 1 ms at best and a tick of the kernel before Linux 6.18.
    Blocks {
        /// Octets of a block, a power of two, at least 64 KiB.
        block_len: usize,
        /// How many.
        blocks: usize,
        /// Milliseconds after which a block is handed over as it is.
        timer_ms: u32,
    },
    /// TPACKET_V2: each frame is there at once. On a busy link frames are gathered for a moment, so that they do not cost a
    /// wake-up each.
    Frames {
        /// Places, a power of two.
        frames: usize,
    },
    /// No ring: `recvmmsg`. For signalling, where a frame more or less costs nothing.
    Socket,
}

impl Receive {
    /// Blocks of the usual size.
    pub const BLOCKS: Self = Self::Blocks { block_len: 1 << 17, blocks: 64, timer_ms: 1 };
    /// Frames of the usual number.
    pub const FRAMES: Self = Self::Frames { frames: 8_192 };
}

/// What a port is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Interface name.
    pub interface: String,
    /// 802.1Q tag control information put on what leaves.
    pub tag: Option<u16>,
    /// Which frames it takes.
    pub traffic: Traffic,
    /// How they come.
    pub receive: Receive,
    /// Takes frames for any address. Layer-2 ids are no addresses of the interface, so that most drivers need it.
    pub promiscuous: bool,
    /// Sends past the queueing discipline.
    pub bypass: bool,
    /// Sends through AF_XDP instead of `sendmmsg`.
    pub xdp: Option<Queue>,
}

impl Settings {
    /// The usual ones.
    pub fn new(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            tag: None,
            traffic: Traffic::All,
            // On an idle link blocks cost milliseconds at every hop.
            receive: Receive::FRAMES,
            promiscuous: true,
            bypass: true,
            xdp: None,
        }
    }
}

/// A port on an interface.
pub struct AfPacket {
    name: String,
    settings: Settings,
    share: Share,
    fanout: Option<Fanout>,
    interface: Interface,
    input: Input,
    output: Output,
    counters: PortCounters,
    /// When the interface was last looked for.
    looked: Instant,
    pace: Pace,
}

/// How fast frames come: tells a busy link from an idle one.
struct Pace {
    since: Instant,
    frames: u32,
    /// Frames in a gathering time, smoothed, times 8.
    rate: u32,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), frames: 0, rate: 0 }
    }

    /// Whether more frames come while they are gathered than make a wake-up worth its cost.
    fn is_busy(&mut self) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed >= GATHER {
            let gathered = f64::from(self.frames) * GATHER.as_secs_f64() / elapsed.as_secs_f64();
            self.rate = (self.rate * 3 / 4) + (gathered.min(1e6) as u32) * 2;
            (self.since, self.frames) = (Instant::now(), 0);
        }
        self.rate >= BUSY * 8
    }
}

impl AfPacket {
    /// A port that gets all frames of its traffic.
    ///
    /// # Errors
    /// [`IoError::Open`] with the step that failed: most often no right to open raw sockets.
    pub fn open(settings: &Settings) -> Result<Self, IoError> {
        Self::open_as(settings, Share::WHOLE, None)
    }

    /// `workers` ports that share the frames; all frames of an address pair go to the port that [`Share::owner`] says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_shared(settings: &Settings, workers: usize) -> Result<Vec<Self>, IoError> {
        let fanout = (workers > 1).then(Fanout::default);
        (0..workers.max(1))
            .map(|worker| Self::open_as(settings, Share { worker, workers: workers.max(1) }, fanout.clone()))
            .collect()
    }

    /// As [`Self::open_shared`], each worker sending through AF_XDP on the queue of its number, as long as there are such
    /// queues; with the reason why the others send by `sendmmsg`.
    ///
    /// # Errors
    /// As [`Self::open`]; also when not even the first worker gets a queue.
    pub fn open_shared_xdp(
        settings: &Settings,
        workers: usize,
    ) -> Result<(Vec<Self>, Option<IoError>), IoError> {
        let fanout = (workers > 1).then(Fanout::default);
        let mut ports = Vec::new();
        let mut no_queue = None;
        for worker in 0..workers.max(1) {
            let share = Share { worker, workers: workers.max(1) };
            let queue = Queue { index: worker as u32, zero_copy: false };
            let wanted = no_queue.is_none().then_some(queue);
            let open = |xdp| Self::open_as(&Settings { xdp, ..settings.clone() }, share, fanout.clone());
            ports.push(match open(wanted) {
                Err(why @ IoError::Open { step: Step::Xdp, .. }) if worker > 0 => {
                    no_queue = Some(why);
                    open(None)?
                }
                port => port?,
            });
        }
        Ok((ports, no_queue))
    }

    fn open_as(settings: &Settings, share: Share, fanout: Option<Fanout>) -> Result<Self, IoError> {
        let interface = Interface::find(&settings.interface)?;
        // Output first: a place in the group of workers is taken only when nothing can fail any more.
        let output = Output::open(settings, &interface)?;
        let input = Input::open(settings, share, fanout.as_ref(), &interface)?;
        Ok(Self {
            name: format!(
                "{} ({})",
                interface.name,
                if settings.xdp.is_some() { "af_packet, af_xdp" } else { "af_packet" }
            ),
            settings: settings.clone(),
            share,
            fanout,
            interface,
            input,
            output,
            counters: PortCounters::default(),
            looked: Instant::now(),
            pace: Pace::new(),
        })
    }

    /// Opens everything anew if the interface was removed and has come back. Without the right to do so the port stays
    /// silent, and [`PacketIo::link`] says why.
    fn recover(&mut self) {
        if self.looked.elapsed() < limits::RECOVERY_INTERVAL {
            return;
        }
        self.looked = Instant::now();
        let found = Interface::find_through(self.input.socket.as_fd(), &self.interface.name);
        let Ok(interface) = found else { return };
        if interface.index == self.interface.index {
            self.interface.mtu = interface.mtu;
            return;
        }
        let Ok(output) = Output::open(&self.settings, &interface) else { return };
        let Ok(input) = Input::open(&self.settings, self.share, self.fanout.as_ref(), &interface) else {
            return;
        };
        self.counters.kernel_drops += self.input.take_drops();
        (self.input, self.output, self.interface) = (input, output, interface);
    }

    fn wait(&mut self, wait: Duration) -> Result<(), IoError> {
        if matches!(self.input.way, InputWay::Frames(_)) && self.pace.is_busy() {
            // Under load frames are gathered: being woken for each would cost the sender more than sending does.
            std::thread::sleep(GATHER.min(wait));
            return Ok(());
        }
        let ready = wait_for(self.input.socket.as_fd(), PollFlags::IN, wait)
            .map_err(IoError::broken(&self.name, Step::Receive))?;
        if ready.intersects(PollFlags::ERR) {
            // Taking the error clears it; down and gone links are all that it can be.
            let _ = self.input.socket.take_error();
            self.recover();
        }
        if ready.is_empty() {
            self.recover();
        }
        Ok(())
    }
}

impl PacketIo for AfPacket {
    fn name(&self) -> &str {
        &self.name
    }

    fn rx(&mut self, batch: &mut Batch, wait: Duration) -> Result<usize, IoError> {
        let before = batch.len();
        self.input.fill(batch, &mut self.counters).map_err(IoError::broken(&self.name, Step::Receive))?;
        if batch.len() == before && !wait.is_zero() {
            self.wait(wait)?;
            self.input.fill(batch, &mut self.counters).map_err(IoError::broken(&self.name, Step::Receive))?;
        }
        let received = batch.len() - before;
        self.pace.frames = self.pace.frames.saturating_add(received as u32);
        Ok(received)
    }

    fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        let outcome = self.output.send(batch).map_err(IoError::broken(&self.name, Step::Send))?;
        if outcome.link_down > 0 {
            self.recover();
        }
        self.counters.tx.add(&outcome);
        Ok(outcome)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters.kernel_drops += self.input.take_drops();
        self.counters
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.socket.as_fd())
    }

    fn link(&mut self) -> Link {
        self.interface.link_through(self.input.socket.as_fd())
    }

    fn max_frame(&self) -> usize {
        self.interface.mtu + spec::ETHERNET_HEADER_LEN
    }
}

/// The receiving socket. Fields are dropped in order: the ring before its socket.
struct Input {
    way: InputWay,
    socket: Socket,
}

enum InputWay {
    Blocks(BlockRing),
    Frames(FrameRing),
    /// Burst, next message to take, messages in it.
    Socket(Box<ReceiveBurst>, usize, usize),
}

impl Input {
    fn open(
        settings: &Settings,
        share: Share,
        fanout: Option<&Fanout>,
        interface: &Interface,
    ) -> Result<Self, IoError> {
        let name = &interface.name;
        let socket = packet_socket().map_err(IoError::open(name, Step::Socket))?;
        // Everything is set before binding: nothing arrives that filter or ring would have treated otherwise.
        let way = match settings.receive {
            Receive::Blocks { block_len, blocks, timer_ms } => {
                let block_len = block_len.next_power_of_two().clamp(1 << 16, 1 << 22);
                BlockRing::new(socket.as_fd(), block_len, blocks.clamp(2, 4_096), timer_ms)
                    .map(InputWay::Blocks)
            }
            Receive::Frames { frames } => {
                let frame_len = interface.mtu + RING_OVERHEAD;
                let frames = frames.next_power_of_two().clamp(64, 1 << 17);
                FrameRing::new(socket.as_fd(), frame_len, frames).map(InputWay::Frames)
            }
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
        let program = filter::program(&filter::accept(settings.traffic, share));
        socket.attach_filter(&program).map_err(IoError::open(name, Step::Filter))?;
        // Bound to one EtherType the kernel gives us no outgoing copies anyway; kernels before 4.20 do not know the option.
        let _ = sys::set_packet_option(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1);
        if settings.promiscuous {
            sys::set_promiscuous(socket.as_fd(), interface.index)
                .map_err(IoError::open(name, Step::Options))?;
        }
        socket
            .bind(&sys::link_address(interface.index, spec::ETHERTYPE))
            .map_err(IoError::open(name, Step::Bind))?;
        // Binding to an interface that is down leaves an error behind that means nothing to us.
        let _ = socket.take_error();
        if let Some(fanout) = fanout {
            fanout
                .join(socket.as_fd(), share.worker, interface.index)
                .map_err(IoError::open(name, Step::Fanout))?;
        }
        Ok(Self { way, socket })
    }

    fn fill(&mut self, batch: &mut Batch, counters: &mut PortCounters) -> io::Result<()> {
        match &mut self.way {
            InputWay::Blocks(ring) => ring.drain(|frame| push(batch, counters, frame)),
            InputWay::Frames(ring) => ring.drain(|frame| push(batch, counters, frame)),
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
    fn take_drops(&mut self) -> u64 {
        // On a live packet socket the call does not fail; if it does there is nothing to add.
        sys::take_packet_statistics(self.socket.as_fd()).map_or(0, |(_, drops)| drops)
    }
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

/// The way out.
enum Output {
    Socket(SocketOutput),
    Xdp(Box<XdpOutput>),
}

impl Output {
    fn open(settings: &Settings, interface: &Interface) -> Result<Self, IoError> {
        let tag = settings.tag.map(|tci| {
            let ([a, b], [c, d]) = (spec::TPID.to_be_bytes(), tci.to_be_bytes());
            [a, b, c, d]
        });
        match settings.xdp {
            None => SocketOutput::open(settings.bypass, interface, tag).map(Self::Socket),
            Some(queue) => XdpOutput::open(queue, interface, tag).map(|o| Self::Xdp(Box::new(o))),
        }
    }

    fn send(&mut self, batch: &Batch) -> io::Result<TxOutcome> {
        match self {
            Self::Socket(output) => output.send(batch),
            Self::Xdp(output) => output.send(batch),
        }
    }
}

/// The sending socket.
struct SocketOutput {
    socket: Socket,
    burst: SendBurst,
    /// Slots under way in one call of `send`.
    slots: Vec<u32>,
    tag: Option<[u8; spec::TAG_LEN]>,
}

impl SocketOutput {
    fn open(bypass: bool, interface: &Interface, tag: Option<[u8; spec::TAG_LEN]>) -> Result<Self, IoError> {
        let name = &interface.name;
        let socket = packet_socket().map_err(IoError::open(name, Step::Socket))?;
        if bypass {
            sys::set_packet_option(socket.as_fd(), libc::PACKET_QDISC_BYPASS, 1)
                .map_err(IoError::open(name, Step::Options))?;
        }
        sys::grow_buffer(socket.as_fd(), sys::Buffer::Send, limits::SOCKET_BUFFER)
            .map_err(IoError::open(name, Step::Options))?;
        // EtherType 0: a socket that never receives.
        socket.bind(&sys::link_address(interface.index, 0)).map_err(IoError::open(name, Step::Bind))?;
        let _ = socket.take_error();
        Ok(Self { socket, burst: SendBurst::new(limits::BURST), slots: Vec::new(), tag })
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
                    SendError::Full => {
                        let deadline = *patience.get_or_insert_with(|| Instant::now() + limits::TX_PATIENCE);
                        let left = deadline.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            outcome.overload += (self.slots.len() - at) as u64;
                            break;
                        }
                        wait_for(self.socket.as_fd(), PollFlags::OUT, left)?;
                    }
                    SendError::NoBuffer => {
                        outcome.overload += 1;
                        at += 1;
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

/// What an error of a send says about the frame it stopped at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendError {
    Again,
    /// The socket's own buffer: waiting helps.
    Full,
    /// The device's: the frame is lost.
    NoBuffer,
    TooLong,
    Down,
    Other,
}

impl SendError {
    pub(super) fn of(e: &io::Error) -> Self {
        match e.raw_os_error() {
            Some(libc::EINTR) => Self::Again,
            Some(libc::EAGAIN) => Self::Full,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::NoBuffer,
            Some(libc::EMSGSIZE) => Self::TooLong,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EADDRNOTAVAIL) => Self::Down,
            _ => Self::Other,
        }
    }
}

/// Whether an error of a receive says only that there is nothing now: no frame, or a link that is down.
pub(super) fn is_silence(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || matches!(e.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}

/// Waits until the descriptor is ready, at most for `wait`; no flags when it was not.
pub(super) fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags, wait: Duration) -> io::Result<PollFlags> {
    let timeout = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => Ok(fds[0].revents()),
        Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
        Err(e) => Err(e.into()),
    }
}

fn packet_socket() -> io::Result<Socket> {
    // Protocol 0: it receives nothing before it is bound.
    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
}

/// The kernel's group of sockets that share an interface's frames. The sockets join in the order of their workers, also
/// when the interface was made anew: the kernel's choice is by place in the group.
#[derive(Clone, Default)]
struct Fanout(Arc<Mutex<Option<Group>>>);

struct Group {
    interface: u32,
    id: u16,
    joined: usize,
}

impl Fanout {
    fn join(&self, fd: BorrowedFd<'_>, worker: usize, interface: u32) -> io::Result<()> {
        let mut group = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = group.as_ref().filter(|g| g.interface == interface);
        let (id, joined) = current.map_or((0, 0), |g| (g.id, g.joined));
        if joined != worker {
            return Err(io::Error::new(ErrorKind::WouldBlock, "a worker before this one has not joined yet"));
        }
        let mode = libc::PACKET_FANOUT_CBPF | if worker == 0 { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
        sys::set_packet_option(fd, libc::PACKET_FANOUT, (u32::from(id) | mode << 16) as i32)?;
        let id = sys::packet_option(fd, libc::PACKET_FANOUT)? as u16;
        if worker == 0 {
            let program = filter::program(&filter::spread_packets());
            sys::set_program(fd, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program)?;
        }
        *group = Some(Group { interface, id, joined: joined + 1 });
        Ok(())
    }
}

/// Headers of a place in a ring of frames, rounded up.
const RING_OVERHEAD: usize = 128;
/// Messages a call where there is no ring.
const SOCKET_BURST: usize = 64;
/// Frames in a gathering time from which on a link is busy.
const BUSY: u32 = 4;
/// How long frames are gathered on a busy link.
const GATHER: Duration = Duration::from_micros(120);

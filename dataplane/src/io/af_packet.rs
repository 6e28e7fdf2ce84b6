//! AF_PACKET: a receive ring shared with the kernel, and bursts of `sendmmsg` past the queueing discipline.
//!
//! ```text
//! interface -> fanout by address pair -> filter: data of this worker -> ring of frames, in quiet times  -> rx
//!                                                                    -> ring of blocks, in busy times   -> rx
//!                                     -> filter: PC5 signalling      -> socket  -> rx   (a port of its own)
//!                                                          tx -> sendmmsg, 256 a call -> interface
//! ```

mod adaptive;
mod fanout;
mod input;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use self::fanout::Fanout;
use self::input::Input;
use super::af_xdp::Queue;
use super::backlog::Backlog;
use super::error::{IoError, Step};
use super::output::{self, Output};
use super::socket::wait_for;
use super::{Interface, Link, PacketIo, PortCounters, Share, Traffic, TxOutcome, limits};
use crate::batch::Batch;
use crate::pdu::spec;

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
    /// The one while the link is quiet, the other while it is busy.
    Adaptive,
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
            receive: Receive::Adaptive,
            promiscuous: true,
            bypass: true,
            xdp: None,
        }
    }

    fn output(&self) -> output::Settings {
        let (tag, bypass, xdp) = (self.tag, self.bypass, self.xdp);
        output::Settings { tag, bypass, xdp, patience: limits::TX_PATIENCE }
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
    /// With the first worker.
    backlog: Option<Backlog>,
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
        Self::open_as(settings, Share::WHOLE, fanout(settings, 1).as_ref())
    }

    /// `workers` ports that share the frames; all frames of an address pair go to the port that [`Share::owner`] says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_shared(settings: &Settings, workers: usize) -> Result<Vec<Self>, IoError> {
        let fanout = fanout(settings, workers);
        (0..workers.max(1))
            .map(|worker| Self::open_as(settings, Share { worker, workers: workers.max(1) }, fanout.as_ref()))
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
        let fanout = fanout(settings, workers);
        let mut ports = Vec::new();
        let mut no_queue = None;
        for worker in 0..workers.max(1) {
            let share = Share { worker, workers: workers.max(1) };
            let queue = Queue { index: worker as u32, zero_copy: false };
            let wanted = no_queue.is_none().then_some(queue);
            let open = |xdp| Self::open_as(&Settings { xdp, ..settings.clone() }, share, fanout.as_ref());
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

    fn open_as(settings: &Settings, share: Share, fanout: Option<&Fanout>) -> Result<Self, IoError> {
        let interface = Interface::find(&settings.interface)?;
        // Output first: a place in the group of workers is taken only when nothing can fail any more.
        let output = Output::open(&settings.output(), &interface)?;
        let input = Input::open(settings, share, fanout, &interface)?;
        let tells = share.worker == 0 && settings.traffic != Traffic::Signalling;
        let backlog = if tells { Backlog::new(&interface.name) } else { None };
        Ok(Self {
            name: format!(
                "{} ({})",
                interface.name,
                if settings.xdp.is_some() { "af_packet, af_xdp" } else { "af_packet" }
            ),
            settings: settings.clone(),
            share,
            fanout: fanout.cloned(),
            interface,
            input,
            output,
            counters: PortCounters::default(),
            backlog,
            looked: Instant::now(),
            pace: Pace::new(),
        })
    }

    /// Whether frames come in blocks now.
    pub fn takes_blocks(&self) -> bool {
        self.input.takes_blocks()
    }

    /// Opens everything anew if the interface was removed and has come back. Without the right to do so the port stays
    /// silent, and [`PacketIo::link`] says why.
    fn recover(&mut self) {
        if self.looked.elapsed() < limits::RECOVERY_INTERVAL {
            return;
        }
        self.looked = Instant::now();
        let found = Interface::find_through(self.input.socket(), &self.interface.name);
        let Ok(interface) = found else { return };
        if interface.index == self.interface.index {
            self.interface.mtu = interface.mtu;
            return;
        }
        let Ok(output) = Output::open(&self.settings.output(), &interface) else { return };
        let Ok(input) = Input::open(&self.settings, self.share, self.fanout.as_ref(), &interface) else {
            return;
        };
        self.counters.kernel_drops += self.input.take_drops();
        (self.input, self.output, self.interface) = (input, output, interface);
    }

    fn wait(&mut self, wait: Duration) -> Result<(), IoError> {
        if self.input.wakes_by_frame() && self.pace.is_busy() {
            // Under load frames are gathered: being woken for each would cost the sender more than sending does.
            std::thread::sleep(GATHER.min(wait));
            return Ok(());
        }
        let ready = wait_for(self.input.poll_fd(), PollFlags::IN, wait)
            .map_err(IoError::broken(&self.name, Step::Receive))?;
        if ready.intersects(PollFlags::ERR) {
            // Taking the error clears it; down and gone links are all that it can be.
            self.input.clear_errors();
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
        if received == 0 && self.input.hides_errors() {
            self.input.clear_errors();
            self.recover();
        }
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
        self.counters.interface_drops += self.backlog.as_mut().map_or(0, Backlog::take_drops);
        self.counters
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.poll_fd())
    }

    fn link(&mut self) -> Link {
        self.interface.link_through(self.input.socket())
    }

    fn max_frame(&self) -> usize {
        self.interface.mtu + spec::ETHERNET_HEADER_LEN
    }
}

/// The group that ports share frames in, where one is needed.
fn fanout(settings: &Settings, workers: usize) -> Option<Fanout> {
    let in_pairs = settings.receive == Receive::Adaptive && workers <= Fanout::MOST_PAIRS;
    (workers > 1 || in_pairs).then(|| Fanout::new(workers.max(1), in_pairs))
}

/// Frames in a gathering time from which on a link is busy.
const BUSY: u32 = 4;
/// How long frames are gathered on a busy link.
const GATHER: Duration = Duration::from_micros(120);

//! Packet ports: how frames come in and go out, behind one trait.
//!
//! ```text
//! interface   af_packet   ring in, sendmmsg out          default
//!             af_xdp      ring in, AF_XDP out            where the kernel lets us
//!             pnet        plain sockets                  fallback, at a third of the speed
//! backhaul    udp         one datagram a frame, GSO/GRO  no raw socket needed
//! tests       mem         a pair of queues
//! ```
//! A port moves whole bursts: what it costs is the kernel's work a call, not the engine's work a frame. Every frame that a
//! port was given or took is in exactly one of its counters, what the kernel dropped for want of room included.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::batch::Batch;
use crate::ids::Layer2Id;

pub mod af_packet;
pub mod af_xdp;
mod backlog;
mod error;
mod filter;
mod handover;
mod interface;
pub mod mem;
#[cfg(feature = "testkit")]
pub mod netns;
mod output;
mod peers;
pub mod pnet;
pub mod probe;
mod sender;
mod socket;
pub mod steer;
pub mod tun;
pub mod udp;

pub use error::{IoError, Step};
pub use interface::{Interface, Link};
pub use peers::Peers;
pub use sender::Sender;

pub use crate::share::Share;

/// A way for frames in and out. One worker owns it.
pub trait PacketIo: Send {
    /// What it is, for people: way and interface or address.
    fn name(&self) -> &str;

    /// Adds received frames to `batch` as far as there is room, and says how many. Waits for the first one for `wait` at
    /// most; 0 when none came. An interface that is down is silence, not an error.
    ///
    /// # Errors
    /// The port can no longer be used.
    fn rx(&mut self, batch: &mut Batch, wait: Duration) -> Result<usize, IoError>;

    /// Sends every accepted frame of `batch`, in order, and says what became of them. Never waits long for room: what
    /// the way out does not take within [`limits::TX_PATIENCE`] is given up as overload.
    ///
    /// # Errors
    /// The port can no longer be used. A link that is down is an outcome, not an error.
    fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError>;

    /// Running totals since the port was made; they never fall.
    fn counters(&mut self) -> PortCounters;

    /// Becomes readable when [`Self::rx`] would find something, for waiting on several ports; `None`: only by waiting in it.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// State of the link as the system sees it.
    fn link(&mut self) -> Link {
        Link::Up
    }

    /// Longest untagged frame that can leave, octets from the destination address to the end of the MAC field.
    fn max_frame(&self) -> usize;

    /// Where the frame in `slot` came from, until the next [`Self::rx`]; `None` where ports have no addresses.
    fn origin(&self, _slot: usize) -> Option<SocketAddr> {
        None
    }

    /// Sends what is for `sender` to `address` from now on. Call it only with the origin of a frame of that sender which
    /// verified.
    fn learn(&mut self, _sender: Layer2Id, _address: SocketAddr) {}
}

/// Which frames a port takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Traffic {
    /// Everything.
    #[default]
    All,
    /// All but PC5 signalling (LCID 28 to 30).
    Data,
    /// PC5 signalling only: on its own socket it is not lost when data overflow theirs.
    Signalling,
}

/// What became of the frames given to [`PacketIo::tx`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TxOutcome {
    /// Taken over by the kernel.
    pub sent: u64,
    /// No room on the way out.
    pub overload: u64,
    /// Longer than the way out allows.
    pub too_long: u64,
    /// The link is down or gone.
    pub link_down: u64,
    /// No address of the destination known.
    pub no_address: u64,
}

impl TxOutcome {
    /// Frames that did not leave.
    pub const fn failed(&self) -> u64 {
        self.overload + self.too_long + self.link_down + self.no_address
    }

    /// All frames given.
    pub const fn total(&self) -> u64 {
        self.sent + self.failed()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.overload += other.overload;
        self.too_long += other.too_long;
        self.link_down += other.link_down;
        self.no_address += other.no_address;
    }
}

/// Totals of a port. What was offered to it is `received + kernel_drops + interface_drops + refused`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PortCounters {
    /// Frames put into batches.
    pub received: u64,
    /// Frames dropped because the port was not read fast enough, nearly always by the kernel.
    pub kernel_drops: u64,
    /// Frames dropped by the kernel on the interface, before any socket: its backlog was full. Those of protocols that nobody
    /// here takes are among them. One port tells for all workers of an interface.
    pub interface_drops: u64,
    /// Frames that the port itself refused: longer than its buffers or than any batch.
    pub refused: u64,
    /// Frames given to it for sending, by outcome.
    pub tx: TxOutcome,
}

/// Own limits.
pub mod limits {
    use std::time::Duration;

    /// Messages a system call moves at most.
    pub const BURST: usize = 256;
    /// How long a send may wait for room.
    pub const TX_PATIENCE: Duration = Duration::from_millis(1);
    /// How often a lost interface is looked for.
    pub const RECOVERY_INTERVAL: Duration = Duration::from_millis(200);
    /// Buffer asked for on sockets without a ring, and for sending, octets.
    pub const SOCKET_BUFFER: usize = 8 << 20;
}

//! The UE's own side: a TUN device for IP, a TAP device for whole frames. Ordinary programs talk through it.
//!
//! The device is made without offloads: super-frames are cut and checksums completed by the kernel before we see them,
//! also where a bridge forwards them from an interface that has offloads.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::event::PollFlags;
use socket2::{Domain, Socket, Type};

use super::error::{IoError, Step};
use super::socket::{SendError, is_silence, wait_for};
use super::{Interface, Link, PortCounters, TxOutcome};
use crate::batch::{Batch, Meta, limits};
use crate::ids::{Lcid, SduType};
use crate::pdu::{Address, spec};
use crate::raw::sys;
use crate::suite::Suite;
use crate::verdict::Verdict;

/// What a device carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IP packets (TUN): SDU type IP.
    Ip,
    /// Ethernet frames (TAP): SDU type Non-IP.
    Ethernet,
}

impl Kind {
    /// SDU type of what is read.
    pub const fn sdu_type(self) -> SduType {
        match self {
            Self::Ip => SduType::Ip,
            Self::Ethernet => SduType::NonIp,
        }
    }
}

/// MTU of a device whose SDUs, protected under `suite`, fit frames of `max_frame` octets
/// ([`super::PacketIo::max_frame`]).
pub const fn fitting_mtu(max_frame: usize, suite: Suite, kind: Kind) -> usize {
    let inner_header = match kind {
        Kind::Ip => 0,
        Kind::Ethernet => spec::ETHERNET_HEADER_LEN,
    };
    max_frame.saturating_sub(spec::HEADER_LEN + suite.mac_len() + inner_header)
}

/// A TUN or TAP device, removed when dropped.
pub struct Tun {
    interface: Interface,
    kind: Kind,
    file: File,
    /// For asking about the interface.
    socket: Socket,
    buffer: Vec<u8>,
    /// Octets in the buffer that no batch had room for.
    held: Option<usize>,
    counters: PortCounters,
}

impl Tun {
    /// Makes the device and sets it up; `name` may have a `%d` for the system to fill in. Addresses and routes are the
    /// operator's.
    ///
    /// # Errors
    /// [`IoError::Open`] with the step that failed: most often no right to make devices, or no `/dev/net/tun`.
    pub fn open(name: &str, kind: Kind, mtu: usize) -> Result<Self, IoError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(IoError::open(name, Step::Device))?;
        let name = sys::make_tun(file.as_fd(), name, kind == Kind::Ethernet)
            .map_err(IoError::open(name, Step::Device))?;
        sys::bring_up(&name, mtu).map_err(IoError::open(&name, Step::Interface))?;
        let socket =
            Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(IoError::open(&name, Step::Socket))?;
        let interface = Interface::find_through(socket.as_fd(), &name)?;
        let buffer = vec![0; mtu + spec::ETHERNET_HEADER_LEN + spec::TAG_LEN];
        Ok(Self { interface, kind, file, socket, buffer, held: None, counters: PortCounters::default() })
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// What it carries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its MTU.
    pub fn mtu(&self) -> usize {
        self.interface.mtu
    }

    /// Whether programs can use it now.
    pub fn link(&self) -> Link {
        self.interface.link_through(self.socket.as_fd())
    }

    /// Becomes readable when there is something to read.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Totals. `refused` are SDUs that `route` has no way for.
    pub fn counters(&self) -> PortCounters {
        self.counters
    }

    /// Adds SDUs to `batch` as far as there is room, each to where `route` says it goes; says how many. Waits for the first
    /// one for `wait` at most.
    ///
    /// # Errors
    /// [`IoError::DeviceGone`]; or it can no longer be used.
    pub fn rx(
        &mut self,
        batch: &mut Batch,
        wait: Duration,
        mut route: impl FnMut(&[u8]) -> Option<Address>,
    ) -> Result<usize, IoError> {
        let before = batch.len();
        self.fill(batch, &mut route)?;
        if batch.len() == before && !wait.is_zero() {
            wait_for(self.file.as_fd(), PollFlags::IN, wait).map_err(|e| self.broken(Step::Receive, e))?;
            self.fill(batch, &mut route)?;
        }
        Ok(batch.len() - before)
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        route: &mut impl FnMut(&[u8]) -> Option<Address>,
    ) -> Result<(), IoError> {
        while !batch.is_full_for(self.buffer.len()) || self.held.is_none() {
            let n = match self.held.take() {
                Some(n) => n,
                None if batch.is_full_for(self.buffer.len()) => return Ok(()),
                None => match self.file.read(&mut self.buffer) {
                    Ok(n) => n,
                    // A device that is down answers with an input error.
                    Err(e) if is_silence(&e) || e.raw_os_error() == Some(libc::EIO) => return Ok(()),
                    Err(e) => return Err(self.broken(Step::Receive, e)),
                },
            };
            let sdu = &self.buffer[..n];
            let Some(address) = route(sdu) else {
                self.counters.refused += 1;
                continue;
            };
            match batch.push_sdu(address, Lcid::USER, self.kind.sdu_type(), sdu, Meta::default()) {
                Some(_) => self.counters.received += 1,
                None if batch.is_empty() => self.counters.refused += 1,
                None => {
                    self.held = Some(n);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Gives the SDUs of accepted slots to the system. SDUs of another type than the device's are not for it and are not
    /// counted.
    ///
    /// # Errors
    /// [`IoError::DeviceGone`]; or it can no longer be used.
    pub fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        let mut outcome = TxOutcome::default();
        for (i, slot) in batch.slots().iter().enumerate() {
            if slot.verdict != Verdict::Accepted || slot.sdu_type != self.kind.sdu_type() {
                continue;
            }
            // The device takes a packet whole or not at all.
            match rustix::io::write(&self.file, batch.data(i)).map_err(io::Error::from) {
                Ok(_) => outcome.sent += 1,
                Err(e) => match SendError::of(&e) {
                    SendError::Again | SendError::Full | SendError::NoBuffer => outcome.overload += 1,
                    SendError::TooLong => outcome.too_long += 1,
                    SendError::Down => outcome.link_down += 1,
                    // What is no IP packet, the kernel calls so; a member that sends such is no reason to stop.
                    SendError::Other if e.kind() == ErrorKind::InvalidInput => outcome.no_address += 1,
                    SendError::Other if e.raw_os_error() == Some(libc::EIO) => outcome.link_down += 1,
                    SendError::Other => return Err(self.broken(Step::Send, e)),
                },
            }
        }
        self.counters.tx.add(&outcome);
        Ok(outcome)
    }

    /// While a device is being removed the system says once that its memory is not there.
    fn broken(&self, step: Step, e: io::Error) -> IoError {
        let name = self.interface.name.clone();
        match e.raw_os_error() {
            Some(libc::EBADFD | libc::EFAULT) => IoError::DeviceGone { name },
            _ => IoError::Broken { name, step, source: e },
        }
    }
}

const _: () = assert!(limits::MAX_DATA > 65_535, "an SDU of any MTU fits a batch");

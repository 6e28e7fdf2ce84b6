//! Sockets that share the frames of an interface: those of several workers, and the two of a worker that tells quiet from
//! busy times.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::io::filter::{self, Instruction};
use crate::raw::sys;

/// The kernel's group of sockets that share an interface's frames. The sockets join in the order of their places, also
/// when the interface was made anew: the kernel's choice is by place in the group.
#[derive(Clone)]
pub(super) struct Fanout {
    workers: usize,
    /// Each worker has two places, one behind the other: for quiet times, and for busy ones.
    in_pairs: bool,
    group: Arc<Mutex<Option<Group>>>,
}

struct Group {
    interface: u32,
    id: u16,
    joined: usize,
    /// Workers whose frames go to their second place, a bit each.
    busy: u64,
}

impl Fanout {
    /// For that many workers, at most [`Self::MOST_PAIRS`] in pairs.
    pub(super) fn new(workers: usize, in_pairs: bool) -> Self {
        Self { workers, in_pairs, group: Arc::default() }
    }

    /// Workers that may have two sockets each.
    pub(super) const MOST_PAIRS: usize = 64;

    /// Whether each worker has two places.
    pub(super) fn in_pairs(&self) -> bool {
        self.in_pairs
    }

    /// Takes the next place.
    pub(super) fn join(&self, fd: BorrowedFd<'_>, place: usize, interface: u32) -> io::Result<()> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let current = group.as_ref().filter(|g| g.interface == interface && place > 0);
        let (id, joined, busy) = current.map_or((0, 0, 0), |g| (g.id, g.joined, g.busy));
        if joined != place {
            return Err(io::Error::new(ErrorKind::WouldBlock, "a socket before this one has not joined yet"));
        }
        let mode = libc::PACKET_FANOUT_CBPF | if place == 0 { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
        sys::set_packet_option(fd, libc::PACKET_FANOUT, (u32::from(id) | mode << 16) as i32)?;
        let id = sys::packet_option(fd, libc::PACKET_FANOUT)? as u16;
        if place == 0 {
            self.set_program(fd, busy)?;
        }
        *group = Some(Group { interface, id, joined: joined + 1, busy });
        Ok(())
    }

    /// Sends the frames of `worker` to its second place, or to its first one again. Takes as long as the kernel needs to
    /// be sure that nobody runs the program before, which is milliseconds; frames are neither lost nor doubled meanwhile.
    pub(super) fn set_busy(&self, fd: BorrowedFd<'_>, worker: usize, is_busy: bool) -> io::Result<()> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = &mut *group else { return Ok(()) };
        let bit = 1u64 << (worker % Self::MOST_PAIRS);
        let busy = if is_busy { group.busy | bit } else { group.busy & !bit };
        self.set_program(fd, busy)?;
        group.busy = busy;
        Ok(())
    }

    fn set_program(&self, fd: BorrowedFd<'_>, busy: u64) -> io::Result<()> {
        let spread: Vec<Instruction> =
            if self.in_pairs { filter::spread_pairs(self.workers, busy) } else { filter::spread_packets() };
        sys::set_program(fd, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &filter::program(&spread))
    }
}

//! Frames that came in by another worker's socket.
//!
//! On UDP the kernel joins datagrams of one remote address whatever frames they carry, and chooses a socket by the first
//! of them. The worker of an address pair owns its replay window, so the others are handed to their worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::share::{Share, flow_of};

/// Frames of one message for one worker.
pub(super) struct Parcel {
    /// Where they came from.
    pub(super) from: SocketAddr,
    /// The frames, one behind the other.
    octets: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Parcel {
    /// Frame `i`, if there are that many.
    pub(super) fn frame(&self, i: usize) -> Option<&[u8]> {
        let start = if i == 0 { 0 } else { *self.ends.get(i - 1)? as usize };
        self.octets.get(start..*self.ends.get(i)? as usize)
    }
}

/// What a worker's port needs to hand frames over and to get them.
pub(super) struct Handover {
    share: Share,
    mine: Receiver<Parcel>,
    /// All workers' doors, this one's included.
    doors: Arc<[Door]>,
    /// Frames for others out of the current message.
    packing: Vec<Parcel>,
    /// Readable when socket or bell is.
    both: OwnedFd,
}

struct Door {
    to: Sender<Parcel>,
    /// Wakes the worker.
    bell: OwnedFd,
}

impl Handover {
    /// One for each socket, in the order of the workers.
    pub(super) fn between<'a>(
        sockets: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<Vec<Self>> {
        let workers = sockets.len();
        let mut receivers = Vec::with_capacity(workers);
        let mut doors = Vec::with_capacity(workers);
        for _ in 0..workers {
            let (to, mine) = bounded(PARCELS);
            doors.push(Door { to, bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? });
            receivers.push(mine);
        }
        let doors: Arc<[Door]> = doors.into();
        let mut all = Vec::with_capacity(workers);
        for ((worker, mine), socket) in receivers.into_iter().enumerate().zip(sockets) {
            let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let readable = epoll::EventFlags::IN;
            epoll::add(&both, socket, epoll::EventData::new_u64(0), readable)?;
            epoll::add(&both, &doors[worker].bell, epoll::EventData::new_u64(1), readable)?;
            let share = Share { worker, workers };
            all.push(Self { share, mine, doors: doors.clone(), packing: Vec::new(), both });
        }
        Ok(all)
    }

    /// Becomes readable when there is something on the socket or handed over.
    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }

    /// Next parcel for this worker. When there is none, the bell is silent again.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        self.mine.try_recv().ok().or_else(|| {
            // Silence first, then look again: a parcel that comes in between is not missed.
            let mut rings = [0; 8];
            rustix::io::read(&self.doors[self.share.worker].bell, &mut rings).ok()?;
            self.mine.try_recv().ok()
        })
    }

    /// Takes a frame that belongs to another worker; `false`: it is this one's.
    pub(super) fn pack(&mut self, frame: &[u8], from: SocketAddr) -> bool {
        let worker = flow_of(frame) as usize % self.share.workers;
        if worker == self.share.worker {
            return false;
        }
        if self.packing.is_empty() {
            let empty = || Parcel { from, octets: Vec::new(), ends: Vec::new() };
            self.packing.resize_with(self.share.workers, empty);
        }
        let parcel = &mut self.packing[worker];
        parcel.octets.extend_from_slice(frame);
        parcel.ends.push(parcel.octets.len() as u32);
        true
    }

    /// Hands over what was packed; says how many frames other workers had no room for.
    pub(super) fn deliver(&mut self) -> u64 {
        let mut lost = 0;
        for (parcel, door) in self.packing.drain(..).zip(&*self.doors) {
            let frames = parcel.ends.len() as u64;
            if frames == 0 {
                continue;
            }
            if door.to.try_send(parcel).is_err() {
                lost += frames;
                continue;
            }
            // It fails only when the bell has rung 2^64 times unheard: then it is ringing.
            let _ = rustix::io::write(&door.bell, &1u64.to_ne_bytes());
        }
        lost
    }
}

/// Parcels that wait for a worker at most.
const PARCELS: usize = 1_024;

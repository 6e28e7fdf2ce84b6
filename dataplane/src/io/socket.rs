//! What the ports share of sockets: waiting, and what an error says.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

/// What an error of a send says about the frame it stopped at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendError {
    Again,
    /// The socket's own buffer: waiting helps.
    Full,
    /// The device's.
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

pub(super) fn packet_socket() -> io::Result<Socket> {
    // Protocol 0: it receives nothing before it is bound.
    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
}

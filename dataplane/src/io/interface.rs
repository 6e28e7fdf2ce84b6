//! A network interface of this namespace.

use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Socket, Type};

use super::error::{IoError, Step};
use crate::raw::sys;

/// A network interface, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index; another one when it was removed and made anew.
    pub index: u32,
    /// Octets of a frame behind the Ethernet header.
    pub mtu: usize,
}

/// State of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Frames pass.
    Up,
    /// Set down, or no carrier.
    Down,
    /// The interface is not there any more.
    Gone,
}

impl Interface {
    /// Looks an interface up in the caller's namespace.
    ///
    /// # Errors
    /// There is none of that name, or the system says no.
    pub fn find(name: &str) -> Result<Self, IoError> {
        let socket =
            Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(IoError::open(name, Step::Socket))?;
        Self::find_through(socket.as_fd(), name)
    }

    /// Looks an interface up in the namespace of a socket; it needs no right to open another one.
    pub(crate) fn find_through(socket: BorrowedFd<'_>, name: &str) -> Result<Self, IoError> {
        let Ok(index) = rustix::net::netdevice::name_to_index(socket, name) else {
            return Err(IoError::NoInterface { name: name.to_owned() });
        };
        let mtu = sys::interface_mtu(socket, name).map_err(IoError::open(name, Step::Interface))? as usize;
        Ok(Self { name: name.to_owned(), index, mtu })
    }

    /// State of the link now; where another interface took the name, [`Link::Gone`].
    pub(crate) fn link_through(&self, socket: BorrowedFd<'_>) -> Link {
        match rustix::net::netdevice::name_to_index(socket, &self.name) {
            Ok(index) if index == self.index => {}
            _ => return Link::Gone,
        }
        match sys::interface_is_running(socket, &self.name) {
            Ok(true) => Link::Up,
            Ok(false) => Link::Down,
            Err(_) => Link::Gone,
        }
    }
}

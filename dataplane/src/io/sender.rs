//! A port that only sends: nothing is received, so that it costs the interface no socket that listens.

use std::time::Duration;

use socket2::{Domain, Socket, Type};
use std::os::fd::AsFd;

use super::af_xdp::Queue;
use super::error::{IoError, Step};
use super::output::{Output, Settings};
use super::probe::{Refusal, Way};
use super::{Interface, Link, TxOutcome};
use crate::batch::Batch;
use crate::pdu::spec;

/// The best way out of an interface: AF_XDP in copy mode where it can be had, else `sendmmsg` past the queueing discipline.
pub struct Sender {
    interface: Interface,
    way: Way,
    refused: Option<Refusal>,
    output: Output,
    /// For asking about the interface.
    socket: Socket,
}

impl Sender {
    /// Opens an interface of this namespace, which is up. Frames leave with the 802.1Q tag control information of `tag`;
    /// what there is no room for within `patience` is given up as overload.
    ///
    /// # Errors
    /// [`IoError::NoInterface`]; [`IoError::Open`] with the step that failed, most often no right to open raw sockets;
    /// [`IoError::Setting`] when the link is down.
    pub fn open(name: &str, tag: Option<u16>, patience: Duration) -> Result<Self, IoError> {
        let interface = Interface::find(name)?;
        let socket =
            Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(IoError::open(name, Step::Socket))?;
        let open = |xdp| Output::open(&Settings { tag, bypass: true, xdp, patience }, &interface);
        let (way, output, refused) = match open(Some(Queue::default())) {
            Ok(output) => (Way::AfXdp, output, None),
            Err(why) => (Way::AfPacket, open(None)?, Some(Refusal { way: Way::AfXdp, why })),
        };
        if interface.link_through(socket.as_fd()) != Link::Up {
            let reason = format!("the link is down; `ip link set {name} up` and its other end");
            return Err(IoError::Setting { name: name.to_owned(), reason });
        }
        Ok(Self { interface, way, refused, output, socket })
    }

    /// Which way it is.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Why it is not the better one.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// Longest untagged frame that can leave, octets from the destination address to the end of the MAC field.
    pub fn max_frame(&self) -> usize {
        self.interface.mtu + spec::ETHERNET_HEADER_LEN
    }

    /// State of the link as the system sees it.
    pub fn link(&self) -> Link {
        self.interface.link_through(self.socket.as_fd())
    }

    /// Sends every accepted frame of `batch`, in order, and says what became of them.
    ///
    /// # Errors
    /// The interface can no longer be used. A link that is down is an outcome, not an error.
    pub fn send(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        self.output.send(batch).map_err(IoError::broken(&self.interface.name, Step::Send))
    }
}

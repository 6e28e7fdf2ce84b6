//! What can go wrong with a port, in words for the operator.

use std::{fmt, io};

/// A port cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// No interface of that name.
    #[error("no interface {name:?} here; `ip link` lists those of this network namespace")]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// A step of opening it failed.
    #[error("{name}: cannot {step}: {source}{}", hint(.source))]
    Open {
        /// Interface or address.
        name: String,
        /// What was tried.
        step: Step,
        /// Why not.
        source: io::Error,
    },
    /// Reading or sending failed for good.
    #[error("{name}: {step} failed: {source}")]
    Broken {
        /// Interface or address.
        name: String,
        /// What was tried.
        step: Step,
        /// Why not.
        source: io::Error,
    },
    /// A TUN or TAP device was removed by somebody else.
    #[error("{name}: the device was removed; it is made when pc5 starts: start it again")]
    DeviceGone {
        /// The device.
        name: String,
    },
    /// A setting that cannot be.
    #[error("{name}: {reason}")]
    Setting {
        /// Interface or address.
        name: String,
        /// What was found and what was wanted.
        reason: String,
    },
}

impl IoError {
    pub(crate) fn open(name: &str, step: Step) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Open { name: name.to_owned(), step, source }
    }

    pub(crate) fn broken(name: &str, step: Step) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Broken { name: name.to_owned(), step, source }
    }
}

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Making a socket.
    Socket,
    /// Reading or setting up the interface.
    Interface,
    /// Making the receive ring.
    Ring,
    /// Setting filters.
    Filter,
    /// Binding.
    Bind,
    /// Sharing frames between workers.
    Fanout,
    /// Setting another option.
    Options,
    /// Making an AF_XDP socket.
    Xdp,
    /// Making a TUN or TAP device.
    Device,
    /// Receiving.
    Receive,
    /// Sending.
    Send,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "open a socket",
            Self::Interface => "query the interface",
            Self::Ring => "make a receive ring",
            Self::Filter => "set a filter",
            Self::Bind => "bind",
            Self::Fanout => "share frames between workers",
            Self::Options => "set socket options",
            Self::Xdp => "open an AF_XDP socket",
            Self::Device => "make the device",
            Self::Receive => "receive",
            Self::Send => "send",
        })
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; start as root or with CAP_NET_RAW and CAP_NET_ADMIN",
        io::ErrorKind::AddrInUse => "; another program has it",
        _ => "",
    }
}

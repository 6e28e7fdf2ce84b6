//! PC5 signalling: octets to values and back, without state. Source: `go-mode.md` sections 2 to 10, TS 24.334 12.
//!
//! ```text
//! SDU of LCID 28 or 30 -> segment::Part -> Reassembly -> canonical message: type (1) | seq (2) | body -> Message
//! ```
//! A decoder returns a value that can no longer be wrong in form, or a [`DecodeError`] that names field and offset.

pub mod direct;
pub mod entry;
pub mod go;
mod octets;
pub mod segment;

pub use go::{Body, Message, MessageType};
pub(crate) use octets::{Reader, Writer};

/// Octets that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}, octet {offset}, {field}: {what}")]
pub struct DecodeError {
    /// Message or structure that was read.
    pub message: &'static str,
    /// Field of it.
    pub field: &'static str,
    /// Octet from its beginning.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Where a received message ends up when its type is looked at: the three bytes before its body.
pub const HEADER: usize = 3;

//! What can be wrong with a capture, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What a field or a file should have held instead of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This value and no other.
    Exactly(u64),
    /// This value or a smaller one.
    AtMost(u64),
    /// This value or a larger one.
    AtLeast(u64),
    /// Any value below this one.
    Below(u64),
    /// A rule in words.
    Rule(&'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::AtMost(value) => write!(f, "at most {value}"),
            Self::AtLeast(value) => write!(f, "at least {value}"),
            Self::Below(value) => write!(f, "less than {value}"),
            Self::Rule(rule) => f.write_str(rule),
        }
    }
}

/// Why a capture could not be read or written. Offsets count octets from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file could not be opened for reading, or created for writing.
    #[error("{}: cannot {action}: {source}", path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// `open` or `create`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed in the system, after everything before `offset` was delivered.
    #[error("at octet {offset}: reading failed: {source}")]
    Read {
        /// First octet that could not be had.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed in the system.
    #[error("writing failed after {offset} octets: {source}")]
    Write {
        /// Octets handed over before.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A file that begins like no capture.
    #[error(
        "at octet 0: not a capture: found {}, expected the magic number of pcap or pcapng; \
         record one with `tcpdump -w`",
        hex_words(found)
    )]
    NotACapture {
        /// The first octets of the file, up to four.
        found: Vec<u8>,
    },
    /// A format that is known by name but not read.
    #[error("at octet {offset}: {name} is not read here; {advice}")]
    Unsupported {
        /// Where the mark of the format is.
        offset: u64,
        /// The format's name.
        name: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// The file ends inside a header, block or record.
    #[error("at octet {offset}: {what} is cut off: {found} octets found, {expected} expected")]
    CutOff {
        /// Where the header, block or record begins.
        offset: u64,
        /// What is cut off.
        what: &'static str,
        /// Octets that the file still has from `offset` on.
        found: u64,
        /// Octets that it takes (at least, where the length itself is cut off).
        expected: u64,
    },
    /// A field holds a value that it cannot have.
    #[error("at octet {offset}: {field} is {found}, expected {expected}")]
    Malformed {
        /// Where the field is.
        offset: u64,
        /// The field's name in the format's description.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it could have been.
        expected: Expected,
    },
    /// A capture that goes beyond what is kept in memory.
    #[error("at octet {offset}: more than {limit} {what}; split the capture, for example with editcap")]
    Limit {
        /// Where the limit was passed.
        offset: u64,
        /// What there was too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The source cannot be read a second time.
    #[error("this input cannot be read again from its start: {source}; give a regular file")]
    Rewind {
        /// What the system said.
        source: io::Error,
    },
    /// A frame for an interface that the writer was not told of.
    #[error("frame for interface {found}, but only {known} were added")]
    NoSuchInterface {
        /// The frame's interface.
        found: u32,
        /// How many there are.
        known: u32,
    },
    /// A frame that the format, or a reader of it, could not take.
    #[error("{what} is {found}, expected {expected}")]
    Unwritable {
        /// The thing that does not fit.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What it could have been.
        expected: Expected,
    },
}

impl PcapError {
    /// The octet of the file at which the defect lies, for errors that have one.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Read { offset, .. }
            | Self::Write { offset, .. }
            | Self::Unsupported { offset, .. }
            | Self::CutOff { offset, .. }
            | Self::Malformed { offset, .. }
            | Self::Limit { offset, .. } => Some(*offset),
            Self::NotACapture { .. } => Some(0),
            Self::Open { .. }
            | Self::Rewind { .. }
            | Self::NoSuchInterface { .. }
            | Self::Unwritable { .. } => None,
        }
    }
}

fn hex_words(octets: &[u8]) -> String {
    if octets.is_empty() {
        return "an empty file".to_owned();
    }
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(" ")
}

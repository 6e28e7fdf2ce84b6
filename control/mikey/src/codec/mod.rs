//! MIKEY messages: octets to values and back, without state.
//!
//! ```text
//! HDR [CS ID map] | payload | payload | ... | payload        each says the type of the next one; the last says 0
//! ```
//!
//! Decoding checks structure, not meaning: every length is held against the octets that are there before anything is
//! copied, a field of known layout becomes a typed value, and codes without a name survive. A payload whose *layout*
//! is not known (its type, or a code that fixes a length in it) is kept whole with all that follows as
//! [`Payload::Opaque`], since its end can't be found. `message.encode()` gives the decoded octets back exactly.
//!
//! What a message *says* is only claimed until it is opened or verified: see [`crate::psk`], [`crate::gsk`] and
//! [`crate::sakke_mode`].

mod code;
mod extension;
mod header;
mod key_data;
mod payload;
pub(crate) mod reader;
mod writer;

pub use code::*;
pub use extension::*;
pub use header::*;
pub use key_data::*;
pub use payload::*;
pub use reader::Field;

use crate::{DecodeError, EncodeError, error::Problem};
use reader::{Read, Reader};

/// Our own limits on input.
pub mod limits {
    /// Octets of a message: room for one KEMAC of full size and much else.
    pub const MESSAGE: usize = 131_072;
    /// Payloads of a message, and keys of a KEMAC.
    pub const PAYLOADS: usize = 256;
    /// Parts within parts; the deepest legal message has four.
    pub(crate) const DEPTH: usize = 8;
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// HDR.
    pub header: Header,
    /// Payloads in the order of the wire.
    pub payloads: Vec<Payload>,
}

/// Where a payload stands in the octets of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of its first octet.
    pub start: usize,
    /// Offset behind its last octet.
    pub end: usize,
}

impl Message {
    /// Reads a message; octets behind the last payload are an error.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(octets)).map(|(message, _)| message)
    }

    /// Reads a message and says where each payload stands.
    pub fn decode_with_spans(octets: &[u8]) -> Result<(Self, Vec<Span>), DecodeError> {
        Self::read(&mut Reader::new(octets))
    }

    /// Reads a message and records every field that was met, also those before an error.
    pub fn inspect(octets: &[u8]) -> (Vec<Field>, Result<Self, DecodeError>) {
        let mut r = Reader::recording(octets);
        let message = Self::read(&mut r).map(|(message, _)| message);
        (r.into_record(), message)
    }

    /// The octets of the message.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let next = |i: usize| self.payloads.get(i).map_or(PayloadType::LAST, Payload::payload_type);
        let mut out = Vec::new();
        self.header.write(&mut out, next(0))?;
        if matches!(self.header.map, CsIdMap::Other { .. })
            && !matches!(self.payloads.as_slice(), [] | [Payload::Opaque(_)])
        {
            return Err(EncodeError::NotLast("CS ID map of unknown layout"));
        }
        for (i, payload) in self.payloads.iter().enumerate() {
            let last = i + 1 == self.payloads.len();
            match payload {
                Payload::Sign(_) if !last => return Err(EncodeError::NotLast("SIGN")),
                Payload::Opaque(_) if !last => return Err(EncodeError::NotLast("opaque")),
                _ => payload.write(&mut out, next(i + 1))?,
            }
        }
        if out.len() > limits::MESSAGE {
            return Err(EncodeError::TooLong { field: "message", length: out.len(), limit: limits::MESSAGE });
        }
        Ok(out)
    }

    fn read(r: &mut Reader<'_>) -> Read<(Self, Vec<Span>)> {
        if r.left() > limits::MESSAGE {
            return r.error("message", 0, Problem::Limit(limits::MESSAGE));
        }
        let (header, mut next) = Header::read(r)?;
        let (mut payloads, mut spans) = (Vec::new(), Vec::new());
        if let CsIdMap::Other { map_type, .. } = header.map {
            if r.left() > 0 || next != PayloadType::LAST {
                spans.push(Span { start: r.position(), end: r.position() + r.left() });
                payloads.push(Payload::Opaque(Opaque {
                    payload_type: next,
                    octets: r.rest("CS ID map info and payloads of unknown layout")?,
                    unknown_field: "HDR CS ID map type",
                    unknown_code: map_type.0,
                }));
            }
            return Ok((Self { header, payloads }, spans));
        }
        while next != PayloadType::LAST {
            if payloads.len() == limits::PAYLOADS {
                return r.error("next payload", r.position(), Problem::Limit(limits::PAYLOADS));
            }
            let start = r.position();
            let payload;
            match r.part(part_name(next), |r| Payload::read(r, next)) {
                Ok(found) => (payload, next) = found,
                Err(DecodeError { field, problem: Problem::UnknownCode(code), .. }) => {
                    r.rewind(start);
                    let octets = r.rest("payload of unknown layout")?;
                    r.meaning(|| format!("{next}, unknown {field} {code}"));
                    payload = Payload::Opaque(Opaque {
                        payload_type: next,
                        octets,
                        unknown_field: field,
                        unknown_code: code,
                    });
                    next = PayloadType::LAST;
                }
                Err(e) => return Err(e),
            }
            payloads.push(payload);
            spans.push(Span { start, end: r.position() });
        }
        match r.left() {
            0 => Ok((Self { header, payloads }, spans)),
            n => r.error("message", r.position(), Problem::Trailing(n)),
        }
    }
}

fn part_name(payload_type: PayloadType) -> &'static str {
    payload_type.name().unwrap_or("payload")
}

//! A message that has been read but not verified: everything in it is a claim.

use sha2::{Digest, Sha256};

use crate::{
    Message, NtpTime, Reject,
    codec::{DataType, IdRole, Idr, Payload, PayloadType, Span, Timestamp},
    replay::MessageId,
};

/// RAND has at least this many octets. Source: RFC 3830 6.11.
const RAND_MIN: usize = 16;

/// A decoded message together with its octets. Its values are claims of whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedMessage {
    octets: Vec<u8>,
    message: Message,
    spans: Vec<Span>,
}

impl ClaimedMessage {
    /// Reads a message. Nothing is verified.
    pub fn decode(octets: &[u8]) -> Result<Self, Reject> {
        let (message, spans) = Message::decode_with_spans(octets)?;
        Ok(Self { octets: octets.to_vec(), message, spans })
    }

    /// The message as claimed.
    pub fn claimed(&self) -> &Message {
        &self.message
    }

    /// T as claimed; `None` without exactly one T that is a time.
    pub fn claimed_time(&self) -> Option<NtpTime> {
        self.timestamp().ok().and_then(|(_, time)| time)
    }

    /// URI that the message claims for a role, where it is there once.
    pub fn claimed_uri(&self, role: IdRole) -> Option<&str> {
        self.idr(role).ok().flatten().and_then(|idr| core::str::from_utf8(&idr.data).ok())
    }

    /// The octets as received.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Octets before the payload `index` ends, without its last `tail` octets.
    pub(crate) fn before_end_of(&self, index: usize, tail: usize) -> &[u8] {
        let end = self.spans.get(index).map_or(0, |s| s.end).saturating_sub(tail);
        self.octets.get(..end).unwrap_or_default()
    }

    /// Checks the data type, that every payload's layout is known, and that all are among `allowed`.
    pub(crate) fn expect(&self, data_type: DataType, allowed: &[PayloadType]) -> Result<(), Reject> {
        let found = self.message.header.data_type;
        if found != data_type {
            return Err(Reject::DataType { found: found.0, expected: data_type.0 });
        }
        for payload in &self.message.payloads {
            if let Payload::Opaque(o) = payload {
                return Err(Reject::UnknownCritical { field: o.unknown_field, code: o.unknown_code });
            }
            let payload_type = payload.payload_type();
            if !allowed.contains(&payload_type) {
                return Err(Reject::NotAllowed(payload_type.name().unwrap_or("unknown")));
            }
        }
        Ok(())
    }

    /// The payload that `pick` accepts, with its place: none or one, never two.
    pub(crate) fn optional<'a, T>(
        &'a self,
        name: &'static str,
        pick: impl Fn(&'a Payload) -> Option<T>,
    ) -> Result<Option<(usize, T)>, Reject> {
        let mut found = self.message.payloads.iter().enumerate().filter_map(|(i, p)| pick(p).map(|t| (i, t)));
        let first = found.next();
        match found.next() {
            Some(_) => Err(Reject::Duplicate(name)),
            None => Ok(first),
        }
    }

    /// The payload that `pick` accepts, with its place: exactly one.
    pub(crate) fn required<'a, T>(
        &'a self,
        name: &'static str,
        pick: impl Fn(&'a Payload) -> Option<T>,
    ) -> Result<(usize, T), Reject> {
        self.optional(name, pick)?.ok_or(Reject::Missing(name))
    }

    /// As [`Self::required`], and it is the last payload.
    pub(crate) fn required_last<'a, T>(
        &'a self,
        name: &'static str,
        pick: impl Fn(&'a Payload) -> Option<T>,
    ) -> Result<(usize, T), Reject> {
        let (index, payload) = self.required(name, pick)?;
        if index + 1 != self.message.payloads.len() {
            return Err(Reject::NotAllowed("a payload behind the last one"));
        }
        Ok((index, payload))
    }

    /// T, and the moment it means.
    pub(crate) fn timestamp(&self) -> Result<(Timestamp, Option<NtpTime>), Reject> {
        let (_, t) = self.required("T", |p| match p {
            Payload::T(t) => Some(*t),
            _ => None,
        })?;
        Ok((t, t.time()))
    }

    /// RAND, long enough.
    pub(crate) fn rand(&self) -> Result<&[u8], Reject> {
        let (_, rand) = self.required("RAND", |p| match p {
            Payload::Rand(rand) => Some(rand.as_slice()),
            _ => None,
        })?;
        if rand.len() < RAND_MIN {
            return Err(Reject::RandTooShort(rand.len()));
        }
        Ok(rand)
    }

    /// The identity with this role.
    pub(crate) fn idr(&self, role: IdRole) -> Result<Option<&Idr>, Reject> {
        let found = self.optional(role.name().unwrap_or("IDR"), |p| match p {
            Payload::Idr(idr) if idr.role == role => Some(idr),
            _ => None,
        })?;
        Ok(found.map(|(_, idr)| idr))
    }

    /// What the replay cache knows the message by. T must be a time.
    pub(crate) fn id(&self, signer: Vec<u8>, authenticated: &[u8]) -> Result<MessageId, Reject> {
        let (t, time) = self.timestamp()?;
        Ok(MessageId {
            signer,
            csb_id: self.message.header.csb_id,
            t: time.ok_or(Reject::TimestampType(t.ts_type().0))?,
            rand: self.rand()?.to_vec(),
            digest: Sha256::digest(authenticated).into(),
        })
    }
}

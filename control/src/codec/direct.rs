//! Messages of TS 24.334 that a link of group-owner mode uses: keepalive and release. They are never segmented.
//! Source: TS 24.334 11.4, 12.5 (layouts as known from secondary sources, see `docs/protocol.md`).

use super::{DecodeError, Reader, Writer};

/// IEI of the maximum inactivity period.
const IEI_MAXIMUM_INACTIVITY_PERIOD: u8 = 0x07;

/// DIRECT_COMMUNICATION_KEEPALIVE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Rises with every keepalive of a link.
    pub counter: u32,
    /// Seconds without a sign of life after which the sender holds the link for lost.
    pub maximum_inactivity_period: Option<u32>,
}

/// DIRECT_COMMUNICATION_KEEPALIVE_ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepaliveAck {
    /// Of the keepalive that is answered.
    pub counter: u32,
}

/// DIRECT_COMMUNICATION_RELEASE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    /// Why.
    pub reason: ReleaseReason,
}

/// Release reasons. Source: TS 24.334 12.5 (secondary).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReleaseReason {
    /// Communication is not needed any more: leaving.
    NotNeeded,
    /// Communication is not allowed any more: evicted, revoked, lost.
    NotAllowed,
    /// The peer is not available any more: hand-over to another owner.
    NotAvailable,
    /// Any other value.
    Other(u8),
}

impl ReleaseReason {
    /// The octet on the wire.
    pub const fn octet(self) -> u8 {
        match self {
            Self::NotNeeded => 1,
            Self::NotAllowed => 2,
            Self::NotAvailable => 3,
            Self::Other(octet) => octet,
        }
    }

    /// From the octet on the wire.
    pub const fn from_octet(octet: u8) -> Self {
        match octet {
            1 => Self::NotNeeded,
            2 => Self::NotAllowed,
            3 => Self::NotAvailable,
            other => Self::Other(other),
        }
    }
}

impl Keepalive {
    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.counter);
        if let Some(period) = self.maximum_inactivity_period {
            w.u8(IEI_MAXIMUM_INACTIVITY_PERIOD).u32(period);
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("DIRECT_COMMUNICATION_KEEPALIVE", body);
        let counter = r.u32("keepalive counter")?;
        let mut maximum_inactivity_period = None;
        if r.left() > 0 {
            let unknown = r.wrong("IEI", "unknown information element");
            if r.u8("IEI")? != IEI_MAXIMUM_INACTIVITY_PERIOD {
                return Err(unknown);
            }
            maximum_inactivity_period = Some(r.u32("maximum inactivity period")?);
        }
        r.end()?;
        Ok(Self { counter, maximum_inactivity_period })
    }
}

impl KeepaliveAck {
    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.counter);
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("DIRECT_COMMUNICATION_KEEPALIVE_ACK", body);
        let counter = r.u32("keepalive counter")?;
        r.end()?;
        Ok(Self { counter })
    }
}

impl Release {
    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.u8(self.reason.octet());
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("DIRECT_COMMUNICATION_RELEASE", body);
        let reason = ReleaseReason::from_octet(r.u8("release reason")?);
        r.end()?;
        Ok(Self { reason })
    }
}

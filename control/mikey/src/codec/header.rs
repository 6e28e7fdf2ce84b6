//! HDR and its CS ID map.

use super::{
    DataType, MapType, PayloadType, PrfFunc, ProtType,
    reader::{Read, Reader},
    writer::{self, Written},
};
use crate::error::EncodeError;

/// The only version of MIKEY.
const VERSION: u8 = 1;

/// Common header, without "next payload", which follows from the payloads. Source: RFC 3830 6.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What kind of message this is.
    pub data_type: DataType,
    /// V bit: the initiator wants a verification message.
    pub verification: bool,
    /// PRF for everything that is derived from keys of this message; 7 bits.
    pub prf: PrfFunc,
    /// Crypto session bundle.
    pub csb_id: u32,
    /// Crypto sessions of the bundle.
    pub map: CsIdMap,
}

/// CS ID map. Source: RFC 3830 6.1.1, RFC 4563, RFC 6043 6.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CsIdMap {
    /// SRTP-ID: session number i (from 1) is entry i - 1.
    SrtpId(Vec<SrtpSession>),
    /// Empty map: sessions and policy are known from outside. `sessions` is #CS as transmitted.
    Empty {
        /// #CS.
        sessions: u8,
    },
    /// GENERIC-ID: each session names itself.
    GenericId(Vec<GenericSession>),
    /// A map of unknown layout. Its octets, and all that follow, are in one [`super::Payload::Opaque`].
    Other {
        /// #CS.
        sessions: u8,
        /// The type.
        map_type: MapType,
    },
}

/// One session of an SRTP-ID map, 9 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpSession {
    /// Number of the SP payload that applies.
    pub policy_no: u8,
    /// SSRC of the stream.
    pub ssrc: u32,
    /// Roll-over counter, so that who joins late can synchronise.
    pub roc: u32,
}

/// One session of a GENERIC-ID map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericSession {
    /// Number of the session.
    pub cs_id: u8,
    /// Protocol that the policies are for.
    pub prot_type: ProtType,
    /// S bit: session data holds ROC and SEQ too.
    pub roc_and_seq: bool,
    /// Numbers of the SP payloads that apply, at most 127.
    pub policies: Vec<u8>,
    /// Session data as transmitted; vendors leave it empty.
    pub session_data: Vec<u8>,
    /// Security parameter index. In group calls GMK-ID then GUK-ID (TS 33.180 E.1.3).
    pub spi: Vec<u8>,
}

/// Session data of a GENERIC-ID entry for SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpSessionData {
    /// SSRC of the stream.
    pub ssrc: u32,
    /// ROC and SEQ, where the S bit is set.
    pub roc_and_seq: Option<(u32, u16)>,
}

impl GenericSession {
    /// Session data read as SRTP has it: SSRC, and with the S bit ROC and SEQ. `None` where it is empty or has
    /// another length.
    pub fn srtp(&self) -> Option<SrtpSessionData> {
        let d = self.session_data.as_slice();
        match (self.roc_and_seq, d) {
            (false, &[a, b, c, e]) => {
                Some(SrtpSessionData { ssrc: u32::from_be_bytes([a, b, c, e]), roc_and_seq: None })
            }
            (true, &[a, b, c, e, f, g, h, i, j, k]) => Some(SrtpSessionData {
                ssrc: u32::from_be_bytes([a, b, c, e]),
                roc_and_seq: Some((u32::from_be_bytes([f, g, h, i]), u16::from_be_bytes([j, k]))),
            }),
            _ => None,
        }
    }
}

impl CsIdMap {
    /// Type of the map.
    pub fn map_type(&self) -> MapType {
        match self {
            Self::SrtpId(_) => MapType::SRTP_ID,
            Self::Empty { .. } => MapType::EMPTY,
            Self::GenericId(_) => MapType::GENERIC_ID,
            Self::Other { map_type, .. } => *map_type,
        }
    }
}

impl Header {
    /// Reads HDR; also gives the type of the first payload.
    pub(super) fn read(r: &mut Reader<'_>) -> Read<(Self, PayloadType)> {
        r.part("HDR", |r| {
            let version = r.u8("HDR version")?;
            if version != VERSION {
                return r.refuse("HDR version", 1, version.into(), "1");
            }
            let data_type = r.code("HDR data type", DataType)?;
            let next = r.code("HDR next payload", PayloadType)?;
            let v_prf = r.u8("HDR V, PRF func")?;
            let (verification, prf) = (v_prf & 0x80 != 0, PrfFunc(v_prf & 0x7f));
            r.meaning(|| format!("V {}, {prf}", u8::from(verification)));
            let csb_id = r.u32("HDR CSB ID")?;
            let sessions = r.u8("HDR #CS")?;
            let map = match r.code("HDR CS ID map type", MapType)? {
                MapType::SRTP_ID => {
                    let mut entries = Vec::new();
                    for _ in 0..sessions {
                        entries.push(r.part("SRTP-ID session", SrtpSession::read)?);
                    }
                    CsIdMap::SrtpId(entries)
                }
                MapType::EMPTY => CsIdMap::Empty { sessions },
                MapType::GENERIC_ID => {
                    let mut entries = Vec::new();
                    for _ in 0..sessions {
                        entries.push(r.part("GENERIC-ID session", GenericSession::read)?);
                    }
                    CsIdMap::GenericId(entries)
                }
                map_type => CsIdMap::Other { sessions, map_type },
            };
            Ok((Self { data_type, verification, prf, csb_id, map }, next))
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, next: PayloadType) -> Written {
        if self.prf.0 & 0x80 != 0 {
            return Err(EncodeError::OutOfRange { field: "HDR PRF func", value: self.prf.0.into() });
        }
        out.extend_from_slice(&[VERSION, self.data_type.0, next.0]);
        out.push(u8::from(self.verification) << 7 | self.prf.0);
        out.extend_from_slice(&self.csb_id.to_be_bytes());
        let count = |n: usize| {
            u8::try_from(n).map_err(|_| EncodeError::TooLong { field: "HDR #CS", length: n, limit: 255 })
        };
        match &self.map {
            CsIdMap::SrtpId(entries) => {
                out.extend_from_slice(&[count(entries.len())?, MapType::SRTP_ID.0]);
                for s in entries {
                    out.push(s.policy_no);
                    out.extend_from_slice(&s.ssrc.to_be_bytes());
                    out.extend_from_slice(&s.roc.to_be_bytes());
                }
            }
            CsIdMap::Empty { sessions } => out.extend_from_slice(&[*sessions, MapType::EMPTY.0]),
            CsIdMap::GenericId(entries) => {
                out.extend_from_slice(&[count(entries.len())?, MapType::GENERIC_ID.0]);
                for s in entries {
                    s.write(out)?;
                }
            }
            CsIdMap::Other { sessions, map_type } => out.extend_from_slice(&[*sessions, map_type.0]),
        }
        Ok(())
    }
}

impl SrtpSession {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        Ok(Self { policy_no: r.u8("policy no")?, ssrc: r.u32("SSRC")?, roc: r.u32("ROC")? })
    }
}

impl GenericSession {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let cs_id = r.u8("CS ID")?;
        let prot_type = r.code("prot type", ProtType)?;
        let s_p = r.u8("S, #P")?;
        r.meaning(|| format!("S {}, {} policies", s_p >> 7, s_p & 0x7f));
        let policies = r.take("policies", usize::from(s_p & 0x7f))?.to_vec();
        Ok(Self {
            cs_id,
            prot_type,
            roc_and_seq: s_p & 0x80 != 0,
            policies,
            session_data: r.data16("session data len", "session data")?,
            spi: r.data8("SPI len", "SPI")?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Written {
        let length = self.policies.len();
        let n = u8::try_from(length).ok().filter(|n| *n < 0x80).ok_or(EncodeError::TooLong {
            field: "GENERIC-ID #P",
            length,
            limit: 0x7f,
        })?;
        out.extend_from_slice(&[self.cs_id, self.prot_type.0, u8::from(self.roc_and_seq) << 7 | n]);
        out.extend_from_slice(&self.policies);
        writer::data16(out, "GENERIC-ID session data", &self.session_data)?;
        writer::data8(out, "GENERIC-ID SPI", &self.spi)
    }
}

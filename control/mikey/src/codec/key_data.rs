//! Key data sub-payloads: what KEMAC carries once it is decrypted.

use super::{
    KeyType, Kv, PayloadType,
    reader::{Read, Reader},
    writer::{self, Written},
};
use crate::{DecodeError, EncodeError, Secret, error::Problem};
use zeroize::Zeroizing;

/// One key with its salt and validity. Source: RFC 3830 6.13.
pub struct KeyData {
    /// What the key is; 4 bits.
    pub key_type: KeyType,
    /// The key.
    pub key: Secret,
    /// The salt, for the types that have one; it replaces the derived salt.
    pub salt: Option<Secret>,
    /// Name or lifetime of the key.
    pub validity: KeyValidity,
}

/// Key validity data. Source: RFC 3830 6.14.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyValidity {
    /// Nothing said.
    Null,
    /// SPI or MKI that names the key, at most 255 octets.
    Spi(Vec<u8>),
    /// Valid from .. to; SRTP uses 48-bit indexes of 6 octets.
    Interval {
        /// First index.
        from: Vec<u8>,
        /// Last index.
        to: Vec<u8>,
    },
}

impl KeyValidity {
    /// The 4-bit code.
    pub fn kv(&self) -> Kv {
        match self {
            Self::Null => Kv::NULL,
            Self::Spi(_) => Kv::SPI,
            Self::Interval { .. } => Kv::INTERVAL,
        }
    }

    pub(super) fn read(r: &mut Reader<'_>, kv: Kv) -> Read<Self> {
        Ok(match kv {
            Kv::NULL => Self::Null,
            Kv::SPI => Self::Spi(r.data8("KV SPI length", "KV SPI")?),
            Kv::INTERVAL => Self::Interval {
                from: r.data8("KV VF length", "KV valid from")?,
                to: r.data8("KV VT length", "KV valid to")?,
            },
            kv => return r.unknown("KV", kv.0),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Written {
        match self {
            Self::Null => Ok(()),
            Self::Spi(spi) => writer::data8(out, "KV SPI", spi),
            Self::Interval { from, to } => {
                writer::data8(out, "KV valid from", from)?;
                writer::data8(out, "KV valid to", to)
            }
        }
    }
}

impl KeyData {
    /// Reads a chain of Key data sub-payloads. Offsets in errors count from the start of `octets`.
    ///
    /// A sub-payload of another kind, or a key type or KV of unknown layout, is an error: what a key is for must be
    /// understood before it is used.
    pub fn decode_all(octets: &[u8]) -> Result<Vec<Self>, DecodeError> {
        let mut r = Reader::new(octets);
        let all = Self::read_all(&mut r)?;
        match r.left() {
            0 => Ok(all),
            n => r.error("Key data", r.position(), Problem::Trailing(n)),
        }
    }

    /// The chain of sub-payloads; at least one key.
    pub fn encode_all(all: &[Self]) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        // The capacity is final, so that no copy of a key is left behind by growing.
        let capacity = all.iter().map(|k| 0x500 + k.key.len() + k.salt.as_ref().map_or(0, Secret::len)).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(capacity));
        for (i, key) in all.iter().enumerate() {
            let next = if i + 1 == all.len() { PayloadType::LAST } else { PayloadType::KEY_DATA };
            key.write(&mut out, next)?;
        }
        Ok(out)
    }

    pub(super) fn read_all(r: &mut Reader<'_>) -> Read<Vec<Self>> {
        let mut all = Vec::new();
        loop {
            let (key, next) = r.part("Key data", Self::read)?;
            all.push(key);
            match next {
                PayloadType::LAST => return Ok(all),
                PayloadType::KEY_DATA if all.len() < super::limits::PAYLOADS => {}
                PayloadType::KEY_DATA => {
                    return r.error("Key data", r.position(), Problem::Limit(super::limits::PAYLOADS));
                }
                next => return r.unknown("Key data next payload", next.0),
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Read<(Self, PayloadType)> {
        let next = r.code("Key data next payload", PayloadType)?;
        let type_kv = r.u8("Key data type, KV")?;
        let (key_type, kv) = (KeyType(type_kv >> 4), Kv(type_kv & 0x0f));
        r.meaning(|| format!("{key_type}, {kv}"));
        let Some(has_salt) = key_type.has_salt() else {
            return r.unknown("Key data type", key_type.0);
        };
        let n = r.u16("Key data key len")?;
        let key = Secret::new(r.take("Key data key", n.into())?);
        r.secret();
        let salt = if has_salt {
            let n = r.u16("Key data salt len")?;
            let salt = Secret::new(r.take("Key data salt", n.into())?);
            r.secret();
            Some(salt)
        } else {
            None
        };
        let validity = KeyValidity::read(r, kv)?;
        Ok((Self { key_type, key, salt, validity }, next))
    }

    fn write(&self, out: &mut Vec<u8>, next: PayloadType) -> Written {
        let code = self.key_type.0;
        let has_salt =
            self.key_type.has_salt().ok_or(EncodeError::UnknownCode { field: "Key data type", code })?;
        out.extend_from_slice(&[next.0, code << 4 | self.validity.kv().0]);
        writer::data16(out, "Key data key", self.key.expose())?;
        match (&self.salt, has_salt) {
            (Some(salt), true) => writer::data16(out, "Key data salt", salt.expose())?,
            (None, false) => {}
            (salt, _) => {
                let length = salt.as_ref().map_or(0, Secret::len);
                return Err(EncodeError::WrongLength { field: "Key data salt", length, wanted: 0 });
            }
        }
        self.validity.write(out)
    }
}

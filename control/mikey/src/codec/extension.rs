//! General Extension and what the standards put into it.

use super::{
    ExtensionType, IdScheme, KeyIdType, PayloadType, ProtectionAlg, Sakke,
    reader::{Read, Reader},
    writer::{self, Written},
};

/// General Extension. Source: RFC 3830 6.15.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GeneralExtension {
    /// Key ID: keys that the message names. Source: RFC 4563.
    KeyIds(Vec<KeyIdEntry>),
    /// A SAKKE payload to the sender itself, so that its other devices can read the key. Source: TS 33.180 E.
    SakkeToSelf(Sakke),
    /// What a key is for and how long. Source: TS 33.180 E.6.
    KeyParameters(KeyParametersContent),
    /// Any other extension, as it is.
    Other {
        /// The type.
        extension_type: ExtensionType,
        /// The data.
        data: Vec<u8>,
    },
}

/// One entry of the Key ID extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIdEntry {
    /// What the id names; 241 to 255 are private.
    pub key_id_type: KeyIdType,
    /// The id, at most 255 octets.
    pub id: Vec<u8>,
}

/// 3GPP key parameters, in clear or wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyParametersContent {
    /// In clear (the signature still covers them).
    Clear(KeyParameters),
    /// Wrapped as an MCData protected payload under the DPCK of the sent key.
    Protected(ProtectedKeyParameters),
}

/// Period of use and purpose of a key. Source: TS 33.180 E.6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParameters {
    /// 0 GMK, 1 PCK, 2 CSK ... Messages of older releases count one higher.
    pub key_type: u8,
    /// Bit 0: not revoked; bit 1: shared with a gateway.
    pub status: u32,
    /// Seconds since 1970 in 40 bits; 0 = none given.
    pub activation: u64,
    /// Seconds since 1970 in 40 bits; 0 = none given. One vendor sends 00FFFFFFFF for no expiry.
    pub expiry: u64,
    /// Text for people; UTF-8 by intention, octets in fact.
    pub text: Vec<u8>,
    /// Group ids, for the key types that have them (GMK, MKFC, MuSiK): count octet and entries as transmitted.
    pub group_ids: Option<GroupIds>,
}

/// Group ids of key parameters. The coding of the entries differs between vendors, so they are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupIds {
    /// Number of entries, as the sender counts.
    pub count: u8,
    /// The entries.
    pub entries: Vec<u8>,
}

/// Key parameters as an MCData protected payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedKeyParameters {
    /// MCData message type; bit 0x40 says protected.
    pub message_type: u8,
    /// Date and time in 40 bits.
    pub date_time: u64,
    /// Payload id.
    pub payload_id: u32,
    /// Payload sequence number.
    pub sequence: u8,
    /// IV, 16 octets, all of them the nonce.
    pub iv: [u8; 16],
    /// Names the key; equals the CSB ID.
    pub dppk_id: u32,
    /// Information element identifier in front of the ciphertext.
    pub iei: u8,
    /// Ciphertext and 16-octet tag.
    pub ciphertext: Vec<u8>,
}

impl GeneralExtension {
    /// Type of the extension.
    pub fn extension_type(&self) -> ExtensionType {
        match self {
            Self::KeyIds(_) => ExtensionType::KEY_ID,
            Self::SakkeToSelf(_) => ExtensionType::SAKKE_TO_SELF,
            Self::KeyParameters(_) => ExtensionType::KEY_PARAMETERS,
            Self::Other { extension_type, .. } => *extension_type,
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Read<Self> {
        let extension_type = r.code("General Extension type", ExtensionType)?;
        let length: usize = r.u16("General Extension length")?.into();
        r.within("General Extension data", length, |r| match extension_type {
            ExtensionType::KEY_ID => {
                let mut entries = Vec::new();
                while r.left() > 0 {
                    entries.push(r.part("Key ID entry", |r| {
                        Ok(KeyIdEntry {
                            key_id_type: r.code("Key ID type", KeyIdType)?,
                            id: r.data8("Key ID length", "Key ID")?,
                        })
                    })?);
                }
                Ok(Self::KeyIds(entries))
            }
            ExtensionType::SAKKE_TO_SELF => r.part("SAKKE-to-self", |r| {
                let next = r.code("SAKKE-to-self next payload", PayloadType)?;
                if next != PayloadType::LAST {
                    return r.refuse("SAKKE-to-self next payload", 1, next.0.into(), "0");
                }
                Ok(Self::SakkeToSelf(Sakke::read(r)?))
            }),
            ExtensionType::KEY_PARAMETERS => match r.peek() {
                Some(first) if first & ProtectedKeyParameters::PROTECTED != 0 => {
                    r.part("protected key parameters", |r| {
                        let p = ProtectedKeyParameters::read(r)?;
                        Ok(Self::KeyParameters(KeyParametersContent::Protected(p)))
                    })
                }
                _ => r.part("key parameters", |r| {
                    let p = KeyParameters::read(r)?;
                    Ok(Self::KeyParameters(KeyParametersContent::Clear(p)))
                }),
            },
            extension_type => Ok(Self::Other { extension_type, data: r.rest("General Extension data")? }),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Written {
        let mut data = Vec::new();
        match self {
            Self::KeyIds(entries) => {
                for entry in entries {
                    data.push(entry.key_id_type.0);
                    writer::data8(&mut data, "Key ID", &entry.id)?;
                }
            }
            Self::SakkeToSelf(sakke) => {
                data.push(PayloadType::LAST.0);
                sakke.write(&mut data)?;
            }
            Self::KeyParameters(KeyParametersContent::Clear(p)) => {
                if p.key_type & ProtectedKeyParameters::PROTECTED != 0 {
                    let value = p.key_type.into();
                    return Err(crate::EncodeError::OutOfRange { field: "key parameters type", value });
                }
                data = p.encode()?;
            }
            Self::KeyParameters(KeyParametersContent::Protected(p)) => p.write(&mut data)?,
            Self::Other { data: d, .. } => data.extend_from_slice(d),
        }
        out.push(self.extension_type().0);
        writer::data16(out, "General Extension data", &data)
    }
}

impl KeyParameters {
    /// Bit 0 of the status: the key is not revoked.
    pub const NOT_REVOKED: u32 = 1;

    /// Reads parameters in clear, for example after unwrapping. Octets left over are an error.
    pub fn decode(octets: &[u8]) -> Result<Self, crate::DecodeError> {
        let mut r = Reader::new(octets);
        r.within("key parameters", octets.len(), Self::read)
    }

    /// The parameters in clear.
    pub fn encode(&self) -> Result<Vec<u8>, crate::EncodeError> {
        let mut out = vec![self.key_type];
        out.extend_from_slice(&self.status.to_be_bytes());
        writer::u40(&mut out, "key parameters activation", self.activation)?;
        writer::u40(&mut out, "key parameters expiry", self.expiry)?;
        writer::data16(&mut out, "key parameters text", &self.text)?;
        if let Some(GroupIds { count, entries }) = &self.group_ids {
            let counted = [core::slice::from_ref(count), entries].concat();
            writer::data16(&mut out, "key parameters group ids", &counted)?;
        }
        Ok(out)
    }

    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let key_type = r.u8("key parameters type")?;
        let status = r.u32("key parameters status")?;
        let activation = r.u40("key parameters activation")?;
        let expiry = r.u40("key parameters expiry")?;
        let text = r.data16("key parameters text length", "key parameters text")?;
        // Whether group ids follow depends on the key type, whose numbering differs between releases; so they are
        // there when there are octets for them.
        let group_ids = if r.left() == 0 {
            None
        } else {
            let length: usize = r.u16("key parameters group ids length")?.into();
            Some(r.within("key parameters group ids", length, |r| {
                Ok(GroupIds {
                    count: r.u8("key parameters group ids count")?,
                    entries: r.rest("key parameters group ids")?,
                })
            })?)
        };
        Ok(Self { key_type, status, activation, expiry, text, group_ids })
    }
}

impl ProtectedKeyParameters {
    /// Bit of the message type that says protected.
    pub const PROTECTED: u8 = 0x40;
    /// Octets of the AEAD tag at the end of the ciphertext.
    pub const TAG_LENGTH: usize = 16;

    /// Associated data of the AEAD: the 32 octets before the IEI.
    pub fn associated_data(&self) -> Result<Vec<u8>, crate::EncodeError> {
        let mut out = vec![self.message_type];
        writer::u40(&mut out, "protected key parameters date-time", self.date_time)?;
        out.extend_from_slice(&self.payload_id.to_be_bytes());
        out.extend_from_slice(&[self.sequence, ProtectionAlg::AES_128_GCM.0]);
        out.extend_from_slice(&self.iv);
        out.extend_from_slice(&self.dppk_id.to_be_bytes());
        Ok(out)
    }

    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let message_type = r.u8("protected key parameters message type")?;
        let date_time = r.u40("protected key parameters date-time")?;
        let payload_id = r.u32("protected key parameters payload id")?;
        let sequence = r.u8("protected key parameters sequence")?;
        let alg = r.code("protected key parameters algorithm", ProtectionAlg)?;
        if alg != ProtectionAlg::AES_128_GCM {
            return r.refuse("protected key parameters algorithm", 1, alg.0.into(), "1 (AES-128-GCM)");
        }
        Ok(Self {
            message_type,
            date_time,
            payload_id,
            sequence,
            iv: r.array("protected key parameters IV")?,
            dppk_id: r.u32("protected key parameters DPPK-ID")?,
            iei: r.u8("protected key parameters IEI")?,
            ciphertext: r.data16("protected key parameters length", "protected key parameters data")?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Written {
        if self.message_type & Self::PROTECTED == 0 {
            return Err(crate::EncodeError::OutOfRange {
                field: "protected key parameters message type",
                value: self.message_type.into(),
            });
        }
        out.extend_from_slice(&self.associated_data()?);
        out.push(self.iei);
        writer::data16(out, "protected key parameters data", &self.ciphertext)
    }
}

impl Sakke {
    /// Reads what stands behind "next payload".
    pub(super) fn read(r: &mut Reader<'_>) -> Read<Self> {
        Ok(Self {
            params: r.code("SAKKE params", super::SakkeParams)?,
            id_scheme: r.code("SAKKE ID scheme", IdScheme)?,
            data: r.data16("SAKKE data len", "SAKKE data")?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Written {
        out.extend_from_slice(&[self.params.0, self.id_scheme.0]);
        writer::data16(out, "SAKKE data", &self.data)
    }
}

//! The payloads.

use super::{
    CertType, DhGroup, EncrAlg, ErrorNo, GeneralExtension, HashFunc, IdRole, IdScheme, IdType, KeyValidity,
    Kv, MacAlg, PayloadType, ProtType, SakkeParams, SignType, SrtpParam, TsType,
    reader::{Read, Reader, text_of},
    writer::{self, Written},
};
use crate::{EncodeError, NtpTime};
use core::fmt;
use zeroize::Zeroizing;

/// A payload. "Next payload" is not kept: it follows from the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Key data, encrypted and protected by a MAC.
    Kemac(Kemac),
    /// Envelope key, encrypted to a public key.
    Pke(Pke),
    /// Diffie-Hellman value.
    Dh(Dh),
    /// Signature; the last payload, always.
    Sign(Sign),
    /// Timestamp.
    T(Timestamp),
    /// Identity without a role.
    Id(Id),
    /// Certificate.
    Cert(Cert),
    /// Hash of a certificate.
    Chash(Chash),
    /// Verification message's MAC.
    V(Verification),
    /// Security policy.
    Sp(SecurityPolicy),
    /// RAND, at most 255 octets; at least 16 are wanted.
    Rand(Vec<u8>),
    /// Error.
    Err(ErrorPayload),
    /// Identity with a role.
    Idr(Idr),
    /// General Extension.
    GeneralExtension(GeneralExtension),
    /// SAKKE encapsulated data.
    Sakke(Sakke),
    /// A payload of unknown layout and everything behind it, as it is: where it ends can't be known. The last one.
    Opaque(Opaque),
}

/// KEMAC. Source: RFC 3830 6.2, RFC 6043 6.3.
#[derive(Clone, PartialEq, Eq)]
pub struct Kemac {
    /// How the key data is encrypted.
    pub encr_alg: EncrAlg,
    /// The key data, encrypted as `encr_alg` says (with NULL: in clear), at most 65,535 octets.
    pub encr_data: Zeroizing<Vec<u8>>,
    /// How the MAC is made.
    pub mac_alg: MacAlg,
    /// The MAC, of the algorithm's length.
    pub mac: Vec<u8>,
}

/// Without the data, which is in clear under NULL encryption.
impl fmt::Debug for Kemac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kemac")
            .field("encr_alg", &self.encr_alg)
            .field("encr_data_len", &self.encr_data.len())
            .field("mac_alg", &self.mac_alg)
            .finish_non_exhaustive()
    }
}

/// PKE. Source: RFC 3830 6.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pke {
    /// Envelope key cache indicator, 2 bits: 0 no cache, 1 cache, 2 cache for this CSB.
    pub cache: u8,
    /// The encrypted envelope key, at most 2^14 - 1 octets.
    pub data: Vec<u8>,
}

/// DH. Source: RFC 3830 6.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dh {
    /// The group; it fixes the length of the value.
    pub group: DhGroup,
    /// The public value.
    pub value: Vec<u8>,
    /// 4 reserved bits as transmitted.
    pub reserved: u8,
    /// Validity of the key.
    pub validity: KeyValidity,
}

/// SIGN. Source: RFC 3830 6.5, RFC 6509 2.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// Kind of signature, 4 bits.
    pub sign_type: SignType,
    /// The signature, at most 4,095 octets; 129 for ECCSI over P-256.
    pub signature: Vec<u8>,
}

/// T. Source: RFC 3830 6.6, RFC 6043 6.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// NTP time in UTC, 64 bits: seconds, fraction.
    NtpUtc(u64),
    /// NTP time in some other time scale, 64 bits.
    Ntp(u64),
    /// Counter, 32 bits.
    Counter(u32),
    /// NTP time in UTC, seconds only.
    NtpUtc32(u32),
}

/// ID. Source: RFC 3830 6.7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Kind of identity.
    pub id_type: IdType,
    /// The identity.
    pub data: Vec<u8>,
}

/// CERT. Source: RFC 3830 6.7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cert {
    /// Kind of certificate.
    pub cert_type: CertType,
    /// The certificate or its URL.
    pub data: Vec<u8>,
}

/// CHASH. Source: RFC 3830 6.8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chash {
    /// Hash function; it fixes the length.
    pub hash_func: HashFunc,
    /// The hash.
    pub hash: Vec<u8>,
}

/// V. Source: RFC 3830 6.9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// MAC algorithm; it fixes the length.
    pub auth_alg: MacAlg,
    /// The MAC.
    pub mac: Vec<u8>,
}

/// SP. Source: RFC 3830 6.10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// Number by which the CS ID map refers to it.
    pub policy_no: u8,
    /// Protocol the parameters are for.
    pub prot_type: ProtType,
    /// Type and value (at most 255 octets) of each parameter, in order.
    pub params: Vec<(u8, Vec<u8>)>,
}

/// ERR. Source: RFC 3830 6.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPayload {
    /// What went wrong.
    pub error_no: ErrorNo,
    /// 16 reserved bits as transmitted.
    pub reserved: u16,
}

/// IDR. Source: RFC 6043 6.6, RFC 6509 2.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idr {
    /// Whose identity it is.
    pub role: IdRole,
    /// Kind of identity.
    pub id_type: IdType,
    /// The identity.
    pub data: Vec<u8>,
}

/// SAKKE. Source: RFC 6509 2.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sakke {
    /// Parameter set.
    pub params: SakkeParams,
    /// How the receiver's identifier is made.
    pub id_scheme: IdScheme,
    /// Encapsulated data; 273 octets for set 1 and a 16-octet SSV.
    pub data: Vec<u8>,
}

/// A payload of unknown layout with everything behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// Its type.
    pub payload_type: PayloadType,
    /// All octets from its "next payload" to the end of the message.
    pub octets: Vec<u8>,
    /// Which code was unknown.
    pub unknown_field: &'static str,
    /// That code.
    pub unknown_code: u8,
}

impl Timestamp {
    /// Type on the wire.
    pub fn ts_type(&self) -> TsType {
        match self {
            Self::NtpUtc(_) => TsType::NTP_UTC,
            Self::Ntp(_) => TsType::NTP,
            Self::Counter(_) => TsType::COUNTER,
            Self::NtpUtc32(_) => TsType::NTP_UTC_32,
        }
    }

    /// The 64-bit value that goes into the IV of AES-CM: a counter is padded on the left, seconds alone get a zero
    /// fraction. Source: RFC 3830 4.2.3, RFC 6043 6.6.
    pub fn to_u64(&self) -> u64 {
        match *self {
            Self::NtpUtc(v) | Self::Ntp(v) => v,
            Self::Counter(v) => v.into(),
            Self::NtpUtc32(v) => u64::from(v) << 32,
        }
    }

    /// The moment, era resolved; `None` for a counter. NTP is taken as UTC.
    pub fn time(&self) -> Option<NtpTime> {
        (self.ts_type() != TsType::COUNTER).then(|| NtpTime::from_wire(self.to_u64()))
    }

    /// The contents of T: value without type, as the V payload's MAC covers it.
    pub fn value_octets(&self) -> Vec<u8> {
        match *self {
            Self::NtpUtc(v) | Self::Ntp(v) => v.to_be_bytes().to_vec(),
            Self::Counter(v) | Self::NtpUtc32(v) => v.to_be_bytes().to_vec(),
        }
    }
}

impl SecurityPolicy {
    /// Value of the first parameter of this type.
    pub fn param(&self, param: SrtpParam) -> Option<&[u8]> {
        self.params.iter().find(|(t, _)| *t == param.0).map(|(_, v)| v.as_slice())
    }

    /// The policy that TS 33.180 gives as default for a GMK: AES-GCM, 16-octet key, RCCm3, 12-octet salt, ROC in
    /// every packet. Source: TS 33.180 E.1.
    pub fn gmk_default(policy_no: u8) -> Self {
        use SrtpParam as P;
        let params = [
            (P::ENCR_ALG, 6),
            (P::ENCR_KEY_LENGTH, 16),
            (P::AUTH_ALG, 4),
            (P::SALT_LENGTH, 12),
            (P::PRF, 0),
            (P::KEY_DERIVATION_RATE, 0),
            (P::ROC_RATE, 1),
            (P::SRTP_TAG_LENGTH, 4),
            (P::SRTCP_TAG_LENGTH, 0),
            (P::AEAD_TAG_LENGTH, 16),
        ];
        Self {
            policy_no,
            prot_type: ProtType::SRTP,
            params: params.iter().map(|(p, v)| (p.0, vec![*v])).collect(),
        }
    }
}

impl Payload {
    /// Type as a "next payload" names it.
    pub fn payload_type(&self) -> PayloadType {
        match self {
            Self::Kemac(_) => PayloadType::KEMAC,
            Self::Pke(_) => PayloadType::PKE,
            Self::Dh(_) => PayloadType::DH,
            Self::Sign(_) => PayloadType::SIGN,
            Self::T(_) => PayloadType::T,
            Self::Id(_) => PayloadType::ID,
            Self::Cert(_) => PayloadType::CERT,
            Self::Chash(_) => PayloadType::CHASH,
            Self::V(_) => PayloadType::V,
            Self::Sp(_) => PayloadType::SP,
            Self::Rand(_) => PayloadType::RAND,
            Self::Err(_) => PayloadType::ERR,
            Self::Idr(_) => PayloadType::IDR,
            Self::GeneralExtension(_) => PayloadType::GENERAL_EXTENSION,
            Self::Sakke(_) => PayloadType::SAKKE,
            Self::Opaque(o) => o.payload_type,
        }
    }

    /// Reads one payload of the given type; gives the type of the next one too. An unknown type or layout code is
    /// the error [`crate::error::Problem::UnknownCode`], which the message decoder turns into [`Opaque`].
    pub(super) fn read(r: &mut Reader<'_>, payload_type: PayloadType) -> Read<(Self, PayloadType)> {
        if payload_type == PayloadType::SIGN {
            return Ok((Self::Sign(Sign::read(r)?), PayloadType::LAST));
        }
        let next = r.code("next payload", PayloadType)?;
        let payload = match payload_type {
            PayloadType::KEMAC => Self::Kemac(Kemac::read(r)?),
            PayloadType::PKE => {
                let c_len = r.u16("PKE C, data len")?;
                let data = r.take("PKE data", usize::from(c_len & 0x3fff))?.to_vec();
                Self::Pke(Pke { cache: (c_len >> 14) as u8, data })
            }
            PayloadType::DH => Self::Dh(Dh::read(r)?),
            PayloadType::T => Self::T(Timestamp::read(r)?),
            PayloadType::ID => {
                let id_type = r.code("ID type", IdType)?;
                let data = r.data16("ID len", "ID data")?;
                r.meaning(|| text_of(&data));
                Self::Id(Id { id_type, data })
            }
            PayloadType::CERT => Self::Cert(Cert {
                cert_type: r.code("CERT type", CertType)?,
                data: r.data16("CERT len", "CERT data")?,
            }),
            PayloadType::CHASH => {
                let hash_func = r.code("CHASH hash func", HashFunc)?;
                let Some(length) = hash_func.hash_length() else {
                    return r.unknown("CHASH hash func", hash_func.0);
                };
                Self::Chash(Chash { hash_func, hash: r.take("CHASH hash", length)?.to_vec() })
            }
            PayloadType::V => {
                let auth_alg = r.code("V auth alg", MacAlg)?;
                let Some(length) = auth_alg.mac_length() else {
                    return r.unknown("V auth alg", auth_alg.0);
                };
                Self::V(Verification { auth_alg, mac: r.take("V ver data", length)?.to_vec() })
            }
            PayloadType::SP => Self::Sp(SecurityPolicy::read(r)?),
            PayloadType::RAND => Self::Rand(r.data8("RAND len", "RAND")?),
            PayloadType::ERR => Self::Err(ErrorPayload {
                error_no: r.code("ERR error no", ErrorNo)?,
                reserved: r.u16("ERR reserved")?,
            }),
            PayloadType::IDR => {
                let role = r.code("IDR role", IdRole)?;
                let id_type = r.code("IDR type", IdType)?;
                let data = r.data16("IDR len", "IDR data")?;
                r.meaning(|| text_of(&data));
                Self::Idr(Idr { role, id_type, data })
            }
            PayloadType::GENERAL_EXTENSION => Self::GeneralExtension(GeneralExtension::read(r)?),
            PayloadType::SAKKE => Self::Sakke(Sakke::read(r)?),
            other => return r.unknown("payload type", other.0),
        };
        Ok((payload, next))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, next: PayloadType) -> Written {
        if !matches!(self, Self::Sign(_) | Self::Opaque(_)) {
            out.push(next.0);
        }
        match self {
            Self::Kemac(k) => {
                out.push(k.encr_alg.0);
                writer::data16(out, "KEMAC encr data", &k.encr_data)?;
                out.push(k.mac_alg.0);
                writer::fixed(out, "KEMAC MAC", k.mac_alg.0, k.mac_alg.mac_length(), &k.mac)
            }
            Self::Pke(Pke { cache, data }) => {
                let length = u16::try_from(data.len()).ok().filter(|n| *n < 1 << 14);
                let (Some(n), 0..=3) = (length, *cache) else {
                    return Err(EncodeError::TooLong {
                        field: "PKE data",
                        length: data.len(),
                        limit: (1 << 14) - 1,
                    });
                };
                out.extend_from_slice(&(u16::from(*cache) << 14 | n).to_be_bytes());
                out.extend_from_slice(data);
                Ok(())
            }
            Self::Dh(d) => {
                out.push(d.group.0);
                writer::fixed(out, "DH value", d.group.0, d.group.value_length(), &d.value)?;
                if d.reserved > 0x0f {
                    return Err(EncodeError::OutOfRange { field: "DH reserved", value: d.reserved.into() });
                }
                out.push(d.reserved << 4 | d.validity.kv().0);
                d.validity.write(out)
            }
            Self::Sign(s) => s.write(out),
            Self::T(t) => {
                out.push(t.ts_type().0);
                out.extend_from_slice(&t.value_octets());
                Ok(())
            }
            Self::Id(Id { id_type, data }) => {
                out.push(id_type.0);
                writer::data16(out, "ID data", data)
            }
            Self::Cert(Cert { cert_type, data }) => {
                out.push(cert_type.0);
                writer::data16(out, "CERT data", data)
            }
            Self::Chash(Chash { hash_func, hash }) => {
                out.push(hash_func.0);
                writer::fixed(out, "CHASH hash", hash_func.0, hash_func.hash_length(), hash)
            }
            Self::V(Verification { auth_alg, mac }) => {
                out.push(auth_alg.0);
                writer::fixed(out, "V ver data", auth_alg.0, auth_alg.mac_length(), mac)
            }
            Self::Sp(sp) => sp.write(out),
            Self::Rand(rand) => writer::data8(out, "RAND", rand),
            Self::Err(ErrorPayload { error_no, reserved }) => {
                out.push(error_no.0);
                out.extend_from_slice(&reserved.to_be_bytes());
                Ok(())
            }
            Self::Idr(Idr { role, id_type, data }) => {
                out.extend_from_slice(&[role.0, id_type.0]);
                writer::data16(out, "IDR data", data)
            }
            Self::GeneralExtension(e) => e.write(out),
            Self::Sakke(s) => s.write(out),
            Self::Opaque(o) => {
                out.extend_from_slice(&o.octets);
                Ok(())
            }
        }
    }
}

impl Kemac {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let encr_alg = r.code("KEMAC encr alg", EncrAlg)?;
        let length = r.u16("KEMAC encr data len")?;
        let encr_data = Zeroizing::new(r.take("KEMAC encr data", length.into())?.to_vec());
        if encr_alg == EncrAlg::NULL {
            r.secret();
        }
        let mac_alg = r.code("KEMAC MAC alg", MacAlg)?;
        let Some(length) = mac_alg.mac_length() else {
            return r.unknown("KEMAC MAC alg", mac_alg.0);
        };
        let mac = r.take("KEMAC MAC", length)?.to_vec();
        Ok(Self { encr_alg, encr_data, mac_alg, mac })
    }
}

impl Dh {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let group = r.code("DH group", DhGroup)?;
        let Some(length) = group.value_length() else {
            return r.unknown("DH group", group.0);
        };
        let value = r.take("DH value", length)?.to_vec();
        let reserved_kv = r.u8("DH reserved, KV")?;
        let kv = Kv(reserved_kv & 0x0f);
        r.meaning(|| kv.to_string());
        Ok(Self { group, value, reserved: reserved_kv >> 4, validity: KeyValidity::read(r, kv)? })
    }
}

impl Sign {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let type_len = r.u16("SIGN S type, length")?;
        let (sign_type, length) = (SignType((type_len >> 12) as u8), usize::from(type_len & 0x0fff));
        r.meaning(|| format!("{sign_type}, {length} octets"));
        Ok(Self { sign_type, signature: r.take("SIGN signature", length)?.to_vec() })
    }

    fn write(&self, out: &mut Vec<u8>) -> Written {
        let length = self.signature.len();
        let n = u16::try_from(length).ok().filter(|n| *n < 1 << 12).ok_or(EncodeError::TooLong {
            field: "SIGN signature",
            length,
            limit: (1 << 12) - 1,
        })?;
        if self.sign_type.0 > 0x0f {
            return Err(EncodeError::OutOfRange { field: "SIGN S type", value: self.sign_type.0.into() });
        }
        out.extend_from_slice(&(u16::from(self.sign_type.0) << 12 | n).to_be_bytes());
        out.extend_from_slice(&self.signature);
        Ok(())
    }
}

impl Timestamp {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let t = match r.code("T TS type", TsType)? {
            TsType::NTP_UTC => Self::NtpUtc(r.u64("T TS value")?),
            TsType::NTP => Self::Ntp(r.u64("T TS value")?),
            TsType::COUNTER => Self::Counter(r.u32("T TS value")?),
            TsType::NTP_UTC_32 => Self::NtpUtc32(r.u32("T TS value")?),
            other => return r.unknown("T TS type", other.0),
        };
        r.meaning(|| t.time().map_or_else(|| t.to_u64().to_string(), |t| t.to_string()));
        Ok(t)
    }
}

impl SecurityPolicy {
    fn read(r: &mut Reader<'_>) -> Read<Self> {
        let policy_no = r.u8("SP policy no")?;
        let prot_type = r.code("SP prot type", ProtType)?;
        let length: usize = r.u16("SP policy param length")?.into();
        let params = r.within("SP policy params", length, |r| {
            let mut params = Vec::new();
            while r.left() > 0 {
                params.push(r.part("SP policy param", |r| {
                    let param = r.u8("SP param type")?;
                    if prot_type == ProtType::SRTP {
                        r.meaning(|| SrtpParam(param).to_string());
                    }
                    Ok((param, r.data8("SP param length", "SP param value")?))
                })?);
            }
            Ok(params)
        })?;
        Ok(Self { policy_no, prot_type, params })
    }

    fn write(&self, out: &mut Vec<u8>) -> Written {
        let mut data = Vec::new();
        for (param, value) in &self.params {
            data.push(*param);
            writer::data8(&mut data, "SP param value", value)?;
        }
        out.extend_from_slice(&[self.policy_no, self.prot_type.0]);
        writer::data16(out, "SP policy params", &data)
    }
}

//! Keys that MIKEY derives: from a pre-shared or envelope key for KEMAC, from a TGK for sessions, and the group and
//! payload keys of TS 33.180.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyError, Secret, prf::Prf};

/// Label constants and function codes of the standards.
mod spec {
    /// From a TGK. Source: RFC 3830 4.1.3.
    pub(super) const TEK: u32 = 0x2AD0_1C64;
    pub(super) const AUTH: u32 = 0x1B5C_7973;
    pub(super) const ENCR: u32 = 0x1579_8CEF;
    pub(super) const SALT: u32 = 0x39A2_C14B;
    /// From a pre-shared or envelope key. Source: RFC 3830 4.1.4.
    pub(super) const PSK_ENCR: u32 = 0x1505_33E1;
    pub(super) const PSK_AUTH: u32 = 0x2D22_AC75;
    pub(super) const PSK_SALT: u32 = 0x29B8_8916;
    /// CS ID octet in labels of keys that belong to no session. Source: RFC 3830 4.1.4.
    pub(super) const NO_SESSION: u8 = 0xFF;
    /// FC of the user salt. Source: TS 33.180 F.1.3.
    pub(super) const FC_USER_SALT: u8 = 0x50;
    /// FC of DPCK. Source: TS 33.180 F.1.5.
    pub(super) const FC_DPCK: u8 = 0x53;
}

/// What names a bundle in every label: CSB ID and RAND.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// CSB ID.
    pub csb_id: u32,
    /// RAND of the message that carried the key.
    pub rand: Vec<u8>,
    /// PRF of that message.
    pub prf: Prf,
}

/// Keys of a session that come from a TGK. Source: RFC 3830 4.1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKey {
    /// Traffic encryption key; the SRTP master key.
    Tek,
    /// Authentication key.
    Auth,
    /// Encryption key.
    Encr,
    /// Salt; with 14 octets the SRTP master salt, 12 for AES-GCM. A salt sent in Key data replaces it.
    Salt,
}

/// Keys for KEMAC that come from a pre-shared or envelope key. Source: RFC 3830 4.1.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeKey {
    /// Encrypts KEMAC's key data.
    Encr,
    /// Authenticates KEMAC and V.
    Auth,
    /// Salts KEMAC's encryption.
    Salt,
}

impl Bundle {
    /// A key of session `cs_id`, `length` octets, from a TGK (GMK, PCK, CSK ...).
    ///
    /// SRTP-ID maps number sessions from 1; TS 33.180 gives fixed numbers (4 MCPTT group, 5 MCVideo group).
    pub fn session_key(&self, tgk: &[u8], key: SessionKey, cs_id: u8, length: usize) -> Secret {
        let constant = match key {
            SessionKey::Tek => spec::TEK,
            SessionKey::Auth => spec::AUTH,
            SessionKey::Encr => spec::ENCR,
            SessionKey::Salt => spec::SALT,
        };
        self.derive(tgk, constant, cs_id, length)
    }

    /// A key for KEMAC, `length` octets, from a pre-shared or envelope key.
    pub fn envelope_key(&self, psk: &[u8], key: EnvelopeKey, length: usize) -> Secret {
        let constant = match key {
            EnvelopeKey::Encr => spec::PSK_ENCR,
            EnvelopeKey::Auth => spec::PSK_AUTH,
            EnvelopeKey::Salt => spec::PSK_SALT,
        };
        self.derive(psk, constant, spec::NO_SESSION, length)
    }

    /// label = constant || CS ID || CSB ID || RAND.
    fn derive(&self, inkey: &[u8], constant: u32, cs_id: u8, length: usize) -> Secret {
        let mut label = constant.to_be_bytes().to_vec();
        label.push(cs_id);
        label.extend_from_slice(&self.csb_id.to_be_bytes());
        label.extend_from_slice(&self.rand);
        Secret::filled(length, |out| self.prf.derive(inkey, &label, out))
    }
}

/// What a key identifier says its key is for: the 4 most significant bits. Source: TS 33.180 F.1, G.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose(u8);

impl Purpose {
    /// Group master key.
    pub const GMK: Self = Self(0);
    /// Private call key.
    pub const PCK: Self = Self(1);
    /// Client-server key.
    pub const CSK: Self = Self(2);
    /// Signalling protection key.
    pub const SPK: Self = Self(3);
    /// Multicast floor control key.
    pub const MKFC: Self = Self(4);
    /// Multicast subchannel control key.
    pub const MSCCK: Self = Self(5);
    /// Multicast signalling key.
    pub const MUSIK: Self = Self(6);

    /// The tag, 0 to 15.
    pub fn tag(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["GMK", "PCK", "CSK", "SPK", "MKFC", "MSCCK", "MuSiK"];
        match names.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "purpose {}", self.0),
        }
    }
}

/// Identifier of a 3GPP key (GMK-ID, PCK-ID ...): purpose tag and 28 bits. Source: TS 33.180 G.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// An identifier of `purpose` with the 28 low bits of `random`.
    pub fn new(purpose: Purpose, random: u32) -> Self {
        Self(u32::from(purpose.0) << 28 | random & 0x0fff_ffff)
    }

    /// The purpose.
    pub fn purpose(self) -> Purpose {
        Purpose((self.0 >> 28) as u8)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// GUK-ID: the GMK-ID hidden under a salt that only the members can compute, different for each member.
///
/// GMK-ID and GUK-ID turn into each other by the same operation. Source: TS 33.180 F.1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GukId(pub u32);

impl GukId {
    /// GUK-ID of the member `uri` (its MC service ID, octet by octet as provisioned) for a GMK.
    pub fn new(gmk: &[u8], gmk_id: KeyId, uri: &str) -> Result<Self, KeyError> {
        Ok(Self(gmk_id.0 ^ user_salt(gmk, uri)?))
    }

    /// GMK-ID behind this GUK-ID of the member `uri`.
    pub fn gmk_id(self, gmk: &[u8], uri: &str) -> Result<KeyId, KeyError> {
        Ok(KeyId(self.0 ^ user_salt(gmk, uri)?))
    }
}

/// User salt: the 28 least significant bits of KDF(GMK, 50, URI).
pub fn user_salt(gmk: &[u8], uri: &str) -> Result<u32, KeyError> {
    let out = kdf(gmk, spec::FC_USER_SALT, uri.as_bytes())?;
    let [.., a, b, c, d] = *out;
    Ok(u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff)
}

/// DPCK, 16 octets: what wraps the key parameters beside a key. `dppk_id` is the CSB ID. Source: TS 33.180 F.1.5.
pub fn dpck(key: &[u8], dppk_id: u32) -> Result<Secret, KeyError> {
    let out = kdf(key, spec::FC_DPCK, &dppk_id.to_be_bytes())?;
    Ok(Secret::new(&out[16..]))
}

/// HMAC-SHA-256(key, FC || P0 || L0). Source: TS 33.220 B.2.
fn kdf(key: &[u8], fc: u8, p0: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let too_long = |_| KeyError::Length { what: "KDF parameter", found: p0.len(), wanted: "at most 65535" };
    let length = u16::try_from(p0.len()).map_err(too_long)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|_| KeyError::Invalid { what: "KDF key", problem: "length" })?;
    for part in [&[fc][..], p0, &length.to_be_bytes()] {
        mac.update(part);
    }
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

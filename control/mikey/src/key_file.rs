//! Keys in JSON, for tools and tests: KMSs, users, pre-shared keys and expected signers in one text.
//!
//! ```json
//! {
//!   "kms": [
//!     { "uri": "kms.example.org", "scheme": "uid", "key_period": 2592000, "key_offset": 0,
//!       "kpak": "04...(65 octets)", "z": "04...(257 octets)" },
//!     { "uri": "kms.tel.example", "scheme": "tel-monthly", "kpak": "04...", "z": "04..." }
//!   ],
//!   "users": [
//!     { "uri": "sip:alice@example.org", "kms": "kms.example.org", "period": 1531,
//!       "rsk": "04...(257 octets)", "ssk": "...(32 octets)", "pvt": "04...(65 octets)" },
//!     { "uri": "tel:+447700900123", "kms": "kms.tel.example", "period": "2025-10", "rsk": "04..." }
//!   ],
//!   "psks": [ { "name": "0abcdef0", "key": "...(16 octets or more)" } ],
//!   "signers": [ { "kind": "group", "uri": "sip:group@example.org", "kms": "kms.example.org" } ]
//! }
//! ```
//!
//! Octets are hexadecimal. A user has a receiving key (`rsk`), a signing key (`ssk` with `pvt`), or both; several
//! entries give one user several periods. A GMK is a pre-shared key whose name is its GMK-ID, 4 octets. Kinds of
//! signers are `group`, `peer`, `server` and `speaker` ([`SignerKind`]). Every list may be left out. Keys are
//! validated against identity, period and KMS when they are read. Unknown names are errors.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::{
    KeyError,
    eccsi::{Kpak, Pvt, Ssk},
    identifier::{KeyPeriod, Month},
    policy::{
        ExpectedSigner, Kms, Period, ReceivingIdentity, Scheme, SignerKind, SigningIdentity, TrustedKms,
    },
    psk::{Psk, PskSet},
    sakke::{KmsPublicKey, Rsk},
};

/// A key file that was read and whose keys are valid.
#[derive(Default)]
pub struct KeyFile {
    /// The KMSs; being in the file makes them trusted.
    pub trusted: TrustedKms,
    /// Receiving identities by URI.
    pub receiving: HashMap<String, ReceivingIdentity>,
    /// Signing identities by URI.
    pub signing: HashMap<String, SigningIdentity>,
    /// Pre-shared keys, GMKs among them.
    pub psks: PskSet,
    /// Signers that may be expected, in the order of the file.
    pub signers: Vec<ExpectedSigner>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    kms: Vec<KmsEntry>,
    #[serde(default)]
    users: Vec<UserEntry>,
    #[serde(default)]
    psks: Vec<PskEntry>,
    #[serde(default)]
    signers: Vec<SignerEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KmsEntry {
    uri: String,
    scheme: SchemeName,
    key_period: Option<u64>,
    key_offset: Option<u64>,
    kpak: Hex,
    z: Hex,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SchemeName {
    Uid,
    TelMonthly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    uri: String,
    kms: String,
    period: PeriodEntry,
    rsk: Option<Hex>,
    ssk: Option<Hex>,
    pvt: Option<Hex>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "wanted a period number or \"YYYY-MM\"")]
enum PeriodEntry {
    Number(u64),
    Month(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PskEntry {
    name: Hex,
    key: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerEntry {
    kind: KindName,
    uri: String,
    kms: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    Group,
    Peer,
    Server,
    Speaker,
}

/// Octets from hexadecimal; errors do not quote them.
struct Hex(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Hex;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("octets in hexadecimal")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex, E> {
                let octets = hex::decode(text).map_err(|_| E::custom("not hexadecimal"))?;
                Ok(Hex(Zeroizing::new(octets)))
            }
        }
        d.deserialize_str(Visitor)
    }
}

impl KeyFile {
    /// Reads and validates a key file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let file: File = serde_json::from_str(text).map_err(|e| file_error(e.to_string()))?;
        let mut out = Self::default();
        for entry in file.kms {
            out.trusted.insert(entry.read()?);
        }
        for entry in file.users {
            out.add_user(entry)?;
        }
        for PskEntry { name, key } in file.psks {
            out.psks.insert(Psk::new(&name.0, &key.0)?);
        }
        for SignerEntry { kind, uri, kms } in file.signers {
            let kind = match kind {
                KindName::Group => SignerKind::Group,
                KindName::Peer => SignerKind::Peer,
                KindName::Server => SignerKind::Server,
                KindName::Speaker => SignerKind::Speaker,
            };
            out.signers.push(ExpectedSigner::new(kind, &uri, &kms));
        }
        Ok(out)
    }

    fn add_user(&mut self, entry: UserEntry) -> Result<(), KeyError> {
        let UserEntry { uri, kms, period, rsk, ssk, pvt } = entry;
        let about = |problem: &dyn fmt::Display| file_error(format!("user {uri:?}: {problem}"));
        let kms = self.trusted.get(&kms).ok_or_else(|| about(&format!("no KMS {kms:?} in the file")))?;
        let period = match period {
            PeriodEntry::Number(n) => Period::Number(n),
            PeriodEntry::Month(text) => Period::Month(Month::parse(&text)?),
        };
        if let Some(rsk) = rsk {
            let rsk = Rsk::from_octets(&rsk.0).map_err(|e| about(&e))?;
            let identity =
                self.receiving.entry(uri.clone()).or_insert_with(|| ReceivingIdentity::new(&uri, kms));
            identity.install(kms, period, &rsk).map_err(|e| about(&e))?;
        }
        match (ssk, pvt) {
            (Some(ssk), Some(pvt)) => {
                let ssk = Ssk::from_octets(&ssk.0).map_err(|e| about(&e))?;
                let pvt = Pvt::from_octets(&pvt.0).map_err(|e| about(&e))?;
                let identity =
                    self.signing.entry(uri.clone()).or_insert_with(|| SigningIdentity::new(&uri, kms));
                identity.install(kms, period, ssk, pvt).map_err(|e| about(&e))
            }
            (None, None) => Ok(()),
            _ => Err(about(&Cow::from("ssk and pvt go together"))),
        }
    }
}

impl KmsEntry {
    fn read(self) -> Result<Kms, KeyError> {
        let about = |problem: &dyn fmt::Display| file_error(format!("KMS {:?}: {problem}", self.uri));
        let scheme = match (self.scheme, self.key_period, self.key_offset) {
            (SchemeName::Uid, Some(period), offset) => {
                Scheme::Uid(KeyPeriod::new(period, offset.unwrap_or(0))?)
            }
            (SchemeName::TelMonthly, None, None) => Scheme::TelMonthly,
            (SchemeName::Uid, ..) => return Err(about(&"scheme uid needs a key_period")),
            (SchemeName::TelMonthly, ..) => return Err(about(&"the period of tel-monthly is the month")),
        };
        let kpak = Kpak::from_octets(&self.kpak.0).map_err(|e| about(&e))?;
        let z = KmsPublicKey::from_octets(&self.z.0).map_err(|e| about(&e))?;
        Ok(Kms::new(&self.uri, scheme, kpak, z))
    }
}

fn file_error(problem: String) -> KeyError {
    KeyError::File(problem)
}

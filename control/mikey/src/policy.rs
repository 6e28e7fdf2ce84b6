//! Whom to believe: trusted KMSs, expected signers, and the identity keys of senders and receivers.
//!
//! The types are made so that opening a message without having decided these questions does not compile: a message's
//! own words about its sender, its KMS and its time are claims, compared with what the caller expects.

use std::collections::HashMap;

use crate::{
    ClaimedMessage, KeyError, NtpTime, Reject,
    codec::{IdRole, IdScheme, Payload, PayloadType, Sign, SignType},
    eccsi::{Kpak, Pvt, SIGNATURE_OCTETS, Signature, SigningKey, Ssk, Verifier},
    identifier::{Identifier, KeyPeriod, Month, Uid},
    keys::{KeyId, Purpose},
    replay::{MessageId, ReplayCache},
    sakke::{KmsPublicKey, PreparedRsk, Rsk},
};

/// How a KMS names its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// tel URIs with keys by the month. Source: RFC 6509.
    TelMonthly,
    /// Hashed UIDs with key periods of the KMS's choice. Source: TS 33.180.
    Uid(KeyPeriod),
}

impl Scheme {
    /// As SAKKE names it.
    pub fn id_scheme(self) -> IdScheme {
        match self {
            Self::TelMonthly => IdScheme::TEL_MONTHLY,
            Self::Uid(_) => IdScheme::UID_3GPP,
        }
    }

    /// The key period that holds `t`; `None` before the first one.
    pub fn period_at(self, t: NtpTime) -> Option<Period> {
        match self {
            Self::TelMonthly => Some(Period::Month(Month::of(t))),
            Self::Uid(period) => period.number_at(t).map(Period::Number),
        }
    }
}

/// One key period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// Of scheme 1.
    Month(Month),
    /// Key period number of scheme 2.
    Number(u64),
}

/// Public side of a KMS: its certificate, checked.
pub struct Kms {
    uri: String,
    scheme: Scheme,
    kpak: Kpak,
    verifier: Verifier,
    public_key: KmsPublicKey,
}

impl Kms {
    /// `uri` as the KMS's certificate has it, octet by octet; `kpak` is PubAuthKey, `public_key` is PubEncKey (Z).
    pub fn new(uri: &str, scheme: Scheme, kpak: Kpak, public_key: KmsPublicKey) -> Self {
        Self { uri: uri.to_owned(), scheme, verifier: Verifier::new(kpak.clone()), kpak, public_key }
    }

    /// The URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How it names users.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// KPAK.
    pub fn kpak(&self) -> &Kpak {
        &self.kpak
    }

    /// Z.
    pub fn public_key(&self) -> &KmsPublicKey {
        &self.public_key
    }

    /// What ECCSI and SAKKE call the user `uri` in `period`.
    pub fn identifier(&self, uri: &str, period: Period) -> Result<Identifier, KeyError> {
        match (self.scheme, period) {
            (Scheme::TelMonthly, Period::Month(month)) => Identifier::monthly(month, uri),
            (Scheme::Uid(key_period), Period::Number(number)) => {
                Ok(Identifier::Uid(Uid::new(uri, &self.uri, key_period, number)?))
            }
            _ => Err(KeyError::Identity { what: "key period", problem: "is not one of the KMS's scheme" }),
        }
    }

    /// The identifier of `uri` at `t`, for a receiver whose clock says `now`.
    fn identifier_at(&self, uri: &str, t: NtpTime, now: NtpTime) -> Result<Identifier, Reject> {
        let no_key = || Reject::NoKeyForPeriod { identity: uri.to_owned() };
        let period = self.scheme.period_at(t).ok_or_else(no_key)?;
        if let Period::Month(month) = period
            && !month.accepted_at(now)
        {
            return Err(Reject::MonthNotAccepted(month.to_string()));
        }
        self.identifier(uri, period).map_err(|_| no_key())
    }
}

/// The KMSs whose word counts.
#[derive(Default)]
pub struct TrustedKms(HashMap<String, Kms>);

impl TrustedKms {
    /// Adds a KMS; one of the same URI is replaced.
    pub fn insert(&mut self, kms: Kms) {
        self.0.insert(kms.uri.clone(), kms);
    }

    /// Takes a KMS out.
    pub fn remove(&mut self, uri: &str) {
        self.0.remove(uri);
    }

    /// The KMS of this URI.
    pub fn get(&self, uri: &str) -> Option<&Kms> {
        self.0.get(uri)
    }

    fn require(&self, uri: &str) -> Result<&Kms, Reject> {
        self.get(uri).ok_or_else(|| Reject::UntrustedKms(uri.to_owned()))
    }
}

/// What a signer is to the receiver, and hence which keys it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerKind {
    /// Identity of the group or of its management server: GMK and MKFC.
    Group,
    /// The other side of a call: PCK, CSK, and every key of scheme 1, which has no purposes.
    Peer,
    /// A server of the service: SPK, MSCCK, MuSiK.
    Server,
    /// Claimed speaker of a talk: a GSK under a GMK, nothing else.
    Speaker,
}

/// The signer that the caller expects, known from elsewhere: group configuration, call signalling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedSigner {
    kind: SignerKind,
    uri: String,
    kms_uri: String,
}

impl ExpectedSigner {
    /// `uri` is the signer's, octet by octet as its KMS knows it; `kms_uri` names that KMS.
    pub fn new(kind: SignerKind, uri: &str, kms_uri: &str) -> Self {
        Self { kind, uri: uri.to_owned(), kms_uri: kms_uri.to_owned() }
    }

    /// What it is.
    pub fn kind(&self) -> SignerKind {
        self.kind
    }

    /// Its URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The URI of its KMS.
    pub fn kms_uri(&self) -> &str {
        &self.kms_uri
    }

    /// Whether it may send a key of this purpose.
    pub(crate) fn may_send(&self, scheme: Scheme, key_id: KeyId) -> Result<(), Reject> {
        let purpose = key_id.purpose();
        let may = match (self.kind, scheme) {
            (SignerKind::Speaker, _) => false,
            (SignerKind::Peer, Scheme::TelMonthly) => true,
            (_, Scheme::TelMonthly) => self.kind == SignerKind::Group,
            (SignerKind::Group, _) => [Purpose::GMK, Purpose::MKFC].contains(&purpose),
            (SignerKind::Peer, _) => [Purpose::PCK, Purpose::CSK].contains(&purpose),
            (SignerKind::Server, _) => [Purpose::SPK, Purpose::MSCCK, Purpose::MUSIK].contains(&purpose),
        };
        if may { Ok(()) } else { Err(Reject::SignerNotAllowed { purpose: purpose.tag() }) }
    }
}

/// A signing identity: its URI, its KMS, and the (SSK, PVT) of one or more periods.
pub struct SigningIdentity {
    uri: String,
    kms_uri: String,
    keys: HashMap<Period, (Identifier, SigningKey)>,
}

impl SigningIdentity {
    /// No keys yet.
    pub fn new(uri: &str, kms: &Kms) -> Self {
        Self { uri: uri.to_owned(), kms_uri: kms.uri.clone(), keys: HashMap::new() }
    }

    /// The URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// URI of the KMS.
    pub fn kms_uri(&self) -> &str {
        &self.kms_uri
    }

    /// Validates a key pair against identity, period and KMS, then keeps it.
    pub fn install(&mut self, kms: &Kms, period: Period, ssk: Ssk, pvt: Pvt) -> Result<(), KeyError> {
        same_kms(&self.kms_uri, kms)?;
        let identifier = kms.identifier(&self.uri, period)?;
        let key = SigningKey::new(&identifier.octets(), ssk, pvt, &kms.kpak).map_err(|_| {
            KeyError::Invalid { what: "SSK and PVT", problem: "not of this identity and KMS" }
        })?;
        self.keys.insert(period, (identifier, key));
        Ok(())
    }

    /// Erases the keys of a period.
    pub fn remove(&mut self, period: Period) {
        self.keys.remove(&period);
    }

    /// Identifier and key for a message with this T.
    pub(crate) fn at(&self, kms: &Kms, t: NtpTime) -> Result<(&Identifier, &SigningKey), KeyError> {
        same_kms(&self.kms_uri, kms)?;
        let key = kms.scheme.period_at(t).and_then(|period| self.keys.get(&period));
        key.map(|(identifier, key)| (identifier, key))
            .ok_or(KeyError::Identity { what: "signing key", problem: "none for the period of T" })
    }
}

/// A receiving identity: its URI, its KMS, and the RSK of one or more periods (two around a change of period).
pub struct ReceivingIdentity {
    uri: String,
    kms_uri: String,
    keys: HashMap<Identifier, PreparedRsk>,
}

impl ReceivingIdentity {
    /// No keys yet.
    pub fn new(uri: &str, kms: &Kms) -> Self {
        Self { uri: uri.to_owned(), kms_uri: kms.uri.clone(), keys: HashMap::new() }
    }

    /// The URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// URI of the KMS.
    pub fn kms_uri(&self) -> &str {
        &self.kms_uri
    }

    /// Validates an RSK against identity, period and KMS, prepares it (about 2 MB) and keeps it.
    pub fn install(&mut self, kms: &Kms, period: Period, rsk: &Rsk) -> Result<(), KeyError> {
        same_kms(&self.kms_uri, kms)?;
        let identifier = kms.identifier(&self.uri, period)?;
        let key = PreparedRsk::new(&identifier.octets(), rsk, &kms.public_key)
            .map_err(|_| KeyError::Invalid { what: "RSK", problem: "not of this identity and KMS" })?;
        self.keys.insert(identifier, key);
        Ok(())
    }

    /// Erases the key of a period.
    pub fn remove(&mut self, kms: &Kms, period: Period) {
        if let Ok(identifier) = kms.identifier(&self.uri, period) {
            self.keys.remove(&identifier);
        }
    }

    /// Identifier and key for a message with this T.
    pub(crate) fn at(
        &self,
        kms: &Kms,
        t: NtpTime,
        now: NtpTime,
    ) -> Result<(Identifier, &PreparedRsk), Reject> {
        let identifier = kms.identifier_at(&self.uri, t, now)?;
        match self.keys.get(&identifier) {
            Some(key) => Ok((identifier, key)),
            None => Err(Reject::NoKeyForPeriod { identity: self.uri.clone() }),
        }
    }
}

fn same_kms(uri: &str, kms: &Kms) -> Result<(), KeyError> {
    if uri == kms.uri {
        Ok(())
    } else {
        Err(KeyError::Identity { what: "KMS", problem: "is not the one of this identity" })
    }
}

/// A signed message about which all but the signature has been found in order: time, replay, initiator, KMS.
pub(crate) struct Checked<'a> {
    pub(crate) kms: &'a Kms,
    pub(crate) identifier: Identifier,
    pub(crate) id: MessageId,
    signature: Signature,
}

/// The first half of the receiver's work on a signed message, all of it cheap. Source: RFC 6509 2.2, RFC 3830 5.4.
pub(crate) fn check<'a>(
    m: &ClaimedMessage,
    expected: &ExpectedSigner,
    trusted: &'a TrustedKms,
    cache: &ReplayCache,
    now: NtpTime,
) -> Result<Checked<'a>, Reject> {
    let (_, sign) = m.required_last("SIGN", pick_sign)?;
    if sign.sign_type != SignType::ECCSI {
        return Err(Reject::SignatureType(sign.sign_type.0));
    }
    let (t, time) = m.timestamp()?;
    let time = time.ok_or(Reject::TimestampType(t.ts_type().0))?;
    let kms = trusted.require(&expected.kms_uri)?;
    // Before the identifier, since what is out of the window needs no hashing.
    let id = m.id(expected.uri.as_bytes().to_vec(), signed_part(m))?;
    cache.check(&id, now)?;
    let identifier = kms.identifier_at(&expected.uri, time, now)?;
    expect_kms(m, IdRole::INITIATOR_KMS, &expected.kms_uri)?;
    if !names(m, IdRole::INITIATOR, IdRole::INITIATOR_UID, &expected.uri, &identifier)? {
        return Err(Reject::WrongInitiator);
    }
    // Of another length than ECCSI's: as wrong as any other signature.
    let signature = Signature::from_octets(&sign.signature).map_err(|_| Reject::AuthenticationFailed)?;
    Ok(Checked { kms, identifier, id, signature })
}

impl Checked<'_> {
    /// The signature over everything before it, its own header included.
    pub(crate) fn verify(&self, m: &ClaimedMessage) -> Result<(), Reject> {
        self.kms
            .verifier
            .verify(&self.identifier.octets(), signed_part(m), &self.signature)
            .map_err(|_| Reject::AuthenticationFailed)
    }
}

/// Whether the message's IDR of either role, where there is one, names this user. Source: TS 33.180 E.7 for UIDs.
pub(crate) fn names(
    m: &ClaimedMessage,
    uri_role: IdRole,
    uid_role: IdRole,
    uri: &str,
    identifier: &Identifier,
) -> Result<bool, Reject> {
    let by_uri =
        m.idr(uri_role)?.is_none_or(|idr| idr.data == uri.as_bytes() || identifier.is_uid(&idr.data));
    let by_uid = m.idr(uid_role)?.is_none_or(|idr| identifier.is_uid(&idr.data));
    Ok(by_uri && by_uid)
}

/// The KMS named for a role, where there is one, must be this one.
pub(crate) fn expect_kms(m: &ClaimedMessage, role: IdRole, uri: &str) -> Result<(), Reject> {
    match m.idr(role)? {
        Some(idr) if idr.data != uri.as_bytes() => {
            Err(Reject::UntrustedKms(String::from_utf8_lossy(&idr.data).into_owned()))
        }
        _ => Ok(()),
    }
}

/// Octets that the signature covers.
fn signed_part(m: &ClaimedMessage) -> &[u8] {
    let length = m.claimed().payloads.iter().find_map(pick_sign).map_or(0, |s| s.signature.len());
    m.octets().get(..m.octets().len().saturating_sub(length)).unwrap_or_default()
}

pub(crate) fn pick_sign(p: &Payload) -> Option<&Sign> {
    match p {
        Payload::Sign(s) => Some(s),
        _ => None,
    }
}

/// Appends SIGN with a signature over all octets and SIGN's own header.
pub(crate) fn append_sign<R: rand_core::CryptoRng + ?Sized>(
    octets: &mut Vec<u8>,
    key: &SigningKey,
    rng: &mut R,
) {
    debug_assert_eq!(PayloadType::SIGN.0, 4);
    let header = u16::from(SignType::ECCSI.0) << 12 | SIGNATURE_OCTETS as u16;
    octets.extend_from_slice(&header.to_be_bytes());
    let signature = key.sign(octets, rng);
    octets.extend_from_slice(signature.as_octets());
}

//! SAKKE mode: a key encapsulated to the receiver's identity and signed with the sender's. One message, one way.
//! Source: RFC 6509 2; TS 33.180 E.
//!
//! ```text
//! I_MESSAGE = HDR, T, RAND, [IDRi], [IDRr], [IDRkmsi], [IDRkmsr], {SP}, SAKKE, {General Extension}, SIGN
//! ```
//!
//! The receiver checks time, replay and identities, then the signature, and only then turns to the pairing, which is
//! the dear step. Payloads are found by type; SIGN is last.

use rand_core::CryptoRng;
use rayon::prelude::*;

use crate::{
    KeyError, Message, NtpTime, Reject, ReplayCache, Standing,
    claimed::ClaimedMessage,
    codec::{
        CsIdMap, DataType, GeneralExtension, GenericSession, Header, IdRole, IdType, Idr, KeyParameters,
        KeyParametersContent, Payload, PayloadType, PrfFunc, ProtType, Sakke, SakkeParams, SecurityPolicy,
        Timestamp, TsType,
    },
    identifier::Identifier,
    keys::{Bundle, GukId, KeyId, Purpose},
    policy::{
        self, Checked, ExpectedSigner, Kms, ReceivingIdentity, Scheme, SignerKind, SigningIdentity,
        TrustedKms,
    },
    prf::Prf,
    sakke::{self, Encapsulated, PreparedRsk, Ssv},
    seed::SeedRng,
};

/// Payloads of an I_MESSAGE. CERT is not among them: an ECCSI signature needs none.
const ALLOWED: &[PayloadType] = &[
    PayloadType::T,
    PayloadType::RAND,
    PayloadType::IDR,
    PayloadType::SP,
    PayloadType::SAKKE,
    PayloadType::GENERAL_EXTENSION,
    PayloadType::SIGN,
];

/// A key to be sent, to one receiver or to many.
///
/// T and RAND are the same for all receivers: members of a group derive media keys from RAND (RFC 3830 6.11).
pub struct SakkeMessage<'a> {
    /// The key; a group's members all get this one.
    pub key: &'a Ssv,
    /// Names the key. A GMK-ID does not travel: each receiver gets its GUK-ID as CSB ID.
    pub key_id: KeyId,
    /// Now; it selects the key periods of both identities.
    pub time: NtpTime,
    /// At least 16 random octets.
    pub rand: Vec<u8>,
    /// Policies. Without any the map is empty; with one, a GENERIC-ID map names a session that uses it.
    pub policies: Vec<SecurityPolicy>,
    /// CS ID of the session in the GENERIC-ID map (TS 33.180: 4 MCPTT group, 5 MCVideo group).
    pub cs_id: u8,
    /// Period of use.
    pub parameters: Option<KeyParameters>,
    /// How identities and parameters appear.
    pub privacy: Privacy,
    /// Adds SAKKE-to-self: the key once more, encapsulated to the sender, for [`open_own`]. Not for a GMK, which a
    /// server sends. Source: TS 33.180 E.
    pub to_self: bool,
}

/// How much an eavesdropper may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// URIs and key parameters in clear.
    Clear,
    /// UIDs in place of URIs, key parameters wrapped under the key. Scheme 2 only.
    Hidden,
}

impl SakkeMessage<'_> {
    /// The message for one receiver.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        sender: &SigningIdentity,
        sender_kms: &Kms,
        receiver_uri: &str,
        receiver_kms: &Kms,
        rng: &mut R,
    ) -> Result<Vec<u8>, KeyError> {
        let identifier = self.identifier(receiver_uri, receiver_kms)?;
        let encapsulated = sakke::encapsulate(self.key, &identifier.octets(), receiver_kms.public_key())
            .map_err(|_| ENCAPSULATES)?;
        let to_self = self.encapsulate_to_self(sender, sender_kms)?;
        let mut rng = SeedRng::draw(rng);
        self.assemble(
            (sender, sender_kms),
            (receiver_uri, receiver_kms),
            &identifier,
            (&encapsulated, to_self.as_ref()),
            &mut rng,
        )
    }

    /// The messages for many receivers of one KMS, in their order, made on all threads of rayon's pool. A receiver
    /// that can't be served does not keep the others from being.
    pub fn seal_many<R: CryptoRng + ?Sized>(
        &self,
        sender: &SigningIdentity,
        sender_kms: &Kms,
        receiver_uris: &[&str],
        receiver_kms: &Kms,
        rng: &mut R,
    ) -> Vec<Result<Vec<u8>, KeyError>> {
        let identifiers: Vec<_> =
            receiver_uris.par_iter().map(|uri| self.identifier(uri, receiver_kms)).collect();
        // Who has no identifier keeps a place with no octets, which is refused.
        let octets: Vec<_> =
            identifiers.iter().map(|id| id.as_ref().map(Identifier::octets).unwrap_or_default()).collect();
        let encapsulated = sakke::encapsulate_many(self.key, &octets, receiver_kms.public_key());
        let to_self = self.encapsulate_to_self(sender, sender_kms);
        let jobs: Vec<_> = receiver_uris
            .iter()
            .zip(identifiers)
            .zip(encapsulated)
            .map(|((uri, identifier), data)| (*uri, identifier, data, SeedRng::draw(rng)))
            .collect();
        jobs.into_par_iter()
            .map(|(uri, identifier, data, mut rng)| {
                let (identifier, data) = (identifier?, data.map_err(|_| ENCAPSULATES)?);
                let data = (&data, to_self.as_ref().map_err(Clone::clone)?.as_ref());
                self.assemble((sender, sender_kms), (uri, receiver_kms), &identifier, data, &mut rng)
            })
            .collect()
    }

    fn identifier(&self, uri: &str, kms: &Kms) -> Result<Identifier, KeyError> {
        let period = kms
            .scheme()
            .period_at(self.time)
            .ok_or(KeyError::Identity { what: "T", problem: "is before the first key period" })?;
        kms.identifier(uri, period)
    }

    /// The key for the sender's other devices: the same data in the messages to all receivers.
    fn encapsulate_to_self(
        &self,
        sender: &SigningIdentity,
        kms: &Kms,
    ) -> Result<Option<Encapsulated>, KeyError> {
        if !self.to_self {
            return Ok(None);
        }
        if self.key_id.purpose() == Purpose::GMK && matches!(kms.scheme(), Scheme::Uid(_)) {
            return Err(KeyError::Invalid { what: "SAKKE-to-self", problem: "is not for a GMK" });
        }
        let (identifier, _) = sender.at(kms, self.time)?;
        sakke::encapsulate(self.key, &identifier.octets(), kms.public_key())
            .map(Some)
            .map_err(|_| ENCAPSULATES)
    }

    fn assemble(
        &self,
        (sender, sender_kms): (&SigningIdentity, &Kms),
        (receiver_uri, receiver_kms): (&str, &Kms),
        receiver: &Identifier,
        (encapsulated, to_self): (&Encapsulated, Option<&Encapsulated>),
        rng: &mut SeedRng,
    ) -> Result<Vec<u8>, KeyError> {
        if self.rand.len() < 16 {
            return Err(KeyError::Length { what: "RAND", found: self.rand.len(), wanted: "16 to 255" });
        }
        let (sender_id, key) = sender.at(sender_kms, self.time)?;
        let csb_id = self.csb_id(receiver_uri, receiver_kms.scheme())?;
        let mut payloads =
            vec![Payload::T(Timestamp::NtpUtc(self.time.to_wire())), Payload::Rand(self.rand.clone())];
        payloads.push(self.idr(IdRole::INITIATOR, IdRole::INITIATOR_UID, sender.uri(), sender_id)?);
        payloads.push(self.idr(IdRole::RESPONDER, IdRole::RESPONDER_UID, receiver_uri, receiver)?);
        payloads.push(idr(IdRole::INITIATOR_KMS, sender_kms.uri().as_bytes()));
        payloads.push(idr(IdRole::RESPONDER_KMS, receiver_kms.uri().as_bytes()));
        payloads.extend(self.policies.iter().cloned().map(Payload::Sp));
        payloads.push(Payload::Sakke(sakke_to(receiver_kms, encapsulated)));
        if let Some(to_self) = to_self {
            let to_self = GeneralExtension::SakkeToSelf(sakke_to(sender_kms, to_self));
            payloads.push(Payload::GeneralExtension(to_self));
        }
        if let Some(parameters) = &self.parameters {
            let content = match self.privacy {
                Privacy::Clear => KeyParametersContent::Clear(parameters.clone()),
                Privacy::Hidden => {
                    let key = self.key.as_octets();
                    let wrapped = parameters.protect(key, csb_id, self.time, rng.octets())?;
                    KeyParametersContent::Protected(wrapped)
                }
            };
            payloads.push(Payload::GeneralExtension(GeneralExtension::KeyParameters(content)));
        }
        let header = Header {
            data_type: DataType::SAKKE,
            verification: false,
            prf: PrfFunc::HMAC_SHA_256,
            csb_id,
            map: self.map(csb_id),
        };
        let mut octets = Message { header, payloads }.encode()?;
        self.announce_sign(&mut octets)?;
        policy::append_sign(&mut octets, key, rng);
        Ok(octets)
    }

    /// A GMK travels under the receiver's GUK-ID.
    fn csb_id(&self, receiver_uri: &str, scheme: Scheme) -> Result<u32, KeyError> {
        match scheme {
            Scheme::Uid(_) if self.key_id.purpose() == Purpose::GMK => {
                Ok(GukId::new(self.key.as_octets(), self.key_id, receiver_uri)?.0)
            }
            _ => Ok(self.key_id.0),
        }
    }

    /// One GENERIC-ID session for the policies; SPI = GMK-ID then GUK-ID for a GMK, the key's id otherwise.
    fn map(&self, csb_id: u32) -> CsIdMap {
        if self.policies.is_empty() {
            return CsIdMap::Empty { sessions: 0 };
        }
        let mut spi = self.key_id.0.to_be_bytes().to_vec();
        if csb_id != self.key_id.0 {
            spi.extend_from_slice(&csb_id.to_be_bytes());
        }
        CsIdMap::GenericId(vec![GenericSession {
            cs_id: self.cs_id,
            prot_type: ProtType::SRTP,
            roc_and_seq: false,
            policies: self.policies.iter().map(|p| p.policy_no).collect(),
            session_data: Vec::new(),
            spi,
        }])
    }

    fn idr(
        &self,
        uri_role: IdRole,
        uid_role: IdRole,
        uri: &str,
        identifier: &Identifier,
    ) -> Result<Payload, KeyError> {
        match (self.privacy, identifier) {
            (Privacy::Clear, _) => Ok(idr(uri_role, uri.as_bytes())),
            (Privacy::Hidden, Identifier::Uid(uid)) => Ok(idr(uid_role, &uid.0)),
            (Privacy::Hidden, Identifier::Monthly { .. }) => {
                Err(KeyError::Identity { what: "identity", problem: "can't be hidden in scheme 1" })
            }
        }
    }

    /// Makes the last payload announce SIGN, which is signed so.
    fn announce_sign(&self, octets: &mut [u8]) -> Result<(), KeyError> {
        let last = Message::decode_with_spans(octets).ok().and_then(|(_, spans)| spans.last().copied());
        let next = last.and_then(|span| octets.get_mut(span.start));
        *next.ok_or(KeyError::Invalid { what: "message", problem: "does not read back" })? =
            PayloadType::SIGN.0;
        Ok(())
    }
}

fn sakke_to(kms: &Kms, data: &Encapsulated) -> Sakke {
    Sakke { params: SakkeParams::SET_1, id_scheme: kms.scheme().id_scheme(), data: data.to_vec() }
}

const ENCAPSULATES: KeyError = KeyError::Invalid { what: "identifier", problem: "can't be encapsulated to" };

fn idr(role: IdRole, data: &[u8]) -> Payload {
    Payload::Idr(Idr { role, id_type: IdType::URI, data: data.to_vec() })
}

/// A key that was accepted.
pub struct OpenedKey {
    /// All of the message, now authenticated.
    pub message: Message,
    /// The key (GMK, PCK, CSK ...; a TGK in the words of MIKEY).
    pub key: Ssv,
    /// Its name; a GMK's is recovered from the GUK-ID.
    pub key_id: KeyId,
    /// The receiver's GUK-ID, for a GMK.
    pub guk_id: Option<GukId>,
    /// For deriving session keys. Of a GMK, with `csb_id` replaced by the GUK-ID of whoever sends.
    pub bundle: Bundle,
    /// T.
    pub time: NtpTime,
    /// URI of the signer, verified.
    pub signer: String,
    /// What the signature verified under.
    pub identifier: Identifier,
    /// Period of use, where the message gives one.
    pub parameters: Option<KeyParameters>,
    /// Whether a later message of this signer was accepted before: then this key must not displace the later one.
    pub standing: Standing,
}

/// Opens an I_MESSAGE. Errors leave the cache as it was.
pub fn open(
    octets: &[u8],
    receiver: &ReceivingIdentity,
    signer: &ExpectedSigner,
    trusted: &TrustedKms,
    cache: &mut ReplayCache,
    now: NtpTime,
) -> Result<OpenedKey, Reject> {
    let m = ClaimedMessage::decode(octets)?;
    let checked = check(&m, signer, trusted, cache, now)?;
    policy::expect_kms(&m, IdRole::RESPONDER_KMS, receiver.kms_uri())?;
    let receiving = Receiving::of(receiver, sakke_of(&m)?, trusted, checked.id.t, now)?;
    let uri = receiver.uri();
    if !policy::names(&m, IdRole::RESPONDER, IdRole::RESPONDER_UID, uri, &receiving.identifier)? {
        return Err(Reject::WrongResponder);
    }
    receiving.open(&m, checked, signer, cache, now)
}

/// Opens an I_MESSAGE of one's own, as another device of its sender: by the SAKKE-to-self that it carries. The
/// receiver's payload, and for whom it is, are authenticated but not looked at. Errors leave the cache as it was.
/// Source: TS 33.180 E.
pub fn open_own(
    octets: &[u8],
    own: &ReceivingIdentity,
    trusted: &TrustedKms,
    cache: &mut ReplayCache,
    now: NtpTime,
) -> Result<OpenedKey, Reject> {
    let signer = ExpectedSigner::new(SignerKind::Peer, own.uri(), own.kms_uri());
    let m = ClaimedMessage::decode(octets)?;
    let checked = check(&m, &signer, trusted, cache, now)?;
    let to_self = m.optional("SAKKE-to-self", |p| match p {
        Payload::GeneralExtension(GeneralExtension::SakkeToSelf(s)) => Some(s),
        _ => None,
    })?;
    let (_, sakke) = to_self.ok_or(Reject::Missing("SAKKE-to-self"))?;
    if sakke.params != SakkeParams::SET_1 {
        return Err(Reject::SakkeParameters(sakke.params.0));
    }
    Receiving::of(own, sakke, trusted, checked.id.t, now)?.open(&m, checked, &signer, cache, now)
}

/// Who opens which encapsulated key.
struct Receiving<'a> {
    uri: &'a str,
    scheme: Scheme,
    identifier: Identifier,
    rsk: &'a PreparedRsk,
    sakke: &'a Sakke,
}

impl<'a> Receiving<'a> {
    /// The receiver's key for the period of T.
    fn of(
        receiver: &'a ReceivingIdentity,
        sakke: &'a Sakke,
        trusted: &TrustedKms,
        t: NtpTime,
        now: NtpTime,
    ) -> Result<Self, Reject> {
        let kms = trusted
            .get(receiver.kms_uri())
            .ok_or_else(|| Reject::UntrustedKms(receiver.kms_uri().to_owned()))?;
        let expected = kms.scheme().id_scheme();
        if sakke.id_scheme != expected {
            return Err(Reject::IdentifierScheme { found: sakke.id_scheme.0, expected: expected.0 });
        }
        let (identifier, rsk) = receiver.at(kms, t, now)?;
        Ok(Self { uri: receiver.uri(), scheme: kms.scheme(), identifier, rsk, sakke })
    }

    /// Verifies the signature, opens the key, reads its parameters, and only then tells the cache.
    fn open(
        self,
        m: &ClaimedMessage,
        checked: Checked<'_>,
        signer: &ExpectedSigner,
        cache: &mut ReplayCache,
        now: NtpTime,
    ) -> Result<OpenedKey, Reject> {
        let prf = Prf::try_from(m.claimed().header.prf)?;
        checked.verify(m)?;

        let key = self.rsk.decapsulate(&self.sakke.data).map_err(|_| Reject::KeyDoesNotOpen)?;
        let csb_id = m.claimed().header.csb_id;
        let parameters = parameters_of(m)?
            .map(|content| match content {
                KeyParametersContent::Clear(p) => Ok(p.clone()),
                KeyParametersContent::Protected(p) => p.open(key.as_octets(), csb_id),
            })
            .transpose()?;
        if let Some(parameters) = &parameters {
            parameters.usable_at(now)?;
        }
        let is_gmk = matches!(self.scheme, Scheme::Uid(_)) && KeyId(csb_id).purpose() == Purpose::GMK;
        let guk_id = is_gmk.then_some(GukId(csb_id));
        let key_id = match guk_id {
            Some(guk_id) => guk_id
                .gmk_id(key.as_octets(), self.uri)
                .map_err(|_| Reject::KeyData("receiver's URI is too long"))?,
            None => KeyId(csb_id),
        };
        let standing = cache.accept(&checked.id, now)?;
        Ok(OpenedKey {
            key,
            key_id,
            guk_id,
            bundle: Bundle { csb_id, rand: checked.id.rand, prf },
            time: checked.id.t,
            signer: signer.uri().to_owned(),
            identifier: checked.identifier,
            parameters,
            standing,
            message: m.claimed().clone(),
        })
    }
}

/// Checks everything that needs no receiver's key: structure, time, replay, signer and signature. The cache is not
/// told, so that the message can still be opened.
pub fn verify(
    octets: &[u8],
    signer: &ExpectedSigner,
    trusted: &TrustedKms,
    cache: &ReplayCache,
    now: NtpTime,
) -> Result<Identifier, Reject> {
    let m = ClaimedMessage::decode(octets)?;
    let checked = check(&m, signer, trusted, cache, now)?;
    checked.verify(&m)?;
    Ok(checked.identifier)
}

fn check<'a>(
    m: &ClaimedMessage,
    signer: &ExpectedSigner,
    trusted: &'a TrustedKms,
    cache: &ReplayCache,
    now: NtpTime,
) -> Result<Checked<'a>, Reject> {
    m.expect(DataType::SAKKE, ALLOWED)?;
    let params = sakke_of(m)?.params;
    if params != SakkeParams::SET_1 {
        return Err(Reject::SakkeParameters(params.0));
    }
    // The month of the identity is that of T, so T is a full time of day. Source: RFC 6509 2.1.
    let ts_type = m.timestamp()?.0.ts_type();
    if ![TsType::NTP_UTC, TsType::NTP].contains(&ts_type) {
        return Err(Reject::TimestampType(ts_type.0));
    }
    let checked = policy::check(m, signer, trusted, cache, now)?;
    signer.may_send(checked.kms.scheme(), KeyId(m.claimed().header.csb_id))?;
    Ok(checked)
}

fn sakke_of(m: &ClaimedMessage) -> Result<&Sakke, Reject> {
    let (_, sakke) = m.required("SAKKE", |p| match p {
        Payload::Sakke(s) => Some(s),
        _ => None,
    })?;
    Ok(sakke)
}

fn parameters_of(m: &ClaimedMessage) -> Result<Option<&KeyParametersContent>, Reject> {
    let found = m.optional("key parameters", |p| match p {
        Payload::GeneralExtension(GeneralExtension::KeyParameters(content)) => Some(content),
        _ => None,
    })?;
    Ok(found.map(|(_, content)| content))
}

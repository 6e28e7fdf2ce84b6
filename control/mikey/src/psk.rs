//! Pre-shared-key mode. Source: RFC 3830 3.1, 5.
//!
//! ```text
//! initiator                                                                responder
//! I_MESSAGE = HDR, T, RAND, [IDi], [IDr], [IDRpsk], {SP}, {ext}, KEMAC  ------>
//!                                  R_MESSAGE = HDR, T, [IDr], V         <------   if V = 1
//!                                  error     = HDR, T, {ERR}            <------   on refusal
//! ```
//!
//! A valid MAC says that the sender holds the pre-shared key, no more: a key shared by a group authenticates the
//! group, not the member.

use crate::{
    EncodeError, KeyError, Message, NtpTime, Reject, Secret,
    claimed::ClaimedMessage,
    codec::{
        CsIdMap, DataType, ErrorNo, ErrorPayload, GeneralExtension, Header, Id, IdRole, Idr, Kemac, KeyData,
        Payload, PayloadType, SecurityPolicy, Timestamp, Verification,
    },
    kemac::{Encryption, Envelope, MacAlgorithm, Protection},
    keys::Bundle,
    prf::Prf,
    replay::{ReplayCache, Standing},
};

/// Payloads of an I_MESSAGE.
const I_MESSAGE: &[PayloadType] = &[
    PayloadType::T,
    PayloadType::RAND,
    PayloadType::ID,
    PayloadType::IDR,
    PayloadType::SP,
    PayloadType::GENERAL_EXTENSION,
    PayloadType::KEMAC,
];

/// Payloads of an R_MESSAGE.
const R_MESSAGE: &[PayloadType] =
    &[PayloadType::T, PayloadType::ID, PayloadType::IDR, PayloadType::GENERAL_EXTENSION, PayloadType::V];

/// Fewest octets of a pre-shared key.
pub const PSK_MIN: usize = 16;

/// A pre-shared key and the name messages give it.
pub struct Psk {
    name: Vec<u8>,
    key: Secret,
}

impl Psk {
    /// A key of at least 16 octets. The name is what IDRpsk, a Key ID extension or IDi says; it may be empty where
    /// both sides know which key is meant.
    pub fn new(name: &[u8], key: &[u8]) -> Result<Self, KeyError> {
        if key.len() < PSK_MIN {
            return Err(KeyError::Length { what: "pre-shared key", found: key.len(), wanted: "at least 16" });
        }
        Ok(Self { name: name.to_vec(), key: Secret::new(key) })
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.key.expose()
    }
}

/// The pre-shared keys that a receiver holds.
#[derive(Default)]
pub struct PskSet(Vec<Psk>);

impl PskSet {
    /// Adds a key; one of the same name is replaced.
    pub fn insert(&mut self, psk: Psk) {
        self.0.retain(|p| p.name != psk.name);
        self.0.push(psk);
    }

    /// Takes a key out, for example at the end of its period of use.
    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|p| p.name != name);
    }

    /// The key of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Psk> {
        self.0.iter().find(|p| p.name == name)
    }

    /// The key that a message claims to use: named by IDRpsk, else by a Key ID extension with one entry, else by
    /// IDi, else the only one there is.
    fn claimed(&self, m: &ClaimedMessage, initiator: Option<&[u8]>) -> Result<&Psk, Reject> {
        let key_id = m.optional("Key ID extension", |p| match p {
            Payload::GeneralExtension(GeneralExtension::KeyIds(ids)) => Some(ids),
            _ => None,
        })?;
        let by_key_id = key_id.and_then(|(_, ids)| match ids.as_slice() {
            [one] => Some(one.id.as_slice()),
            _ => None,
        });
        let explicit = m.idr(IdRole::PSK)?.map(|idr| idr.data.as_slice()).or(by_key_id);
        let found = match (explicit, self.0.as_slice()) {
            (Some(name), _) => self.get(name),
            (None, [only]) => Some(only),
            (None, _) => self.get(initiator.unwrap_or_default()),
        };
        found.ok_or_else(|| {
            let name = explicit.or(initiator).unwrap_or_default();
            Reject::UnknownPsk(crate::hex(name))
        })
    }
}

/// What an initiator puts into an I_MESSAGE.
pub struct IMessage {
    /// Crypto session bundle; random, so that two initiators under one key don't meet.
    pub csb_id: u32,
    /// Crypto sessions.
    pub map: CsIdMap,
    /// Now; each message of an initiator has its own.
    pub time: NtpTime,
    /// At least 16 random octets, fresh for each message: with CSB ID and T they make the IV unique.
    pub rand: Vec<u8>,
    /// IDi.
    pub initiator: Option<Id>,
    /// IDr.
    pub responder: Option<Id>,
    /// Names the pre-shared key in an IDRpsk.
    pub psk_name: Option<Id>,
    /// Policies.
    pub policies: Vec<SecurityPolicy>,
    /// General extensions.
    pub extensions: Vec<GeneralExtension>,
    /// The keys to be sent.
    pub keys: Vec<KeyData>,
    /// Algorithms.
    pub protection: Protection,
    /// Ask for an R_MESSAGE.
    pub verification: bool,
}

impl IMessage {
    /// The message, and where a verification was asked for the state that waits for it.
    pub fn seal(&self, psk: &Psk) -> Result<(Vec<u8>, Option<ExpectVerification>), KeyError> {
        let identities = identities(self.initiator.as_ref(), self.responder.as_ref());
        let octets = self.seal_with(psk, identities, PayloadType::LAST)?;
        let expect = self.verification.then(|| ExpectVerification {
            psk: Secret::new(psk.key()),
            bundle: self.bundle(),
            t: Timestamp::NtpUtc(self.time.to_wire()),
            mac: self.protection.mac,
            parties: Parties { initiator: self.initiator.clone(), responder: self.responder.clone() },
        });
        Ok((octets, expect))
    }

    fn bundle(&self) -> Bundle {
        Bundle { csb_id: self.csb_id, rand: self.rand.clone(), prf: self.protection.prf }
    }

    /// All up to and including KEMAC's MAC. `identities` stand behind RAND; `next` is what KEMAC announces.
    pub(crate) fn seal_with(
        &self,
        psk: &Psk,
        identities: Vec<Payload>,
        next: PayloadType,
    ) -> Result<Vec<u8>, KeyError> {
        if self.rand.len() < 16 {
            return Err(KeyError::Length { what: "RAND", found: self.rand.len(), wanted: "16 to 255" });
        }
        let t = Timestamp::NtpUtc(self.time.to_wire());
        let bundle = self.bundle();
        let envelope = Envelope { psk: psk.key(), bundle: &bundle, t: t.to_u64() };
        let mut payloads = vec![Payload::T(t), Payload::Rand(self.rand.clone())];
        payloads.extend(identities);
        if let Some(Id { id_type, data }) = self.psk_name.clone() {
            payloads.push(Payload::Idr(Idr { role: IdRole::PSK, id_type, data }));
        }
        payloads.extend(self.policies.iter().cloned().map(Payload::Sp));
        payloads.extend(self.extensions.iter().cloned().map(Payload::GeneralExtension));
        let kemac_at = payloads.len();
        let Protection { encryption, mac, .. } = self.protection;
        payloads.push(Payload::Kemac(Kemac {
            encr_alg: encryption.encr_alg(),
            encr_data: envelope.encrypt(encryption, &self.keys)?,
            mac_alg: mac.mac_alg(),
            mac: vec![0; mac.length()],
        }));
        let header = Header {
            data_type: DataType::PRE_SHARED,
            verification: self.verification,
            prf: self.protection.prf.prf_func(),
            csb_id: self.csb_id,
            map: self.map.clone(),
        };
        let message = Message { header, payloads };
        let mut octets = message.encode()?;
        // The MAC covers "next payload" of KEMAC as transmitted.
        let (_, spans) = Message::decode_with_spans(&octets).map_err(|_| SELF_MADE)?;
        let start = spans.get(kemac_at).map(|s| s.start);
        *start.and_then(|at| octets.get_mut(at)).ok_or(SELF_MADE)? = next.0;
        octets.truncate(octets.len() - mac.length());
        let tag = envelope.mac(mac, &[&octets]);
        octets.extend_from_slice(&tag);
        Ok(octets)
    }
}

/// A message of our own making that does not read back; can't happen.
const SELF_MADE: KeyError = KeyError::Invalid { what: "message", problem: "does not read back" };

/// IDi and IDr as ID payloads, which are told apart by their order; IDr alone goes into an IDR with its role.
fn identities(initiator: Option<&Id>, responder: Option<&Id>) -> Vec<Payload> {
    match (initiator, responder) {
        (None, Some(Id { id_type, data })) => {
            vec![Payload::Idr(Idr { role: IdRole::RESPONDER, id_type: *id_type, data: data.clone() })]
        }
        (i, r) => i.into_iter().chain(r).cloned().map(Payload::Id).collect(),
    }
}

/// An I_MESSAGE that was accepted.
pub struct OpenedIMessage {
    /// All of the message, now authenticated by the pre-shared key.
    pub message: Message,
    /// The keys sent.
    pub keys: Vec<KeyData>,
    /// For deriving session keys from a TGK.
    pub bundle: Bundle,
    /// T.
    pub time: NtpTime,
    /// IDi.
    pub initiator: Option<Id>,
    /// IDr.
    pub responder: Option<Id>,
    /// Name of the pre-shared key.
    pub psk_name: Vec<u8>,
    /// Whether a later message of the same initiator was accepted before.
    pub standing: Standing,
    /// The R_MESSAGE, where one was asked for.
    pub response: Option<Vec<u8>>,
}

/// Opens an I_MESSAGE.
///
/// `responder` is our own identity: an IDr in the message must equal it, and it is used in the R_MESSAGE's MAC only
/// where the message has it. Errors leave the cache as it was.
pub fn open(
    octets: &[u8],
    psks: &PskSet,
    responder: Option<&[u8]>,
    cache: &mut ReplayCache,
    now: NtpTime,
) -> Result<OpenedIMessage, Reject> {
    let m = ClaimedMessage::decode(octets)?;
    m.expect(DataType::PRE_SHARED, I_MESSAGE)?;
    let (index, kemac) = m.required_last("KEMAC", pick_kemac)?;
    let covered = m.before_end_of(index, kemac.mac.len());
    let parties = Parties::claimed(&m)?;
    let psk = psks.claimed(&m, parties.initiator.as_ref().map(|id| id.data.as_slice()))?;
    let signer = [psk.name(), b"\0", data_of(&parties.initiator)].concat();
    let id = m.id(signer, covered)?;
    cache.check(&id, now)?;
    if let (Some(claimed), Some(own)) = (&parties.responder, responder)
        && claimed.data != own
    {
        return Err(Reject::WrongResponder);
    }
    let (t, _) = m.timestamp()?;
    let (bundle, keys) = open_kemac(&m, kemac, covered, psk, t)?;
    if keys.is_empty() {
        return Err(Reject::KeyData("no key"));
    }
    let standing = cache.accept(&id, now)?;
    let header = &m.claimed().header;
    let response = header
        .verification
        .then(|| respond(header, &bundle, psk, t, &parties, MacAlgorithm::try_from(kemac.mac_alg)?))
        .transpose()?;
    Ok(OpenedIMessage {
        message: m.claimed().clone(),
        keys,
        bundle,
        time: id.t,
        initiator: parties.initiator,
        responder: parties.responder,
        psk_name: psk.name().to_vec(),
        standing,
        response,
    })
}

pub(crate) fn pick_kemac(p: &Payload) -> Option<&Kemac> {
    match p {
        Payload::Kemac(k) => Some(k),
        _ => None,
    }
}

/// Algorithms, MAC, then decryption.
pub(crate) fn open_kemac(
    m: &ClaimedMessage,
    kemac: &Kemac,
    covered: &[u8],
    psk: &Psk,
    t: Timestamp,
) -> Result<(Bundle, Vec<KeyData>), Reject> {
    let (bundle, encryption) = verify_kemac(m, kemac, covered, psk, t)?;
    let envelope = Envelope { psk: psk.key(), bundle: &bundle, t: t.to_u64() };
    let keys = envelope.decrypt(encryption, &kemac.encr_data)?;
    Ok((bundle, keys))
}

/// Algorithms and MAC.
pub(crate) fn verify_kemac(
    m: &ClaimedMessage,
    kemac: &Kemac,
    covered: &[u8],
    psk: &Psk,
    t: Timestamp,
) -> Result<(Bundle, Encryption), Reject> {
    let header = &m.claimed().header;
    let prf = Prf::try_from(header.prf)?;
    let encryption = Encryption::try_from(kemac.encr_alg)?;
    let mac = MacAlgorithm::try_from(kemac.mac_alg)?;
    let bundle = Bundle { csb_id: header.csb_id, rand: m.rand()?.to_vec(), prf };
    let envelope = Envelope { psk: psk.key(), bundle: &bundle, t: t.to_u64() };
    envelope.verify_mac(mac, &[covered], &kemac.mac)?;
    Ok((bundle, encryption))
}

/// IDi and IDr of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parties {
    initiator: Option<Id>,
    responder: Option<Id>,
}

impl Parties {
    /// By role, else the first and second ID.
    fn claimed(m: &ClaimedMessage) -> Result<Self, Reject> {
        let mut ids = m.claimed().payloads.iter().filter_map(|p| match p {
            Payload::Id(id) => Some(id.clone()),
            _ => None,
        });
        let (first, second) = (ids.next(), ids.next());
        if ids.next().is_some() {
            return Err(Reject::Duplicate("ID"));
        }
        Ok(Self {
            initiator: by_role(m, IdRole::INITIATOR)?.or(first),
            responder: by_role(m, IdRole::RESPONDER)?.or(second),
        })
    }
}

fn by_role(m: &ClaimedMessage, role: IdRole) -> Result<Option<Id>, Reject> {
    Ok(m.idr(role)?.map(|idr| Id { id_type: idr.id_type, data: idr.data.clone() }))
}

fn data_of(id: &Option<Id>) -> &[u8] {
    id.as_ref().map_or(&[], |id| &id.data)
}

/// R_MESSAGE: HDR, T, [IDr], V. The MAC covers the message before it, then the contents of IDi, IDr and T.
/// Source: RFC 3830 3.1, 5.2.
fn respond(
    request: &Header,
    bundle: &Bundle,
    psk: &Psk,
    t: Timestamp,
    parties: &Parties,
    mac: MacAlgorithm,
) -> Result<Vec<u8>, Reject> {
    let header = Header { data_type: DataType::PSK_VERIFICATION, verification: false, ..request.clone() };
    let mut payloads = vec![Payload::T(t)];
    payloads.extend(parties.responder.clone().map(Payload::Id));
    payloads.push(Payload::V(Verification { auth_alg: mac.mac_alg(), mac: vec![0; mac.length()] }));
    let message = Message { header, payloads };
    // Parts of a message that was decoded encode.
    let mut octets = message.encode().map_err(|_| Reject::NotAllowed("header that can't be repeated"))?;
    octets.truncate(octets.len() - mac.length());
    let envelope = Envelope { psk: psk.key(), bundle, t: t.to_u64() };
    let tag = envelope.mac(mac, &response_cover(&octets, parties, &t.value_octets()));
    octets.extend_from_slice(&tag);
    Ok(octets)
}

/// What the MAC of V covers; absent identities contribute nothing.
fn response_cover<'a>(octets: &'a [u8], parties: &'a Parties, t: &'a [u8]) -> [&'a [u8]; 4] {
    [octets, data_of(&parties.initiator), data_of(&parties.responder), t]
}

/// The initiator waits for the R_MESSAGE of one I_MESSAGE.
pub struct ExpectVerification {
    psk: Secret,
    bundle: Bundle,
    t: Timestamp,
    mac: MacAlgorithm,
    parties: Parties,
}

impl ExpectVerification {
    /// Checks an R_MESSAGE. An error, an error message included (which is not authenticated), leaves the state: a
    /// right answer may still come.
    pub fn verify(&self, octets: &[u8]) -> Result<(), Reject> {
        let m = ClaimedMessage::decode(octets)?;
        if m.claimed().header.data_type == DataType::ERROR {
            return Err(Reject::PeerError(ErrorMessage::decode(octets)?.first().0));
        }
        m.expect(DataType::PSK_VERIFICATION, R_MESSAGE)?;
        let (index, v) = m.required_last("V", |p| match p {
            Payload::V(v) => Some(v),
            _ => None,
        })?;
        let header = &m.claimed().header;
        if header.csb_id != self.bundle.csb_id {
            return Err(Reject::ResponseMismatch("CSB ID"));
        }
        if header.prf != self.bundle.prf.prf_func() {
            return Err(Reject::Prf(header.prf.0));
        }
        if m.timestamp()?.0 != self.t {
            return Err(Reject::ResponseMismatch("T"));
        }
        if v.auth_alg != self.mac.mac_alg() {
            return Err(Reject::MacAlgorithm(v.auth_alg.0));
        }
        // An ID payload of an R_MESSAGE is IDr.
        let id = m.optional("ID", |p| match p {
            Payload::Id(id) => Some(id.clone()),
            _ => None,
        })?;
        let responder = by_role(&m, IdRole::RESPONDER)?.or(id.map(|(_, id)| id));
        if responder.is_some() && responder != self.parties.responder {
            return Err(Reject::WrongResponder);
        }
        let octets = m.before_end_of(index, v.mac.len());
        let t = self.t.value_octets();
        let envelope = Envelope { psk: self.psk.expose(), bundle: &self.bundle, t: self.t.to_u64() };
        let covered = response_cover(octets, &self.parties, &t);
        envelope.verify_mac(self.mac, &covered, &v.mac)
    }
}

/// An error message without authentication: HDR, T, {ERR}. It informs people; no state may follow from it.
/// Source: RFC 3830 5.1.2, 6.12.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// HDR's PRF, CSB ID and map are those of the refused message.
    pub header: Header,
    /// T of the refused message.
    pub timestamp: Timestamp,
    /// What went wrong, at least one.
    pub errors: Vec<ErrorNo>,
}

impl ErrorMessage {
    /// Answers a message that was refused; `None` where it can't be answered, as it has no T, or is an error message
    /// itself.
    pub fn answer(octets: &[u8], reason: &Reject) -> Option<Self> {
        let m = ClaimedMessage::decode(octets).ok()?;
        let header = m.claimed().header.clone();
        if header.data_type == DataType::ERROR {
            return None;
        }
        let (timestamp, _) = m.timestamp().ok()?;
        let header = Header { data_type: DataType::ERROR, verification: false, ..header };
        Some(Self { header, timestamp, errors: vec![reason.error_no()] })
    }

    /// Reads one.
    pub fn decode(octets: &[u8]) -> Result<Self, Reject> {
        let m = ClaimedMessage::decode(octets)?;
        m.expect(
            DataType::ERROR,
            &[PayloadType::T, PayloadType::ERR, PayloadType::SP, PayloadType::V, PayloadType::SIGN],
        )?;
        let errors: Vec<_> = m
            .claimed()
            .payloads
            .iter()
            .filter_map(|p| match p {
                Payload::Err(e) => Some(e.error_no),
                _ => None,
            })
            .collect();
        if errors.is_empty() {
            return Err(Reject::Missing("ERR"));
        }
        Ok(Self { header: m.claimed().header.clone(), timestamp: m.timestamp()?.0, errors })
    }

    /// The octets.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let errors = self.errors.iter().map(|e| Payload::Err(ErrorPayload { error_no: *e, reserved: 0 }));
        let payloads = core::iter::once(Payload::T(self.timestamp)).chain(errors).collect();
        Message { header: self.header.clone(), payloads }.encode()
    }

    fn first(&self) -> ErrorNo {
        self.errors.first().copied().unwrap_or(ErrorNo::UNSPECIFIED)
    }
}

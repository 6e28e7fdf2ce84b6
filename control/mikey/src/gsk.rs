//! GSK message: a group session key in pre-shared-key mode under a GMK, with the speaker's ECCSI signature.
//!
//! ```text
//! HDR, T, RAND, IDR(initiator: speaker), IDR(PSK: GMK-ID), KEMAC { GSK, named by an SPI }, SIGN        one way
//! ```
//!
//! No standard combines the two, so the layout is this project's decision; `docs/mikey.md` gives an example octet by
//! octet. KEMAC's "next payload" is SIGN as transmitted, and its MAC covers it so; the signature covers everything
//! before it, the MAC and SIGN's header included.
//!
//! The MAC proves membership only, since all members hold the GMK; it keeps strangers from causing point
//! multiplications. *Who* speaks is proved by the signature, which must be that of the claimed speaker.

use rand_core::CryptoRng;

use crate::{
    KeyError, NtpTime, Protection, Reject, ReplayCache, Secret, Standing,
    claimed::ClaimedMessage,
    codec::{
        CsIdMap, DataType, Id, IdRole, IdType, Idr, KeyData, KeyType, KeyValidity, Payload, PayloadType,
    },
    identifier::Identifier,
    kemac::Envelope,
    keys::{Bundle, KeyId},
    policy::{self, Checked, ExpectedSigner, Kms, SignerKind, SigningIdentity, TrustedKms},
    psk::{self, IMessage, Psk, PskSet},
};

/// Payloads of a GSK message.
const ALLOWED: &[PayloadType] = &[
    PayloadType::T,
    PayloadType::RAND,
    PayloadType::IDR,
    PayloadType::SP,
    PayloadType::GENERAL_EXTENSION,
    PayloadType::KEMAC,
    PayloadType::SIGN,
];

/// A GMK as pre-shared key: 16 or more octets, named by the 4 octets of its GMK-ID.
pub fn gmk_as_psk(gmk_id: KeyId, gmk: &[u8]) -> Result<Psk, KeyError> {
    Psk::new(&gmk_id.0.to_be_bytes(), gmk)
}

/// What a speaker puts into a GSK message.
pub struct GskMessage<'a> {
    /// Random for each speaker, so that two speakers under one GMK don't meet in an IV.
    pub csb_id: u32,
    /// Now.
    pub time: NtpTime,
    /// 16 random octets, fresh for each message.
    pub rand: Vec<u8>,
    /// The GSK; 16 octets, or 32 where it becomes a key of that size.
    pub gsk: &'a Secret,
    /// Names the GSK.
    pub gsk_id: &'a [u8],
    /// The GSK is used as it is ([`KeyType::TEK`]), or keys are derived from it ([`KeyType::TGK`]).
    pub key_type: KeyType,
    /// Algorithms; [`Protection::SHA_256`] unless a peer forces another.
    pub protection: Protection,
}

impl GskMessage<'_> {
    /// The message. `kms` is the speaker's; `rng` hedges the signature.
    pub fn seal<R: CryptoRng + ?Sized>(
        &self,
        gmk: &Psk,
        speaker: &SigningIdentity,
        kms: &Kms,
        rng: &mut R,
    ) -> Result<Vec<u8>, KeyError> {
        let (_, key) = speaker.at(kms, self.time)?;
        if ![KeyType::TEK, KeyType::TGK].contains(&self.key_type) {
            return Err(KeyError::Invalid { what: "GSK", problem: "is neither a TEK nor a TGK" });
        }
        let message = IMessage {
            csb_id: self.csb_id,
            map: CsIdMap::Empty { sessions: 0 },
            time: self.time,
            rand: self.rand.clone(),
            initiator: None,
            responder: None,
            psk_name: Some(Id { id_type: IdType::OCTETS, data: gmk.name().to_vec() }),
            policies: Vec::new(),
            extensions: Vec::new(),
            keys: vec![KeyData {
                key_type: self.key_type,
                key: Secret::new(self.gsk.expose()),
                salt: None,
                validity: KeyValidity::Spi(self.gsk_id.to_vec()),
            }],
            protection: self.protection,
            verification: false,
        };
        let data = speaker.uri().as_bytes().to_vec();
        let idr = Payload::Idr(Idr { role: IdRole::INITIATOR, id_type: IdType::URI, data });
        let mut octets = message.seal_with(gmk, vec![idr], PayloadType::SIGN)?;
        policy::append_sign(&mut octets, key, rng);
        Ok(octets)
    }
}

/// A GSK that was accepted.
pub struct OpenedGsk {
    /// The GSK.
    pub gsk: Secret,
    /// Its name.
    pub gsk_id: Vec<u8>,
    /// TEK or TGK.
    pub key_type: KeyType,
    /// Name of the GMK.
    pub gmk_id: Vec<u8>,
    /// URI of the speaker, verified.
    pub speaker: String,
    /// What the signature verified under.
    pub identifier: Identifier,
    /// For deriving session keys, where the GSK is a TGK.
    pub bundle: Bundle,
    /// T.
    pub time: NtpTime,
    /// Whether a later message of this speaker was accepted before.
    pub standing: Standing,
}

/// Opens a GSK message: T and replay, GMK, MAC, signature, decryption; only then the cache is told.
///
/// For late entry the speaker repeats the same octets: a receiver that has the key gets
/// [`Reject::Replay`] with `identical` set and does nothing; one that joins accepts the repeat as long as the cache's
/// window reaches back over a talk ([`crate::Window::late_entry`]).
pub fn open(
    octets: &[u8],
    gmks: &PskSet,
    speaker: &ExpectedSigner,
    trusted: &TrustedKms,
    cache: &mut ReplayCache,
    now: NtpTime,
) -> Result<OpenedGsk, Reject> {
    let m = ClaimedMessage::decode(octets)?;
    let checked = check(&m, speaker, trusted, cache, now)?;
    let (index, kemac) = m.required("KEMAC", psk::pick_kemac)?;
    if index + 2 != m.claimed().payloads.len() {
        return Err(Reject::NotAllowed("a payload between KEMAC and SIGN"));
    }
    let gmk_id = m.idr(IdRole::PSK)?.ok_or(Reject::Missing("IDRpsk"))?;
    let gmk = gmks.get(&gmk_id.data).ok_or_else(|| Reject::UnknownPsk(crate::hex(&gmk_id.data)))?;
    let (t, _) = m.timestamp()?;
    let covered = m.before_end_of(index, kemac.mac.len());
    let (bundle, encryption) = psk::verify_kemac(&m, kemac, covered, gmk, t)?;
    checked.verify(&m)?;
    let envelope = Envelope { psk: gmk.key(), bundle: &bundle, t: t.to_u64() };
    let mut keys = envelope.decrypt(encryption, &kemac.encr_data)?;
    let (Some(key), true) = (keys.pop(), keys.is_empty()) else {
        return Err(Reject::KeyData("not exactly one key"));
    };
    let KeyValidity::Spi(gsk_id) = key.validity else {
        return Err(Reject::KeyData("GSK without a name"));
    };
    if ![KeyType::TEK, KeyType::TGK].contains(&key.key_type) {
        return Err(Reject::KeyData("neither a TEK nor a TGK"));
    }
    let standing = cache.accept(&checked.id, now)?;
    Ok(OpenedGsk {
        gsk: key.key,
        gsk_id,
        key_type: key.key_type,
        gmk_id: gmk.name().to_vec(),
        speaker: speaker.uri().to_owned(),
        identifier: checked.identifier,
        bundle,
        time: checked.id.t,
        standing,
    })
}

/// Checks the signature alone, for whoever does not hold the GMK: time, replay, speaker and signature. The cache is
/// not told, so that the message can still be opened.
pub fn verify(
    octets: &[u8],
    speaker: &ExpectedSigner,
    trusted: &TrustedKms,
    cache: &ReplayCache,
    now: NtpTime,
) -> Result<Identifier, Reject> {
    let m = ClaimedMessage::decode(octets)?;
    let checked = check(&m, speaker, trusted, cache, now)?;
    checked.verify(&m)?;
    Ok(checked.identifier)
}

fn check<'a>(
    m: &ClaimedMessage,
    speaker: &ExpectedSigner,
    trusted: &'a TrustedKms,
    cache: &ReplayCache,
    now: NtpTime,
) -> Result<Checked<'a>, Reject> {
    m.expect(DataType::PRE_SHARED, ALLOWED)?;
    if speaker.kind() != SignerKind::Speaker {
        return Err(Reject::SignerNotAllowed { purpose: 0 });
    }
    policy::check(m, speaker, trusted, cache, now)
}

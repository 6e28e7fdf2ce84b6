//! The owner's side of the join.

use std::time::Duration;

use bytes::Bytes;
use p256::SecretKey;
use p256::elliptic_curve::Generate;
use pc5_dataplane::ids::KdSessId;
use pc5_dataplane::suite::Suite;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Agreed, Refused};
use crate::clock::Now;
use crate::codec::entry::{JoinKeys, OwnerProof, decode_signed_credential};
use crate::codec::go::{HpkeSealed, JoinChallenge, JoinRequest, Message, Rejection};
use crate::codec::{Body, DecodeError, segment};
use crate::credential::key::{SignRole, diffie_hellman, verify};
use crate::credential::{CrlHeld, Leaf, Role};
use crate::group_owner::Device;
use crate::group_owner::schedule::{Bind, Handshake, Transcript, hash, hpke_context, keys_info};
use crate::hpke;
use crate::reject::Reject;

/// Message 2 is out; who asked has not shown anything yet.
pub(crate) struct ExpectAuthenticate {
    pub bind: Bind,
    /// Message 2, for repeats of message 1.
    pub answer: Vec<Bytes>,
    pub id: KdSessId,
    suite: Suite,
    handshake: Handshake,
    /// T2 || sig_o so far.
    transcript: Transcript,
    nonce_1: [u8; 16],
    nonce_2: [u8; 16],
}

/// Message 3 opened and its certificate is good; the signature is not verified yet.
pub(crate) struct Shown {
    pub leaf: Leaf,
    pub chain: Vec<Vec<u8>>,
    pub crls_held: Vec<CrlHeld>,
    transcript: Transcript,
    signature: [u8; 64],
}

impl ExpectAuthenticate {
    /// Answers message 1 with message 2: one key pair, one key agreement, one signature.
    #[expect(clippy::too_many_arguments, reason = "everything that the answer binds")]
    pub(crate) fn answer<R: CryptoRng + ?Sized>(
        bind: Bind,
        canonical: &[u8],
        m: &JoinRequest,
        suite: Suite,
        lsb: u8,
        device: &Device,
        seq: u16,
        sdu: usize,
        now: Now,
        rng: &mut R,
    ) -> Result<Self, Refused> {
        let internal = |e: DecodeError| Refused::new(Reject::Busy, e);
        let id = KdSessId::from_halves(m.msb, lsb).ok_or(Reject::Protocol)?;
        let mut nonce_2 = [0; 16];
        rng.fill_bytes(&mut nonce_2);
        let e_o = SecretKey::generate_from_rng(rng);
        let mut challenge = JoinChallenge { nonce_2, lsb, suite, e_o: e_o.public_key(), sealed: Vec::new() };
        let clear = Message { seq, body: Body::JoinChallenge(challenge) }.encode().map_err(internal)?;
        let mut transcript = Transcript::begin(&bind, canonical, &clear);
        let handshake = Handshake::new(&transcript.hash(), &diffie_hellman(&e_o, &m.e_m));

        let proof = OwnerProof { time: now.key_seconds(), credential: device.credential() };
        let mut part = proof.encode().map_err(internal)?;
        transcript.add(&part);
        let signature = device
            .key
            .sign(SignRole::Owner, &transcript.hash())
            .map_err(|e| Refused::new(Reject::Busy, e))?;
        transcript.add(&signature);
        part.extend_from_slice(&signature);
        let sealed = handshake.owner_wrap().seal(&part).ok_or(Reject::Busy)?;
        challenge = JoinChallenge { nonce_2, lsb, suite, e_o: e_o.public_key(), sealed };
        let whole = Message { seq, body: Body::JoinChallenge(challenge) }.encode().map_err(internal)?;
        let answer = segment::segment(&whole, sdu).map_err(internal)?;
        let nonce_1 = m.nonce_1;
        Ok(Self { bind, answer, id, suite, handshake, transcript, nonce_1, nonce_2 })
    }

    /// Message 3 up to the certificate: opens, chain, PLMN, validity, CRL, role, group. `None` when it does not open
    /// here: it may be another handshake's.
    pub(crate) fn open(&self, sealed: &[u8], device: &Device, now: Now) -> Option<Result<Shown, Refused>> {
        let opened = self.handshake.member_wrap().open(sealed)?;
        Some(self.read(&opened, device, now))
    }

    fn read(&self, opened: &Zeroizing<Vec<u8>>, device: &Device, now: Now) -> Result<Shown, Refused> {
        let (credential, length, signature) =
            decode_signed_credential(opened).map_err(|e| Refused::new(Reject::Protocol, e))?;
        let leaf = device.judge(&credential.chain, Role::Member, self.bind.group, now)?;
        let mut transcript = self.transcript.clone();
        transcript.add(opened.get(..length).unwrap_or_default());
        Ok(Shown { leaf, chain: credential.chain, crls_held: credential.crls_held, transcript, signature })
    }

    /// The signature comes last.
    pub(crate) fn verify(&self, shown: &Shown) -> Result<(), Refused> {
        if verify(&shown.leaf.public_key, SignRole::Member, &shown.transcript.hash(), &shown.signature) {
            Ok(())
        } else {
            Err(Refused::new(Reject::NotAuthentic, "signature of the member"))
        }
    }

    /// Message 4: seals the keys to the certificate key and computes the link.
    pub(crate) fn accept<R: CryptoRng + ?Sized>(
        &self,
        shown: &Shown,
        keys: &JoinKeys,
        seq: u16,
        sdu: usize,
        rng: &mut R,
    ) -> Result<Accepted, Refused> {
        let internal = |e: DecodeError| Refused::new(Reject::Busy, e);
        let mut transcript = shown.transcript.clone();
        transcript.add(&shown.signature);
        let h4 = transcript.hash();
        let (info, psk) = (keys_info(&h4), self.handshake.psk(&h4));
        let plaintext = keys.encode().map_err(internal)?;
        let sealed = hpke::seal(&shown.leaf.public_key, hpke_context(&info, &psk), &plaintext, rng)
            .map_err(|e| Refused::new(Reject::Busy, e))?;
        let body = Body::JoinAccept(HpkeSealed { enc: sealed.enc, ciphertext: sealed.ciphertext });
        let canonical = Message { seq, body }.encode().map_err(internal)?;
        let h5 = hash(&[&h4, &canonical]);
        let joined = self.handshake.link(&h4, &h5, &keys.s_u, self.bind.group);
        let agreed = Agreed::new(joined, self.id, self.suite, &self.nonce_1, &self.nonce_2);
        Ok(Accepted { answer: segment::segment(&canonical, sdu).map_err(internal)?, agreed })
    }

    /// A refusal that only the member of this handshake can take for ours.
    pub(crate) fn tagged(&self, cause: Reject) -> Rejection {
        let tag = self.handshake.reject_tag(&self.nonce_1, cause.cause());
        Rejection { nonce_1: self.nonce_1, cause: cause.cause(), tag: Some(tag) }
    }

    /// Whether the member itself gives up.
    pub(crate) fn refused_by_member(&self, m: &Rejection) -> bool {
        let tag = self.handshake.reject_tag(&self.nonce_1, m.cause);
        m.nonce_1 == self.nonce_1 && m.tag.is_some_and(|t| bool::from(t.ct_eq(&tag)))
    }
}

/// Message 4 and the link that it makes.
pub(crate) struct Accepted {
    pub answer: Vec<Bytes>,
    pub agreed: Agreed,
}

/// Message 4 is out; the link's context is pending.
pub(crate) struct ExpectComplete {
    /// Hash of message 3 as it came, and message 4 for repeats of it.
    pub authenticated: [u8; 32],
    pub answer: Vec<Bytes>,
    pub agreed: Agreed,
    pub leaf: Leaf,
    pub crls_held: Vec<CrlHeld>,
    /// Epochs given.
    pub first_epoch: u64,
    pub newest_epoch: u64,
}

impl ExpectComplete {
    /// Message 5.
    pub(crate) fn completes(&self, finished_m: &[u8; 32]) -> bool {
        finished_m.ct_eq(&*self.agreed.finished_m).into()
    }
}

/// How long a half-open join lives.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

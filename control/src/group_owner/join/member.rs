//! The member's side of the join.

use std::time::Duration;

use p256::SecretKey;
use p256::elliptic_curve::Generate;
use pc5_dataplane::ids::{KdSessId, Lcid};
use pc5_dataplane::suite::Suite;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Agreed, Refused};
use crate::clock::Now;
use crate::codec::entry::{JoinKeys, OwnerProof, credential_into};
use crate::codec::go::{HpkeSealed, JoinChallenge, JoinRequest, JoinRetry, Message, Rejection};
use crate::codec::{Body, DecodeError, HEADER, segment};
use crate::credential::key::{SignRole, diffie_hellman, verify};
use crate::credential::{CrlHeld, Leaf, Role};
use crate::group_owner::Device;
use crate::group_owner::repeat::{Repeat, T4100};
use crate::group_owner::schedule::{Bind, Handshake, Transcript, hash, hpke_context, keys_info};
use crate::hpke;
use crate::policy::MemberPolicy;
use crate::reject::Reject;

/// Message 1 is out.
pub(crate) struct ExpectChallenge {
    pub bind: Bind,
    pub repeat: Repeat,
    request: Zeroizing<Vec<u8>>,
    nonce_1: [u8; 16],
    msb: u8,
    e_m: SecretKey,
    suites: Vec<u8>,
    /// Each challenge looked at costs a key agreement.
    budget: Budget,
    retries: u8,
}

impl ExpectChallenge {
    pub(crate) fn start<R: CryptoRng + ?Sized>(
        bind: Bind,
        policy: &MemberPolicy,
        msb: u8,
        seq: u16,
        now: Duration,
        rng: &mut R,
    ) -> Result<Self, DecodeError> {
        let mut nonce_1 = [0; 16];
        rng.fill_bytes(&mut nonce_1);
        let mut state = Self {
            bind,
            repeat: Repeat::new(Vec::new(), Lcid::CLEAR, None, T4100, now),
            request: Zeroizing::default(),
            nonce_1,
            msb,
            e_m: SecretKey::generate_from_rng(rng),
            suites: policy.offer(),
            budget: Budget::default(),
            retries: RETRIES,
        };
        state.request(None, seq, policy.sdu, now)?;
        Ok(state)
    }

    fn request(
        &mut self,
        cookie: Option<[u8; 16]>,
        seq: u16,
        sdu: usize,
        now: Duration,
    ) -> Result<(), DecodeError> {
        let body = Body::JoinRequest(JoinRequest {
            group: self.bind.group,
            nonce_1: self.nonce_1,
            msb: self.msb,
            e_m: self.e_m.public_key(),
            suites: self.suites.clone(),
            cookie,
        });
        self.request = Message { seq, body }.encode()?;
        self.repeat = Repeat::new(segment::segment(&self.request, sdu)?, Lcid::CLEAR, None, T4100, now);
        Ok(())
    }

    /// Message 1 again, with the cookie. Anybody may have sent it, so few are followed.
    pub(crate) fn on_retry(&mut self, m: &JoinRetry, seq: u16, sdu: usize, now: Duration) -> bool {
        if m.nonce_1 != self.nonce_1 || self.retries == 0 {
            return false;
        }
        self.retries -= 1;
        self.request(Some(m.cookie), seq, sdu, now).is_ok()
    }

    /// Whether an untagged refusal is about this attempt.
    pub(crate) fn concerns(&self, m: &Rejection) -> bool {
        m.nonce_1 == self.nonce_1
    }

    /// Message 2: the owner proves itself first, only then our certificate is shown.
    pub(crate) fn on_challenge(
        &mut self,
        canonical: &[u8],
        m: &JoinChallenge,
        device: &Device,
        policy: &MemberPolicy,
        seq: u16,
        now: Now,
    ) -> Result<ExpectAccept, ChallengeError> {
        if !self.budget.take(now.monotonic) {
            return Err(ChallengeError::Forged);
        }
        let clear = canonical.get(..JoinChallenge::CLEAR).ok_or(ChallengeError::Forged)?;
        let id = KdSessId::from_halves(self.msb, m.lsb).ok_or(ChallengeError::Forged)?;
        let mut transcript = Transcript::begin(&self.bind, &self.request, clear);
        let handshake = Handshake::new(&transcript.hash(), &diffie_hellman(&self.e_m, &m.e_o));
        let opened = handshake.owner_wrap().open(&m.sealed).ok_or(ChallengeError::Forged)?;

        let refused = |refused: Refused| {
            let tag = handshake.reject_tag(&self.nonce_1, refused.cause.cause());
            let rejection = Rejection { nonce_1: self.nonce_1, cause: refused.cause.cause(), tag: Some(tag) };
            ChallengeError::Refused { refused, rejection }
        };
        let form = |e: DecodeError| refused(Refused::new(Reject::Protocol, e));
        let (proof, p2_len, sig_o) = OwnerProof::decode_signed(&opened).map_err(form)?;
        let leaf = device
            .judge(&proof.credential.chain, Role::Owner, self.bind.group, now)
            .map_err(|r| refused(r.into()))?;
        if policy.owner_identity.as_ref().is_some_and(|wanted| *wanted != leaf.identity) {
            let detail = format!("{} answered, not the owner that was asked for", leaf.identity);
            return Err(refused(Refused::new(Reject::NotAdmitted, detail)));
        }
        transcript.add(opened.get(..p2_len).unwrap_or_default());
        if !verify(&leaf.public_key, SignRole::Owner, &transcript.hash(), &sig_o) {
            return Err(refused(Refused::new(Reject::NotAuthentic, "signature of the owner")));
        }
        if !self.suites.contains(&m.suite.code()) {
            return Err(refused(Refused::new(Reject::SuiteBelowPolicy, "a suite that was not offered")));
        }
        policy.allows_link(m.suite).map_err(|r| refused(r.into()))?;

        let mut sealed_part = Vec::with_capacity(1_024);
        credential_into(&device.credential(), &mut sealed_part).map_err(form)?;
        transcript.add(&sig_o);
        transcript.add(&sealed_part);
        let sig_m = device
            .key
            .sign(SignRole::Member, &transcript.hash())
            .map_err(|e| refused(Refused::new(Reject::Busy, e)))?;
        transcript.add(&sig_m);
        sealed_part.extend_from_slice(&sig_m);
        let sealed = handshake.member_wrap().seal(&sealed_part).ok_or(ChallengeError::Forged)?;
        let message = Message { seq, body: Body::JoinAuthenticate(sealed) };
        let sdus =
            message.encode().and_then(|canonical| segment::segment(&canonical, policy.sdu)).map_err(form)?;
        Ok(ExpectAccept {
            bind: self.bind,
            repeat: Repeat::new(sdus, Lcid::CLEAR, None, T4100, now.monotonic),
            handshake,
            h4: transcript.hash(),
            nonce_1: self.nonce_1,
            nonce_2: m.nonce_2,
            id,
            suite: m.suite,
            suites: self.suites.clone(),
            owner: leaf,
            owner_chain: proof.credential.chain,
            owner_crls: proof.credential.crls_held,
            owner_time: proof.time,
            budget: Budget::default(),
        })
    }
}

/// Whoever hears message 1 can send messages 2 and 4, so what they cost is bounded; by the second and not by the attempt,
/// so that a burst of forged ones does not end it.
#[derive(Default)]
struct Budget {
    spent: u8,
    since: Duration,
}

impl Budget {
    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            *self = Self { spent: 0, since: now };
        }
        let left = self.spent < LOOKS_A_SECOND;
        self.spent += u8::from(left);
        left
    }
}

/// Message 2 led nowhere; the state is as it was.
pub(crate) enum ChallengeError {
    /// It does not open: altered, or of somebody who has not seen message 1.
    Forged,
    /// It opens, and is refused. Whoever sent it may be told.
    Refused { refused: Refused, rejection: Rejection },
}

/// Message 3 is out.
pub(crate) struct ExpectAccept {
    pub bind: Bind,
    pub repeat: Repeat,
    handshake: Handshake,
    h4: [u8; 32],
    nonce_1: [u8; 16],
    nonce_2: [u8; 16],
    id: KdSessId,
    suite: Suite,
    suites: Vec<u8>,
    pub owner: Leaf,
    pub owner_chain: Vec<Vec<u8>>,
    pub owner_crls: Vec<CrlHeld>,
    pub owner_time: u64,
    budget: Budget,
}

impl ExpectAccept {
    /// Whether an untagged refusal is about this attempt.
    pub(crate) fn concerns(&self, m: &Rejection) -> bool {
        m.nonce_1 == self.nonce_1
    }

    /// Whether a refusal is the owner's own: then the attempt is over.
    pub(crate) fn refused_by_owner(&self, m: &Rejection) -> bool {
        let tag = self.handshake.reject_tag(&self.nonce_1, m.cause);
        m.nonce_1 == self.nonce_1 && m.tag.is_some_and(|t| bool::from(t.ct_eq(&tag)))
    }

    /// Message 4: the keys.
    pub(crate) fn on_accept(
        &mut self,
        canonical: &[u8],
        m: &HpkeSealed,
        device: &Device,
        policy: &MemberPolicy,
        now: Duration,
    ) -> Result<(Agreed, JoinKeys), Refused> {
        if !self.budget.take(now) {
            return Err(Reject::Busy.into());
        }
        let info = keys_info(&self.h4);
        let psk = self.handshake.psk(&self.h4);
        let opened = hpke::open(&*device.key, hpke_context(&info, &psk), &m.enc, &m.ciphertext)
            .map_err(|e| Refused::new(Reject::NotAuthentic, e))?;
        let keys = JoinKeys::decode(&opened).map_err(|e| Refused::new(Reject::Protocol, e))?;
        for entry in &keys.entries {
            if !self.suites.contains(&entry.suite.code()) {
                return Err(Refused::new(
                    Reject::SuiteBelowPolicy,
                    "group key of a suite that was not offered",
                ));
            }
            policy.allows_group(entry.suite)?;
        }
        let h5 = hash(&[&self.h4, canonical]);
        let joined = self.handshake.link(&self.h4, &h5, &keys.s_u, self.bind.group);
        Ok((Agreed::new(joined, self.id, self.suite, &self.nonce_1, &self.nonce_2), keys))
    }
}

/// Message 5 is out, under the new KD-sess.
pub(crate) struct ExpectConfirm {
    pub bind: Bind,
    pub repeat: Repeat,
    pub agreed: Agreed,
    pub owner: Leaf,
    pub owner_crls: Vec<CrlHeld>,
    /// Newest epoch that message 4 gave.
    pub newest_epoch: u64,
    pub kd_lifetime: Duration,
    pub keepalive_period: Duration,
}

impl ExpectConfirm {
    /// Message 5 for what message 4 brought.
    pub(crate) fn start(
        state: ExpectAccept,
        agreed: Agreed,
        keys: &JoinKeys,
        seq: u16,
        sdu: usize,
        now: Duration,
    ) -> Result<Self, DecodeError> {
        let message = Message { seq, body: Body::JoinComplete(*agreed.finished_m) };
        let sdus = segment::segment(&message.encode()?, sdu)?;
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, Some(agreed.id), T4100, now);
        let ExpectAccept { bind, owner, owner_crls, .. } = state;
        let kd_lifetime = Duration::from_secs(keys.kd_lifetime.into());
        let keepalive_period = Duration::from_secs(u64::from(keys.keepalive_period).max(1));
        let newest_epoch = keys.entries.iter().map(|e| e.epoch).max().unwrap_or(0);
        Ok(Self { bind, repeat, agreed, owner, owner_crls, newest_epoch, kd_lifetime, keepalive_period })
    }

    /// Message 6.
    pub(crate) fn confirms(&self, finished_o: &[u8; 32]) -> bool {
        finished_o.ct_eq(&*self.agreed.finished_o).into()
    }
}

/// Octets of type, seq and C2 are where [`JoinChallenge::CLEAR`] says.
const _: () = assert!(JoinChallenge::CLEAR == HEADER + 83);
/// Messages 2 or 4 looked at a second.
const LOOKS_A_SECOND: u8 = 100;
/// JOIN_RETRY followed in one attempt.
const RETRIES: u8 = 3;

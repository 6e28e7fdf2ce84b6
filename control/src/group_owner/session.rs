//! Decentralised mode: the initiating member makes, authenticates and distributes the session key. Source: `go-mode.md`
//! section 9; key issue 3.4 (5.3.4.1, 5.3.4.2).
//!
//! ```text
//!   talker                                                  every other member of the group
//!   SESSION_KEY (clear, group address, 3 times, then each second)  ->  GK opens it, the signature says whose it is
//!   user data one-to-many under the session's PGK                  ->  opens for this sender only
//!                              <-  SESSION_KEY_REQUEST: who has a session, send its key (late entry)
//! ```
//! The group pre-shared key GK proves membership and nothing else is ever done with it. There is no forward secrecy: who
//! gets GK reads what was recorded.

mod talkers;

use std::collections::BTreeMap;
use std::time::Duration;

use pc5_dataplane::ids::{GroupId, Layer2Id, Lcid, PgkId, PtkId};
use pc5_dataplane::keys::{Command, Event, Floor, GroupKey, PermittedSender, Signalling, UnixSeconds};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::schedule::{Secret, SessionContext, hash, session_bind, session_pgk, session_wrap};
use super::{Device, Input, Notice, Output, Queue};
use crate::clock::{Now, earlier};
use crate::codec::Body;
use crate::codec::entry::SessionProof;
use crate::codec::entry::limits::GRANT;
use crate::codec::go::{Message, SessionKey};
use crate::codec::segment::{Part, Reassembly, segment};
use crate::credential::key::SignRole;
use crate::credential::{Identity, Leaf, Role, Standing};
use crate::policy::SessionPolicy;
use crate::reject::Reject;
use crate::store::Store;

/// Group pre-shared key: provisioned, short-lived, used for sessions only.
pub struct GroupPsk {
    /// Names it on the wire.
    pub id: u16,
    /// The key.
    pub gk: Zeroizing<[u8; 32]>,
    /// First second of use.
    pub not_before: UnixSeconds,
    /// Last second of use.
    pub not_after: UnixSeconds,
}

impl GroupPsk {
    fn valid(&self, now: Now) -> bool {
        (self.not_before..=self.not_after).contains(&now.unix_seconds())
    }
}

/// A member of a group without owner: its own session, and those of others.
///
/// [`super::Order::Join`] opens a session of its own, [`super::Order::Leave`] ends it; receiving goes on either way.
pub struct Sessions {
    device: Device,
    policy: SessionPolicy,
    store: Box<dyn Store>,
    keys: Vec<GroupPsk>,
    own: Option<Own>,
    /// Sessions of ours whose end is being told.
    ending: Vec<Ending>,
    others: BTreeMap<(Layer2Id, [u8; 8]), Other>,
    /// Sessions that ended, until they could not be accepted any more: Unix time in milliseconds.
    ended: BTreeMap<(Layer2Id, [u8; 8]), u64>,
    /// Newest time of an identity's session.
    newest: BTreeMap<(Identity, [u8; 8]), u64>,
    reassembly: Reassembly,
    out: Queue,
    seq: u16,
    started: bool,
    next_pgk_id: u8,
    asked_at: Option<Duration>,
    answered_at: Option<Duration>,
    tokens: Tokens,
    /// Somebody with a smaller Layer-2 id talks under our index: ours changes.
    index_taken: bool,
    /// A session of ours is wanted and could not be opened: tried again then.
    open_again: Option<Duration>,
    trust_generation: u64,
}

/// Our own session.
struct Own {
    session_id: [u8; 8],
    pgk_id: PgkId,
    s_s: Secret,
    not_after: UnixSeconds,
    /// Next PTK identity to grant to ourselves.
    next_ptk: Option<PtkId>,
    /// Newest that we sent.
    floor: Floor,
    send_at: Duration,
    sent: u8,
    last_time: u64,
    gk_id: u16,
    ends_at: Duration,
}

/// A session of ours that is over, and when its end is told again.
struct Ending {
    own: Own,
    sent: u8,
    send_at: Duration,
}

/// A session of another.
struct Other {
    leaf: Leaf,
    pgk_id: PgkId,
    until: Duration,
}

/// Signature checks a second: what GK opens may still be an insider's flood.
struct Tokens {
    left: u32,
    at: Duration,
}

/// What can be told of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Who talks.
    pub layer2: Layer2Id,
    /// Who it is.
    pub identity: Identity,
    /// PGK id of the session.
    pub pgk_id: PgkId,
    /// How far the CRLs that the talker is judged by may be relied on.
    pub crl: Standing,
}

impl Sessions {
    /// Of a device, with the group's pre-shared keys.
    pub fn new(device: Device, policy: SessionPolicy, keys: Vec<GroupPsk>, store: Box<dyn Store>) -> Self {
        let trust_generation = device.trust.read().generation;
        Self {
            device,
            policy,
            store,
            keys,
            own: None,
            ending: Vec::new(),
            others: BTreeMap::new(),
            ended: BTreeMap::new(),
            newest: BTreeMap::new(),
            reassembly: Reassembly::default(),
            out: Queue::default(),
            seq: 0,
            started: false,
            next_pgk_id: 0,
            asked_at: None,
            answered_at: None,
            tokens: Tokens { left: CHECKS_A_SECOND, at: Duration::ZERO },
            index_taken: false,
            open_again: None,
            trust_generation,
        }
    }

    /// Takes what happened.
    pub fn handle<R: CryptoRng + ?Sized>(&mut self, input: Input, now: Now, rng: &mut R) {
        if !std::mem::replace(&mut self.started, true) {
            self.out.install(Command::AddLocal(self.policy.layer2));
            let mut start = [0; 1];
            rng.fill_bytes(&mut start);
            self.next_pgk_id = start[0] % 31;
            // Who is talking already answers by its key at once: late entry.
            self.ask(now);
        }
        match input {
            Input::Frame(frame) | Input::Engine(Event::Signalling(frame)) => self.frame(frame, now, rng),
            Input::Engine(event) => self.event(&event, now, rng),
            Input::Order(super::Order::Join) => self.open(now, rng),
            Input::Order(super::Order::Leave) => self.close(now, rng),
            Input::Floors { group, pgk_id, floors } => self.floors(group, pgk_id, &floors),
            Input::Crl(der) => {
                super::take_crl(&self.device, &mut *self.store, &der, now, &mut self.out);
            }
            Input::Renewed(chain) => {
                if let Err(e) = self.device.renew(chain) {
                    self.out.notice(Notice::NotRenewed(e.to_string()));
                }
            }
            Input::Order(_) | Input::TrustChanged | Input::Time => {}
        }
        self.follow_trust(now);
        self.due(now, rng);
    }

    /// Next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// When `handle` is to be called with [`Input::Time`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let own = self.own.as_ref().map(|o| o.send_at.min(o.ends_at));
        let others = self.others.values().map(|o| o.until).min();
        let ending = self.ending.iter().map(|e| e.send_at).min();
        [ending, others, self.reassembly.deadline(), self.open_again].into_iter().fold(own, earlier)
    }

    /// Its Layer-2 id.
    pub fn layer2(&self) -> Layer2Id {
        self.policy.layer2
    }

    /// PGK id of our own session.
    pub fn own(&self) -> Option<PgkId> {
        self.own.as_ref().map(|o| o.pgk_id)
    }

    /// Whether there is no session of our own, and everybody was told so.
    pub fn is_settled(&self) -> bool {
        self.own.is_none() && self.ending.is_empty()
    }

    /// Sessions of others.
    pub fn others(&self, now: Now) -> impl Iterator<Item = SessionView> {
        self.others.iter().map(move |((layer2, _), o)| SessionView {
            layer2: *layer2,
            identity: o.leaf.identity.clone(),
            pgk_id: o.pgk_id,
            crl: self.device.standing(&o.leaf, now),
        })
    }

    /// Replaces the pre-shared keys. A session of ours goes on under the key that is valid longest.
    pub fn set_keys(&mut self, keys: Vec<GroupPsk>) {
        self.keys = keys;
    }

    fn key(&self, now: Now) -> Option<&GroupPsk> {
        self.keys.iter().filter(|k| k.valid(now)).max_by_key(|k| k.not_after)
    }

    /// Opens our own session, with a key of its own.
    fn open<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.open_again = None;
        if self.own.is_some() {
            return;
        }
        let (group, local) = (self.policy.group, self.policy.layer2);
        let refused = |cause, detail: String| Notice::Refused { group, claimed_source: local, cause, detail };
        // What is wanting may come: a key whose time begins, a CRL, a clock that is set.
        self.open_again = Some(now.monotonic.saturating_add(OPEN_AGAIN));
        let Some(key) = self.key(now) else {
            let what = "no group pre-shared key is valid now; provision one".to_string();
            return self.out.notice(refused(Reject::LifetimeOver, what));
        };
        let (gk_id, key_ends) = (key.id, key.not_after);
        if let Err(refusal) = self.device.judge_self(Role::Member, group, now) {
            return self.out.notice(refused(Reject::from(&refusal), format!("own certificate: {refusal}")));
        }
        let mut session_id = [0; 8];
        rng.fill_bytes(&mut session_id);
        let mut s_s = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *s_s);
        // Each session of ours takes the next id, so that the one before may still be on the way. Live PGKs of a group have
        // indices of their own as far as those go; beyond 31 talkers the sender tells them apart.
        let free = (0..31).map(|n| PgkId(1 + (self.next_pgk_id + n) % 31)).find(|id| self.is_free(*id));
        let pgk_id = free.unwrap_or(PgkId(1 + self.next_pgk_id % 31));
        self.next_pgk_id = pgk_id.0;
        let lifetime = self.policy.lifetime.as_secs().max(1);
        let not_after = now.unix_seconds().saturating_add(lifetime).min(key_ends);
        let left = Duration::from_secs(not_after.saturating_sub(now.unix_seconds()));
        let ends_at = now.monotonic.saturating_add(left);
        let Some(first) = PtkId::new(1) else { return };
        let mut own = Own {
            session_id,
            pgk_id,
            s_s,
            not_after,
            next_ptk: Some(first),
            floor: Floor { sender: local, ptk_id: first, next_sn: 0 },
            send_at: now.monotonic,
            sent: 0,
            last_time: 0,
            gk_id,
            ends_at,
        };
        let grant = own.grant();
        self.out.install(Command::InstallGroup(GroupKey {
            local,
            group,
            pgk_id,
            pgk: own.pgk(&self.device.identity, &self.policy),
            suite: self.policy.suite,
            senders: PermittedSender::Only(local),
            not_before: 0,
            not_after: now.key_time_of(not_after),
            grant,
            floors: Vec::new(),
        }));
        self.own = Some(own);
        self.open_again = None;
        self.out.notice(Notice::GroupKey { group, epoch: 0, pgk_id, exclusive: true });
    }

    /// Ends it: told three times, since nobody answers.
    fn close<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.open_again = None;
        let Some(own) = self.own.take() else { return };
        self.void_key(self.policy.layer2, own.pgk_id);
        self.ending.push(Ending { own, sent: 0, send_at: now.monotonic });
        self.tell_ends(now, rng);
    }

    /// One burst of noise does not take all of them.
    fn tell_ends<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        for mut ending in std::mem::take(&mut self.ending) {
            if ending.send_at <= now.monotonic {
                self.announce(&mut ending.own, true, now, rng);
                ending.sent += 1;
                ending.send_at = now.monotonic.saturating_add(FIRST_APART);
            }
            if ending.sent < END_COPIES {
                self.ending.push(ending);
            }
        }
    }

    /// SESSION_KEY, each with a new time, nonce, floor and signature.
    fn announce<R: CryptoRng + ?Sized>(&mut self, own: &mut Own, end: bool, now: Now, rng: &mut R) {
        let (group, local) = (self.policy.group, self.policy.layer2);
        let Some(key) = self.keys.iter().find(|k| k.id == own.gk_id) else { return };
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        own.last_time = now.unix_millis().max(own.last_time + 1);
        let (session_id, gk_id, time) = (own.session_id, own.gk_id, own.last_time);
        let mut message = SessionKey { gk_id, session_id, end, time, nonce, sealed: Vec::new() };
        let floor = own.floor;
        let proof = SessionProof {
            suite: self.policy.suite,
            pgk_id: own.pgk_id,
            lifetime: u32::try_from(own.not_after.saturating_sub(now.unix_seconds())).unwrap_or(u32::MAX),
            floor,
            s_s: own.s_s.clone(),
            credential: self.device.credential(),
        };
        let bind = session_bind(group, local);
        let header = message.header();
        let sealed = proof.encode().map_err(|e| e.to_string()).and_then(|mut part| {
            let h = hash(&[&bind, &header, &part]);
            let signature = self.device.key.sign(SignRole::Session, &h).map_err(|e| e.to_string())?;
            part.extend_from_slice(&signature);
            let wrap = session_wrap(&key.gk, &nonce, &[&bind, &header]);
            wrap.seal(&part).ok_or_else(|| "too long".to_string())
        });
        self.seq = self.seq.wrapping_add(1);
        let sdus = sealed.and_then(|sealed| {
            message.sealed = sealed;
            let canonical = Message { seq: self.seq, body: Body::SessionKey(message) }.encode();
            canonical.and_then(|c| segment(&c, self.policy.sdu)).map_err(|e| e.to_string())
        });
        match sdus {
            Ok(sdus) => self.out.send(local, Destination::Group(group), Lcid::CLEAR, None, &sdus),
            Err(what) => self.out.ignored(local, format!("SESSION_KEY not sent: {what}")),
        }
    }

    fn frame<R: CryptoRng + ?Sized>(&mut self, frame: Signalling, now: Now, rng: &mut R) {
        let Signalling { group, source, lcid, under, sdu, .. } = frame;
        if group != Some(self.policy.group) || lcid != Lcid::CLEAR || source == self.policy.layer2 {
            return;
        }
        let whole = Part::decode(&sdu)
            .and_then(|part| self.reassembly.take(None, source, lcid, under, part, now.monotonic));
        let canonical = match whole {
            Ok(Some(canonical)) => canonical,
            Ok(None) => return,
            Err(e) => return self.out.ignored(source, e),
        };
        match Message::decode(&canonical) {
            Ok(Message { body: Body::SessionKey(m), .. }) => {
                if let Err(refused) = self.on_session_key(source, &m, now) {
                    let (group, cause, detail) = (self.policy.group, refused.cause, refused.detail);
                    self.out.notice(Notice::Refused { group, claimed_source: source, cause, detail });
                }
                if std::mem::take(&mut self.index_taken) {
                    self.close(now, rng);
                    self.open(now, rng);
                }
            }
            Ok(Message { body: Body::SessionKeyRequest(gk_id), .. }) => self.on_request(gk_id, now, rng),
            Ok(_) => {}
            Err(e) => self.out.ignored(source, e),
        }
    }

    /// SESSION_KEY_REQUEST: the next SESSION_KEY goes out at once, one a second.
    fn on_request<R: CryptoRng + ?Sized>(&mut self, gk_id: u16, now: Now, rng: &mut R) {
        let recent = self.answered_at.is_some_and(|at| now.monotonic.saturating_sub(at) < APART);
        if recent || self.own.as_ref().is_none_or(|o| o.gk_id != gk_id) {
            return;
        }
        self.answered_at = Some(now.monotonic);
        if let Some(mut own) = self.own.take() {
            self.announce(&mut own, false, now, rng);
            self.own = Some(own);
        }
    }

    fn ask(&mut self, now: Now) {
        let recent = self.asked_at.is_some_and(|at| now.monotonic.saturating_sub(at) < APART);
        let Some(gk_id) = self.key(now).map(|k| k.id).filter(|_| !recent) else { return };
        self.asked_at = Some(now.monotonic);
        self.seq = self.seq.wrapping_add(1);
        let message = Message { seq: self.seq, body: Body::SessionKeyRequest(gk_id) };
        let Ok(sdus) = message.encode().and_then(|m| segment(&m, self.policy.sdu)) else { return };
        let (local, to) = (self.policy.layer2, Destination::Group(self.policy.group));
        self.out.send(local, to, Lcid::CLEAR, None, &sdus);
    }

    fn event<R: CryptoRng + ?Sized>(&mut self, event: &Event, now: Now, rng: &mut R) {
        let (layer2, group_id) = (self.policy.layer2, self.policy.group);
        match *event {
            // We are our own granter: nobody else sends under this key.
            Event::GrantHalfUsed { local, group, pgk_id } if local == layer2 && group == group_id => {
                if let Some(range) = self.own.as_mut().filter(|o| o.pgk_id == pgk_id).and_then(Own::grant) {
                    let senders = PermittedSender::Only(local);
                    self.out.install(Command::Grant { local, group, pgk_id, senders, range });
                }
            }
            // A session under which so much was said is followed by another.
            Event::GroupHalfUsed { local, pgk_id, .. } if local == layer2 && self.own() == Some(pgk_id) => {
                self.renew(now, rng);
            }
            Event::UnknownIndex { group, .. } | Event::FloorsWanted { group, .. } if group == group_id => {
                self.ask(now);
            }
            _ => {}
        }
    }

    fn floors(&mut self, group: GroupId, pgk_id: PgkId, floors: &[Floor]) {
        let layer2 = self.policy.layer2;
        if let Some(own) = self.own.as_mut().filter(|o| o.pgk_id == pgk_id)
            && group == self.policy.group
            && let Some(floor) = floors.iter().find(|f| f.sender == layer2)
        {
            own.floor = *floor;
        }
    }

    /// Another session of ours in place of the one that runs.
    fn renew<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let Some(before) = self.own.take() else { return };
        self.open(now, rng);
        if self.own.is_none() {
            self.own = Some(before);
            return;
        }
        self.void_key(self.policy.layer2, before.pgk_id);
    }

    fn due<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.reassembly.expire(now.monotonic);
        let over: Vec<_> =
            self.others.iter().filter(|(_, o)| o.until <= now.monotonic).map(|(k, _)| *k).collect();
        for key in over {
            if let Some(other) = self.others.remove(&key) {
                self.void(key, other, super::Ended::Lost, now);
            }
        }
        if self.own.as_ref().is_some_and(|o| o.ends_at <= now.monotonic) {
            self.renew(now, rng);
            if self.own.as_ref().is_some_and(|o| o.ends_at <= now.monotonic) {
                // There is no key to go on with; one may come.
                self.close(now, rng);
                self.open_again = Some(now.monotonic.saturating_add(OPEN_AGAIN));
            }
        }
        if self.open_again.is_some_and(|at| at <= now.monotonic) {
            self.open(now, rng);
        }
        self.tell_ends(now, rng);
        if let Some(mut own) = self.own.take() {
            if own.send_at <= now.monotonic {
                self.announce(&mut own, false, now, rng);
                own.sent = own.sent.saturating_add(1);
                let wait = if own.sent < FIRST_COPIES { FIRST_APART } else { APART };
                own.send_at = now.monotonic.saturating_add(wait);
            }
            self.own = Some(own);
        }
    }
}

impl Own {
    fn grant(&mut self) -> Option<std::ops::RangeInclusive<PtkId>> {
        let first = self.next_ptk?;
        let last = PtkId::new(first.get().saturating_add(GRANT - 1))?;
        self.next_ptk = last.next();
        Some(first..=last)
    }

    fn pgk(&self, identity: &Identity, policy: &SessionPolicy) -> pc5_dataplane::kdf::Pgk {
        let SessionPolicy { group, layer2, suite, .. } = *policy;
        let context = SessionContext { initiator: identity, group, layer2, session_id: self.session_id };
        session_pgk(context, self.pgk_id, suite, &self.s_s)
    }
}

impl Tokens {
    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.at) >= Duration::from_secs(1) {
            *self = Self { left: CHECKS_A_SECOND, at: now };
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

/// SESSION_KEY goes out so often in quick succession ...
const FIRST_COPIES: u8 = 3;
/// ... this far apart, as its end does ...
const FIRST_APART: Duration = Duration::from_millis(100);
/// ... then once in this time, like questions and their answers.
const APART: Duration = Duration::from_secs(1);
/// A session that could not be opened is tried again after this.
const OPEN_AGAIN: Duration = Duration::from_secs(10);
/// The end of a session is told so often.
const END_COPIES: u8 = 3;
/// Signature checks a second.
const CHECKS_A_SECOND: u32 = 200;

//! The member's side, as its driver sees it.
//!
//! ```text
//! member/mod.rs       what comes in, what is due
//!        attempt.rs   a join under way, and when the next one follows
//!        link.rs      the live link: group keys, re-keying, keepalive, release
//! ```

mod attempt;
mod link;

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid};
use pc5_dataplane::keys::{Command, Event, Signalling};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;

use self::attempt::Attempt;
use self::link::{Link, Parting};
use super::distribution::KeyRing;
use super::{Device, Ended, Input, Notice, Order, Output, Queue, TakenCrl};
use crate::clock::{Now, earlier};
use crate::codec::Body;
use crate::codec::direct::ReleaseReason;
use crate::codec::go::{GoAnnounce, Message};
use crate::codec::segment::{Part, Reassembly, segment};
use crate::credential::{Identity, Role, Standing};
use crate::policy::MemberPolicy;
use crate::reject::Reject;
use crate::store::Store;

/// Where a member stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Not joined, and no join under way.
    Apart,
    /// A join is under way; there may be a link from before.
    Joining,
    /// The link is confirmed.
    Joined,
}

/// A member of one group: `handle` takes what happened, `poll` gives what is to be done, `deadline` says when to come
/// back. It joins at [`Order::Join`].
pub struct Member {
    core: Core,
    attempt: Option<Attempt>,
    link: Option<Link>,
    /// The link before, until the owner knows that we ended it.
    parting: Option<Parting>,
    ring: KeyRing,
    /// When the next attempt begins.
    next_attempt: Option<Duration>,
    /// The announcement that came last: from whom, of which instance, when.
    heard: Option<(Layer2Id, [u8; 8], Duration)>,
    /// It said something new, and no attempt has followed.
    is_news: bool,
    backoff: Duration,
    /// No attempt because of an announcement before.
    announced_again_at: Duration,
    /// Instance of the owner that the last confirmed join was with.
    proved_instance: Option<[u8; 8]>,
    wanted: bool,
    /// Where an owner may be: as configured, or who announced itself. The next join goes to the first.
    candidates: Vec<Layer2Id>,
    /// Our clock minus the owner's, seconds, as of the last join.
    offset: i64,
    reassembly: Reassembly,
    trust_generation: u64,
    started: bool,
}

struct Core {
    policy: MemberPolicy,
    device: Device,
    store: Box<dyn Store>,
    out: Queue,
    seq: u16,
    msb: u8,
}

impl Core {
    fn next_seq(&mut self) -> u16 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// MSBs count up by one, from a random start: 1..=255.
    fn next_msb(&mut self) -> u8 {
        self.msb = self.msb.checked_add(1).unwrap_or(1);
        self.msb
    }

    fn sdus(&mut self, to: Layer2Id, body: Body) -> Vec<Bytes> {
        let seq = self.next_seq();
        let sdus = Message { seq, body }.encode().and_then(|m| segment(&m, self.policy.sdu));
        sdus.unwrap_or_else(|e| {
            self.out.ignored(to, format!("not sent: {e}"));
            Vec::new()
        })
    }

    fn send(&mut self, to: Layer2Id, under: Option<KdSessId>, body: Body) {
        let sdus = self.sdus(to, body);
        self.out.send(self.policy.layer2, Destination::Ue(to), Lcid::SIGNALLING, under, &sdus);
    }
}

impl Member {
    /// A member that has not joined yet.
    pub fn new(device: Device, policy: MemberPolicy, store: Box<dyn Store>) -> Self {
        let trust_generation = device.trust.read().generation;
        let candidates = policy.owner.into_iter().collect();
        let ring = KeyRing::new(policy.group, policy.layer2);
        Self {
            core: Core { policy, device, store, out: Queue::default(), seq: 0, msb: 0 },
            attempt: None,
            link: None,
            parting: None,
            ring,
            next_attempt: None,
            heard: None,
            is_news: false,
            backoff: attempt::FIRST_BACKOFF,
            announced_again_at: Duration::ZERO,
            proved_instance: None,
            wanted: false,
            candidates,
            offset: 0,
            reassembly: Reassembly::default(),
            trust_generation,
            started: false,
        }
    }

    /// Takes what happened.
    pub fn handle<R: CryptoRng + ?Sized>(&mut self, input: Input, now: Now, rng: &mut R) {
        if !std::mem::replace(&mut self.started, true) {
            self.core.out.install(Command::AddLocal(self.core.policy.layer2));
            let mut start = [0; 3];
            rng.fill_bytes(&mut start);
            self.core.msb = start[0];
            self.core.seq = u16::from_be_bytes([start[1], start[2]]);
        }
        match input {
            Input::Frame(frame) | Input::Engine(Event::Signalling(frame)) => self.frame(frame, now, rng),
            Input::Engine(event) => self.event(&event, now, rng),
            Input::Order(order) => self.order(&order, now, rng),
            Input::Crl(der) => self.crl(&der, true, now),
            Input::Renewed(chain) => match self.core.device.renew(chain) {
                // The owner ends the link with the certificate that it was shown: it is shown the new one. Who was refused with
                // the old one does not wait for its turn.
                Ok(()) => {
                    self.backoff = attempt::FIRST_BACKOFF;
                    let waits = self.link.is_some() || self.next_attempt.is_some();
                    if waits && self.attempt.is_none() {
                        self.begin_attempt(now, rng);
                    }
                }
                Err(e) => self.core.out.notice(Notice::NotRenewed(e.to_string())),
            },
            Input::TrustChanged | Input::Time | Input::Floors { .. } => {}
        }
        self.follow_trust(now, rng);
        self.due(now, rng);
    }

    /// Next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.out.pop()
    }

    /// When `handle` is to be called with [`Input::Time`] at the latest, on the monotonic clock.
    pub fn deadline(&self) -> Option<Duration> {
        let attempt = self.attempt.as_ref().map(Attempt::deadline);
        let next = if self.attempt.is_none() { self.next_attempt } else { None };
        let link = self.link.as_ref().map(Link::deadline);
        let parting = self.parting.as_ref().map(Parting::deadline);
        [next, link, parting, self.ring.deadline(), self.reassembly.deadline()]
            .into_iter()
            .fold(attempt, earlier)
    }

    /// Where it stands.
    pub fn state(&self) -> MemberState {
        match (&self.attempt, &self.link) {
            (Some(_), _) => MemberState::Joining,
            (None, Some(_)) => MemberState::Joined,
            (None, None) => MemberState::Apart,
        }
    }

    /// Its Layer-2 id.
    pub fn layer2(&self) -> Layer2Id {
        self.core.policy.layer2
    }

    /// Who owns the group, once joined.
    pub fn owner(&self) -> Option<&Identity> {
        self.link.as_ref().map(|l| &l.owner.identity)
    }

    /// How far the CRLs that the owner is judged by may be relied on.
    pub fn owner_crl(&self, now: Now) -> Option<Standing> {
        self.link.as_ref().map(|l| self.core.device.standing(&l.owner, now))
    }

    /// Link context in use.
    pub fn link_id(&self) -> Option<KdSessId> {
        self.link.as_ref().map(|l| l.contexts.in_use())
    }

    /// Newest epoch held, 0 for none.
    pub fn newest_epoch(&self) -> u64 {
        self.ring.newest()
    }

    /// Whether the link is confirmed and nothing is under way on it.
    pub fn is_settled(&self) -> bool {
        self.attempt.is_none()
            && self.next_attempt.is_none()
            && self.parting.is_none()
            && self.link.as_ref().is_none_or(Link::is_settled)
    }

    fn frame<R: CryptoRng + ?Sized>(&mut self, frame: Signalling, now: Now, rng: &mut R) {
        let Signalling { local, group, source, lcid, under, sdu } = frame;
        let for_us = local == Some(self.core.policy.layer2);
        if !for_us && group != Some(self.core.policy.group) {
            return;
        }
        let local = if for_us { local } else { None };
        let whole = Part::decode(&sdu)
            .and_then(|part| self.reassembly.take(local, source, lcid, under, part, now.monotonic));
        let canonical = match whole {
            Ok(Some(canonical)) => canonical,
            Ok(None) => return,
            Err(e) => return self.core.out.ignored(source, e),
        };
        let message = match Message::decode(&canonical) {
            Ok(message) => message,
            Err(e) => return self.core.out.ignored(source, e),
        };
        // A group address carries nothing else, and nothing else a group address.
        if message.body.message_type().to_group() == for_us {
            return self.core.out.ignored(source, "came to the wrong kind of address");
        }
        match (lcid, under) {
            (Lcid::CLEAR, _) => self.clear(source, &canonical, message, now, rng),
            (_, Some(under)) => self.protected(source, under, &canonical, message, now, rng),
            (_, None) => {}
        }
    }

    fn clear<R: CryptoRng + ?Sized>(
        &mut self,
        source: Layer2Id,
        canonical: &[u8],
        message: Message,
        now: Now,
        rng: &mut R,
    ) {
        match message.body {
            Body::GoAnnounce(m) => self.on_announce(source, &m, now, rng),
            Body::SessionKey(_) | Body::SessionKeyRequest(_) => {}
            body => self.on_join_message(source, canonical, &body, now),
        }
    }

    fn protected<R: CryptoRng + ?Sized>(
        &mut self,
        source: Layer2Id,
        under: KdSessId,
        canonical: &[u8],
        message: Message,
        now: Now,
        rng: &mut R,
    ) {
        if let Body::JoinConfirm(finished_o) = &message.body {
            return self.on_confirm(source, under, finished_o, now);
        }
        let released = matches!(message.body, Body::ReleaseAccept);
        if released && self.parting.as_ref().is_some_and(|p| p.peer == source) {
            return self.end_parting();
        }
        let Some(link) = self.link.as_mut().filter(|l| l.bind.owner == source) else {
            return self.core.out.ignored(source, "not on a confirmed link");
        };
        link.hear(now);
        if link.contexts.is_former(under) {
            // The link before is over: nothing of it ends this one, or changes it. RELEASE is answered all the same.
            if let Body::Release(_) = message.body {
                self.core.send(source, Some(under), Body::ReleaseAccept);
            }
            return;
        }
        let pending = self.attempt.as_ref().map_or(0, |a| a.pending(source));
        match message.body {
            Body::KeepaliveAck(m) => link.on_keepalive_ack(m.counter, now),
            Body::GroupKeyUpdate(m) => link.on_update(&mut self.core, &mut self.ring, m, now),
            Body::RekeyTrigger(refresh) => link.start_rekey(&mut self.core, refresh, now, rng),
            Body::RekeyCommand(m) => link.on_command(&mut self.core, canonical, &m, pending, now),
            Body::Reject(m) => {
                let (group, cause) = (self.core.policy.group, m.cause);
                self.core.out.notice(Notice::PeerRefused {
                    group,
                    claimed_source: source,
                    cause,
                    proved: true,
                });
                if cause == Reject::RefreshRequired.cause() && link.asked(&m.nonce_1) {
                    link.stop_rekey();
                    link.start_rekey(&mut self.core, true, now, rng);
                }
            }
            Body::CrlUpdate(der) => self.crl(&der, false, now),
            Body::Release(m) => {
                self.core.send(source, Some(under), Body::ReleaseAccept);
                self.end_link(Ended::Released(m.reason), now, rng);
            }
            Body::ReleaseAccept => {
                if link.is_leaving() {
                    self.end_link(Ended::Left, now, rng);
                }
            }
            Body::Keepalive(m) => {
                let counter = m.counter;
                let ack = Body::KeepaliveAck(crate::codec::direct::KeepaliveAck { counter });
                self.core.send(source, None, ack);
            }
            other => {
                let what = format!("{} is not for a member", other.message_type().name());
                self.core.out.ignored(source, what);
            }
        }
    }

    fn event<R: CryptoRng + ?Sized>(&mut self, event: &Event, now: Now, rng: &mut R) {
        let (layer2, group_id) = (self.core.policy.layer2, self.core.policy.group);
        match *event {
            Event::LinkHalfUsed { local, peer, id } if local == layer2 => {
                if let Some(link) =
                    self.link.as_mut().filter(|l| l.bind.owner == peer && l.contexts.in_use() == id)
                {
                    link.start_rekey(&mut self.core, false, now, rng);
                }
            }
            Event::LinkFirstVerified { local, peer, id } if local == layer2 => {
                if let Some(link) = self.link.as_mut().filter(|l| l.bind.owner == peer) {
                    link.contexts.heard_under(id, now.monotonic);
                }
            }
            Event::GroupFirstVerified { local, group, pgk_id, .. }
                if local == layer2 && group == group_id =>
            {
                if let Some(epoch) = self.ring.first_verified(pgk_id, now.monotonic, &mut self.core.out) {
                    self.core.out.notice(Notice::GroupKey { group, epoch, pgk_id, exclusive: false });
                }
            }
            Event::GrantHalfUsed { local, group, .. } if local == layer2 && group == group_id => {
                self.ask(true, false, now);
            }
            // Half of all identities is used: the owner sees it by its grants, and by the lifetime.
            Event::GroupHalfUsed { .. } | Event::NewestPtk { .. } => {}
            // Hints: at most one question a second.
            Event::UnknownIndex { group, claimed_source, .. } if group == group_id => {
                self.ask_on_hint(claimed_source, false, now);
            }
            Event::FloorsWanted { group, .. } if group == group_id => {
                let owner = self.link.as_ref().map(|l| l.bind.owner);
                if let Some(owner) = owner {
                    self.ask_on_hint(owner, true, now);
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, grant: bool, floors: bool, now: Now) {
        if let Some(link) = &mut self.link {
            link.ask(&mut self.core, self.ring.newest(), grant, floors, now);
        }
    }

    fn ask_on_hint(&mut self, source: Layer2Id, floors: bool, now: Now) {
        let due = self.link.as_mut().is_some_and(|l| l.bind.owner == source && l.hint_due(now));
        if due {
            self.ask(false, floors, now);
        }
    }

    fn order<R: CryptoRng + ?Sized>(&mut self, order: &Order, now: Now, rng: &mut R) {
        match order {
            Order::Join => {
                self.wanted = true;
                self.backoff = attempt::FIRST_BACKOFF;
                if self.attempt.is_none() {
                    self.begin_attempt(now, rng);
                }
            }
            Order::Leave => {
                self.wanted = false;
                self.next_attempt = None;
                self.end_attempt();
                match &mut self.link {
                    Some(link) => link.leave(&mut self.core, now),
                    None => self.ring.erase_all(&mut self.core.out),
                }
            }
            Order::RekeyLink { peer, refresh } => {
                if let Some(link) = self.link.as_mut().filter(|l| l.bind.owner == *peer) {
                    link.start_rekey(&mut self.core, *refresh, now, rng);
                }
            }
            Order::Policy(_) | Order::RekeyGroup(_) | Order::Evict { .. } | Order::Readmit { .. } => {}
        }
    }

    /// A CRL from the network is handed on to the owner, also where another membership of this device took it in before;
    /// one that came from the owner is not.
    fn crl(&mut self, der: &[u8], hand_on: bool, now: Now) {
        let Core { device, store, out, .. } = &mut self.core;
        let taken = super::take_crl(device, &mut **store, der, now, out);
        if taken != TakenCrl::Refused
            && hand_on
            && let Some(link) = &mut self.link
        {
            link.hand_on_crl(&mut self.core, der, now);
        }
    }

    /// After a change of roots or CRLs the owner is judged again: members leave a revoked one.
    fn follow_trust<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let generation = self.core.device.trust.read().generation;
        if std::mem::replace(&mut self.trust_generation, generation) == generation {
            return;
        }
        let Some(link) = &self.link else { return };
        let group = self.core.policy.group;
        match self.core.device.judge_again(&link.owner, Role::Owner, group, now) {
            Ok(false) => {}
            Ok(true) => self.core.out.notice(Notice::CrlInGrace(link.owner.identity.clone())),
            Err(refusal) => {
                self.ring.erase_all(&mut self.core.out);
                self.end_link(Ended::Refused(Reject::from(&refusal)), now, rng);
            }
        }
    }

    fn on_announce<R: CryptoRng + ?Sized>(
        &mut self,
        source: Layer2Id,
        m: &GoAnnounce,
        now: Now,
        rng: &mut R,
    ) {
        if self.core.policy.owner.is_some_and(|known| known != source) {
            return;
        }
        let known = self.link.as_ref().map(|l| l.bind.owner);
        if known.is_none() && !self.candidates.contains(&source) {
            // What is there goes first and is not pushed out: the last one has failed already, or came last.
            self.candidates.truncate(CANDIDATES - 1);
            self.candidates.push(source);
        }
        if known.is_none() && self.attempt.as_ref().is_some_and(|a| a.gives_way_to(source)) {
            self.end_attempt();
            self.prefer(source);
            return self.begin_attempt(now, rng);
        }
        // The announcer may be anybody: all it can bring about is one join in 5 s, and the old link stays meanwhile.
        let restarted = known == Some(source) && self.ring.instance() != Some(m.instance);
        // What was there when the last attempt failed is no reason to hurry; what is new, or was silent, is.
        let heard = self.heard.replace((source, m.instance, now.monotonic));
        let is_news = heard.is_none_or(|(before, instance, at)| {
            (before, instance) != (source, m.instance) || now.monotonic.saturating_sub(at) >= SILENT
        });
        // Also when it comes during an attempt, which may have begun before and be in vain.
        self.is_news = known.is_none() && (self.is_news || is_news);
        let found = known.is_none() && (self.next_attempt.is_none() || self.is_news);
        let idle = self.attempt.is_none() && self.wanted;
        if !idle || !(restarted || found) || now.monotonic < self.announced_again_at {
            return;
        }
        self.announced_again_at = now.monotonic.saturating_add(attempt::ANNOUNCED_AGAIN);
        self.is_news = false;
        self.core.out.notice(Notice::OwnerHeard { claimed_source: source, instance: m.instance });
        let spread = u64::from(m.spread) * 100;
        let mut random = [0; 8];
        rng.fill_bytes(&mut random);
        let wait = u64::from_be_bytes(random) % (spread + 1);
        let at = now.monotonic.saturating_add(Duration::from_millis(wait));
        self.next_attempt = Some(self.next_attempt.map_or(at, |n| n.min(at)));
    }

    /// The link is over. Group keys stay until their owner voids them or they expire, but for a refusal.
    fn end_link<R: CryptoRng + ?Sized>(&mut self, why: Ended, now: Now, rng: &mut R) {
        let Some(link) = self.link.take() else { return };
        if let Ended::Refused(_) = why {
            self.end_parting();
            self.parting = Some(link.part(&mut self.core, now));
        } else {
            link.remove_all(&mut self.core.out);
        }
        let erase = !matches!(why, Ended::Lost | Ended::Released(ReleaseReason::NotAvailable));
        if erase {
            self.ring.erase_all(&mut self.core.out);
        }
        self.core.out.notice(Notice::Ended {
            group: self.core.policy.group,
            local: self.core.policy.layer2,
            peer: link.bind.owner,
            identity: link.owner.identity.clone(),
            why,
        });
        if self.core.policy.owner.is_none() {
            self.candidates.clear();
        }
        if self.wanted && self.core.policy.rejoin && self.attempt.is_none() {
            self.schedule_attempt(now, rng);
        }
    }

    fn end_parting(&mut self) {
        if let Some(parting) = self.parting.take() {
            parting.remove(&mut self.core.out);
        }
    }

    fn due<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let at = now.monotonic;
        self.reassembly.expire(at);
        self.ring.tick(at, &mut self.core.out);
        self.attempt_due(now, rng);
        if self.parting.as_mut().is_some_and(|p| !p.due(now, &mut self.core.out)) {
            self.end_parting();
        }
        if let Some(link) = &mut self.link
            && let Some(why) = link.due(&mut self.core, now, rng)
        {
            self.end_link(why, now, rng);
        }
        if self.attempt.is_none() && self.next_attempt.is_some_and(|n| n <= at) {
            self.begin_attempt(now, rng);
        }
    }
}

/// An owner that was not heard for so long, several announcements, may have been away.
const SILENT: Duration = Duration::from_secs(5);
/// Announcers of whom a member tries one after the other: any of them may be forged.
const CANDIDATES: usize = 4;

//! A join under way at the member, and when the next one follows.

use std::time::Duration;

use pc5_dataplane::ids::{KdSessId, Layer2Id, LinkRole};
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;

use super::link::Link;
use super::{Core, Member};
use crate::clock::Now;
use crate::codec::Body;
use crate::codec::go::Rejection;
use crate::group_owner::distribution::{KeySource, group_key_notice};
use crate::group_owner::join::Refused;
use crate::group_owner::join::member::{ChallengeError, ExpectAccept, ExpectChallenge, ExpectConfirm};
use crate::group_owner::repeat::{Due, Repeat};
use crate::group_owner::schedule::Bind;
use crate::group_owner::{Notice, Queue};
use crate::reject::Reject;

/// A join under way.
pub(super) struct Attempt {
    state: State,
    until: Duration,
    /// One refusal is sent a join.
    refused: bool,
}

/// Which message is expected.
enum State {
    Challenge(Box<ExpectChallenge>),
    Accept(Box<ExpectAccept>),
    Confirm(Box<ExpectConfirm>),
}

impl Attempt {
    pub(super) fn deadline(&self) -> Duration {
        self.repeat().deadline().min(self.until)
    }

    fn repeat(&self) -> &Repeat {
        match &self.state {
            State::Challenge(s) => &s.repeat,
            State::Accept(s) => &s.repeat,
            State::Confirm(s) => &s.repeat,
        }
    }

    fn repeat_mut(&mut self) -> &mut Repeat {
        match &mut self.state {
            State::Challenge(s) => &mut s.repeat,
            State::Accept(s) => &mut s.repeat,
            State::Confirm(s) => &mut s.repeat,
        }
    }

    fn owner(&self) -> Layer2Id {
        match &self.state {
            State::Challenge(s) => s.bind.owner,
            State::Accept(s) => s.bind.owner,
            State::Confirm(s) => s.bind.owner,
        }
    }

    fn waiting_for(&self) -> &'static str {
        match &self.state {
            State::Challenge(_) => "JOIN_CHALLENGE",
            State::Accept(_) => "JOIN_ACCEPT",
            State::Confirm(_) => "JOIN_CONFIRM",
        }
    }

    /// Whether nothing came back for so long that whoever announces itself meanwhile is the better guess.
    pub(super) fn gives_way_to(&self, announcer: Layer2Id) -> bool {
        let unanswered = matches!(&self.state, State::Challenge(s) if s.repeat.repeated() >= UNANSWERED);
        unanswered && announcer != self.owner()
    }

    /// Contexts with an owner that wait for message 6: one at most.
    pub(super) fn pending(&self, owner: Layer2Id) -> usize {
        usize::from(matches!(&self.state, State::Confirm(s) if s.bind.owner == owner))
    }

    /// Removes the context of message 5, where there is one.
    fn remove_context(&self, local: Layer2Id, out: &mut Queue) {
        if let State::Confirm(s) = &self.state {
            out.install(Command::RemoveLink { local, peer: s.bind.owner, id: s.agreed.id });
        }
    }
}

impl Member {
    /// Message 1, to the owner that is known or to the next one that announced itself.
    pub(super) fn begin_attempt<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.next_attempt = None;
        let owner = self.link.as_ref().map(|l| l.bind.owner).or(self.candidates.first().copied());
        // Without one in reach an announcement will begin it.
        let Some(owner) = owner else { return };
        // A RELEASE sent again would end the link to come.
        self.end_parting();
        let policy = &self.core.policy;
        let bind = Bind { group: policy.group, member: policy.layer2, owner };
        let (mut msb, seq) = (self.core.next_msb(), self.core.next_seq());
        // A live id has another MSB, so that whatever the owner adds the new id is new.
        while self.link.as_ref().is_some_and(|l| l.contexts.ids().any(|id| (id.get() >> 8) as u8 == msb)) {
            msb = self.core.next_msb();
        }
        match ExpectChallenge::start(bind, &self.core.policy, msb, seq, now.monotonic, rng) {
            Ok(state) => {
                let until = now.monotonic.saturating_add(WHOLE_ATTEMPT);
                let state = State::Challenge(Box::new(state));
                let attempt = Attempt { state, until, refused: false };
                self.core.out.repeat(bind.member, owner, attempt.repeat());
                self.attempt = Some(attempt);
            }
            Err(e) => self.core.out.ignored(owner, e),
        }
    }

    /// A join message on LCID 28: anybody's, until it opens.
    pub(super) fn on_join_message(&mut self, source: Layer2Id, canonical: &[u8], body: &Body, now: Now) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| a.owner() == source) else {
            return self.core.out.ignored(source, "no join under way with it");
        };
        let core = &mut self.core;
        match (&mut attempt.state, body) {
            (State::Challenge(state), Body::JoinRetry(m)) => {
                let seq = core.next_seq();
                if state.on_retry(m, seq, core.policy.sdu, now.monotonic) {
                    core.out.repeat(core.policy.layer2, source, attempt.repeat());
                }
            }
            (State::Challenge(state), Body::JoinChallenge(m)) => {
                let seq = core.next_seq();
                match state.on_challenge(canonical, m, &core.device, &core.policy, seq, now) {
                    Ok(next) => {
                        let newest = next.owner.newest;
                        super::super::raise_floor(&core.device, &mut *core.store, newest, &mut core.out);
                        core.device.learn(&next.owner_chain, now);
                        if next.owner.crl_in_grace {
                            core.out.notice(Notice::CrlInGrace(next.owner.identity.clone()));
                        }
                        attempt.state = State::Accept(Box::new(next));
                        core.out.repeat(core.policy.layer2, source, attempt.repeat());
                    }
                    Err(ChallengeError::Forged) => core.out.ignored(source, "JOIN_CHALLENGE does not open"),
                    Err(ChallengeError::Refused { refused, rejection }) => {
                        let first = !std::mem::replace(&mut attempt.refused, true);
                        refuse(core, source, &refused, first.then_some(rejection));
                    }
                }
            }
            (State::Accept(state), Body::JoinAccept(m)) => {
                match state.on_accept(canonical, m, &core.device, &core.policy, now.monotonic) {
                    Ok((agreed, keys)) => self.accepted(agreed, keys, now),
                    Err(refused) => refuse(core, source, &refused, None),
                }
            }
            (state, Body::Reject(m)) => {
                let proved = matches!(state, State::Accept(s) if s.refused_by_owner(m));
                // Who did not hear our message 1 knows no nonce of it.
                let concerns = match state {
                    State::Challenge(s) => s.concerns(m),
                    State::Accept(s) => s.concerns(m),
                    State::Confirm(_) => false,
                };
                if concerns {
                    let (group, cause) = (core.policy.group, m.cause);
                    core.out.notice(Notice::PeerRefused { group, claimed_source: source, cause, proved });
                }
                if proved {
                    // The owner's own word: the attempt is over. Everything else is a hint, and the timer runs on.
                    attempt.until = now.monotonic;
                }
            }
            _ => {}
        }
    }

    /// Message 4 holds: group keys count from now on, the link once it is confirmed.
    fn accepted(
        &mut self,
        agreed: crate::group_owner::join::Agreed,
        keys: crate::codec::entry::JoinKeys,
        now: Now,
    ) {
        let Some(attempt) = self.attempt.take() else { return };
        let Attempt { state: State::Accept(state), until, refused } = attempt else {
            self.attempt = Some(attempt);
            return;
        };
        let core = &mut self.core;
        let (local, peer) = (core.policy.layer2, state.bind.owner);
        let offset =
            i64::try_from(now.key_seconds()).unwrap_or(i64::MAX).saturating_sub_unsigned(state.owner_time);
        let (id, suite) = (agreed.id, agreed.suite);
        let kd_sess = agreed.kd_sess.duplicate();
        let owner_identity = state.owner.identity.clone();
        let (seq, sdu) = (core.next_seq(), core.policy.sdu);
        let confirm = match ExpectConfirm::start(*state, agreed, &keys, seq, sdu, now.monotonic) {
            Ok(confirm) => confirm,
            Err(e) => return core.out.ignored(peer, e),
        };
        if let Some(link) = &mut self.link {
            link.contexts.make_room(0, &mut core.out);
        }
        let key = LinkKey { local, peer, id, kd_sess, suite, role: LinkRole::Ue1 };
        core.out.install(Command::InstallLink(key, LinkPhase::Pending));
        self.ring.enter(keys.instance, &mut core.out);
        let source = KeySource { owner: &owner_identity, owner_layer2: peer, offset };
        if let Err(cause) = self.ring.take(keys.entries, keys.lowest_valid_epoch, &source, now, &mut core.out)
        {
            refuse(core, peer, &cause.into(), None);
        }
        if let Some((epoch, _)) = self.ring.newest_key() {
            core.out.notice(group_key_notice(core.policy.group, epoch, false));
        }
        let state = State::Confirm(Box::new(confirm));
        let attempt = Attempt { state, until, refused };
        core.out.repeat(local, peer, attempt.repeat());
        self.offset = offset;
        self.attempt = Some(attempt);
    }

    /// Message 6.
    pub(super) fn on_confirm(&mut self, source: Layer2Id, under: KdSessId, finished_o: &[u8; 32], now: Now) {
        let Some(attempt) = self.attempt.take() else { return };
        let Attempt { state: State::Confirm(state), .. } = attempt else {
            self.attempt = Some(attempt);
            return;
        };
        if state.bind.owner != source || state.agreed.id != under {
            let state = State::Confirm(state);
            self.attempt = Some(Attempt { state, ..attempt });
            return;
        }
        let core = &mut self.core;
        let (group, local) = (core.policy.group, core.policy.layer2);
        if !state.confirms(finished_o) {
            // It verified under the new KD-sess and is wrong all the same: that ends the attempt.
            core.out.install(Command::RemoveLink { local, peer: source, id: under });
            refuse(core, source, &Refused::new(Reject::NotAuthentic, "confirmation of the owner"), None);
            self.try_another(source);
            self.next_attempt = Some(now.monotonic.saturating_add(self.backoff));
            return;
        }
        let phase = LinkPhase::Active;
        core.out.install(Command::SetLinkPhase { local, peer: source, id: under, phase });
        let (identity, suite) = (state.owner.identity.clone(), state.agreed.suite);
        let until = state.owner.path_not_after;
        let before = self.link.take();
        let (crls, given) = (state.owner_crls.clone(), state.newest_epoch);
        let mut link = Link::new(*state, self.offset, before, now, &mut core.out);
        core.out.notice(Notice::Joined { group, local, peer: source, identity, suite, until });
        let newer: Vec<Vec<u8>> = {
            let trust = core.device.trust.read();
            trust.judge.newer_crls(&crls).map(<[u8]>::to_vec).collect()
        };
        for der in newer {
            link.hand_on_crl(core, &der, now);
        }
        if self.ring.newest() < given {
            // We had that epoch, and erased it: it is not taken again, and the owner has to know.
            link.ask(core, self.ring.newest(), false, false, now);
        }
        self.backoff = FIRST_BACKOFF;
        self.link = Some(link);
        // The owner did restart: what announced it was true, and the next restart may follow soon. What was not true
        // finds the instance unchanged, and waits.
        let instance = self.ring.instance();
        if std::mem::replace(&mut self.proved_instance, instance) != instance {
            self.announced_again_at = Duration::ZERO;
        }
    }

    /// What the clock brings for a join under way.
    pub(super) fn attempt_due<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let Some(attempt) = &mut self.attempt else { return };
        let mut over = attempt.until <= now.monotonic;
        if !over {
            match attempt.repeat_mut().due(now.monotonic) {
                Due::NotYet => {}
                Due::SendAgain => {
                    let owner = attempt.owner();
                    self.core.out.repeat(self.core.policy.layer2, owner, attempt.repeat());
                }
                Due::Over => over = true,
            }
        }
        if over {
            let (group, owner, waiting_for) =
                (self.core.policy.group, attempt.owner(), attempt.waiting_for());
            self.core.out.notice(Notice::AttemptOver { group, waiting_for });
            self.end_attempt();
            self.try_another(owner);
            if self.wanted && self.core.policy.rejoin {
                self.schedule_attempt(now, rng);
            }
        }
    }

    /// Who did not let us in comes last: an announcement may be anybody's.
    fn try_another(&mut self, failed: Layer2Id) {
        if let Some(at) = self.candidates.iter().position(|c| *c == failed) {
            let failed = self.candidates.remove(at);
            self.candidates.push(failed);
        }
    }

    /// The next attempt goes to this one.
    pub(super) fn prefer(&mut self, owner: Layer2Id) {
        if let Some(at) = self.candidates.iter().position(|c| *c == owner) {
            self.candidates[..=at].rotate_right(1);
        }
    }

    pub(super) fn end_attempt(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.remove_context(self.core.policy.layer2, &mut self.core.out);
        }
    }

    /// The next attempt: after a wait that doubles, 25 % more or less.
    pub(super) fn schedule_attempt<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let mut random = [0; 4];
        rng.fill_bytes(&mut random);
        let percent = 75 + u32::from_be_bytes(random) % 51;
        let wait = self.backoff.saturating_mul(percent) / 100;
        self.next_attempt = Some(now.monotonic.saturating_add(wait));
        self.backoff = self.backoff.saturating_mul(2).min(LAST_BACKOFF);
    }
}

fn refuse(core: &mut Core, source: Layer2Id, refused: &Refused, answer: Option<Rejection>) {
    core.out.notice(Notice::Refused {
        group: core.policy.group,
        claimed_source: source,
        cause: refused.cause,
        detail: refused.detail.clone(),
    });
    if let Some(rejection) = answer {
        let sdus = core.sdus(source, Body::Reject(rejection));
        let to = Destination::Ue(source);
        core.out.send(core.policy.layer2, to, pc5_dataplane::ids::Lcid::CLEAR, None, &sdus);
    }
}

/// First wait for the next attempt. Source: `go-mode.md` section 10.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest one.
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// A whole attempt.
const WHOLE_ATTEMPT: Duration = Duration::from_secs(10);
/// Message 1 sent again so often without an answer: 1.2 s. Of several announcers all but one may be forged, and a whole
/// attempt with each would keep a member out for long.
const UNANSWERED: u8 = 2;
/// Announcements bring about one join in this time.
pub(super) const ANNOUNCED_AGAIN: Duration = Duration::from_secs(5);

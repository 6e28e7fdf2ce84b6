//! The join as the owner runs it: messages of strangers, who is let in.

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid, LinkRole};
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Core;
use super::group::Group;
use super::half_open::{HalfOpen, State};
use super::link::MemberLink;
use crate::clock::{Now, earlier};
use crate::codec::entry::JoinKeys;
use crate::codec::go::{JoinRequest, JoinRetry, Message, Rejection, VERSION_FIELD};
use crate::codec::{Body, DecodeError, HEADER, MessageType};
use crate::credential::key::point;
use crate::credential::{Identity, Role};
use crate::group_owner::contexts::Contexts;
use crate::group_owner::flood::{COOKIE_FROM, CookieInput, HALF_OPEN, HALF_OPEN_A_SOURCE};
use crate::group_owner::join::Refused;
use crate::group_owner::join::owner::{Accepted, ExpectAuthenticate, ExpectComplete, Shown};
use crate::group_owner::schedule::{Bind, hash};
use crate::group_owner::{Ended, Notice};
use crate::policy::Admission;
use crate::reject::Reject;
use crate::store::Binding;

impl Group {
    /// A message that could not be read. A request of another version is answered, as a hint.
    pub(super) fn unreadable(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        canonical: &[u8],
        error: &DecodeError,
        now: Now,
    ) {
        let request = canonical.first() == Some(&(MessageType::JoinRequest as u8));
        if request && error.field == VERSION_FIELD {
            let nonce_1 = canonical.get(HEADER + 4..HEADER + 20).and_then(|n| n.try_into().ok());
            if let Some(nonce_1) = nonce_1 {
                return self.hint(core, source, nonce_1, Reject::Version.into(), now);
            }
        }
        core.out.ignored(source, error);
    }

    /// A message on LCID 28: anybody's.
    pub(super) fn clear<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        canonical: &[u8],
        message: Message,
        now: Now,
        rng: &mut R,
    ) {
        match message.body {
            Body::JoinRequest(m) => self.on_request(core, source, canonical, &m, now, rng),
            Body::JoinAuthenticate(sealed) => {
                self.on_authenticate(core, source, canonical, &sealed, now, rng);
            }
            Body::Reject(m) => self.on_member_reject(core, source, &m),
            other => core.out.ignored(source, format!("{} is not for an owner", other.message_type().name())),
        }
    }

    /// Message 1.
    fn on_request<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        canonical: &[u8],
        m: &JoinRequest,
        now: Now,
        rng: &mut R,
    ) {
        let request = hash(&[canonical]);
        if let Some(same) = self.half_open.of(source).iter().find(|h| h.request == request) {
            // A repeat gets the stored answer; after message 4 the member has no use for it any more.
            if let State::Challenged(state) = &same.state {
                let to = Destination::Ue(source);
                core.out.send(self.policy.owner, to, Lcid::CLEAR, None, &state.answer);
            }
            return;
        }
        if m.group != self.policy.group {
            return self.hint(core, source, m.nonce_1, Reject::GroupNotServed.into(), now);
        }
        if source == self.policy.owner || self.epochs.sending == 0 {
            return self.hint(core, source, m.nonce_1, Reject::Busy.into(), now);
        }
        let e_m = point(&m.e_m);
        let input = CookieInput { source, group: m.group, nonce_1: &m.nonce_1, e_m: &e_m };
        let shown = m.cookie.is_some_and(|c| core.flood.valid(&c, &input, now.monotonic, rng));
        let admitted = if shown {
            core.flood.admit_source(source, now.monotonic)
        } else {
            // Joins that merely name a source do not push out what it began itself: only who hears what is sent there does.
            let full = self.half_open.of(source).len() >= HALF_OPEN_A_SOURCE;
            let demanded = core.policy.cookie_always || core.half_open >= COOKIE_FROM || full;
            !demanded && core.flood.admit_stranger(now.monotonic)
        };
        if !admitted {
            if shown {
                return self.hint(core, source, m.nonce_1, Reject::Busy.into(), now);
            }
            if core.flood.admit_hint(now.monotonic) {
                let cookie = core.flood.cookie(&input, now.monotonic, rng);
                let sdus = core.sdus(source, Body::JoinRetry(JoinRetry { nonce_1: m.nonce_1, cookie }));
                core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, &sdus);
            }
            return;
        }
        if core.half_open >= HALF_OPEN {
            return self.hint(core, source, m.nonce_1, Reject::Busy.into(), now);
        }
        let suite = match self.policy.choose(&m.suites) {
            Ok(suite) => suite,
            Err(cause) => return self.hint(core, source, m.nonce_1, cause.into(), now),
        };
        self.make_room_for(core, source);
        let Some(lsb) = self.free_lsb(source, m.msb, rng) else {
            return self.hint(core, source, m.nonce_1, Reject::Limit.into(), now);
        };
        let bind = Bind { group: m.group, member: source, owner: self.policy.owner };
        let (seq, sdu) = (core.next_seq(), core.policy.sdu);
        let answered =
            ExpectAuthenticate::answer(bind, canonical, m, suite, lsb, &core.device, seq, sdu, now, rng);
        match answered {
            Ok(state) => {
                core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, &state.answer);
                self.add_half_open(core, source, request, state, now.monotonic);
            }
            Err(refused) => self.hint(core, source, m.nonce_1, refused, now),
        }
    }

    /// Message 3.
    fn on_authenticate<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        canonical: &[u8],
        sealed: &[u8],
        now: Now,
        rng: &mut R,
    ) {
        let list = self.half_open.of(source);
        if list.is_empty() {
            return core.out.ignored(source, "JOIN_AUTHENTICATE without a handshake");
        }
        let authenticated = hash(&[canonical]);
        let mut opened = None;
        for half_open in list {
            if let Some((_, answer)) = half_open.refused.iter().find(|(h, _)| *h == authenticated) {
                core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, answer);
                return;
            }
            match &half_open.state {
                State::Accepted(state) if state.authenticated == authenticated => {
                    let to = Destination::Ue(source);
                    core.out.send(self.policy.owner, to, Lcid::CLEAR, None, &state.answer);
                    return;
                }
                State::Accepted(_) => {}
                // Each further try costs signatures; who fails so often starts anew.
                State::Challenged(_) if half_open.refused.len() >= TRIES => {}
                State::Challenged(state) => {
                    if let Some(shown) = state.open(sealed, &core.device, now) {
                        opened = Some((half_open.request, shown));
                        break;
                    }
                }
            }
        }
        let Some((request, shown)) = opened else {
            return core.out.ignored(source, "JOIN_AUTHENTICATE does not open");
        };
        let Some(half_open) = self.half_open.lift(source, request) else { return };
        let HalfOpen { refused: mut before, state: State::Challenged(state), .. } = half_open else { return };
        let result = shown.and_then(|shown| self.admit(core, source, &state, shown, now, rng));
        let state = match result {
            Ok((mut complete, sdus)) => {
                complete.authenticated = authenticated;
                core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, &sdus);
                State::Accepted(Box::new(complete))
            }
            Err(refused) => {
                self.refused(core, source, &refused);
                let sdus = core.sdus(source, Body::Reject(state.tagged(refused.cause)));
                core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, &sdus);
                before.push((authenticated, sdus));
                // State unmoved: who holds K_hs may still show something better, within the attempt's time.
                State::Challenged(state)
            }
        };
        self.half_open.put_back(source, HalfOpen { request, refused: before, state });
    }

    /// Everything between message 3 opened and message 4.
    fn admit<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        state: &ExpectAuthenticate,
        shown: Shown,
        now: Now,
        rng: &mut R,
    ) -> Result<(ExpectComplete, Vec<Bytes>), Refused> {
        let identity = &shown.leaf.identity;
        self.admitted(identity)?;
        let full = self.members.len() >= self.policy.max_members && !self.members.contains_key(&source);
        if full {
            return Err(Refused::new(Reject::Limit, "the group is full"));
        }
        if let Some(other) = self.bound_to_other(source, identity, now) {
            return Err(Refused::new(Reject::Layer2IdInUse, format!("{source} belongs to {other}")));
        }
        if !self.may_bind(source, identity, now) {
            let what = format!("{identity} has too many Layer-2 ids without a link");
            return Err(Refused::new(Reject::Limit, what));
        }
        state.verify(&shown)?;
        if shown.leaf.crl_in_grace {
            core.out.notice(Notice::CrlInGrace(identity.clone()));
        }
        super::super::raise_floor(&core.device, &mut *core.store, shown.leaf.newest, &mut core.out);
        core.device.learn(&shown.chain, now);

        let stored = |e: crate::store::StoreError| Refused::new(Reject::Busy, e);
        let numbers = self.epochs_for_joiner(core, now, rng).map_err(stored)?;
        let entries = self.entries(&numbers, |_| true, source, &mut *core.store).map_err(stored)?;
        let until = entries.iter().map(|e| e.not_after).max().unwrap_or(0);
        let binding = Binding { group: self.policy.group, layer2: source, identity: identity.clone(), until };
        core.store.bind(binding.clone()).map_err(stored)?;
        self.bindings.insert(source, binding);

        let mut s_u = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *s_u);
        let keys = JoinKeys {
            s_u,
            kd_lifetime: u32::try_from(self.policy.kd_lifetime.as_secs()).unwrap_or(u32::MAX),
            keepalive_period: u16::try_from(self.policy.keepalive_period.as_secs().max(1))
                .unwrap_or(u16::MAX),
            instance: core.instance,
            lowest_valid_epoch: self.epochs.lowest_valid,
            entries,
        };
        let (seq, sdu) = (core.next_seq(), core.policy.sdu);
        let Accepted { answer, agreed } = state.accept(&shown, &keys, seq, sdu, rng)?;

        // At most one context waits for its message 5 a source.
        self.drop_accepted(core, source);
        let (local, id, suite) = (self.policy.owner, agreed.id, agreed.suite);
        let kd_sess = agreed.kd_sess.duplicate();
        let key = LinkKey { local, peer: source, id, kd_sess, suite, role: LinkRole::Ue2 };
        self.end_leaving(core, source);
        if let Some(m) = self.members.get_mut(&source) {
            m.make_room(0, &mut core.out);
        }
        core.out.install(Command::InstallLink(key, LinkPhase::Pending));
        let complete = ExpectComplete {
            authenticated: [0; 32],
            answer: answer.clone(),
            agreed,
            leaf: shown.leaf,
            crls_held: shown.crls_held,
            first_epoch: numbers.first().copied().unwrap_or(u64::MAX),
            newest_epoch: numbers.last().copied().unwrap_or(0),
        };
        Ok((complete, answer))
    }

    pub(super) fn admitted(&self, identity: &Identity) -> Result<(), Refused> {
        if self.evicted.contains(identity) {
            return Err(Refused::new(Reject::NotAdmitted, format!("{identity} is evicted")));
        }
        match &self.policy.admission {
            Admission::Listed(list) if !list.contains(identity) => {
                Err(Refused::new(Reject::NotAdmitted, format!("{identity} is not on the list")))
            }
            Admission::Certified | Admission::Listed(_) => Ok(()),
        }
    }

    /// Whose a Layer-2 id is, when it is somebody else's: as long as the link or any PGK given to it lives.
    fn bound_to_other(&self, source: Layer2Id, identity: &Identity, now: Now) -> Option<Identity> {
        if let Some(m) = self.members.get(&source) {
            return (m.leaf.identity != *identity).then(|| m.leaf.identity.clone());
        }
        let binding = self.bindings.get(&source)?;
        let live = binding.until >= now.key_seconds();
        (live && binding.identity != *identity).then(|| binding.identity.clone())
    }

    /// Message 5, under the new KD-sess. Returns whether it was one.
    pub(super) fn on_complete<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        under: KdSessId,
        finished_m: &[u8; 32],
        now: Now,
        rng: &mut R,
    ) {
        let accepted = |h: &HalfOpen| matches!(&h.state, State::Accepted(s) if s.agreed.id == under);
        let Some(half_open) = self.take_half_open(core, source, accepted) else {
            // A repeat, because message 6 was lost.
            if let Some(m) = self.members.get(&source)
                && m.joined_under == under
                && bool::from(m.finished_m.ct_eq(finished_m))
            {
                let to = Destination::Ue(source);
                core.out.send(self.policy.owner, to, Lcid::SIGNALLING, Some(under), &m.confirm);
            }
            return;
        };
        let State::Accepted(state) = half_open.state else { return };
        let mut result = if state.completes(finished_m) { Ok(()) } else { Err(Reject::NotAuthentic.into()) };
        // Between message 4 and now much may have happened; what it lacks is about to be handed out.
        result = result.and_then(|()| self.admitted(&state.leaf.identity));
        result = result.and_then(|()| {
            let judged = core.device.judge_again(&state.leaf, Role::Member, self.policy.group, now);
            judged.map(|_| ()).map_err(|e| Refused::new(Reject::from(&e), e))
        });
        if let Err(refused) = result {
            self.refused(core, source, &refused);
            let (local, id) = (self.policy.owner, under);
            core.out.install(Command::RemoveLink { local, peer: source, id });
            self.gathered = earlier(self.gathered, Some(now.monotonic));
            return;
        }
        self.joined(core, source, *state, now, rng);
    }

    /// The link is confirmed: message 6, and it replaces the one before.
    fn joined<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        state: ExpectComplete,
        now: Now,
        rng: &mut R,
    ) {
        let ExpectComplete { agreed, leaf, crls_held, first_epoch, newest_epoch, .. } = state;
        let (local, group) = (self.policy.owner, self.policy.group);
        let confirm = core.sdus(source, Body::JoinConfirm(*agreed.finished_o));
        core.out.send(local, Destination::Ue(source), Lcid::SIGNALLING, Some(agreed.id), &confirm);
        let phase = LinkPhase::Active;
        core.out.install(Command::SetLinkPhase { local, peer: source, id: agreed.id, phase });

        // The link before may have been left after message 4: who joins again waits for no answer to that.
        self.end_leaving(core, source);
        let replaced = self.members.remove(&source);
        let former = replaced.iter().flat_map(MemberLink::ids);
        let contexts = Contexts::new(local, source, agreed.id, former, now.monotonic);
        let left = leaf.path_not_after.saturating_sub(now.unix_seconds());
        let (identity, suite, until) = (leaf.identity.clone(), agreed.suite, leaf.path_not_after);
        let member = MemberLink {
            bind: Bind { group, member: source, owner: local },
            suite,
            root: agreed.root,
            contexts,
            commanded: Vec::new(),
            last_run: None,
            kd_since: now.monotonic,
            runs: 0,
            last_lsb: agreed.id.get() as u8,
            refresh_wanted: false,
            trigger: None,
            update: None,
            given: newest_epoch,
            lacks_given: false,
            first_epoch,
            acked: newest_epoch,
            heard: now.monotonic,
            until: now.monotonic.saturating_add(Duration::from_secs(left)),
            crls: Vec::new(),
            answered: None,
            finished_m: agreed.finished_m,
            confirm,
            joined_under: agreed.id,
            armed: None,
            leaf,
        };
        let old_ids = if self.policy.several_layer2 { Vec::new() } else { self.of(&identity) };
        self.members.insert(source, member);
        for old in old_ids {
            self.replace(core, old, now);
        }
        self.note_audience(source);
        core.touched.push((local, source));
        core.out.notice(Notice::Joined { group, local, peer: source, identity, suite, until });
        if newest_epoch < self.epochs.newest() || first_epoch < self.epochs.lowest_valid {
            // Something changed between message 4 and message 5.
            let target = self.epochs.sending.max(newest_epoch + 1);
            self.update(core, &[source], target, now, rng);
        }
        let newer: Vec<Vec<u8>> = {
            let trust = core.device.trust.read();
            trust.judge.newer_crls(&crls_held).map(<[u8]>::to_vec).collect()
        };
        for der in newer {
            self.hand_on_crl(core, &der, Some(source), now);
        }
    }

    /// The same identity joined under another Layer-2 id. What it had as the former it has as the latter: no new epoch.
    fn replace(&mut self, core: &mut Core, old: Layer2Id, now: Now) {
        let Some(m) = self.members.remove(&old) else { return };
        let (group, local) = (self.policy.group, self.policy.owner);
        m.remove_others(&mut core.out);
        let reason = super::release_reason(Ended::Replaced);
        self.start_release(core, old, m.contexts.in_use(), reason, now);
        self.note_audience(old);
        let identity = m.leaf.identity.clone();
        core.out.notice(Notice::Ended { group, local, peer: old, identity, why: Ended::Replaced });
    }

    /// REJECT of a member: without its tag it says nothing.
    fn on_member_reject(&mut self, core: &mut Core, source: Layer2Id, m: &Rejection) {
        let refused = |h: &HalfOpen| matches!(&h.state, State::Challenged(s) if s.refused_by_member(m));
        let proved = self.drop_half_open(core, source, refused).is_some();
        let (group, claimed_source, cause) = (self.policy.group, source, m.cause);
        core.out.notice(Notice::PeerRefused { group, claimed_source, cause, proved });
    }

    /// A refusal that proves nothing; causes that tell about certificates or membership never go out so.
    fn hint(&mut self, core: &mut Core, source: Layer2Id, nonce_1: [u8; 16], refused: Refused, now: Now) {
        if refused.cause.tagged_only() || !core.flood.admit_hint(now.monotonic) {
            return;
        }
        self.refused(core, source, &refused);
        let rejection = Rejection { nonce_1, cause: refused.cause.cause(), tag: None };
        let sdus = core.sdus(source, Body::Reject(rejection));
        core.out.send(self.policy.owner, Destination::Ue(source), Lcid::CLEAR, None, &sdus);
    }

    pub(super) fn refused(&self, core: &mut Core, claimed_source: Layer2Id, refused: &Refused) {
        let (group, cause, detail) = (self.policy.group, refused.cause, refused.detail.clone());
        core.out.notice(Notice::Refused { group, claimed_source, cause, detail });
    }
}

/// Messages 3 refused in one handshake before no other is looked at.
const TRIES: usize = 4;

//! What happens on a live link of the owner: acknowledgements, requests, re-keying, keepalive, release, CRLs.

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::Core;
use super::group::{GATHERING, Group};
use super::link::Answered;
use crate::clock::{Now, earlier};
use crate::codec::Body;
use crate::codec::direct::KeepaliveAck;
use crate::codec::entry::limits::ENTRIES;
use crate::codec::go::{GroupKeyRequest, Message, Rejection, RekeyRequest};
use crate::credential::Role;
use crate::group_owner::distribution::Epoch;
use crate::group_owner::rekeying::{Answer, RUNS, command};
use crate::group_owner::repeat::{CRL_COPIES, Due, Repeat, T_REKEY};
use crate::group_owner::{Ended, Notice, TakenCrl};
use crate::reject::Reject;

impl Group {
    /// A message on LCID 30: its sender holds the key of context `under`.
    #[expect(clippy::too_many_arguments, reason = "a received message and what it may change")]
    pub(super) fn protected<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        under: KdSessId,
        canonical: &[u8],
        message: Message,
        now: Now,
        rng: &mut R,
    ) {
        let seq = message.seq;
        match &message.body {
            Body::JoinComplete(finished_m) => {
                return self.on_complete(core, source, under, finished_m, now, rng);
            }
            Body::ReleaseAccept => return self.end_leaving(core, source),
            _ => {}
        }
        if self.members.get(&source).is_none_or(|m| m.contexts.is_former(under)) {
            // Leaving, pending, or of a link that another has replaced: nothing else is exchanged then. A leaver's repeat is
            // answered, the rest ignored.
            if matches!(message.body, Body::Release(_)) {
                self.accept_release(core, source, under);
            }
            return;
        }
        core.touched.push((self.policy.owner, source));
        match message.body {
            Body::Keepalive(m) => {
                let sdus = core.sdus(source, Body::KeepaliveAck(KeepaliveAck { counter: m.counter }));
                self.reply(core, source, &sdus);
            }
            Body::GroupKeyAck(newest) => self.on_ack(core, source, newest, now, rng),
            Body::GroupKeyRequest(m) => self.on_key_request(core, source, seq, m, now, rng),
            Body::RekeyRequest(m) => self.on_rekey_request(core, source, under, canonical, &m, now, rng),
            Body::RekeyComplete(confirm_m) => {
                self.on_rekey_complete(core, source, under, &confirm_m, now, rng)
            }
            Body::Release(m) => {
                self.accept_release(core, source, under);
                self.remove(core, source, Ended::Left, now);
                let _ = m;
            }
            Body::CrlUpdate(der) => {
                let Core { device, store, out, .. } = core;
                if super::super::take_crl(device, &mut **store, &der, now, out) == TakenCrl::New {
                    self.hand_on_crl(core, &der, None, now);
                }
            }
            Body::Reject(m) => {
                let (group, cause) = (self.policy.group, m.cause);
                core.out.notice(Notice::PeerRefused { group, claimed_source: source, cause, proved: true });
            }
            other => core.out.ignored(source, format!("{} is not for an owner", other.message_type().name())),
        }
    }

    fn reply(&self, core: &mut Core, peer: Layer2Id, sdus: &[Bytes]) {
        core.out.send(self.policy.owner, Destination::Ue(peer), Lcid::SIGNALLING, None, sdus);
    }

    fn accept_release(&self, core: &mut Core, peer: Layer2Id, under: KdSessId) {
        let sdus = core.sdus(peer, Body::ReleaseAccept);
        core.out.send(self.policy.owner, Destination::Ue(peer), Lcid::SIGNALLING, Some(under), &sdus);
    }

    /// GROUP_KEY_ACK.
    fn on_ack<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        newest: u64,
        now: Now,
        rng: &mut R,
    ) {
        let made = self.epochs.newest();
        let Some(m) = self.members.get_mut(&source) else { return };
        if newest > made {
            return core.out.ignored(source, format!("acknowledges epoch {newest}, {made} is the newest"));
        }
        if newest < m.given {
            return self.lacks_given(source, newest, now);
        }
        m.acked = m.acked.max(newest);
        if m.update.as_ref().is_some_and(|u| u.newest <= newest) {
            m.update = None;
        }
        self.note_audience(source);
        self.check_change(core, now, rng);
    }

    /// It had what the join gave before, and erased it since: it takes no such epoch again, since what was sent under it
    /// could be replayed then. So it gets an epoch of its own, and until then group data over its link.
    fn lacks_given(&mut self, peer: Layer2Id, newest: u64, now: Now) {
        let Some(m) = self.members.get_mut(&peer) else { return };
        // Once a join: an epoch is everybody's work.
        if m.acked == m.given && !std::mem::replace(&mut m.lacks_given, true) {
            m.acked = newest;
            self.note_audience(peer);
            self.gathered = earlier(self.gathered, Some(now.monotonic.saturating_add(GATHERING)));
        }
    }

    /// GROUP_KEY_REQUEST. A repeat gets the stored answer: no second grant.
    fn on_key_request<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        seq: u16,
        m: GroupKeyRequest,
        now: Now,
        rng: &mut R,
    ) {
        let Some(member) = self.members.get(&source) else { return };
        // Before every hand-out, a repeated one too.
        if let Err(e) = core.device.judge_again(&member.leaf, Role::Member, self.policy.group, now) {
            return self.remove(core, source, Ended::Refused(Reject::from(&e)), now);
        }
        if let Some(same) = member.answered.as_ref().filter(|a| a.seq == seq) {
            return self.reply(core, source, &same.sdus);
        }
        let first_epoch = member.first_epoch;
        if m.newest_epoch < member.given {
            self.lacks_given(source, m.newest_epoch, now);
        }
        // What it lacks; and where a grant or floors are wanted, or it lacks nothing, the one in use again.
        let from = first_epoch.max(self.epochs.lowest_valid);
        let mut numbers = self.epochs.above(m.newest_epoch.max(from.saturating_sub(1)));
        let sending = self.epochs.sending;
        if (m.grant || m.floors || numbers.is_empty())
            && first_epoch <= sending
            && !numbers.contains(&sending)
        {
            numbers.insert(0, sending);
        }
        if numbers.is_empty() {
            numbers = self.epochs.above(sending);
        }
        numbers.truncate(ENTRIES);
        // Grants are durable and finite, and what suggested the question may be anybody's frame: one with each epoch that
        // the member lacks, and otherwise only where it asks for one.
        let granted = |n| m.grant || n > m.newest_epoch;
        let entries = match self.entries(&numbers, granted, source, &mut *core.store) {
            Ok(entries) if !entries.is_empty() => entries,
            Ok(_) => return,
            Err(e) => return core.store_failed(&e),
        };
        if self.epochs.get(self.epochs.sending).is_some_and(Epoch::half_given) {
            self.change_key(core, now, rng);
        }
        let newest = numbers.last().copied().unwrap_or(0);
        let Some(member) = self.members.get(&source) else { return };
        let job = self.job(core, member, entries, newest, rng);
        match job.run(core.policy.sdu).2 {
            Ok(sdus) => {
                self.reply(core, source, &sdus);
                if let Some(member) = self.members.get_mut(&source) {
                    let until = now.monotonic.saturating_add(ANSWERED);
                    member.answered = Some(Answered { seq, sdus, until });
                }
            }
            Err(what) => core.out.ignored(source, format!("GROUP_KEY_UPDATE not sent: {what}")),
        }
    }

    /// REKEY_REQUEST.
    #[expect(clippy::too_many_arguments, reason = "a received message and what it may change")]
    fn on_rekey_request<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        under: KdSessId,
        canonical: &[u8],
        m: &RekeyRequest,
        now: Now,
        rng: &mut R,
    ) {
        let local = self.policy.owner;
        let (kd_lifetime, pending) = (self.policy.kd_lifetime, self.pending(source));
        let Some(member) = self.members.get_mut(&source) else { return };
        if let Some(same) = member.commanded.iter().find(|c| c.nonce_1 == m.nonce_1) {
            let to = Destination::Ue(source);
            return core.out.send(local, to, Lcid::SIGNALLING, Some(under), &same.answer);
        }
        if member.last_run == Some(m.nonce_1) {
            return;
        }
        member.trigger = None;
        let due = member.refresh_wanted
            || member.runs + 1 >= RUNS
            || member.refresh_due(kd_lifetime) <= now.monotonic;
        if due && m.refresh.is_none() {
            let cause = Reject::RefreshRequired.cause();
            let rejection = Rejection { nonce_1: m.nonce_1, cause, tag: None };
            let sdus = core.sdus(source, Body::Reject(rejection));
            return core.out.send(local, Destination::Ue(source), Lcid::SIGNALLING, Some(under), &sdus);
        }
        let Some(lsb) = member.next_lsb(m.msb) else { return };
        let answer = Answer {
            bind: member.bind,
            root: &member.root,
            member: &member.leaf.public_key,
            lsb,
            under,
            seq: core.next_seq(),
            sdu: core.policy.sdu,
            now: now.monotonic,
        };
        match command(&answer, canonical, m, rng) {
            Ok((commanded, kd_sess)) => {
                let sdus = commanded.answer.clone();
                member.make_room(pending, &mut core.out);
                member.install_commanded(commanded, kd_sess, &mut core.out);
                core.out.send(local, Destination::Ue(source), Lcid::SIGNALLING, Some(under), &sdus);
                if !m.route.is_empty() {
                    core.out.notice(Notice::Route { peer: source, route: m.route.clone() });
                }
            }
            Err(refused) => core.out.ignored(source, refused.detail),
        }
    }

    /// REKEY_COMPLETE. That its frame verified has confirmed the context already.
    fn on_rekey_complete<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        under: KdSessId,
        confirm_m: &[u8; 32],
        now: Now,
        rng: &mut R,
    ) {
        let commanded = self.members.get(&source).and_then(|m| m.commanded.iter().find(|c| c.id == under));
        match commanded {
            Some(c) if bool::from(c.confirm_m.ct_eq(confirm_m)) => {
                self.first_verified(core, source, under, now, rng);
            }
            Some(_) => core.out.ignored(source, "REKEY_COMPLETE with a wrong confirmation"),
            None => {}
        }
    }

    /// The first frame under a context confirms it.
    pub(super) fn first_verified<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        id: KdSessId,
        now: Now,
        rng: &mut R,
    ) {
        let local = self.policy.owner;
        let Some(m) = self.members.get_mut(&peer) else { return };
        m.heard = now.monotonic;
        if let Some(refreshed) = m.first_verified(id, now.monotonic, &mut core.out) {
            core.out.notice(Notice::Rekeyed { local, peer, id, refreshed });
            if refreshed {
                self.seal_again(core, peer, now, rng);
            }
        }
        core.touched.push((local, peer));
    }

    /// Half of a link's SNs are used in one direction: the member is asked to ask.
    pub(super) fn link_half_used(&mut self, core: &mut Core, peer: Layer2Id, id: KdSessId, now: Now) {
        if self.members.get(&peer).is_some_and(|m| m.contexts.in_use() == id) {
            self.trigger(core, peer, false, now);
        }
    }

    /// REKEY_TRIGGER.
    pub(super) fn trigger(&mut self, core: &mut Core, peer: Layer2Id, refresh: bool, now: Now) {
        let local = self.policy.owner;
        let Some(m) = self.members.get_mut(&peer) else { return };
        m.refresh_wanted |= refresh;
        // One is under way already: it serves.
        if m.is_rekeying() {
            return;
        }
        let refresh = m.refresh_wanted;
        let sdus = core.sdus(peer, Body::RekeyTrigger(refresh));
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T_REKEY, now.monotonic);
        core.out.repeat(local, peer, &repeat);
        m.trigger = Some(repeat);
        core.touched.push((local, peer));
    }

    /// A CRL that a member, or all of them, may not have. A second copy covers a lost frame.
    pub(super) fn hand_on_crl(&mut self, core: &mut Core, der: &[u8], only: Option<Layer2Id>, now: Now) {
        let local = self.policy.owner;
        let sdus = core.sdus(local, Body::CrlUpdate(der.to_vec()));
        for m in self.members.values_mut().filter(|m| only.is_none_or(|o| o == m.bind.member)) {
            let repeat = Repeat::new(sdus.clone(), Lcid::SIGNALLING, None, CRL_COPIES, now.monotonic);
            core.out.repeat(local, m.bind.member, &repeat);
            m.crls.push(repeat);
            core.touched.push((local, m.bind.member));
        }
    }

    /// When a member is to be looked at, where that is earlier than known.
    pub(super) fn member_deadline(&mut self, peer: Layer2Id) -> Option<Duration> {
        let m = self.members.get_mut(&peer)?;
        let at = m.deadline(self.policy.lost_after, self.policy.kd_lifetime);
        if m.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        m.armed = Some(at);
        Some(at)
    }

    /// What the clock brings for one member.
    pub(super) fn member_due<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        now: Now,
        rng: &mut R,
    ) {
        let (local, at) = (self.policy.owner, now.monotonic);
        let (lost_after, kd_lifetime) = (self.policy.lost_after, self.policy.kd_lifetime);
        let Some(m) = self.members.get_mut(&peer) else { return };
        m.armed = None;
        core.touched.push((local, peer));
        m.contexts.remove_due(at, &mut core.out);
        m.answered.take_if(|a| a.until <= at);
        if m.until <= at {
            return self.refuse_and_exclude(core, peer, Reject::LifetimeOver, now, rng);
        }
        let mut lost = m.heard.saturating_add(lost_after) <= at;
        if let Some(update) = &mut m.update {
            match update.repeat.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, &update.repeat),
                Due::Over => lost = true,
            }
        }
        for commanded in &mut m.commanded {
            let Some(repeat) = &mut commanded.repeat else { continue };
            match repeat.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, repeat),
                // It stays installed for receiving until the next one is confirmed.
                Due::Over => commanded.repeat = None,
            }
        }
        let mut again = false;
        if let Some(trigger) = &mut m.trigger {
            match trigger.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, trigger),
                Due::Over => {
                    m.trigger = None;
                    again = true;
                }
            }
        }
        m.crls.retain_mut(|repeat| match repeat.due(at) {
            Due::NotYet => true,
            Due::SendAgain => {
                core.out.repeat(local, peer, repeat);
                true
            }
            Due::Over => false,
        });
        let over = m.kd_since.saturating_add(kd_lifetime).saturating_add(KD_GRACE) <= at;
        let refresh = !m.is_rekeying() && m.refresh_due(kd_lifetime) <= at;
        if over {
            return self.refuse_and_exclude(core, peer, Reject::LifetimeOver, now, rng);
        }
        if lost {
            return self.remove(core, peer, Ended::Lost, now);
        }
        if refresh || again {
            self.trigger(core, peer, refresh, now);
        }
    }

    fn refuse_and_exclude<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        cause: Reject,
        now: Now,
        rng: &mut R,
    ) {
        self.remove(core, peer, Ended::Refused(cause), now);
        self.exclude(core, now, rng);
    }
}

/// An answer is kept for so long: longer than anybody repeats a GROUP_KEY_REQUEST.
const ANSWERED: Duration = Duration::from_secs(5);
/// A refresh under way at the end of KD's lifetime may come to its end.
const KD_GRACE: Duration = Duration::from_secs(60);

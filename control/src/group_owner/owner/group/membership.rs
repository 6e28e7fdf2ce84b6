//! Who belongs to a group: bindings of Layer-2 ids, leaving, eviction, and being judged again.

use std::time::Duration;

use pc5_dataplane::ids::{KdSessId, Layer2Id};
use pc5_dataplane::keys::{Command, LinkPhase, UnixSeconds};
use rand_core::CryptoRng;

use super::{GATHERING, Group};
use crate::clock::{Now, earlier};
use crate::codec::Body;
use crate::codec::direct::{Release, ReleaseReason};
use crate::credential::{Identity, Role};
use crate::group_owner::join::Refused;
use crate::group_owner::owner::link::{Leaving, MemberLink};
use crate::group_owner::owner::{Core, release_reason};
use crate::group_owner::repeat::{Due, Repeat, T4103};
use crate::group_owner::{Ended, Notice};
use crate::reject::Reject;
use crate::store::{Binding, StoreError};

impl Group {
    /// A Layer-2 id is an identity's until then, on disk before any key is given to it.
    pub(in crate::group_owner::owner) fn bind(
        &mut self,
        core: &mut Core,
        layer2: Layer2Id,
        identity: &Identity,
        until: UnixSeconds,
    ) -> Result<(), StoreError> {
        let binding = Binding { group: self.policy.group, layer2, identity: identity.clone(), until };
        core.store.bind(binding.clone())?;
        self.bindings.insert(layer2, binding);
        Ok(())
    }

    /// Whether another Layer-2 id may be bound. Bindings without a link are bounded, an identity and in all: they are on
    /// disk, and nobody else gets those ids.
    pub(in crate::group_owner::owner) fn may_bind(
        &self,
        layer2: Layer2Id,
        identity: &Identity,
        now: Now,
    ) -> bool {
        // Every member has one.
        let few = self.bindings.len() < self.members.len() + UNLINKED_AN_IDENTITY;
        if few || self.bindings.contains_key(&layer2) {
            return true;
        }
        let time = now.key_seconds();
        let unlinked =
            self.bindings.values().filter(|b| b.until >= time && !self.members.contains_key(&b.layer2));
        let (mut all, mut own) = (0, 0);
        for binding in unlinked {
            all += 1;
            own += usize::from(binding.identity == *identity);
        }
        all < UNLINKED && own < UNLINKED_AN_IDENTITY
    }

    /// Bindings are written some keys ahead, so that not every change of the key writes one for every member.
    pub(in crate::group_owner::owner) fn binding_ahead(&self) -> UnixSeconds {
        self.policy.key_lifetime.as_secs().saturating_mul(BOUND_AHEAD)
    }

    /// Before `newest` goes out: the binding of each receiver lasts as long as it.
    pub(super) fn extend_bindings(
        &mut self,
        core: &mut Core,
        peers: &[Layer2Id],
        now: Now,
    ) -> Result<(), StoreError> {
        let newest = self.epochs.get(self.epochs.newest()).map_or(0, |e| e.not_after);
        let until = newest.saturating_add(self.binding_ahead());
        for peer in peers {
            if self.bindings.get(peer).is_some_and(|b| b.until >= newest) {
                continue;
            }
            if let Some(identity) = self.members.get(peer).map(|m| m.leaf.identity.clone()) {
                self.bind(core, *peer, &identity, until)?;
            }
        }
        let over: Vec<Layer2Id> = self
            .bindings
            .values()
            .filter(|b| b.until < now.key_seconds() && !self.members.contains_key(&b.layer2))
            .map(|b| b.layer2)
            .collect();
        for layer2 in over {
            core.store.unbind(self.policy.group, layer2)?;
            self.bindings.remove(&layer2);
        }
        Ok(())
    }

    /// The link is over: the Layer-2 id is free when the last key given to it is.
    pub(super) fn shorten_binding(&mut self, core: &mut Core, m: &MemberLink) {
        let given = m.update.as_ref().map_or(m.acked, |u| u.newest.max(m.acked));
        let Some(until) = self.epochs.get(given).map(|e| e.not_after) else { return };
        if let Err(e) = self.bind(core, m.bind.member, &m.leaf.identity, until) {
            core.store_failed(&e);
        }
    }

    /// Ends a member's link. What the group is sent from the next epoch on is closed to it.
    pub(in crate::group_owner::owner) fn remove(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        why: Ended,
        now: Now,
    ) {
        let Some(m) = self.members.remove(&peer) else { return };
        let (local, id) = (self.policy.owner, m.contexts.in_use());
        self.shorten_binding(core, &m);
        m.remove_others(&mut core.out);
        if matches!(why, Ended::Left) {
            // The driver has to send RELEASE ACCEPT first: the context goes with the next look at the clock.
            let repeat = Repeat::new(Vec::new(), Leaving::channel(), Some(id), T4103, now.monotonic);
            self.end_leaving(core, peer);
            self.set_pending(core, peer, id);
            self.leaving.insert(peer, Leaving { id, repeat });
        } else {
            self.start_release(core, peer, id, release_reason(why), now);
        }
        self.note_audience(peer);
        core.out.notice(Notice::Ended {
            group: self.policy.group,
            local,
            peer,
            identity: m.leaf.identity.clone(),
            why,
        });
        let exclude_at = match why {
            Ended::Evicted | Ended::Refused(_) => now.monotonic,
            _ => now.monotonic.saturating_add(GATHERING),
        };
        self.gathered = earlier(self.gathered, Some(exclude_at));
    }

    /// Nothing but PC5-S any more, both ways.
    pub(super) fn set_pending(&self, core: &mut Core, peer: Layer2Id, id: KdSessId) {
        let (local, phase) = (self.policy.owner, LinkPhase::Pending);
        core.out.install(Command::SetLinkPhase { local, peer, id, phase });
    }

    pub(in crate::group_owner::owner) fn start_release(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        id: KdSessId,
        reason: ReleaseReason,
        now: Now,
    ) {
        self.end_leaving(core, peer);
        self.set_pending(core, peer, id);
        let sdus = core.sdus(peer, Body::Release(Release { reason }));
        let repeat = Repeat::new(sdus, Leaving::channel(), Some(id), T4103, now.monotonic);
        core.out.repeat(self.policy.owner, peer, &repeat);
        self.leaving.insert(peer, Leaving { id, repeat });
    }

    pub(super) fn repeat_releases(&mut self, core: &mut Core, now: Duration) {
        let mut over = Vec::new();
        for (peer, leaving) in &mut self.leaving {
            match leaving.repeat.due(now) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(self.policy.owner, *peer, &leaving.repeat),
                Due::Over => over.push(*peer),
            }
        }
        over.into_iter().for_each(|peer| self.end_leaving(core, peer));
    }

    /// RELEASE was accepted, or asked for often enough.
    pub(in crate::group_owner::owner) fn end_leaving(&mut self, core: &mut Core, peer: Layer2Id) {
        if let Some(leaving) = self.leaving.remove(&peer) {
            let (local, id) = (self.policy.owner, leaving.id);
            core.out.install(Command::RemoveLink { local, peer, id });
        }
    }

    pub(in crate::group_owner::owner) fn evict<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        identity: &Identity,
        now: Now,
        rng: &mut R,
    ) {
        if let Err(e) = core.store.set_evicted(self.policy.group, identity, true) {
            // It goes all the same; only that it stays out after a restart is not sure, and that is told.
            core.store_failed(&e);
        }
        self.evicted.insert(identity.clone());
        let peers = self.of(identity);
        for peer in &peers {
            self.remove(core, *peer, Ended::Evicted, now);
        }
        // A join under way may have been given keys already.
        let was_given = self.drop_half_open_of(core, identity) || self.still_holds(identity, now);
        if !peers.is_empty() || was_given {
            self.exclude(core, now, rng);
        }
    }

    /// Whether an identity without a link was given keys that no epoch has followed yet.
    pub(in crate::group_owner::owner) fn still_holds(&self, identity: &Identity, now: Now) -> bool {
        let given = |b: &Binding| b.identity == *identity && b.until >= now.key_seconds();
        self.gathered.is_some() && self.bindings.values().any(given)
    }

    pub(in crate::group_owner::owner) fn readmit(&mut self, core: &mut Core, identity: &Identity) {
        match core.store.set_evicted(self.policy.group, identity, false) {
            Ok(()) => drop(self.evicted.remove(identity)),
            Err(e) => core.store_failed(&e),
        }
    }

    /// Layer-2 ids of an identity's live links.
    pub(in crate::group_owner::owner) fn of(&self, identity: &Identity) -> Vec<Layer2Id> {
        self.members.values().filter(|m| m.leaf.identity == *identity).map(|m| m.bind.member).collect()
    }

    pub(in crate::group_owner::owner) fn release_all(
        &mut self,
        core: &mut Core,
        reason: ReleaseReason,
        now: Now,
    ) {
        let peers: Vec<Layer2Id> = self.members.keys().copied().collect();
        for peer in peers {
            let Some(m) = self.members.remove(&peer) else { continue };
            m.remove_others(&mut core.out);
            self.start_release(core, peer, m.contexts.in_use(), reason, now);
            let (group, local, identity) = (self.policy.group, self.policy.owner, m.leaf.identity.clone());
            core.out.notice(Notice::Ended { group, local, peer, identity, why: Ended::Left });
        }
        self.by_link.clear();
        self.gathered = Some(now.monotonic.saturating_add(GATHERING));
    }

    /// Every live peer is judged again, and whoever was given keys and has yet to confirm.
    pub(in crate::group_owner::owner) fn judge_all<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) {
        let mut refused = Vec::new();
        for m in self.members.values() {
            if let Err(e) = core.device.judge_again(&m.leaf, Role::Member, self.policy.group, now) {
                refused.push((m.bind.member, Reject::from(&e)));
            }
        }
        let mut excluded = !refused.is_empty();
        for (peer, cause) in refused {
            self.remove(core, peer, Ended::Refused(cause), now);
        }
        for (source, leaf) in self.joining() {
            if let Err(e) = core.device.judge_again(&leaf, Role::Member, self.policy.group, now) {
                self.refused(core, source, &Refused::new(Reject::from(&e), e));
                excluded |= self.drop_half_open_of(core, &leaf.identity);
            }
        }
        if excluded {
            self.exclude(core, now, rng);
        }
    }
}

/// Bindings without a link: after a restart all members may come back under other Layer-2 ids,
const UNLINKED: usize = 4 * crate::policy::limits::MEMBERS;
/// and of one identity, which may draw another a join, so many while the keys given to them live.
const UNLINKED_AN_IDENTITY: usize = 64;
/// Key lifetimes that a binding is written ahead.
const BOUND_AHEAD: u64 = 8;

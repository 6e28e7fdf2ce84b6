//! A group at its owner: epochs, their changes, and who has what.

mod membership;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use pc5_dataplane::ids::{Layer2Id, Lcid, PgkId};
use pc5_dataplane::keys::Command;
use rand_core::CryptoRng;
use rayon::prelude::*;

use super::Core;
use super::half_open::HalfOpenJoins;
use super::link::{Leaving, MemberLink, Update};
use crate::clock::{Now, earlier};
use crate::codec::entry::limits::ENTRIES;
use crate::codec::entry::{GroupKeyEntry, encode_entries};
use crate::codec::go::{GroupKeyUpdate, HpkeSealed, Message, Wrapped};
use crate::codec::{Body, segment};
use crate::credential::{Identity, Role};
use crate::group_owner::distribution::{EpochSettings, Epochs, STRAGGLERS, VOID_AT_LATEST, group_key_notice};
use crate::group_owner::repeat::{Repeat, T_INST};
use crate::group_owner::schedule::{Dksi, GroupContext, Secret, group_info, hpke_context};
use crate::group_owner::{Ended, Notice};
use crate::hpke;
use crate::policy::{GroupPolicy, OnJoin, Wrap};
use crate::reject::Reject;
use crate::store::{Binding, Store, StoreError};

/// One group of an owner.
pub(super) struct Group {
    pub policy: GroupPolicy,
    pub epochs: Epochs,
    pub members: BTreeMap<Layer2Id, MemberLink>,
    /// Who had which Layer-2 id, and until when a PGK given to it lives.
    pub bindings: HashMap<Layer2Id, Binding>,
    pub evicted: BTreeSet<Identity>,
    pub half_open: HalfOpenJoins,
    pub leaving: BTreeMap<Layer2Id, Leaving>,
    /// The epoch that the group changes to once all have it.
    change: Option<u64>,
    /// An epoch without those who left is due then.
    pub gathered: Option<Duration>,
    /// An epoch for joiners is due then.
    fresh: Option<Duration>,
    /// Routine change of the epoch in use.
    change_at: Duration,
    /// Nothing is sent under the epochs there are: somebody removed has them, and the store takes no other.
    withheld: bool,
    /// Members that group data reaches over their links.
    pub by_link: BTreeSet<Layer2Id>,
    by_link_told: bool,
    announce_at: Duration,
    announced: u8,
}

impl Group {
    pub(super) fn new(policy: GroupPolicy, store: &dyn Store) -> Self {
        let group = policy.group;
        let bindings = store.bindings(group).into_iter().map(|b| (b.layer2, b)).collect();
        Self {
            epochs: Epochs::after(store.epochs_reserved(group)),
            evicted: store.evicted(group),
            bindings,
            policy,
            members: BTreeMap::new(),
            half_open: HalfOpenJoins::default(),
            leaving: BTreeMap::new(),
            change: None,
            gathered: None,
            fresh: None,
            change_at: Duration::ZERO,
            withheld: false,
            by_link: BTreeSet::new(),
            by_link_told: true,
            announce_at: Duration::ZERO,
            announced: 0,
        }
    }

    pub(super) fn context<'a>(&self, owner: &'a Identity) -> GroupContext<'a> {
        GroupContext { owner, group: self.policy.group, owner_layer2: self.policy.owner }
    }

    pub(super) fn start<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        self.announce_at = now.monotonic;
        match self.first_epoch(core, now, rng) {
            Ok(()) => {}
            Err(e) => {
                core.store_failed(&e);
                self.change_at = now.monotonic.saturating_add(STORE_RETRY);
            }
        }
    }

    fn first_epoch<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Result<(), StoreError> {
        let first = self.make_at(now.key_seconds(), core, now, rng)?;
        let context = self.context(&core.device.identity);
        self.epochs.void_below(first, context, Duration::ZERO, now.monotonic, &mut core.out);
        core.out.notice(group_key_notice(self.policy.group, first, true));
        self.begin_period(now);
        self.make_future(core, now, rng)
    }

    /// A new epoch that begins then, in our own engine at once.
    fn make_at<R: CryptoRng + ?Sized>(
        &mut self,
        not_before: u64,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Result<u64, StoreError> {
        let settings = EpochSettings {
            group: self.policy.group,
            suite: self.policy.group_suite,
            direct: self.policy.direct,
            not_before,
            not_after: not_before.saturating_add(self.policy.key_lifetime.as_secs().max(1)),
        };
        let number = self.epochs.make(settings, &mut *core.store, rng)?;
        let context = self.context(&core.device.identity);
        self.epochs.install(number, context, &mut *core.store, now.monotonic, &mut core.out)?;
        Ok(number)
    }

    /// Future epochs, as many as policy hands out ahead.
    fn make_future<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Result<(), StoreError> {
        let step = self.policy.change_after().as_secs().max(1);
        for n in 1..=u64::from(self.policy.future_epochs) {
            if (self.epochs.above(self.epochs.sending).len() as u64) < n {
                self.make_at(now.key_seconds().saturating_add(step.saturating_mul(n)), core, now, rng)?;
            }
        }
        Ok(())
    }

    fn begin_period(&mut self, now: Now) {
        self.change_at = now.monotonic.saturating_add(self.policy.change_after());
    }

    /// The key in use is changed no later than policy says from now.
    pub(super) fn hasten_change(&mut self, now: Now) {
        self.change_at = self.change_at.min(now.monotonic.saturating_add(self.policy.change_after()));
    }

    pub(super) fn deadline(&self, announces: bool) -> Option<Duration> {
        let announce = announces.then_some(self.announce_at);
        let half_open = self.half_open.deadline();
        let leaving = self.leaving.values().map(|l| l.repeat.deadline()).min();
        let timed = [announce, half_open, leaving, self.gathered, self.fresh, self.epochs.deadline()];
        let change = if self.change.is_none() && !self.withheld { Some(self.change_at) } else { None };
        timed.into_iter().fold(change, earlier)
    }

    /// What the clock brings.
    pub(super) fn due<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        let at = now.monotonic;
        let past = |deadline: Option<Duration>| deadline.is_some_and(|d| d <= at);
        if core.policy.announce && self.announce_at <= at {
            super::announce(core, self);
            self.announced = self.announced.saturating_add(1);
            // Three times in quick succession after a start, then every second.
            let wait = if self.announced < 3 { 100 } else { 1_000 };
            self.announce_at = at.saturating_add(Duration::from_millis(wait));
        }
        self.expire_half_open(core, at);
        self.repeat_releases(core, at);
        let context = self.context(&core.device.identity);
        self.epochs.expire(context, at, &mut core.out);
        if past(self.gathered) {
            self.exclude(core, now, rng);
        }
        if past(self.fresh) {
            self.fresh = None;
            self.change_key(core, now, rng);
        }
        if self.change.is_none() && self.change_at <= at {
            self.change_key(core, now, rng);
        }
        self.check_change(core, now, rng);
        self.tell_audience(core);
    }

    /// Routine change: everybody gets the next epoch, then it is switched to.
    pub(super) fn change_key<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        if self.epochs.sending == 0 {
            if let Err(e) = self.first_epoch(core, now, rng) {
                core.store_failed(&e);
                self.change_at = now.monotonic.saturating_add(STORE_RETRY);
            }
            return;
        }
        // While keys are withheld the next one is the one that excludes.
        if self.change.is_some() || self.withheld {
            return;
        }
        let made = self.epoch_to_use(core, now, rng).and_then(|target| {
            // As many ahead after the change as before, one after the other.
            let step = self.policy.change_after().as_secs().max(1);
            loop {
                let ahead = self.epochs.above(target).len() as u64;
                if ahead >= u64::from(self.policy.future_epochs) {
                    return Ok(target);
                }
                let begins = now.key_seconds().saturating_add(step.saturating_mul(ahead + 1));
                self.make_at(begins, core, now, rng)?;
            }
        });
        match made {
            Ok(target) => {
                self.fresh = None;
                self.change = Some(target);
                self.distribute(core, target, now, rng);
                self.check_change(core, now, rng);
            }
            Err(e) => {
                core.store_failed(&e);
                self.change_at = now.monotonic.saturating_add(STORE_RETRY);
            }
        }
    }

    /// A change that is ordered. While keys are withheld it is the one that excludes, tried at once.
    pub(super) fn order_change<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        if self.withheld {
            self.exclude(core, now, rng);
        } else {
            self.change_key(core, now, rng);
        }
    }

    /// The epoch that may follow the one in use now. A future one whose time has not come serves nobody: a change before
    /// its time is to an epoch of its own, and what lies between is passed over.
    fn epoch_to_use<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Result<u64, StoreError> {
        match self.epochs.next_begun(now.key_seconds()) {
            Some(next) => Ok(next),
            None => self.make_at(now.key_seconds(), core, now, rng),
        }
    }

    /// An epoch that those removed never had, in use at once; everything they had is void.
    pub(super) fn exclude<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        self.gathered = None;
        if self.epochs.sending == 0 {
            return;
        }
        // Told before the first command: from the moment that the old key is gone everybody is reached over its link.
        self.by_link = self.members.keys().copied().collect();
        self.by_link_told = false;
        self.tell_audience(core);
        let number = match self.make_at(now.key_seconds(), core, now, rng) {
            Ok(number) => number,
            Err(e) => {
                core.store_failed(&e);
                self.withhold(core);
                self.gathered = Some(now.monotonic.saturating_add(STORE_RETRY));
                return;
            }
        };
        self.withheld = false;
        let keep = if self.policy.direct { VOID_AT_LATEST } else { Duration::ZERO };
        let context = self.context(&core.device.identity);
        self.epochs.void_below(number, context, keep, now.monotonic, &mut core.out);
        core.out.notice(group_key_notice(self.policy.group, number, true));
        self.change = None;
        self.fresh = None;
        self.begin_period(now);
        if let Err(e) = self.make_future(core, now, rng) {
            core.store_failed(&e);
        }
        // The same members, and the epoch that they are to get.
        self.by_link_told = false;
        self.distribute(core, number, now, rng);
    }

    /// No epoch without those removed can be made: nothing more goes out under what they have, all the same.
    fn withhold(&mut self, core: &mut Core) {
        self.withheld = true;
        self.change = None;
        self.fresh = None;
        let context = self.context(&core.device.identity);
        self.epochs.retire_all(context, &mut core.out);
    }

    /// Switches once every member has acknowledged; a member that does not is lost, by its own timer.
    pub(super) fn check_change<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, now: Now, rng: &mut R) {
        let Some(target) = self.change else { return };
        if self.members.values().any(|m| m.acked < target) {
            return;
        }
        self.change = None;
        let context = self.context(&core.device.identity);
        self.epochs.switch(target, context, STRAGGLERS, now.monotonic, &mut core.out);
        core.out.notice(group_key_notice(self.policy.group, target, false));
        self.begin_period(now);
        self.by_link = self.members.values().filter(|m| !m.holds(target)).map(|m| m.bind.member).collect();
        self.by_link_told = false;
        // A store that failed at the change is tried again here.
        if let Err(e) = self.make_future(core, now, rng) {
            core.store_failed(&e);
        }
    }

    fn tell_audience(&mut self, core: &mut Core) {
        if std::mem::replace(&mut self.by_link_told, true) {
            return;
        }
        let Some(epoch) = self.epochs.get(self.epochs.sending) else { return };
        let by_link = self.by_link.iter().copied().collect();
        core.out.notice(Notice::Audience { group: self.policy.group, pgk_id: epoch.pgk_id, by_link });
    }

    /// Takes note of what a member has now.
    pub(super) fn note_audience(&mut self, peer: Layer2Id) {
        let holds = self.members.get(&peer).map(|m| !self.withheld && m.holds(self.epochs.sending));
        let changed = match holds {
            Some(false) => self.by_link.insert(peer),
            Some(true) | None => self.by_link.remove(&peer),
        };
        self.by_link_told &= !changed;
    }

    /// Epochs that a joiner gets, oldest first.
    pub(super) fn epochs_for_joiner<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Result<Vec<u64>, StoreError> {
        if self.policy.on_join == OnJoin::Fresh && self.change.is_none() {
            // Nothing was sent under the next one yet. With nobody there, nothing was recorded to be kept from anyone.
            self.epoch_to_use(core, now, rng)?;
            self.fresh.get_or_insert(now.monotonic.saturating_add(GATHERING));
        }
        let from = match self.policy.on_join {
            OnJoin::Current => self.epochs.sending.saturating_sub(1),
            OnJoin::Fresh => self.epochs.sending,
        };
        let mut epochs = self.epochs.above(from);
        epochs.truncate(ENTRIES);
        Ok(epochs)
    }

    /// Entries of these epochs for one member, with grants that are on disk for those that `granted` names.
    pub(super) fn entries(
        &mut self,
        numbers: &[u64],
        granted: impl Fn(u64) -> bool,
        sender: Layer2Id,
        store: &mut dyn Store,
    ) -> Result<Vec<GroupKeyEntry>, StoreError> {
        let (group, direct) = (self.policy.group, self.policy.direct);
        let mut entries = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let Some(epoch) = self.epochs.get_mut(number) else { continue };
            let granted = direct && granted(number);
            let grant = if granted { epoch.grant(group, sender, store)? } else { None };
            entries.push(epoch.entry(grant));
        }
        Ok(entries)
    }

    /// Sends every member what it lacks up to now; `target` goes to all of them, also as an equal repeat.
    fn distribute<R: CryptoRng + ?Sized>(&mut self, core: &mut Core, target: u64, now: Now, rng: &mut R) {
        let mut refused = Vec::new();
        for (peer, m) in &self.members {
            // Before every hand-out the member's certificate is judged again.
            match core.device.judge_again(&m.leaf, Role::Member, self.policy.group, now) {
                Ok(false) => {}
                Ok(true) => core.out.notice(Notice::CrlInGrace(m.leaf.identity.clone())),
                Err(e) => refused.push((*peer, Reject::from(&e))),
            }
        }
        let removed = !refused.is_empty();
        for (peer, cause) in refused {
            self.remove(core, peer, Ended::Refused(cause), now);
        }
        if removed {
            // They know what is about to be handed out in no case: an epoch of its own follows at once.
            self.gathered = Some(now.monotonic);
        }
        let peers: Vec<Layer2Id> = self.members.keys().copied().collect();
        self.update(core, &peers, target, now, rng);
    }

    /// GROUP_KEY_UPDATE to these members: every epoch from `target` on, and whatever else they lack.
    pub(super) fn update<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        peers: &[Layer2Id],
        target: u64,
        now: Now,
        rng: &mut R,
    ) {
        if let Err(e) = self.extend_bindings(core, peers, now) {
            return core.store_failed(&e);
        }
        let mut grants = HashMap::new();
        let lowest_valid = self.epochs.lowest_valid;
        if self.policy.direct {
            let wanted = self.epochs.above(lowest_valid.max(1) - 1);
            for number in wanted.into_iter().filter(|&n| n >= target) {
                let Some(epoch) = self.epochs.get_mut(number) else { continue };
                match epoch.grant_all(self.policy.group, peers.iter().copied(), &mut *core.store) {
                    Ok(ranges) => grants.insert(number, ranges),
                    Err(e) => return core.store_failed(&e),
                };
            }
        }
        let mut jobs = Vec::with_capacity(peers.len());
        for peer in peers {
            let Some(m) = self.members.get(peer) else { continue };
            let from = lowest_valid.max(m.acked + 1).max(m.first_epoch).min(target);
            let mut numbers = self.epochs.above(from.saturating_sub(1));
            // The newest ones matter most.
            numbers.drain(..numbers.len().saturating_sub(ENTRIES));
            let entries: Vec<GroupKeyEntry> = numbers
                .iter()
                .filter_map(|n| {
                    let grant = grants.get(n).and_then(|g| g.get(peer)).cloned();
                    self.epochs.get(*n).map(|e| e.entry(grant))
                })
                .collect();
            let Some(newest) = entries.last().map(|e| e.epoch) else { continue };
            jobs.push(self.job(core, m, entries, newest, rng));
        }
        let sdu = core.policy.sdu;
        let done: Vec<_> = if jobs.len() > 1 {
            jobs.into_par_iter().map(|j| j.run(sdu)).collect()
        } else {
            jobs.into_iter().map(|j| j.run(sdu)).collect()
        };
        for (peer, newest, sdus) in done {
            match sdus {
                Ok(sdus) => self.send_update(core, peer, newest, sdus, now),
                Err(what) => core.out.ignored(peer, format!("GROUP_KEY_UPDATE not sent: {what}")),
            }
        }
    }

    /// GROUP_KEY_UPDATE for one member, not yet encoded: encoding and sealing run in parallel.
    pub(super) fn job<R: CryptoRng + ?Sized>(
        &self,
        core: &mut Core,
        m: &MemberLink,
        entries: Vec<GroupKeyEntry>,
        newest: u64,
        rng: &mut R,
    ) -> UpdateJob {
        let seal = self.seals_to_certificate(m).then(|| SealTo {
            key: m.leaf.public_key,
            psk: m.root.group_psk(),
            dksi: m.root.dksi,
            ephemeral: SecretKey::generate_from_rng(rng),
        });
        let lowest_valid = self.epochs.lowest_valid;
        UpdateJob { peer: m.bind.member, seq: core.next_seq(), lowest_valid, entries, newest, seal }
    }

    /// Whether group keys go to a member sealed to its certificate: a MAC field of 4 octets is too little for them.
    fn seals_to_certificate(&self, m: &MemberLink) -> bool {
        self.policy.wrap == Wrap::Certificate || m.suite.mac_len() < 16
    }

    /// KD was refreshed: what was sealed under the one before opens nowhere any more, and is sealed again.
    pub(super) fn seal_again<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        peer: Layer2Id,
        now: Now,
        rng: &mut R,
    ) {
        let Some(m) = self.members.get(&peer).filter(|m| self.seals_to_certificate(m)) else { return };
        let under_way = m.update.as_ref().map(|u| u.newest.min(self.epochs.sending.max(m.acked + 1)));
        if let Some(m) = self.members.get_mut(&peer) {
            m.answered = None;
        }
        if let Some(target) = under_way {
            self.update(core, &[peer], target, now, rng);
        }
    }

    fn send_update(&mut self, core: &mut Core, peer: Layer2Id, newest: u64, sdus: Vec<Bytes>, now: Now) {
        let Some(m) = self.members.get_mut(&peer) else { return };
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T_INST, now.monotonic);
        core.out.repeat(self.policy.owner, peer, &repeat);
        m.update = Some(Update { repeat, newest });
        core.touched.push((self.policy.owner, peer));
    }

    /// More PTK identities for our own sending.
    pub(super) fn grant_to_self(&mut self, core: &mut Core, pgk_id: PgkId) {
        let (local, group) = (self.policy.owner, self.policy.group);
        let Some(epoch) = self.epochs.by_pgk_id(pgk_id) else { return };
        match epoch.grant(group, local, &mut *core.store) {
            Ok(Some(range)) => {
                let senders = epoch.senders(local);
                core.out.install(Command::Grant { local, group, pgk_id, senders, range });
            }
            // Used up: the change of the key that half of them asked for is under way.
            Ok(None) => {}
            Err(e) => core.store_failed(&e),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.change.is_none()
            && self.gathered.is_none()
            && self.fresh.is_none()
            && self.leaving.is_empty()
            && self
                .members
                .values()
                .all(|m| m.update.is_none() && m.commanded.is_empty() && m.trigger.is_none())
    }
}

/// GROUP_KEY_UPDATE of one member, to be encoded.
pub(super) struct UpdateJob {
    peer: Layer2Id,
    seq: u16,
    lowest_valid: u64,
    entries: Vec<GroupKeyEntry>,
    newest: u64,
    seal: Option<SealTo>,
}

struct SealTo {
    key: PublicKey,
    psk: Secret,
    dksi: Dksi,
    ephemeral: SecretKey,
}

impl UpdateJob {
    pub(super) fn run(self, sdu: usize) -> (Layer2Id, u64, Result<Vec<Bytes>, String>) {
        let (peer, newest) = (self.peer, self.newest);
        (peer, newest, self.encode(sdu).map_err(|e| e.to_string()))
    }

    fn encode(self, sdu: usize) -> Result<Vec<Bytes>, Box<dyn std::error::Error>> {
        let n = self.entries.len() as u8;
        let keys = match self.seal {
            None => Wrapped::Link(self.entries),
            Some(SealTo { key, psk, dksi, ephemeral }) => {
                let info = group_info(dksi, self.lowest_valid, n);
                let plaintext = encode_entries(&self.entries)?;
                let sealed = hpke::seal_under(&ephemeral, &key, hpke_context(&info, &psk), &plaintext)?;
                Wrapped::Certificate {
                    n,
                    sealed: HpkeSealed { enc: sealed.enc, ciphertext: sealed.ciphertext },
                }
            }
        };
        let body = Body::GroupKeyUpdate(GroupKeyUpdate { lowest_valid_epoch: self.lowest_valid, keys });
        Ok(segment::segment(&Message { seq: self.seq, body }.encode()?, sdu)?)
    }
}

/// Leaves, losses and joins are gathered for so long before an epoch of their own.
pub(super) const GATHERING: Duration = Duration::from_secs(1);
/// A store that failed is tried again after this.
const STORE_RETRY: Duration = Duration::from_secs(1);

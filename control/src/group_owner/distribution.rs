//! Group keys: epochs, PGK ids, grants and floors at the owner, and what a member holds. Source: `go-mode.md`
//! section 5; contribution 2.2, key issue 3.4.
//!
//! ```text
//! owner   epochs  ... retired | sending | future ...     lowest valid epoch: what lies below is void
//! member  held    each below the newest verified is erased 10 s later; below the lowest valid at once
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use pc5_dataplane::ids::{GroupId, Layer2Id, PgkId, PtkId};
use pc5_dataplane::keys::{Command, Floor, GroupKey, PermittedSender, UnixSeconds};
use pc5_dataplane::suite::Suite;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::schedule::{GroupContext, Secret, hash, kmulticast};
use super::{Notice, Queue};
use crate::clock::{Now, earlier};
use crate::codec::entry::{GroupKeyEntry, limits::FLOORS, limits::GRANT};
use crate::credential::Identity;
use crate::reject::Reject;
use crate::store::{Granted, Store, StoreError};

/// PGK id of an epoch: 1..=31, so that the 5-bit index is never 0 and 8 live ones never collide.
pub const fn pgk_id(epoch: u64) -> PgkId {
    PgkId(1 + (epoch.wrapping_sub(1) % 31) as u8)
}

/// One cryptoperiod at the owner.
pub(crate) struct Epoch {
    pub number: u64,
    pub pgk_id: PgkId,
    suite: Suite,
    direct: bool,
    pub not_before: UnixSeconds,
    pub not_after: UnixSeconds,
    s_m: Secret,
    /// Newest PTK identity given, a sender.
    granted: HashMap<Layer2Id, PtkId>,
    floors: BTreeMap<Layer2Id, Floor>,
}

/// What an epoch is made with.
#[derive(Clone, Copy)]
pub(crate) struct EpochSettings {
    pub group: GroupId,
    pub suite: Suite,
    pub direct: bool,
    pub not_before: UnixSeconds,
    pub not_after: UnixSeconds,
}

impl Epoch {
    /// The next PTK identities for a sender, on disk before they are returned. `None`: used up.
    pub(crate) fn grant(
        &mut self,
        group: GroupId,
        sender: Layer2Id,
        store: &mut dyn Store,
    ) -> Result<Option<RangeInclusive<PtkId>>, StoreError> {
        let Some(range) = self.next_grant(sender) else { return Ok(None) };
        store.record_grants(group, self.number, &[Granted { sender, last: *range.end() }])?;
        self.granted.insert(sender, *range.end());
        Ok(Some(range))
    }

    /// The same for many senders with one write.
    pub(crate) fn grant_all(
        &mut self,
        group: GroupId,
        senders: impl Iterator<Item = Layer2Id>,
        store: &mut dyn Store,
    ) -> Result<HashMap<Layer2Id, RangeInclusive<PtkId>>, StoreError> {
        let ranges: HashMap<_, _> = senders.filter_map(|s| Some((s, self.next_grant(s)?))).collect();
        let grants: Vec<_> = ranges.iter().map(|(&sender, r)| Granted { sender, last: *r.end() }).collect();
        if !grants.is_empty() {
            store.record_grants(group, self.number, &grants)?;
        }
        self.granted.extend(grants.iter().map(|g| (g.sender, g.last)));
        Ok(ranges)
    }

    /// Whether some sender was given half of all PTK identities: time for another PGK.
    pub(crate) fn half_given(&self) -> bool {
        self.granted.values().any(|last| last.get() >= HALF)
    }

    fn next_grant(&self, sender: Layer2Id) -> Option<RangeInclusive<PtkId>> {
        let first = match self.granted.get(&sender) {
            None => PtkId::new(1)?,
            Some(last) => last.next()?,
        };
        let last = PtkId::new(first.get().saturating_add(GRANT - 1))?;
        Some(first..=last)
    }

    /// What a member is given of it.
    pub(crate) fn entry(&self, grant: Option<RangeInclusive<PtkId>>) -> GroupKeyEntry {
        let grant = if self.direct { grant } else { None };
        let mut floors: Vec<Floor> = self.floors.values().copied().collect();
        // With more senders than an entry has room for, those furthest on protect most.
        floors.sort_by_key(|f| std::cmp::Reverse((f.ptk_id, f.next_sn)));
        floors.truncate(FLOORS);
        GroupKeyEntry {
            epoch: self.number,
            pgk_id: self.pgk_id,
            suite: self.suite,
            direct: self.direct,
            not_before: self.not_before,
            not_after: self.not_after,
            grant,
            s_m: self.s_m.clone(),
            floors,
        }
    }

    /// Who sends under it.
    pub(crate) fn senders(&self, owner: Layer2Id) -> PermittedSender {
        if self.direct { PermittedSender::Any } else { PermittedSender::Only(owner) }
    }

    /// What the owner's engine is given of it.
    fn group_key(&self, context: GroupContext<'_>, grant: Option<RangeInclusive<PtkId>>) -> GroupKey {
        let GroupContext { group, owner_layer2, .. } = context;
        GroupKey {
            local: owner_layer2,
            group,
            pgk_id: self.pgk_id,
            pgk: kmulticast(context, self.number, self.pgk_id, self.suite, &self.s_m),
            suite: self.suite,
            senders: self.senders(owner_layer2),
            not_before: self.not_before,
            not_after: self.not_after,
            grant,
            floors: Vec::new(),
        }
    }

    pub(crate) fn raise_floors(&mut self, floors: &[Floor]) {
        for floor in floors {
            let known = self.floors.entry(floor.sender).or_insert(*floor);
            if (known.ptk_id, known.next_sn) < (floor.ptk_id, floor.next_sn) {
                *known = *floor;
            }
        }
    }
}

/// All epochs of one group at its owner.
pub(crate) struct Epochs {
    live: BTreeMap<u64, Epoch>,
    /// The one sent under.
    pub sending: u64,
    /// What lies below is void.
    pub lowest_valid: u64,
    newest: u64,
    reserved: u64,
    /// Old ones, and when they are erased here.
    erase: Vec<(u64, Duration)>,
}

impl Epochs {
    /// Goes on above everything ever reserved; the first epoch is made with [`Self::make`].
    pub(crate) fn after(reserved: u64) -> Self {
        let live = BTreeMap::new();
        Self { live, sending: 0, lowest_valid: 0, newest: reserved, reserved, erase: Vec::new() }
    }

    /// A new epoch above every one ever handed out.
    pub(crate) fn make<R: CryptoRng + ?Sized>(
        &mut self,
        settings: EpochSettings,
        store: &mut dyn Store,
        rng: &mut R,
    ) -> Result<u64, StoreError> {
        let number = self.newest.checked_add(1).ok_or_else(|| StoreError("epochs are used up".into()))?;
        if number > self.reserved {
            let through = number.saturating_add(RESERVED_AHEAD - 1);
            store.reserve_epochs(settings.group, through)?;
            self.reserved = through;
        }
        self.newest = number;
        let mut s_m = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *s_m);
        let epoch = Epoch {
            number,
            pgk_id: pgk_id(number),
            suite: settings.suite,
            direct: settings.direct,
            not_before: settings.not_before,
            not_after: settings.not_after,
            s_m,
            granted: HashMap::new(),
            floors: BTreeMap::new(),
        };
        self.live.insert(number, epoch);
        Ok(number)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Epoch> {
        self.live.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Epoch> {
        self.live.get_mut(&number)
    }

    pub(crate) fn by_pgk_id(&mut self, id: PgkId) -> Option<&mut Epoch> {
        self.live.values_mut().rev().find(|e| e.pgk_id == id)
    }

    /// Newest epoch made.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Numbers of the epochs above `above`, lowest first.
    pub(crate) fn above(&self, above: u64) -> Vec<u64> {
        self.live.range(above.saturating_add(1)..).map(|(&n, _)| n).collect()
    }

    /// The first one after the one in use whose time has come, where there is one.
    pub(crate) fn next_begun(&self, now: UnixSeconds) -> Option<u64> {
        let mut after = self.live.range(self.sending.saturating_add(1)..);
        after.find(|(_, e)| e.not_before <= now).map(|(&n, _)| n)
    }

    /// Puts an epoch into the owner's engine; where that fails the epoch is gone.
    pub(crate) fn install(
        &mut self,
        number: u64,
        context: GroupContext<'_>,
        store: &mut dyn Store,
        now: Duration,
        out: &mut Queue,
    ) -> Result<(), StoreError> {
        // Room for it among the live PGKs of a holder: old ones go first, then future ones that were passed over.
        while self.live.len() > LIVE {
            match self.live.keys().find(|&&n| n != self.sending && n != number).copied() {
                Some(oldest) => self.erase_now(oldest, context, out),
                None => break,
            }
        }
        self.expire(context, now, out);
        let Some(epoch) = self.live.get_mut(&number) else { return Ok(()) };
        match epoch.grant(context.group, context.owner_layer2, store) {
            Ok(grant) => out.install(Command::InstallGroup(epoch.group_key(context, grant))),
            Err(e) => {
                // The engine never got it: nobody is to be given it, nor is it to be switched to. Its number is used up.
                self.live.remove(&number);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Sends under `number` from now on; the one before is retired and erased after `keep`.
    pub(crate) fn switch(
        &mut self,
        number: u64,
        context: GroupContext<'_>,
        keep: Duration,
        now: Duration,
        out: &mut Queue,
    ) {
        let GroupContext { group, owner_layer2: local, .. } = context;
        for (&old, epoch) in self.live.range(..number) {
            if !self.erase.iter().any(|&(n, _)| n == old) {
                let (pgk_id, senders) = (epoch.pgk_id, epoch.senders(local));
                out.install(Command::RetireGroup { local, group, pgk_id, senders });
                self.erase.push((old, now.saturating_add(keep)));
            }
        }
        self.sending = number;
        self.expire(context, now, out);
    }

    /// Nothing is sent under any of them any more; they are heard on.
    pub(crate) fn retire_all(&self, context: GroupContext<'_>, out: &mut Queue) {
        let GroupContext { group, owner_layer2: local, .. } = context;
        for epoch in self.live.values() {
            let (pgk_id, senders) = (epoch.pgk_id, epoch.senders(local));
            out.install(Command::RetireGroup { local, group, pgk_id, senders });
        }
    }

    /// Declares everything below `number` void; what is kept of it to hear stragglers goes after `keep`.
    pub(crate) fn void_below(
        &mut self,
        number: u64,
        context: GroupContext<'_>,
        keep: Duration,
        now: Duration,
        out: &mut Queue,
    ) {
        self.lowest_valid = number;
        for (_, at) in &mut self.erase {
            *at = (*at).min(now.saturating_add(keep));
        }
        self.switch(number, context, keep, now, out);
    }

    /// Erases what is due.
    pub(crate) fn expire(&mut self, context: GroupContext<'_>, now: Duration, out: &mut Queue) {
        let due: Vec<u64> = self.erase.iter().filter(|(_, at)| *at <= now).map(|(n, _)| *n).collect();
        for number in due {
            self.erase_now(number, context, out);
        }
    }

    fn erase_now(&mut self, number: u64, context: GroupContext<'_>, out: &mut Queue) {
        let GroupContext { group, owner_layer2: local, .. } = context;
        self.erase.retain(|(n, _)| *n != number);
        if let Some(epoch) = self.live.remove(&number) {
            let (pgk_id, senders) = (epoch.pgk_id, epoch.senders(local));
            out.install(Command::VoidGroup { local, group, pgk_id, senders });
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.erase.iter().map(|(_, at)| *at).min()
    }
}

/// What a member holds of one owner and group.
pub(crate) struct KeyRing {
    group: GroupId,
    local: Layer2Id,
    instance: Option<[u8; 8]>,
    newest_ever: u64,
    pub lowest_valid: u64,
    held: BTreeMap<u64, Held>,
}

struct Held {
    pgk_id: PgkId,
    /// Of everything in the entry that an equal repeat must repeat.
    fingerprint: [u8; 32],
    direct: bool,
    senders: PermittedSender,
    /// Last PTK identity granted.
    granted: Option<PtkId>,
    retired: bool,
    retire_at: Option<Duration>,
    erase_at: Option<Duration>,
}

/// Whose keys they are, and how its clock stands to ours.
pub(crate) struct KeySource<'a> {
    pub owner: &'a Identity,
    pub owner_layer2: Layer2Id,
    /// Our clock minus the owner's, seconds.
    pub offset: i64,
}

impl KeyRing {
    pub(crate) fn new(group: GroupId, local: Layer2Id) -> Self {
        Self { group, local, instance: None, newest_ever: 0, lowest_valid: 0, held: BTreeMap::new() }
    }

    /// Newest epoch held, 0 for none.
    pub(crate) fn newest(&self) -> u64 {
        self.held.keys().next_back().copied().unwrap_or(0)
    }

    /// The owner's instance as of the last join.
    pub(crate) fn instance(&self) -> Option<[u8; 8]> {
        self.instance
    }

    /// A join: another instance of the owner erases every key of the one before.
    pub(crate) fn enter(&mut self, instance: [u8; 8], out: &mut Queue) {
        if self.instance.is_some_and(|known| known != instance) {
            self.erase_all(out);
            (self.newest_ever, self.lowest_valid) = (0, 0);
        }
        self.instance = Some(instance);
    }

    /// Takes entries, all or none. Those above every epoch ever had are new; an equal repeat of one that is held brings a
    /// grant and floors; what is older and gone stays gone.
    ///
    /// # Errors
    /// [`Reject::Protocol`] when an epoch that is held comes with other content.
    pub(crate) fn take(
        &mut self,
        entries: Vec<GroupKeyEntry>,
        lowest_valid: u64,
        source: &KeySource<'_>,
        now: Now,
        out: &mut Queue,
    ) -> Result<(), Reject> {
        let mut taken = Vec::with_capacity(entries.len());
        for entry in entries {
            let fingerprint = fingerprint(&entry);
            match self.held.get(&entry.epoch) {
                Some(held) if held.fingerprint != fingerprint => return Err(Reject::Protocol),
                Some(_) => taken.push((entry, fingerprint)),
                None if entry.epoch > self.newest_ever && entry.epoch >= lowest_valid => {
                    taken.push((entry, fingerprint));
                }
                None => {}
            }
        }
        taken.sort_by_key(|(e, _)| e.epoch);
        for (entry, fingerprint) in taken {
            let not_after = shift(entry.not_after, source.offset).saturating_add(TOLERANCE);
            if not_after < now.key_seconds() {
                continue;
            }
            self.install(entry, fingerprint, not_after, source, now, out);
        }
        self.raise_lowest_valid(lowest_valid, now.monotonic, out);
        Ok(())
    }

    fn install(
        &mut self,
        entry: GroupKeyEntry,
        fingerprint: [u8; 32],
        not_after: UnixSeconds,
        source: &KeySource<'_>,
        now: Now,
        out: &mut Queue,
    ) {
        let GroupKeyEntry { epoch, pgk_id, suite, direct, grant, floors, .. } = entry;
        let begins = shift(entry.not_before, source.offset);
        let future = begins > now.key_seconds().saturating_add(TOLERANCE);
        let owner = source.owner_layer2;
        let senders = if direct { PermittedSender::Any } else { PermittedSender::Only(owner) };
        if !self.held.contains_key(&epoch) {
            self.make_room(epoch, pgk_id, out);
            let (retired, retire_at, erase_at) = (false, None, None);
            let granted = None;
            let held = Held { pgk_id, fingerprint, direct, senders, granted, retired, retire_at, erase_at };
            self.held.insert(epoch, held);
            self.newest_ever = self.newest_ever.max(epoch);
        }
        // Messages overtake each other, grants only rise: one that was overtaken is passed over.
        let granted = self.held.get_mut(&epoch).map(|h| &mut h.granted);
        let grant = grant.filter(|g| direct && granted.as_ref().is_none_or(|last| **last < Some(*g.start())));
        if let (Some(grant), Some(last)) = (&grant, granted) {
            *last = Some(*grant.end());
        }
        if !future {
            let ahead = Duration::from_secs(begins.saturating_sub(now.key_seconds()));
            let at = now.monotonic.saturating_add(ahead).saturating_add(SWITCHED);
            let older = self.held.range_mut(..epoch).filter(|(_, h)| h.direct);
            older.for_each(|(_, h)| h.retire_at = h.retire_at.or(Some(at)));
        }
        let context = GroupContext { owner: source.owner, group: self.group, owner_layer2: owner };
        let not_before = if future { begins } else { 0 };
        out.install(Command::InstallGroup(GroupKey {
            local: self.local,
            group: self.group,
            pgk_id,
            pgk: kmulticast(context, epoch, pgk_id, suite, &entry.s_m),
            suite,
            senders,
            not_before,
            not_after,
            grant,
            floors,
        }));
    }

    fn make_room(&mut self, epoch: u64, id: PgkId, out: &mut Queue) {
        let clash = |h: &Held| h.pgk_id.index() == id.index();
        while let Some(old) = self.held.iter().find(|(n, h)| **n < epoch && clash(h)).map(|(n, _)| *n) {
            self.erase(old, out);
        }
        while self.held.len() >= LIVE {
            let Some(oldest) = self.held.keys().next().copied() else { break };
            self.erase(oldest, out);
        }
    }

    fn raise_lowest_valid(&mut self, lowest_valid: u64, now: Duration, out: &mut Queue) {
        if lowest_valid <= self.lowest_valid {
            return;
        }
        self.lowest_valid = lowest_valid;
        let void: Vec<u64> = self.held.range(..lowest_valid).map(|(n, _)| *n).collect();
        for number in void {
            let Some(held) = self.held.get_mut(&number) else { continue };
            if held.direct {
                // Others still send under it: until the first verified frame of the new one, a second at most.
                let at = now.saturating_add(VOID_AT_LATEST);
                held.erase_at = Some(held.erase_at.map_or(at, |e| e.min(at)));
            } else {
                self.erase(number, out);
            }
        }
    }

    /// First frame that verified under a PGK. Returns its epoch.
    pub(crate) fn first_verified(&mut self, id: PgkId, now: Duration, out: &mut Queue) -> Option<u64> {
        let epoch = self.held.iter().rev().find(|(_, h)| h.pgk_id == id).map(|(n, _)| *n)?;
        let older: Vec<u64> = self.held.range(..epoch).map(|(n, _)| *n).collect();
        for number in older {
            if number < self.lowest_valid {
                self.erase(number, out);
                continue;
            }
            self.retire(number, out);
            if let Some(held) = self.held.get_mut(&number) {
                held.erase_at.get_or_insert(now.saturating_add(STRAGGLERS));
            }
        }
        Some(epoch)
    }

    /// What is due by the clock.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Queue) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let retire: Vec<u64> =
            self.held.iter().filter(|(_, h)| !h.retired && due(h.retire_at)).map(|(n, _)| *n).collect();
        retire.into_iter().for_each(|n| self.retire(n, out));
        let erase: Vec<u64> = self.held.iter().filter(|(_, h)| due(h.erase_at)).map(|(n, _)| *n).collect();
        erase.into_iter().for_each(|n| self.erase(n, out));
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let of = |h: &Held| earlier(if h.retired { None } else { h.retire_at }, h.erase_at);
        self.held.values().filter_map(of).min()
    }

    /// PGK id and epoch of the newest key, for notices.
    pub(crate) fn newest_key(&self) -> Option<(u64, PgkId)> {
        self.held.iter().next_back().map(|(n, h)| (*n, h.pgk_id))
    }

    pub(crate) fn erase_all(&mut self, out: &mut Queue) {
        let all: Vec<u64> = self.held.keys().copied().collect();
        all.into_iter().for_each(|n| self.erase(n, out));
    }

    fn retire(&mut self, number: u64, out: &mut Queue) {
        if let Some(held) = self.held.get_mut(&number)
            && !std::mem::replace(&mut held.retired, true)
        {
            let (pgk_id, senders) = (held.pgk_id, held.senders);
            out.install(Command::RetireGroup { local: self.local, group: self.group, pgk_id, senders });
        }
    }

    fn erase(&mut self, number: u64, out: &mut Queue) {
        if let Some(held) = self.held.remove(&number) {
            let (pgk_id, senders) = (held.pgk_id, held.senders);
            out.install(Command::VoidGroup { local: self.local, group: self.group, pgk_id, senders });
        }
    }
}

fn fingerprint(entry: &GroupKeyEntry) -> [u8; 32] {
    hash(&[
        &entry.epoch.to_be_bytes(),
        &[entry.pgk_id.0, entry.suite.code(), entry.direct.into()],
        &entry.not_before.to_be_bytes(),
        &entry.not_after.to_be_bytes(),
        &*entry.s_m,
    ])
}

/// Owner's time as ours.
fn shift(time: UnixSeconds, offset: i64) -> UnixSeconds {
    time.saturating_add_signed(offset)
}

/// Told when the key in use changed.
pub(crate) fn group_key_notice(group: GroupId, epoch: u64, exclusive: bool) -> Notice {
    Notice::GroupKey { group, epoch, pgk_id: pgk_id(epoch), exclusive }
}

/// Half of the PTK identities under a PGK.
const HALF: u16 = 1 << 15;
/// Epochs reserved ahead on disk.
const RESERVED_AHEAD: u64 = 16;
/// Live group keys of a holder. Source: `go-mode.md` section 10.
const LIVE: usize = 8;
/// Clocks of owner and member may differ by this, seconds, after the offset is taken into account.
const TOLERANCE: u64 = 60;
/// How long stragglers under an old epoch are heard. Source: `go-mode.md` section 5.
pub(crate) const STRAGGLERS: Duration = Duration::from_secs(10);
/// `direct`: a void epoch goes by then, whoever has not sent under the new one.
pub(crate) const VOID_AT_LATEST: Duration = Duration::from_secs(1);
/// `direct`: so long after an epoch begins the owner has switched to it, or declared lost who did not acknowledge: no frame
/// need have shown it.
const SWITCHED: Duration = Duration::from_secs(7);

//! The key table: commands in, immutable snapshots out.
//!
//! Control owns the one [`KeyTable`]; each worker looks at the newest [`Snapshot`] between two batches and brings its own
//! contexts up to it. A snapshot shares what did not change with the one before, shard by shard, so that publishing and
//! following cost what changed and not what is there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::{Command, Floor, GroupKey, LinkKey, LinkPhase, PermittedSender, UnixSeconds};
use crate::ids::{GroupId, KdSessId, Layer2Id, LinkRole, PgkId, PtkId};
use crate::kdf::{KdSess, Pgk};
use crate::suite::Suite;

/// Own limits.
pub mod limits {
    /// Live PGKs of one holder, group and permitted senders.
    pub const GROUP_KEYS: usize = 8;
    /// Contexts of one link.
    pub const LINK_CONTEXTS: usize = 4;
    /// PTK identities in one grant.
    pub const GRANT: u16 = 512;
    /// Parts that a snapshot is shared by.
    pub(super) const SHARDS: usize = 64;
}

/// A PGK in the table.
#[derive(Clone)]
pub struct GroupRoot {
    /// Unique for each installation: a context of an earlier one is never taken for it.
    pub serial: u64,
    /// Holder.
    pub local: Layer2Id,
    /// Group.
    pub group: GroupId,
    /// PGK Identity.
    pub pgk_id: PgkId,
    /// The key.
    pub pgk: Arc<Pgk>,
    /// Suite.
    pub suite: Suite,
    /// Who may send.
    pub senders: PermittedSender,
    /// Senders wait for it.
    pub not_before: UnixSeconds,
    /// End of its use.
    pub not_after: UnixSeconds,
    /// No longer sent under.
    pub retired: bool,
    /// PTK identities to send with, in order of use.
    pub grants: Vec<RangeInclusive<PtkId>>,
    /// Told by the granter.
    pub floors: Vec<Floor>,
}

impl GroupRoot {
    /// Whether this UE may send one-to-many under it.
    pub fn permits(&self, sender: Layer2Id) -> bool {
        match self.senders {
            PermittedSender::Any => true,
            PermittedSender::Only(only) => only == sender,
        }
    }
}

/// A KD-sess in the table.
#[derive(Clone)]
pub struct LinkRoot {
    /// Unique for each installation.
    pub serial: u64,
    /// Our side.
    pub local: Layer2Id,
    /// The other side.
    pub peer: Layer2Id,
    /// KD-sess ID.
    pub id: KdSessId,
    /// The key.
    pub kd_sess: Arc<KdSess>,
    /// Suite.
    pub suite: Suite,
    /// Role of `local`.
    pub role: LinkRole,
    /// What it may be used for now.
    pub phase: LinkPhase,
}

/// Why a command was refused; the table is as it was.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Two live PGKs with one index for the same sender.
    #[error(
        "group {group} has a live PGK {held:?} with the index of {new:?}; retire and void that one first"
    )]
    IndexInUse {
        /// Group.
        group: GroupId,
        /// The one there.
        held: PgkId,
        /// The one refused.
        new: PgkId,
    },
    /// The same PGK id with another key, suite or sender.
    #[error("PGK {pgk_id:?} of group {group} is there with other content")]
    OtherContent {
        /// Group.
        group: GroupId,
        /// PGK id.
        pgk_id: PgkId,
    },
    /// A link's KD-sess id is taken.
    #[error("link {local}-{peer} has a live context {id} already")]
    IdInUse {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// KD-sess id.
        id: KdSessId,
    },
    /// A link needs integrity.
    #[error("suite {0} has no integrity and is for one-to-many only")]
    SuiteWithoutIntegrity(Suite),
    /// A limit of the table.
    #[error("{what} are at their limit of {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many may be.
        limit: usize,
    },
    /// A grant that is not above the ones before, or too long.
    #[error("grant {first}..={last} is not above every earlier one, or longer than 512")]
    Grant {
        /// First identity.
        first: u16,
        /// Last identity.
        last: u16,
    },
    /// Names a PGK or context that is not there.
    #[error("no such key: {0}")]
    Unknown(String),
    /// Both sides of a link are the same UE.
    #[error("a link of {0} with itself")]
    Loop(Layer2Id),
}

struct Shards<T>([Arc<Vec<Arc<T>>>; limits::SHARDS]);

impl<T> Clone for Shards<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shards<T> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }

    fn of(key: u32) -> usize {
        // Layer-2 ids are often consecutive: their low bits spread best.
        key as usize % limits::SHARDS
    }

    fn get(&self, key: u32) -> &[Arc<T>] {
        &self.0[Self::of(key)]
    }

    fn get_mut(&mut self, key: u32) -> &mut Vec<Arc<T>> {
        Arc::make_mut(&mut self.0[Self::of(key)])
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().flat_map(|s| s.iter())
    }

    /// Shards that are not shared with `older`, as (before, after).
    fn changed<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = (&'a [Arc<T>], &'a [Arc<T>])> {
        older.0.iter().zip(&self.0).filter(|(a, b)| !Arc::ptr_eq(a, b)).map(|(a, b)| (&a[..], &b[..]))
    }
}

/// All keys as they stand at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// Rises with every publication.
    pub generation: u64,
    groups: Shards<GroupRoot>,
    links: Shards<LinkRoot>,
    locals: Arc<BTreeSet<Layer2Id>>,
}

/// A difference between two snapshots, for one root.
pub(crate) enum Change<'a, T> {
    Added(&'a Arc<T>),
    Updated(&'a Arc<T>),
    Removed(&'a Arc<T>),
}

impl<'a, T> Change<'a, T> {
    fn root(&self) -> &'a T {
        let (Self::Added(root) | Self::Updated(root) | Self::Removed(root)) = self;
        root
    }
}

/// What was removed, then the rest in the order of installation: contexts and keys then lie in memory as they were installed, and not
/// as the shards spread them.
fn differences<'a, T>(
    shards: impl Iterator<Item = (&'a [Arc<T>], &'a [Arc<T>])>,
    serial: impl Fn(&T) -> u64,
) -> Vec<Change<'a, T>> {
    let (mut changes, mut removed) = (Vec::new(), Vec::new());
    for (before, after) in shards {
        let kept: HashSet<u64> = after.iter().map(|r| serial(r)).collect();
        removed.extend(before.iter().filter(|r| !kept.contains(&serial(r))));
        let old: HashMap<u64, &Arc<T>> = before.iter().map(|r| (serial(r), r)).collect();
        for root in after {
            match old.get(&serial(root)) {
                None => changes.push(Change::Added(root)),
                Some(same) if Arc::ptr_eq(same, root) => {}
                Some(_) => changes.push(Change::Updated(root)),
            }
        }
    }
    changes.sort_by_key(|c| serial(c.root()));
    removed.into_iter().map(Change::Removed).chain(changes).collect()
}

impl Snapshot {
    fn empty() -> Self {
        Self { generation: 0, groups: Shards::new(), links: Shards::new(), locals: Arc::default() }
    }

    /// Every PGK.
    pub fn groups(&self) -> impl Iterator<Item = &GroupRoot> {
        self.groups.iter().map(|r| &**r)
    }

    /// Every link context.
    pub fn links(&self) -> impl Iterator<Item = &LinkRoot> {
        self.links.iter().map(|r| &**r)
    }

    /// Our own Layer-2 ids.
    pub fn locals(&self) -> &Arc<BTreeSet<Layer2Id>> {
        &self.locals
    }

    pub(crate) fn empty_one() -> Arc<Self> {
        Arc::new(Self::empty())
    }

    pub(crate) fn group_changes<'a>(&'a self, older: &'a Self) -> Vec<Change<'a, GroupRoot>> {
        differences(self.groups.changed(&older.groups), |r| r.serial)
    }

    pub(crate) fn link_changes<'a>(&'a self, older: &'a Self) -> Vec<Change<'a, LinkRoot>> {
        differences(self.links.changed(&older.links), |r| r.serial)
    }
}

/// Where workers find the newest snapshot.
#[derive(Clone)]
pub struct SharedSnapshot(Arc<Published>);

struct Published {
    /// Generation of `newest`, raised after it was stored: one plain load a batch tells whether to look.
    generation: AtomicU64,
    newest: ArcSwap<Snapshot>,
}

impl SharedSnapshot {
    fn new() -> Self {
        let newest = ArcSwap::from_pointee(Snapshot::empty());
        Self(Arc::new(Published { generation: AtomicU64::new(0), newest }))
    }

    fn store(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.0.newest.store(Arc::new(snapshot));
        self.0.generation.store(generation, Ordering::Release);
    }

    /// The newest one.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.newest.load_full()
    }

    /// The generation that [`Self::load`] gives at least.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

/// What names a PGK: holder, group, id, and who may send.
type Named = (Layer2Id, GroupId, PgkId, PermittedSender);

/// The truth about keys: takes commands, publishes snapshots.
pub struct KeyTable {
    now: Snapshot,
    shared: SharedSnapshot,
    serial: u64,
    /// All keys of a key log stand side by side, as many as there are.
    along: Option<ReadAlong>,
}

/// What a key log has given so far. Its lines are as many as somebody was patient, so that each costs the same.
#[derive(Default)]
struct ReadAlong {
    groups: HashMap<u64, Vec<Arc<GroupRoot>>>,
    links: HashMap<u64, Vec<Arc<LinkRoot>>>,
    hasher: RandomState,
}

impl ReadAlong {
    /// Whether a PGK is new; then it is there from now on.
    fn add_group(&mut self, root: &Arc<GroupRoot>) -> bool {
        let hash = self.hasher.hash_one((root.group.get(), root.pgk_id.0, root.pgk.expose()));
        let alike = self.groups.entry(hash).or_default();
        let same = |r: &Arc<GroupRoot>| {
            (r.group, r.pgk_id, r.suite, r.senders) == (root.group, root.pgk_id, root.suite, root.senders)
                && r.pgk == root.pgk
        };
        let is_new = !alike.iter().any(same);
        if is_new {
            alike.push(root.clone());
        }
        is_new
    }

    /// The same for a KD-sess.
    fn add_link(&mut self, root: &Arc<LinkRoot>) -> bool {
        let ids = (root.local.get(), root.peer.get(), root.id.get());
        let hash = self.hasher.hash_one((ids, root.kd_sess.expose()));
        let alike = self.links.entry(hash).or_default();
        let same = |r: &Arc<LinkRoot>| {
            (r.local, r.peer, r.id, r.suite) == (root.local, root.peer, root.id, root.suite)
                && r.kd_sess == root.kd_sess
        };
        let is_new = !alike.iter().any(same);
        if is_new {
            alike.push(root.clone());
        }
        is_new
    }
}

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// No keys.
    pub fn new() -> Self {
        Self { now: Snapshot::empty(), shared: SharedSnapshot::new(), serial: 0, along: None }
    }

    /// No keys, and no limit to how many a group or link may have: for reading along with a key log.
    pub fn for_reading_along() -> Self {
        Self { along: Some(ReadAlong::default()), ..Self::new() }
    }

    /// Handle for workers.
    pub fn shared(&self) -> SharedSnapshot {
        self.shared.clone()
    }

    /// What was applied so far, published or not.
    pub fn current(&self) -> &Snapshot {
        &self.now
    }

    /// Lets workers see what was applied.
    pub fn publish(&mut self) {
        self.now.generation += 1;
        self.shared.store(self.now.clone());
    }

    /// Applies one command; workers see it at the next [`Self::publish`].
    ///
    /// # Errors
    /// [`KeyError`]; nothing changed then.
    pub fn apply(&mut self, command: Command) -> Result<(), KeyError> {
        match command {
            Command::AddLocal(local) => {
                Arc::make_mut(&mut self.now.locals).insert(local);
                Ok(())
            }
            Command::RemoveLocal(local) => {
                Arc::make_mut(&mut self.now.locals).remove(&local);
                Ok(())
            }
            Command::InstallGroup(key) => self.install_group(key),
            Command::Grant { local, group, pgk_id, senders, range } => {
                self.update_group((local, group, pgk_id, senders), |root| grant(root, range))
            }
            Command::Floors { local, group, pgk_id, senders, floors } => {
                self.update_group((local, group, pgk_id, senders), |root| {
                    merge_floors(&mut root.floors, &floors);
                    Ok(())
                })
            }
            Command::RetireGroup { local, group, pgk_id, senders } => {
                self.update_group((local, group, pgk_id, senders), |root| {
                    root.retired = true;
                    Ok(())
                })
            }
            Command::VoidGroup { local, group, pgk_id, senders } => {
                let i = self.find_group((local, group, pgk_id, senders))?;
                self.now.groups.get_mut(local.get()).remove(i);
                Ok(())
            }
            Command::InstallLink(key, phase) => self.install_link(key, phase),
            Command::SetLinkPhase { local, peer, id, phase } => self.set_link_phase(local, peer, id, phase),
            Command::RemoveLink { local, peer, id } => {
                let i = self.find_link(local, peer, id)?;
                self.now.links.get_mut(local.get() ^ peer.get()).remove(i);
                Ok(())
            }
        }
    }

    fn find_group(&self, named: Named) -> Result<usize, KeyError> {
        let (local, group, pgk_id, _) = named;
        let here = |r: &Arc<GroupRoot>| (r.local, r.group, r.pgk_id, r.senders) == named;
        let unknown = || KeyError::Unknown(format!("PGK {} of group {group} held by {local}", pgk_id.0));
        self.now.groups.get(local.get()).iter().position(here).ok_or_else(unknown)
    }

    fn update_group(
        &mut self,
        named: Named,
        change: impl FnOnce(&mut GroupRoot) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let (local, ..) = named;
        let i = self.find_group(named)?;
        let mut root = GroupRoot::clone(&self.now.groups.get(local.get())[i]);
        change(&mut root)?;
        self.now.groups.get_mut(local.get())[i] = Arc::new(root);
        Ok(())
    }

    fn install_group(&mut self, key: GroupKey) -> Result<(), KeyError> {
        if self.along.is_some() {
            return self.read_group_along(key);
        }
        let overlaps = |r: &GroupRoot| match (r.senders, key.senders) {
            (PermittedSender::Only(a), PermittedSender::Only(b)) => a == b,
            _ => true,
        };
        let same_key = |r: &GroupRoot| {
            r.pgk_id == key.pgk_id && *r.pgk == key.pgk && r.suite == key.suite && r.senders == key.senders
        };
        let clash = self.now.groups.iter().find(|r| {
            r.group == key.group && r.pgk_id.index() == key.pgk_id.index() && overlaps(r) && !same_key(r)
        });
        if let Some(held) = clash {
            return Err(if held.pgk_id == key.pgk_id {
                KeyError::OtherContent { group: key.group, pgk_id: key.pgk_id }
            } else {
                KeyError::IndexInUse { group: key.group, held: held.pgk_id, new: key.pgk_id }
            });
        }
        let mine = self.now.groups.get(key.local.get()).iter();
        let of_these =
            |r: &&Arc<GroupRoot>| r.local == key.local && r.group == key.group && r.senders == key.senders;
        let live = mine.filter(of_these).count();
        let named = (key.local, key.group, key.pgk_id, key.senders);
        if self.find_group(named).is_ok() {
            return self.update_group(named, |root| {
                if let Some(range) = key.grant.clone() {
                    grant(root, range)?;
                }
                merge_floors(&mut root.floors, &key.floors);
                Ok(())
            });
        }
        if live >= limits::GROUP_KEYS {
            let what = "live PGKs of a group and its senders";
            return Err(KeyError::Limit { what, limit: limits::GROUP_KEYS });
        }
        let (local, grant_of_key) = (key.local, key.grant.clone());
        let mut root = self.group_root(key);
        if let Some(range) = grant_of_key {
            grant(&mut root, range)?;
        }
        self.now.groups.get_mut(local.get()).push(Arc::new(root));
        Ok(())
    }

    fn group_root(&mut self, key: GroupKey) -> GroupRoot {
        self.serial += 1;
        GroupRoot {
            serial: self.serial,
            local: key.local,
            group: key.group,
            pgk_id: key.pgk_id,
            pgk: Arc::new(key.pgk),
            suite: key.suite,
            senders: key.senders,
            not_before: key.not_before,
            not_after: key.not_after,
            retired: false,
            grants: Vec::new(),
            floors: key.floors,
        }
    }

    fn read_group_along(&mut self, key: GroupKey) -> Result<(), KeyError> {
        let root = Arc::new(self.group_root(key));
        if self.along.as_mut().is_some_and(|along| along.add_group(&root)) {
            self.now.groups.get_mut(root.local.get()).push(root);
        }
        Ok(())
    }

    fn find_link(&self, local: Layer2Id, peer: Layer2Id, id: KdSessId) -> Result<usize, KeyError> {
        let here = |r: &Arc<LinkRoot>| r.local == local && r.peer == peer && r.id == id;
        let unknown = || KeyError::Unknown(format!("KD-sess {id} of link {local}-{peer}"));
        self.now.links.get(local.get() ^ peer.get()).iter().position(here).ok_or_else(unknown)
    }

    fn install_link(&mut self, key: LinkKey, phase: LinkPhase) -> Result<(), KeyError> {
        if !key.suite.has_integrity() {
            return Err(KeyError::SuiteWithoutIntegrity(key.suite));
        }
        if key.local == key.peer {
            return Err(KeyError::Loop(key.local));
        }
        let (local, peer, id) = (key.local, key.peer, key.id);
        if self.along.is_some() {
            return self.read_link_along(key, phase);
        }
        if self.find_link(local, peer, id).is_ok() {
            return Err(KeyError::IdInUse { local, peer, id });
        }
        let shard = self.now.links.get(local.get() ^ peer.get());
        let live = shard.iter().filter(|r| r.local == local && r.peer == peer).count();
        if live >= limits::LINK_CONTEXTS {
            return Err(KeyError::Limit { what: "contexts of a link", limit: limits::LINK_CONTEXTS });
        }
        let root = self.link_root(key, phase);
        self.now.links.get_mut(local.get() ^ peer.get()).push(Arc::new(root));
        if phase == LinkPhase::Active {
            self.retire_others(local, peer, id);
        }
        Ok(())
    }

    fn link_root(&mut self, key: LinkKey, phase: LinkPhase) -> LinkRoot {
        self.serial += 1;
        let LinkKey { local, peer, id, kd_sess, suite, role } = key;
        LinkRoot { serial: self.serial, local, peer, id, kd_sess: Arc::new(kd_sess), suite, role, phase }
    }

    /// Nothing is sent under it, so that phases of other contexts do not matter.
    fn read_link_along(&mut self, key: LinkKey, phase: LinkPhase) -> Result<(), KeyError> {
        let root = Arc::new(self.link_root(key, phase));
        if self.along.as_mut().is_some_and(|along| along.add_link(&root)) {
            self.now.links.get_mut(root.local.get() ^ root.peer.get()).push(root);
        }
        Ok(())
    }

    fn set_link_phase(
        &mut self,
        local: Layer2Id,
        peer: Layer2Id,
        id: KdSessId,
        phase: LinkPhase,
    ) -> Result<(), KeyError> {
        let i = self.find_link(local, peer, id)?;
        let shard = self.now.links.get_mut(local.get() ^ peer.get());
        shard[i] = Arc::new(LinkRoot { phase, ..LinkRoot::clone(&shard[i]) });
        if phase == LinkPhase::Active {
            self.retire_others(local, peer, id);
        }
        Ok(())
    }

    /// One context of a link sends at a time.
    fn retire_others(&mut self, local: Layer2Id, peer: Layer2Id, id: KdSessId) {
        for root in self.now.links.get_mut(local.get() ^ peer.get()) {
            if root.local == local && root.peer == peer && root.id != id && root.phase == LinkPhase::Active {
                *root = Arc::new(LinkRoot { phase: LinkPhase::Retiring, ..LinkRoot::clone(root) });
            }
        }
    }
}

/// Grants of one root only rise, so that no identity is used twice whatever order they arrive in.
fn grant(root: &mut GroupRoot, range: RangeInclusive<PtkId>) -> Result<(), KeyError> {
    let (first, last) = (range.start().get(), range.end().get());
    if root.grants.contains(&range) {
        return Ok(());
    }
    let above = root.grants.last().is_none_or(|g| g.end() < range.start());
    if first > last || last - first >= limits::GRANT || !above {
        return Err(KeyError::Grant { first, last });
    }
    root.grants.push(range);
    Ok(())
}

fn merge_floors(floors: &mut Vec<Floor>, told: &[Floor]) {
    for new in told {
        match floors.iter_mut().find(|f| f.sender == new.sender) {
            Some(f) if (f.ptk_id, f.next_sn) < (new.ptk_id, new.next_sn) => *f = *new,
            Some(_) => {}
            None => floors.push(*new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::ue;

    #[test]
    fn changes_come_in_the_order_of_installation() {
        let mut table = KeyTable::new();
        let before = table.shared().load();
        for n in [70, 5, 900, 6, 71, 1] {
            let id = KdSessId::new(1).expect("not 0");
            let (local, peer, role) = (ue(0xfffffe), ue(n), LinkRole::Ue2);
            let key =
                LinkKey { local, peer, id, kd_sess: KdSess::new([1; 32]), suite: Suite::Aes128Gcm, role };
            table.apply(Command::AddLocal(local)).expect("a local id is always taken");
            table.apply(Command::InstallLink(key, LinkPhase::Active)).expect("links differ");
        }
        table.publish();
        let after = table.shared().load();
        let peers: Vec<_> = after.link_changes(&before).iter().map(|c| c.root().peer).collect();
        assert_eq!(peers, [70, 5, 900, 6, 71, 1].map(ue));
    }
}

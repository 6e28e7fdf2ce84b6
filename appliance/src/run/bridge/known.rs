//! What the bridge knows of one group, in parts: a changed copy shares all parts but the one that changed, so that a
//! new address costs the same in a large group as in a small one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::net::Ipv4Addr;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use pc5_control::credential::Identity;
use pc5_dataplane::ids::{GroupId, Layer2Id};

use crate::run::inner::Inner;

/// Own limits.
pub(super) mod limits {
    /// Inner addresses bound to one member by use.
    pub(crate) const ADDRESSES: usize = 64;
    /// Parts of a map.
    pub(super) const PARTS: usize = 64;
}

/// One group of the bridge.
#[derive(Clone)]
pub(super) struct BridgedGroup {
    pub(super) group: GroupId,
    /// Directed broadcasts of its networks.
    broadcasts: Arc<[Ipv4Addr]>,
    members: Parts<Layer2Id, Bridged>,
    stations: Parts<Inner, Layer2Id>,
    /// Group data goes to these over their links as well.
    pub(super) by_link: Arc<HashSet<Layer2Id>>,
}

#[derive(Clone)]
struct Bridged {
    identity: Identity,
    /// It has addresses by configuration, and no others.
    configured: bool,
    learnt: usize,
}

/// What becomes of an inner source address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// It is this member's, by configuration or by earlier use.
    Held,
    /// Nobody has it, and this member may have it from now on.
    New,
    /// It is somebody else's, or this member has none, or has enough.
    Refused,
}

impl BridgedGroup {
    pub(super) fn new(group: GroupId, broadcasts: Vec<Ipv4Addr>) -> Self {
        let (members, stations) = (Parts::new(), Parts::new());
        Self { group, broadcasts: broadcasts.into(), members, stations, by_link: Arc::default() }
    }

    pub(super) fn broadcasts(&self) -> &[Ipv4Addr] {
        &self.broadcasts
    }

    pub(super) fn is_member(&self, member: Layer2Id, identity: &Identity) -> bool {
        self.members.get(&member).is_some_and(|m| m.identity == *identity)
    }

    /// The member that has an address.
    pub(super) fn member_at(&self, inner: Inner) -> Option<Layer2Id> {
        self.stations.get(&inner).copied()
    }

    /// Bound addresses.
    pub(super) fn stations(&self) -> impl Iterator<Item = (Inner, Layer2Id)> + '_ {
        self.stations.iter().map(|(inner, member)| (*inner, *member))
    }

    /// Whether `from` is this member's. `reserved` are addresses that one identity alone may use.
    pub(super) fn claim(&self, from: Inner, member: Layer2Id, reserved: &HashMap<Inner, Identity>) -> Claim {
        if let Some(holder) = self.member_at(from) {
            return if holder == member { Claim::Held } else { Claim::Refused };
        }
        match self.members.get(&member) {
            Some(m) if !m.configured && m.learnt < limits::ADDRESSES && !reserved.contains_key(&from) => {
                Claim::New
            }
            _ => Claim::Refused,
        }
    }

    /// Binds an address whose claim is new.
    pub(super) fn bind(&mut self, from: Inner, member: Layer2Id) {
        if let Some(m) = self.members.part_mut(&member).get_mut(&member) {
            m.learnt += 1;
            self.stations.part_mut(&from).insert(from, member);
        }
    }

    /// A member, and what is configured for it. Whoever had its Layer-2 id before is forgotten.
    pub(super) fn join(&mut self, member: Layer2Id, identity: &Identity, configured: &[Inner]) {
        self.leave(member);
        let bridged = Bridged { identity: identity.clone(), configured: !configured.is_empty(), learnt: 0 };
        self.members.part_mut(&member).insert(member, bridged);
        for &inner in configured {
            self.stations.part_mut(&inner).insert(inner, member);
        }
    }

    pub(super) fn leave(&mut self, member: Layer2Id) {
        if self.members.get(&member).is_none() {
            return;
        }
        self.members.part_mut(&member).remove(&member);
        self.stations.retain(|of| *of != member);
    }
}

/// A map in parts that copies share.
#[derive(Clone)]
struct Parts<K, V>([Arc<HashMap<K, V, RandomState>>; limits::PARTS]);

impl<K: Eq + Hash + Clone, V: Clone> Parts<K, V> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }

    /// Within a part the hash has a random seed: who chooses addresses can fill one part, and no bucket of it.
    fn index(key: &K) -> usize {
        FixedState::default().hash_one(key) as usize % limits::PARTS
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.0[Self::index(key)].get(key)
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().flat_map(|part| part.iter())
    }

    /// The part where a key is or belongs, no longer shared.
    fn part_mut(&mut self, key: &K) -> &mut HashMap<K, V, RandomState> {
        Arc::make_mut(&mut self.0[Self::index(key)])
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        for part in self.0.iter_mut().filter(|part| part.values().any(|v| !keep(v))) {
            Arc::make_mut(part).retain(|_, v| keep(v));
        }
    }
}

//! Where peers are on an IP network: configured, learnt from frames that verified, and - for the messages before anything can
//! verify - claimed.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::ids::Layer2Id;

/// Addresses of peers, shared by the ports of one UDP socket group.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    known: ArcSwap<Known>,
    claimed: Mutex<Claimed>,
}

/// Addresses that frames may be sent to.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Where a peer is, as an index of `targets`.
    of: HashMap<u32, u32, RandomState>,
    /// Distinct addresses: several ids may live at one.
    targets: Vec<SocketAddr>,
}

impl Known {
    fn new(peers: &HashMap<u32, SocketAddr, RandomState>) -> Self {
        let mut known = Self::default();
        let mut at: HashMap<SocketAddr, u32, RandomState> = HashMap::default();
        let mut sorted: Vec<_> = peers.iter().collect();
        sorted.sort_unstable();
        for (&id, &address) in sorted {
            let index = *at.entry(address).or_insert_with(|| {
                known.targets.push(address);
                known.targets.len() as u32 - 1
            });
            known.of.insert(id, index);
        }
        known
    }

    pub(super) fn index_of(&self, id: u32) -> Option<u32> {
        self.of.get(&id).copied()
    }

    pub(super) fn targets(&self) -> &[SocketAddr] {
        &self.targets
    }

    fn address_of(&self, id: u32) -> Option<SocketAddr> {
        self.targets.get(self.index_of(id)? as usize).copied()
    }
}

/// Addresses that unverified signalling came from, the newest ones.
#[derive(Default)]
struct Claimed {
    of: HashMap<u32, SocketAddr, RandomState>,
    order: VecDeque<u32>,
}

impl Peers {
    /// With configured addresses.
    pub fn new(configured: impl IntoIterator<Item = (Layer2Id, SocketAddr)>) -> Self {
        let peers = configured.into_iter().map(|(id, at)| (id.get(), canonical(at))).collect();
        Self(Arc::new(Shared {
            known: ArcSwap::from_pointee(Known::new(&peers)),
            claimed: Mutex::new(Claimed::default()),
        }))
    }

    /// Sends what is for `id` to `address` from now on. Only for the origin of a frame of `id` that verified: whoever says
    /// where a peer is gets its frames.
    pub fn learn(&self, id: Layer2Id, address: SocketAddr) {
        let address = canonical(address);
        if self.0.known.load().address_of(id.get()) == Some(address) {
            return;
        }
        self.change(|peers| {
            if peers.len() < limits::PEERS || peers.contains_key(&id.get()) {
                peers.insert(id.get(), address);
            }
        });
    }

    /// Forgets a peer, when it has left.
    pub fn forget(&self, id: Layer2Id) {
        self.change(|peers| {
            peers.remove(&id.get());
        });
    }

    /// Where frames for `id` go.
    pub fn address_of(&self, id: Layer2Id) -> Option<SocketAddr> {
        self.0.known.load().address_of(id.get())
    }

    fn change(&self, mut edit: impl FnMut(&mut HashMap<u32, SocketAddr, RandomState>)) {
        self.0.known.rcu(|known| {
            let mut peers =
                known.of.iter().filter_map(|(&id, _)| Some((id, known.address_of(id)?))).collect();
            edit(&mut peers);
            Known::new(&peers)
        });
    }

    pub(super) fn known(&self) -> arc_swap::Guard<Arc<Known>> {
        self.0.known.load()
    }

    /// Remembers where a message came from that cannot have verified yet, to answer it there.
    pub(super) fn claim(&self, id: u32, address: SocketAddr) {
        let claimed = &mut *self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.of.insert(id, canonical(address)).is_none() {
            if claimed.order.len() == limits::CLAIMED
                && let Some(oldest) = claimed.order.pop_front()
            {
                claimed.of.remove(&oldest);
            }
            claimed.order.push_back(id);
        }
    }

    pub(super) fn claimed(&self, id: u32) -> Option<SocketAddr> {
        self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).of.get(&id).copied()
    }
}

/// An IPv4 address in IPv6 clothing as what it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
        .with_scope(if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 })
}

/// An address as a socket of the other family wants it.
pub(super) fn for_ipv6_socket(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

trait WithScope {
    fn with_scope(self, scope: u32) -> Self;
}

impl WithScope for SocketAddr {
    fn with_scope(self, scope: u32) -> Self {
        match (self.ip(), self) {
            (IpAddr::V6(ip), _) => SocketAddrV6::new(ip, self.port(), 0, scope).into(),
            (IpAddr::V4(_), v4) => v4,
        }
    }
}

mod limits {
    /// Peers known at most.
    pub(super) const PEERS: usize = 65_536;
    /// Unverified addresses remembered at most: answers follow within milliseconds.
    pub(super) const CLAIMED: usize = 1_024;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Layer2Id {
        Layer2Id::new(n).unwrap()
    }

    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    #[test]
    fn a_learnt_address_replaces_the_configured_one() {
        let peers = Peers::new([(id(1), at("10.0.0.1:34997")), (id(2), at("10.0.0.1:34997"))]);
        assert_eq!(peers.known().targets(), [at("10.0.0.1:34997")], "one copy for two ids at one place");
        peers.learn(id(2), at("[::ffff:10.0.0.2]:40000"));
        assert_eq!(peers.address_of(id(2)), Some(at("10.0.0.2:40000")));
        assert_eq!(peers.address_of(id(1)), Some(at("10.0.0.1:34997")));
        assert_eq!(peers.known().targets().len(), 2);
        peers.forget(id(1));
        assert_eq!(peers.address_of(id(1)), None);
        assert_eq!(peers.known().targets(), [at("10.0.0.2:40000")]);
    }

    #[test]
    fn claims_move_nobody_and_are_bounded() {
        let peers = Peers::new([(id(1), at("10.0.0.1:1"))]);
        for n in 0..5_000u32 {
            peers.claim(n, at("192.0.2.1:9"));
            assert_eq!(peers.claimed(n), Some(at("192.0.2.1:9")));
        }
        assert_eq!(peers.address_of(id(1)), Some(at("10.0.0.1:1")));
        assert_eq!(peers.address_of(id(2)), None);
        let claimed = peers.0.claimed.lock().unwrap();
        assert_eq!((claimed.of.len(), claimed.order.len()), (limits::CLAIMED, limits::CLAIMED));
    }

    #[test]
    fn a_scope_is_kept() {
        let a: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3).into();
        assert_eq!(canonical(a), a);
        assert_eq!(for_ipv6_socket(at("10.0.0.1:5")), at("[::ffff:10.0.0.1]:5"));
    }
}

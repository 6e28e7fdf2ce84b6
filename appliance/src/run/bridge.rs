//! The owner's bridge: which member an SDU goes to, and whether it may come from whom it says. Source: `go-mode.md` 7.
//!
//! ```text
//! opened on a link -> inner source bound to this member? -> destination: one member | the group | nobody
//! ```
//! What it knows is immutable: a worker looks at it once a batch, and waits for nobody. Who has something new, a member or
//! an address that was never used before, publishes a changed copy; if another was faster, a copy of that one. So an
//! address is bound once, whoever of several workers comes first.

mod known;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use pc5_control::credential::Identity;
use pc5_dataplane::ids::{GroupId, Layer2Id, SduType};
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::Verdict;

use self::known::{BridgedGroup, Claim};
use super::inner::{self, Inner, To};

/// Where an SDU goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// To one member, over its link.
    Member(Layer2Id),
    /// To the whole group.
    Group(GroupId),
    /// Nowhere further: it told the bridge something.
    Taken,
    /// Nowhere, and why.
    Drop(Verdict),
}

/// All groups of an owner. Copies are the same bridge.
#[derive(Clone)]
pub(crate) struct Bridge(Arc<Shared>);

struct Shared {
    /// Addresses that one identity alone may use.
    reserved: HashMap<Inner, Identity>,
    known: ArcSwap<Known>,
}

/// What the bridge knows at one moment: its groups by the owner's Layer-2 id in each.
#[derive(Clone)]
struct Known(HashMap<Layer2Id, Arc<BridgedGroup>>);

impl Bridge {
    /// Of these groups: owner's Layer-2 id, group, directed broadcasts.
    pub(crate) fn new(
        groups: impl IntoIterator<Item = (Layer2Id, GroupId, Vec<Ipv4Addr>)>,
        addresses: impl IntoIterator<Item = (Identity, Vec<IpAddr>)>,
    ) -> Self {
        let groups = groups
            .into_iter()
            .map(|(owner, group, broadcasts)| (owner, Arc::new(BridgedGroup::new(group, broadcasts))));
        let reserved = addresses
            .into_iter()
            .flat_map(|(identity, ips)| ips.into_iter().map(move |ip| (Inner::Ip(ip), identity.clone())));
        let known = ArcSwap::from_pointee(Known(groups.collect()));
        Self(Arc::new(Shared { reserved: reserved.collect(), known }))
    }

    /// What it knows now.
    pub(crate) fn view(&self) -> View {
        View { bridge: self.clone(), known: self.0.known.load_full() }
    }

    /// A member's link was confirmed. What is configured for it is bound at once.
    pub(crate) fn join(&self, owner: Layer2Id, member: Layer2Id, identity: &Identity) {
        let own: Vec<Inner> =
            self.0.reserved.iter().filter(|(_, of)| *of == identity).map(|(inner, _)| *inner).collect();
        self.change(|known| {
            if let Some(g) = known.0.get_mut(&owner)
                && !g.is_member(member, identity)
            {
                Arc::make_mut(g).join(member, identity, &own);
            }
        });
    }

    /// A member's link ended.
    pub(crate) fn leave(&self, owner: Layer2Id, member: Layer2Id) {
        self.change(|known| {
            if let Some(g) = known.0.get_mut(&owner) {
                Arc::make_mut(g).leave(member);
            }
        });
    }

    /// Whom group data reaches over links.
    pub(crate) fn set_by_link(&self, group: GroupId, members: impl IntoIterator<Item = Layer2Id>) {
        let members = Arc::new(members.into_iter().collect());
        self.change(|known| {
            if let Some(g) = known.0.values_mut().find(|g| g.group == group) {
                Arc::make_mut(g).by_link = Arc::clone(&members);
            }
        });
    }

    /// Publishes a changed copy. `change` is done again when another change came in between.
    fn change<R>(&self, mut change: impl FnMut(&mut Known) -> R) -> R {
        let mut current = self.0.known.load_full();
        loop {
            let mut new = Known::clone(&current);
            let outcome = change(&mut new);
            let before = self.0.known.compare_and_swap(&current, Arc::new(new));
            if Arc::ptr_eq(&before, &current) {
                return outcome;
            }
            current = Guard::into_inner(before);
        }
    }
}

/// What the bridge knew when it was looked at, and what was bound through this view since.
pub(crate) struct View {
    bridge: Bridge,
    known: Arc<Known>,
}

impl View {
    /// Members that want a copy of a group frame over their links, but for the one it came from.
    pub(crate) fn copies(&self, owner: Layer2Id, but: Layer2Id) -> impl Iterator<Item = Layer2Id> + '_ {
        let members = self.known.0.get(&owner).map(|g| &*g.by_link);
        members.into_iter().flatten().copied().filter(move |&m| m != but)
    }

    /// Bound addresses of each member.
    pub(crate) fn stations(&self) -> impl Iterator<Item = (Layer2Id, Layer2Id, Inner)> + '_ {
        self.known
            .0
            .iter()
            .flat_map(|(&owner, g)| g.stations().map(move |(inner, member)| (owner, member, inner)))
    }

    /// Decides an SDU that was opened from `address`.
    pub(crate) fn route(&mut self, address: Address, sdu_type: SduType, sdu: &[u8]) -> Route {
        let Destination::Ue(owner) = address.destination() else { return Route::Drop(Verdict::NotForwarded) };
        let source = address.source();
        let Some(g) = self.known.0.get(&owner) else { return Route::Drop(Verdict::NotForwarded) };
        let Some((from, to)) = inner::addresses(sdu_type, sdu, g.broadcasts()) else {
            return Route::Drop(Verdict::InnerSource);
        };
        let is_own = match g.claim(from, source, &self.bridge.0.reserved) {
            Claim::Held => true,
            Claim::Refused => false,
            Claim::New => self.bind(owner, from, source),
        };
        if !is_own {
            return Route::Drop(Verdict::InnerSource);
        }
        let Some(g) = self.known.0.get(&owner) else { return Route::Drop(Verdict::NotForwarded) };
        match to {
            To::Bridge => Route::Taken,
            To::Many => Route::Group(g.group),
            To::One(to) => match g.member_at(to) {
                None => Route::Drop(Verdict::UnknownDestination),
                Some(member) if member == source => Route::Drop(Verdict::Hairpin),
                Some(member) => Route::Member(member),
            },
        }
    }

    /// Binds an address that was never used before, unless somebody else just did.
    fn bind(&mut self, owner: Layer2Id, from: Inner, member: Layer2Id) -> bool {
        let reserved = &self.bridge.0.reserved;
        let bound = self.bridge.change(|known| {
            let Some(g) = known.0.get_mut(&owner) else { return false };
            match g.claim(from, member, reserved) {
                Claim::Held => true,
                Claim::Refused => false,
                Claim::New => {
                    Arc::make_mut(g).bind(from, member);
                    true
                }
            }
        });
        self.known = self.bridge.0.known.load_full();
        bound
    }
}

#[cfg(test)]
mod tests {
    use super::known::limits::ADDRESSES;
    use super::*;

    const OWNER: Layer2Id = Layer2Id::from_octets([0xff, 0xff, 0xfe]);
    const GROUP: GroupId = GroupId::from_octets([0xf0, 0, 1]);

    fn ue(n: u8) -> Layer2Id {
        Layer2Id::from_octets([0, 0, n])
    }

    fn identity(n: u8) -> Identity {
        format!("pc5:001-01:ue:ue-{n}").parse().unwrap()
    }

    fn ip(from: u8, to: [u8; 4]) -> Vec<u8> {
        let mut p = vec![0x45];
        p.resize(20, 0);
        p[12..16].copy_from_slice(&[10, 0, 0, from]);
        p[16..20].copy_from_slice(&to);
        p
    }

    fn bridge(reserved: &[(u8, u8)]) -> Bridge {
        let reserved: Vec<_> =
            reserved.iter().map(|&(n, a)| (identity(n), vec![IpAddr::from([10, 0, 0, a])])).collect();
        let b = Bridge::new([(OWNER, GROUP, vec![Ipv4Addr::new(10, 0, 0, 255)])], reserved);
        (1..=3).for_each(|n| b.join(OWNER, ue(n), &identity(n)));
        b
    }

    fn route(b: &Bridge, by: u8, from: u8, to: [u8; 4]) -> Route {
        b.view().route(Address::link(OWNER, ue(by)), SduType::Ip, &ip(from, to))
    }

    #[test]
    fn first_use_binds_and_another_members_address_is_dropped() {
        let b = bridge(&[]);
        assert_eq!(route(&b, 1, 1, [10, 0, 0, 2]), Route::Drop(Verdict::UnknownDestination));
        assert_eq!(route(&b, 2, 2, [10, 0, 0, 1]), Route::Member(ue(1)));
        assert_eq!(route(&b, 3, 1, [10, 0, 0, 2]), Route::Drop(Verdict::InnerSource));
        assert_eq!(route(&b, 1, 1, [10, 0, 0, 1]), Route::Drop(Verdict::Hairpin));
        b.leave(OWNER, ue(1));
        assert_eq!(route(&b, 2, 2, [10, 0, 0, 1]), Route::Drop(Verdict::UnknownDestination));
        assert_eq!(route(&b, 1, 1, [10, 0, 0, 2]), Route::Drop(Verdict::InnerSource), "not joined");
        assert_eq!(route(&b, 3, 1, [10, 0, 0, 2]), Route::Member(ue(2)), "free again");
    }

    #[test]
    fn configured_addresses_are_bound_before_use_and_exclusive() {
        let b = bridge(&[(1, 7), (9, 9)]);
        assert_eq!(route(&b, 2, 2, [10, 0, 0, 7]), Route::Member(ue(1)));
        assert_eq!(
            route(&b, 1, 8, [10, 0, 0, 2]),
            Route::Drop(Verdict::InnerSource),
            "only what is configured"
        );
        assert_eq!(route(&b, 3, 9, [10, 0, 0, 2]), Route::Drop(Verdict::InnerSource), "of one who is absent");
    }

    #[test]
    fn many_go_to_the_group_and_copies_to_those_without_the_key() {
        let b = bridge(&[]);
        for many in [[239, 1, 1, 1], [255; 4], [10, 0, 0, 255]] {
            assert_eq!(route(&b, 1, 1, many), Route::Group(GROUP));
        }
        b.set_by_link(GROUP, [ue(1), ue(3)]);
        assert_eq!(b.view().copies(OWNER, ue(1)).collect::<Vec<_>>(), [ue(3)]);
        b.set_by_link(GROUP, []);
        assert_eq!(b.view().copies(OWNER, ue(2)).count(), 0);
    }

    #[test]
    fn what_was_opened_one_to_many_is_not_forwarded() {
        let b = bridge(&[]);
        let routed = b.view().route(Address::group(GROUP, ue(1)), SduType::Ip, &ip(1, [10, 0, 0, 2]));
        assert_eq!(routed, Route::Drop(Verdict::NotForwarded));
    }

    #[test]
    fn a_member_has_only_so_many_addresses() {
        let b = bridge(&[]);
        let mut bound = 0;
        for n in 0..=255 {
            bound += u32::from(route(&b, 1, n, [239, 0, 0, 1]) == Route::Group(GROUP));
        }
        assert_eq!(bound as usize, ADDRESSES);
    }

    #[test]
    fn of_many_who_claim_an_address_at_once_one_has_it() {
        const CLAIMED: u8 = 200;
        let b = bridge(&[]);
        let start = std::sync::Barrier::new(3);
        let held: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let workers = [1u8, 2, 3].map(|by| {
                let (b, start) = (b.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    // A view that is as old as a batch: what others did meanwhile counts all the same.
                    let mut view = b.view();
                    let holds = |&a: &u8| {
                        let sdu = ip(a, [239, 0, 0, 1]);
                        view.route(Address::link(OWNER, ue(by)), SduType::Ip, &sdu) == Route::Group(GROUP)
                    };
                    (0..CLAIMED).filter(holds).collect()
                })
            });
            workers.map(|w| w.join().unwrap()).into()
        });
        let stations: HashMap<_, _> = b.view().stations().map(|(_, member, inner)| (inner, member)).collect();
        for (by, held) in (1..).zip(&held) {
            assert!(held.len() <= ADDRESSES);
            for &a in held {
                assert_eq!(stations.get(&Inner::Ip([10, 0, 0, a].into())), Some(&ue(by)), "10.0.0.{a}");
            }
        }
        assert_eq!(stations.len(), held.iter().map(Vec::len).sum::<usize>());
        assert_eq!(stations.len(), 3 * ADDRESSES, "nobody was refused what nobody has");
    }

    #[test]
    fn a_change_leaves_what_was_looked_at_as_it_was() {
        let b = bridge(&[]);
        let before = b.view();
        assert_eq!(route(&b, 1, 1, [239, 0, 0, 1]), Route::Group(GROUP));
        assert_eq!((before.stations().count(), b.view().stations().count()), (0, 1));
    }

    #[test]
    fn an_announcement_makes_a_member_reachable() {
        let b = bridge(&[]);
        let arp = inner::announcement(Ipv4Addr::new(10, 0, 0, 1), [2, 0x50, 0x43, 0, 0, 1]);
        assert_eq!(b.view().route(Address::link(OWNER, ue(1)), SduType::Arp, &arp), Route::Taken);
        assert_eq!(route(&b, 2, 2, [10, 0, 0, 1]), Route::Member(ue(1)));
    }
}

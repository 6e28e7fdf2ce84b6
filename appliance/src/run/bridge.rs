//! The owner's bridge: which member an SDU goes to, and whether it may come from whom it says. Source: `go-mode.md` 7.
//!
//! ```text
//! opened on a link -> inner source bound to this member? -> destination: one member | the group | nobody
//! ```

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use pc5_control::credential::Identity;
use pc5_dataplane::ids::{GroupId, Layer2Id, SduType};
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::Verdict;

use super::inner::{self, Inner, To};

/// Own limits.
pub(crate) mod limits {
    /// Inner addresses bound to one member by use.
    pub(crate) const ADDRESSES: usize = 64;
}

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

/// One group of the bridge.
pub(crate) struct BridgedGroup {
    group: GroupId,
    /// Directed broadcasts of its networks.
    broadcasts: Vec<Ipv4Addr>,
    members: HashMap<Layer2Id, Bridged>,
    stations: HashMap<Inner, Layer2Id>,
    /// Group data goes to these over their links as well.
    by_link: HashSet<Layer2Id>,
}

struct Bridged {
    identity: Identity,
    /// It has addresses by configuration, and no others.
    configured: bool,
    learnt: usize,
}

/// All groups of an owner, by the owner's Layer-2 id in each.
pub(crate) struct Bridge {
    groups: HashMap<Layer2Id, BridgedGroup>,
    /// Addresses that one identity alone may use.
    reserved: HashMap<Inner, Identity>,
}

impl Bridge {
    /// Of these groups: owner's Layer-2 id, group, directed broadcasts.
    pub(crate) fn new(
        groups: impl IntoIterator<Item = (Layer2Id, GroupId, Vec<Ipv4Addr>)>,
        addresses: impl IntoIterator<Item = (Identity, Vec<IpAddr>)>,
    ) -> Self {
        let groups = groups.into_iter().map(|(owner, group, broadcasts)| {
            let (members, stations, by_link) = (HashMap::new(), HashMap::new(), HashSet::new());
            (owner, BridgedGroup { group, broadcasts, members, stations, by_link })
        });
        let reserved = addresses
            .into_iter()
            .flat_map(|(identity, ips)| ips.into_iter().map(move |ip| (Inner::Ip(ip), identity.clone())));
        Self { groups: groups.collect(), reserved: reserved.collect() }
    }

    /// A member's link was confirmed. What is configured for it is bound at once.
    pub(crate) fn join(&mut self, owner: Layer2Id, member: Layer2Id, identity: &Identity) {
        let Some(g) = self.groups.get_mut(&owner) else { return };
        if g.members.get(&member).is_some_and(|m| m.identity == *identity) {
            return;
        }
        g.forget(member);
        let own: Vec<Inner> =
            self.reserved.iter().filter(|(_, of)| *of == identity).map(|(inner, _)| *inner).collect();
        let bridged = Bridged { identity: identity.clone(), configured: !own.is_empty(), learnt: 0 };
        g.members.insert(member, bridged);
        g.stations.extend(own.into_iter().map(|inner| (inner, member)));
    }

    /// A member's link ended.
    pub(crate) fn leave(&mut self, owner: Layer2Id, member: Layer2Id) {
        if let Some(g) = self.groups.get_mut(&owner) {
            g.forget(member);
        }
    }

    /// Whom group data reaches over links.
    pub(crate) fn set_by_link(&mut self, group: GroupId, members: impl IntoIterator<Item = Layer2Id>) {
        if let Some(g) = self.groups.values_mut().find(|g| g.group == group) {
            g.by_link = members.into_iter().collect();
        }
    }

    /// Members that want a copy of a group frame over their links, but for the one it came from.
    pub(crate) fn copies(&self, owner: Layer2Id, but: Layer2Id) -> impl Iterator<Item = Layer2Id> + '_ {
        let members = self.groups.get(&owner).map(|g| &g.by_link);
        members.into_iter().flatten().copied().filter(move |&m| m != but)
    }

    /// Bound addresses of each member.
    pub(crate) fn stations(&self) -> impl Iterator<Item = (Layer2Id, Layer2Id, Inner)> + '_ {
        self.groups
            .iter()
            .flat_map(|(&owner, g)| g.stations.iter().map(move |(&inner, &member)| (owner, member, inner)))
    }

    /// Decides an SDU that was opened from `address`.
    pub(crate) fn route(&mut self, address: Address, sdu_type: SduType, sdu: &[u8]) -> Route {
        let Destination::Ue(owner) = address.destination() else { return Route::Drop(Verdict::NotForwarded) };
        let source = address.source();
        let Some(g) = self.groups.get_mut(&owner) else { return Route::Drop(Verdict::NotForwarded) };
        let Some((from, to)) = inner::addresses(sdu_type, sdu, &g.broadcasts) else {
            return Route::Drop(Verdict::InnerSource);
        };
        if !g.binds(from, source, &self.reserved) {
            return Route::Drop(Verdict::InnerSource);
        }
        match to {
            To::Bridge => Route::Taken,
            To::Many => Route::Group(g.group),
            To::One(to) => match g.stations.get(&to) {
                None => Route::Drop(Verdict::UnknownDestination),
                Some(&member) if member == source => Route::Drop(Verdict::Hairpin),
                Some(&member) => Route::Member(member),
            },
        }
    }
}

impl BridgedGroup {
    /// Whether `from` is this member's, by configuration, by earlier use, or from now on.
    fn binds(&mut self, from: Inner, member: Layer2Id, reserved: &HashMap<Inner, Identity>) -> bool {
        if let Some(&holder) = self.stations.get(&from) {
            return holder == member;
        }
        let Some(m) = self.members.get_mut(&member) else { return false };
        if m.configured || reserved.contains_key(&from) || m.learnt >= limits::ADDRESSES {
            return false;
        }
        m.learnt += 1;
        self.stations.insert(from, member);
        true
    }

    fn forget(&mut self, member: Layer2Id) {
        if self.members.remove(&member).is_some() {
            self.stations.retain(|_, of| *of != member);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let mut b = Bridge::new([(OWNER, GROUP, vec![Ipv4Addr::new(10, 0, 0, 255)])], reserved);
        (1..=3).for_each(|n| b.join(OWNER, ue(n), &identity(n)));
        b
    }

    fn route(b: &mut Bridge, by: u8, from: u8, to: [u8; 4]) -> Route {
        b.route(Address::link(OWNER, ue(by)), SduType::Ip, &ip(from, to))
    }

    #[test]
    fn first_use_binds_and_another_members_address_is_dropped() {
        let mut b = bridge(&[]);
        assert_eq!(route(&mut b, 1, 1, [10, 0, 0, 2]), Route::Drop(Verdict::UnknownDestination));
        assert_eq!(route(&mut b, 2, 2, [10, 0, 0, 1]), Route::Member(ue(1)));
        assert_eq!(route(&mut b, 3, 1, [10, 0, 0, 2]), Route::Drop(Verdict::InnerSource));
        assert_eq!(route(&mut b, 1, 1, [10, 0, 0, 1]), Route::Drop(Verdict::Hairpin));
        b.leave(OWNER, ue(1));
        assert_eq!(route(&mut b, 2, 2, [10, 0, 0, 1]), Route::Drop(Verdict::UnknownDestination));
        assert_eq!(route(&mut b, 1, 1, [10, 0, 0, 2]), Route::Drop(Verdict::InnerSource), "not joined");
        assert_eq!(route(&mut b, 3, 1, [10, 0, 0, 2]), Route::Member(ue(2)), "free again");
    }

    #[test]
    fn configured_addresses_are_bound_before_use_and_exclusive() {
        let mut b = bridge(&[(1, 7), (9, 9)]);
        assert_eq!(route(&mut b, 2, 2, [10, 0, 0, 7]), Route::Member(ue(1)));
        assert_eq!(
            route(&mut b, 1, 8, [10, 0, 0, 2]),
            Route::Drop(Verdict::InnerSource),
            "only what is configured"
        );
        assert_eq!(
            route(&mut b, 3, 9, [10, 0, 0, 2]),
            Route::Drop(Verdict::InnerSource),
            "of one who is absent"
        );
    }

    #[test]
    fn many_go_to_the_group_and_copies_to_those_without_the_key() {
        let mut b = bridge(&[]);
        for many in [[239, 1, 1, 1], [255; 4], [10, 0, 0, 255]] {
            assert_eq!(route(&mut b, 1, 1, many), Route::Group(GROUP));
        }
        b.set_by_link(GROUP, [ue(1), ue(3)]);
        assert_eq!(b.copies(OWNER, ue(1)).collect::<Vec<_>>(), [ue(3)]);
        b.set_by_link(GROUP, []);
        assert_eq!(b.copies(OWNER, ue(2)).count(), 0);
    }

    #[test]
    fn what_was_opened_one_to_many_is_not_forwarded() {
        let mut b = bridge(&[]);
        let routed = b.route(Address::group(GROUP, ue(1)), SduType::Ip, &ip(1, [10, 0, 0, 2]));
        assert_eq!(routed, Route::Drop(Verdict::NotForwarded));
    }

    #[test]
    fn a_member_has_only_so_many_addresses() {
        let mut b = bridge(&[]);
        let mut bound = 0;
        for n in 0..=255 {
            bound += u32::from(route(&mut b, 1, n, [239, 0, 0, 1]) == Route::Group(GROUP));
        }
        assert_eq!(bound as usize, limits::ADDRESSES);
    }

    #[test]
    fn an_announcement_makes_a_member_reachable() {
        let mut b = bridge(&[]);
        let arp = inner::announcement(Ipv4Addr::new(10, 0, 0, 1), [2, 0x50, 0x43, 0, 0, 1]);
        assert_eq!(b.route(Address::link(OWNER, ue(1)), SduType::Arp, &arp), Route::Taken);
        assert_eq!(route(&mut b, 2, 2, [10, 0, 0, 1]), Route::Member(ue(1)));
    }
}

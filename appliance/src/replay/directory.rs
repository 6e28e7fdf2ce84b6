//! Which member UE stands for which station of the capture. Source: `design.md` section 6.

use std::collections::HashMap;

use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::pdu::Destination;

use pc5_pcap::LinkType;

use super::inner::{self, Station, To};

/// Layer-2 id of the group owner in replay.
pub(crate) const OWNER: Layer2Id = Layer2Id::from_octets([0xff, 0xff, 0xfe]);
/// The group in replay.
pub(crate) const GROUP: GroupId = GroupId::from_octets([0xf0, 0x00, 0x01]);

/// What goes one-to-one and what one-to-many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Cast {
    /// Every frame one-to-one to the group owner, which bridges: unicast to the addressee, group-addressed to the group.
    Auto,
    /// Every frame one-to-many from its UE; nothing to bridge.
    Group,
    /// Every frame one-to-one to the group owner and from there one-to-one.
    Link,
}

/// Stations and their members: Layer-2 ids in order of first appearance, from 000001, then modulo.
pub(crate) struct Directory {
    /// By MAC address: nearly all, and a frame asks twice.
    macs: Map<u64>,
    others: Map<Station>,
    limit: u32,
}

type Map<K> = HashMap<K, Bound, foldhash::fast::RandomState>;

/// Whose station it is.
#[derive(Clone, Copy)]
struct Bound {
    member: Layer2Id,
    /// A frame of it was opened on this member's link; else it was only seen as an address.
    proved: bool,
}

impl Directory {
    /// At most `limit` members.
    pub(crate) fn new(limit: u32) -> Self {
        Self { macs: Map::default(), others: Map::default(), limit }
    }

    /// The member that a captured frame comes from and, unless it goes one-to-many from there, where the owner sends it.
    #[inline(always)]
    pub(crate) fn place(
        &mut self,
        cast: Cast,
        link_type: LinkType,
        frame: &[u8],
    ) -> (Layer2Id, Option<Destination>) {
        // What nearly all frames have is looked up without going through memory as a `Station`: half of the whole cost.
        let Some((from, to)) = inner::macs(link_type, frame) else {
            return self.place_by_other_addresses(cast, link_type, frame);
        };
        let source = self.member_of_mac(from);
        let destination = match (cast, to) {
            (Cast::Group, _) => None,
            (_, None) => Some(self.to_many(cast, source)),
            (_, Some(to)) => {
                let to = self.member_of_mac(to);
                Some(self.to_one(source, to))
            }
        };
        (source, destination)
    }

    #[inline(never)]
    fn place_by_other_addresses(
        &mut self,
        cast: Cast,
        link_type: LinkType,
        frame: &[u8],
    ) -> (Layer2Id, Option<Destination>) {
        let (from, to) = inner::addresses(link_type, frame);
        let source = self.member(from);
        (source, (cast != Cast::Group).then(|| self.bridge(cast, source, to)))
    }

    /// The member that stands for a station; a new one for a station not seen before.
    fn member(&mut self, station: Station) -> Layer2Id {
        match station {
            Station::Mac(mac) => self.member_of_mac(mac),
            other => match self.others.get(&other) {
                Some(bound) => bound.member,
                None => self.appear(other),
            },
        }
    }

    #[inline(always)]
    fn member_of_mac(&mut self, mac: u64) -> Layer2Id {
        match self.macs.get(&mac) {
            Some(bound) => bound.member,
            None => self.appear(Station::Mac(mac)),
        }
    }

    #[cold]
    fn appear(&mut self, station: Station) -> Layer2Id {
        let stations = self.macs.len() + self.others.len();
        let member = member(stations as u32 % self.limit);
        let bound = Bound { member, proved: false };
        match station {
            Station::Mac(mac) => self.macs.insert(mac, bound),
            other => self.others.insert(other, bound),
        };
        member
    }

    /// A frame of a station was opened on this member's link. `false` when the station is another member's, who proved it
    /// before: inner source addresses are bound to their member. What nobody has for itself is nobody's.
    #[inline]
    pub(crate) fn bind(&mut self, station: Station, to: Layer2Id) -> bool {
        let bound = match station {
            Station::Nobody | Station::Ip(0) => return true,
            Station::Mac(mac) => self.macs.entry(mac).or_insert(Bound { member: to, proved: true }),
            other => self.others.entry(other).or_insert(Bound { member: to, proved: true }),
        };
        if !bound.proved {
            *bound = Bound { member: to, proved: true };
        }
        bound.member == to
    }

    /// Where the owner sends a frame that came from `source` on its link: to the addressee's member, to the group, or to the
    /// next member. A frame for its own sender goes to the next member too: several stations can share a UE.
    pub(crate) fn bridge(&mut self, cast: Cast, source: Layer2Id, to: To) -> Destination {
        match to {
            To::Many => self.to_many(cast, source),
            To::One(station) => {
                let to = self.member(station);
                self.to_one(source, to)
            }
        }
    }

    fn to_many(&self, cast: Cast, source: Layer2Id) -> Destination {
        if cast == Cast::Auto { Destination::Group(GROUP) } else { Destination::Ue(self.next(source)) }
    }

    #[inline(always)]
    fn to_one(&self, source: Layer2Id, to: Layer2Id) -> Destination {
        Destination::Ue(if to == source { self.next(source) } else { to })
    }

    /// The member after this one, the first after the last.
    fn next(&self, of: Layer2Id) -> Layer2Id {
        member(of.get() % self.limit)
    }
}

fn member(index: u32) -> Layer2Id {
    let [_, a, b, c] = (index + 1).to_be_bytes();
    Layer2Id::from_octets([a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_stays_with_the_member_that_proved_it() {
        let mut directory = Directory::new(256);
        let (station, one, two) = (Station::Mac(0x0200_0000_0001), member(4), member(7));
        let to = |directory: &mut Directory, from| directory.bridge(Cast::Auto, from, To::One(station));
        assert_eq!(to(&mut directory, two), Destination::Ue(member(0)), "seen as a destination, not proved");
        assert!(directory.bind(station, one) && directory.bind(station, one));
        assert!(!directory.bind(station, two), "another one pretends");
        assert_eq!(to(&mut directory, two), Destination::Ue(one));
        for nobodys in [Station::Nobody, Station::Ip(0)] {
            assert!(directory.bind(nobodys, one) && directory.bind(nobodys, two));
        }
    }
}

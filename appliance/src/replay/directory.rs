//! Which member UE stands for which station of the capture. Source: `design.md` section 6.

use std::collections::HashMap;

use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::pdu::Destination;

use super::inner::{Station, To};

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
    members: HashMap<Station, Layer2Id, foldhash::fast::RandomState>,
    limit: u32,
}

impl Directory {
    /// At most `limit` members.
    pub(crate) fn new(limit: u32) -> Self {
        Self { members: HashMap::default(), limit }
    }

    /// The member that stands for a station; a new one for a station not seen before.
    #[inline]
    pub(crate) fn member(&mut self, station: Station) -> Layer2Id {
        match self.members.get(&station) {
            Some(&member) => member,
            None => self.appear(station),
        }
    }

    #[cold]
    fn appear(&mut self, station: Station) -> Layer2Id {
        let member = member(self.members.len() as u32 % self.limit);
        self.members.insert(station, member);
        member
    }

    /// A station proved to sit behind this member: it was opened on its link.
    #[inline]
    pub(crate) fn bind(&mut self, station: Station, to: Layer2Id) {
        self.members.insert(station, to);
    }

    /// Where the owner sends a frame that came from `source` on its link: to the addressee's member, to the group, or to the
    /// next member. A frame for its own sender goes to the next member too: several stations can share a UE.
    #[inline]
    pub(crate) fn bridge(&mut self, cast: Cast, source: Layer2Id, to: To) -> Destination {
        match to {
            To::Many if cast == Cast::Auto => Destination::Group(GROUP),
            To::Many => Destination::Ue(self.next(source)),
            To::One(station) => match self.member(station) {
                same if same == source => Destination::Ue(self.next(source)),
                other => Destination::Ue(other),
            },
        }
    }

    /// The member after this one, the first after the last.
    pub(crate) fn next(&self, of: Layer2Id) -> Layer2Id {
        member(of.get() % self.limit)
    }
}

fn member(index: u32) -> Layer2Id {
    let [_, a, b, c] = (index + 1).to_be_bytes();
    Layer2Id::from_octets([a, b, c])
}

//! A UE's side of user data: packets of its device go to the owner or the group, what was opened goes to the device.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pc5_dataplane::batch::Meta;
use pc5_dataplane::ids::{GroupId, Layer2Id, Lcid, SduType};
use pc5_dataplane::io::tun::{Kind, Tun};
use pc5_dataplane::keys::PermittedSender;
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::Verdict;

use super::{DataPlane, Role, Which};
use crate::run::inner::{self, Inner, To};
use crate::run::tun::OVERHEAD;

/// Own limits.
mod limits {
    use std::time::Duration;

    /// Own inner sources that a UE remembers.
    pub(super) const OWN_SOURCES: usize = 64;
    /// How often a UE announces its addresses, after the first two times.
    pub(super) const ANNOUNCE: Duration = Duration::from_secs(30);
    /// Time from the first announcement to the second.
    pub(super) const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
}

/// A UE's side of user data.
pub(crate) struct UeData {
    pub(super) tun: Tun,
    pub(super) way: Way,
    /// Own addresses, to be announced.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) announce_at: Option<Instant>,
    pub(super) announced: bool,
}

/// Where a UE's user data goes.
pub(super) struct Way {
    pub(super) kind: Kind,
    pub(super) local: Layer2Id,
    pub(super) group: GroupId,
    pub(super) broadcasts: Vec<Ipv4Addr>,
    /// Inner sources of what was sent: multicast from them is our own coming back.
    pub(super) own: HashSet<Inner>,
    pub(super) uplink: Option<Layer2Id>,
    /// The group's key lets members send one-to-many.
    pub(super) direct: bool,
    /// The group has no owner: everything goes one-to-many.
    pub(super) ownerless: bool,
}

impl UeData {
    pub(crate) fn new(
        tun: Tun,
        local: Layer2Id,
        group: GroupId,
        addresses: Vec<IpAddr>,
        broadcasts: Vec<Ipv4Addr>,
    ) -> Self {
        let own = addresses.iter().map(|&ip| Inner::Ip(ip)).collect();
        let way = Way {
            kind: tun.kind(),
            local,
            group,
            broadcasts,
            own,
            uplink: None,
            direct: false,
            ownerless: false,
        };
        Self { tun, way, addresses, announce_at: None, announced: false }
    }

    /// Its group has none: members send one-to-many, each under a session key of its own.
    pub(crate) fn has_no_owner(&mut self) {
        self.way.ownerless = true;
    }
}

impl Way {
    /// Whether a frame was for this membership.
    pub(super) fn is_to(&self, address: Address) -> bool {
        match address.destination() {
            Destination::Ue(local) => local == self.local,
            Destination::Group(group) => group == self.group,
        }
    }

    /// Whether an SDU that was opened may go to the device.
    pub(super) fn admits(&self, sdu_type: SduType, sdu: &[u8]) -> Verdict {
        if sdu_type != self.kind.sdu_type() {
            return Verdict::NotForUs;
        }
        match inner::addresses(sdu_type, sdu, &self.broadcasts) {
            None => Verdict::InnerSource,
            Some((from, To::Many)) if self.own.contains(&from) => Verdict::OwnSource,
            // Without an owner who picks out the addressee everybody hears everything.
            Some((_, To::One(to))) if self.ownerless && !self.own.contains(&to) => Verdict::NotForUs,
            Some(_) => Verdict::Accepted,
        }
    }

    /// Where what the device gives goes.
    fn address_of(&mut self, sdu: &[u8], fits: usize) -> Result<Address, Verdict> {
        if sdu.len() > fits {
            return Err(Verdict::TooLong);
        }
        let (from, to) =
            inner::addresses(self.kind.sdu_type(), sdu, &self.broadcasts).ok_or(Verdict::InnerSource)?;
        if self.ownerless {
            if self.own.len() < limits::OWN_SOURCES {
                self.own.insert(from);
            }
            return Ok(Address::group(self.group, self.local));
        }
        let owner = self.uplink.ok_or(Verdict::NoKey)?;
        if self.own.len() < limits::OWN_SOURCES {
            self.own.insert(from);
        }
        match to {
            To::Many if self.direct => Ok(Address::group(self.group, self.local)),
            _ => Ok(Address::link(owner, self.local)),
        }
    }
}

impl DataPlane {
    /// Takes packets from the TUN devices and sends them.
    pub(super) fn take_packets(&mut self) -> anyhow::Result<()> {
        let fits = self.data_port.max_frame().saturating_sub(OVERHEAD);
        let generation = self.keys.generation();
        let Role::Ue(ues) = &mut self.role else { return Ok(()) };
        if self.generation != generation {
            self.generation = generation;
            let snapshot = self.keys.load();
            for ue in ues.iter_mut() {
                ue.way.direct = snapshot.groups().any(|g| {
                    g.group == ue.way.group
                        && g.senders == PermittedSender::Any
                        && !g.grants.is_empty()
                        && !g.retired
                });
            }
        }
        for n in 0..ues.len() {
            let Role::Ue(ues) = &mut self.role else { return Ok(()) };
            let Some(ue) = ues.get_mut(n) else { return Ok(()) };
            self.batch.clear();
            let (tun, way, taken) = (&mut ue.tun, &mut ue.way, &mut self.taken);
            tun.rx(&mut self.batch, Duration::ZERO, |sdu| {
                let address = way.address_of(sdu, fits);
                taken.count(address.err().unwrap_or(Verdict::Accepted));
                address.ok()
            })?;
            self.send(Which::Data)?;
        }
        Ok(())
    }

    /// Tells the owners which addresses are here, so that others reach them before they have sent anything.
    pub(super) fn announce(&mut self) -> anyhow::Result<()> {
        let Role::Ue(ues) = &mut self.role else { return Ok(()) };
        let now = Instant::now();
        self.batch.clear();
        for ue in ues {
            let (Some(owner), Some(at)) = (ue.way.uplink, ue.announce_at) else { continue };
            if now < at {
                continue;
            }
            let again = if ue.announced { limits::ANNOUNCE } else { limits::ANNOUNCE_AGAIN };
            (ue.announce_at, ue.announced) = (Some(now + again), true);
            let link = Address::link(owner, ue.way.local);
            let [_, _, _, _, _, _, mac @ .., _, _] = link.ethernet_header();
            for address in &ue.addresses {
                if let IpAddr::V4(v4) = address {
                    let sdu = inner::announcement(*v4, mac);
                    // A batch takes more than the devices have addresses.
                    let _ = self.batch.push_sdu(link, Lcid::USER, SduType::Arp, &sdu, Meta::default());
                }
            }
        }
        self.send(Which::Data)
    }
}

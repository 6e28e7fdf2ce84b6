//! Inner addresses: who an SDU says it is from, and whom it is for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pc5_dataplane::ids::SduType;

/// An address inside an SDU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Inner {
    /// Of an IP or ARP SDU.
    Ip(IpAddr),
    /// Of a bridged link-layer frame.
    Mac([u8; 6]),
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        }
    }
}

/// Whom an SDU is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    /// One station.
    One(Inner),
    /// Multicast or broadcast.
    Many,
    /// The bridge alone: an announcement of an address.
    Bridge,
}

/// Source and destination of an SDU; `None` when it has none that could be told, or a source that nobody can have.
/// `broadcasts` are the directed broadcasts of the group's networks.
pub(crate) fn addresses(sdu_type: SduType, sdu: &[u8], broadcasts: &[Ipv4Addr]) -> Option<(Inner, To)> {
    match sdu_type {
        SduType::Ip => ip(sdu, broadcasts),
        SduType::Arp => arp(sdu),
        SduType::NonIp => ethernet(sdu),
        SduType::Pc5Signalling => None,
    }
}

fn ip(packet: &[u8], broadcasts: &[Ipv4Addr]) -> Option<(Inner, To)> {
    match packet.first()? >> 4 {
        4 => {
            let head = packet.first_chunk::<20>()?;
            let at = |i: usize| Ipv4Addr::new(head[i], head[i + 1], head[i + 2], head[i + 3]);
            let (from, to) = (at(12), at(16));
            if from.is_multicast() || from.is_broadcast() || from.is_unspecified() || from.is_loopback() {
                return None;
            }
            let many = to.is_multicast() || to.is_broadcast() || broadcasts.contains(&to);
            Some((Inner::Ip(from.into()), if many { To::Many } else { To::One(Inner::Ip(to.into())) }))
        }
        6 => {
            let from = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
            let to = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
            packet.get(39)?;
            if from.is_multicast() || from.is_unspecified() || from.is_loopback() {
                return None;
            }
            let to = if to.is_multicast() { To::Many } else { To::One(Inner::Ip(to.into())) };
            Some((Inner::Ip(from.into()), to))
        }
        _ => None,
    }
}

/// Ethernet and IPv4 only, RFC 826. Who asks for its own address announces it.
fn arp(sdu: &[u8]) -> Option<(Inner, To)> {
    let packet = sdu.first_chunk::<ARP_LEN>()?;
    if packet[..6] != ARP_HEAD {
        return None;
    }
    let at = |i: usize| Ipv4Addr::new(packet[i], packet[i + 1], packet[i + 2], packet[i + 3]);
    let (sender, target) = (at(14), at(24));
    if sender.is_multicast() || sender.is_broadcast() || sender.is_unspecified() {
        return None;
    }
    let to = if sender == target { To::Bridge } else { To::One(Inner::Ip(target.into())) };
    Some((Inner::Ip(sender.into()), to))
}

const ARP_LEN: usize = 28;
/// Ethernet, IPv4, lengths 6 and 4.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP announcement (RFC 5227) of an address at a MAC address.
pub(crate) fn announcement(address: Ipv4Addr, mac: [u8; 6]) -> [u8; ARP_LEN] {
    let mut packet = [0; ARP_LEN];
    packet[..6].copy_from_slice(&ARP_HEAD);
    packet[7] = 1;
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..].copy_from_slice(&address.octets());
    packet
}

fn ethernet(frame: &[u8]) -> Option<(Inner, To)> {
    let head = frame.first_chunk::<14>()?;
    let at = |i: usize| [head[i], head[i + 1], head[i + 2], head[i + 3], head[i + 4], head[i + 5]];
    let (to, from) = (at(0), at(6));
    if from[0] & 1 == 1 || from == [0; 6] {
        return None;
    }
    Some((Inner::Mac(from), if to[0] & 1 == 1 { To::Many } else { To::One(Inner::Mac(to)) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut p = vec![0x45];
        p.resize(20, 0);
        p[12..16].copy_from_slice(&from);
        p[16..20].copy_from_slice(&to);
        p
    }

    #[test]
    fn unicast_multicast_and_both_broadcasts() {
        let of =
            |to| addresses(SduType::Ip, &v4([10, 0, 0, 1], to), &[Ipv4Addr::new(10, 0, 0, 255)]).unwrap().1;
        assert_eq!(of([10, 0, 0, 2]), To::One(Inner::Ip(IpAddr::from([10, 0, 0, 2]))));
        for many in [[224, 0, 0, 1], [239, 1, 2, 3], [255; 4], [10, 0, 0, 255]] {
            assert_eq!(of(many), To::Many, "{many:?}");
        }
        let mut six = vec![0x60];
        six.resize(40, 0);
        (six[8], six[24]) = (0xfd, 0xff);
        assert_eq!(addresses(SduType::Ip, &six, &[]).unwrap().1, To::Many);
        assert_eq!(addresses(SduType::Ip, &six[..39], &[]), None);
    }

    #[test]
    fn sources_that_nobody_can_have_are_refused() {
        for from in [[0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
            assert_eq!(addresses(SduType::Ip, &v4(from, [10, 0, 0, 2]), &[]), None, "{from:?}");
        }
        let frame = [2, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 2, 8, 0];
        assert_eq!(addresses(SduType::NonIp, &frame, &[]), None, "group source");
    }

    #[test]
    fn an_announcement_is_for_the_bridge_and_a_question_for_its_target() {
        let mut arp = announcement(Ipv4Addr::new(10, 0, 0, 1), [2, 0x50, 0x43, 0, 0, 1]);
        let from = Inner::Ip(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(addresses(SduType::Arp, &arp, &[]), Some((from, To::Bridge)));
        arp[27] = 2;
        let to = To::One(Inner::Ip(IpAddr::from([10, 0, 0, 2])));
        assert_eq!(addresses(SduType::Arp, &arp, &[]), Some((from, to)));
        arp[1] = 6;
        assert_eq!(addresses(SduType::Arp, &arp, &[]), None);
    }

    proptest! {
        #[test]
        fn no_octets_do_harm(sdu in proptest::collection::vec(any::<u8>(), 0..64), kind in 0u8..4) {
            let sdu_type = SduType::new(kind).unwrap();
            let _ = addresses(sdu_type, &sdu, &[Ipv4Addr::BROADCAST]);
        }
    }
}

//! Addresses inside captured frames: who sent one, and to whom.

use pc5_pcap::LinkType;

/// A station of the captured network, as one number: kind in the high bits, address below.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Station(u128, Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
enum Kind {
    Mac,
    Ip,
    /// What has no address at all comes from one fixed sender.
    Nobody,
}

/// Where a captured frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    /// One station.
    One(Station),
    /// A group address, or none.
    Many,
}

/// Source and destination of a captured frame: MAC addresses, else IP addresses, else one fixed sender to all.
#[inline]
pub(crate) fn addresses(link_type: LinkType, frame: &[u8]) -> (Station, To) {
    if link_type == LinkType::ETHERNET {
        if let Some(head) = frame.first_chunk::<12>() {
            let to = if head[0] & 1 == 1 {
                To::Many
            } else {
                To::One(mac([head[0], head[1], head[2], head[3], head[4], head[5]]))
            };
            return (mac([head[6], head[7], head[8], head[9], head[10], head[11]]), to);
        }
        return (NOBODY, To::Many);
    }
    let packet = match link_type {
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => frame,
        LinkType::NULL | LinkType::LOOP => frame.get(4..).unwrap_or(&[]),
        LinkType::LINUX_SLL => frame.get(16..).unwrap_or(&[]),
        LinkType::LINUX_SLL2 => frame.get(20..).unwrap_or(&[]),
        _ => &[],
    };
    ip_addresses(packet)
}

const NOBODY: Station = Station(0, Kind::Nobody);

fn mac(octets: [u8; 6]) -> Station {
    let [a, b, c, d, e, f] = octets;
    Station(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) as u128, Kind::Mac)
}

fn ip_addresses(packet: &[u8]) -> (Station, To) {
    match packet.first().map(|b| b >> 4) {
        Some(4) => {
            let Some(head) = packet.first_chunk::<20>() else { return (NOBODY, To::Many) };
            let at = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
            let (source, destination) = (at(12), at(16));
            // 224.0.0.0/4 and the limited broadcast.
            let many = destination >> 28 == 0xe || destination == u32::MAX;
            let to = if many { To::Many } else { To::One(Station(destination as u128, Kind::Ip)) };
            (Station(source as u128, Kind::Ip), to)
        }
        Some(6) => {
            let (Some(source), Some(destination)) = (octets16(packet, 8), octets16(packet, 24)) else {
                return (NOBODY, To::Many);
            };
            // ff00::/8.
            let to = if destination[0] == 0xff {
                To::Many
            } else {
                To::One(Station(u128::from_be_bytes(destination), Kind::Ip))
            };
            (Station(u128::from_be_bytes(source), Kind::Ip), to)
        }
        _ => (NOBODY, To::Many),
    }
}

fn octets16(packet: &[u8], at: usize) -> Option<[u8; 16]> {
    packet.get(at..)?.first_chunk::<16>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_come_before_ip_and_groups_are_seen() {
        let mut f = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 8, 0];
        let (from, to) = addresses(LinkType::ETHERNET, &f);
        assert_eq!((from, to), (mac([2, 0, 0, 0, 0, 1]), To::One(mac([2, 0, 0, 0, 0, 2]))));
        f[0] = 0xff;
        assert_eq!(addresses(LinkType::ETHERNET, &f).1, To::Many);
        assert_eq!(addresses(LinkType::ETHERNET, &f[..11]), (NOBODY, To::Many));
    }

    #[test]
    fn ip_stands_in_where_the_link_type_has_no_addresses() {
        let mut p = vec![0x45; 1];
        p.resize(20, 0);
        p[12..16].copy_from_slice(&[192, 0, 2, 1]);
        p[16..20].copy_from_slice(&[192, 0, 2, 2]);
        let (from, to) = addresses(LinkType::RAW, &p);
        assert_eq!(from, Station(0xc0000201, Kind::Ip));
        assert_eq!(to, To::One(Station(0xc0000202, Kind::Ip)));
        p[16] = 239;
        assert_eq!(addresses(LinkType::IPV4, &p).1, To::Many);
        let mut cooked = vec![0; 20];
        cooked.extend(&p);
        assert_eq!(addresses(LinkType::LINUX_SLL2, &cooked).0, from);
        assert_eq!(addresses(LinkType(147), &p), (NOBODY, To::Many));
        for n in 0..20 {
            assert_eq!(addresses(LinkType::RAW, &p[..n]).1, To::Many);
        }
    }
}

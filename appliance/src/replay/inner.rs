//! Addresses inside captured frames: who sent one, and to whom.

use pc5_pcap::LinkType;

/// A station of the captured network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Station {
    /// By its MAC address, 48 bits.
    Mac(u64),
    /// By its IP address.
    Ip(u128),
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

/// Source and destination MAC address of a captured frame, where it has them; no destination for a group address.
#[inline(always)]
pub(crate) fn macs(link_type: LinkType, frame: &[u8]) -> Option<(u64, Option<u64>)> {
    let head = frame.first_chunk::<12>().filter(|_| link_type == LinkType::ETHERNET)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *head;
    Some((mac([g, h, i, j, k, l]), (a & 1 == 0).then(|| mac([a, b, c, d, e, f]))))
}

#[inline(always)]
const fn mac(o: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, o[0], o[1], o[2], o[3], o[4], o[5]])
}

/// Source and destination of a captured frame: MAC addresses, else IP addresses, else one fixed sender to all. Cooked captures
/// (SLL) name the sender's MAC address alone, so that one station would be two, by what it sends and by what it is sent: there IP
/// addresses serve for both.
pub(crate) fn addresses(link_type: LinkType, frame: &[u8]) -> (Station, To) {
    if let Some((from, to)) = macs(link_type, frame) {
        return (Station::Mac(from), to.map_or(To::Many, |to| To::One(Station::Mac(to))));
    }
    let packet = match link_type {
        LinkType::IEEE802_11 => return wireless(frame),
        // Radiotap: version (1), padding (1), length (2, little-endian).
        LinkType::IEEE802_11_RADIOTAP => {
            let header =
                frame.first_chunk().map_or(usize::MAX, |[_, _, a, b]| u16::from_le_bytes([*a, *b]).into());
            return wireless(frame.get(header..).unwrap_or(&[]));
        }
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => frame,
        LinkType::NULL | LinkType::LOOP => frame.get(4..).unwrap_or(&[]),
        LinkType::LINUX_SLL => frame.get(16..).unwrap_or(&[]),
        LinkType::LINUX_SLL2 => frame.get(20..).unwrap_or(&[]),
        _ => &[],
    };
    ip_addresses(packet)
}

/// Who a frame is from and whom it is for in the end, not the access point between them. Source: IEEE 802.11-2020 9.2.4.1 and
/// table 9-30.
fn wireless(frame: &[u8]) -> (Station, To) {
    let address = |n: usize| frame.get([4, 10, 16, 24][n - 1]..)?.first_chunk().copied();
    let (control, flags) = match frame {
        [control, flags, ..] => (control, flags),
        _ => return (Station::Nobody, To::Many),
    };
    // To the distribution system, from it.
    let (source, destination) = match (control >> 2 & 3, control >> 4, flags & 3) {
        (DATA, _, 1) => (address(2), address(3)),
        (DATA, _, 2) => (address(3), address(1)),
        (DATA, _, 3) => (address(4), address(3)),
        (DATA | MANAGEMENT, ..) => (address(2), address(1)),
        (CONTROL, CTS | ACK, _) => (None, address(1)),
        (CONTROL, BLOCK_ACK_REQUEST.., _) => (address(2), address(1)),
        _ => (None, None),
    };
    let to = match destination {
        Some(to) if to[0] & 1 == 0 => To::One(Station::Mac(mac(to))),
        _ => To::Many,
    };
    (source.map_or(Station::Nobody, |from| Station::Mac(mac(from))), to)
}

/// Types of IEEE 802.11 frames, and subtypes of control frames.
const MANAGEMENT: u8 = 0;
const CONTROL: u8 = 1;
const DATA: u8 = 2;
const BLOCK_ACK_REQUEST: u8 = 8;
const CTS: u8 = 12;
const ACK: u8 = 13;

fn ip_addresses(packet: &[u8]) -> (Station, To) {
    match packet.first().map(|b| b >> 4) {
        Some(4) => {
            let Some(head) = packet.first_chunk::<20>() else { return (Station::Nobody, To::Many) };
            let at = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
            let (source, destination) = (at(12), at(16));
            // 224.0.0.0/4 and the limited broadcast.
            let many = destination >> 28 == 0xe || destination == u32::MAX;
            let to = if many { To::Many } else { To::One(Station::Ip(destination.into())) };
            (Station::Ip(source.into()), to)
        }
        Some(6) => {
            let (Some(source), Some(destination)) = (octets16(packet, 8), octets16(packet, 24)) else {
                return (Station::Nobody, To::Many);
            };
            // ff00::/8.
            let to = if destination[0] == 0xff {
                To::Many
            } else {
                To::One(Station::Ip(u128::from_be_bytes(destination)))
            };
            (Station::Ip(u128::from_be_bytes(source)), to)
        }
        _ => (Station::Nobody, To::Many),
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
        let (one, two) = (Station::Mac(0x0200_0000_0001), Station::Mac(0x0200_0000_0002));
        assert_eq!((from, to), (one, To::One(two)));
        f[0] = 0xff;
        assert_eq!(addresses(LinkType::ETHERNET, &f).1, To::Many);
        assert_eq!(addresses(LinkType::ETHERNET, &f[..11]), (Station::Nobody, To::Many));
    }

    #[test]
    fn wireless_stations_are_those_at_the_ends() {
        let macs = [1u64, 2, 3, 4].map(|n| 0x0200_0000_0000 | n);
        let [one, two, three, four] = macs.map(Station::Mac);
        let frame = |control: u8, flags: u8| {
            let mut f = vec![control, flags, 0, 0];
            for (n, mac) in macs.iter().enumerate() {
                if n == 3 {
                    f.extend([0, 0]); // Sequence control.
                }
                f.extend(&mac.to_be_bytes()[2..]);
            }
            f
        };
        let (beacon, data, qos, rts, cts) = (0x80, 0x08, 0x88, 0xb4, 0xc4);
        for (control, flags, ends) in [
            (data, 0, (two, one)),
            (data, 1, (two, three)),
            (qos, 0x42, (three, one)),
            (qos, 3, (four, three)),
            (beacon, 0, (two, one)),
            (rts, 0, (two, one)),
            (cts, 0, (Station::Nobody, one)),
        ] {
            let mut f = frame(control, flags);
            let ends = (ends.0, To::One(ends.1));
            assert_eq!(addresses(LinkType::IEEE802_11, &f), ends, "{control:02x} {flags:02x}");
            let tapped = [&[0, 0, 9, 0, 0, 0, 0, 0, 7], &*f].concat();
            assert_eq!(addresses(LinkType::IEEE802_11_RADIOTAP, &tapped), ends);
            for n in 0..f.len() {
                // Whatever is cut off, nobody else is named.
                let (from, to) = addresses(LinkType::IEEE802_11, &f[..n]);
                assert!([ends.0, Station::Nobody].contains(&from) && [ends.1, To::Many].contains(&to));
                addresses(LinkType::IEEE802_11_RADIOTAP, &tapped[..n]);
            }
            f[4] |= 1;
            f[16] |= 1;
            assert_eq!(addresses(LinkType::IEEE802_11, &f).1, To::Many);
        }
        assert_eq!(
            addresses(LinkType::IEEE802_11, &frame(0x0c, 0)),
            (Station::Nobody, To::Many),
            "extension"
        );
    }

    #[test]
    fn ip_stands_in_where_the_link_type_has_no_addresses() {
        let mut p = vec![0x45; 1];
        p.resize(20, 0);
        p[12..16].copy_from_slice(&[192, 0, 2, 1]);
        p[16..20].copy_from_slice(&[192, 0, 2, 2]);
        let (from, to) = addresses(LinkType::RAW, &p);
        assert_eq!(from, Station::Ip(0xc0000201));
        assert_eq!(to, To::One(Station::Ip(0xc0000202)));
        p[16] = 239;
        assert_eq!(addresses(LinkType::IPV4, &p).1, To::Many);
        let mut cooked = vec![0; 20];
        cooked.extend(&p);
        assert_eq!(addresses(LinkType::LINUX_SLL2, &cooked).0, from);
        assert_eq!(addresses(LinkType(147), &p), (Station::Nobody, To::Many));
        for n in 0..20 {
            assert_eq!(addresses(LinkType::RAW, &p[..n]).1, To::Many);
        }
    }
}

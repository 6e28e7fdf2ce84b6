//! The PC5 frame: Ethernet header, LCID and short length, SLRB PDCP header. Source: `design.md` section 3,
//! TS 36.323 6.2.10.
//!
//! ```text
//! 0..6 destination   6..12 source   12..14 88 B5   14 version | LCID   15 SL   16..21 PDCP header   21.. data, MAC
//! ```

use crate::ids::{GroupId, Layer2Id, Lcid, SduType};
use crate::verdict::Verdict;

/// Values of the wire format.
pub mod spec {
    /// EtherType of a PC5 frame.
    pub const ETHERTYPE: u16 = 0x88b5;
    /// TPID of an 802.1Q tag.
    pub const TPID: u16 = 0x8100;
    /// First three octets of a unicast address.
    pub const UNICAST_PREFIX: [u8; 3] = [0x02, 0x50, 0x43];
    /// First three octets of a group address.
    pub const GROUP_PREFIX: [u8; 3] = [0x03, 0x50, 0x43];
    /// Octets before the data of an untagged frame.
    pub const HEADER_LEN: usize = 21;
    /// Octets of an 802.1Q tag.
    pub const TAG_LEN: usize = 4;
    /// Ethernet pads untagged frames to this many octets.
    pub const MIN_FRAME: usize = 60;
    /// SL counts from here.
    pub const SL_FROM: usize = 16;
    /// Smallest and largest SL other than 0.
    pub const SL_RANGE: std::ops::RangeInclusive<u8> = 5..=43;
}

/// Destination, source and cast of a frame as one number: what flows are found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Address(u64);

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    /// One-to-many.
    Group(GroupId),
    /// One-to-one.
    Ue(Layer2Id),
}

const CAST_BIT: u64 = 1 << 48;
const ID_MASK: u64 = 0xff_ffff;

impl Address {
    /// One-to-one.
    pub const fn link(destination: Layer2Id, source: Layer2Id) -> Self {
        Self((destination.get() as u64) << 24 | source.get() as u64)
    }

    /// One-to-many.
    pub const fn group(group: GroupId, source: Layer2Id) -> Self {
        Self(CAST_BIT | (group.get() as u64) << 24 | source.get() as u64)
    }

    /// To either.
    pub const fn to(destination: Destination, source: Layer2Id) -> Self {
        match destination {
            Destination::Group(g) => Self::group(g, source),
            Destination::Ue(d) => Self::link(d, source),
        }
    }

    /// Whether the destination is a group.
    pub const fn is_group(self) -> bool {
        self.0 & CAST_BIT != 0
    }

    /// Where it goes.
    pub const fn destination(self) -> Destination {
        let id = [(self.0 >> 40) as u8, (self.0 >> 32) as u8, (self.0 >> 24) as u8];
        if self.is_group() {
            Destination::Group(GroupId::from_octets(id))
        } else {
            Destination::Ue(Layer2Id::from_octets(id))
        }
    }

    /// Where it comes from.
    pub const fn source(self) -> Layer2Id {
        Layer2Id::from_octets([(self.0 >> 16) as u8, (self.0 >> 8) as u8, self.0 as u8])
    }

    /// The frames of the other direction of a link; itself for a group.
    pub const fn reversed(self) -> Self {
        if self.is_group() { self } else { Self((self.0 & ID_MASK) << 24 | self.0 >> 24 & ID_MASK) }
    }

    /// The number itself, below 2^49.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Destination and source MAC address, EtherType: the first 14 octets of a frame.
    pub fn ethernet_header(self) -> [u8; 14] {
        let mut h = [0; 14];
        h[..3].copy_from_slice(if self.is_group() { &spec::GROUP_PREFIX } else { &spec::UNICAST_PREFIX });
        let ids = self.0.to_be_bytes();
        h[3..6].copy_from_slice(&ids[2..5]);
        h[6..9].copy_from_slice(&spec::UNICAST_PREFIX);
        h[9..12].copy_from_slice(&ids[5..8]);
        h[12..].copy_from_slice(&spec::ETHERTYPE.to_be_bytes());
        h
    }
}

/// What the headers of a frame say; nothing in it is proved yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Destination and source.
    pub address: Address,
    /// Logical channel.
    pub lcid: Lcid,
    /// What the data is.
    pub sdu_type: SduType,
    /// PGK index; 0 one-to-one and on LCID 28.
    pub index: u8,
    /// PTK identity or KD-sess id; 0 on LCID 28 only.
    pub key_id: u16,
    /// PDCP SN.
    pub sn: u16,
    /// Octets of an 802.1Q tag: 0 or 4.
    pub tag_len: u8,
    /// Octets 14 and 15, which the AEADs authenticate.
    pub lcid_and_sl: [u8; 2],
    /// Where data and MAC field lie in the frame: from `HEADER_LEN + tag_len` to here.
    pub end: u32,
}

/// Reads and checks the headers of a frame.
///
/// # Errors
/// The verdict that the frame is dropped with.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Header, Verdict> {
    let Some(head) = frame.first_chunk::<{ spec::HEADER_LEN }>() else {
        return Err(if frame.len() >= 14 { verdict_of_ethertype(frame) } else { Verdict::Short });
    };
    let tagged = be16(head, 12) == spec::TPID;
    if !tagged {
        return parse_slrb(
            head,
            [head[14], head[15]],
            [head[16], head[17], head[18], head[19], head[20]],
            0,
            frame.len(),
        );
    }
    let Some(long) = frame.first_chunk::<{ spec::HEADER_LEN + spec::TAG_LEN }>() else {
        return Err(Verdict::Short);
    };
    let mut untagged = [0; spec::HEADER_LEN];
    untagged[..12].copy_from_slice(&long[..12]);
    untagged[12..].copy_from_slice(&long[16..]);
    let u = &untagged;
    parse_slrb(u, [u[14], u[15]], [u[16], u[17], u[18], u[19], u[20]], spec::TAG_LEN, frame.len())
}

fn verdict_of_ethertype(frame: &[u8]) -> Verdict {
    match u16::from_be_bytes([frame[12], frame[13]]) {
        spec::ETHERTYPE | spec::TPID => Verdict::Short,
        _ => Verdict::NotPc5,
    }
}

#[inline(always)]
fn parse_slrb(
    head: &[u8; spec::HEADER_LEN],
    lcid_and_sl: [u8; 2],
    pdcp: [u8; 5],
    tag_len: usize,
    frame_len: usize,
) -> Result<Header, Verdict> {
    if be16(head, 12) != spec::ETHERTYPE {
        return Err(Verdict::NotPc5);
    }
    let is_group = head[0] == spec::GROUP_PREFIX[0];
    if (!is_group && head[0] != spec::UNICAST_PREFIX[0])
        || head[1..3] != spec::UNICAST_PREFIX[1..]
        || head[6..9] != spec::UNICAST_PREFIX
    {
        return Err(Verdict::Address);
    }
    let source = Layer2Id::from_octets([head[9], head[10], head[11]]);
    let destination = [head[3], head[4], head[5]];
    let address = if is_group {
        Address::group(GroupId::from_octets(destination), source)
    } else {
        Address::link(Layer2Id::from_octets(destination), source)
    };

    // Version is in the three high bits, so a version other than 0 is no LCID either.
    let (Some(lcid), Some(sdu_type)) = (Lcid::new(lcid_and_sl[0]), SduType::new(pdcp[0] >> 5)) else {
        return Err(Verdict::Reserved);
    };
    let index = pdcp[0] & 0x1f;
    let key_id = u16::from_be_bytes([pdcp[1], pdcp[2]]);
    let sn = u16::from_be_bytes([pdcp[3], pdcp[4]]);
    let clear = lcid == Lcid::CLEAR;
    if (sdu_type == SduType::Pc5Signalling) == lcid.is_user()
        || (!is_group && index != 0)
        || (key_id == 0) != clear
        || (clear && (index | pdcp[3] | pdcp[4]) != 0)
    {
        return Err(Verdict::Reserved);
    }

    let untagged_len = frame_len - tag_len;
    let sl = lcid_and_sl[1];
    let end = if sl == 0 {
        if untagged_len < spec::MIN_FRAME {
            return Err(Verdict::Padding);
        }
        frame_len
    } else {
        let end = spec::SL_FROM + sl as usize;
        if !spec::SL_RANGE.contains(&sl) || end > untagged_len {
            return Err(Verdict::Padding);
        }
        end + tag_len
    };
    Ok(Header {
        address,
        lcid,
        sdu_type,
        index,
        key_id,
        sn,
        tag_len: tag_len as u8,
        lcid_and_sl,
        end: end as u32,
    })
}

/// SL of a frame with this many octets of data and MAC field.
pub const fn short_length(data_and_mac: usize) -> u8 {
    let octets = data_and_mac + spec::HEADER_LEN - spec::SL_FROM;
    if spec::SL_FROM + octets < spec::MIN_FRAME { octets as u8 } else { 0 }
}

/// Associated data of the AEADs: destination id, source id, octets 14-15, PDCP header; then three octets of zero.
/// Source: `design.md` section 4.
#[inline]
pub fn associated_data(address: Address, lcid_and_sl: [u8; 2], pdcp: [u8; 5]) -> [u8; 16] {
    let ids = address.get().to_be_bytes();
    let [a, b, c, d, e, f] = [ids[2], ids[3], ids[4], ids[5], ids[6], ids[7]];
    let [l, s] = lcid_and_sl;
    let [p, q, r, t, u] = pdcp;
    [a, b, c, d, e, f, l, s, p, q, r, t, u, 0, 0, 0]
}

#[inline(always)]
fn be16(octets: &[u8; spec::HEADER_LEN], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Layer2Id {
        Layer2Id::new(n).unwrap()
    }

    /// One-to-one, user data, `data` octets and a MAC field of 4.
    fn frame(data: usize) -> Vec<u8> {
        let mut f = Address::link(id(2), id(1)).ethernet_header().to_vec();
        f.extend([1, short_length(data + 4), 0x60, 0x02, 0x03, 0, 9]);
        f.resize(f.len() + data + 4, 0xaa);
        f.resize(f.len().max(60), 0);
        f
    }

    #[test]
    fn short_frames_say_their_length_and_long_ones_zero() {
        assert_eq!(parse(&frame(3)).unwrap().end, 21 + 7);
        assert_eq!(frame(34)[15], 43);
        assert_eq!(frame(35)[15], 0);
        assert_eq!(parse(&frame(35)).unwrap().end, 60);
        assert_eq!(parse(&frame(100)).unwrap().end, 125);
    }

    #[test]
    fn a_tag_is_skipped() {
        let mut f = frame(3);
        f.splice(12..12, [0x81, 0, 0, 7]);
        let h = parse(&f).unwrap();
        assert_eq!((h.tag_len, h.end, h.sn), (4, 32, 9));
        assert_eq!(parse(&f[..24]), Err(Verdict::Short));
    }

    #[test]
    fn padding_games_are_named() {
        for sl in [1, 2, 3, 4, 44, 60, 255] {
            let mut f = frame(3);
            f[15] = sl;
            assert_eq!(parse(&f), Err(Verdict::Padding), "SL {sl}");
        }
        let mut f = frame(3);
        f[15] = 0;
        assert!(parse(&f).is_ok(), "60 octets with SL 0 are data to their end; the MAC decides");
        assert_eq!(parse(&f[..59]), Err(Verdict::Padding));
        let f = frame(3);
        assert_eq!(parse(&f[..27]), Err(Verdict::Padding));
        assert!(parse(&f[..28]).is_ok(), "no padding, as over UDP");
    }

    #[test]
    fn reserved_values_are_named() {
        let cases: [(usize, u8, Verdict); 12] = [
            (14, 0x21, Verdict::Reserved), // version 1
            (14, 0, Verdict::Reserved),
            (14, 11, Verdict::Reserved),
            (14, 27, Verdict::Reserved),
            (14, 31, Verdict::Reserved),
            (16, 0x80, Verdict::Reserved), // SDU type 4
            (16, 0x61, Verdict::Reserved), // index bits in one-to-one
            (16, 0x40, Verdict::Reserved), // PC5-S on a user channel
            (14, 30, Verdict::Reserved),   // user SDU type on a signalling channel
            (6, 0x03, Verdict::Address),   // group source
            (0, 0x01, Verdict::Address),
            (13, 0xb6, Verdict::NotPc5),
        ];
        for (at, value, verdict) in cases {
            let mut f = frame(50);
            f[at] = value;
            assert_eq!(parse(&f), Err(verdict), "octet {at} = {value:#x}");
        }
        let mut f = frame(50);
        f[17..19].fill(0);
        assert_eq!(parse(&f), Err(Verdict::Reserved), "key id 0 under protection");
        f[14] = 28;
        f[16] = 0x40;
        assert_eq!(parse(&f), Err(Verdict::Reserved), "SN on LCID 28");
        f[20] = 0;
        assert_eq!(parse(&f).unwrap().lcid, Lcid::CLEAR);
    }

    #[test]
    fn short_ones_are_named() {
        for n in 0..14 {
            assert_eq!(parse(&frame(50)[..n]), Err(Verdict::Short));
        }
        assert_eq!(parse(&frame(50)[..20]), Err(Verdict::Short));
        assert_eq!(parse(&[0; 20]), Err(Verdict::NotPc5));
    }

    #[test]
    fn addresses_turn_round() {
        let a = Address::link(id(0xfffffe), id(1));
        assert_eq!(a.reversed(), Address::link(id(1), id(0xfffffe)));
        assert_eq!(a.destination(), Destination::Ue(id(0xfffffe)));
        assert_eq!(a.source(), id(1));
        let g = Address::group(GroupId::new(0xf00001).unwrap(), id(7));
        assert_eq!(g.reversed(), g);
        assert_eq!(g.ethernet_header(), [3, 0x50, 0x43, 0xf0, 0, 1, 2, 0x50, 0x43, 0, 0, 7, 0x88, 0xb5]);
    }
}

//! The PC5 frame: Ethernet header, LCID and short length, SLRB PDCP header. Source: `design.md` section 3,
//! TS 36.323 6.2.10.
//!
//! ```text
//! 0..6 destination   6..12 source   12..14 88 B5   14 version | LCID   15 SL   16..21 PDCP header   21.. data, MAC
//! ```

use crate::ids::{GroupId, Layer2Id, Lcid, SduType};
#[cfg(target_arch = "x86_64")]
use crate::raw::cpu::Avx512;
#[cfg(target_arch = "x86_64")]
use crate::raw::x86_headers::{self, Words};
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
    /// Octets of the Ethernet header of an untagged frame.
    pub const ETHERNET_HEADER_LEN: usize = 14;
    /// Where a tag stands: between the addresses and the EtherType.
    pub const TAG_AT: usize = 12;
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
    /// No frame's.
    pub(crate) const NONE: Self = Self(u64::MAX);

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
    /// Octets 14 and 15, which the AEADs authenticate, as one number.
    pub lcid_and_sl: u16,
    /// The PDCP header as [`pdcp_word`] has it.
    pub(crate) pdcp: u64,
    /// Where data and MAC field lie in the frame: from `HEADER_LEN + tag_len` to here.
    pub end: u32,
}

/// Reads and checks the headers of a frame.
///
/// # Errors
/// The verdict that the frame is dropped with.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Header, Verdict> {
    // Three octets more than the headers, so that the PDCP header is one load. What is shorter is rare.
    let quick =
        frame.first_chunk().and_then(|head| UserData::parse(head, frame.len())).and_then(UserData::header);
    quick.map_or_else(|| parse_any(frame), Ok)
}

/// What the headers of an untagged frame of user data say, in the shape in which the stages want it.
#[derive(Clone, Copy)]
pub(crate) struct UserData {
    pub address: Address,
    pub lcid: Lcid,
    pub sdu_type: SduType,
    /// Index (5 bits) and key id.
    pub tag: u32,
    pub aad: AadWords,
    /// Octets of data and MAC field.
    pub len: u32,
}

impl UserData {
    /// The headers of a frame of `len` octets, if it is untagged user data and nothing is wrong with it, but that index and key id may be
    /// reserved: no context has such ones. It says what [`parse_any`] says, in a third of the instructions.
    #[inline(always)]
    pub(crate) fn parse(head: &[u8; spec::HEADER_LEN + 3], len: usize) -> Option<Self> {
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| head[at + i]));
        let (front, middle, pdcp) = (word(0), word(8), word(16) & PDCP_MASK);
        if (front & PREFIX_MASK) ^ PREFIXES | (middle & MIDDLE_MASK) ^ MIDDLE != 0 {
            return None;
        }
        let high = (front >> 16 & ID_MASK) << 40 | (middle >> 32 & ID_MASK) << 16 | middle & 0xffff;
        let group = (front >> 56 & 1) << 48;
        let sdu_type = SduType::of_user_data((pdcp >> 61) as u8)?;
        Some(Self {
            address: Address(group | high >> 16),
            lcid: Lcid::user((high >> 8) as u8)?,
            sdu_type,
            tag: tag_of(pdcp),
            aad: AadWords::of(high, pdcp),
            len: Self::data_and_mac(high as u8, len)?,
        })
    }

    /// The same with the instructions of the highest tier; `octets` end where the headers do.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn parse_wide(proof: Avx512, octets: &[u8; x86_headers::LOADED], len: usize) -> Option<Self> {
        let Words { address, tag, sl, lcid, sdu_type, aad } = proof.read_headers(octets)?;
        Some(Self {
            address: Address(address),
            lcid: Lcid::of_user_channel(lcid),
            sdu_type: SduType::of_user_data(sdu_type)?,
            tag,
            aad: AadWords(aad),
            len: Self::data_and_mac(sl, len)?,
        })
    }

    /// Octets of data and MAC field in a frame of `len` octets.
    #[inline(always)]
    fn data_and_mac(sl: u8, len: usize) -> Option<u32> {
        // Where SL is 0 the frame is not a short one; else SL is within its range and the frame not shorter than it says.
        let octets = if sl == 0 {
            if len < spec::MIN_FRAME {
                return None;
            }
            len - spec::HEADER_LEN
        } else {
            if !spec::SL_RANGE.contains(&sl) || spec::SL_FROM + sl as usize > len {
                return None;
            }
            sl as usize - (spec::HEADER_LEN - spec::SL_FROM)
        };
        Some(octets as u32)
    }

    /// As any frame's, unless index or key id are reserved.
    fn header(self) -> Option<Header> {
        let ([high, pdcp], tag) = (self.aad.0.map(u64::from_be), self.tag);
        if tag as u16 == 0 || (tag >> 16 != 0 && !self.address.is_group()) {
            return None;
        }
        Some(Header {
            address: self.address,
            lcid: self.lcid,
            sdu_type: self.sdu_type,
            index: (tag >> 16) as u8,
            key_id: tag as u16,
            sn: (pdcp >> 24) as u16,
            tag_len: 0,
            lcid_and_sl: high as u16,
            pdcp,
            end: self.len + spec::HEADER_LEN as u32,
        })
    }
}

/// Any frame's headers.
#[inline(never)]
fn parse_any(frame: &[u8]) -> Result<Header, Verdict> {
    let Some(head) = frame.first_chunk::<{ spec::HEADER_LEN }>() else { return Err(too_short(frame)) };
    if head[12..14] != spec::TPID.to_be_bytes() {
        return parse_untagged(head, 0, frame.len());
    }
    let Some(tagged) = frame.first_chunk::<{ spec::HEADER_LEN + spec::TAG_LEN }>() else {
        return Err(Verdict::Short);
    };
    let mut head = [0; spec::HEADER_LEN];
    head[..12].copy_from_slice(&tagged[..12]);
    head[12..].copy_from_slice(&tagged[16..]);
    parse_untagged(&head, spec::TAG_LEN, frame.len())
}

#[cold]
fn too_short(frame: &[u8]) -> Verdict {
    match frame.get(12..14) {
        Some(t) if t != spec::ETHERTYPE.to_be_bytes() && t != spec::TPID.to_be_bytes() => Verdict::NotPc5,
        _ => Verdict::Short,
    }
}

/// The headers as three words, so that each check is one comparison:
/// octets 0-7, octets 8-15, and octets 13-20 (from the EtherType's last on).
fn parse_untagged(
    head: &[u8; spec::HEADER_LEN],
    tag_len: usize,
    frame_len: usize,
) -> Result<Header, Verdict> {
    let [front, middle, back] = [word(head, 0), word(head, 8), word(head, 13)];
    if middle & ETHERTYPE_MASK != ETHERTYPE_AT_4 {
        return Err(Verdict::NotPc5);
    }
    if front & PREFIX_MASK != PREFIXES || middle >> 56 != spec::UNICAST_PREFIX[2] as u64 {
        return Err(Verdict::Address);
    }
    let is_group = front >> 56 & 1 == 1;
    let cast = if is_group { CAST_BIT } else { 0 };
    let address = Address(cast | (front >> 16 & ID_MASK) << 24 | middle >> 32 & ID_MASK);

    // Version is in the three high bits, so a version other than 0 is no LCID either.
    let (Some(lcid), Some(sdu_type)) = (Lcid::new((middle >> 8) as u8), SduType::new((back >> 37 & 7) as u8))
    else {
        return Err(Verdict::Reserved);
    };
    let index = (back >> 32) as u8 & 0x1f;
    let (key_id, sn) = ((back >> 16) as u16, back as u16);
    let clear = lcid == Lcid::CLEAR;
    if (sdu_type == SduType::Pc5Signalling) == lcid.is_user()
        || (!is_group && index != 0)
        || (key_id == 0) != clear
        || (clear && (index != 0 || sn != 0))
    {
        return Err(Verdict::Reserved);
    }

    let untagged_len = frame_len - tag_len;
    let sl = middle as u8;
    let end = if sl == 0 { untagged_len } else { spec::SL_FROM + sl as usize };
    let fits =
        if sl == 0 { end >= spec::MIN_FRAME } else { spec::SL_RANGE.contains(&sl) && end <= untagged_len };
    if !fits {
        return Err(Verdict::Padding);
    }
    let end = (end + tag_len) as u32;
    Ok(Header {
        address,
        lcid,
        sdu_type,
        index,
        key_id,
        sn,
        tag_len: tag_len as u8,
        lcid_and_sl: middle as u16,
        pdcp: back << 24,
        end,
    })
}

/// Octets 0, 1, 2, 6, 7 but for the group bit.
const PREFIX_MASK: u64 = 0xfeff_ff00_0000_ffff;
const PREFIXES: u64 = 0x0250_4300_0000_0250;
/// Octets 12 and 13, the fifth and sixth of the second word.
const ETHERTYPE_MASK: u64 = 0xffff_0000;
const ETHERTYPE_AT_4: u64 = (spec::ETHERTYPE as u64) << 16;

/// Octet 8, EtherType and version.
const MIDDLE_MASK: u64 = 0xff00_0000_ffff_e000;
const MIDDLE: u64 = (spec::UNICAST_PREFIX[2] as u64) << 56 | (spec::ETHERTYPE as u64) << 16;
/// Five octets before three of zero.
const PDCP_MASK: u64 = !0xff_ffff;

#[inline(always)]
fn word(head: &[u8; spec::HEADER_LEN], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| head[at + i]))
}

/// Index (5 bits) and key id of a PDCP header as [`pdcp_word`] has it: they stand side by side in it.
#[inline(always)]
pub(crate) const fn tag_of(pdcp: u64) -> u32 {
    (pdcp >> 40) as u32 & 0x1f_ffff
}

/// SDU type and SN as their part of [`pdcp_word`]; the SDU type of IP is 0.
#[inline(always)]
pub(crate) const fn pdcp_of_frame(sdu_type: SduType, sn: u16) -> u64 {
    (sdu_type as u64) << 61 | (sn as u64) << 24
}

/// PDCP header and the three octets of zero behind it, as the last word of the associated data.
#[inline(always)]
pub(crate) const fn pdcp_word(sdu_type: SduType, index: u8, key_id: u16, sn: u16) -> u64 {
    (sdu_type as u64) << 61 | (index as u64) << 56 | (key_id as u64) << 40 | (sn as u64) << 24
}

/// The headers of frames to one address, all but what changes from frame to frame; words as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderTemplate {
    /// Octets 0 to 7.
    front: u64,
    /// Octets 8 to 13, then two of zero.
    middle: u64,
    /// Destination id, source id, two octets of zero: how the associated data begins.
    ids: u64,
}

impl HeaderTemplate {
    pub(crate) fn new(address: Address) -> Self {
        let e = address.ethernet_header();
        Self {
            front: u64::from_ne_bytes(std::array::from_fn(|i| e[i])),
            middle: u64::from_ne_bytes([e[8], e[9], e[10], e[11], e[12], e[13], 0, 0]),
            ids: (address.get() << 16).to_be(),
        }
    }

    /// Writes the header of one frame and gives its associated data; `pdcp` as [`pdcp_word`] has it.
    #[inline(always)]
    pub(crate) fn write(&self, head: &mut [u8; spec::HEADER_LEN], lcid: Lcid, sl: u8, pdcp: u64) -> AadWords {
        let lcid_and_sl = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, lcid.get(), sl]);
        let pdcp = pdcp.to_be_bytes();
        head[..8].copy_from_slice(&self.front.to_ne_bytes());
        head[8..16].copy_from_slice(&(self.middle | lcid_and_sl).to_ne_bytes());
        head[16..20].copy_from_slice(&pdcp[..4]);
        head[20] = pdcp[4];
        AadWords([self.ids | lcid_and_sl, u64::from_ne_bytes(pdcp)])
    }
}

/// Associated data of the AEADs, three octets of zero behind it, as two words the way they lie in memory: octets one by one are not copied in
/// one piece.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct AadWords(pub [u64; 2]);

impl AadWords {
    /// From ids, LCID and SL, and from the PDCP header as [`pdcp_word`] has it.
    #[inline(always)]
    fn of(high: u64, pdcp: u64) -> Self {
        Self([high.to_be(), pdcp.to_be()])
    }

    /// As [`associated_data`] gives it.
    #[inline(always)]
    pub(crate) fn octets(self) -> [u8; 16] {
        let [a, b] = self.0.map(|w| w.to_le() as u128);
        (b << 64 | a).to_le_bytes()
    }
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
    let [a, b, c, d, e] = pdcp;
    associated_data_of(address, u16::from_be_bytes(lcid_and_sl), u64::from_be_bytes([a, b, c, d, e, 0, 0, 0]))
        .octets()
}

/// The same, with the PDCP header as [`pdcp_word`] has it.
#[inline(always)]
pub(crate) fn associated_data_of(address: Address, lcid_and_sl: u16, pdcp: u64) -> AadWords {
    AadWords::of(address.get() << 16 | lcid_and_sl as u64, pdcp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// The quick way and the thorough one agree wherever the quick one answers, and it answers for what is usual.
        #[test]
        fn user_data_is_parsed_alike(
            data in 0usize..60, changes in proptest::collection::vec((0usize..24, any::<u8>()), 0..3), cut in 0usize..3,
        ) {
            let quick = |f: &[u8]| UserData::parse(f.first_chunk()?, f.len())?.header();
            let whole = frame(data);
            prop_assert!(quick(&whole).is_some());
            let mut f = whole;
            for (at, octet) in changes {
                f[at] = octet;
            }
            f.truncate(f.len() - cut * 15);
            if let Some(header) = quick(&f) {
                prop_assert_eq!(parse_any(&f), Ok(header));
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(proof) = crate::crypto::wide()
                && let Some(head) = f.first_chunk::<{ spec::HEADER_LEN }>()
            {
                let mut octets = [0xee; x86_headers::LOADED];
                octets[x86_headers::LOADED - spec::HEADER_LEN..].copy_from_slice(head);
                let wide = UserData::parse_wide(proof, &octets, f.len());
                prop_assert_eq!(wide.map(|w| w.aad), f.first_chunk().and_then(|h| UserData::parse(h, f.len())).map(|q| q.aad));
                prop_assert_eq!(wide.and_then(UserData::header), quick(&f));
            }
        }
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

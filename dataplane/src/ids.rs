//! Identifiers of PC5 security, each a type of its own so that none can stand where another is meant.

use std::fmt;

/// ProSe UE Layer-2 id, 24 bits: the unicast address of a UE. Source: TS 36.323 5.6.1, TS 33.303 6.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer2Id(u32);

/// ProSe Layer-2 group id, 24 bits: the destination of one-to-many frames. Source: TS 33.303 A.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u32);

macro_rules! id24 {
    ($t:ident) => {
        impl $t {
            /// Takes the 24 low bits; `None` when a higher bit is set.
            pub const fn new(id: u32) -> Option<Self> {
                if id < 1 << 24 { Some(Self(id)) } else { None }
            }

            /// From the three octets of an address, most significant first.
            pub const fn from_octets(o: [u8; 3]) -> Self {
                Self((o[0] as u32) << 16 | (o[1] as u32) << 8 | o[2] as u32)
            }

            /// Three octets, most significant first.
            pub const fn octets(self) -> [u8; 3] {
                let o = self.0.to_be_bytes();
                [o[1], o[2], o[3]]
            }

            /// The id as a number below 2^24.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:06x}", self.0)
            }
        }

        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($t), "({:06x})"), self.0)
            }
        }

        impl std::str::FromStr for $t {
            type Err = IdError;

            fn from_str(s: &str) -> Result<Self, IdError> {
                let wrong = || IdError { found: s.into(), wanted: "6 hexadecimal digits" };
                if s.len() != 6 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                u32::from_str_radix(s, 16).ok().and_then(Self::new).ok_or_else(wrong)
            }
        }
    };
}
id24!(Layer2Id);
id24!(GroupId);

/// An identifier written wrongly.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("found '{found}' where {wanted} were wanted")]
pub struct IdError {
    /// What stood there.
    pub found: String,
    /// What would be right.
    pub wanted: &'static str,
}

/// PGK Identity, 8 bits; its 5 low bits travel as the PGK index. Source: TS 36.323 6.3.12.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PgkId(pub u8);

impl PgkId {
    /// The 5 least significant bits, as sent in every one-to-many frame.
    pub const fn index(self) -> u8 {
        self.0 & 0x1f
    }
}

/// PTK Identity, 1..=65,535: one sender's counter under one PGK, never 0, never wrapping. Source: TS 33.303 A.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PtkId(std::num::NonZeroU16);

impl PtkId {
    /// `None` for 0, which frames reserve for "no security".
    pub const fn new(id: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The identity as sent.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The next identity, `None` after the last one: identities never wrap.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }
}

/// KD-sess ID, 16 bits: the 8 most significant chosen by UE-1, the 8 least by UE-2; never 0.
/// Source: TS 36.323 6.3.15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KdSessId(std::num::NonZeroU16);

impl KdSessId {
    /// `None` for 0, which frames reserve for "no security".
    pub const fn new(id: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// From UE-1's and UE-2's halves.
    pub const fn from_halves(msb: u8, lsb: u8) -> Option<Self> {
        Self::new((msb as u16) << 8 | lsb as u16)
    }

    /// The id as sent.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for KdSessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.get())
    }
}

impl fmt::Debug for KdSessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KdSessId({:04x})", self.get())
    }
}

/// Logical channel id: 1-10 user data, 28-30 PC5-S. Every other value is reserved, so it cannot be made.
/// It is the BEARER of the algorithms. Source: TS 36.321 6.2.1 as `design.md` section 3 uses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lcid(u8);

impl Lcid {
    /// Default channel of user data.
    pub const USER: Self = Self(1);
    /// PC5-S without protection.
    pub const CLEAR: Self = Self(28);
    /// Direct Security Mode Command and Complete.
    pub const SECURITY_MODE: Self = Self(29);
    /// All other protected PC5-S.
    pub const SIGNALLING: Self = Self(30);

    /// `None` for a reserved value.
    pub const fn new(lcid: u8) -> Option<Self> {
        // One shift instead of two ranges: every received frame comes through here.
        const LEGAL: u32 = 0x7000_07fe;
        if lcid < 32 && LEGAL >> lcid & 1 == 1 { Some(Self(lcid)) } else { None }
    }

    /// A channel of user data; `None` for others.
    #[inline(always)]
    pub(crate) const fn user(lcid: u8) -> Option<Self> {
        if lcid.wrapping_sub(1) < 10 { Some(Self(lcid)) } else { None }
    }

    /// A channel that is known to be one of user data, of 1 to 10.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const fn of_user_channel(lcid: u8) -> Self {
        debug_assert!(Self::user(lcid).is_some());
        Self(lcid)
    }

    /// The 5-bit value.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Channels 1-10.
    pub const fn is_user(self) -> bool {
        self.0 <= 10
    }
}

/// SDU type of the SLRB PDCP header; 4-7 are reserved. Source: TS 36.323 table 6.3.14.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SduType {
    /// An IP packet.
    Ip = 0,
    /// An ARP packet.
    Arp = 1,
    /// A PC5 signalling message.
    Pc5Signalling = 2,
    /// Anything else; here a whole link-layer frame.
    NonIp = 3,
}

impl SduType {
    /// `None` for a reserved value.
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Ip),
            1 => Some(Self::Arp),
            2 => Some(Self::Pc5Signalling),
            3 => Some(Self::NonIp),
            _ => None,
        }
    }
}

impl SduType {
    /// That of a frame of user data; `None` for PC5-S and for reserved values.
    #[inline(always)]
    pub(crate) const fn of_user_data(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Ip),
            1 => Some(Self::Arp),
            3 => Some(Self::NonIp),
            _ => None,
        }
    }
}

/// Who made a frame of a link: the side that sent the Direct Security Mode Command (UE-2) uses 1, the other 0;
/// one-to-many frames use 0. Source: TS 36.323 5.6.1; roles by `design.md` section 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// One-to-many, and UE-1 on a link.
    Zero = 0,
    /// UE-2 on a link.
    One = 1,
}

/// A side of a link, for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkRole {
    /// Asks: remote UE, member of a group.
    Ue1,
    /// Commands: relay, group owner.
    Ue2,
}

impl LinkRole {
    /// DIRECTION of the frames that this side sends.
    pub const fn sends(self) -> Direction {
        match self {
            Self::Ue1 => Direction::Zero,
            Self::Ue2 => Direction::One,
        }
    }

    /// DIRECTION of the frames that this side receives.
    pub const fn receives(self) -> Direction {
        match self {
            Self::Ue1 => Direction::One,
            Self::Ue2 => Direction::Zero,
        }
    }
}

/// COUNT: key identity (PTK identity or KD-sess id) in the high half, PDCP SN in the low one.
/// Source: TS 36.323 5.6.1; order by `design.md` section 4.
pub const fn count(key_identity: u16, sn: u16) -> u32 {
    (key_identity as u32) << 16 | sn as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_never_wrap_and_never_are_zero() {
        assert_eq!(PtkId::new(0), None);
        assert_eq!(PtkId::new(65_535).unwrap().next(), None);
        assert_eq!(PtkId::new(65_534).unwrap().next(), PtkId::new(65_535));
        assert_eq!(KdSessId::from_halves(0, 0), None);
        assert_eq!(KdSessId::from_halves(2, 3).unwrap().get(), 0x0203);
    }

    #[test]
    fn reserved_channels_cannot_be_made() {
        let legal: Vec<u8> = (0..=255).filter(|&v| Lcid::new(v).is_some()).collect();
        assert_eq!(legal, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 28, 29, 30]);
        assert!((4..=255).all(|v| SduType::new(v).is_none()));
    }

    #[test]
    fn addresses_are_six_digits() {
        assert_eq!("a0b0c0".parse::<GroupId>().unwrap().octets(), [0xa0, 0xb0, 0xc0]);
        assert!("a0b0c".parse::<GroupId>().is_err());
        assert!("+0b0c0".parse::<GroupId>().is_err());
        assert_eq!(Layer2Id::new(1 << 24), None);
    }
}

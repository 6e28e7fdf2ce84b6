//! Where frames of a capture came from: link type, snap length, unit of the timestamps.

use std::fmt;
use std::str::FromStr;

/// Data link type as registered for pcap and pcapng (LINKTYPE_ values).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a 4-octet address family in the byte order of the recording machine, then the packet.
    pub const NULL: Self = Self(0);
    /// Ethernet II or 802.3.
    pub const ETHERNET: Self = Self(1);
    /// A bare IPv4 or IPv6 packet.
    pub const RAW: Self = Self(101);
    /// An IEEE 802.11 frame.
    pub const IEEE802_11: Self = Self(105);
    /// OpenBSD loopback: a 4-octet address family in network order, then the packet.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture, 16-octet header.
    pub const LINUX_SLL: Self = Self(113);
    /// An IEEE 802.11 frame behind a radiotap header.
    pub const IEEE802_11_RADIOTAP: Self = Self(127);
    /// A bare IPv4 packet.
    pub const IPV4: Self = Self(228);
    /// A bare IPv6 packet.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture version 2, 20-octet header.
    pub const LINUX_SLL2: Self = Self(276);
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Unit of an interface's timestamps. Source: pcapng, option `if_tsresol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Units of 10^-n seconds, n 0..=127.
    Decimal(u8),
    /// Units of 2^-n seconds, n 0..=127.
    Binary(u8),
}

impl Resolution {
    /// Microseconds: pcap's usual unit and pcapng's default.
    pub const MICRO: Self = Self::Decimal(6);
    /// Nanoseconds.
    pub const NANO: Self = Self::Decimal(9);

    /// The option's octet: the exponent, the most significant bit set for powers of two.
    pub fn octet(self) -> u8 {
        match self {
            Self::Decimal(n) => n & 0x7F,
            Self::Binary(n) => n | 0x80,
        }
    }

    /// The unit that the option's octet stands for; every octet is legal.
    pub fn from_octet(octet: u8) -> Self {
        match octet & 0x80 {
            0 => Self::Decimal(octet),
            _ => Self::Binary(octet & 0x7F),
        }
    }
}

/// An interface of a capture; of a pcap file, the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Data link type of its frames.
    pub link_type: LinkType,
    /// Most octets captured of a frame; 0 in pcapng for no limit.
    pub snap_len: u32,
    /// Unit of its timestamps.
    pub resolution: Resolution,
    /// Seconds to be added to its timestamps. Source: pcapng, option `if_tsoffset`.
    pub offset_s: i64,
    /// Octets of frame check sequence at the end of each frame, where the capture says so.
    pub fcs_len: Option<u8>,
    /// The interface's name in the recording system, `if_name`. Octets that are not UTF-8 were replaced.
    pub name: Option<String>,
    /// Description, `if_description`. Octets that are not UTF-8 were replaced.
    pub description: Option<String>,
}

impl Interface {
    /// An Ethernet interface with timestamps in nanoseconds and frames of any length.
    pub fn ethernet() -> Self {
        Self {
            link_type: LinkType::ETHERNET,
            snap_len: 0,
            resolution: Resolution::NANO,
            offset_s: 0,
            fcs_len: None,
            name: None,
            description: None,
        }
    }

    /// The Ethernet interface that carries this one's frames once protected: same name, same unit of the timestamps,
    /// no snap length, and a description from which [`Interface::carried`] restores the rest.
    pub fn carrier(&self) -> Self {
        let carried = Carried { link_type: self.link_type, snap_len: self.snap_len };
        Self {
            link_type: LinkType::ETHERNET,
            snap_len: 0,
            fcs_len: None,
            description: Some(carried.to_string()),
            ..self.clone()
        }
    }

    /// What this interface carries, if its description says so.
    pub fn carried(&self) -> Option<Carried> {
        self.description.as_deref()?.parse().ok()
    }

    /// Nanoseconds since 1970-01-01 00:00 UTC for a timestamp of this interface, rounded down.
    pub fn nanoseconds(&self, ticks: u64) -> i128 {
        let since_offset = match self.resolution {
            Resolution::Decimal(n @ 0..=9) => {
                u128::from(ticks) * u128::from(POWERS_OF_10[usize::from(9 - n)])
            }
            Resolution::Decimal(n) => match POWERS_OF_10.get(usize::from(n) - 9) {
                Some(&units) => u128::from(ticks / units),
                // A unit so fine that 64 bits of it do not make a nanosecond.
                None => 0,
            },
            Resolution::Binary(n) => (u128::from(ticks) * 1_000_000_000) >> n.min(127),
        };
        // At most 2^64 * 10^9, which is below 2^94: the cast keeps the value.
        since_offset as i128 + i128::from(self.offset_s) * 1_000_000_000
    }

    /// The timestamp of this interface nearest below the given nanoseconds since 1970-01-01 00:00 UTC; `None` when it
    /// does not fit 64 bits or lies before the interface's offset.
    pub fn ticks(&self, nanoseconds: i128) -> Option<u64> {
        let since_offset = nanoseconds.checked_sub(i128::from(self.offset_s) * 1_000_000_000)?;
        let since_offset = u128::try_from(since_offset).ok()?;
        let ticks = match self.resolution {
            Resolution::Decimal(n @ 0..=9) => since_offset / u128::from(POWERS_OF_10[usize::from(9 - n)]),
            Resolution::Decimal(n) => match POWERS_OF_10.get(usize::from(n) - 9) {
                Some(&units) => since_offset.checked_mul(u128::from(units))?,
                None if since_offset == 0 => 0,
                None => return None,
            },
            Resolution::Binary(n) => {
                let (seconds, rest) = (since_offset / 1_000_000_000, since_offset % 1_000_000_000);
                let n = u32::from(n.min(127));
                // rest < 2^30, so 64 further bits of it fit; a unit finer than 2^-64 s leaves no whole second in 64 bits.
                let fraction = match n {
                    0..=64 => (rest << n) / 1_000_000_000,
                    _ if rest == 0 => 0,
                    _ => return None,
                };
                seconds.checked_mul(1u128.checked_shl(n)?)?.checked_add(fraction)?
            }
        };
        u64::try_from(ticks).ok()
    }
}

/// What an interface of protected frames carried before: written as `if_description` in the form
/// `pc5 linktype=N snaplen=N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Data link type of the frames inside.
    pub link_type: LinkType,
    /// Snap length they were captured with.
    pub snap_len: u32,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc5 linktype={} snaplen={}", self.link_type, self.snap_len)
    }
}

/// A description that is not of the form `pc5 linktype=N snaplen=N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `pc5 linktype=N snaplen=N`")]
pub struct NotCarried;

impl FromStr for Carried {
    type Err = NotCarried;

    fn from_str(text: &str) -> Result<Self, NotCarried> {
        let rest = text.strip_prefix("pc5 linktype=").ok_or(NotCarried)?;
        let (link_type, snap_len) = rest.split_once(" snaplen=").ok_or(NotCarried)?;
        Ok(Self {
            link_type: LinkType(link_type.parse().map_err(|_| NotCarried)?),
            snap_len: snap_len.parse().map_err(|_| NotCarried)?,
        })
    }
}

pub(crate) const POWERS_OF_10: [u64; 20] = {
    let mut powers = [1u64; 20];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use super::*;

    fn with(resolution: Resolution, offset_s: i64) -> Interface {
        Interface { resolution, offset_s, ..Interface::ethernet() }
    }

    #[test]
    fn units_convert_to_nanoseconds() {
        for (octet, ticks, ns) in [
            (0, 3, 3_000_000_000),
            (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
            (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
            (12, 1_234_567, 1_234),
            (28, u64::MAX, 1),
            (29, u64::MAX, 0),
            (127, u64::MAX, 0),
            (0x80, 2, 2_000_000_000),
            (0x81, 3, 1_500_000_000),
            (0x80 | 20, 1 << 20, 1_000_000_000),
            (0x80 | 32, 1 << 31, 500_000_000),
            (0x80 | 127, u64::MAX, 0),
        ] {
            let interface = with(Resolution::from_octet(octet), 0);
            assert_eq!(interface.nanoseconds(ticks), ns, "octet {octet}");
            assert_eq!(interface.resolution.octet(), octet);
            let shifted = with(Resolution::from_octet(octet), -5);
            assert_eq!(shifted.nanoseconds(ticks), ns - 5_000_000_000);
        }
    }

    #[test]
    fn nanoseconds_convert_back() {
        for octet in 0..=255u8 {
            let interface = with(Resolution::from_octet(octet), 7);
            for ns in [7_000_000_000, 9_000_000_000, 1_700_000_000_123_456_789i128] {
                let Some(ticks) = interface.ticks(ns) else { continue };
                let back = interface.nanoseconds(ticks);
                assert!(back <= ns, "octet {octet}");
                let unit_ns = match interface.resolution {
                    Resolution::Decimal(n) => 10f64.powi(9 - i32::from(n)),
                    Resolution::Binary(n) => 1e9 * 2f64.powi(-i32::from(n)),
                };
                assert!((ns - back) as f64 <= unit_ns + 1.0, "octet {octet}: {ns} {back}");
            }
            assert_eq!(interface.ticks(6_999_999_999), None, "before the offset");
            assert_eq!(interface.ticks(i128::MIN), None);
            let _ = interface.ticks(i128::MAX);
        }
        assert_eq!(with(Resolution::NANO, 0).ticks(i128::from(u64::MAX) + 1), None);
    }

    #[test]
    fn carried_is_written_and_read() {
        let radio = Interface { link_type: LinkType(127), snap_len: 96, ..Interface::ethernet() };
        let carrier = radio.carrier();
        assert_eq!(carrier.description.as_deref(), Some("pc5 linktype=127 snaplen=96"));
        assert_eq!(carrier.link_type, LinkType::ETHERNET);
        assert_eq!(carrier.carried(), Some(Carried { link_type: LinkType(127), snap_len: 96 }));
        for text in [
            "",
            "pc5",
            "pc5 linktype=1",
            "pc5 linktype=x snaplen=1",
            "pc5 linktype=65536 snaplen=0",
            "a pc5 ",
        ] {
            assert_eq!(text.parse::<Carried>(), Err(NotCarried), "{text}");
        }
    }
}

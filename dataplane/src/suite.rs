//! Suites: which ciphering and which integrity protect a frame. `design.md` section 4 lists them.

use std::fmt;

/// A pair of ciphering and integrity algorithm with the size of its MAC field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Suite {
    /// No protection at all; by explicit policy only.
    Eea0,
    /// 128-EEA1 (SNOW 3G), no integrity; one-to-many only.
    Eea1,
    /// 128-EEA2 (AES-CTR), no integrity; one-to-many only.
    Eea2,
    /// 128-EEA3 (ZUC), no integrity; one-to-many only.
    Eea3,
    /// 128-EEA1 with 128-EIA1.
    Eea1Eia1,
    /// 128-EEA2 with 128-EIA2.
    Eea2Eia2,
    /// 128-EEA3 with 128-EIA3.
    Eea3Eia3,
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM, the default.
    Aes256Gcm,
    /// 256-NCA5: AES-256 in the AEAD construction of TS 35.243.
    Nca5,
    /// 256-NCA4: SNOW 5G, TS 35.240.
    Nca4,
    /// 256-NCA6: ZUC-256, TS 35.246.
    Nca6,
}

impl Suite {
    /// Every suite, in the order of the enumeration: `ALL[s as usize] == s`.
    pub const ALL: [Self; 12] = [
        Self::Eea0,
        Self::Eea1,
        Self::Eea2,
        Self::Eea3,
        Self::Eea1Eia1,
        Self::Eea2Eia2,
        Self::Eea3Eia3,
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::Nca5,
        Self::Nca4,
        Self::Nca6,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Name on the command line, in the key log and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eea0 => "eea0",
            Self::Eea1 => "eea1",
            Self::Eea2 => "eea2",
            Self::Eea3 => "eea3",
            Self::Eea1Eia1 => "eea1-eia1",
            Self::Eea2Eia2 => "eea2-eia2",
            Self::Eea3Eia3 => "eea3-eia3",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Nca5 => "nca5",
            Self::Nca4 => "nca4",
            Self::Nca6 => "nca6",
        }
    }

    /// Ciphering algorithm identity, as in the derivation of PEK.
    pub const fn ciphering_id(self) -> u8 {
        match self {
            Self::Eea0 => 0,
            Self::Eea1 | Self::Eea1Eia1 => 1,
            Self::Eea2 | Self::Eea2Eia2 => 2,
            Self::Eea3 | Self::Eea3Eia3 => 3,
            Self::Aes128Gcm => 4,
            Self::Aes256Gcm => 5,
            Self::Nca5 => 6,
            Self::Nca4 => 8,
            Self::Nca6 => 9,
        }
    }

    /// Integrity algorithm identity, as in the derivation of PIK; 0 where there is no integrity.
    pub const fn integrity_id(self) -> u8 {
        match self {
            Self::Eea1 | Self::Eea2 | Self::Eea3 => 0,
            _ => self.ciphering_id(),
        }
    }

    /// Whether only who holds the key can read a frame.
    pub const fn has_ciphering(self) -> bool {
        self.ciphering_id() != 0
    }

    /// Octets of the MAC field: 0, 4 or 16.
    pub const fn mac_len(self) -> usize {
        match self {
            Self::Eea0 | Self::Eea1 | Self::Eea2 | Self::Eea3 => 0,
            Self::Eea1Eia1 | Self::Eea2Eia2 | Self::Eea3Eia3 => 4,
            _ => 16,
        }
    }

    /// Whether a received frame proves that its sender held the key.
    pub const fn has_integrity(self) -> bool {
        self.mac_len() != 0
    }

    /// One algorithm does both, over header as associated data.
    pub const fn is_aead(self) -> bool {
        self.mac_len() == 16
    }

    /// Octets of PEK: 32 for a 256-bit algorithm, else 16.
    pub const fn pek_len(self) -> usize {
        match self {
            Self::Aes256Gcm | Self::Nca5 | Self::Nca4 | Self::Nca6 => 32,
            _ => 16,
        }
    }

    /// One octet: ciphering id x 16 + integrity id. Source: `go-mode.md` section 3.
    pub const fn code(self) -> u8 {
        self.ciphering_id() << 4 | self.integrity_id()
    }

    /// The suite of a code, `None` where there is none.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A suite that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no suite '{0}'; suites are eea0 eea1 eea2 eea3 eea1-eia1 eea2-eia2 eea3-eia3 aes-128-gcm aes-256-gcm nca4 nca5 nca6"
)]
pub struct UnknownSuite(pub String);

impl std::str::FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(s: &str) -> Result<Self, UnknownSuite> {
        Self::ALL.into_iter().find(|suite| suite.name() == s).ok_or_else(|| UnknownSuite(s.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_come_back() {
        for (i, suite) in Suite::ALL.into_iter().enumerate() {
            assert_eq!(suite as usize, i);
            assert_eq!(suite.name().parse(), Ok(suite));
            assert_eq!(Suite::from_code(suite.code()), Some(suite));
        }
        assert_eq!(Suite::Aes256Gcm.code(), 0x55);
        assert_eq!(Suite::Eea2.code(), 0x20);
        assert_eq!(Suite::from_code(0x54), None);
    }
}

//! Identifiers: what ECCSI and SAKKE call ID. Monthly tel identifiers of RFC 6509 and hashed UIDs of TS 33.180.

use core::fmt;

use sha2::{Digest, Sha256};

use crate::{KeyError, NtpTime, codec::IdScheme, time::Date};

/// UID of TS 33.180: 32 octets that hide the URI and name the key period.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uid(pub [u8; 32]);

/// Hexadecimal.
impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|o| write!(f, "{o:02x}"))
    }
}

/// How a KMS counts key periods, in seconds of NTP time (0 = 1900). Source: TS 33.180 D.3.2, F.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPeriod {
    seconds: u64,
    offset: u64,
}

impl KeyPeriod {
    /// `seconds` is UserKeyPeriod, at least 1; `offset` is UserKeyOffset.
    pub fn new(seconds: u64, offset: u64) -> Result<Self, KeyError> {
        match seconds {
            0 => Err(KeyError::Identity { what: "key period", problem: "is zero" }),
            seconds => Ok(Self { seconds, offset }),
        }
    }

    /// Length in seconds.
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Offset in seconds.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Number of the period that holds `t`; `None` before the first one.
    pub fn number_at(self, t: NtpTime) -> Option<u64> {
        Some(t.ntp_seconds().checked_sub(self.offset)? / self.seconds)
    }
}

impl Uid {
    /// SHA-256(00 || P0 L0 ... P5 L5). URIs are hashed as they are: case, scheme and port matter.
    /// Source: TS 33.180 F.2.1.
    pub fn new(user_uri: &str, kms_uri: &str, period: KeyPeriod, number: u64) -> Result<Self, KeyError> {
        let mut hash = Sha256::new();
        hash.update([0]);
        for (what, p) in [
            ("constant", b"MIKEY-SAKKE-UID".as_slice()),
            ("user URI", user_uri.as_bytes()),
            ("KMS URI", kms_uri.as_bytes()),
            ("key period", fewest(&period.seconds.to_be_bytes())),
            ("key period offset", fewest(&period.offset.to_be_bytes())),
            ("key period number", fewest(&number.to_be_bytes())),
        ] {
            let length = u16::try_from(p.len()).map_err(|_| KeyError::Length {
                what,
                found: p.len(),
                wanted: "at most 65535",
            })?;
            hash.update(p);
            hash.update(length.to_be_bytes());
        }
        Ok(Self(hash.finalize().into()))
    }
}

/// The integer in the fewest octets; zero is one octet 00.
fn fewest(octets: &[u8; 8]) -> &[u8] {
    let zeros = octets.iter().take(7).take_while(|o| **o == 0).count();
    octets.get(zeros..).unwrap_or(octets)
}

/// A month of the civil calendar, the key period of RFC 6509.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: u16,
    month: u8,
}

impl Month {
    /// `year` 1900 to 9999, `month` 1 to 12.
    pub fn new(year: u16, month: u8) -> Result<Self, KeyError> {
        match (year, month) {
            (1900..=9999, 1..=12) => Ok(Self { year, month }),
            _ => Err(KeyError::Identity { what: "month", problem: "no such month" }),
        }
    }

    /// Reads "YYYY-MM".
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        text.split_once('-')
            .filter(|(y, m)| y.len() == 4 && m.len() == 2 && digits(y) && digits(m))
            .and_then(|(y, m)| Some((y.parse().ok()?, m.parse().ok()?)))
            .ok_or(KeyError::Identity { what: "month", problem: "is not YYYY-MM" })
            .and_then(|(y, m)| Self::new(y, m))
    }

    /// The month of `t` in UTC.
    pub fn of(t: NtpTime) -> Self {
        let Date { year, month, .. } = t.date();
        Self { year: year.min(9999) as u16, month }
    }

    /// The month after this one.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year.saturating_add(1), month: 1 },
            m => Self { month: m + 1, ..self },
        }
    }

    /// Whether keys of this month are accepted at the clock value `now`: the current month always, the next one from
    /// the second-to-last day of this one, the last one on the 1st and 2nd. Source: RFC 6509 3.1.
    pub fn accepted_at(self, now: NtpTime) -> bool {
        let (current, date) = (Self::of(now), now.date());
        self == current
            || (self == current.next() && date.day + 1 >= date.days_of_month())
            || (self.next() == current && date.day <= 2)
    }

    /// Whether the keys of the month after the one of `now` should be fetched: from three days before its start on,
    /// so that they are there on the second-to-last day. Source: RFC 6509 3.1.
    pub fn fetch_next_at(now: NtpTime) -> bool {
        let date = now.date();
        date.day + 2 >= date.days_of_month()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Checks a tel URI: "tel:+" and 1 to 15 digits, no separators, no parameters. Source: RFC 6509 3.2, E.164.
fn check_tel(uri: &str) -> Result<&str, KeyError> {
    let number = uri.strip_prefix("tel:+").unwrap_or("");
    if (1..=15).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()) {
        Ok(uri)
    } else {
        Err(KeyError::Identity { what: "tel URI", problem: "is not tel:+ and digits alone" })
    }
}

/// The octets that name a user towards ECCSI and SAKKE for one key period.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// Scheme 1: "YYYY-MM" NUL tel URI NUL, both NULs included.
    Monthly {
        /// Key period.
        month: Month,
        /// Checked tel URI.
        tel: String,
    },
    /// Scheme 2: UID.
    Uid(Uid),
}

impl Identifier {
    /// Scheme 1. Source: RFC 6509 3.2.
    pub fn monthly(month: Month, tel_uri: &str) -> Result<Self, KeyError> {
        Ok(Self::Monthly { month, tel: check_tel(tel_uri)?.to_owned() })
    }

    /// The scheme as SAKKE names it.
    pub fn scheme(&self) -> IdScheme {
        match self {
            Self::Monthly { .. } => IdScheme::TEL_MONTHLY,
            Self::Uid(_) => IdScheme::UID_3GPP,
        }
    }

    /// The octets.
    pub fn octets(&self) -> Vec<u8> {
        match self {
            Self::Monthly { month, tel } => format!("{month}\0{tel}\0").into_bytes(),
            Self::Uid(uid) => uid.0.to_vec(),
        }
    }

    /// Whether IDR data of a UID role names this identifier.
    pub(crate) fn is_uid(&self, data: &[u8]) -> bool {
        match self {
            Self::Uid(uid) => uid.0.as_slice() == data,
            Self::Monthly { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NtpTime {
        // Noon of a day, found by walking: slow and obviously right.
        let mut t = NtpTime::from_unix(43_200, 0);
        while !t.to_string().starts_with(text) {
            t = t.after(core::time::Duration::from_secs(86_400));
        }
        t
    }

    #[test]
    fn acceptance_days() {
        let month = |t| Month::parse(t).unwrap();
        for (today, accepted) in [
            ("2024-02-15", vec!["2024-02"]),
            ("2024-02-27", vec!["2024-02"]),
            ("2024-02-28", vec!["2024-02", "2024-03"]),
            ("2024-02-29", vec!["2024-02", "2024-03"]),
            ("2024-03-01", vec!["2024-02", "2024-03"]),
            ("2024-03-02", vec!["2024-02", "2024-03"]),
            ("2024-03-03", vec!["2024-03"]),
            ("2023-12-29", vec!["2023-12"]),
            ("2023-12-30", vec!["2023-12", "2024-01"]),
            ("2024-01-02", vec!["2023-12", "2024-01"]),
        ] {
            for m in ["2023-11", "2023-12", "2024-01", "2024-02", "2024-03", "2024-04", "2025-02"] {
                let expected = accepted.contains(&m);
                assert_eq!(month(m).accepted_at(at(today)), expected, "{m} on {today}");
            }
        }
        assert!(!Month::fetch_next_at(at("2023-04-27")));
        assert!(Month::fetch_next_at(at("2023-04-28")));
    }

    #[test]
    fn monthly_identifier() {
        let id = Identifier::monthly(Month::parse("2011-02").unwrap(), "tel:+447700900123").unwrap();
        assert_eq!(id.octets(), b"2011-02\0tel:+447700900123\0");
        for bad in ["tel:447700", "tel:+44-7700", "tel:+44;ext=1", "tel:+", "+44", "tel:+1234567890123456"] {
            assert!(Identifier::monthly(Month::parse("2011-02").unwrap(), bad).is_err(), "{bad}");
        }
        for bad in ["2011-2", "2011-13", "2011-00", "1899-12", "+011-02", "2011-02-01"] {
            assert!(Month::parse(bad).is_err(), "{bad}");
        }
    }
}

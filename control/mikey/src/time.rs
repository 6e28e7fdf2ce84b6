//! NTP time: the clock value that callers pass in and the value of T.

use core::{fmt, str::FromStr, time::Duration};

use crate::KeyError;

/// Seconds from 1900-01-01 to 1970-01-01.
const UNIX_EPOCH: u64 = 2_208_988_800;

/// A moment: whole seconds since 1900-01-01 00:00 UTC, with the NTP era resolved, and a 32-bit binary fraction.
///
/// On the wire only the low 32 bits of the seconds travel; they wrap on 2036-02-07. Source: RFC 3830 6.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime {
    /// Seconds since 1900, not wrapped: era 1 starts at 2^32.
    seconds: u64,
    /// Units of 2^-32 s.
    fraction: u32,
}

impl NtpTime {
    /// The moment `seconds` (Unix time) plus `nanoseconds`; nanoseconds beyond a second count as its last fraction.
    pub fn from_unix(seconds: u64, nanoseconds: u32) -> Self {
        let fraction = (u64::from(nanoseconds.min(999_999_999)) << 32) / 1_000_000_000;
        Self { seconds: seconds.saturating_add(UNIX_EPOCH), fraction: (fraction & 0xffff_ffff) as u32 }
    }

    /// Reads the 64-bit wire form. Top bit set is era 0 (1968 to 2036), clear is era 1 (2036 to 2104).
    pub fn from_wire(value: u64) -> Self {
        let low = value >> 32;
        let seconds = if low & 0x8000_0000 != 0 { low } else { low | 1 << 32 };
        Self { seconds, fraction: (value & 0xffff_ffff) as u32 }
    }

    /// The 64-bit wire form: low 32 bits of the seconds, then the fraction.
    pub fn to_wire(self) -> u64 {
        (self.seconds << 32) | u64::from(self.fraction)
    }

    /// Whole seconds since 1900, era included; this is "NTP seconds" in key period numbers (TS 33.180 F.2.1).
    pub fn ntp_seconds(self) -> u64 {
        self.seconds
    }

    /// Whole seconds since 1970; moments before it are 0.
    pub fn unix_seconds(self) -> u64 {
        self.seconds.saturating_sub(UNIX_EPOCH)
    }

    /// `self + d`, saturating.
    pub fn after(self, d: Duration) -> Self {
        let add = (u64::from(d.subsec_nanos()) << 32) / 1_000_000_000;
        let sum = u64::from(self.fraction) + add;
        Self {
            seconds: self.seconds.saturating_add(d.as_secs()).saturating_add(sum >> 32),
            fraction: (sum & 0xffff_ffff) as u32,
        }
    }

    /// `self - d`, not below 1900.
    pub fn before(self, d: Duration) -> Self {
        let sub = ((u64::from(d.subsec_nanos()) << 32) / 1_000_000_000) & 0xffff_ffff;
        let (fraction, borrow) = self.fraction.overflowing_sub(sub as u32);
        match self.seconds.checked_sub(d.as_secs()).and_then(|s| s.checked_sub(u64::from(borrow))) {
            Some(seconds) => Self { seconds, fraction },
            None => Self { seconds: 0, fraction: 0 },
        }
    }

    /// Civil date of the moment in UTC (proleptic Gregorian).
    pub fn date(self) -> Date {
        // Days since 1900-01-01, moved to days since 0000-03-01, then split by 400-year cycles.
        let z = self.seconds / 86_400 + 693_901;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let m = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * m + 2) / 5 + 1) as u8;
        let month = if m < 10 { m + 3 } else { m - 9 } as u8;
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Date { year, month, day }
    }
}

/// Reads what [`NtpTime`] displays: `2025-10-02T23:47:52Z`, UTC, whole seconds, from 1970 on.
impl FromStr for NtpTime {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = KeyError::Identity { what: "time", problem: "is not YYYY-MM-DDThh:mm:ssZ" };
        let form = b"0000-00-00T00:00:00Z";
        let fits = |(t, f): (u8, &u8)| t == *f || (*f == b'0' && t.is_ascii_digit());
        if text.len() != form.len() || !text.bytes().zip(form).all(fits) {
            return Err(wrong);
        }
        let number = |at: core::ops::Range<usize>| text.get(at).and_then(|t| t.parse::<u64>().ok());
        let read = || {
            let date = Date { year: number(0..4)?, month: number(5..7)? as u8, day: number(8..10)? as u8 };
            let (h, m, s) = (number(11..13)?, number(14..16)?, number(17..19)?);
            let in_range = date.year >= 1970
                && (1..=12).contains(&date.month)
                && (1..=date.days_of_month()).contains(&date.day)
                && h < 24
                && m < 60
                && s < 60;
            in_range.then(|| (date, h * 3600 + m * 60 + s))
        };
        let (Date { year, month, day }, seconds) = read().ok_or(wrong)?;
        // Days since 0000-03-01, years starting in March.
        let (y, m) = if month <= 2 { (year - 1, u64::from(month) + 9) } else { (year, u64::from(month) - 3) };
        let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + u64::from(day) - 1;
        Ok(Self::from_unix((days - 719_468) * 86_400 + seconds, 0))
    }
}

/// RFC 3339 text with seconds, `2025-10-02T23:47:52Z`.
impl fmt::Display for NtpTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.date();
        let s = self.seconds % 86_400;
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

/// A civil date in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Year of the common era.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Date {
    /// Days of the date's month.
    pub fn days_of_month(self) -> u8 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.year.is_multiple_of(4)
                && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            _ => 31,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_and_text() {
        let t = NtpTime::from_wire(0xec89_8da8_8000_0000);
        assert_eq!(t.to_wire(), 0xec89_8da8_8000_0000);
        assert_eq!(t.unix_seconds(), 0xec89_8da8 - UNIX_EPOCH);
        assert_eq!(NtpTime::from_unix(1_000_000_000, 500_000_000).to_string(), "2001-09-09T01:46:40Z");
        // The last second of era 0 and the first of era 1.
        let last = NtpTime::from_wire(0xffff_ffff_0000_0000);
        let first = NtpTime::from_wire(0);
        assert_eq!(last.to_string(), "2036-02-07T06:28:15Z");
        assert_eq!(first.to_string(), "2036-02-07T06:28:16Z");
        assert_eq!(last.after(Duration::from_secs(1)), first);
        assert_eq!(first.before(Duration::from_secs(1)), last);
        assert!(last < first);
    }

    #[test]
    fn fractions_carry_and_borrow() {
        let t = NtpTime::from_unix(100, 750_000_000);
        let d = Duration::from_millis(500);
        assert_eq!(t.after(d), NtpTime::from_unix(101, 250_000_000));
        assert_eq!(t.after(d).before(d), t);
        assert_eq!(NtpTime { seconds: 3, fraction: 0 }.before(Duration::from_secs(9)).ntp_seconds(), 0);
    }

    #[test]
    fn text_and_back() {
        for day in 0..60_000u64 {
            let t = NtpTime::from_unix(day * 86_400 + day % 86_400, 0);
            assert_eq!(t.to_string().parse(), Ok(t));
        }
        for bad in [
            "",
            "2025-02-29T00:00:00Z",
            "2025-10-02T24:00:00Z",
            "2025-10-02 23:47:52Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(bad.parse::<NtpTime>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dates() {
        let date = |unix| NtpTime::from_unix(unix, 0).date();
        assert_eq!(date(0), Date { year: 1970, month: 1, day: 1 });
        assert_eq!(date(951_782_400), Date { year: 2000, month: 2, day: 29 });
        assert_eq!(date(951_782_400).days_of_month(), 29);
        assert_eq!(date(4_107_542_400), Date { year: 2100, month: 3, day: 1 });
        assert_eq!(date(4_107_542_400 - 1), Date { year: 2100, month: 2, day: 28 });
        assert_eq!(date(4_107_542_400 - 1).days_of_month(), 28);
    }
}

//! Pacing: when the next frame of a replay is due.
//!
//! Nothing here reads a clock or sleeps. The caller tells a [`Pacer`] its time in nanoseconds since any instant of its
//! choice and is told, in the same time, when to send.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// How fast to replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as possible: `max`.
    Max,
    /// With the gaps of the capture divided by this factor, positive and finite; `captured` is a factor of 1, `2.5x`
    /// is two and a half times as fast.
    Captured(f64),
    /// So many frames a second: `pps:N`.
    FramesPerSecond(NonZeroU64),
    /// So many bits of frames a second, counting the captured octets: `bps:N`.
    BitsPerSecond(NonZeroU64),
}

/// Text that is no pace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown pace `{0}`: write max, captured, a factor such as 2x or 0.5x, pps:N or bps:N (N at least 1)"
)]
pub struct UnknownPace(pub String);

impl FromStr for Pace {
    type Err = UnknownPace;

    fn from_str(text: &str) -> Result<Self, UnknownPace> {
        let unknown = || UnknownPace(text.to_owned());
        match text {
            "max" => return Ok(Self::Max),
            "captured" => return Ok(Self::Captured(1.0)),
            _ => {}
        }
        let number = |digits: &str| digits.parse().map_err(|_| unknown());
        if let Some(digits) = text.strip_prefix("pps:") {
            return number(digits).map(Self::FramesPerSecond);
        }
        if let Some(digits) = text.strip_prefix("bps:") {
            return number(digits).map(Self::BitsPerSecond);
        }
        let factor: f64 = text.strip_suffix('x').ok_or_else(unknown)?.parse().map_err(|_| unknown())?;
        if factor.is_finite() && factor > 0.0 { Ok(Self::Captured(factor)) } else { Err(unknown()) }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Captured(1.0) => f.write_str("captured"),
            Self::Captured(factor) => write!(f, "{factor}x"),
            Self::FramesPerSecond(rate) => write!(f, "pps:{rate}"),
            Self::BitsPerSecond(rate) => write!(f, "bps:{rate}"),
        }
    }
}

/// Says when each frame of a replay is due.
///
/// The schedule is counted from the first frame, so that rounding does not add up, and is kept when the sender falls
/// behind: frames that are late are due at once.
#[derive(Debug, Clone)]
pub struct Pacer {
    pace: Pace,
    /// When the schedule began, in the caller's time; `None` before the first frame.
    start_ns: Option<u64>,
    /// What was sent before the next frame: frames or bits, as the pace counts.
    sent: u64,
    /// Timestamp with which the schedule of the capture began.
    first_timestamp_ns: u64,
    /// When the last frame was due.
    last_due_ns: u64,
}

impl Pacer {
    /// A schedule that begins with the first frame.
    pub fn new(pace: Pace) -> Self {
        Self { pace, start_ns: None, sent: 0, first_timestamp_ns: 0, last_due_ns: 0 }
    }

    /// When the frame with this timestamp and length is due, in the caller's time, which is `now_ns`; never before the
    /// frame before. To be called once a frame, in order. At [`Pace::Max`] every frame is due now.
    pub fn due(&mut self, now_ns: u64, timestamp_ns: u64, octets: usize) -> u64 {
        let Some(start_ns) = self.start_ns else {
            // After a rewind the frame before may not be due yet.
            let start_ns = now_ns.max(self.last_due_ns);
            (self.start_ns, self.first_timestamp_ns, self.last_due_ns) =
                (Some(start_ns), timestamp_ns, start_ns);
            self.count(octets);
            return start_ns;
        };
        let since_start_ns = match self.pace {
            Pace::Max => return now_ns,
            Pace::Captured(factor) => {
                let gap_ns = timestamp_ns.saturating_sub(self.first_timestamp_ns);
                // Whole nanoseconds where there is nothing to scale: a float would lose some after 104 days.
                if factor == 1.0 { gap_ns } else { (gap_ns as f64 / factor) as u64 }
            }
            Pace::FramesPerSecond(rate) | Pace::BitsPerSecond(rate) => {
                let ns = u128::from(self.sent) * 1_000_000_000 / u128::from(rate.get());
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        };
        self.count(octets);
        // A capture whose clock steps back does not stall the replay, nor turn its order.
        self.last_due_ns = self.last_due_ns.max(start_ns.saturating_add(since_start_ns));
        self.last_due_ns
    }

    /// The capture starts over: its next frame is due right after the last one, and the gaps count from there.
    pub fn rewound(&mut self) {
        if let Pace::Captured(_) = self.pace {
            self.start_ns = None;
        }
    }

    fn count(&mut self, octets: usize) {
        let amount = match self.pace {
            Pace::FramesPerSecond(_) => 1,
            Pace::BitsPerSecond(_) => (octets as u64).saturating_mul(8),
            Pace::Max | Pace::Captured(_) => 0,
        };
        self.sent = self.sent.saturating_add(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pace: &str, frames: &[(u64, usize)]) -> Vec<u64> {
        let mut pacer = Pacer::new(pace.parse().unwrap());
        frames.iter().map(|&(timestamp_ns, octets)| pacer.due(1_000, timestamp_ns, octets)).collect()
    }

    #[test]
    fn paces_are_written_and_read() {
        for text in ["max", "captured", "2x", "0.25x", "pps:1", "bps:1000000000"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        assert_eq!("1x".parse(), Ok(Pace::Captured(1.0)));
        for text in ["", "x", "0x", "-1x", "infx", "NaNx", "2", "pps:0", "pps:", "pps:-1", "bps:1.5", "fast"]
        {
            assert_eq!(text.parse::<Pace>(), Err(UnknownPace(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn frames_are_due_as_captured() {
        let frames = [(500, 60), (800, 60), (700, 60), (1_500, 60)];
        assert_eq!(schedule("captured", &frames), [1_000, 1_300, 1_300, 2_000]);
        assert_eq!(schedule("2x", &frames), [1_000, 1_150, 1_150, 1_500]);
        assert_eq!(schedule("0.5x", &frames), [1_000, 1_600, 1_600, 3_000]);
        assert_eq!(schedule("max", &frames), [1_000; 4]);
    }

    #[test]
    fn frames_are_due_at_a_rate() {
        let frames = [(9, 125), (0, 250), (5, 125), (7, 125)];
        assert_eq!(schedule("pps:1000", &frames), [1_000, 1_001_000, 2_001_000, 3_001_000]);
        assert_eq!(schedule("bps:1000000", &frames), [1_000, 1_001_000, 3_001_000, 4_001_000]);
    }

    #[test]
    fn rates_do_not_drift() {
        let mut pacer = Pacer::new(Pace::FramesPerSecond(NonZeroU64::new(3).unwrap()));
        let last = (0..3_000_001).map(|_| pacer.due(0, 0, 60)).last();
        assert_eq!(last, Some(1_000_000_000_000_000));
    }

    #[test]
    fn a_late_sender_catches_up() {
        let mut pacer = Pacer::new("pps:1000".parse().unwrap());
        assert_eq!(pacer.due(0, 0, 60), 0);
        assert_eq!(pacer.due(10_000_000, 0, 60), 1_000_000);
        assert_eq!(pacer.due(10_000_000, 0, 60), 2_000_000);
    }

    #[test]
    fn a_rewound_capture_goes_on_at_once() {
        let mut pacer = Pacer::new(Pace::Captured(1.0));
        assert_eq!(pacer.due(100, 5_000, 60), 100);
        assert_eq!(pacer.due(100, 7_000, 60), 2_100);
        pacer.rewound();
        assert_eq!(pacer.due(2_150, 5_000, 60), 2_150);
        assert_eq!(pacer.due(2_150, 7_000, 60), 4_150);
        pacer.rewound();
        assert_eq!(pacer.due(3_000, 5_000, 60), 4_150, "asked ahead of time");
    }

    #[test]
    fn nothing_overflows() {
        for pace in ["captured", "0.0001x", "pps:1", "bps:1"] {
            let mut pacer = Pacer::new(pace.parse().unwrap());
            assert_eq!(pacer.due(u64::MAX - 1, 0, usize::MAX), u64::MAX - 1);
            pacer.due(u64::MAX - 1, u64::MAX, usize::MAX);
            assert_eq!(pacer.due(u64::MAX, u64::MAX, 1), u64::MAX);
        }
    }
}

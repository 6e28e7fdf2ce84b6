//! Time, passed in by whoever drives a procedure.

use std::time::Duration;

use pc5_dataplane::keys::UnixSeconds;

/// One reading of the clocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// A clock that only rises, from any start: timers.
    pub monotonic: Duration,
    /// Since 1970, by the wall clock, which may be set: validity of certificates and of what others tell without an owner.
    pub unix: Duration,
    /// Since 1970 as the wall clock had it at the start, going on with [`Self::monotonic`]: cryptoperiods. Members keep the offset to
    /// their owner's, so neither has to be right, and setting the wall clock ends or delays no key. Source: `go-mode.md` 4.
    pub steady: Duration,
}

impl Now {
    /// Seconds since 1970.
    pub const fn unix_seconds(self) -> UnixSeconds {
        self.unix.as_secs()
    }

    /// Seconds since 1970 by which group keys begin and end.
    pub const fn key_seconds(self) -> UnixSeconds {
        self.steady.as_secs()
    }

    /// A time of the wall clock as the engine has it, which goes by [`Self::key_seconds`].
    pub const fn key_time_of(self, unix_seconds: UnixSeconds) -> UnixSeconds {
        unix_seconds.saturating_sub(self.unix.as_secs()).saturating_add(self.steady.as_secs())
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    /// All clocks later by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self {
            monotonic: self.monotonic.saturating_add(by),
            unix: self.unix.saturating_add(by),
            steady: self.steady.saturating_add(by),
        }
    }
}

/// The earlier of two deadlines, either of which may be missing.
pub(crate) fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

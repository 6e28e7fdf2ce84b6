//! Time, passed in by whoever drives a procedure.

use std::time::Duration;

use pc5_dataplane::keys::UnixSeconds;

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// A clock that only rises, from any start: timers.
    pub monotonic: Duration,
    /// Since 1970: validity of keys and certificates.
    pub unix: Duration,
}

impl Now {
    /// Seconds since 1970.
    pub const fn unix_seconds(self) -> UnixSeconds {
        self.unix.as_secs()
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    /// Both clocks later by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self { monotonic: self.monotonic.saturating_add(by), unix: self.unix.saturating_add(by) }
    }
}

/// The earlier of two deadlines, either of which may be missing.
pub(crate) fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

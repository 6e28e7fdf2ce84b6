//! The clocks of a daemon, one for all its threads.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pc5_control::clock::Now;
use pc5_dataplane::engine;

/// Reads wall clock and monotonic clock, and goes on from what the wall clock was at the start.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) began: Instant,
    wall_at_start: Duration,
}

impl Clock {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), wall_at_start: wall() }
    }

    /// For procedures.
    pub(crate) fn now(self) -> Now {
        let monotonic = self.began.elapsed();
        Now { monotonic, unix: wall(), steady: self.wall_at_start.saturating_add(monotonic) }
    }

    /// For engines, which go by cryptoperiods alone.
    pub(crate) fn engine_now(self) -> engine::Now {
        let monotonic = self.began.elapsed();
        engine::Now {
            unix_seconds: self.wall_at_start.saturating_add(monotonic).as_secs(),
            monotonic_ns: u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

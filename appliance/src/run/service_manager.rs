//! What the service manager is told (`sd_notify`): ready, reloading, stopping, and that the threads make progress.
//!
//! Without a service manager (`NOTIFY_SOCKET`) nothing is told and no thread is made.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{error, warn};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// A thread that makes progress shows it within this time, idle or not: control looks at the clock once a second.
    pub(super) const QUIET: Duration = Duration::from_secs(2);
}

/// A thread's sign that it goes round.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Once a turn.
    pub(crate) fn beat(&self) {
        // One thread writes, so there is nothing to be lost between load and store.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// Start is over.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] ends that.
pub(crate) fn reloading() {
    // Without a monotonic clock nothing of this works.
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    tell(&[NotifyState::Reloading, now]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Feeds the watchdog by hand, where there are no threads to watch yet.
pub(crate) fn feed() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!("the service manager was not told: {e}");
    }
}

/// The threads that have to make progress.
pub(crate) struct Watchdog {
    watched: Vec<Watched>,
    patience: Duration,
}

struct Watched {
    name: String,
    pulse: Pulse,
    seen: u64,
    moved: Instant,
    told: bool,
}

impl Watchdog {
    fn new(threads: impl IntoIterator<Item = (String, Pulse)>, patience: Duration, now: Instant) -> Self {
        let watched = threads
            .into_iter()
            .map(|(name, pulse)| Watched { name, pulse, seen: 0, moved: now, told: false })
            .collect();
        Self { watched, patience }
    }

    /// Whether every thread made progress of late. Says which one did not, once.
    fn all_moving(&mut self, now: Instant) -> bool {
        let mut all = true;
        for w in &mut self.watched {
            let beats = w.pulse.0.load(Ordering::Relaxed);
            if beats != w.seen {
                (w.seen, w.moved, w.told) = (beats, now, false);
            } else if now.saturating_duration_since(w.moved) > self.patience {
                all = false;
                if !std::mem::replace(&mut w.told, true) {
                    error!(thread = w.name, "no progress: the service manager's watchdog is not fed");
                }
            }
        }
        all
    }

    /// Feeds the service manager's watchdog, if it has one, as long as all threads make progress.
    ///
    /// # Errors
    /// No thread can be made.
    pub(crate) fn serve(threads: impl IntoIterator<Item = (String, Pulse)>) -> io::Result<()> {
        let Some(interval) = sd_notify::watchdog_enabled() else { return Ok(()) };
        let mut watchdog = Self::new(threads, limits::QUIET.max(interval / 2), Instant::now());
        std::thread::Builder::new().name("pc5-watchdog".into()).spawn(move || {
            loop {
                if watchdog.all_moving(Instant::now()) {
                    tell(&[NotifyState::Watchdog]);
                }
                std::thread::sleep(interval / 4);
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_without_progress_is_enough_to_starve_it() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let (control, data) = (Pulse::default(), Pulse::default());
        let threads = [("control".to_owned(), control.clone()), ("data".to_owned(), data.clone())];
        let mut watchdog = Watchdog::new(threads, Duration::from_secs(2), began);
        for s in 1..5 {
            control.beat();
            data.beat();
            assert!(watchdog.all_moving(at(s)));
        }
        control.beat();
        assert!(watchdog.all_moving(at(6)), "within patience");
        control.beat();
        assert!(!watchdog.all_moving(at(7)), "data stands still");
        control.beat();
        data.beat();
        assert!(watchdog.all_moving(at(8)), "and goes on");
        assert!(!watchdog.all_moving(at(11)), "both stand still");
    }
}

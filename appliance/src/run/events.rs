//! What happens, told to whoever listens on the admin socket: one line of JSON an event.
//!
//! Nothing waits for a listener. One that does not keep up is let go; the gap shows in the numbers when it comes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};
use pc5_control::group_owner::Notice;

use super::status::{EventLine, VERSION};

/// Own limits.
mod limits {
    /// Listeners at a time.
    pub(super) const LISTENERS: usize = 4;
    /// Events that a listener may be behind.
    pub(super) const BEHIND: usize = 1_024;
}

/// Where events are told, and listened to.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Hub>);

#[derive(Default)]
struct Hub {
    number: AtomicU64,
    listeners: Mutex<Vec<Sender<EventLine>>>,
}

impl Events {
    /// Tells an event.
    pub(crate) fn tell(&self, event: &str, about: impl IntoIterator<Item = (&'static str, String)>) {
        // Numbered under the lock, so that every listener sees them rise.
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let line = self.line(event, about, self.0.number.fetch_add(1, Ordering::Relaxed) + 1);
        listeners.retain(|listener| listener.try_send(line.clone()).is_ok());
    }

    /// Listens from now on; `None` when there are listeners enough.
    pub(crate) fn listen(&self) -> Option<Receiver<EventLine>> {
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.len() >= limits::LISTENERS {
            return None;
        }
        let (sender, receiver) = bounded(limits::BEHIND);
        listeners.push(sender);
        Some(receiver)
    }

    /// Says that the daemon is there while nothing happens; it has the number of the last event.
    pub(crate) fn alive(&self) -> EventLine {
        self.line("alive", [], self.0.number.load(Ordering::Relaxed))
    }

    fn line(
        &self,
        event: &str,
        about: impl IntoIterator<Item = (&'static str, String)>,
        number: u64,
    ) -> EventLine {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        EventLine {
            version: VERSION,
            number,
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            event: event.to_owned(),
            about: about.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }
    }
}

/// Name of a notice, in counters and events.
pub(crate) fn name(notice: &Notice) -> &'static str {
    match notice {
        Notice::Joined { .. } => "joined",
        Notice::Ended { .. } => "ended",
        Notice::Refused { .. } => "refused",
        Notice::PeerRefused { .. } => "peer_refused",
        Notice::AttemptOver { .. } => "attempt_over",
        Notice::GroupKey { .. } => "group_key",
        Notice::Audience { .. } => "audience",
        Notice::Rekeyed { .. } => "rekeyed",
        Notice::CrlTaken { .. } => "crl_taken",
        Notice::CrlRefused(_) => "crl_refused",
        Notice::CrlInGrace(_) => "crl_in_grace",
        Notice::StoreFailed(_) => "store_failed",
        Notice::Ignored { .. } => "ignored",
        _ => "other",
    }
}

/// What a listener is told of a notice; `None` for what strangers can cause at will, which is counted only.
pub(crate) fn about(notice: &Notice) -> Option<Vec<(&'static str, String)>> {
    Some(match notice {
        Notice::Joined { group, peer, identity, suite, .. } => vec![
            ("group", group.to_string()),
            ("peer", peer.to_string()),
            ("identity", identity.to_string()),
            ("suite", suite.to_string()),
        ],
        Notice::Ended { group, peer, identity, why, .. } => vec![
            ("group", group.to_string()),
            ("peer", peer.to_string()),
            ("identity", identity.to_string()),
            ("why", format!("{why:?}").to_lowercase()),
        ],
        Notice::GroupKey { group, epoch, pgk_id, exclusive } => vec![
            ("group", group.to_string()),
            ("epoch", epoch.to_string()),
            ("pgk_id", pgk_id.0.to_string()),
            ("exclusive", exclusive.to_string()),
        ],
        Notice::Rekeyed { peer, id, refreshed, .. } => {
            vec![("peer", peer.to_string()), ("id", id.to_string()), ("refreshed", refreshed.to_string())]
        }
        Notice::PeerRefused { group, claimed_source, cause, proved: true } => vec![
            ("group", group.to_string()),
            ("peer", claimed_source.to_string()),
            ("cause", format!("{cause:#04x}")),
        ],
        Notice::CrlTaken { number, .. } => vec![("number", format!("{number:?}"))],
        Notice::CrlRefused(why) | Notice::StoreFailed(why) => vec![("why", why.clone())],
        Notice::CrlInGrace(identity) => vec![("identity", identity.to_string())],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_hear_in_order_and_the_slow_one_is_let_go() {
        let events = Events::default();
        let (quick, slow) = (events.listen().unwrap(), events.listen().unwrap());
        for n in 0..limits::BEHIND + 2 {
            events.tell("joined", [("peer", n.to_string())]);
            let line = quick.try_recv().unwrap();
            assert_eq!((line.number, line.about["peer"].as_str()), (n as u64 + 1, n.to_string().as_str()));
        }
        assert_eq!(slow.iter().count(), limits::BEHIND, "what there was room for, then the end");
        assert_eq!(events.alive().number, limits::BEHIND as u64 + 2);
    }

    #[test]
    fn there_are_only_so_many_listeners() {
        let events = Events::default();
        let mut all: Vec<_> = (0..limits::LISTENERS).map(|_| events.listen().unwrap()).collect();
        assert!(events.listen().is_none());
        all.pop();
        events.tell("joined", []);
        assert!(events.listen().is_some(), "who hung up makes room");
    }
}

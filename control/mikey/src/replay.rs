//! When a message is too old, too new, or here again.

use core::time::Duration;
use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use crate::{NtpTime, Reject};

/// How far T may lie from the clock value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How far in the past.
    pub past: Duration,
    /// How far in the future.
    pub future: Duration,
}

impl Window {
    /// Five minutes of clock skew either way.
    pub const CLOCK_SKEW: Self = Self { past: Duration::from_secs(300), future: Duration::from_secs(300) };

    /// For messages that are repeated for late joiners over a whole talk: its greatest length is added to the past.
    pub fn late_entry(self, talk: Duration) -> Self {
        Self { past: self.past.saturating_add(talk), ..self }
    }
}

/// What tells one authentic message from another. Not the signature: ECCSI's can be altered by anyone (s to q - s)
/// and still verify.
#[derive(Debug, Clone)]
pub(crate) struct MessageId {
    /// Who vouches for the message: identifier of the signer, or name of the pre-shared key and claimed initiator.
    pub(crate) signer: Vec<u8>,
    pub(crate) csb_id: u32,
    pub(crate) t: NtpTime,
    pub(crate) rand: Vec<u8>,
    /// SHA-256 of the authenticated octets without signature or MAC.
    pub(crate) digest: [u8; 32],
}

impl MessageId {
    fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.signer[..], &self.csb_id.to_be_bytes(), &self.t.ntp_seconds().to_be_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.t.to_wire().to_be_bytes());
        hash.update(&self.rand);
        hash.finalize().into()
    }

    fn signer_key(&self) -> [u8; 32] {
        Sha256::digest(&self.signer).into()
    }
}

/// How an accepted message stands among those of its signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No accepted message of this signer has a later T.
    Newest,
    /// A later one was accepted before: this one was delayed. Its key must not displace the newer one.
    Superseded {
        /// T of the newest accepted message.
        newest: NtpTime,
    },
}

/// Remembers accepted messages as long as they could be accepted again, and the newest T of each signer.
///
/// The acceptance window is part of the cache, so that nothing can be forgotten while it would still be accepted. Only
/// authenticated messages are stored. When the cache is full of such messages, new ones are refused rather than old
/// ones forgotten. Its size is bounded by the capacity; an entry takes about 200 octets whatever the message holds.
/// Source: RFC 3830 5.4.
pub struct ReplayCache {
    window: Window,
    capacity: usize,
    accepted: HashMap<[u8; 32], Accepted>,
    by_time: BTreeSet<(NtpTime, [u8; 32])>,
    newest: HashMap<[u8; 32], NtpTime>,
    /// Everything before this may have been forgotten, so it is refused even if the clock is set back.
    floor: Option<NtpTime>,
}

struct Accepted {
    digest: [u8; 32],
}

impl ReplayCache {
    /// A cache for at most `capacity` messages within the window.
    pub fn new(window: Window, capacity: usize) -> Self {
        Self {
            window,
            capacity,
            accepted: HashMap::new(),
            by_time: BTreeSet::new(),
            newest: HashMap::new(),
            floor: None,
        }
    }

    /// The acceptance window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Messages remembered now.
    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    /// No message remembered.
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// The first, cheap look, at claimed values: time window, then replay.
    pub(crate) fn check(&self, id: &MessageId, now: NtpTime) -> Result<(), Reject> {
        let too_old = id.t < now.before(self.window.past) || self.floor.is_some_and(|floor| id.t < floor);
        if too_old || id.t > now.after(self.window.future) {
            return Err(Reject::TimestampOutOfRange { message: id.t, now });
        }
        match self.accepted.get(&id.key()) {
            Some(Accepted { digest }) => Err(Reject::Replay { identical: *digest == id.digest }),
            None => Ok(()),
        }
    }

    /// Takes an authenticated message in.
    pub(crate) fn accept(&mut self, id: &MessageId, now: NtpTime) -> Result<Standing, Reject> {
        self.check(id, now)?;
        self.forget_before(now.before(self.window.past));
        if self.accepted.len() >= self.capacity {
            return Err(Reject::ReplayCacheFull);
        }
        let key = id.key();
        self.accepted.insert(key, Accepted { digest: id.digest });
        self.by_time.insert((id.t, key));
        let newest = self.newest.entry(id.signer_key()).or_insert(id.t);
        if *newest > id.t {
            return Ok(Standing::Superseded { newest: *newest });
        }
        *newest = id.t;
        Ok(Standing::Newest)
    }

    fn forget_before(&mut self, horizon: NtpTime) {
        if self.floor.is_some_and(|floor| horizon <= floor) {
            return;
        }
        self.floor = Some(horizon);
        while let Some((t, key)) = self.by_time.first().copied() {
            if t >= horizon {
                break;
            }
            self.by_time.pop_first();
            self.accepted.remove(&key);
        }
        // A signer whose newest T is below the floor can only be followed by later ones.
        self.newest.retain(|_, t| *t >= horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(signer: &str, t: u64, rand: u8) -> MessageId {
        MessageId {
            signer: signer.into(),
            csb_id: 7,
            t: NtpTime::from_unix(t, 0),
            rand: vec![rand; 16],
            digest: [rand; 32],
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache(capacity: usize) -> ReplayCache {
        ReplayCache::new(Window { past: MINUTE, future: MINUTE }, capacity)
    }

    #[test]
    fn window_has_inclusive_edges() {
        let cache = cache(9);
        let now = NtpTime::from_unix(1000, 0);
        for (t, ok) in [(939, false), (940, true), (1000, true), (1060, true), (1061, false)] {
            assert_eq!(cache.check(&id("a", t, 1), now).is_ok(), ok, "{t}");
        }
    }

    #[test]
    fn repeat_replay_and_standing() {
        let mut cache = cache(9);
        let now = NtpTime::from_unix(1000, 0);
        assert_eq!(cache.accept(&id("a", 1000, 1), now), Ok(Standing::Newest));
        assert_eq!(cache.accept(&id("a", 1000, 1), now), Err(Reject::Replay { identical: true }));
        let forged = MessageId { digest: [9; 32], ..id("a", 1000, 1) };
        assert_eq!(cache.accept(&forged, now), Err(Reject::Replay { identical: false }));
        let newest = NtpTime::from_unix(1000, 0);
        assert_eq!(cache.accept(&id("a", 990, 2), now), Ok(Standing::Superseded { newest }));
        assert_eq!(cache.accept(&id("b", 980, 2), now), Ok(Standing::Newest));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn full_refuses_and_time_makes_room() {
        let mut cache = cache(2);
        let now = |s| NtpTime::from_unix(s, 0);
        cache.accept(&id("a", 1000, 1), now(1000)).unwrap();
        cache.accept(&id("a", 1000, 2), now(1000)).unwrap();
        assert_eq!(cache.accept(&id("a", 1000, 3), now(1000)), Err(Reject::ReplayCacheFull));
        assert!(cache.accept(&id("a", 1061, 3), now(1061)).is_ok());
        assert_eq!(cache.len(), 1);
        // The clock is set back: what was forgotten is not accepted again.
        let again = cache.accept(&id("a", 1000, 1), now(1000));
        assert!(matches!(again, Err(Reject::TimestampOutOfRange { .. })), "{again:?}");
    }
}

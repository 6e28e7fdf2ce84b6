//! Retransmission: the starter of an exchange resends the same octets at doubling intervals until it is answered or
//! has sent often enough. Source: `go-mode.md` section 10.

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Lcid};

/// First interval, doubled after every sending, and how often is sent in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timer {
    pub first: Duration,
    pub sends: u8,
}

impl Timer {
    const fn new(first_ms: u64, sends: u8) -> Self {
        Self { first: Duration::from_millis(first_ms), sends }
    }
}

/// Join messages.
pub(crate) const T4100: Timer = Timer::new(400, 4);
/// Keepalive until answered.
pub(crate) const T4101: Timer = Timer::new(200, 5);
/// RELEASE until accepted.
pub(crate) const T4103: Timer = Timer::new(100, 3);
/// REKEY_COMMAND until confirmed.
pub(crate) const T4111: Timer = Timer::new(100, 5);
/// REKEY_TRIGGER, REKEY_REQUEST, GROUP_KEY_REQUEST.
pub(crate) const T_REKEY: Timer = Timer::new(100, 5);
/// GROUP_KEY_UPDATE until acknowledged.
pub(crate) const T_INST: Timer = Timer::new(200, 5);
/// CRL_UPDATE has no answer; a second copy covers a lost frame.
pub(crate) const CRL_COPIES: Timer = Timer::new(1_000, 2);

/// An exchange under way.
#[derive(Clone)]
pub(crate) struct Repeat {
    pub sdus: Vec<Bytes>,
    pub lcid: Lcid,
    pub under: Option<KdSessId>,
    timer: Timer,
    next: Duration,
    repeated: u8,
}

/// What a look at the clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    NotYet,
    SendAgain,
    Over,
}

impl Repeat {
    /// Just sent for the first time.
    pub(crate) fn new(
        sdus: Vec<Bytes>,
        lcid: Lcid,
        under: Option<KdSessId>,
        timer: Timer,
        now: Duration,
    ) -> Self {
        Self { sdus, lcid, under, timer, next: now.saturating_add(timer.first), repeated: 0 }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.next
    }

    /// How often it was sent after the first time.
    pub(crate) fn repeated(&self) -> u8 {
        self.repeated
    }

    pub(crate) fn due(&mut self, now: Duration) -> Due {
        if now < self.next {
            return Due::NotYet;
        }
        if self.repeated.saturating_add(1) >= self.timer.sends {
            return Due::Over;
        }
        self.repeated += 1;
        let wait = self.timer.first.saturating_mul(2u32.saturating_pow(self.repeated.into()));
        self.next = now.saturating_add(wait);
        Due::SendAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_and_end() {
        let mut r = Repeat::new(Vec::new(), Lcid::CLEAR, None, T4100, Duration::ZERO);
        let mut sent_at = vec![0];
        loop {
            let at = r.deadline();
            match r.due(at) {
                Due::SendAgain => sent_at.push(at.as_millis()),
                end => break assert_eq!(end, Due::Over),
            }
        }
        assert_eq!(sent_at, [0, 400, 1_200, 2_800]);
        assert_eq!(r.repeated(), 3);
        assert_eq!(r.deadline(), Duration::from_millis(6_000));
        assert_eq!(r.due(Duration::from_millis(5_999)), Due::NotYet);
    }
}

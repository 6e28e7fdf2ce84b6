//! What strangers may cost: cookies, half-open joins, computations a second. Source: `go-mode.md` sections 2 and 10.

use std::collections::HashMap;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use rand_core::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// So many at once, so many a second.
struct Bucket {
    /// Thousandths.
    left: u64,
    at: Duration,
}

impl Bucket {
    fn full(a_second: u64, now: Duration) -> Self {
        Self { left: a_second * 1_000, at: now }
    }

    fn refill(&mut self, a_second: u64, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_millis();
        self.at = self.at.max(now);
        let more = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(a_second);
        self.left = self.left.saturating_add(more).min(a_second * 1_000);
    }

    fn take(&mut self, a_second: u64, now: Duration) -> bool {
        self.refill(a_second, now);
        let taken = self.left >= 1_000;
        if taken {
            self.left -= 1_000;
        }
        taken
    }
}

/// Keys of cookies: the current one and the one before.
struct CookieKeys {
    current: Zeroizing<[u8; 32]>,
    before: Zeroizing<[u8; 32]>,
    since: Duration,
}

/// What a cookie covers.
pub(crate) struct CookieInput<'a> {
    pub source: Layer2Id,
    pub group: GroupId,
    pub nonce_1: &'a [u8; 16],
    pub e_m: &'a [u8; 65],
}

/// Guards the handshake computations of one owner.
pub(crate) struct Flood {
    keys: Option<CookieKeys>,
    without_cookie: Option<Bucket>,
    sources: HashMap<Layer2Id, Bucket>,
    hints: Option<Bucket>,
}

impl Flood {
    pub(crate) fn new() -> Self {
        Self { keys: None, without_cookie: None, sources: HashMap::new(), hints: None }
    }

    /// The cookie that a request has to show.
    pub(crate) fn cookie<R: CryptoRng + ?Sized>(
        &mut self,
        input: &CookieInput<'_>,
        now: Duration,
        rng: &mut R,
    ) -> [u8; 16] {
        compute(&self.keys(now, rng).current, input)
    }

    /// Whether a cookie is one of ours and not too old.
    pub(crate) fn valid<R: CryptoRng + ?Sized>(
        &mut self,
        cookie: &[u8; 16],
        input: &CookieInput<'_>,
        now: Duration,
        rng: &mut R,
    ) -> bool {
        let keys = self.keys(now, rng);
        let (a, b) = (compute(&keys.current, input), compute(&keys.before, input));
        (a.ct_eq(cookie) | b.ct_eq(cookie)).into()
    }

    /// Whether a handshake may be computed for a request without a valid cookie.
    pub(crate) fn admit_stranger(&mut self, now: Duration) -> bool {
        let all = self.without_cookie.get_or_insert_with(|| Bucket::full(WITHOUT_COOKIE, now));
        all.take(WITHOUT_COOKIE, now)
    }

    /// Whether one may be computed for a source that showed its cookie, and so is where it says.
    pub(crate) fn admit_source(&mut self, source: Layer2Id, now: Duration) -> bool {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            // Who has been quiet for a second is as good as unknown.
            self.sources.retain(|_, b| {
                b.refill(A_SOURCE, now);
                b.left < A_SOURCE * 1_000
            });
            if self.sources.len() >= SOURCES {
                return false;
            }
        }
        self.sources.entry(source).or_insert_with(|| Bucket::full(A_SOURCE, now)).take(A_SOURCE, now)
    }

    /// Whether a hint (untagged REJECT, JOIN_RETRY) may be sent: never more than what comes in, and bounded.
    pub(crate) fn admit_hint(&mut self, now: Duration) -> bool {
        self.hints.get_or_insert_with(|| Bucket::full(HINTS, now)).take(HINTS, now)
    }

    fn keys<R: CryptoRng + ?Sized>(&mut self, now: Duration, rng: &mut R) -> &CookieKeys {
        let mut fresh = || {
            let mut key = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut *key);
            key
        };
        let keys =
            self.keys.get_or_insert_with(|| CookieKeys { current: fresh(), before: fresh(), since: now });
        let age = now.saturating_sub(keys.since);
        if age >= RENEWAL {
            let next = fresh();
            // After two periods without any request both are old.
            keys.before = if age < RENEWAL * 2 { std::mem::replace(&mut keys.current, next) } else { next };
            if age >= RENEWAL * 2 {
                keys.current = fresh();
            }
            keys.since = now;
        }
        keys
    }
}

fn compute(key: &[u8; 32], input: &CookieInput<'_>) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&input.source.octets());
    mac.update(&input.group.octets());
    mac.update(input.nonce_1);
    mac.update(input.e_m);
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut cookie = [0; 16];
    cookie.copy_from_slice(&whole[..16]);
    cookie
}

/// Half-open joins of an owner.
pub(crate) const HALF_OPEN: usize = 1_024;
/// From so many on a cookie is demanded.
pub(crate) const COOKIE_FROM: usize = 64;
/// Half-open joins that claim one source.
pub(crate) const HALF_OPEN_A_SOURCE: usize = 4;
/// Handshakes a second for requests without a valid cookie.
const WITHOUT_COOKIE: u64 = 200;
/// Handshakes a second for one source.
const A_SOURCE: u64 = 20;
/// Sources remembered.
const SOURCES: usize = 4_096;
/// Hints sent a second.
const HINTS: u64 = 2_000;
/// Lifetime of a cookie key.
const RENEWAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn a_cookie_is_of_one_request_and_of_two_minutes() {
        let (mut flood, group) = (Flood::new(), GroupId::from_octets([1, 1, 1]));
        let source = Layer2Id::from_octets([2, 2, 2]);
        let input = CookieInput { source, group, nonce_1: &[3; 16], e_m: &[4; 65] };
        let at = Duration::from_secs;
        let cookie = flood.cookie(&input, at(0), &mut rng());
        assert!(flood.valid(&cookie, &input, at(59), &mut rng()));
        let other = CookieInput { nonce_1: &[5; 16], ..input };
        assert!(!flood.valid(&cookie, &other, at(59), &mut rng()));
        let input = CookieInput { source, group, nonce_1: &[3; 16], e_m: &[4; 65] };
        assert!(flood.valid(&cookie, &input, at(61), &mut rng()));
        assert!(!flood.valid(&cookie, &input, at(125), &mut rng()));
        let cookie = flood.cookie(&input, at(130), &mut rng());
        assert!(!flood.valid(&cookie, &input, at(1_000), &mut rng()));
    }

    #[test]
    fn computations_are_bounded() {
        let mut flood = Flood::new();
        let at = Duration::from_millis;
        assert_eq!((0..1_000).filter(|_| flood.admit_stranger(at(0))).count(), 200);
        assert_eq!((0..1_000).filter(|_| flood.admit_stranger(at(500))).count(), 100);
        let source = Layer2Id::from_octets([2, 2, 2]);
        assert_eq!((0..1_000).filter(|_| flood.admit_source(source, at(0))).count(), 20);
        for i in 0..100_000 {
            flood.admit_source(Layer2Id::new(i).unwrap(), at(0));
        }
        assert!(flood.sources.len() <= SOURCES);
        assert!(flood.admit_source(Layer2Id::new(77_777).unwrap(), at(2_000)));
    }
}

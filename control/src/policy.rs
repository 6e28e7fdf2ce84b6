//! What a device allows and prefers. Defaults are those of `go-mode.md`; what is checked once here is not checked again.

use std::collections::BTreeSet;
use std::time::Duration;

use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::suite::Suite;

use crate::codec::segment::limits::SDU;
use crate::credential::Identity;
use crate::reject::Reject;

/// Who may join.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Whose certificate allows it.
    #[default]
    Certified,
    /// These alone, and only with such a certificate.
    Listed(BTreeSet<Identity>),
}

/// Which epoch a joiner gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnJoin {
    /// The current one.
    #[default]
    Current,
    /// A new one, gathered for a second, so that what was recorded earlier stays closed to joiners.
    Fresh,
}

/// How group keys travel to members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wrap {
    /// Protected by the live link; by HPKE where its MAC field has 4 octets.
    #[default]
    Link,
    /// HPKE to the member's certificate key each time.
    Certificate,
}

/// One group of an owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPolicy {
    /// The group.
    pub group: GroupId,
    /// The owner's Layer-2 id in it; each group has one of its own.
    pub owner: Layer2Id,
    /// Suites of links, preference first. Naming one here is what allows it.
    pub link_suites: Vec<Suite>,
    /// Suite of group frames.
    pub group_suite: Suite,
    /// Members send one-to-many themselves.
    pub direct: bool,
    /// Validity of a group key.
    pub key_lifetime: Duration,
    /// Age at which a group key is changed; half of the lifetime unless set.
    pub rekey_after: Option<Duration>,
    /// Future epochs handed out ahead, 0 to 3.
    pub future_epochs: u8,
    /// What joiners get.
    pub on_join: OnJoin,
    /// Who may join.
    pub admission: Admission,
    /// How group keys travel.
    pub wrap: Wrap,
    /// An identity may have several Layer-2 ids at a time.
    pub several_layer2: bool,
    /// KD is refreshed within this time.
    pub kd_lifetime: Duration,
    /// Members show signs of life this often.
    pub keepalive_period: Duration,
    /// Without a sign of life for so long a member is lost.
    pub lost_after: Duration,
    /// Members.
    pub max_members: usize,
    /// Announced: over which time members spread their joins after a restart.
    pub spread: Duration,
}

impl GroupPolicy {
    /// Defaults for a group.
    pub fn new(group: GroupId, owner: Layer2Id) -> Self {
        Self {
            group,
            owner,
            link_suites: vec![Suite::Aes256Gcm, Suite::Aes128Gcm],
            group_suite: Suite::Aes256Gcm,
            direct: false,
            key_lifetime: Duration::from_secs(3_600),
            rekey_after: None,
            future_epochs: 0,
            on_join: OnJoin::Current,
            admission: Admission::Certified,
            wrap: Wrap::Link,
            several_layer2: false,
            kd_lifetime: Duration::from_secs(24 * 3_600),
            keepalive_period: Duration::from_secs(5),
            lost_after: Duration::from_secs(30),
            max_members: limits::MEMBERS,
            spread: Duration::from_secs(1),
        }
    }

    /// These settings, with those of `wanted` that a living group can change: suites of new links, times of keys,
    /// future epochs, what joiners get, who is admitted, how many.
    #[must_use]
    pub fn with_living(&self, wanted: &Self) -> Self {
        Self {
            link_suites: wanted.link_suites.clone(),
            key_lifetime: wanted.key_lifetime,
            rekey_after: wanted.rekey_after,
            future_epochs: wanted.future_epochs,
            on_join: wanted.on_join,
            admission: wanted.admission.clone(),
            kd_lifetime: wanted.kd_lifetime,
            max_members: wanted.max_members,
            ..self.clone()
        }
    }

    /// Age at which a group key is changed.
    pub fn change_after(&self) -> Duration {
        self.rekey_after.unwrap_or(self.key_lifetime / 2)
    }

    /// Whether the settings go together.
    ///
    /// # Errors
    /// [`PolicyError`] naming what does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        let wrong = |what| Err(PolicyError { group: self.group, what });
        if self.link_suites.is_empty() || self.link_suites.iter().any(|s| !s.has_integrity()) {
            return wrong("link suites: at least one, and only such with integrity");
        }
        if self.future_epochs > 3 {
            return wrong("future epochs: at most 3, since a message has at most 4 group keys");
        }
        let times = [
            self.key_lifetime,
            self.change_after(),
            self.kd_lifetime,
            self.keepalive_period,
            self.lost_after,
            self.spread,
        ];
        if times.into_iter().any(|t| t > limits::LONGEST) {
            return wrong("no time is above 100 years");
        }
        if self.change_after() < limits::SHORTEST_CHANGE {
            return wrong(
                "a group key is changed after 100 milliseconds at the earliest: each change writes state",
            );
        }
        if self.change_after().saturating_add(limits::DISTRIBUTION) > self.key_lifetime {
            return wrong("a group key must outlive its change by the 7 seconds that distribution may take");
        }
        if self.max_members == 0 || self.max_members > limits::MEMBERS {
            return wrong("members: 1 to 16,384");
        }
        if self.keepalive_period.is_zero() || self.keepalive_period >= self.lost_after {
            return wrong("the keepalive period must be below the time after which a member is lost");
        }
        if self.kd_lifetime < Duration::from_secs(60) || self.kd_lifetime > Duration::from_secs(24 * 3_600) {
            return wrong("KD lifetime: a minute to 24 hours");
        }
        Ok(())
    }

    /// Suite of a link with a member that offers `codes`; the group's suite must be offered as well.
    ///
    /// # Errors
    /// [`Reject::NoCommonSuite`].
    pub fn choose(&self, codes: &[u8]) -> Result<Suite, Reject> {
        let offered = |s: &&Suite| codes.contains(&s.code());
        if !offered(&&self.group_suite) {
            return Err(Reject::NoCommonSuite);
        }
        self.link_suites.iter().find(offered).copied().ok_or(Reject::NoCommonSuite)
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("group {group}: {what}")]
pub struct PolicyError {
    /// Group.
    pub group: GroupId,
    /// What to change.
    pub what: &'static str,
}

/// What an owner does for all of its groups alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerPolicy {
    /// A cookie is demanded always, not only under load.
    pub cookie_always: bool,
    /// Octets of an SDU of PC5-S that the port carries.
    pub sdu: usize,
    /// Whether GO_ANNOUNCE is sent.
    pub announce: bool,
}

impl Default for OwnerPolicy {
    fn default() -> Self {
        Self { cookie_always: false, sdu: SDU, announce: true }
    }
}

/// A member of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberPolicy {
    /// The group.
    pub group: GroupId,
    /// The member's Layer-2 id.
    pub layer2: Layer2Id,
    /// The owner's, where it is known; else the first one announced is taken.
    pub owner: Option<Layer2Id>,
    /// Suites offered, preference first. Naming one here is what allows it; those without integrity serve for groups.
    pub suites: Vec<Suite>,
    /// The identity that the owner must have, where it is known.
    pub owner_identity: Option<Identity>,
    /// Octets of an SDU of PC5-S that the port carries.
    pub sdu: usize,
    /// Carried in REKEY_REQUEST unread; at most 32 octets.
    pub route: Vec<u8>,
    /// Joins again by itself after a loss.
    pub rejoin: bool,
}

impl MemberPolicy {
    /// Defaults for a member whose owner is known.
    pub fn new(group: GroupId, layer2: Layer2Id, owner: Layer2Id) -> Self {
        Self {
            group,
            layer2,
            owner: Some(owner),
            suites: vec![Suite::Aes256Gcm, Suite::Aes128Gcm],
            owner_identity: None,
            sdu: SDU,
            route: Vec::new(),
            rejoin: true,
        }
    }

    /// Suite codes as offered.
    pub fn offer(&self) -> Vec<u8> {
        self.suites.iter().map(|s| s.code()).collect()
    }

    /// Whether a link may have this suite.
    ///
    /// # Errors
    /// [`Reject::SuiteBelowPolicy`].
    pub fn allows_link(&self, suite: Suite) -> Result<(), Reject> {
        if self.suites.contains(&suite) && suite.has_integrity() {
            Ok(())
        } else {
            Err(Reject::SuiteBelowPolicy)
        }
    }

    /// Whether a group key may have this suite.
    ///
    /// # Errors
    /// [`Reject::SuiteBelowPolicy`].
    pub fn allows_group(&self, suite: Suite) -> Result<(), Reject> {
        if self.suites.contains(&suite) { Ok(()) } else { Err(Reject::SuiteBelowPolicy) }
    }
}

/// A member of a group without owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPolicy {
    /// The group.
    pub group: GroupId,
    /// The member's Layer-2 id.
    pub layer2: Layer2Id,
    /// Suite of sessions that this member opens.
    pub suite: Suite,
    /// Suites of others' sessions that are taken; naming one here is what allows it.
    pub suites: Vec<Suite>,
    /// How long a session's key lives; then another session follows.
    pub lifetime: Duration,
    /// Octets of an SDU of PC5-S that the port carries.
    pub sdu: usize,
}

impl SessionPolicy {
    /// Defaults.
    pub fn new(group: GroupId, layer2: Layer2Id) -> Self {
        Self {
            group,
            layer2,
            suite: Suite::Aes256Gcm,
            suites: vec![Suite::Aes256Gcm, Suite::Aes128Gcm],
            lifetime: Duration::from_secs(3_600),
            sdu: SDU,
        }
    }
}

/// Own limits.
pub mod limits {
    use std::time::Duration;

    /// Members of a group.
    pub const MEMBERS: usize = 16_384;
    /// No configured time is above this, so that sums of a few of them and a point in time are one. A hundred years.
    pub const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);
    /// Least time between routine changes of a group key: each takes a message to every member, and now and then a write.
    pub const SHORTEST_CHANGE: Duration = Duration::from_millis(100);
    /// How long a change of the group key may take: every repetition of GROUP_KEY_UPDATE, rounded up.
    pub const DISTRIBUTION: Duration = Duration::from_secs(7);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> GroupPolicy {
        GroupPolicy::new(GroupId::from_octets([1, 2, 3]), Layer2Id::from_octets([4, 5, 6]))
    }

    #[test]
    fn the_defaults_go_together_and_contradictions_are_named() {
        assert_eq!(policy().check(), Ok(()));
        let mut p = policy();
        p.link_suites = vec![Suite::Eea2];
        assert!(p.check().unwrap_err().what.contains("integrity"));
        let mut p = policy();
        (p.key_lifetime, p.rekey_after) = (Duration::from_secs(10), Some(Duration::from_secs(5)));
        assert!(p.check().unwrap_err().what.contains("outlive"));
        p.rekey_after = Some(Duration::from_secs(1));
        assert_eq!(p.check(), Ok(()));
        p.rekey_after = Some(Duration::from_millis(99));
        assert!(p.check().unwrap_err().what.contains("at the earliest"));
        p.rekey_after = Some(Duration::MAX);
        assert!(p.check().unwrap_err().what.contains("100 years"));
        (p.rekey_after, p.key_lifetime) = (None, Duration::ZERO);
        assert!(p.check().is_err());
    }

    fn odd_time() -> impl Strategy<Value = Duration> {
        prop_oneof![
            any::<Duration>(),
            any::<u32>().prop_map(|s| Duration::from_secs(s.into())),
            (0..200_u64).prop_map(Duration::from_millis),
            prop::sample::select(&[Duration::ZERO, limits::DISTRIBUTION, limits::LONGEST, Duration::MAX][..]),
        ]
    }

    proptest! {
        #[test]
        fn any_settings_are_judged_and_those_that_pass_are_within_bounds(
            (key_lifetime, rekey_after) in (odd_time(), prop::option::of(odd_time())),
            (kd_lifetime, keepalive_period, lost_after, spread) in (odd_time(), odd_time(), odd_time(), odd_time()),
            (future_epochs, max_members) in (any::<u8>(), any::<usize>()),
        ) {
            let times = GroupPolicy { key_lifetime, rekey_after, ..policy() };
            let all = GroupPolicy { kd_lifetime, keepalive_period, lost_after, spread, future_epochs, max_members, ..times.clone() };
            for p in [times, all] {
                if p.check().is_ok() {
                    prop_assert!(p.change_after() >= limits::SHORTEST_CHANGE);
                    prop_assert!(p.key_lifetime >= p.change_after() + limits::DISTRIBUTION);
                    prop_assert!(p.key_lifetime <= limits::LONGEST && p.lost_after <= limits::LONGEST);
                }
            }
        }
    }

    #[test]
    fn the_owner_prefers_and_the_group_suite_is_needed() {
        let mut p = policy();
        assert_eq!(p.choose(&[0x44, 0x55]), Ok(Suite::Aes256Gcm));
        assert_eq!(p.choose(&[0x44]), Err(Reject::NoCommonSuite));
        p.link_suites = vec![Suite::Nca5];
        assert_eq!(p.choose(&[0x44, 0x55]), Err(Reject::NoCommonSuite));
        assert_eq!(p.choose(&[0x44, 0x55, 0x66, 0xEE]), Ok(Suite::Nca5));
    }
}

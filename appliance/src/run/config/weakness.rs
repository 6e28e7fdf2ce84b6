//! Suites that protect less than one expects: allowed by naming them, and never without a word.

use pc5_dataplane::suite::Suite;

use super::{Config, Station};

impl Config {
    /// What the configured suites leave open, a line each; nothing for suites that cipher and have a MAC field.
    pub(crate) fn weaknesses(&self) -> Vec<String> {
        match &self.station {
            Station::Owner(owner) => {
                let groups = owner.groups.iter();
                groups
                    .filter_map(|g| {
                        let what = weakness(g.group_suite)?;
                        Some(format!("group {} has suite {}: {what}", g.group, g.group_suite))
                    })
                    .collect()
            }
            Station::Ue(ues) => {
                let offered = ues.iter().flat_map(|ue| ue.policy.suites.iter().map(move |s| (ue, *s)));
                offered
                    .filter_map(|(ue, suite)| {
                        let what = weakness(suite)?;
                        Some(format!("group {} may have suite {suite}: {what}", ue.policy.group))
                    })
                    .collect()
            }
        }
    }
}

/// What a suite leaves open, if anything.
pub(crate) fn weakness(suite: Suite) -> Option<&'static str> {
    match (suite.has_ciphering(), suite.has_integrity()) {
        (true, true) => None,
        (true, false) => Some("without a MAC field, everybody can alter, forge and repeat its frames"),
        (false, _) => {
            Some("nothing is ciphered and nothing proves its origin: everybody reads and forges its frames")
        }
    }
}

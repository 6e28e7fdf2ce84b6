//! The device's certificate and key, and whom it believes, out of the files that a configuration names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use pc5_control::clock::Now;
use pc5_control::credential::{
    Clock, CrlError, Judge, LongTermKey, Plmn, Refusal, Role, SoftwareKey, TokenKey, TrustEntry,
};
use pc5_control::files::SECRET;
use pc5_control::group_owner::{Device, SharedTrust, Trust};
use pc5_control::pki::{read_certificates, read_crls};
use pc5_control::store::Store;
use pc5_control::vault::{self, Vault};
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;
use tracing::warn;

use super::config::{Config, KeySource, Station};
use super::own::{self, Own};
use crate::exit::refused;

/// Certificate, key, roots and CRLs of a configuration, read and judged.
pub(crate) struct Credentials {
    pub device: Device,
    /// Its certificate, and what is in the file.
    pub own: Own,
    /// Every CRL of the configuration's files that counts, DER.
    pub crls: Vec<Vec<u8>>,
    /// What is wrong unless the state, which was not looked into, has what mends it.
    pub doubts: Vec<String>,
}

/// What a device knows besides its files: the CRLs and the time floor that it keeps.
pub(crate) struct Kept {
    crls: Vec<Vec<u8>>,
    floor: UnixSeconds,
    /// Whether that is all; else there is a state that was not looked into.
    whole: bool,
}

impl Kept {
    /// What the state has.
    pub(crate) fn stored(store: &dyn Store) -> Self {
        Self { crls: store.crls(), floor: store.time_floor(), whole: true }
    }

    /// What a running daemon holds.
    pub(crate) fn held(trust: &SharedTrust) -> Self {
        let trust = trust.read();
        let crls = trust.judge.crls().map(|(_, der)| der.to_vec()).collect();
        Self { crls, floor: trust.floor, whole: true }
    }

    /// Before the state is opened, which takes the rights of the user whose it is.
    pub(crate) fn unread(config: &Config) -> Self {
        let state = config.state.as_ref().is_some_and(|path| path.is_file());
        Self { crls: Vec::new(), floor: 0, whole: !state }
    }
}

/// Reads what the configuration names, the device's own certificate among it, see [`judge`].
///
/// # Errors
/// As [`judge`].
pub(crate) fn read(config: &Config, key: Arc<dyn LongTermKey>, kept: Kept) -> anyhow::Result<Credentials> {
    let own = own::read(config, &key)?;
    judge(config, key, own, kept)
}

/// Reads whom the configuration believes, and judges the device's own certificate for what it is to do. A CRL of a file that is
/// older than the one held is told and passed over.
///
/// # Errors
/// A file that cannot be used; exit code 4 when the certificate does not serve. Where CRLs can be fetched, one that is
/// missing or too old is no reason, and where the device can enrol anew, an end that has passed is none; what a state may
/// mend that was not looked into is none either.
pub(crate) fn judge(
    config: &Config,
    key: Arc<dyn LongTermKey>,
    own: Own,
    kept: Kept,
) -> anyhow::Result<Credentials> {
    let entries = roots(config)?;
    let clock = Clock { now: now().unix_seconds(), floor: kept.floor };
    let mut judge = Judge::new(entries, config.freshness);
    // So that CRLs of intermediates are known; what is wrong with the chain is said below.
    let learnt = judge.learn(&own.shown, clock).is_ok();
    for der in kept.crls {
        // An intermediate of others is known again when the first of them joins.
        judge.restore_crl(der, clock);
    }
    let (mut crls, mut doubts) = (Vec::new(), Vec::new());
    for path in config.trust.iter().flat_map(|t| &t.crls) {
        let said = path.display();
        for der in read_crls(path)? {
            match judge.install_crl(&der, clock) {
                Ok(_) => crls.push(der),
                // It was brought by the network or a peer; the file is as the operator left it.
                Err(e @ CrlError::RolledBack { .. }) => warn!("{said}: {e}: passed over"),
                // A kept time floor may let it in.
                Err(e @ CrlError::Future { .. }) if !kept.whole => doubts.push(format!("{said}: {e}")),
                // An intermediate of ours, perhaps; what is wrong with our chain is said below.
                Err(e @ CrlError::UnknownIssuer) if !learnt => warn!("{said}: {e}: passed over"),
                Err(e) => return Err(e).with_context(|| said.to_string()),
            }
        }
    }
    let trust = SharedTrust::new(Trust::new(judge, kept.floor));
    let device = Device::new(key, own.shown.clone(), trust)
        .with_context(|| config.credential.certificate.display().to_string())?;
    for (group, role) in duties(&config.station) {
        let path = config.credential.certificate.display();
        let Err(refusal) = device.judge_self(role, group, now()) else { continue };
        let of_crl = matches!(refusal, Refusal::CrlMissing { .. } | Refusal::CrlTooOld { .. });
        let said = format!("{path} does not serve as {role} of group {group}: {refusal}");
        if !kept.whole && (of_crl || matches!(refusal, Refusal::NotYetValid { .. })) {
            doubts.push(said);
        } else if of_crl && config.est.is_some() {
            // The network may have the CRL that is wanting; until it was fetched nobody is believed.
            warn!("{path} does not serve yet: {refusal}");
        } else if matches!(refusal, Refusal::Expired { .. }) && can_enrol(config) {
            warn!("{path} does not serve any more, a new one is asked for: {refusal}");
        } else {
            return Err(refused(said));
        }
    }
    Ok(Credentials { device, own, crls, doubts })
}

/// Whether there is what the first enrolment needs.
pub(crate) fn can_enrol(config: &Config) -> bool {
    config.est.as_ref().is_some_and(|est| est.first.is_some())
}

fn duties(station: &Station) -> Vec<(GroupId, Role)> {
    match station {
        Station::Owner(owner) => owner.groups.iter().map(|g| (g.group, Role::Owner)).collect(),
        Station::Ue(ues) => ues.iter().map(|ue| (ue.policy.group, Role::Member)).collect(),
    }
}

/// The private key of the device, or the way to it in its token.
///
/// # Errors
/// A file or token that cannot be used.
pub(crate) fn read_key(source: &KeySource) -> anyhow::Result<Arc<dyn LongTermKey>> {
    Ok(match source {
        KeySource::File(path) => {
            let text = SECRET.read_text(path).with_context(|| path.display().to_string())?;
            Arc::new(SoftwareKey::from_pkcs8_pem(&text).with_context(|| path.display().to_string())?)
        }
        KeySource::Vault { path, entry, pass_phrase } => {
            Arc::new(Vault::open(path, &vault::pass_phrase(pass_phrase)?)?.key(entry)?)
        }
        KeySource::Token(uri) => Arc::new(TokenKey::open(uri).context("credential.key")?),
    })
}

/// Whom the device believes, by where it knows that from: each may change without the other.
#[derive(Clone)]
pub(crate) struct Roots {
    trust: SharedTrust,
    known: Arc<Mutex<Known>>,
}

struct Known {
    configured: Vec<TrustEntry>,
    /// Of other networks, from the home network.
    fetched: Vec<TrustEntry>,
}

impl Roots {
    /// With those of the configuration, which `trust` has already.
    pub(super) fn new(trust: SharedTrust, configured: Vec<TrustEntry>) -> Self {
        Self { trust, known: Arc::new(Mutex::new(Known { configured, fetched: Vec::new() })) }
    }

    /// The configuration was read again. Says whether any root differs, by network or octets.
    pub(super) fn set_configured(&self, roots: Vec<TrustEntry>) -> bool {
        let mut differs = false;
        self.change(|known| {
            differs = set_of(&known.configured) != set_of(&roots);
            known.configured = roots;
        });
        differs
    }

    /// The home network was asked again.
    pub(super) fn set_fetched(&self, roots: Vec<TrustEntry>) {
        self.change(|known| known.fetched = roots);
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let mut trust = self.trust.write();
        trust.judge.set_roots(known.configured.iter().chain(&known.fetched).cloned().collect());
        let clock = Clock { now: now().unix_seconds(), floor: trust.floor };
        trust.judge.reconsider(clock);
        trust.generation += 1;
    }
}

/// In whatever order they are written.
fn set_of(roots: &[TrustEntry]) -> BTreeSet<(Plmn, &[u8])> {
    roots.iter().map(|root| (root.plmn(), root.root())).collect()
}

pub(super) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: Duration::ZERO, unix, steady: unix }
}

/// The roots of a configuration.
///
/// # Errors
/// A file that cannot be used.
pub(super) fn roots(config: &Config) -> anyhow::Result<Vec<TrustEntry>> {
    let mut entries = Vec::new();
    for trust in &config.trust {
        for root in read_certificates(&trust.root)? {
            let entry =
                TrustEntry::new(trust.plmn, &root).with_context(|| trust.root.display().to_string())?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use pc5_control::credential::Freshness;
    use pc5_control::pki::{Authority, Curve, Validity};

    use super::*;

    #[test]
    fn configured_roots_and_fetched_ones_change_without_each_other() {
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let mut root = |plmn: &str| {
            let validity = Validity::days(now().unix_seconds(), 1);
            let authority = Authority::root(plmn.parse().unwrap(), Curve::P256, validity, rng).unwrap();
            authority.trust_entry().unwrap()
        };
        let [old, new, other] = ["001-01", "001-01", "002-02"].map(&mut root);
        let judge = Judge::new(vec![old.clone()], Freshness::default());
        let trust = SharedTrust::new(Trust::new(judge, 0));
        let roots = Roots::new(trust.clone(), vec![old]);
        let are = |wanted: &[&TrustEntry]| {
            let der = |roots: &[&TrustEntry]| roots.iter().map(|r| r.root().to_vec()).collect::<Vec<_>>();
            let trust = trust.read();
            assert_eq!(der(&trust.judge.roots().iter().collect::<Vec<_>>()), der(wanted));
            trust.generation
        };
        roots.set_fetched(vec![other.clone()]);
        roots.set_configured(vec![new.clone()]);
        assert_eq!(are(&[&new, &other]), 2, "what the network gave stays, what was taken out is gone");
        roots.set_fetched(vec![]);
        assert_eq!(are(&[&new]), 3, "and does not come back");
    }
}

//! SIGHUP: the configuration is read again, checked whole, and what a running daemon can change is changed.

use anyhow::Context;
use pc5_control::credential::Clock;
use pc5_control::group_owner::{Device, DeviceError, Input};

use super::config::{self, Changes, Config};
use super::credentials::{self, Kept, Roots, now};
use super::log;
use super::own::{self, Chain, Own, SharedOwn};

/// What a reload compares with.
pub(crate) struct Reloader {
    running: Config,
    device: Device,
    roots: Roots,
    own: SharedOwn,
}

/// A good configuration, read again.
pub(crate) struct Reload {
    /// What the procedures take, in this order.
    pub inputs: Vec<Input>,
    pub changes: Changes,
}

impl Reloader {
    /// From what the daemon was started with.
    pub(crate) fn new(running: Config, device: Device, roots: Roots, own: SharedOwn) -> Self {
        Self { running, device, roots, own }
    }

    /// Reads and judges everything; only if all of it is good does anything change.
    ///
    /// # Errors
    /// What is wrong with the file, or with one that it names.
    pub(crate) fn read(&mut self) -> anyhow::Result<Reload> {
        let new = config::read(&self.running.source)?;
        let mut changes = self.running.changes(&new);
        // The network does not renew it meanwhile.
        let mut own = self.own.lock();
        let replaced = self.replaced(&new, &own, &mut changes)?;
        let judged = match &replaced {
            Some(chain) => Own { shown: chain.clone(), in_file: None },
            None => own.clone(),
        };
        let held = Kept::held(&self.device.trust);
        let read = credentials::judge(&new, self.device.key.clone(), judged, held)?;
        let roots = credentials::roots(&new)?;
        if new.log != self.running.log {
            log::set(new.log.as_deref())?;
        }

        // Files are compared by what is in them: a root may go from one that stays where it is.
        if self.roots.set_configured(roots) && self.running.trust == new.trust {
            changes.applied.push("[[trust]]".into());
        }
        {
            let mut trust = self.device.trust.write();
            trust.judge.set_freshness(new.freshness);
            trust.generation += 1;
            let clock = Clock { now: now().unix_seconds(), floor: trust.floor };
            // So that the CRL of a new intermediate of ours is taken.
            let _ = trust.judge.learn(&read.own.shown, clock);
        }
        let mut inputs = vec![Input::TrustChanged];
        inputs.extend(read.crls.into_iter().map(Input::Crl));
        if let Some(chain) = replaced.filter(|_| new.credential == self.running.credential) {
            self.running.kept_certificate().iter().for_each(|kept| own::forget(kept));
            own.in_file = Some(chain.clone());
            if own.shown != chain {
                own.shown.clone_from(&chain);
                changes.applied.push("credential.certificate".into());
                inputs.push(Input::Renewed(chain));
            }
        }
        drop(own);
        inputs.extend(changes.orders.iter().cloned().map(Input::Order));
        new.weaknesses().iter().for_each(|weakness| tracing::warn!("{weakness}"));
        self.running.take_living(&new);
        Ok(Reload { inputs, changes })
    }

    /// The certificate that is in its file now, if it is another one than before and of the same identity and key. For
    /// one of another there is no way but a restart: the key was read before rights were given up.
    fn replaced(&self, new: &Config, own: &Own, changes: &mut Changes) -> anyhow::Result<Option<Chain>> {
        let elsewhere = new.credential != self.running.credential;
        let found = own::in_file(new)?.filter(|found| elsewhere || own.in_file.as_ref() != Some(found));
        let Some(found) = found else { return Ok(None) };
        match self.device.renewed(found.clone()) {
            Ok(_) => Ok(Some(found)),
            Err(DeviceError::OtherKey | DeviceError::OtherIdentity(_)) => {
                if !elsewhere {
                    changes.restart.push("credential.certificate, of another key or identity".into());
                }
                Ok(None)
            }
            Err(e) => Err(e).with_context(|| new.credential.certificate.display().to_string()),
        }
    }
}

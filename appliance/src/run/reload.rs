//! SIGHUP: the configuration is read again, checked whole, and what a running daemon can change is changed.

use std::sync::Arc;

use pc5_control::credential::LongTermKey;
use pc5_control::group_owner::{Input, SharedTrust};

use super::config::{self, Changes, Config};
use super::credentials::{self, Kept, Roots};
use super::log;

/// What a reload compares with.
pub(crate) struct Reloader {
    running: Config,
    key: Arc<dyn LongTermKey>,
    trust: SharedTrust,
    roots: Roots,
}

/// A good configuration, read again.
pub(crate) struct Reload {
    /// What the procedures take, in this order.
    pub inputs: Vec<Input>,
    pub changes: Changes,
}

impl Reloader {
    /// From what the daemon was started with.
    pub(crate) fn new(running: Config, key: Arc<dyn LongTermKey>, trust: SharedTrust, roots: Roots) -> Self {
        Self { running, key, trust, roots }
    }

    /// Reads and judges everything; only if all of it is good does anything change.
    ///
    /// # Errors
    /// What is wrong with the file, or with one that it names.
    pub(crate) fn read(&mut self) -> anyhow::Result<Reload> {
        let new = config::read(&self.running.source)?;
        let read = credentials::read(&new, self.key.clone(), Kept::held(&self.trust))?;
        let roots = credentials::roots(&new)?;

        let changes = self.running.changes(&new);
        if new.log != self.running.log {
            log::set(new.log.as_deref())?;
        }
        self.trust.write().judge.set_freshness(new.freshness);
        // Also where the files are the same: what they hold may be something else.
        self.roots.set_configured(roots);
        let mut inputs = vec![Input::TrustChanged];
        inputs.extend(read.crls.into_iter().map(Input::Crl));
        inputs.extend(changes.orders.iter().cloned().map(Input::Order));
        self.running.take_living(&new);
        Ok(Reload { inputs, changes })
    }
}

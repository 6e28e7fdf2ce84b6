//! Who a device is and whom it believes: certificate, key, and the judge that all of its procedures share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;

use crate::clock::Now;
use crate::credential::key::LongTermKey;
use crate::credential::profile;
use crate::credential::{
    Clock, Credential, CrlStatus, Identity, Judge, Leaf, Need, ProfileError, Refusal, Role, Standing,
};

/// Roots, CRLs and the time floor of a device.
pub struct Trust {
    /// Judges chains; holds roots and CRLs.
    pub judge: Judge,
    /// The newest thisUpdate or notBefore ever authenticated.
    pub floor: UnixSeconds,
    /// Rises with every change of roots or CRLs: live peers are judged again then.
    pub generation: u64,
}

impl Trust {
    /// With the time floor that the store kept.
    pub fn new(judge: Judge, floor: UnixSeconds) -> Self {
        Self { judge, floor, generation: 0 }
    }
}

/// Trust as several procedures share it.
#[derive(Clone)]
pub struct SharedTrust(Arc<RwLock<Trust>>);

impl SharedTrust {
    /// Takes it in.
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(RwLock::new(trust)))
    }

    /// To look at. What a panicking thread left is as good as before: every change is one assignment.
    pub fn read(&self) -> RwLockReadGuard<'_, Trust> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands with every issuer's CRL now.
    pub fn crl_status(&self, now: Now) -> Vec<CrlStatus> {
        let trust = self.read();
        trust.judge.crl_status(clock(&trust, now))
    }

    /// To change; whoever changes roots or CRLs raises the generation.
    pub fn write(&self) -> RwLockWriteGuard<'_, Trust> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device's certificate does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No certificate at all.
    #[error("a certificate is wanted")]
    NoCertificate,
    /// Out of profile.
    #[error("own certificate: {0}")]
    Profile(#[from] ProfileError),
    /// Another key's.
    #[error("the certificate is not of this private key")]
    OtherKey,
    /// A renewed one is somebody else's.
    #[error("the renewed certificate is of {0}")]
    OtherIdentity(Identity),
}

/// A device: its certificate, its long-term key, whom it believes.
#[derive(Clone)]
pub struct Device {
    /// Signs, and opens HPKE.
    pub key: Arc<dyn LongTermKey>,
    /// DER, leaf first, root left out.
    pub chain: Arc<[Vec<u8>]>,
    /// Its identity.
    pub identity: Identity,
    /// Whom it believes.
    pub trust: SharedTrust,
}

impl Device {
    /// From a certificate and its key.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn new(
        key: Arc<dyn LongTermKey>,
        chain: Vec<Vec<u8>>,
        trust: SharedTrust,
    ) -> Result<Self, DeviceError> {
        let claimed = profile::leaf(chain.first().ok_or(DeviceError::NoCertificate)?)?;
        if claimed.public_key != *key.public_key() {
            return Err(DeviceError::OtherKey);
        }
        Ok(Self { key, chain: chain.into(), identity: claimed.identity, trust })
    }

    /// Takes a renewed certificate of the same identity and key.
    ///
    /// # Errors
    /// [`DeviceError`]; what was shown before is shown on.
    pub fn renew(&mut self, chain: Vec<Vec<u8>>) -> Result<(), DeviceError> {
        *self = self.renewed(chain)?;
        Ok(())
    }

    /// The same device with another certificate.
    ///
    /// # Errors
    /// [`DeviceError`] when it is of another identity or key.
    pub fn renewed(&self, chain: Vec<Vec<u8>>) -> Result<Self, DeviceError> {
        let renewed = Self::new(self.key.clone(), chain, self.trust.clone())?;
        if renewed.identity != self.identity {
            return Err(DeviceError::OtherIdentity(renewed.identity));
        }
        Ok(renewed)
    }

    /// What it shows in handshakes.
    pub fn credential(&self) -> Credential {
        Credential { chain: self.chain.to_vec(), crls_held: self.trust.read().judge.crls_held() }
    }

    /// Judges a peer at this time. Where only the CRL of an intermediate is wanting, that intermediate is learnt: else no CRL
    /// of its could ever be taken.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&self, chain: &[Vec<u8>], role: Role, group: GroupId, now: Now) -> Result<Leaf, Refusal> {
        let judged = || {
            let trust = self.trust.read();
            trust.judge.judge(chain, Need { role, group: Some(group) }, clock(&trust, now))
        };
        match judged() {
            // A CRL that was stored may serve now.
            Err(Refusal::CrlMissing { .. }) if self.learn(chain, now) => judged(),
            judged => judged,
        }
    }

    /// Judges a live peer again.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge_again(&self, leaf: &Leaf, role: Role, group: GroupId, now: Now) -> Result<bool, Refusal> {
        let trust = self.trust.read();
        trust.judge.judge_again(leaf, Need { role, group: Some(group) }, clock(&trust, now))
    }

    /// How far a live peer's CRLs may be relied on now.
    pub fn standing(&self, leaf: &Leaf, now: Now) -> Standing {
        let trust = self.trust.read();
        trust.judge.standing(leaf, clock(&trust, now))
    }

    /// Remembers the intermediates of a chain, so that their CRLs can be taken. Returns whether there was a new one.
    pub(crate) fn learn(&self, chain: &[Vec<u8>], now: Now) -> bool {
        if chain.len() < 2 {
            return false;
        }
        let mut trust = self.trust.write();
        let clock = clock(&trust, now);
        // What cannot be learnt is only a CRL that cannot be taken, or handed on.
        trust.judge.learn(chain, clock).is_ok_and(|new| new > 0)
    }

    /// Whether our own certificate is good for a role now.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge_self(&self, role: Role, group: GroupId, now: Now) -> Result<Leaf, Refusal> {
        self.judge(&self.chain, role, group, now)
    }
}

fn clock(trust: &Trust, now: Now) -> Clock {
    Clock { now: now.unix_seconds(), floor: trust.floor }
}

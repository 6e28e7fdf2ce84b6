//! What must outlive a restart, written before it is used. Source: `go-mode.md` sections 1, 5 and 8; `design.md` 4.
//!
//! Nothing here is a key: session keys are never stored, and an owner's group keys end with it. What a procedure has
//! not got on disk it does not send, so a store that fails stops handing out, never repeats.

pub mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pc5_dataplane::ids::{GroupId, Layer2Id, PtkId};
use pc5_dataplane::keys::UnixSeconds;

use crate::credential::{Identity, IssuerId};

/// A Layer-2 id and the one identity that it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Group.
    pub group: GroupId,
    /// The Layer-2 id.
    pub layer2: Layer2Id,
    /// Whose it is.
    pub identity: Identity,
    /// End of the last PGK given to it: nobody else gets the Layer-2 id before.
    pub until: UnixSeconds,
}

/// PTK identities given to a sender under one epoch's PGK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// To whom.
    pub sender: Layer2Id,
    /// The newest identity given.
    pub last: PtkId,
}

/// Epochs below the reserved ones whose grants are kept. They are of use while their PGK lives, and 31 epochs on its
/// PGK id is another's.
const GRANTS_KEPT: u64 = 64;

/// The write did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state could not be written: {0}")]
pub struct StoreError(pub String);

/// Durable state of one device. When a call returns `Ok`, the change survives a loss of power.
pub trait Store: Send {
    /// Highest epoch reserved of a group; 0 at first. A start goes on above it.
    fn epochs_reserved(&self, group: GroupId) -> u64;

    /// Reserves epochs up to and with `through`.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is reserved.
    fn reserve_epochs(&mut self, group: GroupId, through: u64) -> Result<(), StoreError>;

    /// Remembers grants under the PGK of `epoch` before they are sent.
    ///
    /// # Errors
    /// [`StoreError`]: none of them may be sent.
    fn record_grants(&mut self, group: GroupId, epoch: u64, grants: &[Granted]) -> Result<(), StoreError>;

    /// All bindings of a group.
    fn bindings(&self, group: GroupId) -> Vec<Binding>;

    /// Adds or replaces the binding of a Layer-2 id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn bind(&mut self, binding: Binding) -> Result<(), StoreError>;

    /// Removes one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn unbind(&mut self, group: GroupId, layer2: Layer2Id) -> Result<(), StoreError>;

    /// Identities that are not admitted to a group.
    fn evicted(&self, group: GroupId) -> BTreeSet<Identity>;

    /// Evicts (`true`) or admits again (`false`).
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_evicted(&mut self, group: GroupId, identity: &Identity, evicted: bool) -> Result<(), StoreError>;

    /// The newest thisUpdate or notBefore ever authenticated.
    fn time_floor(&self) -> UnixSeconds;

    /// Raises it; a lower value changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    fn raise_time_floor(&mut self, to: UnixSeconds) -> Result<(), StoreError>;

    /// The CRLs kept, DER.
    fn crls(&self) -> Vec<Vec<u8>>;

    /// Keeps the CRL of an issuer instead of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    fn keep_crl(&mut self, issuer: &IssuerId, der: &[u8]) -> Result<(), StoreError>;
}

/// A store that forgets: for tests, and for runs whose keys end with the process.
#[derive(Default, Clone, Debug)]
pub struct MemoryStore {
    epochs: BTreeMap<GroupId, u64>,
    grants: BTreeMap<(GroupId, u64, Layer2Id), PtkId>,
    bindings: BTreeMap<(GroupId, Layer2Id), Binding>,
    evicted: BTreeMap<GroupId, BTreeSet<Identity>>,
    floor: UnixSeconds,
    crls: BTreeMap<IssuerId, Vec<u8>>,
    /// Lets every write fail, for tests of what happens then.
    pub broken: bool,
}

impl MemoryStore {
    fn writable(&self) -> Result<(), StoreError> {
        if self.broken { Err(StoreError("the store is broken".into())) } else { Ok(()) }
    }

    /// Newest identity recorded for a sender under an epoch.
    pub fn granted(&self, group: GroupId, epoch: u64, sender: Layer2Id) -> Option<PtkId> {
        self.grants.get(&(group, epoch, sender)).copied()
    }
}

impl Store for MemoryStore {
    fn epochs_reserved(&self, group: GroupId) -> u64 {
        self.epochs.get(&group).copied().unwrap_or(0)
    }

    fn reserve_epochs(&mut self, group: GroupId, through: u64) -> Result<(), StoreError> {
        self.writable()?;
        let reserved = through.max(self.epochs_reserved(group));
        self.epochs.insert(group, reserved);
        self.grants.retain(|&(g, epoch, _), _| g != group || epoch.saturating_add(GRANTS_KEPT) > reserved);
        Ok(())
    }

    fn record_grants(&mut self, group: GroupId, epoch: u64, grants: &[Granted]) -> Result<(), StoreError> {
        self.writable()?;
        self.grants.extend(grants.iter().map(|g| ((group, epoch, g.sender), g.last)));
        Ok(())
    }

    fn bindings(&self, group: GroupId) -> Vec<Binding> {
        self.bindings.values().filter(|b| b.group == group).cloned().collect()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), StoreError> {
        self.writable()?;
        self.bindings.insert((binding.group, binding.layer2), binding);
        Ok(())
    }

    fn unbind(&mut self, group: GroupId, layer2: Layer2Id) -> Result<(), StoreError> {
        self.writable()?;
        self.bindings.remove(&(group, layer2));
        Ok(())
    }

    fn evicted(&self, group: GroupId) -> BTreeSet<Identity> {
        self.evicted.get(&group).cloned().unwrap_or_default()
    }

    fn set_evicted(&mut self, group: GroupId, identity: &Identity, evicted: bool) -> Result<(), StoreError> {
        self.writable()?;
        let list = self.evicted.entry(group).or_default();
        if evicted {
            list.insert(identity.clone());
        } else {
            list.remove(identity);
        }
        Ok(())
    }

    fn time_floor(&self) -> UnixSeconds {
        self.floor
    }

    fn raise_time_floor(&mut self, to: UnixSeconds) -> Result<(), StoreError> {
        self.writable()?;
        self.floor = to.max(self.floor);
        Ok(())
    }

    fn crls(&self) -> Vec<Vec<u8>> {
        self.crls.values().cloned().collect()
    }

    fn keep_crl(&mut self, issuer: &IssuerId, der: &[u8]) -> Result<(), StoreError> {
        self.writable()?;
        self.crls.insert(*issuer, der.to_vec());
        Ok(())
    }
}

/// One store that several procedures of a device share.
#[derive(Clone)]
pub struct SharedStore(Arc<Mutex<Box<dyn Store>>>);

impl SharedStore {
    /// Takes it in.
    pub fn new(store: Box<dyn Store>) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// What a panicking procedure left is as good as before: every write is whole or not at all.
    fn store(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SharedStore {
    fn epochs_reserved(&self, group: GroupId) -> u64 {
        self.store().epochs_reserved(group)
    }

    fn reserve_epochs(&mut self, group: GroupId, through: u64) -> Result<(), StoreError> {
        self.store().reserve_epochs(group, through)
    }

    fn record_grants(&mut self, group: GroupId, epoch: u64, grants: &[Granted]) -> Result<(), StoreError> {
        self.store().record_grants(group, epoch, grants)
    }

    fn bindings(&self, group: GroupId) -> Vec<Binding> {
        self.store().bindings(group)
    }

    fn bind(&mut self, binding: Binding) -> Result<(), StoreError> {
        self.store().bind(binding)
    }

    fn unbind(&mut self, group: GroupId, layer2: Layer2Id) -> Result<(), StoreError> {
        self.store().unbind(group, layer2)
    }

    fn evicted(&self, group: GroupId) -> BTreeSet<Identity> {
        self.store().evicted(group)
    }

    fn set_evicted(&mut self, group: GroupId, identity: &Identity, evicted: bool) -> Result<(), StoreError> {
        self.store().set_evicted(group, identity, evicted)
    }

    fn time_floor(&self) -> UnixSeconds {
        self.store().time_floor()
    }

    fn raise_time_floor(&mut self, to: UnixSeconds) -> Result<(), StoreError> {
        self.store().raise_time_floor(to)
    }

    fn crls(&self) -> Vec<Vec<u8>> {
        self.store().crls()
    }

    fn keep_crl(&mut self, issuer: &IssuerId, der: &[u8]) -> Result<(), StoreError> {
        self.store().keep_crl(issuer, der)
    }
}

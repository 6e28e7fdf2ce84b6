//! One worker's engine: its contexts and the order of the stages, nothing else.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{BURST, Batch};
use crate::cipher::Kernel;
use crate::context::Ciphers;
use crate::crypto::KernelError;
use crate::ids::{GroupId, KdSessId, Layer2Id, PgkId};
use crate::keys::table::{Change, GroupRoot, LinkRoot, SharedSnapshot, Snapshot};
use crate::keys::{Event, Floor, UnixSeconds};
use crate::pdu::Address;
use crate::receive::{ReceiveLimits, Receivers};
use crate::send::Senders;
pub use crate::share::Share;
use crate::stages;
use crate::suite::Suite;
use crate::verdict::Counters;

/// The time, read once a batch by whoever drives the engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Seconds since 1970: validity of keys.
    pub unix_seconds: UnixSeconds,
    /// Nanoseconds of a clock that only rises: budgets.
    pub monotonic_ns: u64,
}

/// What an engine is made with.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Which contexts are its own.
    pub share: Share,
    /// A kernel tier to force on every suite that has it.
    pub kernel: Option<Kernel>,
    /// Windows and budgets.
    pub receive: ReceiveLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { share: Share::WHOLE, kernel: None, receive: ReceiveLimits::default() }
    }
}

/// Contexts of one worker and the frames that go through them.
pub struct Engine {
    share: Share,
    /// Reads along with a key log: it never sends.
    monitors: bool,
    shared: SharedSnapshot,
    snapshot: Arc<Snapshot>,
    ciphers: Ciphers,
    senders: Senders,
    receivers: Receivers,
    sealed: Counters,
    opened: Counters,
    events: Vec<Event>,
}

impl Engine {
    /// An engine that follows the key table behind `shared`.
    pub fn new(shared: SharedSnapshot, config: EngineConfig) -> Self {
        Self {
            share: config.share,
            monitors: config.receive.monitor,
            shared,
            snapshot: Snapshot::empty_one(),
            ciphers: Ciphers::new(config.kernel),
            senders: Senders::new(),
            receivers: Receivers::new(config.receive),
            sealed: Counters::new(),
            opened: Counters::new(),
            events: Vec::with_capacity(64),
        }
    }

    /// Seals every undecided slot of a batch: address, LCID, SDU type and data go in; frames, or verdicts, come out.
    ///
    /// # Errors
    /// The kernel that was asked for cannot serve a suite of a new key.
    pub fn protect(&mut self, batch: &mut Batch, now: Now) -> Result<(), KernelError> {
        self.follow(now)?;
        self.protect_as_followed(batch)
    }

    /// [`Self::protect`] under the keys of the last [`Self::follow`] or [`Self::open`], for who has decided something since that
    /// hangs on them.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn protect_as_followed(&mut self, batch: &mut Batch) -> Result<(), KernelError> {
        for burst in bursts(batch) {
            stages::reserve(batch, burst, &mut self.senders, &mut self.ciphers, &mut self.events)?;
            stages::seal(batch, &self.ciphers);
        }
        stages::settle_sealed(batch, &mut self.sealed);
        self.senders.bury(&mut self.ciphers);
        Ok(())
    }

    /// Opens every undecided slot of a batch: received frames go in; SDUs, or verdicts, come out. PC5-S is handed to
    /// control as [`Event::Signalling`], protected PC5-S without leaving its octets in the batch.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn open(&mut self, batch: &mut Batch, now: Now) -> Result<(), KernelError> {
        self.follow(now)?;
        for mut burst in bursts(batch) {
            stages::parse(batch, burst.clone(), &self.receivers);
            while !burst.is_empty() {
                let (receivers, ciphers, events) = (&mut self.receivers, &mut self.ciphers, &mut self.events);
                let to = stages::lookup(batch, burst.clone(), receivers, ciphers, now, events)?;
                stages::open(batch, ciphers);
                let decided = burst.start..to;
                stages::settle_opened(batch, decided, receivers, ciphers, &mut self.opened, events);
                burst.start = to;
            }
        }
        Ok(())
    }

    /// Brings the contexts up to the newest snapshot and to the time. Sealing and opening do so by themselves.
    ///
    /// # Errors
    /// As [`Self::protect`].
    #[inline]
    pub fn follow(&mut self, now: Now) -> Result<(), KernelError> {
        if self.shared.generation() > self.snapshot.generation {
            self.catch_up()?;
        }
        self.receivers.expire(now.unix_seconds, &mut self.ciphers);
        self.senders.choose_groups(now.unix_seconds, &mut self.ciphers, &mut self.events)
    }

    #[cold]
    fn catch_up(&mut self) -> Result<(), KernelError> {
        let newest = self.shared.load();
        let before = std::mem::replace(&mut self.snapshot, newest);
        let newest = self.snapshot.clone();
        self.receivers.set_locals(newest.locals().clone());
        for change in newest.link_changes(&before) {
            self.change_link(change)?;
        }
        for change in newest.group_changes(&before) {
            self.change_group(change);
        }
        Ok(())
    }

    fn change_link(&mut self, change: Change<'_, LinkRoot>) -> Result<(), KernelError> {
        let (Change::Added(root) | Change::Updated(root) | Change::Removed(root)) = change;
        if !self.share.owns(Address::link(root.peer, root.local)) {
            return Ok(());
        }
        match change {
            Change::Added(_) => {
                if !self.monitors {
                    self.senders.add_link(root, &mut self.ciphers)?;
                }
                self.receivers.add_link(root, &mut self.ciphers)?;
            }
            Change::Updated(_) => {
                self.senders.update_link(root);
                self.receivers.update_link(root);
            }
            Change::Removed(_) => {
                self.senders.remove_link(root, &mut self.ciphers);
                self.receivers.remove_link(root, &mut self.ciphers);
            }
        }
        Ok(())
    }

    fn change_group(&mut self, change: Change<'_, GroupRoot>) {
        let (Change::Added(root) | Change::Updated(root) | Change::Removed(root)) = change;
        let sends_here = !self.monitors && self.share.owns(Address::group(root.group, root.local));
        if let Change::Removed(_) = change {
            self.receivers.remove_group(root, &mut self.ciphers);
            if sends_here {
                self.senders.remove_group(root, &mut self.ciphers);
            }
        } else {
            let is_new = matches!(change, Change::Added(_));
            self.receivers.set_group(root, is_new, &mut self.ciphers);
            if sends_here {
                self.senders.set_group(root);
            }
        }
    }

    /// Takes what control should know, in order.
    pub fn take_events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Verdicts of sealing so far.
    pub fn sealed(&self) -> &Counters {
        &self.sealed
    }

    /// Verdicts of opening so far.
    pub fn opened(&self) -> &Counters {
        &self.opened
    }

    /// What we sent under a PGK: newest PTK identity and next SN.
    pub fn sent_floor(&self, local: Layer2Id, group: GroupId, pgk_id: PgkId) -> Option<Floor> {
        self.senders.floor(local, group, pgk_id)
    }

    /// What was verified of each sender under a PGK.
    pub fn verified_floors(&self, group: GroupId, pgk_id: PgkId) -> Vec<Floor> {
        self.receivers.floors(group, pgk_id)
    }

    /// Next SN that a link's context would send.
    pub fn link_next_sn(&self, local: Layer2Id, peer: Layer2Id, id: KdSessId) -> Option<u32> {
        self.senders.link_sn(local, peer, id)
    }

    /// Receiving contexts in the table.
    pub fn receiving_contexts(&self) -> usize {
        self.receivers.len()
    }

    /// Whether a context is held whose windows are advisory because its suite has no integrity.
    pub fn has_advisory_windows(&self) -> bool {
        self.receivers.suites().any(|s| !s.has_integrity())
    }

    /// The kernel that serves a suite here.
    pub fn kernel_of(&self, suite: Suite) -> Kernel {
        self.ciphers.kernel_of(suite)
    }
}

/// Slots of a batch that go through the stages together.
fn bursts(batch: &Batch) -> impl Iterator<Item = Range<usize>> + use<> {
    let slots = batch.len();
    (0..slots).step_by(BURST).map(move |from| from..slots.min(from + BURST))
}

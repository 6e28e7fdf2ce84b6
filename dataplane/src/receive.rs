//! Receiving contexts: which key a frame claims to be under, and what a verified one changes.
//!
//! Nothing unauthenticated moves state. A PTK nobody has seen yet is derived on trial, within budgets, and enters the table
//! only once a frame verified under it. A sender that is known, by this or by another PGK of the group, is not delayed by
//! inventions: the few PTKs that its next frame may well come under are derived ahead and cost no budget, and for others it
//! has budgets that nobody unknown draws on.

use std::collections::BTreeSet;
use std::sync::Arc;

mod known;
mod ptk;
mod roots;

use known::{Remembered, SenderState};
pub(crate) use ptk::Resolved;

use crate::batch::Slot;
use crate::cipher::Job;
use crate::context::{
    Budget, Ciphers, ContextTable, FastMap, IdHash, Places, ReceiveContext, ReceiveKey, SN_HALF, Standing,
    TableView, Tokens,
};
use crate::crypto::KernelError;
use crate::ids::{GroupId, KdSessId, Layer2Id, PgkId, PtkId};
use crate::kdf::{self, FrameKeys};
use crate::keys::table::{GroupRoot, LinkRoot};
use crate::keys::{Event, Floor, LinkPhase, UnixSeconds};
use crate::pdu::{Address, Destination};
use crate::suite::Suite;
use crate::verdict::Verdict;
use crate::window::Window;

/// Own limits of receiving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiveLimits {
    /// Width of replay windows, in SNs.
    pub window: u32,
    /// PTK contexts kept of a sender.
    pub kept_ptks: usize,
    /// Unknown PTK identities tried for one known sender.
    pub per_sender: Budget,
    /// Unknown PTK identities tried by one worker: so many for known senders, and as many for all others together.
    pub per_worker: Budget,
    /// Reading along with a key log: every id is ours, and no frame is our own coming back.
    pub monitor: bool,
}

impl Default for ReceiveLimits {
    fn default() -> Self {
        Self {
            window: crate::window::limits::DEFAULT_WIDTH,
            kept_ptks: 4,
            per_sender: Budget { burst: 16, per_second: 200 },
            per_worker: Budget { burst: 256, per_second: 10_000 },
            monitor: false,
        }
    }
}

/// Every receiving context of a worker.
pub(crate) struct Receivers {
    limits: ReceiveLimits,
    contexts: Places<ReceiveContext>,
    table: ContextTable,
    /// Reading along: contexts of different keys that came with the same ids; the tag decides frame by frame.
    rivals: FastMap<ReceiveKey, Vec<u32>>,
    /// Contexts on trial in this batch.
    tentative: Vec<u32>,
    /// Contexts that left the table while frames under them were under way.
    gone: Vec<u32>,
    senders: FastMap<(Address, PgkId), SenderState>,
    /// Senders known by PGKs that are gone.
    remembered: FastMap<GroupId, Remembered>,
    groups: FastMap<GroupId, Vec<Arc<GroupRoot>>>,
    links: FastMap<Address, u32>,
    /// Our own Layer-2 ids.
    locals: Arc<BTreeSet<Layer2Id>>,
    /// For senders that nobody knows, and for those that are known.
    worker_tokens: [Option<Tokens>; 2],
    expiry: UnixSeconds,
}

impl Receivers {
    pub(crate) fn new(limits: ReceiveLimits) -> Self {
        Self {
            limits,
            contexts: Places::new(),
            table: ContextTable::new(),
            rivals: FastMap::default(),
            tentative: Vec::new(),
            gone: Vec::new(),
            senders: FastMap::default(),
            remembered: FastMap::default(),
            groups: FastMap::default(),
            links: FastMap::default(),
            locals: Arc::default(),
            worker_tokens: [None; 2],
            expiry: u64::MAX,
        }
    }

    /// What the contexts of frames are foreseen by.
    #[inline(always)]
    pub(crate) fn table(&self) -> TableView<'_> {
        self.table.view()
    }

    /// Notes in each slot of a burst the context that it most likely is for, and asks the processor for it.
    #[inline(always)]
    pub(crate) fn foresee(&self, burst: &mut [Slot]) {
        self.table.view().foresee(burst, self.contexts.as_slice());
    }

    /// Contexts by place, if those in the table are the only ones with their ids; else none.
    #[inline(always)]
    pub(crate) fn unambiguous(&self) -> &[ReceiveContext] {
        if self.rivals.is_empty() { self.contexts.as_slice() } else { &[] }
    }

    /// The context foreseen for a frame of user data, if it is the right one.
    pub(crate) fn foreseen(&self, slot: &Slot) -> Option<&ReceiveContext> {
        let foreseen = self.unambiguous().get(slot.context as usize)?;
        if foreseen.id() == ReceiveKey::of(slot) && slot.lcid.is_user() { Some(foreseen) } else { None }
    }

    pub(crate) fn find(&self, key: ReceiveKey) -> Option<u32> {
        self.table.find(self.hash(key), |c| self.contexts[c].id() == key)
    }

    #[inline(always)]
    fn hash(&self, key: ReceiveKey) -> IdHash {
        self.table.hash(key.address, key.tag)
    }

    /// Puts a context into the table in place of one with the same ids.
    fn enter(&mut self, key: ReceiveKey, context: u32) {
        self.table.set(self.hash(key), context, |c| self.contexts[c].id() == key);
    }

    /// Takes a context out of the table, if it is there.
    fn leave(&mut self, context: u32) {
        let hash = self.hash(self.contexts[context].id());
        self.table.remove(hash, context);
    }

    #[inline]
    pub(crate) fn get(&self, context: u32) -> &ReceiveContext {
        &self.contexts[context]
    }

    /// Settles usual frames, from which nothing follows but that their SNs are used, up to the first that is something else.
    /// Returns how many slots it has come through, and how many frames it has accepted.
    #[inline(always)]
    pub(crate) fn settle_usual(&mut self, slots: &mut [Slot]) -> (usize, u64) {
        let contexts = self.contexts.as_mut_slice();
        let (mut through, mut accepted) = (0, 0);
        for slot in slots.iter_mut() {
            if slot.in_hand {
                let Some(c) = contexts.get_mut(slot.context as usize) else { break };
                let usual = slot.verdict == Verdict::Pending && slot.verified && slot.lcid.is_user();
                if !(usual && c.is_usual(slot.sn()) && c.window.take_usual(slot.sn())) {
                    break;
                }
                slot.verdict = Verdict::Accepted;
                accepted += 1;
            }
            through += 1;
        }
        (through, accepted)
    }

    /// [`Self::settle_usual`] for slots that all took the short way of looking up: the jobs say what came of opening them. Returns how many
    /// frames it has accepted before one that is something else.
    #[inline(always)]
    pub(crate) fn settle_straight(&mut self, slots: &mut [Slot], jobs: &[Job]) -> usize {
        let contexts = self.contexts.as_mut_slice();
        for (n, (slot, job)) in slots.iter_mut().zip(jobs).enumerate() {
            let sn = slot.sn();
            if job.verified
                && let Some(c) = contexts.get_mut(slot.context as usize)
                && c.is_usual(sn)
                && c.window.take_usual(sn)
            {
                slot.verdict = Verdict::Accepted;
            } else {
                return n;
            }
        }
        slots.len().min(jobs.len())
    }

    /// Whether PC5-S in clear is for us: to one of our ids, or to any group (control knows which ones matter).
    pub(crate) fn hears(&self, address: Address) -> Result<(), Verdict> {
        if self.is_own(address.source()) {
            return Err(Verdict::OwnSource);
        }
        match address.destination() {
            Destination::Ue(local) if !self.is_local(local) => Err(Verdict::NotForUs),
            _ => Ok(()),
        }
    }

    fn is_own(&self, source: Layer2Id) -> bool {
        !self.limits.monitor && self.locals.contains(&source)
    }

    fn is_local(&self, id: Layer2Id) -> bool {
        self.limits.monitor || self.locals.contains(&id)
    }

    /// Decides a frame that was opened, in order of arrival, and commits what a verified one changes.
    pub(crate) fn settle(
        &mut self,
        context: u32,
        sn: u16,
        verified: bool,
        ciphers: &mut Ciphers,
        events: &mut Vec<Event>,
    ) -> Verdict {
        let c = &mut self.contexts[context];
        if c.standing == Standing::Gone {
            return Verdict::TooOldKey;
        }
        let advisory = !c.suite.has_integrity();
        match c.window.check(sn) {
            // Windows without integrity are advisory: nothing is refused as old or seen.
            Err(verdict) if !advisory => return verdict,
            Err(_) => return Verdict::Accepted,
            Ok(()) => {}
        }
        if !verified {
            return Verdict::Forged;
        }
        c.window.commit(sn);
        if !c.is_usual(sn) {
            self.verified(context, sn, ciphers, events);
        }
        Verdict::Accepted
    }

    /// Suite and receiving window of everything, for `show`: contexts now in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether any context has a suite whose windows are advisory.
    pub(crate) fn suites(&self) -> impl Iterator<Item = Suite> + '_ {
        self.contexts.iter().map(|(_, c)| c.suite)
    }
}

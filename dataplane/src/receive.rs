//! Receiving contexts: which key a frame claims to be under, and what a verified one changes.
//!
//! Nothing unauthenticated moves state. A PTK nobody has seen yet is derived on trial, within budgets, and enters the table
//! only once a frame verified under it; the successor of a sender's newest PTK is derived ahead and costs no budget, so a
//! flood of invented identities delays nobody who is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::batch::Slot;
use crate::context::{
    Budget, Ciphers, ContextTable, FastMap, IdHash, Places, ReceiveContext, ReceiveKey, SN_HALF, Standing,
    Tokens,
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
#[derive(Clone, Copy, Debug)]
pub struct ReceiveLimits {
    /// Width of replay windows, in SNs.
    pub window: u32,
    /// PTK contexts kept of a sender.
    pub kept_ptks: usize,
    /// Unknown PTK identities tried for one known sender.
    pub per_sender: Budget,
    /// Unknown PTK identities tried by one worker.
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

/// A jump of the PTK identity farther than this needs floors from the granter. Source: `design.md` section 4.
const MAX_PTK_JUMP: u16 = 1_024;

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
    groups: FastMap<GroupId, Vec<Arc<GroupRoot>>>,
    links: FastMap<Address, u32>,
    /// Our own Layer-2 ids.
    locals: Arc<BTreeSet<Layer2Id>>,
    worker_tokens: Option<Tokens>,
    expiry: UnixSeconds,
}

/// What is known of a sender under one PGK.
struct SenderState {
    /// Newest verified identity, or the granter's floor; 0 before any.
    newest: u16,
    /// Identities below are refused.
    oldest: u16,
    kept: Vec<(u16, u32)>,
    ahead: Option<u32>,
    tokens: Tokens,
}

/// What a stage does with a frame whose context is not in the table.
pub(crate) enum Resolved {
    /// Under this one, on trial.
    Context(u32),
    /// Dropped.
    Drop(Verdict),
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
            groups: FastMap::default(),
            links: FastMap::default(),
            locals: Arc::default(),
            worker_tokens: None,
            expiry: u64::MAX,
        }
    }

    /// What the context of a frame is to be foreseen by; asks the processor for that part of the table.
    #[inline(always)]
    pub(crate) fn expect(&self, key: ReceiveKey) -> IdHash {
        let hash = self.hash(key);
        self.table.prefetch(hash);
        hash
    }

    /// Notes in each slot of a burst the context that it most likely is for, and asks the processor for it.
    #[inline(always)]
    pub(crate) fn foresee(&self, burst: &mut [Slot]) {
        self.table.foresee(burst, &self.contexts);
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
    // A function of its own that calls nothing, so that what the loop needs stays in registers.
    #[inline(never)]
    pub(crate) fn settle_usual(&mut self, slots: &mut [Slot]) -> (usize, u64) {
        let contexts = self.contexts.as_mut_slice();
        let (mut through, mut accepted) = (0, 0);
        for slot in slots.iter_mut() {
            if slot.in_hand {
                let Some(c) = contexts.get_mut(slot.context as usize) else { break };
                let usual = slot.verdict == Verdict::Pending && slot.verified && slot.lcid.is_user();
                if !(usual && c.is_usual(slot.sn) && c.window.take_usual(slot.sn)) {
                    break;
                }
                slot.verdict = Verdict::Accepted;
                accepted += 1;
            }
            through += 1;
        }
        (through, accepted)
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

    /// Finds or makes a context for a frame that has none in the table.
    pub(crate) fn resolve(
        &mut self,
        key: ReceiveKey,
        now: UnixSeconds,
        now_ns: u64,
        ciphers: &mut Ciphers,
        events: &mut Vec<Event>,
    ) -> Result<Resolved, KernelError> {
        let address = key.address;
        if self.is_own(address.source()) {
            return Ok(Resolved::Drop(Verdict::OwnSource));
        }
        if let Some(&on_trial) = self.tentative.iter().find(|&&c| self.contexts[c].id() == key) {
            return Ok(Resolved::Context(on_trial));
        }
        let group = match address.destination() {
            Destination::Group(group) => group,
            Destination::Ue(local) => {
                let verdict = if !self.is_local(local) {
                    Verdict::NotForUs
                } else if self.links.contains_key(&address) {
                    Verdict::UnknownKey
                } else {
                    Verdict::UnknownSender
                };
                return Ok(Resolved::Drop(verdict));
            }
        };
        let Some(roots) = self.groups.get(&group) else { return Ok(Resolved::Drop(Verdict::NotForUs)) };
        let mut fitting = roots.iter().filter(|r| r.pgk_id.index() == key.index()).peekable();
        if fitting.peek().is_none() {
            let hint = Event::UnknownIndex { group, claimed_source: address.source(), index: key.index() };
            if events.last() != Some(&hint) {
                events.push(hint);
            }
            return Ok(Resolved::Drop(Verdict::UnknownKey));
        }
        let Some(root) = fitting.find(|r| r.permits(address.source())).cloned() else {
            return Ok(Resolved::Drop(Verdict::SenderNotPermitted));
        };
        if now > root.not_after {
            return Ok(Resolved::Drop(Verdict::KeyExpired));
        }
        match self.admit_ptk(key, &root, now_ns) {
            Ok(()) => {}
            Err(verdict) => {
                if verdict == Verdict::PtkTooFar {
                    let hint =
                        Event::FloorsWanted { group, claimed_source: address.source(), index: key.index() };
                    if events.last() != Some(&hint) {
                        events.push(hint);
                    }
                }
                return Ok(Resolved::Drop(verdict));
            }
        }
        let Some(ptk_id) = PtkId::new(key.key_id()) else { return Ok(Resolved::Drop(Verdict::Reserved)) };
        if self.limits.monitor {
            return self.derive_rivals(key, ptk_id, ciphers);
        }
        let context = self.derive(&root, address, ptk_id, Standing::Tentative, ciphers)?;
        self.tentative.push(context);
        Ok(Resolved::Context(context))
    }

    /// Reading along: a context for every PGK that fits, to stay.
    fn derive_rivals(
        &mut self,
        key: ReceiveKey,
        ptk_id: PtkId,
        ciphers: &mut Ciphers,
    ) -> Result<Resolved, KernelError> {
        let Destination::Group(group) = key.address.destination() else {
            return Ok(Resolved::Drop(Verdict::UnknownKey));
        };
        let roots = self.groups.get(&group).map_or(&[][..], |r| r);
        let fitting: Vec<_> = roots.iter().filter(|r| r.pgk_id.index() == key.index()).cloned().collect();
        let mut first = None;
        for root in fitting {
            let context = self.derive(&root, key.address, ptk_id, Standing::Entered, ciphers)?;
            self.enter_beside(key, context);
            first.get_or_insert(context);
        }
        Ok(first.map_or(Resolved::Drop(Verdict::UnknownKey), Resolved::Context))
    }

    /// Puts a context into the table, or, reading along, beside those of other keys with the same ids.
    fn enter_beside(&mut self, key: ReceiveKey, context: u32) {
        match self.find(key) {
            Some(first) if self.limits.monitor => {
                self.rivals.entry(key).or_insert_with(|| vec![first]).push(context);
            }
            _ => self.enter(key, context),
        }
    }

    /// Contexts to try a frame with, where there are several.
    #[inline]
    pub(crate) fn rivals(&self, key: ReceiveKey) -> Option<&[u32]> {
        if self.rivals.is_empty() { None } else { self.rivals.get(&key).map(|r| &r[..]) }
    }

    /// Whether an identity that is in no context may be tried.
    fn admit_ptk(&mut self, key: ReceiveKey, root: &GroupRoot, now_ns: u64) -> Result<(), Verdict> {
        let id = key.key_id();
        let limits = self.limits;
        let state = self.senders.get_mut(&(key.address, root.pgk_id));
        if root.suite.has_integrity() && !limits.monitor {
            let floor = root.floors.iter().find(|f| f.sender == key.address.source());
            let (newest, oldest) = match (&state, floor) {
                (Some(s), _) => (s.newest, s.oldest),
                (None, Some(f)) => (f.ptk_id.get(), f.ptk_id.get()),
                (None, None) => (0, 0),
            };
            if id < oldest {
                return Err(Verdict::TooOldKey);
            }
            if newest != 0 && id > newest.saturating_add(MAX_PTK_JUMP) {
                return Err(Verdict::PtkTooFar);
            }
        }
        if let Some(state) = state
            && !state.tokens.take(limits.per_sender, now_ns)
        {
            return Err(Verdict::PtkBudget);
        }
        let worker = self.worker_tokens.get_or_insert_with(|| Tokens::full(limits.per_worker, now_ns));
        if worker.take(limits.per_worker, now_ns) { Ok(()) } else { Err(Verdict::PtkBudget) }
    }

    fn derive(
        &mut self,
        root: &GroupRoot,
        address: Address,
        ptk_id: PtkId,
        standing: Standing,
        ciphers: &mut Ciphers,
    ) -> Result<u32, KernelError> {
        let ptk = kdf::ptk(&root.pgk, address.source(), ptk_id, root.group);
        let key = ciphers.insert(root.suite, &FrameKeys::from_ptk(&ptk, root.suite))?;
        let floor = root.floors.iter().find(|f| f.sender == address.source() && f.ptk_id == ptk_id);
        let window = Window::from_floor(self.limits.window, floor.map_or(0, |f| f.next_sn));
        let id = ReceiveKey::new(address, root.pgk_id.index(), ptk_id.get());
        let phase = LinkPhase::Active;
        let context = ReceiveContext {
            address: id.address,
            tag: id.tag,
            key,
            suite: root.suite,
            mac_len: root.suite.mac_len() as u8,
            direction: 0,
            standing,
            phase,
            first_seen: false,
            usual_halves: 0,
            window,
        };
        Ok(self.contexts.insert(context))
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

    /// The rarer consequences of a verified frame.
    fn verified(&mut self, context: u32, sn: u16, ciphers: &mut Ciphers, events: &mut Vec<Event>) {
        let c = &mut self.contexts[context];
        let first = !std::mem::replace(&mut c.first_seen, true);
        let id = c.id();
        let Destination::Group(group) = id.address.destination() else {
            c.usual_halves = 2;
            if first
                && let (Destination::Ue(local), Some(kd_sess)) =
                    (id.address.destination(), KdSessId::new(id.key_id()))
            {
                let peer = id.address.source();
                events.push(Event::LinkFirstVerified { local, peer, id: kd_sess });
            }
            return;
        };
        let source = id.address.source();
        let (standing, integrity) = (c.standing, c.suite.has_integrity());
        let root = self.groups.get(&group).and_then(|roots| {
            roots.iter().find(|r| r.pgk_id.index() == id.index() && r.permits(source)).cloned()
        });
        let Some(root) = root else { return };
        let state_key = (id.address, root.pgk_id);
        let limits = self.limits;
        c.usual_halves = c.usual_halves.max(1);
        if standing != Standing::Entered {
            c.standing = Standing::Entered;
            self.enter(id, context);
            self.tentative.retain(|&t| t != context);
        }
        let new_sender = !self.senders.contains_key(&state_key);
        let state = self.senders.entry(state_key).or_insert_with(|| SenderState {
            newest: 0,
            oldest: 0,
            kept: Vec::with_capacity(limits.kept_ptks + 1),
            ahead: None,
            tokens: Tokens::full(limits.per_sender, 0),
        });
        if new_sender {
            if let Some(f) = root.floors.iter().find(|f| f.sender == source) {
                (state.newest, state.oldest) = (f.ptk_id.get(), f.ptk_id.get());
            }
            events.push(Event::GroupFirstVerified {
                local: root.local,
                group,
                pgk_id: root.pgk_id,
                sender: source,
            });
        }
        if standing == Standing::Tentative {
            state.tokens.give_back();
            if let Some(worker) = &mut self.worker_tokens {
                worker.give_back();
            }
        }
        if standing == Standing::Ahead {
            state.ahead = None;
        }
        if standing != Standing::Entered {
            state.kept.push((id.key_id(), context));
            if state.kept.len() > limits.kept_ptks && !limits.monitor {
                // Without integrity identities prove nothing, so the first to come is the first to go.
                let oldest =
                    if integrity { state.kept.iter().enumerate().min_by_key(|(_, k)| k.0) } else { None };
                let i = oldest.map_or(0, |(i, _)| i);
                let (_, evicted) = state.kept.remove(i);
                if integrity {
                    state.oldest = state.kept.iter().map(|k| k.0).min().unwrap_or(0).max(state.oldest);
                }
                self.contexts[evicted].standing = Standing::Gone;
                self.contexts[evicted].usual_halves = 0;
                self.leave(evicted);
                self.gone.push(evicted);
            }
        }
        let state = self.senders.get_mut(&state_key).expect("entered above");
        if integrity && id.key_id() > state.newest {
            state.newest = id.key_id();
            if let Some(ptk_id) = PtkId::new(id.key_id()) {
                let floor = Floor { sender: source, ptk_id, next_sn: sn as u32 + 1 };
                events.push(Event::NewestPtk { local: root.local, group, pgk_id: root.pgk_id, floor });
            }
            // An identity derived ahead of an older newest is no longer the next one. Frames under it that are under
            // way are still tried, as they would be if they came later.
            if let Some(stale) = state.ahead.take() {
                self.contexts[stale].standing = Standing::Tentative;
                self.leave(stale);
                self.tentative.push(stale);
            }
        }
        let state = self.senders.get_mut(&state_key).expect("entered above");
        for &t in &self.tentative {
            let c = &mut self.contexts[t];
            if integrity
                && c.id().address == id.address
                && c.id().index() == id.index()
                && c.id().key_id() < state.oldest
            {
                c.standing = Standing::Gone;
            }
        }
        let newest = !integrity || id.key_id() == state.newest;
        if sn as u32 >= SN_HALF && newest && state.ahead.is_none() {
            let next = PtkId::new(id.key_id()).and_then(PtkId::next);
            let fresh =
                next.filter(|n| self.find(ReceiveKey::new(id.address, id.index(), n.get())).is_none());
            // Without a kernel for the suite there would be no context under way either.
            if let Some(next) = fresh
                && let Ok(ahead) = self.derive(&root, id.address, next, Standing::Ahead, ciphers)
            {
                self.enter(self.contexts[ahead].id(), ahead);
                if let Some(state) = self.senders.get_mut(&state_key) {
                    state.ahead = Some(ahead);
                }
            }
        }
        // Newest no more, or the successor is there: nothing else can follow from this context's frames.
        let done = !newest || self.senders.get(&state_key).is_some_and(|s| s.ahead.is_some());
        if integrity && sn as u32 >= SN_HALF && done {
            self.contexts[context].usual_halves = 2;
        }
    }

    /// After a pass: contexts on trial that nothing verified under, and those that left the table.
    pub(crate) fn bury(&mut self, ciphers: &mut Ciphers) {
        for context in self.tentative.drain(..).chain(self.gone.drain(..)) {
            if let Some(c) = self.contexts.remove(context) {
                ciphers.remove(c.suite, c.key);
            }
        }
    }

    /// Whether frames on trial or contexts that left are waiting for the end of the pass.
    #[inline]
    pub(crate) fn has_buried(&self) -> bool {
        !self.tentative.is_empty() || !self.gone.is_empty()
    }

    pub(crate) fn add_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) -> Result<(), KernelError> {
        let address = Address::link(root.local, root.peer);
        let key = ciphers.insert(root.suite, &FrameKeys::from_kd_sess(&root.kd_sess, root.suite))?;
        let id = ReceiveKey::new(address, 0, root.id.get());
        let context = self.contexts.insert(ReceiveContext {
            address: id.address,
            tag: id.tag,
            key,
            suite: root.suite,
            mac_len: root.suite.mac_len() as u8,
            direction: root.role.receives() as u8,
            standing: Standing::Entered,
            phase: root.phase,
            first_seen: false,
            usual_halves: 0,
            window: Window::new(self.limits.window),
        });
        self.enter_beside(id, context);
        *self.links.entry(address).or_insert(0) += 1;
        Ok(())
    }

    pub(crate) fn update_link(&mut self, root: &LinkRoot) {
        let id = ReceiveKey::new(Address::link(root.local, root.peer), 0, root.id.get());
        if let Some(context) = self.find(id) {
            self.contexts[context].phase = root.phase;
        }
    }

    pub(crate) fn remove_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) {
        let address = Address::link(root.local, root.peer);
        if let Some(context) = self.find(ReceiveKey::new(address, 0, root.id.get())) {
            self.leave(context);
            if let Some(c) = self.contexts.remove(context) {
                ciphers.remove(c.suite, c.key);
            }
        }
        if let Some(n) = self.links.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                self.links.remove(&address);
            }
        }
    }

    pub(crate) fn set_locals(&mut self, locals: Arc<BTreeSet<Layer2Id>>) {
        self.locals = locals;
    }

    pub(crate) fn set_group(&mut self, root: &Arc<GroupRoot>) {
        let roots = self.groups.entry(root.group).or_default();
        match roots.iter_mut().find(|r| r.serial == root.serial) {
            Some(r) => *r = root.clone(),
            None => roots.push(root.clone()),
        }
        self.expiry = self.expiry.min(root.not_after);
        for floor in &root.floors {
            let address = Address::group(root.group, floor.sender);
            if let Some(state) = self.senders.get_mut(&(address, root.pgk_id)) {
                // What is verified already has its window; only what never was seen is moved up to the floor.
                state.newest = state.newest.max(floor.ptk_id.get());
            }
        }
    }

    pub(crate) fn remove_group(&mut self, root: &GroupRoot, ciphers: &mut Ciphers) {
        if let Some(roots) = self.groups.get_mut(&root.group) {
            roots.retain(|r| r.serial != root.serial);
            if roots.iter().any(|r| r.pgk_id == root.pgk_id) {
                return; // another of our UEs holds the same PGK
            }
            if roots.is_empty() {
                self.groups.remove(&root.group);
            }
        }
        self.forget_senders(root.group, root.pgk_id, ciphers);
    }

    fn forget_senders(&mut self, group: GroupId, pgk_id: PgkId, ciphers: &mut Ciphers) {
        let of_group = |a: &Address| a.destination() == Destination::Group(group);
        self.senders.retain(|(address, id), _| !(of_group(address) && *id == pgk_id));
        let stale: Vec<u32> = self
            .contexts
            .iter()
            .filter(|(_, c)| of_group(&c.id().address) && c.id().index() == pgk_id.index())
            .map(|(i, _)| i)
            .collect();
        for context in stale {
            self.leave(context);
            if let Some(c) = self.contexts.remove(context) {
                ciphers.remove(c.suite, c.key);
            }
        }
    }

    /// Drops the contexts of PGKs whose time is over; the roots stay, so that such frames are named.
    pub(crate) fn expire(&mut self, now: UnixSeconds, ciphers: &mut Ciphers) {
        if now <= self.expiry {
            return;
        }
        let over: Vec<(GroupId, PgkId)> = self
            .groups
            .values()
            .flatten()
            .filter(|r| now > r.not_after)
            .map(|r| (r.group, r.pgk_id))
            .collect();
        for (group, pgk_id) in over {
            self.forget_senders(group, pgk_id, ciphers);
        }
        let ahead = self.groups.values().flatten().map(|r| r.not_after).filter(|&t| t >= now);
        self.expiry = ahead.min().unwrap_or(u64::MAX);
    }

    /// Newest verified identity and next SN of every sender under a PGK.
    pub(crate) fn floors(&self, group: GroupId, pgk_id: PgkId) -> Vec<Floor> {
        let mut floors = Vec::new();
        for ((address, id), state) in &self.senders {
            if *id == pgk_id
                && address.destination() == Destination::Group(group)
                && let Some(ptk_id) = PtkId::new(state.newest)
            {
                let kept = state.kept.iter().find(|k| k.0 == state.newest);
                let next_sn = kept.map_or(0, |k| self.contexts[k.1].window.next());
                floors.push(Floor { sender: address.source(), ptk_id, next_sn });
            }
        }
        floors.sort_by_key(|f| f.sender);
        floors
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

//! PTKs that control never hears of: derived on trial for the first frame under them, or ahead, and what their first verified
//! frame changes.

use super::known::MAX_AHEAD;
use super::*;

/// What a stage does with a frame whose context is not in the table.
pub(crate) enum Resolved {
    /// Under this one, on trial.
    Context(u32),
    /// Dropped.
    Drop(Verdict),
}

impl Receivers {
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
        let standing = match self.admit_ptk(key, &root, now_ns) {
            Ok(standing) => standing,
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
        };
        let Some(ptk_id) = PtkId::new(key.key_id()) else { return Ok(Resolved::Drop(Verdict::Reserved)) };
        if self.limits.monitor {
            return self.derive_rivals(key, ptk_id, ciphers);
        }
        let context = self.derive(&root, address, ptk_id, standing, ciphers)?;
        match self.senders.get_mut(&(address, root.pgk_id)) {
            Some(state) if standing == Standing::Ahead => {
                state.ahead.push(context);
                self.enter(key, context);
            }
            _ => self.tentative.push(context),
        }
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
    pub(super) fn enter_beside(&mut self, key: ReceiveKey, context: u32) {
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

    /// The next frame with these ids most likely opens under the same key, so that one is tried first. Without integrity every
    /// key opens everything, and their order stays.
    pub(crate) fn prefer(&mut self, key: ReceiveKey, context: u32) {
        if self.contexts[context].mac_len != 0
            && let Some(rivals) = self.rivals.get_mut(&key)
            && let Some(place) = rivals.iter().position(|&r| r == context)
        {
            rivals[..=place].rotate_right(1);
        }
    }

    /// Whether an identity that is in no context may be derived: on trial, or to stay where a known sender is expected under it.
    fn admit_ptk(&mut self, key: ReceiveKey, root: &GroupRoot, now_ns: u64) -> Result<Standing, Verdict> {
        let (id, limits) = (key.key_id(), self.limits);
        let named = (key.address, root.pgk_id);
        let proves = root.suite.has_integrity() && !limits.monitor;
        let floor = root.floors.iter().find(|f| f.sender == key.address.source());
        let known = self.senders.contains_key(&named) || (proves && self.is_known(key.address, root));
        if known {
            let state = self.senders.entry(named).or_insert_with(|| SenderState::new(&limits, floor, now_ns));
            if proves && id < state.oldest {
                return Err(Verdict::TooOldKey);
            }
            if proves && state.newest != 0 && !state.is_within_jump(id) {
                return Err(Verdict::PtkTooFar);
            }
            if proves && state.expects(id) && state.ahead.len() < MAX_AHEAD {
                return Ok(Standing::Ahead);
            }
            if !state.tokens.take(limits.per_sender, now_ns) {
                return Err(Verdict::PtkBudget);
            }
        }
        let worker = self.worker_tokens[usize::from(known)]
            .get_or_insert_with(|| Tokens::full(limits.per_worker, now_ns));
        if worker.take(limits.per_worker, now_ns) { Ok(Standing::Tentative) } else { Err(Verdict::PtkBudget) }
    }

    pub(super) fn derive(
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
            usual_end: 0,
            window,
        };
        Ok(self.contexts.insert(context))
    }

    /// The rarer consequences of a verified frame.
    pub(super) fn verified(&mut self, context: u32, sn: u16, ciphers: &mut Ciphers, events: &mut Vec<Event>) {
        let c = &mut self.contexts[context];
        let first = !std::mem::replace(&mut c.first_seen, true);
        let id = c.id();
        let Destination::Group(group) = id.address.destination() else {
            c.usual_end = ReceiveContext::NEARLY_ALL;
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
        c.usual_end = c.usual_end.max(ReceiveContext::LOWER_HALF);
        if standing != Standing::Entered {
            c.standing = Standing::Entered;
            self.enter(id, context);
            self.tentative.retain(|&t| t != context);
        }
        let known = self.senders.contains_key(&state_key);
        let state = self.senders.entry(state_key).or_insert_with(|| {
            let floor = root.floors.iter().find(|f| f.sender == source);
            SenderState::new(&limits, floor, 0)
        });
        if !std::mem::replace(&mut state.met, true) {
            events.push(Event::GroupFirstVerified {
                local: root.local,
                group,
                pgk_id: root.pgk_id,
                sender: source,
            });
        }
        if standing == Standing::Tentative {
            state.tokens.give_back();
            if let Some(worker) = &mut self.worker_tokens[usize::from(known)] {
                worker.give_back();
            }
        }
        if standing == Standing::Ahead {
            state.ahead.retain(|&a| a != context);
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
                self.contexts[evicted].usual_end = 0;
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
            // An identity derived ahead of an older newest may no longer be expected. Frames under it that are under
            // way are still tried, as they would be if they came later.
            let ahead = std::mem::take(&mut state.ahead);
            let (expected, stale): (Vec<_>, Vec<_>) =
                ahead.into_iter().partition(|&a| state.expects(self.contexts[a].id().key_id()));
            state.ahead = expected;
            for stale in stale {
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
        if sn as u32 >= SN_HALF && newest {
            self.derive_successor(&root, id, ciphers);
        }
        // Newest no more, or the successor is there: nothing else can follow from this context's frames.
        if integrity && sn as u32 >= SN_HALF && (!newest || self.successor(id).is_some()) {
            self.contexts[context].usual_end = ReceiveContext::NEARLY_ALL;
        }
    }

    fn successor(&self, id: ReceiveKey) -> Option<u32> {
        let next = PtkId::new(id.key_id()).and_then(PtkId::next)?;
        self.find(ReceiveKey::new(id.address, id.index(), next.get()))
    }

    /// Derives the PTK after this one, if it is not there.
    fn derive_successor(&mut self, root: &GroupRoot, id: ReceiveKey, ciphers: &mut Ciphers) {
        let Some(next) = PtkId::new(id.key_id()).and_then(PtkId::next) else { return };
        // Without integrity any identity passes for the newest, so that there is one successor at a time.
        let at_most = if root.suite.has_integrity() { MAX_AHEAD } else { 1 };
        let ahead = self.senders.get(&(id.address, root.pgk_id)).map_or(0, |s| s.ahead.len());
        if ahead >= at_most || self.successor(id).is_some() {
            return;
        }
        // Without a kernel for the suite there would be no context under way either.
        if let Ok(ahead) = self.derive(root, id.address, next, Standing::Ahead, ciphers) {
            self.enter(self.contexts[ahead].id(), ahead);
            if let Some(state) = self.senders.get_mut(&(id.address, root.pgk_id)) {
                state.ahead.push(ahead);
            }
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
}

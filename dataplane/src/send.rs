//! Sending contexts: which key a frame goes out under, and its COUNT, reserved before sealing and never twice.

use std::sync::Arc;

use crate::batch::Slot;
use crate::context::{
    Ciphers, ContextTable, FastMap, Places, SN_END, SN_HALF, SN_KEPT_FOR_SIGNALLING, SendContext,
};
use crate::crypto::KernelError;
use crate::ids::{GroupId, KdSessId, Layer2Id, PgkId, PtkId, SduType};
use crate::kdf::{self, FrameKeys};
use crate::keys::table::{GroupRoot, LinkRoot};
use crate::keys::{Event, Floor, LinkPhase, UnixSeconds};
use crate::pdu::{self, Address, HeaderTemplate};
use crate::verdict::Verdict;

/// Every sending context of a worker.
pub(crate) struct Senders {
    contexts: Places<SendContext>,
    /// Context that user data to an address goes out under.
    active: ContextTable,
    links: FastMap<Address, Vec<LinkSender>>,
    groups: FastMap<Address, GroupSender>,
    /// Contexts used up while frames under them were under way.
    retired: Vec<u32>,
    /// Earliest time at which another PGK becomes the right one.
    recheck_at: UnixSeconds,
}

struct LinkSender {
    serial: u64,
    id: KdSessId,
    phase: LinkPhase,
    context: u32,
    half_told: bool,
}

/// One UE's one-to-many sending to one group.
#[derive(Default)]
struct GroupSender {
    roots: Vec<GroupProgress>,
    /// Serial of the PGK in use, or [`NO_KEY`].
    serial: u64,
    current: Option<(PtkId, u32)>,
    /// The next PTK, derived before it is needed.
    ahead: Option<(PtkId, u32)>,
}

/// No PGK is usable. Serials begin at 1.
const NO_KEY: u64 = 0;

/// How far the grants under one PGK are used. It goes only forward.
struct GroupProgress {
    root: Arc<GroupRoot>,
    next: Option<PtkId>,
    half_told: bool,
    key_half_told: bool,
}

impl GroupProgress {
    fn new(root: Arc<GroupRoot>) -> Self {
        Self { root, next: PtkId::new(1), half_told: false, key_half_told: false }
    }

    /// First granted identity not used yet.
    fn available(&self) -> Option<PtkId> {
        let next = self.next?;
        self.root.grants.iter().find(|g| *g.end() >= next).map(|g| next.max(*g.start()))
    }

    fn usable(&self, sender: Layer2Id, now: UnixSeconds) -> bool {
        let r = &self.root;
        !r.retired && r.not_before <= now && now <= r.not_after && r.permits(sender)
    }
}

impl Senders {
    pub(crate) fn new() -> Self {
        Self {
            contexts: Places::new(),
            active: ContextTable::new(),
            links: FastMap::default(),
            groups: FastMap::default(),
            retired: Vec::new(),
            recheck_at: 0,
        }
    }

    /// Notes in each slot of a burst the context that user data to its address most likely goes out under, and asks the
    /// processor for it.
    #[inline(always)]
    pub(crate) fn foresee(&self, burst: &mut [Slot]) {
        let table = self.active.view();
        for slot in burst.iter_mut() {
            table.expect(slot, slot.address, 0);
        }
        table.foresee(burst, self.contexts.as_slice());
    }

    /// Contexts by place.
    #[inline(always)]
    pub(crate) fn all(&mut self) -> &mut [SendContext] {
        self.contexts.as_mut_slice()
    }

    /// The context that user data to an address goes out under, if it has a COUNT left.
    pub(crate) fn for_user_data(&self, address: Address) -> Option<u32> {
        let context = self.active(address)?;
        let c = &self.contexts[context];
        if c.next_sn < c.user_end { Some(context) } else { None }
    }

    fn active(&self, address: Address) -> Option<u32> {
        self.active.find(self.active.hash(address, 0), |c| self.contexts[c].address == address)
    }

    /// User data to an address goes out under this one from now on.
    fn activate(&mut self, address: Address, context: u32) {
        let hash = self.active.hash(address, 0);
        self.active.set(hash, context, |c| self.contexts[c].address == address);
    }

    /// No context is for user data to an address. A context leaves the table before it leaves its place.
    fn deactivate(&mut self, address: Address) {
        if let Some(context) = self.active(address) {
            self.active.remove(self.active.hash(address, 0), context);
        }
    }

    /// Why there is none, or the next one of a group sender.
    #[cold]
    pub(crate) fn after_the_last(
        &mut self,
        address: Address,
        ciphers: &mut Ciphers,
        events: &mut Vec<Event>,
    ) -> Result<Result<u32, Verdict>, KernelError> {
        if address.is_group() {
            self.next_ptk(address, ciphers, events)
        } else if self.active(address).is_some() {
            Ok(Err(Verdict::Exhausted))
        } else {
            Ok(Err(Verdict::NoKey))
        }
    }

    #[inline]
    pub(crate) fn get(&self, context: u32) -> &SendContext {
        &self.contexts[context]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, context: u32) -> &mut SendContext {
        &mut self.contexts[context]
    }

    /// Context for PC5-S on a link: the one asked for, or the one in use, or one still pending.
    pub(crate) fn for_signalling(&self, address: Address, id: u16) -> Result<u32, Verdict> {
        let senders = self.links.get(&address).ok_or(Verdict::NoKey)?;
        let may = |s: &&LinkSender| matches!(s.phase, LinkPhase::Pending | LinkPhase::Active);
        let found = if id == 0 {
            let active = senders.iter().find(|s| s.phase == LinkPhase::Active);
            active.or_else(|| senders.iter().rfind(may))
        } else {
            senders.iter().filter(may).find(|s| s.id.get() == id)
        };
        found.map(|s| s.context).ok_or(Verdict::NoKey)
    }

    /// Half of a link key's SNs are used: told once.
    pub(crate) fn half_used(&mut self, context: u32, events: &mut Vec<Event>) {
        let address = self.get(context).address;
        let Some(link) =
            self.links.get_mut(&address).and_then(|l| l.iter_mut().find(|s| s.context == context))
        else {
            return;
        };
        if !std::mem::replace(&mut link.half_told, true) {
            let peer = match address.destination() {
                crate::pdu::Destination::Ue(peer) => peer,
                crate::pdu::Destination::Group(_) => return,
            };
            events.push(Event::LinkHalfUsed { local: address.source(), peer, id: link.id });
        }
    }

    pub(crate) fn add_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) -> Result<(), KernelError> {
        let address = Address::link(root.peer, root.local);
        let key = ciphers.insert(root.suite, &FrameKeys::from_kd_sess(&root.kd_sess, root.suite))?;
        let context = self.contexts.insert(SendContext {
            header: HeaderTemplate::new(address),
            direction: root.role.sends() as u8,
            suite: root.suite,
            key,
            address,
            pdcp: pdcp_of_key(0, root.id.get()),
            next_sn: 0,
            user_end: SN_END - SN_KEPT_FOR_SIGNALLING,
            mac_len: root.suite.mac_len() as u8,
        });
        let sender =
            LinkSender { serial: root.serial, id: root.id, phase: root.phase, context, half_told: false };
        self.links.entry(address).or_default().push(sender);
        self.choose_link(address);
        Ok(())
    }

    pub(crate) fn update_link(&mut self, root: &LinkRoot) {
        let address = Address::link(root.peer, root.local);
        if let Some(s) =
            self.links.get_mut(&address).and_then(|l| l.iter_mut().find(|s| s.serial == root.serial))
        {
            s.phase = root.phase;
        }
        self.choose_link(address);
    }

    pub(crate) fn remove_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) {
        let address = Address::link(root.peer, root.local);
        let Some(link) = self.links.get_mut(&address) else { return };
        let Some(i) = link.iter().position(|s| s.serial == root.serial) else { return };
        let gone = link.remove(i).context;
        if link.is_empty() {
            self.links.remove(&address);
        }
        self.choose_link(address);
        self.remove_context(gone, ciphers);
    }

    fn choose_link(&mut self, address: Address) {
        let active = self.links.get(&address).and_then(|l| l.iter().find(|s| s.phase == LinkPhase::Active));
        match active.map(|s| s.context) {
            Some(context) => self.activate(address, context),
            None => self.deactivate(address),
        }
    }

    pub(crate) fn set_group(&mut self, root: &Arc<GroupRoot>) {
        let sender = self.groups.entry(Address::group(root.group, root.local)).or_default();
        match sender.roots.iter_mut().find(|p| p.root.serial == root.serial) {
            Some(progress) => {
                // A further grant makes its half worth telling anew.
                progress.half_told &= progress.root.grants.len() == root.grants.len();
                progress.root = root.clone();
            }
            None => sender.roots.push(GroupProgress::new(root.clone())),
        }
        self.recheck_at = 0;
    }

    pub(crate) fn remove_group(&mut self, root: &GroupRoot, ciphers: &mut Ciphers) {
        let address = Address::group(root.group, root.local);
        let Some(sender) = self.groups.get_mut(&address) else { return };
        sender.roots.retain(|p| p.root.serial != root.serial);
        if sender.serial == root.serial {
            self.drop_group_contexts(address, ciphers);
        }
        if self.groups.get(&address).is_some_and(|s| s.roots.is_empty()) {
            self.groups.remove(&address);
        }
        self.recheck_at = 0;
    }

    /// Brings every group to the PGK that is right at `now`: the usable one that expires first.
    pub(crate) fn choose_groups(
        &mut self,
        now: UnixSeconds,
        ciphers: &mut Ciphers,
        events: &mut Vec<Event>,
    ) -> Result<(), KernelError> {
        if now < self.recheck_at {
            return Ok(());
        }
        self.recheck_at = u64::MAX;
        let addresses: Vec<Address> = self.groups.keys().copied().collect();
        for address in addresses {
            let sender = &self.groups[&address];
            for p in &sender.roots {
                for change in [p.root.not_before, p.root.not_after.saturating_add(1)] {
                    if change > now {
                        self.recheck_at = self.recheck_at.min(change);
                    }
                }
            }
            let in_use = |p: &GroupProgress| p.root.serial == sender.serial && sender.current.is_some();
            let usable = sender.roots.iter().filter(|p| p.usable(address.source(), now));
            let right = usable
                .filter(|p| in_use(p) || p.available().is_some())
                .min_by_key(|p| (p.root.not_after, p.root.serial))
                .map(|p| p.root.serial);
            if right == Some(sender.serial) && sender.current.is_some() {
                continue;
            }
            self.drop_group_contexts(address, ciphers);
            if let Some(serial) = right {
                self.groups.entry(address).or_default().serial = serial;
                // What it says of an empty grant was asked just before.
                let _ = self.next_ptk(address, ciphers, events)?;
            }
        }
        Ok(())
    }

    fn drop_group_contexts(&mut self, address: Address, ciphers: &mut Ciphers) {
        self.deactivate(address);
        let Some(sender) = self.groups.get_mut(&address) else { return };
        sender.serial = NO_KEY;
        for (_, context) in [sender.current.take(), sender.ahead.take()].into_iter().flatten() {
            self.remove_context(context, ciphers);
        }
    }

    /// Moves a group sender to its next PTK.
    ///
    /// # Errors
    /// [`Verdict::NoGrant`] inside: every granted identity is used; [`Verdict::NoKey`]: no PGK to send under.
    pub(crate) fn next_ptk(
        &mut self,
        address: Address,
        ciphers: &mut Ciphers,
        events: &mut Vec<Event>,
    ) -> Result<Result<u32, Verdict>, KernelError> {
        let Some(sender) = self.groups.get_mut(&address) else { return Ok(Err(Verdict::NoKey)) };
        if sender.serial == NO_KEY {
            let lacks_grant = |p: &GroupProgress| !p.root.retired && p.root.permits(address.source());
            let verdict =
                if sender.roots.iter().any(lacks_grant) { Verdict::NoGrant } else { Verdict::NoKey };
            return Ok(Err(verdict));
        }
        let (old, ahead) = (sender.current.take(), sender.ahead.take());
        if let Some((_, old)) = old {
            self.retired.push(old);
            self.deactivate(address);
        }
        let (ptk_id, context) = match ahead {
            Some(ahead) => ahead,
            None => match self.derive_next(address, ciphers)? {
                Some(made) => made,
                None => return Ok(Err(Verdict::NoGrant)),
            },
        };
        let Some(sender) = self.groups.get_mut(&address) else { return Ok(Err(Verdict::NoKey)) };
        sender.current = Some((ptk_id, context));
        let serial = sender.serial;
        if let Some(p) = sender.roots.iter_mut().find(|p| p.root.serial == serial) {
            let (local, group, pgk_id) = (p.root.local, p.root.group, p.root.pgk_id);
            let last = p.root.grants.last();
            let half = last.is_some_and(|g| {
                ptk_id >= *g.start()
                    && (ptk_id.get() - g.start().get()) * 2 >= g.end().get() - g.start().get()
            });
            if half && !std::mem::replace(&mut p.half_told, true) {
                events.push(Event::GrantHalfUsed { local, group, pgk_id });
            }
            if ptk_id.get() >= 1 << 15 && !std::mem::replace(&mut p.key_half_told, true) {
                events.push(Event::GroupHalfUsed { local, group, pgk_id });
            }
        }
        self.activate(address, context);
        Ok(Ok(context))
    }

    /// Derives the PTK after the current one, so that moving on costs nothing.
    pub(crate) fn derive_ahead(&mut self, context: u32, ciphers: &mut Ciphers) -> Result<(), KernelError> {
        let address = self.get(context).address;
        let wanted = |s: &GroupSender| s.ahead.is_none() && s.current.is_some_and(|(_, c)| c == context);
        if self.groups.get(&address).is_some_and(wanted) {
            let made = self.derive_next(address, ciphers)?;
            if let Some(sender) = self.groups.get_mut(&address) {
                sender.ahead = made;
            }
        }
        Ok(())
    }

    /// Takes the next granted identity for good and derives its PTK.
    fn derive_next(
        &mut self,
        address: Address,
        ciphers: &mut Ciphers,
    ) -> Result<Option<(PtkId, u32)>, KernelError> {
        let Some(sender) = self.groups.get_mut(&address) else { return Ok(None) };
        let serial = sender.serial;
        let Some(progress) = sender.roots.iter_mut().find(|p| p.root.serial == serial) else {
            return Ok(None);
        };
        let Some(ptk_id) = progress.available() else { return Ok(None) };
        progress.next = ptk_id.next();
        let root = &progress.root;
        let ptk = kdf::ptk(&root.pgk, root.local, ptk_id, root.group);
        let key = ciphers.insert(root.suite, &FrameKeys::from_ptk(&ptk, root.suite))?;
        let context = self.contexts.insert(SendContext {
            header: HeaderTemplate::new(address),
            direction: 0,
            suite: root.suite,
            key,
            address,
            pdcp: pdcp_of_key(root.pgk_id.index(), ptk_id.get()),
            next_sn: 0,
            user_end: SN_END,
            mac_len: root.suite.mac_len() as u8,
        });
        Ok(Some((ptk_id, context)))
    }

    fn remove_context(&mut self, context: u32, ciphers: &mut Ciphers) {
        if let Some(gone) = self.contexts.remove(context) {
            ciphers.remove(gone.suite, gone.key);
        }
    }

    /// After a batch: contexts that moved on within it.
    pub(crate) fn bury(&mut self, ciphers: &mut Ciphers) {
        while let Some(context) = self.retired.pop() {
            self.remove_context(context, ciphers);
        }
    }

    /// Newest PTK identity and next SN of what we sent under a PGK: the owner's floor for a joiner.
    pub(crate) fn floor(&self, local: Layer2Id, group: GroupId, pgk_id: PgkId) -> Option<Floor> {
        let sender = self.groups.get(&Address::group(group, local))?;
        let root = sender.roots.iter().find(|p| p.root.serial == sender.serial && p.root.pgk_id == pgk_id)?;
        let (ptk_id, context) = sender.current?;
        Some(Floor { sender: root.root.local, ptk_id, next_sn: self.get(context).next_sn })
    }

    /// Next SN of a link's context, for `show`.
    pub(crate) fn link_sn(&self, local: Layer2Id, peer: Layer2Id, id: KdSessId) -> Option<u32> {
        let link = self.links.get(&Address::link(peer, local))?;
        link.iter().find(|s| s.id == id).map(|s| self.get(s.context).next_sn)
    }
}

/// What of the PDCP header is the same in every frame under a key.
fn pdcp_of_key(index: u8, key_id: u16) -> u64 {
    pdu::pdcp_word(SduType::Ip, index, key_id, 0)
}

/// Whether a context that used `sn` now wants its successor prepared.
pub(crate) const fn passes_half(sn: u32) -> bool {
    sn == SN_HALF
}

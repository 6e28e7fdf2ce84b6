//! Senders that are known: what is kept for them, so that inventions of others cost them nothing.

use super::*;
use crate::keys::PermittedSender;
use crate::keys::table::limits::GRANT;

/// A jump of the PTK identity farther than this needs floors from the granter. Source: `design.md` section 4.
const MAX_PTK_JUMP: u16 = 1_024;

/// Identities that a sender is expected under: the newest, its successor, the first ones of two grants.
pub(super) const MAX_AHEAD: usize = 4;

/// A sender is known for so many PGKs of its group after the last one that a frame of it verified under.
const KNOWN_FOR_PGKS: u32 = 32;

/// What is known of a sender under one PGK.
pub(super) struct SenderState {
    /// A frame verified under this PGK; else it is known by another PGK of the group, or told of.
    pub met: bool,
    /// Newest verified identity, or the granter's floor; 0 before any.
    pub newest: u16,
    /// Identities below are refused.
    pub oldest: u16,
    pub kept: Vec<(u16, u32)>,
    /// Contexts of expected identities, in the table before anything verified under them.
    pub ahead: Vec<u32>,
    pub tokens: Tokens,
}

impl SenderState {
    pub(super) fn new(limits: &ReceiveLimits, floor: Option<&Floor>, now_ns: u64) -> Self {
        let newest = floor.map_or(0, |f| f.ptk_id.get());
        Self {
            met: false,
            newest,
            oldest: newest,
            kept: Vec::with_capacity(limits.kept_ptks + 1),
            ahead: Vec::new(),
            tokens: Tokens::full(limits.per_sender, now_ns),
        }
    }

    /// Whether an identity is not too far above the newest.
    pub(super) fn is_within_jump(&self, id: u16) -> bool {
        id <= self.newest.saturating_add(MAX_PTK_JUMP)
    }

    /// Whether the sender's next frame may well come under this identity, of which there is no context: the newest one as
    /// told, its successor, or the first of a further grant. These are at most [`MAX_AHEAD`], so that each may be derived
    /// once without a budget.
    pub(super) fn expects(&self, id: u16) -> bool {
        id >= self.newest && self.is_within_jump(id) && (id - self.newest <= 1 || starts_a_grant(id))
    }
}

/// Identities are granted 512 at a time, from 1 on.
fn starts_a_grant(id: u16) -> bool {
    id % GRANT == 1
}

/// Senders of a group that frames verified of under PGKs which are gone.
#[derive(Default)]
pub(super) struct Remembered {
    /// PGKs gone that somebody was met under.
    gone: u32,
    /// How many had gone when the sender's last one did.
    senders: FastMap<Address, u32>,
}

impl Remembered {
    /// A PGK is gone, and these were met under it.
    fn remember(&mut self, met: impl Iterator<Item = Address>) {
        self.gone = self.gone.wrapping_add(1);
        let gone = self.gone;
        self.senders.extend(met.map(|address| (address, gone)));
        self.senders.retain(|_, last| gone.wrapping_sub(*last) < KNOWN_FOR_PGKS);
    }
}

impl Receivers {
    /// Whether a sender was met under any PGK of the group not long ago, or control has told of it: nobody can make such a
    /// one up.
    pub(super) fn is_known(&self, address: Address, root: &GroupRoot) -> bool {
        let source = address.source();
        let met = |id: PgkId| self.senders.get(&(address, id)).is_some_and(|s| s.met);
        root.senders == PermittedSender::Only(source)
            || root.floors.iter().any(|f| f.sender == source)
            || self.groups.get(&root.group).is_some_and(|roots| roots.iter().any(|r| met(r.pgk_id)))
            || self.remembered.get(&root.group).is_some_and(|r| r.senders.contains_key(&address))
    }

    /// Before what is known of a PGK's senders goes.
    pub(super) fn remember(&mut self, root: &GroupRoot, of_root: impl Fn(&Address) -> bool) {
        // Without integrity nobody has proved anything.
        if !root.suite.has_integrity() || self.limits.monitor {
            return;
        }
        let met =
            self.senders.iter().filter(|((address, id), s)| s.met && *id == root.pgk_id && of_root(address));
        let mut met = met.map(|((address, _), _)| *address).peekable();
        if met.peek().is_some() {
            self.remembered.entry(root.group).or_default().remember(met);
        }
    }
}

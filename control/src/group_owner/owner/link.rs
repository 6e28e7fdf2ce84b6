//! One member's link at the owner.

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Lcid};
use pc5_dataplane::kdf::KdSess;
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::suite::Suite;

use crate::clock::earlier;
use crate::credential::Leaf;
use crate::group_owner::Queue;
use crate::group_owner::rekeying::{CONTEXTS, Commanded, RETIRING};
use crate::group_owner::repeat::Repeat;
use crate::group_owner::schedule::{Bind, LinkRoot, Secret};

/// A confirmed member.
pub(super) struct MemberLink {
    pub bind: Bind,
    pub leaf: Leaf,
    pub suite: Suite,
    pub root: LinkRoot,
    /// Context in use.
    pub id: KdSessId,
    /// Replaced ones, and when they are removed.
    pub retiring: Vec<(KdSessId, Option<Duration>)>,
    /// Those of them that the link before this one had.
    pub former: Vec<KdSessId>,
    /// Commanded and not confirmed, oldest first.
    pub commanded: Vec<Commanded>,
    /// Nonce_1 of the last run that was confirmed: a late repeat of its REQUEST begins no other.
    pub last_run: Option<[u8; 16]>,
    pub kd_since: Duration,
    pub runs: u32,
    pub last_lsb: u8,
    /// A refresh is wanted by policy or operator.
    pub refresh_wanted: bool,
    pub trigger: Option<Repeat>,
    pub update: Option<Update>,
    /// Newest epoch that the join gave.
    pub given: u64,
    /// It said that it lacks what the join gave: an epoch that it can take follows, once a join.
    pub lacks_given: bool,
    /// Epochs from here ...
    pub first_epoch: u64,
    /// ... to here are acknowledged.
    pub acked: u64,
    /// Last sign of life.
    pub heard: Duration,
    /// End of the member's certificates, on our monotonic clock.
    pub until: Duration,
    pub crls: Vec<Repeat>,
    /// GROUP_KEY_REQUEST answered last.
    pub answered: Option<Answered>,
    /// Message 5 as it was right, and message 6 for repeats of it.
    pub finished_m: Secret,
    pub confirm: Vec<Bytes>,
    /// Context of the join.
    pub joined_under: KdSessId,
    /// Earliest timer set for this link.
    pub armed: Option<Duration>,
}

/// GROUP_KEY_UPDATE under way.
pub(super) struct Update {
    pub repeat: Repeat,
    /// Acknowledging this ends it.
    pub newest: u64,
}

/// GROUP_KEY_REQUEST that was answered: a repeat gets the same.
pub(super) struct Answered {
    pub seq: u16,
    pub sdus: Vec<Bytes>,
    /// No repeat comes later, and what it carries is wiped.
    pub until: Duration,
}

impl MemberLink {
    /// Whether it can open what the group is sent under `epoch`.
    pub(super) fn holds(&self, epoch: u64) -> bool {
        (self.first_epoch..=self.acked).contains(&epoch)
    }

    /// Whether a context is one of the link before, which still receives: what is said there concerns this link no more.
    pub(super) fn is_former(&self, id: KdSessId) -> bool {
        self.former.contains(&id) && self.retiring.iter().any(|(r, _)| *r == id)
    }

    /// When something about it is due.
    pub(super) fn deadline(&self, lost_after: Duration, refresh_at: Duration) -> Duration {
        let repeats = [self.trigger.as_ref(), self.update.as_ref().map(|u| &u.repeat)];
        let commanded = self.commanded.iter().filter_map(|c| c.repeat.as_ref());
        let all = repeats.into_iter().flatten().chain(commanded).chain(&self.crls);
        let repeat = all.map(Repeat::deadline).min();
        let retiring = self.retiring.iter().filter_map(|(_, at)| *at).min();
        let lost = self.heard.saturating_add(lost_after);
        // A run under way is waited for.
        let refresh = if self.is_rekeying() { None } else { Some(self.refresh_due(refresh_at)) };
        let answered = self.answered.as_ref().map(|a| a.until);
        let first = [retiring, refresh, answered].into_iter().fold(repeat, earlier);
        first.map_or(lost, |f| f.min(lost)).min(self.until)
    }

    /// Whether re-keying was asked for, or a command waits for its answer.
    pub(super) fn is_rekeying(&self) -> bool {
        self.trigger.is_some() || self.commanded.iter().any(|c| c.repeat.is_some())
    }

    /// When KD has to be refreshed: at an eighth before its end, so that a lost run or two do not matter.
    pub(super) fn refresh_due(&self, kd_lifetime: Duration) -> Duration {
        self.kd_since.saturating_add(kd_lifetime / 8 * 7)
    }

    /// KD-sess ids that live on this link.
    pub(super) fn ids(&self) -> impl Iterator<Item = KdSessId> {
        let commanded = self.commanded.iter().map(|c| c.id);
        std::iter::once(self.id).chain(self.retiring.iter().map(|(id, _)| *id)).chain(commanded)
    }

    /// Next LSB that makes no live id: it counts up, so that an id pair does not come back soon.
    pub(super) fn next_lsb(&mut self, msb: u8) -> Option<u8> {
        for step in 1..=u8::MAX {
            let lsb = self.last_lsb.wrapping_add(step);
            let id = KdSessId::from_halves(msb, lsb);
            if id.is_some_and(|id| !self.ids().any(|live| live == id)) {
                self.last_lsb = lsb;
                return Some(lsb);
            }
        }
        None
    }

    /// The table holds 4 contexts a link: replaced ones make room for another, and then those commanded. `pending` more are
    /// there, of a join under way.
    pub(super) fn make_room(&mut self, pending: usize, out: &mut Queue) {
        let Bind { member: peer, owner: local, .. } = self.bind;
        while self.ids().count() + pending >= CONTEXTS {
            let id = match (self.retiring.is_empty(), self.commanded.is_empty()) {
                (false, _) => self.retiring.remove(0).0,
                (true, false) => self.commanded.remove(0).id,
                (true, true) => return,
            };
            out.install(Command::RemoveLink { local, peer, id });
        }
    }

    /// Installs the context of a command for receiving; there is room for it.
    pub(super) fn install_commanded(&mut self, commanded: Commanded, kd_sess: KdSess, out: &mut Queue) {
        let Bind { member: peer, owner: local, .. } = self.bind;
        let (id, suite) = (commanded.id, self.suite);
        let role = pc5_dataplane::ids::LinkRole::Ue2;
        let key = LinkKey { local, peer, id, kd_sess, suite, role };
        out.install(Command::InstallLink(key, LinkPhase::ReceiveOnly));
        // Of several runs under way only the newest one is still repeated.
        self.commanded.iter_mut().for_each(|c| c.repeat = None);
        self.commanded.push(commanded);
    }

    /// First frame that verified under a context. Returns whether KD was refreshed, when it was a commanded one.
    pub(super) fn first_verified(&mut self, id: KdSessId, now: Duration, out: &mut Queue) -> Option<bool> {
        let i = self.commanded.iter().position(|c| c.id == id)?;
        let Bind { member: peer, owner: local, .. } = self.bind;
        let confirmed = self.commanded.remove(i);
        out.install(Command::SetLinkPhase { local, peer, id, phase: LinkPhase::Active });
        for other in self.commanded.drain(..) {
            out.install(Command::RemoveLink { local, peer, id: other.id });
        }
        self.retiring.push((self.id, None));
        let at = now.saturating_add(RETIRING);
        self.retiring.iter_mut().for_each(|(_, remove)| *remove = remove.or(Some(at)));
        self.id = id;
        self.runs = self.runs.saturating_add(1);
        self.trigger = None;
        self.last_run = Some(confirmed.nonce_1);
        let refreshed = confirmed.root.is_some();
        if let Some(root) = confirmed.root {
            self.root = root;
            self.kd_since = now;
            self.runs = 0;
            self.refresh_wanted = false;
        }
        // What goes out again goes under what both sides send under now.
        for repeat in self.update.iter_mut().map(|u| &mut u.repeat).chain(&mut self.crls) {
            repeat.under = None;
        }
        Some(refreshed)
    }

    /// Removes replaced contexts that are due.
    pub(super) fn remove_retired(&mut self, now: Duration, out: &mut Queue) {
        let Bind { member: peer, owner: local, .. } = self.bind;
        self.retiring.retain(|(id, at)| {
            let due = at.is_some_and(|at| at <= now);
            if due {
                out.install(Command::RemoveLink { local, peer, id: *id });
            }
            !due
        });
    }

    /// Removes every context but, where asked for, the one in use.
    pub(super) fn remove_all(&self, but: Option<KdSessId>, out: &mut Queue) {
        let Bind { member: peer, owner: local, .. } = self.bind;
        for id in self.ids().filter(|id| Some(*id) != but) {
            out.install(Command::RemoveLink { local, peer, id });
        }
    }
}

/// A link that ends: RELEASE is repeated, nothing else is exchanged.
pub(super) struct Leaving {
    pub id: KdSessId,
    pub repeat: Repeat,
}

impl Leaving {
    pub(super) fn channel() -> Lcid {
        Lcid::SIGNALLING
    }
}

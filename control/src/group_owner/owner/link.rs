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
use crate::group_owner::contexts::Contexts;
use crate::group_owner::rekeying::Commanded;
use crate::group_owner::repeat::Repeat;
use crate::group_owner::schedule::{Bind, LinkRoot, Secret};

/// A confirmed member.
pub(super) struct MemberLink {
    pub bind: Bind,
    pub leaf: Leaf,
    pub suite: Suite,
    pub root: LinkRoot,
    /// In use, and replaced.
    pub contexts: Contexts,
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

    /// When something about it is due.
    pub(super) fn deadline(&self, lost_after: Duration, refresh_at: Duration) -> Duration {
        let repeats = [self.trigger.as_ref(), self.update.as_ref().map(|u| &u.repeat)];
        let commanded = self.commanded.iter().filter_map(|c| c.repeat.as_ref());
        let all = repeats.into_iter().flatten().chain(commanded).chain(&self.crls);
        let repeat = all.map(Repeat::deadline).min();
        let lost = self.heard.saturating_add(lost_after);
        // A run under way is waited for.
        let refresh = if self.is_rekeying() { None } else { Some(self.refresh_due(refresh_at)) };
        let answered = self.answered.as_ref().map(|a| a.until);
        let first = [self.contexts.deadline(), refresh, answered].into_iter().fold(repeat, earlier);
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
        self.contexts.ids().chain(self.commanded.iter().map(|c| c.id))
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

    /// Replaced contexts make room for another one of this link, and then those commanded. `pending` more are there, of a
    /// join under way.
    pub(super) fn make_room(&mut self, pending: usize, out: &mut Queue) {
        while !self.contexts.make_room(self.commanded.len() + pending, out) && !self.commanded.is_empty() {
            let oldest = self.commanded.remove(0).id;
            self.contexts.remove(oldest, out);
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
            self.contexts.remove(other.id, out);
        }
        self.contexts.replace(id);
        self.contexts.heard_under(id, now);
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

    /// The link ends: removes every context but the one in use.
    pub(super) fn remove_others(&self, out: &mut Queue) {
        self.contexts.remove_retiring(out);
        self.commanded.iter().for_each(|c| self.contexts.remove(c.id, out));
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

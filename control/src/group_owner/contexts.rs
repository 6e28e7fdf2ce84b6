//! The contexts of a link at either side: the one in use, and replaced ones that still receive. Source: `go-mode.md`
//! sections 6, 7 (phase retiring) and 10 (4 contexts a link).
//!
//! ```text
//! in use --replaced by re-keying--> retiring --2 s after the peer's first frame under the successor--> removed
//!        --replaced by a join-----> retiring, former --2 s----------------------------------------^
//! ```

use std::time::Duration;

use pc5_dataplane::ids::{KdSessId, Layer2Id};
use pc5_dataplane::keys::Command;

use super::Queue;
use crate::clock::earlier;

/// Contexts between one of ours and a peer, as far as the link in use knows them.
pub(crate) struct Contexts {
    local: Layer2Id,
    peer: Layer2Id,
    in_use: KdSessId,
    /// Oldest first.
    retiring: Vec<Retiring>,
}

/// A replaced context, which receives only.
struct Retiring {
    id: KdSessId,
    /// Not known before the peer was heard under the successor.
    remove_at: Option<Duration>,
    /// Of the link before this one.
    former: bool,
}

impl Contexts {
    /// A new link's. `former` are those of the link that it replaces, oldest first: they still receive for a while.
    pub(crate) fn new(
        local: Layer2Id,
        peer: Layer2Id,
        in_use: KdSessId,
        former: impl IntoIterator<Item = KdSessId>,
        now: Duration,
    ) -> Self {
        let remove_at = Some(now.saturating_add(RETIRING));
        let retiring = |id| Retiring { id, remove_at, former: true };
        Self { local, peer, in_use, retiring: former.into_iter().map(retiring).collect() }
    }

    /// What is sent under.
    pub(crate) fn in_use(&self) -> KdSessId {
        self.in_use
    }

    /// All of them, oldest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = KdSessId> {
        self.retiring.iter().map(|r| r.id).chain([self.in_use])
    }

    /// Whether a context is one of the link before, which still receives: what is said there concerns this link no more.
    pub(crate) fn is_former(&self, id: KdSessId) -> bool {
        self.retiring.iter().any(|r| r.former && r.id == id)
    }

    /// The successor of a re-keying is in use from now on.
    pub(crate) fn replace(&mut self, successor: KdSessId) {
        let id = std::mem::replace(&mut self.in_use, successor);
        self.retiring.push(Retiring { id, remove_at: None, former: false });
    }

    /// The peer was heard under a context: where that is the one in use, what it replaced goes 2 s later, and not sooner
    /// because it is heard again.
    pub(crate) fn heard_under(&mut self, id: KdSessId, now: Duration) {
        if id == self.in_use {
            let at = now.saturating_add(RETIRING);
            self.retiring.iter_mut().for_each(|r| r.remove_at = r.remove_at.or(Some(at)));
        }
    }

    /// The table holds 4 contexts a link: the oldest replaced ones make room for another. `others` are there beside these,
    /// commanded or of a join under way. Returns whether there is room.
    pub(crate) fn make_room(&mut self, others: usize, out: &mut Queue) -> bool {
        while self.retiring.len() + 1 + others >= CONTEXTS {
            if self.retiring.is_empty() {
                return false;
            }
            let oldest = self.retiring.remove(0).id;
            self.remove(oldest, out);
        }
        true
    }

    /// When a replaced one goes next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.retiring.iter().map(|r| r.remove_at).fold(None, earlier)
    }

    /// Removes replaced ones that are due.
    pub(crate) fn remove_due(&mut self, now: Duration, out: &mut Queue) {
        let (local, peer) = (self.local, self.peer);
        self.retiring.retain(|Retiring { id, remove_at, .. }| {
            let due = remove_at.is_some_and(|at| at <= now);
            if due {
                out.install(Command::RemoveLink { local, peer, id: *id });
            }
            !due
        });
    }

    /// Removes the replaced ones: the link ends, and the one in use is needed to say so.
    pub(crate) fn remove_retiring(&self, out: &mut Queue) {
        self.retiring.iter().for_each(|r| self.remove(r.id, out));
    }

    /// Removes one from the table.
    pub(crate) fn remove(&self, id: KdSessId, out: &mut Queue) {
        let (local, peer) = (self.local, self.peer);
        out.install(Command::RemoveLink { local, peer, id });
    }
}

/// How long a replaced context still receives after the first frame under its successor.
const RETIRING: Duration = Duration::from_secs(2);
/// Contexts of a link.
const CONTEXTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_owner::Output;

    fn id(n: u16) -> KdSessId {
        KdSessId::new(n).expect("not 0")
    }

    fn contexts(former: &[u16]) -> Contexts {
        let [local, peer] = [1, 2].map(|n| Layer2Id::from_octets([0, 0, n]));
        Contexts::new(local, peer, id(10), former.iter().map(|n| id(*n)), Duration::ZERO)
    }

    fn removed(out: &mut Queue) -> Vec<u16> {
        std::iter::from_fn(|| out.pop())
            .map(|o| match o {
                Output::Install(Command::RemoveLink { id, .. }) => id.get(),
                _ => panic!("removes only"),
            })
            .collect()
    }

    #[test]
    fn replaced_ones_go_2_s_after_the_successor_was_heard_first() {
        let (mut c, mut out) = (contexts(&[]), Queue::default());
        c.replace(id(11));
        c.heard_under(id(10), Duration::from_secs(1));
        assert_eq!(c.deadline(), None, "heard under the old one only");
        c.heard_under(id(11), Duration::from_secs(5));
        c.heard_under(id(11), Duration::from_secs(6));
        assert_eq!(c.deadline(), Some(Duration::from_secs(7)));
        c.remove_due(Duration::from_millis(6_999), &mut out);
        assert!(removed(&mut out).is_empty());
        c.remove_due(Duration::from_secs(7), &mut out);
        assert_eq!((removed(&mut out), c.deadline()), (vec![10], None));
        assert_eq!(c.ids().collect::<Vec<_>>(), [id(11)]);
    }

    #[test]
    fn contexts_of_the_link_before_are_former_as_long_as_they_receive() {
        let (mut c, mut out) = (contexts(&[3, 4]), Queue::default());
        c.replace(id(11));
        assert!(c.is_former(id(3)) && c.is_former(id(4)));
        assert!(!c.is_former(id(10)) && !c.is_former(id(11)), "replaced on this link");
        c.remove_due(RETIRING, &mut out);
        assert_eq!(removed(&mut out), [3, 4]);
        assert!(!c.is_former(id(3)));
        assert_eq!(c.ids().collect::<Vec<_>>(), [id(10), id(11)]);
    }

    #[test]
    fn the_oldest_make_room_and_the_one_in_use_stays() {
        for others in 0..6 {
            let (mut c, mut out) = (contexts(&[3, 4]), Queue::default());
            c.replace(id(11));
            let room = c.make_room(others, &mut out);
            let left = c.ids().count() + others;
            assert_eq!(room, left < CONTEXTS, "{others} others");
            assert_eq!(removed(&mut out), [3, 4, 10][..(others + 1).min(3)], "{others} others");
            assert_eq!(c.in_use(), id(11));
        }
    }
}

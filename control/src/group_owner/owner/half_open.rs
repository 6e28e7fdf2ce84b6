//! Joins between message 2 and message 6, and what they may take up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id};
use pc5_dataplane::keys::Command;
use rand_core::CryptoRng;

use super::Core;
use super::group::{GATHERING, Group};
use crate::clock::earlier;
use crate::credential::{Identity, Leaf};
use crate::group_owner::flood::HALF_OPEN_A_SOURCE;
use crate::group_owner::join::owner::{ExpectAuthenticate, ExpectComplete, PATIENCE};

/// One of them.
pub(super) struct HalfOpen {
    /// Hash of message 1: a repeat has the same.
    pub request: [u8; 32],
    /// Hash of each message 3 that was refused, and its answer.
    pub refused: Vec<([u8; 32], Vec<Bytes>)>,
    pub state: State,
}

pub(super) enum State {
    Challenged(Box<ExpectAuthenticate>),
    Accepted(Box<ExpectComplete>),
}

impl HalfOpen {
    fn id(&self) -> KdSessId {
        match &self.state {
            State::Challenged(s) => s.id,
            State::Accepted(s) => s.agreed.id,
        }
    }

    fn accepted(&self) -> Option<&ExpectComplete> {
        match &self.state {
            State::Challenged(_) => None,
            State::Accepted(s) => Some(s),
        }
    }
}

/// All of a group.
#[derive(Default)]
pub(super) struct HalfOpenJoins {
    of: BTreeMap<Layer2Id, Vec<HalfOpen>>,
    /// In order of their age.
    order: VecDeque<(Duration, Layer2Id, [u8; 32])>,
}

impl HalfOpenJoins {
    /// Those that claim a source.
    pub(super) fn of(&self, source: Layer2Id) -> &[HalfOpen] {
        self.of.get(&source).map_or(&[], Vec::as_slice)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes one out for as long as it is worked on: [`Self::put_back`] follows.
    pub(super) fn lift(&mut self, source: Layer2Id, request: [u8; 32]) -> Option<HalfOpen> {
        let list = self.of.get_mut(&source)?;
        Some(list.remove(list.iter().position(|h| h.request == request)?))
    }

    pub(super) fn put_back(&mut self, source: Layer2Id, half_open: HalfOpen) {
        self.of.entry(source).or_default().push(half_open);
    }

    /// When the oldest one is over.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.order.front().map(|(at, ..)| *at)
    }

    fn insert(&mut self, source: Layer2Id, half_open: HalfOpen, now: Duration) {
        self.order.push_back((now.saturating_add(PATIENCE), source, half_open.request));
        self.put_back(source, half_open);
    }

    fn remove(&mut self, source: Layer2Id, which: impl FnMut(&HalfOpen) -> bool) -> Option<HalfOpen> {
        let list = self.of.get_mut(&source)?;
        let gone = list.remove(list.iter().position(which)?);
        if list.is_empty() {
            self.of.remove(&source);
        }
        self.order.retain(|(_, s, r)| *s != source || *r != gone.request);
        Some(gone)
    }

    /// Those that wait for their message 5.
    fn accepted(&self) -> impl Iterator<Item = (Layer2Id, &ExpectComplete)> {
        let all = self.of.iter().flat_map(|(source, list)| list.iter().map(|h| (*source, h)));
        all.filter_map(|(source, h)| h.accepted().map(|s| (source, s)))
    }
}

impl Group {
    /// Message 2 is out.
    pub(super) fn add_half_open(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        request: [u8; 32],
        state: ExpectAuthenticate,
        now: Duration,
    ) {
        let state = State::Challenged(Box::new(state));
        self.half_open.insert(source, HalfOpen { request, refused: Vec::new(), state }, now);
        core.half_open += 1;
    }

    /// Takes one out, the first that is `which`: it is over, or came to its end.
    pub(super) fn take_half_open(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        which: impl FnMut(&HalfOpen) -> bool,
    ) -> Option<HalfOpen> {
        let taken = self.half_open.remove(source, which)?;
        core.half_open = core.half_open.saturating_sub(1);
        Some(taken)
    }

    /// Ends one, the first that is `which`, and removes its context.
    pub(super) fn drop_half_open(
        &mut self,
        core: &mut Core,
        source: Layer2Id,
        which: impl FnMut(&HalfOpen) -> bool,
    ) -> Option<HalfOpen> {
        let gone = self.take_half_open(core, source, which)?;
        if let Some(state) = gone.accepted() {
            let (local, id) = (self.policy.owner, state.agreed.id);
            core.out.install(Command::RemoveLink { local, peer: source, id });
        }
        Some(gone)
    }

    /// Of the half-open joins that claim one source the oldest not yet authenticated goes first.
    pub(super) fn make_room_for(&mut self, core: &mut Core, source: Layer2Id) {
        let list = self.half_open.of(source);
        if list.len() >= HALF_OPEN_A_SOURCE {
            let none = list.iter().all(|h| h.accepted().is_some());
            self.drop_half_open(core, source, |h| none || h.accepted().is_none());
        }
    }

    /// A KD-sess id that lives nowhere between us and a source, not even half-open.
    pub(super) fn free_lsb<R: CryptoRng + ?Sized>(
        &self,
        source: Layer2Id,
        msb: u8,
        rng: &mut R,
    ) -> Option<u8> {
        let mut start = [0; 1];
        rng.fill_bytes(&mut start);
        let member = self.members.get(&source);
        let half_open = self.half_open.of(source);
        let taken = |id: KdSessId| {
            member.is_some_and(|m| m.ids().any(|live| live == id))
                || half_open.iter().any(|h| h.id() == id)
                || self.leaving.get(&source).is_some_and(|l| l.id == id)
        };
        (0..=u8::MAX)
            .map(|step| start[0].wrapping_add(step))
            .find(|&lsb| KdSessId::from_halves(msb, lsb).is_some_and(|id| !taken(id)))
    }

    /// Contexts of a source that wait for their message 5: one at most.
    pub(super) fn pending(&self, source: Layer2Id) -> usize {
        self.half_open.of(source).iter().filter(|h| h.accepted().is_some()).count()
    }

    /// A join that waits for its message 5 makes place for another of the same source.
    pub(super) fn drop_accepted(&mut self, core: &mut Core, source: Layer2Id) {
        while self.drop_half_open(core, source, |h| h.accepted().is_some()).is_some() {}
    }

    /// Ends joins that took too long.
    pub(super) fn expire_half_open(&mut self, core: &mut Core, now: Duration) {
        while let Some((_, source, request)) = self.half_open.order.front().filter(|(at, ..)| *at <= now) {
            let (source, request) = (*source, *request);
            if let Some(gone) = self.drop_half_open(core, source, |h| h.request == request) {
                self.gather_without(&gone, source, now);
            } else {
                // Its entry went with it.
                self.half_open.order.pop_front();
            }
        }
    }

    /// Who was given keys and never confirmed holds them all the same: it is as good as a lost member.
    fn gather_without(&mut self, gone: &HalfOpen, source: Layer2Id, now: Duration) {
        let Some(identity) = gone.accepted().map(|s| &s.leaf.identity) else { return };
        // Its earlier link lives on: what it was given is a member's.
        let member = self.members.get(&source).is_some_and(|m| m.leaf.identity == *identity);
        if !member && self.of(identity).is_empty() {
            self.gathered = earlier(self.gathered, Some(now.saturating_add(GATHERING)));
        }
    }

    /// Whose joins are under way and were judged, and from where.
    pub(super) fn joining(&self) -> Vec<(Layer2Id, Leaf)> {
        self.half_open.accepted().map(|(source, s)| (source, s.leaf.clone())).collect()
    }

    /// Ends every join under way of an identity; returns whether one was given keys.
    pub(super) fn drop_half_open_of(&mut self, core: &mut Core, identity: &Identity) -> bool {
        let of = self.half_open.accepted().filter(|(_, s)| s.leaf.identity == *identity);
        let sources: Vec<Layer2Id> = of.map(|(source, _)| source).collect();
        sources.iter().for_each(|source| self.drop_accepted(core, *source));
        !sources.is_empty()
    }
}

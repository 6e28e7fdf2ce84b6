//! The owner's side, as its driver sees it.
//!
//! ```text
//! owner/mod.rs        what comes in, whom it concerns, what is due
//!       admission.rs  the join: messages of strangers, who is let in
//!       half_open.rs  joins under way, and what they may take up
//!       group.rs      a group: epochs, their changes, who has what
//!       exchange.rs   a live link: acknowledgements, requests, re-keying, keepalive, release
//!       link.rs       what is known of a member
//!       policy.rs     new settings of a living group
//! ```

mod admission;
mod exchange;
mod group;
mod half_open;
mod link;
mod policy;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid, PgkId};
use pc5_dataplane::keys::{Command, Event, Signalling};
use pc5_dataplane::pdu::Destination;
use pc5_dataplane::suite::Suite;
use rand_core::CryptoRng;

use self::group::Group;
use super::flood::Flood;
use super::{Device, Ended, Input, Notice, Order, Output, Queue, TakenCrl};
use crate::clock::{Now, earlier};
use crate::codec::direct::ReleaseReason;
use crate::codec::go::{GoAnnounce, Message};
use crate::codec::segment::{Part, Reassembly, segment};
use crate::codec::{Body, MessageType};
use crate::credential::{Identity, Standing};
use crate::policy::{GroupPolicy, OwnerPolicy, PolicyError};
use crate::store::{Store, StoreError};

/// A group owner: all of its groups and members.
///
/// `handle` takes what happened, `poll` gives what is to be done, `deadline` says when to come back at the latest.
/// Outputs are to be done in their order: a command is applied to the key table before what follows is sent.
pub struct Owner {
    core: Core,
    groups: BTreeMap<Layer2Id, Group>,
    reassembly: Reassembly,
    /// When a member is to be looked at. Entries may be early, never late.
    timers: BinaryHeap<Reverse<(Duration, Layer2Id, Layer2Id)>>,
    trust_generation: u64,
    started: bool,
}

/// What all groups share.
struct Core {
    device: Device,
    policy: OwnerPolicy,
    store: Box<dyn Store>,
    flood: Flood,
    instance: [u8; 8],
    seq: u16,
    half_open: usize,
    out: Queue,
    /// Members whose timers have to be looked at anew.
    touched: Vec<(Layer2Id, Layer2Id)>,
}

impl Core {
    /// Cuts a message into SDUs. What cannot be encoded is a fault of ours and is told, not sent.
    fn sdus(&mut self, to: Layer2Id, body: Body) -> Vec<Bytes> {
        let seq = self.next_seq();
        let sdus = Message { seq, body }.encode().and_then(|m| segment(&m, self.policy.sdu));
        sdus.unwrap_or_else(|e| {
            self.out.ignored(to, format!("not sent: {e}"));
            Vec::new()
        })
    }

    fn next_seq(&mut self) -> u16 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn store_failed(&mut self, error: &StoreError) {
        self.out.notice(Notice::StoreFailed(error.to_string()));
    }
}

/// What can be told of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// Group.
    pub group: GroupId,
    /// Its Layer-2 id.
    pub layer2: Layer2Id,
    /// Who it is.
    pub identity: Identity,
    /// Suite of its link.
    pub suite: Suite,
    /// Context in use.
    pub id: KdSessId,
    /// Re-keyings since KD was made.
    pub runs: u32,
    /// Newest epoch acknowledged.
    pub acknowledged: u64,
    /// Since its last sign of life.
    pub silent: Duration,
    /// How far the CRLs that it is judged by may be relied on.
    pub crl: Standing,
}

impl Owner {
    /// An owner of these groups. Group keys are made at the first `handle`.
    ///
    /// # Errors
    /// [`PolicyError`] for settings that do not go together, or two groups with one Layer-2 id.
    pub fn new(
        device: Device,
        policy: OwnerPolicy,
        groups: Vec<GroupPolicy>,
        store: Box<dyn Store>,
    ) -> Result<Self, PolicyError> {
        let mut map = BTreeMap::new();
        for policy in groups {
            policy.check()?;
            let (group, owner) = (policy.group, policy.owner);
            let twice = map.values().any(|g: &Group| g.policy.group == group);
            if twice || map.contains_key(&owner) {
                let what = "every group needs an id and an owner's Layer-2 id of its own";
                return Err(PolicyError { group, what });
            }
            map.insert(owner, Group::new(policy, &*store));
        }
        let trust_generation = device.trust.read().generation;
        let core = Core {
            device,
            policy,
            store,
            flood: Flood::new(),
            instance: [0; 8],
            seq: 0,
            half_open: 0,
            out: Queue::default(),
            touched: Vec::new(),
        };
        let (reassembly, timers) = (Reassembly::default(), BinaryHeap::new());
        Ok(Self { core, groups: map, reassembly, timers, trust_generation, started: false })
    }

    /// Takes what happened.
    pub fn handle<R: CryptoRng + ?Sized>(&mut self, input: Input, now: Now, rng: &mut R) {
        if !self.started {
            self.start(now, rng);
        }
        match input {
            Input::Frame(frame) | Input::Engine(Event::Signalling(frame)) => self.frame(frame, now, rng),
            Input::Engine(event) => self.event(event, now, rng),
            Input::Order(order) => self.order(order, now, rng),
            Input::Crl(der) => self.crl(&der, now, rng),
            Input::Renewed(chain) => {
                if let Err(e) = self.core.device.renew(chain) {
                    self.core.out.notice(Notice::NotRenewed(e.to_string()));
                }
            }
            Input::TrustChanged | Input::Time => {}
            Input::Floors { group, pgk_id, floors } => {
                if let Some(group) = self.groups.values_mut().find(|g| g.policy.group == group)
                    && let Some(epoch) = group.epochs.by_pgk_id(pgk_id)
                {
                    epoch.raise_floors(&floors);
                }
            }
        }
        self.follow_trust(now, rng);
        self.due(now, rng);
    }

    /// Next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.out.pop()
    }

    /// When `handle` is to be called with [`Input::Time`] at the latest, on the monotonic clock.
    pub fn deadline(&self) -> Option<Duration> {
        let timers = self.timers.peek().map(|Reverse((at, ..))| *at);
        let groups = self.groups.values().filter_map(|g| g.deadline(self.core.policy.announce)).min();
        if self.started {
            earlier(earlier(timers, groups), self.reassembly.deadline())
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Its Layer-2 ids, one a group.
    pub fn locals(&self) -> impl Iterator<Item = Layer2Id> {
        self.groups.keys().copied()
    }

    /// Confirmed members.
    pub fn members(&self, now: Now) -> impl Iterator<Item = MemberView> {
        self.groups.values().flat_map(move |g| {
            g.members.values().map(move |m| MemberView {
                group: g.policy.group,
                layer2: m.bind.member,
                identity: m.leaf.identity.clone(),
                suite: m.suite,
                id: m.contexts.in_use(),
                runs: m.runs,
                acknowledged: m.acked,
                silent: now.monotonic.saturating_sub(m.heard),
                crl: self.core.device.standing(&m.leaf, now),
            })
        })
    }

    /// Epoch and PGK id that a group is sent under.
    pub fn group_key(&self, group: GroupId) -> Option<(u64, PgkId)> {
        let g = self.groups.values().find(|g| g.policy.group == group)?;
        g.epochs.get(g.epochs.sending).map(|e| (e.number, e.pgk_id))
    }

    /// Members whom group data reaches over their links only: they have not got the key in use yet.
    pub fn served_by_link(&self, group: GroupId) -> Vec<Layer2Id> {
        let g = self.groups.values().find(|g| g.policy.group == group);
        g.map(|g| g.by_link.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether all have acknowledged the newest epoch and nothing is under way on a link. Joins may be.
    pub fn is_settled(&self) -> bool {
        self.started && self.groups.values().all(Group::is_settled)
    }

    /// Joins that have not come to their end, of all groups.
    pub fn half_open(&self) -> usize {
        self.core.half_open
    }

    /// Those of one group.
    pub fn joining(&self, group: GroupId) -> usize {
        let g = self.groups.values().find(|g| g.policy.group == group);
        g.map_or(0, |g| g.half_open.len())
    }

    /// Messages of which parts are wanting.
    pub fn incomplete(&self) -> usize {
        self.reassembly.len()
    }

    /// Identities that are not admitted.
    pub fn evicted(&self, group: GroupId) -> Vec<Identity> {
        let g = self.groups.values().find(|g| g.policy.group == group);
        g.map(|g| g.evicted.iter().cloned().collect()).unwrap_or_default()
    }

    fn start<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.started = true;
        // Every start is another instance: members of an earlier one hold keys that nobody uses any more.
        rng.fill_bytes(&mut self.core.instance);
        for group in self.groups.values_mut() {
            self.core.out.install(Command::AddLocal(group.policy.owner));
            group.start(&mut self.core, now, rng);
        }
    }

    fn frame<R: CryptoRng + ?Sized>(&mut self, frame: Signalling, now: Now, rng: &mut R) {
        // A group address carries announcements and sessions only, and an owner is interested in neither.
        let Some(local) = frame.local else { return };
        let Some(group) = self.groups.get_mut(&local) else { return };
        let (source, under) = (frame.source, frame.under);
        if frame.lcid == Lcid::SIGNALLING {
            // Proved by the tag: a sign of life, whatever it says.
            if let Some(m) = group.members.get_mut(&source) {
                m.heard = now.monotonic;
            }
        }
        let whole = Part::decode(&frame.sdu).and_then(|part| {
            self.reassembly.take(Some(local), source, frame.lcid, under, part, now.monotonic)
        });
        let canonical = match whole {
            Ok(Some(canonical)) => canonical,
            Ok(None) => return,
            Err(e) => return self.core.out.ignored(source, e),
        };
        let message = match Message::decode(&canonical) {
            Ok(message) => message,
            Err(e) => return group.unreadable(&mut self.core, source, &canonical, &e, now),
        };
        if message.body.message_type().to_group() {
            return;
        }
        match (frame.lcid, under) {
            (Lcid::CLEAR, _) => group.clear(&mut self.core, source, &canonical, message, now, rng),
            (_, Some(under)) => {
                group.protected(&mut self.core, source, under, &canonical, message, now, rng);
            }
            (_, None) => {}
        }
    }

    fn event<R: CryptoRng + ?Sized>(&mut self, event: Event, now: Now, rng: &mut R) {
        let core = &mut self.core;
        match event {
            Event::LinkHalfUsed { local, peer, id } => {
                if let Some(group) = self.groups.get_mut(&local) {
                    group.link_half_used(core, peer, id, now);
                }
            }
            Event::LinkFirstVerified { local, peer, id } => {
                if let Some(group) = self.groups.get_mut(&local) {
                    group.first_verified(core, peer, id, now, rng);
                }
            }
            Event::GrantHalfUsed { local, pgk_id, .. } => {
                if let Some(group) = self.groups.get_mut(&local) {
                    group.grant_to_self(core, pgk_id);
                }
            }
            Event::GroupHalfUsed { local, pgk_id, .. } => {
                if let Some(group) = self.groups.get_mut(&local)
                    && group.epochs.get(group.epochs.sending).is_some_and(|e| e.pgk_id == pgk_id)
                {
                    group.change_key(core, now, rng);
                }
            }
            Event::NewestPtk { local, pgk_id, floor, .. } => {
                if let Some(group) = self.groups.get_mut(&local)
                    && let Some(epoch) = group.epochs.by_pgk_id(pgk_id)
                {
                    epoch.raise_floors(&[floor]);
                }
            }
            // An owner makes the keys: it asks nobody for them.
            Event::GroupFirstVerified { .. } | Event::UnknownIndex { .. } | Event::FloorsWanted { .. } => {}
            Event::Signalling(_) => {}
        }
    }

    fn order<R: CryptoRng + ?Sized>(&mut self, order: Order, now: Now, rng: &mut R) {
        let core = &mut self.core;
        let of = |g: GroupId| move |known: &&mut Group| known.policy.group == g;
        match order {
            Order::RekeyGroup(group) => {
                if let Some(group) = self.groups.values_mut().find(of(group)) {
                    group.order_change(core, now, rng);
                }
            }
            Order::Evict { group, identity } => {
                if let Some(group) = self.groups.values_mut().find(of(group)) {
                    group.evict(core, &identity, now, rng);
                }
            }
            Order::Readmit { group, identity } => {
                if let Some(group) = self.groups.values_mut().find(of(group)) {
                    group.readmit(core, &identity);
                }
            }
            Order::Policy(policy) => {
                if let Some(group) = self.groups.values_mut().find(of(policy.group)) {
                    group.set_policy(core, &policy, now, rng);
                }
            }
            Order::RekeyLink { peer, refresh } => {
                for group in self.groups.values_mut() {
                    group.trigger(core, peer, refresh, now);
                }
            }
            Order::Join => {}
            Order::Leave => {
                for group in self.groups.values_mut() {
                    group.release_all(core, ReleaseReason::NotAvailable, now);
                }
            }
        }
    }

    fn crl<R: CryptoRng + ?Sized>(&mut self, der: &[u8], now: Now, rng: &mut R) {
        let Core { device, store, out, .. } = &mut self.core;
        if super::take_crl(device, &mut **store, der, now, out) == TakenCrl::New {
            for group in self.groups.values_mut() {
                group.hand_on_crl(&mut self.core, der, None, now);
            }
            self.follow_trust(now, rng);
        }
    }

    /// After a change of roots or CRLs every live peer is judged again.
    fn follow_trust<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        let generation = self.core.device.trust.read().generation;
        if std::mem::replace(&mut self.trust_generation, generation) != generation {
            for group in self.groups.values_mut() {
                group.judge_all(&mut self.core, now, rng);
            }
        }
    }

    fn due<R: CryptoRng + ?Sized>(&mut self, now: Now, rng: &mut R) {
        self.reassembly.expire(now.monotonic);
        // Looking at a group can touch members and the other way round; what is new is due later.
        self.arm();
        while let Some(Reverse((at, local, peer))) = self.timers.peek().copied() {
            if at > now.monotonic {
                break;
            }
            self.timers.pop();
            if let Some(group) = self.groups.get_mut(&local) {
                group.member_due(&mut self.core, peer, now, rng);
            }
        }
        for group in self.groups.values_mut() {
            group.due(&mut self.core, now, rng);
        }
        self.arm();
    }

    /// Sets the timers of members that were touched.
    fn arm(&mut self) {
        for (local, peer) in self.core.touched.drain(..) {
            let Some(group) = self.groups.get_mut(&local) else { continue };
            if let Some(at) = group.member_deadline(peer) {
                self.timers.push(Reverse((at, local, peer)));
            }
        }
    }
}

/// GO_ANNOUNCE of a group.
fn announce(core: &mut Core, group: &Group) {
    let body = Body::GoAnnounce(GoAnnounce {
        instance: core.instance,
        epoch: group.epochs.sending,
        spread: u8::try_from(group.policy.spread.as_millis() / 100).unwrap_or(u8::MAX),
        suites: group.policy.link_suites.iter().map(|s| s.code()).collect(),
    });
    debug_assert_eq!(body.message_type(), MessageType::GoAnnounce);
    let sdus = core.sdus(group.policy.owner, body);
    core.out.send(group.policy.owner, Destination::Group(group.policy.group), Lcid::CLEAR, None, &sdus);
}

/// What the end of a link is called on the wire.
fn release_reason(why: Ended) -> ReleaseReason {
    match why {
        Ended::Left | Ended::Released(_) => ReleaseReason::NotNeeded,
        Ended::StoreFailed => ReleaseReason::NotAvailable,
        Ended::Evicted | Ended::Refused(_) | Ended::Lost | Ended::Replaced => ReleaseReason::NotAllowed,
    }
}

//! Owners and members in one thread: passes the outputs of each to the others, over a simulated link with its own
//! clock. For runs in one process, where keying is real and only the wire is not, and for tests.
//!
//! In place of the engine stands a table of link contexts that does what the engine does for PC5-S: it picks the context
//! to send under, and delivers only what the receiver holds the same key for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid};
use pc5_dataplane::kdf::KdSess;
use pc5_dataplane::keys::{Command, Event, LinkPhase, Signalling};
use pc5_dataplane::pdu::Destination;
use rand_core::CryptoRng;

use super::{Input, Member, Notice, Order, Outgoing, Output, Owner, Sessions};
use crate::clock::{Now, earlier};

/// What happens to frames on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// Lost, of a thousand.
    pub loss: u16,
    /// Delivered twice, of a thousand.
    pub duplicate: u16,
    /// Held back by up to four times the delay, of a thousand: later ones overtake.
    pub reorder: u16,
    /// From sending to delivery.
    pub delay: Duration,
}

impl Conditions {
    /// Nothing is lost, everything comes at once and in order.
    pub const PERFECT: Self = Self { loss: 0, duplicate: 0, reorder: 0, delay: Duration::ZERO };
}

/// What a run does, in order.
pub enum Effect<'a> {
    /// A key command of one of the nodes.
    Install(Command),
    /// A frame is sent; it may get lost.
    Sent(&'a Outgoing),
    /// Something happened at a node.
    Notice(Layer2Id, Notice),
}

/// One party.
enum Node {
    Owner(Box<Owner>),
    Member(Box<Member>),
    Sessions(Box<Sessions>),
}

impl Node {
    fn handle<R: CryptoRng + ?Sized>(&mut self, input: Input, now: Now, rng: &mut R) {
        match self {
            Self::Owner(o) => o.handle(input, now, rng),
            Self::Member(m) => m.handle(input, now, rng),
            Self::Sessions(s) => s.handle(input, now, rng),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Owner(o) => o.poll(),
            Self::Member(m) => m.poll(),
            Self::Sessions(s) => s.poll(),
        }
    }

    fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Owner(o) => o.deadline(),
            Self::Member(m) => m.deadline(),
            Self::Sessions(s) => s.deadline(),
        }
    }
}

/// A frame under way.
struct Flight {
    frame: Outgoing,
    /// Context and key that protect it.
    under: Option<(KdSessId, KdSess)>,
}

struct Context {
    key: KdSess,
    phase: LinkPhase,
    first_seen: bool,
    /// Order of installation.
    serial: u64,
}

/// Owners, members, and the link between them.
pub struct Lockstep {
    nodes: Vec<Node>,
    /// Layer-2 id to node.
    addresses: BTreeMap<Layer2Id, usize>,
    contexts: HashMap<(Layer2Id, Layer2Id), BTreeMap<KdSessId, Context>>,
    flights: BinaryHeap<Reverse<(Duration, u64)>>,
    in_flight: HashMap<u64, Flight>,
    serial: u64,
    now: Now,
    conditions: Conditions,
    attacker: Option<Attacker>,
}

/// Sees every frame on the wire, and may alter it; `false` takes it off.
pub type Attacker = Box<dyn FnMut(&mut Outgoing) -> bool>;

impl Lockstep {
    /// At a time, under conditions.
    pub fn new(owners: Vec<Owner>, members: Vec<Member>, now: Now, conditions: Conditions) -> Self {
        let mut run = Self {
            nodes: Vec::new(),
            addresses: BTreeMap::new(),
            contexts: HashMap::new(),
            flights: BinaryHeap::new(),
            in_flight: HashMap::new(),
            serial: 0,
            now,
            conditions,
            attacker: None,
        };
        owners.into_iter().for_each(|o| run.add_owner(o));
        members.into_iter().for_each(|m| run.add_member(m));
        run
    }

    /// Adds an owner, or puts it in place of an earlier one with its ids: a restart.
    pub fn add_owner(&mut self, owner: Owner) {
        let locals: Vec<Layer2Id> = owner.locals().collect();
        self.add(Node::Owner(Box::new(owner)), &locals);
    }

    /// Adds a member, or puts it in place of an earlier one with its id: a restart.
    pub fn add_member(&mut self, member: Member) {
        let local = member.layer2();
        self.add(Node::Member(Box::new(member)), &[local]);
    }

    /// Adds a member of a group without owner, or puts it in place of an earlier one.
    pub fn add_sessions(&mut self, sessions: Sessions) {
        let local = sessions.layer2();
        self.add(Node::Sessions(Box::new(sessions)), &[local]);
    }

    fn add(&mut self, node: Node, locals: &[Layer2Id]) {
        for local in locals {
            self.addresses.insert(*local, self.nodes.len());
            // No link context survives a restart.
            self.contexts.retain(|(l, _), _| l != local);
        }
        self.nodes.push(node);
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Other conditions from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Puts somebody into the path. A protected frame that is altered does not verify anywhere.
    pub fn set_attacker(&mut self, attacker: Option<Attacker>) {
        self.attacker = attacker;
    }

    /// The owner with a Layer-2 id.
    pub fn owner(&self, local: Layer2Id) -> Option<&Owner> {
        match self.nodes.get(*self.addresses.get(&local)?)? {
            Node::Owner(o) => Some(o),
            _ => None,
        }
    }

    /// The member with a Layer-2 id.
    pub fn member(&self, local: Layer2Id) -> Option<&Member> {
        match self.nodes.get(*self.addresses.get(&local)?)? {
            Node::Member(m) => Some(m),
            _ => None,
        }
    }

    /// The member of a group without owner that has a Layer-2 id.
    pub fn sessions(&self, local: Layer2Id) -> Option<&Sessions> {
        match self.nodes.get(*self.addresses.get(&local)?)? {
            Node::Sessions(s) => Some(s),
            _ => None,
        }
    }

    /// Live members, in the order of their Layer-2 ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.addresses.keys().filter_map(|l| self.member(*l))
    }

    /// Phases of the contexts that a node has for a peer.
    pub fn contexts(&self, local: Layer2Id, peer: Layer2Id) -> Vec<(KdSessId, LinkPhase)> {
        let contexts = self.contexts.get(&(local, peer));
        contexts.map(|c| c.iter().map(|(id, c)| (*id, c.phase)).collect()).unwrap_or_default()
    }

    /// Whether both sides of a link have the same context in use.
    pub fn agree(&self, a: Layer2Id, b: Layer2Id) -> bool {
        let active = |local, peer| {
            let contexts = self.contexts.get(&(local, peer))?;
            contexts.iter().find(|(_, c)| c.phase == LinkPhase::Active)
        };
        match (active(a, b), active(b, a)) {
            (Some((ia, ca)), Some((ib, cb))) => ia == ib && ca.key == cb.key,
            _ => false,
        }
    }

    /// Gives a node an input, and does what it wants done.
    pub fn input<R: CryptoRng + ?Sized>(
        &mut self,
        local: Layer2Id,
        input: Input,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        if let Some(&i) = self.addresses.get(&local) {
            self.nodes[i].handle(input, self.now, rng);
            self.drain(i, local, rng, effect);
        }
    }

    /// Puts a frame on the wire that no node sent.
    pub fn inject<R: CryptoRng + ?Sized>(&mut self, frame: Outgoing, rng: &mut R) {
        self.depart(frame, None, rng);
    }

    /// Lets every member join that has not. Returns whether all did within `limit`.
    pub fn join_all<R: CryptoRng + ?Sized>(
        &mut self,
        limit: Duration,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) -> bool {
        let locals: Vec<Layer2Id> = self.members().map(Member::layer2).collect();
        for local in locals {
            if self.member(local).is_some_and(|m| m.owner().is_none()) {
                self.input(local, Input::Order(Order::Join), rng, effect);
                // One after the other where the link is instantaneous: nothing piles up at the owner.
                self.deliver_due(rng, effect);
            }
        }
        self.run(limit, rng, effect, |run| run.members().all(|m| m.owner().is_some()))
    }

    /// Runs until `done`, at most for `limit` of simulated time. Returns whether it was done.
    pub fn run<R: CryptoRng + ?Sized>(
        &mut self,
        limit: Duration,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        let end = self.now.monotonic.saturating_add(limit);
        loop {
            self.deliver_due(rng, effect);
            if done(self) {
                return true;
            }
            let deadlines = self.addresses.values().filter_map(|&i| self.nodes[i].deadline()).min();
            let flight = self.flights.peek().map(|Reverse((at, _))| *at);
            let Some(next) = earlier(deadlines, flight).filter(|at| *at <= end) else {
                self.now = self.now.after(end.saturating_sub(self.now.monotonic));
                return done(self);
            };
            self.now = self.now.after(next.saturating_sub(self.now.monotonic));
            let due: Vec<(Layer2Id, usize)> = self.addresses.iter().map(|(l, i)| (*l, *i)).collect();
            for (local, i) in due {
                if self.nodes[i].deadline().is_some_and(|at| at <= self.now.monotonic) {
                    self.nodes[i].handle(Input::Time, self.now, rng);
                    self.drain(i, local, rng, effect);
                }
            }
        }
    }

    /// Runs for a time, whatever happens.
    pub fn run_for<R: CryptoRng + ?Sized>(
        &mut self,
        time: Duration,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        self.run(time, rng, effect, |_| false);
    }

    fn deliver_due<R: CryptoRng + ?Sized>(&mut self, rng: &mut R, effect: &mut dyn FnMut(Effect<'_>)) {
        while let Some(Reverse((at, serial))) = self.flights.peek().copied() {
            if at > self.now.monotonic {
                return;
            }
            self.flights.pop();
            if let Some(flight) = self.in_flight.remove(&serial) {
                self.arrive(flight, rng, effect);
            }
        }
    }

    /// Does what a node wants done.
    fn drain<R: CryptoRng + ?Sized>(
        &mut self,
        i: usize,
        local: Layer2Id,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        while let Some(output) = self.nodes[i].poll() {
            match output {
                Output::Install(command) => {
                    self.apply(&command);
                    effect(Effect::Install(command));
                }
                Output::Notice(notice) => effect(Effect::Notice(local, notice)),
                Output::Send(frame) => {
                    effect(Effect::Sent(&frame));
                    let under = match (frame.lcid, frame.to) {
                        (Lcid::CLEAR, _) => None,
                        (_, Destination::Ue(peer)) => match self.sending(frame.from, peer, frame.under) {
                            Some(under) => Some(under),
                            None => continue,
                        },
                        (_, Destination::Group(_)) => continue,
                    };
                    self.depart(frame, under, rng);
                }
            }
        }
    }

    /// Context that a frame goes out under: as asked for, or the one in use, or the newest one pending.
    fn sending(
        &self,
        local: Layer2Id,
        peer: Layer2Id,
        under: Option<KdSessId>,
    ) -> Option<(KdSessId, KdSess)> {
        let contexts = self.contexts.get(&(local, peer))?;
        let may = |c: &Context| matches!(c.phase, LinkPhase::Active | LinkPhase::Pending);
        let found = match under {
            Some(id) => contexts.get_key_value(&id).filter(|(_, c)| may(c)),
            None => contexts
                .iter()
                .filter(|(_, c)| may(c))
                .max_by_key(|(_, c)| (c.phase == LinkPhase::Active, c.serial)),
        };
        found.map(|(id, c)| (*id, c.key.duplicate()))
    }

    fn depart<R: CryptoRng + ?Sized>(
        &mut self,
        mut frame: Outgoing,
        under: Option<(KdSessId, KdSess)>,
        rng: &mut R,
    ) {
        if let Some(attacker) = &mut self.attacker {
            let before = frame.clone();
            if !attacker(&mut frame) || under.is_some() && frame != before {
                return;
            }
        }
        let Conditions { loss, duplicate, reorder, delay } = self.conditions;
        let mut chance = |of_a_thousand: u16| {
            if of_a_thousand == 0 {
                return false;
            }
            let mut octets = [0; 4];
            rng.fill_bytes(&mut octets);
            u32::from_be_bytes(octets) % 1_000 < u32::from(of_a_thousand)
        };
        if chance(loss) {
            return;
        }
        let copies = if chance(duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if chance(reorder) { delay.max(Duration::from_millis(1)) * 3 } else { Duration::ZERO };
            let at = self.now.monotonic.saturating_add(delay).saturating_add(late);
            self.serial += 1;
            let under = under.as_ref().map(|(id, key)| (*id, key.duplicate()));
            self.flights.push(Reverse((at, self.serial)));
            self.in_flight.insert(self.serial, Flight { frame: frame.clone(), under });
        }
    }

    fn arrive<R: CryptoRng + ?Sized>(
        &mut self,
        flight: Flight,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        let Flight { frame, under } = flight;
        match frame.to {
            Destination::Ue(local) => {
                let id = match under {
                    None => None,
                    Some((id, key)) => {
                        let context =
                            self.contexts.get_mut(&(local, frame.from)).and_then(|c| c.get_mut(&id));
                        // Not held, or held with another key: it does not verify.
                        let Some(context) = context.filter(|c| c.key == key) else { return };
                        if !std::mem::replace(&mut context.first_seen, true) {
                            let event = Event::LinkFirstVerified { local, peer: frame.from, id };
                            self.input(local, Input::Engine(event), rng, effect);
                        }
                        Some(id)
                    }
                };
                let signalling = received(Some(local), None, &frame, id);
                self.input(local, Input::Frame(signalling), rng, effect);
            }
            Destination::Group(group) => {
                let others: Vec<Layer2Id> =
                    self.addresses.keys().copied().filter(|l| *l != frame.from).collect();
                for local in others {
                    self.input(local, Input::Frame(received(None, Some(group), &frame, None)), rng, effect);
                }
            }
        }
    }

    /// The part of the engine's key table that PC5-S needs.
    fn apply(&mut self, command: &Command) {
        match command {
            Command::InstallLink(key, phase) => {
                self.serial += 1;
                let context = Context {
                    key: key.kd_sess.duplicate(),
                    phase: *phase,
                    first_seen: false,
                    serial: self.serial,
                };
                self.contexts.entry((key.local, key.peer)).or_default().insert(key.id, context);
                self.retire_others(key.local, key.peer, key.id, *phase);
            }
            Command::SetLinkPhase { local, peer, id, phase } => {
                if let Some(c) = self.contexts.get_mut(&(*local, *peer)).and_then(|c| c.get_mut(id)) {
                    c.phase = *phase;
                }
                self.retire_others(*local, *peer, *id, *phase);
            }
            Command::RemoveLink { local, peer, id } => {
                if let Some(contexts) = self.contexts.get_mut(&(*local, *peer)) {
                    contexts.remove(id);
                }
            }
            _ => {}
        }
    }

    fn retire_others(&mut self, local: Layer2Id, peer: Layer2Id, id: KdSessId, phase: LinkPhase) {
        if phase != LinkPhase::Active {
            return;
        }
        for (other, context) in self.contexts.entry((local, peer)).or_default() {
            if *other != id && context.phase == LinkPhase::Active {
                context.phase = LinkPhase::Retiring;
            }
        }
    }
}

fn received(
    local: Option<Layer2Id>,
    group: Option<GroupId>,
    frame: &Outgoing,
    under: Option<KdSessId>,
) -> Signalling {
    let sdu: Bytes = frame.sdu.clone();
    Signalling { local, group, source: frame.from, lcid: frame.lcid, under, sdu }
}

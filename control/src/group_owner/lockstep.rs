//! Owners and members in one thread: passes the outputs of each to the others, over a simulated link with its own
//! clock. For runs in one process, where keying is real and only the wire is not, and for tests.
//!
//! In place of the engine stands a table of link contexts that does what the engine does for PC5-S: it picks the context
//! to send under, and delivers only what the receiver holds the same key for, each frame once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid};
use pc5_dataplane::kdf::KdSess;
use pc5_dataplane::keys::{Command, Event, LinkPhase, Signalling};
use pc5_dataplane::pdu::Destination;
use pc5_dataplane::window::{Window, limits::DEFAULT_WIDTH};
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
#[derive(Clone)]
pub struct Flight {
    /// What everybody on the wire sees of it, but for the SDU of a protected one. A protected frame that is altered does not
    /// verify anywhere.
    pub frame: Outgoing,
    seal: Option<Rc<Seal>>,
}

impl Flight {
    /// A frame in clear: anybody's.
    pub fn clear(frame: Outgoing) -> Self {
        Self { frame, seal: None }
    }

    /// Whether a link protects it.
    pub fn is_protected(&self) -> bool {
        self.seal.is_some()
    }
}

/// What protects a frame: nothing of it verifies but this, under this key.
struct Seal {
    id: KdSessId,
    key: KdSess,
    sn: u16,
    frame: Outgoing,
}

struct Context {
    key: KdSess,
    phase: LinkPhase,
    first_seen: bool,
    /// Order of installation.
    serial: u64,
    next_sn: u16,
    window: Window,
}

/// The two sides of somebody in the path between one node and all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one node.
    Inner,
    /// All others.
    Outer,
}

/// Which nodes a frame reaches, where it is for them.
#[derive(Clone, Copy)]
enum Reach {
    All,
    Only(Layer2Id),
    AllBut(Layer2Id),
}

impl Reach {
    fn of(side: Side, inner: Layer2Id) -> Self {
        match side {
            Side::Inner => Self::Only(inner),
            Side::Outer => Self::AllBut(inner),
        }
    }

    fn includes(self, local: Layer2Id) -> bool {
        match self {
            Self::All => true,
            Self::Only(inner) => local == inner,
            Self::AllBut(inner) => local != inner,
        }
    }
}

/// What somebody in the path lets out.
pub struct Forwarded {
    /// What.
    pub flight: Flight,
    /// On which side.
    pub to: Side,
    /// How much later than what merely passes.
    pub later: Duration,
}

/// Somebody in the path: gets each frame that is on its way to a side, and lets out what he likes.
pub type Path = Box<dyn FnMut(Flight, Side) -> Vec<Forwarded>>;

/// Owners, members, and the link between them.
pub struct Lockstep {
    nodes: Vec<Node>,
    /// Layer-2 id to node.
    addresses: BTreeMap<Layer2Id, usize>,
    contexts: HashMap<(Layer2Id, Layer2Id), BTreeMap<KdSessId, Context>>,
    flights: BinaryHeap<Reverse<(Duration, u64)>>,
    /// Frames, and how far they reach.
    in_flight: HashMap<u64, (Flight, Reach)>,
    serial: u64,
    now: Now,
    conditions: Conditions,
    attacker: Option<Attacker>,
    path: Option<(Layer2Id, Path)>,
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
            path: None,
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

    /// Somebody sets everybody's wall clock.
    pub fn set_wall_clock(&mut self, unix: Duration) {
        self.now.unix = unix;
    }

    /// Other conditions from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Puts somebody into the path. A protected frame that is altered does not verify anywhere.
    pub fn set_attacker(&mut self, attacker: Option<Attacker>) {
        self.attacker = attacker;
    }

    /// Puts somebody into the path between one node and all others, or leaves it free again. What he has let out still
    /// arrives.
    pub fn set_path(&mut self, path: Option<(Layer2Id, Path)>) {
        self.path = path;
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
        self.depart(Flight::clear(frame), rng);
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
            if let Some((flight, reach)) = self.in_flight.remove(&serial) {
                self.arrive(&flight, reach, rng, effect);
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
                    let seal = match (frame.lcid, frame.to) {
                        (Lcid::CLEAR, _) => None,
                        (_, Destination::Ue(peer)) => match self.seal(&frame, peer) {
                            Some(seal) => Some(Rc::new(seal)),
                            None => continue,
                        },
                        (_, Destination::Group(_)) => continue,
                    };
                    self.depart(Flight { frame, seal }, rng);
                }
            }
        }
    }

    /// Seals under the context asked for, or the one in use, or the newest one pending.
    fn seal(&mut self, frame: &Outgoing, peer: Layer2Id) -> Option<Seal> {
        let contexts = self.contexts.get_mut(&(frame.from, peer))?;
        let may = |c: &Context| matches!(c.phase, LinkPhase::Active | LinkPhase::Pending);
        let in_use = || {
            let sendable = contexts.iter().filter(|(_, c)| may(c));
            sendable.max_by_key(|(_, c)| (c.phase == LinkPhase::Active, c.serial)).map(|(id, _)| *id)
        };
        let id = frame.under.or_else(in_use)?;
        let context = contexts.get_mut(&id).filter(|c| may(c))?;
        let sn = context.next_sn;
        context.next_sn = sn.checked_add(1)?;
        Some(Seal { id, key: context.key.duplicate(), sn, frame: frame.clone() })
    }

    fn depart<R: CryptoRng + ?Sized>(&mut self, mut flight: Flight, rng: &mut R) {
        if let Some(attacker) = &mut self.attacker
            && !attacker(&mut flight.frame)
        {
            return;
        }
        let Some((inner, path)) = &mut self.path else {
            return self.travel(&flight, Reach::All, Duration::ZERO, rng);
        };
        let inner = *inner;
        let side = match (flight.frame.from, flight.frame.to) {
            (from, _) if from == inner => Side::Outer,
            (_, Destination::Ue(to)) if to != inner => {
                return self.travel(&flight, Reach::All, Duration::ZERO, rng);
            }
            _ => Side::Inner,
        };
        let let_out = path(flight.clone(), side);
        if side == Side::Inner && matches!(flight.frame.to, Destination::Group(_)) {
            self.travel(&flight, Reach::AllBut(inner), Duration::ZERO, rng);
        }
        for Forwarded { flight, to, later } in let_out {
            self.travel(&flight, Reach::of(to, inner), later, rng);
        }
    }

    /// Puts a frame on its way, under the conditions.
    fn travel<R: CryptoRng + ?Sized>(&mut self, flight: &Flight, reach: Reach, later: Duration, rng: &mut R) {
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
            let at = self.now.monotonic.saturating_add(delay).saturating_add(late).saturating_add(later);
            self.serial += 1;
            self.flights.push(Reverse((at, self.serial)));
            self.in_flight.insert(self.serial, (flight.clone(), reach));
        }
    }

    fn arrive<R: CryptoRng + ?Sized>(
        &mut self,
        flight: &Flight,
        reach: Reach,
        rng: &mut R,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        let Flight { frame, seal } = flight;
        match frame.to {
            Destination::Ue(local) => {
                if !reach.includes(local) {
                    return;
                }
                let under = match (frame.lcid, seal) {
                    (Lcid::CLEAR, None) => None,
                    (Lcid::SIGNALLING, Some(seal)) => match self.verify(local, frame, seal) {
                        Some(first_seen) => {
                            if first_seen {
                                let (peer, id) = (frame.from, seal.id);
                                let event = Event::LinkFirstVerified { local, peer, id };
                                self.input(local, Input::Engine(event), rng, effect);
                            }
                            Some(seal.id)
                        }
                        None => return,
                    },
                    _ => return,
                };
                let signalling = received(Some(local), None, frame, under);
                self.input(local, Input::Frame(signalling), rng, effect);
            }
            Destination::Group(group) => {
                let others: Vec<Layer2Id> = self
                    .addresses
                    .keys()
                    .copied()
                    .filter(|l| *l != frame.from && reach.includes(*l))
                    .collect();
                for local in others {
                    self.input(local, Input::Frame(received(None, Some(group), frame, None)), rng, effect);
                }
            }
        }
    }

    /// Whether a protected frame verifies at a node, and for the first time under its context.
    fn verify(&mut self, local: Layer2Id, frame: &Outgoing, seal: &Seal) -> Option<bool> {
        let context = self.contexts.get_mut(&(local, frame.from)).and_then(|c| c.get_mut(&seal.id))?;
        if context.key != seal.key || *frame != seal.frame {
            return None;
        }
        context.window.check(seal.sn).ok()?;
        context.window.commit(seal.sn);
        Some(!std::mem::replace(&mut context.first_seen, true))
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
                    next_sn: 0,
                    window: Window::new(DEFAULT_WIDTH),
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

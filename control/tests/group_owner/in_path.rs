//! Somebody in the path between one member and everybody else, who does what he likes with every PC5-S frame, over and
//! over. Whatever it was: others stay joined, nothing grows, nobody gets a key that he made up, and 15 s after he is quiet
//! his victim is joined again.
//!
//! `PC5_SEED` takes one course again, `PC5_COURSES` takes more of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pc5_control::codec::Body;
use pc5_control::codec::go::{GoAnnounce, JoinRetry, Message, MessageType, Rejection};
use pc5_control::codec::segment::segment;
use pc5_control::group_owner::lockstep::{Conditions, Flight, Forwarded, Path, Side};
use pc5_control::group_owner::{Input, MemberState, Notice, Order, Outgoing, Owner};
use pc5_control::policy::{GroupPolicy, MemberPolicy, OnJoin, OwnerPolicy, Wrap};
use pc5_control::store::MemoryStore;
use pc5_dataplane::ids::{Layer2Id, Lcid};
use pc5_dataplane::keys::{Event, LinkPhase};
use pc5_dataplane::pdu::Destination;
use pc5_dataplane::suite::Suite;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

use super::world::*;

/// What he does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// Passes everything.
    Pass,
    Drop,
    /// Drops what is on its way to one side.
    OneWay(Side),
    /// Drops messages of one type: by their length he knows protected ones, too.
    Without(u8),
    /// Drops so many of 100.
    Lose(u64),
    /// Every frame three times, and old ones in between.
    Repeat,
    /// Holds each back for up to so many milliseconds: later ones overtake.
    Delay(u64),
    /// Altered copies before each frame.
    AlterBeside,
    AlterInstead,
    /// Every frame goes back as well, as it is and with its addresses turned round.
    Reflect,
    /// Frames of his own making.
    Inject,
    /// Everything he ever kept.
    Replay,
    /// Weaker suites in messages 1 and 2.
    BidDown,
}

/// Chance, by a seed.
struct Dice(Rng);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.0.fill_bytes(&mut octets);
        octets
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn act(&mut self) -> Act {
        match self.below(12) {
            0 => Act::Drop,
            1 => Act::OneWay(self.of(&[Side::Inner, Side::Outer])),
            2 => Act::Without(self.of(&TYPES)),
            3 => Act::Lose(self.of(&[33, 66, 90])),
            4 => Act::Repeat,
            5 => Act::Delay(self.of(&[50, 500, 3_000])),
            6 => Act::AlterBeside,
            7 => Act::AlterInstead,
            8 => Act::Reflect,
            9 => Act::Inject,
            10 => Act::Replay,
            _ => Act::BidDown,
        }
    }
}

struct Attacker {
    dice: Dice,
    act: Act,
    kept: Vec<(Flight, Side)>,
    /// Frames that he may still add: what he sends is answered, and what is answered he answers again.
    left: u64,
    /// Nonce_1 of the last JOIN_REQUEST that he heard.
    nonce_1: [u8; 16],
}

impl Attacker {
    fn path(this: &Rc<RefCell<Self>>) -> Path {
        let this = this.clone();
        Box::new(move |flight, to| this.borrow_mut().take(flight, to))
    }

    fn take(&mut self, flight: Flight, to: Side) -> Vec<Forwarded> {
        let sdu = &flight.frame.sdu;
        if sdu[0] == MessageType::JoinRequest as u8 && sdu.len() > 26 {
            self.nonce_1.copy_from_slice(&sdu[11..27]);
        }
        let back = if to == Side::Inner { Side::Outer } else { Side::Inner };
        let mut out = vec![(flight.clone(), to, 0)];
        match self.act {
            Act::Pass => {}
            Act::Drop => out.clear(),
            Act::OneWay(side) => out.retain(|_| side != to),
            Act::Without(message_type) => out.retain(|(f, ..)| f.frame.sdu[0] != message_type),
            Act::Lose(percent) => {
                if self.dice.below(100) < percent {
                    out.clear();
                }
            }
            Act::Repeat => {
                out.extend([(flight.clone(), to, 0), (flight.clone(), to, 0)]);
                self.add_kept(1, &mut out);
            }
            Act::Delay(most) => out[0].2 = self.dice.below(most),
            Act::AlterBeside => {
                out.splice(..0, (0..ALTERED).map(|_| (self.altered(&flight), to, 0)));
            }
            Act::AlterInstead => out[0].0 = self.altered(&flight),
            Act::Reflect => {
                out.push((flight.clone(), back, 0));
                if let Destination::Ue(peer) = flight.frame.to {
                    let mut turned = flight.clone();
                    (turned.frame.from, turned.frame.to) = (peer, Destination::Ue(flight.frame.from));
                    out.push((turned, back, 0));
                }
            }
            Act::Inject => {
                for _ in 0..3 {
                    let invented = self.invented();
                    let side = if self.dice.one_in(3) { back } else { to };
                    let at = self.dice.below(1 + out.len() as u64) as usize;
                    out.insert(at, (invented, side, self.dice.below(20)));
                }
            }
            Act::Replay => self.add_kept(6, &mut out),
            Act::BidDown => self.weaken(&mut out[0].0),
        }
        if self.kept.len() < KEPT {
            self.kept.push((flight, to));
        } else {
            let at = self.dice.below(KEPT as u64) as usize;
            self.kept[at] = (flight, to);
        }
        let added = (out.len() as u64).saturating_sub(1);
        // The last one is the frame itself, or as good as any.
        out.drain(..added.saturating_sub(self.left) as usize);
        self.left = self.left.saturating_sub(added);
        let later = Duration::from_millis;
        out.into_iter().map(|(flight, to, ms)| Forwarded { flight, to, later: later(ms) }).collect()
    }

    fn add_kept(&mut self, n: usize, out: &mut Vec<(Flight, Side, u64)>) {
        for _ in 0..n {
            let Some(last) = self.kept.len().checked_sub(1) else { return };
            let (flight, to) = self.kept[self.dice.below(1 + last as u64) as usize].clone();
            out.insert(0, (flight, to, self.dice.below(20)));
        }
    }

    /// Another field each time.
    fn altered(&mut self, flight: &Flight) -> Flight {
        let mut flight = flight.clone();
        let by = 1 + self.dice.below(255) as u8;
        let other = |id: Layer2Id, at: usize| {
            let mut octets = id.octets();
            octets[at] ^= by;
            Layer2Id::from_octets(octets)
        };
        let frame = &mut flight.frame;
        let mut sdu = frame.sdu.to_vec();
        let at = self.dice.below(sdu.len() as u64) as usize;
        match self.dice.below(10) {
            0 => frame.from = other(frame.from, at % 3),
            1 => {
                if let Destination::Ue(to) = frame.to {
                    frame.to = Destination::Ue(other(to, at % 3));
                }
            }
            2 => frame.to = Destination::Ue(self.dice.of(&[OWNER, member_id(1), member_id(2)])),
            3 => frame.from = self.dice.of(&[OWNER, member_id(1), member_id(2)]),
            4 => sdu.truncate(at.max(1)),
            5 => sdu.extend(vec![by; 1 + at % 16]),
            // Type, seq, index, last.
            6 | 7 => {
                let at = at.min(6);
                sdu[at] ^= by;
            }
            _ => sdu[at] ^= by,
        }
        frame.sdu = Bytes::from(sdu);
        flight
    }

    /// A frame of his own.
    fn invented(&mut self) -> Flight {
        let members = [member_id(1), member_id(1), member_id(2), member_id(self.dice.below(5_000) as u32)];
        let (member, dice) = (self.dice.of(&members), &mut self.dice);
        let nonce_1 = if dice.one_in(3) { dice.octets() } else { self.nonce_1 };
        let whole = |dice: &mut Dice, body| {
            let message = Message { seq: dice.below(65_536) as u16, body }.encode().unwrap();
            segment(&message, 1_477).unwrap().remove(0)
        };
        let (from_owner, from_member) = ((OWNER, Destination::Ue(member)), (member, Destination::Ue(OWNER)));
        let ((from, to), sdu) = match dice.below(8) {
            0 => {
                let tag = dice.one_in(2).then(|| dice.octets());
                let body = Body::Reject(Rejection { nonce_1, cause: 0x80 + dice.below(19) as u8, tag });
                (dice.of(&[from_owner, from_member]), whole(dice, body))
            }
            1 | 2 => {
                let body = Body::GoAnnounce(GoAnnounce {
                    instance: dice.octets(),
                    epoch: dice.below(1 << 30),
                    spread: dice.below(3) as u8,
                    suites: vec![0x55],
                });
                let from = if dice.one_in(2) { OWNER } else { member };
                ((from, Destination::Group(GROUP)), whole(dice, body))
            }
            3 => {
                let body = Body::JoinRetry(JoinRetry { nonce_1, cookie: dice.octets() });
                (from_owner, whole(dice, body))
            }
            // A message 1 or 2 that was heard, with another nonce: computations and half-open joins.
            4 => match self.heard(&[0x80, 0x82]) {
                Some(mut like) => {
                    let (mut sdu, at) = (like.sdu.to_vec(), if like.sdu[0] == 0x80 { 11 } else { 7 });
                    if let Some(nonce) = sdu.get_mut(at..at + 16) {
                        nonce.copy_from_slice(&self.dice.octets::<16>());
                    }
                    if sdu[0] == 0x80 {
                        like.from = member;
                    }
                    ((like.from, like.to), Bytes::from(sdu))
                }
                None => return self.invented(),
            },
            // Parts, of which the others never come, of any type.
            5 => {
                let mut sdu =
                    vec![dice.of(&TYPES), dice.octets::<1>()[0], 0, 0, 0, 0, 1 + dice.below(15) as u8];
                sdu.extend(vec![7; dice.below(900) as usize]);
                (dice.of(&[from_owner, from_member]), Bytes::from(sdu))
            }
            // Any type with any body.
            kind => {
                let mut sdu = vec![dice.of(&TYPES), 0, 1, 0, 0, 0, 0];
                sdu.extend((0..dice.below(200)).map(|_| dice.octets::<1>()[0]));
                let lcid = if kind == 6 { Lcid::CLEAR } else { Lcid::SIGNALLING };
                let (from, to) = dice.of(&[from_owner, from_member]);
                return Flight::clear(Outgoing { from, to, lcid, under: None, sdu: Bytes::from(sdu) });
            }
        };
        Flight::clear(Outgoing { from, to, lcid: Lcid::CLEAR, under: None, sdu })
    }

    fn heard(&mut self, types: &[u8]) -> Option<Outgoing> {
        let all: Vec<&Flight> =
            self.kept.iter().map(|(f, _)| f).filter(|f| types.contains(&f.frame.sdu[0])).collect();
        let n = all.len() as u64;
        (n > 0).then(|| all[self.dice.below(n) as usize].frame.clone())
    }

    /// JOIN_REQUEST with weaker suites, JOIN_CHALLENGE with another one.
    fn weaken(&mut self, flight: &mut Flight) {
        let weak = self.dice.of(&[0x44, 0x11, 0x20, 0x00]);
        let mut sdu = flight.frame.sdu.to_vec();
        // Type, sequence, index and last to 7; then version, group, Nonce_1, MSB, E_m: the list of suites is at 94.
        match sdu[0] {
            0x80 => sdu[94..96].fill(weak),
            0x82 => sdu[7 + 17] = weak,
            _ => return,
        }
        flight.frame.sdu = Bytes::from(sdu);
    }
}

/// A group, and him before the door of member 1.
struct Course {
    w: World,
    dice: Dice,
    attacker: Rc<RefCell<Attacker>>,
    story: String,
}

impl Course {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(Rng::seed_from_u64(seed));
        let conditions = Conditions { delay: Duration::from_millis(2), ..Conditions::PERFECT };
        let delay = Duration::from_millis(dice.of(&[1, 5, 20]));
        let mut group = GroupPolicy::new(GROUP, OWNER);
        group.keepalive_period = secs(dice.of(&[1, 5]));
        group.direct = dice.one_in(3);
        group.wrap = dice.of(&[Wrap::Link, Wrap::Certificate]);
        group.on_join = dice.of(&[OnJoin::Current, OnJoin::Fresh]);
        group.future_epochs = dice.of(&[0, 0, 1, 3]);
        group.several_layer2 = dice.one_in(4);
        if dice.one_in(2) {
            (group.key_lifetime, group.rekey_after) = (secs(60), Some(secs(dice.of(&[1, 4]))));
        }
        if dice.one_in(4) {
            group.kd_lifetime = secs(60);
        }
        let short_mac = dice.one_in(4);
        if short_mac {
            group.link_suites.insert(0, Suite::Eea2Eia2);
        }
        let owner_known = dice.one_in(2);
        let member = |p: &mut MemberPolicy| {
            if !owner_known {
                p.owner = None;
            }
            if short_mac {
                p.suites.push(Suite::Eea2Eia2);
            }
        };
        let settings = OwnerPolicy { cookie_always: dice.one_in(4), ..OwnerPolicy::default() };
        let story = format!("{group:?} {settings:?} owner known: {owner_known}, {delay:?}\n");
        let mut w = World::with(MEMBERS, Conditions { delay, ..conditions }, |_| {}, member);
        w.rng = Rng::seed_from_u64(seed ^ 1);
        let device = w.lab.owner_device(w.trust.clone());
        let owner = Owner::new(device, settings, vec![group], Box::<MemoryStore>::default()).unwrap();
        w.put_owner(owner);
        let attacker = Rc::new(RefCell::new(Attacker {
            dice: Dice(Rng::seed_from_u64(seed ^ 2)),
            act: Act::Pass,
            kept: Vec::new(),
            left: 0,
            nonce_1: [0; 16],
        }));
        w.run.set_path(Some((member_id(1), Attacker::path(&attacker))));
        Self { w, dice, attacker, story }
    }

    /// One order of an operator, or a hint that nobody vouches for.
    fn disturb(&mut self) {
        let (victim, refresh) = (member_id(1), self.dice.one_in(2));
        let mut order = |to, order: Order| {
            self.story += &format!("  {:?} {order:?}\n", self.w.run.now().monotonic);
            self.w.order(to, order);
        };
        match self.dice.below(7) {
            0 => order(victim, Order::Leave),
            1 => order(victim, Order::Join),
            2 => {
                order(victim, Order::Leave);
                if self.dice.one_in(2) {
                    self.w.run_for(Duration::from_millis(self.dice.below(400)));
                }
                self.story += "  and Join\n";
                self.w.order(victim, Order::Join);
            }
            3 => order(OWNER, Order::RekeyGroup(GROUP)),
            4 => order(OWNER, Order::RekeyLink { peer: victim, refresh }),
            5 => order(victim, Order::RekeyLink { peer: OWNER, refresh }),
            _ => {
                let (group, claimed_source, index) = (GROUP, OWNER, self.dice.below(32) as u8);
                let hint = match refresh {
                    true => Event::UnknownIndex { group, claimed_source, index },
                    false => Event::FloorsWanted { group, claimed_source, index },
                };
                self.w.input(victim, Input::Engine(hint));
            }
        }
    }

    /// He does something for a while, or one thing after the other, and then nothing for 15 s.
    fn round(&mut self) {
        self.w.log.notices.clear();
        self.w.log.sent.clear();
        for _ in 0..self.dice.of(&[1, 1, 2]) {
            let act = self.dice.act();
            self.under(act);
        }
        self.attacker.borrow_mut().act = Act::Pass;
        // What he made the member do last may have been to leave for good.
        self.w.order(member_id(1), Order::Join);
        self.w.run_for(secs(15));
        self.judge();
    }

    fn under(&mut self, act: Act) {
        let from = self.w.run.now().monotonic;
        let until = from + Duration::from_millis(300 + self.dice.below(4_700));
        self.story += &format!("{from:?}..{until:?} {act:?}\n");
        self.attacker.borrow_mut().act = act;
        while self.w.run.now().monotonic < until {
            self.attacker.borrow_mut().left = 40;
            if self.dice.one_in(8) {
                self.disturb();
            }
            self.w.run_for(Duration::from_millis(1 + self.dice.below(150)));
            self.assert_asleep();
            let owner = self.w.owner();
            assert!(owner.half_open() <= 1_024, "{} half-open joins\n{}", owner.half_open(), self.told());
            assert!(owner.incomplete() <= 192 + 64, "{} incomplete\n{}", owner.incomplete(), self.told());
        }
    }

    /// Whoever has work that is overdue, and does not do it when asked, keeps its driver from ever sleeping.
    fn assert_asleep(&self) {
        let now = self.w.run.now().monotonic;
        let owner = self.w.owner().deadline();
        let members = (1..=MEMBERS).map(|n| self.w.run.member(member_id(n)).unwrap().deadline());
        for deadline in members.chain([owner]).flatten() {
            assert!(deadline > now, "due at {deadline:?}\n{}", self.told());
        }
    }

    fn judge(&mut self) {
        let victim = member_id(1);
        let back = |w: &World| {
            let m = w.run.member(victim).unwrap();
            m.owner().is_some() && m.state() == MemberState::Joined && w.run.agree(OWNER, victim)
        };
        assert!(back(&self.w), "the victim is not back\n{}", self.told());
        for n in 2..=MEMBERS {
            let other = member_id(n);
            let ended = self.w.log.notices.iter().any(|(node, notice)| match notice {
                Notice::Ended { peer, .. } => *node == other || *peer == other,
                _ => false,
            });
            assert!(!ended, "member {n} has nothing to do with it\n{}", self.told());
            assert!(self.w.run.member(member_id(n)).unwrap().owner().is_some(), "{}", self.told());
        }
        for n in 1..=MEMBERS {
            let contexts = self.w.run.contexts(OWNER, member_id(n));
            let pending = contexts.iter().any(|(_, phase)| *phase == LinkPhase::Pending);
            assert!(!pending, "nobody waits for anything any more\n{}", self.told());
        }
        let owner = self.w.owner();
        assert_eq!((owner.half_open(), owner.incomplete()), (0, 0), "all is over\n{}", self.told());
        let identities: BTreeSet<String> =
            owner.members(self.w.run.now()).map(|m| m.identity.to_string()).collect();
        let wanted: BTreeSet<String> = (1..=MEMBERS).map(|n| format!("pc5:001-01:ue:ue-{n}")).collect();
        assert_eq!(identities, wanted, "{}", self.told());
        // Nobody has a link with anybody but the owner, and no group key that the owner has not made.
        let genuine = |id: &Layer2Id| (1..=MEMBERS).any(|n| *id == member_id(n));
        let odd =
            self.w.log.links.iter().find(|(a, b)| !(*a == OWNER && genuine(b) || *b == OWNER && genuine(a)));
        assert_eq!(odd, None, "{}", self.told());
        let made = &self.w.log.group_keys[&OWNER];
        for (local, keys) in &self.w.log.group_keys {
            assert!(*local == OWNER || genuine(local), "{local}\n{}", self.told());
            assert!(keys.is_subset(made), "{local} has a key that is none\n{}", self.told());
        }
        // A change of keys may be under way just now, and is soon over.
        let settled = self.w.run_until(secs(3), |run| {
            let (now, owner) = (run.now(), run.owner(OWNER).unwrap());
            owner.members(now).all(|m| run.agree(OWNER, m.layer2)) && owner.served_by_link(GROUP).is_empty()
        });
        assert!(settled, "{:?}\n{}", self.w.owner().served_by_link(GROUP), self.told());
        let (_, pgk_id) = self.w.owner().group_key(GROUP).unwrap();
        let of = |local| {
            let mut groups = self.w.table.current().groups();
            groups
                .find(|g| g.local == local && g.pgk_id == pgk_id && !g.retired)
                .map(|g| g.pgk.expose().to_vec())
        };
        assert_eq!(self.w.log.refused_commands, [], "{}", self.told());
        for n in 1..=MEMBERS {
            assert_eq!(of(member_id(n)), of(OWNER), "group key of member {n}\n{}", self.told());
        }
    }

    /// What happened, for whoever has to find out why.
    fn told(&self) -> String {
        let notices: Vec<String> = self
            .w
            .log
            .notices
            .iter()
            .filter(|(_, n)| !matches!(n, Notice::Ignored { .. } | Notice::Audience { .. }))
            .map(|(node, n)| format!("{node} {n:?}"))
            .collect();
        let from = notices.len().saturating_sub(60);
        let now = self.w.run.now();
        let links: Vec<String> = (1..=MEMBERS)
            .map(|n| {
                let (m, member) = (member_id(n), self.w.run.member(member_id(n)).unwrap());
                let (a, b) = (self.w.run.contexts(OWNER, m), self.w.run.contexts(m, OWNER));
                format!(
                    "{m}: {:?} {:?} epoch {}: {a:?} {b:?}",
                    member.state(),
                    member.owner(),
                    member.newest_epoch()
                )
            })
            .collect();
        let views: Vec<_> = self.w.owner().members(now).collect();
        format!(
            "{}{}\nat {:?}\n{}\n{views:?}\ngroup key {:?}",
            self.story,
            notices[from..].join("\n"),
            now.monotonic,
            links.join("\n"),
            self.w.owner().group_key(GROUP)
        )
    }
}

#[test]
fn nothing_that_somebody_in_the_path_does_lasts() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("PC5_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PC5_COURSES").unwrap_or(COURSES)).map(|_| rng().next_u64()).collect(),
    };
    for seed in seeds {
        // Shown when it fails.
        println!("PC5_SEED={seed}");
        let mut course = Course::new(seed);
        assert!(course.w.join_all(), "{}", course.told());
        for _ in 0..ROUNDS {
            course.round();
        }
    }
}

/// Types of PC5-S messages.
const TYPES: [u8; 23] = [
    4, 5, 6, 7, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E,
    0x8F, 0x90, 0xA0, 0xA1,
];
const MEMBERS: u32 = 3;
/// Courses of a usual run,
const COURSES: u64 = 30;
/// and how often he is quiet in each.
const ROUNDS: usize = 6;
/// Altered copies of a frame.
const ALTERED: usize = 28;
/// Frames that he keeps.
const KEPT: usize = 2_000;

//! Keys of a replay: one group owner and a member for each UE, in this process but complete. Every message is a PC5-S frame
//! that goes through the engines; every certificate is judged; only the air is missing.
//!
//! The clock of the procedures stands still but for one step at each look at the engines, so that what happens hangs on
//! frames and not on how fast they come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use getrandom::SysRng;
use pc5_control::clock::Now;
use pc5_control::credential::{Freshness, Judge, Plmn, Role};
use pc5_control::group_owner::{
    Device, Input, Member, Notice, Order, Outgoing, Output, Owner, SharedTrust, Trust,
};
use pc5_control::pki::{Authority, Curve, Request, Validity};
use pc5_control::policy::{GroupPolicy, MemberPolicy, OwnerPolicy};
use pc5_control::store::MemoryStore;
use pc5_dataplane::engine::Share;
use pc5_dataplane::ids::{Layer2Id, LinkRole};
use pc5_dataplane::keylog::KeyLogLine;
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, Event, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::verdict::Verdict;
use rand_core::UnwrapErr;
use zeroize::Zeroizing;

use super::directory::{GROUP, OWNER};
use super::lane::End;
use super::lanes::Lanes;

/// How far the procedures' clock goes at each look at the engines: longer than a replaced link key is kept.
const CLOCK_STEP: Duration = Duration::from_secs(3);

/// What replay is keyed with.
#[derive(Clone, Copy)]
pub(crate) struct KeyingConfig {
    /// Suite of links and group.
    pub suite: Suite,
    /// Members send one-to-many themselves.
    pub direct: bool,
    /// Keys are noted for the key log.
    pub log: bool,
    /// PC5-S frames are kept for the output.
    pub keep_signalling: bool,
}

/// The owner, the members, and the key tables that their engines follow.
pub(crate) struct Keying {
    config: KeyingConfig,
    pub members: KeyTable,
    pub owner: KeyTable,
    pub monitor: KeyTable,
    authority: Authority,
    trust: SharedTrust,
    now: Now,
    go: Owner,
    ues: BTreeMap<Layer2Id, Member>,
    /// A bit a Layer-2 id.
    joined: Vec<u64>,
    /// When the first of them wants the time.
    next_deadline: Option<Duration>,
    /// Events that wait for the next look, and those to be handed on now.
    later: BTreeSet<Event>,
    events: VecDeque<Event>,
    log: Vec<Zeroizing<String>>,
    signalling: Vec<Vec<u8>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    joins: u64,
    link_rekeys: u64,
    group_keys: u64,
    grants: u64,
    signalling_frames: u64,
}

impl Keying {
    /// An authority, an owner with its group, nobody in it yet; `file` is what a key log gives to read along with.
    pub(crate) fn new(config: KeyingConfig, file: Vec<KeyLogLine>) -> anyhow::Result<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let now = Now { monotonic: Duration::ZERO, unix, steady: unix };
        let plmn: Plmn = "001-01".parse()?;
        let validity = Validity::days(now.unix_seconds(), 30);
        let mut authority = Authority::root(plmn, Curve::P256, validity, &mut rng())?;
        let mut judge = Judge::new(vec![authority.trust_entry()?], Freshness::Refuse);
        let clock = pc5_control::credential::Clock { now: now.unix_seconds(), floor: 0 };
        judge.install_crl(&authority.crl(now.unix_seconds(), now.unix_seconds() + 30 * 86_400)?, clock)?;
        let trust = SharedTrust::new(Trust::new(judge, 0));
        let device = enrol(&authority, &trust, "group-owner", Role::Owner, validity)?;
        let link_suite = if config.suite.has_integrity() { config.suite } else { Suite::Aes256Gcm };
        let policy = GroupPolicy {
            link_suites: vec![link_suite],
            group_suite: config.suite,
            direct: config.direct,
            key_lifetime: Duration::from_secs(20 * 86_400),
            keepalive_period: Duration::from_secs(60_000),
            lost_after: Duration::from_secs(20 * 86_400),
            ..GroupPolicy::new(GROUP, OWNER)
        };
        let owner_policy = OwnerPolicy { announce: false, ..OwnerPolicy::default() };
        let go = Owner::new(device, owner_policy, vec![policy], Box::new(MemoryStore::default()))?;
        let mut keying = Self {
            config,
            members: KeyTable::new(),
            owner: KeyTable::new(),
            monitor: KeyTable::for_reading_along(),
            authority,
            trust,
            now,
            go,
            ues: BTreeMap::new(),
            joined: Vec::new(),
            next_deadline: None,
            later: BTreeSet::new(),
            events: VecDeque::new(),
            log: Vec::new(),
            signalling: Vec::new(),
            counts: Counts::default(),
        };
        keying.go.handle(Input::Time, now, &mut rng());
        while let Some(output) = keying.go.poll() {
            match output {
                Output::Install(command) => keying.install(End::Owner, command)?,
                Output::Notice(notice) => keying.count(End::Owner, &notice),
                // Nobody is there to hear it yet.
                Output::Send(_) => {}
            }
        }
        keying.next_deadline = keying.go.deadline();
        for line in file {
            read_along(&mut keying.monitor, line)?;
        }
        keying.monitor.publish();
        Ok(keying)
    }

    /// Whether a member has joined.
    #[inline]
    pub(crate) fn knows(&self, member: Layer2Id) -> bool {
        let id = member.get() as usize;
        self.joined.get(id / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    /// Enrols a member and lets it join: six messages, every check.
    pub(crate) fn join(&mut self, id: Layer2Id, lanes: &mut Lanes) -> anyhow::Result<()> {
        if self.knows(id) {
            return Ok(());
        }
        let validity = Validity::days(self.now.unix_seconds(), 30);
        let device = enrol(&self.authority, &self.trust, &format!("ue-{id}"), Role::Member, validity)?;
        let link_suite = if self.config.suite.has_integrity() { self.config.suite } else { Suite::Aes256Gcm };
        let mut suites = vec![link_suite];
        if self.config.suite != link_suite {
            suites.push(self.config.suite);
        }
        let policy = MemberPolicy { suites, ..MemberPolicy::new(GROUP, id, OWNER) };
        let mut member = Member::new(device, policy, Box::new(MemoryStore::default()));
        member.handle(Input::Order(Order::Join), self.now, &mut rng());
        self.ues.insert(id, member);
        self.settle(lanes)?;
        if !self.knows(id) {
            bail!("member {id} could not join its group owner");
        }
        Ok(())
    }

    /// Hands on what the engines asked for since the last look, in an order that does not hang on workers.
    pub(crate) fn answer(&mut self, lanes: &mut Lanes) -> anyhow::Result<()> {
        self.now = self.now.after(CLOCK_STEP);
        let unix_seconds = self.now.key_seconds();
        for worker in 0..lanes.len() {
            self.later.extend(lanes.call(worker, move |lane| {
                lane.now.unix_seconds = unix_seconds;
                let mut events: Vec<Event> = lane.members.take_events().collect();
                events.extend(lane.owner.take_events());
                events
            }));
        }
        self.events.extend(std::mem::take(&mut self.later));
        let due = |deadline: Option<Duration>| deadline.is_some_and(|d| d <= self.now.monotonic);
        if self.events.is_empty() && !due(self.next_deadline) {
            return Ok(());
        }
        if due(self.go.deadline()) {
            self.go.handle(Input::Time, self.now, &mut rng());
        }
        for member in self.ues.values_mut().filter(|m| due(m.deadline())) {
            member.handle(Input::Time, self.now, &mut rng());
        }
        self.settle(lanes)
    }

    /// Carries messages to and fro until nobody has anything to say.
    fn settle(&mut self, lanes: &mut Lanes) -> anyhow::Result<()> {
        loop {
            while let Some(output) = self.go.poll() {
                self.carry_out(End::Owner, output, lanes)?;
            }
            let ids: Vec<Layer2Id> = self.ues.keys().copied().collect();
            for id in ids {
                while let Some(output) = self.ues.get_mut(&id).and_then(Member::poll) {
                    self.carry_out(End::Members, output, lanes)?;
                }
            }
            match self.events.pop_front() {
                Some(event) => self.hand_on(event),
                None => break,
            }
        }
        let deadlines = self.ues.values().map(Member::deadline).chain([self.go.deadline()]);
        self.next_deadline = deadlines.flatten().min();
        Ok(())
    }

    fn carry_out(&mut self, by: End, output: Output, lanes: &mut Lanes) -> anyhow::Result<()> {
        match output {
            Output::Install(command) => self.install(by, command)?,
            Output::Send(message) => self.send(by, message, lanes)?,
            Output::Notice(notice) => self.count(by, &notice),
        }
        Ok(())
    }

    fn install(&mut self, by: End, command: Command) -> anyhow::Result<()> {
        let table = match by {
            End::Owner => {
                self.note(&command);
                &mut self.owner
            }
            End::Members => &mut self.members,
        };
        table.apply(command)?;
        table.publish();
        Ok(())
    }

    fn send(&mut self, by: End, message: Outgoing, lanes: &mut Lanes) -> anyhow::Result<()> {
        let from = message.from;
        let lane = Share::owner(Address::to(message.to, from), lanes.len());
        let (events, on_air, verdict) = lanes.call(lane, move |lane| lane.signal(by, &message))?;
        if verdict != Verdict::Accepted {
            bail!("PC5-S from {from} was dropped in this process: {verdict}");
        }
        self.counts.signalling_frames += 1;
        if self.config.keep_signalling {
            self.signalling.push(on_air);
        }
        for event in events {
            // What frames of user data asked for comes with the next look; what this message brought comes now.
            match event {
                Event::Signalling(_) | Event::LinkFirstVerified { .. } => self.events.push_back(event),
                other => {
                    self.later.insert(other);
                }
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, event: Event) {
        let local = match &event {
            Event::Signalling(s) => s.local,
            Event::LinkHalfUsed { local, .. }
            | Event::LinkFirstVerified { local, .. }
            | Event::GroupFirstVerified { local, .. }
            | Event::GrantHalfUsed { local, .. }
            | Event::GroupHalfUsed { local, .. }
            | Event::NewestPtk { local, .. } => Some(*local),
            Event::UnknownIndex { .. } | Event::FloorsWanted { .. } => None,
        };
        if matches!(event, Event::GrantHalfUsed { .. }) {
            self.counts.grants += 1;
        }
        let input = match event {
            Event::Signalling(s) => Input::Frame(s),
            other => Input::Engine(other),
        };
        match local {
            Some(OWNER) => self.go.handle(input, self.now, &mut rng()),
            Some(id) => {
                if let Some(member) = self.ues.get_mut(&id) {
                    member.handle(input, self.now, &mut rng());
                }
            }
            None => {}
        }
    }

    fn count(&mut self, by: End, notice: &Notice) {
        match (by, notice) {
            (End::Members, Notice::Joined { local, .. }) => {
                let id = local.get() as usize;
                if self.joined.len() <= id / 64 {
                    self.joined.resize(id / 64 + 1, 0);
                }
                self.joined[id / 64] |= 1 << (id % 64);
                self.counts.joins += 1;
            }
            (End::Owner, Notice::Rekeyed { .. }) => self.counts.link_rekeys += 1,
            (End::Owner, Notice::GroupKey { .. }) => self.counts.group_keys += 1,
            _ => {}
        }
    }

    fn note(&mut self, command: &Command) {
        if self.config.log
            && let Some(line) = KeyLogLine::installed(command)
        {
            self.log.push(line.to_line());
        }
    }

    /// What happened to keys.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let c = &self.counts;
        vec![
            ("joins", c.joins),
            ("link_rekeys", c.link_rekeys),
            ("group_keys", c.group_keys),
            ("grants_asked", c.grants),
            ("signalling_frames", c.signalling_frames),
        ]
    }

    /// Lines of the key log so far.
    pub(crate) fn key_log(&self) -> &[Zeroizing<String>] {
        &self.log
    }

    /// PC5-S frames since the last call, as they were on the air.
    pub(crate) fn take_signalling(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.signalling)
    }
}

fn enrol(
    authority: &Authority,
    trust: &SharedTrust,
    name: &str,
    role: Role,
    validity: Validity,
) -> anyhow::Result<Device> {
    let identity = format!("pc5:{}:ue:{name}", authority.plmn()).parse()?;
    let enrolled = authority
        .enrol(&Request { identity, roles: vec![role], groups: vec![GROUP], validity }, &mut rng())?;
    Ok(Device::new(Arc::new(enrolled.key), enrolled.chain, trust.clone())?)
}

fn rng() -> UnwrapErr<SysRng> {
    // A system without randomness cannot make keys: nothing to do but stop.
    UnwrapErr(SysRng)
}

/// Both directions of a logged link, any sender of a logged group.
fn read_along(monitor: &mut KeyTable, line: KeyLogLine) -> anyhow::Result<()> {
    match line {
        KeyLogLine::Group { group, pgk_id, suite, pgk } => {
            monitor.apply(Command::InstallGroup(GroupKey {
                local: OWNER,
                group,
                pgk_id,
                pgk,
                suite,
                senders: PermittedSender::Any,
                not_before: 0,
                not_after: u64::MAX,
                grant: None,
                floors: Vec::new(),
            }))?
        }
        KeyLogLine::Link { ue1, ue2, id, suite, kd_sess } => {
            let there = LinkKey {
                local: ue1,
                peer: ue2,
                id,
                kd_sess: kd_sess.duplicate(),
                suite,
                role: LinkRole::Ue1,
            };
            let back = LinkKey { local: ue2, peer: ue1, id, kd_sess, suite, role: LinkRole::Ue2 };
            monitor.apply(Command::InstallLink(there, LinkPhase::Retiring))?;
            monitor.apply(Command::InstallLink(back, LinkPhase::Retiring))?;
        }
    }
    Ok(())
}

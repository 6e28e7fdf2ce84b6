//! Keys of a replay (provisional).

use std::collections::BTreeSet;

use pc5_dataplane::engine::Share;
use pc5_dataplane::ids::{KdSessId, Layer2Id, LinkRole, PgkId, PtkId};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keylog::KeyLogLine;
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, Event, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;

use super::directory::{GROUP, OWNER};
use super::lanes::Lanes;

pub(crate) struct Keying {
    pub members: KeyTable,
    pub owner: KeyTable,
    pub monitor: KeyTable,
    suite: Suite,
    direct: bool,
    pgk: Pgk,
    known: BTreeSet<Layer2Id>,
    log: Option<Vec<String>>,
    pub joins: u64,
    pub rekeys: u64,
    pub grants: u64,
    next_grant: u16,
    ids: std::collections::BTreeMap<Layer2Id, u16>,
}

fn random() -> [u8; 32] {
    let mut k = [0; 32];
    getrandom::fill(&mut k).unwrap();
    k
}

impl Keying {
    pub(crate) fn new(suite: Suite, direct: bool, log: bool, file: Vec<KeyLogLine>) -> anyhow::Result<Self> {
        let mut k = Self {
            members: KeyTable::new(),
            owner: KeyTable::new(),
            monitor: KeyTable::new(),
            suite,
            direct,
            pgk: Pgk::new(random()),
            known: BTreeSet::new(),
            log: log.then(Vec::new),
            joins: 0,
            rekeys: 0,
            grants: 0,
            next_grant: 1,
            ids: Default::default(),
        };
        k.owner.apply(Command::AddLocal(OWNER))?;
        let key = k.group_key(OWNER);
        k.owner.apply(Command::InstallGroup(key))?;
        k.owner.publish();
        let pgk = k.pgk.duplicate();
        k.log_line(&KeyLogLine::Group { group: GROUP, pgk_id: PgkId(1), suite, pgk });
        for line in file {
            match line {
                KeyLogLine::Group { group, pgk_id, suite, pgk } => {
                    k.monitor.apply(Command::InstallGroup(GroupKey {
                        local: OWNER,
                        group,
                        pgk_id,
                        pgk,
                        suite,
                        senders: PermittedSender::Any,
                        not_before: 0,
                        not_after: u64::MAX,
                        grant: None,
                        floors: vec![],
                    }))?
                }
                KeyLogLine::Link { ue1, ue2, id, suite, kd_sess } => {
                    let a = LinkKey {
                        local: ue1,
                        peer: ue2,
                        id,
                        kd_sess: kd_sess.duplicate(),
                        suite,
                        role: LinkRole::Ue1,
                    };
                    let b = LinkKey { local: ue2, peer: ue1, id, kd_sess, suite, role: LinkRole::Ue2 };
                    k.monitor.apply(Command::InstallLink(a, LinkPhase::Retiring))?;
                    k.monitor.apply(Command::InstallLink(b, LinkPhase::Retiring))?;
                }
            }
        }
        k.monitor.publish();
        Ok(k)
    }

    fn group_key(&mut self, local: Layer2Id) -> GroupKey {
        let grant = (self.direct || local == OWNER).then(|| {
            if self.direct {
                let first = self.next_grant;
                self.next_grant += 16;
                PtkId::new(first).unwrap()..=PtkId::new(first + 15).unwrap()
            } else {
                PtkId::new(1).unwrap()..=PtkId::new(512).unwrap()
            }
        });
        GroupKey {
            local,
            group: GROUP,
            pgk_id: PgkId(1),
            pgk: self.pgk.duplicate(),
            suite: self.suite,
            senders: if self.direct { PermittedSender::Any } else { PermittedSender::Only(OWNER) },
            not_before: 0,
            not_after: u64::MAX,
            grant,
            floors: vec![],
        }
    }

    fn log_line(&mut self, line: &KeyLogLine) {
        if let Some(log) = &mut self.log {
            log.push(line.to_line());
        }
    }

    #[inline]
    pub(crate) fn knows(&self, member: Layer2Id) -> bool {
        self.known.contains(&member)
    }

    pub(crate) fn join(&mut self, member: Layer2Id, _lanes: &mut Lanes) -> anyhow::Result<()> {
        if !self.known.insert(member) {
            return Ok(());
        }
        self.joins += 1;
        self.members.apply(Command::AddLocal(member))?;
        if self.suite.has_integrity() {
            self.link(member)?;
        }
        let key = self.group_key(member);
        self.members.apply(Command::InstallGroup(key))?;
        self.members.publish();
        self.owner.publish();
        Ok(())
    }

    fn link(&mut self, member: Layer2Id) -> anyhow::Result<()> {
        let n = self.ids.entry(member).or_insert(0);
        *n += 1;
        let id = KdSessId::new(*n * 257).unwrap();
        let kd = KdSess::new(random());
        let suite = self.suite;
        let a =
            LinkKey { local: member, peer: OWNER, id, kd_sess: kd.duplicate(), suite, role: LinkRole::Ue1 };
        let b =
            LinkKey { local: OWNER, peer: member, id, kd_sess: kd.duplicate(), suite, role: LinkRole::Ue2 };
        self.members.apply(Command::InstallLink(a, LinkPhase::Active))?;
        self.owner.apply(Command::InstallLink(b, LinkPhase::Active))?;
        self.log_line(&KeyLogLine::Link { ue1: member, ue2: OWNER, id, suite, kd_sess: kd });
        Ok(())
    }

    pub(crate) fn answer(&mut self, lanes: &mut Lanes) -> anyhow::Result<()> {
        let mut events: BTreeSet<Event> = BTreeSet::new();
        for w in 0..lanes.len() {
            events.extend(lanes.call(w, |lane| {
                let mut e: Vec<Event> = lane.members.take_events().collect();
                e.extend(lane.owner.take_events());
                e
            }));
        }
        let mut links: BTreeSet<Layer2Id> = BTreeSet::new();
        for e in events {
            if let Event::LinkHalfUsed { local, peer, .. } = e {
                links.insert(if local == OWNER { peer } else { local });
            }
        }
        for member in links {
            self.rekeys += 1;
            self.link(member)?;
        }
        self.members.publish();
        self.owner.publish();
        let _ = Share::owner(Address::default(), 1);
        Ok(())
    }

    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("joins", self.joins), ("link_rekeys", self.rekeys)]
    }

    pub(crate) fn take_log(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }
}

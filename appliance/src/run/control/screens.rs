//! What control knows, as operators see it.

use std::collections::BTreeMap;

use pc5_control::credential::{CrlStatus, Identity, Standing};
use pc5_control::group_owner::{MemberState, Owner};
use pc5_dataplane::ids::{GroupId, Layer2Id, LinkRole};
use pc5_dataplane::keys::PermittedSender;

use super::{Control, Kind, Membership, Procedure, limits};
use crate::run::network::Reach;
use crate::run::status::{
    Body, CrlRow, DataStatus, Drops, GroupRow, KeyRow, LinkRow, MemberRow, Runtime, Screen, What,
};

impl Control {
    pub(super) fn data_status(&self) -> Option<DataStatus> {
        self.data.status(limits::STATUS)
    }

    pub(super) fn show(&self, what: What) -> Body {
        let wants = |one: What| what == one || what == What::All;
        let mut screen = Screen::default();
        if wants(What::Groups) {
            screen.groups = Some(self.groups());
        }
        if wants(What::Links) {
            screen.links = Some(self.links());
        }
        if wants(What::Keys) {
            screen.keys = Some(self.keys());
        }
        if wants(What::Members) || wants(What::Runtime) || wants(What::Drops) {
            let Some(status) = self.data_status() else { return busy() };
            if wants(What::Members) {
                screen.members = Some(self.members(&status));
            }
            if wants(What::Drops) {
                screen.drops = Some(self.drops(&status));
            }
            if wants(What::Runtime) {
                screen.runtime = Some(self.runtime(status));
            }
        }
        Body::Shown(Box::new(screen))
    }

    fn groups(&self) -> Vec<GroupRow> {
        let now = self.now();
        let crls = self.facts.trust.crl_status(now);
        let crl = crls.iter().map(|c| c.standing).max().unwrap_or(Standing::Missing).to_string();
        let owned = |owner: &Owner, &(group, local): &(GroupId, Layer2Id)| GroupRow {
            group: group.to_string(),
            local: local.to_string(),
            role: "owner".into(),
            state: "served".into(),
            epoch: owner.group_key(group).map_or(0, |(epoch, _)| epoch),
            members: owner.members(now).filter(|m| m.group == group).count(),
            joining: owner.joining(group),
            by_link: owner.served_by_link(group).len(),
            evicted: owner.evicted(group).iter().map(Identity::to_string).collect(),
            crl: crl.clone(),
        };
        let joined = |m: &Membership| {
            let (state, epoch, members, joining) = match &m.kind {
                Kind::Member(member) => {
                    let state = format!("{:?}", member.state()).to_lowercase();
                    let linked = usize::from(self.uplinks.contains_key(&m.layer2));
                    let joining = usize::from(member.state() == MemberState::Joining);
                    (state, member.newest_epoch(), linked, joining)
                }
                Kind::Sessions(sessions) => {
                    let state = if sessions.own().is_some() { "talking" } else { "listening" };
                    (state.into(), 0, sessions.others(now).count(), 0)
                }
            };
            GroupRow {
                group: m.group.to_string(),
                local: m.layer2.to_string(),
                role: "member".into(),
                state,
                epoch,
                members,
                joining,
                by_link: 0,
                evicted: Vec::new(),
                crl: crl.clone(),
            }
        };
        match &self.procedure {
            Procedure::Owner(owner) => self.facts.groups.iter().map(|g| owned(owner, g)).collect(),
            Procedure::Ue(memberships) => memberships.iter().map(joined).collect(),
        }
    }

    fn links(&self) -> Vec<LinkRow> {
        let now = self.now();
        let names: BTreeMap<Layer2Id, String> = match &self.procedure {
            Procedure::Owner(owner) => {
                owner.members(now).map(|m| (m.layer2, m.identity.to_string())).collect()
            }
            Procedure::Ue(_) => {
                self.uplinks.values().map(|(id, identity)| (*id, identity.to_string())).collect()
            }
        };
        let mut rows: Vec<LinkRow> = self
            .table
            .current()
            .links()
            .map(|l| LinkRow {
                local: l.local.to_string(),
                peer: l.peer.to_string(),
                identity: names.get(&l.peer).cloned(),
                id: l.id.to_string(),
                phase: format!("{:?}", l.phase).to_lowercase(),
                suite: l.suite.to_string(),
                role: if l.role == LinkRole::Ue1 { "ue-1" } else { "ue-2" }.into(),
            })
            .collect();
        rows.sort_by(|a, b| (&a.local, &a.peer, &a.id).cmp(&(&b.local, &b.peer, &b.id)));
        rows
    }

    fn members(&self, status: &DataStatus) -> Vec<MemberRow> {
        let addresses = |id: Layer2Id| status.stations.get(&id.to_string()).cloned().unwrap_or_default();
        match &self.procedure {
            Procedure::Owner(owner) => owner
                .members(self.now())
                .map(|m| MemberRow {
                    group: m.group.to_string(),
                    layer2: m.layer2.to_string(),
                    identity: m.identity.to_string(),
                    suite: m.suite.to_string(),
                    rekeyings: Some(m.runs),
                    epoch: m.acknowledged,
                    silent_ms: u64::try_from(m.silent.as_millis()).ok(),
                    addresses: addresses(m.layer2),
                    crl: m.crl.to_string(),
                })
                .collect(),
            Procedure::Ue(memberships) => memberships.iter().flat_map(|m| self.others_of(m)).collect(),
        }
    }

    /// Whom a UE is connected with in one group: its owner, or everybody who talks.
    fn others_of(&self, m: &Membership) -> Vec<MemberRow> {
        let row = |layer2: Layer2Id, identity: &Identity| MemberRow {
            group: m.group.to_string(),
            layer2: layer2.to_string(),
            identity: identity.to_string(),
            suite: String::new(),
            rekeyings: None,
            epoch: 0,
            silent_ms: None,
            addresses: Vec::new(),
            crl: String::new(),
        };
        match &m.kind {
            Kind::Member(member) => {
                let Some((owner, identity)) = self.uplinks.get(&m.layer2) else { return Vec::new() };
                let suite =
                    self.table.current().links().find(|l| l.local == m.layer2).map(|l| l.suite.to_string());
                let crl = member.owner_crl(self.now()).unwrap_or(Standing::Missing).to_string();
                let epoch = member.newest_epoch();
                vec![MemberRow { suite: suite.unwrap_or_default(), epoch, crl, ..row(*owner, identity) }]
            }
            Kind::Sessions(sessions) => {
                let others = sessions.others(self.now());
                others.map(|s| MemberRow { crl: s.crl.to_string(), ..row(s.layer2, &s.identity) }).collect()
            }
        }
    }

    fn keys(&self) -> Vec<KeyRow> {
        let mut rows: Vec<KeyRow> = self
            .table
            .current()
            .groups()
            .map(|g| KeyRow {
                group: g.group.to_string(),
                pgk_id: g.pgk_id.0,
                suite: g.suite.to_string(),
                senders: match g.senders {
                    PermittedSender::Any => "any member".into(),
                    PermittedSender::Only(id) => format!("{id} (whoever holds the key could pose as it)"),
                },
                not_before: g.not_before,
                not_after: g.not_after,
                retired: g.retired,
                grants: g.grants.len(),
            })
            .collect();
        rows.sort_by(|a, b| (&a.group, a.not_after).cmp(&(&b.group, b.not_after)));
        rows
    }

    fn drops(&self, status: &DataStatus) -> Drops {
        let totals = status.drops();
        let counts = totals
            .iter()
            .map(|(k, n)| (k.clone(), n - self.baseline.counts.get(k).copied().unwrap_or(0).min(*n)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let verified = status.opened.get("accepted").copied().unwrap_or(0);
        let since_s = self.baseline.at.elapsed().as_secs();
        Drops { since_s, counts, totals, offered: status.offered(), verified }
    }

    fn runtime(&self, data: DataStatus) -> Runtime {
        Runtime {
            version: env!("CARGO_PKG_VERSION").into(),
            role: if matches!(self.procedure, Procedure::Owner(_)) { "owner" } else { "ue" }.into(),
            identity: self.facts.identity.to_string(),
            uptime_s: self.clock.began.elapsed().as_secs(),
            state: self.facts.state.clone(),
            workers: data.workers.len(),
            privileges: self.facts.privileges.clone(),
            way: self.facts.way.clone(),
            refused: self.facts.refused.clone(),
            steering: self.facts.steering.clone(),
            late_entry_ms: self.late_entry.and_then(|d| u64::try_from(d.as_millis()).ok()),
            discrepancies: data.discrepancies(),
            notices: self.notices.clone(),
            crls: self.crls(),
            network: self.facts.network.as_ref().map(Reach::status),
            data,
        }
    }

    /// CRLs by network.
    fn crls(&self) -> Vec<CrlRow> {
        let row = |c: CrlStatus| {
            let held = c.held.as_ref();
            CrlRow {
                plmn: c.plmn.to_string(),
                issuer: hex::encode(&c.issuer[..8]),
                state: c.standing.to_string(),
                number: held.map(|h| h.number.to_string()),
                this_update: held.map(|h| h.this_update),
                next_update: held.map(|h| h.next_update),
                usable_until: held.map(|h| h.usable_until),
                taken: held.map(|h| h.taken),
                revoked: held.map_or(0, |h| h.revoked),
            }
        };
        self.facts.trust.crl_status(self.now()).into_iter().map(row).collect()
    }
}

pub(super) fn busy() -> Body {
    Body::Failed("the data thread did not answer in time; ask again".into())
}

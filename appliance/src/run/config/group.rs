//! `[[group]]` and `[[member]]`: what an owner serves, and by which rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use pc5_control::credential::Identity;
use pc5_control::policy::{Admission, GroupPolicy, OnJoin};
use pc5_dataplane::ids::GroupId;
use serde::Deserialize;

use super::check::{Checker, Problem};

/// A group owner.
#[derive(Clone, PartialEq)]
pub(crate) struct OwnerConfig {
    pub groups: Vec<GroupPolicy>,
    /// Inner networks of each group: their directed broadcasts go to the group.
    pub networks: BTreeMap<GroupId, Vec<IpNet>>,
    /// Inner addresses that belong to one member only.
    pub addresses: BTreeMap<Identity, Vec<IpAddr>>,
    pub cookie_always: bool,
    pub announce: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupFile {
    id: String,
    owner: String,
    link_suites: Option<Vec<String>>,
    suite: Option<String>,
    transmit: Option<String>,
    key_lifetime: Option<String>,
    rekey_after: Option<String>,
    future_epochs: Option<u8>,
    on_join: Option<String>,
    admit: Option<Vec<String>>,
    kd_lifetime: Option<String>,
    keepalive: Option<String>,
    lost_after: Option<String>,
    max_members: Option<usize>,
    #[serde(default)]
    networks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberFile {
    identity: String,
    addresses: Vec<String>,
}

impl Checker<'_> {
    pub(super) fn owner(
        &mut self,
        groups: Vec<GroupFile>,
        members: Vec<MemberFile>,
        cookie_always: Option<bool>,
        announce: Option<bool>,
    ) -> Option<OwnerConfig> {
        if groups.is_empty() {
            self.missing("[[group]]", "an owner serves at least one group");
        }
        let mut networks = BTreeMap::new();
        let (mut ids, mut owners) = (BTreeSet::new(), BTreeSet::new());
        let mut policies = Vec::new();
        for (i, group) in groups.into_iter().enumerate() {
            let key = |name: &str| format!("group[{i}].{name}");
            let prefixes = group
                .networks
                .iter()
                .filter_map(|n| self.value(&key("networks"), n, "a network, as \"10.77.0.0/24\""))
                .collect();
            let Some(policy) = self.group(i, group) else { continue };
            if !ids.insert(policy.group) {
                self.wrong(&key("id"), policy.group, "another group has this id; each has one of its own");
            }
            if !owners.insert(policy.owner) {
                self.wrong(
                    &key("owner"),
                    policy.owner,
                    "another group has this Layer-2 id; each has one of its own",
                );
            }
            networks.insert(policy.group, prefixes);
            policies.push(policy);
        }
        let mut addresses = BTreeMap::<Identity, Vec<IpAddr>>::new();
        let mut taken = BTreeMap::<IpAddr, Identity>::new();
        for (i, member) in members.iter().enumerate() {
            let identity = self.identity(&format!("member[{i}].identity"), &member.identity);
            for text in &member.addresses {
                let key = format!("member[{i}].addresses");
                let address =
                    self.value::<IpAddr>(&key, text, "an IP address without prefix length, as \"10.77.0.1\"");
                let (Some(identity), Some(address)) = (&identity, address) else { continue };
                if is_nobodys(address) {
                    self.wrong(&key, address, "no station has such an address; write that of the member");
                }
                if let Some(other) = taken.insert(address, identity.clone()) {
                    self.wrong(&key, address, format_args!("{other} has this address already"));
                }
                addresses.entry(identity.clone()).or_default().push(address);
            }
        }
        Some(OwnerConfig {
            groups: policies,
            networks,
            addresses,
            cookie_always: cookie_always.unwrap_or(false),
            announce: announce.unwrap_or(true),
        })
    }

    fn group(&mut self, i: usize, g: GroupFile) -> Option<GroupPolicy> {
        let key = |name: &str| format!("group[{i}].{name}");
        let group = self.group_id(&key("id"), &g.id);
        let owner = self.layer2(&key("owner"), &g.owner);
        let mut p = GroupPolicy::new(group?, owner?);
        p.link_suites = self.suites(&key("link_suites"), g.link_suites.as_deref(), p.link_suites);
        if let Some(name) = &g.suite {
            p.group_suite = self.suite(&key("suite"), name)?;
        }
        p.direct = match g.transmit.as_deref() {
            None | Some("owner") => false,
            Some("direct") => true,
            Some(other) => {
                self.wrong(
                    &key("transmit"),
                    other,
                    "write \"owner\" (members send by the owner) or \"direct\"",
                );
                false
            }
        };
        p.key_lifetime = self.duration(&key("key_lifetime"), g.key_lifetime.as_deref(), p.key_lifetime);
        if let Some(text) = &g.rekey_after {
            p.rekey_after = Some(self.duration(&key("rekey_after"), Some(text), p.change_after()));
        }
        p.future_epochs = g.future_epochs.unwrap_or(p.future_epochs);
        p.on_join = match g.on_join.as_deref() {
            None | Some("current") => OnJoin::Current,
            Some("fresh") => OnJoin::Fresh,
            Some(other) => {
                self.wrong(&key("on_join"), other, "write \"current\" or \"fresh\"");
                OnJoin::Current
            }
        };
        if let Some(admit) = &g.admit {
            let listed = admit.iter().filter_map(|t| self.identity(&key("admit"), t)).collect();
            p.admission = Admission::Listed(listed);
        }
        p.kd_lifetime = self.duration(&key("kd_lifetime"), g.kd_lifetime.as_deref(), p.kd_lifetime);
        p.keepalive_period = self.duration(&key("keepalive"), g.keepalive.as_deref(), p.keepalive_period);
        p.lost_after = self.duration(&key("lost_after"), g.lost_after.as_deref(), p.lost_after);
        p.max_members = g.max_members.unwrap_or(p.max_members);
        if let Err(error) = p.check() {
            self.problems.push(Problem(format!("group[{i}]: {error}")));
        }
        Some(p)
    }
}

/// Whether an address is no station's: unspecified, loopback, multicast, broadcast.
fn is_nobodys(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast
}

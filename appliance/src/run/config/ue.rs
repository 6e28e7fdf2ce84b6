//! `[ue]` and `[tun]`: a member, and the device that programs talk through.

use std::path::PathBuf;

use ipnet::IpNet;
use pc5_control::policy::MemberPolicy;
use pc5_dataplane::io::tun::Kind;
use serde::Deserialize;

use super::check::{Checker, Problem};
use crate::run::tun;

/// A member.
#[derive(Clone, PartialEq)]
pub(crate) struct UeConfig {
    pub policy: MemberPolicy,
    /// Pre-shared keys of a group without owner; none: the group has one.
    pub group_keys: Vec<GroupKeyFile>,
    pub tun: TunConfig,
}

/// A pre-shared key of a group without owner.
#[derive(Clone, PartialEq)]
pub(crate) struct GroupKeyFile {
    pub id: u16,
    /// 64 hexadecimal digits.
    pub file: PathBuf,
    /// First and last second of use.
    pub valid: (u64, u64),
}

/// The TUN or TAP device of a member.
#[derive(Clone, PartialEq)]
pub(crate) struct TunConfig {
    pub kind: Kind,
    pub name: String,
    pub addresses: Vec<IpNet>,
    pub mtu: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UeFile {
    group: String,
    layer2: String,
    owner: Option<String>,
    owner_identity: Option<String>,
    suites: Option<Vec<String>>,
    rejoin: Option<bool>,
    #[serde(default)]
    group_key: Vec<GroupKeyEntry>,
}

/// `[[membership]]`: one more group, with a Layer-2 id and a device of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipFile {
    group: String,
    layer2: String,
    owner: Option<String>,
    owner_identity: Option<String>,
    suites: Option<Vec<String>>,
    rejoin: Option<bool>,
    #[serde(default)]
    group_key: Vec<GroupKeyEntry>,
    tun: Option<TunFile>,
}

impl MembershipFile {
    fn split(self) -> (UeFile, Option<TunFile>) {
        let Self { group, layer2, owner, owner_identity, suites, rejoin, group_key, tun } = self;
        (UeFile { group, layer2, owner, owner_identity, suites, rejoin, group_key }, tun)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupKeyEntry {
    id: u16,
    file: PathBuf,
    not_before: u64,
    not_after: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TunFile {
    kind: Option<String>,
    name: Option<String>,
    addresses: Vec<String>,
    mtu: Option<u16>,
}

impl Checker<'_> {
    /// All groups that a UE is a member of, that of `[ue]` first.
    pub(super) fn ues(
        &mut self,
        ue: Option<UeFile>,
        tun: Option<TunFile>,
        more: Vec<MembershipFile>,
    ) -> Option<Vec<UeConfig>> {
        let mut all = vec![self.ue("ue", "tun", ue, tun)];
        for (i, membership) in more.into_iter().enumerate() {
            let (ue, tun) = membership.split();
            let key = format!("membership[{i}]");
            let ue = self.ue(&key, &format!("{key}.tun"), Some(ue), tun);
            let Some(new) = &ue else {
                all.push(ue);
                continue;
            };
            let others: Vec<&UeConfig> = all.iter().flatten().collect();
            let takes = |is: &dyn Fn(&UeConfig) -> bool| others.iter().any(|o| is(o));
            let group = takes(&|o| o.policy.group == new.policy.group);
            let layer2 = takes(&|o| o.policy.layer2 == new.policy.layer2);
            // What the system numbers gets different names.
            let name = !new.tun.name.contains('%') && takes(&|o| o.tun.name == new.tun.name);
            if group {
                self.wrong(&format!("{key}.group"), new.policy.group, "another membership is of this group");
            }
            if layer2 {
                let write = "another membership has this Layer-2 id; each has one of its own";
                self.wrong(&format!("{key}.layer2"), new.policy.layer2, write);
            }
            if name {
                let write = "another membership has this device; each has one of its own";
                self.wrong(&format!("{key}.tun.name"), &new.tun.name, write);
            }
            all.push(ue);
        }
        if all.len() > MEMBERSHIPS {
            self.wrong("[[membership]]", all.len() - 1, format_args!("write {} at most", MEMBERSHIPS - 1));
        }
        all.into_iter().collect()
    }

    fn ue(&mut self, at: &str, tun_at: &str, ue: Option<UeFile>, tun: Option<TunFile>) -> Option<UeConfig> {
        let key = |name: &str| format!("{at}.{name}");
        let tun = tun.map(|t| self.tun(tun_at, t));
        if tun.is_none() {
            let write = "write `addresses`, as [\"10.77.0.1/24\"], and if wanted `name` and `mtu`";
            self.missing(&format!("[{tun_at}]"), write);
        }
        let Some(ue) = ue else {
            self.missing("[ue]", "write `group` and `layer2`");
            return None;
        };
        let group = self.group_id(&key("group"), &ue.group);
        let layer2 = self.layer2(&key("layer2"), &ue.layer2);
        let owner = match &ue.owner {
            Some(text) => Some(self.layer2(&key("owner"), text)?),
            None => None,
        };
        let owner_identity = match &ue.owner_identity {
            Some(text) => Some(self.identity(&key("owner_identity"), text)?),
            None => None,
        };
        let (group, layer2) = (group?, layer2?);
        if owner == Some(layer2) {
            self.wrong(&key("owner"), layer2, "the owner has another Layer-2 id than this UE");
        }
        let mut policy = MemberPolicy::new(group, layer2, owner.unwrap_or(layer2));
        policy.owner = owner;
        policy.owner_identity = owner_identity;
        policy.suites = self.suites(&key("suites"), ue.suites.as_deref(), policy.suites);
        if !policy.suites.iter().any(|s| s.has_integrity()) {
            let what = "name at least one suite with integrity, for the link";
            self.problems.push(Problem(format!("{}: {what}", key("suites"))));
        }
        policy.rejoin = ue.rejoin.unwrap_or(policy.rejoin);
        let without_owner = !ue.group_key.is_empty();
        if without_owner && (owner.is_some() || policy.owner_identity.is_some() || ue.rejoin.is_some()) {
            self.out_of_place(
                &[key("owner"), key("owner_identity"), key("rejoin")].join(", "),
                "[[ue.group_key]] is for a group without owner",
            );
        }
        let keys = ue.group_key.into_iter().enumerate();
        let group_keys = keys.map(|(i, k)| self.group_key(&format!("{at}.group_key[{i}]"), k)).collect();
        Some(UeConfig { policy, group_keys, tun: tun? })
    }

    fn group_key(&mut self, at: &str, k: GroupKeyEntry) -> GroupKeyFile {
        if k.not_before >= k.not_after {
            let key = format!("{at}.not_after");
            self.wrong(&key, k.not_after, "write seconds since 1970, later than not_before");
        }
        let file = self.file(&format!("{at}.file"), &k.file);
        GroupKeyFile { id: k.id, file, valid: (k.not_before, k.not_after) }
    }

    fn tun(&mut self, at: &str, tun: TunFile) -> TunConfig {
        let key = |name: &str| format!("{at}.{name}");
        let addresses = tun
            .addresses
            .iter()
            .filter_map(|a| {
                self.value(&key("addresses"), a, "an address and its prefix length, as \"10.77.0.1/24\"")
            })
            .collect();
        let name = tun.name.unwrap_or_else(|| "pc5-%d".into());
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
            self.wrong(&key("name"), &name, "write 1 to 15 characters without blank and slash");
        }
        if let Some(mtu) = tun.mtu
            && mtu < 576
        {
            self.wrong(&key("mtu"), mtu, "write 576 or more, or leave it out for what fits the port");
        }
        let kind = match tun.kind.as_deref() {
            None => Kind::Ip,
            Some(text) => tun::kind(text).unwrap_or_else(|| {
                self.wrong(&key("kind"), text, "write \"ip\" (TUN) or \"ethernet\" (TAP)");
                Kind::Ip
            }),
        };
        TunConfig { kind, name, addresses, mtu: tun.mtu }
    }
}

/// Groups that one UE is a member of.
pub(crate) const MEMBERSHIPS: usize = 8;

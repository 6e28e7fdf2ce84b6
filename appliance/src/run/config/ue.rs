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
    pub(super) fn ue(&mut self, ue: Option<UeFile>, tun: Option<TunFile>) -> Option<UeConfig> {
        let tun = tun.map(|t| self.tun(t));
        if tun.is_none() {
            self.missing("[tun]", "write `addresses`, as [\"10.77.0.1/24\"], and if wanted `name` and `mtu`");
        }
        let Some(ue) = ue else {
            self.missing("[ue]", "write `group` and `layer2`");
            return None;
        };
        let group = self.group_id("ue.group", &ue.group);
        let layer2 = self.layer2("ue.layer2", &ue.layer2);
        let owner = match &ue.owner {
            Some(text) => Some(self.layer2("ue.owner", text)?),
            None => None,
        };
        let owner_identity = match &ue.owner_identity {
            Some(text) => Some(self.identity("ue.owner_identity", text)?),
            None => None,
        };
        let (group, layer2) = (group?, layer2?);
        if owner == Some(layer2) {
            self.wrong("ue.owner", layer2, "the owner has another Layer-2 id than this UE");
        }
        let mut policy = MemberPolicy::new(group, layer2, owner.unwrap_or(layer2));
        policy.owner = owner;
        policy.owner_identity = owner_identity;
        policy.suites = self.suites("ue.suites", ue.suites.as_deref(), policy.suites);
        if !policy.suites.iter().any(|s| s.has_integrity()) {
            self.problems
                .push(Problem("ue.suites: name at least one suite with integrity, for the link".into()));
        }
        policy.rejoin = ue.rejoin.unwrap_or(policy.rejoin);
        let without_owner = !ue.group_key.is_empty();
        if without_owner && (owner.is_some() || policy.owner_identity.is_some() || ue.rejoin.is_some()) {
            self.out_of_place(
                "ue.owner, ue.owner_identity, ue.rejoin",
                "[[ue.group_key]] is for a group without owner",
            );
        }
        let group_keys = ue.group_key.into_iter().enumerate().map(|(i, k)| self.group_key(i, k)).collect();
        Some(UeConfig { policy, group_keys, tun: tun? })
    }

    fn group_key(&mut self, i: usize, k: GroupKeyEntry) -> GroupKeyFile {
        if k.not_before >= k.not_after {
            let key = format!("ue.group_key[{i}].not_after");
            self.wrong(&key, k.not_after, "write seconds since 1970, later than not_before");
        }
        let file = self.file(&format!("ue.group_key[{i}].file"), &k.file);
        GroupKeyFile { id: k.id, file, valid: (k.not_before, k.not_after) }
    }

    fn tun(&mut self, tun: TunFile) -> TunConfig {
        let addresses = tun
            .addresses
            .iter()
            .filter_map(|a| {
                self.value("tun.addresses", a, "an address and its prefix length, as \"10.77.0.1/24\"")
            })
            .collect();
        let name = tun.name.unwrap_or_else(|| "pc5-%d".into());
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
            self.wrong("tun.name", &name, "write 1 to 15 characters without blank and slash");
        }
        if let Some(mtu) = tun.mtu
            && mtu < 576
        {
            self.wrong("tun.mtu", mtu, "write 576 or more, or leave it out for what fits the port");
        }
        let kind = match tun.kind.as_deref() {
            None => Kind::Ip,
            Some(text) => tun::kind(text).unwrap_or_else(|| {
                self.wrong("tun.kind", text, "write \"ip\" (TUN) or \"ethernet\" (TAP)");
                Kind::Ip
            }),
        };
        TunConfig { kind, name, addresses, mtu: tun.mtu }
    }
}

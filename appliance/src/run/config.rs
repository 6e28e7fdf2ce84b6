//! The configuration of `pc5 run`: one TOML file, checked whole before anything opens.
//!
//! Reading has two steps. [`File`] is the file's shape, unknown keys refused; [`Config`] is what it means, every value
//! parsed. All that is wrong is collected, each with its key, its value and what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use pc5_control::credential::{Freshness, Identity, Plmn};
use pc5_control::policy::{Admission, GroupPolicy, MemberPolicy, OnJoin};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::io::probe::{Choice, Way};
use pc5_dataplane::io::tun::Kind;
use pc5_dataplane::io::udp;
use pc5_dataplane::suite::Suite;
use serde::Deserialize;

use super::tun;

/// Where the admin socket is unless the configuration says otherwise.
pub(crate) const ADMIN_SOCKET: &str = "/run/pc5/admin.sock";

/// A checked configuration.
pub(crate) struct Config {
    /// Path of the admin socket.
    pub admin: PathBuf,
    /// File of the durable state; none: in memory.
    pub state: Option<PathBuf>,
    /// Key log, for laboratories.
    pub key_log: Option<PathBuf>,
    pub port: Port,
    pub credential: Credential,
    pub trust: Vec<Trust>,
    pub freshness: Freshness,
    pub station: Station,
}

/// How frames come and go.
pub(crate) enum Port {
    Raw { choice: Choice, interface: String, vlan: Option<u16>, blocks: bool },
    Udp { bind: SocketAddr, peers: Vec<(Layer2Id, SocketAddr)> },
}

/// Certificate chain and key of this device.
pub(crate) struct Credential {
    pub certificate: PathBuf,
    pub key: KeySource,
}

/// Where the private key is.
pub(crate) enum KeySource {
    /// PKCS#8 PEM, readable by its owner alone.
    File(PathBuf),
    /// An entry of a sealed vault, and the file with its pass phrase.
    Vault { path: PathBuf, entry: String, pass_phrase: PathBuf },
}

/// A root and what its CRLs say.
pub(crate) struct Trust {
    pub plmn: Plmn,
    pub root: PathBuf,
    pub crls: Vec<PathBuf>,
}

/// What this appliance is.
pub(crate) enum Station {
    Owner(OwnerConfig),
    Ue(Box<UeConfig>),
}

/// A group owner.
pub(crate) struct OwnerConfig {
    pub groups: Vec<GroupPolicy>,
    /// Inner networks of each group: their directed broadcasts go to the group.
    pub networks: BTreeMap<GroupId, Vec<IpNet>>,
    /// Inner addresses that belong to one member only.
    pub addresses: BTreeMap<Identity, Vec<IpAddr>>,
    pub cookie_always: bool,
    pub announce: bool,
}

/// A member.
pub(crate) struct UeConfig {
    pub policy: MemberPolicy,
    pub tun: TunConfig,
}

/// The TUN or TAP device of a member.
pub(crate) struct TunConfig {
    pub kind: Kind,
    pub name: String,
    pub addresses: Vec<IpNet>,
    pub mtu: Option<u16>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem(pub String);

/// Everything that is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {}", lines(.problems))]
pub(crate) struct ConfigError {
    pub path: String,
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let all: Vec<&str> = problems.iter().map(|p| p.0.as_str()).collect();
    match all.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("{} errors\n  {}", many.len(), many.join("\n  ")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role: String,
    admin: Option<PathBuf>,
    state: Option<PathBuf>,
    key_log: Option<PathBuf>,
    workers: Option<u64>,
    port: PortFile,
    credential: CredentialFile,
    #[serde(default)]
    trust: Vec<TrustFile>,
    crl_freshness: Option<String>,
    cookie_always: Option<bool>,
    announce: Option<bool>,
    #[serde(default)]
    group: Vec<GroupFile>,
    #[serde(default)]
    member: Vec<MemberFile>,
    ue: Option<UeFile>,
    tun: Option<TunFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortFile {
    kind: String,
    interface: Option<String>,
    vlan: Option<u16>,
    receive: Option<String>,
    bind: Option<String>,
    #[serde(default)]
    peer: Vec<PeerFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerFile {
    layer2: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialFile {
    certificate: PathBuf,
    key: Option<PathBuf>,
    vault: Option<PathBuf>,
    vault_entry: Option<String>,
    pass_phrase_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    plmn: String,
    root: PathBuf,
    #[serde(default)]
    crl: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
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
struct MemberFile {
    identity: String,
    addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UeFile {
    group: String,
    layer2: String,
    owner: Option<String>,
    owner_identity: Option<String>,
    suites: Option<Vec<String>>,
    rejoin: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TunFile {
    kind: Option<String>,
    name: Option<String>,
    addresses: Vec<String>,
    mtu: Option<u16>,
}

/// Reads and checks a file. Paths in it are relative to its folder.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
    let failed =
        |what: String| ConfigError { path: path.display().to_string(), problems: vec![Problem(what)] };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, base).map_err(|problems| ConfigError { path: path.display().to_string(), problems })
}

/// Reads and checks a text.
pub(crate) fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    let file: File = toml::from_str(text).map_err(|e| vec![Problem(e.to_string().trim_end().to_owned())])?;
    let mut check = Checker { base, problems: Vec::new() };
    let config = check.config(file);
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        _ => Err(check.problems),
    }
}

struct Checker<'a> {
    base: &'a Path,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn wrong(&mut self, key: &str, value: impl Display, write: impl Display) {
        self.problems.push(Problem(format!("{key} = \"{value}\": {write}")));
    }

    fn missing(&mut self, key: &str, write: &str) {
        self.problems.push(Problem(format!("{key} is missing: {write}")));
    }

    fn out_of_place(&mut self, key: &str, why: &str) {
        self.problems.push(Problem(format!("{key} stands here without effect: {why}")));
    }

    /// A value of a type that reads itself.
    fn value<T: FromStr>(&mut self, key: &str, text: &str, write: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(key, text, format_args!("write {write}"));
        }
        value
    }

    fn duration(&mut self, key: &str, text: Option<&str>, or: Duration) -> Duration {
        let Some(text) = text else { return or };
        duration(text).unwrap_or_else(|| {
            self.wrong(
                key,
                text,
                "write a number and its unit, as \"500ms\", \"30s\", \"5m\", \"1h\" or \"7d\"",
            );
            or
        })
    }

    fn suites(&mut self, key: &str, names: Option<&[String]>, or: Vec<Suite>) -> Vec<Suite> {
        let Some(names) = names else { return or };
        if names.is_empty() {
            self.wrong(key, "[]", "name at least one suite");
        }
        names.iter().filter_map(|name| self.suite(key, name)).collect()
    }

    fn suite(&mut self, key: &str, name: &str) -> Option<Suite> {
        self.value(key, name, "a suite: eea1-eia1 eea2-eia2 eea3-eia3 aes-128-gcm aes-256-gcm nca4 nca5 nca6, and for groups eea0 to eea3")
    }

    /// A file that is there.
    fn file(&mut self, key: &str, path: &Path) -> PathBuf {
        let path = self.base.join(path);
        if !path.is_file() {
            self.wrong(
                key,
                path.display(),
                "no such file; write the path of one, relative to this configuration or absolute",
            );
        }
        path
    }

    fn config(&mut self, file: File) -> Option<Config> {
        match file.workers {
            None | Some(1) => {}
            Some(n) => self.wrong("workers", n, "this version runs one worker; write 1 or leave it out"),
        }
        let admin = self.base.join(file.admin.unwrap_or_else(|| ADMIN_SOCKET.into()));
        let state = file.state.map(|path| self.base.join(path));
        if let Some(state) = &state
            && !state.parent().is_some_and(|p| p.as_os_str().is_empty() || p.is_dir())
        {
            self.wrong("state", state.display(), "its folder is not there; make it, mode 0700");
        }
        let key_log = file.key_log.map(|path| self.base.join(path));
        let port = self.port(file.port);
        let credential = self.credential(file.credential);
        if file.trust.is_empty() {
            self.missing("[[trust]]", "write the PLMN and root of every network whose devices are believed");
        }
        let trust = file.trust.into_iter().enumerate().filter_map(|(i, t)| self.trust(i, t)).collect();
        let freshness = match file.crl_freshness.as_deref() {
            None => Freshness::default(),
            Some("refuse") => Freshness::Refuse,
            Some(text) => match text.strip_prefix("grace ").and_then(duration) {
                Some(grace) => Freshness::Grace(grace.as_secs()),
                None => {
                    self.wrong(
                        "crl_freshness",
                        text,
                        "write \"refuse\" or \"grace\" and a time, as \"grace 7d\"",
                    );
                    Freshness::default()
                }
            },
        };
        let station = match file.role.as_str() {
            "owner" => {
                for (key, there) in [("[ue]", file.ue.is_some()), ("[tun]", file.tun.is_some())] {
                    if there {
                        self.out_of_place(key, "role is \"owner\"; it belongs to role \"ue\"");
                    }
                }
                self.owner(file.group, file.member, file.cookie_always, file.announce).map(Station::Owner)
            }
            "ue" => {
                let owners = [
                    ("[[group]]", !file.group.is_empty()),
                    ("[[member]]", !file.member.is_empty()),
                    ("cookie_always", file.cookie_always.is_some()),
                    ("announce", file.announce.is_some()),
                ];
                for (key, _) in owners.into_iter().filter(|(_, there)| *there) {
                    self.out_of_place(key, "role is \"ue\"; it belongs to role \"owner\"");
                }
                self.ue(file.ue, file.tun).map(|ue| Station::Ue(Box::new(ue)))
            }
            other => {
                self.wrong("role", other, "write \"owner\" for a group owner or \"ue\" for a member");
                None
            }
        };
        Some(Config {
            admin,
            state,
            key_log,
            port: port?,
            credential: credential?,
            trust,
            freshness,
            station: station?,
        })
    }

    fn port(&mut self, port: PortFile) -> Option<Port> {
        let kinds = "auto, af_xdp, af_packet or pnet (an interface), or udp (peers)";
        match self.value::<Choice>("port.kind", &port.kind, kinds)? {
            choice if choice != Choice::Only(Way::Udp) => {
                if port.bind.is_some() || !port.peer.is_empty() {
                    self.out_of_place("port.bind, port.peer", "they belong to port.kind \"udp\"");
                }
                if let Some(vlan) = port.vlan
                    && !(1..=4094).contains(&vlan)
                {
                    self.wrong("port.vlan", vlan, "write 1 to 4094, or leave it out for untagged frames");
                }
                let blocks = match port.receive.as_deref() {
                    None | Some("frames") => false,
                    Some("blocks") => true,
                    Some(other) => {
                        self.wrong(
                            "port.receive",
                            other,
                            "write \"frames\" (each at once) or \"blocks\" (cheapest under load)",
                        );
                        false
                    }
                };
                let Some(interface) = port.interface else {
                    self.missing("port.interface", "write the name of an interface, as `ip link` shows it");
                    return None;
                };
                Some(Port::Raw { choice, interface, vlan: port.vlan, blocks })
            }
            _ => {
                if port.interface.is_some() || port.vlan.is_some() || port.receive.is_some() {
                    self.out_of_place(
                        "port.interface, port.vlan, port.receive",
                        "they belong to the other values of port.kind",
                    );
                }
                let usual = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), udp::PORT);
                let bind = match &port.bind {
                    Some(text) => self.value("port.bind", text, "ADDRESS:PORT, as \"0.0.0.0:34997\"")?,
                    None => usual,
                };
                let mut peers = Vec::new();
                for (i, peer) in port.peer.iter().enumerate() {
                    let id = self.layer2(&format!("port.peer[{i}].layer2"), &peer.layer2);
                    let address = self.value(
                        &format!("port.peer[{i}].address"),
                        &peer.address,
                        "ADDRESS:PORT, as \"192.0.2.1:34997\"",
                    );
                    peers.extend(id.zip(address));
                }
                if port.peer.is_empty() {
                    self.missing(
                        "[[port.peer]]",
                        "a UDP port needs the address of each peer that it may be the first to send to",
                    );
                }
                Some(Port::Udp { bind, peers })
            }
        }
    }

    fn credential(&mut self, c: CredentialFile) -> Option<Credential> {
        let certificate = self.file("credential.certificate", &c.certificate);
        let key = match (c.key, c.vault, c.vault_entry, c.pass_phrase_file) {
            (Some(key), None, None, None) => KeySource::File(self.file("credential.key", &key)),
            (None, Some(vault), Some(entry), Some(pass)) => KeySource::Vault {
                path: self.file("credential.vault", &vault),
                entry,
                pass_phrase: self.file("credential.pass_phrase_file", &pass),
            },
            _ => {
                self.missing(
                    "credential.key",
                    "write `key`, or all of `vault`, `vault_entry` and `pass_phrase_file`, and not both",
                );
                return None;
            }
        };
        Some(Credential { certificate, key })
    }

    fn trust(&mut self, i: usize, t: TrustFile) -> Option<Trust> {
        let plmn = self.value(&format!("trust[{i}].plmn"), &t.plmn, "MCC-MNC, as \"001-01\"");
        let root = self.file(&format!("trust[{i}].root"), &t.root);
        let crls = t.crl.iter().map(|p| self.file(&format!("trust[{i}].crl"), p)).collect();
        Some(Trust { plmn: plmn?, root, crls })
    }

    fn layer2(&mut self, key: &str, text: &str) -> Option<Layer2Id> {
        self.value(key, text, "a Layer-2 id: 6 hexadecimal digits")
    }

    fn group_id(&mut self, key: &str, text: &str) -> Option<GroupId> {
        self.value(key, text, "a ProSe Layer-2 group id: 6 hexadecimal digits")
    }

    fn identity(&mut self, key: &str, text: &str) -> Option<Identity> {
        self.value(key, text, "an identity, as \"pc5:001-01:ue:ue-1\"")
    }

    fn owner(
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
            p.rekey_after = Some(self.duration(&key("rekey_after"), Some(text), Duration::ZERO));
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

    fn ue(&mut self, ue: Option<UeFile>, tun: Option<TunFile>) -> Option<UeConfig> {
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
        Some(UeConfig { policy, tun: tun? })
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

/// A number and its unit.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(extra_top: &str, extra_group: &str) -> String {
        format!(
            "role = \"owner\"\n{extra_top}\n[port]\nkind = \"auto\"\ninterface = \"eth0\"\n\
             [credential]\ncertificate = \"/dev/null\"\nkey = \"/dev/null\"\n\
             [[trust]]\nplmn = \"001-01\"\nroot = \"/dev/null\"\n\
             [[group]]\nid = \"f00001\"\nowner = \"fffffe\"\n{extra_group}\n"
        )
    }

    fn problems(text: &str) -> Vec<String> {
        match parse(text, Path::new("/")) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|p| p.0).collect(),
        }
    }

    /// `/dev/null` is no regular file: the tests' own stand-in.
    fn with_files(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.pem"), "").unwrap();
        let text = text.replace("/dev/null", "x.pem");
        match parse(&text, folder.path()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|p| p.0).collect(),
        }
    }

    #[test]
    fn a_good_file_is_taken_and_absent_files_are_named() {
        assert_eq!(with_files(&owner("", "")), Vec::<String>::new());
        let found = problems(&owner("", ""));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("credential.certificate = "), "{found:?}");
    }

    #[test]
    fn every_error_names_key_value_and_what_to_write_and_all_are_told_at_once() {
        let text = owner(
            "workers = 4\ncrl_freshness = \"never\"",
            "suite = \"rot13\"\ntransmit = \"all\"\nkeepalive = \"5\"",
        );
        let found = with_files(&text).join("\n");
        for part in [
            "workers = \"4\": this version runs one worker",
            "crl_freshness = \"never\": write \"refuse\"",
            "group[0].suite = \"rot13\": write a suite",
        ] {
            assert!(found.contains(part), "{part} not in\n{found}");
        }
    }

    #[test]
    fn unknown_keys_and_keys_of_the_other_role_are_refused() {
        assert!(with_files(&owner("colour = 1", ""))[0].contains("unknown field `colour`"));
        assert!(with_files(&owner("", "colour = 1"))[0].contains("unknown field `colour`"));
        let text = owner("", "") + "[tun]\naddresses = []\n";
        assert!(with_files(&text)[0].contains("[tun] stands here without effect"));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "5", "s", "5 s", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_of_two_members_is_refused() {
        let member =
            |n: u8| format!("[[member]]\nidentity = \"pc5:001-01:ue:ue-{n}\"\naddresses = [\"10.0.0.1\"]\n");
        let found = with_files(&(owner("", "") + &member(1) + &member(2)));
        assert!(found[0].contains("pc5:001-01:ue:ue-1 has this address already"), "{found:?}");
    }
}

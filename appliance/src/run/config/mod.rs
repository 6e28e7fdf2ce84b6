//! The configuration of `pc5 run`: one TOML file, checked whole before anything opens.
//!
//! Reading has two steps. [`File`] is the file's shape, unknown keys refused; [`Config`] is what it means, every value
//! parsed. All that is wrong is collected, each with its key, its value and what to write instead. Each part of the
//! file has a module: its shape, its meaning, and how one becomes the other.

mod check;
mod est;
mod group;
mod identity;
#[cfg(test)]
mod odd;
mod port;
mod reload;
mod ue;
mod weakness;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pc5_control::credential::Freshness;
use pc5_control::files::FileKind;
use pc5_control::policy::GroupPolicy;
use pc5_dataplane::ReceiveLimits;
use pc5_dataplane::cipher::Kernel;
use pc5_dataplane::crypto;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::window::limits::MAX_WIDTH;
use serde::Deserialize;

use super::privileges::{Files, User};
use super::workers;

pub(crate) use self::check::Problem;
use self::check::{Checker, duration};
pub(crate) use self::est::Est;
use self::est::EstFile;
pub(crate) use self::group::OwnerConfig;
use self::group::{GroupFile, MemberFile};
pub(crate) use self::identity::{Credential, KeySource, Trust};
use self::identity::{CredentialFile, TrustFile};
pub(crate) use self::port::Port;
use self::port::PortFile;
pub(crate) use self::reload::Changes;
pub(crate) use self::ue::{GroupKeyFile, MEMBERSHIPS, TunConfig, UeConfig};
use self::ue::{MembershipFile, TunFile, UeFile};
pub(crate) use self::weakness::weakness;

/// Where the admin socket is unless the configuration says otherwise.
pub(crate) const ADMIN_SOCKET: &str = "/run/pc5/admin.sock";

const MAX_WORKERS: u64 = 64;

/// SNs of a replay window. PC5-S is opened before the data that waits in the port's ring, and shares SNs and window with it: what
/// waits there must not be too old for that.
const REPLAY_WINDOW: u32 = MAX_WIDTH;

/// PTK contexts of a sender.
const MAX_KEPT_PTKS: u64 = 64;

/// A checked configuration.
#[derive(Clone, PartialEq)]
pub(crate) struct Config {
    /// The file that it was read from.
    pub source: PathBuf,
    /// Whom a daemon started as root becomes; none: the owner of the state's folder.
    pub user: Option<User>,
    /// Data workers.
    pub workers: usize,
    /// A kernel tier for every suite that has it; none: the highest of this machine.
    pub kernel: Option<Kernel>,
    /// Windows and budgets of every worker's engine.
    pub receive: ReceiveLimits,
    /// Path of the admin socket.
    pub admin: PathBuf,
    /// File of the durable state; none: in memory.
    pub state: Option<PathBuf>,
    /// Key log, for laboratories.
    pub key_log: Option<PathBuf>,
    pub port: Port,
    pub credential: Credential,
    pub trust: Vec<Trust>,
    /// The enrolment server, and what is fetched besides.
    pub est: Option<Est>,
    pub freshness: Freshness,
    /// What is logged, unless the environment says.
    pub log: Option<String>,
    /// Where Prometheus may ask, on loopback.
    pub metrics: Option<SocketAddr>,
    pub station: Station,
}

/// What this appliance is.
#[derive(Clone, PartialEq)]
pub(crate) enum Station {
    Owner(OwnerConfig),
    /// One membership a group; at least one.
    Ue(Vec<UeConfig>),
}

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
    user: Option<String>,
    admin: Option<PathBuf>,
    state: Option<PathBuf>,
    key_log: Option<PathBuf>,
    log: Option<String>,
    metrics: Option<String>,
    workers: Option<u64>,
    kernel: Option<String>,
    replay_window: Option<u64>,
    kept_ptks: Option<u64>,
    port: PortFile,
    credential: CredentialFile,
    #[serde(default)]
    trust: Vec<TrustFile>,
    est: Option<EstFile>,
    crl_freshness: Option<String>,
    cookie_always: Option<bool>,
    announce: Option<bool>,
    #[serde(default)]
    group: Vec<GroupFile>,
    #[serde(default)]
    member: Vec<MemberFile>,
    ue: Option<UeFile>,
    tun: Option<TunFile>,
    #[serde(default)]
    membership: Vec<MembershipFile>,
}

impl Config {
    /// Suites that may come into use, each once.
    pub(crate) fn suites(&self) -> Vec<Suite> {
        let of_group = |g: &GroupPolicy| [g.link_suites.clone(), vec![g.group_suite]].concat();
        let named: Vec<Suite> = match &self.station {
            Station::Owner(owner) => owner.groups.iter().flat_map(of_group).collect(),
            Station::Ue(ues) => ues.iter().flat_map(|ue| ue.policy.suites.iter().copied()).collect(),
        };
        Suite::ALL.into_iter().filter(|suite| named.contains(suite)).collect()
    }

    /// Where a certificate is kept that could not be written to its file: beside the state.
    pub(crate) fn kept_certificate(&self) -> Option<PathBuf> {
        self.state.as_deref().map(kept_certificate)
    }

    /// The files that a running daemon works with.
    pub(crate) fn files(&self) -> Files {
        let mut files = Files::default();
        files.reads(&self.source);
        files.reads(&self.credential.certificate);
        for trust in &self.trust {
            files.reads(&trust.root);
            trust.crls.iter().for_each(|crl| files.reads(crl));
        }
        if let Some(est) = &self.est {
            files.reads(&est.root);
            // It is renewed in its place.
            files.writes(&self.credential.certificate);
        }
        self.credential.pkcs11_folders.iter().for_each(|folder| files.reads_in(folder));
        self.state.iter().for_each(|state| files.writes(state));
        files.removes(&self.admin);
        files
    }
}

fn kept_certificate(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".certificate.pem");
    name.into()
}

/// Reads and checks a file. Paths in it are relative to its folder.
///
/// # Errors
/// It cannot be read; or [`ConfigError`] with everything that is wrong.
pub(crate) fn read(path: &Path) -> anyhow::Result<Config> {
    let text = CONFIGURATION.read_text(path).with_context(|| path.display().to_string())?;
    let base = path.parent().unwrap_or(Path::new(""));
    match parse(&text, base) {
        Ok(config) => Ok(Config { source: path.to_owned(), ..config }),
        Err(problems) => Err(ConfigError { path: path.display().to_string(), problems }.into()),
    }
}

/// A configuration: thousands of members.
pub(crate) const CONFIGURATION: FileKind = FileKind::new("configuration", 4 << 20);

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

impl Checker<'_> {
    fn config(&mut self, file: File) -> Option<Config> {
        let workers = match file.workers {
            None => 1,
            Some(n @ 1..=MAX_WORKERS) => n as usize,
            Some(n) => {
                self.wrong("workers", n, format_args!("write 1 to {MAX_WORKERS}"));
                1
            }
        };
        let kernel = file.kernel.as_deref().and_then(|name| self.kernel(name));
        let receive = self.receive(&file);
        let admin = self.base.join(file.admin.unwrap_or_else(|| ADMIN_SOCKET.into()));
        let user = file.user.as_deref().and_then(|text| {
            let found = User::named(text);
            if found.is_none() {
                self.wrong("user", text, "no such user; write the name or number of one");
            }
            found
        });
        if let Some(log) = &file.log
            && let Err(e) = log.parse::<tracing_subscriber::EnvFilter>()
        {
            self.wrong(
                "log",
                log,
                format_args!("{e}; write a level, as \"info\", or targets, as \"info,pc5=debug\""),
            );
        }
        let metrics = file.metrics.as_deref().and_then(|text| {
            let write = "a loopback ADDRESS:PORT, as \"127.0.0.1:9497\"";
            let address = self.value::<SocketAddr>("metrics", text, write)?;
            if !address.ip().is_loopback() {
                self.wrong(
                    "metrics",
                    text,
                    format_args!("write {write}; what runs here is nobody else's business"),
                );
            }
            Some(address)
        });
        let state = file.state.map(|path| self.base.join(path));
        if let Some(state) = &state
            && !state.parent().is_some_and(|p| p.as_os_str().is_empty() || p.is_dir())
        {
            self.wrong("state", state.display(), "its folder is not there; make it, mode 0700");
        }
        let key_log = file.key_log.map(|path| self.base.join(path));
        let port = self.port(file.port);
        let credential = self.credential(file.credential, file.est.is_some());
        let kept = state.as_deref().map(kept_certificate).is_some_and(|path| path.is_file());
        let enrolled = kept || credential.as_ref().is_some_and(|c| c.certificate.is_file());
        let est = match file.est {
            Some(est) => Some(self.est(est, enrolled)?),
            None => None,
        };
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
                let members = [
                    ("[ue]", file.ue.is_some()),
                    ("[tun]", file.tun.is_some()),
                    ("[[membership]]", !file.membership.is_empty()),
                ];
                for (key, there) in members {
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
                self.ues(file.ue, file.tun, file.membership).map(Station::Ue)
            }
            other => {
                self.wrong("role", other, "write \"owner\" for a group owner or \"ue\" for a member");
                None
            }
        };
        if let Some(station) = &station
            && self.problems.is_empty()
            && let Err(why) = workers::check(workers, station)
        {
            self.wrong("workers", workers, why);
        }
        Some(Config {
            source: PathBuf::new(),
            workers,
            kernel,
            receive,
            user,
            admin,
            state,
            key_log,
            port: port?,
            credential: credential?,
            trust,
            est,
            freshness,
            log: file.log,
            metrics,
            station: station?,
        })
    }

    /// What receiving may take. Source: design of the frame format, section 4: a window of 1,024 to 32,768 SNs, 4 PTK contexts.
    fn receive(&mut self, file: &File) -> ReceiveLimits {
        let mut limits = ReceiveLimits { window: REPLAY_WINDOW, ..ReceiveLimits::default() };
        match file.replay_window {
            None => {}
            Some(n) if (64..=u64::from(MAX_WIDTH)).contains(&n) => limits.window = n as u32,
            Some(n) => self.wrong("replay_window", n, format_args!("write 64 to {MAX_WIDTH} SNs")),
        }
        match file.kept_ptks {
            None => {}
            Some(n) if (1..=MAX_KEPT_PTKS).contains(&n) => limits.kept_ptks = n as usize,
            Some(n) => self.wrong("kept_ptks", n, format_args!("write 1 to {MAX_KEPT_PTKS}")),
        }
        limits
    }

    /// A kernel tier that some suite has on this machine.
    fn kernel(&mut self, name: &str) -> Option<Kernel> {
        let works = |k: &Kernel| Suite::ALL.into_iter().any(|suite| crypto::kernels(suite).contains(k));
        let here: Vec<Kernel> = Kernel::ALL.into_iter().filter(works).collect();
        let found = here.iter().copied().find(|k| k.name() == name);
        if found.is_none() {
            let names: Vec<&str> = here.iter().map(|k| k.name()).collect();
            self.wrong("kernel", name, format_args!("this machine has {}", names.join(", ")));
        }
        found
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn owner(extra_top: &str, extra_group: &str) -> String {
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
    pub(super) fn with_files(text: &str) -> Vec<String> {
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
            "workers = 400\nreplay_window = 32769\nkept_ptks = 0\nkernel = \"abacus\"\ncrl_freshness = \"never\"",
            "suite = \"rot13\"\ntransmit = \"all\"\nkeepalive = \"5\"",
        );
        let found = with_files(&text).join("\n");
        for part in [
            "workers = \"400\": write 1 to 64",
            "replay_window = \"32769\": write 64 to 32768 SNs",
            "kept_ptks = \"0\": write 1 to 64",
            "kernel = \"abacus\": this machine has portable, ring",
            "crl_freshness = \"never\": write \"refuse\"",
            "group[0].suite = \"rot13\": write a suite",
        ] {
            assert!(found.contains(part), "{part} not in\n{found}");
        }
    }

    #[test]
    fn peers_are_of_a_kind_that_the_socket_reaches() {
        let with = |bind: &str, peer: &str| {
            let port = format!(
                "[port]\nkind = \"udp\"\nbind = \"{bind}\"\n[[port.peer]]\nlayer2 = \"000001\"\naddress = \"{peer}\"\n"
            );
            with_files(&owner("", "").replace("[port]\nkind = \"auto\"\ninterface = \"eth0\"\n", &port))
        };
        for (bind, peer) in [("0.0.0.0:1", "192.0.2.1:1"), ("[::]:1", "192.0.2.1:1"), ("[::1]:1", "[::1]:2")]
        {
            assert_eq!(with(bind, peer), Vec::<String>::new(), "{bind} {peer}");
        }
        for (bind, peer) in [("0.0.0.0:1", "[::1]:1"), ("[::1]:1", "192.0.2.1:1")] {
            let found = with(bind, peer);
            assert!(found.len() == 1 && found[0].starts_with("port.peer[0].address = "), "{found:?}");
        }
    }

    #[test]
    fn steering_is_auto_off_all_or_processors_of_an_interface() {
        let with = |steer: &str| {
            let steer = format!("interface = \"eth0\"\nsteer = \"{steer}\"");
            with_files(&owner("", "").replace("interface = \"eth0\"", &steer))
        };
        for good in ["auto", "off", "all", "0", "2-3,6"] {
            assert_eq!(with(good), Vec::<String>::new(), "{good}");
        }
        let found = with("sideways");
        assert!(found.len() == 1 && found[0].starts_with("port.steer = \"sideways\""), "{found:?}");
        let udp = "kind = \"udp\"\nsteer = \"off\"\n[[port.peer]]\nlayer2 = \"000001\"\naddress = \"192.0.2.1:34997\"";
        let text = owner("", "").replace("kind = \"auto\"\ninterface = \"eth0\"", udp);
        let found = with_files(&text);
        assert!(found.len() == 1 && found[0].contains("port.steer stands here without effect"), "{found:?}");
    }

    #[test]
    fn unknown_keys_and_keys_of_the_other_role_are_refused() {
        assert!(with_files(&owner("colour = 1", ""))[0].contains("unknown field `colour`"));
        assert!(with_files(&owner("", "colour = 1"))[0].contains("unknown field `colour`"));
        let text = owner("", "") + "[tun]\naddresses = []\n";
        assert!(with_files(&text)[0].contains("[tun] stands here without effect"));
    }

    #[test]
    fn a_key_in_a_token_is_a_uri_and_a_pin_in_it_is_not_told() {
        let with = |key: &str| owner("", "").replace("key = \"/dev/null\"", key);
        let good = "key = \"pkcs11:token=t;object=o?module-path=/dev/null&pin-source=/dev/null\"";
        assert_eq!(with_files(&with(good)), Vec::<String>::new());
        let folders = format!("{good}\npkcs11_folders = [\".\", \"nowhere\"]");
        let found = with_files(&with(&folders));
        assert!(found.len() == 1 && found[0].starts_with("credential.pkcs11_folders = "), "{found:?}");
        let found = with_files(&with("key = \"/dev/null\"\npkcs11_folders = [\".\"]"));
        assert!(found[0].starts_with("credential.pkcs11_folders stands here without effect"), "{found:?}");

        let found = with_files(&with(
            "key = \"pkcs11:token=t;object=o?module-path=nowhere.so&pin-source=file:no-pin\"",
        ));
        assert!(
            found.len() == 2 && found[0].contains("nowhere.so") && found[1].contains("no-pin"),
            "{found:?}"
        );
        let found = with_files(&with("key = \"pkcs11:token=t?module-path=/dev/null\""));
        assert!(
            found[0].contains("no object=LABEL or id=") && found[0].contains("write \"pkcs11:"),
            "{found:?}"
        );
        let found = with_files(&with("key = \"pkcs11:token=t;object=o?pin-value=12345&module-path=m\""));
        assert!(found[0].contains("pin-source=FILE") && !found[0].contains("12345"), "{found:?}");
    }

    #[test]
    fn every_membership_has_a_group_an_id_and_a_device_of_its_own() {
        let ue = |group: &str, layer2: &str, name: &str, table: &str, tun: &str| {
            format!(
                "{table}\ngroup = \"{group}\"\nlayer2 = \"{layer2}\"\n{tun}\nname = \"{name}\"\naddresses = []\n"
            )
        };
        let (head, _) =
            owner("", "").split_once("[[group]]").map(|(h, t)| (h.to_owned(), t.to_owned())).unwrap();
        let head = head.replace("\"owner\"", "\"ue\"") + &ue("f00001", "000001", "a", "[ue]", "[tun]");
        let more = |group: &str, layer2: &str, name: &str| {
            head.clone() + &ue(group, layer2, name, "[[membership]]", "[membership.tun]")
        };
        assert_eq!(with_files(&more("f00002", "000002", "b")), Vec::<String>::new());
        let found = with_files(&more("f00001", "000001", "a"));
        assert_eq!(found.len(), 3, "{found:?}");
        for (problem, key) in found.iter().zip(["group", "layer2", "tun.name"]) {
            assert!(problem.starts_with(&format!("membership[0].{key} = ")), "{problem}");
        }
        let found =
            with_files(&(owner("", "") + "[[membership]]\ngroup = \"f00002\"\nlayer2 = \"000002\"\n"));
        assert!(found[0].contains("[[membership]] stands here without effect"), "{found:?}");
    }

    #[test]
    fn an_address_that_no_station_has_is_refused() {
        for address in ["0.0.0.0", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let member =
                format!("[[member]]\nidentity = \"pc5:001-01:ue:ue-1\"\naddresses = [\"{address}\"]\n");
            let found = with_files(&(owner("", "") + &member));
            assert!(found.len() == 1 && found[0].contains("no station has such an address"), "{found:?}");
        }
    }

    /// What follows from another error is not told as one of its own.
    #[test]
    fn one_mistake_is_one_error() {
        let found = with_files(&owner("", "").replace("\"fffffe\"", "\"zz\""));
        assert!(found.len() == 1 && found[0].contains("write a Layer-2 id"), "{found:?}");
    }

    #[test]
    fn an_address_of_two_members_is_refused() {
        let member =
            |n: u8| format!("[[member]]\nidentity = \"pc5:001-01:ue:ue-{n}\"\naddresses = [\"10.0.0.1\"]\n");
        let found = with_files(&(owner("", "") + &member(1) + &member(2)));
        assert!(found[0].contains("pc5:001-01:ue:ue-1 has this address already"), "{found:?}");
    }
}

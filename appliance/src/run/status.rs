//! What the data thread and the control thread tell the outside: versioned JSON of the admin socket. Nothing here is secret.

use std::collections::BTreeMap;

use pc5_dataplane::io::PortCounters;
use pc5_dataplane::verdict::{Counters, Verdict};
use serde::{Deserialize, Serialize};

/// Version of requests and answers.
pub(crate) const VERSION: u8 = 1;

/// Frames by verdict.
pub(crate) type Tally = BTreeMap<String, u64>;

/// Nonzero counters by name.
pub(crate) fn tally(counters: &Counters) -> Tally {
    Verdict::ALL
        .iter()
        .filter(|&&v| counters.get(v) > 0)
        .map(|&v| (v.name().to_owned(), counters.get(v)))
        .collect()
}

/// A port's totals.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct PortStatus {
    pub name: String,
    pub traffic: String,
    pub link: String,
    pub max_frame: usize,
    pub received: u64,
    pub kernel_drops: u64,
    /// Before any socket, those of other protocols included; told by one port for the interface.
    #[serde(default)]
    pub interface_drops: u64,
    pub refused: u64,
    pub sent: u64,
    pub overload: u64,
    pub too_long: u64,
    pub link_down: u64,
    pub no_address: u64,
}

impl PortStatus {
    pub(crate) fn new(name: &str, traffic: &str, link: String, max_frame: usize, c: PortCounters) -> Self {
        Self {
            name: name.to_owned(),
            traffic: traffic.to_owned(),
            link,
            max_frame,
            received: c.received,
            kernel_drops: c.kernel_drops,
            interface_drops: c.interface_drops,
            refused: c.refused,
            sent: c.tx.sent,
            overload: c.tx.overload,
            too_long: c.tx.too_long,
            link_down: c.tx.link_down,
            no_address: c.tx.no_address,
        }
    }

    fn given(&self) -> u64 {
        self.sent + self.overload + self.too_long + self.link_down + self.no_address
    }
}

/// Time that a stage took.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct StageStatus {
    pub name: String,
    pub frames: u64,
    pub batches: u64,
    pub ns: u64,
}

/// One data worker.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub worker: usize,
    /// Processor that it is pinned to.
    pub processor: Option<usize>,
    pub received: u64,
    pub sealed: u64,
    /// Time in all stages.
    pub busy_ns: u64,
}

/// The data workers at one moment, together.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct DataStatus {
    pub ports: Vec<PortStatus>,
    /// Received frames by verdict.
    pub opened: Tally,
    /// PC5-S among the accepted ones.
    pub signalling: u64,
    /// User data among the accepted ones, at an owner: where it went.
    pub bridged: Tally,
    /// Copies made for members served over their links.
    pub copies: u64,
    /// User data among the accepted ones, at a UE: what became of it.
    pub delivered: Tally,
    /// Packets from the TUN device.
    pub taken: Tally,
    /// Frames given to the engine for sending.
    pub sealed: Tally,
    /// Events that control had no room for.
    pub control_overload: u64,
    /// Received frames handed to another worker, and taken by it: the difference is under way.
    pub handed: u64,
    pub taken_over: u64,
    /// And those that it had no room for.
    pub handover_overload: u64,
    pub workers: Vec<WorkerStatus>,
    pub stages: Vec<StageStatus>,
    /// Suite and the kernel that serves it.
    pub kernels: BTreeMap<String, String>,
    pub receiving_contexts: usize,
    /// A suite without integrity is in use: windows advise only.
    pub advisory_windows: bool,
    /// TUN device, its MTU and the state of its link.
    pub tun: Option<(String, usize, String)>,
    /// Those of further memberships.
    #[serde(default)]
    pub more_tuns: Vec<(String, usize, String)>,
    /// Inner addresses by member's Layer-2 id.
    pub stations: BTreeMap<String, Vec<String>>,
}

impl DataStatus {
    /// Adds what another worker has.
    pub(crate) fn add(&mut self, other: Self) {
        let add = |to: &mut Tally, from: Tally| {
            from.into_iter().for_each(|(verdict, n)| *to.entry(verdict).or_default() += n);
        };
        self.ports.extend(other.ports);
        // PC5-S first, then the workers' ports.
        self.ports.sort_by(|a, b| b.traffic.cmp(&a.traffic));
        add(&mut self.opened, other.opened);
        add(&mut self.bridged, other.bridged);
        add(&mut self.delivered, other.delivered);
        add(&mut self.taken, other.taken);
        add(&mut self.sealed, other.sealed);
        self.signalling += other.signalling;
        self.copies += other.copies;
        self.control_overload += other.control_overload;
        self.handed += other.handed;
        self.taken_over += other.taken_over;
        self.handover_overload += other.handover_overload;
        self.workers.extend(other.workers);
        self.workers.sort_by_key(|w| w.worker);
        for stage in other.stages {
            match self.stages.iter_mut().find(|s| s.name == stage.name) {
                None => self.stages.push(stage),
                Some(s) => {
                    s.frames += stage.frames;
                    s.batches += stage.batches;
                    s.ns += stage.ns;
                }
            }
        }
        self.kernels.extend(other.kernels);
        self.receiving_contexts += other.receiving_contexts;
        self.advisory_windows |= other.advisory_windows;
        self.tun = self.tun.take().or(other.tun);
        self.more_tuns.extend(other.more_tuns);
        self.stations.extend(other.stations);
    }

    /// Every counter of a frame in one map, to subtract a baseline and to show.
    pub(crate) fn drops(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let parts = [
            ("open", &self.opened),
            ("bridge", &self.bridged),
            ("deliver", &self.delivered),
            ("tun", &self.taken),
            ("seal", &self.sealed),
        ];
        for (stage, tally) in parts {
            for (verdict, n) in tally.iter().filter(|(v, _)| *v != "accepted") {
                all.insert(format!("{stage} {verdict}"), *n);
            }
        }
        for p in &self.ports {
            let port = [
                ("kernel_drops", p.kernel_drops),
                ("interface_drops", p.interface_drops),
                ("refused", p.refused),
                ("overload", p.overload),
                ("too_long", p.too_long),
                ("link_down", p.link_down),
                ("no_address", p.no_address),
            ];
            for (what, n) in port.into_iter().filter(|(_, n)| *n > 0) {
                *all.entry(format!("port-{} {what}", p.traffic)).or_default() += n;
            }
        }
        if self.handover_overload > 0 {
            all.insert("handover overload".into(), self.handover_overload);
        }
        if self.control_overload > 0 {
            all.insert("control overload".into(), self.control_overload);
        }
        all
    }

    /// Frames that came to the ports, those that were dropped before they were taken included.
    pub(crate) fn offered(&self) -> u64 {
        self.ports.iter().map(|p| p.received + p.kernel_drops + p.interface_drops + p.refused).sum()
    }

    /// What does not add up; nothing when all is well.
    pub(crate) fn discrepancies(&self) -> Vec<String> {
        let sum = |t: &Tally| t.values().sum::<u64>();
        let accepted = |t: &Tally| t.get("accepted").copied().unwrap_or(0);
        let received: u64 = self.ports.iter().map(|p| p.received).sum();
        let given: u64 = self.ports.iter().map(PortStatus::given).sum();
        let checks = [
            (
                "frames received = frames with a verdict, or under way between workers",
                received,
                sum(&self.opened) + self.handover_overload + self.handed.saturating_sub(self.taken_over),
            ),
            (
                "accepted = signalling + bridged + delivered",
                accepted(&self.opened),
                self.signalling + sum(&self.bridged) + sum(&self.delivered),
            ),
            ("sealed = frames given to the ports", accepted(&self.sealed), given),
        ];
        checks
            .into_iter()
            .filter(|(_, a, b)| a != b)
            .map(|(what, a, b)| format!("{what} does not hold: {a} and {b}"))
            .collect()
    }
}

/// What an operator asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub(crate) enum Ask {
    /// One screen.
    Show { what: What },
    /// Change a group's key now.
    RekeyGroup { group: Option<String> },
    /// Evict an identity for good.
    Evict { identity: String, group: Option<String> },
    /// Take an eviction back.
    Readmit { identity: String, group: Option<String> },
    /// Re-key a link.
    RekeyLink { peer: Option<String>, refresh: bool },
    /// UE: join now, in one group or in all.
    Connect {
        #[serde(default)]
        group: Option<String>,
    },
    /// UE: leave one group, or all.
    Release {
        #[serde(default)]
        group: Option<String>,
    },
    /// Prometheus text.
    Metrics,
    /// From now on one line of JSON for every event, see [`EventLine`].
    Events,
    /// Read the configuration again, as on SIGHUP.
    Reload,
    /// Count from zero in what is shown.
    ClearCounters,
}

/// A screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Everything in brief.
    All,
    Groups,
    Links,
    Members,
    Keys,
    Runtime,
    Drops,
}

/// A request: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub version: u8,
    #[serde(flatten)]
    pub ask: Ask,
}

/// An answer: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub version: u8,
    #[serde(flatten)]
    pub body: Body,
}

/// What an answer says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Shown(Box<Screen>),
    Done(String),
    /// Prometheus text.
    Metrics(String),
    /// Refused by policy.
    Refused(String),
    /// Not possible.
    Failed(String),
}

/// Something that happened: one line of JSON. `alive` says that nothing did for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventLine {
    pub version: u8,
    /// Rises by one an event, from the start of the daemon: who misses one sees it.
    pub number: u64,
    pub unix_ms: u64,
    pub event: String,
    /// Whom and what it is about, by name.
    #[serde(default)]
    pub about: BTreeMap<String, String>,
}

/// What is shown; parts that were not asked for are absent.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Screen {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<LinkRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<MemberRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeyRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<Drops>,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub group: String,
    pub local: String,
    pub role: String,
    /// Served, or how far the join is.
    pub state: String,
    pub epoch: u64,
    pub members: usize,
    /// Joins under way.
    pub joining: usize,
    /// Members reached over their links until they have the key in use.
    pub by_link: usize,
    pub evicted: Vec<String>,
    /// The worst of what its members can be judged by: `fresh`, `grace`, `stale` (who has a certificate of that network
    /// does not get in) or `missing`.
    #[serde(default)]
    pub crl: String,
}

/// A link context.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinkRow {
    pub local: String,
    pub peer: String,
    pub identity: Option<String>,
    pub id: String,
    pub phase: String,
    pub suite: String,
    pub role: String,
}

/// The other side of a confirmed link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberRow {
    pub group: String,
    pub layer2: String,
    pub identity: String,
    pub suite: String,
    /// Re-keyings since KD was made.
    pub rekeyings: Option<u32>,
    pub epoch: u64,
    pub silent_ms: Option<u64>,
    pub addresses: Vec<String>,
    /// How far the CRLs that it is judged by may be relied on: `fresh`, `grace`, `stale` or `missing`.
    #[serde(default)]
    pub crl: String,
}

/// A group key, without the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub group: String,
    pub pgk_id: u8,
    pub suite: String,
    /// A tag proves that one of these sent it, not which one.
    pub senders: String,
    pub not_before: u64,
    pub not_after: u64,
    pub retired: bool,
    pub grants: usize,
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Runtime {
    pub version: String,
    pub role: String,
    pub identity: String,
    pub uptime_s: u64,
    pub state: String,
    pub workers: usize,
    pub privileges: PrivilegesStatus,
    /// Way of the ports, and why there is no better one.
    pub way: String,
    pub refused: Vec<String>,
    /// Which processors do the kernel's work of receiving, or why that was left alone.
    #[serde(default)]
    pub steering: String,
    /// UE: from the beginning of the last join to the first verified frame of the group.
    pub late_entry_ms: Option<u64>,
    /// What does not add up.
    pub discrepancies: Vec<String>,
    pub notices: BTreeMap<String, u64>,
    /// One an issuer by whose certificates others are judged.
    #[serde(default)]
    pub crls: Vec<CrlRow>,
    /// The home network, where one is configured.
    #[serde(default)]
    pub network: Option<NetworkStatus>,
    pub data: DataStatus,
}

/// The CRL of an issuer. Times in seconds since 1970; those and the number are absent where there is none.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct CrlRow {
    pub plmn: String,
    /// First octets of the hash of the issuer's key.
    pub issuer: String,
    /// `fresh`, `grace`, `stale` or `missing`.
    pub state: String,
    pub number: Option<String>,
    pub this_update: Option<u64>,
    pub next_update: Option<u64>,
    /// From then on nobody is admitted by it: nextUpdate and the grace of `crl_freshness`.
    pub usable_until: Option<u64>,
    /// When this daemon took it in: from a file, from the network or from a peer.
    pub taken: Option<u64>,
    pub revoked: usize,
}

/// The home network's enrolment server. Times in seconds since 1970.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkStatus {
    pub url: String,
    /// `enrolling` (no certificate yet: nothing else is open), `there` or `away`.
    pub state: String,
    /// When everything was last fetched.
    pub reached: Option<u64>,
    /// What went wrong last, until it is there again.
    pub error: Option<String>,
    /// When it is asked next.
    pub next: Option<u64>,
    /// End of the device's certificate.
    pub certificate_until: Option<u64>,
    /// Where it is kept, if not in its file.
    #[serde(default)]
    pub certificate_kept: Option<String>,
    /// Networks whose roots were had from it.
    pub foreign: Vec<String>,
}

/// What the process may still do.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct PrivilegesStatus {
    pub user: String,
    /// Capabilities held.
    pub capabilities: u32,
    pub no_new_privileges: bool,
    /// System calls are filtered.
    pub seccomp: bool,
    /// How far files are restricted.
    pub landlock: String,
    /// What was tried after rights were given up, and refused.
    pub refused: Vec<String>,
}

/// Why frames were dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Drops {
    /// Since the last clearing.
    pub since_s: u64,
    pub counts: BTreeMap<String, u64>,
    /// Since the start: never cleared.
    pub totals: BTreeMap<String, u64>,
    /// Frames that came to the ports since the start, those that the kernel dropped included.
    pub offered: u64,
    /// What of them verified; the rest is among `totals` as `port-… kernel_drops`, `port-… interface_drops`,
    /// `port-… refused` and `open …`.
    pub verified: u64,
}

//! The appliance daemon: a group owner or a UE on a packet port.
//!
//! ```text
//! main thread: control (procedures, key table, store)      data thread: engine, ports, TUN
//!        ^ asks          ^ events, PC5-S  <-- channels -->  ^ snapshots of keys
//! admin threads                                             signal thread -> control
//! ```

pub(crate) mod admin;
mod bridge;
mod channels;
pub(crate) mod config;
mod control;
mod data;
mod inner;
mod keylog;
mod privileges;
pub(crate) mod status;
mod tun;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use pc5_control::clock::Now;
use pc5_control::codec::segment::limits::SDU;
use pc5_control::credential::{Clock, Identity, Judge, LongTermKey, Role, SoftwareKey, TrustEntry};
use pc5_control::group_owner::{Device, Member, Owner, SharedTrust, Trust};
use pc5_control::pki::{read_certificates, read_crls};
use pc5_control::policy::OwnerPolicy;
use pc5_control::store::sqlite::SqliteStore;
use pc5_control::store::{MemoryStore, Store};
use pc5_control::vault::Vault;
use pc5_dataplane::engine::{Engine, EngineConfig};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::io::tun::Tun;
use pc5_dataplane::io::{PacketIo, Peers, af_packet, probe, udp};
use pc5_dataplane::keys::table::KeyTable;
use tracing::{info, warn};
use zeroize::Zeroizing;

use self::admin::AdminSocket;
use self::bridge::Bridge;
use self::channels::{ControlHandle, ToControl, ToData};
use self::config::{Config, KeySource, OwnerConfig, Port, Station};
use self::control::{Control, Facts, Procedure};
use self::data::{DataPlane, UeData};
use self::keylog::KeyLog;
use self::tun::OVERHEAD;
use crate::exit::refused;

/// Certificate, key, roots and CRLs of a configuration, read and judged.
pub(crate) struct Credentials {
    pub device: Device,
    pub crls: Vec<PathBuf>,
}

/// Reads what the configuration names, and judges the device's own certificate for what it is to do.
///
/// # Errors
/// A file that cannot be used; exit code 4 when the certificate does not serve.
pub(crate) fn credentials(config: &Config, store: &dyn Store) -> anyhow::Result<Credentials> {
    let mut entries = Vec::new();
    for trust in &config.trust {
        for root in read_certificates(&trust.root)? {
            let entry =
                TrustEntry::new(trust.plmn, &root).with_context(|| trust.root.display().to_string())?;
            entries.push(entry);
        }
    }
    let clock = Clock { now: now().unix_seconds(), floor: store.time_floor() };
    let mut judge = Judge::new(entries, config.freshness);
    let chain = read_certificates(&config.credential.certificate)?;
    // So that CRLs of intermediates are known; what is wrong with the chain is said below.
    let _ = judge.learn(&chain, clock);
    for der in store.crls() {
        // One that an older configuration trusted is of no use now.
        let _ = judge.install_crl(&der, clock);
    }
    let crls: Vec<PathBuf> = config.trust.iter().flat_map(|t| t.crls.clone()).collect();
    for path in &crls {
        for der in read_crls(path)? {
            judge.install_crl(&der, clock).with_context(|| path.display().to_string())?;
        }
    }
    let key: Arc<dyn LongTermKey> = Arc::new(read_key(&config.credential.key)?);
    let trust = SharedTrust::new(Trust::new(judge, store.time_floor()));
    let device = Device::new(key, chain, trust)
        .with_context(|| config.credential.certificate.display().to_string())?;
    for (group, role) in duties(&config.station) {
        device.judge_self(role, group, now()).map_err(|refusal| {
            let path = config.credential.certificate.display();
            refused(format!("{path} does not serve as {role} of group {group}: {refusal}"))
        })?;
    }
    Ok(Credentials { device, crls })
}

fn duties(station: &Station) -> Vec<(GroupId, Role)> {
    match station {
        Station::Owner(owner) => owner.groups.iter().map(|g| (g.group, Role::Owner)).collect(),
        Station::Ue(ue) => vec![(ue.policy.group, Role::Member)],
    }
}

fn read_key(source: &KeySource) -> anyhow::Result<SoftwareKey> {
    match source {
        KeySource::File(path) => {
            let text =
                Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.display().to_string())?);
            SoftwareKey::from_pkcs8_pem(&text).with_context(|| path.display().to_string())
        }
        KeySource::Vault { path, entry, pass_phrase } => {
            let text = std::fs::read(pass_phrase).with_context(|| pass_phrase.display().to_string())?;
            let text = Zeroizing::new(text);
            let end = text.iter().rposition(|o| !matches!(o, b'\n' | b'\r')).map_or(0, |at| at + 1);
            Ok(Vault::open(path, &text[..end])?.key(entry)?)
        }
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: Duration::ZERO, unix }
}

/// The durable state.
///
/// # Errors
/// It cannot be read or written, or another process has it.
pub(crate) fn open_store(config: &Config) -> anyhow::Result<Box<dyn Store>> {
    match &config.state {
        None => Ok(Box::new(MemoryStore::default())),
        Some(path) => Ok(Box::new(SqliteStore::open(path)?)),
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Something could not be opened, or broke while running.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    // What is wrong with certificates is said before anything opens.
    credentials(&config, &MemoryStore::default())?;
    let (signalling_port, data_port) = open_port(&config.port)?;
    let max_frame = data_port.max_frame().min(signalling_port.max_frame());
    let key_log = match &config.key_log {
        None => None,
        Some(path) => {
            warn!(path = %path.display(), "key log is on: whoever has this file reads and forges everything");
            Some(KeyLog::open(path).with_context(|| path.display().to_string())?)
        }
    };
    if config.state.is_none() {
        warn!("no `state` configured: evictions, bindings and epochs are forgotten when this process ends");
    }
    let admin = AdminSocket::bind(&config.admin)?;
    let device = match &config.station {
        Station::Owner(_) => None,
        Station::Ue(ue) => Some(tun::open(&ue.tun, max_frame)?),
    };
    let privileges = privileges::give_up().context("giving up capabilities")?;
    info!(privileges);

    // From here on threads are made, and none of them has a right more.
    let store = open_store(&config)?;
    let Credentials { device: credential, crls } = credentials(&config, &*store)?;
    let identity = credential.identity.clone();
    let sdu = max_frame.saturating_sub(OVERHEAD).min(SDU);
    let (role, procedure, groups) = station(config.station, credential, store, device, sdu)?;

    let table = KeyTable::new();
    let engine = Engine::new(table.shared(), EngineConfig::default());
    let (data, data_inbox) = channels::to_data()?;
    let (control, control_inbox) = channels::to_control();
    let ports = (signalling_port, data_port);
    let mut plane = DataPlane::new(engine, table.shared(), ports, role, data_inbox, control.clone());
    let ended = control.proved.clone();
    let thread = std::thread::Builder::new().name("pc5-data".into()).spawn(move || {
        let why = plane.run().err().map(|e| format!("{e:#}"));
        // Control has ended if nobody hears it.
        let _ = ended.send(ToControl::DataEnded(why));
    })?;
    signals(control.clone())?;
    admin.serve(control)?;
    info!(%identity, admin = %config.admin.display(), "running");

    let state = config.state.map_or_else(|| "memory".to_owned(), |p| p.display().to_string());
    let facts = Facts { identity, groups, crls, state, privileges };
    let mut control = Control::new(procedure, table, data.clone(), control_inbox, facts, key_log, began);
    let result = control.run();
    data.tell(ToData::Stop);
    // What panicked there has been told on standard error.
    let _ = thread.join();
    info!("ended");
    result
}

type Made = (data::Role, Procedure, Vec<(GroupId, Layer2Id)>);

fn station(
    station: Station,
    device: Device,
    store: Box<dyn Store>,
    tun: Option<Tun>,
    sdu: usize,
) -> anyhow::Result<Made> {
    match station {
        Station::Owner(OwnerConfig { groups, networks, addresses, cookie_always, announce }) => {
            let ids: Vec<_> = groups.iter().map(|g| (g.group, g.owner)).collect();
            let bridged = groups.iter().map(|g| {
                let networks = networks.get(&g.group).into_iter().flatten();
                (g.owner, g.group, networks.filter_map(tun::broadcast).collect())
            });
            let bridge = Bridge::new(bridged, addresses);
            let policy = OwnerPolicy { cookie_always, announce, sdu };
            let owner = Owner::new(device, policy, groups, store)?;
            Ok((data::Role::Owner(bridge), Procedure::Owner(Box::new(owner)), ids))
        }
        Station::Ue(ue) => {
            let tun = tun.context("a UE without a device")?;
            info!(device = tun.name(), mtu = tun.mtu(), "TUN");
            let mut policy = ue.policy;
            policy.sdu = sdu;
            let (group, layer2) = (policy.group, policy.layer2);
            let addresses = ue.tun.addresses.iter().map(ipnet::IpNet::addr).collect();
            let broadcasts = ue.tun.addresses.iter().filter_map(tun::broadcast).collect();
            let role = data::Role::Ue(UeData::new(tun, layer2, group, addresses, broadcasts));
            let member = Member::new(device, policy, store);
            Ok((role, Procedure::Member(Box::new(member)), vec![(group, layer2)]))
        }
    }
}

type TwoPorts = (Box<dyn PacketIo>, Box<dyn PacketIo>);

fn open_port(port: &Port) -> anyhow::Result<TwoPorts> {
    let request = match port {
        Port::Raw { choice, interface, vlan, blocks } => {
            let receive = if *blocks { af_packet::Receive::BLOCKS } else { af_packet::Receive::FRAMES };
            let raw = af_packet::Settings { tag: *vlan, receive, ..af_packet::Settings::new(interface) };
            probe::Request { choice: *choice, raw: Some(raw), udp: None, workers: 1 }
        }
        Port::Udp { bind, peers } => {
            let udp = udp::Settings { bind: *bind, ..udp::Settings::new(Peers::new(peers.iter().copied())) };
            probe::Request {
                choice: probe::Choice::Only(probe::Way::Udp),
                raw: None,
                udp: Some(udp),
                workers: 1,
            }
        }
    };
    let probe::Ports { way, data, signalling, refused } = probe::open(&request)?;
    refused.iter().for_each(|r| info!("not taken: {r}"));
    let Some(data) = data.into_iter().next() else { bail!("no data port") };
    info!(%way, data = data.name(), signalling = signalling.name(), "port");
    Ok((signalling, data))
}

fn signals(control: ControlHandle) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("pc5-signals".into()).spawn(move || {
        for signal in &mut signals {
            if control.proved.send(ToControl::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Who a device says it is, for `pc5 check`.
pub(crate) fn identity(credentials: &Credentials) -> &Identity {
    &credentials.device.identity
}

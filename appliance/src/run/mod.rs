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
mod clock;
pub(crate) mod config;
mod control;
pub(crate) mod credentials;
mod data;
pub(crate) mod device_key;
mod enrolment;
mod events;
mod group_keys;
mod inner;
mod keylog;
pub(crate) mod log;
mod metrics;
mod network;
pub(crate) mod own;
pub(crate) mod privileges;
mod reload;
mod service_manager;
pub(crate) mod status;
mod tun;
mod watch;
pub(crate) mod workers;

use std::path::Path;

use anyhow::{Context, bail};
use pc5_control::codec::segment::limits::SDU;
use pc5_control::group_owner::{Device, GroupPsk, Member, Owner, Sessions};
use pc5_control::policy::{OwnerPolicy, SessionPolicy};
use pc5_control::store::sqlite::SqliteStore;
use pc5_control::store::{MemoryStore, SharedStore, Store};
use pc5_dataplane::engine::{Engine, EngineConfig};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::io::steer::{Standing, Steer, Steering};
use pc5_dataplane::io::tun::Tun;
use pc5_dataplane::io::{Interface, PacketIo, Peers, af_packet, probe, udp};
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::share::Share;
use pc5_dataplane::suite::Suite;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use tracing::{info, warn};

use self::admin::AdminSocket;
use self::bridge::Bridge;
use self::channels::{ControlHandle, ToControl, ToData};
use self::clock::Clock;
use self::config::{Config, KeySource, OwnerConfig, Port, Station, UeConfig};
use self::control::{Control, Facts, Kind, Membership, Procedure};
use self::credentials::{Credentials, Kept, Roots};
use self::data::{DataPlane, Mail, UeData};
use self::enrolment::Enrolment;
use self::events::Events;
use self::keylog::KeyLog;
use self::metrics::Scrapes;
use self::own::SharedOwn;
use self::privileges::User;
use self::reload::Reloader;
use self::service_manager::{Pulse, Watchdog};
use self::tun::OVERHEAD;

/// The durable state.
///
/// # Errors
/// It cannot be read or written, or another process has it.
pub(crate) fn open_store(config: &Config) -> anyhow::Result<Box<dyn Store>> {
    let Some(path) = &config.state else { return Ok(Box::new(MemoryStore::default())) };
    reach_state(config)?;
    Ok(Box::new(SqliteStore::open(path)?))
}

/// Whether whoever runs this may work in the folder of the state; where there is none yet, nothing is said.
///
/// # Errors
/// The folder, and what the system says: SQLite would only say that it cannot open the file.
pub(crate) fn reach_state(config: &Config) -> anyhow::Result<()> {
    let Some(path) = &config.state else { return Ok(()) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Err(e @ Errno::ACCESS) => Err(std::io::Error::from(e)).with_context(|| folder.display().to_string()),
        _ => Ok(()),
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Something could not be opened, or broke while running.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    metrics::begin();
    let user = User::to_become(config.user.as_ref(), config.state.as_deref())?;
    let answering = match enrolment::enrol(&config, &user)? {
        Enrolment::Done(admin) => admin,
        Enrolment::Ended => return Ok(()),
    };
    // What is wrong with certificates is said before anything opens.
    let key = credentials::read_key(&config.credential.key)?;
    credentials::read(&config, key.clone(), Kept::unread(&config))?;
    let first = enrolment::secret(&config);
    let place = device_key::place(&config.credential.key);
    match &config.credential.key {
        KeySource::File(_) => warn!("private key: {place}"),
        KeySource::Vault { .. } | KeySource::Token(_) => info!("private key: {place}"),
    }
    let group_keys = match &config.station {
        Station::Owner(_) => Vec::new(),
        Station::Ue(ues) => {
            ues.iter().map(|ue| group_keys::read(&ue.group_keys)).collect::<anyhow::Result<Vec<_>>>()?
        }
    };
    let Opened { way, refused, mut steering, signalling, data: data_ports } =
        open_port(&config.port, config.workers)?;
    let longest = data_ports.iter().map(|port| port.max_frame()).min().unwrap_or(0);
    let max_frame = longest.min(signalling.max_frame());
    let usual_frame = match config.port {
        Port::Raw { .. } => max_frame,
        Port::Udp { .. } => udp::WHOLE_FRAME,
    };
    let key_log = match &config.key_log {
        None => None,
        Some(path) => {
            warn!(path = %path.display(), "key log is on: whoever has this file reads and forges everything");
            Some(KeyLog::open(path).with_context(|| path.display().to_string())?)
        }
    };
    config.weaknesses().iter().for_each(|weakness| warn!("{weakness}"));
    if config.state.is_none() {
        warn!("no `state` configured: evictions, bindings and epochs are forgotten when this process ends");
    }
    let scrapes = config.metrics.map(Scrapes::bind).transpose()?;
    let admin = match answering {
        Some(admin) => admin,
        None => AdminSocket::bind(&config.admin, &user)?,
    };
    let devices = match &config.station {
        Station::Owner(_) => Vec::new(),
        Station::Ue(ues) => ues
            .iter()
            .map(|ue| tun::open(&ue.tun, max_frame, usual_frame))
            .collect::<anyhow::Result<Vec<_>>>()?,
    };
    if user.is_root() {
        warn!("the daemon stays root, without capabilities: write `user`, and give it the folder of `state`");
    }
    let privileges = privileges::give_up(user, &config.files()).context("giving up rights")?;
    info!(
        user = privileges.user,
        landlock = privileges.landlock,
        seccomp = privileges.seccomp,
        "rights given up"
    );

    // A token's module may have lost what it reads; without a key nobody could join.
    key.prove().context(
        "credential.key served until rights were given up: name the folders that its module reads in \
         `pkcs11_folders`, and let `user` read them",
    )?;

    // From here on threads are made, and none of them has a right more.
    let denied = |e| privileges::explain(e, &privileges.user);
    let store = open_store(&config).map_err(denied)?;
    let Credentials { device: credential, own, crls, .. } =
        credentials::read(&config, key.clone(), Kept::stored(&*store)).map_err(denied)?;
    let identity = credential.identity.clone();
    let sdu = max_frame.saturating_sub(OVERHEAD).min(SDU);
    let (fetching, fetched_for) = (config.clone(), credential.clone());
    let roots = Roots::new(credential.trust.clone(), credentials::roots(&config)?);
    let own = SharedOwn::new(own);
    let reloader = Reloader::new(config.clone(), credential.clone(), roots.clone(), own.clone());
    let (roles, procedure, groups) =
        station(config.station.clone(), credential, store, (devices, group_keys), sdu, config.workers)?;

    let bridge = roles.first().and_then(data::Role::bridge).cloned();
    // Not before: what enrolling waited for may have set the wall clock.
    let clock = Clock::start();
    let table = KeyTable::new();
    let (data, inboxes) = channels::to_data(config.workers)?;
    let (control, control_inbox) = channels::to_control();
    let bells: Vec<_> = inboxes.iter().map(|inbox| inbox.waker.clone()).collect();
    let mut signalling = Some(signalling);
    let mut pulses = Vec::new();
    let mut threads = Vec::new();
    let parts = data_ports.into_iter().zip(Mail::between(&bells)).zip(inboxes).zip(roles);
    for (worker, (((port, mail), inbox), role)) in parts.enumerate() {
        let share = Share { worker, workers: config.workers };
        let engine = Engine::new(
            table.shared(),
            EngineConfig { share, kernel: config.kernel, receive: config.receive },
        );
        if worker == 0 {
            let kernel = |suite: Suite| format!("{} {}", suite.name(), engine.kernel_of(suite).name());
            let kernels: Vec<String> = config.suites().into_iter().map(kernel).collect();
            info!("kernels: {}", kernels.join(", "));
        }
        let ports = (signalling.take(), port);
        let mut plane =
            DataPlane::new(engine, table.shared(), ports, (share, mail), role, inbox, control.clone(), clock);
        let pulse = Pulse::default();
        plane.beats(pulse.clone());
        pulses.push((format!("data worker {worker}"), pulse));
        let (ended, config) = (control.proved.clone(), config.clone());
        threads.push(std::thread::Builder::new().name(format!("pc5-data-{worker}")).spawn(move || {
            plane.runs_on(workers::pin(worker, &config));
            let why = plane.run().err().map(|e| format!("{e:#}"));
            // Control has ended if nobody hears it.
            let _ = ended.send(ToControl::DataEnded(why));
        })?);
    }
    let control_pulse = Pulse::default();
    pulses.push(("control".to_owned(), control_pulse.clone()));
    signals(control.clone())?;
    let trust = fetched_for.trust.clone();
    let network = network::follow(&fetching, fetched_for, roots, (own, first), control.clone())?;
    let events = Events::default();
    watch::serve(data.clone(), events.clone())?;
    if let Some(scrapes) = scrapes {
        scrapes.serve(control.clone())?;
    }
    admin.serve(control, events.clone())?;
    let metrics = config.metrics.map(tracing::field::display);
    info!(%identity, admin = %config.admin.display(), metrics, "running");

    let state = config.state.map_or_else(|| "memory".to_owned(), |p| p.display().to_string());
    let facts = Facts {
        identity,
        groups,
        state,
        privileges,
        way,
        refused,
        steering: steering.standing().to_string(),
        bridge,
        trust,
        network,
        events,
    };
    let mut control =
        Control::new(procedure, table, (data.clone(), control_inbox), facts, key_log, reloader, clock);
    control.beats(control_pulse);
    control.takes(crls);
    service_manager::ready("running");
    Watchdog::serve(pulses)?;
    let result = control.run();
    data.tell(ToData::Stop);
    for thread in threads {
        // What panicked there has been told on standard error.
        let _ = thread.join();
    }
    if steering.put_back().is_err() {
        info!("receive steering stays as it was set: the right to put it back was given up");
    }
    info!("ended");
    result
}

type Made = (Vec<data::Role>, Procedure, Vec<(GroupId, Layer2Id)>);

fn station(
    station: Station,
    device: Device,
    store: Box<dyn Store>,
    (tuns, group_keys): (Vec<Tun>, Vec<Vec<GroupPsk>>),
    sdu: usize,
    workers: usize,
) -> anyhow::Result<Made> {
    match station {
        Station::Owner(OwnerConfig { groups, networks, addresses, cookie_always, announce }) => {
            let ids: Vec<_> = groups.iter().map(|g| (g.group, g.owner)).collect();
            let bridged = groups.iter().map(|g| {
                let networks = networks.get(&g.group).into_iter().flatten();
                (g.owner, g.group, networks.filter_map(tun::broadcast).collect())
            });
            let bridge = Bridge::new(bridged, addresses);
            let roles = (0..workers).map(|_| data::Role::Owner(bridge.clone())).collect();
            let policy = OwnerPolicy { cookie_always, announce, sdu };
            let owner = Owner::new(device, policy, groups, store)?;
            Ok((roles, Procedure::Owner(Box::new(owner)), ids))
        }
        Station::Ue(ues) => {
            let store = SharedStore::new(store);
            let ids = ues.iter().map(|ue| (ue.policy.group, ue.policy.layer2)).collect();
            let made = ues.into_iter().zip(tuns).zip(group_keys).map(|((ue, tun), keys)| {
                info!(device = tun.name(), mtu = tun.mtu(), "TUN");
                membership(ue, tun, keys, sdu, device.clone(), Box::new(store.clone()))
            });
            let (memberships, data) = made.unzip();
            Ok((vec![data::Role::Ue(data)], Procedure::Ue(memberships), ids))
        }
    }
}

/// A UE in one group: its procedure, and its side of user data.
fn membership(
    ue: UeConfig,
    tun: Tun,
    group_keys: Vec<GroupPsk>,
    sdu: usize,
    device: Device,
    store: Box<dyn Store>,
) -> (Membership, UeData) {
    let mut policy = ue.policy;
    policy.sdu = sdu;
    let (group, layer2) = (policy.group, policy.layer2);
    let addresses = ue.tun.addresses.iter().map(ipnet::IpNet::addr).collect();
    let broadcasts = ue.tun.addresses.iter().filter_map(tun::broadcast).collect();
    let mut data = UeData::new(tun, layer2, group, addresses, broadcasts);
    let kind = if group_keys.is_empty() {
        Kind::Member(Box::new(Member::new(device, policy, store)))
    } else {
        data.has_no_owner();
        let mut sessions = SessionPolicy::new(group, layer2);
        (sessions.sdu, sessions.suites) = (sdu, policy.suites);
        sessions.suite = *sessions.suites.first().unwrap_or(&sessions.suite);
        Kind::Sessions(Box::new(Sessions::new(device, sessions, group_keys, store)))
    };
    (Membership { group, layer2, kind }, data)
}

/// Ports, and how they came to be.
struct Opened {
    way: String,
    refused: Vec<String>,
    steering: Steering,
    signalling: Box<dyn PacketIo>,
    /// One a worker.
    data: Vec<Box<dyn PacketIo>>,
}

fn open_port(port: &Port, workers: usize) -> anyhow::Result<Opened> {
    let request = match port {
        Port::Raw { choice, interface, vlan, receive, steer } => {
            let raw =
                af_packet::Settings { tag: *vlan, receive: *receive, ..af_packet::Settings::new(interface) };
            probe::Request { choice: *choice, raw: Some(raw), udp: None, workers, steer: steer.clone() }
        }
        Port::Udp { bind, peers } => {
            let udp = udp::Settings { bind: *bind, ..udp::Settings::new(Peers::new(peers.iter().copied())) };
            probe::Request {
                choice: probe::Choice::Only(probe::Way::Udp),
                raw: None,
                udp: Some(udp),
                workers,
                steer: Steer::Off,
            }
        }
    };
    let probe::Ports { way, data, signalling, refused, steering } = probe::open(&request)?;
    refused.iter().for_each(|r| info!("not taken: {r}"));
    if data.len() != workers {
        bail!(
            "{way} gives {} inputs for {workers} workers: write workers = {}",
            data.len(),
            data.len().max(1)
        );
    }
    let names: Vec<_> = data.iter().map(|port| port.name()).collect();
    info!(%way, data = names.join(", "), signalling = signalling.name(), "port");
    info!("receive steering: {}", steering.standing());
    let refused = refused.iter().map(ToString::to_string).collect();
    Ok(Opened { way: way.to_string(), refused, steering, signalling, data })
}

/// What receive steering would come to if the port were opened now; `None` for ports without interface.
pub(crate) fn steering(port: &Port, workers: usize) -> Option<String> {
    let Port::Raw { interface, steer, .. } = port else { return None };
    Some(match Interface::find(interface) {
        Ok(interface) => Steering::foresee(&interface, steer, workers).to_string(),
        Err(e) => Standing::Left(e.to_string()).to_string(),
    })
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

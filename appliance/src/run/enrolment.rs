//! The first enrolment: a device without certificate, or whose own has ended, asks its home network for one (EST, RFC
//! 7030), and waits in sight of operators for as long as that network is not there. Source: `go-mode.md` section 1.
//!
//! Nothing else is open meanwhile, and there is one thread: rights are given up afterwards, as without enrolment.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use getrandom::SysRng;
use pc5_control::credential::{Identity, LongTermKey};
use pc5_control::files::SECRET;
use pc5_control::pki::describe::utc;
use pc5_control::service::est::client::{Client, EstError};
use pc5_control::service::https::HttpsError;
use rand_core::{Rng, UnwrapErr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::admin::{self, AdminSocket};
use super::config::{Config, Est, Port, Station, UeConfig};
use super::network::{Reach, client, runtime, unix_in};
use super::own::{self, Standing};
use super::privileges::User;
use super::status::{
    Answer, Ask, Body, DataStatus, Drops, GroupRow, PortStatus, PrivilegesStatus, Request, Runtime, Screen,
    VERSION, What,
};
use super::{credentials, device_key, service_manager};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// First wait after a failure; doubled.
    pub(super) const RETRY: Duration = Duration::from_secs(1);
    /// Longest wait for a network that is not there.
    pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);
    /// How often the service manager hears that the wait goes on.
    pub(super) const ALIVE: Duration = Duration::from_secs(1);
    /// Threads that looked up names have ended by then.
    pub(super) const THREADS: Duration = Duration::from_secs(2);
}

/// What came of it.
pub(crate) enum Enrolment {
    /// There is a certificate. The admin socket, if operators were answered on it meanwhile.
    Done(Option<AdminSocket>),
    /// A signal ended the wait.
    Ended,
}

/// Enrols a device that has no certificate yet, or one that has ended; its key is made if there is none. Nothing to do for
/// any other. While the server cannot be reached it is asked again, later each time, and the admin socket answers.
///
/// # Errors
/// The server refuses, or files cannot be read or written.
pub(crate) fn enrol(config: &Config, user: &User) -> anyhow::Result<Enrolment> {
    let Some(est) = &config.est else { return Ok(Enrolment::Done(None)) };
    let file = config.credential.certificate.display();
    match own::standing(config) {
        Standing::There => return Ok(Enrolment::Done(None)),
        // What is wrong with it is said where it is read.
        Standing::Ended(_) if est.first.is_none() => return Ok(Enrolment::Done(None)),
        Standing::Ended(end) => warn!("{file} was valid until {}: enrolling anew", utc(end)),
        Standing::Missing => {}
    }
    let (identity, secret) = est.first.as_ref().context("no certificate, and no identity to enrol")?;
    let secret = SECRET.read_text(secret).with_context(|| secret.display().to_string())?;
    device_key::make(&config.credential.key)?;
    let key = credentials::read_key(&config.credential.key)?;
    let asked = Asked { client: client(est)?, identity, secret: secret.trim_end(), key: &*key };

    let runtime = runtime()?;
    let came = runtime.block_on(wait(config, est, user, &asked));
    drop(runtime);
    alone();
    let (chain, admin) = match came? {
        Some((chain, admin)) => (chain, admin),
        None => return Ok(Enrolment::Ended),
    };
    if let Some(beside) = own::keep(config, &chain).context("certificate")? {
        info!("{file} cannot be written: the certificate is kept in {}", beside.display());
        user.give(&beside).with_context(|| beside.display().to_string())?;
    }
    info!(%identity, url = est.url, "enrolled");
    Ok(Enrolment::Done(admin))
}

/// What the device can enrol with should its certificate end while the daemon runs: its file cannot be read then.
pub(crate) fn secret(config: &Config) -> Option<First> {
    let (identity, file) = config.est.as_ref()?.first.as_ref()?;
    // It may be gone after the first enrolment; then there is none for another.
    let secret = SECRET.read_text(file).ok()?;
    Some(First { identity: identity.clone(), secret: Zeroizing::new(secret.trim_end().to_owned()) })
}

/// Who enrols, and the secret that it has in common with its network.
pub(crate) struct First {
    pub identity: Identity,
    pub secret: Zeroizing<String>,
}

/// What the server is asked with.
struct Asked<'a> {
    client: Client,
    identity: &'a Identity,
    secret: &'a str,
    key: &'a dyn LongTermKey,
}

/// Asks until there is a certificate; `None` when a signal ends it.
async fn wait(
    config: &Config,
    est: &Est,
    user: &User,
    asked: &Asked<'_>,
) -> anyhow::Result<Option<(Vec<Vec<u8>>, Option<AdminSocket>)>> {
    let mut signals = Signals::new()?;
    let reach = Reach::new(est, "enrolling");
    let (mut retry, mut sight) = (limits::RETRY, None::<Sight>);
    loop {
        let answer = asked.client.enrol(asked.identity, asked.secret, asked.key);
        let answer = match &sight {
            None => tokio::select! { answer = answer => answer, () = signals.end() => return Ok(None) },
            Some(sight) => tokio::select! {
                answer = answer => answer,
                () = signals.end() => return Ok(None),
                never = sight.serve() => match never {},
            },
        };
        let error = match answer {
            Ok(chain) => return Ok(Some((chain, sight.map(Sight::close).transpose()?))),
            Err(e) if passes(&e) => e.to_string(),
            Err(e) => return Err(anyhow::Error::new(e).context(format!("enrolment at {}", est.url))),
        };
        // Many devices that wait for one network do not ask in step.
        let pause = retry.mul_f64(0.75 + f64::from(UnwrapErr(SysRng).next_u32() % 500) / 1_000.0);
        retry = (retry * 2).min(limits::LONGEST_RETRY);
        reach.change(|status| {
            status.error = Some(error.clone());
            status.next = Some(unix_in(pause));
        });
        let sight = match &mut sight {
            Some(sight) => {
                debug!("enrolment: {error}");
                sight
            }
            none => {
                warn!("enrolment: {error}; asking again until the network is there");
                service_manager::ready("waiting for the home network, to enrol");
                none.insert(Sight::open(config, user, reach.clone())?)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = signals.end() => return Ok(None),
            never = sight.serve() => match never {},
        }
    }
}

/// Whether it may be otherwise when the network is there.
fn passes(e: &EstError) -> bool {
    match e {
        EstError::Https(HttpsError::Io { .. } | HttpsError::Http { .. } | HttpsError::Timeout(_)) => true,
        EstError::Refused { status, .. } => status.is_server_error(),
        _ => false,
    }
}

/// Threads of the runtime that ended a moment ago may still be counted.
fn alone() {
    let until = Instant::now() + limits::THREADS;
    while fs::read_dir("/proc/self/task").map_or(1, Iterator::count) > 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Signals([Signal; 2], Signal);

impl Signals {
    fn new() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self([terminate?, interrupt?], hangup?))
    }

    /// Until one of them says to end. There is nothing to be read again yet.
    async fn end(&mut self) {
        let Self([terminate, interrupt], hangup) = self;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => info!("nothing runs yet: the configuration is read when the device has enrolled"),
            }
        }
    }
}

/// What operators see meanwhile.
struct Sight {
    socket: AdminSocket,
    listener: UnixListener,
    state: Arc<State>,
}

struct State {
    screen: Screen,
    reach: Reach,
    began: Instant,
}

impl Sight {
    fn open(config: &Config, user: &User, reach: Reach) -> anyhow::Result<Self> {
        let socket = AdminSocket::bind(&config.admin, user)?;
        let listener = socket.listener()?;
        listener.set_nonblocking(true)?;
        let state = Arc::new(State { screen: configured(config), reach, began: Instant::now() });
        Ok(Self { socket, listener: UnixListener::from_std(listener)?, state })
    }

    /// Answers for as long as it is polled.
    async fn serve(&self) -> std::convert::Infallible {
        let mut alive = tokio::time::interval(limits::ALIVE);
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = alive.tick() => {
                    service_manager::feed();
                    continue;
                }
            };
            match stream {
                Ok((stream, _)) => {
                    let state = self.state.clone();
                    tokio::spawn(async move {
                        // Whoever hung up, or asks too slowly, needs no answer.
                        let _ = tokio::time::timeout(admin::limits::PATIENCE, answer(stream, &state)).await;
                    });
                }
                // No descriptors left: others have to close first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The socket, for the daemon that runs now.
    fn close(self) -> io::Result<AdminSocket> {
        // Both are one to the kernel.
        self.listener.into_std()?.set_nonblocking(false)?;
        Ok(self.socket)
    }
}

async fn answer(mut stream: UnixStream, state: &State) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(admin::limits::REQUEST)).read_line(&mut line).await?;
    let body = match serde_json::from_str::<Request>(&line) {
        Err(e) => Body::Failed(format!("request not understood: {e}")),
        Ok(request) if request.version != VERSION => {
            Body::Failed(format!("version {} asked, {VERSION} spoken", request.version))
        }
        Ok(Request { ask: Ask::Show { what }, .. }) => Body::Shown(Box::new(state.show(what))),
        Ok(_) => {
            Body::Failed("not enrolled yet: nothing runs; `pc5 show runtime` tells what it waits for".into())
        }
    };
    let mut text = serde_json::to_string(&Answer { version: VERSION, body })?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

impl State {
    fn show(&self, what: What) -> Screen {
        let wants = |one: What| what == one || what == What::All;
        let mut screen = self.screen.clone();
        screen.groups = screen.groups.filter(|_| wants(What::Groups));
        screen.links = screen.links.filter(|_| wants(What::Links));
        screen.members = screen.members.filter(|_| wants(What::Members));
        screen.keys = screen.keys.filter(|_| wants(What::Keys));
        screen.runtime = screen.runtime.filter(|_| wants(What::Runtime));
        screen.drops = screen.drops.filter(|_| wants(What::Drops));
        let since = self.began.elapsed().as_secs();
        if let Some(drops) = &mut screen.drops {
            drops.since_s = since;
        }
        if let Some(runtime) = &mut screen.runtime {
            runtime.uptime_s = since;
            runtime.network = Some(self.reach.status());
        }
        screen
    }
}

/// What is configured and not there yet.
fn configured(config: &Config) -> Screen {
    let row = |group: String, local: String, role: &str| GroupRow {
        group,
        local,
        role: role.into(),
        state: "enrolling".into(),
        epoch: 0,
        members: 0,
        joining: 0,
        by_link: 0,
        evicted: Vec::new(),
        crl: "missing".into(),
    };
    let (role, groups) = match &config.station {
        Station::Owner(owner) => {
            let rows = owner.groups.iter().map(|g| row(g.group.to_string(), g.owner.to_string(), "owner"));
            ("owner", rows.collect())
        }
        Station::Ue(ues) => {
            let row =
                |ue: &UeConfig| row(ue.policy.group.to_string(), ue.policy.layer2.to_string(), "member");
            ("ue", ues.iter().map(row).collect())
        }
    };
    let name = match &config.port {
        Port::Raw { interface, .. } => interface.clone(),
        Port::Udp { bind, .. } => bind.to_string(),
    };
    let ports = ["signalling", "data"].map(|traffic| PortStatus {
        name: name.clone(),
        traffic: traffic.into(),
        link: "not opened".into(),
        ..PortStatus::default()
    });
    let identity =
        config.est.iter().filter_map(|e| e.first.as_ref()).map(|(identity, _)| identity.to_string());
    let runtime = Runtime {
        version: env!("CARGO_PKG_VERSION").into(),
        role: role.into(),
        identity: identity.collect(),
        uptime_s: 0,
        state: config.state.as_ref().map_or_else(|| "memory".to_owned(), |p| p.display().to_string()),
        workers: config.workers,
        privileges: PrivilegesStatus { user: "as started".into(), ..PrivilegesStatus::default() },
        way: "not opened: the device has no certificate yet".into(),
        refused: Vec::new(),
        steering: "not opened".into(),
        late_entry_ms: None,
        discrepancies: Vec::new(),
        notices: std::collections::BTreeMap::new(),
        crls: Vec::new(),
        network: None,
        data: DataStatus { ports: ports.into(), ..DataStatus::default() },
    };
    let none = std::collections::BTreeMap::new;
    let drops = Drops { since_s: 0, counts: none(), totals: none(), offered: 0, verified: 0 };
    Screen {
        groups: Some(groups),
        links: Some(Vec::new()),
        members: Some(Vec::new()),
        keys: Some(Vec::new()),
        runtime: Some(runtime),
        drops: Some(drops),
    }
}

//! `pc5 serve est CONFIG.toml`.
//!
//! ```toml
//! folder = "ops"                  # of the issuing CA, made with `pc5 pki`
//! root = "home/ca.pem"            # the network's root; without it the CA is one
//! days = 365                      # validity of certificates
//! crl_days = 7                    # a new CRL is made when half of it has passed
//! [server]
//! listen = "0.0.0.0:8443"
//! certificate = "home/issued/est.example.pem"
//! key = "home/issued/est.example.key"
//! [foreign]                       # roots of other networks
//! "002-02" = ["roots/002-02.pem"]
//! [[device]]
//! identity = "ue-1"               # or pc5:MCC-MNC:ue:ID
//! roles = ["member"]
//! groups = ["a0b0c0"]             # without it every group
//! secret = "for the first enrolment"   # without it only re-enrolment
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use getrandom::SysRng;
use pc5_control::credential::{Identity, Plmn};
use pc5_control::files::SECRET;
use pc5_control::pki::{Folder, read_certificates};
use pc5_control::service::est::server::{Config, Device, Server, World};
use rand_core::UnwrapErr;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Listen;
use crate::exit::{Exit, usage_if_missing};
use crate::run::config::CONFIGURATION;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    folder: PathBuf,
    root: Option<PathBuf>,
    #[serde(default = "year")]
    days: u64,
    #[serde(default = "week")]
    crl_days: u64,
    server: Listen,
    #[serde(default)]
    foreign: BTreeMap<String, Vec<PathBuf>>,
    #[serde(default)]
    device: Vec<DeviceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceEntry {
    identity: String,
    roles: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    secret: Option<String>,
}

/// Checks the configuration whole, then serves.
pub(super) fn run(path: &Path) -> anyhow::Result<Exit> {
    let named = || path.display().to_string();
    let text = CONFIGURATION.read_text(path).with_context(named).map_err(usage_if_missing)?;
    // What toml says of an error shows the line, and a line may hold a secret: the place is enough.
    let file: File = toml::from_str(&text).map_err(|e| {
        let at = e.span().map_or(0, |s| text.get(..s.start).map_or(0, |t| t.matches('\n').count()) + 1);
        anyhow::anyhow!("{}: line {at}: {}", path.display(), e.message())
    })?;
    let base = path.parent().unwrap_or(Path::new("."));
    let (listen, config) = checked(file, base).with_context(|| path.display().to_string())?;
    if config.devices.values().any(|device| device.secret.is_some())
        && let Err(error) = SECRET.check_private(&path.metadata()?)
    {
        tracing::warn!("{} holds secrets of devices: {error}", path.display());
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let world = World { now: Box::new(now), rng: Mutex::new(Box::new(UnwrapErr(SysRng))) };
    let server = Server::new(config, world);
    let tls = listen.tls(base, &server.client_roots()?)?;
    server.refresh_crl()?;
    let router = server.router();
    super::serve("est", &listen, tls, router, refresh(server))
}

async fn refresh(server: Arc<Server>) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let server = Arc::clone(&server);
        match tokio::task::spawn_blocking(move || server.refresh_crl()).await {
            Ok(Ok(true)) => tracing::info!("new CRL made"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::error!(%error, "no new CRL"),
            Err(error) => tracing::error!(%error, "no new CRL"),
        }
    }
}

fn checked(file: File, base: &Path) -> anyhow::Result<(Listen, Config)> {
    let folder = base.join(file.folder);
    let plmn = Folder::open(&folder)?.authority().plmn();
    let root = file.root.map(|r| base.join(r));
    if let Some(root) = &root {
        read_certificates(root)?;
    }
    let mut foreign = BTreeMap::new();
    for (name, files) in file.foreign {
        let other: Plmn = name.parse()?;
        let files: Vec<PathBuf> = files.into_iter().map(|f| base.join(f)).collect();
        for file in &files {
            read_certificates(file)?;
        }
        foreign.insert(other, files);
    }
    let mut devices = BTreeMap::new();
    for entry in file.device {
        let identity = match entry.identity.starts_with("pc5:") {
            true => entry.identity.parse()?,
            false => Identity::new(plmn, &entry.identity)?,
        };
        if identity.plmn() != plmn {
            bail!("{identity} is not of PLMN {plmn}; its own network enrols it");
        }
        let roles = entry.roles.iter().map(|r| r.parse()).collect::<Result<Vec<_>, _>>()?;
        if roles.is_empty() {
            bail!("{identity}: at least one role is wanted");
        }
        let groups = entry.groups.iter().map(|g| g.parse()).collect::<Result<Vec<_>, _>>()?;
        let secret = entry.secret.map(Zeroizing::new);
        if secret.as_ref().is_some_and(|s| s.len() < MIN_SECRET) {
            bail!("{identity}: a secret of at least {MIN_SECRET} octets is wanted");
        }
        let name = identity.id().to_string();
        if devices.insert(name, Device { identity: identity.clone(), roles, groups, secret }).is_some() {
            bail!("{identity} stands twice");
        }
    }
    let config =
        Config { folder, root, foreign, devices, days: file.days, crl_days: file.crl_days.clamp(1, 3650) };
    Ok((file.server, config))
}

const fn year() -> u64 {
    365
}

const fn week() -> u64 {
    7
}

/// Guesses are not limited but by this: a secret made by a program, not a word.
const MIN_SECRET: usize = 12;

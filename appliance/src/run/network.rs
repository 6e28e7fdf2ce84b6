//! What is fetched while a network is there: the device's certificate (EST, RFC 7030), CRLs, roots of other networks.
//! Off the network everything goes on with what there is, as far as its freshness allows. Source: `go-mode.md` sections
//! 1 and 8.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use pc5_control::credential::{Clock, Leaf, Plmn, Refusal, TrustEntry};
use pc5_control::group_owner::{Device, Input};
use pc5_control::pki::{pem, read_certificates};
use pc5_control::service::est::client::Client;
use tracing::{debug, info, warn};

use super::channels::{ControlHandle, ToControl};
use super::config::{Config, Est};
use super::credentials::{Roots, now};
use super::enrolment::First;
use super::own::{self, Chain, SharedOwn};
use super::status::NetworkStatus;

/// Own limits.
mod limits {
    use std::time::Duration;

    /// First wait after a failure; doubled up to the usual one. A network that comes back is noticed by then.
    pub(super) const RETRY: Duration = Duration::from_secs(5);
    /// Longest wait for a network that is not there.
    pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(300);
}

pub(super) fn client(est: &Est) -> anyhow::Result<Client> {
    Ok(Client::new(&est.url, read_certificates(&est.root)?))
}

pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub(super) fn write_chain(file: &Path, chain: &[Vec<u8>]) -> std::io::Result<()> {
    let text: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    write(file, text.as_bytes(), 0o644)
}

/// Whole or not at all.
pub(super) fn write(file: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What an earlier attempt left.
    let _ = fs::remove_file(beside);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    new.write_all(octets)?;
    new.sync_all()?;
    fs::rename(beside, file)
}

/// How it stands with the home network: told by whoever asks it, shown to operators.
#[derive(Clone, Default)]
pub(crate) struct Reach(Arc<Mutex<NetworkStatus>>);

impl Reach {
    /// Before anything was asked of it.
    pub(super) fn new(est: &Est, state: &str) -> Self {
        let status = NetworkStatus { url: est.url.clone(), state: state.into(), ..NetworkStatus::default() };
        Self(Arc::new(Mutex::new(status)))
    }

    pub(super) fn status(&self) -> NetworkStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut NetworkStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Seconds since 1970, this long from now.
pub(super) fn unix_in(wait: Duration) -> u64 {
    now().unix_seconds().saturating_add(wait.as_secs())
}

/// Fetches on a thread of its own for as long as the daemon runs. Gives how it stands, where a network is configured.
///
/// # Errors
/// The thread cannot be made, or the server's roots cannot be read.
pub(crate) fn follow(
    config: &Config,
    device: Device,
    known_roots: Roots,
    (own, first): (SharedOwn, Option<First>),
    control: ControlHandle,
) -> anyhow::Result<Option<Reach>> {
    let Some(est) = config.est.clone() else { return Ok(None) };
    let reach = Reach::new(&est, "away");
    let kept = {
        let own = own.lock();
        config.kept_certificate().filter(|_| own.in_file.as_ref() != Some(&own.shown))
    };
    reach.change(|status| status.certificate_kept = kept.map(|path| format!("in {}", path.display())));
    let mut network = Network {
        client: client(&est)?,
        runtime: runtime()?,
        config: config.clone(),
        est,
        device,
        known_roots,
        own,
        unkept: false,
        first,
        control,
        crls: Vec::new(),
        roots: Vec::new(),
        reach: reach.clone(),
    };
    std::thread::Builder::new().name("pc5-network".into()).spawn(move || network.run())?;
    Ok(Some(reach))
}

struct Network {
    client: Client,
    runtime: tokio::runtime::Runtime,
    config: Config,
    est: Est,
    device: Device,
    known_roots: Roots,
    /// The certificate as it is now: that of `device` is the one of the start.
    own: SharedOwn,
    /// It was renewed, and could not be written anywhere.
    unkept: bool,
    /// What a certificate that has ended is replaced with.
    first: Option<First>,
    control: ControlHandle,
    /// What was fetched last, by distribution point.
    crls: Vec<(String, Vec<u8>)>,
    /// Roots of other networks as fetched last.
    roots: Vec<(Plmn, Vec<Vec<u8>>)>,
    reach: Reach,
}

impl Network {
    fn run(&mut self) {
        let mut retry = limits::RETRY;
        let mut there = true;
        loop {
            let result = self.fetch_all();
            let wait = match &result {
                Ok(()) => {
                    retry = limits::RETRY;
                    self.est.every
                }
                Err(e) => {
                    if there {
                        warn!("network: {e:#}; going on with what there is");
                    } else {
                        debug!("network: {e:#}");
                    }
                    retry = (retry * 2).min(limits::LONGEST_RETRY);
                    (retry / 2).min(self.est.every)
                }
            };
            if !there && result.is_ok() {
                info!("network: there again");
            }
            there = result.is_ok();
            self.reach.change(|status| {
                status.state = if there { "there" } else { "away" }.into();
                status.error = result.as_ref().err().map(|e| format!("{e:#}"));
                status.next = Some(unix_in(wait));
                if there {
                    status.reached = Some(now().unix_seconds());
                }
            });
            std::thread::sleep(wait);
        }
    }

    /// Everything that can be had; the first failure of all. Roots come first: a CRL of an issuer that nobody knows yet
    /// is refused.
    fn fetch_all(&mut self) -> anyhow::Result<()> {
        let roots = self.fetch_roots();
        let crls = self.fetch_crls();
        let renewed = self.renew();
        roots.and(crls).and(renewed)
    }

    fn tell(&self, input: Input) {
        // Gone means that the daemon is on its way out.
        let _ = self.control.proved.send(ToControl::Fetched(Box::new(input)));
    }

    fn fetch_crls(&mut self) -> anyhow::Result<()> {
        let mut failed = Ok(());
        let own = self.client.crl_url();
        for url in std::iter::once(&own).chain(&self.est.crls.clone()) {
            match self.runtime.block_on(self.client.crl(url)) {
                Ok(der) => {
                    let known = self.crls.iter().position(|(u, _)| u == url);
                    if known.is_some_and(|i| self.crls[i].1 == der) {
                        continue;
                    }
                    known.map(|i| self.crls.swap_remove(i));
                    self.crls.push((url.clone(), der.clone()));
                    debug!(url, "CRL fetched");
                    self.tell(Input::Crl(der));
                }
                Err(e) => failed = Err(anyhow::Error::new(e).context(url.clone())),
            }
        }
        failed
    }

    /// Roots of other networks count beside the configured ones; what the server has no more is dropped.
    fn fetch_roots(&mut self) -> anyhow::Result<()> {
        let mut fetched = Vec::new();
        for &plmn in &self.est.foreign {
            let roots = self.runtime.block_on(self.client.foreign_cacerts(plmn));
            fetched.push((plmn, roots.with_context(|| format!("roots of {plmn}"))?));
        }
        if fetched == self.roots {
            return Ok(());
        }
        // CAs below a root may stand among them; only what signed itself is one.
        let of = |(plmn, roots): &(Plmn, Vec<Vec<u8>>)| {
            roots.iter().filter_map(|der| TrustEntry::new(*plmn, der).ok()).collect::<Vec<_>>()
        };
        self.known_roots.set_fetched(fetched.iter().flat_map(of).collect());
        info!(networks = fetched.len(), "roots of other networks fetched");
        self.reach.change(|status| {
            let had = fetched.iter().filter(|(_, roots)| !roots.is_empty());
            status.foreign = had.map(|(plmn, _)| plmn.to_string()).collect();
        });
        self.roots = fetched;
        // CRLs that were refused for want of a root are taken now.
        self.crls.clear();
        self.tell(Input::TrustChanged);
        Ok(())
    }

    /// A certificate that has passed two thirds of its validity is renewed, for the same key; one that has ended is replaced
    /// by a new enrolment, where there is the secret for it.
    fn renew(&mut self) -> anyhow::Result<()> {
        let present = {
            let own = self.own.lock();
            if own.in_file.as_ref() == Some(&own.shown) {
                // An operator may have put it there.
                self.unkept = false;
                self.reach.change(|status| status.certificate_kept = None);
            }
            own.shown.clone()
        };
        let key = self.device.key.clone();
        let renewed = match (self.validity(&present), &self.first) {
            (Err(Refusal::Expired { .. }), Some(First { identity, secret })) => self
                .runtime
                .block_on(self.client.enrol(identity, secret, &*key))
                .context("the certificate has ended; enrolment anew")?,
            (validity, _) => {
                let leaf = validity.context("own certificate")?;
                let whole = leaf.not_after.saturating_sub(leaf.not_before);
                if now().unix_seconds().saturating_sub(leaf.not_before) < whole / 3 * 2 {
                    if self.unkept {
                        self.keep(present);
                    }
                    return Ok(());
                }
                let identity = &self.device.identity;
                self.runtime
                    .block_on(self.client.reenrol(identity, (key.clone(), &present), &*key))
                    .context("renewal of the certificate")?
            }
        };
        self.device.renewed(renewed.clone())?;
        self.validity(&renewed).context("renewed certificate")?;
        self.keep(renewed.clone());
        info!("certificate renewed");
        self.tell(Input::Renewed(renewed));
        Ok(())
    }

    /// Shows it from now on, and writes it where it is found after a restart.
    fn keep(&mut self, renewed: Chain) {
        // Nobody reads the file and compares before both are done.
        let mut own = self.own.lock();
        let kept = own::keep(&self.config, &renewed);
        if let Ok(None) = kept {
            own.in_file = Some(renewed.clone());
        }
        own.shown = renewed;
        drop(own);
        self.unkept = kept.is_err();
        let told = match kept {
            Ok(None) => None,
            Ok(Some(path)) => {
                let file = self.config.credential.certificate.display();
                info!("{file} cannot be written: the certificate is kept in {}", path.display());
                Some(format!("in {}", path.display()))
            }
            Err(e) => {
                // It serves as long as this process runs.
                warn!("renewed certificate not kept: {e}");
                Some(format!("nowhere, lost at a restart: {e}"))
            }
        };
        self.reach.change(|status| status.certificate_kept = told);
    }

    /// Whom a certificate of ours names and how long, whatever CRLs say: whether it is renewed is the server's to decide.
    fn validity(&self, chain: &[Vec<u8>]) -> Result<Leaf, Refusal> {
        let judged = {
            let trust = self.device.trust.read();
            let clock = Clock { now: now().unix_seconds(), floor: trust.floor };
            trust.judge.identify(chain, clock)
        };
        let until = match &judged {
            Ok(leaf) => Some(leaf.not_after),
            Err(Refusal::Expired { not_after, .. }) => Some(*not_after),
            Err(_) => None,
        };
        self.reach.change(|status| status.certificate_until = until);
        judged
    }
}

//! What is fetched while a network is there: the device's certificate (EST, RFC 7030), CRLs, roots of other networks.
//! Off the network everything goes on with what there is, as far as its freshness allows. Source: `go-mode.md` sections
//! 1 and 8.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use getrandom::SysRng;
use pc5_control::credential::{Plmn, SoftwareKey, TrustEntry};
use pc5_control::group_owner::{Device, Input};
use pc5_control::pki::{pem, read_certificates};
use pc5_control::service::est::client::Client;
use rand_core::UnwrapErr;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::channels::{ControlHandle, ToControl};
use super::config::{Config, Est, KeySource};
use super::credentials::{self, now};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// First wait after a failure; doubled up to the usual one. A network that comes back is noticed by then.
    pub(super) const RETRY: Duration = Duration::from_secs(5);
    /// Longest wait for a network that is not there.
    pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(300);
}

fn client(est: &Est) -> anyhow::Result<Client> {
    Ok(Client::new(&est.url, read_certificates(&est.root)?))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Enrols a device that has no certificate yet; its key is made if there is none. Nothing to do for any other.
///
/// # Errors
/// The server cannot be reached, refuses, or the files cannot be written.
pub(crate) fn enrol(config: &Config) -> anyhow::Result<()> {
    let Some(est) = &config.est else { return Ok(()) };
    let file = &config.credential.certificate;
    if file.is_file() {
        return Ok(());
    }
    let (identity, secret) = est.first.as_ref().context("no certificate, and no identity to enrol")?;
    let secret = Zeroizing::new(fs::read_to_string(secret).with_context(|| secret.display().to_string())?);
    if let KeySource::File(path) = &config.credential.key
        && !path.exists()
    {
        let key = SoftwareKey::generate(&mut UnwrapErr(SysRng));
        write(path, key.to_pkcs8_pem()?.as_bytes(), 0o600).with_context(|| path.display().to_string())?;
    }
    let key = credentials::read_key(&config.credential.key)?;
    let chain = runtime()?
        .block_on(client(est)?.enrol(identity, secret.trim_end(), &*key))
        .with_context(|| format!("enrolment at {}", est.url))?;
    write_chain(file, &chain).with_context(|| file.display().to_string())?;
    info!(%identity, url = est.url, "enrolled");
    Ok(())
}

fn write_chain(file: &Path, chain: &[Vec<u8>]) -> std::io::Result<()> {
    let text: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    write(file, text.as_bytes(), 0o644)
}

/// Whole or not at all.
fn write(file: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
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

/// Fetches on a thread of its own for as long as the daemon runs.
///
/// # Errors
/// The thread cannot be made, or the server's roots cannot be read.
pub(crate) fn follow(config: &Config, device: Device, control: ControlHandle) -> anyhow::Result<()> {
    let Some(est) = config.est.clone() else { return Ok(()) };
    let mut network = Network {
        client: client(&est)?,
        runtime: runtime()?,
        configured: credentials::roots(config)?,
        config: config.clone(),
        est,
        device,
        control,
        crls: Vec::new(),
        roots: Vec::new(),
    };
    std::thread::Builder::new().name("pc5-network".into()).spawn(move || network.run())?;
    Ok(())
}

struct Network {
    client: Client,
    runtime: tokio::runtime::Runtime,
    configured: Vec<TrustEntry>,
    config: Config,
    est: Est,
    device: Device,
    control: ControlHandle,
    /// What was fetched last, by distribution point.
    crls: Vec<(String, Vec<u8>)>,
    /// Roots of other networks as fetched last.
    roots: Vec<(Plmn, Vec<Vec<u8>>)>,
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
            std::thread::sleep(wait);
        }
    }

    /// Everything that can be had; the first failure of all.
    fn fetch_all(&mut self) -> anyhow::Result<()> {
        let crls = self.fetch_crls();
        let roots = self.fetch_roots();
        let renewed = self.renew();
        crls.and(roots).and(renewed)
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
        let mut entries = self.configured.clone();
        for (plmn, roots) in &fetched {
            // CAs below a root may stand among them; only what signed itself is one.
            entries.extend(roots.iter().filter_map(|der| TrustEntry::new(*plmn, der).ok()));
        }
        info!(networks = fetched.len(), "roots of other networks fetched");
        {
            let mut trust = self.device.trust.write();
            trust.judge.set_roots(entries);
            trust.generation += 1;
        }
        self.roots = fetched;
        self.tell(Input::TrustChanged);
        Ok(())
    }

    /// A certificate that has passed two thirds of its validity is renewed, for the same key.
    fn renew(&mut self) -> anyhow::Result<()> {
        let Some((group, role)) = credentials::duties(&self.config.station).into_iter().next() else {
            return Ok(());
        };
        let at = now();
        let leaf = self.device.judge_self(role, group, at).context("own certificate")?;
        let whole = leaf.not_after.saturating_sub(leaf.not_before);
        if at.unix_seconds().saturating_sub(leaf.not_before) < whole / 3 * 2 {
            return Ok(());
        }
        let key = self.device.key.clone();
        let chain = self.device.chain.to_vec();
        let present = (key.clone(), &chain[..]);
        let renewed = self
            .runtime
            .block_on(self.client.reenrol(&self.device.identity, present, &*key))
            .context("renewal of the certificate")?;
        self.device.renew(renewed.clone())?;
        let file = &self.config.credential.certificate;
        if let Err(e) = write_chain(file, &renewed) {
            // It serves as long as this process runs.
            warn!("renewed certificate not kept: {}: {e}", file.display());
        }
        info!("certificate renewed");
        self.tell(Input::Renewed(renewed));
        Ok(())
    }
}

//! The device's own certificate: in its file or, where the daemon may not write there, beside the state; and which one counts.
//!
//! ```text
//! start:    file, kept beside the state --the newer one--> shown
//! network:  renewed --> shown, written to the file, or else beside the state
//! reload:   file, if another than was seen there last --> shown
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pc5_control::credential::{Freshness, Judge, LongTermKey};
use pc5_control::group_owner::{Device, SharedTrust, Trust};
use pc5_control::pki::{describe, read_certificates};
use pc5_dataplane::keys::UnixSeconds;
use tracing::warn;

use super::config::Config;
use super::credentials::now;
use super::network::write_chain;

/// A chain, DER, leaf first, root left out.
pub(crate) type Chain = Vec<Vec<u8>>;

/// The device's own certificate.
#[derive(Clone)]
pub(crate) struct Own {
    /// What others are shown.
    pub shown: Chain,
    /// What was in the file when it was last read or written.
    pub in_file: Option<Chain>,
}

/// The same, as it is shared by those who replace it.
#[derive(Clone)]
pub(crate) struct SharedOwn(Arc<Mutex<Own>>);

impl SharedOwn {
    pub(crate) fn new(own: Own) -> Self {
        Self(Arc::new(Mutex::new(own)))
    }

    /// Nobody else replaces it meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Own> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it stands with it, by this machine's clock alone.
pub(crate) enum Standing {
    There,
    Missing,
    /// Its end has passed.
    Ended(UnixSeconds),
}

/// Whether there is one, and whether its time is over. Whether it serves is for [`super::credentials::read`] to say.
pub(crate) fn standing(config: &Config) -> Standing {
    let files = [Some(config.credential.certificate.clone()), config.kept_certificate()];
    let mut ended = None;
    for file in files.into_iter().flatten().filter(|file| file.is_file()) {
        match read_certificates(&file).ok().and_then(|chain| validity(&chain)) {
            Some((_, end)) if end < now().unix_seconds() => ended = ended.max(Some(end)),
            // What cannot be read is an error that is told where it is used.
            _ => return Standing::There,
        }
    }
    ended.map_or(Standing::Missing, Standing::Ended)
}

/// The newer one of the file's and the one that was kept, if that is of the same identity and key.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn read(config: &Config, key: &Arc<dyn LongTermKey>) -> anyhow::Result<Own> {
    let in_file = in_file(config)?;
    let kept = config.kept_certificate().filter(|path| path.is_file());
    let kept = kept.and_then(|path| match read_certificates(&path) {
        Ok(chain) => Some(chain),
        Err(e) => {
            warn!("renewed certificate passed over: {e}");
            None
        }
    });
    let shown = match (&in_file, kept) {
        (Some(file), Some(kept)) if follows(&kept, file, key) => kept,
        (Some(file), _) => file.clone(),
        (None, Some(kept)) => kept,
        // It was there a moment ago.
        (None, None) => read_certificates(&config.credential.certificate)?,
    };
    Ok(Own { shown, in_file })
}

/// What the file has; nothing where it is missing and the certificate is kept beside the state.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn in_file(config: &Config) -> anyhow::Result<Option<Chain>> {
    let file = &config.credential.certificate;
    let kept = config.kept_certificate().is_some_and(|path| path.is_file());
    if kept && !file.exists() {
        return Ok(None);
    }
    Ok(Some(read_certificates(file)?))
}

/// Writes it to its file or, if that cannot be, beside the state; then says where.
///
/// # Errors
/// It cannot be written anywhere.
pub(crate) fn keep(config: &Config, chain: &[Vec<u8>]) -> io::Result<Option<PathBuf>> {
    let file = &config.credential.certificate;
    let beside = config.kept_certificate();
    let told = |path: &Path, e: &io::Error| format!("{}: {e}", path.display());
    match (write_chain(file, chain), beside) {
        (Ok(()), beside) => {
            beside.iter().for_each(|path| forget(path));
            Ok(None)
        }
        (Err(e), None) => {
            let advice = "let the daemon's user write to that folder, or write `state`";
            Err(io::Error::new(e.kind(), format!("{}; {advice}", told(file, &e))))
        }
        (Err(e), Some(path)) => match write_chain(&path, chain) {
            Ok(()) => Ok(Some(path)),
            Err(also) => Err(io::Error::new(e.kind(), told(file, &e) + "; " + &told(&path, &also))),
        },
    }
}

/// Removes a kept one that counts no more.
pub(crate) fn forget(kept: &Path) {
    // The newer one counts, so an old one that stays does no harm.
    let _ = fs::remove_file(kept);
}

/// Whether `kept` is a later certificate of the same identity and key.
fn follows(kept: &Chain, file: &Chain, key: &Arc<dyn LongTermKey>) -> bool {
    // Nobody is judged here.
    let nobody = || SharedTrust::new(Trust::new(Judge::new(Vec::new(), Freshness::Refuse), 0));
    let Ok(device) = Device::new(key.clone(), file.clone(), nobody()) else { return false };
    device.renewed(kept.clone()).is_ok() && validity(kept).map(|v| v.0) > validity(file).map(|v| v.0)
}

/// Start and end of the leaf's validity.
fn validity(chain: &[Vec<u8>]) -> Option<(UnixSeconds, UnixSeconds)> {
    let leaf = describe::certificate(chain.first()?).ok()?;
    Some((leaf.not_before, leaf.not_after))
}

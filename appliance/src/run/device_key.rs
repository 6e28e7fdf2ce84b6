//! Where the device's private key is: told to operators, and made where enrolment has to begin with one.

use std::path::Path;

use anyhow::Context;
use getrandom::SysRng;
use pc5_control::credential::SoftwareKey;
use pc5_control::files::SECRET;
use pc5_control::vault::{Cost, Vault, VaultError, pass_phrase};
use rand_core::UnwrapErr;

use super::config::{Config, KeySource};
use super::credentials;
use super::network::write;

/// Makes the key that a device enrols with, where the configuration says, if there is none: in a vault, which is made as
/// well, or in a file. One in a token is there before (`pc5 pki token`).
///
/// # Errors
/// A file that cannot be written, or is not what it has to be.
pub(super) fn make(source: &KeySource) -> anyhow::Result<()> {
    let rng = &mut UnwrapErr(SysRng);
    match source {
        KeySource::File(path) if !path.exists() => {
            let key = SoftwareKey::generate(rng);
            write(path, key.to_pkcs8_pem()?.as_bytes(), 0o600).with_context(|| path.display().to_string())
        }
        KeySource::Vault { path, entry, pass_phrase: file } => {
            let mut vault = Vault::open_or_create(path, &pass_phrase(file)?, Cost::default(), rng)?;
            match vault.get(entry) {
                Some(_) => Ok(()),
                None => Ok(vault.put_key(entry, &SoftwareKey::generate(rng), rng)?),
            }
        }
        KeySource::File(_) | KeySource::Token(_) => Ok(()),
    }
}

/// Judges what a first enrolment would begin with, as far as it is there.
///
/// # Errors
/// A file that does not serve.
pub(crate) fn check_before_enrolment(config: &Config) -> anyhow::Result<()> {
    if let Some((_, secret)) = config.est.as_ref().and_then(|est| est.first.as_ref()) {
        SECRET.read_text(secret).with_context(|| secret.display().to_string())?;
    }
    match &config.credential.key {
        KeySource::File(path) if !path.exists() => Ok(()),
        KeySource::Vault { path, pass_phrase: file, .. } if !path.exists() => {
            Ok(Vault::check_pass_phrase(&pass_phrase(file)?)?)
        }
        source => match credentials::read_key(source) {
            // It is made in there.
            Err(e) if matches!(e.downcast_ref(), Some(VaultError::Missing(_))) => Ok(()),
            read => read.map(|_| ()),
        },
    }
}

/// Where the key is, in words.
pub(crate) fn place(source: &KeySource) -> String {
    let file = Path::display;
    match source {
        KeySource::Vault { path, entry, .. } => format!("'{entry}' in the sealed vault {}", file(path)),
        KeySource::Token(_) => "in a PKCS#11 token".into(),
        KeySource::File(path) => format!(
            "plain in {}, which is for laboratories: `pc5 pki vault --import` seals it, `vault` names it then",
            file(path)
        ),
    }
}

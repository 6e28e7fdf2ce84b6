//! `[credential]` and `[[trust]]`: who this device is, and whom it believes.

use std::path::PathBuf;

use pc5_control::credential::Plmn;
use serde::Deserialize;

use super::check::Checker;

/// Certificate chain and key of this device.
#[derive(Clone, PartialEq)]
pub(crate) struct Credential {
    pub certificate: PathBuf,
    pub key: KeySource,
}

/// Where the private key is.
#[derive(Clone, PartialEq)]
pub(crate) enum KeySource {
    /// PKCS#8 PEM, readable by its owner alone.
    File(PathBuf),
    /// An entry of a sealed vault, and the file with its pass phrase.
    Vault { path: PathBuf, entry: String, pass_phrase: PathBuf },
}

/// A root and what its CRLs say.
#[derive(Clone, PartialEq)]
pub(crate) struct Trust {
    pub plmn: Plmn,
    pub root: PathBuf,
    pub crls: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialFile {
    certificate: PathBuf,
    key: Option<PathBuf>,
    vault: Option<PathBuf>,
    vault_entry: Option<String>,
    pass_phrase_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustFile {
    plmn: String,
    root: PathBuf,
    #[serde(default)]
    crl: Vec<PathBuf>,
}

impl Checker<'_> {
    /// `made`: what is not there is made by enrolment.
    pub(super) fn credential(&mut self, c: CredentialFile, made: bool) -> Option<Credential> {
        let certificate = match made {
            true => self.base.join(&c.certificate),
            false => self.file("credential.certificate", &c.certificate),
        };
        let key = match (c.key, c.vault, c.vault_entry, c.pass_phrase_file) {
            (Some(key), None, None, None) if made && !certificate.is_file() => {
                KeySource::File(self.base.join(&key))
            }
            (Some(key), None, None, None) => KeySource::File(self.file("credential.key", &key)),
            (None, Some(vault), Some(entry), Some(pass)) => KeySource::Vault {
                path: self.file("credential.vault", &vault),
                entry,
                pass_phrase: self.file("credential.pass_phrase_file", &pass),
            },
            _ => {
                self.missing(
                    "credential.key",
                    "write `key`, or all of `vault`, `vault_entry` and `pass_phrase_file`, and not both",
                );
                return None;
            }
        };
        Some(Credential { certificate, key })
    }

    pub(super) fn trust(&mut self, i: usize, t: TrustFile) -> Option<Trust> {
        let plmn = self.value(&format!("trust[{i}].plmn"), &t.plmn, "MCC-MNC, as \"001-01\"");
        let root = self.file(&format!("trust[{i}].root"), &t.root);
        let crls = t.crl.iter().map(|p| self.file(&format!("trust[{i}].crl"), p)).collect();
        Some(Trust { plmn: plmn?, root, crls })
    }
}

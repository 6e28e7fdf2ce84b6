//! `[credential]` and `[[trust]]`: who this device is, and whom it believes.

use std::path::PathBuf;

use pc5_control::credential::token::SCHEME;
use pc5_control::credential::{Plmn, TokenUri};
use serde::Deserialize;

use super::check::Checker;

/// Certificate chain and key of this device.
#[derive(Clone, PartialEq)]
pub(crate) struct Credential {
    pub certificate: PathBuf,
    pub key: KeySource,
    /// What a token's module reads while the daemon runs.
    pub pkcs11_folders: Vec<PathBuf>,
}

/// Where the private key is.
#[derive(Clone, PartialEq)]
pub(crate) enum KeySource {
    /// PKCS#8 PEM, readable by its owner alone: for laboratories.
    File(PathBuf),
    /// An entry of a sealed vault, and the file with its pass phrase.
    Vault { path: PathBuf, entry: String, pass_phrase: PathBuf },
    /// A key that stays in a PKCS#11 token.
    Token(TokenUri),
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
    /// A file, or a PKCS#11 URI.
    key: Option<PathBuf>,
    #[serde(default)]
    pkcs11_folders: Vec<PathBuf>,
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
        let token =
            c.key.as_ref().and_then(|k| k.to_str()).filter(|k| k.starts_with(SCHEME)).map(str::to_owned);
        if token.is_none() && !c.pkcs11_folders.is_empty() {
            self.out_of_place("credential.pkcs11_folders", "`key` is no PKCS#11 URI");
        }
        let pkcs11_folders =
            c.pkcs11_folders.iter().map(|path| self.folder("credential.pkcs11_folders", path)).collect();
        let unmade = made && !certificate.is_file();
        let key = match (c.key, c.vault, c.vault_entry, c.pass_phrase_file) {
            (Some(_), None, None, None) if token.is_some() => KeySource::Token(self.token(&token?)?),
            (Some(key), None, None, None) if unmade => KeySource::File(self.base.join(&key)),
            (Some(key), None, None, None) => KeySource::File(self.file("credential.key", &key)),
            (None, Some(vault), Some(entry), Some(pass)) => KeySource::Vault {
                path: match unmade {
                    true => self.base.join(&vault),
                    false => self.file("credential.vault", &vault),
                },
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
        Some(Credential { certificate, key, pkcs11_folders })
    }

    fn token(&mut self, text: &str) -> Option<TokenUri> {
        let uri = match text.parse::<TokenUri>() {
            Ok(uri) => uri.relative_to(self.base),
            Err(e) => {
                let write = "write \"pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=FILE\"";
                self.wrong("credential.key", without_pin(text), format_args!("{e}; {write}"));
                return None;
            }
        };
        self.file("credential.key: module-path", &uri.module);
        if let Some(pin) = &uri.pin {
            self.file("credential.key: pin-source", pin);
        }
        Some(uri)
    }

    pub(super) fn trust(&mut self, i: usize, t: TrustFile) -> Option<Trust> {
        let plmn = self.value(&format!("trust[{i}].plmn"), &t.plmn, "MCC-MNC, as \"001-01\"");
        let root = self.file(&format!("trust[{i}].root"), &t.root);
        let crls = t.crl.iter().map(|p| self.file(&format!("trust[{i}].crl"), p)).collect();
        Some(Trust { plmn: plmn?, root, crls })
    }
}

/// What is told of a URI that is wrong: a PIN that somebody wrote into it is not for logs.
fn without_pin(text: &str) -> String {
    match text.split_once("pin-value=") {
        Some((before, after)) => {
            let rest = after.find(['&', ';', '?']).map_or("", |at| &after[at..]);
            format!("{before}pin-value=...{rest}")
        }
        None => text.to_owned(),
    }
}

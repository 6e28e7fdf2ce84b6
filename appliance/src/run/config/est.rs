//! `[est]`: the home network's enrolment server, and what else is fetched when a network is there.

use std::path::PathBuf;
use std::time::Duration;

use pc5_control::credential::{Identity, Plmn};
use serde::Deserialize;

use super::check::Checker;

/// Enrolment over secure transport.
#[derive(Clone, PartialEq)]
pub(crate) struct Est {
    /// `https://HOST[:PORT]`.
    pub url: String,
    /// Roots (PEM) below which the server proves itself.
    pub root: PathBuf,
    /// For the first enrolment: who this device is, and the file with its secret.
    pub first: Option<(Identity, PathBuf)>,
    /// How often CRLs, roots and the age of the certificate are looked at.
    pub every: Duration,
    /// Distribution points of CRLs besides the server's own.
    pub crls: Vec<String>,
    /// Networks whose roots the server is asked for.
    pub foreign: Vec<Plmn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EstFile {
    url: String,
    root: PathBuf,
    identity: Option<String>,
    secret_file: Option<PathBuf>,
    every: Option<String>,
    #[serde(default)]
    crl: Vec<String>,
    #[serde(default)]
    foreign: Vec<String>,
}

impl Checker<'_> {
    pub(super) fn est(&mut self, est: EstFile, enrolled: bool) -> Option<Est> {
        if !est.url.starts_with("https://") {
            self.wrong("est.url", &est.url, "write https://HOST or https://HOST:PORT");
        }
        for url in est.crl.iter().filter(|u| !u.starts_with("https://") && !u.starts_with("http://")) {
            self.wrong("est.crl", url, "write the http:// or https:// address of a CRL (DER)");
        }
        let root = self.file("est.root", &est.root);
        let every = self.duration("est.every", est.every.as_deref(), HOURLY);
        if every < SHORTEST {
            self.wrong("est.every", format_args!("{every:?}"), "write \"1s\" or more");
        }
        let foreign = est
            .foreign
            .iter()
            .filter_map(|p| self.value("est.foreign", p, "a network, MCC-MNC, as \"002-02\""))
            .collect();
        let first = match (est.identity, est.secret_file) {
            (Some(identity), Some(file)) => {
                // Once enrolled it may be gone.
                let file = if enrolled { self.base.join(file) } else { self.file("est.secret_file", &file) };
                self.identity("est.identity", &identity).map(|identity| (identity, file))
            }
            (None, None) if enrolled => None,
            _ => {
                self.missing("est.identity, est.secret_file", "the first enrolment needs both");
                None
            }
        };
        Some(Est { url: est.url, root, first, every, crls: est.crl, foreign })
    }
}

const HOURLY: Duration = Duration::from_secs(3_600);
const SHORTEST: Duration = Duration::from_secs(1);

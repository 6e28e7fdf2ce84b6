//! `pc5 pki token`: a device's key in a PKCS#11 token, and the certification request for it.

use std::path::PathBuf;

use anyhow::Context;
use pc5_control::credential::key::point;
use pc5_control::credential::{Identity, LongTermKey, SoftwareKey, TokenKey, TokenUri};
use pc5_control::files::SECRET;
use pc5_control::pki::{csr, pem};
use serde::Serialize;

use super::super::replay::Shown;
use crate::exit::Exit;
use crate::report::{Report, show};

#[derive(clap::Args)]
pub(super) struct Args {
    /// pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=FILE
    uri: TokenUri,
    /// Put this key (PKCS#8 PEM) into the token instead of making one there.
    #[arg(long)]
    import: Option<PathBuf>,
    /// The key is in the token already.
    #[arg(long, conflicts_with = "import")]
    existing: bool,
    /// Write a certification request (PEM) for `pc5 pki issue --csr`.
    #[arg(long, requires = "identity")]
    csr: Option<PathBuf>,
    /// Whose request it is, pc5:MCC-MNC:ue:ID.
    #[arg(long, requires = "csr")]
    identity: Option<Identity>,
}

#[derive(Serialize)]
struct InToken {
    key: String,
    public_key: String,
    csr: Option<PathBuf>,
}

impl Report for InToken {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("key", self.key.clone()), ("public key", self.public_key.clone())];
        rows.extend(self.csr.iter().map(|path| ("request", path.display().to_string())));
        rows
    }
}

pub(super) fn run(args: Args, output: Shown) -> anyhow::Result<Exit> {
    let uri = args.uri;
    let key = match (&args.import, args.existing) {
        (Some(path), _) => {
            let text = SECRET.read_text(path).with_context(|| path.display().to_string())?;
            let key = SoftwareKey::from_pkcs8_pem(&text).with_context(|| path.display().to_string())?;
            TokenKey::import(&uri, &key)?
        }
        (None, true) => TokenKey::open(&uri)?,
        (None, false) => TokenKey::generate(&uri)?,
    };
    if let (Some(path), Some(identity)) = (&args.csr, &args.identity) {
        let der = csr::make(identity, &key)?;
        std::fs::write(path, pem("CERTIFICATE REQUEST", &der)).with_context(|| path.display().to_string())?;
    }
    let public_key = hex::encode(point(key.public_key()));
    show(output, &InToken { key: uri.to_string(), public_key, csr: args.csr })
}

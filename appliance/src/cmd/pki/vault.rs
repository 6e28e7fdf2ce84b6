//! `pc5 pki vault`: a device's keys in a sealed file, and the certification request for one.

use std::path::PathBuf;

use anyhow::{Context, bail};
use getrandom::SysRng;
use pc5_control::credential::key::point;
use pc5_control::credential::{Identity, LongTermKey, SoftwareKey};
use pc5_control::files::SECRET;
use pc5_control::pki::{csr, pem};
use pc5_control::vault::{Cost, Vault, pass_phrase};
use rand_core::UnwrapErr;
use serde::Serialize;

use super::super::replay::Shown;
use crate::exit::Exit;
use crate::report::{Report, show};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The vault; made, with mode 0600, if it is not there.
    file: PathBuf,
    /// File (mode 0600) with the pass phrase: at least 12 octets, made by a program.
    #[arg(long)]
    pass_phrase_file: PathBuf,
    /// Name of the key in the vault: `vault_entry` of a configuration.
    #[arg(long, default_value = "certificate")]
    entry: String,
    /// Put this key (PKCS#8 PEM) into the vault instead of making one there.
    #[arg(long)]
    import: Option<PathBuf>,
    /// The key is in the vault already.
    #[arg(long, conflicts_with = "import")]
    existing: bool,
    /// Forget the key.
    #[arg(long, conflicts_with_all = ["import", "existing", "csr"])]
    remove: bool,
    /// Show what is in the vault, without its secrets; nothing is made.
    #[arg(long, conflicts_with_all = ["import", "existing", "remove", "csr", "entry"])]
    list: bool,
    /// Write a certification request (PEM) for `pc5 pki issue --csr`.
    #[arg(long, requires = "identity")]
    csr: Option<PathBuf>,
    /// Whose request it is, pc5:MCC-MNC:ue:ID.
    #[arg(long, requires = "csr")]
    identity: Option<Identity>,
}

#[derive(Serialize)]
struct InVault {
    vault: PathBuf,
    entry: String,
    public_key: String,
    csr: Option<PathBuf>,
}

#[derive(Serialize)]
struct Contents {
    vault: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// None: another secret than a certificate's key.
    public_key: Option<String>,
}

impl Report for InVault {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("vault", self.vault.display().to_string()),
            ("entry", self.entry.clone()),
            ("public key", self.public_key.clone()),
        ];
        rows.extend(self.csr.iter().map(|path| ("request", path.display().to_string())));
        rows
    }
}

impl Report for Contents {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("vault", self.vault.display().to_string())];
        for entry in &self.entries {
            rows.push(("entry", entry.name.clone()));
            rows.push(("public key", entry.public_key.clone().unwrap_or("none: another secret".into())));
        }
        rows
    }
}

pub(super) fn run(args: Args, output: Shown) -> anyhow::Result<Exit> {
    let phrase = pass_phrase(&args.pass_phrase_file)?;
    let rng = &mut UnwrapErr(SysRng);
    let (vault, entry) = (args.file, args.entry);
    if args.list || args.remove {
        let mut opened = Vault::open(&vault, &phrase)?;
        if args.remove && !opened.remove(&entry, rng)? {
            bail!("{} holds no '{entry}'", vault.display());
        }
        return show(output, &Contents { entries: entries(&opened), vault });
    }
    let key = if args.existing {
        Vault::open(&vault, &phrase)?.key(&entry)?
    } else {
        // Read before anything is made.
        let key = match &args.import {
            None => SoftwareKey::generate(rng),
            Some(path) => {
                let text = SECRET.read_text(path).with_context(|| path.display().to_string())?;
                SoftwareKey::from_pkcs8_pem(&text).with_context(|| path.display().to_string())?
            }
        };
        let mut opened = Vault::open_or_create(&vault, &phrase, Cost::default(), rng)?;
        // A certificate may be out for the one that is there.
        if opened.get(&entry).is_some() {
            bail!("{} holds '{entry}' already: write --existing, or another --entry", vault.display());
        }
        opened.put_key(&entry, &key, rng)?;
        key
    };
    if let (Some(path), Some(identity)) = (&args.csr, &args.identity) {
        let der = csr::make(identity, &key)?;
        std::fs::write(path, pem("CERTIFICATE REQUEST", &der)).with_context(|| path.display().to_string())?;
    }
    let public_key = hex::encode(point(key.public_key()));
    show(output, &InVault { vault, entry, public_key, csr: args.csr })
}

fn entries(vault: &Vault) -> Vec<Entry> {
    let entry = |name: &str| Entry {
        name: name.to_owned(),
        public_key: vault.key(name).ok().map(|key| hex::encode(point(key.public_key()))),
    };
    vault.names().map(entry).collect()
}

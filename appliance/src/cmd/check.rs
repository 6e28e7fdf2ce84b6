//! `pc5 check`: a configuration, checked whole; nothing is opened.

use std::path::PathBuf;

use pc5_control::store::MemoryStore;

use crate::exit::Exit;
use crate::run::{self, config};

/// Check a configuration of the daemon, with the certificates it names; nothing is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration, TOML.
    config: PathBuf,
}

/// Checks.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = config::read(&args.config)?;
    let credentials = run::credentials(&config, &MemoryStore::default())?;
    println!("{}: good, for {}", args.config.display(), run::identity(&credentials));
    Ok(Exit::Ok)
}

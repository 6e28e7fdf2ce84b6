//! `pc5 run`: the appliance daemon.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use crate::exit::Exit;
use crate::run::config;

/// The appliance daemon: group owner or UE, by configuration.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration, TOML.
    config: PathBuf,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = config::read(&args.config)?;
    let filter = EnvFilter::try_from_env("PC5_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Another subscriber can only be a test's.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    crate::run::run(config)?;
    Ok(Exit::Ok)
}

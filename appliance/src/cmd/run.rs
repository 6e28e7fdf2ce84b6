//! `pc5 run`: the appliance daemon.

use std::path::PathBuf;

use crate::exit::{Exit, usage_if_missing};
use crate::run::{config, log};

/// The appliance daemon: group owner or UE, by configuration.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration, TOML.
    config: PathBuf,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = config::read(&args.config).map_err(usage_if_missing)?;
    log::begin(config.log.as_deref());
    crate::run::run(config)?;
    Ok(Exit::Ok)
}

//! `pc5 check`: a configuration, checked whole; nothing is opened.

use std::path::PathBuf;

use pc5_control::store::MemoryStore;

use crate::exit::{Exit, usage_if_missing};
use crate::report::print;
use crate::run::{config, credentials, steering};

/// Check a configuration of the daemon, with the certificates it names; nothing is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration, TOML.
    config: PathBuf,
}

/// Checks.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = config::read(&args.config).map_err(usage_if_missing)?;
    let receiving = steering(&config.port, config.workers).map(|s| format!("\nreceive steering: {s}"));
    let receiving = receiving.unwrap_or_default();
    if let (Some(est), false) = (&config.est, config.credential.certificate.is_file()) {
        print(&format!(
            "{}: good; its certificate is to be had from {}{receiving}",
            args.config.display(),
            est.url
        ))?;
        return Ok(Exit::Ok);
    }
    let credentials =
        credentials::read(&config, credentials::read_key(&config.credential.key)?, &MemoryStore::default())?;
    print(&format!("{}: good, for {}{receiving}", args.config.display(), credentials.device.identity))?;
    Ok(Exit::Ok)
}

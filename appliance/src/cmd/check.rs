//! `pc5 check`: a configuration, checked whole; nothing is opened.

use std::path::PathBuf;

use pc5_control::pki::describe::utc;

use crate::exit::{Exit, usage_if_missing};
use crate::report::print;
use crate::run::credentials::{self, Kept};
use crate::run::own::{self, Standing};
use crate::run::privileges::{User, explain};
use crate::run::{config, device_key, reach_state, steering};

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
    // Whatever else is said, these are told at its end.
    let mut notes = format!("\nprivate key: {}{receiving}", device_key::place(&config.credential.key));
    config.weaknesses().iter().for_each(|weakness| notes += &format!("\nWARNING: {weakness}"));
    if let Some(est) = &config.est {
        let wanting = match own::standing(&config) {
            Standing::Missing => Some("its certificate is".to_owned()),
            Standing::Ended(end) if credentials::can_enrol(&config) => {
                Some(format!("its certificate was valid until {}, a new one is", utc(end)))
            }
            Standing::There | Standing::Ended(_) => None,
        };
        if let Some(wanting) = wanting {
            device_key::check_before_enrolment(&config)?;
            let file = args.config.display();
            print(&format!("{file}: good; {wanting} to be had from {}{notes}", est.url))?;
            return Ok(Exit::Ok);
        }
    }
    let key = credentials::read_key(&config.credential.key)?;
    // The rest the daemon reads as the user that it becomes. Who cannot become that one reads as who he is.
    let user = User::to_become(config.user.as_ref(), config.state.as_deref()).ok();
    user.as_ref().map(User::become_it).transpose()?;
    let user = user.map_or_else(String::new, |user| user.to_string());
    let read = reach_state(&config)
        .and_then(|()| credentials::read(&config, key, Kept::unread(&config)))
        .map_err(|e| explain(e, &user))?;
    let doubts: String =
        read.doubts.iter().map(|doubt| format!("\nunless its state has what is wanting: {doubt}")).collect();
    print(&format!("{}: good, for {}{doubts}{notes}", args.config.display(), read.device.identity))?;
    Ok(Exit::Ok)
}

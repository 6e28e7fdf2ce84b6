//! `pc5 group`: orders about groups to a running owner.

use super::replay::Shown;
use super::show::Daemon;
use crate::exit::Exit;
use crate::run::status::Ask;

/// Change a group's key, or who may be in it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand)]
enum Order {
    /// Change the group key now.
    Rekey(Common),
    /// Release a member, change the key, and admit it no more.
    Evict {
        /// pc5:MCC-MNC:ue:ID
        identity: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take an eviction back.
    Readmit {
        /// pc5:MCC-MNC:ue:ID
        identity: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Group id, 6 hexadecimal digits; not needed where there is one group.
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

/// Gives the order.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let (ask, daemon, output) = match args.order {
        Order::Rekey(c) => (Ask::RekeyGroup { group: c.group }, c.daemon, c.output),
        Order::Evict { identity, common: c } => (Ask::Evict { identity, group: c.group }, c.daemon, c.output),
        Order::Readmit { identity, common: c } => {
            (Ask::Readmit { identity, group: c.group }, c.daemon, c.output)
        }
    };
    daemon.order(ask, output)
}

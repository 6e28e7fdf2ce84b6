//! `pc5 group`: orders about groups to a running owner.

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
    Rekey(OfGroup),
    /// Release a member, change the key, and admit it no more.
    Evict {
        /// pc5:MCC-MNC:ue:ID
        identity: String,
        #[command(flatten)]
        of: OfGroup,
    },
    /// Take an eviction back.
    Readmit {
        /// pc5:MCC-MNC:ue:ID
        identity: String,
        #[command(flatten)]
        of: OfGroup,
    },
}

#[derive(clap::Args)]
struct OfGroup {
    /// Group id, 6 hexadecimal digits; not needed where there is one group.
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Gives the order.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let (ask, daemon) = match args.order {
        Order::Rekey(OfGroup { group, daemon }) => (Ask::RekeyGroup { group }, daemon),
        Order::Evict { identity, of: OfGroup { group, daemon } } => (Ask::Evict { identity, group }, daemon),
        Order::Readmit { identity, of: OfGroup { group, daemon } } => {
            (Ask::Readmit { identity, group }, daemon)
        }
    };
    daemon.order(ask)
}

//! `pc5 link`: orders about links to a running daemon.

use super::replay::Shown;
use super::show::Daemon;
use crate::exit::Exit;
use crate::run::status::Ask;

/// Re-key a link; at a UE, join its owner or leave.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand)]
enum Order {
    /// Join the owner now.
    Connect(OfGroup),
    /// Leave the owner.
    Release(OfGroup),
    /// New session keys (contribution 6.3.4.5).
    Rekey {
        /// Layer-2 id of the other side, 6 hexadecimal digits; not needed where there is one link.
        peer: Option<String>,
        /// A new KD as well.
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct OfGroup {
    /// ProSe Layer-2 group id, where the UE is a member of several; all of them unless named.
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    daemon: Daemon,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

/// Gives the order.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let (ask, c) = match args.order {
        Order::Connect(OfGroup { group, common }) => (Ask::Connect { group }, common),
        Order::Release(OfGroup { group, common }) => (Ask::Release { group }, common),
        Order::Rekey { peer, refresh, common } => (Ask::RekeyLink { peer, refresh }, common),
    };
    c.daemon.order(ask, c.output)
}

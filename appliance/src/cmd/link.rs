//! `pc5 link`: orders about links to a running daemon.

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
        daemon: Daemon,
    },
}

#[derive(clap::Args)]
struct OfGroup {
    /// ProSe Layer-2 group id, where the UE is a member of several; all of them unless named.
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Gives the order.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let (ask, daemon) = match args.order {
        Order::Connect(OfGroup { group, daemon }) => (Ask::Connect { group }, daemon),
        Order::Release(OfGroup { group, daemon }) => (Ask::Release { group }, daemon),
        Order::Rekey { peer, refresh, daemon } => (Ask::RekeyLink { peer, refresh }, daemon),
    };
    daemon.order(ask)
}

//! `pc5 counters`: what a running daemon counts.

use super::show::Daemon;
use crate::exit::Exit;
use crate::run::status::Ask;

/// Counters of a running daemon.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand)]
enum Order {
    /// Show drops from zero; totals and keys are untouched.
    Clear {
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// Gives the order.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let Order::Clear { daemon } = args.order;
    daemon.order(Ask::ClearCounters)
}

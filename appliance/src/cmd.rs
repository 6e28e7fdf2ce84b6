//! One file a subcommand.

pub(crate) mod bench;
pub(crate) mod replay;

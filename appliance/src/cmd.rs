//! One file a subcommand.

pub(crate) mod algo;
pub(crate) mod bench;
pub(crate) mod mikey;
pub(crate) mod pki;
pub(crate) mod replay;
pub(crate) mod serve;

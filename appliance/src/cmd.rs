//! One file a subcommand.

pub(crate) mod algo;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod counters;
pub(crate) mod group;
pub(crate) mod link;
pub(crate) mod mikey;
pub(crate) mod pki;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod top;

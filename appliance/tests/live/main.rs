//! The appliance live: processes in network namespaces of their own on one wire, with programs that talk through them,
//! eavesdroppers and attackers. Needs root; skipped with the reason elsewhere.
//!
//! Scenarios run one after the other, since most of them look at times. `PC5_LIVE=long` makes those that have a long form
//! run it (`docs/operations.md`).
#![allow(clippy::unwrap_used)]

mod attacker;
mod backlog;
mod bridged;
mod compromise;
mod crl;
mod demo;
mod device;
mod enrolment;
mod flood;
mod kill;
mod lab;
mod latency;
mod modes;
mod overload;
mod raw;
mod rekey;
mod revoked;
mod script;
mod token;
mod traffic;
mod vault;
mod wire;
mod workers;

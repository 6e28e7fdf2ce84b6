//! Keying procedures of ProSe security, as state machines without I/O.
#![forbid(unsafe_code)]

pub mod clock;
pub mod codec;
pub mod credential;
pub mod files;
pub mod group_owner;
pub mod hpke;
pub mod pki;
pub mod policy;
pub mod reject;
pub mod service;
pub mod store;
pub mod vault;

#[cfg(test)]
mod testing;

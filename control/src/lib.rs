//! Keying procedures of ProSe security, as state machines without I/O.
#![forbid(unsafe_code)]

pub mod credential;
mod files;
pub mod hpke;
pub mod pki;
pub mod reject;
pub mod service;
pub mod vault;

#[cfg(test)]
mod testing;

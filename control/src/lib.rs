//! Keying procedures of ProSe security, as state machines without I/O.
#![forbid(unsafe_code)]

pub mod credential;
pub mod hpke;
pub mod pki;
pub mod reject;

#[cfg(test)]
mod testing;

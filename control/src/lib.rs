//! Keying procedures of ProSe security, as state machines without I/O.
#![forbid(unsafe_code)]

pub mod credential;
pub mod hpke;

#[cfg(test)]
mod testing;

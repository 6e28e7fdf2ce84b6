//! Keying procedures of ProSe security, as state machines without I/O.
#![forbid(unsafe_code)]

//! `pc5`: ProSe security for Linux.
#![forbid(unsafe_code)]

fn main() {}

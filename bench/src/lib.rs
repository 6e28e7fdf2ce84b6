//! Workloads and peers shared by the benches.
#![forbid(unsafe_code)]

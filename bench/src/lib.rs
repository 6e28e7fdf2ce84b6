//! Workloads, peers and reports shared by the benches.
//!
//! ```text
//! workload (sizes, keys, bursts) -> every peer: outputs compared, then rounds in turn -> median -> report
//! ```
#![deny(unsafe_code)]

pub mod bars;
pub mod engine;
#[cfg(feature = "peers")]
pub mod peers;
pub mod report;
pub mod workload;

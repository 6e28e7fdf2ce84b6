//! The PC5 protection engine: frames in, frames out, keys by command. It knows nothing of certificates or procedures.
//!
//! ```text
//! Command -> keys ----------v
//! rx -> parse -> lookup -> seal | open -> settle -> tx        one worker a core; Event -> control
//! ```
#![deny(unsafe_code)]

pub mod batch;
pub mod cipher;
mod context;
pub mod crypto;
pub mod engine;
pub mod ids;
pub mod io;
pub mod kdf;
pub mod keylog;
pub mod keys;
pub mod pdu;
#[allow(unsafe_code)]
pub mod raw;
mod receive;
mod send;
pub mod share;
mod stages;
pub mod suite;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod verdict;
pub mod window;

pub use context::Budget;
pub use crypto::KernelError as EngineError;
pub use receive::ReceiveLimits;

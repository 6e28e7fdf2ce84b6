//! The PC5 protection engine: frames in, frames out, keys by command. It knows nothing of certificates or procedures.
//!
//! ```text
//! Command -> keys ----------v
//! rx -> parse -> lookup -> seal | open -> settle -> tx        one worker a core; Event -> control
//! ```
#![deny(unsafe_code)]

pub mod batch;
pub mod cipher;
pub mod crypto;
pub mod ids;
pub mod kdf;
pub mod keys;
pub mod pdu;
pub mod suite;
pub mod verdict;
pub mod window;

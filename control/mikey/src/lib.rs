//! MIKEY, ECCSI and SAKKE.
#![forbid(unsafe_code)]

pub mod codec;
pub mod error;
mod secret;
mod time;

pub use codec::Message;
pub use error::{DecodeError, EncodeError, KeyError, Reject};
pub use secret::Secret;
pub use time::{Date, NtpTime};

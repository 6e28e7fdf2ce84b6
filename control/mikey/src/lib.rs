#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod claimed;
pub mod codec;
pub mod eccsi;
pub mod error;
mod field;
pub mod fuzz;
pub mod gsk;
pub mod identifier;
mod kemac;
#[cfg(feature = "key-file")]
pub mod key_file;
mod key_parameters;
pub mod keys;
mod pairing;
pub mod policy;
pub mod prf;
pub mod psk;
mod replay;
pub mod sakke;
pub mod sakke_mode;
mod secret;
mod seed;
mod time;

pub use claimed::ClaimedMessage;
pub use codec::Message;
pub use error::{DecodeError, EncodeError, KeyError, Reject};
pub use kemac::{Encryption, MacAlgorithm, Protection};
pub use replay::{ReplayCache, Standing, Window};
pub use secret::Secret;
pub use time::{Date, NtpTime};

/// Lower-case hexadecimal, for names of keys in errors.
fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

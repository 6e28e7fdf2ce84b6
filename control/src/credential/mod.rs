//! Certificates.
pub mod identity;
pub mod key;

pub use identity::{Identity, Plmn, Role, Roles};
pub use key::{KeyError, LongTermKey, SignRole, SoftwareKey};

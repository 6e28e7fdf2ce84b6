//! Certificates of ProSe UEs and group owners: what they say, who vouches for them, and whether they still hold.
//! Judged offline, from roots and CRLs fetched earlier. Source: `go-mode.md` sections 1, 3 and 8.
//!
//! ```text
//! EST -> TrustEntry (PLMN, root) --v
//! CRL, from the network or a peer -> Judge --judge(chain, need, clock)--> Leaf | Refusal -> wire cause
//! ```

mod crl;
pub mod identity;
mod judge;
pub mod key;
pub(crate) mod profile;
mod refusal;
pub mod token;
mod wire;

#[cfg(test)]
mod tests;

pub use crl::{CrlNumber, CrlStatus, CrlView, Freshness, Installed, MAX_CRL, Standing};
pub use identity::{Identity, NameError, Plmn, Role, Roles};
pub use judge::{Clock, Judge, Leaf, Need, TrustEntry};
pub use key::{KeyError, LongTermKey, SignRole, SoftwareKey};
pub use profile::{IssuerId, MAX_CERTIFICATE, MAX_CHAIN};
pub use refusal::{CrlError, ProfileError, Refusal};
pub use token::{TokenError, TokenKey, TokenUri, UriError};
pub use wire::{Credential, CredentialError, CrlHeld};

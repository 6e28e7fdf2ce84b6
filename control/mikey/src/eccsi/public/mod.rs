//! P-256 for public values only: **variable time**.
//!
//! Verification has no secret: identity, message, signature and KPAK are all known to whoever sees the message, so it may
//! branch and look up by them, which `p256`'s arithmetic never does. Everything that touches a key or a nonce
//! (extraction, validation, signing) stays with `p256`.

mod comb;
mod field;
mod point;

pub(super) use comb::Comb;
pub(super) use point::{Affine, Jacobian};

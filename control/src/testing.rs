//! What unit tests of this package share.

use rand_core::UnwrapErr;

/// The operating system's randomness.
pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

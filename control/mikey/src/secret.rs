//! Octets that must not leak: wiped on drop, compared in constant time, without `Debug`, `Display` and `Clone`.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret octets of any length.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Copies the octets.
    pub fn new(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    /// A secret of `length` octets, filled by `fill`.
    pub(crate) fn filled(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut octets = Zeroizing::new(vec![0; length]);
        fill(&mut octets);
        Self(octets)
    }

    /// The octets themselves; what is done with them is the caller's responsibility.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No octets at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Constant-time comparison; only the lengths may be learned from its duration.
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

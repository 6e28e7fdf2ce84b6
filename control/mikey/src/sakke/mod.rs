//! SAKKE, the Sakai-Kasahara key encapsulation of RFC 6508, with parameter set 1 of RFC 6509 Appendix A.
//!
//! ```text
//! KMS       KmsMasterSecret --public_key--> KmsPublicKey (Z_T)      --extract(identity)--> Rsk
//! sender    Ssv, identity, KmsPublicKey  --encapsulate-->  Encapsulated (273 octets)
//! receiver  identity, Rsk, KmsPublicKey, Encapsulated  --decapsulate-->  Ssv
//! ```
//!
//! Everything that touches a secret runs in fixed time. An [`Ssv`] leaves [`decapsulate`] only after the encapsulated
//! point was recomputed from it and found equal.

pub(crate) mod comb;
pub(crate) mod curve;
mod hash;
mod kem;
mod keys;
mod params;
pub(crate) mod scalar;
pub(crate) mod table;

pub use hash::hash_to_integer_range;
pub use kem::{
    Encapsulated, Encapsulated32, PreparedRsk, SharedSecretValue, Ssv, Ssv32, decapsulate, decapsulate_ssv32,
    encapsulate, encapsulate_many, encapsulate_ssv32,
};
pub use keys::{KmsMasterSecret, KmsPublicKey, Rsk, validate};

use curve::PointError;

/// Octets of an encoded point: 04 || x || y.
pub const POINT_OCTETS: usize = curve::POINT_OCTETS;
/// Octets of a Shared Secret Value (n = 128 bits).
pub const SSV_OCTETS: usize = 16;
/// Octets of the encapsulated data for a 16-octet SSV: 04 || Rx || Ry || H.
pub const ENCAPSULATED_OCTETS: usize = POINT_OCTETS + SSV_OCTETS;
/// Octets of the KMS's master secret z_T.
pub const MASTER_SECRET_OCTETS: usize = 128;

/// Why a SAKKE operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SakkeError {
    /// An octet string has the wrong length.
    #[error("{what} has {found} octets, wanted {wanted}")]
    Length {
        /// What was read.
        what: &'static str,
        /// Octets found.
        found: usize,
        /// Octets wanted.
        wanted: usize,
    },
    /// A point does not begin with 04, the uncompressed form, which is the only one defined.
    #[error("{what} is not in the uncompressed form 04")]
    PointForm {
        /// What was read.
        what: &'static str,
    },
    /// A coordinate is not below p.
    #[error("a coordinate of {what} is not below p")]
    Coordinate {
        /// What was read.
        what: &'static str,
    },
    /// A point does not satisfy the curve's equation.
    #[error("{what} is not on the curve")]
    OffCurve {
        /// What was read.
        what: &'static str,
    },
    /// A point is on the curve but not of order q.
    #[error("{what} is not of order q")]
    Order {
        /// What was read.
        what: &'static str,
    },
    /// The identifier, as a big-endian integer, is not in 2..q-1 (RFC 6508 section 2.2).
    #[error("the identifier is not in the range 2..q-1")]
    Identifier,
    /// The master secret is not in 1..q-1, or has no key for this identifier.
    #[error("the master secret is out of range")]
    MasterSecret,
    /// The Receiver Secret Key does not belong to this identifier and this KMS (RFC 6508 section 6.1.2).
    #[error("the Receiver Secret Key is not the one of this identifier and KMS")]
    Validation,
    /// The identifier and the KMS's key have no usable sum: `[b]P = -Z_T` or `r = 0`, which chance does not produce.
    #[error("this identifier cannot be encapsulated to under this KMS key")]
    Degenerate,
    /// The encapsulated data does not open: another receiver's, altered, or made without the rules (TEST differs).
    #[error("the encapsulated data does not open with this key")]
    Decapsulation,
}

impl SakkeError {
    fn point(what: &'static str, error: PointError, found: usize) -> Self {
        match error {
            PointError::Length => Self::Length { what, found, wanted: POINT_OCTETS },
            PointError::Form => Self::PointForm { what },
            PointError::Coordinate => Self::Coordinate { what },
            PointError::OffCurve => Self::OffCurve { what },
        }
    }
}

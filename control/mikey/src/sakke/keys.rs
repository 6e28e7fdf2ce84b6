//! Keys of the KMS and of the receiver. Source: RFC 6508 sections 4 and 6.1.

use std::sync::{Arc, OnceLock};

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::comb::PointComb;
use super::curve::{Affine, Jacobian};
use super::table::{PointTable, PowerTable};
use super::{MASTER_SECRET_OCTETS, POINT_OCTETS, SakkeError, params, scalar};
use crate::field::limbs::{self, OCTETS};
use crate::field::{Fp, Fq};
use crate::pairing;

/// The public key `Z_T = [z_T]P` of a KMS.
///
/// It carries a small table of multiples (16 kB) from the start. [`KmsPublicKey::prepare`] adds a large one (1.4 MB) for whoever
/// sends much; clones share both.
#[derive(Clone)]
pub struct KmsPublicKey {
    point: Affine,
    multiples: Arc<Multiples>,
}

struct Multiples {
    comb: PointComb,
    table: OnceLock<PointTable>,
}

impl KmsPublicKey {
    fn new(point: Affine, comb: PointComb) -> Self {
        Self { point, multiples: Arc::new(Multiples { comb, table: OnceLock::new() }) }
    }

    /// Reads 04 || x || y (257 octets) and checks form, range, curve and order.
    ///
    /// # Errors
    /// [`SakkeError::Length`], [`SakkeError::PointForm`], [`SakkeError::Coordinate`], [`SakkeError::OffCurve`] or
    /// [`SakkeError::Order`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, SakkeError> {
        const WHAT: &str = "the KMS public key";
        let point =
            Affine::from_octets(octets).map_err(|error| SakkeError::point(WHAT, error, octets.len()))?;
        let comb = PointComb::checked(&point).ok_or(SakkeError::Order { what: WHAT })?;
        Ok(Self::new(point, comb))
    }

    /// 04 || x || y, 257 octets.
    #[must_use]
    pub fn to_octets(&self) -> [u8; POINT_OCTETS] {
        self.point.to_octets()
    }

    /// Builds the key's large table, and those of P and g, if they are not there yet. Later calls are free.
    pub fn prepare(&self) {
        base_table();
        power_table();
        self.prepared();
    }

    /// The key's large table, built if it is not there yet.
    pub(super) fn prepared(&self) -> &PointTable {
        self.multiples.table.get_or_init(|| PointTable::new(&self.point))
    }

    /// `[scalar]Z_T` in fixed time, from the large table if it is there; the scalar must not be zero.
    pub(super) fn multiply(&self, scalar: &Fq) -> Jacobian {
        match self.multiples.table.get() {
            Some(table) => table.multiply(scalar),
            None => self.multiples.comb.multiply(scalar),
        }
    }

    /// `[b]P + Z_T` for an identifier b: the public point that a message to b is encapsulated under.
    pub(super) fn identity_point(&self, b: &Fq) -> Result<Affine, SakkeError> {
        let sum = base_table().multiply(b).add_affine(&self.point);
        if sum.is_infinity() == 1 {
            return Err(SakkeError::Degenerate);
        }
        Ok(sum.to_affine_with(&sum.z.invert()))
    }

    /// `[r]([b]P + Z_T)` as `[rb]P + [r]Z_T`, from tables; r must not be zero.
    pub(super) fn multiply_identity_point(&self, b: &Fq, r: &Fq) -> Jacobian {
        base_table().multiply(&(*r * *b)).add(&self.multiply(r))
    }
}

impl PartialEq for KmsPublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.point.x.ct_eq(&other.point.x) & self.point.y.ct_eq(&other.point.y)).into()
    }
}

impl Eq for KmsPublicKey {}

impl core::fmt::Debug for KmsPublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let octets = self.to_octets();
        write!(f, "KmsPublicKey(04")?;
        octets[1..9].iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, "..)")
    }
}

/// The KMS's master secret z_T, an integer in 1..q-1. It can make the key of every receiver.
pub struct KmsMasterSecret {
    z: Fq,
}

impl Drop for KmsMasterSecret {
    fn drop(&mut self) {
        self.z.zeroize();
    }
}

impl ZeroizeOnDrop for KmsMasterSecret {}

impl KmsMasterSecret {
    /// A fresh master secret.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        loop {
            let mut octets = Zeroizing::new([0; 144]);
            rng.fill_bytes(&mut *octets);
            let z = scalar::from_wide_octets(&octets);
            if z.is_zero() == 0 {
                return Self { z };
            }
        }
    }

    /// Reads z_T from 128 big-endian octets.
    ///
    /// # Errors
    /// [`SakkeError::MasterSecret`] if it is not in 1..q-1.
    pub fn from_octets(octets: &[u8; MASTER_SECRET_OCTETS]) -> Result<Self, SakkeError> {
        match Fq::from_octets(octets) {
            Some(z) if z.is_zero() == 0 => Ok(Self { z }),
            _ => Err(SakkeError::MasterSecret),
        }
    }

    /// z_T as 128 big-endian octets, for storage.
    #[must_use]
    pub fn to_octets(&self) -> Zeroizing<[u8; MASTER_SECRET_OCTETS]> {
        Zeroizing::new(self.z.to_octets())
    }

    /// The public key `Z_T = [z_T]P`.
    #[must_use]
    pub fn public_key(&self) -> KmsPublicKey {
        let z = base_table().multiply(&self.z);
        let point = z.to_affine_with(&z.z.invert());
        KmsPublicKey::new(point, PointComb::new(&point))
    }

    /// The Receiver Secret Key of an identifier: `[(a + z_T)^-1 mod q]P`. Source: RFC 6508 section 6.1.1.
    ///
    /// # Errors
    /// [`SakkeError::Identifier`] if the identifier is out of range, [`SakkeError::MasterSecret`] if a + z_T = 0 mod q
    /// (the KMS must then change its master secret; chance does not produce it).
    pub fn extract(&self, identifier: &[u8]) -> Result<Rsk, SakkeError> {
        let mut sum = identifier_scalar(identifier)? + self.z;
        if sum.is_zero() == 1 {
            return Err(SakkeError::MasterSecret);
        }
        let mut inverse = sum.invert();
        let mut key = base_table().multiply(&inverse);
        let rsk = Rsk { point: key.to_affine_with(&key.z.invert()) };
        sum.zeroize();
        inverse.zeroize();
        key.zeroize();
        Ok(rsk)
    }
}

/// A Receiver Secret Key, a point of order q. Not yet known to belong to an identifier: see [`validate`].
pub struct Rsk {
    pub(super) point: Affine,
}

impl Drop for Rsk {
    fn drop(&mut self) {
        self.point.zeroize();
    }
}

impl ZeroizeOnDrop for Rsk {}

impl Rsk {
    /// Reads 04 || x || y (257 octets) and checks form, range, curve and order.
    ///
    /// # Errors
    /// [`SakkeError::Length`], [`SakkeError::PointForm`], [`SakkeError::Coordinate`], [`SakkeError::OffCurve`] or
    /// [`SakkeError::Order`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, SakkeError> {
        const WHAT: &str = "the Receiver Secret Key";
        let point =
            Affine::from_octets(octets).map_err(|error| SakkeError::point(WHAT, error, octets.len()))?;
        if !point.has_order_q() {
            return Err(SakkeError::Order { what: WHAT });
        }
        Ok(Self { point })
    }

    /// 04 || x || y, 257 octets, for storage.
    #[must_use]
    pub fn to_octets(&self) -> Zeroizing<[u8; POINT_OCTETS]> {
        Zeroizing::new(self.point.to_octets())
    }
}

/// Checks that a Receiver Secret Key belongs to an identifier and a KMS: `<[a]P + Z_T, K> = g`. Mandatory before a key
/// is installed. Source: RFC 6508 section 6.1.2.
///
/// # Errors
/// [`SakkeError::Identifier`] or [`SakkeError::Validation`].
pub fn validate(identifier: &[u8], rsk: &Rsk, kms: &KmsPublicKey) -> Result<(), SakkeError> {
    let identity_point = kms.identity_point(&identifier_scalar(identifier)?)?;
    let value = pairing::pair(&identity_point, &rsk.point);
    // b/a = g, without the inversion; (0, 0), which is no value of the pairing, must not pass.
    let g = Fp::from_integer(&params::G);
    let same = value.imaginary.ct_eq(&(value.real * g));
    if bool::from(same) && value.real.is_zero() == 0 { Ok(()) } else { Err(SakkeError::Validation) }
}

/// The identifier as an integer in 2..q-1. Source: RFC 6508 section 2.2.
pub(super) fn identifier_scalar(identifier: &[u8]) -> Result<Fq, SakkeError> {
    // Leading zero octets count for the hash but not for the integer.
    let significant = identifier.iter().position(|&octet| octet != 0).unwrap_or(identifier.len());
    let digits = identifier.get(significant..).unwrap_or_default();
    let mut octets = [0; OCTETS];
    let start = OCTETS.checked_sub(digits.len()).ok_or(SakkeError::Identifier)?;
    octets.get_mut(start..).ok_or(SakkeError::Identifier)?.copy_from_slice(digits);
    if digits.is_empty() || limbs::from_octets(&octets) == small_integer(1) {
        return Err(SakkeError::Identifier);
    }
    Fq::from_octets(&octets).ok_or(SakkeError::Identifier)
}

fn small_integer(value: u64) -> limbs::Limbs {
    let mut out = [0; limbs::LIMBS];
    out[0] = value;
    out
}

/// The table of P, built at first use.
pub(super) fn base_table() -> &'static PointTable {
    static TABLE: OnceLock<PointTable> = OnceLock::new();
    TABLE.get_or_init(|| PointTable::new(&Affine::base()))
}

/// The table of g, built at first use.
pub(super) fn power_table() -> &'static PowerTable {
    static TABLE: OnceLock<PowerTable> = OnceLock::new();
    TABLE.get_or_init(|| PowerTable::new(&Fp::from_integer(&params::G)))
}

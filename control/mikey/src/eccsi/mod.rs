//! ECCSI, the identity-based signatures of RFC 6507, on P-256 with SHA-256 (N = 32) as RFC 6509 fixes them.
//!
//! ```text
//! KMS       KmsSecretAuthKey --kpak--> Kpak      --extract(identity)--> Ssk, Pvt
//! signer    SigningKey::new(identity, Ssk, Pvt, Kpak) validates once; sign(message) -> Signature (r || s || PVT)
//! receiver  Verifier::new(Kpak); verify(identity, message, Signature)
//! ```
//!
//! A valid signature can be turned into another one of the same message (s becomes q - s) by anybody: RFC 6507 lets a
//! signer choose either, so a verifier cannot tell which one was sent. Never key a replay cache on the signature.

mod public;
mod verify;

pub use verify::{DEFAULT_CACHE, Verifier};

use hmac::{Hmac, KeyInit, Mac};
use p256::elliptic_curve::group::Group;
use p256::elliptic_curve::ops::{MulVartime, Reduce};
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::elliptic_curve::{Field, PrimeField};
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Octets of a scalar or coordinate (N).
pub const SCALAR_OCTETS: usize = 32;
/// Octets of an encoded point: 04 || x || y.
pub const POINT_OCTETS: usize = 65;
/// Octets of a signature: r || s || PVT (4N + 1).
pub const SIGNATURE_OCTETS: usize = 129;

/// Why an ECCSI operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EccsiError {
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
    /// A point's coordinates are out of range or do not satisfy the curve's equation.
    #[error("{what} is not on the curve")]
    OffCurve {
        /// What was read.
        what: &'static str,
    },
    /// A scalar is zero or not below q.
    #[error("{what} is not in 1..q-1")]
    OutOfRange {
        /// What was read.
        what: &'static str,
    },
    /// The Secret Signing Key does not belong to this identity, PVT and KMS (RFC 6507 section 5.1.2).
    #[error("the Secret Signing Key is not the one of this identity, PVT and KMS")]
    Validation,
    /// The signature is not one of this identity over this message.
    #[error("the signature does not verify")]
    Signature,
}

/// The KMS Public Authentication Key, `KPAK = [KSAK]G`.
#[derive(Clone, PartialEq, Eq)]
pub struct Kpak(PublicPoint);

/// A Public Validation Token, `PVT = [v]G`. It travels in every signature and is not authenticated by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Pvt(PublicPoint);

#[derive(Clone)]
struct PublicPoint {
    point: AffinePoint,
    octets: [u8; POINT_OCTETS],
}

impl PartialEq for PublicPoint {
    fn eq(&self, other: &Self) -> bool {
        self.octets == other.octets
    }
}

impl Eq for PublicPoint {}

impl PublicPoint {
    fn from_octets(what: &'static str, octets: &[u8]) -> Result<Self, EccsiError> {
        let octets: [u8; POINT_OCTETS] = octets.try_into().map_err(|_| EccsiError::Length {
            what,
            found: octets.len(),
            wanted: POINT_OCTETS,
        })?;
        if octets[0] != 4 {
            return Err(EccsiError::PointForm { what });
        }
        let off_curve = EccsiError::OffCurve { what };
        let encoded = p256::Sec1Point::from_bytes(octets).map_err(|_| off_curve)?;
        // The curve's group has prime order: on the curve and not infinity is all there is to check.
        let point = Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&encoded)).ok_or(off_curve)?;
        Ok(Self { point, octets })
    }

    /// From a point that is not infinity.
    fn from_point(point: AffinePoint) -> Self {
        let mut octets = [0; POINT_OCTETS];
        let encoded = point.to_sec1_point(false);
        // Infinity is encoded in one octet; it is never given here, and would leave an encoding that nobody accepts.
        if let Some(out) = octets.get_mut(..encoded.as_bytes().len()) {
            out.copy_from_slice(encoded.as_bytes());
        }
        Self { point, octets }
    }
}

macro_rules! public_point {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Reads 04 || x || y (65 octets) and checks that the point is on the curve.
            ///
            /// # Errors
            /// [`EccsiError::Length`], [`EccsiError::PointForm`] or [`EccsiError::OffCurve`].
            pub fn from_octets(octets: &[u8]) -> Result<Self, EccsiError> {
                PublicPoint::from_octets($what, octets).map(Self)
            }

            /// 04 || x || y.
            #[must_use]
            pub fn as_octets(&self) -> &[u8; POINT_OCTETS] {
                &self.0.octets
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                self.0.octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
                write!(f, ")")
            }
        }
    };
}

public_point!(Kpak, "the KPAK");
public_point!(Pvt, "the PVT");

/// A Secret Signing Key. Not yet known to belong to an identity: see [`validate`].
pub struct Ssk(Scalar);

impl Drop for Ssk {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Ssk {}

impl Ssk {
    /// Reads 32 big-endian octets.
    ///
    /// # Errors
    /// [`EccsiError::Length`] or [`EccsiError::OutOfRange`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, EccsiError> {
        secret_scalar("the SSK", octets).map(Self)
    }

    /// 32 big-endian octets, for storage.
    #[must_use]
    pub fn to_octets(&self) -> Zeroizing<[u8; SCALAR_OCTETS]> {
        Zeroizing::new(self.0.to_repr().into())
    }
}

/// The KMS Secret Authentication Key, KSAK. It can make the signing key of every identity.
pub struct KmsSecretAuthKey {
    ksak: Scalar,
    kpak: Kpak,
}

impl Drop for KmsSecretAuthKey {
    fn drop(&mut self) {
        self.ksak.zeroize();
    }
}

impl ZeroizeOnDrop for KmsSecretAuthKey {}

impl KmsSecretAuthKey {
    /// A fresh key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        loop {
            let mut octets = Zeroizing::new([0; 64]);
            rng.fill_bytes(&mut *octets);
            let ksak = wide_scalar(&octets);
            if !bool::from(ksak.is_zero()) {
                return Self::from_scalar(ksak);
            }
        }
    }

    /// Reads the KSAK from 32 big-endian octets.
    ///
    /// # Errors
    /// [`EccsiError::Length`] or [`EccsiError::OutOfRange`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, EccsiError> {
        secret_scalar("the KSAK", octets).map(Self::from_scalar)
    }

    fn from_scalar(ksak: Scalar) -> Self {
        let kpak = Kpak(PublicPoint::from_point(ProjectivePoint::mul_by_generator(&ksak).to_affine()));
        Self { ksak, kpak }
    }

    /// The KSAK as 32 big-endian octets, for storage.
    #[must_use]
    pub fn to_octets(&self) -> Zeroizing<[u8; SCALAR_OCTETS]> {
        Zeroizing::new(self.ksak.to_repr().into())
    }

    /// The public key, `KPAK = [KSAK]G`.
    #[must_use]
    pub fn kpak(&self) -> &Kpak {
        &self.kpak
    }

    /// A new (SSK, PVT) pair for an identity; each call gives another one, and all are valid.
    /// Source: RFC 6507 section 5.1.1.
    ///
    /// The secret v is derived from the KSAK, the identity and fresh randomness, so that a weak generator alone does
    /// not give the KSAK away.
    pub fn extract<R: CryptoRng + ?Sized>(&self, identity: &[u8], rng: &mut R) -> (Ssk, Pvt) {
        let key = self.to_octets();
        loop {
            let mut v = hedged_scalar(&key, b"ECCSI v", &[identity], rng);
            let pvt = Pvt(PublicPoint::from_point(ProjectivePoint::mul_by_generator(&v).to_affine()));
            let pair = self.extract_with(identity, &v, pvt);
            v.zeroize();
            if let Some(pair) = pair {
                return pair;
            }
        }
    }

    /// SSK = KSAK + HS * v; nothing if v, HS or the SSK is zero.
    fn extract_with(&self, identity: &[u8], v: &Scalar, pvt: Pvt) -> Option<(Ssk, Pvt)> {
        let hs = scalar_of(&hash_hs(&self.kpak, identity, &pvt));
        let ssk = Ssk(self.ksak + hs * v);
        let zero = v.is_zero() | hs.is_zero() | ssk.0.is_zero();
        (!bool::from(zero)).then_some((ssk, pvt))
    }

    /// Extraction with a given v, for known answers.
    #[cfg(test)]
    fn extract_with_v(&self, identity: &[u8], v: &[u8]) -> (Ssk, Pvt) {
        let v = secret_scalar("v", v).unwrap();
        let pvt = Pvt(PublicPoint::from_point(ProjectivePoint::mul_by_generator(&v).to_affine()));
        self.extract_with(identity, &v, pvt).unwrap()
    }
}

/// Checks that a key pair belongs to an identity and a KMS: `[SSK]G - [HS]PVT = KPAK`. Mandatory before a key is
/// installed; [`SigningKey::new`] does it. Source: RFC 6507 section 5.1.2.
///
/// # Errors
/// [`EccsiError::Validation`].
pub fn validate(identity: &[u8], ssk: &Ssk, pvt: &Pvt, kpak: &Kpak) -> Result<(), EccsiError> {
    let hs = scalar_of(&hash_hs(kpak, identity, pvt));
    let expected =
        ProjectivePoint::mul_by_generator(&ssk.0) - ProjectivePoint::from(pvt.0.point).mul_vartime(&hs);
    if expected == ProjectivePoint::from(kpak.0.point) { Ok(()) } else { Err(EccsiError::Validation) }
}

/// A signature: r || s || PVT, 129 octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_OCTETS]);

impl Signature {
    /// Takes 129 octets as they came from a message. The parts are checked by [`Verifier::verify`].
    ///
    /// # Errors
    /// [`EccsiError::Length`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, EccsiError> {
        let wrong =
            EccsiError::Length { what: "the signature", found: octets.len(), wanted: SIGNATURE_OCTETS };
        octets.try_into().map(Self).map_err(|_| wrong)
    }

    /// The 129 octets.
    #[must_use]
    pub fn as_octets(&self) -> &[u8; SIGNATURE_OCTETS] {
        &self.0
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (r, rest) = self.0.split_at(SCALAR_OCTETS);
        let (s, pvt) = rest.split_at(SCALAR_OCTETS);
        (r, s, pvt)
    }
}

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Signature(")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, ")")
    }
}

/// A validated signing key of one identity.
pub struct SigningKey {
    ssk: Ssk,
    pvt: Pvt,
    hs: [u8; 32],
}

impl SigningKey {
    /// Validates the key pair (see [`validate`]) and keeps what signing needs.
    ///
    /// # Errors
    /// [`EccsiError::Validation`].
    pub fn new(identity: &[u8], ssk: Ssk, pvt: Pvt, kpak: &Kpak) -> Result<Self, EccsiError> {
        validate(identity, &ssk, &pvt, kpak)?;
        let hs = hash_hs(kpak, identity, &pvt);
        Ok(Self { ssk, pvt, hs })
    }

    /// The Public Validation Token that goes into the signatures.
    #[must_use]
    pub fn pvt(&self) -> &Pvt {
        &self.pvt
    }

    /// Signs a message. Source: RFC 6507 section 5.2.1.
    pub fn sign<R: CryptoRng + ?Sized>(&self, message: &[u8], rng: &mut R) -> Signature {
        sign_with_hs(&self.ssk, &self.pvt, &self.hs, message, rng)
    }
}

/// Signs a message with a key pair that was validated for `identity` and `kpak` before. [`SigningKey`] saves the
/// hash of the identity at each signature and cannot be used unvalidated: prefer it. Source: RFC 6507 section 5.2.1.
pub fn sign<R: CryptoRng + ?Sized>(
    ssk: &Ssk,
    pvt: &Pvt,
    kpak: &Kpak,
    identity: &[u8],
    message: &[u8],
    rng: &mut R,
) -> Signature {
    sign_with_hs(ssk, pvt, &hash_hs(kpak, identity, pvt), message, rng)
}

/// The nonce j is HMAC of the message and fresh randomness under the SSK: a repeated or known output of the generator
/// gives neither a repeated nor a known j for another message.
fn sign_with_hs<R: CryptoRng + ?Sized>(
    ssk: &Ssk,
    pvt: &Pvt,
    hs: &[u8; 32],
    message: &[u8],
    rng: &mut R,
) -> Signature {
    let key = ssk.to_octets();
    loop {
        let mut j = hedged_scalar(&key, b"ECCSI j", &[hs, message], rng);
        let signature = sign_with_j(ssk, pvt, hs, message, &j);
        j.zeroize();
        if let Some(signature) = signature {
            return signature;
        }
    }
}

/// The signature with a given j; nothing if j, r or HE + r * SSK is zero.
fn sign_with_j(ssk: &Ssk, pvt: &Pvt, hs: &[u8; 32], message: &[u8], j: &Scalar) -> Option<Signature> {
    let r = x_octets(&ProjectivePoint::mul_by_generator(j));
    let he = scalar_of(&hash_he(hs, &r, message));
    let mut denominator = he + scalar_of(&r) * ssk.0;
    // The inverse of zero is none.
    let inverse = Option::<Scalar>::from(denominator.invert());
    denominator.zeroize();
    let mut inverse = inverse?;
    let s = inverse * j;
    inverse.zeroize();
    if bool::from(s.is_zero() | scalar_of(&r).is_zero()) {
        return None;
    }
    let mut octets = [0; SIGNATURE_OCTETS];
    octets[..SCALAR_OCTETS].copy_from_slice(&r);
    octets[SCALAR_OCTETS..2 * SCALAR_OCTETS].copy_from_slice(&s.to_repr());
    octets[2 * SCALAR_OCTETS..].copy_from_slice(pvt.as_octets());
    Some(Signature(octets))
}

/// HS = SHA-256(G || KPAK || ID || PVT).
fn hash_hs(kpak: &Kpak, identity: &[u8], pvt: &Pvt) -> [u8; 32] {
    hash_hs_octets(kpak, identity, pvt.as_octets())
}

fn hash_hs_octets(kpak: &Kpak, identity: &[u8], pvt: &[u8; POINT_OCTETS]) -> [u8; 32] {
    Sha256::new()
        .chain_update(GENERATOR)
        .chain_update(kpak.as_octets())
        .chain_update(identity)
        .chain_update(pvt)
        .finalize()
        .into()
}

/// HE = SHA-256(HS || r || M).
fn hash_he(hs: &[u8; 32], r: &[u8; SCALAR_OCTETS], message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(hs).chain_update(r).chain_update(message).finalize().into()
}

/// 256 bits as a scalar, reduced modulo q.
fn scalar_of(octets: &[u8; 32]) -> Scalar {
    <Scalar as Reduce<FieldBytes>>::reduce(&FieldBytes::from(*octets))
}

/// The x coordinate of a point as 32 octets.
fn x_octets(point: &ProjectivePoint) -> [u8; SCALAR_OCTETS] {
    use p256::elliptic_curve::point::AffineCoordinates;
    point.to_affine().x().into()
}

/// A scalar in 1..q-1 from 32 big-endian octets.
fn secret_scalar(what: &'static str, octets: &[u8]) -> Result<Scalar, EccsiError> {
    let found = octets.len();
    let octets: [u8; SCALAR_OCTETS] =
        octets.try_into().map_err(|_| EccsiError::Length { what, found, wanted: SCALAR_OCTETS })?;
    let octets = Zeroizing::new(octets);
    Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*octets)))
        .filter(|scalar| !bool::from(scalar.is_zero()))
        .ok_or(EccsiError::OutOfRange { what })
}

/// 512 bits as a scalar, reduced modulo q: the bias is under 2^-256.
fn wide_scalar(octets: &[u8; 64]) -> Scalar {
    let (high, low) = octets.split_at(32);
    let part = |octets: &[u8]| octets.try_into().map_or(Scalar::ZERO, |octets| scalar_of(&octets));
    // 2^256 mod q, as 2^255 + 2^255.
    let mut half = [0; 32];
    half[0] = 0x80;
    let shift = scalar_of(&half).double();
    part(high) * shift + part(low)
}

/// A scalar from HMAC-SHA-256 under `key` over label, parts and fresh randomness.
fn hedged_scalar<R: CryptoRng + ?Sized>(
    key: &[u8; 32],
    label: &[u8],
    parts: &[&[u8]],
    rng: &mut R,
) -> Scalar {
    let mut fresh = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *fresh);
    let mut wide = Zeroizing::new([0; 64]);
    for (counter, half) in (0u8..).zip(wide.chunks_exact_mut(32)) {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(&[counter]);
        mac.update(label);
        mac.update(&*fresh);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        half.copy_from_slice(&mac.finalize().into_bytes());
    }
    wide_scalar(&wide)
}

/// G of P-256, 04 || x || y.
const GENERATOR: [u8; POINT_OCTETS] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f,
    0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce,
    0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/eccsi_rfc6507.json")).unwrap()
    }

    fn octets(value: &serde_json::Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    /// The appendix's secrets v and j are only reachable from inside: extraction and signing use fresh ones.
    #[test]
    fn extraction_and_signing_give_the_appendix_values() {
        let vectors = vectors();
        let (kms, signer, sign) = (&vectors["kms"], &vectors["signer"], &vectors["sign"]);
        let authority = KmsSecretAuthKey::from_octets(&octets(&kms["KSAK"])).unwrap();
        assert_eq!(authority.kpak().as_octets().to_vec(), octets(&kms["KPAK"]));

        let id = octets(&signer["id"]);
        let (ssk, pvt) = authority.extract_with_v(&id, &octets(&signer["v"]));
        assert_eq!(pvt.as_octets().to_vec(), octets(&signer["PVT"]));
        assert_eq!(ssk.to_octets().to_vec(), octets(&signer["SSK"]));
        let hs = hash_hs(authority.kpak(), &id, &pvt);
        assert_eq!(hs.to_vec(), octets(&signer["HS"]));

        let j = secret_scalar("j", &octets(&sign["j"])).unwrap();
        let message = octets(&sign["message"]);
        let signature = sign_with_j(&ssk, &pvt, &hs, &message, &j).unwrap();
        assert_eq!(signature.as_octets().to_vec(), octets(&sign["signature"]));
        let r: [u8; 32] = octets(&sign["r"]).try_into().unwrap();
        assert_eq!(hash_he(&hs, &r, &message).to_vec(), octets(&sign["HE"]));
    }

    #[test]
    fn the_generator_is_that_of_the_curve() {
        assert_eq!(PublicPoint::from_point(AffinePoint::GENERATOR).octets, GENERATOR);
    }

    #[test]
    fn a_wide_scalar_is_the_integer_reduced() {
        // 2^512 - 1 mod q = (2^256 - 1)(2^256 + 1) mod q
        let all = scalar_of(&[0xff; 32]);
        assert_eq!(wide_scalar(&[0xff; 64]), all * (all + Scalar::from(2u64)));
    }
}

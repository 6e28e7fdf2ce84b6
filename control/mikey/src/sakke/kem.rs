//! Encapsulation and decapsulation. Source: RFC 6508 sections 6.2.1 and 6.2.2.

use rand_core::CryptoRng;
use rayon::prelude::*;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::curve::{Affine, Jacobian};
use super::keys::{KmsPublicKey, Rsk, base_table, identifier_scalar, power_table, validate};
use super::scalar::Recoded;
use super::table::{POINT_WIDTH, PointTable};
use super::{ENCAPSULATED_OCTETS, POINT_OCTETS, SSV_OCTETS, SakkeError, hash};
use crate::field::fp2::Fp2;
use crate::field::{Fp, Fq};
use crate::pairing::{self, PreparedLines};

/// A Shared Secret Value of `N` octets, 16 by the standards: what an I_MESSAGE carries as its TGK (3GPP: GMK, PCK, CSK).
///
/// Two values compare in constant time. The value has no `Debug`, `Display` or `Clone`.
pub struct SharedSecretValue<const N: usize> {
    octets: [u8; N],
}

/// A Shared Secret Value of 16 octets.
pub type Ssv = SharedSecretValue<SSV_OCTETS>;
/// A Shared Secret Value of 32 octets, as some implementations send: see [`decapsulate_ssv32`].
pub type Ssv32 = SharedSecretValue<32>;

impl<const N: usize> SharedSecretValue<N> {
    /// A fresh value.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut octets = [0; N];
        rng.fill_bytes(&mut octets);
        Self { octets }
    }

    /// From octets.
    #[must_use]
    pub fn from_octets(octets: [u8; N]) -> Self {
        Self { octets }
    }

    /// The octets.
    #[must_use]
    pub fn as_octets(&self) -> &[u8; N] {
        &self.octets
    }
}

impl<const N: usize> Drop for SharedSecretValue<N> {
    fn drop(&mut self) {
        self.octets.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for SharedSecretValue<N> {}

impl<const N: usize> PartialEq for SharedSecretValue<N> {
    fn eq(&self, other: &Self) -> bool {
        self.octets.ct_eq(&other.octets).into()
    }
}

impl<const N: usize> Eq for SharedSecretValue<N> {}

/// Encapsulated data for a 16-octet SSV: 04 || Rx || Ry || H, 273 octets.
pub type Encapsulated = [u8; ENCAPSULATED_OCTETS];
/// Encapsulated data for a 32-octet SSV: 289 octets.
pub type Encapsulated32 = [u8; POINT_OCTETS + 32];

/// Encapsulates `ssv` to `identifier` under the KMS's key. Deterministic: all randomness is in the SSV.
///
/// # Errors
/// [`SakkeError::Identifier`] if the identifier is out of range; [`SakkeError::Degenerate`].
pub fn encapsulate(ssv: &Ssv, identifier: &[u8], kms: &KmsPublicKey) -> Result<Encapsulated, SakkeError> {
    encapsulate_octets(ssv, identifier, kms)
}

/// As [`encapsulate`], for a 32-octet SSV. Not in RFC 6508 with parameter set 1 (n = 128): see [`decapsulate_ssv32`].
///
/// # Errors
/// As [`encapsulate`].
pub fn encapsulate_ssv32(
    ssv: &Ssv32,
    identifier: &[u8],
    kms: &KmsPublicKey,
) -> Result<Encapsulated32, SakkeError> {
    encapsulate_octets(ssv, identifier, kms)
}

/// Encapsulates one SSV to many receivers, in their order, over the threads of the current `rayon` pool.
///
/// The tables of P, Z_T and g are built first if they are not there yet. A receiver that is refused does not
/// stop the others.
#[must_use]
pub fn encapsulate_many<I: AsRef<[u8]> + Sync>(
    ssv: &Ssv,
    identifiers: &[I],
    kms: &KmsPublicKey,
) -> Vec<Result<Encapsulated, SakkeError>> {
    let table = kms.prepared();
    identifiers.par_chunks(CHUNK).flat_map_iter(|chunk| encapsulate_chunk(ssv, chunk, kms, table)).collect()
}

/// Receivers that share inversions: beyond this the inversion is a small part, and the points leave the near cache.
const CHUNK: usize = 64;

/// Encapsulates to some receivers side by side: the same window of each at a time, so that one inversion serves an
/// addition of all of them.
fn encapsulate_chunk<I: AsRef<[u8]>>(
    ssv: &Ssv,
    identifiers: &[I],
    kms: &KmsPublicKey,
    table: &PointTable,
) -> Vec<Result<Encapsulated, SakkeError>> {
    let scalars: Vec<Result<(Fq, Fq), SakkeError>> = identifiers
        .iter()
        .map(|identifier| {
            let b = identifier_scalar(identifier.as_ref())?;
            let r = hash::to_scalar(&[&ssv.octets, identifier.as_ref()]);
            if r.is_zero() == 1 { Err(SakkeError::Degenerate) } else { Ok((r, r * b)) }
        })
        .collect();
    let usable: Vec<(Fq, Fq)> = scalars.iter().filter_map(|pair| pair.as_ref().ok().copied()).collect();
    let (mut r, mut rb): (Vec<Fq>, Vec<Fq>) = usable.into_iter().unzip();
    let mut points = Vec::with_capacity(r.len());
    // [r]Z_T + [rb]P
    let unusable =
        table.multiply_each(&recode(&r), &mut points) | base_table().multiply_each(&recode(&rb), &mut points);
    let mut powers: Vec<Fp2> = r.iter().map(|r| power_table().power(r)).collect();
    let mut inverses: Vec<Fp> = powers.iter().map(|power| power.real).collect();
    Fp::invert_all(&mut inverses);
    let mut done = points.iter().zip(&powers).zip(&inverses);
    let out = identifiers
        .iter()
        .zip(&scalars)
        .map(|(identifier, scalars)| {
            scalars.as_ref().map_err(|&error| error)?;
            match done.next() {
                Some(((point, power), inverse)) if unusable == 0 => {
                    Ok(assemble(ssv, point, &(power.imaginary * *inverse)))
                }
                // Equal or opposite points met, which chance does not produce: each on its own.
                _ => encapsulate(ssv, identifier.as_ref(), kms),
            }
        })
        .collect();
    r.zeroize();
    rb.zeroize();
    inverses.zeroize();
    powers.iter_mut().for_each(Zeroize::zeroize);
    let mut scalars = scalars;
    scalars.iter_mut().flatten().for_each(|(r, rb)| {
        r.zeroize();
        rb.zeroize();
    });
    out
}

fn recode(scalars: &[Fq]) -> Vec<Recoded<POINT_WIDTH>> {
    scalars.iter().map(Recoded::new).collect()
}

/// 04 || Rx || Ry || SSV xor HashToIntegerRange(g^r, 2^n).
fn assemble<const N: usize, const OUT: usize>(
    ssv: &SharedSecretValue<N>,
    r: &Affine,
    ratio: &Fp,
) -> [u8; OUT] {
    let mut out = [0; OUT];
    out[..POINT_OCTETS].copy_from_slice(&r.to_octets());
    let element = Zeroizing::new(ratio.to_octets());
    let mask = Zeroizing::new(hash::to_mask::<N>(&element));
    for ((hidden, octet), mask) in out[POINT_OCTETS..].iter_mut().zip(&ssv.octets).zip(mask.iter()) {
        *hidden = octet ^ mask;
    }
    out
}

/// Opens encapsulated data with a receiver's key, without preparation.
///
/// `rsk` should have passed [`validate`] for this identifier and KMS; with a key that is not the receiver's own, TEST
/// refuses the data.
///
/// # Errors
/// [`SakkeError::Length`], [`SakkeError::PointForm`], [`SakkeError::Coordinate`], [`SakkeError::OffCurve`] for data
/// that is no encapsulation; [`SakkeError::Identifier`]; [`SakkeError::Decapsulation`] if TEST differs from R, which
/// also covers an R that is not of order q.
pub fn decapsulate(
    identifier: &[u8],
    rsk: &Rsk,
    kms: &KmsPublicKey,
    encapsulated: &[u8],
) -> Result<Ssv, SakkeError> {
    decapsulate_once(identifier, rsk, kms, encapsulated)
}

/// As [`decapsulate`], for a 32-octet SSV in 289 octets.
///
/// RFC 6508 leaves n = 256 to another parameter set. Some implementations send it with set 1 all the same, and take
/// the second block of HashToIntegerRange as the mask; this function follows them.
///
/// # Errors
/// As [`decapsulate`].
pub fn decapsulate_ssv32(
    identifier: &[u8],
    rsk: &Rsk,
    kms: &KmsPublicKey,
    encapsulated: &[u8],
) -> Result<Ssv32, SakkeError> {
    decapsulate_once(identifier, rsk, kms, encapsulated)
}

/// A validated receiver's key with its work done in advance: the Miller lines of the RSK and the table of
/// `[b]P + Z_T` (1.7 MB together).
pub struct PreparedRsk {
    identifier: Vec<u8>,
    lines: PreparedLines,
    identity_table: PointTable,
}

impl PreparedRsk {
    /// Validates the key for this identifier and KMS (see [`validate`]) and prepares it.
    ///
    /// # Errors
    /// [`SakkeError::Identifier`] or [`SakkeError::Validation`].
    pub fn new(identifier: &[u8], rsk: &Rsk, kms: &KmsPublicKey) -> Result<Self, SakkeError> {
        validate(identifier, rsk, kms)?;
        let identity_point = kms.identity_point(&identifier_scalar(identifier)?)?;
        Ok(Self {
            identifier: identifier.to_vec(),
            lines: PreparedLines::new(&rsk.point),
            identity_table: PointTable::new(&identity_point),
        })
    }

    /// The identifier that the key belongs to.
    #[must_use]
    pub fn identifier(&self) -> &[u8] {
        &self.identifier
    }

    /// Opens encapsulated data.
    ///
    /// # Errors
    /// As [`decapsulate`].
    pub fn decapsulate(&self, encapsulated: &[u8]) -> Result<Ssv, SakkeError> {
        self.open(encapsulated)
    }

    /// Opens encapsulated data with a 32-octet SSV.
    ///
    /// # Errors
    /// As [`decapsulate_ssv32`].
    pub fn decapsulate_ssv32(&self, encapsulated: &[u8]) -> Result<Ssv32, SakkeError> {
        self.open(encapsulated)
    }

    fn open<const N: usize>(&self, encapsulated: &[u8]) -> Result<SharedSecretValue<N>, SakkeError> {
        let (r, hidden) = parse::<N>(encapsulated)?;
        let value = self.lines.pair(&r);
        release(&self.identifier, &r, &hidden, value, |scalar| self.identity_table.multiply(scalar))
    }
}

fn encapsulate_octets<const N: usize, const OUT: usize>(
    ssv: &SharedSecretValue<N>,
    identifier: &[u8],
    kms: &KmsPublicKey,
) -> Result<[u8; OUT], SakkeError> {
    let b = identifier_scalar(identifier)?;
    let mut r = hash::to_scalar(&[&ssv.octets, identifier]);
    if r.is_zero() == 1 {
        return Err(SakkeError::Degenerate);
    }
    let mut point = kms.multiply_identity_point(&b, &r);
    let mut power = power_table().power(&r);
    r.zeroize();
    if point.is_infinity() == 1 {
        return Err(SakkeError::Degenerate);
    }
    let mut inverses = [point.z, power.real];
    Fp::invert_all(&mut inverses);
    let out = assemble(ssv, &point.to_affine_with(&inverses[0]), &(power.imaginary * inverses[1]));
    point.zeroize();
    power.zeroize();
    inverses.zeroize();
    Ok(out)
}

fn decapsulate_once<const N: usize>(
    identifier: &[u8],
    rsk: &Rsk,
    kms: &KmsPublicKey,
    encapsulated: &[u8],
) -> Result<SharedSecretValue<N>, SakkeError> {
    let (r, hidden) = parse::<N>(encapsulated)?;
    let b = identifier_scalar(identifier)?;
    let value = pairing::pair(&r, &rsk.point);
    release(identifier, &r, &hidden, value, |scalar| kms.multiply_identity_point(&b, scalar))
}

/// Splits encapsulated data into R, checked to be on the curve, and H.
fn parse<const N: usize>(encapsulated: &[u8]) -> Result<(Affine, [u8; N]), SakkeError> {
    const WHAT: &str = "the encapsulated data";
    let length = SakkeError::Length { what: WHAT, found: encapsulated.len(), wanted: POINT_OCTETS + N };
    let (point, hidden) = encapsulated.split_at_checked(POINT_OCTETS).ok_or(length)?;
    let hidden = hidden.try_into().map_err(|_| length)?;
    let point = Affine::from_octets(point).map_err(|error| SakkeError::point(WHAT, error, point.len()))?;
    Ok((point, hidden))
}

/// Unmasks the SSV with the pairing's value, recomputes R from it and releases it only if the two are equal.
///
/// TEST is a multiple of `[b]P + Z_T`, hence of order q: an R of any other order is refused here too. Its part outside
/// the group of order q does not even change the pairing's value, so nothing about the key shows before.
fn release<const N: usize>(
    identifier: &[u8],
    r: &Affine,
    hidden: &[u8; N],
    mut value: Fp2,
    multiply: impl FnOnce(&Fq) -> Jacobian,
) -> Result<SharedSecretValue<N>, SakkeError> {
    let element = Zeroizing::new((value.imaginary * value.real.invert()).to_octets());
    let mask = Zeroizing::new(hash::to_mask::<N>(&element));
    let mut ssv = SharedSecretValue { octets: *hidden };
    for (octet, mask) in ssv.octets.iter_mut().zip(mask.iter()) {
        *octet ^= mask;
    }
    let mut scalar = hash::to_scalar(&[&ssv.octets, identifier]);
    let mut test = multiply(&scalar);
    let equal = test.equals_affine(r);
    scalar.zeroize();
    test.zeroize();
    value.zeroize();
    // An SSV that is not released is erased by its drop.
    if equal { Ok(ssv) } else { Err(SakkeError::Decapsulation) }
}

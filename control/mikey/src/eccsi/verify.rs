//! Verification, and what is kept of the signers that were met. Source: RFC 6507 section 5.2.2.
//!
//! ```text
//! Y = [HS]PVT + KPAK        J = [s]([HE]G + [r]Y)        accept if Jx = r
//!
//! met first   J = [s HE]G + [s r]KPAK + [s r HS]PVT      one multiplication of a new point, two by table
//! met again   Y and its table are made and kept
//! from then   J = [s HE]G + [s r]Y                       two by table
//! ```
//!
//! All inputs are public, so the time may depend on them: [`super::public`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use p256::Scalar;
use p256::elliptic_curve::PrimeField;

use super::public::{Affine, Comb, Jacobian};
use super::{
    EccsiError, GENERATOR, Kpak, POINT_OCTETS, Pvt, SCALAR_OCTETS, Signature, hash_he, hash_hs_octets,
    scalar_of, secret_scalar,
};

/// Signers that a [`Verifier`] keeps, unless told otherwise.
pub const DEFAULT_CACHE: usize = 1024;

/// Verifies signatures under one KMS, and keeps `Y = [HS]PVT + KPAK` of the signers it has accepted.
///
/// Only a signer of a valid signature enters the cache, so forgeries cannot fill it; when it is full, the signer that
/// entered first leaves.
pub struct Verifier {
    kpak: Kpak,
    kpak_comb: Comb,
    capacity: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// By HS, the hash of KPAK, identity and PVT.
    signers: HashMap<[u8; 32], Signer>,
    order: VecDeque<[u8; 32]>,
}

/// A signer whose signature was accepted.
#[derive(Clone)]
enum Signer {
    /// Once: a table of Y would not have paid yet.
    Met,
    /// More than once: Y's table.
    Known(Arc<Comb>),
}

impl Verifier {
    /// A verifier that keeps up to [`DEFAULT_CACHE`] signers.
    #[must_use]
    pub fn new(kpak: Kpak) -> Self {
        Self::with_capacity(kpak, DEFAULT_CACHE)
    }

    /// A verifier that keeps up to `signers` signers (about 5 kB each); 0 keeps none.
    #[must_use]
    pub fn with_capacity(kpak: Kpak, signers: usize) -> Self {
        let kpak_comb = Comb::new(&point(kpak.as_octets()));
        Self { kpak, kpak_comb, capacity: signers, cache: Mutex::default() }
    }

    /// The KMS's key.
    #[must_use]
    pub fn kpak(&self) -> &Kpak {
        &self.kpak
    }

    /// Verifies a signature of `identity` over `message`. Source: RFC 6507 section 5.2.2.
    ///
    /// Beyond the RFC, s must be in 1..q-1 and r in 1..p-1, written in full.
    ///
    /// # Errors
    /// [`EccsiError::PointForm`] or [`EccsiError::OffCurve`] for the PVT, [`EccsiError::OutOfRange`] for s,
    /// [`EccsiError::Signature`] otherwise.
    pub fn verify(&self, identity: &[u8], message: &[u8], signature: &Signature) -> Result<(), EccsiError> {
        let (r, s, pvt) = signature.parts();
        let s = secret_scalar("s of the signature", s)?;
        let r: [u8; SCALAR_OCTETS] = r.try_into().map_err(|_| EccsiError::Signature)?;
        let pvt: &[u8; POINT_OCTETS] = pvt.try_into().map_err(|_| EccsiError::Signature)?;
        let hs = hash_hs_octets(&self.kpak, identity, pvt);
        let of_g = s * scalar_of(&hash_he(&hs, &r, message));
        let of_y = s * scalar_of(&r);
        // A signer in the cache stands for a PVT that was decoded before: HS covers its octets.
        let signer = self.signer(&hs);
        let j = match &signer {
            Some(Signer::Known(y)) => {
                Comb::multiply_add([(generator(), &octets(&of_g)), (y, &octets(&of_y))])
            }
            Some(Signer::Met) | None => {
                let pvt = Pvt::from_octets(pvt)?;
                Comb::multiply_add([(generator(), &octets(&of_g)), (&self.kpak_comb, &octets(&of_y))])
                    .add(&point(pvt.as_octets()).multiply(&octets(&(of_y * scalar_of(&hs)))))
            }
        };
        // Jx = r, and neither J infinity nor Jx zero.
        if r == [0; SCALAR_OCTETS] || !j.has_x(&r) {
            return Err(EccsiError::Signature);
        }
        match signer {
            None => self.remember(hs, Signer::Met),
            Some(Signer::Met) => {
                let y = point(pvt).multiply(&octets(&scalar_of(&hs))).add(&point(self.kpak.as_octets()));
                self.remember(hs, Signer::Known(Arc::new(Comb::new(&y))));
            }
            Some(Signer::Known(_)) => {}
        }
        Ok(())
    }

    /// How many signers are in the cache.
    #[must_use]
    pub fn cached_signers(&self) -> usize {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).signers.len()
    }

    fn signer(&self, hs: &[u8; 32]) -> Option<Signer> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).signers.get(hs).cloned()
    }

    fn remember(&self, hs: [u8; 32], signer: Signer) {
        if self.capacity == 0 {
            return;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.signers.insert(hs, signer).is_some() {
            return; // it has its place in the order
        }
        cache.order.push_back(hs);
        if cache.order.len() > self.capacity
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.signers.remove(&oldest);
        }
    }
}

/// The comb of G, made at first use.
fn generator() -> &'static Comb {
    static COMB: OnceLock<Comb> = OnceLock::new();
    COMB.get_or_init(|| Comb::new(&point(&GENERATOR)))
}

fn octets(scalar: &Scalar) -> [u8; SCALAR_OCTETS] {
    scalar.to_repr().into()
}

/// A point that was decoded before, hence is on the curve. (Were its coordinates out of range, infinity, under which no
/// signature verifies.)
fn point(octets: &[u8; POINT_OCTETS]) -> Jacobian {
    Affine::from_octets(octets).map_or(Jacobian::INFINITY, Jacobian::from)
}

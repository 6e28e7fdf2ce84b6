//! A device's long-term key: it signs transcripts and opens HPKE. Software here, a PKCS#11 token behind the same
//! trait. Source: `go-mode.md` sections 1 and 3.

use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use p256::{PublicKey, SecretKey};
use rand_core::CryptoRng;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use zeroize::Zeroizing;

/// An uncompressed P-256 point: 04 || x (32) || y (32).
pub type Point = [u8; 65];

/// r (32) || s (32).
pub type Signature = [u8; 64];

/// In which part of the protocol a signature is made; two roles never share a signed message.
/// Source: `go-mode.md` section 3, `Sign`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignRole {
    /// The owner in message 2 of a join.
    Owner,
    /// The member in message 3 of a join.
    Member,
    /// The initiator of a decentralised session.
    Session,
}

impl SignRole {
    /// The label inside the signed message.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Session => "session",
        }
    }
}

/// Why a key did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a P-256 private key in the wanted form.
    #[error("not a P-256 private key (PKCS#8 wanted)")]
    Form,
    /// The device that holds the key failed.
    #[error("key device failed: {0}")]
    Device(String),
}

/// A certificate's private key, P-256. It never leaves its holder: two operations are all that the protocol needs.
/// In PKCS#11 they are CKM_ECDSA and CKM_ECDH1_DERIVE (CKD_NULL).
pub trait LongTermKey: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// ECDSA with SHA-256 over `message`.
    ///
    /// # Errors
    /// [`KeyError::Device`] when the device that holds the key fails.
    fn sign_message(&self, message: &[u8]) -> Result<Signature, KeyError>;

    /// x coordinate (32 octets) of the product with `peer`.
    ///
    /// # Errors
    /// [`KeyError::Device`] when the device that holds the key fails.
    fn ecdh(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyError>;

    /// Tries whether it can do both here and now: a key in memory always can.
    ///
    /// # Errors
    /// [`KeyError::Device`] with what failed.
    fn prove(&self) -> Result<(), KeyError> {
        Ok(())
    }

    /// `Sign(k, role, h)`: signs a transcript hash under the label of its role.
    /// Source: `go-mode.md` section 3.
    ///
    /// # Errors
    /// As [`Self::sign_message`].
    fn sign(&self, role: SignRole, hash: &[u8; 32]) -> Result<Signature, KeyError> {
        self.sign_message(&signed_message(role, hash))
    }
}

/// Verifies what [`LongTermKey::sign`] made.
#[must_use]
pub fn verify(key: &PublicKey, role: SignRole, hash: &[u8; 32], signature: &Signature) -> bool {
    verify_message(key, &signed_message(role, hash), signature)
}

/// Verifies ECDSA P-256 with SHA-256 over any message.
#[must_use]
pub fn verify_message(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(key)).verify(message, signature).is_ok()
}

/// The octets of a public key.
pub fn point(key: &PublicKey) -> Point {
    let mut out = [0; 65];
    // A public key is never the point at infinity, so its uncompressed form has 65 octets.
    out.copy_from_slice(key.to_sec1_point(false).as_bytes());
    out
}

/// A public key from 65 octets; `None` when they are not 04 || x || y of a point on the curve.
pub fn public_key(octets: &[u8]) -> Option<PublicKey> {
    // Other SEC 1 forms (compressed, infinity) are not ours. Source: `go-mode.md` section 3.
    if octets.len() != 65 || octets.first() != Some(&4) {
        return None;
    }
    PublicKey::from_sec1_bytes(octets).ok()
}

/// A key in memory, wiped when dropped.
pub struct SoftwareKey {
    secret: SecretKey,
    signer: p256::ecdsa::SigningKey,
    public: PublicKey,
}

impl SoftwareKey {
    /// A fresh key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::from_secret(SecretKey::generate_from_rng(rng))
    }

    /// From PKCS#8 DER.
    ///
    /// # Errors
    /// [`KeyError::Form`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        SecretKey::from_pkcs8_der(der).map(Self::from_secret).map_err(|_| KeyError::Form)
    }

    /// From PKCS#8 PEM (`PRIVATE KEY`).
    ///
    /// # Errors
    /// [`KeyError::Form`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        SecretKey::from_pkcs8_pem(pem).map(Self::from_secret).map_err(|_| KeyError::Form)
    }

    /// PKCS#8 DER, for whoever stores it sealed.
    ///
    /// # Errors
    /// [`KeyError::Form`] when it cannot be encoded.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.secret.to_pkcs8_der().map_err(|_| KeyError::Form)?;
        Ok(document.to_bytes())
    }

    /// PKCS#8 PEM, for a file that only its owner reads.
    ///
    /// # Errors
    /// [`KeyError::Form`] when it cannot be encoded.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.secret.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).map_err(|_| KeyError::Form)
    }

    /// The scalar, for a token that takes it in.
    pub(super) fn scalar(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes().into())
    }

    fn from_secret(secret: SecretKey) -> Self {
        let signer = p256::ecdsa::SigningKey::from(&secret);
        let public = secret.public_key();
        Self { secret, signer, public }
    }
}

impl LongTermKey for SoftwareKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign_message(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let signature: p256::ecdsa::Signature =
            self.signer.try_sign(message).map_err(|e| KeyError::Device(e.to_string()))?;
        Ok(signature.to_bytes().into())
    }

    fn ecdh(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        Ok(diffie_hellman(&self.secret, peer))
    }
}

/// x coordinate of the product: of ephemeral keys in the handshakes, of either kind in HPKE.
pub fn diffie_hellman(secret: &SecretKey, peer: &PublicKey) -> Zeroizing<[u8; 32]> {
    let shared = secret.diffie_hellman(peer);
    let mut x = Zeroizing::new([0; 32]);
    x.copy_from_slice(shared.raw_secret_bytes());
    x
}

/// 64 x 20 || "pc5 go v1 " || role || 00 || h. The octets before the label keep these messages apart from anything that
/// begins like a certificate or a TLS transcript of an older version.
fn signed_message(role: SignRole, hash: &[u8; 32]) -> Vec<u8> {
    let mut message = vec![0x20; 64];
    message.extend_from_slice(b"pc5 go v1 ");
    message.extend_from_slice(role.label().as_bytes());
    message.push(0);
    message.extend_from_slice(hash);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn a_signature_serves_one_role_and_one_hash() {
        let key = SoftwareKey::generate(&mut rng());
        let signature = key.sign(SignRole::Owner, &[7; 32]).unwrap();
        assert!(verify(key.public_key(), SignRole::Owner, &[7; 32], &signature));
        assert!(!verify(key.public_key(), SignRole::Member, &[7; 32], &signature));
        assert!(!verify(key.public_key(), SignRole::Owner, &[8; 32], &signature));
        let other = SoftwareKey::generate(&mut rng());
        assert!(!verify(other.public_key(), SignRole::Owner, &[7; 32], &signature));
    }

    #[test]
    fn signed_message_is_laid_out_as_specified() {
        let message = signed_message(SignRole::Session, &[0xAB; 32]);
        assert_eq!(&message[..64], [0x20; 64]);
        assert_eq!(&message[64..82], b"pc5 go v1 session\0");
        assert_eq!(&message[82..], [0xAB; 32]);
    }

    #[test]
    fn ecdh_agrees_and_pkcs8_brings_the_key_back() {
        let (a, b) = (SoftwareKey::generate(&mut rng()), SoftwareKey::generate(&mut rng()));
        assert_eq!(a.ecdh(b.public_key()).unwrap(), b.ecdh(a.public_key()).unwrap());
        let back = SoftwareKey::from_pkcs8_pem(&a.to_pkcs8_pem().unwrap()).unwrap();
        assert_eq!(back.public_key(), a.public_key());
        let back = SoftwareKey::from_pkcs8_der(&a.to_pkcs8_der().unwrap()).unwrap();
        assert_eq!(back.public_key(), a.public_key());
        assert_eq!(SoftwareKey::from_pkcs8_der(&[0x30, 0]).err(), Some(KeyError::Form));
    }

    #[test]
    fn only_uncompressed_points_on_the_curve_are_keys() {
        let key = SoftwareKey::generate(&mut rng());
        let octets = point(key.public_key());
        assert_eq!(public_key(&octets).as_ref(), Some(key.public_key()));
        let mut off = octets;
        off[64] ^= 1;
        assert!(public_key(&off).is_none());
        assert!(public_key(key.public_key().to_sec1_point(true).as_bytes()).is_none());
        assert!(public_key(&[0]).is_none());
        assert!(public_key(&octets[..64]).is_none());
    }
}

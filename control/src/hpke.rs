//! Hybrid public key encryption: the ECIES of group-owner mode. RFC 9180, one suite, one mode, one message a context:
//! DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, mode_psk.
//!
//! Written on `hkdf`, `p256` and `aes-gcm` rather than taken whole, because opening must work with a private key
//! that never leaves a PKCS#11 token ([`LongTermKey::ecdh`]), and sealing with a given ephemeral key in vectors.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, KeyInit, Nonce, Tag};
use hkdf::{Hkdf, HkdfExtract};
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::credential::key::{KeyError, LongTermKey, Point, diffie_hellman, point, public_key};

/// What binds a context: equal on both sides, or nothing opens.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Protocol step and transcript.
    pub info: &'a [u8],
    /// Pre-shared key, 32 octets or more (of full entropy: it comes out of a key schedule).
    pub psk: &'a [u8],
    /// Names the pre-shared key's use; not empty.
    pub psk_id: &'a [u8],
    /// Additional authenticated data; empty in group-owner mode.
    pub aad: &'a [u8],
}

/// An encapsulated key and the ciphertext under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The ephemeral public key.
    pub enc: Point,
    /// As long as the plaintext, plus the tag (16).
    pub ciphertext: Vec<u8>,
}

/// Why nothing was sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// RFC 9180 section 9.5 asks for at least 32 octets, section 5.1 for a psk_id with it.
    #[error("pre-shared key of {0} octets, or without an id; at least 32 octets and an id are wanted")]
    Psk(usize),
    /// `enc` is not a point of the curve.
    #[error("encapsulated key is not a point of P-256")]
    Encapsulation,
    /// Wrong key, wrong context or altered: not told apart.
    #[error("does not open")]
    Open,
    /// Longer than AES-GCM takes.
    #[error("plaintext too long")]
    TooLong,
    /// The holder of the private key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Octets of the AEAD's tag: what a ciphertext is longer than its plaintext.
pub const TAG_LEN: usize = 16;

/// Seals one message to the holder of `recipient`, under a fresh ephemeral key.
///
/// # Errors
/// [`HpkeError::Psk`], [`HpkeError::TooLong`].
pub fn seal<R: CryptoRng + ?Sized>(
    recipient: &PublicKey,
    context: Context<'_>,
    plaintext: &[u8],
    rng: &mut R,
) -> Result<Sealed, HpkeError> {
    seal_under(&SecretKey::generate_from_rng(rng), recipient, context, plaintext)
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`HpkeError::Psk`], [`HpkeError::Encapsulation`], [`HpkeError::Open`], [`HpkeError::Key`].
pub fn open(
    key: &dyn LongTermKey,
    context: Context<'_>,
    enc: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let ephemeral = public_key(enc).ok_or(HpkeError::Encapsulation)?;
    let Some(split) = ciphertext.len().checked_sub(TAG_LEN) else { return Err(HpkeError::Open) };
    let (body, tag) = ciphertext.split_at(split);
    let tag = Tag::<aes_gcm::aead::consts::U16>::try_from(tag).map_err(|_| HpkeError::Open)?;
    let dh = key.ecdh(&ephemeral)?;
    let keys = schedule(&dh, &point(&ephemeral), &point(key.public_key()), context)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    keys.aead()
        .decrypt_inout_detached(&keys.nonce(), context.aad, plaintext.as_mut_slice().into(), &tag)
        .map_err(|_| HpkeError::Open)?;
    Ok(plaintext)
}

/// Encapsulation with a given ephemeral key: fresh in [`seal`], fixed in vectors.
pub(crate) fn seal_under(
    ephemeral: &SecretKey,
    recipient: &PublicKey,
    context: Context<'_>,
    plaintext: &[u8],
) -> Result<Sealed, HpkeError> {
    let enc = point(&ephemeral.public_key());
    let dh = diffie_hellman(ephemeral, recipient);
    let keys = schedule(&dh, &enc, &point(recipient), context)?;
    let mut ciphertext = plaintext.to_vec();
    match keys.aead().encrypt_inout_detached(&keys.nonce(), context.aad, ciphertext.as_mut_slice().into()) {
        Ok(tag) => ciphertext.extend_from_slice(&tag),
        Err(_) => {
            ciphertext.zeroize();
            return Err(HpkeError::TooLong);
        }
    }
    Ok(Sealed { enc, ciphertext })
}

/// AEAD key and nonce of sequence number 0, the only one of a context here.
struct Keys {
    key: Zeroizing<[u8; 16]>,
    base_nonce: [u8; 12],
}

impl Keys {
    fn aead(&self) -> Aes128Gcm {
        Aes128Gcm::new((&*self.key).into())
    }

    fn nonce(&self) -> Nonce<aes_gcm::aead::consts::U12> {
        self.base_nonce.into()
    }
}

/// ExtractAndExpand of the KEM, then KeySchedule. Source: RFC 9180 4.1, 5.1.
fn schedule(dh: &[u8; 32], enc: &Point, recipient: &Point, context: Context<'_>) -> Result<Keys, HpkeError> {
    if context.psk.len() < MIN_PSK || context.psk_id.is_empty() {
        return Err(HpkeError::Psk(context.psk.len()));
    }
    let (_, eae) = labeled_extract(KEM, b"", b"eae_prk", dh);
    let mut shared_secret = Zeroizing::new([0; 32]);
    labeled_expand(&eae, KEM, b"shared_secret", &[enc, recipient], &mut *shared_secret);

    let (psk_id_hash, _) = labeled_extract(HPKE, b"", b"psk_id_hash", context.psk_id);
    let (info_hash, _) = labeled_extract(HPKE, b"", b"info_hash", context.info);
    let key_schedule_context: [&[u8]; 3] = [&[MODE_PSK], &*psk_id_hash, &*info_hash];
    let (_, secret) = labeled_extract(HPKE, &*shared_secret, b"secret", context.psk);
    let mut keys = Keys { key: Zeroizing::new([0; 16]), base_nonce: [0; 12] };
    labeled_expand(&secret, HPKE, b"key", &key_schedule_context, &mut *keys.key);
    labeled_expand(&secret, HPKE, b"base_nonce", &key_schedule_context, &mut keys.base_nonce);
    Ok(keys)
}

/// LabeledExtract. Source: RFC 9180 4.
fn labeled_extract(
    suite_id: &[u8],
    salt: &[u8],
    label: &[u8],
    ikm: &[u8],
) -> (Zeroizing<[u8; 32]>, Hkdf<Sha256>) {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    for part in [b"HPKE-v1".as_slice(), suite_id, label, ikm] {
        extract.input_ikm(part);
    }
    let (mut prk, hkdf) = extract.finalize();
    let out = Zeroizing::new(prk.into());
    prk.as_mut_slice().zeroize();
    (out, hkdf)
}

/// LabeledExpand into `out`, at most 32 octets. Source: RFC 9180 4.
fn labeled_expand(prk: &Hkdf<Sha256>, suite_id: &[u8], label: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![&length, b"HPKE-v1", suite_id, label];
    parts.extend_from_slice(info);
    // Fails above 255 x 32 octets only; every caller here asks for 32 at most.
    prk.expand_multi_info(&parts, out).expect("at most 32 octets are asked for");
}

/// "KEM" || kem_id of DHKEM(P-256, HKDF-SHA256).
const KEM: &[u8] = b"KEM\x00\x10";
/// "HPKE" || kem_id || kdf_id (HKDF-SHA256) || aead_id (AES-128-GCM).
const HPKE: &[u8] = b"HPKE\x00\x10\x00\x01\x00\x01";
const MODE_PSK: u8 = 1;
/// Source: RFC 9180 9.5.
const MIN_PSK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::key::SoftwareKey;
    use crate::testing::rng;
    use p256::pkcs8::EncodePrivateKey;

    fn vector() -> std::collections::BTreeMap<String, Vec<u8>> {
        include_str!("../tests/vectors/hpke_rfc9180_a32.txt")
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty())
            .map(|l| {
                let (name, value) = l.split_once(": ").unwrap();
                (name.to_string(), hex::decode(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn rfc_9180_a_3_2_octet_for_octet() {
        let v = vector();
        let context = Context { info: &v["info"], psk: &v["psk"], psk_id: &v["psk_id"], aad: &v["aad"] };
        let ephemeral = SecretKey::from_slice(&v["skEm"]).unwrap();
        let recipient = SecretKey::from_slice(&v["skRm"]).unwrap();
        assert_eq!(point(&recipient.public_key()).as_slice(), v["pkRm"]);

        let dh = diffie_hellman(&ephemeral, &recipient.public_key());
        let enc = point(&ephemeral.public_key());
        let (_, eae) = labeled_extract(KEM, b"", b"eae_prk", &*dh);
        let mut shared = [0; 32];
        labeled_expand(&eae, KEM, b"shared_secret", &[&enc, &v["pkRm"]], &mut shared);
        assert_eq!(shared.as_slice(), v["shared_secret"]);
        let keys = schedule(&dh, &enc, &point(&recipient.public_key()), context).unwrap();
        assert_eq!(keys.key.as_slice(), v["key"]);
        assert_eq!(keys.base_nonce.as_slice(), v["base_nonce"]);

        let sealed = seal_under(&ephemeral, &recipient.public_key(), context, &v["pt"]).unwrap();
        assert_eq!(sealed.enc.as_slice(), v["enc"]);
        assert_eq!(sealed.ciphertext, v["ct"]);
        let key = SoftwareKey::from_pkcs8_der(recipient.to_pkcs8_der().unwrap().as_bytes()).unwrap();
        assert_eq!(*open(&key, context, &sealed.enc, &sealed.ciphertext).unwrap(), v["pt"]);
    }

    #[test]
    fn opens_in_the_same_context_only() {
        let key = SoftwareKey::generate(&mut rng());
        let context = Context { info: b"info", psk: &[9; 32], psk_id: b"id", aad: b"" };
        let sealed = seal(key.public_key(), context, b"group key", &mut rng()).unwrap();
        assert_eq!(*open(&key, context, &sealed.enc, &sealed.ciphertext).unwrap(), b"group key");

        for other in [
            Context { info: b"infO", ..context },
            Context { psk: &[8; 32], ..context },
            Context { psk_id: b"iD", ..context },
            Context { aad: b"x", ..context },
        ] {
            assert_eq!(open(&key, other, &sealed.enc, &sealed.ciphertext), Err(HpkeError::Open));
        }
        let stranger = SoftwareKey::generate(&mut rng());
        assert_eq!(open(&stranger, context, &sealed.enc, &sealed.ciphertext), Err(HpkeError::Open));
        for i in 0..sealed.ciphertext.len() {
            let mut altered = sealed.ciphertext.clone();
            altered[i] ^= 1;
            assert_eq!(open(&key, context, &sealed.enc, &altered), Err(HpkeError::Open));
        }
        let mut enc = sealed.enc;
        enc[64] ^= 1;
        assert_eq!(open(&key, context, &enc, &sealed.ciphertext), Err(HpkeError::Encapsulation));
        for short in 0..TAG_LEN {
            let cut = &sealed.ciphertext[..short];
            assert_eq!(open(&key, context, &sealed.enc, cut), Err(HpkeError::Open));
        }
    }

    #[test]
    fn a_weak_psk_is_refused() {
        let key = SoftwareKey::generate(&mut rng());
        let short = Context { info: b"", psk: &[9; 31], psk_id: b"id", aad: b"" };
        assert_eq!(seal(key.public_key(), short, b"", &mut rng()), Err(HpkeError::Psk(31)));
        let nameless = Context { psk: &[9; 32], psk_id: b"", ..short };
        assert_eq!(seal(key.public_key(), nameless, b"", &mut rng()), Err(HpkeError::Psk(32)));
    }

    #[test]
    fn every_context_has_its_own_ephemeral_key() {
        let key = SoftwareKey::generate(&mut rng());
        let context = Context { info: b"", psk: &[9; 32], psk_id: b"id", aad: b"" };
        let a = seal(key.public_key(), context, b"m", &mut rng()).unwrap();
        let b = seal(key.public_key(), context, b"m", &mut rng()).unwrap();
        assert_ne!(a.enc, b.enc);
    }
}

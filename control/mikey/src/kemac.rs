//! KEMAC's encryption and MAC. Source: RFC 3830 4.2.3, 4.2.4, 6.2; RFC 6043 6.3.

use aes::{
    Aes128, Aes256,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher},
};
use ctr::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    EncodeError, Reject,
    codec::{EncrAlg, KeyData, MacAlg},
    keys::{Bundle, EnvelopeKey},
    prf::Prf,
};

/// How key data is encrypted. NULL is not among them: it has no place where the pre-shared key is the protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// AES in counter mode, 128-bit key.
    AesCm128,
    /// AES key wrap, 128-bit key; key data must be a multiple of 8 octets, at least 16.
    AesKw128,
    /// AES in counter mode, 256-bit key.
    AesCm256,
}

/// How KEMAC is authenticated. NULL is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MacAlgorithm {
    /// HMAC-SHA-1, 160 bits.
    HmacSha1,
    /// HMAC-SHA-256, 256 bits.
    HmacSha256,
}

/// Algorithms of a message in pre-shared-key mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protection {
    /// PRF of HDR.
    pub prf: Prf,
    /// Encryption of KEMAC.
    pub encryption: Encryption,
    /// MAC of KEMAC and V.
    pub mac: MacAlgorithm,
}

impl Protection {
    /// PRF-HMAC-SHA-256, AES-CM-128, HMAC-SHA-256-256.
    pub const SHA_256: Self =
        Self { prf: Prf::HmacSha256, encryption: Encryption::AesCm128, mac: MacAlgorithm::HmacSha256 };
    /// MIKEY-1, AES-CM-128, HMAC-SHA-1-160: what RFC 3830 makes mandatory.
    pub const RFC_3830: Self =
        Self { prf: Prf::Mikey1, encryption: Encryption::AesCm128, mac: MacAlgorithm::HmacSha1 };
}

impl Encryption {
    /// The code point.
    pub fn encr_alg(self) -> EncrAlg {
        match self {
            Self::AesCm128 => EncrAlg::AES_CM_128,
            Self::AesKw128 => EncrAlg::AES_KW_128,
            Self::AesCm256 => EncrAlg::AES_CM_256,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::AesCm128 | Self::AesKw128 => 16,
            Self::AesCm256 => 32,
        }
    }

    fn salt_length(self) -> usize {
        match self {
            Self::AesCm128 | Self::AesCm256 => 14,
            Self::AesKw128 => 8,
        }
    }
}

impl TryFrom<EncrAlg> for Encryption {
    type Error = Reject;

    fn try_from(alg: EncrAlg) -> Result<Self, Reject> {
        match alg {
            EncrAlg::AES_CM_128 => Ok(Self::AesCm128),
            EncrAlg::AES_KW_128 => Ok(Self::AesKw128),
            EncrAlg::AES_CM_256 => Ok(Self::AesCm256),
            other => Err(Reject::EncryptionAlgorithm(other.0)),
        }
    }
}

impl MacAlgorithm {
    /// The code point.
    pub fn mac_alg(self) -> MacAlg {
        match self {
            Self::HmacSha1 => MacAlg::HMAC_SHA_1_160,
            Self::HmacSha256 => MacAlg::HMAC_SHA_256_256,
        }
    }

    /// Octets of the MAC, and of the auth key: RFC 3830 4.1.4 wants the key as long as the hash.
    pub fn length(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
        }
    }
}

impl TryFrom<MacAlg> for MacAlgorithm {
    type Error = Reject;

    fn try_from(alg: MacAlg) -> Result<Self, Reject> {
        match alg {
            MacAlg::HMAC_SHA_1_160 => Ok(Self::HmacSha1),
            MacAlg::HMAC_SHA_256_256 => Ok(Self::HmacSha256),
            other => Err(Reject::MacAlgorithm(other.0)),
        }
    }
}

/// A pre-shared key at work for one message.
pub(crate) struct Envelope<'a> {
    pub(crate) psk: &'a [u8],
    pub(crate) bundle: &'a Bundle,
    /// 64-bit value of T.
    pub(crate) t: u64,
}

impl Envelope<'_> {
    /// Encrypts key data for KEMAC.
    pub(crate) fn encrypt(
        &self,
        encryption: Encryption,
        keys: &[KeyData],
    ) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        let mut data = KeyData::encode_all(keys)?;
        match encryption {
            Encryption::AesCm128 | Encryption::AesCm256 => self.counter_mode(encryption, &mut data),
            Encryption::AesKw128 => {
                if data.len() < 16 || !data.len().is_multiple_of(8) {
                    return Err(EncodeError::WrongLength {
                        field: "Key data under AES-KW-128",
                        length: data.len(),
                        wanted: data.len().next_multiple_of(8).max(16),
                    });
                }
                let (key, salt) = self.key_and_salt(encryption);
                data = key_wrap::wrap(&key, &salt, &data);
            }
        }
        Ok(data)
    }

    /// Decrypts KEMAC's data; only after its MAC has been verified.
    pub(crate) fn decrypt(&self, encryption: Encryption, data: &[u8]) -> Result<Vec<KeyData>, Reject> {
        let plain = match encryption {
            Encryption::AesCm128 | Encryption::AesCm256 => {
                let mut plain = Zeroizing::new(data.to_vec());
                self.counter_mode(encryption, &mut plain);
                plain
            }
            Encryption::AesKw128 => {
                let (key, salt) = self.key_and_salt(encryption);
                key_wrap::unwrap(&key, &salt, data).ok_or(Reject::KeyDoesNotOpen)?
            }
        };
        // The error names field and offset only; offsets count inside the decrypted data.
        Ok(KeyData::decode_all(&plain)?)
    }

    /// The MAC over `covered`, and in V over what follows it.
    pub(crate) fn mac(&self, algorithm: MacAlgorithm, covered: &[&[u8]]) -> Vec<u8> {
        let key = self.bundle.envelope_key(self.psk, EnvelopeKey::Auth, algorithm.length());
        match algorithm {
            MacAlgorithm::HmacSha1 => hmac::<Hmac<Sha1>>(key.expose(), covered),
            MacAlgorithm::HmacSha256 => hmac::<Hmac<Sha256>>(key.expose(), covered),
        }
    }

    /// Compares in constant time.
    pub(crate) fn verify_mac(
        &self,
        algorithm: MacAlgorithm,
        covered: &[&[u8]],
        mac: &[u8],
    ) -> Result<(), Reject> {
        if self.mac(algorithm, covered).ct_eq(mac).into() {
            Ok(())
        } else {
            Err(Reject::AuthenticationFailed)
        }
    }

    fn key_and_salt(&self, encryption: Encryption) -> (crate::Secret, crate::Secret) {
        let derive = |key, length| self.bundle.envelope_key(self.psk, key, length);
        (
            derive(EnvelopeKey::Encr, encryption.key_length()),
            derive(EnvelopeKey::Salt, encryption.salt_length()),
        )
    }

    /// IV = (S XOR (0x0000 || CSB ID || T)) || 0x0000, the initial 128-bit counter.
    fn counter_mode(&self, encryption: Encryption, data: &mut [u8]) {
        let (key, salt) = self.key_and_salt(encryption);
        let mut iv = Zeroizing::new([0; 16]);
        let csb_id = self.bundle.csb_id.to_be_bytes();
        let t = self.t.to_be_bytes();
        let message = [0, 0].iter().chain(&csb_id).chain(&t);
        for ((iv, salt), message) in iv.iter_mut().zip(salt.expose()).zip(message) {
            *iv = salt ^ message;
        }
        if encryption == Encryption::AesCm256 {
            if let Ok(mut cipher) = Ctr128BE::<Aes256>::new_from_slices(key.expose(), &*iv) {
                cipher.apply_keystream(data);
            }
        } else if let Ok(mut cipher) = Ctr128BE::<Aes128>::new_from_slices(key.expose(), &*iv) {
            cipher.apply_keystream(data);
        }
    }
}

fn hmac<H: Mac + KeyInit>(key: &[u8], covered: &[&[u8]]) -> Vec<u8> {
    let Ok(mut mac) = <H as KeyInit>::new_from_slice(key) else {
        return Vec::new(); // HMAC takes keys of every length
    };
    covered.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// RFC 3394 with the initial value given, since MIKEY puts its 64-bit salt there.
mod key_wrap {
    use super::*;
    use crate::Secret;

    /// `data` is a multiple of 8 octets, at least 16.
    pub(super) fn wrap(key: &Secret, salt: &Secret, data: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new([salt.expose(), data].concat());
        let Ok(cipher) = Aes128::new_from_slice(key.expose()) else { return out };
        let n = data.len() / 8;
        for j in 0..6u64 {
            for (i, t) in (1..=n).zip(j * n as u64 + 1..) {
                let mut block = block_of(&out, i);
                cipher.encrypt_block(&mut block);
                spread(&mut out, i, &block, t);
            }
        }
        out
    }

    /// `None` where the length is wrong or the initial value does not come out.
    pub(super) fn unwrap(key: &Secret, salt: &Secret, data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if data.len() < 24 || !data.len().is_multiple_of(8) {
            return None;
        }
        let mut out = Zeroizing::new(data.to_vec());
        let cipher = Aes128::new_from_slice(key.expose()).ok()?;
        let n = data.len() / 8 - 1;
        for j in (0..6u64).rev() {
            for i in (1..=n).rev() {
                let t = j * n as u64 + i as u64;
                let mut block = block_of(&out, i);
                for (b, t) in block.iter_mut().zip(t.to_be_bytes()) {
                    *b ^= t;
                }
                cipher.decrypt_block(&mut block);
                spread(&mut out, i, &block, 0);
            }
        }
        let (initial, plain) = out.split_at_checked(8)?;
        salt.ct_eq(initial).then(|| Zeroizing::new(plain.to_vec()))
    }

    /// A || R\[i\].
    fn block_of(out: &[u8], i: usize) -> Array<u8, aes::cipher::consts::U16> {
        let mut block = Array::default();
        let halves = out.iter().take(8).chain(out.iter().skip(8 * i).take(8));
        block.iter_mut().zip(halves).for_each(|(b, o)| *b = *o);
        block
    }

    /// A = left half XOR t, R\[i\] = right half.
    fn spread(out: &mut [u8], i: usize, block: &[u8], t: u64) {
        let (left, right) = block.split_at(8);
        for ((o, b), t) in out.iter_mut().zip(left).zip(t.to_be_bytes()) {
            *o = b ^ t;
        }
        out.iter_mut().skip(8 * i).zip(right).for_each(|(o, b)| *o = *b);
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            /// With the initial value of RFC 3394 this is the `aes-kw` crate's function.
            #[test]
            fn equals_aes_kw(key: [u8; 16], words in proptest::collection::vec(any::<[u8; 8]>(), 2..9)) {
                let data = words.concat();
                let initial = Secret::new(&[0xa6; 8]);
                let ours = wrap(&Secret::new(&key), &initial, &data);
                let theirs = aes_kw::KwAes128::new(&key.into());
                let mut out = vec![0; data.len() + 8];
                theirs.wrap_key(&data, &mut out).unwrap();
                prop_assert_eq!(&*ours, &out);
                let back = unwrap(&Secret::new(&key), &initial, &ours).map(|d| d.to_vec());
                prop_assert_eq!(back, Some(data));
            }

            #[test]
            fn altered_is_refused(key: [u8; 16], data: [u8; 24], at in 0usize..32, bit in 0u8..8) {
                let (key, salt) = (Secret::new(&key), Secret::new(b"saltsalt"));
                let mut wrapped = wrap(&key, &salt, &data).to_vec();
                wrapped[at] ^= 1 << bit;
                prop_assert!(unwrap(&key, &salt, &wrapped).is_none());
                prop_assert!(unwrap(&key, &salt, &wrapped[..16]).is_none());
                prop_assert!(unwrap(&key, &salt, &wrapped[..30]).is_none());
            }
        }
    }
}

//! Certification requests (PKCS#10): made by any [`LongTermKey`], checked for proof of possession. What a request wishes
//! for is not looked at: the authority knows what it certifies. Source: RFC 2986; RFC 7030 3.4.

use der::Decode;
use p256::PublicKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SigningKey};
use x509_cert::request::CertReq;

use super::PkiError;
use crate::credential::key::{Point, point};
use crate::credential::profile::{request_key, signed};
use crate::credential::{Identity, LongTermKey};

/// A request for `identity`'s certificate, DER, signed by `key`.
///
/// # Errors
/// [`PkiError::Certificate`] when the key does not sign.
pub fn make(identity: &Identity, key: &dyn LongTermKey) -> Result<Vec<u8>, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.id());
    let requester = Requester { point: point(key.public_key()), key };
    Ok(params.serialize_request(&requester)?.der().to_vec())
}

/// The key of a request (DER), which its sender has shown to hold.
///
/// # Errors
/// [`PkiError::Request`] when it is no request, for another kind of key, or not signed by it.
pub fn check(der: &[u8]) -> Result<PublicKey, PkiError> {
    if der.len() > MAX_REQUEST {
        return Err(PkiError::Request("longer than 8,192 octets"));
    }
    let (info, algorithm, signature) = signed(der).ok_or(PkiError::Request("not PKCS#10 in DER"))?;
    let request = CertReq::from_der(der).map_err(|_| PkiError::Request("not PKCS#10 in DER"))?;
    let (key, verifier) =
        request_key(&request.info.public_key).ok_or(PkiError::Request("its key is not P-256"))?;
    match verifier.verify(algorithm.oid, info, signature) {
        true => Ok(key),
        false => Err(PkiError::Request("not signed by its own key")),
    }
}

/// A long-term key as the request's signer.
struct Requester<'a> {
    point: Point,
    key: &'a dyn LongTermKey,
}

impl PublicKeyData for Requester<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Requester<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.key.sign_message(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        let signature =
            p256::ecdsa::Signature::from_slice(&signature).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

const MAX_REQUEST: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::SoftwareKey;
    use crate::testing::rng;

    #[test]
    fn a_request_shows_that_its_sender_holds_the_key() {
        let key = SoftwareKey::generate(&mut rng());
        let der = make(&"pc5:001-01:ue:ue-1".parse().unwrap(), &key).unwrap();
        assert_eq!(&check(&der).unwrap(), key.public_key());
        for i in 0..der.len() {
            let mut altered = der.clone();
            altered[i] ^= 4;
            assert!(check(&altered).is_err(), "octet {i}");
        }
        assert!(check(&[]).is_err());
        assert!(check(&vec![0x30; MAX_REQUEST + 1]).is_err());
    }
}

//! `credential` on the wire: a chain, and the numbers of the CRLs held. Source: `go-mode.md` section 3.
//!
//! ```text
//! n (1), n x { length (2), certificate DER },
//! m (1), m x { first 8 octets of H(issuer's SubjectPublicKeyInfo), length (1, <= 20), CRL number held }
//! ```

use super::crl::CrlNumber;
use super::profile::{MAX_CERTIFICATE, MAX_CHAIN};

/// A CRL that a device holds: whoever has a newer one sends it after the join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlHeld {
    /// First 8 octets of SHA-256 over the issuer's SubjectPublicKeyInfo.
    pub issuer: [u8; 8],
    /// Number held.
    pub number: CrlNumber,
}

/// What a device shows of itself in a handshake. Decoding checks form only; [`super::Judge`] decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// DER certificates: leaf first, root left out; 1 to 3 of at most 2,048 octets.
    pub chain: Vec<Vec<u8>>,
    /// At most 255.
    pub crls_held: Vec<CrlHeld>,
}

/// Octets that are no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("credential, octet {offset}: {what}")]
pub struct CredentialError {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Credential {
    /// Appends its octets.
    ///
    /// # Errors
    /// [`CredentialError`] (offset 0) when a limit is exceeded.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), CredentialError> {
        let limit = |what| CredentialError { offset: 0, what };
        if self.chain.is_empty() || self.chain.len() > MAX_CHAIN {
            return Err(limit("1 to 3 certificates are wanted"));
        }
        if self.chain.iter().any(|c| c.is_empty() || c.len() > MAX_CERTIFICATE) {
            return Err(limit("certificates of 1 to 2,048 octets are wanted"));
        }
        let crls = u8::try_from(self.crls_held.len()).map_err(|_| limit("at most 255 CRL numbers"))?;
        out.push(self.chain.len() as u8);
        for certificate in &self.chain {
            out.extend_from_slice(&(certificate.len() as u16).to_be_bytes());
            out.extend_from_slice(certificate);
        }
        out.push(crls);
        for held in &self.crls_held {
            out.extend_from_slice(&held.issuer);
            out.push(held.number.octets().len() as u8);
            out.extend_from_slice(held.number.octets());
        }
        Ok(())
    }

    /// Reads the credential at the front of `octets`; returns it and how many octets it took.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn decode_prefix(octets: &[u8]) -> Result<(Self, usize), CredentialError> {
        let mut at = Cursor { octets, offset: 0 };
        let n = at.octet("number of certificates missing")?;
        if n == 0 || usize::from(n) > MAX_CHAIN {
            return Err(at.wrong("1 to 3 certificates are wanted"));
        }
        let mut chain = Vec::with_capacity(n.into());
        for _ in 0..n {
            let length = u16::from_be_bytes(at.take("length of a certificate cut off")?);
            if length == 0 || usize::from(length) > MAX_CERTIFICATE {
                return Err(at.wrong("certificates of 1 to 2,048 octets are wanted"));
            }
            chain.push(at.slice(length.into(), "certificate cut off")?.to_vec());
        }
        let m = at.octet("number of CRL numbers missing")?;
        let mut crls_held = Vec::with_capacity(m.into());
        for _ in 0..m {
            let issuer = at.take("issuer of a CRL cut off")?;
            let length = at.octet("length of a CRL number missing")?;
            if length > 20 {
                return Err(at.wrong("CRL numbers of at most 20 octets are wanted"));
            }
            let number = at.slice(length.into(), "CRL number cut off")?;
            let number = CrlNumber::new(number).ok_or(at.wrong("CRL number too long"))?;
            crls_held.push(CrlHeld { issuer, number });
        }
        Ok((Self { chain, crls_held }, at.offset))
    }

    /// Reads octets that are a credential and nothing else.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn decode(octets: &[u8]) -> Result<Self, CredentialError> {
        match Self::decode_prefix(octets)? {
            (credential, end) if end == octets.len() => Ok(credential),
            (_, offset) => Err(CredentialError { offset, what: "octets follow" }),
        }
    }
}

struct Cursor<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn wrong(&self, what: &'static str) -> CredentialError {
        CredentialError { offset: self.offset, what }
    }

    fn slice(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], CredentialError> {
        let end = self.offset.checked_add(length).ok_or(self.wrong(what))?;
        let slice = self.octets.get(self.offset..end).ok_or(self.wrong(what))?;
        self.offset = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CredentialError> {
        self.slice(N, what)?.try_into().map_err(|_| self.wrong(what))
    }

    fn octet(&mut self, what: &'static str) -> Result<u8, CredentialError> {
        self.take(what).map(|[octet]| octet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn credential() -> impl Strategy<Value = Credential> {
        let chain = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 1..=3);
        let number = prop::collection::vec(any::<u8>(), 0..=20).prop_map(|o| CrlNumber::new(&o).unwrap());
        let held = (any::<[u8; 8]>(), number).prop_map(|(issuer, number)| CrlHeld { issuer, number });
        (chain, prop::collection::vec(held, 0..5))
            .prop_map(|(chain, crls_held)| Credential { chain, crls_held })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(credential in credential(), tail in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut octets = Vec::new();
            credential.encode(&mut octets).unwrap();
            prop_assert_eq!(&Credential::decode(&octets).unwrap(), &credential);
            let end = octets.len();
            octets.extend(&tail);
            prop_assert_eq!(Credential::decode_prefix(&octets).unwrap(), (credential, end));
            for cut in 0..end {
                prop_assert!(Credential::decode(&octets[..cut]).is_err());
            }
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Credential::decode(&octets);
        }
    }

    #[test]
    fn laid_out_as_specified() {
        let credential = Credential {
            chain: vec![vec![0xAA, 0xBB], vec![0xCC]],
            crls_held: vec![CrlHeld { issuer: [1; 8], number: 0x0203.into() }],
        };
        let mut octets = Vec::new();
        credential.encode(&mut octets).unwrap();
        assert_eq!(hex::encode(octets), "020002aabb0001cc010101010101010101020203");
        for wrong in ["00", "0400", "010000", "01080100", "0100010001ff"] {
            assert!(Credential::decode(&hex::decode(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}

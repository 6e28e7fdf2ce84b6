//! A laboratory certification authority: one root a PLMN, optional intermediates, leaves of the profile, CRLs with
//! rising numbers. In memory for runs that need a ready-made group; in a [`Folder`] for everything else. What it issues
//! is judged by the same [`crate::credential::Judge`] as any other authority's certificates.
//!
//! Its keys lie in plain files: a laboratory's, not an operator's.

pub mod csr;
pub mod describe;
mod folder;

pub use folder::{Folder, FolderError, pem, read_certificates, read_crls, read_requests};

use p256::PublicKey;
use p256::pkcs8::EncodePublicKey;
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;
use rand_core::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::credential::identity::Uri;
use crate::credential::profile;
use crate::credential::{Identity, IssuerId, LongTermKey, Plmn, ProfileError, Role, SoftwareKey, TrustEntry};

/// Curve of a CA's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Curve {
    /// ECDSA P-256 with SHA-256.
    #[default]
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
}

/// notBefore and notAfter, Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// First second.
    pub not_before: UnixSeconds,
    /// Last second.
    pub not_after: UnixSeconds,
}

impl Validity {
    /// From an hour before `now` (clocks differ) for `days` days.
    pub const fn days(now: UnixSeconds, days: u64) -> Self {
        Self {
            not_before: now.saturating_sub(3_600),
            not_after: now.saturating_add(days.saturating_mul(86_400)),
        }
    }
}

/// What a leaf certificate is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whose it is.
    pub identity: Identity,
    /// At least one.
    pub roles: Vec<Role>,
    /// None: every group.
    pub groups: Vec<GroupId>,
    /// From when to when.
    pub validity: Validity,
}

/// A certificate with its key: what a device is enrolled with.
pub struct Device {
    /// DER, leaf first, root left out.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key.
    pub key: SoftwareKey,
}

/// A revoked certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Serial number, big-endian, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub serial: Vec<u8>,
    /// When.
    pub at: UnixSeconds,
}

/// Why the authority did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A root vouches for its own network only.
    #[error("{identity} is not of PLMN {plmn}; use that network's authority")]
    ForeignIdentity {
        /// The identity asked for.
        identity: Identity,
        /// The authority's network.
        plmn: Plmn,
    },
    /// A leaf without a role serves for nothing.
    #[error("at least one role is wanted")]
    NoRole,
    /// notAfter not after notBefore.
    #[error("validity ends before it begins")]
    Validity,
    /// More CAs than a chain of 3 has room for.
    #[error("an intermediate below an intermediate below the root: the chain would be longer than 3")]
    TooDeep,
    /// The result would not be accepted.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Encoding or signing failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certification request that shows nothing.
    #[error("certification request: {0}")]
    Request(&'static str),
    /// A time or key that X.509 cannot say.
    #[error("{0}")]
    Unencodable(&'static str),
}

/// A CA: root or intermediate, with its key and what it has revoked.
pub struct Authority {
    plmn: Plmn,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// CA certificates between this one and the root, this one first; empty for a root.
    chain: Vec<Vec<u8>>,
    crl_number: u64,
    revoked: Vec<Revocation>,
    crl_url: Option<String>,
}

impl Authority {
    /// A new root of a network.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn root<R: CryptoRng + ?Sized>(
        plmn: Plmn,
        curve: Curve,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Self, PkiError> {
        let name = format!("pc5 root {plmn}");
        let params = ca_params(&name, BasicConstraints::Unconstrained, validity, rng)?;
        let key = KeyPair::generate_for(curve.algorithm())?;
        let certificate = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            plmn,
            issuer,
            certificate,
            chain: Vec::new(),
            crl_number: 0,
            revoked: Vec::new(),
            crl_url: None,
        })
    }

    /// A new CA below this one. Its own certificate can be revoked here.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn intermediate<R: CryptoRng + ?Sized>(
        &self,
        name: &str,
        curve: Curve,
        validity: Validity,
        rng: &mut R,
    ) -> Result<Self, PkiError> {
        if self.chain.len() >= MAX_INTERMEDIATES {
            return Err(PkiError::TooDeep);
        }
        let mut params = ca_params(name, BasicConstraints::Unconstrained, validity, rng)?;
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = self.distribution_points();
        let key = KeyPair::generate_for(curve.algorithm())?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let chain = std::iter::once(certificate.to_vec()).chain(self.chain.iter().cloned()).collect();
        let issuer = Issuer::new(params, key);
        let (plmn, crl_url) = (self.plmn, None);
        Ok(Self { plmn, issuer, certificate, chain, crl_number: 0, revoked: Vec::new(), crl_url })
    }

    /// Its network.
    pub const fn plmn(&self) -> Plmn {
        self.plmn
    }

    /// Its own certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Names this CA as an issuer.
    pub fn issuer_id(&self) -> Option<IssuerId> {
        profile::ca(&self.certificate).ok().map(|(ca, _)| ca.id)
    }

    /// What follows a leaf in a chain: this CA and those above it, the root left out.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Puts a CRL distribution point into what is issued from now on.
    pub fn set_crl_url(&mut self, url: Option<String>) {
        self.crl_url = url;
    }

    /// This root as a trust entry.
    ///
    /// # Errors
    /// [`PkiError::Profile`] for an intermediate.
    pub fn trust_entry(&self) -> Result<TrustEntry, PkiError> {
        Ok(TrustEntry::new(self.plmn, &self.certificate)?)
    }

    /// Issues a leaf for a key; returns its DER. The holder sends it with [`Self::chain`] behind it.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue<R: CryptoRng + ?Sized>(
        &self,
        request: &Request,
        key: &PublicKey,
        rng: &mut R,
    ) -> Result<Vec<u8>, PkiError> {
        let params = self.leaf_params(request, rng)?;
        self.sign(&params, key)
    }

    /// Issues a leaf for a fresh key.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn enrol<R: CryptoRng + ?Sized>(&self, request: &Request, rng: &mut R) -> Result<Device, PkiError> {
        let key = SoftwareKey::generate(rng);
        let leaf = self.issue(request, key.public_key(), rng)?;
        let chain = std::iter::once(leaf).chain(self.chain.iter().cloned()).collect();
        Ok(Device { chain, key })
    }

    /// Issues a TLS server certificate for a network function, for DNS names and IP addresses; returns its DER.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue_server<R: CryptoRng + ?Sized>(
        &self,
        names: &[String],
        validity: Validity,
        key: &PublicKey,
        rng: &mut R,
    ) -> Result<Vec<u8>, PkiError> {
        let Some(first) = names.first() else {
            return Err(PkiError::Unencodable("at least one name is wanted"));
        };
        let mut params = params(first, validity, rng)?;
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = self.distribution_points();
        self.sign(&params, key)
    }

    /// Revokes a serial number (big-endian): the next CRL lists it. Returns false when it was revoked before.
    pub fn revoke(&mut self, serial: &[u8], at: UnixSeconds) -> bool {
        let serial = stripped(serial);
        if self.revoked.iter().any(|r| r.serial == serial) {
            return false;
        }
        self.revoked.push(Revocation { serial: serial.to_vec(), at });
        true
    }

    /// What is revoked so far.
    pub fn revoked(&self) -> &[Revocation] {
        &self.revoked
    }

    /// Number of the last CRL; 0 before the first.
    pub const fn crl_number(&self) -> u64 {
        self.crl_number
    }

    /// Makes the next CRL, DER: its number is one above the last one's.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn crl(&mut self, this_update: UnixSeconds, next_update: UnixSeconds) -> Result<Vec<u8>, PkiError> {
        let number = self.crl_number.checked_add(1).ok_or(PkiError::Unencodable("CRL numbers used up"))?;
        let crl = self.crl_numbered(number, this_update, next_update)?;
        self.crl_number = number;
        Ok(crl)
    }

    pub(crate) fn crl_numbered(
        &self,
        number: u64,
        this_update: UnixSeconds,
        next_update: UnixSeconds,
    ) -> Result<Vec<u8>, PkiError> {
        let revoked = |r: &Revocation| {
            Ok::<_, PkiError>(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&r.serial),
                revocation_time: date(r.at)?,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: date(this_update)?,
            next_update: date(next_update)?,
            crl_number: SerialNumber::from_slice(stripped(&number.to_be_bytes())),
            issuing_distribution_point: None,
            revoked_certs: self.revoked.iter().map(revoked).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.der().to_vec())
    }

    pub(crate) fn leaf_params<R: CryptoRng + ?Sized>(
        &self,
        request: &Request,
        rng: &mut R,
    ) -> Result<CertificateParams, PkiError> {
        let Request { identity, roles, groups, validity } = request;
        if identity.plmn() != self.plmn {
            return Err(PkiError::ForeignIdentity { identity: identity.clone(), plmn: self.plmn });
        }
        if roles.is_empty() {
            return Err(PkiError::NoRole);
        }
        let mut params = params(identity.id(), *validity, rng)?;
        let uris = std::iter::once(Uri::Identity(identity.clone()))
            .chain(roles.iter().copied().map(Uri::Role))
            .chain(groups.iter().copied().map(Uri::Group));
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.to_string().try_into()?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = self.distribution_points();
        Ok(params)
    }

    pub(crate) fn sign(&self, params: &CertificateParams, key: &PublicKey) -> Result<Vec<u8>, PkiError> {
        let spki = key.to_public_key_der().map_err(|_| PkiError::Unencodable("public key"))?;
        let spki = SubjectPublicKeyInfo::from_der(spki.as_bytes())?;
        Ok(params.signed_by(&spki, &self.issuer)?.der().to_vec())
    }

    #[cfg(test)]
    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    fn distribution_points(&self) -> Vec<CrlDistributionPoint> {
        self.crl_url.iter().map(|url| CrlDistributionPoint { uris: vec![url.clone()] }).collect()
    }
}

impl Curve {
    fn algorithm(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

/// Serial number of a certificate (DER), big-endian without leading zeros.
///
/// # Errors
/// [`PkiError::Unencodable`] when it is no certificate.
pub fn serial_of(certificate: &[u8]) -> Result<Vec<u8>, PkiError> {
    use der::Decode;
    let certificate = x509_cert::Certificate::from_der(certificate)
        .map_err(|_| PkiError::Unencodable("not an X.509 certificate in DER"))?;
    Ok(stripped(certificate.tbs_certificate().serial_number().as_bytes()).to_vec())
}

fn ca_params<R: CryptoRng + ?Sized>(
    name: &str,
    constraints: BasicConstraints,
    validity: Validity,
    rng: &mut R,
) -> Result<CertificateParams, PkiError> {
    let mut params = params(name, validity, rng)?;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params<R: CryptoRng + ?Sized>(
    name: &str,
    validity: Validity,
    rng: &mut R,
) -> Result<CertificateParams, PkiError> {
    if validity.not_after <= validity.not_before {
        return Err(PkiError::Validity);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "pc5 laboratory");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    params.serial_number = Some(serial(rng));
    Ok(params)
}

/// A random serial number, positive and of 16 octets in DER.
fn serial<R: CryptoRng + ?Sized>(rng: &mut R) -> SerialNumber {
    let mut octets = [0; 16];
    rng.fill_bytes(&mut octets);
    octets[0] = octets[0] & 0x3F | 0x40;
    SerialNumber::from_slice(&octets)
}

fn date(seconds: UnixSeconds) -> Result<OffsetDateTime, PkiError> {
    let wrong = PkiError::Unencodable("time beyond the year 9999");
    let Ok(seconds) = i64::try_from(seconds) else { return Err(wrong) };
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| wrong)
}

fn stripped(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&b| b == 0).count();
    // Zero keeps one octet: an INTEGER has at least one.
    number.get(zeros.min(number.len().saturating_sub(1))..).unwrap_or(number)
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(octets: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(octets))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Between root and leaf: a chain has at most 3 certificates without the root.
const MAX_INTERMEDIATES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Clock, Freshness, Judge, Need};
    use crate::testing::rng;

    const T: u64 = 1_800_000_000;

    #[test]
    fn a_whole_group_is_enrolled_and_judged() {
        let plmn: Plmn = "001-01".parse().unwrap();
        let validity = Validity::days(T, 1);
        let mut root = Authority::root(plmn, Curve::P256, validity, &mut rng()).unwrap();
        let mut judge = Judge::new(vec![root.trust_entry().unwrap()], Freshness::Refuse);
        let clock = Clock { now: T, floor: 0 };
        judge.install_crl(&root.crl(T, T + 86_400).unwrap(), clock).unwrap();
        let mut serials = std::collections::BTreeSet::new();
        for i in 0..256 {
            let identity = Identity::new(plmn, &format!("ue-{i}")).unwrap();
            let request = Request { identity, roles: vec![Role::Member], groups: vec![], validity };
            let device = root.enrol(&request, &mut rng()).unwrap();
            let need = Need { role: Role::Member, group: None };
            let leaf = judge.judge(&device.chain, need, clock).unwrap();
            assert_eq!((&leaf.identity, &leaf.public_key), (&request.identity, device.key.public_key()));
            assert!(serials.insert(serial_of(&device.chain[0]).unwrap()));
        }
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let plmn: Plmn = "001-01".parse().unwrap();
        let validity = Validity::days(T, 1);
        let mut root = Authority::root(plmn, Curve::P256, validity, &mut rng()).unwrap();
        let request = Request {
            identity: "pc5:001-01:ue:a".parse().unwrap(),
            roles: vec![Role::Owner],
            groups: vec![],
            validity,
        };
        let refused = |r: &Request| root.enrol(r, &mut rng()).err().unwrap().to_string();
        let nobody = Request { roles: vec![], ..request.clone() };
        assert_eq!(refused(&nobody), "at least one role is wanted");
        let foreign = Request { identity: "pc5:001-001:ue:a".parse().unwrap(), ..request.clone() };
        assert!(refused(&foreign).contains("not of PLMN 001-01"));
        let never = Request { validity: Validity { not_before: 5, not_after: 5 }, ..request.clone() };
        assert!(refused(&never).contains("before it begins"));
        let far = Validity { not_before: 0, not_after: u64::MAX };
        assert!(refused(&Request { validity: far, ..request.clone() }).contains("9999"));
        assert!(root.crl(T, T).is_err());
        assert_eq!(root.crl_number(), 0);
        assert!(root.revoke(&[0, 0, 7], T));
        assert!(!root.revoke(&[7], T));
    }
}

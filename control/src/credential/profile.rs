//! The form of certificates: leaf and CA profile, checked before any signature. Source: `go-mode.md` section 1.

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280;
use der::{Decode, Encode, Reader, SliceReader};
use p256::PublicKey;
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{Certificate, TbsCertificate, Version};

use super::identity::{Identity, Roles, Uri};
use super::key::public_key;
use super::refusal::ProfileError;

/// SHA-256 of a CA's SubjectPublicKeyInfo: what names an issuer here. Its first 8 octets do on the wire.
pub type IssuerId = [u8; 32];

/// Octets of a certificate in a credential, at most.
pub const MAX_CERTIFICATE: usize = 2_048;
/// Certificates of a credential, at most; the root is left out.
pub const MAX_CHAIN: usize = 3;

/// What a leaf says, before anybody vouched for it.
#[derive(Debug)]
pub(crate) struct ClaimedLeaf {
    pub(crate) identity: Identity,
    pub(crate) roles: Roles,
    pub(crate) groups: Option<BTreeSet<GroupId>>,
    pub(crate) public_key: PublicKey,
    pub(crate) frame: Frame,
}

/// What leaf and CA certificates have in common.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) serial: Box<[u8]>,
    pub(crate) issuer: Name,
    pub(crate) not_before: UnixSeconds,
    pub(crate) not_after: UnixSeconds,
}

/// A CA certificate of the profile.
#[derive(Debug, Clone)]
pub(crate) struct Ca {
    pub(crate) id: IssuerId,
    pub(crate) name: Name,
    pub(crate) key: CaKey,
    /// Whether key usage lets it sign CRLs.
    pub(crate) signs_crls: bool,
}

/// A CA's public key: P-256 or P-384, with the point in SEC 1 form.
#[derive(Debug, Clone)]
pub(crate) struct CaKey {
    curve: Curve,
    point: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

/// Reads a leaf.
pub(crate) fn leaf(der: &[u8]) -> Result<ClaimedLeaf, ProfileError> {
    let certificate = certificate(der)?;
    let tbs = certificate.tbs_certificate();
    let extensions = extensions(tbs)?;
    known_critical(
        extensions,
        &[
            rfc5280::ID_CE_KEY_USAGE,
            rfc5280::ID_CE_BASIC_CONSTRAINTS,
            rfc5280::ID_CE_SUBJECT_ALT_NAME,
            rfc5280::ID_CE_EXT_KEY_USAGE,
        ],
    )?;
    let constraints = extension::<BasicConstraints>(tbs, "basicConstraints")?;
    if constraints.is_some_and(|(_, c)| c.ca) {
        return Err(ProfileError::CaAsLeaf);
    }
    let wanted = "critical and exactly digitalSignature + keyAgreement";
    match extension::<KeyUsage>(tbs, "keyUsage")? {
        Some((true, usage)) if usage.0 == KeyUsages::DigitalSignature | KeyUsages::KeyAgreement => {}
        _ => return Err(ProfileError::KeyUsage { wanted }),
    }
    // The same certificate authenticates its holder to the EST server. Without the extension every use is open.
    if let Some((_, ExtendedKeyUsage(purposes))) = extension::<ExtendedKeyUsage>(tbs, "extKeyUsage")?
        && !purposes.contains(&rfc5280::ID_KP_CLIENT_AUTH)
    {
        return Err(ProfileError::ExtendedKeyUsage);
    }
    let spki = tbs.subject_public_key_info();
    let wanted = "an uncompressed P-256 point";
    let public_key = (curve(spki) == Some(Curve::P256))
        .then(|| spki.subject_public_key.as_bytes().and_then(public_key))
        .flatten()
        .ok_or(ProfileError::PublicKey { wanted })?;

    let Some((_, SubjectAltName(names))) = extension::<SubjectAltName>(tbs, "subjectAltName")? else {
        return Err(ProfileError::Identities { found: 0 });
    };
    let (mut identities, mut roles, mut groups) = (Vec::new(), Roles::default(), BTreeSet::new());
    for name in &names {
        // Names of other protocols may stand beside ours; what begins like ours has to be ours.
        let GeneralName::UniformResourceIdentifier(uri) = name else { continue };
        if !uri.as_str().starts_with("pc5:") {
            continue;
        }
        match uri.as_str().parse()? {
            Uri::Identity(identity) => identities.push(identity),
            Uri::Role(role) => roles.insert(role),
            Uri::Group(group) => drop(groups.insert(group)),
        }
    }
    let found = identities.len();
    let identity = match (identities.pop(), identities.is_empty()) {
        (Some(identity), true) => identity,
        _ => return Err(ProfileError::Identities { found }),
    };
    if roles.is_empty() {
        return Err(ProfileError::NoRole);
    }
    let groups = (!groups.is_empty()).then_some(groups);
    Ok(ClaimedLeaf { identity, roles, groups, public_key, frame: frame(tbs)? })
}

/// Reads an intermediate or root certificate.
pub(crate) fn ca(der: &[u8]) -> Result<(Ca, Frame), ProfileError> {
    let certificate = certificate(der)?;
    let tbs = certificate.tbs_certificate();
    known_critical(
        extensions(tbs)?,
        &[rfc5280::ID_CE_KEY_USAGE, rfc5280::ID_CE_BASIC_CONSTRAINTS, rfc5280::ID_CE_NAME_CONSTRAINTS],
    )?;
    if !extension::<BasicConstraints>(tbs, "basicConstraints")?.is_some_and(|(_, c)| c.ca) {
        return Err(ProfileError::NotCa);
    }
    let Some((_, usage)) = extension::<KeyUsage>(tbs, "keyUsage")? else {
        return Err(ProfileError::KeyUsage { wanted: "present in a CA certificate" });
    };
    if !usage.key_cert_sign() {
        return Err(ProfileError::KeyUsage { wanted: "keyCertSign" });
    }
    let spki = tbs.subject_public_key_info();
    let wanted = "P-256 or P-384";
    let key = CaKey::new(spki).ok_or(ProfileError::PublicKey { wanted })?;
    let id = Sha256::digest(spki.to_der().map_err(|_| ProfileError::Malformed)?).into();
    Ok((Ca { id, name: tbs.subject().clone(), key, signs_crls: usage.crl_sign() }, frame(tbs)?))
}

impl CaKey {
    fn new(spki: &SubjectPublicKeyInfoOwned) -> Option<Self> {
        Some(Self { curve: curve(spki)?, point: spki.subject_public_key.as_bytes()?.to_vec() })
    }

    /// Verifies the signature of a certificate or CRL: `tbs` are its octets as sent.
    pub(crate) fn verify(&self, algorithm: ObjectIdentifier, tbs: &[u8], signature: &[u8]) -> bool {
        let ring: &EcdsaVerificationAlgorithm = match (self.curve, algorithm) {
            (Curve::P256, ECDSA_WITH_SHA_256) => &ECDSA_P256_SHA256_ASN1,
            (Curve::P256, ECDSA_WITH_SHA_384) => &ECDSA_P256_SHA384_ASN1,
            (Curve::P384, ECDSA_WITH_SHA_256) => &ECDSA_P384_SHA256_ASN1,
            (Curve::P384, ECDSA_WITH_SHA_384) => &ECDSA_P384_SHA384_ASN1,
            _ => return false,
        };
        UnparsedPublicKey::new(ring, &self.point).verify(tbs, signature).is_ok()
    }
}

/// The P-256 key of a certification request, and the same as a verifier.
pub(crate) fn request_key(spki: &SubjectPublicKeyInfoOwned) -> Option<(PublicKey, CaKey)> {
    let verifier = CaKey::new(spki).filter(|k| k.curve == Curve::P256)?;
    Some((public_key(&verifier.point)?, verifier))
}

/// The octets that were signed, the algorithm, and the signature, of any X.509 SIGNED structure.
pub(crate) fn signed(der: &[u8]) -> Option<(&[u8], AlgorithmIdentifierOwned, &[u8])> {
    let mut reader = SliceReader::new(der).ok()?;
    let parts = reader
        .sequence(|r| {
            let tbs = r.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierOwned::decode(r)?;
            let signature = der::asn1::BitStringRef::decode(r)?;
            Ok::<_, der::Error>((tbs, algorithm, signature.as_bytes()))
        })
        .ok()?;
    reader.finish().ok()?;
    Some((parts.0, parts.1, parts.2?))
}

fn certificate(der: &[u8]) -> Result<Certificate, ProfileError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(ProfileError::Size { found: der.len(), max: MAX_CERTIFICATE });
    }
    let certificate = Certificate::from_der(der).map_err(|_| ProfileError::Malformed)?;
    if certificate.tbs_certificate().version() != Version::V3 {
        return Err(ProfileError::Version);
    }
    Ok(certificate)
}

fn frame(tbs: &TbsCertificate) -> Result<Frame, ProfileError> {
    let validity = tbs.validity();
    let not_before = validity.not_before.to_unix_duration().as_secs();
    let not_after = validity.not_after.to_unix_duration().as_secs();
    if not_after < not_before {
        return Err(ProfileError::Validity);
    }
    let serial = tbs.serial_number().as_bytes().into();
    Ok(Frame { serial, issuer: tbs.issuer().clone(), not_before, not_after })
}

/// All extensions, none of them twice.
fn extensions(tbs: &TbsCertificate) -> Result<&[x509_cert::ext::Extension], ProfileError> {
    let extensions = tbs.extensions().map_or(&[][..], Extensions::as_slice);
    let mut seen = BTreeSet::new();
    match extensions.iter().find(|e| !seen.insert(e.extn_id)) {
        Some(twice) => Err(ProfileError::DuplicateExtension(twice.extn_id.to_string())),
        None => Ok(extensions),
    }
}

fn known_critical(
    extensions: &[x509_cert::ext::Extension],
    known: &[ObjectIdentifier],
) -> Result<(), ProfileError> {
    match extensions.iter().find(|e| e.critical && !known.contains(&e.extn_id)) {
        Some(e) => Err(ProfileError::CriticalExtension(e.extn_id.to_string())),
        None => Ok(()),
    }
}

fn extension<'a, T>(tbs: &'a TbsCertificate, name: &'static str) -> Result<Option<(bool, T)>, ProfileError>
where
    T: Decode<'a> + const_oid::AssociatedOid,
{
    tbs.get_extension::<T>().map_err(|_| ProfileError::MalformedExtension(name))
}

fn curve(spki: &SubjectPublicKeyInfoOwned) -> Option<Curve> {
    if spki.algorithm.oid != EC_PUBLIC_KEY {
        return None;
    }
    match spki.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()? {
        SECP_256_R_1 => Some(Curve::P256),
        SECP_384_R_1 => Some(Curve::P384),
        _ => None,
    }
}

use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY as EC_PUBLIC_KEY, SECP_256_R_1, SECP_384_R_1,
};

//! Why a certificate, or a CRL, is refused.

use super::crl::CrlNumber;
use super::identity::{NameError, Plmn, Role};
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;

/// Why a chain is refused. Each becomes a cause on the wire; logs say it in full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The form is not the profile's.
    #[error("certificate {position} of the chain is out of profile: {what}")]
    Profile {
        /// Place in the chain, the leaf is 0.
        position: usize,
        /// What is wrong.
        what: ProfileError,
    },
    /// Empty, or longer than 3 certificates.
    #[error("a chain of {found} certificates; 1 to 3 are wanted")]
    ChainLength {
        /// Certificates sent.
        found: usize,
    },
    /// No trusted root signed it, not even by way of the certificates sent with it.
    #[error("no trusted root vouches for the certificate")]
    UnknownRoot,
    /// A trusted root signed it, but one that vouches for another network only.
    #[error("the root that signed it is not one of PLMN {identity_plmn}")]
    ForeignRoot {
        /// Network of the identity.
        identity_plmn: Plmn,
    },
    /// Before its notBefore.
    #[error("certificate not valid before {not_before}, judged at {at}")]
    NotYetValid {
        /// Start of validity.
        not_before: UnixSeconds,
        /// Time of judgement.
        at: UnixSeconds,
    },
    /// After its notAfter.
    #[error("certificate not valid after {not_after}, judged at {at}")]
    Expired {
        /// End of validity.
        not_after: UnixSeconds,
        /// Time of judgement.
        at: UnixSeconds,
    },
    /// A CRL of its issuer names it.
    #[error("certificate {position} of the chain is revoked")]
    Revoked {
        /// Place in the chain, the leaf is 0.
        position: usize,
    },
    /// No CRL of an issuer in the path is held.
    #[error("no CRL is held of the issuer of certificate {position}; fetch one")]
    CrlMissing {
        /// Place in the chain of the certificate that it would be about.
        position: usize,
    },
    /// The CRL's nextUpdate has passed, and policy's grace too.
    #[error("the CRL about certificate {position} was due to be replaced at {next_update}; fetch a new one")]
    CrlTooOld {
        /// Place in the chain of the certificate that it is about.
        position: usize,
        /// Its nextUpdate.
        next_update: UnixSeconds,
    },
    /// The role needed is not among the certificate's.
    #[error("the certificate does not carry role {needed}")]
    Role {
        /// Role needed.
        needed: Role,
    },
    /// The certificate names groups, and not this one.
    #[error("group {needed} is not in the certificate")]
    Group {
        /// Group needed.
        needed: GroupId,
    },
}

/// How a certificate leaves the profile. Source: `go-mode.md` section 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Too many octets.
    #[error("{found} octets, at most {max} are wanted")]
    Size {
        /// Octets sent.
        found: usize,
        /// Most allowed.
        max: usize,
    },
    /// Not DER of a certificate.
    #[error("not an X.509 certificate in DER")]
    Malformed,
    /// Not version 3.
    #[error("not X.509 version 3")]
    Version,
    /// The same extension twice.
    #[error("extension {0} stands twice")]
    DuplicateExtension(String),
    /// An unknown critical extension.
    #[error("unknown critical extension {0}")]
    CriticalExtension(String),
    /// An extension whose content does not decode.
    #[error("extension {0} is malformed")]
    MalformedExtension(&'static str),
    /// A CA where a leaf is wanted.
    #[error("a CA certificate stands where the holder's is wanted")]
    CaAsLeaf,
    /// A leaf where a CA is wanted.
    #[error("not a CA certificate")]
    NotCa,
    /// Key usage is not what this place in the chain needs.
    #[error("key usage is not {wanted}")]
    KeyUsage {
        /// What is wanted.
        wanted: &'static str,
    },
    /// Extended key usage without client authentication.
    #[error("extended key usage excludes client authentication")]
    ExtendedKeyUsage,
    /// The public key is of another kind.
    #[error("public key is not {wanted}")]
    PublicKey {
        /// What is wanted.
        wanted: &'static str,
    },
    /// A `pc5:` URI that is none of the three kinds.
    #[error("SubjectAltName: {0}")]
    Uri(#[from] NameError),
    /// None or several identities.
    #[error("{found} identities, exactly one is wanted")]
    Identities {
        /// How many.
        found: usize,
    },
    /// No role.
    #[error("no pc5:role: URI")]
    NoRole,
    /// notAfter before notBefore.
    #[error("validity ends before it begins")]
    Validity,
    /// The certificates do not stand leaf first, each followed by its issuer.
    #[error("not issued by the certificate that follows it")]
    Order,
    /// Refused in path validation.
    #[error("path validation: {0}")]
    Path(String),
}

/// Why a CRL is not taken. The stored one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Too many octets.
    #[error("CRL of {found} octets, at most {max} are taken")]
    Size {
        /// Octets.
        found: usize,
        /// Most allowed.
        max: usize,
    },
    /// Not DER of a version 2 CRL with number, thisUpdate and nextUpdate.
    #[error("not a CRL of the profile: {0}")]
    Malformed(&'static str),
    /// A delta, indirect or partitioned CRL, or an unknown critical extension.
    #[error("CRL does not have full scope: {0}")]
    Scope(String),
    /// Its issuer is no trusted root and no CA learnt under one, or may not sign CRLs.
    #[error("CRL's issuer is not known as a CA that signs CRLs")]
    UnknownIssuer,
    /// The name is a known CA's, the signature is not.
    #[error("CRL's signature is not its issuer's")]
    Signature,
    /// Its number is lower than the stored one's.
    #[error("CRL number {found} is lower than {held}, which is held")]
    RolledBack {
        /// Number offered.
        found: CrlNumber,
        /// Number held.
        held: CrlNumber,
    },
    /// thisUpdate is more than 5 minutes ahead of the clock, and after the time floor.
    #[error("CRL made at {this_update}, judged at {at}: in the future")]
    Future {
        /// Its thisUpdate.
        this_update: UnixSeconds,
        /// Time of judgement.
        at: UnixSeconds,
    },
}

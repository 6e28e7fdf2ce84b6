//! Certificates and CRLs as people read them. Nothing here is verified: whoever decides asks
//! [`crate::credential::Judge`].

use der::Decode;
use pc5_dataplane::keys::UnixSeconds;
use serde::Serialize;
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, CrlNumber, SubjectAltName};

use super::PkiError;
use crate::credential::profile;

/// What a certificate says.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateText {
    /// Subject name.
    pub subject: String,
    /// Issuer name.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of validity, Unix seconds.
    pub not_before: UnixSeconds,
    /// End of validity, Unix seconds.
    pub not_after: UnixSeconds,
    /// A CA's.
    pub ca: bool,
    /// URIs, DNS names and addresses of its SubjectAltName.
    pub names: Vec<String>,
    /// Where it leaves the profile of a leaf or CA; none when it does not.
    pub out_of_profile: Option<String>,
}

/// What a CRL says.
#[derive(Clone, Debug, Serialize)]
pub struct CrlText {
    /// Issuer name.
    pub issuer: String,
    /// Its number.
    pub number: Option<String>,
    /// When it was made, Unix seconds.
    pub this_update: UnixSeconds,
    /// When the next one is due, Unix seconds.
    pub next_update: Option<UnixSeconds>,
    /// Serial numbers, hexadecimal.
    pub revoked: Vec<String>,
}

/// Reads a certificate (DER).
///
/// # Errors
/// [`PkiError::Unencodable`] when it is none.
pub fn certificate(der: &[u8]) -> Result<CertificateText, PkiError> {
    let wrong = |_| PkiError::Unencodable("not an X.509 certificate in DER");
    let certificate = Certificate::from_der(der).map_err(wrong)?;
    let tbs = certificate.tbs_certificate();
    let ca = matches!(tbs.get_extension::<BasicConstraints>(), Ok(Some((_, c))) if c.ca);
    let names = match tbs.get_extension::<SubjectAltName>() {
        Ok(Some((_, SubjectAltName(names)))) => names.iter().map(general_name).collect(),
        _ => Vec::new(),
    };
    let profile = if ca { profile::ca(der).map(drop) } else { profile::leaf(der).map(drop) };
    Ok(CertificateText {
        subject: tbs.subject().to_string(),
        issuer: tbs.issuer().to_string(),
        serial: hex::encode(tbs.serial_number().as_bytes()),
        not_before: tbs.validity().not_before.to_unix_duration().as_secs(),
        not_after: tbs.validity().not_after.to_unix_duration().as_secs(),
        ca,
        names,
        out_of_profile: profile.err().map(|e| e.to_string()),
    })
}

/// Reads a CRL (DER).
///
/// # Errors
/// [`PkiError::Unencodable`] when it is none.
pub fn crl(der: &[u8]) -> Result<CrlText, PkiError> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der)
        .map_err(|_| PkiError::Unencodable("not an X.509 CRL in DER"))?
        .tbs_cert_list;
    let number = list
        .crl_extensions
        .iter()
        .flatten()
        .find(|e| e.extn_id == const_oid::db::rfc5280::ID_CE_CRL_NUMBER)
        .and_then(|e| CrlNumber::from_der(e.extn_value.as_bytes()).ok())
        .and_then(|n| crate::credential::CrlNumber::new(n.0.as_bytes()));
    Ok(CrlText {
        issuer: list.issuer.to_string(),
        number: number.map(|n| n.to_string()),
        this_update: list.this_update.to_unix_duration().as_secs(),
        next_update: list.next_update.map(|t| t.to_unix_duration().as_secs()),
        revoked: list
            .revoked_certificates
            .iter()
            .flatten()
            .map(|r| hex::encode(r.serial_number.as_bytes()))
            .collect(),
    })
}

/// A time as `2026-11-21 04:05:06Z`.
pub fn utc(seconds: UnixSeconds) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    match time {
        Some(t) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        None => format!("{seconds} s after 1970"),
    }
}

fn general_name(name: &GeneralName) -> String {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
        GeneralName::DnsName(name) => format!("DNS:{name}"),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            o if o.len() == 4 => {
                format!("IP:{}", o.iter().map(u8::to_string).collect::<Vec<_>>().join("."))
            }
            o => format!("IP:{}", hex::encode(o)),
        },
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(1_800_000_000), "2027-01-15 08:00:00Z");
        assert_eq!(utc(u64::MAX), format!("{} s after 1970", u64::MAX));
    }

    #[test]
    fn other_octets_are_no_certificate_and_no_crl() {
        assert!(certificate(&[0x30, 0]).is_err());
        assert!(crl(b"-----BEGIN").is_err());
    }
}

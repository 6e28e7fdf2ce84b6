//! A device's side of EST: enrolment, and the roots and CRLs to judge others by.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use zeroize::Zeroizing;

use super::{certs_only, from_base64, to_base64};
use crate::credential::{Identity, LongTermKey, MAX_CRL, Plmn, TrustEntry};
use crate::pki::{PkiError, csr};
use crate::service::https::{Answer, Ask, ClientIdentity, HttpsError, ask, client_tls};

/// An EST server, believed only below the own network's root.
pub struct Client {
    base: String,
    roots: Vec<Vec<u8>>,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum EstError {
    /// The exchange failed.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The server said no.
    #[error("EST server answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// Not what RFC 7030 has there.
    #[error("EST server's answer: {0}")]
    Answer(&'static str),
    /// The request could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Client {
    /// A client of `https://HOST[:PORT]`, which must prove itself below one of `roots` (DER).
    pub fn new(base: &str, roots: Vec<Vec<u8>>) -> Self {
        Self { base: base.trim_end_matches('/').into(), roots }
    }

    /// Certificates of the own network: root and the CAs below it, DER.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn cacerts(&self) -> Result<Vec<Vec<u8>>, EstError> {
        let answer = self.get("/.well-known/est/cacerts").await?;
        certificates(answer)
    }

    /// Root certificates of another network, DER; none when the server has none of it.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn foreign_cacerts(&self, plmn: Plmn) -> Result<Vec<Vec<u8>>, EstError> {
        let answer = self.get(&format!("/.well-known/est/plmn-{plmn}/cacerts")).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            _ => certificates(answer),
        }
    }

    /// All trust entries: own root and those of `foreign` networks. They replace the ones held
    /// ([`crate::credential::Judge::set_roots`]); after an error those stay.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn trust_entries(&self, own: Plmn, foreign: &[Plmn]) -> Result<Vec<TrustEntry>, EstError> {
        let roots = |plmn, certificates: Vec<Vec<u8>>| {
            // CAs below the root stand among them; only what signed itself is a root.
            certificates
                .into_iter()
                .filter_map(move |der| TrustEntry::new(plmn, &der).ok())
                .collect::<Vec<_>>()
        };
        let mut entries = roots(own, self.cacerts().await?);
        if entries.is_empty() {
            return Err(EstError::Answer("no root of the own network among cacerts"));
        }
        for &plmn in foreign.iter().filter(|&&plmn| plmn != own) {
            entries.extend(roots(plmn, self.foreign_cacerts(plmn).await?));
        }
        Ok(entries)
    }

    /// First enrolment of `key`, authorised by the device's secret; returns the chain, leaf first.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn enrol(
        &self,
        identity: &Identity,
        secret: &str,
        key: &dyn LongTermKey,
    ) -> Result<Vec<Vec<u8>>, EstError> {
        let request = to_base64(&csr::make(identity, key)?);
        let basic = Zeroizing::new(format!("{}:{secret}", identity.id()));
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(basic.as_bytes())));
        let answer = self.post("simpleenroll", request, &[("authorization", &basic)], None).await?;
        certificates(answer)
    }

    /// Re-enrolment: `present` (key and chain) authorises a certificate for `key`, a fresh one or the same.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn reenrol(
        &self,
        identity: &Identity,
        present: ClientIdentity<'_>,
        key: &dyn LongTermKey,
    ) -> Result<Vec<Vec<u8>>, EstError> {
        let request = to_base64(&csr::make(identity, key)?);
        certificates(self.post("simplereenroll", request, &[], Some(present)).await?)
    }

    /// A CRL (DER) from `url`, a distribution point. `http://` will do: a CRL is signed.
    ///
    /// # Errors
    /// [`EstError`].
    pub async fn crl(&self, url: &str) -> Result<Vec<u8>, EstError> {
        let tls = match url.starts_with("https:") {
            true => Some(client_tls(&self.roots, None)?),
            false => None,
        };
        let (headers, body) = (&[][..], Vec::new());
        let answer = ask(tls, Ask { url, method: Method::GET, headers, body, limit: MAX_CRL }).await?;
        refused(answer).map(|a| a.body.to_vec())
    }

    /// The EST server's own place for its CRL.
    pub fn crl_url(&self) -> String {
        format!("{}/pc5/crl.der", self.base)
    }

    async fn get(&self, path: &str) -> Result<Answer, EstError> {
        let url = format!("{}{path}", self.base);
        let (headers, body) = (&[][..], Vec::new());
        let ask_for = Ask { url: &url, method: Method::GET, headers, body, limit: MAX_ANSWER };
        Ok(ask(Some(client_tls(&self.roots, None)?), ask_for).await?)
    }

    async fn post(
        &self,
        operation: &str,
        body: String,
        more: &[(&str, &str)],
        identity: Option<ClientIdentity<'_>>,
    ) -> Result<Answer, EstError> {
        let url = format!("{}/.well-known/est/{operation}", self.base);
        let mut headers =
            vec![("content-type", "application/pkcs10"), ("content-transfer-encoding", "base64")];
        headers.extend_from_slice(more);
        let tls = client_tls(&self.roots, identity)?;
        let (method, body, limit) = (Method::POST, body.into_bytes(), MAX_ANSWER);
        Ok(ask(Some(tls), Ask { url: &url, method, headers: &headers, body, limit }).await?)
    }
}

fn refused(answer: Answer) -> Result<Answer, EstError> {
    match answer.status {
        StatusCode::OK => Ok(answer),
        status => {
            let text = String::from_utf8_lossy(&answer.body);
            let text = text.chars().filter(|c| !c.is_control()).take(200).collect();
            Err(EstError::Refused { status, text })
        }
    }
}

fn certificates(answer: Answer) -> Result<Vec<Vec<u8>>, EstError> {
    let answer = refused(answer)?;
    if !answer.content_type.starts_with("application/pkcs7-mime") {
        return Err(EstError::Answer("application/pkcs7-mime is wanted"));
    }
    let message = from_base64(&answer.body).ok_or(EstError::Answer("base64 is wanted"))?;
    let certificates =
        certs_only::decode(&message).ok_or(EstError::Answer("a certs-only message is wanted"))?;
    match certificates.is_empty() {
        true => Err(EstError::Answer("no certificate in it")),
        false => Ok(certificates),
    }
}

/// Octets of an answer with certificates.
const MAX_ANSWER: usize = 256 * 1024;

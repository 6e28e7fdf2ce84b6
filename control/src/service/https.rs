//! HTTPS for network functions and their clients: rustls below, axum above on the serving side, one request a connection
//! on the asking side. Bounds on everything that a stranger can make grow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::client::ResolvesClientCert;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::credential::LongTermKey;

/// The chain with which a client proved itself in TLS, DER, leaf first; none without. In every request's extensions.
#[derive(Clone, Debug)]
pub struct ClientChain(pub Option<Arc<Vec<Vec<u8>>>>);

/// Key and chain (DER, leaf first) with which a client proves itself.
pub type ClientIdentity<'a> = (Arc<dyn LongTermKey>, &'a [Vec<u8>]);

/// Why a request did not come back with an answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The address is not `http(s)://HOST[:PORT]/PATH`.
    #[error("'{0}' is not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")]
    Url(String),
    /// No connection, or it broke.
    #[error("{host}: {error}")]
    Io {
        /// Whom we asked.
        host: String,
        /// What the system said; also failures of TLS.
        error: std::io::Error,
    },
    /// TLS could not be set up from these certificates.
    #[error("TLS: {0}")]
    Tls(String),
    /// Not HTTP, or more than the bound.
    #[error("{host}: {what}")]
    Http {
        /// Whom we asked.
        host: String,
        /// What was wrong.
        what: String,
    },
    /// No answer in time.
    #[error("{0}: no answer within 30 s")]
    Timeout(String),
}

/// Serves `router` over TLS until `stop` completes; then lets running requests end.
///
/// Every request carries a [`ClientChain`] and the peer's [`SocketAddr`] in its extensions.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = std::pin::pin!(stop);
    loop {
        // A place first, then a connection: what is beyond the bound waits in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => match place { Ok(place) => place, Err(_) => return },
            () = &mut stop => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the peer went away before it was accepted.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(acceptor, stream, peer, router).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(place);
        });
    }
    // All places free: everything that ran has ended.
    let all = places.acquire_many(MAX_CONNECTIONS as u32);
    let _ = tokio::time::timeout(DRAIN, all).await;
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let chain = stream.get_ref().1.peer_certificates();
    let chain = ClientChain(chain.map(|c| Arc::new(c.iter().map(|c| c.to_vec()).collect())));
    let service = router.layer(axum::Extension(chain)).layer(axum::Extension(peer));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::time::timeout(CONNECTION, serving).await??;
    Ok(())
}

/// TLS of a server: its chain (PEM order) and key (PKCS#8 or SEC 1 DER). Clients may authenticate themselves with
/// certificates below `client_roots` (DER); they need not.
///
/// # Errors
/// [`HttpsError::Tls`].
pub fn server_tls(
    chain: Vec<Vec<u8>>,
    key: PrivateKeyDer<'static>,
    client_roots: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, HttpsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(root_store(client_roots)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| HttpsError::Tls(e.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key)
        .map_err(tls)?;
    Ok(Arc::new(config))
}

/// TLS of a client that believes servers below `roots` (DER) only, and proves itself with `identity` where asked.
///
/// # Errors
/// [`HttpsError::Tls`].
pub fn client_tls(
    roots: &[Vec<u8>],
    identity: Option<ClientIdentity<'_>>,
) -> Result<Arc<ClientConfig>, HttpsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(root_store(roots)?);
    Ok(Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((key, chain)) => {
            let chain = chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
            let certified = CertifiedKey::new(chain, Arc::new(TlsKey(key)));
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
            builder.with_client_cert_resolver(resolver)
        }
    }))
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Content-Type, empty without.
    pub content_type: String,
    /// At most as long as was allowed.
    pub body: Bytes,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// `https://HOST[:PORT]/PATH`; `http://` only where `tls` is none.
    pub url: &'a str,
    /// GET, POST ...
    pub method: Method,
    /// Beside Host and Content-Length.
    pub headers: &'a [(&'a str, &'a str)],
    /// May be empty.
    pub body: Vec<u8>,
    /// Most octets of an answer.
    pub limit: usize,
}

/// Asks once, over a connection of its own.
///
/// # Errors
/// [`HttpsError`]; an answer with an error's status is an answer.
pub async fn ask(tls: Option<Arc<ClientConfig>>, ask: Ask<'_>) -> Result<Answer, HttpsError> {
    let target = Target::parse(ask.url).ok_or_else(|| HttpsError::Url(ask.url.into()))?;
    if target.secure != tls.is_some() {
        return Err(HttpsError::Url(ask.url.into()));
    }
    let host = target.authority();
    tokio::time::timeout(ANSWER, exchange(tls, target, ask)).await.map_err(|_| HttpsError::Timeout(host))?
}

async fn exchange(
    tls: Option<Arc<ClientConfig>>,
    target: Target<'_>,
    ask: Ask<'_>,
) -> Result<Answer, HttpsError> {
    let host = target.authority();
    let io = |error| HttpsError::Io { host: target.authority(), error };
    let http = |what: String| HttpsError::Http { host: target.authority(), what };
    let mut request = Request::builder()
        .method(ask.method)
        .uri(target.path)
        .header(header::HOST, &host)
        .header(header::CONNECTION, "close");
    for (name, value) in ask.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(ask.body))).map_err(|e| http(e.to_string()))?;

    let stream = TcpStream::connect((target.host, target.port)).await.map_err(io)?;
    let answer = match tls {
        None => send(TokioIo::new(stream), request).await,
        Some(config) => {
            let name =
                ServerName::try_from(target.host.to_owned()).map_err(|_| HttpsError::Url(ask.url.into()))?;
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(io)?;
            send(TokioIo::new(stream), request).await
        }
    };
    let answer = answer.map_err(|e| http(e.to_string()))?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ask.limit).collect().await.map_err(|e| http(e.to_string()))?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    Ok(Answer {
        status: parts.status,
        content_type: content_type.unwrap_or_default().into(),
        body: body.to_bytes(),
    })
}

async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> hyper::Result<hyper::Response<hyper::body::Incoming>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    // Ends by itself: the request says `Connection: close`, and the whole exchange has a time limit.
    tokio::spawn(connection);
    sender.send_request(request).await
}

struct Target<'a> {
    secure: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (secure, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let default = if secure { 443 } else { 80 };
        let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
            let (host, port) = v6.split_once(']')?;
            (host, port.strip_prefix(':').map_or(Some(default), |p| p.parse().ok())?)
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, default),
            }
        };
        (!host.is_empty()).then_some(Self { secure, host, port, path })
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A long-term key as a TLS client's: the private key stays where it is.
struct TlsKey(Arc<dyn LongTermKey>);

impl std::fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsKey")
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let ours = SignatureScheme::ECDSA_NISTP256_SHA256;
        offered.contains(&ours).then(|| Box::new(Self(Arc::clone(&self.0))) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let failed = |e: String| rustls::Error::General(e);
        let signature = self.0.sign_message(message).map_err(|e| failed(e.to_string()))?;
        let signature = p256::ecdsa::Signature::from_slice(&signature).map_err(|e| failed(e.to_string()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

fn root_store(roots: &[Vec<u8>]) -> Result<RootCertStore, HttpsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.clone())).map_err(tls)?;
    }
    Ok(store)
}

fn tls(error: rustls::Error) -> HttpsError {
    HttpsError::Tls(error.to_string())
}

const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(120);
const DRAIN: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let t = Target::parse("https://est.example:8443/a/b?c").unwrap();
        assert_eq!((t.secure, t.host, t.port, t.path), (true, "est.example", 8443, "/a/b?c"));
        let t = Target::parse("http://10.0.0.1").unwrap();
        assert_eq!((t.secure, t.host, t.port, t.path), (false, "10.0.0.1", 80, "/"));
        let t = Target::parse("https://[::1]:9/x").unwrap();
        assert_eq!((t.host, t.port, t.authority().as_str()), ("::1", 9, "[::1]:9"));
        for wrong in ["ftp://x/", "https://", "https:///x", "https://x:y/", "https://[::1", "x"] {
            assert!(Target::parse(wrong).is_none(), "{wrong}");
        }
    }
}

//! The EST server of a network, in front of a laboratory CA's folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{certs_only, from_base64, to_base64};
use crate::credential::{Clock, Freshness, Identity, Judge, Plmn, Role, TrustEntry};
use crate::pki::{Folder, FolderError, Request, Validity, csr, read_certificates};
use crate::service::https::ClientChain;

/// A device that may enrol.
pub struct Device {
    /// Its identity, of the server's own network.
    pub identity: Identity,
    /// Roles that its certificates carry.
    pub roles: Vec<Role>,
    /// Groups that they carry; none: every group.
    pub groups: Vec<GroupId>,
    /// Secret for the first enrolment; none: only re-enrolment.
    pub secret: Option<Zeroizing<String>>,
}

/// What a server serves.
pub struct Config {
    /// Folder of the issuing CA; opened anew for each request, so that revocations from elsewhere count at once.
    pub folder: PathBuf,
    /// Root certificate of the network (PEM); the CA's own where it is a root.
    pub root: Option<PathBuf>,
    /// Root files (PEM) of other networks; read anew for each request.
    pub foreign: BTreeMap<Plmn, Vec<PathBuf>>,
    /// Who may enrol, by the last part of the identity.
    pub devices: BTreeMap<String, Device>,
    /// Days of validity of what is issued.
    pub days: u64,
    /// Days until the next CRL is due; a new one is made when half of it has passed.
    pub crl_days: u64,
}

/// Clock and randomness, passed in.
pub struct World {
    /// Unix seconds.
    pub now: Box<dyn Fn() -> UnixSeconds + Send + Sync>,
    /// Fresh for serial numbers.
    pub rng: Mutex<Box<dyn CryptoRng + Send>>,
}

/// The server: its [`Self::router`] goes to [`crate::service::https::serve`].
pub struct Server {
    config: Config,
    world: World,
}

/// Why a request is answered with an error.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("name and secret of the device are wanted (HTTP Basic)")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Request(String),
    #[error("no roots of this network")]
    NoRoots,
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Server {
    /// A server.
    pub fn new(config: Config, world: World) -> Arc<Self> {
        Arc::new(Self { config, world })
    }

    /// Its routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/.well-known/est/cacerts", get(cacerts))
            .route("/.well-known/est/{label}/cacerts", get(foreign_cacerts))
            .route("/.well-known/est/simpleenroll", post(simpleenroll))
            .route("/.well-known/est/simplereenroll", post(simplereenroll))
            .route("/pc5/crl.der", get(crl))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(self))
    }

    /// Roots that clients' certificates must lead to, DER: for TLS client authentication.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn client_roots(&self) -> Result<Vec<Vec<u8>>, FolderError> {
        self.root(&Folder::open(&self.config.folder)?).map(|root| vec![root])
    }

    /// Makes a new CRL when half of the present one's time has passed. To be called every minute or so.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn refresh_crl(&self) -> Result<bool, FolderError> {
        let now = (self.world.now)();
        let mut folder = Folder::open(&self.config.folder)?;
        let due = match crate::pki::describe::crl(&folder.crl()?.unwrap_or_default()) {
            Ok(held) => {
                let end = held.next_update.unwrap_or(0);
                now >= held.this_update + end.saturating_sub(held.this_update) / 2
            }
            Err(_) => true,
        };
        if due {
            folder.publish_crl(now, now.saturating_add(self.config.crl_days.saturating_mul(86_400)))?;
        }
        Ok(due)
    }

    fn root(&self, folder: &Folder) -> Result<Vec<u8>, FolderError> {
        match &self.config.root {
            Some(path) => Ok(read_certificates(path)?.swap_remove(0)),
            None => Ok(folder.authority().certificate().to_vec()),
        }
    }

    fn cacerts(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let folder = Folder::open(&self.config.folder)?;
        let mut certificates = vec![self.root(&folder)?];
        certificates.extend(folder.authority().chain().iter().rev().cloned());
        Ok(certificates)
    }

    fn foreign(&self, label: &str) -> Result<Vec<Vec<u8>>, Fault> {
        let plmn: Plmn = label.strip_prefix("plmn-").and_then(|p| p.parse().ok()).ok_or(Fault::NoRoots)?;
        let files = self.config.foreign.get(&plmn).ok_or(Fault::NoRoots)?;
        let mut roots = Vec::new();
        for file in files {
            roots.extend(read_certificates(file)?);
        }
        Ok(roots)
    }

    /// The device that HTTP Basic names, if its secret is right.
    fn authorized(&self, headers: &HeaderMap) -> Result<&Device, Fault> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Basic "))
            .and_then(|v| STANDARD.decode(v.trim()).ok())
            .map(Zeroizing::new)
            .ok_or(Fault::Unauthorized)?;
        let colon = given.iter().position(|&b| b == b':').ok_or(Fault::Unauthorized)?;
        let (name, secret) = given.split_at(colon);
        let device = std::str::from_utf8(name).ok().and_then(|name| self.config.devices.get(name));
        // Compared with something in any case: the answer's time does not tell which names exist.
        let wanted = device.and_then(|d| d.secret.as_ref());
        let right: bool = wanted.map_or(&b"no such device"[..], |w| w.as_bytes()).ct_eq(&secret[1..]).into();
        device.filter(|_| right && wanted.is_some()).ok_or(Fault::Unauthorized)
    }

    /// The device that proved itself in TLS with a certificate that is still good.
    fn proven(&self, chain: &ClientChain) -> Result<&Device, Fault> {
        let Some(chain) = &chain.0 else {
            return Err(Fault::Forbidden(
                "TLS client authentication with the present certificate is wanted".into(),
            ));
        };
        let folder = Folder::open(&self.config.folder)?;
        let root = self.root(&folder)?;
        let chain = without_root(chain, &root);
        let forbidden = |e: &dyn std::fmt::Display| Fault::Forbidden(e.to_string());
        let entry = TrustEntry::new(folder.authority().plmn(), &root).map_err(|e| forbidden(&e))?;
        let clock = Clock { now: (self.world.now)(), floor: 0 };
        let mut judge = Judge::new(vec![entry], Freshness::default());
        judge.learn(chain, clock).map_err(|e| forbidden(&e))?;
        // CRLs of the CAs above the issuing one lie in other folders; an issuer's status is its operator's to know.
        let leaf = judge.identify(chain, clock).map_err(|e| forbidden(&e))?;
        if Some(leaf.issuer()) != folder.authority().issuer_id().as_ref() {
            return Err(Fault::Forbidden("the certificate was issued by another CA; enrol anew".into()));
        }
        if folder.authority().revoked().iter().any(|r| leaf.serial() == r.serial.as_slice()) {
            return Err(Fault::Forbidden("the certificate is revoked".into()));
        }
        let known = self.config.devices.get(leaf.identity.id());
        known
            .filter(|d| d.identity == leaf.identity)
            .ok_or_else(|| Fault::Forbidden(format!("{} may not enrol any more", leaf.identity)))
    }

    fn issue(&self, device: &Device, body: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let request = from_base64(body).ok_or(Fault::Request("base64 is wanted".into()))?;
        // What the request wishes to be called does not matter: the configuration says who the device is.
        let key = csr::check(&request).map_err(|e| Fault::Request(e.to_string()))?;
        let folder = Folder::open(&self.config.folder)?;
        let request = Request {
            identity: device.identity.clone(),
            roles: device.roles.clone(),
            groups: device.groups.clone(),
            validity: Validity::days((self.world.now)(), self.config.days),
        };
        let leaf = {
            let mut rng = self.world.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            folder.authority().issue(&request, &key, &mut **rng).map_err(FolderError::from)?
        };
        folder.store_leaf(&request.identity, &leaf, None)?;
        tracing::info!(identity = %request.identity, "certificate issued");
        Ok(std::iter::once(leaf).chain(folder.authority().chain().iter().cloned()).collect())
    }
}

/// The chain as the profile has it, root left out: TLS lets a client send the root as well, and OpenSSL does where it
/// knows it. Source: RFC 8446 4.4.2.
fn without_root<'a>(mut chain: &'a [Vec<u8>], root: &[u8]) -> &'a [Vec<u8>] {
    while let [rest @ .., last] = chain
        && last == root
    {
        chain = rest;
    }
    chain
}

type Shared = State<Arc<Server>>;

async fn cacerts(State(server): Shared) -> Result<Response, Fault> {
    blocking(move || server.cacerts()).await.map(|c| certificates(&c, "application/pkcs7-mime"))
}

async fn foreign_cacerts(State(server): Shared, Path(label): Path<String>) -> Result<Response, Fault> {
    blocking(move || server.foreign(&label)).await.map(|c| certificates(&c, "application/pkcs7-mime"))
}

async fn simpleenroll(State(server): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Fault> {
    let issued = blocking(move || server.issue(server.authorized(&headers)?, &body)).await;
    if let Err(Fault::Unauthorized) = issued {
        // Guessing secrets is slow: as many a second as connections, divided by this.
        tokio::time::sleep(GUESS).await;
    }
    Ok(certificates(&issued?, CERTS_ONLY))
}

async fn simplereenroll(
    State(server): Shared,
    axum::Extension(chain): axum::Extension<ClientChain>,
    body: Bytes,
) -> Result<Response, Fault> {
    let issued = blocking(move || server.issue(server.proven(&chain)?, &body)).await?;
    Ok(certificates(&issued, CERTS_ONLY))
}

async fn crl(State(server): Shared) -> Result<Response, Fault> {
    let crl = blocking(move || Ok(Folder::open(&server.config.folder)?.crl()?)).await?;
    let crl = crl.ok_or(Fault::Request("no CRL was made yet".into()))?;
    Ok(([(header::CONTENT_TYPE, "application/pkix-crl")], crl).into_response())
}

fn certificates(certificates: &[Vec<u8>], content_type: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (TRANSFER_ENCODING, "base64")];
    (headers, to_base64(&certs_only::encode(certificates))).into_response()
}

/// Files and signatures off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Fault::Request(error.to_string())),
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let text = self.to_string();
        match self {
            Self::Unauthorized => {
                let headers = [(header::WWW_AUTHENTICATE, "Basic realm=\"est\", charset=\"UTF-8\"")];
                (StatusCode::UNAUTHORIZED, headers, text).into_response()
            }
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, text).into_response(),
            Self::Request(_) => (StatusCode::BAD_REQUEST, text).into_response(),
            Self::NoRoots => (StatusCode::NOT_FOUND, text).into_response(),
            Self::Folder(error) => {
                // Paths of this machine are nobody else's business.
                tracing::error!(%error, "request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "the server could not do it; its log says why")
                    .into_response()
            }
        }
    }
}

const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";
const TRANSFER_ENCODING: header::HeaderName = header::HeaderName::from_static("content-transfer-encoding");
const GUESS: std::time::Duration = std::time::Duration::from_millis(500);
const MAX_BODY: usize = 64 * 1024;

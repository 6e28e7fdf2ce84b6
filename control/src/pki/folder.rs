//! A CA as a folder of files.
//!
//! ```text
//! ca.pem       its certificate, then those between it and the root    ca.key    its key, PKCS#8, mode 0600
//! state.json   PLMN, CRL number, revocations                          crl.pem   the newest CRL (crl.der likewise)
//! issued/ID.pem  chain of a leaf (leaf first, root left out)          issued/ID.key  its key, mode 0600
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use pc5_dataplane::keys::UnixSeconds;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};

use super::{Authority, PkiError, Revocation};
use crate::credential::{Identity, KeyError, NameError, SoftwareKey};
use crate::files;

/// A laboratory CA on disk. One process at a time holds it: another that opens it waits, so that no CRL number is given
/// twice.
pub struct Folder {
    _lock: fs::File,
    path: PathBuf,
    authority: Authority,
}

/// Why a folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// Something else stands there already.
    #[error("{0} exists; choose another folder, or remove it first")]
    Exists(PathBuf),
    /// A file's content is not what it has to be.
    #[error("{path}: {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The authority refused.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize)]
struct State {
    plmn: String,
    crl_number: u64,
    revoked: Vec<Revocation>,
    crl_url: Option<String>,
}

impl Folder {
    /// Writes a new authority into a folder that does not hold one yet.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn create(path: &Path, authority: Authority) -> Result<Self, FolderError> {
        let issued = path.join("issued");
        fs::create_dir_all(&issued).map_err(io(&issued))?;
        let key = path.join("ca.key");
        if key.exists() {
            return Err(FolderError::Exists(key));
        }
        write_private(&key, authority.issuer.key().serialize_pem().as_bytes())?;
        let mut chain = pem("CERTIFICATE", authority.certificate());
        authority.chain().iter().skip(1).for_each(|c| chain.push_str(&pem("CERTIFICATE", c)));
        write(&path.join("ca.pem"), chain.as_bytes())?;
        let folder = Self { _lock: lock(path)?, path: path.into(), authority };
        folder.save()?;
        Ok(folder)
    }

    /// Opens a folder written by [`Self::create`].
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let (key_path, state_path, ca_path) =
            (path.join("ca.key"), path.join("state.json"), path.join("ca.pem"));
        // It never changes; and what is no CA's folder gets no file of ours.
        let key = files::SECRET.read_text(&key_path).map_err(io(&key_path))?;
        let held = lock(path)?;
        let wrong = |path: &Path, what: String| FolderError::Content { path: path.into(), what };
        let key = KeyPair::from_pem(&key).map_err(|e| wrong(&key_path, e.to_string()))?;
        let state = files::CA_STATE.read(&state_path).map_err(io(&state_path))?;
        let state: State = serde_json::from_slice(&state).map_err(|e| wrong(&state_path, e.to_string()))?;
        let plmn = state.plmn.parse().map_err(|e: NameError| wrong(&state_path, e.to_string()))?;
        let mut certificates = read_certificates(&ca_path)?;
        let Some(first) = certificates.first() else { return Err(wrong(&ca_path, "no certificate".into())) };
        let certificate = CertificateDer::from(first.clone());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(PkiError::from)?;
        if crate::credential::TrustEntry::new(plmn, &certificate).is_ok() {
            certificates.clear();
        }
        let State { crl_number, revoked, crl_url, .. } = state;
        let authority =
            Authority { plmn, issuer, certificate, chain: certificates, crl_number, revoked, crl_url };
        Ok(Self { _lock: held, path: path.into(), authority })
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The authority, to be changed; [`Self::save`] afterwards.
    pub fn authority_mut(&mut self) -> &mut Authority {
        &mut self.authority
    }

    /// Stores a leaf's chain, and its key where the authority made it; returns the path of the chain.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store_leaf(
        &self,
        identity: &Identity,
        leaf: &[u8],
        key: Option<&SoftwareKey>,
    ) -> Result<PathBuf, FolderError> {
        // An identity's last part may be `..`, which is no name of a file.
        match identity.id().starts_with('.') {
            true => self.store(&format!("_{}", identity.id()), leaf, key),
            false => self.store(identity.id(), leaf, key),
        }
    }

    /// Stores a server's chain and key as `issued/NAME.pem` and `.key`; returns the path of the chain.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store_server(&self, name: &str, leaf: &[u8], key: &SoftwareKey) -> Result<PathBuf, FolderError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            let what = "not a name of a host".into();
            return Err(FolderError::Content { path: name.into(), what });
        }
        self.store(name, leaf, Some(key))
    }

    /// Path of the chain stored for an identity.
    pub fn leaf_path(&self, identity: &Identity) -> PathBuf {
        let dot = if identity.id().starts_with('.') { "_" } else { "" };
        self.path.join("issued").join(format!("{dot}{}.pem", identity.id()))
    }

    fn store(&self, name: &str, leaf: &[u8], key: Option<&SoftwareKey>) -> Result<PathBuf, FolderError> {
        let issued = self.path.join("issued");
        if let Some(key) = key {
            write_private(&issued.join(format!("{name}.key")), key.to_pkcs8_pem()?.as_bytes())?;
        }
        let mut chain = pem("CERTIFICATE", leaf);
        self.authority.chain().iter().for_each(|c| chain.push_str(&pem("CERTIFICATE", c)));
        let path = issued.join(format!("{name}.pem"));
        write(&path, chain.as_bytes())?;
        Ok(path)
    }

    /// Makes the next CRL and stores it, number first: a number that was seen outside is never given again.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn publish_crl(
        &mut self,
        this_update: UnixSeconds,
        next_update: UnixSeconds,
    ) -> Result<Vec<u8>, FolderError> {
        let crl = self.authority.crl(this_update, next_update)?;
        self.save()?;
        write(&self.path.join("crl.der"), &crl)?;
        write(&self.path.join("crl.pem"), pem("X509 CRL", &crl).as_bytes())?;
        Ok(crl)
    }

    /// The newest CRL, DER; none before the first.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn crl(&self) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join("crl.der");
        match files::PEM.read(&path) {
            Ok(mut crl) => Ok(Some(std::mem::take(&mut *crl))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(&path)(e)),
        }
    }

    /// Stores number and revocations.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn save(&self) -> Result<(), FolderError> {
        let Authority { plmn, crl_number, revoked, crl_url, .. } = &self.authority;
        let (revoked, crl_url) = (revoked.clone(), crl_url.clone());
        let state = State { plmn: plmn.to_string(), crl_number: *crl_number, revoked, crl_url };
        let path = self.path.join("state.json");
        let text = serde_json::to_vec_pretty(&state)
            .map_err(|e| FolderError::Content { path: path.clone(), what: e.to_string() })?;
        write(&path, &text)
    }
}

/// All certificates of a PEM file, DER, in order; at least one.
///
/// # Errors
/// [`FolderError`].
pub fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, FolderError> {
    read::<CertificateDer<'_>>(path, "CERTIFICATE")
}

/// All CRLs of a PEM file, DER, in order; at least one.
///
/// # Errors
/// [`FolderError`].
pub fn read_crls(path: &Path) -> Result<Vec<Vec<u8>>, FolderError> {
    read::<CertificateRevocationListDer<'_>>(path, "X509 CRL")
}

/// All certification requests of a PEM file, DER, in order; at least one.
///
/// # Errors
/// [`FolderError`].
pub fn read_requests(path: &Path) -> Result<Vec<Vec<u8>>, FolderError> {
    read::<CertificateSigningRequestDer<'_>>(path, "CERTIFICATE REQUEST")
}

fn read<T: PemObject + AsRef<[u8]>>(path: &Path, label: &str) -> Result<Vec<Vec<u8>>, FolderError> {
    let wrong = |what| FolderError::Content { path: path.into(), what };
    let octets = files::PEM.read(path).map_err(io(path))?;
    let blocks: Vec<Vec<u8>> = T::pem_slice_iter(&octets)
        .map(|block| block.map(|der| der.as_ref().to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(format!("not PEM: {e}")))?;
    match blocks.is_empty() {
        true => Err(wrong(format!("holds no '{label}' in PEM"))),
        false => Ok(blocks),
    }
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn lock(folder: &Path) -> Result<fs::File, FolderError> {
    let path = folder.join("lock");
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
    }
    Err(FolderError::Content { path: folder.into(), what: "in use by another command or server".into() })
}

fn write(path: &Path, octets: &[u8]) -> Result<(), FolderError> {
    files::replace(path, octets, 0o644).map_err(io(path))
}

fn write_private(path: &Path, octets: &[u8]) -> Result<(), FolderError> {
    files::replace(path, octets, 0o600).map_err(io(path))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    move |error| FolderError::Io { path: path.into(), error }
}

/// A command works on a folder for milliseconds: who waits longer than 5 s waits for something that hangs.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

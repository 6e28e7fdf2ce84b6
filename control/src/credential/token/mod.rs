//! A certificate's key in a PKCS#11 token: it signs and agrees in there, and never comes out.
//!
//! ```text
//! pkcs11: URI -> module (loaded once a process) -> token -> login -> private key, its public half -> proved by use
//! ```
//! Source: PKCS#11 (OASIS) sections 5.6, 5.13 and 5.18, CKM_ECDSA and CKM_ECDH1_DERIVE.

mod uri;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use p256::PublicKey;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

pub use self::uri::{SCHEME, TokenUri, UriError};
use super::key::{KeyError, LongTermKey, Signature, SoftwareKey, point, public_key, verify_message};
use crate::files;

/// Why a key in a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The module cannot be loaded, or does not start.
    #[error("PKCS#11 module {path}: {why}")]
    Module {
        /// Its file.
        path: String,
        /// What the loader or the module says.
        why: String,
    },
    /// No such token, or several.
    #[error("{wanted}: {found} of {module}")]
    Token {
        /// What was looked for.
        wanted: String,
        /// What is there.
        found: String,
        /// In which module.
        module: String,
    },
    /// The file with the PIN cannot be read.
    #[error("PIN file {path}: {why}")]
    PinFile {
        /// The file.
        path: String,
        /// What the system says.
        why: String,
    },
    /// The token wants a PIN, and no file with one is named.
    #[error("{token} wants a PIN: write pin-source=FILE")]
    PinWanted {
        /// The token.
        token: String,
    },
    /// The PIN is not the token's.
    #[error("{token}: the PIN in {path} is refused ({why})")]
    PinRefused {
        /// The token.
        token: String,
        /// The file.
        path: String,
        /// The token's answer.
        why: String,
    },
    /// No such key, or several.
    #[error("{wanted}: {found} in {token}")]
    Key {
        /// What was looked for.
        wanted: String,
        /// What is there.
        found: String,
        /// In which token.
        token: String,
    },
    /// The public half is not there, or not one of P-256.
    #[error("{key}: {why}")]
    PublicKey {
        /// The key.
        key: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The key does not do what it is needed for.
    #[error("{key} does not serve: {why}")]
    Useless {
        /// The key.
        key: String,
        /// What it failed at.
        why: String,
    },
    /// The token failed.
    #[error("{token}: {why}")]
    Device {
        /// The token.
        token: String,
        /// Its answer.
        why: String,
    },
}

/// A P-256 private key in a token, for as long as this process is logged in to it.
pub struct TokenKey {
    /// A session serves one operation at a time.
    session: Mutex<Session>,
    private: ObjectHandle,
    public: PublicKey,
}

impl TokenKey {
    /// Loads the module, logs in with the PIN of the URI's file, and proves that the key signs and agrees as its
    /// public half says.
    ///
    /// Modules read their own files when they start, and some at every use: this comes before rights are given up.
    ///
    /// # Errors
    /// [`TokenError`], which names what was looked for and what is there.
    pub fn open(uri: &TokenUri) -> Result<Self, TokenError> {
        let session = session(uri, false)?;
        let private = find_private(&session, uri)?;
        let public = find_public(&session, private, uri)?;
        let key = Self { session: Mutex::new(session), private, public };
        // One that lacks a permission says so now, not in the midst of a handshake.
        key.prove().map_err(|why| TokenError::Useless { key: uri.key_name(), why: why.to_string() })?;
        Ok(key)
    }

    /// Makes a key in the token, under the URI's label and id (default 01), which can sign and derive and never be read.
    ///
    /// # Errors
    /// As [`Self::open`]; [`TokenError::Key`] when there is one already.
    pub fn generate(uri: &TokenUri) -> Result<Self, TokenError> {
        let session = session(uri, true)?;
        let id = new_name(&session, uri)?;
        let (public, private) = (public_template(uri, &id), private_template(uri, &id));
        let made = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
        made.map_err(|e| failed(uri, &e))?;
        Self::open(uri)
    }

    /// Puts a key that was made outside into the token, as [`Self::generate`] would have made it there. Whoever has
    /// it outside deletes it.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn import(uri: &TokenUri, key: &SoftwareKey) -> Result<Self, TokenError> {
        let session = session(uri, true)?;
        let id = new_name(&session, uri)?;
        let mut public = public_template(uri, &id);
        public.push(Attribute::Class(ObjectClass::PUBLIC_KEY));
        let encoded = [&OCTET_STRING_65[..], &point(key.public_key())].concat();
        public.push(Attribute::EcPoint(encoded));
        let mut private = private_template(uri, &id);
        private.push(Attribute::Class(ObjectClass::PRIVATE_KEY));
        private.push(Attribute::EcParams(P256_OID.to_vec()));
        private.push(Attribute::Value(key.scalar().to_vec()));
        let made = session.create_object(&private);
        for attribute in private {
            if let Attribute::Value(mut scalar) = attribute {
                scalar.zeroize();
            }
        }
        made.and_then(|_| session.create_object(&public)).map_err(|e| failed(uri, &e))?;
        Self::open(uri)
    }
}

impl LongTermKey for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn prove(&self) -> Result<(), KeyError> {
        let message = b"pc5 key check";
        if !verify_message(&self.public, message, &self.sign_message(message)?) {
            return Err(KeyError::Device(
                "what it signs does not verify under the public key beside it".into(),
            ));
        }
        // The product with the generator is the public key.
        let generator = PublicKey::from_affine(p256::AffinePoint::GENERATOR)
            .map_err(|_| KeyError::Device("no generator".into()))?;
        match self.ecdh(&generator)?[..] == point(&self.public)[1..33] {
            true => Ok(()),
            false => {
                Err(KeyError::Device("what it derives does not belong to the public key beside it".into()))
            }
        }
    }

    fn sign_message(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = session.sign(&Mechanism::Ecdsa, self.private, &Sha256::digest(message));
        let signature = signature.map_err(|e| device(&e))?;
        Signature::try_from(signature.as_slice())
            .map_err(|_| KeyError::Device(format!("a signature of {} octets", signature.len())))
    }

    fn ecdh(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let peer = point(peer);
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &peer));
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::ValueLen(32.into()),
            Attribute::Token(false),
            // HPKE goes on from it outside: a secret of one message, where the key stays inside.
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = session.derive_key(&mechanism, self.private, &template).map_err(|e| device(&e))?;
        let read = session.get_attributes(secret, &[AttributeType::Value]);
        let destroyed = session.destroy_object(secret);
        let mut x = Zeroizing::new([0; 32]);
        for attribute in read.map_err(|e| device(&e))? {
            let Attribute::Value(value) = attribute else { continue };
            let value = Zeroizing::new(value);
            if value.len() != x.len() {
                return Err(KeyError::Device(format!("a shared secret of {} octets", value.len())));
            }
            x.copy_from_slice(&value);
            return destroyed.map(|()| x).map_err(|e| device(&e));
        }
        Err(KeyError::Device("the shared secret cannot be read".into()))
    }
}

/// The curve: its object identifier, DER. Source: RFC 5480 section 2.1.1.1.
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// Before the 65 octets of a point in CKA_EC_POINT.
const OCTET_STRING_65: [u8; 2] = [0x04, 65];

/// The id of a new key whose URI names none.
const FIRST_ID: [u8; 1] = [1];

fn public_template(uri: &TokenUri, id: &[u8]) -> Vec<Attribute> {
    let mut all = named(uri, id);
    all.extend([Attribute::EcParams(P256_OID.to_vec()), Attribute::Private(false), Attribute::Verify(true)]);
    all
}

fn private_template(uri: &TokenUri, id: &[u8]) -> Vec<Attribute> {
    let mut all = named(uri, id);
    all.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Derive(true),
    ]);
    all
}

fn named(uri: &TokenUri, id: &[u8]) -> Vec<Attribute> {
    let label = uri.object.iter().map(|label| Attribute::Label(label.clone().into_bytes()));
    let fixed = [Attribute::Token(true), Attribute::KeyType(KeyType::EC), Attribute::Id(id.to_vec())];
    fixed.into_iter().chain(label).collect()
}

/// The id of a key to be made, which nothing in the token has: halves find each other by it.
fn new_name(session: &Session, uri: &TokenUri) -> Result<Vec<u8>, TokenError> {
    let id = uri.id.clone().unwrap_or(FIRST_ID.to_vec());
    let mut takes = vec![vec![Attribute::Id(id.clone())]];
    takes.extend(uri.object.iter().map(|label| vec![Attribute::Label(label.clone().into_bytes())]));
    for template in takes {
        if !session.find_objects(&template).map_err(|e| failed(uri, &e))?.is_empty() {
            return Err(TokenError::Key {
                wanted: uri.key_name(),
                found: format!("its label or its id {} is taken", hex::encode(&id)),
                token: uri.token_name(),
            });
        }
    }
    Ok(id)
}

/// A session of somebody who is logged in.
fn session(uri: &TokenUri, writes: bool) -> Result<Session, TokenError> {
    let module = module(&uri.module)?;
    let (slot, token) = find_token(&module, uri)?;
    let session = if writes { module.open_rw_session(slot) } else { module.open_ro_session(slot) };
    let session = session.map_err(|e| failed(uri, &e))?;
    log_in(&session, &token, uri)?;
    Ok(session)
}

fn failed(uri: &TokenUri, e: &Error) -> TokenError {
    TokenError::Device { token: uri.token_name(), why: told(e) }
}

/// Modules in use. A module is started once a process and stays: ending it ends every session in it.
static MODULES: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

fn module(path: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |e: Error| TokenError::Module { path: path.display().to_string(), why: told(&e) };
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = modules.iter().find(|(known, _)| known == path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Under another path.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(e) => return Err(failed(e)),
    }
    modules.push((path.to_owned(), module.clone()));
    Ok(module)
}

fn find_token(module: &Pkcs11, uri: &TokenUri) -> Result<(Slot, TokenInfo), TokenError> {
    let refused = |found: String| TokenError::Token {
        wanted: uri.token_name(),
        found,
        module: uri.module.display().to_string(),
    };
    let mut there = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(|e| refused(told(&e)))? {
        there.push((slot, module.get_token_info(slot).map_err(|e| refused(told(&e)))?));
    }
    let names: Vec<_> = there.iter().map(|(_, token)| format!("\"{}\"", token.label().trim_end())).collect();
    let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has.trim_end());
    there.retain(|(_, token)| is(&uri.token, token.label()) && is(&uri.serial, token.serial_number()));
    match (there.pop(), there.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(_), false) => {
            Err(refused("several have this name, add serial=NUMBER; they are in the slots".to_owned()))
        }
        (None, _) if names.is_empty() => Err(refused("no initialised token is in the slots".to_owned())),
        (None, _) => Err(refused(format!("no such token, only {}", names.join(", ")))),
    }
}

fn log_in(session: &Session, token: &TokenInfo, uri: &TokenUri) -> Result<(), TokenError> {
    let pin = match &uri.pin {
        Some(path) => {
            let failed = |why: String| TokenError::PinFile { path: path.display().to_string(), why };
            let text = files::SECRET.read_text(path).map_err(|e| failed(e.to_string()))?;
            Some(AuthPin::new(text.trim_end_matches(['\r', '\n']).into()))
        }
        None if !token.login_required() => return Ok(()),
        None if token.protected_authentication_path() => None,
        None => return Err(TokenError::PinWanted { token: uri.token_name() }),
    };
    match session.login(UserType::User, pin.as_ref()) {
        // By an earlier session of this process.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(e) => Err(TokenError::PinRefused {
            token: uri.token_name(),
            path: uri.pin.as_ref().map_or("the PIN pad".into(), |p| p.display().to_string()),
            why: told(&e),
        }),
    }
}

fn find_private(session: &Session, uri: &TokenUri) -> Result<ObjectHandle, TokenError> {
    let refused = |found: String| TokenError::Key { wanted: uri.key_name(), found, token: uri.token_name() };
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(uri.object.iter().map(|label| Attribute::Label(label.clone().into_bytes())));
    template.extend(uri.id.iter().map(|id| Attribute::Id(id.clone())));
    let found = session.find_objects(&template).map_err(|e| refused(told(&e)))?;
    match found[..] {
        [one] => Ok(one),
        [] => {
            let all = session
                .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])
                .map_err(|e| refused(told(&e)))?;
            let names: Vec<_> = all.iter().filter_map(|&key| label(session, key)).collect();
            Err(refused(match names.is_empty() {
                true => "no private key at all".into(),
                false => format!("no such key, only \"{}\"", names.join("\", \"")),
            }))
        }
        _ => Err(refused(format!("{} keys have this name, add id=%..;", found.len()))),
    }
}

fn label(session: &Session, object: ObjectHandle) -> Option<String> {
    let attributes = session.get_attributes(object, &[AttributeType::Label]).ok()?;
    attributes.into_iter().find_map(|a| match a {
        Attribute::Label(octets) => Some(String::from_utf8_lossy(&octets).into_owned()),
        _ => None,
    })
}

/// The public key object with the private one's CKA_ID.
fn find_public(session: &Session, private: ObjectHandle, uri: &TokenUri) -> Result<PublicKey, TokenError> {
    let refused = |why| TokenError::PublicKey { key: uri.key_name(), why };
    let failed = |e: Error| failed(uri, &e);
    let id = session.get_attributes(private, &[AttributeType::Id]).map_err(failed)?;
    let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC)];
    template.extend(id);
    let found = session.find_objects(&template).map_err(failed)?;
    let [public] = found[..] else {
        return Err(refused("not one EC public key with its id is in the token: import both halves"));
    };
    let attributes = session.get_attributes(public, &[AttributeType::EcPoint]).map_err(failed)?;
    let octets = attributes.into_iter().find_map(|a| match a {
        Attribute::EcPoint(octets) => Some(octets),
        _ => None,
    });
    let octets = octets.ok_or(refused("its public key has no CKA_EC_POINT"))?;
    // A DER OCTET STRING; some tokens give the point alone.
    let octets = octets.strip_prefix([4, 65].as_slice()).unwrap_or(&octets);
    public_key(octets).ok_or(refused("its public key is not an uncompressed point of P-256"))
}

fn device(e: &Error) -> KeyError {
    KeyError::Device(told(e))
}

/// The function and its CKR code; the library's own texts are paragraphs.
fn told(e: &Error) -> String {
    match e {
        Error::Pkcs11(code, function) => format!("{function}: {code:?}"),
        other => other.to_string(),
    }
}

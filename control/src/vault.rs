//! Sealed key vault: one file that holds a device's long-term secrets, sealed under a pass phrase. The default where
//! there is no PKCS#11 token.
//!
//! ```text
//! "pc5 vault v1" 00 | m KiB (4) | passes (4) | lanes (4) | salt (16) | nonce (12) | AES-256-GCM of the entries, tag 16
//! `------------------ authenticated, and argon2id's parameters ------------------'
//! entries: n x { name length (1), name, length (4), secret }
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::credential::{KeyError, SoftwareKey};
use crate::files;

/// What guessing a pass phrase costs: argon2id's parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106 section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// An opened vault. Secrets are wiped when it is dropped.
pub struct Vault {
    path: PathBuf,
    header: Header,
    key: Zeroizing<[u8; 32]>,
    /// Of what is on the disk; none: nothing is yet.
    nonce: Option<[u8; 12]>,
    entries: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// Why a vault could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// There is a vault already.
    #[error("{0} exists; open it, or choose another path")]
    Exists(PathBuf),
    /// Not a vault of this version, or with parameters beyond the bounds.
    #[error("{path} is not a vault: {what}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Another process wrote to it.
    #[error("{0} was changed by somebody else meanwhile: nothing is written; try again")]
    Changed(PathBuf),
    /// Too short for a vault that is to withstand whoever has a copy.
    #[error("a pass phrase of at least {MIN_PASS_PHRASE} octets is wanted, made by a program")]
    PassPhrase,
    /// Wrong pass phrase, or the file was altered: not told apart.
    #[error("{0} does not open: wrong pass phrase, or altered")]
    Locked(PathBuf),
    /// An entry's name or size beyond the format.
    #[error("names of 1 to 255 octets and secrets of at most 64 KiB are wanted")]
    Entry,
    /// No entry of this name.
    #[error("the vault holds no '{0}'")]
    Missing(String),
    /// An entry is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// argon2id refuses the parameters.
    #[error("cost parameters: {0}")]
    Cost(argon2::Error),
}

/// The pass phrase in a file: its octets without line ends at the end.
///
/// # Errors
/// [`VaultError::Io`], also for a file that others than its owner may read.
pub fn pass_phrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let mut octets = files::SECRET.read(path).map_err(|error| VaultError::Io { path: path.into(), error })?;
    let end = octets.iter().rposition(|o| !matches!(o, b'\n' | b'\r')).map_or(0, |at| at + 1);
    octets.truncate(end);
    Ok(octets)
}

#[derive(Clone, Copy)]
struct Header {
    cost: Cost,
    salt: [u8; 16],
}

impl Vault {
    /// A new, empty vault file (mode 0600).
    ///
    /// # Errors
    /// [`VaultError`]; an existing file is never overwritten.
    pub fn create<R: CryptoRng + ?Sized>(
        path: &Path,
        pass_phrase: &[u8],
        cost: Cost,
        rng: &mut R,
    ) -> Result<Self, VaultError> {
        if path.exists() {
            return Err(VaultError::Exists(path.into()));
        }
        Self::check_pass_phrase(pass_phrase)?;
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let header = Header { cost, salt };
        let key = header.key(pass_phrase)?;
        let mut vault = Self { path: path.into(), header, key, nonce: None, entries: BTreeMap::new() };
        vault.save(rng)?;
        Ok(vault)
    }

    /// Opens a vault file, or makes an empty one where there is none.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create<R: CryptoRng + ?Sized>(
        path: &Path,
        pass_phrase: &[u8],
        cost: Cost,
        rng: &mut R,
    ) -> Result<Self, VaultError> {
        match Self::open(path, pass_phrase) {
            Err(VaultError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                Self::create(path, pass_phrase, cost, rng)
            }
            opened => opened,
        }
    }

    /// Whether a pass phrase is long enough for a new vault.
    ///
    /// # Errors
    /// [`VaultError::PassPhrase`].
    pub fn check_pass_phrase(pass_phrase: &[u8]) -> Result<(), VaultError> {
        match pass_phrase.len() >= MIN_PASS_PHRASE {
            true => Ok(()),
            false => Err(VaultError::PassPhrase),
        }
    }

    /// Opens a vault file.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open(path: &Path, pass_phrase: &[u8]) -> Result<Self, VaultError> {
        let form = |what| VaultError::Form { path: path.into(), what };
        let octets = files::VAULT.read(path).map_err(|error| VaultError::Io { path: path.into(), error })?;
        let Some((front, rest)) = octets.split_at_checked(HEADER_LEN) else { return Err(form("cut off")) };
        let header = Header::decode(front).ok_or(form("not of version 1, or costs beyond the bounds"))?;
        let Some((nonce, sealed)) = rest.split_first_chunk::<12>() else { return Err(form("cut off")) };
        let key = header.key(pass_phrase)?;
        let plain = Aes256Gcm::new((&*key).into())
            .decrypt(&Nonce::<U12>::from(*nonce), Payload { msg: sealed, aad: front })
            .map_err(|_| VaultError::Locked(path.into()))?;
        let entries = decode(&Zeroizing::new(plain)).ok_or(form("entries malformed"))?;
        Ok(Self { path: path.into(), header, key, nonce: Some(*nonce), entries })
    }

    /// A secret.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.get(name).map(|s| s.as_slice())
    }

    /// Names of the secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Stores a secret, replacing one of the same name. On the disk when this returns.
    ///
    /// # Errors
    /// [`VaultError::Entry`], [`VaultError::Changed`], [`VaultError::Io`].
    pub fn put<R: CryptoRng + ?Sized>(
        &mut self,
        name: &str,
        secret: &[u8],
        rng: &mut R,
    ) -> Result<(), VaultError> {
        if name.is_empty() || name.len() > 255 || secret.len() > MAX_SECRET {
            return Err(VaultError::Entry);
        }
        let before = self.entries.insert(name.into(), Zeroizing::new(secret.to_vec()));
        self.save(rng).inspect_err(|_| {
            match before {
                Some(secret) => self.entries.insert(name.into(), secret),
                None => self.entries.remove(name),
            };
        })
    }

    /// Forgets a secret. Off the disk when this returns; returns whether there was one.
    ///
    /// # Errors
    /// [`VaultError::Changed`], [`VaultError::Io`].
    pub fn remove<R: CryptoRng + ?Sized>(&mut self, name: &str, rng: &mut R) -> Result<bool, VaultError> {
        let Some(secret) = self.entries.remove(name) else { return Ok(false) };
        self.save(rng).map(|()| true).inspect_err(|_| {
            self.entries.insert(name.into(), secret);
        })
    }

    /// A certificate's key.
    ///
    /// # Errors
    /// [`VaultError::Missing`], [`VaultError::Key`].
    pub fn key(&self, name: &str) -> Result<SoftwareKey, VaultError> {
        let der = self.get(name).ok_or_else(|| VaultError::Missing(name.into()))?;
        Ok(SoftwareKey::from_pkcs8_der(der)?)
    }

    /// Stores a certificate's key.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_key<R: CryptoRng + ?Sized>(
        &mut self,
        name: &str,
        key: &SoftwareKey,
        rng: &mut R,
    ) -> Result<(), VaultError> {
        self.put(name, &key.to_pkcs8_der()?, rng)
    }

    fn save<R: CryptoRng + ?Sized>(&mut self, rng: &mut R) -> Result<(), VaultError> {
        let mut file = self.header.encode().to_vec();
        // Fresh for every save under this key; a vault is saved a few times in its life.
        let mut nonce = [0; 12];
        rng.fill_bytes(&mut nonce);
        let plain = encode(&self.entries);
        let sealed = Aes256Gcm::new((&*self.key).into())
            .encrypt(&Nonce::<U12>::from(nonce), Payload { msg: &plain, aad: &file })
            .map_err(|_| VaultError::Entry)?;
        file.extend_from_slice(&nonce);
        file.extend_from_slice(&sealed);
        self.write(&file)?;
        self.nonce = Some(nonce);
        Ok(())
    }

    /// What another process stored since this one opened the vault is not written over.
    fn write(&self, file: &[u8]) -> Result<(), VaultError> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::AlreadyExists => VaultError::Exists(self.path.clone()),
            _ => VaultError::Io { path: self.path.clone(), error },
        };
        let Some(nonce) = self.nonce else { return files::create(&self.path, file, 0o600).map_err(io) };
        // Whoever else holds it writes another file and then lets go: what counts is what has the name afterwards.
        let held = File::open(&self.path).map_err(io)?;
        held.lock().map_err(io)?;
        let now = files::VAULT.read(&self.path).map_err(io)?;
        if now.get(HEADER_LEN..HEADER_LEN + nonce.len()) != Some(&nonce[..]) {
            return Err(VaultError::Changed(self.path.clone()));
        }
        files::replace(&self.path, file, 0o600).map_err(io)
    }
}

impl Header {
    fn key(&self, pass_phrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(VaultError::Cost)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(pass_phrase, &self.salt, &mut *key)
            .map_err(VaultError::Cost)?;
        Ok(key)
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let mut out = [0; HEADER_LEN];
        let parts =
            [MAGIC, &memory_kib.to_be_bytes(), &passes.to_be_bytes(), &lanes.to_be_bytes(), &self.salt];
        let octets = parts.into_iter().flatten();
        out.iter_mut().zip(octets).for_each(|(o, &p)| *o = p);
        out
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let rest = octets.strip_prefix(MAGIC)?;
        let (memory, rest) = rest.split_first_chunk()?;
        let (passes, rest) = rest.split_first_chunk()?;
        let (lanes, salt) = rest.split_first_chunk()?;
        let cost = Cost {
            memory_kib: u32::from_be_bytes(*memory),
            passes: u32::from_be_bytes(*passes),
            lanes: u32::from_be_bytes(*lanes),
        };
        // They are authenticated only after they were spent: an altered file must not take the machine's memory.
        let bounded =
            cost.memory_kib <= MAX_MEMORY_KIB && cost.passes <= MAX_PASSES && cost.lanes <= MAX_LANES;
        bounded.then_some(Self { cost, salt: salt.try_into().ok()? })
    }
}

fn encode(entries: &BTreeMap<String, Zeroizing<Vec<u8>>>) -> Zeroizing<Vec<u8>> {
    let size = entries.iter().map(|(name, secret)| 5 + name.len() + secret.len()).sum();
    // Room for all of it, so that no partial copy is left behind by growing.
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for (name, secret) in entries {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(secret.len() as u32).to_be_bytes());
        out.extend_from_slice(secret);
    }
    out
}

fn decode(mut octets: &[u8]) -> Option<BTreeMap<String, Zeroizing<Vec<u8>>>> {
    let mut entries = BTreeMap::new();
    while let Some((&length, rest)) = octets.split_first() {
        let (name, rest) = rest.split_at_checked(length.into())?;
        let (length, rest) = rest.split_first_chunk()?;
        let (secret, rest) = rest.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
        let name = std::str::from_utf8(name).ok()?.to_string();
        entries.insert(name, Zeroizing::new(secret.to_vec()));
        octets = rest;
    }
    Some(entries)
}

const MAGIC: &[u8] = b"pc5 vault v1\0";
const HEADER_LEN: usize = MAGIC.len() + 12 + 16;
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;
const MAX_LANES: u32 = 16;
const MAX_SECRET: usize = 1 << 16;
const MIN_PASS_PHRASE: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::LongTermKey;
    use crate::testing::rng;

    const CHEAP: Cost = Cost { memory_kib: 32, passes: 1, lanes: 1 };

    #[test]
    fn what_was_put_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let key = SoftwareKey::generate(&mut rng());
        let mut vault = Vault::create(&path, b"open sesame, please", CHEAP, &mut rng()).unwrap();
        vault.put_key("certificate", &key, &mut rng()).unwrap();
        vault.put("gk", &[7; 32], &mut rng()).unwrap();
        vault.put("gone", b"x", &mut rng()).unwrap();
        assert!(vault.remove("gone", &mut rng()).unwrap());
        assert!(!vault.remove("gone", &mut rng()).unwrap());
        drop(vault);

        let vault = Vault::open(&path, b"open sesame, please").unwrap();
        assert_eq!(vault.names().collect::<Vec<_>>(), ["certificate", "gk"]);
        assert_eq!(vault.key("certificate").unwrap().public_key(), key.public_key());
        assert_eq!(vault.get("gk"), Some(&[7; 32][..]));
        assert!(matches!(vault.key("gk"), Err(VaultError::Key(_))));
        assert!(matches!(vault.key("other"), Err(VaultError::Missing(_))));
        assert!(matches!(
            Vault::create(&path, b"open sesame, please", CHEAP, &mut rng()),
            Err(VaultError::Exists(_))
        ));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_else_opens_it_and_nothing_shows_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let mut vault = Vault::create(&path, b"the right one", CHEAP, &mut rng()).unwrap();
        vault.put("a-name", b"a secret that must not show", &mut rng()).unwrap();
        assert!(matches!(Vault::open(&path, b"the wrong one"), Err(VaultError::Locked(_))));
        let good = std::fs::read(&path).unwrap();
        assert!(!good.windows(6).any(|w| w == b"secret" || w == b"a-name"));
        for i in (0..good.len()).filter(|i| !(MAGIC.len()..MAGIC.len() + 4).contains(i)) {
            let mut altered = good.clone();
            altered[i] ^= 1;
            std::fs::write(&path, altered).unwrap();
            assert!(Vault::open(&path, b"the right one").is_err(), "octet {i}");
        }
        for cut in [0, MAGIC.len(), HEADER_LEN, HEADER_LEN + 11, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(Vault::open(&path, b"the right one").is_err(), "cut to {cut}");
        }
        // A file cannot ask for all of the machine's memory.
        let mut greedy = good.clone();
        greedy[MAGIC.len()..MAGIC.len() + 4].fill(0xFF);
        std::fs::write(&path, greedy).unwrap();
        assert!(matches!(Vault::open(&path, b"the right one"), Err(VaultError::Form { .. })));
        std::fs::write(&path, good).unwrap();
        assert!(Vault::open(&path, b"the right one").is_ok());
    }

    #[test]
    fn two_that_write_do_not_undo_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rng) = (folder.path().join("vault"), &mut rng());
        let mut first = Vault::create(&path, b"open sesame, please", CHEAP, rng).unwrap();
        let mut second = Vault::open(&path, b"open sesame, please").unwrap();
        second.put("second", b"2", rng).unwrap();
        assert!(matches!(first.put("first", b"1", rng), Err(VaultError::Changed(_))));
        assert_eq!(first.names().count(), 0, "what is not on the disk is not held either");
        let mut first = Vault::open(&path, b"open sesame, please").unwrap();
        first.put("first", b"1", rng).unwrap();
        first.put("first", b"one", rng).unwrap();
        assert_eq!(first.names().collect::<Vec<_>>(), ["first", "second"]);
    }

    #[test]
    fn a_pass_phrase_is_what_its_file_has_before_the_line_ends() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        for (text, phrase) in [("a b \n", "a b "), ("x\r\n", "x"), ("x", "x"), ("\n", ""), ("", "")] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            assert_eq!(**pass_phrase(&path).unwrap(), *phrase.as_bytes());
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(pass_phrase(&path).unwrap_err().to_string().contains("0644"));
        let vault = folder.path().join("vault");
        assert!(matches!(Vault::create(&vault, b"short", CHEAP, &mut rng()), Err(VaultError::PassPhrase)));
        assert!(!vault.exists());
    }

    #[test]
    fn entries_have_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut vault =
            Vault::create(&folder.path().join("v"), b"open sesame, please", CHEAP, &mut rng()).unwrap();
        assert!(vault.put("", b"", &mut rng()).is_err());
        assert!(vault.put(&"n".repeat(256), b"", &mut rng()).is_err());
        assert!(vault.put("n", &vec![0; MAX_SECRET + 1], &mut rng()).is_err());
        assert_eq!(vault.names().count(), 0);
    }
}

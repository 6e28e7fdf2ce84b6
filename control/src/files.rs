//! Files: read whole, as far as is reasonable for what they are; written so that they survive a power loss.

use std::fs;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

/// What a file is to be. What goes on for longer than any of its kind, `/dev/zero` for example, is none.
#[derive(Clone, Copy, Debug)]
pub struct FileKind {
    name: &'static str,
    longest: usize,
    private: bool,
}

/// Certificates, CRLs or requests in PEM: several of the largest CRLs.
pub const PEM: FileKind = FileKind::new("PEM file", 16 << 20);
/// One key, secret, pass phrase or PIN.
pub const SECRET: FileKind = FileKind::new("key or secret", 64 << 10).private();
/// Sealed keys: whoever has a copy guesses pass phrases for as long as they like.
pub(crate) const VAULT: FileKind = FileKind::new("vault", 16 << 20).private();
/// State of a CA, its revocations among it.
pub(crate) const CA_STATE: FileKind = FileKind::new("state of a CA", 64 << 20);

impl FileKind {
    /// Of at most `longest` octets; `name` goes into errors, after "any" and "no".
    pub const fn new(name: &'static str, longest: usize) -> Self {
        Self { name, longest, private: false }
    }

    /// Read only where nobody but the file's owner has a right to it; root may give its own to a group, to read.
    pub const fn private(self) -> Self {
        Self { private: true, ..self }
    }

    /// All octets of a file, wiped when dropped.
    ///
    /// # Errors
    /// What the system says, `InvalidData` for a file that is too long, or `Other` for one that is to be private and is
    /// not. The path is in none of them.
    pub fn read(&self, path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
        let file = fs::File::open(path)?;
        let about = file.metadata()?;
        if self.private {
            self.check_private(&about)?;
        }
        self.read_expecting(usize::try_from(about.len()).unwrap_or(usize::MAX), file)
    }

    /// Whether nobody but its owner has a right to a file, as far as one of this kind is to be private.
    ///
    /// # Errors
    /// `Other`, and what to do; without the path.
    pub fn check_private(&self, about: &fs::Metadata) -> std::io::Result<()> {
        // Pipes and devices have no content that somebody else could read as well.
        match about.is_file() {
            true => self.check_mode(about.mode() & 0o777, about.uid()),
            false => Ok(()),
        }
    }

    /// Service managers and orchestrators hand secrets to a service as root's files, with the service's group or, where an
    /// ACL names its user, with what looks like one.
    fn check_mode(&self, mode: u32, owner: u32) -> std::io::Result<()> {
        let others = if owner == 0 { 0o037 } else { 0o077 };
        if mode & others == 0 {
            return Ok(());
        }
        let name = self.name;
        Err(Error::other(format!(
            "mode {mode:04o} lets others at what is to be a {name} of its owner alone: `chmod 600` it, and make a new one \
             if they are not to be trusted"
        )))
    }

    /// As [`Self::read`], of what is open.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_from(&self, source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
        self.read_expecting(0, source)
    }

    /// As [`Self::read`], for a text.
    ///
    /// # Errors
    /// As [`Self::read`], and `InvalidData` for what is not UTF-8.
    pub fn read_text(&self, path: &Path) -> std::io::Result<Zeroizing<String>> {
        String::from_utf8(std::mem::take(&mut *self.read(path)?)).map(Zeroizing::new).map_err(|e| {
            let (at, no) = (e.utf8_error().valid_up_to(), self.name);
            e.into_bytes().zeroize();
            Error::new(ErrorKind::InvalidData, format!("no text from octet {at} on, so no {no}"))
        })
    }

    /// With room for as much as is expected, so that no copy is left behind by growing.
    fn read_expecting(&self, octets: usize, source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
        let Self { name, longest, .. } = self;
        let mut read = Zeroizing::new(Vec::with_capacity(octets.min(*longest) + 1));
        source.take(*longest as u64 + 1).read_to_end(&mut read)?;
        if read.len() > *longest {
            let what = format!("longer than any {name}, of which at most {longest} octets are read");
            return Err(Error::new(ErrorKind::InvalidData, what));
        }
        Ok(read)
    }
}

/// Replaces a file in one step and waits for the disk: afterwards either the old or the new content is there, whatever
/// happens to the power. `mode` as in chmod.
pub(crate) fn replace(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    let new = beside(path, octets, mode)?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// As [`replace`], of a file that is not there yet: one that is stays, and the error is `AlreadyExists`.
pub(crate) fn create(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    let new = beside(path, octets, mode)?;
    // Unlike renaming it never takes the place of a file that somebody made meanwhile.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    linked?;
    sync_folder(path)
}

/// The content, on the disk, under another name in the same folder.
fn beside(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // An old leftover may have a wider mode than the one asked for.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    Ok(new)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FileKind = FileKind::new("shopping list", 8);

    #[test]
    fn what_is_longer_than_its_kind_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        for (octets, is_read) in [(0, true), (8, true), (9, false), (1_000, false)] {
            fs::write(&file, vec![b'x'; octets]).unwrap();
            let read = KIND.read(&file).map(|r| r.len()).map_err(|e| e.to_string());
            match is_read {
                true => assert_eq!(read, Ok(octets)),
                false => assert!(read.unwrap_err().starts_with("longer than any shopping list"), "{octets}"),
            }
            assert_eq!(KIND.read_from(&*vec![0; octets]).is_ok(), is_read, "{octets}");
        }
        assert_eq!(KIND.read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(KIND.read(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_text_is_one_from_its_first_octet_to_its_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        fs::write(&file, "bread").unwrap();
        assert_eq!(*KIND.read_text(&file).unwrap(), "bread");
        fs::write(&file, b"br\xffad").unwrap();
        let error = KIND.read_text(&file).unwrap_err().to_string();
        assert_eq!(error, "no text from octet 2 on, so no shopping list");
    }

    #[test]
    fn what_is_private_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        fs::write(&file, "bread").unwrap();
        for (mode, is_read) in [(0o600, true), (0o400, true), (0o644, false), (0o604, false), (0o620, false)]
        {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let read = KIND.private().read(&file).map_err(|e| e.to_string());
            match is_read {
                true => assert!(read.is_ok(), "{mode:o}"),
                false => assert!(read.unwrap_err().contains("`chmod 600` it"), "{mode:o}"),
            }
            assert!(KIND.read(&file).is_ok(), "what is not private may be read by others");
        }
        // Root's own, given to the group of a service.
        assert!(KIND.check_mode(0o640, 0).is_ok() && KIND.check_mode(0o440, 0).is_ok());
        for (mode, owner) in [(0o640, 1_000), (0o660, 0), (0o644, 0), (0o440, 1_000)] {
            assert!(KIND.check_mode(mode, owner).is_err(), "{mode:o} of {owner}");
        }
        assert!(KIND.private().read(Path::new("/dev/null")).is_ok());
    }

    #[test]
    fn a_new_file_never_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        create(&file, b"bread", 0o600).unwrap();
        assert_eq!(create(&file, b"milk", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"bread");
        replace(&file, b"milk", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"milk");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}

//! A file that is there whole or not at all: written under another name beside its own, which it takes in the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file to be written. Dropped before [`Self::commit`], it leaves nothing, and what had its name before stays.
pub(crate) struct WholeFile {
    file: File,
    path: PathBuf,
    /// `None` for a pipe or device, which is written directly, and once committed.
    temporary: Option<PathBuf>,
}

impl WholeFile {
    /// Makes ready to write `path`; `mode` as in chmod, whatever a file of that name has.
    ///
    /// # Errors
    /// What the system says: no such folder, no right to write there.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        // A link to a file stays a link: the file behind it is replaced.
        let behind = path.canonicalize();
        let path = behind.as_deref().unwrap_or(path);
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path)?;
                return Ok(Self { file, path: path.to_owned(), temporary: None });
            }
            _ => {}
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().ok_or(ErrorKind::InvalidFilename)?);
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        Ok(Self { file, path: path.to_owned(), temporary: Some(temporary) })
    }

    /// Writes all of it and, for a file, waits for the disk.
    ///
    /// # Errors
    /// What the system says; a disk without room, for example.
    pub(crate) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)?;
        if self.temporary.is_some() { self.file.sync_all() } else { Ok(()) }
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody is left to be told.
            let _ = fs::remove_file(temporary);
        }
    }
}

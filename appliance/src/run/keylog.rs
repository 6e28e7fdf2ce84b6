//! The key log of a running daemon: for laboratories, by explicit configuration only.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pc5_dataplane::keylog::KeyLogLine;
use pc5_dataplane::keys::Command;

/// An open key log.
pub(crate) struct KeyLog(File);

impl KeyLog {
    /// Opens it for appending, readable by its owner alone.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        // A file that was there may have been for everybody.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(Self(file))
    }

    /// Notes the key that a command installs, if it does.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn note(&mut self, command: &Command) -> io::Result<()> {
        let Some(line) = KeyLogLine::installed(command) else { return Ok(()) };
        let mut line = line.to_line();
        line.push('\n');
        self.0.write_all(line.as_bytes())
    }
}

//! The user that a daemon started as root becomes.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::exit::told;

/// A user, and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl User {
    /// The user of a name or a number.
    pub(crate) fn named(text: &str) -> Option<Self> {
        let found = match text.parse() {
            Ok(uid) => Self::of(uid).unwrap_or(Self { name: text.to_owned(), uid, gid: uid }),
            Err(_) => {
                let entry = nix::unistd::User::from_name(text).ok().flatten()?;
                Self { name: entry.name, uid: entry.uid.as_raw(), gid: entry.gid.as_raw() }
            }
        };
        Some(found)
    }

    fn of(uid: u32) -> Option<Self> {
        let entry = nix::unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        Some(Self { name: entry.name, uid, gid: entry.gid.as_raw() })
    }

    /// Who runs this process.
    fn current() -> Self {
        let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        Self { gid, ..Self::of(uid).unwrap_or(Self { name: uid.to_string(), uid, gid }) }
    }

    /// Whom the daemon runs as: the one that is configured; started as root without one, the owner of the state's
    /// folder, or `nobody` where no state is kept. Started as somebody else it stays that one.
    ///
    /// # Errors
    /// Another user is configured than the one it was started as, who cannot change.
    pub(crate) fn to_become(configured: Option<&Self>, state: Option<&Path>) -> anyhow::Result<Self> {
        let current = Self::current();
        match configured {
            Some(user) if current.uid != 0 && user.uid != current.uid => anyhow::bail!(
                "user = \"{user}\", but pc5 was started as {current}, who cannot become it; start it as root or as {user}"
            ),
            Some(user) => return Ok(user.clone()),
            None if current.uid != 0 => return Ok(current),
            None => {}
        }
        let Some(state) = state else { return Ok(Self { name: "nobody".into(), uid: NOBODY, gid: NOBODY }) };
        let folder = state.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match std::fs::metadata(folder) {
            Ok(m) if m.uid() != 0 => {
                let (uid, gid) = (m.uid(), m.gid());
                Ok(Self { gid, ..Self::of(uid).unwrap_or(Self { name: uid.to_string(), uid, gid }) })
            }
            _ => Ok(current),
        }
    }

    /// Whether this is root, who owns files even without capabilities.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Gives a file or folder to this user.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn give(&self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    /// Becomes this user, without supplementary groups, in all threads.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn become_it(&self) -> std::io::Result<()> {
        if Uid::effective().as_raw() != 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        Ok(())
    }
}

/// An error of files once a process is `user`; where that user may not reach one, with what to do about it.
pub(crate) fn explain(error: anyhow::Error, user: &str) -> anyhow::Error {
    let is_denied = |e: &std::io::Error| e.kind() == ErrorKind::PermissionDenied;
    if !error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(is_denied) {
        return error;
    }
    anyhow::anyhow!(
        "{}; the daemon becomes user {user}, who may not: open the file and its folders to that user, or write \
         another one as `user`",
        told(&error)
    )
}

/// The kernel's overflow id, which owns nothing.
const NOBODY: u32 = 65_534;

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn only_what_a_user_may_not_read_is_explained() {
        let failed = |kind: ErrorKind| {
            let error = anyhow::Error::new(std::io::Error::from(kind)).context("pki/ca.pem");
            told(&explain(error, "nobody"))
        };
        assert_eq!(failed(ErrorKind::NotFound), "pki/ca.pem: entity not found");
        let text = failed(ErrorKind::PermissionDenied);
        assert!(text.starts_with("pki/ca.pem: permission denied; the daemon becomes user nobody"), "{text}");
        let refused = Err::<(), _>(crate::exit::refused("no")).context("pki/ca.pem").unwrap_err();
        assert!(explain(refused, "nobody").downcast_ref::<crate::exit::Stop>().is_some());
    }

    #[test]
    fn users_by_name_and_by_number() {
        let root = User::named("root").unwrap();
        assert_eq!((root.uid, root.gid, root.is_root()), (0, 0, true));
        assert_eq!(User::named("0"), Some(root));
        let unlisted = User::named("987654").unwrap();
        assert_eq!((unlisted.uid, unlisted.gid), (987_654, 987_654));
        assert_eq!(User::named("no-such-user-here"), None);
        assert_eq!(User::named("-1"), None);
    }

    #[test]
    fn root_becomes_the_owner_of_the_state() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("x.sqlite");
        assert!(User::to_become(None, Some(&state)).unwrap().is_root());
        User::named("4321").unwrap().give(folder.path()).unwrap();
        assert_eq!(User::to_become(None, Some(&state)).unwrap().uid, 4_321);
        assert_eq!(User::to_become(None, None).unwrap().uid, NOBODY);
        let configured = User::named("77").unwrap();
        assert_eq!(User::to_become(Some(&configured), Some(&state)).unwrap(), configured);
    }
}

//! Landlock: the files that a running daemon reaches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

/// Newest version whose restrictions are asked for; a kernel with an older one gives what it has.
const WANTED: ABI = ABI::V6;

/// What names are resolved, clocks set and processors counted with.
const SYSTEM: [&str; 15] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/usr/lib",
    "/lib",
    "/proc/self",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/null",
    // SQLite takes its seed there.
    "/dev/urandom",
];

/// Folders that a daemon works in. Folders, since files are replaced by renaming.
#[derive(Clone, Default, Debug)]
pub(crate) struct Files {
    /// Configuration, certificates and CRLs.
    read: BTreeSet<PathBuf>,
    /// State.
    write: BTreeSet<PathBuf>,
    /// Sockets that are removed at the end.
    remove: BTreeSet<PathBuf>,
}

impl Files {
    /// Adds a file that is read, and may be replaced.
    pub(crate) fn reads(&mut self, file: &Path) {
        self.read.insert(folder(file));
    }

    /// Adds a folder whose files are read.
    pub(crate) fn reads_in(&mut self, folder: &Path) {
        self.read.insert(folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    }

    /// Adds a file that is written, and those that come beside it.
    pub(crate) fn writes(&mut self, file: &Path) {
        self.write.insert(folder(file));
    }

    /// Adds a file that is removed at the end.
    pub(crate) fn removes(&mut self, file: &Path) {
        self.remove.insert(folder(file));
    }
}

fn folder(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where a link points to another folder, a replaced file appears there.
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// Leaves this thread, and those it makes, these files alone, and no TCP port to listen on. Says how far the kernel
/// goes along.
///
/// # Errors
/// The kernel has Landlock and refuses; one without it is no error.
pub(super) fn restrict(files: &Files) -> Result<String, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(WANTED)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal)?
        .create()?;
    let system = SYSTEM.iter().map(|&path| (Path::new(path), read));
    let own = files.read.iter().map(|path| (path.as_path(), read));
    let state = files.write.iter().map(|path| (path.as_path(), write));
    let sockets = files.remove.iter().map(|path| (path.as_path(), BitFlags::from(AccessFs::RemoveFile)));
    for (path, access) in system.chain(own).chain(state).chain(sockets) {
        // What is not there needs no right.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = if path.is_file() { access & AccessFs::from_file(WANTED) } else { access };
        rules = rules.add_rule(PathBeneath::new(fd, access))?;
    }
    let status = rules.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial: the kernel knows an older version of it",
        RulesetStatus::NotEnforced => "none: the kernel has no Landlock",
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stand_for_files_that_are_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, temp.path().join("link")).unwrap();
        let mut files = Files::default();
        files.reads(&temp.path().join("link/ca.pem"));
        files.writes(&real.join("state.sqlite"));
        files.reads(Path::new("here.toml"));
        let real = real.canonicalize().unwrap();
        assert!(files.read.contains(&real) && files.write.contains(&real), "{files:?}");
        assert!(files.read.contains(&std::env::current_dir().unwrap()), "{files:?}");
    }

    #[test]
    fn a_restricted_thread_reaches_what_it_was_left_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["state", "config", "other"] {
            std::fs::create_dir(temp.path().join(folder)).unwrap();
            std::fs::write(temp.path().join(folder).join("x"), "x").unwrap();
        }
        let at = |name: &str| temp.path().join(name);
        let mut files = Files::default();
        files.reads(&at("config/x"));
        files.writes(&at("state/x"));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // As far as this thread goes: it ends with the test.
                rustix::thread::set_no_new_privs(true).unwrap();
                let how = restrict(&files).unwrap();
                if how != "full" {
                    return eprintln!("skipped: Landlock {how}");
                }
                assert!(std::fs::read(at("config/x")).is_ok());
                assert!(std::fs::write(at("config/x"), "y").is_err());
                assert!(std::fs::write(at("state/new"), "y").is_ok());
                assert!(std::fs::rename(at("state/new"), at("state/x")).is_ok());
                assert!(std::fs::read(at("other/x")).is_err());
                assert!(
                    std::fs::File::open("/dev/urandom").is_ok() && std::fs::File::open("/etc/hosts").is_ok()
                );
                assert!(std::fs::File::open("/etc/passwd").is_err());
                assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
                assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
            });
            thread.join().unwrap();
        });
    }
}

//! Rights are given up once the sockets are open: another user, no capabilities, few system calls, few files.
//!
//! ```text
//! root -> bounding set emptied -> user -> capabilities -> Landlock (files) -> seccomp (calls) -> proof by trying
//! ```
//! Everything is per thread or handed to threads made later, so it happens while there is one thread only.

mod calls;
mod files;
mod user;

use std::io;

use anyhow::{Context, bail};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

pub(crate) use self::files::Files;
pub(crate) use self::user::{User, explain};
use super::status::PrivilegesStatus;

/// Gives up everything but what a running daemon needs, for good, and proves it by trying what must be refused.
///
/// The interface may go down and come up afterwards; one that is removed and made anew takes a restart, since its
/// sockets could not be opened again.
///
/// # Errors
/// The system says no, or lets something pass that it must refuse.
pub(crate) fn give_up(user: User, files: &Files) -> anyhow::Result<PrivilegesStatus> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        bail!("rights are given up with {threads} threads running: those there before would keep theirs");
    }
    set_no_new_privs(true).context("no new rights")?;
    // Keys stay out of core dumps and out of reach of other processes of this user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("no core dumps")?;
    empty_bounding_set();
    user.become_it().with_context(|| format!("becoming user {user}"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .context("giving up capabilities")?;
    let landlock = files::restrict(files).context("Landlock")?;
    calls::restrict().context("seccomp")?;

    let held = capabilities(None)?.permitted.bits().count_ones();
    if held != 0 {
        bail!("{held} capabilities are still held");
    }
    let refused = proofs()?;
    Ok(PrivilegesStatus {
        user: user.to_string(),
        capabilities: held,
        no_new_privileges: true,
        seccomp: true,
        landlock,
        refused,
    })
}

/// What an exec could get back. Without CAP_SETPCAP it is somebody else's to empty, and `no_new_privs` covers it.
fn empty_bounding_set() {
    for capability in CapabilitySet::all() {
        let _ = remove_capability_from_bounding_set(capability);
    }
}

/// Tries what must be refused. Says what was.
fn proofs() -> anyhow::Result<Vec<String>> {
    let mut refused = Vec::new();
    let program = std::process::Command::new("/bin/true").status();
    let new_root = rustix::process::chroot("/").map_err(io::Error::from);
    let packets = rustix::net::socket(rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW, None)
        .map_err(io::Error::from);
    let must = [
        ("starting a program", program.err()),
        ("changing the root folder", new_root.err()),
        ("another packet socket", packets.err()),
    ];
    for (what, error) in must {
        match error.map(|e| e.kind()) {
            Some(io::ErrorKind::PermissionDenied) => refused.push(what.to_owned()),
            _ => bail!("{what} is not refused although rights were given up"),
        }
    }
    // Without Landlock it is only the file's mode that stands in the way.
    match std::fs::File::open("/etc/shadow") {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused.push("reading /etc/shadow".into()),
        Err(_) => {}
        Ok(_) => tracing::warn!("/etc/shadow can be read: write `user`, or use a kernel with Landlock"),
    }
    Ok(refused)
}

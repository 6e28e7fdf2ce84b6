//! Rights are given up once the sockets are open.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// Gives up every capability of this thread and of those it makes from now on, for good. Says what was done.
///
/// The interface may go down and come up afterwards; one that is removed and made anew takes a restart, since its
/// sockets could not be opened again.
///
/// # Errors
/// The system says no.
pub(crate) fn give_up() -> rustix::io::Result<String> {
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    let held = capabilities(None)?;
    Ok(format!("capabilities held: {}; no new ones", held.effective.bits().count_ones()))
}

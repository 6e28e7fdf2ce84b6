//! Network namespaces for tests and benches: made, wired by veth pairs, and removed again. Needs root and `ip`.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace of its own, removed with everything in it when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one with its loopback up.
    ///
    /// # Errors
    /// Why there can be none: most often that this is not root.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pc5-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let it = Self { name };
        it.ip("link set lo up")?;
        Ok(it)
    }

    /// As [`Self::new`], or `None` with the reason printed: for tests that are skipped elsewhere.
    pub fn or_skip(test: &str) -> Option<Self> {
        Self::new().map_err(|why| eprintln!("{test} skipped: no network namespace: {why}")).ok()
    }

    /// Name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it with these arguments, separated by blanks.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, arguments: &str) -> Result<(), String> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        ip(&all)
    }

    /// A veth pair, up: `here` in this namespace, `there` in the other one.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn wire(&self, here: &str, other: &Self, there: &str) -> Result<(), String> {
        self.ip(&format!("link add name {here} type veth peer name {there} netns {}", other.name))?;
        self.ip(&format!("link set {here} up"))?;
        other.ip(&format!("link set {there} up"))?;
        self.await_carrier(here)?;
        other.await_carrier(there)
    }

    /// The system notices a carrier a moment after both ends are up, and drops what is queued before.
    fn await_carrier(&self, interface: &str) -> Result<(), String> {
        for _ in 0..400 {
            let shown = output(&["-n", &self.name, "-o", "link", "show", "dev", interface])?;
            if shown.contains("state UP") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{interface} in {}: no carrier", self.name))
    }

    /// Moves the calling thread into it for good.
    ///
    /// # Errors
    /// What the system says.
    pub fn enter(&self) -> Result<(), String> {
        let at = format!("/var/run/netns/{}", self.name);
        let file = File::open(&at).map_err(|e| format!("{at}: {e}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| format!("{at}: {e}"))
    }

    /// Runs `work` in it, on a thread of its own.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the work panicked.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().map_err(|_| "panicked inside the namespace".to_owned())?
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: nobody is left to tell.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    output(arguments).map(|_| ())
}

fn output(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output().map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
}

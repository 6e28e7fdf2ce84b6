//! What the kernel drops on an interface before any socket sees it: its queue of received frames is full
//! (`net.core.netdev_max_backlog`), which is where frames wait that are steered to another processor.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Counter of an interface's drops, read from a file that stays open: it takes no right that is given up later.
pub(super) struct Backlog {
    statistics: File,
    name: String,
    /// What it says, kept so that reading allocates nothing.
    text: Vec<u8>,
    /// At the last reading.
    last: u64,
}

impl Backlog {
    /// Of an interface of the calling thread's network namespace; `None` where the system does not tell.
    pub(super) fn new(name: &str) -> Option<Self> {
        let statistics = File::open("/proc/thread-self/net/dev").ok()?;
        let mut it = Self { statistics, name: name.to_owned(), text: Vec::new(), last: 0 };
        it.last = it.now()?;
        Some(it)
    }

    /// Frames dropped since the last call. Those of protocols that nobody here takes are among them.
    pub(super) fn take_drops(&mut self) -> u64 {
        let Some(now) = self.now() else { return 0 };
        since(std::mem::replace(&mut self.last, now), now)
    }

    /// Reads the file from its beginning, as it is now.
    fn now(&mut self) -> Option<u64> {
        self.text.clear();
        let mut part = [0; 4_096];
        while self.text.len() < LONGEST {
            match self.statistics.read_at(&mut part, self.text.len() as u64).ok()? {
                0 => break,
                n => self.text.extend_from_slice(&part[..n]),
            }
        }
        dropped(std::str::from_utf8(&self.text).ok()?, &self.name)
    }
}

/// An interface made anew counts from zero.
fn since(last: u64, now: u64) -> u64 {
    now.checked_sub(last).unwrap_or(now)
}

/// `name: octets frames errors dropped ...`
fn dropped(all: &str, name: &str) -> Option<u64> {
    let line = all.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Some thousand interfaces.
const LONGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_found_by_its_whole_name() {
        let all = "Inter-|   Receive\n face |bytes packets errs drop fifo\n  eth0: 1 2 3 4 5 6\n    lo:7 8 9 10 11\neth:1 1 1 12 1";
        assert_eq!(["eth0", "lo", "eth"].map(|name| dropped(all, name)), [Some(4), Some(10), Some(12)]);
        assert_eq!(["th0", "eth01", ""].map(|name| dropped(all, name)), [None; 3]);
    }

    #[test]
    fn only_what_is_new_counts() {
        assert_eq!([since(3, 5), since(5, 5), since(9, 4)], [2, 0, 4]);
        assert!(Backlog::new("no-such-0").is_none());
    }
}

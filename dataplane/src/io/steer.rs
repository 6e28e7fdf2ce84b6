//! Receive packet steering: which processors do the kernel's work of receiving.
//!
//! ```text
//! off     interrupt (veth: the sender's system call) -> protocol layers, filters, rings      one processor does all
//! set     interrupt (veth: the sender's system call) -> queue of a processor -> the rest     that processor does it
//! ```
//! It is the system's setting of an interface's receive queue (`rps_cpus`), not of a socket. An interface with one queue has
//! nothing else that spreads its work; on veth the sender would do all of it, in each of its calls. To the kernel's hash all
//! frames of our EtherType are one flow, so one processor gets them all, in order.
//!
//! What somebody else has set stays. What is set here is put back when [`Steering`] is dropped, if rights allow it then.

use std::fmt;
use std::fs::{File, OpenOptions, read_dir, read_to_string};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{CpuSet, sched_getaffinity};
use socket2::{Domain, Socket, Type};

use super::Interface;
use crate::raw::sys;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Steer {
    /// To a processor that no worker is pinned to, where the interface has one receive queue and nobody has set anything.
    #[default]
    Auto,
    /// Nothing is touched.
    Off,
    /// To all processors that this process may run on; every receive queue that nobody has set.
    All,
    /// To these processors; every receive queue that nobody has set.
    To(Vec<usize>),
}

/// Text that is no [`Steer`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("found '{0}' where auto, off, all or processors as 2-3,6 were wanted")]
pub struct UnknownSteer(String);

impl FromStr for Steer {
    type Err = UnknownSteer;

    fn from_str(s: &str) -> Result<Self, UnknownSteer> {
        let list = || {
            let mut cpus = Vec::new();
            for part in s.split(',') {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n < CpuSet::MAX_CPU);
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                cpus.extend(first..=last);
            }
            cpus.sort_unstable();
            cpus.dedup();
            Some(cpus)
        };
        match s {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "all" => Ok(Self::All),
            _ => list().map(Self::To).ok_or_else(|| UnknownSteer(s.to_owned())),
        }
    }
}

/// How it stands with an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// As configured.
    Off,
    /// Nothing was changed, for this reason.
    Left(String),
    /// These processors do the work.
    To(Vec<usize>),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off, as configured"),
            Self::Left(why) => write!(f, "left alone: {why}"),
            Self::To(cpus) => write!(f, "to {} (rps_cpus {})", processors_text(cpus), mask(cpus)),
        }
    }
}

/// What was set on an interface; dropping it puts it back.
pub struct Steering {
    standing: Standing,
    /// Queues' settings that were empty before, and what they were set to.
    set: Vec<(File, String)>,
}

impl Steering {
    /// Nothing set, for ways without an interface.
    pub fn none(standing: Standing) -> Self {
        Self { standing, set: Vec::new() }
    }

    /// Sets what is asked for on an interface of the calling thread's network namespace. `workers` are those that the
    /// processors of this thread are given to, in order, one each where there are several.
    pub fn set(interface: &Interface, steer: &Steer, workers: usize) -> Self {
        match Plan::new(interface, steer, workers).and_then(Plan::carry_out) {
            Ok(it) => it,
            Err(standing) => Self::none(standing),
        }
    }

    /// What [`Self::set`] would come to; nothing is changed.
    pub fn foresee(interface: &Interface, steer: &Steer, workers: usize) -> Standing {
        Plan::new(interface, steer, workers).map_or_else(|standing| standing, |plan| Standing::To(plan.to))
    }

    /// How it stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Puts back what was set, unless somebody has set something else since.
    ///
    /// # Errors
    /// The system says no: CAP_NET_ADMIN was given up.
    pub fn put_back(&mut self) -> io::Result<()> {
        for (file, ours) in self.set.drain(..) {
            let mut now = [0; MASK_OCTETS];
            let n = file.read_at(&mut now, 0)?;
            if same_mask(&String::from_utf8_lossy(&now[..n]), &ours) {
                file.write_at(b"0\n", 0)?;
            }
        }
        Ok(())
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        // Best effort: who wants to know calls `put_back`.
        let _ = self.put_back();
    }
}

/// What is to be set: everything that speaks against it has been looked at.
struct Plan {
    to: Vec<usize>,
    queues: Vec<PathBuf>,
    /// What the paths lead through.
    _root: Root,
}

impl Plan {
    fn new(interface: &Interface, steer: &Steer, workers: usize) -> Result<Self, Standing> {
        let left = |why: String| Err(Standing::Left(why));
        if *steer == Steer::Off {
            return Err(Standing::Off);
        }
        let here = processors();
        let name = &interface.name;
        if *steer == Steer::Auto && here.len() < 2 {
            return left("there is one processor".to_owned());
        }
        let root = Root::of(interface).map_err(Standing::Left)?;
        let queues = root.queues(name).map_err(|e| Standing::Left(format!("queues of {name}: {e}")))?;
        let to = match steer {
            Steer::Auto if queues.len() != 1 => {
                return left(format!(
                    "{name} has {} receive queues, whose interrupts spread the work; `steer` can name processors",
                    queues.len()
                ));
            }
            Steer::Auto if workers.max(1) >= here.len() => {
                return left(
                    "every processor has a worker of its own; `steer` can name those that do this as well"
                        .to_owned(),
                );
            }
            // Workers have the first ones, and so have most interrupts.
            Steer::Auto => here.last().copied().into_iter().collect(),
            Steer::All => here,
            Steer::To(cpus) => cpus.clone(),
            Steer::Off => Vec::new(),
        };
        let mut free = Vec::new();
        for queue in queues {
            match read_to_string(&queue) {
                Ok(now) if is_empty(&now) => free.push(queue),
                Ok(now) => {
                    if free.is_empty() && *steer == Steer::Auto {
                        return left(format!("rps_cpus of {name} is {} already", now.trim()));
                    }
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    return left("this kernel has no receive packet steering".to_owned());
                }
                Err(e) => return left(format!("rps_cpus of {name}: {e}")),
            }
        }
        if free.is_empty() {
            return left(format!("every rps_cpus of {name} is set already"));
        }
        Ok(Self { to, queues: free, _root: root })
    }

    fn carry_out(self) -> Result<Steering, Standing> {
        let mask = mask(&self.to);
        let mut steering = Steering { standing: Standing::To(self.to), set: Vec::new() };
        for queue in &self.queues {
            let write = || {
                let mut file = OpenOptions::new().read(true).write(true).open(queue)?;
                file.write_all(format!("{mask}\n").as_bytes())?;
                Ok::<_, io::Error>(file)
            };
            match write() {
                Ok(file) => steering.set.push((file, mask.clone())),
                // Dropping puts back what was set on other queues.
                Err(e) => return Err(Standing::Left(refusal(&e, queue, &mask))),
            }
        }
        Ok(steering)
    }
}

/// Where the interfaces of this thread's network namespace are seen.
struct Root {
    path: PathBuf,
    /// A mount that is nowhere in the file tree, which the path leads through.
    _mount: Option<OwnedFd>,
}

impl Root {
    /// `/sys`, if it is that of this namespace; else one of our own, which takes CAP_SYS_ADMIN.
    fn of(interface: &Interface) -> Result<Self, String> {
        let usual = Self { path: PathBuf::from("/sys"), _mount: None };
        if usual.shows(interface) {
            return Ok(usual);
        }
        let own = || {
            let fs = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(fs.as_fd())?;
            fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let name = &interface.name;
        let mount = own().map_err(|e| {
            format!("/sys is that of another network namespace and does not show {name}: {e}")
        })?;
        let own =
            Self { path: PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())), _mount: Some(mount) };
        if own.shows(interface) { Ok(own) } else { Err(format!("{name} is not in /sys")) }
    }

    fn interface(&self, name: &str) -> PathBuf {
        self.path.join("class/net").join(name)
    }

    /// Whether it is this very interface, not one of the same name in another namespace.
    fn shows(&self, interface: &Interface) -> bool {
        let folder = self.interface(&interface.name);
        let says = |file: &str| read_to_string(folder.join(file)).map(|s| s.trim().to_owned());
        let address = || {
            let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
            let octets = sys::interface_address(socket.as_fd(), &interface.name)?;
            Ok::<_, io::Error>(octets.map(|octet| format!("{octet:02x}")).join(":"))
        };
        says("ifindex").is_ok_and(|index| index == interface.index.to_string())
            && matches!((says("address"), address()), (Ok(there), Ok(here)) if there == here)
    }

    fn queues(&self, name: &str) -> io::Result<Vec<PathBuf>> {
        let mut queues = Vec::new();
        for entry in read_dir(self.interface(name).join("queues"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("rx-") {
                queues.push(entry.path().join("rps_cpus"));
            }
        }
        queues.sort();
        Ok(queues)
    }
}

fn refusal(e: &io::Error, queue: &Path, mask: &str) -> String {
    let tail = queue.components().rev().take(4).collect::<Vec<_>>();
    let path = tail.iter().rev().collect::<PathBuf>();
    format!("{e}; as root: echo {mask} > /sys/class/net/{}", path.display())
}

/// Processors that this thread may run on.
fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

fn processors_text(cpus: &[usize]) -> String {
    let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    format!("processor{} {list}", if cpus.len() == 1 { "" } else { "s" })
}

/// As the kernel writes sets of processors: words of 32 bits in hexadecimal digits, the highest first.
fn mask(cpus: &[usize]) -> String {
    let words = cpus.iter().max().map_or(1, |most| most / 32 + 1);
    let word =
        |at: usize| cpus.iter().filter(|&&cpu| cpu / 32 == at).fold(0u32, |w, cpu| w | 1 << (cpu % 32));
    let mut text = format!("{:x}", word(words - 1));
    (0..words - 1).rev().for_each(|at| text.push_str(&format!(",{:08x}", word(at))));
    text
}

fn is_empty(mask: &str) -> bool {
    mask.chars().all(|c| matches!(c, '0' | ',') || c.is_whitespace())
}

/// The kernel writes leading zeros.
fn same_mask(a: &str, b: &str) -> bool {
    let digits = |s: &str| s.chars().filter(char::is_ascii_hexdigit).collect::<String>();
    digits(a).trim_start_matches('0') == digits(b).trim_start_matches('0')
}

/// Room for a set of 8,192 processors.
const MASK_OCTETS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_written() {
        assert_eq!("auto".parse(), Ok(Steer::Auto));
        assert_eq!("off".parse(), Ok(Steer::Off));
        assert_eq!("all".parse(), Ok(Steer::All));
        assert_eq!("5,2-3, 3".parse(), Ok(Steer::To(vec![2, 3, 5])));
        for wrong in ["", "on", "3-2", "1,", "-1", "0x3", "1-99999999999"] {
            assert_eq!(wrong.parse::<Steer>(), Err(UnknownSteer(wrong.to_owned())));
        }
    }

    #[test]
    fn sets_are_written_as_the_kernel_does() {
        assert_eq!(mask(&[1]), "2");
        assert_eq!(mask(&[0, 4, 31]), "80000011");
        assert_eq!(mask(&[2, 33]), "2,00000004");
        assert_eq!(mask(&[64]), "1,00000000,00000000");
        assert_eq!(mask(&[]), "0");
        assert!(same_mask("00000002,00000004\n", &mask(&[2, 33])) && !same_mask("00000006", "2"));
        assert!(is_empty("00000000,00000000\n") && is_empty("0") && !is_empty("00000000,00000010"));
    }

    #[test]
    fn what_stands_is_said() {
        let interface = Interface { name: "no-such-0".into(), index: 9_999, mtu: 1_500 };
        assert_eq!(Steering::foresee(&interface, &Steer::Off, 1).to_string(), "off, as configured");
        assert_eq!(Standing::To(vec![1]).to_string(), "to processor 1 (rps_cpus 2)");
        assert_eq!(Standing::To(vec![0, 1]).to_string(), "to processors 0, 1 (rps_cpus 3)");
        let Standing::Left(why) = Steering::foresee(&interface, &Steer::All, 1) else { panic!() };
        assert!(why.contains("no-such-0"), "{why}");
        let refused = refusal(
            &ErrorKind::PermissionDenied.into(),
            Path::new("/proc/self/fd/7/class/net/eth0/queues/rx-0/rps_cpus"),
            "2",
        );
        assert!(refused.ends_with("echo 2 > /sys/class/net/eth0/queues/rx-0/rps_cpus"), "{refused}");
    }
}

//! Data workers: how many there can be, which processor each has, and who does what.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::warn;

use super::config::{Config, Station};

/// Why there cannot be so many workers: one without input would do nothing but cost.
///
/// # Errors
/// What to write instead.
pub(crate) fn check(workers: usize, station: &Station) -> Result<(), String> {
    match station {
        Station::Ue(_) if workers > 1 => {
            return Err(
                "a UE has one link, and one sender does not scale past a processor: the others would \
                        have no input; write 1 or leave it out"
                    .into(),
            );
        }
        Station::Ue(_) => {}
        Station::Owner(owner) => {
            let members: usize = owner.groups.iter().map(|g| g.max_members).sum();
            if workers > members {
                return Err(format!(
                    "there are at most {members} members, and each has one worker: the others would have no input; \
                     write {members} or less"
                ));
            }
        }
    }
    let processors = processors().len();
    if workers > processors {
        return Err(format!(
            "{processors} processors are here, and each worker wants its own; write that or less"
        ));
    }
    Ok(())
}

/// Processors that this process may run on.
fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Pins the calling worker to a processor of its own. A worker that is alone goes where the system wants it.
pub(crate) fn pin(worker: usize, config: &Config) -> Option<usize> {
    if config.workers < 2 {
        return None;
    }
    let processor = *processors().get(worker)?;
    let mut set = CpuSet::new();
    set.set(processor);
    match sched_setaffinity(None, &set) {
        Ok(()) => Some(processor),
        Err(e) => {
            warn!(worker, processor, "not pinned: {e}");
            None
        }
    }
}

//! Admission of jobs: what a kernel may assume of a run.

use crate::cipher::Job;

/// Jobs that a kernel takes at a time; longer runs are cut.
pub(super) const CHUNK: usize = 64;

/// Panics unless the job's data and MAC field lie inside the arena, its header has room before and its key exists.
///
/// After it, `start..start + len + mac_len` may be addressed in an arena of `arena_len` octets, and `key` indexes `keys` places.
#[inline(always)]
pub(super) fn check(job: &Job, arena_len: usize, mac_len: usize, keys: usize) {
    let end = job.start as usize + job.len as usize + mac_len;
    if (job.start as usize) < Job::HEADER_LEN || end > arena_len || job.key.0 as usize >= keys {
        refuse(job, arena_len, keys);
    }
}

#[cold]
#[inline(never)]
fn refuse(job: &Job, arena_len: usize, keys: usize) -> ! {
    panic!(
        "job of {} octets at {} with key {} does not fit an arena of {arena_len} octets and {keys} keys",
        job.len, job.start, job.key.0
    );
}

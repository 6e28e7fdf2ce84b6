use crate::batch::Batch;
use crate::context::Ciphers;

/// Verifies and deciphers the jobs of every suite, a run at a time, and notes in each slot what came of it.
pub(crate) fn open(batch: &mut Batch, ciphers: &Ciphers) {
    let (memory, slots, jobs) = batch.memory_mut();
    for (suite, run) in jobs.iter_mut().enumerate() {
        if run.is_empty() {
            continue;
        }
        if let Some(cipher) = ciphers.get(suite) {
            cipher.open(memory, run);
        }
        for job in run.drain(..) {
            slots[job.slot as usize].verified = job.verified;
        }
    }
}

use crate::batch::Batch;
use crate::context::Ciphers;

/// Verifies and deciphers the jobs of every suite, a run at a time, and notes in each slot what came of it.
pub(crate) fn open(batch: &mut Batch, ciphers: &Ciphers) {
    let (memory, slots, runs) = batch.memory_mut();
    runs.finish(|suite, run| {
        if let Some(cipher) = ciphers.get(suite as usize) {
            cipher.open(memory, run);
        }
        for job in run {
            slots[job.slot as usize].verified = job.verified;
        }
    });
}

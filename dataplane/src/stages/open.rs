use crate::batch::Batch;
use crate::context::Ciphers;

/// Verifies and deciphers the jobs of every suite, a run at a time, and notes in each slot what came of it; settling asks the jobs of the
/// straight ones itself.
pub(crate) fn open(batch: &mut Batch, ciphers: &Ciphers) {
    let (memory, slots, runs) = batch.memory_mut();
    // They begin the first run, if there are any.
    let mut straight = runs.straight().len();
    runs.finish(|suite, run| {
        if let Some(cipher) = ciphers.get(suite as usize) {
            cipher.open(memory, run);
        }
        for job in run.get(std::mem::take(&mut straight)..).unwrap_or_default() {
            slots[job.slot as usize].verified = job.verified;
        }
    });
}

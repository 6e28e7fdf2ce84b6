use crate::batch::Batch;
use crate::context::Ciphers;

/// Enciphers the jobs of every suite, a run at a time, and writes their MAC fields.
pub(crate) fn seal(batch: &mut Batch, ciphers: &Ciphers) {
    let (memory, _, jobs) = batch.memory_mut();
    for (suite, run) in jobs.iter_mut().enumerate() {
        if run.is_empty() {
            continue;
        }
        if let Some(cipher) = ciphers.get(suite) {
            cipher.seal(memory, run);
        }
        run.clear();
    }
}

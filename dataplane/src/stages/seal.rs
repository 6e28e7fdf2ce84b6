use crate::batch::Batch;
use crate::context::Ciphers;

/// Enciphers the jobs of every suite, a run at a time, and writes their MAC fields.
pub(crate) fn seal(batch: &mut Batch, ciphers: &Ciphers) {
    let (memory, _, runs) = batch.memory_mut();
    runs.finish(|suite, run| {
        if let Some(cipher) = ciphers.get(suite as usize) {
            cipher.seal(memory, run);
        }
    });
}

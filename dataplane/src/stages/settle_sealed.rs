use crate::batch::Batch;
use crate::verdict::{Counters, Verdict};

/// Counts what was sealed and what was refused.
pub(crate) fn settle_sealed(batch: &mut Batch, counters: &mut Counters) {
    for slot in batch.slots_mut().iter_mut().filter(|s| s.in_hand) {
        if slot.verdict == Verdict::Pending {
            slot.verdict = Verdict::Accepted;
        }
        counters.count(slot.verdict);
    }
}

use crate::batch::Batch;
use crate::verdict::{Counters, Verdict};

/// Counts what was sealed and what was refused.
pub(crate) fn settle_sealed(batch: &mut Batch, counters: &mut Counters) {
    let mut accepted = 0;
    for slot in batch.slots_mut().iter_mut().filter(|s| s.in_hand) {
        if matches!(slot.verdict, Verdict::Pending | Verdict::Accepted) {
            slot.verdict = Verdict::Accepted;
            accepted += 1;
        } else {
            counters.count(slot.verdict);
        }
    }
    counters.count_many(Verdict::Accepted, accepted);
}

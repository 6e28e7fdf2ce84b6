use bytes::Bytes;

use crate::batch::{Batch, Slot};
use crate::context::Ciphers;
use crate::ids::KdSessId;
use crate::keys::{Event, Signalling};
use crate::pdu::Destination;
use crate::receive::Receivers;
use crate::verdict::{Counters, Verdict};

/// Decides the opened frames of `from..to` in order of arrival, commits what verified ones change, counts all, and hands
/// PC5-S to control.
pub(crate) fn settle_opened(
    batch: &mut Batch,
    from: usize,
    to: usize,
    receivers: &mut Receivers,
    ciphers: &mut Ciphers,
    counters: &mut Counters,
    events: &mut Vec<Event>,
) {
    let (memory, slots, _) = batch.memory_mut();
    let mut accepted = 0;
    for slot in slots[from..to].iter_mut().filter(|s| s.in_hand) {
        if slot.verdict == Verdict::Pending {
            slot.verdict = if receivers.settle_usual(slot.context, slot.sn, slot.verified) {
                Verdict::Accepted
            } else {
                receivers.settle(slot.context, slot.sn, slot.verified, ciphers, events)
            };
        }
        if slot.verdict != Verdict::Accepted {
            counters.count(slot.verdict);
            continue;
        }
        accepted += 1;
        if !slot.lcid.is_user() {
            events.push(Event::Signalling(signalling(slot, memory)));
        }
    }
    counters.count_many(Verdict::Accepted, accepted);
    if receivers.has_buried() {
        receivers.bury(ciphers);
    }
}

fn signalling(slot: &Slot, memory: &[u8]) -> Signalling {
    let sdu = Bytes::copy_from_slice(&memory[slot.start as usize..][..slot.len as usize]);
    let (local, group) = match slot.address.destination() {
        Destination::Ue(local) => (Some(local), None),
        Destination::Group(group) => (None, Some(group)),
    };
    let under = KdSessId::new(slot.key_id);
    Signalling { local, group, source: slot.address.source(), lcid: slot.lcid, under, sdu }
}

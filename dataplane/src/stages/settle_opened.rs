use std::ops::Range;

use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use crate::batch::{Batch, Slot};
use crate::context::Ciphers;
use crate::ids::{KdSessId, Lcid};
use crate::keys::{Event, Signalling};
use crate::pdu::Destination;
use crate::receive::Receivers;
use crate::stages::quickly;
use crate::verdict::{Counters, Verdict};

/// Decides the opened frames of (a part of) a burst in order of arrival, commits what verified ones change, counts all, and hands
/// PC5-S to control.
pub(crate) fn settle_opened(
    batch: &mut Batch,
    burst: Range<usize>,
    receivers: &mut Receivers,
    ciphers: &mut Ciphers,
    counters: &mut Counters,
    events: &mut Vec<Event>,
) {
    let (memory, slots, runs) = batch.memory_mut();
    let Range { start: mut at, end: to } = burst;
    let (wide, straight) = (runs.wide, runs.straight());
    let settled = quickly!(wide, receivers.settle_straight(&mut slots[at..to], straight));
    at += settled;
    let mut accepted = settled as u64;
    for (slot, job) in slots[at..to].iter_mut().zip(&straight[settled..]) {
        slot.verified = job.verified;
    }
    while at < to {
        let (through, usual) = quickly!(wide, receivers.settle_usual(&mut slots[at..to]));
        at += through;
        accepted += usual;
        let Some(slot) = slots[..to].get_mut(at) else { break };
        // In hand, or it had been come through.
        if slot.verdict == Verdict::Pending {
            slot.verdict = receivers.settle(slot.context, slot.sn(), slot.verified, ciphers, events);
        }
        counters.count(slot.verdict);
        if slot.verdict == Verdict::Accepted && !slot.lcid.is_user() {
            events.push(Event::Signalling(take_signalling(slot, memory)));
        }
        at += 1;
    }
    counters.count_many(Verdict::Accepted, accepted);
    if receivers.has_buried() {
        receivers.bury(ciphers);
    }
}

/// Takes a PC5-S message out of the batch. GROUP_KEY_UPDATE carries group keys in clear under the link's protection: what was
/// ciphered on the way is wiped here, and where it goes once its last copy is dropped.
fn take_signalling(slot: &Slot, memory: &mut [u8]) -> Signalling {
    let opened = &mut memory[slot.start as usize..][..slot.len as usize];
    let sdu = if slot.lcid == Lcid::CLEAR {
        Bytes::copy_from_slice(opened)
    } else {
        let sdu = Bytes::from_owner(Zeroizing::new(opened.to_vec()));
        opened.zeroize();
        sdu
    };
    let (local, group) = match slot.address.destination() {
        Destination::Ue(local) => (Some(local), None),
        Destination::Group(group) => (None, Some(group)),
    };
    let under = KdSessId::new(slot.under());
    Signalling { local, group, source: slot.address.source(), lcid: slot.lcid, under, sdu }
}

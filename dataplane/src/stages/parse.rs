use std::ops::Range;

use crate::batch::{Batch, Slot};
use crate::context::ReceiveKey;
use crate::pdu::{self, Header, spec};
use crate::raw::prefetch;
use crate::receive::Receivers;
use crate::verdict::Verdict;

/// Reads the headers of every received frame of a burst into its slot, or decides it; asks for what its context is found by.
pub(crate) fn parse(batch: &mut Batch, burst: Range<usize>, receivers: &Receivers) {
    let (memory, slots, _) = batch.memory_mut();
    let Some(slots) = slots.get_mut(burst) else { return };
    for slot in slots.iter() {
        prefetch::near(memory, slot.start as usize - spec::HEADER_LEN);
    }
    let mut at = 0;
    loop {
        at += parse_usual(&mut slots[at..], memory, receivers);
        let Some(slot) = slots.get_mut(at) else { return };
        // In hand, or it had been come through.
        match pdu::parse(received(slot, memory)) {
            Ok(header) => take(slot, &header, receivers),
            Err(verdict) => slot.verdict = verdict,
        }
        at += 1;
    }
}

/// Reads the headers of usual frames: untagged, user data, nothing wrong. Returns how many slots it has come through: all, or
/// those before a frame that is something else.
// A function of its own that calls nothing, so that what the loop needs stays in registers.
#[inline(never)]
fn parse_usual(slots: &mut [Slot], memory: &[u8], receivers: &Receivers) -> usize {
    for (n, slot) in slots.iter_mut().enumerate() {
        slot.in_hand = slot.verdict == Verdict::Pending;
        if slot.in_hand {
            match pdu::parse_user_data(received(slot, memory)) {
                Some(header) => take(slot, &header, receivers),
                None => return n,
            }
        }
    }
    slots.len()
}

#[inline(always)]
fn received<'a>(slot: &Slot, memory: &'a [u8]) -> &'a [u8] {
    let from = slot.start as usize - spec::HEADER_LEN;
    &memory[from..from + slot.len as usize]
}

#[inline(always)]
fn take(slot: &mut Slot, header: &Header, receivers: &Receivers) {
    let tag = header.tag_len as u32;
    slot.start += tag;
    // Data and MAC field; lookup takes the MAC field off once it knows the suite.
    slot.len = header.end - spec::HEADER_LEN as u32 - tag;
    slot.address = header.address;
    slot.lcid = header.lcid;
    slot.sdu_type = header.sdu_type;
    slot.index = header.index;
    slot.key_id = header.key_id;
    slot.sn = header.sn;
    slot.lcid_and_sl = header.lcid_and_sl;
    slot.pdcp = header.pdcp;
    slot.hash = receivers.expect(ReceiveKey::from_header(header.address, header.pdcp));
}

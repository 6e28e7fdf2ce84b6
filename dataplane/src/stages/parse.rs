use crate::batch::{BURST, Batch};
use crate::context::ReceiveKey;
use crate::pdu::{self, spec};
use crate::raw::prefetch;
use crate::receive::Receivers;
use crate::verdict::Verdict;

/// Reads the headers of every received frame into its slot, or decides it; asks for what its context is found by.
pub(crate) fn parse(batch: &mut Batch, receivers: &Receivers) {
    let (memory, slots, _) = batch.memory_mut();
    for burst in slots.chunks_mut(BURST) {
        for slot in burst.iter() {
            prefetch::near(memory, slot.start as usize - spec::HEADER_LEN);
        }
        for slot in burst {
            slot.in_hand = slot.verdict == Verdict::Pending;
            if !slot.in_hand {
                continue;
            }
            let from = slot.start as usize - spec::HEADER_LEN;
            match pdu::parse(&memory[from..from + slot.len as usize]) {
                Ok(header) => {
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
                    slot.hash = receivers.expect(ReceiveKey::of(slot));
                }
                Err(verdict) => slot.verdict = verdict,
            }
        }
    }
}

use std::ops::Range;

use crate::batch::{Batch, Slot};
use crate::context::TableView;
use crate::pdu::{self, Header, UserData, spec};
use crate::raw::cpu::Avx512;
use crate::raw::prefetch;
use crate::receive::Receivers;
use crate::stages::{apart, quickly};
use crate::verdict::Verdict;

/// Reads the headers of every received frame of a burst into its slot, or decides it; then foresees the context of each, once.
pub(crate) fn parse(batch: &mut Batch, burst: Range<usize>, receivers: &Receivers) {
    let (memory, slots, runs) = batch.memory_mut();
    let Some(slots) = slots.get_mut(burst) else { return };
    for slot in slots.iter() {
        prefetch::near(memory, slot.start as usize - spec::HEADER_LEN);
    }
    let mut at = 0;
    loop {
        at += parse_usual(&mut slots[at..], memory, receivers, runs.wide);
        let Some(slot) = slots.get_mut(at) else { break };
        // In hand, or it had been come through.
        match pdu::parse(received(slot, memory)) {
            Ok(header) => take(slot, &header, receivers),
            Err(verdict) => slot.verdict = verdict,
        }
        at += 1;
    }
    // Parsing has asked for the table; this asks for contexts.
    quickly!(runs.wide, receivers.foresee(slots));
}

/// Reads the headers of usual frames: untagged, user data, nothing wrong. Returns how many slots it has come through: all, or
/// those before a frame that is something else.
fn parse_usual(slots: &mut [Slot], memory: &[u8], receivers: &Receivers, wide: Option<Avx512>) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(proof) = wide {
        let header = |start: usize, len| UserData::parse_wide(proof, memory.get(..start)?.last_chunk()?, len);
        return proof.compiled(|| parse_each(slots, receivers.table(), header));
    }
    // The headers and three octets more; that the frame has so many is for its length to say.
    let header = |start: usize, len| {
        UserData::parse(memory.get(start.wrapping_sub(spec::HEADER_LEN)..)?.first_chunk()?, len)
    };
    apart(|| parse_each(slots, receivers.table(), header))
}

/// As [`parse_usual`], with the headers that begin some octets before `start` read by `header`.
#[inline(always)]
fn parse_each(
    slots: &mut [Slot],
    table: TableView<'_>,
    header: impl Fn(usize, usize) -> Option<UserData>,
) -> usize {
    for (n, slot) in slots.iter_mut().enumerate() {
        slot.in_hand = slot.verdict == Verdict::Pending;
        if slot.in_hand {
            let Some(header) = header(slot.start as usize, slot.len as usize) else { return n };
            slot.len = header.len;
            slot.address = header.address;
            slot.lcid = header.lcid;
            slot.sdu_type = header.sdu_type;
            slot.aad = header.aad;
            slot.tag = header.tag;
            table.expect(slot, header.address, header.tag);
        }
    }
    slots.len()
}

fn received<'a>(slot: &Slot, memory: &'a [u8]) -> &'a [u8] {
    let from = slot.start as usize - spec::HEADER_LEN;
    &memory[from..from + slot.len as usize]
}

fn take(slot: &mut Slot, header: &Header, receivers: &Receivers) {
    let tag = header.tag_len as u32;
    slot.start += tag;
    // Data and MAC field; lookup takes the MAC field off once it knows the suite.
    slot.len = header.end - spec::HEADER_LEN as u32 - tag;
    slot.address = header.address;
    slot.lcid = header.lcid;
    slot.sdu_type = header.sdu_type;
    slot.aad = pdu::associated_data_of(header.address, header.lcid_and_sl, header.pdcp);
    slot.tag = pdu::tag_of(header.pdcp);
    receivers.table().expect(slot, slot.address, slot.tag);
}

use crate::batch::{Batch, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, ReceiveContext, ReceiveKey};
use crate::crypto::KernelError;
use crate::engine::Now;
use crate::ids::Lcid;
use crate::keys::{Event, LinkPhase};
use crate::pdu;
use crate::receive::{Receivers, Resolved};
use crate::verdict::Verdict;

/// Finds the context of each parsed frame from slot `from` on and makes its job. Returns where it stopped: at the end, or
/// before a frame whose fate hangs on one of the same sender that is not settled yet. Settling first makes
/// verdicts independent of how frames fell into batches.
pub(crate) fn lookup(
    batch: &mut Batch,
    from: usize,
    receivers: &mut Receivers,
    ciphers: &mut Ciphers,
    now: Now,
    events: &mut Vec<Event>,
) -> Result<usize, KernelError> {
    let (memory, slots, jobs) = batch.memory_mut();
    for i in from..slots.len() {
        let slot = &slots[i];
        if slot.verdict != Verdict::Pending {
            continue;
        }
        if slot.lcid == Lcid::CLEAR {
            slots[i].verdict = receivers.hears(slot.address).err().unwrap_or(Verdict::Accepted);
            continue;
        }
        if slot.address.is_group() && !slot.lcid.is_user() {
            // No key or membership message is believed because it came under a group key.
            slots[i].verdict = Verdict::Reserved;
            continue;
        }
        let key = ReceiveKey::new(slot.address, slot.index, slot.key_id);
        let context = match receivers.find(key) {
            Some(context) => context,
            None => {
                let under_way = |s: &Slot| s.verdict == Verdict::Pending && s.address == slot.address;
                if slot.address.is_group() && slots[from..i].iter().any(under_way) {
                    return Ok(i);
                }
                // Rare enough: nobody seen before, or somebody who will not be.
                match receivers.resolve(key, now.unix_seconds, now.monotonic_ns, ciphers, events)? {
                    Resolved::Context(context) => context,
                    Resolved::Drop(verdict) => {
                        slots[i].verdict = verdict;
                        continue;
                    }
                }
            }
        };
        let context = match receivers.rivals(key) {
            Some(rivals) => {
                first_that_opens(rivals, &slots[i], memory, receivers, ciphers).unwrap_or(context)
            }
            None => context,
        };
        let c = receivers.get(context);
        let slot = &mut slots[i];
        if c.phase == LinkPhase::Pending && slot.lcid.is_user() {
            slot.verdict = Verdict::Phase;
            continue;
        }
        let mac_len = c.suite.mac_len() as u32;
        let Some(len) = slot.len.checked_sub(mac_len) else {
            slot.verdict = Verdict::Short;
            continue;
        };
        slot.context = context;
        slot.len = len;
        slot.mac_len = mac_len as u8;
        slot.verified = false;
        // Only a filter that saves work: settling decides, in order of arrival. What is refused now stays refused.
        if c.window.check(slot.sn).is_err() && c.suite.has_integrity() {
            continue;
        }
        jobs[c.suite as usize].push(job(slot, c, i));
    }
    Ok(slots.len())
}

/// The job that opens a slot whose `len` is without the MAC field.
#[inline(always)]
fn job(slot: &Slot, c: &ReceiveContext, i: usize) -> Job {
    let pdcp = pdu::pdcp_word(slot.sdu_type, slot.index, slot.key_id, slot.sn);
    Job {
        aad: pdu::associated_data_of(slot.address, slot.lcid_and_sl, pdcp),
        start: slot.start,
        len: slot.len,
        key: c.key,
        count: (slot.key_id as u32) << 16 | slot.sn as u32,
        bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
        clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
        verified: false,
        slot: i as u16,
    }
}

/// Reading along: ids can come back with other keys, so each one that fits is tried on a copy.
#[cold]
fn first_that_opens(
    rivals: &[u32],
    slot: &Slot,
    memory: &[u8],
    receivers: &Receivers,
    ciphers: &Ciphers,
) -> Option<u32> {
    rivals.iter().copied().find(|&context| {
        let c = receivers.get(context);
        let Some(len) = slot.len.checked_sub(c.suite.mac_len() as u32) else { return false };
        let from = slot.start as usize - Job::HEADER_LEN;
        let mut copy = memory[from..slot.start as usize + slot.len as usize].to_vec();
        let moved = Slot { start: Job::HEADER_LEN as u32, len, ..*slot };
        let mut run = [job(&moved, c, 0)];
        let Some(cipher) = ciphers.get(c.suite as usize) else { return false };
        cipher.open(&mut copy, &mut run);
        run[0].verified && c.window.check(slot.sn).is_ok()
    })
}

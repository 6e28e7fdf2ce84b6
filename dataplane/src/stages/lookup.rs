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
        let slot = slots[i];
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
                match receivers.resolve(key, now.unix_seconds, now.monotonic_ns, ciphers, events)? {
                    Resolved::Context(context) => context,
                    Resolved::Drop(verdict) => {
                        slots[i].verdict = verdict;
                        continue;
                    }
                }
            }
        };
        match admit(&slot, receivers.get(context)) {
            Err(verdict) => slots[i].verdict = verdict,
            Ok(Admitted { data_len, worth_opening }) => {
                let c = receivers.get(context);
                let slot = &mut slots[i];
                slot.context = context;
                slot.len = data_len;
                slot.mac_len = c.suite.mac_len() as u8;
                slot.verified = false;
                if worth_opening {
                    let start = slot.start as usize;
                    let p = &memory[start - 5..start];
                    jobs[c.suite as usize].push(Job {
                        aad: pdu::associated_data(
                            slot.address,
                            slot.lcid_and_sl,
                            [p[0], p[1], p[2], p[3], p[4]],
                        ),
                        start: slot.start,
                        len: data_len,
                        key: c.key,
                        count: (slot.key_id as u32) << 16 | slot.sn as u32,
                        bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
                        clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
                        verified: false,
                        slot: i as u16,
                    });
                }
            }
        }
    }
    Ok(slots.len())
}

struct Admitted {
    data_len: u32,
    worth_opening: bool,
}

/// What can be said before the frame is opened.
#[inline]
fn admit(slot: &Slot, context: &ReceiveContext) -> Result<Admitted, Verdict> {
    if context.phase == LinkPhase::Pending && slot.lcid.is_user() {
        return Err(Verdict::Phase);
    }
    let mac_len = context.suite.mac_len() as u32;
    let data_len = slot.len.checked_sub(mac_len).ok_or(Verdict::Short)?;
    // Only a filter that saves work: settling decides, in order of arrival. What is refused now stays refused.
    let worth_opening = !context.suite.has_integrity() || context.window.check(slot.sn).is_ok();
    Ok(Admitted { data_len, worth_opening })
}

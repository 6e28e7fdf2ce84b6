use crate::batch::{self, BURST, Batch, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, SN_END, SendContext};
use crate::crypto::KernelError;
use crate::ids::{Lcid, SduType};
use crate::keys::Event;
use crate::pdu::{self, HeaderTemplate};
use crate::send::{Senders, passes_half};
use crate::suite::Suite;
use crate::verdict::Verdict;

/// Gives each SDU its context and COUNT, writes its headers and makes its job, a burst at a time: table, contexts, jobs. A COUNT reserved here is never used again,
/// whatever becomes of the frame.
pub(crate) fn reserve(
    batch: &mut Batch,
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<(), KernelError> {
    let (memory, slots, jobs) = batch.memory_mut();
    let mut at = 0;
    while at < slots.len() {
        let end = slots.len().min(at + BURST);
        senders.foresee(&mut slots[at..end]);
        loop {
            at += stamp_foreseen(&mut slots[at..end], at, memory, senders, jobs);
            if at == end {
                break;
            }
            let slot = &mut slots[at];
            match choose(slot, memory, senders, ciphers, events)? {
                Err(verdict) => slot.verdict = verdict,
                Ok(context) => {
                    let c = senders.get_mut(context);
                    let sn = c.next_sn;
                    jobs[c.suite as usize].push(stamp(c, memory, slot, at));
                    if passes_half(sn) {
                        prepare_successor(slot, context, senders, ciphers, events)?;
                    }
                }
            }
            at += 1;
        }
    }
    Ok(())
}

/// Stamps user data under the contexts foreseen. Returns how many slots it has come through: all, or those before one that
/// is something else or has consequences. The first of them is slot `first` of the batch.
#[inline(always)]
fn stamp_foreseen(
    burst: &mut [Slot],
    first: usize,
    memory: &mut [u8],
    senders: &mut Senders,
    jobs: &mut [Vec<Job>; Suite::COUNT],
) -> usize {
    for (n, slot) in burst.iter_mut().enumerate() {
        slot.in_hand = slot.verdict == Verdict::Pending;
        if !slot.in_hand {
            continue;
        }
        match senders.foreseen(slot.context, slot.address) {
            Some(c)
                if slot.lcid.is_user()
                    && slot.sdu_type != SduType::Pc5Signalling
                    && !passes_half(c.next_sn) =>
            {
                jobs[c.suite as usize].push(stamp(c, memory, slot, first + n));
            }
            _ => return n,
        }
    }
    burst.len()
}

/// Takes the context's next COUNT for a frame.
#[inline(always)]
fn stamp(c: &mut SendContext, memory: &mut [u8], slot: &mut Slot, i: usize) -> Job {
    let sn = c.next_sn as u16;
    c.next_sn += 1;
    let pdcp = c.pdcp | pdu::pdcp_of_frame(slot.sdu_type, sn);
    let aad = batch::write_headers(memory, slot, &c.header, pdcp, c.mac_len as usize);
    slot.index = c.index;
    slot.key_id = c.key_id;
    slot.sn = sn;
    slot.mac_len = c.mac_len;
    Job {
        aad,
        start: slot.start,
        len: slot.len,
        key: c.key,
        // Key id and SN stand side by side in the header.
        count: (pdcp >> 24) as u32,
        bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
        clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
        verified: false,
        slot: i as u16,
    }
}

/// The context of PC5-S, and of user data whose usual one was not foreseen or is used up; or the verdict, which for PC5-S in clear is
/// acceptance.
#[cold]
fn choose(
    slot: &mut Slot,
    memory: &mut [u8],
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<Result<u32, Verdict>, KernelError> {
    if (slot.sdu_type == SduType::Pc5Signalling) == slot.lcid.is_user() {
        return Ok(Err(Verdict::Reserved));
    }
    if slot.lcid.is_user() {
        return match senders.for_user_data(slot.address) {
            Some(context) => Ok(Ok(context)),
            None => senders.after_the_last(slot.address, ciphers, events),
        };
    }
    if slot.lcid == Lcid::CLEAR {
        let pdcp = pdu::pdcp_word(SduType::Pc5Signalling, 0, 0, 0);
        batch::write_headers(memory, slot, &HeaderTemplate::new(slot.address), pdcp, 0);
        slot.mac_len = 0;
        return Ok(Err(Verdict::Accepted));
    }
    if slot.address.is_group() {
        return Ok(Err(Verdict::Reserved));
    }
    let context = senders.for_signalling(slot.address, slot.key_id);
    Ok(context.and_then(|c| if senders.get(c).next_sn < SN_END { Ok(c) } else { Err(Verdict::Exhausted) }))
}

#[cold]
fn prepare_successor(
    slot: &Slot,
    context: u32,
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<(), KernelError> {
    if slot.address.is_group() {
        senders.derive_ahead(context, ciphers)
    } else {
        senders.half_used(context, events);
        Ok(())
    }
}

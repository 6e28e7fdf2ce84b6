use crate::batch::{self, Batch, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, SN_END, SendContext};
use crate::crypto::KernelError;
use crate::ids::{Lcid, SduType};
use crate::keys::Event;
use crate::pdu::{self, HeaderTemplate};
use crate::send::{Senders, passes_half};
use crate::verdict::Verdict;

/// Gives each SDU its context and COUNT, writes its headers and makes its job. A COUNT reserved here is never used again,
/// whatever becomes of the frame.
pub(crate) fn reserve(
    batch: &mut Batch,
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<(), KernelError> {
    let (memory, slots, jobs) = batch.memory_mut();
    for (i, slot) in slots.iter_mut().enumerate() {
        slot.in_hand = slot.verdict == Verdict::Pending;
        if !slot.in_hand {
            continue;
        }
        if slot.lcid.is_user()
            && slot.sdu_type != SduType::Pc5Signalling
            && let Some((context, c)) = senders.for_user_data(slot.address)
        {
            let (job, half) = stamp(c, memory, slot, i);
            jobs[c.suite as usize].push(job);
            if half {
                prepare_successor(slot, context, senders, ciphers, events)?;
            }
            continue;
        }
        match choose(slot, memory, senders, ciphers, events)? {
            Err(verdict) => slot.verdict = verdict,
            Ok(context) => {
                let c = senders.get_mut(context);
                let (job, half) = stamp(c, memory, slot, i);
                jobs[c.suite as usize].push(job);
                if half {
                    prepare_successor(slot, context, senders, ciphers, events)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes the context's next COUNT for a frame. Says whether that was the half of them.
#[inline(always)]
fn stamp(c: &mut SendContext, memory: &mut [u8], slot: &mut Slot, i: usize) -> (Job, bool) {
    let sn = c.next_sn as u16;
    c.next_sn += 1;
    let mac_len = c.suite.mac_len();
    let pdcp = pdu::pdcp_word(slot.sdu_type, c.index, c.key_id, sn);
    let sl = batch::write_headers(memory, slot, &c.header, pdcp, mac_len);
    slot.index = c.index;
    slot.key_id = c.key_id;
    slot.sn = sn;
    slot.mac_len = mac_len as u8;
    let job = Job {
        aad: c.header.associated_data(slot.lcid, sl, pdcp),
        start: slot.start,
        len: slot.len,
        key: c.key,
        count: (c.key_id as u32) << 16 | sn as u32,
        bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
        clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
        verified: false,
        slot: i as u16,
    };
    (job, passes_half(sn as u32))
}

/// The context of PC5-S, and of user data whose usual one is used up; or the verdict, which for PC5-S in clear is
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
        return senders.after_the_last(slot.address, ciphers, events);
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

use crate::batch::{self, Batch, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, SN_END};
use crate::crypto::KernelError;
use crate::ids::{Lcid, SduType};
use crate::keys::Event;
use crate::pdu;
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
        if (slot.sdu_type == SduType::Pc5Signalling) == slot.lcid.is_user() {
            slot.verdict = Verdict::Reserved;
            continue;
        }
        if slot.lcid == Lcid::CLEAR {
            let ethernet = slot.address.ethernet_header();
            batch::write_headers(
                memory,
                slot,
                &ethernet,
                [(SduType::Pc5Signalling as u8) << 5, 0, 0, 0, 0],
                0,
            );
            slot.mac_len = 0;
            slot.verdict = Verdict::Accepted;
            continue;
        }
        let context = match choose(slot, senders, ciphers, events)? {
            Ok(context) => context,
            Err(verdict) => {
                slot.verdict = verdict;
                continue;
            }
        };
        let c = senders.get_mut(context);
        let sn = c.next_sn as u16;
        c.next_sn += 1;
        let [key_high, key_low] = c.key_id.to_be_bytes();
        let [sn_high, sn_low] = sn.to_be_bytes();
        let pdcp = [(slot.sdu_type as u8) << 5 | c.index, key_high, key_low, sn_high, sn_low];
        let mac_len = c.suite.mac_len();
        let lcid_and_sl = batch::write_headers(memory, slot, &c.ethernet, pdcp, mac_len);
        slot.index = c.index;
        slot.key_id = c.key_id;
        slot.sn = sn;
        slot.mac_len = mac_len as u8;
        slot.context = context;
        jobs[c.suite as usize].push(Job {
            aad: pdu::associated_data(slot.address, lcid_and_sl, pdcp),
            start: slot.start,
            len: slot.len,
            key: c.key,
            count: (c.key_id as u32) << 16 | sn as u32,
            bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
            clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
            verified: false,
            slot: i as u16,
        });
        if passes_half(sn as u32) {
            prepare_successor(slot, context, senders, ciphers, events)?;
        }
    }
    Ok(())
}

/// The context with a COUNT left for this frame.
#[inline]
fn choose(
    slot: &Slot,
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<Result<u32, Verdict>, KernelError> {
    if slot.lcid.is_user() {
        match senders.active(slot.address) {
            Some(context) if senders.get(context).next_sn < senders.get(context).user_end => Ok(Ok(context)),
            Some(_) if !slot.address.is_group() => Ok(Err(Verdict::Exhausted)),
            None if !slot.address.is_group() => Ok(Err(Verdict::NoKey)),
            _ => senders.next_ptk(slot.address, ciphers, events),
        }
    } else if slot.address.is_group() {
        Ok(Err(Verdict::Reserved))
    } else {
        Ok(senders.for_signalling(slot.address, slot.key_id).and_then(|context| {
            if senders.get(context).next_sn < SN_END { Ok(context) } else { Err(Verdict::Exhausted) }
        }))
    }
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

use std::ops::Range;

use crate::batch::{self, Batch, Runs, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, SN_END, SendContext};
use crate::crypto::KernelError;
use crate::ids::{Lcid, SduType};
use crate::keys::Event;
use crate::pdu::{self, HeaderTemplate};
use crate::send::{Senders, passes_half};
use crate::stages::quickly;
use crate::verdict::Verdict;

/// Gives each SDU of a burst its context and COUNT, writes its headers and makes its job. A COUNT reserved here is never used
/// again, whatever becomes of the frame.
///
/// The burst is gone through for the table, for contexts and for jobs; each time asks for what comes next.
pub(crate) fn reserve(
    batch: &mut Batch,
    burst: Range<usize>,
    senders: &mut Senders,
    ciphers: &mut Ciphers,
    events: &mut Vec<Event>,
) -> Result<(), KernelError> {
    let (memory, slots, runs) = batch.memory_mut();
    let Range { start: mut at, end } = burst;
    runs.begin();
    let wide = runs.wide;
    quickly!(wide, senders.foresee(&mut slots[at..end]));
    loop {
        at += quickly!(wide, stamp_foreseen(&mut slots[at..end], at, memory, senders, runs));
        if at == end {
            return Ok(());
        }
        let slot = &mut slots[at];
        if !take_in_hand(slot) {
            at += 1;
            continue;
        }
        match choose(slot, memory, senders, ciphers, events)? {
            Err(verdict) => slot.verdict = verdict,
            Ok(context) => {
                let c = senders.get_mut(context);
                let sn = c.next_sn;
                runs.push(c.suite, stamp(c, memory, slot, at));
                if passes_half(sn) {
                    prepare_successor(slot, context, senders, ciphers, events)?;
                }
            }
        }
        at += 1;
    }
}

/// Stamps user data under the contexts foreseen, of the suite of the first run. Returns how many frames: all, or those before
/// a slot that is something else or has consequences. The first of the slots is slot `first` of the batch.
#[inline(always)]
fn stamp_foreseen(
    burst: &mut [Slot],
    first: usize,
    memory: &mut [u8],
    senders: &mut Senders,
    runs: &mut Runs,
) -> usize {
    let contexts = senders.all();
    let suite = || Some(contexts.get(burst.first()?.context as usize)?.suite);
    let Some(mut run) = runs.first_run(suite) else { return 0 };
    let suite = run.suite;
    let mut made = 0;
    for (slot, place) in burst.iter_mut().zip(run.free()) {
        if slot.verdict == Verdict::Pending
            && let Some(c) = contexts.get_mut(slot.context as usize)
            && c.address == slot.address
            && c.suite == suite
            && slot.lcid.is_user()
            && slot.sdu_type != SduType::Pc5Signalling
            && c.next_sn < c.user_end
            && !passes_half(c.next_sn)
        {
            slot.in_hand = true;
            *place = Job { clear_data: false, ..stamp(c, memory, slot, first + made) };
            made += 1;
        } else {
            break;
        }
    }
    run.add(made);
    made
}

/// Whether this pass decides a slot, which it notes there.
#[inline(always)]
fn take_in_hand(slot: &mut Slot) -> bool {
    slot.in_hand = slot.verdict == Verdict::Pending;
    slot.in_hand
}

/// Takes the context's next COUNT for a frame.
#[inline(always)]
fn stamp(c: &mut SendContext, memory: &mut [u8], slot: &mut Slot, i: usize) -> Job {
    let sn = c.next_sn as u16;
    c.next_sn += 1;
    let pdcp = c.pdcp | pdu::pdcp_of_frame(slot.sdu_type, sn);
    let aad = batch::write_headers(memory, slot, &c.header, pdcp, c.mac_len as usize);
    slot.aad = aad;
    slot.mac_len = c.mac_len;
    Job {
        aad: aad.octets(),
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

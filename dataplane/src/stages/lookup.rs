use std::ops::Range;

use crate::batch::{Batch, Runs, Slot};
use crate::cipher::Job;
use crate::context::{Ciphers, ReceiveContext, ReceiveKey};
use crate::crypto::KernelError;
use crate::engine::Now;
use crate::ids::Lcid;
use crate::keys::{Event, LinkPhase};
use crate::receive::{Receivers, Resolved};
use crate::stages::quickly;
use crate::verdict::Verdict;

/// Finds the context of each parsed frame of (the rest of) a burst and makes its job. Returns where it stopped: at the end,
/// or before a frame whose fate hangs on one of the same sender that is not settled yet. Settling first makes verdicts
/// independent of how frames fell into batches.
///
/// Parsing has foreseen contexts and asked for them.
pub(crate) fn lookup(
    batch: &mut Batch,
    burst: Range<usize>,
    receivers: &mut Receivers,
    ciphers: &mut Ciphers,
    now: Now,
    events: &mut Vec<Event>,
) -> Result<usize, KernelError> {
    let (memory, slots, runs) = batch.memory_mut();
    let Range { start: from, end } = burst;
    runs.begin();
    let wide = runs.wide;
    let mut at = from;
    loop {
        let made = quickly!(wide, admit_foreseen(&mut slots[at..end], at, receivers, runs));
        if at == from {
            runs.are_straight(made);
        }
        at += made;
        let Some(slot) = slots[..end].get(at) else { return Ok(end) };
        if slot.verdict != Verdict::Pending {
            at += 1;
            continue;
        }
        let found = match receivers.foreseen(slot) {
            Some(_) => Found::Context(slot.context),
            None => search(slots, from, at, memory, receivers, ciphers, now, events)?,
        };
        match found {
            Found::Context(context) => {
                slots[at].context = context;
                let c = receivers.get(context);
                if let Some(job) = admit(&mut slots[at], c, at) {
                    runs.push(c.suite, job);
                }
            }
            Found::Verdict(verdict) => slots[at].verdict = verdict,
            Found::HangsOnAnother => return Ok(at),
        }
        at += 1;
    }
}

/// Makes the jobs of usual frames: user data under the contexts foreseen, of the suite of the first run, with SNs not far from
/// the highest. Returns how many it has made: a job for each slot, or for those before one that is something else. The first of the slots
/// is slot `first` of the batch.
#[inline(always)]
fn admit_foreseen(burst: &mut [Slot], first: usize, receivers: &Receivers, runs: &mut Runs) -> usize {
    let contexts = receivers.unambiguous();
    let suite = || Some(contexts.get(burst.first()?.context as usize)?.suite);
    let Some(mut run) = runs.first_run(suite) else { return 0 };
    let (suite, mac_len) = (run.suite, run.suite.mac_len() as u32);
    let mut at = first;
    for (slot, place) in burst.iter_mut().zip(run.free()) {
        if slot.verdict == Verdict::Pending
            && let Some(c) = contexts.get(slot.context as usize)
            && c.id() == ReceiveKey::of(slot)
            && c.suite == suite
            && slot.lcid.is_user()
            && c.phase != LinkPhase::Pending
            && c.window.is_plainly_new(slot.sn())
            && let Some(len) = slot.len.checked_sub(mac_len)
        {
            slot.len = len;
            slot.mac_len = mac_len as u8;
            *place = Job { clear_data: false, ..job(slot, c, at) };
            at += 1;
        } else {
            break;
        }
    }
    let made = at - first;
    run.add(made);
    made
}

/// The job of a frame under its context. There is none for a frame that is dropped, or will be when it is settled.
#[inline(always)]
fn admit(slot: &mut Slot, c: &ReceiveContext, i: usize) -> Option<Job> {
    if c.phase == LinkPhase::Pending && slot.lcid.is_user() {
        slot.verdict = Verdict::Phase;
        return None;
    }
    let Some(len) = slot.len.checked_sub(c.mac_len as u32) else {
        slot.verdict = Verdict::Short;
        return None;
    };
    slot.len = len;
    slot.mac_len = c.mac_len;
    slot.verified = false;
    // Only a filter that saves work: settling decides, in order of arrival. What is refused now stays refused.
    if c.window.check(slot.sn()).is_err() && c.mac_len != 0 {
        return None;
    }
    Some(job(slot, c, i))
}

/// The job that opens a slot whose `len` is without the MAC field.
#[inline(always)]
fn job(slot: &Slot, c: &ReceiveContext, i: usize) -> Job {
    Job {
        aad: slot.aad.octets(),
        start: slot.start,
        len: slot.len,
        key: c.key,
        count: slot.count(),
        bearer_direction: Job::pack_bearer_direction(slot.lcid.get(), c.direction),
        clear_data: slot.lcid == Lcid::SECURITY_MODE && c.direction == 1,
        verified: false,
        slot: i as u16,
    }
}

/// What a frame is under.
enum Found {
    Context(u32),
    /// Nothing: decided.
    Verdict(Verdict),
    /// A frame before it, of the same sender, has to be settled first.
    HangsOnAnother,
}

/// Finds the context of a frame that is not simply user data under a context in the table.
#[expect(clippy::too_many_arguments, reason = "one caller, which has them all")]
#[inline(never)]
fn search(
    slots: &[Slot],
    from: usize,
    i: usize,
    memory: &[u8],
    receivers: &mut Receivers,
    ciphers: &mut Ciphers,
    now: Now,
    events: &mut Vec<Event>,
) -> Result<Found, KernelError> {
    let slot = &slots[i];
    let key = ReceiveKey::of(slot);
    if slot.lcid == Lcid::CLEAR {
        return Ok(Found::Verdict(receivers.hears(slot.address).err().unwrap_or(Verdict::Accepted)));
    }
    // No key or membership message is believed because it came under a group key. The quick way of parsing leaves reserved ids to us.
    if (slot.address.is_group() && !slot.lcid.is_user()) || key.is_reserved() {
        return Ok(Found::Verdict(Verdict::Reserved));
    }
    let context = match receivers.find(key) {
        Some(context) => context,
        None => {
            let under_way = |s: &Slot| s.verdict == Verdict::Pending && s.address == slot.address;
            if slot.address.is_group() && slots[from..i].iter().any(under_way) {
                return Ok(Found::HangsOnAnother);
            }
            // Rare enough: nobody seen before, or somebody who will not be.
            match receivers.resolve(key, now.unix_seconds, now.monotonic_ns, ciphers, events)? {
                Resolved::Context(context) => context,
                Resolved::Drop(verdict) => return Ok(Found::Verdict(verdict)),
            }
        }
    };
    let of_rivals = receivers.rivals(key).and_then(|r| first_that_opens(r, slot, memory, receivers, ciphers));
    if let Some(context) = of_rivals {
        receivers.prefer(key, context);
    }
    Ok(Found::Context(of_rivals.unwrap_or(context)))
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
        let Some(len) = slot.len.checked_sub(c.mac_len as u32) else { return false };
        let from = slot.start as usize - Job::HEADER_LEN;
        let mut copy = memory[from..slot.start as usize + slot.len as usize].to_vec();
        let moved = Slot { start: Job::HEADER_LEN as u32, len, ..*slot };
        let mut run = [job(&moved, c, 0)];
        let Some(cipher) = ciphers.get(c.suite as usize) else { return false };
        cipher.open(&mut copy, &mut run);
        run[0].verified && c.window.check(slot.sn()).is_ok()
    })
}

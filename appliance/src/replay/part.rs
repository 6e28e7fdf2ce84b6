//! Frames of one round that one lane has: where they lie in the capture, and what became of them.

use std::ops::Range;
use std::sync::Arc;

use pc5_dataplane::batch::{Batch, Meta, limits};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::{Counters, Verdict};
use pc5_pcap::{Memory, PcapError, Records};

use super::plan::Output;

/// A captured frame that waits to be taken by its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    /// Where it lies in the round's memory.
    pub at: u32,
    pub len: u32,
    /// Between whom it goes, where it is to be protected.
    pub address: Address,
    pub meta: Meta,
}

/// What the parts of a replay are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Frames of a part at most.
    pub slots: usize,
    /// The frames are needed after their hop, for the owner's decision or for a wire, so the part has a batch for all of them.
    pub keeps: bool,
    /// What the lane renders for the output file.
    pub renders: Option<Output>,
}

/// Notes that are kept for several passes of a capture: those of a part, or some of them.
#[derive(Clone, Debug)]
pub(crate) struct KeptNotes {
    pub notes: Arc<[Note]>,
    pub range: Range<usize>,
    /// By how much the sequence of a frame is more than its note says.
    pub later: u64,
}

/// One lane's frames of a round, in order of arrival.
pub(crate) struct Part {
    pub lane: usize,
    /// None where it has [`Self::kept_notes`].
    notes: Vec<Note>,
    kept_notes: Option<KeptNotes>,
    shape: Shape,
    /// The block of the capture that they lie in.
    pub memory: Memory,
    /// The frames themselves; otherwise they go through a batch of the lane's.
    pub kept: Option<Batch>,
    /// Octets of `kept` that the notes leave.
    room: usize,
    /// What is to be written, and the sequence of each.
    pub records: Records,
    pub written: Vec<u64>,
    /// Frames that came out otherwise than they went in.
    pub differing: u64,
    /// Verdicts at the end of its way, and octets of what was accepted.
    pub outcome: Counters,
    pub accepted_octets: u64,
}

impl Part {
    pub(crate) fn new(shape: Shape, lane: usize) -> Self {
        Self {
            lane,
            notes: Vec::with_capacity(shape.slots),
            kept_notes: None,
            shape,
            memory: Memory::default(),
            kept: shape.keeps.then(|| Batch::new(shape.slots)),
            room: room(shape.slots),
            records: Records::new(),
            written: Vec::new(),
            differing: 0,
            outcome: Counters::new(),
            accepted_octets: 0,
        }
    }

    /// Nothing in it; its memory stays.
    pub(crate) fn clear(&mut self) {
        self.notes.clear();
        self.kept_notes = None;
        self.memory = Memory::default();
        if let Some(batch) = &mut self.kept {
            batch.clear();
        }
        self.room = room(self.shape.slots);
        self.records.clear();
        self.written.clear();
        self.differing = 0;
        self.outcome = Counters::new();
        self.accepted_octets = 0;
    }

    /// Whether a frame of `len` octets more has no room.
    #[inline]
    pub(crate) fn is_full_for(&self, len: usize) -> bool {
        self.notes.len() == self.shape.slots
            || (self.kept.is_some() && !self.notes.is_empty() && self.room < takes(len))
    }

    #[inline]
    pub(crate) fn push(&mut self, note: Note) {
        self.room = self.room.saturating_sub(takes(note.len as usize));
        self.notes.push(note);
    }

    /// Gives an empty part the frames of an earlier pass.
    pub(crate) fn set_kept(&mut self, notes: KeptNotes) {
        self.kept_notes = Some(notes);
    }

    /// Its frames. Their sequence is [`Self::later`] than what stands there.
    #[inline]
    pub(crate) fn notes(&self) -> &[Note] {
        match &self.kept_notes {
            None => &self.notes,
            Some(kept) => &kept.notes[kept.range.clone()],
        }
    }

    /// What to add to the sequence of each note.
    pub(crate) fn later(&self) -> u64 {
        self.kept_notes.as_ref().map_or(0, |kept| kept.later)
    }

    /// Frame `i` as it was captured.
    #[inline]
    pub(crate) fn captured(&self, i: usize) -> &[u8] {
        let note = &self.notes()[i];
        self.memory.octets().get(note.at as usize..(note.at + note.len) as usize).unwrap_or(&[])
    }

    /// Counts what became of the frames of a batch, at the end of their way.
    pub(crate) fn tally(&mut self, batch: &Batch) {
        for slot in batch.slots() {
            self.outcome.count(slot.verdict);
            if slot.verdict == Verdict::Accepted {
                self.accepted_octets += slot.len as u64;
            }
        }
    }

    /// Counts anew what became of the frames that were kept.
    pub(crate) fn tally_kept(&mut self) {
        (self.outcome, self.accepted_octets) = (Counters::new(), 0);
        if let Some(batch) = self.kept.take() {
            self.tally(&batch);
            self.kept = Some(batch);
        }
    }

    /// Compares accepted frames of a batch with notes from `from` on.
    pub(crate) fn compare(&mut self, batch: &Batch, from: usize) {
        for (i, slot) in batch.slots().iter().enumerate() {
            let same = slot.verdict != Verdict::Accepted || batch.data(i) == self.captured(from + i);
            self.differing += u64::from(!same);
        }
    }

    /// Renders accepted user data for the output file; the original length grows by what the captured length grew.
    pub(crate) fn render(&mut self, batch: &Batch, output: Output) -> Result<(), PcapError> {
        for (i, (slot, meta)) in batch.slots().iter().zip(batch.meta()).enumerate() {
            if slot.verdict != Verdict::Accepted || !slot.lcid.is_user() {
                continue;
            }
            let octets = match output {
                Output::Frames => batch.frame(i),
                Output::Sdus => batch.data(i),
            };
            let original_len = meta.uncaptured.wrapping_add(octets.len() as u32);
            self.records.push(meta.interface, meta.timestamp, original_len, octets)?;
            self.written.push(meta.sequence);
        }
        Ok(())
    }

    /// As [`Self::render`], of the frames that were kept.
    pub(crate) fn render_kept(&mut self, output: Output) -> Result<(), PcapError> {
        let Some(batch) = self.kept.take() else { return Ok(()) };
        let rendered = self.render(&batch, output);
        self.kept = Some(batch);
        rendered
    }
}

/// Octets that a batch of so many slots has for frames.
const fn room(slots: usize) -> usize {
    slots * limits::ARENA_PER_SLOT
}

/// Octets of a batch that a frame takes at most.
const fn takes(len: usize) -> usize {
    limits::HEADROOM + len + limits::TAILROOM + 64
}

/// Places in several rising sequences in the order of all: each time one of them, and its places before anything of the others.
pub(crate) fn in_order(
    sequences: usize,
    sequence: impl Fn(usize, usize) -> Option<u64>,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let head = move |s: usize, i: usize| sequence(s, i).unwrap_or(u64::MAX);
    let mut next = vec![0usize; sequences];
    let mut heads: Vec<u64> = (0..sequences).map(|s| head(s, 0)).collect();
    std::iter::from_fn(move || {
        let (first, _) = heads.iter().enumerate().min_by_key(|h| *h.1).filter(|h| *h.1 != u64::MAX)?;
        let others =
            heads.iter().enumerate().filter(|h| h.0 != first).map(|h| *h.1).min().unwrap_or(u64::MAX);
        let from = next[first];
        while heads[first] < others {
            next[first] += 1;
            heads[first] = head(first, next[first]);
        }
        Some((first, from..next[first]))
    })
}

/// Notes of a round's parts in order of arrival.
pub(crate) fn notes_in_order(parts: &[Box<Part>]) -> impl Iterator<Item = (usize, usize)> {
    let sequence = |p: usize, i: usize| parts[p].notes().get(i).map(|n| n.meta.sequence);
    in_order(parts.len(), sequence).flat_map(|(p, run)| run.map(move |i| (p, i)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_give_everything_once_in_order_and_as_long_as_they_can_be(
            owners in proptest::collection::vec(0usize..5, 0..200)
        ) {
            let mut sequences = vec![Vec::new(); 5];
            for (sequence, &owner) in owners.iter().enumerate() {
                sequences[owner].push(sequence as u64);
            }
            let mut seen = Vec::new();
            let mut last = None;
            for (s, run) in in_order(5, |s, i| sequences[s].get(i).copied()) {
                prop_assert!(!run.is_empty() && last != Some(s), "runs of one follow those of another");
                last = Some(s);
                seen.extend_from_slice(&sequences[s][run]);
            }
            prop_assert!(seen.into_iter().eq(0..owners.len() as u64));
        }
    }
}

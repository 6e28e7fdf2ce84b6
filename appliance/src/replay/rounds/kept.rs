//! A capture that is gone through again: its frames in memory, and where each goes.
//!
//! Stations keep their members and members their lanes, so what was placed once goes the same way on every further pass.

use std::ops::Range;
use std::sync::Arc;

use pc5_dataplane::batch::Meta;
use pc5_pcap::Memory;

use super::{Held, KEYS_EVERY, Rounds};
use crate::replay::part::{KeptNotes, Note, Part};

/// Most octets that are kept, of frames and notes.
pub(crate) const KEPT_OCTETS: u64 = 96 << 20;

/// The rounds of one or several whole passes, as they were placed.
#[derive(Default)]
pub(crate) struct Kept {
    rounds: Vec<KeptRound>,
    frames: u64,
    octets: u64,
    passes: u64,
}

/// A round that was placed.
struct KeptRound {
    /// The frames of a lane lie side by side, so that it fetches nothing of the others' from memory.
    memory: Memory,
    /// By lane.
    parts: Vec<(usize, Arc<[Note]>)>,
    /// Their sequences.
    frames: Range<u64>,
    octets: u64,
}

impl Kept {
    /// How many passes these are.
    pub(crate) fn passes(&self) -> u64 {
        self.passes
    }

    /// Adds the next round; `false` if it would be too much.
    pub(super) fn add(&mut self, round: &[Box<Part>]) -> bool {
        let notes = || round.iter().flat_map(|part| part.notes());
        let frames = notes().count() as u64;
        // All of them lay in one block, so their places fit a note.
        let mut octets = Vec::with_capacity(notes().map(|n| n.len as usize).sum());
        let mut parts = Vec::with_capacity(round.len());
        for part in round {
            let mut kept = Vec::with_capacity(part.notes().len());
            for (i, note) in part.notes().iter().enumerate() {
                kept.push(Note { at: octets.len() as u32, ..*note });
                octets.extend_from_slice(part.captured(i));
            }
            parts.push((part.lane, kept.into()));
        }
        let round = self.frames..self.frames + frames;
        self.frames += frames;
        self.octets += octets.len() as u64;
        self.rounds.push(KeptRound {
            octets: octets.len() as u64,
            memory: octets.into(),
            parts,
            frames: round,
        });
        self.octets + self.frames * size_of::<Note>() as u64 <= KEPT_OCTETS
    }
}

impl KeptRound {
    /// What is known of a frame, and `later` of its sequence.
    fn meta(&self, sequence: u64, later: u64) -> Meta {
        let at = |notes: &[Note]| notes.iter().find(|n| n.meta.sequence == sequence).map(|n| n.meta);
        let meta = self.parts.iter().find_map(|(_, notes)| at(notes)).unwrap_or_default();
        Meta { sequence: sequence + later, ..meta }
    }
}

impl Rounds<'_> {
    /// Before the first frame: keeps what is read, for [`Self::again`].
    pub(crate) fn keep(&mut self) {
        self.kept = Some(Kept::default());
    }

    /// The capture came to its end. Gives what was kept once it is enough for rounds of a good size; nothing is kept from then on.
    pub(crate) fn passed(&mut self) -> anyhow::Result<Option<Kept>> {
        if let Some(kept) = &mut self.kept {
            kept.passes += 1;
        }
        if self.kept.is_none() || self.sequence < KEYS_EVERY {
            return Ok(None);
        }
        self.close_round()?;
        Ok(self.kept.take())
    }

    /// Goes through what was kept once more, up to a round before which `is_over`; says how many octets that were.
    pub(crate) fn again(&mut self, kept: &Kept, is_over: &dyn Fn() -> bool) -> anyhow::Result<u64> {
        let later = self.sequence;
        let mut octets = 0;
        for round in kept.rounds.iter().take_while(|_| !is_over()) {
            octets += round.octets;
            self.push_again(round, later)?;
        }
        Ok(octets)
    }

    fn push_again(&mut self, round: &KeptRound, later: u64) -> anyhow::Result<()> {
        // Keys change at other frames of the capture than they did on the pass before.
        let mut from = round.frames.start;
        while from < round.frames.end {
            let first = from + later;
            if first.is_multiple_of(KEYS_EVERY) {
                self.held.push_back(Held::Keys(round.meta(from, later)));
            }
            let due = (first + 1).next_multiple_of(KEYS_EVERY) - later;
            let to = due.min(round.frames.end);
            let mut parts = Vec::with_capacity(round.parts.len());
            for (lane, notes) in &round.parts {
                let place = |sequence| notes.partition_point(|n| n.meta.sequence < sequence);
                let range = place(from)..place(to);
                if !range.is_empty() {
                    let mut part = self.spare(*lane, &round.memory);
                    part.set_kept(KeptNotes { notes: notes.clone(), range, later });
                    parts.push(part);
                }
            }
            self.sequence += to - from;
            self.submit_when_possible(parts)?;
            from = to;
        }
        Ok(())
    }
}

//! Frames in order through the lanes: placed, first hop, the owner's decision, second hop, written.
//!
//! ```text
//! place -> round -> [first hop by the lane of the sender's link] -> route in order -> [second hop by the lane of the way out] -> written by whoever is free
//! ```
//!
//! The calling thread only notes where a frame lies and whose it is; lanes copy it out of the capture's memory. Notes of frames
//! that lie in one block of the capture make a round, one part a lane. Rounds are made ahead of the lanes, so that helpers
//! find something to do while the calling thread reads, and it helps them when there is enough.
//!
//! A short capture that is gone through several times is placed once ([`Kept`]).
//!
//! Keys change only where nothing is under way: before a member's first frame, and every [`KEYS_EVERY`] frames for what the
//! engines asked for meanwhile. So verdicts, counters and SDUs do not hang on how many lanes there are or on
//! how many frames a batch has.

#![allow(clippy::vec_box, reason = "parts go from hand to hand boxed, and boxed they wait")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pc5_dataplane::batch::Meta;
use pc5_dataplane::engine::Share;
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::Counters;
use pc5_pcap::{Interface, LinkType, Memory, Record};
use zeroize::Zeroizing;

use super::directory::{Cast, Directory, GROUP, OWNER};
use super::keying::Keying;
use super::lane::{Hop, StageTime};
use super::lanes::{Lanes, Leaving};
use super::output::{Between, Writer};
use super::part::{Note, Part, Shape};
use super::plan::Plan;
use super::wire::{Wire, WireReport};
use kept::Kept;

mod kept;
mod route;

pub(crate) use kept::KEPT_OCTETS;

/// Frames between two looks at what the engines ask of control. A key asks at half of its 65,536 SNs, and a frame
/// uses at most one of each key, so it is answered long before the key is used up.
pub(crate) const KEYS_EVERY: u64 = 16_384;

/// Frames of a part at most, where the calling thread is not alone: some tens of microseconds of work.
pub(crate) const PART: usize = 512;

/// What is under way and what became of it.
pub(crate) struct Rounds<'a> {
    plan: Plan,
    lanes: &'a mut Lanes,
    keying: &'a mut Keying,
    directory: &'a mut Directory,
    /// The lanes have a file.
    writes: bool,
    /// What came up for it since the round that was written last, and before which frame it goes.
    between: Vec<(u64, Between)>,
    /// Rounds on their way into it.
    writing: usize,
    wire: Option<Wire>,
    shape: Shape,
    /// The block that is being read.
    memory: Memory,
    /// Notes of its frames, a part a lane.
    filling: Vec<Box<Part>>,
    /// Of each lane: what its thread last wrote is still in that processor's caches.
    spare: Vec<Vec<Box<Part>>>,
    /// What waits until the lanes may have it, in order.
    held: VecDeque<Held>,
    /// Lanes that have parts of a round on the first hop, and on the second; the oldest round first.
    first: VecDeque<Vec<usize>>,
    second: VecDeque<Vec<usize>>,
    sequence: u64,
    /// What was read so far, where it is to be gone through again.
    kept: Option<Kept>,
    link_types: Vec<LinkType>,
    /// Verdicts of the owner's decision, and of all frames in the end.
    pub bridged: Counters,
    pub outcome: Counters,
    pub differing: u64,
    pub accepted_octets: u64,
    pub bridge_time: StageTime,
    pub write_time: StageTime,
    pub keying_time: Duration,
    /// Time of the calling thread that went neither into reading nor into placing.
    pub elsewhere: Duration,
}

enum Held {
    Round(Vec<Box<Part>>),
    /// A look at what the engines ask for, before this frame.
    Keys(Meta),
}

impl<'a> Rounds<'a> {
    /// Nothing under way.
    pub(crate) fn new(
        plan: Plan,
        shape: Shape,
        lanes: &'a mut Lanes,
        keying: &'a mut Keying,
        directory: &'a mut Directory,
        writer: Option<Writer>,
        wire: Option<Wire>,
    ) -> Self {
        let writes = writer.is_some();
        if let Some(writer) = writer {
            lanes.set_file(writer);
        }
        let filling = (0..lanes.len()).map(|lane| Box::new(Part::new(shape, lane))).collect();
        let spare = (0..lanes.len()).map(|_| Vec::new()).collect();
        Self {
            plan,
            lanes,
            keying,
            directory,
            writes,
            between: Vec::new(),
            writing: 0,
            wire,
            shape,
            memory: Memory::default(),
            filling,
            spare,
            held: VecDeque::new(),
            first: VecDeque::new(),
            second: VecDeque::new(),
            sequence: 0,
            kept: None,
            link_types: Vec::new(),
            bridged: Counters::new(),
            outcome: Counters::new(),
            differing: 0,
            accepted_octets: 0,
            bridge_time: StageTime::default(),
            write_time: StageTime::default(),
            keying_time: Duration::ZERO,
            elsewhere: Duration::ZERO,
        }
    }

    /// The interfaces known, and the memory that the next frames lie in.
    pub(crate) fn enter(&mut self, interfaces: &[Interface], memory: &Memory) -> anyhow::Result<()> {
        if !self.memory.is_same(memory) {
            self.close_round()?;
            self.memory = memory.clone();
            for part in &mut self.filling {
                part.memory = memory.clone();
            }
        }
        if self.link_types.len() < interfaces.len() {
            // What is written of this round does not know of them.
            self.close_round()?;
        }
        for interface in &interfaces[self.link_types.len().min(interfaces.len())..] {
            let carried = interface.carried().filter(|_| self.plan.from_key_log);
            self.link_types.push(carried.map_or(interface.link_type, |c| c.link_type));
            if self.writes {
                let written = Between::interface(interface, self.plan.output, self.plan.from_key_log);
                self.between.push((self.sequence, written));
            }
        }
        Ok(())
    }

    /// Takes the next captured frame, which lies at `at`.
    #[inline]
    pub(crate) fn push(&mut self, at: usize, record: &Record<'_>) -> anyhow::Result<()> {
        let frame = record.data;
        let uncaptured = record.original_len.wrapping_sub(frame.len() as u32);
        let meta = Meta {
            sequence: self.sequence,
            timestamp: record.ticks,
            interface: record.interface,
            uncaptured,
        };
        if self.sequence.is_multiple_of(KEYS_EVERY) && self.sequence > 0 {
            self.close_round()?;
            self.held.push_back(Held::Keys(meta));
        }
        self.sequence += 1;
        // Only what parses has a lane of its own; the rest is dropped by name wherever it is.
        let address = match self.plan.from_key_log {
            true => pc5_dataplane::pdu::parse(frame).map(|h| h.address).unwrap_or_default(),
            false => self.place(frame, meta)?,
        };
        let lane = self.lane_of(address);
        if self.filling[lane].is_full_for(frame.len()) {
            self.close_round()?;
        }
        self.filling[lane].push(Note { at: at as u32, len: frame.len() as u32, address, meta });
        Ok(())
    }

    /// Between whom a plain frame goes on its first hop. Those it takes join, if they have not.
    #[inline(always)]
    fn place(&mut self, frame: &[u8], meta: Meta) -> anyhow::Result<Address> {
        let link_type = self.link_type(meta.interface);
        let (source, destination) = self.directory.place(self.plan.cast, link_type, frame);
        let unknown = match destination {
            Some(Destination::Ue(other)) => !self.keying.knows(source) || !self.keying.knows(other),
            _ => !self.keying.knows(source),
        };
        if unknown {
            self.join_all(source, destination, meta)?;
        }
        Ok(match self.plan.cast {
            Cast::Group => Address::group(GROUP, source),
            _ => Address::link(OWNER, source),
        })
    }

    fn link_type(&self, interface: u32) -> LinkType {
        self.link_types.get(interface as usize).copied().unwrap_or(LinkType::ETHERNET)
    }

    #[inline]
    fn lane_of(&self, address: Address) -> usize {
        match self.filling.len() {
            1 => 0,
            lanes => Share::owner(address, lanes),
        }
    }

    fn spare(&mut self, lane: usize, memory: &Memory) -> Box<Part> {
        let mut part = self.spare[lane].pop().unwrap_or_else(|| Box::new(Part::new(self.shape, lane)));
        part.memory = memory.clone();
        part
    }

    fn recycle(&mut self, parts: Vec<Box<Part>>) {
        for mut part in parts {
            part.clear();
            self.spare[part.lane].push(part);
        }
    }

    /// The notes taken so far are a round; works with the lanes until there is little enough before them to take more.
    #[inline(never)]
    fn close_round(&mut self) -> anyhow::Result<()> {
        let mut round = Vec::new();
        for lane in 0..self.filling.len() {
            if !self.filling[lane].notes().is_empty() {
                let next = self.spare(lane, &self.memory.clone());
                round.push(std::mem::replace(&mut self.filling[lane], next));
            }
        }
        if round.is_empty() {
            return Ok(());
        }
        if self.kept.as_mut().is_some_and(|kept| !kept.add(&round)) {
            self.kept = None;
        }
        self.submit_when_possible(round)
    }

    /// The lanes may have a round once what is held is with them.
    fn submit_when_possible(&mut self, round: Vec<Box<Part>>) -> anyhow::Result<()> {
        self.held.push_back(Held::Round(round));
        let entered = Instant::now();
        let (enough, most) = match self.lanes.len() {
            1 => (1, 1),
            lanes => (4 * lanes, 8 * lanes),
        };
        loop {
            let seen = self.lanes.news();
            self.advance()?;
            let before_them = self.lanes.waiting() + self.parts_held();
            if before_them < enough {
                break;
            }
            if self.lanes.help() {
                continue;
            }
            // Helpers have all there is to do for this thread, or a look at the engines waits for the last of them.
            if before_them < most {
                break;
            }
            self.lanes.wait(seen);
        }
        self.elsewhere += entered.elapsed();
        Ok(())
    }

    fn parts_held(&self) -> usize {
        let parts = |held: &Held| match held {
            Held::Round(round) => round.len(),
            Held::Keys(_) => 0,
        };
        self.held.iter().map(parts).sum()
    }

    /// One piece of work, or a wait for what a helper does.
    fn step(&mut self) -> anyhow::Result<()> {
        let seen = self.lanes.news();
        self.advance()?;
        if (self.is_under_way() || self.writing > 0) && !self.lanes.help() {
            self.lanes.wait(seen);
        }
        Ok(())
    }

    fn is_under_way(&self) -> bool {
        !self.first.is_empty() || !self.second.is_empty()
    }

    /// Takes what came back from the lanes, and hands them what they may have.
    fn advance(&mut self) -> anyhow::Result<()> {
        while let Some(parts) = self.receive(Hop::First)? {
            if self.plan.ends_with(Hop::First) {
                self.finish(parts)?;
            } else {
                let routed = self.route(parts)?;
                self.submit(Hop::Second, routed);
            }
        }
        while let Some(parts) = self.receive(Hop::Second)? {
            self.finish(parts)?;
        }
        while self.writing > 0
            && let Some(parts) = self.lanes.written()?
        {
            self.writing -= 1;
            self.recycle(parts);
        }
        while let Some(next) = self.held.pop_front() {
            match next {
                Held::Round(round) => self.submit(Hop::First, round),
                Held::Keys(_) if self.is_under_way() => {
                    self.held.push_front(next);
                    break;
                }
                Held::Keys(meta) => {
                    let began = Instant::now();
                    self.keying.answer(self.lanes)?;
                    self.keying_time += began.elapsed();
                    self.take_signalling(meta)?;
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, hop: Hop, parts: Vec<Box<Part>>) {
        let mut lanes = Vec::with_capacity(parts.len());
        for part in parts {
            lanes.push(part.lane);
            self.lanes.submit(hop, part);
        }
        match hop {
            Hop::First => self.first.push_back(lanes),
            Hop::Second => self.second.push_back(lanes),
        }
    }

    /// The oldest round of a hop, once all of it came back.
    fn receive(&mut self, hop: Hop) -> anyhow::Result<Option<Vec<Box<Part>>>> {
        let rounds = match hop {
            Hop::First => &mut self.first,
            Hop::Second => &mut self.second,
        };
        let Some(lanes) = rounds.front() else { return Ok(None) };
        let parts = self.lanes.receive(lanes, hop)?;
        if parts.is_some() {
            rounds.pop_front();
        }
        Ok(parts)
    }

    /// Sends, adds up and writes what came out, in order.
    fn finish(&mut self, mut parts: Vec<Box<Part>>) -> anyhow::Result<()> {
        if let Some(wire) = &mut self.wire {
            wire.send(&mut parts)?;
            for part in &mut parts {
                // What did not leave has got another verdict.
                part.tally_kept();
                if self.writes {
                    part.render_kept(self.plan.output)?;
                }
            }
        }
        for part in &parts {
            self.outcome.add(&part.outcome);
            self.accepted_octets += part.accepted_octets;
            self.differing += part.differing;
        }
        if self.writes {
            self.lanes.write(Leaving { parts, between: std::mem::take(&mut self.between) });
            self.writing += 1;
        } else {
            self.recycle(parts);
        }
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        self.close_round()?;
        let entered = Instant::now();
        while !self.held.is_empty() || self.is_under_way() || self.writing > 0 {
            self.step()?;
        }
        self.elsewhere += entered.elapsed();
        Ok(())
    }

    /// Lets those join that a plain frame takes.
    #[cold]
    fn join_all(
        &mut self,
        source: Layer2Id,
        destination: Option<Destination>,
        meta: Meta,
    ) -> anyhow::Result<()> {
        let entered = Instant::now();
        // A look at the engines that was due before comes before.
        while !self.held.is_empty() {
            self.step()?;
        }
        self.join(source, meta)?;
        if let Some(Destination::Ue(other)) = destination {
            self.join(other, meta)?;
        }
        self.elsewhere += entered.elapsed();
        Ok(())
    }

    /// Lets a member join, if it has not. Nothing under way is touched: the keys are new ones.
    fn join(&mut self, member: Layer2Id, meta: Meta) -> anyhow::Result<()> {
        if !self.keying.knows(member) {
            let began = Instant::now();
            self.keying.join(member, self.lanes)?;
            self.keying_time += began.elapsed();
            self.take_signalling(meta)?;
        }
        Ok(())
    }

    /// PC5-S of a keying goes before the frame that it was needed for, at that frame's time.
    fn take_signalling(&mut self, meta: Meta) -> anyhow::Result<()> {
        if !self.writes && self.wire.is_none() {
            return Ok(());
        }
        for frame in self.keying.take_signalling() {
            if let Some(wire) = &mut self.wire {
                wire.send_signalling(&frame)?;
            }
            if self.writes {
                self.between.push((meta.sequence, Between::Signalling(frame, meta)));
            }
        }
        Ok(())
    }

    /// The key log so far, a line a key.
    pub(crate) fn key_log(&self) -> Zeroizing<String> {
        Zeroizing::new(self.keying.key_log().iter().flat_map(|line| [line.as_str(), "\n"]).collect())
    }

    /// Frames taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.sequence
    }

    /// Before a pause of the input: what is under way goes on the wire now.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if self.wire.is_some() { self.drain() } else { Ok(()) }
    }

    /// What became of the frames that were to go on a wire.
    pub(crate) fn wire(&self) -> Option<WireReport> {
        self.wire.as_ref().map(|wire| wire.report().clone())
    }

    /// Completes the output file.
    pub(crate) fn complete(&mut self) -> anyhow::Result<Option<super::output::Written>> {
        self.drain()?;
        let Some(mut writer) = self.lanes.take_file() else { return Ok(None) };
        self.between.drain(..).for_each(|(before, what)| writer.add(before, what));
        self.write_time = writer.time();
        writer.finish().map(Some)
    }
}

//! Frames in order through the lanes: read, first hop, the owner's decision, second hop, written.
//!
//! ```text
//! read -> [first hop by the lane of the sender's link] -> route in order -> [second hop by the lane of the way out] -> write
//! ```
//!
//! Keys change only where nothing is under way: before a member's first frame, and every [`KEYS_EVERY`] frames for what the
//! engines asked for meanwhile. So verdicts, counters and SDUs do not hang on how many lanes there are or on
//! how many frames a batch has.

#![allow(clippy::vec_box, reason = "parts travel through channels boxed, and boxed they wait")]

use std::time::{Duration, Instant};

use pc5_dataplane::batch::Meta;
use pc5_dataplane::engine::Share;
use pc5_dataplane::ids::{Layer2Id, Lcid, SduType};
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::{Counters, Verdict};
use pc5_pcap::{Interface, LinkType};

use super::directory::{Cast, Directory, GROUP, OWNER};
use super::inner;
use super::keying::Keying;
use super::lane::{Part, StageTime, Step};
use super::lanes::Lanes;
use super::output::Writer;
use super::plan::Plan;
use super::wire::{Wire, WireReport};

/// Frames between two looks at what the engines ask of control. A key asks at half of its 65,536 SNs, and a frame
/// uses at most one of each key, so it is answered long before the key is used up.
pub(crate) const KEYS_EVERY: u64 = 16_384;

/// Frames handed to a worker at a time, at least, as far as they come: it costs two wake-ups, of some microseconds each.
const HANDED_OVER: usize = 512;

/// What is under way and what became of it.
pub(crate) struct Rounds<'a> {
    plan: Plan,
    lanes: &'a mut Lanes,
    keying: &'a mut Keying,
    directory: &'a mut Directory,
    writer: Option<Writer>,
    wire: Option<Wire>,
    batch_slots: usize,
    filling: Vec<Box<Part>>,
    spare: Vec<Box<Part>>,
    /// Lanes that have parts of the round sent last on the first hop, and of the one before on the second.
    first: Vec<usize>,
    second: Vec<usize>,
    sequence: u64,
    link_types: Vec<LinkType>,
    /// Verdicts of the owner's decision, and of all frames in the end.
    pub bridged: Counters,
    pub outcome: Counters,
    pub differing: u64,
    pub accepted_octets: u64,
    pub bridge_time: StageTime,
    pub write_time: StageTime,
    pub keying_time: Duration,
}

impl<'a> Rounds<'a> {
    /// Nothing under way.
    pub(crate) fn new(
        plan: Plan,
        lanes: &'a mut Lanes,
        keying: &'a mut Keying,
        directory: &'a mut Directory,
        writer: Option<Writer>,
        wire: Option<Wire>,
        batch_slots: usize,
    ) -> Self {
        // A worker that is woken finds enough to do to be worth it. What is decided does not hang on it.
        let batch_slots = match lanes {
            Lanes::Inline(_) => batch_slots,
            Lanes::Threads(_) => batch_slots.max(HANDED_OVER),
        };
        let filling = (0..lanes.len()).map(|_| Box::new(Part::new(batch_slots))).collect();
        Self {
            plan,
            lanes,
            keying,
            directory,
            writer,
            wire,
            batch_slots,
            filling,
            spare: Vec::new(),
            first: Vec::new(),
            second: Vec::new(),
            sequence: 0,
            link_types: Vec::new(),
            bridged: Counters::new(),
            outcome: Counters::new(),
            differing: 0,
            accepted_octets: 0,
            bridge_time: StageTime::default(),
            write_time: StageTime::default(),
            keying_time: Duration::ZERO,
        }
    }

    /// Interfaces of the capture as known now, before frames of a new one are given.
    pub(crate) fn interfaces(&mut self, interfaces: &[Interface]) -> anyhow::Result<()> {
        for interface in &interfaces[self.link_types.len().min(interfaces.len())..] {
            let carried = interface.carried().filter(|_| self.plan.from_key_log);
            self.link_types.push(carried.map_or(interface.link_type, |c| c.link_type));
            if let Some(writer) = &mut self.writer {
                writer.add_interface(interface, self.plan.output, self.plan.from_key_log)?;
            }
        }
        Ok(())
    }

    /// Takes the next captured frame.
    #[inline]
    pub(crate) fn push(
        &mut self,
        frame: &[u8],
        timestamp: u64,
        interface: u32,
        original_len: u32,
    ) -> anyhow::Result<()> {
        let uncaptured = original_len.wrapping_sub(frame.len() as u32);
        let meta = Meta { sequence: self.sequence, timestamp, interface, uncaptured };
        if self.sequence.is_multiple_of(KEYS_EVERY) && self.sequence > 0 {
            self.drain()?;
            self.answer_engines(meta)?;
        }
        self.sequence += 1;
        if self.plan.from_key_log { self.push_protected(frame, meta) } else { self.push_plain(frame, meta) }
    }

    fn push_plain(&mut self, frame: &[u8], meta: Meta) -> anyhow::Result<()> {
        let (from, to) = inner::addresses(self.link_type(meta.interface), frame);
        let source = self.directory.member(from);
        let destination = match self.plan.cast {
            Cast::Group => None,
            cast => Some(self.directory.bridge(cast, source, to)),
        };
        let unknown = match destination {
            Some(Destination::Ue(other)) => !self.keying.knows(source) || !self.keying.knows(other),
            _ => !self.keying.knows(source),
        };
        if unknown {
            self.join(source, meta)?;
            if let Some(Destination::Ue(other)) = destination {
                self.join(other, meta)?;
            }
        }
        let address = match self.plan.cast {
            Cast::Group => Address::group(GROUP, source),
            _ => Address::link(OWNER, source),
        };
        let lane = Share::owner(address, self.lanes.len());
        if self.filling[lane].batch.is_full_for(frame.len()) {
            self.send_round()?;
        }
        let part = &mut self.filling[lane];
        if part.batch.push_sdu(address, Lcid::USER, SduType::NonIp, frame, meta).is_none() {
            // Longer than any batch holds: it is a frame read and dropped.
            self.outcome.count(Verdict::TooLong);
            return Ok(());
        }
        if self.plan.compares() {
            part.remember(frame);
        }
        Ok(())
    }

    fn push_protected(&mut self, frame: &[u8], meta: Meta) -> anyhow::Result<()> {
        // Only what parses has a lane of its own; the rest is dropped by name wherever it is.
        let address = pc5_dataplane::pdu::parse(frame).map(|h| h.address).unwrap_or_default();
        let lane = Share::owner(address, self.lanes.len());
        if self.filling[lane].batch.is_full_for(frame.len()) {
            self.send_round()?;
        }
        if self.filling[lane].batch.push_frame(frame, meta).is_none() {
            self.outcome.count(Verdict::TooLong);
        }
        Ok(())
    }

    fn link_type(&self, interface: u32) -> LinkType {
        self.link_types.get(interface as usize).copied().unwrap_or(LinkType::ETHERNET)
    }

    fn spare(&mut self) -> Box<Part> {
        self.spare.pop().unwrap_or_else(|| Box::new(Part::new(self.batch_slots)))
    }

    /// Sends what is filled on its first hop, and what came back from an earlier one on its way.
    fn send_round(&mut self) -> anyhow::Result<()> {
        if let Lanes::Inline(_) = self.lanes {
            return self.run_inline();
        }
        let mut sent = Vec::new();
        for lane in 0..self.filling.len() {
            if !self.filling[lane].batch.is_empty() {
                let next = self.spare();
                let part = std::mem::replace(&mut self.filling[lane], next);
                if let Lanes::Threads(threads) = self.lanes {
                    threads.send(lane, self.plan.hop1, self.plan.hop2.is_empty(), part);
                }
                sent.push(lane);
            }
        }
        self.advance(sent)
    }

    /// One step of the pipeline: the round before goes from first to second hop, the one before that comes out.
    fn advance(&mut self, sent: Vec<usize>) -> anyhow::Result<()> {
        let arrived = std::mem::replace(&mut self.first, sent);
        let parts = self.receive(&arrived)?;
        if self.plan.hop2.is_empty() {
            return self.finish(parts);
        }
        let routed = self.route(parts)?;
        let finished = std::mem::replace(&mut self.second, routed);
        let parts = self.receive(&finished)?;
        self.finish(parts)
    }

    fn receive(&mut self, lanes: &[usize]) -> anyhow::Result<Vec<Box<Part>>> {
        let Lanes::Threads(threads) = &*self.lanes else { return Ok(Vec::new()) };
        lanes.iter().map(|&lane| Ok(threads.receive(lane)?)).collect()
    }

    /// The owner's decision over a round, in order of arrival, into parts for the lanes of the ways out.
    fn route(&mut self, parts: Vec<Box<Part>>) -> anyhow::Result<Vec<usize>> {
        let began = Instant::now();
        let mut out: Vec<Box<Part>> = (0..self.lanes.len()).map(|_| self.spare()).collect();
        let mut frames = 0;
        let mut sent = Vec::new();
        for (p, i) in in_order(&parts) {
            let from = &parts[p];
            let (slot, meta) = (from.batch.slots()[i], from.batch.meta()[i]);
            frames += 1;
            let routed = if slot.verdict == Verdict::Accepted && slot.lcid.is_user() {
                bridge(
                    self.directory,
                    self.plan.cast,
                    self.link_type(meta.interface),
                    &slot.address,
                    from.batch.data(i),
                )
            } else {
                Err(slot.verdict)
            };
            let address = match routed {
                Ok(destination) => {
                    if let Destination::Ue(member) = destination {
                        self.join(member, meta)?;
                    }
                    Address::to(destination, OWNER)
                }
                Err(verdict) => {
                    self.bridged.count(verdict);
                    self.outcome.count(verdict);
                    continue;
                }
            };
            self.bridged.count(Verdict::Accepted);
            let lane = Share::owner(address, self.lanes.len());
            let data = from.batch.data(i);
            if out[lane].batch.is_full_for(data.len()) {
                // A round can gather more for one way out than a batch holds: it takes a further one, right behind.
                let next = self.spare();
                let full = std::mem::replace(&mut out[lane], next);
                if let Lanes::Threads(threads) = self.lanes {
                    threads.send(lane, self.plan.hop2, true, full);
                }
                sent.push(lane);
            }
            let pushed = out[lane].batch.push_sdu(address, slot.lcid, slot.sdu_type, data, meta);
            debug_assert!(pushed.is_some(), "a spare batch has room for any frame that was in one");
            if self.plan.compares() {
                out[lane].remember(from.captured(i));
            }
        }
        for (lane, part) in out.into_iter().enumerate() {
            if part.batch.is_empty() {
                self.spare.push(part);
            } else if let Lanes::Threads(threads) = self.lanes {
                threads.send(lane, self.plan.hop2, true, part);
                sent.push(lane);
            }
        }
        self.recycle(parts);
        self.bridge_time.add(&StageTime { spent: began.elapsed(), frames, octets: 0 });
        Ok(sent)
    }

    /// Sends, adds up and writes what came out, in order.
    fn finish(&mut self, mut parts: Vec<Box<Part>>) -> anyhow::Result<()> {
        if let Some(wire) = &mut self.wire {
            wire.send(&mut parts)?;
            // What did not leave has got another verdict.
            parts.iter_mut().for_each(|p| p.tally());
        }
        for part in &parts {
            self.outcome.add(&part.outcome);
            self.accepted_octets += part.accepted_octets;
            self.differing += part.differing;
        }
        if let Some(writer) = &mut self.writer {
            let began = Instant::now();
            for (p, i) in in_order(&parts) {
                let slot = &parts[p].batch.slots()[i];
                if slot.verdict == Verdict::Accepted && slot.lcid.is_user() {
                    writer.write(&parts[p].batch, i, self.plan.output)?;
                }
            }
            let frames = parts.iter().map(|p| p.batch.len() as u64).sum();
            self.write_time.add(&StageTime { spent: began.elapsed(), frames, octets: 0 });
        }
        self.recycle(parts);
        Ok(())
    }

    fn recycle(&mut self, parts: Vec<Box<Part>>) {
        for mut part in parts {
            part.clear();
            self.spare.push(part);
        }
    }

    /// The one lane's batch, through everything at once.
    fn run_inline(&mut self) -> anyhow::Result<()> {
        if self.filling[0].batch.is_empty() {
            return Ok(());
        }
        let next = self.spare();
        let mut part = std::mem::replace(&mut self.filling[0], next);
        self.run_steps(self.plan.hop1, &mut part)?;
        if !self.plan.hop2.is_empty() {
            self.route_in_place(&mut part)?;
            self.run_steps(self.plan.hop2, &mut part)?;
        }
        part.tally();
        self.finish(vec![part])
    }

    fn run_steps(&mut self, steps: &'static [Step], part: &mut Part) -> anyhow::Result<()> {
        match self.lanes {
            Lanes::Inline(lane) => Ok(lane.run(steps, part)?),
            Lanes::Threads(_) => Ok(()),
        }
    }

    /// The owner's decision where every way out has the same lane: opened slots become SDUs to be sealed.
    fn route_in_place(&mut self, part: &mut Part) -> anyhow::Result<()> {
        let began = Instant::now();
        for i in 0..part.batch.len() {
            let (slot, meta) = (part.batch.slots()[i], part.batch.meta()[i]);
            let routed = if slot.verdict == Verdict::Accepted && slot.lcid.is_user() {
                let link_type = self.link_type(meta.interface);
                bridge(self.directory, self.plan.cast, link_type, &slot.address, part.batch.data(i))
            } else {
                Err(slot.verdict)
            };
            let verdict = match routed {
                Ok(destination) => {
                    if let Destination::Ue(member) = destination {
                        self.join(member, meta)?;
                    }
                    part.batch.slots_mut()[i].address = Address::to(destination, OWNER);
                    Verdict::Pending
                }
                Err(verdict) => verdict,
            };
            part.batch.slots_mut()[i].verdict = verdict;
            self.bridged.count(if verdict == Verdict::Pending { Verdict::Accepted } else { verdict });
        }
        self.bridge_time.add(&StageTime {
            spent: began.elapsed(),
            frames: part.batch.len() as u64,
            octets: 0,
        });
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        self.send_round()?;
        while !self.first.is_empty() || !self.second.is_empty() {
            self.advance(Vec::new())?;
        }
        Ok(())
    }

    /// Lets a member join, if it has not. Nothing under way is touched: the keys are new ones.
    fn join(&mut self, member: Layer2Id, meta: Meta) -> anyhow::Result<()> {
        if !self.keying.knows(member) {
            let began = Instant::now();
            self.keying.join(member, self.lanes)?;
            self.keying_time += began.elapsed();
            self.write_signalling(meta)?;
        }
        Ok(())
    }

    /// PC5-S of a keying goes before the frame that it was needed for, at that frame's time.
    fn write_signalling(&mut self, meta: Meta) -> anyhow::Result<()> {
        if self.writer.is_none() && self.wire.is_none() {
            return Ok(());
        }
        for frame in self.keying.take_signalling() {
            if let Some(writer) = &mut self.writer {
                writer.write_signalling(&frame, meta)?;
            }
            if let Some(wire) = &mut self.wire {
                wire.send_signalling(&frame)?;
            }
        }
        Ok(())
    }

    fn answer_engines(&mut self, meta: Meta) -> anyhow::Result<()> {
        let began = Instant::now();
        self.keying.answer(self.lanes)?;
        self.keying_time += began.elapsed();
        self.write_signalling(meta)
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
        self.writer.take().map(Writer::finish).transpose()
    }
}

/// Where the owner sends an SDU that was opened on a member's link, or why it does not.
fn bridge(
    directory: &mut Directory,
    cast: Cast,
    link_type: LinkType,
    address: &Address,
    sdu: &[u8],
) -> Result<Destination, Verdict> {
    if address.is_group() {
        return Err(Verdict::NotForwarded);
    }
    let (from, to) = inner::addresses(link_type, sdu);
    directory.bind(from, address.source());
    Ok(directory.bridge(cast, address.source(), to))
}

/// Slots of a round's parts in order of arrival, each part being in order.
pub(super) fn in_order(parts: &[Box<Part>]) -> impl Iterator<Item = (usize, usize)> {
    let sequence = |p: usize, i: usize| parts[p].batch.meta().get(i).map_or(u64::MAX, |m| m.sequence);
    let mut next = vec![0usize; parts.len()];
    let mut heads: Vec<u64> = (0..parts.len()).map(|p| sequence(p, 0)).collect();
    std::iter::from_fn(move || {
        let (first, _) = heads.iter().enumerate().min_by_key(|h| *h.1).filter(|h| *h.1 != u64::MAX)?;
        let i = next[first];
        next[first] += 1;
        heads[first] = sequence(first, i + 1);
        Some((first, i))
    })
}

//! One lane of a replay: both ends of the air for a share of the contexts, and the clock of each stage.

use std::time::{Duration, Instant};

use pc5_control::group_owner::Outgoing;
use pc5_dataplane::EngineError;
use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, Now};
use pc5_dataplane::ids::{Lcid, SduType};
use pc5_dataplane::keys::Event;
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::{Counters, Verdict};

use super::part::{Part, Shape};
use super::plan::Plan;

/// What a lane does with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Frames are copied out of the capture.
    Take,
    /// UEs protect.
    MembersProtect,
    /// The owner verifies.
    OwnerOpen,
    /// The owner protects again.
    OwnerProtect,
    /// UEs verify.
    MembersOpen,
    /// Somebody with the key log verifies.
    MonitorOpen,
    /// What came out is compared with what went in.
    Compare,
    /// Records for the output file are rendered.
    Render,
}

impl Step {
    /// Every step.
    pub(crate) const ALL: [Self; 8] = [
        Self::Take,
        Self::MembersProtect,
        Self::OwnerOpen,
        Self::OwnerProtect,
        Self::MembersOpen,
        Self::MonitorOpen,
        Self::Compare,
        Self::Render,
    ];

    /// Name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::MembersProtect => "ue_protect",
            Self::OwnerOpen => "owner_verify",
            Self::OwnerProtect => "owner_protect",
            Self::MembersOpen => "ue_verify",
            Self::MonitorOpen => "key_log_verify",
            Self::Compare => "compare",
            Self::Render => "render",
        }
    }
}

/// Time and work of one stage.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct StageTime {
    pub spent: Duration,
    pub frames: u64,
    pub octets: u64,
}

impl StageTime {
    pub(crate) fn add(&mut self, other: &Self) {
        self.spent += other.spent;
        self.frames += other.frames;
        self.octets += other.octets;
    }
}

/// Which half of the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hop {
    /// Up to the owner's decision, or the whole way where nothing is bridged.
    First,
    /// From there on.
    Second,
}

/// Which end sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Members,
    Owner,
}

/// One share of the contexts: the engines of all UEs, of the owner, and of a reader of key logs.
pub(crate) struct Lane {
    pub plan: Plan,
    pub shape: Shape,
    pub members: Engine,
    pub owner: Engine,
    pub monitor: Engine,
    pub now: Now,
    /// Frames of parts that keep none go through here.
    pub batch: Option<Batch>,
    pub batch_slots: usize,
    pub times: [StageTime; Step::ALL.len()],
    /// PC5-S messages that went through each step: the engines count them among all frames.
    pub signalled: [u64; Step::ALL.len()],
}

impl Lane {
    /// Brings a part over one hop.
    ///
    /// # Errors
    /// The kernel that was asked for cannot serve a suite, or a frame does not fit the output.
    pub(crate) fn run(&mut self, hop: Hop, part: &mut Part) -> anyhow::Result<()> {
        match part.kept.take() {
            Some(mut batch) => {
                if hop == Hop::First {
                    self.take(part, 0, &mut batch);
                }
                let result = self.run_batch(hop, part, 0, &mut batch);
                part.kept = Some(batch);
                result
            }
            None => {
                let mut batch = self.batch.take().unwrap_or_else(|| Batch::new(self.batch_slots));
                let mut from = 0;
                while from < part.notes().len() {
                    batch.clear();
                    let to = self.take(part, from, &mut batch);
                    self.run_batch(hop, part, from, &mut batch)?;
                    from = to;
                }
                self.batch = Some(batch);
                Ok(())
            }
        }
    }

    /// Copies noted frames into a batch, from `from` on and as many as have room; says where it stopped.
    fn take(&mut self, part: &Part, from: usize, batch: &mut Batch) -> usize {
        let began = Instant::now();
        let memory = part.memory.octets();
        let later = part.later();
        let mut to = from;
        for note in &part.notes()[from..] {
            let at = note.at as usize;
            let frame = memory.get(at..at + note.len as usize).unwrap_or(&[]);
            if batch.is_full_for(frame.len()) && !batch.is_empty() {
                break;
            }
            let meta = Meta { sequence: note.meta.sequence + later, ..note.meta };
            if !push(batch, self.plan.from_key_log, frame, note.address, meta) {
                // Longer than any batch holds: it is a frame read and dropped.
                push(batch, false, &[], note.address, meta);
                if let Some(slot) = batch.slots_mut().last_mut() {
                    slot.verdict = Verdict::TooLong;
                }
            }
            to += 1;
        }
        self.times[Step::Take as usize].add(&StageTime {
            spent: began.elapsed(),
            frames: (to - from) as u64,
            octets: part.notes()[from..to].iter().map(|n| u64::from(n.len)).sum(),
        });
        to
    }

    /// Brings a batch over a hop; `from` is where its frames begin in the part.
    fn run_batch(&mut self, hop: Hop, part: &mut Part, from: usize, batch: &mut Batch) -> anyhow::Result<()> {
        let mut began = Instant::now();
        for (i, &step) in self.plan.steps(hop).iter().enumerate() {
            if i > 0 && matches!(step, Step::OwnerOpen | Step::MembersOpen) {
                batch.loop_back();
            }
            match step {
                Step::MembersProtect => self.members.protect(batch, self.now)?,
                Step::OwnerOpen => self.owner.open(batch, self.now)?,
                Step::OwnerProtect => self.owner.protect(batch, self.now)?,
                Step::MembersOpen => self.members.open(batch, self.now)?,
                Step::MonitorOpen => {
                    self.monitor.open(batch, self.now)?;
                    // Reading along asks nobody for anything.
                    self.monitor.take_events();
                }
                Step::Compare => part.compare(batch, from),
                // Before and after those of a plan.
                Step::Take | Step::Render => {}
            }
            began = self.clock(step, began, batch);
        }
        if self.plan.ends_with(hop) {
            part.tally(batch);
            if let Some(output) = self.shape.renders {
                part.render(batch, output)?;
                self.clock(Step::Render, began, batch);
            }
        }
        Ok(())
    }

    fn clock(&mut self, step: Step, began: Instant, batch: &Batch) -> Instant {
        let ended = Instant::now();
        let slots = batch.slots();
        self.times[step as usize].add(&StageTime {
            spent: ended - began,
            frames: slots.len() as u64,
            octets: slots.iter().map(|s| s.len as u64).sum(),
        });
        ended
    }

    /// What the engine of a step has counted, PC5-S included.
    pub(crate) fn counters(&self, step: Step) -> Counters {
        match step {
            Step::MembersProtect => self.members.sealed().clone(),
            Step::OwnerOpen => self.owner.opened().clone(),
            Step::OwnerProtect => self.owner.sealed().clone(),
            Step::MembersOpen => self.members.opened().clone(),
            Step::MonitorOpen => self.monitor.opened().clone(),
            Step::Take | Step::Compare | Step::Render => Counters::new(),
        }
    }

    /// Carries one PC5-S message over the air. Returns what either engine tells control, and the frame.
    pub(crate) fn signal(
        &mut self,
        from: End,
        message: &Outgoing,
    ) -> Result<(Vec<Event>, Vec<u8>, Verdict), EngineError> {
        let mut batch = Batch::new(1);
        let address = Address::to(message.to, message.from);
        let (lcid, sdu_type) = (message.lcid, SduType::Pc5Signalling);
        let pushed = batch.push_sdu(address, lcid, sdu_type, &message.sdu, Meta::default());
        if pushed.is_none() {
            return Ok((Vec::new(), Vec::new(), Verdict::TooLong));
        }
        batch.slots_mut()[0].key_id = message.under.map_or(0, |id| id.get());
        let (sender, receiver) = match from {
            End::Members => (&mut self.members, &mut self.owner),
            End::Owner => (&mut self.owner, &mut self.members),
        };
        sender.protect(&mut batch, self.now)?;
        let mut events: Vec<Event> = sender.take_events().collect();
        let on_air = batch.frame(0).to_vec();
        let (seals, opens) = match from {
            End::Members => (Step::MembersProtect, Step::OwnerOpen),
            End::Owner => (Step::OwnerProtect, Step::MembersOpen),
        };
        self.signalled[seals as usize] += 1;
        if batch.slots()[0].verdict == Verdict::Accepted {
            batch.loop_back();
            receiver.open(&mut batch, self.now)?;
            events.extend(receiver.take_events());
            self.signalled[opens as usize] += 1;
        }
        Ok((events, on_air, batch.slots()[0].verdict))
    }
}

/// Puts a noted frame into a batch, protected or to be protected; `false` when it has no room.
#[inline(always)]
fn push(batch: &mut Batch, is_protected: bool, frame: &[u8], address: Address, meta: Meta) -> bool {
    let pushed = match is_protected {
        true => batch.push_frame(frame, meta),
        false => batch.push_sdu(address, Lcid::USER, SduType::NonIp, frame, meta),
    };
    pushed.is_some()
}

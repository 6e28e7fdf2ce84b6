//! One worker of a replay: both ends of the air, and the clock of each stage.

use std::time::{Duration, Instant};

use pc5_dataplane::EngineError;
use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, Now};
use pc5_dataplane::ids::{Lcid, SduType};
use pc5_dataplane::keys::Event;
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::{Counters, Verdict};

/// What a lane does with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
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
}

impl Step {
    /// Every step.
    pub(crate) const ALL: [Self; 6] = [
        Self::MembersProtect,
        Self::OwnerOpen,
        Self::OwnerProtect,
        Self::MembersOpen,
        Self::MonitorOpen,
        Self::Compare,
    ];

    /// Name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MembersProtect => "ue_protect",
            Self::OwnerOpen => "owner_verify",
            Self::OwnerProtect => "owner_protect",
            Self::MembersOpen => "ue_verify",
            Self::MonitorOpen => "key_log_verify",
            Self::Compare => "compare",
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

/// A batch with what it is compared with in the end.
pub(crate) struct Part {
    pub batch: Batch,
    /// The captured frames, one after the other, where they are compared.
    pub reference: Vec<u8>,
    pub ends: Vec<usize>,
    /// Frames that came out otherwise than they went in.
    pub differing: u64,
    /// Verdicts at the end of its way, and octets of what was accepted.
    pub outcome: Counters,
    pub accepted_octets: u64,
}

impl Part {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            batch: Batch::new(slots),
            reference: Vec::new(),
            ends: Vec::with_capacity(slots),
            differing: 0,
            outcome: Counters::new(),
            accepted_octets: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.reference.clear();
        self.ends.clear();
        self.differing = 0;
        self.outcome = Counters::new();
        self.accepted_octets = 0;
    }

    pub(crate) fn remember(&mut self, captured: &[u8]) {
        self.reference.extend_from_slice(captured);
        self.ends.push(self.reference.len());
    }

    /// What slot `i` was captured as.
    pub(crate) fn captured(&self, i: usize) -> &[u8] {
        let from = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.reference[from..self.ends[i]]
    }

    /// Counts what became of its frames, at the end of their way.
    pub(crate) fn tally(&mut self) {
        (self.outcome, self.accepted_octets) = (Counters::new(), 0);
        for slot in self.batch.slots() {
            self.outcome.count(slot.verdict);
            if slot.verdict == Verdict::Accepted {
                self.accepted_octets += slot.len as u64;
            }
        }
    }

    fn compare(&mut self) {
        for i in 0..self.batch.len() {
            let same =
                self.batch.slots()[i].verdict != Verdict::Accepted || self.batch.data(i) == self.captured(i);
            self.differing += u64::from(!same);
        }
    }
}

/// PC5-S on its way between the two ends.
pub(crate) struct SignallingFrame {
    pub address: Address,
    pub lcid: Lcid,
    /// KD-sess id to send under, 0 for the one in use.
    pub under: u16,
    pub message: Vec<u8>,
}

/// Which end sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Members,
    Owner,
}

/// One worker's engines: all UEs, the owner, and a reader of key logs.
pub(crate) struct Lane {
    pub members: Engine,
    pub owner: Engine,
    pub monitor: Engine,
    pub now: Now,
    pub times: [StageTime; Step::ALL.len()],
}

impl Lane {
    /// Runs the steps over a part, in place.
    pub(crate) fn run(&mut self, steps: &[Step], part: &mut Part) -> Result<(), EngineError> {
        let mut began = Instant::now();
        for (i, &step) in steps.iter().enumerate() {
            if i > 0 && matches!(step, Step::OwnerOpen | Step::MembersOpen) {
                part.batch.loop_back();
            }
            match step {
                Step::MembersProtect => self.members.protect(&mut part.batch, self.now)?,
                Step::OwnerOpen => self.owner.open(&mut part.batch, self.now)?,
                Step::OwnerProtect => self.owner.protect(&mut part.batch, self.now)?,
                Step::MembersOpen => self.members.open(&mut part.batch, self.now)?,
                Step::MonitorOpen => {
                    self.monitor.open(&mut part.batch, self.now)?;
                    // Reading along asks nobody for anything.
                    self.monitor.take_events();
                }
                Step::Compare => part.compare(),
            }
            let ended = Instant::now();
            let slots = part.batch.slots();
            self.times[step as usize].add(&StageTime {
                spent: ended - began,
                frames: slots.len() as u64,
                octets: slots.iter().map(|s| s.len as u64).sum(),
            });
            began = ended;
        }
        Ok(())
    }

    /// Carries one PC5-S message over the air. Returns what either engine tells control, and the frame.
    pub(crate) fn signal(
        &mut self,
        from: End,
        frame: &SignallingFrame,
    ) -> Result<(Vec<Event>, Vec<u8>, Verdict), EngineError> {
        let mut batch = Batch::new(1);
        let pushed = batch.push_sdu(
            frame.address,
            frame.lcid,
            SduType::Pc5Signalling,
            &frame.message,
            Meta::default(),
        );
        if pushed.is_none() {
            return Ok((Vec::new(), Vec::new(), Verdict::TooLong));
        }
        batch.slots_mut()[0].key_id = frame.under;
        let (sender, receiver) = match from {
            End::Members => (&mut self.members, &mut self.owner),
            End::Owner => (&mut self.owner, &mut self.members),
        };
        sender.protect(&mut batch, self.now)?;
        let mut events: Vec<Event> = sender.take_events().collect();
        let on_air = batch.frame(0).to_vec();
        if batch.slots()[0].verdict == Verdict::Accepted {
            batch.loop_back();
            receiver.open(&mut batch, self.now)?;
            events.extend(receiver.take_events());
        }
        Ok((events, on_air, batch.slots()[0].verdict))
    }
}

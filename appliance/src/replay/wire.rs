//! The way of a replay onto a wire: protected frames leave by the best sending port of an interface.

use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::io::{Sender, TxOutcome};
use pc5_dataplane::pdu::spec;
use pc5_dataplane::verdict::{Counters, Verdict};

use super::lane::StageTime;
use super::part::{Part, notes_in_order};

/// An interface that a replay sends on.
pub(crate) struct Wire {
    sender: Sender,
    /// Frames of a round that go, by part and slot, in order of arrival.
    going: Vec<(usize, usize)>,
    /// They are put together here where a round has several parts.
    together: Batch,
    report: WireReport,
}

/// What became of the frames that were to go on the wire.
#[derive(Clone)]
pub(crate) struct WireReport {
    pub interface: String,
    /// Way of the port.
    pub way: &'static str,
    /// Why it is not the better one.
    pub refused: Option<String>,
    /// PC5-S frames that left.
    pub signalling: u64,
    /// User-data frames, by what became of them.
    pub counters: Counters,
    pub time: StageTime,
}

impl Wire {
    /// Opens an interface that is up.
    pub(crate) fn open(interface: &str) -> anyhow::Result<Self> {
        let sender = Sender::open(interface, None, PATIENCE).map_err(|e| anyhow::anyhow!("--to {e}"))?;
        let report = WireReport {
            interface: interface.to_owned(),
            way: sender.way().name(),
            refused: sender.refused().map(ToString::to_string),
            signalling: 0,
            counters: Counters::new(),
            time: StageTime::default(),
        };
        Ok(Self { sender, going: Vec::new(), together: Batch::new(TOGETHER), report })
    }

    /// Sends the accepted frames of a round. What does not leave gets its verdict: too long for the interface, or what the
    /// port says.
    pub(crate) fn send(&mut self, parts: &mut [Box<Part>]) -> anyhow::Result<()> {
        let began = Instant::now();
        let longest = self.sender.max_frame();
        self.going.clear();
        self.going.extend(notes_in_order(parts));
        self.going.retain(|&(p, i)| {
            let Some(batch) = &mut parts[p].kept else { return false };
            if batch.slots()[i].verdict != Verdict::Accepted {
                return false;
            }
            let len = batch.frame(i).len();
            if len > longest {
                batch.slots_mut()[i].verdict = Verdict::TooLong;
                self.report.counters.count(Verdict::TooLong);
                return false;
            }
            self.report.time.octets += len as u64;
            true
        });
        let outcome = match parts {
            [part] => {
                part.kept.as_ref().map(|batch| self.sender.send(batch)).transpose()?.unwrap_or_default()
            }
            _ => self.send_together(parts)?,
        };
        self.report.time.frames += self.going.len() as u64;
        self.settle(&outcome, parts);
        self.report.time.spent += began.elapsed();
        Ok(())
    }

    fn send_together(&mut self, parts: &[Box<Part>]) -> anyhow::Result<TxOutcome> {
        let mut outcome = TxOutcome::default();
        for &(p, i) in &self.going {
            let Some(batch) = &parts[p].kept else { continue };
            let frame = batch.frame(i);
            if !push(&mut self.together, frame) {
                outcome.add(&self.sender.send(&self.together)?);
                self.together.clear();
                push(&mut self.together, frame);
            }
        }
        outcome.add(&self.sender.send(&self.together)?);
        self.together.clear();
        Ok(outcome)
    }

    /// A port that gives up does so from a frame to the end of a burst, so what did not leave is taken from the end.
    fn settle(&mut self, outcome: &TxOutcome, parts: &mut [Box<Part>]) {
        self.report.counters.count_many(Verdict::Accepted, outcome.sent);
        let lost = [
            (Verdict::Overload, outcome.overload + outcome.no_address),
            (Verdict::LinkDown, outcome.link_down),
            (Verdict::TooLong, outcome.too_long),
        ];
        for (verdict, n) in lost {
            self.report.counters.count_many(verdict, n);
            for _ in 0..n {
                if let Some((p, i)) = self.going.pop()
                    && let Some(batch) = &mut parts[p].kept
                {
                    batch.slots_mut()[i].verdict = verdict;
                }
            }
        }
    }

    /// Sends a PC5-S frame.
    pub(crate) fn send_signalling(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        push(&mut self.together, frame);
        self.report.signalling += self.sender.send(&self.together)?.sent;
        self.together.clear();
        Ok(())
    }

    /// What became of the frames so far.
    pub(crate) fn report(&self) -> &WireReport {
        &self.report
    }
}

/// Adds a sealed frame as it stands; `false` when there is no room.
fn push(batch: &mut Batch, frame: &[u8]) -> bool {
    let Some(i) = batch.push_frame(frame, Meta::default()) else { return false };
    let slot = &mut batch.slots_mut()[i];
    slot.len = frame.len().saturating_sub(spec::HEADER_LEN) as u32;
    slot.verdict = Verdict::Accepted;
    true
}

/// How long frames wait for room on the way out: a slow device sets the pace.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames put together at most.
const TOGETHER: usize = 256;

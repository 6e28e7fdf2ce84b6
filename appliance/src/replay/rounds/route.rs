//! The owner's decision: where a frame that came up a link goes.

use std::time::Instant;

use pc5_dataplane::batch::Batch;
use pc5_dataplane::pdu::{Address, Destination};
use pc5_dataplane::verdict::Verdict;

use super::Rounds;
use crate::replay::inner;
use crate::replay::lane::StageTime;
use crate::replay::part::{Note, Part, notes_in_order};

impl Rounds<'_> {
    /// Decides over a round, in order of arrival; gives parts for the lanes of the ways out.
    pub(super) fn route(&mut self, mut parts: Vec<Box<Part>>) -> anyhow::Result<Vec<Box<Part>>> {
        let began = Instant::now();
        let frames = parts.iter().map(|p| p.notes().len() as u64).sum();
        let routed = match (self.lanes.len(), parts.len()) {
            // Every way out has the same lane.
            (1, 1) => {
                self.route_in_place(&mut parts[0])?;
                parts
            }
            _ => self.route_across(parts)?,
        };
        self.bridge_time.add(&StageTime { spent: began.elapsed(), frames, octets: 0 });
        Ok(routed)
    }

    /// Opened slots become SDUs to be sealed.
    fn route_in_place(&mut self, part: &mut Part) -> anyhow::Result<()> {
        let Some(mut batch) = part.kept.take() else { return Ok(()) };
        for i in 0..batch.len() {
            let decided = self.decide(&batch, i)?;
            let slot = &mut batch.slots_mut()[i];
            slot.verdict = match decided {
                Ok(address) => {
                    slot.address = address;
                    Verdict::Pending
                }
                Err(verdict) => verdict,
            };
        }
        part.kept = Some(batch);
        Ok(())
    }

    /// SDUs that were opened by one lane are copied to that of their way out.
    fn route_across(&mut self, parts: Vec<Box<Part>>) -> anyhow::Result<Vec<Box<Part>>> {
        let memory = parts.first().map(|p| p.memory.clone()).unwrap_or_default();
        let mut routed: Vec<Box<Part>> = Vec::new();
        // Where in `routed` each lane's newest part is.
        let mut newest: Vec<Option<usize>> = vec![None; self.lanes.len()];
        for (p, i) in notes_in_order(&parts) {
            let Some(batch) = &parts[p].kept else { continue };
            let address = match self.decide(batch, i)? {
                Ok(address) => address,
                Err(verdict) => {
                    self.outcome.count(verdict);
                    continue;
                }
            };
            let lane = self.lane_of(address);
            let (slot, data) = (batch.slots()[i], batch.data(i));
            let full = |n: usize| routed[n].is_full_for(data.len());
            if newest[lane].is_none_or(full) {
                // A round can gather more for one way out than a part holds: it takes a further one, right behind.
                newest[lane] = Some(routed.len());
                routed.push(self.spare(lane, &memory));
            }
            let Some(n) = newest[lane] else { continue };
            let part = &mut routed[n];
            part.push(Note { address, meta: batch.meta()[i], ..parts[p].notes()[i] });
            if let Some(out) = &mut part.kept {
                let pushed = out.push_sdu(address, slot.lcid, slot.sdu_type, data, batch.meta()[i]);
                debug_assert!(pushed.is_some(), "a part has room for what it takes notes of");
            }
        }
        self.recycle(parts);
        Ok(routed)
    }

    /// The way out of one frame, or why there is none. Its member joins, if it has not.
    fn decide(&mut self, batch: &Batch, i: usize) -> anyhow::Result<Result<Address, Verdict>> {
        let (slot, meta) = (&batch.slots()[i], batch.meta()[i]);
        let decided = if slot.verdict != Verdict::Accepted || !slot.lcid.is_user() {
            Err(slot.verdict)
        } else if slot.address.is_group() {
            Err(Verdict::NotForwarded)
        } else {
            let (from, to) = inner::addresses(self.link_type(meta.interface), batch.data(i));
            let source = slot.address.source();
            match self.directory.bind(from, source) {
                true => Ok(self.directory.bridge(self.plan.cast, source, to)),
                false => Err(Verdict::InnerSource),
            }
        };
        match decided {
            Ok(destination) => {
                if let Destination::Ue(member) = destination {
                    self.join(member, meta)?;
                }
                self.bridged.count(Verdict::Accepted);
                Ok(Ok(Address::to(destination, super::OWNER)))
            }
            Err(verdict) => {
                self.bridged.count(verdict);
                Ok(Err(verdict))
            }
        }
    }
}

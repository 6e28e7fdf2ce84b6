//! What becomes of opened SDUs: the bridge's decisions carried out, or the device of a UE.

use pc5_dataplane::batch::Meta;
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::Verdict;

use super::{DataPlane, Role, Which};
use crate::run::bridge::Route;

impl DataPlane {
    /// Finds the way of opened SDUs. Says whether something in the batch is to be sent on.
    pub(super) fn route(&mut self) -> anyhow::Result<bool> {
        let mut forward = false;
        for i in 0..self.batch.len() {
            let slot = self.batch.slots()[i];
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            // What goes no further must not look like a frame to send.
            self.batch.slots_mut()[i].verdict = Verdict::NotForwarded;
            if !slot.lcid.is_user() {
                self.signalling += 1;
                continue;
            }
            let bridge = match &mut self.role {
                Role::Ue(ue) => {
                    match ue.way.admits(slot.sdu_type, self.batch.data(i)) {
                        Verdict::Accepted => self.batch.slots_mut()[i].verdict = Verdict::Accepted,
                        dropped => self.delivered.count(dropped),
                    }
                    continue;
                }
                Role::Owner(bridge) => bridge,
            };
            let verdict = match bridge.route(slot.address, slot.sdu_type, self.batch.data(i)) {
                Route::Drop(verdict) => verdict,
                Route::Taken => Verdict::Accepted,
                Route::Member(member) => {
                    self.pass_on(i, Address::link(member, owner_of(slot.address)));
                    forward = true;
                    Verdict::Accepted
                }
                Route::Group(group) => {
                    let owner = owner_of(slot.address);
                    self.copy_to_links(i, owner)?;
                    self.pass_on(i, Address::group(group, owner));
                    forward = true;
                    Verdict::Accepted
                }
            };
            self.bridged.count(verdict);
        }
        if let Role::Ue(ue) = &mut self.role {
            let taken = ue.tun.tx(&self.batch)?;
            let outcomes = [
                (Verdict::Accepted, taken.sent),
                (Verdict::Overload, taken.overload + taken.link_down),
                (Verdict::TooLong, taken.too_long),
                (Verdict::Reserved, taken.no_address),
            ];
            for (verdict, n) in outcomes {
                (0..n).for_each(|_| self.delivered.count(verdict));
            }
        }
        self.send_copies()?;
        Ok(forward)
    }

    /// Makes an opened slot one to be sealed, in place.
    fn pass_on(&mut self, i: usize, address: Address) {
        let slot = &mut self.batch.slots_mut()[i];
        (slot.address, slot.verdict, slot.key_id) = (address, Verdict::Pending, 0);
    }

    /// Group data for members that have not got the key in use, one by one.
    fn copy_to_links(&mut self, i: usize, owner: Layer2Id) -> anyhow::Result<()> {
        let slot = self.batch.slots()[i];
        let Role::Owner(bridge) = &self.role else { return Ok(()) };
        let members: Vec<Layer2Id> = bridge.copies(owner, slot.address.source()).collect();
        for member in members {
            if self.copies.is_full_for(self.batch.data(i).len()) {
                self.send_copies()?;
            }
            let address = Address::link(member, owner);
            let data = self.batch.data(i);
            if self.copies.push_sdu(address, slot.lcid, slot.sdu_type, data, Meta::default()).is_some() {
                self.copied += 1;
            }
        }
        Ok(())
    }

    fn send_copies(&mut self) -> anyhow::Result<()> {
        if self.copies.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut self.batch, &mut self.copies);
        let sent = self.seal_and_send(Which::Data);
        std::mem::swap(&mut self.batch, &mut self.copies);
        self.copies.clear();
        sent
    }
}

/// Our side of a link that a frame came over.
fn owner_of(address: Address) -> Layer2Id {
    address.reversed().source()
}

//! What becomes of opened SDUs: the bridge's decisions carried out, or the device of a UE.

use pc5_dataplane::batch::Meta;
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::pdu::Address;
use pc5_dataplane::share::Share;
use pc5_dataplane::verdict::Verdict;

use super::mail::{Item, Sdu};
use super::{DataPlane, Role, Which};
use crate::run::bridge::{Route, View};

impl DataPlane {
    /// What an owner's bridge knows now. Control tells the bridge who needs copies before it publishes the key that makes them
    /// needed: a view that is taken after the engine followed the keys misses nobody.
    pub(super) fn view(&self) -> Option<View> {
        match &self.role {
            Role::Owner(bridge) => Some(bridge.view()),
            Role::Ue(_) => None,
        }
    }

    /// Finds the way of opened SDUs. Says whether something in the batch is to be sent on.
    pub(super) fn route(&mut self) -> anyhow::Result<bool> {
        let mut view = self.view();
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
            let Some(view) = &mut view else {
                self.admit(i);
                continue;
            };
            let owner = owner_of(slot.address);
            match view.route(slot.address, slot.sdu_type, self.batch.data(i)) {
                Route::Drop(verdict) => self.bridged.count(verdict),
                Route::Taken => self.bridged.count(Verdict::Accepted),
                Route::Member(member) => forward |= self.pass_on(i, Address::link(member, owner)),
                Route::Group(group) => {
                    let address = Address::group(group, owner);
                    if Share::owner(address, self.share.workers) == self.share.worker {
                        self.copy_to_links(i, owner, slot.address.source(), view)?;
                    }
                    forward |= self.pass_on(i, address);
                }
            }
        }
        self.deliver()?;
        self.send_copies()?;
        Ok(forward)
    }

    /// Gives what was admitted to the devices of a UE, each what was for its group.
    fn deliver(&mut self) -> anyhow::Result<()> {
        let Role::Ue(ues) = &mut self.role else { return Ok(()) };
        let several = ues.len() > 1;
        for ue in ues {
            if several {
                // Those of the others wait for their turn.
                for slot in self.batch.slots_mut() {
                    let admitted = matches!(slot.verdict, Verdict::Accepted | Verdict::Pending);
                    if admitted && slot.lcid.is_user() {
                        let here = ue.way.is_to(slot.address);
                        slot.verdict = if here { Verdict::Accepted } else { Verdict::Pending };
                    }
                }
            }
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
        Ok(())
    }

    /// Lets an SDU to the device of a UE, if it may go there.
    fn admit(&mut self, i: usize) {
        let Role::Ue(ues) = &mut self.role else { return };
        let slot = self.batch.slots()[i];
        let Some(ue) = ues.iter().find(|ue| ue.way.is_to(slot.address)) else {
            self.delivered.count(Verdict::NotForUs);
            return;
        };
        match ue.way.admits(slot.sdu_type, self.batch.data(i)) {
            Verdict::Accepted => self.batch.slots_mut()[i].verdict = Verdict::Accepted,
            dropped => self.delivered.count(dropped),
        }
    }

    /// Makes an opened slot one to be sealed, in place, or hands it to the worker that owns the way out. Says whether it
    /// stays here.
    fn pass_on(&mut self, i: usize, address: Address) -> bool {
        let worker = Share::owner(address, self.share.workers);
        if worker != self.share.worker {
            let slot = self.batch.slots()[i];
            let group_from = address.is_group().then(|| slot.address.source());
            let sdu = Sdu { address, lcid: slot.lcid, sdu_type: slot.sdu_type, group_from, copy: false };
            self.mail.add(worker, Item::Sdu(sdu), self.batch.data(i));
            return false;
        }
        let slot = &mut self.batch.slots_mut()[i];
        (slot.address, slot.verdict, slot.key_id) = (address, Verdict::Pending, 0);
        self.bridged.count(Verdict::Accepted);
        true
    }

    /// Group data of one member for others that have not got the key in use, one by one.
    pub(super) fn copy_to_links(
        &mut self,
        i: usize,
        owner: Layer2Id,
        from: Layer2Id,
        view: &View,
    ) -> anyhow::Result<()> {
        let slot = self.batch.slots()[i];
        for member in view.copies(owner, from) {
            let address = Address::link(member, owner);
            let worker = Share::owner(address, self.share.workers);
            if worker != self.share.worker {
                let sdu =
                    Sdu { address, lcid: slot.lcid, sdu_type: slot.sdu_type, group_from: None, copy: true };
                self.mail.add(worker, Item::Sdu(sdu), self.batch.data(i));
                continue;
            }
            if self.copies.is_full_for(self.batch.data(i).len()) {
                self.send_copies()?;
            }
            let data = self.batch.data(i);
            if self.copies.push_sdu(address, slot.lcid, slot.sdu_type, data, Meta::default()).is_some() {
                self.copied += 1;
            }
        }
        Ok(())
    }

    pub(super) fn send_copies(&mut self) -> anyhow::Result<()> {
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

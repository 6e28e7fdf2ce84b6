//! New settings of a group while it lives.

use std::collections::BTreeSet;

use pc5_dataplane::ids::Layer2Id;
use rand_core::CryptoRng;

use super::Core;
use super::group::Group;
use crate::clock::Now;
use crate::credential::Identity;
use crate::group_owner::{Ended, Notice};
use crate::policy::GroupPolicy;
use crate::reject::Reject;

impl Group {
    /// Takes the settings that a living group can change; who is not admitted any more is excluded at once.
    ///
    /// Ids, the group's suite, who transmits and the times that members were told when they joined stay as they are.
    pub(super) fn set_policy<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        wanted: &GroupPolicy,
        now: Now,
        rng: &mut R,
    ) {
        let policy = self.policy.with_living(wanted);
        if let Err(e) = policy.check() {
            core.out.notice(Notice::Ignored { source: self.policy.owner, detail: e.to_string() });
            return;
        }
        self.policy = policy;
        self.hasten_change(now);
        core.touched.extend(self.members.keys().map(|&peer| (self.policy.owner, peer)));

        let members: Vec<(Layer2Id, Identity)> =
            self.members.iter().map(|(&peer, m)| (peer, m.leaf.identity.clone())).collect();
        let mut excluded = false;
        for (peer, identity) in members {
            if self.admitted(&identity).is_err() {
                self.remove(core, peer, Ended::Refused(Reject::NotAdmitted), now);
                excluded = true;
            }
        }
        for (_, leaf) in self.joining() {
            if self.admitted(&leaf.identity).is_err() {
                excluded |= self.drop_half_open_of(core, &leaf.identity);
            }
        }
        let bound: BTreeSet<Identity> = self.bindings.values().map(|b| b.identity.clone()).collect();
        excluded |= bound.iter().any(|i| self.admitted(i).is_err() && self.still_holds(i, now));
        if excluded {
            self.exclude(core, now, rng);
        }
    }
}

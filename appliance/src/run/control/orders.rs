//! What operators ask of control.

use std::time::Instant;

use pc5_control::credential::Identity;
use pc5_control::group_owner::{Input, Order};
use pc5_dataplane::ids::{GroupId, Layer2Id};

use super::screens::busy;
use super::{Baseline, Control, Procedure};
use crate::run::status::{Ask, Body};

impl Control {
    /// Does what is asked. What the state did not take is not called done.
    pub(super) fn answer(&mut self, ask: Ask) -> Body {
        self.unwritten = None;
        let body = self.done(ask);
        match (body, self.unwritten.take()) {
            (Body::Done(_), Some(why)) => Body::Failed(format!(
                "{why}: what was ordered is not done, or holds no longer than this process does; give the state room \
                 to be written, then give the order again"
            )),
            (body, _) => body,
        }
    }

    fn done(&mut self, ask: Ask) -> Body {
        match ask {
            Ask::Show { what } => self.show(what),
            Ask::Reload => self.reload(),
            // The admin socket does these by itself.
            Ask::Metrics | Ask::Events => Body::Failed("to be asked on the admin socket".into()),
            Ask::ClearCounters => match self.data_status() {
                Some(status) => {
                    self.baseline = Baseline { at: Instant::now(), counts: status.drops() };
                    Body::Done("counters are shown from now on; totals and keys are untouched".into())
                }
                None => busy(),
            },
            Ask::RekeyGroup { group } => {
                self.order_owner(group, |group| Ok(Order::RekeyGroup(group)), "rekey")
            }
            Ask::Evict { identity, group } => self.order_owner(
                group,
                |group| Ok(Order::Evict { group, identity: named(&identity)? }),
                "evict",
            ),
            Ask::Readmit { identity, group } => self.order_owner(
                group,
                |group| Ok(Order::Readmit { group, identity: named(&identity)? }),
                "readmit",
            ),
            Ask::RekeyLink { peer, refresh } => self.rekey_link(peer.as_deref(), refresh),
            Ask::Connect { group } => self.order_ue(group.as_deref(), Order::Join, "joining"),
            Ask::Release { group } => self.order_ue(group.as_deref(), Order::Leave, "leaving"),
        }
    }

    /// To one membership, or to all.
    fn order_ue(&mut self, group: Option<&str>, order: Order, done: &str) -> Body {
        if matches!(self.procedure, Procedure::Owner(_)) {
            return Body::Refused("this is an owner; its members connect and release".into());
        }
        let Some(name) = group else {
            self.input(Input::Order(order));
            return Body::Done(done.into());
        };
        match self.group(Some(name)) {
            Err(why) => Body::Failed(why),
            Ok(group) => {
                self.input_of(group, Input::Order(order));
                Body::Done(format!("group {group}: {done}"))
            }
        }
    }

    fn order_owner(
        &mut self,
        group: Option<String>,
        order: impl FnOnce(GroupId) -> Result<Order, String>,
        what: &str,
    ) -> Body {
        if !matches!(self.procedure, Procedure::Owner(_)) {
            return Body::Refused(format!("this is a UE; only a group's owner can {what}"));
        }
        match self.group(group.as_deref()).and_then(|group| Ok((group, order(group)?))) {
            Err(why) => Body::Failed(why),
            Ok((group, order)) => {
                self.input(Input::Order(order));
                Body::Done(format!(
                    "group {group}: {what} done; `pc5 show groups` tells when all have the new key"
                ))
            }
        }
    }

    /// The group that is named, or the only one.
    fn group(&self, name: Option<&str>) -> Result<GroupId, String> {
        let served: Vec<String> = self.facts.groups.iter().map(|(g, _)| g.to_string()).collect();
        match (name, self.facts.groups.as_slice()) {
            (None, [(only, _)]) => Ok(*only),
            (None, _) => Err(format!("which group? --group is one of {}", served.join(" "))),
            (Some(name), groups) => groups
                .iter()
                .map(|(g, _)| *g)
                .find(|g| g.to_string().eq_ignore_ascii_case(name))
                .ok_or_else(|| format!("no group '{name}' here; there are {}", served.join(" "))),
        }
    }

    fn rekey_link(&mut self, peer: Option<&str>, refresh: bool) -> Body {
        let mut peers: Vec<Layer2Id> = self.table.current().links().map(|l| l.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        let peer = match (peer, peers.as_slice()) {
            (None, [only]) => *only,
            (None, _) => {
                return Body::Failed(
                    "which link? name the peer's Layer-2 id, as `pc5 show links` has it".into(),
                );
            }
            (Some(text), known) => match known.iter().find(|p| p.to_string().eq_ignore_ascii_case(text)) {
                Some(peer) => *peer,
                None => return Body::Failed(format!("no link with '{text}'; `pc5 show links` has them")),
            },
        };
        self.input(Input::Order(Order::RekeyLink { peer, refresh }));
        Body::Done(format!("link with {peer}: re-keying began"))
    }
}

fn named(identity: &str) -> Result<Identity, String> {
    identity.parse().map_err(|e| format!("'{identity}': {e}; write pc5:MCC-MNC:ue:ID"))
}

//! The procedures of a station: an owner of groups, or a UE's memberships.

use std::time::Duration;

use getrandom::SysRng;
use pc5_control::clock::Now;
use pc5_control::group_owner::{Input, Member, MemberState, Output, Owner, Sessions};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::keys::{Event, Signalling};
use rand_core::UnwrapErr;

/// The procedures of this station.
pub(crate) enum Procedure {
    Owner(Box<Owner>),
    /// One a group.
    Ue(Vec<Membership>),
}

/// A UE in one group.
pub(crate) struct Membership {
    pub group: GroupId,
    /// Its Layer-2 id in it.
    pub layer2: Layer2Id,
    pub kind: Kind,
}

/// By what procedure it has the group's keys.
pub(crate) enum Kind {
    /// From the group's owner.
    Member(Box<Member>),
    /// The group has none: each talker makes its own.
    Sessions(Box<Sessions>),
}

impl Procedure {
    pub(super) fn handle(&mut self, input: Input, now: Now) {
        // A system without randomness cannot make keys: nothing to do but stop.
        let rng = &mut UnwrapErr(SysRng);
        match self {
            Self::Owner(owner) => owner.handle(input, now, rng),
            Self::Ue(memberships) => match memberships.as_mut_slice() {
                [only] => only.handle(input, now),
                all => {
                    for membership in all {
                        if let Some(its) = membership.concerns(&input) {
                            membership.handle(its, now);
                        }
                    }
                }
            },
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Owner(owner) => owner.poll(),
            Self::Ue(memberships) => memberships.iter_mut().find_map(Membership::poll),
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Owner(owner) => owner.deadline(),
            Self::Ue(memberships) => memberships.iter().filter_map(Membership::deadline).min(),
        }
    }

    /// Whether nobody is connected any more, and those who were are told.
    pub(super) fn is_apart(&self, now: Now) -> bool {
        match self {
            Self::Owner(owner) => owner.members(now).next().is_none(),
            Self::Ue(memberships) => memberships.iter().all(|m| match &m.kind {
                Kind::Member(member) => member.state() == MemberState::Apart,
                Kind::Sessions(sessions) => sessions.is_settled(),
            }),
        }
    }
}

impl Membership {
    pub(super) fn handle(&mut self, input: Input, now: Now) {
        let rng = &mut UnwrapErr(SysRng);
        match &mut self.kind {
            Kind::Member(member) => member.handle(input, now, rng),
            Kind::Sessions(sessions) => sessions.handle(input, now, rng),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        match &mut self.kind {
            Kind::Member(member) => member.poll(),
            Kind::Sessions(sessions) => sessions.poll(),
        }
    }

    fn deadline(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Member(member) => member.deadline(),
            Kind::Sessions(sessions) => sessions.deadline(),
        }
    }

    /// What of an input one of several memberships gets: its own frames, and everything that does not say whose it is.
    fn concerns(&self, input: &Input) -> Option<Input> {
        let of = |frame: &Signalling| match (frame.local, frame.group) {
            (Some(local), _) => local == self.layer2,
            (None, group) => group == Some(self.group),
        };
        Some(match input {
            Input::Frame(frame) | Input::Engine(Event::Signalling(frame)) => {
                Input::Frame(of(frame).then(|| frame.clone())?)
            }
            Input::Engine(event) => Input::Engine(event.clone()),
            Input::Order(order) => Input::Order(order.clone()),
            Input::Crl(der) => Input::Crl(der.clone()),
            Input::TrustChanged => Input::TrustChanged,
            Input::Renewed(chain) => Input::Renewed(chain.clone()),
            Input::Floors { group, pgk_id, floors } if *group == self.group => {
                Input::Floors { group: *group, pgk_id: *pgk_id, floors: floors.clone() }
            }
            Input::Floors { .. } => return None,
            Input::Time => Input::Time,
        })
    }
}

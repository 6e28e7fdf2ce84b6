//! Group-owner mode: join, group keys, re-keying, leaving; and decentralised sessions. State machines without I/O.
//! Source: `go-mode.md`; contributions S0, S3 and S4 as it maps them.
//!
//! ```text
//!            Input: frames, engine events, orders, CRLs, time
//!                 v                                   v
//!    Owner (many members, several groups)     Member (one group)        poll() -> Output: send, install, notice
//!     join  1 <- 2 -> 3 <- 4 -> 5 <- 6          join
//!     distribution: epochs, grants, floors      distribution: what is held
//!     rekeying: commands                        rekeying: asks
//!     release, keepalive, announce, CRLs        release, keepalive, CRLs
//! ```
//! [`Owner`] and [`Member`] stand around the procedures: `handle(input, now, rng)`, `poll()`, `deadline()`.

mod contexts;
mod device;
pub mod distribution;
mod flood;
pub mod join;
pub mod lockstep;
mod member;
mod owner;
mod rekeying;
mod repeat;
pub mod schedule;
mod session;

pub use device::{Device, DeviceError, SharedTrust, Trust};
pub use member::{Member, MemberState};
pub use owner::{MemberView, Owner};
pub use session::{GroupPsk, SessionView, Sessions};

use std::collections::VecDeque;

use bytes::Bytes;
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid, PgkId};
use pc5_dataplane::keys::{Command, Event, Floor, Signalling, UnixSeconds};
use pc5_dataplane::pdu::Destination;
use pc5_dataplane::suite::Suite;

use crate::clock::Now;
use crate::codec::direct::ReleaseReason;
use crate::credential::{Clock, CrlNumber, Identity};
use crate::policy::GroupPolicy;
use crate::reject::Reject;
use crate::store::Store;

/// What comes to a procedure.
pub enum Input {
    /// A PC5-S frame.
    Frame(Signalling),
    /// What the engine tells.
    Engine(Event),
    /// What the operator wants.
    Order(Order),
    /// A CRL from the network, DER.
    Crl(Vec<u8>),
    /// Roots or CRLs were changed by somebody who shares them.
    TrustChanged,
    /// Our own certificate was renewed, for the same key: the chain as in [`Device::chain`].
    Renewed(Vec<Vec<u8>>),
    /// What the engine knows of senders under a PGK; given to joiners and those who ask.
    Floors {
        /// Group.
        group: GroupId,
        /// PGK.
        pgk_id: PgkId,
        /// One a sender, the own one included.
        floors: Vec<Floor>,
    },
    /// Nothing but the time.
    Time,
}

/// What an operator wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Owner: change the group key now.
    RekeyGroup(GroupId),
    /// Owner: evict an identity for good.
    Evict {
        /// From which group.
        group: GroupId,
        /// Whom.
        identity: Identity,
    },
    /// Owner: take back an eviction.
    Readmit {
        /// Into which group.
        group: GroupId,
        /// Whom.
        identity: Identity,
    },
    /// Owner: new settings of one of its groups. What a living group cannot change stays as it is, see
    /// [`GroupPolicy::with_living`].
    Policy(Box<GroupPolicy>),
    /// Re-key a link: at the member ask, at the owner trigger.
    RekeyLink {
        /// The other side.
        peer: Layer2Id,
        /// Refresh KD too.
        refresh: bool,
    },
    /// Member: join now.
    Join,
    /// Member: leave. Owner: release all members of all groups, for hand-over or shutdown.
    Leave,
}

/// What a procedure wants done, in this order.
pub enum Output {
    /// Send PC5-S.
    Send(Outgoing),
    /// Apply to the key table before anything that follows is sent.
    Install(Command),
    /// To be told, logged, counted.
    Notice(Notice),
}

/// A PC5-S frame to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Which of ours sends.
    pub from: Layer2Id,
    /// To whom.
    pub to: Destination,
    /// 28 or 30.
    pub lcid: Lcid,
    /// The link context that protects it; none: the one in use (and none at all on LCID 28).
    pub under: Option<KdSessId>,
    /// SDU, type 2.
    pub sdu: Bytes,
}

/// Why a link ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It left, or was told to by us on leaving.
    Left,
    /// The other side released it.
    Released(ReleaseReason),
    /// The operator evicted it.
    Evicted,
    /// Its certificate does not serve any more.
    Refused(Reject),
    /// No sign of life, or an exchange was not answered.
    Lost,
    /// It joined again under another Layer-2 id.
    Replaced,
    /// The store cannot be written.
    StoreFailed,
}

/// What happened. Nothing here is secret.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// Owner: a member's link is confirmed. Member: so is ours.
    Joined {
        /// Group.
        group: GroupId,
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Who it is.
        identity: Identity,
        /// Suite of the link.
        suite: Suite,
        /// End of the peer's certificate: the link ends then.
        until: UnixSeconds,
    },
    /// A link ended.
    Ended {
        /// Group.
        group: GroupId,
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Who it was.
        identity: Identity,
        /// Why.
        why: Ended,
    },
    /// A request or handshake was refused, here; nothing moved.
    Refused {
        /// Group.
        group: GroupId,
        /// Source address, claimed only.
        claimed_source: Layer2Id,
        /// Cause.
        cause: Reject,
        /// In full.
        detail: String,
    },
    /// The peer refused: proved by a tag or a link when `proved`, else a hint and nothing more.
    PeerRefused {
        /// Group.
        group: GroupId,
        /// Who said so.
        claimed_source: Layer2Id,
        /// Cause octet.
        cause: u8,
        /// Whether it is known who said so.
        proved: bool,
    },
    /// A join did not come to its end; the next attempt follows by itself where policy says so.
    AttemptOver {
        /// Group.
        group: GroupId,
        /// What it waited for.
        waiting_for: &'static str,
    },
    /// The owner sends under another epoch from now on; a member saw the first frame of it or knows that it comes.
    GroupKey {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: u64,
        /// Its PGK id.
        pgk_id: PgkId,
        /// Whether everything before is void.
        exclusive: bool,
    },
    /// Owner: group data goes under the epoch in use to the group, and over their links to these members, who have not
    /// got it yet. Told at every change.
    Audience {
        /// Group.
        group: GroupId,
        /// PGK in use.
        pgk_id: PgkId,
        /// Served over their links.
        by_link: Vec<Layer2Id>,
    },
    /// A link has new session keys.
    Rekeyed {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// New KD-sess id.
        id: KdSessId,
        /// Whether KD is new too.
        refreshed: bool,
    },
    /// Owner: REKEY_REQUEST carried a route.
    Route {
        /// Member.
        peer: Layer2Id,
        /// Carried unread.
        route: Vec<u8>,
    },
    /// A CRL was taken in.
    CrlTaken {
        /// First octets of its issuer's key hash.
        issuer: [u8; 8],
        /// Its number.
        number: CrlNumber,
    },
    /// A CRL was not taken; the stored one stays.
    CrlRefused(String),
    /// A renewed certificate of our own was not taken.
    NotRenewed(String),
    /// To be said loudly: a peer is relied on within the CRL's grace only.
    CrlInGrace(Identity),
    /// The store cannot be written: nothing that needs it is handed out.
    StoreFailed(String),
    /// A message that fits no rule, or could not be read; nothing moved.
    Ignored {
        /// Source address; proved on LCID 30, claimed on LCID 28.
        source: Layer2Id,
        /// What was wrong.
        detail: String,
    },
    /// Member: an owner is heard; a hint.
    OwnerHeard {
        /// Its Layer-2 id.
        claimed_source: Layer2Id,
        /// Its instance.
        instance: [u8; 8],
    },
}

/// What taking a CRL in came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TakenCrl {
    /// It is new here.
    New,
    /// It was here already: another procedure of this device may have taken it in a moment ago.
    Held,
    /// It is not believed.
    Refused,
}

/// Takes a CRL in: judged, kept, told. Says whether it is to be handed on.
fn take_crl(device: &Device, store: &mut dyn Store, der: &[u8], now: Now, out: &mut Queue) -> TakenCrl {
    let installed = {
        let mut trust = device.trust.write();
        let clock = Clock { now: now.unix_seconds(), floor: trust.floor };
        let installed = trust.judge.install_crl(der, clock);
        trust.generation += u64::from(installed.as_ref().is_ok_and(|i| i.changed));
        installed
    };
    match installed {
        Ok(taken) => {
            // What is held may not be kept yet: it came from a file at the start, or the store failed when it was taken in.
            let kept = !taken.changed && store.crls().iter().any(|held| held == der);
            // It counts already; that it is there after a restart is not sure when this fails, and told.
            if !kept && let Err(e) = store.keep_crl(&taken.issuer, der) {
                out.notice(Notice::StoreFailed(e.to_string()));
            }
            if taken.changed {
                let mut issuer = [0; 8];
                issuer.copy_from_slice(&taken.issuer[..8]);
                out.notice(Notice::CrlTaken { issuer, number: taken.number });
            }
            raise_floor(device, store, taken.this_update, out);
            if taken.changed { TakenCrl::New } else { TakenCrl::Held }
        }
        Err(e) => {
            out.notice(Notice::CrlRefused(e.to_string()));
            TakenCrl::Refused
        }
    }
}

/// The time floor rises with everything dated that was authenticated.
fn raise_floor(device: &Device, store: &mut dyn Store, to: UnixSeconds, out: &mut Queue) {
    if device.trust.read().floor < to {
        device.trust.write().floor = to;
    }
    if store.time_floor() >= to {
        return;
    }
    if let Err(e) = store.raise_time_floor(to) {
        out.notice(Notice::StoreFailed(e.to_string()));
    }
}

/// Outputs in the order in which they are to be done.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<Output>);

impl Queue {
    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.0.pop_front()
    }

    pub(crate) fn install(&mut self, command: Command) {
        self.0.push_back(Output::Install(command));
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.0.push_back(Output::Notice(notice));
    }

    pub(crate) fn ignored(&mut self, source: Layer2Id, detail: impl ToString) {
        self.notice(Notice::Ignored { source, detail: detail.to_string() });
    }

    pub(crate) fn send(
        &mut self,
        from: Layer2Id,
        to: Destination,
        lcid: Lcid,
        under: Option<KdSessId>,
        sdus: &[Bytes],
    ) {
        for sdu in sdus {
            self.0.push_back(Output::Send(Outgoing { from, to, lcid, under, sdu: sdu.clone() }));
        }
    }

    pub(crate) fn repeat(&mut self, from: Layer2Id, to: Layer2Id, repeat: &repeat::Repeat) {
        self.send(from, Destination::Ue(to), repeat.lcid, repeat.under, &repeat.sdus);
    }
}

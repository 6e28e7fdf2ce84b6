//! What control tells the engine and what the engine tells back. Control never sees a batch, the engine never learns
//! what a certificate or procedure is: they meet in [`Command`] and [`Event`].

pub mod table;

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::ids::{GroupId, KdSessId, Layer2Id, Lcid, LinkRole, PgkId, PtkId};
use crate::kdf::{KdSess, Pgk};
use crate::suite::Suite;

/// Seconds since 1970, as messages carry them.
pub type UnixSeconds = u64;

/// Who may send one-to-many under a PGK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PermittedSender {
    /// Every holder of the PGK.
    Any,
    /// One Layer-2 id alone: the owner of the group, the initiator of a session.
    Only(Layer2Id),
}

/// A PGK as one holder sees it. Live PGKs of a group never share an index for the same sender; PGKs of different senders
/// may have the same index and even the same id (sessions of two talkers, two owners of groups with one id), so that a PGK
/// is named by its holder, group, id and permitted senders.
pub struct GroupKey {
    /// Layer-2 id of the UE of ours that holds it.
    pub local: Layer2Id,
    /// Destination of the frames.
    pub group: GroupId,
    /// Its 5 low bits are the index sent.
    pub pgk_id: PgkId,
    /// The key.
    pub pgk: Pgk,
    /// Fixed for the life of the PGK; a receiver tries no other.
    pub suite: Suite,
    /// Who may send.
    pub senders: PermittedSender,
    /// Nobody sends under it before.
    pub not_before: UnixSeconds,
    /// Nobody sends or receives under it after.
    pub not_after: UnixSeconds,
    /// PTK identities that `local` may use as a sender; empty: it may not send.
    pub grant: Option<RangeInclusive<PtkId>>,
    /// What is older than these is a replay.
    pub floors: Vec<Floor>,
}

/// Newest PTK identity and next SN known of a sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Floor {
    /// The sender.
    pub sender: Layer2Id,
    /// Newest PTK identity.
    pub ptk_id: PtkId,
    /// First SN under it that is not known to be used; 65,536 when all are.
    pub next_sn: u32,
}

/// A KD-sess as one side of the link sees it.
pub struct LinkKey {
    /// Our side.
    pub local: Layer2Id,
    /// The other side.
    pub peer: Layer2Id,
    /// Names the key on the wire.
    pub id: KdSessId,
    /// The key.
    pub kd_sess: KdSess,
    /// Its suite; one with integrity.
    pub suite: Suite,
    /// Role of `local`, for the life of the link: it gives DIRECTION.
    pub role: LinkRole,
}

/// Phase of a link context. Source: `go-mode.md` section 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkPhase {
    /// Protected PC5-S (LCID 30) only, both ways; the peer is not confirmed yet.
    Pending,
    /// Receives; sends nothing until the peer was seen to have it (UE-2 after its command).
    ReceiveOnly,
    /// Sends and receives everything; sending moves here from the link's other contexts.
    Active,
    /// Receives only; another context sends.
    Retiring,
}

/// Control to engine. Applied in order, between batches.
pub enum Command {
    /// A Layer-2 id is ours: frames to it are for us, frames from it are our own.
    AddLocal(Layer2Id),
    /// A Layer-2 id is ours no more.
    RemoveLocal(Layer2Id),
    /// Holds a PGK from now on. An equal one with a new grant or floors adds those (windows stay).
    InstallGroup(GroupKey),
    /// Takes a range of PTK identities to send with, replacing the one used up.
    Grant {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Under which PGK.
        pgk_id: PgkId,
        /// Whose it is: PGKs of two senders may have one id.
        senders: PermittedSender,
        /// Never given before under it.
        range: RangeInclusive<PtkId>,
    },
    /// Moves windows up to floors told by the granter.
    Floors {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Under which PGK.
        pgk_id: PgkId,
        /// Whose it is: PGKs of two senders may have one id.
        senders: PermittedSender,
        /// One a sender.
        floors: Vec<Floor>,
    },
    /// Sends no more under a PGK; still receives (stragglers) until it is voided.
    RetireGroup {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
        /// Whose it is.
        senders: PermittedSender,
    },
    /// Erases a PGK and every context under it.
    VoidGroup {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
        /// Whose it is.
        senders: PermittedSender,
    },
    /// Adds a context to a link, in a phase.
    InstallLink(LinkKey, LinkPhase),
    /// Moves a context of a link to a phase.
    SetLinkPhase {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Which context.
        id: KdSessId,
        /// New phase.
        phase: LinkPhase,
    },
    /// Erases a context of a link.
    RemoveLink {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Which context.
        id: KdSessId,
    },
}

/// Engine to control. Only what a verified frame or our own sending caused, but for the two marked as hints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Half of a link context's SN range is used in one direction: rekey the link.
    LinkHalfUsed {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Which context.
        id: KdSessId,
    },
    /// First frame of the peer that verified under this context.
    LinkFirstVerified {
        /// Our side.
        local: Layer2Id,
        /// The other side.
        peer: Layer2Id,
        /// Which context.
        id: KdSessId,
    },
    /// First frame that verified under this PGK.
    GroupFirstVerified {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
        /// Whose frame.
        sender: Layer2Id,
    },
    /// Half of the granted PTK identities is used: ask for more.
    GrantHalfUsed {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
    },
    /// Half of all PTK identities under the PGK is used: time for a new PGK.
    GroupHalfUsed {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
    },
    /// A sender's newest verified PTK identity rose: to be remembered durably.
    NewestPtk {
        /// Holder.
        local: Layer2Id,
        /// Group.
        group: GroupId,
        /// Which.
        pgk_id: PgkId,
        /// Sender, identity, next SN.
        floor: Floor,
    },
    /// Hint (unverified): a frame with an index that we hold no PGK for.
    UnknownIndex {
        /// Group.
        group: GroupId,
        /// Claimed source.
        claimed_source: Layer2Id,
        /// Index.
        index: u8,
    },
    /// Hint (unverified): a sender's identity lies too far ahead; ask the granter for floors.
    FloorsWanted {
        /// Group.
        group: GroupId,
        /// Claimed source.
        claimed_source: Layer2Id,
        /// Index.
        index: u8,
    },
    /// A PC5-S message for one of our ids or groups.
    Signalling(Signalling),
}

/// A PC5-S frame handed to control.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signalling {
    /// Which of ours it is for; none when it came to a group.
    pub local: Option<Layer2Id>,
    /// Group address it came to.
    pub group: Option<GroupId>,
    /// Source address: proved by the tag on LCID 29 and 30, only claimed on LCID 28.
    pub source: Layer2Id,
    /// 28, 29 or 30.
    pub lcid: Lcid,
    /// Context under which it verified; none on LCID 28.
    pub under: Option<KdSessId>,
    /// The SDU: a PC5-S message or a part of one; from the engine, wiped when its last copy is dropped, where it was protected.
    pub sdu: Bytes,
}

/// Without the message, which may carry keys.
impl std::fmt::Debug for Signalling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { local, group, source, lcid, under, sdu } = self;
        let ids = (local, group, source, lcid, under);
        f.debug_struct("Signalling").field("ids", &ids).field("octets", &sdu.len()).finish()
    }
}

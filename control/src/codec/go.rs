//! Messages of group-owner mode and decentralised sessions. Source: `go-mode.md` sections 2, 4, 5, 6, 9 and 10.

mod layout;

use p256::PublicKey;
use pc5_dataplane::ids::{GroupId, Lcid};
use pc5_dataplane::suite::Suite;
use zeroize::Zeroizing;

use super::direct::{Keepalive, KeepaliveAck, Release};
use super::entry::GroupKeyEntry;
use super::{DecodeError, HEADER, Reader, Writer};
use crate::credential::key::Point;

/// Version of this protocol in JOIN_REQUEST, GO_ANNOUNCE and SESSION_KEY.
pub const VERSION: u8 = 1;
/// Octets that most messages have room in.
const ROOM: usize = 512;
/// Name of the version's field in errors: who answers a request of another version looks for it.
pub const VERSION_FIELD: &str = "version";

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $wire:literal;)+) => {
        /// Type octet of a PC5-S message.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum MessageType {
            $($(#[$doc])* $name = $value,)+
        }

        impl MessageType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// From the octet; `None` for one that is not used here.
            pub const fn from_octet(octet: u8) -> Option<Self> {
                match octet {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Name in the documents.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $wire,)+
                }
            }
        }
    };
}

types! {
    /// Member: I am alive.
    Keepalive = 0x04, "DIRECT_COMMUNICATION_KEEPALIVE";
    /// Answer.
    KeepaliveAck = 0x05, "DIRECT_COMMUNICATION_KEEPALIVE_ACK";
    /// The link ends.
    Release = 0x06, "DIRECT_COMMUNICATION_RELEASE";
    /// Answer.
    ReleaseAccept = 0x07, "DIRECT_COMMUNICATION_RELEASE_ACCEPT";
    /// Message 1 of the join.
    JoinRequest = 0x80, "JOIN_REQUEST";
    /// Under load: 1 again, with this cookie.
    JoinRetry = 0x81, "JOIN_RETRY";
    /// Message 2.
    JoinChallenge = 0x82, "JOIN_CHALLENGE";
    /// Message 3.
    JoinAuthenticate = 0x83, "JOIN_AUTHENTICATE";
    /// Message 4.
    JoinAccept = 0x84, "JOIN_ACCEPT";
    /// Message 5.
    JoinComplete = 0x85, "JOIN_COMPLETE";
    /// Message 6.
    JoinConfirm = 0x86, "JOIN_CONFIRM";
    /// Refusal.
    Reject = 0x87, "REJECT";
    /// Message 1 of direct re-keying.
    RekeyRequest = 0x88, "REKEY_REQUEST";
    /// Message 2.
    RekeyCommand = 0x89, "REKEY_COMMAND";
    /// Message 3.
    RekeyComplete = 0x8A, "REKEY_COMPLETE";
    /// Member: group keys, a grant or floors are wanted.
    GroupKeyRequest = 0x8B, "GROUP_KEY_REQUEST";
    /// Owner: group keys.
    GroupKeyUpdate = 0x8C, "GROUP_KEY_UPDATE";
    /// Member has them.
    GroupKeyAck = 0x8D, "GROUP_KEY_ACK";
    /// A newer CRL.
    CrlUpdate = 0x8E, "CRL_UPDATE";
    /// Owner: ask for re-keying.
    RekeyTrigger = 0x8F, "REKEY_TRIGGER";
    /// Owner: here I am.
    GoAnnounce = 0x90, "GO_ANNOUNCE";
    /// Initiator of a decentralised session: its key.
    SessionKey = 0xA0, "SESSION_KEY";
    /// Who has a session, send its key.
    SessionKeyRequest = 0xA1, "SESSION_KEY_REQUEST";
}

impl MessageType {
    /// The only channel that carries it: 28 for what comes before a link, 30 for what a link protects.
    /// Source: `go-mode.md` section 2.
    pub const fn lcid(self) -> Lcid {
        match self {
            Self::JoinRequest
            | Self::JoinRetry
            | Self::JoinChallenge
            | Self::JoinAuthenticate
            | Self::JoinAccept
            | Self::Reject
            | Self::GoAnnounce
            | Self::SessionKey
            | Self::SessionKeyRequest => Lcid::CLEAR,
            _ => Lcid::SIGNALLING,
        }
    }

    /// Whether a channel may carry it. REJECT answers on the channel of what it refuses.
    pub fn allowed_on(self, lcid: Lcid) -> bool {
        lcid == self.lcid() || self == Self::Reject && lcid == Lcid::SIGNALLING
    }

    /// Whether it is sent to a group address, and to nothing else.
    pub const fn to_group(self) -> bool {
        matches!(self, Self::GoAnnounce | Self::SessionKey | Self::SessionKeyRequest)
    }

    /// Types below 0x80 keep the layouts of TS 24.334, without parts.
    pub const fn in_parts(self) -> bool {
        self as u8 >= 0x80
    }
}

/// A message: what was read, or what is to be written.
pub struct Message {
    /// Sender's counter, the same in every part and every retransmission.
    pub seq: u16,
    /// What it says.
    pub body: Body,
}

/// What a message says. Parts that a later step opens stay octets here.
pub enum Body {
    /// 0x04
    Keepalive(Keepalive),
    /// 0x05
    KeepaliveAck(KeepaliveAck),
    /// 0x06
    Release(Release),
    /// 0x07
    ReleaseAccept,
    /// 0x80
    JoinRequest(JoinRequest),
    /// 0x81
    JoinRetry(JoinRetry),
    /// 0x82
    JoinChallenge(JoinChallenge),
    /// 0x83: Seal(member wrap, P3 || sig_m).
    JoinAuthenticate(Vec<u8>),
    /// 0x84
    JoinAccept(HpkeSealed),
    /// 0x85: finished_m.
    JoinComplete([u8; 32]),
    /// 0x86: finished_o.
    JoinConfirm([u8; 32]),
    /// 0x87
    Reject(Rejection),
    /// 0x88
    RekeyRequest(RekeyRequest),
    /// 0x89
    RekeyCommand(RekeyCommand),
    /// 0x8A: confirm_m.
    RekeyComplete([u8; 32]),
    /// 0x8B
    GroupKeyRequest(GroupKeyRequest),
    /// 0x8C
    GroupKeyUpdate(GroupKeyUpdate),
    /// 0x8D: newest epoch held.
    GroupKeyAck(u64),
    /// 0x8E: the CRL, DER.
    CrlUpdate(Vec<u8>),
    /// 0x8F: whether KD is to be refreshed.
    RekeyTrigger(bool),
    /// 0x90
    GoAnnounce(GoAnnounce),
    /// 0xA0
    SessionKey(SessionKey),
    /// 0xA1: GK id.
    SessionKeyRequest(u16),
}

/// Message 1 of the join.
pub struct JoinRequest {
    /// Group to join.
    pub group: GroupId,
    /// Member's nonce.
    pub nonce_1: [u8; 16],
    /// Member's half of the KD-sess id, 1..=255.
    pub msb: u8,
    /// Member's ephemeral key.
    pub e_m: PublicKey,
    /// Suite codes, preference first; codes that this side does not know stand for nothing.
    pub suites: Vec<u8>,
    /// From JOIN_RETRY.
    pub cookie: Option<[u8; 16]>,
}

/// Under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinRetry {
    /// Of the request.
    pub nonce_1: [u8; 16],
    /// To be shown.
    pub cookie: [u8; 16],
}

/// Message 2 of the join.
pub struct JoinChallenge {
    /// Owner's nonce.
    pub nonce_2: [u8; 16],
    /// Owner's half of the KD-sess id.
    pub lsb: u8,
    /// Of the link.
    pub suite: Suite,
    /// Owner's ephemeral key.
    pub e_o: PublicKey,
    /// Seal(owner wrap, P2 || sig_o).
    pub sealed: Vec<u8>,
}

impl JoinChallenge {
    /// Octets of type, seq and C2: what T1 takes of message 2.
    pub const CLEAR: usize = HEADER + 16 + 1 + 1 + 65;
}

/// An HPKE message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HpkeSealed {
    /// Encapsulated key.
    pub enc: Point,
    /// With its tag.
    pub ciphertext: Vec<u8>,
}

/// Refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Of the request.
    pub nonce_1: [u8; 16],
    /// Cause; [`crate::reject::Reject::from_cause`] knows those defined.
    pub cause: u8,
    /// Proves who sent it; without it, it is a hint on LCID 28.
    pub tag: Option<[u8; 16]>,
}

/// Message 1 of direct re-keying.
pub struct RekeyRequest {
    /// Nonce of the member.
    pub nonce_1: [u8; 16],
    /// Member's half of the KD-sess id.
    pub msb: u8,
    /// The contribution's "parameter to find MME_1": at most 32 octets, carried unread.
    pub route: Vec<u8>,
    /// Ephemeral key, where KD is to be refreshed.
    pub refresh: Option<PublicKey>,
}

/// Message 2 of direct re-keying.
pub struct RekeyCommand {
    /// Nonce of the owner.
    pub nonce_2: [u8; 16],
    /// Owner's half of the KD-sess id.
    pub lsb: u8,
    /// Where KD is refreshed.
    pub refreshed: Option<Refreshed>,
    /// Names KD after this run.
    pub dksi: [u8; 4],
    /// Shows that the owner holds the new key.
    pub confirm_o: [u8; 32],
}

impl RekeyCommand {
    /// Octets at the end that RH leaves out: DKSI and confirm_o.
    pub const TAIL: usize = 36;
}

/// The owner's part of a refresh.
pub struct Refreshed {
    /// Owner's ephemeral key.
    pub e_o: PublicKey,
    /// S', sealed to the member.
    pub sealed: HpkeSealed,
}

/// A member wants group keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupKeyRequest {
    /// Newest epoch held, 0 for none.
    pub newest_epoch: u64,
    /// A new grant.
    pub grant: bool,
    /// Floors.
    pub floors: bool,
}

/// Group keys for one member.
pub struct GroupKeyUpdate {
    /// What lies below is void.
    pub lowest_valid_epoch: u64,
    /// The entries.
    pub keys: Wrapped,
}

/// Entries as they travel.
pub enum Wrapped {
    /// wrap 0: the link protects them.
    Link(Vec<GroupKeyEntry>),
    /// wrap 1: HPKE to the member's certificate key.
    Certificate {
        /// How many entries there are, 1 to 4.
        n: u8,
        /// The entries.
        sealed: HpkeSealed,
    },
}

/// Owner's announcement: a hint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoAnnounce {
    /// Drawn at each start of the owner.
    pub instance: [u8; 8],
    /// Epoch that the owner sends under.
    pub epoch: u64,
    /// Over how many 100 ms members spread their joins.
    pub spread: u8,
    /// Suite codes.
    pub suites: Vec<u8>,
}

/// Key of a decentralised session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionKey {
    /// Of the group pre-shared key.
    pub gk_id: u16,
    /// Random.
    pub session_id: [u8; 8],
    /// The session is over.
    pub end: bool,
    /// Initiator's clock, Unix milliseconds.
    pub time: u64,
    /// Fresh each time.
    pub nonce: [u8; 32],
    /// Seal(wrap, P || sig).
    pub sealed: Vec<u8>,
}

impl SessionKey {
    /// Octets of the header, which wrap and signature cover.
    pub const HEADER: usize = 1 + 2 + 8 + 1 + 8 + 32;

    /// The header alone.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::HEADER);
        let mut w = Writer(&mut out);
        w.u8(VERSION).u16(self.gk_id).octets(&self.session_id).u8(self.end.into());
        w.u64(self.time).octets(&self.nonce);
        out
    }
}

impl Body {
    /// Type octet.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Keepalive(_) => MessageType::Keepalive,
            Self::KeepaliveAck(_) => MessageType::KeepaliveAck,
            Self::Release(_) => MessageType::Release,
            Self::ReleaseAccept => MessageType::ReleaseAccept,
            Self::JoinRequest(_) => MessageType::JoinRequest,
            Self::JoinRetry(_) => MessageType::JoinRetry,
            Self::JoinChallenge(_) => MessageType::JoinChallenge,
            Self::JoinAuthenticate(_) => MessageType::JoinAuthenticate,
            Self::JoinAccept(_) => MessageType::JoinAccept,
            Self::JoinComplete(_) => MessageType::JoinComplete,
            Self::JoinConfirm(_) => MessageType::JoinConfirm,
            Self::Reject(_) => MessageType::Reject,
            Self::RekeyRequest(_) => MessageType::RekeyRequest,
            Self::RekeyCommand(_) => MessageType::RekeyCommand,
            Self::RekeyComplete(_) => MessageType::RekeyComplete,
            Self::GroupKeyRequest(_) => MessageType::GroupKeyRequest,
            Self::GroupKeyUpdate(_) => MessageType::GroupKeyUpdate,
            Self::GroupKeyAck(_) => MessageType::GroupKeyAck,
            Self::CrlUpdate(_) => MessageType::CrlUpdate,
            Self::RekeyTrigger(_) => MessageType::RekeyTrigger,
            Self::GoAnnounce(_) => MessageType::GoAnnounce,
            Self::SessionKey(_) => MessageType::SessionKey,
            Self::SessionKeyRequest(_) => MessageType::SessionKeyRequest,
        }
    }
}

impl Message {
    /// Canonical form: type || seq || body. What is hashed, and what is cut into parts. Wiped when dropped: a GROUP_KEY_UPDATE
    /// may carry keys that only the link protects.
    ///
    /// # Errors
    /// [`DecodeError`] when a field is beyond its limit (too many entries or suites, a route above 32 octets).
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        // Reserved whole where there are keys in it: growing would leave unwiped copies behind.
        let room = match &self.body {
            Body::GroupKeyUpdate(GroupKeyUpdate { keys: Wrapped::Link(entries), .. }) => {
                ROOM + entries.len() * GroupKeyEntry::LONGEST
            }
            _ => ROOM,
        };
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        let message_type = self.body.message_type();
        let mut w = Writer(&mut out);
        w.u8(message_type as u8).u16(self.seq);
        layout::encode_body(&self.body, message_type, &mut w)?;
        Ok(out)
    }

    /// Reads a canonical message.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(canonical: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("PC5-S", canonical);
        let wrong = r.wrong("type", "unknown type");
        let message_type = MessageType::from_octet(r.u8("type")?).ok_or(wrong)?;
        let seq = r.u16("seq")?;
        Ok(Self { seq, body: layout::decode_body(message_type, r.rest())? })
    }
}

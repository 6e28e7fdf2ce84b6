//! Structures inside sealed parts: what the owner and the member show of themselves, and the keys delivered.
//! Source: `go-mode.md` sections 3 and 4.

use std::ops::RangeInclusive;

use pc5_dataplane::ids::{Layer2Id, PgkId, PtkId};
use pc5_dataplane::keys::{Floor, UnixSeconds};
use pc5_dataplane::suite::Suite;
use zeroize::Zeroizing;

use super::{DecodeError, Reader, Writer};
use crate::credential::Credential;
use crate::credential::key::Signature;

/// What P2 carries: the owner of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerProof {
    /// The owner's clock, Unix seconds.
    pub time: UnixSeconds,
    /// Its certificates and CRL numbers.
    pub credential: Credential,
}

impl OwnerProof {
    /// P2.
    ///
    /// # Errors
    /// [`DecodeError`] when the credential exceeds a limit.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let mut out = self.time.to_be_bytes().to_vec();
        credential_into(&self.credential, &mut out)?;
        Ok(out)
    }

    /// Reads P2 || sig; also returns how long P2 is.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_signed(octets: &[u8]) -> Result<(Self, usize, Signature), DecodeError> {
        let mut r = Reader::new("P2", octets);
        let time = r.u64("time")?;
        let (credential, length, signature) = signed_credential(&mut r, "P2")?;
        Ok((Self { time, credential }, 8 + length, signature))
    }
}

/// Reads a credential with a signature behind it; also returns how long the credential is.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_signed_credential(octets: &[u8]) -> Result<(Credential, usize, Signature), DecodeError> {
    signed_credential(&mut Reader::new("P3", octets), "P3")
}

/// Appends a credential.
///
/// # Errors
/// [`DecodeError`] when it exceeds a limit.
pub fn credential_into(credential: &Credential, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let limit = |e: crate::credential::CredentialError| DecodeError {
        message: "credential",
        field: "chain",
        offset: e.offset,
        what: e.what,
    };
    credential.encode(out).map_err(limit)
}

pub(crate) fn signed_credential(
    r: &mut Reader<'_>,
    message: &'static str,
) -> Result<(Credential, usize, Signature), DecodeError> {
    let rest = r.rest();
    let (credential, length) = Credential::decode_prefix(rest).map_err(|e| DecodeError {
        message,
        field: "credential",
        offset: e.offset,
        what: e.what,
    })?;
    let mut tail = Reader::new(message, rest.get(length..).unwrap_or_default());
    let signature = tail.array("signature")?;
    tail.end()?;
    Ok((credential, length, signature))
}

/// One group key as delivered. Secret: wiped when dropped.
pub struct GroupKeyEntry {
    /// Cryptoperiod, counted from 1 by (owner, group).
    pub epoch: u64,
    /// 1..=31: its 5 low bits are the index.
    pub pgk_id: PgkId,
    /// For the life of the PGK.
    pub suite: Suite,
    /// `transmit = direct`: members send too.
    pub direct: bool,
    /// Owner's clock, Unix seconds.
    pub not_before: UnixSeconds,
    /// Owner's clock, Unix seconds.
    pub not_after: UnixSeconds,
    /// PTK identities that the receiver of the entry may send with.
    pub grant: Option<RangeInclusive<PtkId>>,
    /// Secret from which Kmulticast comes.
    pub s_m: Zeroizing<[u8; 32]>,
    /// What is known to be used already, one a sender; at most 64.
    pub floors: Vec<Floor>,
}

impl GroupKeyEntry {
    /// Octets without floors.
    pub const FIXED: usize = 64;
    /// Octets a floor.
    pub const FLOOR: usize = 7;
    /// Octets with as many floors as there may be.
    pub const LONGEST: usize = Self::FIXED + Self::FLOOR * limits::FLOORS;

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        let (first, last) = self.grant.as_ref().map_or((0, 0), |g| (g.start().get(), g.end().get()));
        w.u64(self.epoch).u8(self.pgk_id.0).u8(self.suite.code()).u8(self.direct.into());
        w.u64(self.not_before).u64(self.not_after).u16(first).u16(last).octets(&*self.s_m);
        let floors = self.floors.get(..limits::FLOORS).unwrap_or(&self.floors);
        w.u8(floors.len() as u8);
        for floor in floors {
            let (ptk_id, next_sn) = wire_floor(floor);
            w.octets(&floor.sender.octets()).u16(ptk_id).u16(next_sn);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wrong = r.wrong("epoch", "epochs count from 1");
        let epoch = r.u64("epoch")?;
        if epoch == 0 {
            return Err(wrong);
        }
        let pgk_id = PgkId(r.count("PGK id", 31)?);
        let wrong = r.wrong("suite", "no such suite");
        let suite = Suite::from_code(r.u8("suite")?).ok_or(wrong)?;
        let direct = r.flags("flags", 1)? == 1;
        let (not_before, not_after) = (r.u64("not-before")?, r.u64("not-after")?);
        let wrong = r.wrong("grant", "neither 0 0 nor a rising range of at most 512");
        let grant = match (r.u16("first PTK identity")?, r.u16("last PTK identity")?) {
            (0, 0) => None,
            (first, last) => match (PtkId::new(first), PtkId::new(last)) {
                (Some(a), Some(b)) if a <= b && last - first < limits::GRANT => Some(a..=b),
                _ => return Err(wrong),
            },
        };
        let s_m = r.secret("S_m")?;
        let wrong = r.wrong("m", "more than 64 floors");
        let m = r.u8("m")?;
        if usize::from(m) > limits::FLOORS {
            return Err(wrong);
        }
        let mut floors = Vec::with_capacity(m.into());
        for _ in 0..m {
            let sender = r.layer2("floor: sender")?;
            let wrong = r.wrong("floor: PTK identity", "identities count from 1");
            let ptk_id = PtkId::new(r.u16("floor: PTK identity")?).ok_or(wrong)?;
            floors.push(Floor { sender, ptk_id, next_sn: r.u16("floor: next SN")?.into() });
        }
        Ok(Self { epoch, pgk_id, suite, direct, not_before, not_after, grant, s_m, floors })
    }
}

/// A floor has 16 bits for the next SN: when all 65,536 are used, the next identity with none used says the same.
fn wire_floor(floor: &Floor) -> (u16, u16) {
    match (u16::try_from(floor.next_sn), floor.ptk_id.next()) {
        (Ok(next_sn), _) => (floor.ptk_id.get(), next_sn),
        (Err(_), Some(next)) => (next.get(), 0),
        (Err(_), None) => (floor.ptk_id.get(), u16::MAX),
    }
}

/// 1 to 4 entries: their octets, wiped when dropped.
///
/// # Errors
/// [`DecodeError`] for another number.
pub fn encode_entries(entries: &[GroupKeyEntry]) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let wrong =
        DecodeError { message: "group keys", field: "n", offset: 0, what: "1 to 4 entries are wanted" };
    if entries.is_empty() || entries.len() > limits::ENTRIES {
        return Err(wrong);
    }
    let size =
        |e: &GroupKeyEntry| GroupKeyEntry::FIXED + GroupKeyEntry::FLOOR * limits::FLOORS.min(e.floors.len());
    // Reserved whole: growing would leave unwiped copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(entries.iter().map(size).sum()));
    for entry in entries {
        entry.encode(&mut Writer(&mut out));
    }
    Ok(out)
}

/// Reads exactly `n` entries, epochs and PGK ids distinct.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_entries(n: u8, octets: &[u8]) -> Result<Vec<GroupKeyEntry>, DecodeError> {
    let mut r = Reader::new("group keys", octets);
    let entries = read_entries(n, &mut r)?;
    r.end()?;
    Ok(entries)
}

fn read_entries(n: u8, r: &mut Reader<'_>) -> Result<Vec<GroupKeyEntry>, DecodeError> {
    let mut entries: Vec<GroupKeyEntry> = Vec::with_capacity(n.into());
    for _ in 0..n {
        let wrong = r.wrong("epoch, PGK id", "two entries with the same one");
        let entry = GroupKeyEntry::decode(r)?;
        if entries.iter().any(|e| e.epoch == entry.epoch || e.pgk_id == entry.pgk_id) {
            return Err(wrong);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// What JOIN_ACCEPT seals. Secret: wiped when dropped.
pub struct JoinKeys {
    /// The owner's share in Kunicast.
    pub s_u: Zeroizing<[u8; 32]>,
    /// Seconds until KD must be refreshed.
    pub kd_lifetime: u32,
    /// Seconds between keepalives of the member.
    pub keepalive_period: u16,
    /// Drawn at each start of the owner.
    pub instance: [u8; 8],
    /// Group keys of earlier epochs are void.
    pub lowest_valid_epoch: u64,
    /// The current epoch and, by policy, future ones.
    pub entries: Vec<GroupKeyEntry>,
}

impl JoinKeys {
    /// Its octets, wiped when dropped.
    ///
    /// # Errors
    /// [`DecodeError`] when there are not 1 to 4 entries.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let entries = encode_entries(&self.entries)?;
        let mut out = Zeroizing::new(Vec::with_capacity(55 + entries.len()));
        let mut w = Writer(&mut out);
        w.octets(&*self.s_u).u32(self.kd_lifetime).u16(self.keepalive_period).octets(&self.instance);
        w.u64(self.lowest_valid_epoch).u8(self.entries.len() as u8).octets(&entries);
        Ok(out)
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("keys of JOIN_ACCEPT", octets);
        let s_u = r.secret("S_u")?;
        let kd_lifetime = r.u32("KD lifetime")?;
        let keepalive_period = r.u16("keepalive period")?;
        let instance = r.array("instance")?;
        let lowest_valid_epoch = r.u64("lowest valid epoch")?;
        let n = r.count("n", limits::ENTRIES as u8)?;
        let entries = read_entries(n, &mut r)?;
        r.end()?;
        Ok(Self { s_u, kd_lifetime, keepalive_period, instance, lowest_valid_epoch, entries })
    }
}

/// What P of SESSION_KEY carries. Secret: wiped when dropped. Source: `go-mode.md` section 9.
pub struct SessionProof {
    /// Suite of the session.
    pub suite: Suite,
    /// 1..=31.
    pub pgk_id: PgkId,
    /// Seconds that the session's key still lives.
    pub lifetime: u32,
    /// Newest identity and SN that the initiator sent; the sender is the initiator and does not travel.
    pub floor: Floor,
    /// Secret from which the session's PGK comes.
    pub s_s: Zeroizing<[u8; 32]>,
    /// The initiator's certificates and CRL numbers.
    pub credential: Credential,
}

impl SessionProof {
    /// P, wiped when dropped.
    ///
    /// # Errors
    /// [`DecodeError`] when the credential exceeds a limit.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let mut credential = Vec::new();
        credential_into(&self.credential, &mut credential)?;
        // Room for the signature as well: growing would leave an unwiped copy behind.
        let mut out = Zeroizing::new(Vec::with_capacity(42 + credential.len() + 64));
        let (ptk_id, next_sn) = wire_floor(&self.floor);
        let mut w = Writer(&mut out);
        w.u8(self.suite.code()).u8(self.pgk_id.0).u32(self.lifetime).u16(ptk_id).u16(next_sn);
        w.octets(&*self.s_s).octets(&credential);
        Ok(out)
    }

    /// Reads P || sig of a message that came from `sender`; also returns how long P is.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_signed(octets: &[u8], sender: Layer2Id) -> Result<(Self, usize, Signature), DecodeError> {
        let mut r = Reader::new("P of SESSION_KEY", octets);
        let wrong = r.wrong("suite", "no such suite");
        let suite = Suite::from_code(r.u8("suite")?).ok_or(wrong)?;
        let pgk_id = PgkId(r.count("PGK id", 31)?);
        let lifetime = r.u32("lifetime")?;
        let wrong = r.wrong("floor: PTK identity", "identities count from 1");
        let ptk_id = PtkId::new(r.u16("floor: PTK identity")?).ok_or(wrong)?;
        let floor = Floor { sender, ptk_id, next_sn: r.u16("floor: SN")?.into() };
        let s_s = r.secret("S_s")?;
        let (credential, length, signature) = signed_credential(&mut r, "P of SESSION_KEY")?;
        Ok((Self { suite, pgk_id, lifetime, floor, s_s, credential }, 42 + length, signature))
    }
}

/// Own limits.
pub mod limits {
    /// Entries of one message.
    pub const ENTRIES: usize = 4;
    /// Floors of one entry.
    pub const FLOORS: usize = 64;
    /// PTK identities of one grant.
    pub const GRANT: u16 = 512;
}

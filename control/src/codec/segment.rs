//! Parts of messages, and messages from parts. Source: `go-mode.md` section 2.
//!
//! ```text
//! type (1) | seq (2) | index (2) | last (2) | part of the body      index 0..last; parts equal in size but the last
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid};
use zeroize::Zeroizing;

use super::go::MessageType;
use super::{DecodeError, HEADER, Reader};

/// Own limits.
pub mod limits {
    use std::time::Duration;

    /// SDUs of PC5-S on a port with an MTU of 1,500: what octets 14 to 20 and a MAC field of 16 leave.
    pub const SDU: usize = 1_500 - 7 - 16;
    /// Parts of a message on LCID 28.
    pub const CLEAR_PARTS: usize = 16;
    /// Octets of a message on LCID 28.
    pub const CLEAR_OCTETS: usize = 16_384;
    /// Octets of a message on LCID 30: a CRL of the largest size, with its header.
    pub const PROTECTED_OCTETS: usize = (1 << 20) + 16;
    /// Messages under reassembly.
    pub const REASSEMBLIES: usize = 256;
    /// Of these on LCID 28: what strangers send takes no place from what links protect.
    pub const CLEAR_REASSEMBLIES: usize = 192;
    /// Octets held on LCID 30 in all.
    pub const PROTECTED_HELD: usize = 8 << 20;
    /// How long parts wait for the others.
    pub const PATIENCE: Duration = Duration::from_secs(1);
}

/// Cuts a canonical message into SDUs of at most `sdu` octets, wiped when the last copy is dropped. Types below 0x80 go whole.
///
/// # Errors
/// [`DecodeError`] when it has more parts than its channel allows, or `sdu` leaves no room for content.
pub fn segment(canonical: &[u8], sdu: usize) -> Result<Vec<Bytes>, DecodeError> {
    let wrong = |what| DecodeError { message: "PC5-S", field: "parts", offset: 0, what };
    let (header, body) = canonical.split_at_checked(HEADER).ok_or(wrong("message without a header"))?;
    let message_type =
        header.first().and_then(|&o| MessageType::from_octet(o)).ok_or(wrong("unknown type"))?;
    if !message_type.in_parts() {
        return Ok(vec![Bytes::from_owner(Zeroizing::new(canonical.to_vec()))]);
    }
    let room = sdu.checked_sub(PART_HEADER).filter(|&r| r > 0).ok_or(wrong("no room for content"))?;
    let n = body.len().div_ceil(room).max(1);
    let clear = message_type.lcid() == Lcid::CLEAR;
    if clear && (n > limits::CLEAR_PARTS || canonical.len() > limits::CLEAR_OCTETS) {
        return Err(wrong("message too long for LCID 28"));
    }
    let last = u16::try_from(n - 1).map_err(|_| wrong("too many parts"))?;
    let part = |index: u16| {
        let start = usize::from(index) * room;
        let content = body.get(start..body.len().min(start + room)).unwrap_or_default();
        let mut out = Zeroizing::new(Vec::with_capacity(PART_HEADER + content.len()));
        out.extend_from_slice(header);
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(content);
        Bytes::from_owner(out)
    };
    Ok((0..=last).map(part).collect())
}

/// One SDU, read as far as a part goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Type octet of the message.
    pub message_type: MessageType,
    /// Its seq.
    pub seq: u16,
    /// Which part.
    pub index: u16,
    /// Index of the last part.
    pub last: u16,
    /// Its piece of the body.
    pub content: Bytes,
}

impl Part {
    /// Reads an SDU.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(sdu: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("part", sdu);
        let wrong = r.wrong("type", "unknown type");
        let message_type = MessageType::from_octet(r.u8("type")?).ok_or(wrong)?;
        let seq = r.u16("seq")?;
        if !message_type.in_parts() {
            return Ok(Self { message_type, seq, index: 0, last: 0, content: sdu.slice(HEADER..) });
        }
        let index = r.u16("index")?;
        let wrong = r.wrong("last", "below the index");
        let last = r.u16("last")?;
        if last < index {
            return Err(wrong);
        }
        let wrong = r.wrong("content", "a part without content");
        if sdu.len() == PART_HEADER && last > 0 {
            return Err(wrong);
        }
        Ok(Self { message_type, seq, index, last, content: sdu.slice(PART_HEADER..) })
    }

    fn canonical<'a>(
        message_type: MessageType,
        seq: u16,
        contents: impl Iterator<Item = &'a Bytes> + Clone,
    ) -> Zeroizing<Vec<u8>> {
        let octets: usize = contents.clone().map(Bytes::len).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER + octets));
        out.push(message_type as u8);
        out.extend_from_slice(&seq.to_be_bytes());
        contents.for_each(|c| out.extend_from_slice(c));
        out
    }
}

/// Messages under reassembly, one a (receiver, source, type).
#[derive(Default)]
pub struct Reassembly {
    clear: Pool,
    protected: Pool,
}

/// Who sends what to whom; on LCID 30 also under which key, so that nothing of an ended link mixes with a new one.
type Key = (Option<Layer2Id>, Layer2Id, MessageType, Option<KdSessId>);

#[derive(Default)]
struct Pool {
    under_way: HashMap<Key, Incomplete>,
    held: usize,
}

struct Incomplete {
    seq: u16,
    last: u16,
    parts: BTreeMap<u16, Bytes>,
    /// Size of every part but the last, once one was seen.
    size: Option<usize>,
    octets: usize,
    since: Duration,
}

impl Reassembly {
    /// Takes a part that came for `local` (none: for a group); returns the canonical message when it is whole, wiped when
    /// dropped.
    ///
    /// # Errors
    /// [`DecodeError`] for a part that its channel does not carry, or beyond its bounds. Nothing is kept of it.
    pub fn take(
        &mut self,
        local: Option<Layer2Id>,
        source: Layer2Id,
        lcid: Lcid,
        under: Option<KdSessId>,
        part: Part,
        now: Duration,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, DecodeError> {
        let wrong = |field, what| DecodeError { message: part.message_type.name(), field, offset: 0, what };
        if !part.message_type.allowed_on(lcid) {
            return Err(wrong("type", "not on this channel"));
        }
        let clear = lcid == Lcid::CLEAR;
        let parts = usize::from(part.last) + 1;
        let most = if clear { limits::CLEAR_OCTETS } else { limits::PROTECTED_OCTETS };
        if clear && parts > limits::CLEAR_PARTS {
            return Err(wrong("last", "more than 16 parts on LCID 28"));
        }
        if part.content.len() + HEADER > most {
            return Err(wrong("content", "too long for its channel"));
        }
        if part.last == 0 {
            return Ok(Some(Part::canonical(part.message_type, part.seq, std::iter::once(&part.content))));
        }
        // Parts are equal in size but the last, so that any other tells how long the message is at least.
        if part.index < part.last && part.content.len().saturating_mul(parts - 1) >= most {
            return Err(wrong("last", "message too long for its channel"));
        }
        let pool = if clear { &mut self.clear } else { &mut self.protected };
        let places = match clear {
            true => limits::CLEAR_REASSEMBLIES,
            false => limits::REASSEMBLIES - limits::CLEAR_REASSEMBLIES,
        };
        let held = if clear { usize::MAX } else { limits::PROTECTED_HELD };
        Ok(pool.take((local, source, part.message_type, under), part, now, places, held, most))
    }

    /// When the oldest incomplete message is given up.
    pub fn deadline(&self) -> Option<Duration> {
        let all = self.clear.under_way.values().chain(self.protected.under_way.values());
        all.map(|m| m.since.saturating_add(limits::PATIENCE)).min()
    }

    /// Gives up what waited too long.
    pub fn expire(&mut self, now: Duration) {
        self.clear.expire(now);
        self.protected.expire(now);
    }

    /// Messages under reassembly.
    pub fn len(&self) -> usize {
        self.clear.under_way.len() + self.protected.under_way.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Pool {
    fn take(
        &mut self,
        key: Key,
        part: Part,
        now: Duration,
        places: usize,
        held: usize,
        most: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let contradicts = self.under_way.get(&key).is_some_and(|m| m.contradicts(&part));
        if contradicts {
            self.remove(&key);
        }
        if !self.under_way.contains_key(&key) {
            self.expire(now);
            if self.under_way.len() >= places {
                self.remove_oldest();
            }
        }
        while self.held + part.content.len() > held && !self.under_way.is_empty() {
            self.remove_oldest();
        }
        let (seq, last) = (part.seq, part.last);
        let message = self.under_way.entry(key).or_insert_with(|| Incomplete {
            seq,
            last,
            parts: BTreeMap::new(),
            size: None,
            octets: 0,
            since: now,
        });
        let before = message.octets;
        message.add(part);
        self.held = self.held + message.octets - before;
        if message.octets + HEADER > most {
            self.remove(&key);
            return None;
        }
        if message.parts.len() <= usize::from(message.last) {
            return None;
        }
        let message = self.remove(&key)?;
        Some(Part::canonical(key.2, message.seq, message.parts.values()))
    }

    fn remove(&mut self, key: &Key) -> Option<Incomplete> {
        let message = self.under_way.remove(key)?;
        self.held = self.held.saturating_sub(message.octets);
        Some(message)
    }

    fn remove_oldest(&mut self) {
        if let Some(key) = self.under_way.iter().min_by_key(|(_, m)| m.since).map(|(k, _)| *k) {
            self.remove(&key);
        }
    }

    fn expire(&mut self, now: Duration) {
        self.under_way.retain(|_, m| now < m.since.saturating_add(limits::PATIENCE));
        self.held = self.under_way.values().map(|m| m.octets).sum();
    }
}

impl Incomplete {
    fn contradicts(&self, part: &Part) -> bool {
        let size = part.content.len();
        let sizes = match (part.index == part.last, self.size) {
            (true, Some(whole)) => size > whole,
            (false, Some(whole)) => size != whole,
            (true, None) => false,
            (false, None) => self.parts.get(&self.last).is_some_and(|last| last.len() > size),
        };
        let other = self.parts.get(&part.index).is_some_and(|there| *there != part.content);
        self.seq != part.seq || self.last != part.last || sizes || other
    }

    fn add(&mut self, part: Part) {
        if part.index < part.last {
            self.size = Some(part.content.len());
        }
        let octets = part.content.len();
        if self.parts.insert(part.index, part.content).is_none() {
            self.octets += octets;
        }
    }
}

/// Octets of a part before its content.
const PART_HEADER: usize = HEADER + 4;

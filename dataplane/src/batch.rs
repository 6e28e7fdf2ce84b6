//! A batch of frames: fixed capacity, one arena with room before and behind each frame, no allocation once made.
//!
//! A slot keeps its place from reception to transmission; sealing, opening and bridging happen in place. Data starts
//! at a 64-octet boundary, so that wide loads do not straddle cache lines, with the headers right before it.

use crate::ids::{Lcid, SduType};
use crate::pdu::{self, AadWords, Address, HeaderTemplate, spec};
use crate::verdict::Verdict;

mod runs;

pub(crate) use runs::Runs;

/// Own limits.
pub mod limits {
    /// Octets before the data: headers, an 802.1Q tag, alignment.
    pub const HEADROOM: usize = 64;
    /// Octets behind the data: MAC field, padding of short frames.
    pub const TAILROOM: usize = 64;
    /// Longest SDU: the longest captured frame.
    pub const MAX_SDU: usize = 262_144;
    /// Longest data of a frame: the longest SDU with its MAC field.
    pub const MAX_DATA: usize = MAX_SDU + 64;
    /// Most slots of a batch.
    pub const MAX_SLOTS: usize = 4_096;
    /// Arena octets a slot of a batch, on average.
    pub const ARENA_PER_SLOT: usize = 2_048;
}

/// Slots that go through the stages together: what they and their contexts take stays within the first cache, and a kernel
/// takes no longer run at a time.
pub(crate) const BURST: usize = 64;

/// One frame of a batch: what the stages know of it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Offset of the data in the arena.
    pub start: u32,
    /// Octets of data, without MAC field.
    pub len: u32,
    /// Destination and source.
    pub address: Address,
    /// Where it is decided; later stages skip what is.
    pub verdict: Verdict,
    /// Logical channel.
    pub lcid: Lcid,
    /// What the data is.
    pub sdu_type: SduType,
    /// When sending PC5-S on a link, the KD-sess wanted; 0 leaves it to the engine. What a frame is under, [`Self::under`] says.
    pub key_id: u16,
    /// Context of the engine that serves it; until that is foreseen, the hash by which it will be.
    pub(crate) context: u32,
    /// Index and key id of a parsed frame: with the address, what its context is found by.
    pub(crate) tag: u32,
    /// What of the headers an AEAD authenticates, as [`Job::aad`](crate::cipher::Job::aad) has it: all that the stages still need of them, in the shape in which
    /// the job takes it.
    pub(crate) aad: AadWords,
    /// This pass decides and counts it; an earlier one did otherwise.
    pub(crate) in_hand: bool,
    /// The MAC field was right.
    pub(crate) verified: bool,
    /// Octets of the MAC field: present after sealing, taken off by opening.
    pub mac_len: u8,
}

impl Slot {
    /// PTK identity or KD-sess id that the frame is under, once it is sealed or parsed.
    pub const fn under(&self) -> u16 {
        (self.count() >> 16) as u16
    }

    /// PDCP SN, once the frame is sealed or parsed.
    #[inline(always)]
    pub const fn sn(&self) -> u16 {
        self.count() as u16
    }

    /// COUNT: key id and SN stand side by side in the header.
    #[inline(always)]
    pub(crate) const fn count(&self) -> u32 {
        // Its four octets are one load.
        ((self.aad.0[1].to_le() >> 8) as u32).swap_bytes()
    }
}

/// What the owner of a batch remembers of a frame; no stage reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Position of the frame in its stream: the order of everything.
    pub sequence: u64,
    /// When it was captured or received, in the unit of its interface.
    pub timestamp: u64,
    /// Which interface it came by.
    pub interface: u32,
    /// Octets that a snap length cut off: original less captured length, wrapping where a capture says less.
    pub uncaptured: u32,
}

/// Frames under way together.
pub struct Batch {
    memory: Vec<u8>,
    /// First 64-octet boundary of `memory`.
    origin: usize,
    used: usize,
    slots: Vec<Slot>,
    meta: Vec<Meta>,
    runs: Box<Runs>,
}

impl Batch {
    /// Room for `slots` frames (1..=4,096), and in octets for at least one of the longest.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, limits::MAX_SLOTS);
        let longest = (limits::HEADROOM + limits::MAX_DATA + limits::TAILROOM).next_multiple_of(64);
        let memory = vec![0u8; (slots * limits::ARENA_PER_SLOT).max(longest) + 64];
        let origin = memory.as_ptr().align_offset(64).min(64);
        Self {
            memory,
            origin,
            used: 0,
            slots: Vec::with_capacity(slots),
            meta: Vec::with_capacity(slots),
            runs: Box::new(Runs::new()),
        }
    }

    /// Takes every frame out.
    pub fn clear(&mut self) {
        self.used = 0;
        self.slots.clear();
        self.meta.clear();
    }

    /// Frames in it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// No frames in it.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a frame with `data` octets more has no room.
    pub fn is_full_for(&self, data: usize) -> bool {
        self.slots.len() == self.slots.capacity() || self.end_of(data) > self.memory.len() - 64
    }

    fn end_of(&self, data: usize) -> usize {
        self.used + limits::HEADROOM + (data + limits::TAILROOM).next_multiple_of(64)
    }

    fn place(&mut self, data: usize) -> Option<u32> {
        if data > limits::MAX_DATA || self.is_full_for(data) {
            return None;
        }
        let start = self.used + limits::HEADROOM;
        self.used = self.end_of(data);
        Some((self.origin + start) as u32)
    }

    /// Adds an SDU to be sealed. `None` when it does not fit (see [`Self::is_full_for`]).
    #[inline]
    pub fn push_sdu(
        &mut self,
        address: Address,
        lcid: Lcid,
        sdu_type: SduType,
        sdu: &[u8],
        meta: Meta,
    ) -> Option<usize> {
        if sdu.len() > limits::MAX_SDU {
            return None;
        }
        let start = self.place(sdu.len())?;
        self.memory[start as usize..][..sdu.len()].copy_from_slice(sdu);
        self.push_slot(start, sdu.len() as u32, meta);
        let slot = self.slots.last_mut()?;
        slot.address = address;
        slot.lcid = lcid;
        slot.sdu_type = sdu_type;
        Some(self.slots.len() - 1)
    }

    /// Adds a received frame, from its first octet. `None` when it does not fit.
    ///
    /// Until it is parsed, `start` and `len` of its slot lie as if the frame had no 802.1Q tag.
    #[inline]
    pub fn push_frame(&mut self, frame: &[u8], meta: Meta) -> Option<usize> {
        let data = frame.len().saturating_sub(spec::HEADER_LEN);
        let start = self.place(data)?;
        let from = start as usize - spec::HEADER_LEN;
        self.memory[from..from + frame.len()].copy_from_slice(frame);
        self.push_slot(start, 0, meta);
        let slot = self.slots.last_mut()?;
        // What parsing needs: a frame shorter than its headers has no data, but a length all the same.
        slot.len = frame.len() as u32;
        Some(self.slots.len() - 1)
    }

    fn push_slot(&mut self, start: u32, len: u32, meta: Meta) {
        self.slots.push(Slot {
            start,
            len,
            address: Address::default(),
            verdict: Verdict::Pending,
            lcid: Lcid::USER,
            sdu_type: SduType::NonIp,
            key_id: 0,
            context: 0,
            tag: 0,
            aad: AadWords::default(),
            in_hand: true,
            verified: false,
            mac_len: 0,
        });
        self.meta.push(meta);
    }

    /// Slots in order of arrival.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Slots, to route them or to decide their verdict.
    pub fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    /// What the owner remembers of each slot.
    pub fn meta(&self) -> &[Meta] {
        &self.meta
    }

    /// Data of a slot: the SDU before sealing and after opening, ciphertext between.
    pub fn data(&self, slot: usize) -> &[u8] {
        let s = &self.slots[slot];
        &self.memory[s.start as usize..][..s.len as usize]
    }

    /// A sealed frame from its first octet, padded as Ethernet wants it.
    pub fn frame(&self, slot: usize) -> &[u8] {
        let s = &self.slots[slot];
        let end = s.len as usize + s.mac_len as usize;
        let from = s.start as usize - spec::HEADER_LEN;
        &self.memory[from..][..(spec::HEADER_LEN + end).max(spec::MIN_FRAME)]
    }

    /// A sealed frame without padding, as it stands in a datagram.
    pub fn unpadded_frame(&self, slot: usize) -> &[u8] {
        let s = &self.slots[slot];
        let from = s.start as usize - spec::HEADER_LEN;
        &self.memory[from..][..spec::HEADER_LEN + s.len as usize + s.mac_len as usize]
    }

    /// A received frame that was not parsed yet.
    pub fn received(&self, slot: usize) -> &[u8] {
        let s = &self.slots[slot];
        &self.memory[s.start as usize - spec::HEADER_LEN..][..s.len as usize]
    }

    /// Turns sealed slots into received ones, as if they had come over a wire: for in-process hops.
    pub fn loop_back(&mut self) {
        for s in &mut self.slots {
            if s.verdict == Verdict::Accepted {
                let total = (spec::HEADER_LEN + s.len as usize + s.mac_len as usize).max(spec::MIN_FRAME);
                s.len = total as u32;
                s.verdict = Verdict::Pending;
            }
        }
    }

    pub(crate) fn memory_mut(&mut self) -> (&mut [u8], &mut [Slot], &mut Runs) {
        (&mut self.memory, &mut self.slots, &mut self.runs)
    }
}

/// Writes the headers of a frame before its data and pads it; gives its associated data. The MAC field behind the data is
/// still to come.
#[inline(always)]
pub(crate) fn write_headers(
    memory: &mut [u8],
    slot: &Slot,
    template: &HeaderTemplate,
    pdcp: u64,
    mac_len: usize,
) -> AadWords {
    let (start, len) = (slot.start as usize, slot.len as usize);
    let sl = pdu::short_length(len + mac_len);
    let head = memory[..start]
        .last_chunk_mut::<{ spec::HEADER_LEN }>()
        .expect("a slot has room for headers before it");
    let aad = template.write(head, slot.lcid, sl, pdcp);
    if spec::HEADER_LEN + len + mac_len < spec::MIN_FRAME {
        // As many as the shortest frame could lack: there is room, and a fixed number takes no loop.
        memory[start + len..][..spec::MIN_FRAME - spec::HEADER_LEN].fill(0);
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Layer2Id;

    #[test]
    fn slots_do_not_touch_each_other() {
        let mut b = Batch::new(8);
        let a = Address::link(Layer2Id::new(1).unwrap(), Layer2Id::new(2).unwrap());
        for n in [0, 1, 63, 64, 65, 1420, 5] {
            let i = b.push_sdu(a, Lcid::USER, SduType::NonIp, &vec![n as u8; n], Meta::default()).unwrap();
            assert_eq!(b.memory[b.slots[i].start as usize..].as_ptr().align_offset(64), 0);
        }
        for (i, n) in [0, 1, 63, 64, 65, 1420, 5].into_iter().enumerate() {
            assert_eq!(b.data(i), vec![n as u8; n]);
        }
        for pair in b.slots.windows(2) {
            assert!(pair[0].start + pair[0].len + 64 <= pair[1].start - 43);
        }
        assert!(b.push_frame(&[0; 5], Meta::default()).is_some());
        assert!(b.push_frame(&[0; 5], Meta::default()).is_none(), "eight slots");
    }

    #[test]
    fn the_longest_frame_fits_and_a_longer_one_does_not() {
        let mut b = Batch::new(1);
        let a = Address::default();
        assert!(
            b.push_sdu(a, Lcid::USER, SduType::NonIp, &vec![1; limits::MAX_SDU + 1], Meta::default())
                .is_none()
        );
        assert!(
            b.push_sdu(a, Lcid::USER, SduType::NonIp, &vec![1; limits::MAX_SDU], Meta::default()).is_some()
        );
        b.clear();
        assert!(b.push_frame(&vec![1; limits::MAX_DATA], Meta::default()).is_some());
    }
}

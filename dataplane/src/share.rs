//! Which worker owns a frame: the same answer in the engine, in the ports and in the kernel's packet filter.

use crate::pdu::Address;

/// Part of one worker, of all that share contexts and frames among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// This worker, from 0.
    pub worker: usize,
    /// How many there are, at least 1.
    pub workers: usize,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { worker: 0, workers: 1 };

    /// The worker that owns the contexts and frames of an address: both directions of a link have the same one.
    pub fn owner(address: Address, workers: usize) -> usize {
        flow(address) as usize % workers.max(1)
    }

    /// The worker that owns a received frame, as it came: the same one.
    pub fn owner_of_frame(frame: &[u8], workers: usize) -> usize {
        flow_of(frame) as usize % workers.max(1)
    }

    /// Whether this is that worker.
    pub fn owns(self, address: Address) -> bool {
        Self::owner(address, self.workers) == self.worker
    }
}

/// Number that both sides of the kernel boundary place an address by, modulo workers.
pub(crate) fn flow(address: Address) -> u32 {
    let ids = address.get();
    // The third octet of both prefixes is in the kernel's words too, and cancels out.
    let mixed = (ids >> 24 ^ ids) as u32 & 0xff_ffff;
    mixed.wrapping_mul(MIX) >> SHIFT
}

/// As [`flow`], from the octets of a frame as they are; 0 where it is too short, as the kernel's program has it.
pub(crate) fn flow_of(frame: &[u8]) -> u32 {
    let Some(head) = frame.first_chunk::<SHORTEST>() else { return 0 };
    let id = |at: usize| u32::from_be_bytes([0, head[at], head[at + 1], head[at + 2]]);
    (id(3) ^ id(9)).wrapping_mul(MIX) >> SHIFT
}

/// Octets up to the LCID.
const SHORTEST: usize = 15;
/// Odd, near 2^32 over the golden ratio: neighbouring ids go to different workers.
pub(crate) const MIX: u32 = 0x9e37_79b1;
/// The high half of the product, where all bits of the ids have had their say.
pub(crate) const SHIFT: u32 = 16;

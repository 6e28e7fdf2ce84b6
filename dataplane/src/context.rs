//! Contexts: the state of one key in one direction, owned by one worker alone. Plain integers, no locks.
//!
//! What frames touch of a context is one cache line, so that a burst can ask for the contexts of all its frames at once.

mod places;
mod table;

pub(crate) use places::{Places, Vacant};
pub(crate) use table::{ContextTable, IdHash, TableView};

use std::collections::HashMap;
use std::hash::Hash;

use crate::batch::Slot;
use crate::cipher::Kernel;
use crate::cipher::{Cipher, KeyIndex};
use crate::crypto::{self, KernelError};
use crate::kdf::FrameKeys;
use crate::keys::LinkPhase;
use crate::pdu::{Address, HeaderTemplate};
use crate::suite::Suite;
use crate::window::Window;

/// Map with a fast hash, seeded at random for each process: what is inserted was verified or installed first.
pub(crate) type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One past the last SN of a key.
pub(crate) const SN_END: u32 = 1 << 16;
/// From here on a key wants its successor.
pub(crate) const SN_HALF: u32 = 1 << 15;
/// The last SNs of a link key, kept for PC5-S. Source: `design.md` section 4.
pub(crate) const SN_KEPT_FOR_SIGNALLING: u32 = 256;

/// What a received frame finds its context by: address, then index (5 bits) and key id (16 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ReceiveKey {
    pub address: Address,
    pub tag: u32,
}

impl ReceiveKey {
    pub(crate) fn new(address: Address, index: u8, key_id: u16) -> Self {
        Self { address, tag: (index as u32) << 16 | key_id as u32 }
    }

    /// What the headers of a received frame claim.
    #[inline(always)]
    pub(crate) fn of(slot: &Slot) -> Self {
        Self { address: slot.address, tag: slot.tag }
    }

    /// Whether frames may carry it under protection: every context's ids are so.
    pub(crate) fn is_reserved(self) -> bool {
        self.key_id() == 0 || (self.index() != 0 && !self.address.is_group())
    }

    pub(crate) fn key_id(self) -> u16 {
        self.tag as u16
    }

    pub(crate) fn index(self) -> u8 {
        (self.tag >> 16) as u8
    }
}

/// Where a receiving context stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// In the table: a frame verified under it, or it was installed by command.
    Entered,
    /// The successor of the newest PTK, derived before it is needed.
    Ahead,
    /// Derived for a frame under way; goes with it unless that verifies.
    Tentative,
    /// Replaced while frames of it were under way.
    Gone,
}

/// Receiving side of a PTK or of a KD-sess.
#[repr(align(64))]
pub(crate) struct ReceiveContext {
    /// With `tag`, what frames find it by.
    pub address: Address,
    pub tag: u32,
    pub key: KeyIndex,
    pub suite: Suite,
    /// Octets of the MAC field; 0: the window is advisory.
    pub mac_len: u8,
    pub direction: u8,
    pub standing: Standing,
    pub phase: LinkPhase,
    /// A frame verified under it.
    pub first_seen: bool,
    /// SNs below are usual: from a verified frame nothing follows but that its SN is used. 0 while the context is new or not in
    /// the table.
    pub usual_end: u16,
    pub window: Window,
}

const _: () = assert!(size_of::<ReceiveContext>() == 64 && size_of::<SendContext>() == 64);

impl Vacant for ReceiveContext {
    fn vacant() -> Self {
        Self {
            address: Address::NONE,
            tag: u32::MAX,
            key: KeyIndex(u32::MAX),
            suite: Suite::Eea0,
            mac_len: 0,
            direction: 0,
            standing: Standing::Gone,
            phase: LinkPhase::Pending,
            first_seen: false,
            usual_end: 0,
            window: Window::closed(),
        }
    }

    fn is_vacant(&self) -> bool {
        self.address == Address::NONE
    }
}

impl ReceiveContext {
    /// What frames find it by.
    #[inline(always)]
    pub(crate) fn id(&self) -> ReceiveKey {
        ReceiveKey { address: self.address, tag: self.tag }
    }

    /// The lower half of the SNs is usual.
    pub(crate) const LOWER_HALF: u16 = SN_HALF as u16;
    /// All SNs are usual, but for the very last one, which the general way serves as well.
    pub(crate) const NEARLY_ALL: u16 = u16::MAX;

    /// Whether nothing follows from a verified frame of this SN but that it is used.
    #[inline(always)]
    pub(crate) fn is_usual(&self, sn: u16) -> bool {
        sn < self.usual_end
    }
}

/// Sending side of a PTK or of a KD-sess.
#[repr(align(64))]
pub(crate) struct SendContext {
    pub header: HeaderTemplate,
    pub address: Address,
    /// PDCP header but for SDU type and SN, as [`pdu::pdcp_word`](crate::pdu::pdcp_word) has it.
    pub pdcp: u64,
    /// Next SN; [`SN_END`] when all are used.
    pub next_sn: u32,
    /// User data stops here.
    pub user_end: u32,
    pub key: KeyIndex,
    pub direction: u8,
    pub suite: Suite,
    pub mac_len: u8,
}

impl Vacant for SendContext {
    fn vacant() -> Self {
        Self {
            header: HeaderTemplate::new(Address::NONE),
            address: Address::NONE,
            pdcp: 0,
            next_sn: SN_END,
            user_end: 0,
            key: KeyIndex(u32::MAX),
            direction: 0,
            suite: Suite::Eea0,
            mac_len: 0,
        }
    }

    fn is_vacant(&self) -> bool {
        self.address == Address::NONE
    }
}

/// The suites in use by one engine, each made when its first key comes.
pub(crate) struct Ciphers {
    made: [Option<Box<dyn Cipher>>; Suite::COUNT],
    wanted: Option<Kernel>,
}

impl Ciphers {
    /// `wanted` forces a tier on the suites that have it.
    pub(crate) fn new(wanted: Option<Kernel>) -> Self {
        Self { made: std::array::from_fn(|_| None), wanted }
    }

    /// The tier that serves a suite.
    pub(crate) fn kernel_of(&self, suite: Suite) -> Kernel {
        match self.wanted {
            Some(kernel) if crypto::kernels(suite).contains(&kernel) => kernel,
            _ => crypto::best(suite),
        }
    }

    pub(crate) fn insert(&mut self, suite: Suite, keys: &FrameKeys) -> Result<KeyIndex, KernelError> {
        let kernel = self.kernel_of(suite);
        let made = &mut self.made[suite as usize];
        let cipher = match made {
            Some(cipher) => cipher,
            None => made.insert(crypto::cipher(suite, kernel)?),
        };
        Ok(cipher.insert(keys))
    }

    pub(crate) fn remove(&mut self, suite: Suite, key: KeyIndex) {
        if let Some(cipher) = &mut self.made[suite as usize] {
            cipher.remove(key);
        }
    }

    #[inline]
    pub(crate) fn get(&self, suite: usize) -> Option<&dyn Cipher> {
        self.made[suite].as_deref()
    }
}

/// Allows so many at once and so many a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// At once.
    pub burst: u32,
    /// A second; `u32::MAX` is without limit.
    pub per_second: u32,
}

impl Budget {
    /// No limit at all: for files, where nobody else waits.
    pub const UNLIMITED: Self = Self { burst: u32::MAX, per_second: u32::MAX };
}

/// What is left of a [`Budget`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// In thousand-millionths, so that elapsed nanoseconds times rate add without rounding.
    left: u128,
    at_ns: u64,
}

impl Tokens {
    const ONE: u128 = 1_000_000_000;

    pub(crate) fn full(budget: Budget, now_ns: u64) -> Self {
        Self { left: budget.burst as u128 * Self::ONE, at_ns: now_ns }
    }

    pub(crate) fn take(&mut self, budget: Budget, now_ns: u64) -> bool {
        if budget.per_second == u32::MAX {
            return true;
        }
        let elapsed = now_ns.saturating_sub(self.at_ns) as u128;
        self.at_ns = self.at_ns.max(now_ns);
        self.left = (self.left + elapsed * budget.per_second as u128).min(budget.burst as u128 * Self::ONE);
        let taken = self.left >= Self::ONE;
        if taken {
            self.left -= Self::ONE;
        }
        taken
    }

    /// The try was worth it: the frame verified.
    pub(crate) fn give_back(&mut self) {
        self.left += Self::ONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refills_with_time() {
        let budget = Budget { burst: 2, per_second: 10 };
        let mut t = Tokens::full(budget, 0);
        assert!(t.take(budget, 0) && t.take(budget, 0) && !t.take(budget, 0));
        assert!(!t.take(budget, 99_999_999));
        assert!(t.take(budget, 100_000_000) && !t.take(budget, 100_000_000));
        assert!(
            t.take(budget, 10_000_000_000)
                && t.take(budget, 10_000_000_000)
                && !t.take(budget, 10_000_000_000)
        );
    }
}

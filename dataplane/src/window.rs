//! Replay window over PDCP SN: checked before a frame is opened, committed after its MAC was verified.

use crate::verdict::Verdict;

/// Own limits.
pub mod limits {
    /// Width unless configured otherwise, in SNs.
    pub const DEFAULT_WIDTH: u32 = 1_024;
    /// Largest width, in SNs.
    pub const MAX_WIDTH: u32 = 32_768;
}

/// Which SNs of one key and direction were received. SNs do not wrap: a key ends at 65,535.
///
/// Frames that come in order touch the window itself alone and not the ring behind it: the newest word is kept apart.
#[derive(Clone)]
pub struct Window {
    /// Bits of the 64 SNs from `base` on, which the highest one committed is of. The ring gets them when a higher word
    /// begins.
    newest: u64,
    /// Bit (SN mod bits) of a ring one word wider than the width, so that a word entered is cleared whole.
    ring: Box<[u64]>,
    /// One above the highest SN committed, at least `floor`: from here on nothing was seen. Below it by `width` everything is too
    /// old.
    next: u32,
    /// SNs below this were used before the window began.
    floor: u32,
    /// A multiple of 64; 0 before anything was committed.
    base: u32,
    width: u16,
}

impl Window {
    /// Nothing received; `width` is rounded up to a multiple of 64 within 64..=32,768.
    pub fn new(width: u32) -> Self {
        Self::from_floor(width, 0)
    }

    /// SNs below `floor` count as received.
    pub fn from_floor(width: u32, floor: u32) -> Self {
        let width = width.clamp(64, limits::MAX_WIDTH).next_multiple_of(64);
        let words = (width as usize / 64 + 1).next_power_of_two();
        Self { newest: 0, ring: vec![0; words].into(), next: floor, floor, base: 0, width: width as u16 }
    }

    /// Every SN counts as received.
    pub(crate) fn closed() -> Self {
        Self { newest: 0, ring: Box::default(), next: u32::MAX, floor: u32::MAX, base: 0, width: 64 }
    }

    /// Whether a frame with this SN could still be accepted. A refusal is final, whatever comes in between.
    ///
    /// # Errors
    /// [`Verdict::Replayed`] or [`Verdict::TooOld`].
    #[inline]
    pub fn check(&self, sn: u16) -> Result<(), Verdict> {
        if self.is_plainly_new(sn) {
            return Ok(());
        }
        let sn = sn as u32;
        if sn < self.floor || sn + (self.width as u32) < self.next {
            return Err(Verdict::TooOld);
        }
        // Below `next`, or it would be plainly new; and so would be what is new in the newest word.
        let in_newest = sn.wrapping_sub(self.base) < 64;
        let seen = in_newest || self.ring[self.place(sn / 64)] & bit(sn) != 0;
        if seen { Err(Verdict::Replayed) } else { Ok(()) }
    }

    /// [`Self::check`] and [`Self::commit`] at once, for an SN of the newest word or the one after it. Says whether it was
    /// committed; if not, nothing has changed and nothing is said about the SN.
    #[inline(always)]
    pub(crate) fn take_usual(&mut self, sn: u16) -> bool {
        let sn = sn as u32;
        let offset = sn.wrapping_sub(self.base);
        if offset < 64 && sn >= self.next {
            // In order: nearly always.
            self.newest |= bit(sn);
            self.next = sn + 1;
            return true;
        }
        if offset >= 128 || (sn < self.next && (offset >= 64 || !self.is_gap(sn))) {
            return false;
        }
        if offset >= 64 {
            let (left, entered) = (self.place(self.base / 64), self.place(sn / 64));
            let (Some(_), Some(_)) = (self.ring.get(left), self.ring.get(entered)) else { return false };
            self.ring[left] = self.newest;
            self.ring[entered] = 0;
            self.newest = 0;
            self.base += 64;
        }
        self.newest |= bit(sn);
        self.next = self.next.max(sn + 1);
        true
    }

    /// Whether an SN is above the highest committed, or of its word and not seen; of others nothing is said.
    #[inline(always)]
    pub(crate) fn is_plainly_new(&self, sn: u16) -> bool {
        let sn = sn as u32;
        sn >= self.next || self.is_gap(sn)
    }

    /// Whether an SN is of the newest word, not below the floor and not seen.
    #[inline(always)]
    fn is_gap(&self, sn: u32) -> bool {
        sn.wrapping_sub(self.base) < 64 && sn >= self.floor && self.newest & bit(sn) == 0
    }

    /// Remembers the SN of a verified frame that [`Self::check`] let pass just before.
    #[inline]
    pub fn commit(&mut self, sn: u16) {
        let sn = sn as u32;
        if sn.wrapping_sub(self.base) < 64 {
            self.newest |= bit(sn);
            self.next = self.next.max(sn + 1);
        } else {
            self.commit_elsewhere(sn);
        }
    }

    /// Commits an SN outside the newest word.
    #[inline(never)]
    fn commit_elsewhere(&mut self, sn: u32) {
        let (word, newest) = (sn / 64, self.base / 64);
        let place = self.place(word);
        if word < newest {
            self.ring[place] |= bit(sn);
            return;
        }
        let left = self.place(newest);
        self.ring[left] = self.newest;
        let enters = (word - newest).min(self.ring.len() as u32);
        for w in 0..enters {
            let entered = self.place(word - w);
            self.ring[entered] = 0;
        }
        self.newest = bit(sn);
        self.base = word * 64;
        self.next = self.next.max(sn + 1);
    }

    /// Raises the floor: SNs below it count as received.
    pub fn raise_floor(&mut self, floor: u32) {
        self.floor = self.floor.max(floor);
        self.next = self.next.max(floor);
    }

    /// One above the highest SN committed, or the floor if that is higher.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Whether anything was committed.
    pub fn is_used(&self) -> bool {
        self.newest != 0
    }

    /// Where a word stands in the ring.
    #[inline(always)]
    fn place(&self, word: u32) -> usize {
        word as usize & (self.ring.len() - 1)
    }
}

#[inline(always)]
const fn bit(sn: u32) -> u64 {
    1 << (sn % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Oracle: the set of all SNs committed.
    fn slow_check(seen: &BTreeSet<u32>, floor: u32, width: u32, sn: u32) -> Result<(), Verdict> {
        let next = seen.last().map_or(0, |m| m + 1);
        if sn < floor || (sn < next && sn + width < next) {
            Err(Verdict::TooOld)
        } else if seen.contains(&sn) {
            Err(Verdict::Replayed)
        } else {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn equals_a_set_of_seen_sns(
            width in prop_oneof![Just(64u32), Just(1024), Just(32_768), 64u32..5000],
            floor in prop_oneof![Just(0u32), 0u32..70_000],
            steps in proptest::collection::vec((-2000i32..4000, any::<u16>(), 0u8..10), 1..600),
        ) {
            let mut window = Window::from_floor(width, floor);
            let width = width.next_multiple_of(64);
            let mut seen = BTreeSet::new();
            let mut at = 0i32;
            for (step, anywhere, how) in steps {
                let sn = if how == 0 { anywhere as i32 } else { (at + step / if how < 8 { 40 } else { 1 }).clamp(0, 65_535) };
                at = sn;
                let expected = slow_check(&seen, floor, width, sn as u32);
                prop_assert_eq!(window.check(sn as u16), expected, "sn {}", sn);
                if expected.is_ok() {
                    window.commit(sn as u16);
                    seen.insert(sn as u32);
                }
            }
        }
    }

    #[test]
    fn the_last_sn_is_used_once() {
        let mut w = Window::new(1024);
        assert!(w.check(65_535).is_ok());
        w.commit(65_535);
        assert_eq!(w.check(65_535), Err(Verdict::Replayed));
        assert_eq!(w.check(0), Err(Verdict::TooOld));
        assert_eq!(w.next(), 65_536);
    }
}

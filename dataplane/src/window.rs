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
#[derive(Clone)]
pub struct Window {
    /// One above the highest SN committed; below it by `width` everything is too old.
    next: u32,
    /// SNs below this were used before the window began.
    floor: u32,
    width: u32,
    /// Bit (SN mod bits) of a ring one word wider than `width`, so that a word entered is cleared whole.
    ring: Box<[u64]>,
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
        Self { next: 0, floor, width, ring: vec![0; words].into() }
    }

    /// Whether a frame with this SN could still be accepted. A refusal is final, whatever comes in between.
    ///
    /// # Errors
    /// [`Verdict::Replayed`] or [`Verdict::TooOld`].
    #[inline]
    pub fn check(&self, sn: u16) -> Result<(), Verdict> {
        let sn = sn as u32;
        if sn >= self.next {
            return if sn >= self.floor { Ok(()) } else { Err(Verdict::TooOld) };
        }
        if sn + self.width < self.next || sn < self.floor {
            return Err(Verdict::TooOld);
        }
        let (word, bit) = self.place(sn);
        if self.ring[word] & bit != 0 { Err(Verdict::Replayed) } else { Ok(()) }
    }

    /// Remembers the SN of a verified frame that [`Self::check`] let pass just before.
    #[inline]
    pub fn commit(&mut self, sn: u16) {
        let sn = sn as u32;
        if sn >= self.next {
            let words = self.ring.len() as u32;
            let last = if self.next == 0 { 0 } else { (self.next - 1) / 64 };
            let enters = (sn / 64 - last).min(words);
            for w in 0..enters {
                self.ring[((sn / 64 - w) % words) as usize] = 0;
            }
            self.next = sn + 1;
        }
        let (word, bit) = self.place(sn);
        self.ring[word] |= bit;
    }

    /// Raises the floor: SNs below it count as received.
    pub fn raise_floor(&mut self, floor: u32) {
        self.floor = self.floor.max(floor);
    }

    /// One above the highest SN committed, or the floor if that is higher.
    pub fn next(&self) -> u32 {
        self.next.max(self.floor)
    }

    /// Whether anything was committed.
    pub fn is_used(&self) -> bool {
        self.next != 0
    }

    #[inline]
    fn place(&self, sn: u32) -> (usize, u64) {
        ((sn as usize / 64) & (self.ring.len() - 1), 1 << (sn % 64))
    }
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

//! From the ids of a frame to the place of its context: one cache line a look-up, no branch that depends on the frame.
//!
//! A bucket has four entries of hash and place. The table keeps no ids: contexts have theirs, and whoever looks one up is
//! about to read it anyway. So a look-up gives a *candidate*, right unless two hashes of 32 bits collide, and the caller
//! compares ids; the exact look-up is for everybody else.

use std::hash::{BuildHasher, RandomState};

use super::places::Vacant;
use crate::batch::Slot;
use crate::pdu::Address;
use crate::raw::prefetch;

/// Entries of a bucket.
const WAYS: usize = 4;

/// Odd, near 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Bucket {
    hashes: [u32; WAYS],
    /// Place and 1, so that 0 is no entry.
    places: [u32; WAYS],
}

const EMPTY: Bucket = Bucket { hashes: [0; WAYS], places: [0; WAYS] };

/// Hash of the ids of a context.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct IdHash(u32);

/// Hash table from ids to places. At most a quarter full, so a bucket hardly ever overflows into the next one.
pub(crate) struct ContextTable {
    buckets: Vec<Bucket>,
    len: usize,
    /// Random for each process: nobody outside chooses ids that meet in one bucket.
    seeds: [u64; 2],
}

/// The table as loops over frames have it at hand, a value that nothing they write could change.
#[derive(Clone, Copy)]
pub(crate) struct TableView<'a> {
    buckets: &'a [Bucket],
    seeds: [u64; 2],
}

impl ContextTable {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self { buckets: vec![EMPTY; 8], len: 0, seeds: [random.hash_one(0), random.hash_one(1)] }
    }

    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What loops over frames look up with.
    #[inline(always)]
    pub(crate) fn view(&self) -> TableView<'_> {
        TableView { buckets: &self.buckets, seeds: self.seeds }
    }

    /// Hash of an address and 32 bits more.
    #[inline(always)]
    pub(crate) fn hash(&self, address: Address, tag: u32) -> IdHash {
        self.view().hash(address, tag)
    }

    #[inline(always)]
    fn home(&self, hash: IdHash) -> usize {
        self.view().home(hash)
    }

    /// The place of an id: of those with its hash, the one that `is` says.
    pub(crate) fn find(&self, hash: IdHash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (bucket, way) = self.locate(hash, is)?;
        Some(self.buckets[bucket].places[way] - 1)
    }

    fn locate(&self, hash: IdHash, is: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            let entries = bucket.hashes.iter().zip(&bucket.places);
            let found = entries.enumerate().find(|&(_, (&h, &p))| p != 0 && h == hash.0 && is(p - 1));
            if let Some((way, _)) = found {
                return Some((at, way));
            }
            if bucket.places.contains(&0) {
                return None;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// Adds an entry for an id that has none, or gives the one that `is` says another place.
    pub(crate) fn set(&mut self, hash: IdHash, place: u32, is: impl Fn(u32) -> bool) {
        if let Some((bucket, way)) = self.locate(hash, is) {
            self.buckets[bucket].places[way] = place + 1;
            return;
        }
        if (self.len + 1) * 4 > self.buckets.len() * WAYS {
            let old = std::mem::take(&mut self.buckets);
            self.buckets = vec![EMPTY; old.len() * 2];
            for (hash, place) in old.iter().flat_map(entries) {
                self.add(hash, place);
            }
        }
        self.add(hash, place + 1);
        self.len += 1;
    }

    fn add(&mut self, hash: IdHash, place: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.places.iter().position(|&p| p == 0) {
                (bucket.hashes[way], bucket.places[way]) = (hash.0, place);
                return;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// Takes out the entry of this hash that points to `place`, if there is one.
    pub(crate) fn remove(&mut self, hash: IdHash, place: u32) {
        let Some((mut at, way)) = self.locate(hash, |p| p == place) else { return };
        let was_full = !self.buckets[at].places.contains(&0);
        (self.buckets[at].hashes[way], self.buckets[at].places[way]) = (0, 0);
        self.len -= 1;
        // What had gone past the full bucket may belong into the gap: everything up to the next gap is entered anew.
        let mut full = was_full;
        while full {
            at = (at + 1) & (self.buckets.len() - 1);
            full = !self.buckets[at].places.contains(&0);
            let moved = std::mem::replace(&mut self.buckets[at], EMPTY);
            for (hash, place) in entries(&moved) {
                self.add(hash, place);
            }
        }
    }
}

impl TableView<'_> {
    /// Hash of an address and 32 bits more.
    #[inline(always)]
    pub(crate) fn hash(self, address: Address, tag: u32) -> IdHash {
        let (a, b) = (address.get() ^ self.seeds[0], tag as u64 ^ self.seeds[1]);
        let product = a as u128 * b as u128;
        let folded = (product >> 64) as u64 ^ product as u64;
        // Ids that differ in few bits leave the low bits of a product alike where a factor is even.
        IdHash((folded.wrapping_mul(GOLDEN) >> 32) as u32)
    }

    #[inline(always)]
    fn home(self, hash: IdHash) -> usize {
        hash.0 as usize & (self.buckets.len() - 1)
    }

    /// Notes in a slot the hash of an id, from which [`Self::foresee`] goes on; asks the processor for what that will read.
    #[inline(always)]
    pub(crate) fn expect(self, slot: &mut Slot, address: Address, tag: u32) {
        let hash = self.hash(address, tag);
        prefetch::near(self.buckets, self.home(hash));
        slot.context = hash.0;
    }

    /// The place that an id with this hash most likely has, or some number that is none: the caller compares. Looks at the
    /// home bucket only.
    #[inline(always)]
    fn candidate(self, hash: IdHash) -> u32 {
        let bucket = &self.buckets[self.home(hash)];
        let mut place = 0;
        for (&h, &p) in bucket.hashes.iter().zip(&bucket.places) {
            // All four at once, without a branch: at most one is right, and two with one hash give nonsense.
            place |= if h == hash.0 { p } else { 0 };
        }
        place.wrapping_sub(1)
    }

    /// Turns the hash that [`Self::expect`] has noted in each slot into its candidate, and asks the processor for the context there.
    #[inline(always)]
    pub(crate) fn foresee<T: Vacant>(self, burst: &mut [Slot], contexts: &[T]) {
        for slot in burst {
            slot.context = self.candidate(IdHash(slot.context));
            prefetch::near(contexts, slot.context as usize);
        }
    }
}

/// Entries of a bucket, places as they stand in it.
fn entries(bucket: &Bucket) -> impl Iterator<Item = (IdHash, u32)> {
    bucket.hashes.iter().zip(&bucket.places).filter(|(_, p)| **p != 0).map(|(&h, &p)| (IdHash(h), p))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::Layer2Id;

    proptest! {
        /// Hashes of few values, so that buckets overflow and hashes meet.
        #[test]
        fn equals_a_map(steps in proptest::collection::vec((0u32..200, any::<bool>()), 1..800), spread in 1u32..40) {
            let mut table = ContextTable::new();
            let mut map = BTreeMap::new();
            let hash = |id: u32| IdHash(id / 8 * spread);
            let mut ids = Vec::new();
            for (id, adds) in steps {
                if adds {
                    let place = ids.len() as u32;
                    ids.push(id);
                    table.set(hash(id), place, |p| ids[p as usize] == id);
                    map.insert(id, place);
                } else if let Some(place) = map.remove(&id) {
                    table.remove(hash(id), place);
                } else {
                    table.remove(hash(id), ids.len() as u32);
                }
                prop_assert_eq!(table.len(), map.len());
                for id in 0..200 {
                    let found = table.find(hash(id), |p| ids[p as usize] == id);
                    prop_assert_eq!(found, map.get(&id).copied());
                }
            }
        }

        #[test]
        fn a_candidate_is_nearly_always_right(n in 1u32..3_000, by_address: bool) {
            let mut table = ContextTable::new();
            let owner = Layer2Id::from_octets([0xff, 0xff, 0xfe]);
            let address = |i: u32| Address::link(owner, Layer2Id::from_octets([0, (i >> 8) as u8, i as u8]));
            let id = |i| if by_address { (address(i), 0x0101) } else { (address(1), i) };
            let hashes: Vec<_> = (0..n).map(id).map(|(address, tag)| table.hash(address, tag)).collect();
            for (place, &h) in (0..n).zip(&hashes) {
                table.set(h, place, |p| p == place);
            }
            let wrong = (0..n).zip(&hashes).filter(|(place, h)| table.view().candidate(**h) != *place).count();
            prop_assert!(wrong as u32 <= 8 + n / 50, "{} of {} are not in their bucket", wrong, n);
        }
    }
}

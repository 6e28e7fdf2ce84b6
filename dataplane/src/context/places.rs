//! Where contexts live: a place each, by number, found without touching it.

/// What stands where there is no context.
pub(crate) trait Vacant {
    /// A context that nothing is ever found under.
    fn vacant() -> Self;

    fn is_vacant(&self) -> bool;
}

/// Contexts side by side, numbered from 0; numbers of removed ones come back.
///
/// A slab that keeps "none" as a value of its own: asking for a context ahead takes its address alone.
pub(crate) struct Places<T> {
    all: Vec<T>,
    free: Vec<u32>,
}

impl<T: Vacant> Places<T> {
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, context: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.all[place as usize] = context;
            return place;
        }
        self.all.push(context);
        self.all.len() as u32 - 1
    }

    /// Takes a context out, if there is one.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let context = self.all.get_mut(place as usize).filter(|c| !c.is_vacant())?;
        self.free.push(place);
        Some(std::mem::replace(context, T::vacant()))
    }

    /// Every place, vacant ones included, for loops that keep their address at hand.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.all
    }

    #[inline(always)]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.all).filter(|(_, c)| !c.is_vacant())
    }
}

impl<T> std::ops::Index<u32> for Places<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, place: u32) -> &T {
        &self.all[place as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Places<T> {
    #[inline(always)]
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.all[place as usize]
    }
}

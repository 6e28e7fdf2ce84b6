//! Asking for cache lines ahead of their use. A prefetch reads nothing and cannot fault, so any place will do.

/// Brings the cache line of a place in a slice near. A place outside asks for nothing that matters.
#[inline(always)]
pub(crate) fn near<T>(slice: &[T], place: usize) {
    // SAFETY: a prefetch reads nothing, wherever the address points; the features that it needs are part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, place);
}

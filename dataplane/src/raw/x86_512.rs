//! What kernels on AVX-512 share: unrolling, and instructions whose order the compiler must keep.

use std::arch::asm;
use std::arch::x86_64::*;

/// Four blocks.
pub(super) type Z = __m512i;

macro_rules! kernel_fn {
    ($($item:item)*) => { $(
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmulqdq,bmi2,sse4.1,ssse3")]
        $item
    )* };
}
pub(super) use kernel_fn;

/// The body for each index below `$n`, which is a constant of at most eight: a loop would not be unrolled reliably, and then its
/// registers would be memory.
macro_rules! each {
    ($i:ident < $n:expr, $body:block) => {
        each!(@ $i $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $n:expr, $body:block, $($at:literal)*) => {{ $(
        if $at < $n {
            let $i: usize = $at;
            $body
        }
    )* }};
}
pub(super) use each;

/// As [`each`], with an index that is a constant: an operand of assembly.
macro_rules! each_const {
    ($i:ident < $n:expr, $body:block) => {
        each_const!(@ $i $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $n:expr, $body:block, $($at:literal)*) => {{ $(
        if $at < $n {
            #[allow(non_upper_case_globals, reason = "a variable to whoever reads the body")]
            const $i: usize = $at;
            $body
        }
    )* }};
}
pub(super) use each_const;

kernel_fn! {
/// A round on four blocks.
pub(super) fn aesenc(mut x: Z, k: Z) -> Z {
    // SAFETY: registers only.
    unsafe {
        asm!("vaesenc {0}, {0}, {1}", inout(zmm_reg) x, in(zmm_reg) k, options(nomem, nostack, preserves_flags));
    }
    x
}

/// The last round on four blocks.
pub(super) fn aesenclast(mut x: Z, k: Z) -> Z {
    // SAFETY: registers only.
    unsafe {
        asm!("vaesenclast {0}, {0}, {1}", inout(zmm_reg) x, in(zmm_reg) k, options(nomem, nostack, preserves_flags));
    }
    x
}

}

kernel_fn! {
    /// 16 octets into all four lanes.
    ///
    /// # Safety
    /// They are readable.
    pub(super) unsafe fn broadcast(at: *const u8) -> Z {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(at.cast())) }
    }

    /// a ^ b ^ c.
    pub(super) fn xor3(a: Z, b: Z, c: Z) -> Z {
        _mm512_ternarylogic_epi64::<0x96>(a, b, c)
    }
}

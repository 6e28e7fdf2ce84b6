//! What this processor can do, probed once and handed on as values of no size: who holds one may call the kernels that need it.

use std::sync::OnceLock;

use crate::cipher::Kernel;

macro_rules! proof {
    ($(#[$doc:meta])* $t:ident, $kernel:expr, [$($feature:tt),+]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $t(());

        impl $t {
            /// The proof, on a processor (and operating system) that has every feature.
            pub fn detect() -> Option<Self> {
                #[cfg(target_arch = "x86_64")]
                {
                    static FOUND: OnceLock<bool> = OnceLock::new();
                    let found = *FOUND.get_or_init(|| true $(&& std::arch::is_x86_feature_detected!($feature))+);
                    found.then_some(Self(()))
                }
                #[cfg(not(target_arch = "x86_64"))]
                None
            }

            /// The tier that it opens.
            pub const fn kernel(self) -> Kernel {
                $kernel
            }
        }
    };
}

proof! {
    /// AVX-512 (F, BW, DQ, VL, VBMI, VBMI2) with VAES, VPCLMULQDQ and GFNI.
    Avx512, Kernel::Avx512,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2", "vaes", "vpclmulqdq", "gfni", "bmi2", "aes", "pclmulqdq", "avx2"]
}
proof! {
    /// AVX2 with VAES and VPCLMULQDQ on 256-bit registers.
    Vaes256, Kernel::Vaes256,
    ["avx2", "vaes", "vpclmulqdq", "aes", "pclmulqdq", "bmi2"]
}
proof! {
    /// AES-NI with PCLMULQDQ and SSE4.1.
    AesNi, Kernel::AesNi,
    ["aes", "pclmulqdq", "sse4.1", "ssse3"]
}

impl Avx512 {
    /// Runs `f`, compiled for the processor that the proof is of: for loops of safe code that call nothing which is not inlined.
    #[inline(always)]
    pub(crate) fn compiled<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        {
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi2")]
            fn compiled<R>(f: impl FnOnce() -> R) -> R {
                f()
            }
            // SAFETY: the proof shows each of these features.
            unsafe { compiled(f) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        f()
    }
}

/// Tiers of kernels that this machine can run, lowest first. The portable tier and `ring` always can.
pub fn available() -> Vec<Kernel> {
    let proofs = [
        AesNi::detect().map(AesNi::kernel),
        Vaes256::detect().map(Vaes256::kernel),
        Avx512::detect().map(Avx512::kernel),
    ];
    [Kernel::Portable, Kernel::Ring].into_iter().chain(proofs.into_iter().flatten()).collect()
}

//! Every suite, on every kernel tier this machine has.
//!
//! ```text
//! cipher(suite, kernel) -> TIERS: first row with both -> Box<dyn Cipher>
//! ```
//!
//! The submodules carry the safe code, one file an algorithm; kernels of the higher tiers live in `raw` and enter
//! by a row of `TIERS`. What is safe to be observed:
//!
//! | code | time depends on secrets? |
//! | --- | --- |
//! | `ring`, RustCrypto `aes` and `ghash` (AES instructions, or bitsliced without them) | no |
//! | kernels of `raw`: AES, GFNI, carry-less multiplication, look-ups within registers | no |
//! | SNOW 5G, CMAC, POLYVAL, products of EIA1 and EIA3, comparing of tags | no |
//! | portable SNOW 3G, ZUC, ZUC-256 | **yes**: table look-ups at places made of key and IV, seen through shared caches |

mod aes_gcm;
pub mod algorithm;
mod carryless;
pub mod cmac;
pub mod eea1;
pub mod eea2;
pub mod eea3;
pub mod eia1;
pub mod eia2;
pub mod eia3;
mod frame;
pub mod nca;
mod null;
mod ring_gcm;
mod self_test;
pub mod snow3g;
pub mod snow5g;
pub mod zuc;

pub use self_test::{SelfTestError, self_test};

use std::sync::OnceLock;

use crate::cipher::{Cipher, Kernel};
use crate::raw;
use crate::raw::cpu::Avx512;
use crate::suite::Suite;

/// A kernel that this machine, or this project, does not have for a suite.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("suite '{suite}' has no kernel '{}' on this machine; it has: {}", .kernel.name(), names(.available))]
pub struct KernelError {
    /// The suite asked for.
    pub suite: Suite,
    /// The kernel asked for.
    pub kernel: Kernel,
    /// What there is instead, lowest tier first.
    pub available: Vec<Kernel>,
}

/// Makes the [`Cipher`] of a suite on one tier, without keys.
///
/// # Errors
/// [`KernelError`] names the tiers that this machine has for the suite.
pub fn cipher(suite: Suite, kernel: Kernel) -> Result<Box<dyn Cipher>, KernelError> {
    make(suite, kernel).ok_or_else(|| KernelError { suite, kernel, available: kernels(suite) })
}

/// Tiers of a suite that work on this machine, lowest first; never empty. None above the tier that the environment
/// names in `PC5_KERNEL_CEILING`, where it names one: for tests and comparisons.
pub fn kernels(suite: Suite) -> Vec<Kernel> {
    Kernel::ALL.into_iter().filter(|&kernel| kernel <= ceiling() && make(suite, kernel).is_some()).collect()
}

fn ceiling() -> Kernel {
    static CEILING: OnceLock<Kernel> = OnceLock::new();
    *CEILING.get_or_init(|| {
        let named = std::env::var("PC5_KERNEL_CEILING").unwrap_or_default();
        Kernel::ALL.into_iter().find(|k| k.name() == named).unwrap_or(Kernel::Avx512)
    })
}

/// Proof that the stages may use the instructions of the highest tier around its kernels.
#[inline]
pub(crate) fn wide() -> Option<Avx512> {
    if ceiling() >= Kernel::Avx512 { Avx512::detect() } else { None }
}

/// The highest tier of a suite on this machine.
pub fn best(suite: Suite) -> Kernel {
    kernels(suite).last().copied().unwrap_or(Kernel::Portable)
}

/// One tier of some suites.
struct Tier {
    kernel: Kernel,
    suites: &'static [Suite],
    /// `None` where the processor lacks what the tier needs.
    make: fn(Suite) -> Option<Box<dyn Cipher>>,
}

/// All there is. A suite has at most one row a tier.
const TIERS: &[Tier] = &[
    Tier { kernel: Kernel::Portable, suites: &[Suite::Eea0], make: |_| Some(Box::new(null::Null)) },
    Tier { kernel: Kernel::Portable, suites: &[Suite::Eea2, Suite::Eea2Eia2], make: eea2::portable },
    Tier { kernel: Kernel::Portable, suites: &[Suite::Eea1, Suite::Eea1Eia1], make: eea1::portable },
    Tier { kernel: Kernel::Portable, suites: &[Suite::Eea3, Suite::Eea3Eia3], make: eea3::portable },
    Tier { kernel: Kernel::Portable, suites: &[Suite::Nca4, Suite::Nca5, Suite::Nca6], make: nca::portable },
    Tier { kernel: Kernel::Portable, suites: &[Suite::Aes128Gcm, Suite::Aes256Gcm], make: aes_gcm::portable },
    Tier { kernel: Kernel::Ring, suites: &[Suite::Aes128Gcm, Suite::Aes256Gcm], make: ring_gcm::ring },
    Tier { kernel: Kernel::AesNi, suites: &[Suite::Aes128Gcm, Suite::Aes256Gcm], make: raw::aes_ni },
    Tier { kernel: Kernel::Vaes256, suites: &[Suite::Aes128Gcm, Suite::Aes256Gcm], make: raw::vaes256 },
    Tier { kernel: Kernel::Avx512, suites: &[Suite::Aes128Gcm, Suite::Aes256Gcm], make: raw::avx512 },
    Tier { kernel: Kernel::Avx512, suites: &[Suite::Eea1, Suite::Eea1Eia1], make: raw::avx512 },
    Tier { kernel: Kernel::Avx512, suites: &[Suite::Eea2, Suite::Eea2Eia2], make: raw::avx512 },
    Tier { kernel: Kernel::Avx512, suites: &[Suite::Eea3, Suite::Eea3Eia3], make: raw::avx512 },
    Tier { kernel: Kernel::Avx512, suites: &[Suite::Nca4, Suite::Nca5, Suite::Nca6], make: raw::avx512 },
];

fn make(suite: Suite, kernel: Kernel) -> Option<Box<dyn Cipher>> {
    let tier = TIERS.iter().find(|t| t.kernel == kernel && t.suites.contains(&suite))?;
    (tier.make)(suite)
}

fn names(kernels: &[Kernel]) -> String {
    kernels.iter().map(|k| k.name()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

//! The unsafe module: kernels that need processor features, and nothing else that needs `unsafe` lives elsewhere.
//!
//! Only safe functions leave it. A kernel is reached through a provider that implements [`Cipher`]
//! and whose constructor takes a proof of the processor's features ([`cpu`]); each job is checked against the arena before
//! a pointer is made of it.

#![allow(clippy::needless_range_loop, reason = "an index of a lane selects from several arrays at once")]

pub mod cpu;
pub(crate) mod prefetch;
pub(crate) mod ring;
pub(crate) mod sys;
pub(crate) mod xdp;

use crate::cipher::Cipher;
use crate::suite::Suite;
#[cfg(target_arch = "x86_64")]
use {
    x86_lanes::Avx512Lanes,
    x86_nca::{Avx512Nca, Snow5g16},
    x86_snow3g::Snow3g16,
    x86_zuc::Zuc16,
};

#[cfg(target_arch = "x86_64")]
mod jobs;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_512;
#[cfg(target_arch = "x86_64")]
mod x86_eea2;
#[cfg(target_arch = "x86_64")]
mod x86_eia2;
#[cfg(target_arch = "x86_64")]
mod x86_gcm;
#[cfg(target_arch = "x86_64")]
mod x86_gcm512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_headers;
#[cfg(target_arch = "x86_64")]
mod x86_lanes;
#[cfg(target_arch = "x86_64")]
mod x86_nca;
#[cfg(target_arch = "x86_64")]
mod x86_nca5;
#[cfg(target_arch = "x86_64")]
mod x86_snow3g;
#[cfg(target_arch = "x86_64")]
mod x86_zuc;

/// A suite on AVX-512, where the processor has it.
pub fn avx512(suite: Suite) -> Option<Box<dyn Cipher>> {
    let proof = cpu::Avx512::detect()?;
    #[cfg(target_arch = "x86_64")]
    match suite {
        Suite::Aes128Gcm => return Some(Box::new(x86_gcm512::Avx512Gcm128::new(proof))),
        Suite::Aes256Gcm => return Some(Box::new(x86_gcm512::Avx512Gcm256::new(proof))),
        Suite::Eea1 => return Some(Box::new(Avx512Lanes::<Snow3g16, false>::new(proof))),
        Suite::Eea1Eia1 => return Some(Box::new(Avx512Lanes::<Snow3g16, true>::new(proof))),
        Suite::Nca4 => return Some(Box::new(Avx512Nca::<Snow5g16>::new(proof))),
        Suite::Nca5 => return Some(Box::new(Avx512Nca::<x86_nca5::Aes256Ctr>::new(proof))),
        Suite::Nca6 => return Some(Box::new(Avx512Nca::<Zuc16>::new(proof))),
        Suite::Eea2 => return Some(Box::new(x86_eea2::Avx512Eea2::<false>::new(proof))),
        Suite::Eea2Eia2 => return Some(Box::new(x86_eea2::Avx512Eea2::<true>::new(proof))),
        Suite::Eea3 => return Some(Box::new(Avx512Lanes::<Zuc16, false>::new(proof))),
        Suite::Eea3Eia3 => return Some(Box::new(Avx512Lanes::<Zuc16, true>::new(proof))),
        _ => {}
    }
    let _ = (suite, proof);
    None
}

/// A suite on VAES and AVX2, where the processor has them.
pub fn vaes256(suite: Suite) -> Option<Box<dyn Cipher>> {
    one_by_one(suite, cpu::Vaes256::detect()?)
}

/// A suite on AES-NI and PCLMULQDQ, where the processor has them.
pub fn aes_ni(suite: Suite) -> Option<Box<dyn Cipher>> {
    one_by_one(suite, cpu::AesNi::detect()?)
}

#[cfg(target_arch = "x86_64")]
fn one_by_one<W: x86_gcm::Width + 'static>(suite: Suite, proof: W) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Aes128Gcm => Some(Box::new(x86_gcm::Gcm::<W, 11>::new(proof))),
        Suite::Aes256Gcm => Some(Box::new(x86_gcm::Gcm::<W, 15>::new(proof))),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn one_by_one<W>(_: Suite, _: W) -> Option<Box<dyn Cipher>> {
    None
}

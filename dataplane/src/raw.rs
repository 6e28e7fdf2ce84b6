//! The unsafe module: kernels that need processor features, and nothing else that needs `unsafe` lives elsewhere.
//!
//! Only safe functions leave it. A kernel is reached through a provider that implements [`Cipher`](crate::cipher::Cipher)
//! and whose constructor takes a proof of the processor's features ([`cpu`]); each job is checked against the arena before
//! a pointer is made of it.

pub mod cpu;

#[cfg(target_arch = "x86_64")]
mod jobs;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub mod x86_gcm512;

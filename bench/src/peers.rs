//! Everybody who does the same work: our kernels and other libraries.

mod crates;
#[allow(unsafe_code)]
mod ffi;
mod measure;
mod reading;

pub use ffi::ipsec_mb_version;
pub use measure::{Figure, measure};
pub use reading::measure_reading;

use pc5_dataplane::cipher::{Cipher, Job};
use pc5_dataplane::crypto;
use pc5_dataplane::suite::Suite;

use crate::workload::{Frame, Op, Work, Workload};

/// One implementation with the workload's keys expanded.
pub trait Peer {
    /// Name in reports.
    fn name(&self) -> String;

    /// Works on one burst in place; returns how many frames did not verify. `jobs` and `frames` say the same.
    fn run(&mut self, op: Op, arena: &mut [u8], jobs: &mut [Job], frames: &[Frame]) -> usize;
}

/// Ours first, highest tier first; then the others.
pub fn all(w: &Workload) -> Vec<Box<dyn Peer>> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    for kernel in crypto::kernels(w.work.suite()).into_iter().rev() {
        if let Ok(mut cipher) = crypto::cipher(w.work.suite(), kernel) {
            for key in w.frame_keys() {
                cipher.insert(&key);
            }
            peers.push(Box::new(Ours(cipher)));
        }
    }
    peers.extend(ffi::peers(w));
    if matches!(w.work, Work::Suite(Suite::Aes128Gcm | Suite::Aes256Gcm)) {
        peers.extend(crates::peers(w));
    }
    peers
}

struct Ours(Box<dyn Cipher>);

impl Peer for Ours {
    fn name(&self) -> String {
        format!("pc5 {}", self.0.kernel().name())
    }

    fn run(&mut self, op: Op, arena: &mut [u8], jobs: &mut [Job], _: &[Frame]) -> usize {
        match op {
            Op::Seal => {
                self.0.seal(arena, jobs);
                0
            }
            Op::Open => {
                self.0.open(arena, jobs);
                jobs.iter().filter(|j| !j.verified).count()
            }
        }
    }
}

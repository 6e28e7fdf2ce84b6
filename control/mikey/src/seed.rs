//! Randomness drawn ahead for one message, so that messages can be made on several threads.

use core::convert::Infallible;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// HMAC-SHA-256(seed, counter) as a stream: 32 octets of the caller's randomness, spread.
pub(crate) struct SeedRng {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl SeedRng {
    pub(crate) fn draw<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self { seed, counter: 0 }
    }

    /// The same stream each time, for the fuzz targets' fixed keys.
    pub(crate) fn fixed(seed: [u8; 32]) -> Self {
        Self { seed: Zeroizing::new(seed), counter: 0 }
    }

    pub(crate) fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.seed) else { return };
            mac.update(&self.counter.to_be_bytes());
            self.counter += 1;
            let mut block = mac.finalize().into_bytes();
            chunk.iter_mut().zip(&block).for_each(|(o, b)| *o = *b);
            block.as_mut_slice().zeroize();
        }
    }
}

impl TryRng for SeedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.octets()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.octets()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for SeedRng {}

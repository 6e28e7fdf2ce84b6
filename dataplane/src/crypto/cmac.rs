//! AES-CMAC with a 128-bit key over messages of any number of bits. Source: NIST SP 800-38B.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A key with its two subkeys.
pub struct Cmac {
    aes: Aes128,
    /// K1 and K2 as numbers, most significant bit first.
    k1: u128,
    k2: u128,
}

impl Cmac {
    /// Expands a key. Source: SP 800-38B 6.1.
    pub fn new(key: &[u8; 16]) -> Self {
        let aes = Aes128::new(key.into());
        let mut cmac = Self { aes, k1: 0, k2: 0 };
        cmac.k1 = double(cmac.encrypt(0));
        cmac.k2 = double(cmac.k1);
        cmac
    }

    /// MAC over `prefix` and the first `bits` bits (most significant first) of `message`. Source: SP 800-38B 6.2.
    ///
    /// Bits that `message` does not have are not invented: `bits` is cut to its length.
    pub fn mac(&self, prefix: &[u8], message: &[u8], bits: usize) -> [u8; 16] {
        let bits = bits.min(message.len() * 8);
        let (whole, rest) = (bits / 8, bits % 8);
        let (mut x, mut block, mut filled) = (0, [0; 16], 0);
        for part in [prefix, &message[..whole]] {
            let mut part = part;
            while !part.is_empty() {
                if filled == 16 {
                    x = self.encrypt(x ^ u128::from_be_bytes(block));
                    (block, filled) = ([0; 16], 0);
                }
                let n = part.len().min(16 - filled);
                block[filled..filled + n].copy_from_slice(&part[..n]);
                filled += n;
                part = &part[n..];
            }
        }
        let last = if filled == 16 && rest == 0 {
            self.k1 ^ u128::from_be_bytes(block)
        } else {
            if filled == 16 {
                x = self.encrypt(x ^ u128::from_be_bytes(block));
                (block, filled) = ([0; 16], 0);
            }
            let kept = message.get(whole).map_or(0, |o| o & !(0xff >> rest));
            block[filled] = kept | 0x80 >> rest;
            self.k2 ^ u128::from_be_bytes(block)
        };
        self.encrypt(x ^ last).to_be_bytes()
    }

    fn encrypt(&self, block: u128) -> u128 {
        let mut block = block.to_be_bytes().into();
        self.aes.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }
}

impl Drop for Cmac {
    fn drop(&mut self) {
        self.k1.zeroize();
        self.k2.zeroize();
    }
}

/// `Aes128` wipes itself.
impl ZeroizeOnDrop for Cmac {}

/// Multiplies by x in GF(2^128), in constant time.
fn double(x: u128) -> u128 {
    x << 1 ^ ((x >> 127).wrapping_neg() & 0x87)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::cmac::Mac;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_another_implementation(key: [u8; 16], prefix in prop::collection::vec(any::<u8>(), 0..40),
                                         message in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut other = <::cmac::Cmac<Aes128> as ::cmac::KeyInit>::new(&key.into());
            other.update(&prefix);
            other.update(&message);
            let expected: [u8; 16] = other.finalize().into_bytes().into();
            prop_assert_eq!(Cmac::new(&key).mac(&prefix, &message, message.len() * 8), expected);
        }
    }
}

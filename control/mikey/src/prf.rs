//! PRFs of MIKEY. Source: RFC 3830 4.1.2, RFC 6043 4.2.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroize;

use crate::{Reject, codec::PrfFunc};

/// Octets of one block of the inkey; the last block may be shorter.
const INKEY_BLOCK: usize = 32;

/// A PRF that this crate computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prf {
    /// MIKEY-1, over HMAC-SHA-1.
    Mikey1,
    /// PRF-HMAC-SHA-256.
    HmacSha256,
}

impl Prf {
    /// The code point of HDR.
    pub fn prf_func(self) -> PrfFunc {
        match self {
            Self::Mikey1 => PrfFunc::MIKEY_1,
            Self::HmacSha256 => PrfFunc::HMAC_SHA_256,
        }
    }

    /// Fills `out` with PRF(inkey, label).
    ///
    /// The inkey is cut into blocks of 256 bits, whichever the hash, and the outputs of P over all blocks are XORed.
    /// A key of exactly 32 octets is one full block. An empty inkey gives zeros, since there is no block to
    /// compute with; the key types of this crate can't be empty.
    pub fn derive(self, inkey: &[u8], label: &[u8], out: &mut [u8]) {
        out.fill(0);
        for block in inkey.chunks(INKEY_BLOCK) {
            match self {
                Self::Mikey1 => p::<Hmac<Sha1>, 20>(block, label, out),
                Self::HmacSha256 => p::<Hmac<Sha256>, 32>(block, label, out),
            }
        }
    }
}

impl TryFrom<PrfFunc> for Prf {
    type Error = Reject;

    fn try_from(func: PrfFunc) -> Result<Self, Reject> {
        match func {
            PrfFunc::MIKEY_1 => Ok(Self::Mikey1),
            PrfFunc::HMAC_SHA_256 => Ok(Self::HmacSha256),
            other => Err(Reject::Prf(other.0)),
        }
    }
}

/// XORs P(s, label, m) onto `out`: HMAC(s, A1 || label) || HMAC(s, A2 || label) ..., A0 = label, Ai = HMAC(s, A(i-1)).
fn p<H: Mac + KeyInit + Clone, const N: usize>(s: &[u8], label: &[u8], out: &mut [u8]) {
    let Ok(keyed) = H::new_from_slice(s) else {
        return; // HMAC takes keys of every length
    };
    let mac = |parts: &[&[u8]]| {
        let mut h = keyed.clone();
        for part in parts {
            h.update(part);
        }
        h.finalize().into_bytes()
    };
    let mut a = mac(&[label]);
    for chunk in out.chunks_mut(N) {
        let mut block = mac(&[&a, label]);
        for (o, b) in chunk.iter_mut().zip(block.iter()) {
            *o ^= b;
        }
        block.as_mut_slice().zeroize();
        let next = mac(&[&a]);
        a.as_mut_slice().zeroize();
        a = next;
    }
    a.as_mut_slice().zeroize();
}

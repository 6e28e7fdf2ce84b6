//! HashToIntegerRange. Source: RFC 6508 section 5.1.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::scalar::reduce_mod_q;
use crate::field::Fq;
use crate::field::limbs::{self, OCTETS};

/// The hash blocks `v_1 || v_2 || ...` that both ranges are taken from, `out.len()` octets of them (a multiple of 32).
fn blocks(parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let mut a: [u8; 32] = hasher.finalize().into();
    let mut h = [0; 32];
    for v in out.chunks_exact_mut(32) {
        h = Sha256::digest(h).into();
        let mut block: [u8; 32] = Sha256::new().chain_update(h).chain_update(a).finalize().into();
        v.copy_from_slice(&block);
        block.zeroize();
    }
    a.zeroize();
}

/// HashToIntegerRange of the concatenated parts, modulo q: four blocks, reduced in fixed time.
pub(crate) fn to_scalar(parts: &[&[u8]]) -> Fq {
    let mut octets = [0; OCTETS];
    blocks(parts, &mut octets);
    let mut integer = limbs::from_octets(&octets);
    let scalar = reduce_mod_q(&integer);
    octets.zeroize();
    integer.zeroize();
    scalar
}

/// HashToIntegerRange(message, q) as 128 big-endian octets: how RFC 6508 makes r from SSV and identifier. Fixed time.
///
/// Encapsulation calls this itself; it is public for those who check the steps one by one.
#[must_use]
pub fn hash_to_integer_range(message: &[u8]) -> Zeroizing<[u8; OCTETS]> {
    Zeroizing::new(to_scalar(&[message]).to_octets())
}

/// HashToIntegerRange of an element of the group, modulo `2^(8 N)`: the low N octets of the blocks.
///
/// 16 octets take one block. For 32 octets the formula would also give one, but the implementations in the field take
/// two (they count the bits of 2^256, which are 257), and we follow them: the second block is the mask.
pub(crate) fn to_mask<const N: usize>(element: &[u8; OCTETS]) -> [u8; N] {
    let mut octets = [0; 64];
    let used = if N < 32 { 32 } else { 64 };
    blocks(&[element], &mut octets[..used]);
    let mut mask = [0; N];
    mask.copy_from_slice(&octets[used - N..used]);
    octets.zeroize();
    mask
}

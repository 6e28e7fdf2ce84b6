//! The headers of a frame in one register: one comparison checks every octet, one permutation puts them in the order of the associated data.

use std::arch::x86_64::*;

use super::cpu::Avx512;
use crate::pdu::spec::{ETHERTYPE, HEADER_LEN, UNICAST_PREFIX};

/// Octets that are loaded: they end with the headers.
pub(crate) const LOADED: usize = 32;
/// Where the headers begin in them.
const HEAD: usize = LOADED - HEADER_LEN;

/// What the headers of an untagged PC5 frame hold that is not the same in every one.
pub(crate) struct Words {
    /// Source id, destination id and group bit, from the lowest on: as [`Address`](crate::pdu::Address) has them.
    pub address: u64,
    /// Key id and index, from the lowest on, as [`tag_of`](crate::pdu::tag_of) has them.
    pub tag: u32,
    /// Short length.
    pub sl: u8,
    /// LCID; version 0 before it.
    pub lcid: u8,
    /// 0 to 3.
    pub sdu_type: u8,
    /// The associated data, as two words the way they lie in memory.
    pub aad: [u64; 2],
}

/// What each octet is at least, and how much more it may be: nothing where it is the same in every frame.
const RANGES: ([u8; LOADED], [u8; LOADED]) = {
    let [a, b, c] = UNICAST_PREFIX;
    let [d, e] = ETHERTYPE.to_be_bytes();
    let ranges = [
        (0, a, 1), // the group bit
        (1, b, 0),
        (2, c, 0),
        (6, a, 0),
        (7, b, 0),
        (8, c, 0),
        (12, d, 0),
        (13, e, 0),
        (14, 1, 9),    // version 0, a channel of user data
        (16, 0, 0x7f), // an SDU type that is not reserved
    ];
    let (mut least, mut more) = ([0; LOADED], [0xff; LOADED]);
    let mut i = 0;
    while i < ranges.len() {
        let (at, l, m) = ranges[i];
        (least[HEAD + at], more[HEAD + at]) = (l, m);
        i += 1;
    }
    (least, more)
};

/// Octets of a header in the order of [`Words`], from the low octet of each word on; what [`BITS`] takes out is any.
const ORDER: [u8; LOADED] = {
    let mut at = [
        11, 10, 9, 5, 4, 3, 0, 0, // address
        18, 17, 16, 0, 15, 14, 16, 0, // tag, SL, LCID, SDU type
        3, 4, 5, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 0, 0, 0, // associated data
    ];
    let mut i = 0;
    while i < LOADED {
        at[i] += HEAD as u8;
        i += 1;
    }
    at
};

/// Which bits of them count: of the first octet the group bit, of the tag the 21 of index and key id.
const BITS: [u64; 4] = [0x0001_ffff_ffff_ffff, 0x00ff_ffff_001f_ffff, u64::MAX, 0x00ff_ffff_ffff];

impl Avx512 {
    /// Reads headers that end where `octets` do; `None` unless addresses, EtherType, version and channel are those of untagged user data and
    /// the SDU type is not reserved.
    #[inline(always)]
    pub(crate) fn read_headers(self, octets: &[u8; LOADED]) -> Option<Words> {
        // SAFETY: the proof shows the features.
        unsafe { read(octets) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi2")]
fn read(octets: &[u8; LOADED]) -> Option<Words> {
    // SAFETY: all three are arrays of as many octets as a load takes.
    let [x, least, more] =
        unsafe { [octets, &RANGES.0, &RANGES.1].map(|a| _mm256_loadu_si256(a.as_ptr().cast())) };
    if _mm256_cmple_epu8_mask(_mm256_sub_epi8(x, least), more) != u32::MAX {
        return None;
    }
    // SAFETY: as above.
    let [order, bits] =
        unsafe { [ORDER.as_ptr().cast(), BITS.as_ptr().cast()].map(|a| _mm256_loadu_si256(a)) };
    let y = _mm256_and_si256(_mm256_permutexvar_epi8(order, x), bits);
    let words = _mm256_castsi256_si128(y);
    let mut aad = [0u64; 2];
    // SAFETY: `aad` has the 16 octets that are stored.
    unsafe { _mm_storeu_si128(aad.as_mut_ptr().cast(), _mm256_extracti128_si256::<1>(y)) };
    let small = _mm_extract_epi64::<1>(words) as u64;
    Some(Words {
        address: _mm_cvtsi128_si64(words) as u64,
        tag: small as u32,
        sl: (small >> 32) as u8,
        lcid: (small >> 40) as u8,
        sdu_type: (small >> 53) as u8,
        aad,
    })
}

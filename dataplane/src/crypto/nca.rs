//! The 256-bit family: 256-NEAx (ciphering), 256-NIAx (integrity) and 256-NCAx (both at once, as an AEAD), over SNOW 5G
//! (x = 4), AES-256 (x = 5) and ZUC-256 (x = 6). Source: TS 35.240, TS 35.243, TS 35.246, as read off their test data.
//!
//! ```text
//! key, IV -> H, Q, P (16 octets each), keystream
//! X   = POLYVAL under H of AAD and ciphertext, each padded with zeros to 16 octets
//! tag = (X ^ lengths) . Q ^ P, cut to the tag length that the IV names
//! ```
//!
//! A NIA is the tag with the message as AAD and no ciphertext. The ciphertext is what is authenticated, so that opening
//! verifies first and deciphers only what was right.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors::Ctr32BE};
use polyval::{Polyval, universal_hash::UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::frame::{Frame, FrameCipher, OneByOne};
use super::snow5g::Snow5g;
use super::zuc::Zuc;
use crate::cipher::{Cipher, Job, Kernel};
use crate::kdf::FrameKeys;
use crate::suite::Suite;

/// The portable tier of `nca4`, `nca5` and `nca6`.
pub(super) fn portable(suite: Suite) -> Option<Box<dyn Cipher>> {
    match suite {
        Suite::Nca4 => Some(Box::new(OneByOne::<Snow5gCore, { Suite::Nca4 as u8 }>::new(Kernel::Portable))),
        Suite::Nca5 => Some(Box::new(OneByOne::<Aes256Core, { Suite::Nca5 as u8 }>::new(Kernel::Portable))),
        Suite::Nca6 => Some(Box::new(OneByOne::<Zuc256Core, { Suite::Nca6 as u8 }>::new(Kernel::Portable))),
        _ => None,
    }
}

/// Longest tag in octets.
pub const MAX_TAG: usize = 16;

/// Octets of the tag that an IV asks for: its first octet has them in bits, the three low bits being flags.
pub fn tag_len(iv: &[u8; 16]) -> usize {
    usize::from(iv[0] >> 3).min(MAX_TAG)
}

/// H, Q and P of an IV.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Hqp([[u8; 16]; 3]);

impl Hqp {
    /// The uncut tag over associated data and ciphertext.
    fn tag(&self, aad: &[&[u8]], ciphertext: &[u8]) -> [u8; MAX_TAG] {
        let [h, q, p] = &self.0;
        let mut x = Polyval::new(h.into());
        let mut aad_len = 0;
        let (mut block, mut filled) = ([0; 16], 0);
        for part in aad {
            aad_len += part.len() as u64;
            for octet in *part {
                block[filled] = *octet;
                filled += 1;
                if filled == 16 {
                    x.update(&[block.into()]);
                    (block, filled) = ([0; 16], 0);
                }
            }
        }
        x.update_padded(&block[..filled]);
        x.update_padded(ciphertext);
        let lengths = u128::from(8 * ciphertext.len() as u64) | u128::from(8 * aad_len) << 64;
        let mut last: [u8; 16] = x.finalize().into();
        last = (u128::from_le_bytes(last) ^ lengths).to_le_bytes();
        let mut y = Polyval::new(q.into());
        y.update(&[last.into()]);
        let y: [u8; 16] = y.finalize().into();
        std::array::from_fn(|i| y[i] ^ p[i])
    }
}

/// One generator of the family with its key.
pub trait Core: Send {
    /// The generator at the start of a frame's keystream.
    type Stream<'a>
    where
        Self: 'a;

    /// Takes a key.
    fn new(key: &[u8; 32]) -> Self;

    /// Keystream of a NEA.
    fn stream(&self, iv: &[u8; 16]) -> Self::Stream<'_>;

    /// H, Q, P, and the keystream of a NCA after them.
    fn hqp(&self, iv: &[u8; 16]) -> (Hqp, Self::Stream<'_>);

    /// Combines octets with keystream.
    fn apply(stream: &mut Self::Stream<'_>, data: &mut [u8]);

    /// 256-NEAx: enciphers or deciphers whole octets.
    fn nea(&self, iv: &[u8; 16], data: &mut [u8]) {
        Self::apply(&mut self.stream(iv), data);
    }

    /// 256-NIAx: the uncut tag over a message; the IV's [`tag_len`] first octets of it are the MAC.
    fn nia(&self, iv: &[u8; 16], message: &[u8]) -> [u8; MAX_TAG] {
        self.hqp(iv).0.tag(&[message], &[])
    }

    /// 256-NCAx: enciphers in place and gives the uncut tag; the IV's [`tag_len`] first octets of it are the MAC.
    fn seal(&self, iv: &[u8; 16], aad: &[&[u8]], data: &mut [u8]) -> [u8; MAX_TAG] {
        let (hqp, mut stream) = self.hqp(iv);
        Self::apply(&mut stream, data);
        hqp.tag(aad, data)
    }

    /// 256-NCAx: verifies, then deciphers in place; data that is not right stays as it is. A tag must have the IV's
    /// [`tag_len`] and not be empty.
    fn open(&self, iv: &[u8; 16], aad: &[&[u8]], data: &mut [u8], tag: &[u8]) -> bool {
        let (hqp, mut stream) = self.hqp(iv);
        let len = tag_len(iv);
        let right = len != 0 && bool::from(hqp.tag(aad, data)[..len].ct_eq(tag));
        if right {
            Self::apply(&mut stream, data);
        }
        right
    }
}

impl<C: Core> FrameCipher for C {
    fn expand(_: Suite, keys: &FrameKeys) -> Self {
        C::new(keys.pek().first_chunk().expect("the caller derived keys for a suite with a PEK of 32 octets"))
    }

    fn seal(&self, job: &Job, frame: Frame<'_>) {
        let data = &mut frame.header_and_data[Job::HEADER_LEN..];
        let aad = &job.aad[..Job::AAD_LEN];
        let tag = if job.clear_data {
            Core::seal(self, &job.nca_iv(), &[aad, data], &mut [])
        } else {
            Core::seal(self, &job.nca_iv(), &[aad], data)
        };
        frame.mac.copy_from_slice(&tag);
    }

    fn open(&self, job: &Job, mut frame: Frame<'_>) -> bool {
        let aad = &job.aad[..Job::AAD_LEN];
        if job.clear_data {
            let data = &frame.header_and_data[Job::HEADER_LEN..];
            Core::open(self, &job.nca_iv(), &[aad, data], &mut [], frame.mac)
        } else {
            let mac: [u8; MAX_TAG] = std::array::from_fn(|i| frame.mac[i]);
            Core::open(self, &job.nca_iv(), &[aad], frame.data(), &mac)
        }
    }
}

/// SNOW 5G.
#[derive(ZeroizeOnDrop)]
pub struct Snow5gCore([u8; 32]);

impl Core for Snow5gCore {
    type Stream<'a> = Snow5g;

    fn new(key: &[u8; 32]) -> Self {
        Self(*key)
    }

    fn stream(&self, iv: &[u8; 16]) -> Snow5g {
        Snow5g::new(&self.0, iv)
    }

    fn hqp(&self, iv: &[u8; 16]) -> (Hqp, Snow5g) {
        let mut stream = self.stream(iv);
        (Hqp(std::array::from_fn(|_| stream.block())), stream)
    }

    fn apply(stream: &mut Snow5g, data: &mut [u8]) {
        stream.apply(data);
    }
}

/// ZUC with a 256-bit key.
#[derive(ZeroizeOnDrop)]
pub struct Zuc256Core([u8; 32]);

impl Core for Zuc256Core {
    type Stream<'a> = Zuc;

    fn new(key: &[u8; 32]) -> Self {
        Self(*key)
    }

    fn stream(&self, iv: &[u8; 16]) -> Zuc {
        Zuc::new_256(&self.0, iv)
    }

    fn hqp(&self, iv: &[u8; 16]) -> (Hqp, Zuc) {
        let mut stream = self.stream(iv);
        let mut hqp = Hqp([[0; 16]; 3]);
        hqp.0.iter_mut().for_each(|block| stream.apply(block));
        (hqp, stream)
    }

    fn apply(stream: &mut Zuc, data: &mut [u8]) {
        stream.apply(data);
    }
}

/// AES-256: counter mode; what H, Q and P are made of has the low bit of its first octet set.
pub struct Aes256Core(Aes256);

impl Core for Aes256Core {
    type Stream<'a> = StreamCipherCoreWrapper<CtrCore<&'a Aes256, Ctr32BE>>;

    fn new(key: &[u8; 32]) -> Self {
        Self(Aes256::new(key.into()))
    }

    fn stream(&self, iv: &[u8; 16]) -> Self::Stream<'_> {
        let mut counter = *iv;
        counter[12..].fill(0);
        StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(&self.0, &counter.into()))
    }

    fn hqp(&self, iv: &[u8; 16]) -> (Hqp, Self::Stream<'_>) {
        let mut hqp = Hqp([[0; 16]; 3]);
        for (counter, block) in hqp.0.iter_mut().enumerate() {
            block[..12].copy_from_slice(&iv[..12]);
            block[0] |= 1;
            block[15] = counter as u8;
            self.0.encrypt_block(block.into());
        }
        (hqp, self.stream(iv))
    }

    fn apply(stream: &mut Self::Stream<'_>, data: &mut [u8]) {
        stream.apply_keystream(data);
    }
}

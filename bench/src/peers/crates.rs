//! AEAD crates, frame by frame.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use aws_lc_rs::aead as aws;
use pc5_dataplane::cipher::Job;
use pc5_dataplane::suite::Suite;
use ring::aead as ring_aead;

use super::Peer;
use crate::workload::{Frame, Op, Workload};

/// `ring`, `aws-lc-rs` and `aes-gcm`.
pub(super) fn peers(w: &Workload) -> Vec<Box<dyn Peer>> {
    let keys: Vec<_> = w.frame_keys().collect();
    let small = w.work.suite().pek_len() == 16;
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    let algorithm = if small { &ring_aead::AES_128_GCM } else { &ring_aead::AES_256_GCM };
    let ring_keys = keys.iter().filter_map(|k| ring_aead::UnboundKey::new(algorithm, k.pek()).ok());
    peers.push(Box::new(Ring(ring_keys.map(ring_aead::LessSafeKey::new).collect())));
    let algorithm = if small { &aws::AES_128_GCM } else { &aws::AES_256_GCM };
    let aws_keys = keys.iter().filter_map(|k| aws::UnboundKey::new(algorithm, k.pek()).ok());
    peers.push(Box::new(AwsLc(aws_keys.map(aws::LessSafeKey::new).collect())));
    if w.work.suite() == Suite::Aes128Gcm {
        peers.push(Box::new(Crate::<Aes128Gcm>(
            keys.iter().filter_map(|k| KeyInit::new_from_slice(k.pek()).ok()).collect(),
        )));
    } else {
        peers.push(Box::new(Crate::<Aes256Gcm>(
            keys.iter().filter_map(|k| KeyInit::new_from_slice(k.pek()).ok()).collect(),
        )));
    }
    peers
}

/// Calls `each(frame, nonce, aad, data, tag)`; counts the frames for which it is false.
fn each(
    arena: &mut [u8],
    frames: &[Frame],
    mut each: impl FnMut(&Frame, [u8; 12], &[u8], &mut [u8], &mut [u8]) -> bool,
) -> usize {
    let mut wrong = 0;
    for f in frames {
        let start = f.start as usize;
        let (data, tag) = arena[start..start + f.len as usize + 16].split_at_mut(f.len as usize);
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&f.iv[..12]);
        wrong += usize::from(!each(f, nonce, &f.aad[..Job::AAD_LEN], data, tag));
    }
    wrong
}

struct Ring(Vec<ring_aead::LessSafeKey>);

impl Peer for Ring {
    fn name(&self) -> String {
        "ring".into()
    }

    fn run(&mut self, op: Op, arena: &mut [u8], _: &mut [Job], frames: &[Frame]) -> usize {
        each(arena, frames, |f, nonce, aad, data, tag| {
            let key = &self.0[f.key as usize];
            let (nonce, aad) = (ring_aead::Nonce::assume_unique_for_key(nonce), ring_aead::Aad::from(aad));
            match op {
                Op::Seal => key
                    .seal_in_place_separate_tag(nonce, aad, data)
                    .map(|t| tag.copy_from_slice(t.as_ref()))
                    .is_ok(),
                Op::Open => match tag.first_chunk::<16>() {
                    Some(t) => key.open_in_place_separate_tag(nonce, aad, (*t).into(), data, 0..).is_ok(),
                    None => false,
                },
            }
        })
    }
}

struct AwsLc(Vec<aws::LessSafeKey>);

impl Peer for AwsLc {
    fn name(&self) -> String {
        "aws-lc-rs".into()
    }

    fn run(&mut self, op: Op, arena: &mut [u8], _: &mut [Job], frames: &[Frame]) -> usize {
        each(arena, frames, |f, nonce, aad, data, tag| {
            let key = &self.0[f.key as usize];
            let (nonce, aad) = (aws::Nonce::assume_unique_for_key(nonce), aws::Aad::from(aad));
            match op {
                Op::Seal => key
                    .seal_in_place_separate_tag(nonce, aad, data)
                    .map(|t| tag.copy_from_slice(t.as_ref()))
                    .is_ok(),
                Op::Open => key.open_in_place_separate_tag(nonce, aad, tag, data).is_ok(),
            }
        })
    }
}

struct Crate<C>(Vec<C>);

impl<C: AeadInOut<NonceSize = U12, TagSize = U16>> Peer for Crate<C> {
    fn name(&self) -> String {
        "aes-gcm".into()
    }

    fn run(&mut self, op: Op, arena: &mut [u8], _: &mut [Job], frames: &[Frame]) -> usize {
        each(arena, frames, |f, nonce, aad, data, tag| {
            let key = &self.0[f.key as usize];
            match op {
                Op::Seal => key
                    .encrypt_inout_detached(&nonce.into(), aad, data.into())
                    .map(|t| tag.copy_from_slice(&t))
                    .is_ok(),
                Op::Open => match tag.first_chunk::<16>() {
                    Some(t) => {
                        key.decrypt_inout_detached(&nonce.into(), aad, data.into(), &(*t).into()).is_ok()
                    }
                    None => false,
                },
            }
        })
    }
}

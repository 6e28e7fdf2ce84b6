//! Same input for all, outputs compared before the clock starts, then rounds in turn and the median of each.

use std::time::Instant;

use anyhow::{Result, bail};

use super::{Peer, all};
use crate::workload::{FRAMES, Op, Workload};

/// One peer in one situation.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Whose.
    pub peer: String,
    /// Median over the rounds, nanoseconds a frame.
    pub ns: f64,
}

/// Times every peer on a workload. One whose output is not that of the first is named and left out; so is one whose call
/// the library at hand does not have.
///
/// # Errors
/// A peer that does not open what it sealed.
pub fn measure(w: &mut Workload, op: Op, rounds: usize) -> Result<Vec<Figure>> {
    let mut peers = all(w);
    let sealed = outputs(w, &mut peers)?;
    let mut arena = w.plain.clone();
    let mut times = vec![Vec::with_capacity(rounds); peers.len()];
    for round in 0..rounds + 1 {
        for turn in 0..peers.len() {
            let i = (turn + round) % peers.len();
            // Once to bring its keys near again after the others, once for the clock.
            pass(w, op, &sealed, &mut arena, &mut *peers[i]);
            let spent = pass(w, op, &sealed, &mut arena, &mut *peers[i]);
            if round > 0 {
                times[i].push(spent);
            }
        }
    }
    Ok(peers.iter().zip(times).map(|(p, t)| Figure { peer: p.name(), ns: median(t) }).collect())
}

/// Middle value.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The sealed arena of each group of bursts that lie in it together, after all peers agreed on them and opened them again.
fn outputs(w: &mut Workload, peers: &mut Vec<Box<dyn Peer>>) -> Result<Vec<Vec<u8>>> {
    let group = w.resident * w.burst;
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    let mut missing = Vec::new();
    for (i, peer) in peers.iter_mut().enumerate() {
        for (g, (jobs, frames)) in w.jobs.chunks_mut(group).zip(w.frames.chunks(group)).enumerate() {
            let mut arena = w.plain.clone();
            let mut wrong = 0;
            for (jobs, frames) in jobs.chunks_mut(w.burst).zip(frames.chunks(w.burst)) {
                wrong += peer.run(Op::Seal, &mut arena, jobs, frames);
            }
            if wrong >= u32::MAX as usize {
                missing.push(i);
                break;
            }
            match sealed.get(g) {
                None => sealed.push(arena.clone()),
                Some(first) if *first == arena => {}
                Some(_) if i > 0 => {
                    eprintln!(
                        "{} seals {} otherwise than the first peer: left out",
                        peer.name(),
                        w.work.name()
                    );
                    missing.push(i);
                    break;
                }
                Some(_) => bail!("{} does not seal {} twice alike", peer.name(), w.work.name()),
            }
            let mut refused = 0;
            for (jobs, frames) in jobs.chunks_mut(w.burst).zip(frames.chunks(w.burst)) {
                refused += peer.run(Op::Open, &mut arena, jobs, frames);
            }
            let data = |a: &[u8], f: &crate::workload::Frame| {
                a[f.start as usize..(f.start + f.len) as usize].to_vec()
            };
            if refused != 0 || frames.iter().any(|f| data(&arena, f) != data(&w.plain, f)) {
                bail!("{} does not open what it sealed under {}", peer.name(), w.work.name());
            }
        }
    }
    for i in missing.into_iter().rev() {
        peers.remove(i);
    }
    Ok(sealed)
}

/// Nanoseconds a frame over [`FRAMES`] frames; putting the input in place is not timed.
fn pass(w: &mut Workload, op: Op, sealed: &[Vec<u8>], arena: &mut [u8], peer: &mut dyn Peer) -> f64 {
    let group = w.resident * w.burst;
    let mut spent = 0;
    for (g, (jobs, frames)) in w.jobs.chunks_mut(group).zip(w.frames.chunks(group)).enumerate() {
        arena.copy_from_slice(if op == Op::Seal { &w.plain } else { &sealed[g] });
        let began = Instant::now();
        for (jobs, frames) in jobs.chunks_mut(w.burst).zip(frames.chunks(w.burst)) {
            peer.run(op, arena, jobs, frames);
        }
        spent += began.elapsed().as_nanos();
    }
    spent as f64 / FRAMES as f64
}

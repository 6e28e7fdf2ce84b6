//! The engine in memory: protect and verify, parse to settle, beside the bare kernel on the same frames (printed first: both in
//! turns, with their ratio); replay window and key lookup alone.
//!
//! `cargo bench -p pc5-bench --bench pipeline`; `PC5_KERNEL=ring` forces a tier.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pc5_bench::engine::{Pair, sizes};
use pc5_dataplane::cipher::Kernel;
use pc5_dataplane::crypto;
use pc5_dataplane::ids::PtkId;
use pc5_dataplane::kdf::{self, FrameKeys, Pgk};
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{group, ue};
use pc5_dataplane::window::Window;

/// Frames prepared before the clock starts, so that it is read seldom: four batches of 64. A worker takes the same few batches
/// again and again; what comes from farther than its second cache is their keys and contexts.
const PREPARED: usize = 256;

fn kernel() -> Option<Kernel> {
    let name = std::env::var("PC5_KERNEL").ok()?;
    Kernel::ALL.into_iter().find(|k| k.name() == name)
}

/// What the engine takes beside its kernel, measured in turns: the figures that the ratios in `docs/performance.md` are of.
/// Criterion takes one after the other, so that its own compare less well.
fn ratios(_: &mut Criterion) {
    let quick = std::env::args().any(|a| a == "--test" || a == "--list");
    let rounds = if quick { 3 } else { 2_000 };
    println!("ns a frame, batches of 64, medians of {rounds} rounds in turns");
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm] {
        let kernel = kernel().filter(|k| crypto::kernels(suite).contains(k)).unwrap_or(crypto::best(suite));
        for (size, lens) in sizes() {
            for keys in [1, 1_024] {
                let m = Pair::new(suite, kernel, keys, 64).in_turns(&lens, PREPARED, rounds);
                println!(
                    "{suite} {:8} {size:>4} octets {keys:>4} keys  protect {:6.1} / {:6.1} = {:.2}  verify {:6.1} / {:6.1} = {:.2}",
                    kernel.name(),
                    m.protect,
                    m.bare_seal,
                    m.protect / m.bare_seal,
                    m.verify,
                    m.bare_open,
                    m.verify / m.bare_open,
                );
            }
        }
    }
}

fn pipeline(c: &mut Criterion) {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Eea2Eia2] {
        let kernel = kernel().filter(|k| crypto::kernels(suite).contains(k)).unwrap_or(crypto::best(suite));
        let mut g = c.benchmark_group(format!("pipeline/{suite}/{}", kernel.name()));
        g.measurement_time(Duration::from_millis(600))
            .warm_up_time(Duration::from_millis(150))
            .sample_size(15);
        for (size_name, lens) in sizes() {
            for keys in [1usize, 1024] {
                for batch in [1usize, 8, 64, 256] {
                    // The whole grid at 64 octets; elsewhere the batch that workers use.
                    if size_name != "64" && batch != 64 {
                        continue;
                    }
                    let id = format!("{size_name}/keys{keys}/batch{batch}");
                    let mut pair = Pair::new(suite, kernel, keys, batch);
                    g.throughput(Throughput::Elements(1));
                    let rounds = |iters: u64| (iters as usize).div_ceil(PREPARED.max(batch));
                    let mut run = |what: &str, f: &mut dyn FnMut(&mut Pair) -> Duration| {
                        g.bench_function(BenchmarkId::new(what, &id), |b| {
                            b.iter_custom(|iters| {
                                let per_round = PREPARED.max(batch) as u64;
                                let mut spent = Duration::ZERO;
                                for _ in 0..rounds(iters) {
                                    pair.prepare(&lens, per_round as usize);
                                    spent += f(&mut pair);
                                }
                                spent.mul_f64(iters as f64 / (rounds(iters) as u64 * per_round) as f64)
                            });
                        });
                    };
                    run("protect", &mut |p| p.protect());
                    run("bare-seal", &mut |p| p.bare_seal());
                    run("verify", &mut |p| {
                        p.protect();
                        p.verify()
                    });
                    run("bare-open", &mut |p| {
                        p.bare_seal();
                        p.bare_open()
                    });
                }
            }
        }
        g.finish();
    }
}

fn window(c: &mut Criterion) {
    let mut g = c.benchmark_group("window");
    for width in [1_024, 32_768] {
        g.bench_function(BenchmarkId::new("check-commit", width), |b| {
            let mut w = Window::new(width);
            let mut sn = 0u16;
            b.iter(|| {
                if sn == u16::MAX {
                    w = Window::new(width);
                    sn = 0;
                }
                let fresh = w.check(black_box(sn)).is_ok();
                w.commit(sn);
                sn += 1;
                fresh
            });
        });
    }
    g.finish();
}

fn keys(c: &mut Criterion) {
    let pgk = Pgk::new([5; 32]);
    let mut g = c.benchmark_group("keys");
    for suite in [Suite::Aes128Gcm, Suite::Eea2Eia2] {
        let mut cipher = crypto::cipher(suite, crypto::best(suite)).expect("the best kernel is there");
        g.bench_function(BenchmarkId::new("ptk-and-expansion", suite), |b| {
            let mut id = 1u16;
            b.iter(|| {
                id = id.wrapping_add(1).max(1);
                let ptk = kdf::ptk(&pgk, ue(1), PtkId::new(id).expect("1 or more"), group(2));
                let key = cipher.insert(&FrameKeys::from_ptk(&ptk, suite));
                cipher.remove(key);
            });
        });
    }
    g.finish();
    for entries in [1usize, 1024, 65_536] {
        c.bench_function(&format!("lookup/{entries}"), |b| {
            let map = pc5_bench::engine::address_map(entries);
            let addresses = pc5_bench::engine::addresses(entries);
            let mut i = 0;
            b.iter_custom(|iters| {
                let began = Instant::now();
                for _ in 0..iters {
                    i = (i + 7919) % entries;
                    black_box(map.get(&addresses[i]));
                }
                began.elapsed()
            });
        });
    }
}

criterion_group!(benches, ratios, pipeline, window, keys);
criterion_main!(benches);

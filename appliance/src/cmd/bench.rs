//! `pc5 bench`: this machine's suites and kernels, quick table.

use std::time::{Duration, Instant};

use pc5_dataplane::cipher::{Cipher, Job, Kernel};
use pc5_dataplane::crypto;
use pc5_dataplane::kdf::{FrameKeys, Ptk};
use pc5_dataplane::suite::Suite;
use serde_json::json;

use super::replay::Shown;
use crate::exit::Exit;
use crate::report::print;

/// Arguments of `pc5 bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this suite.
    #[arg(long)]
    suite: Option<Suite>,
    /// Different keys in use.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    keys: u16,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

const SIZES: [usize; 4] = [64, 256, 1024, 1420];
const BURST: usize = 64;
/// How long a size is measured. Medians are over bursts, so that a pause of the program counts once.
const A_SIZE: Duration = Duration::from_millis(30);

struct Line {
    suite: Suite,
    kernel: Kernel,
    /// Nanoseconds a frame, to seal and to open, for each size.
    ns: Vec<(f64, f64)>,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    crypto::self_test()?;
    let mut lines = Vec::new();
    for suite in Suite::ALL.into_iter().filter(|&s| args.suite.is_none_or(|only| only == s)) {
        for kernel in crypto::kernels(suite) {
            let cipher = crypto::cipher(suite, kernel)?;
            lines.push(measure(suite, kernel, cipher, args.keys as u32));
        }
    }
    match args.output {
        Shown::Json => {
            let line = |l: &Line| {
                let sizes: Vec<_> = SIZES
                    .iter()
                    .zip(&l.ns)
                    .map(|(size, (seal, open))| json!({ "octets": size, "seal_ns": seal, "open_ns": open }))
                    .collect();
                json!({ "suite": l.suite.name(), "kernel": l.kernel.name(), "sizes": sizes })
            };
            let all: Vec<_> = lines.iter().map(line).collect();
            print(&serde_json::to_string_pretty(
                &json!({ "version": 1, "keys": args.keys, "timing": all }),
            )?)?;
        }
        Shown::Table => {
            let sizes: String = SIZES.iter().map(|s| format!(" {s:>18}")).collect();
            print(&format!("ns a frame, seal / open; bursts of {BURST}, {} keys", args.keys))?;
            print(&format!("{:<14}{:<10}{sizes}", "suite", "kernel"))?;
            for l in &lines {
                let figure = |(seal, open): &(f64, f64)| format!(" {:>18}", format!("{seal:.1} / {open:.1}"));
                let figures: String = l.ns.iter().map(figure).collect();
                print(&format!("{:<14}{:<10}{figures}", l.suite.name(), l.kernel.name()))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn measure(suite: Suite, kernel: Kernel, mut cipher: Box<dyn Cipher>, keys: u32) -> Line {
    let mut secret = [0; 32];
    let indices: Vec<_> = (0..keys)
        .map(|i| {
            secret[..4].copy_from_slice(&i.to_be_bytes());
            cipher.insert(&FrameKeys::from_ptk(&Ptk::new(secret), suite))
        })
        .collect();
    let ns = SIZES
        .iter()
        .map(|&size| {
            let stride = (64 + size + 64).next_multiple_of(64);
            let mut arena = vec![0x5a; BURST * stride];
            let job = |i: usize| Job {
                aad: [0; 16],
                start: (i * stride + 64) as u32,
                len: size as u32,
                key: indices[i % indices.len()],
                count: i as u32,
                bearer_direction: Job::pack_bearer_direction(1, 0),
                clear_data: false,
                verified: false,
                slot: i as u16,
            };
            let mut jobs: Vec<Job> = (0..BURST).map(job).collect();
            // What was sealed is what is opened, so that opening takes the way of good frames.
            let mut seal = Vec::new();
            let mut open = Vec::new();
            let measuring = Instant::now();
            while measuring.elapsed() < A_SIZE {
                let began = Instant::now();
                cipher.seal(&mut arena, &mut jobs);
                let between = Instant::now();
                cipher.open(&mut arena, &mut jobs);
                open.push(between.elapsed().as_nanos() as f64 / BURST as f64);
                seal.push((between - began).as_nanos() as f64 / BURST as f64);
                // Other frames each time, as on the air.
                jobs.iter_mut().for_each(|j| j.count = j.count.wrapping_add(BURST as u32));
            }
            (median(&mut seal), median(&mut open))
        })
        .collect();
    Line { suite, kernel, ns }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2] * 10.0).round() / 10.0
}

//! Side by side on one core: frame protection by our kernels, intel-ipsec-mb, OpenSSL and AEAD crates; reading captures by our
//! reader and `pcap-parser`. `scripts/bench-peers` installs what it needs and pins it.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pc5_bench::bars;
use pc5_bench::peers::{ipsec_mb_version, measure, measure_reading};
use pc5_bench::report::{self, Row};
use pc5_bench::workload::{Op, Size, Work, Workload};
use pc5_dataplane::crypto;
use pc5_dataplane::suite::Suite;
use pc5_pcap::Format;

/// Frame protection and capture reading side by side with other libraries, on one core.
#[derive(Parser)]
#[command(name = "bench-peers", max_term_width = 110)]
struct Options {
    /// Fewer situations, and 15 rounds.
    #[arg(long)]
    quick: bool,
    /// Folder of CSV and SVG.
    #[arg(long, value_name = "DIR", default_value = "target/bench-peers")]
    out: PathBuf,
    /// This work alone: a suite, an integrity algorithm, or read. What is none of them shows all names.
    #[arg(long, value_name = "WORK", value_parser = work)]
    only: Option<String>,
    /// Interleaved rounds, of which medians are taken [default: 41].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
}

const WORKS: [Work; 11] = [
    Work::Suite(Suite::Aes128Gcm),
    Work::Suite(Suite::Aes256Gcm),
    Work::Suite(Suite::Eea2),
    Work::Integrity(Suite::Eea2Eia2),
    Work::Suite(Suite::Eea2Eia2),
    Work::Suite(Suite::Eea1),
    Work::Integrity(Suite::Eea1Eia1),
    Work::Suite(Suite::Eea1Eia1),
    Work::Suite(Suite::Eea3),
    Work::Integrity(Suite::Eea3Eia3),
    Work::Suite(Suite::Eea3Eia3),
];

/// Reading captures, all forms of it.
const READ: &str = "read";
const FORMATS: [Format; 2] = [Format::Pcap, Format::PcapNg];

fn reading(format: Format, in_file: bool) -> String {
    format!("{READ} {} in {}", format.name(), if in_file { "a file" } else { "memory" })
}

fn work(name: &str) -> Result<String, String> {
    let forms = FORMATS.into_iter().flat_map(|format| [true, false].map(|in_file| reading(format, in_file)));
    let names: Vec<_> = WORKS.into_iter().map(Work::name).chain([READ.to_owned()]).chain(forms).collect();
    names.iter().find(|n| *n == name).cloned().ok_or_else(|| format!("works are {}", names.join(", ")))
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 15 } else { 41 }, usize::from)
    }

    fn wants(&self, work: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == work)
    }
}

fn main() -> Result<()> {
    let o = Options::parse();
    let rounds = o.rounds();
    std::fs::create_dir_all(&o.out).with_context(|| format!("cannot make {}", o.out.display()))?;
    println!("processor: {}; ipsec-mb {}", processor(), ipsec_mb_version());
    let mut all = Vec::new();
    let have = |w: &Work| crypto::cipher(w.suite(), crypto::best(w.suite())).is_ok();
    for work in WORKS.into_iter().filter(have).filter(|w| o.wants(&w.name())) {
        for keys in [1, 1024] {
            for op in [Op::Seal, Op::Open] {
                let sizes = Size::ALL.map(|s| (s, 64));
                let rows = situation(work, op, keys, &sizes, rounds)?;
                present(&o, &format!("{} {}, {keys} key(s), bursts of 64", work.name(), op.name()), &rows)?;
                all.extend(rows);
            }
        }
        if matches!(work, Work::Suite(Suite::Aes128Gcm | Suite::Aes256Gcm)) {
            let bursts: &[usize] = if o.quick { &[1, 8] } else { &[1, 2, 4, 8, 16, 32] };
            for &burst in bursts {
                let sizes = [(Size::Octets(64), burst), (Size::Imix, burst)];
                for op in [Op::Seal, Op::Open] {
                    let rows = situation(work, op, 1024, &sizes, rounds)?;
                    println!(
                        "\n## {} {}, 1024 keys, bursts of {burst}\n\n{}",
                        work.name(),
                        op.name(),
                        report::table(&rows)
                    );
                    all.extend(rows);
                }
            }
        }
    }
    for format in FORMATS {
        for in_file in [true, false] {
            let work = reading(format, in_file);
            if !(o.wants(READ) || o.wants(&work)) {
                continue;
            }
            let mut rows = Vec::new();
            for len in [64, 256, 1420] {
                for figure in measure_reading(&o.out, format, in_file, len, rounds.min(21))? {
                    rows.push(Row {
                        work: work.clone(),
                        op: "",
                        keys: 0,
                        burst: 0,
                        size: len.to_string(),
                        peer: figure.peer,
                        ns: figure.ns,
                    });
                }
            }
            present(&o, &work, &rows)?;
            all.extend(rows);
        }
    }
    println!("\n## What was asked for\n\n{}", bars::table(&all));
    let path = o.out.join("figures.csv");
    std::fs::write(&path, report::csv(&all)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nfigures and plots are in {}", o.out.display());
    Ok(())
}

fn situation(work: Work, op: Op, keys: usize, sizes: &[(Size, usize)], rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &(size, burst) in sizes {
        let mut w = Workload::new(work, size, keys, burst);
        for figure in measure(&mut w, op, rounds)? {
            rows.push(Row {
                work: work.name(),
                op: op.name(),
                keys,
                burst,
                size: size.name(),
                peer: figure.peer,
                ns: figure.ns,
            });
        }
    }
    Ok(rows)
}

fn present(o: &Options, title: &str, rows: &[Row]) -> Result<()> {
    println!("\n## {title}\n\n{}", report::table(rows));
    let name = title.split(',').take(2).collect::<String>().replace([' ', '(', ')'], "-");
    let path = o.out.join(format!("{name}.svg"));
    std::fs::write(&path, report::svg(title, rows))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    model.trim_start_matches([' ', '\t', ':']).into()
}

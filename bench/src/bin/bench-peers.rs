//! Side by side on one core: frame protection by our kernels, intel-ipsec-mb, OpenSSL and AEAD crates; reading captures by our
//! reader and `pcap-parser`.
//!
//! `bench-peers [--quick] [--out DIR] [--only WORK] [--rounds N]`; `scripts/bench-peers` installs what it needs and pins it.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pc5_bench::bars;
use pc5_bench::peers::{ipsec_mb_version, measure, measure_reading};
use pc5_bench::report::{self, Row};
use pc5_bench::workload::{Op, Size, Work, Workload};
use pc5_dataplane::crypto;
use pc5_dataplane::suite::Suite;
use pc5_pcap::Format;

struct Options {
    quick: bool,
    out: PathBuf,
    only: Option<String>,
    rounds: usize,
}

fn options() -> Result<Options> {
    let mut o = Options { quick: false, out: "target/bench-peers".into(), only: None, rounds: 41 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--quick" => (o.quick, o.rounds) = (true, 15),
            "--out" => o.out = value()?.into(),
            "--only" => o.only = Some(value()?),
            "--rounds" => o.rounds = value()?.parse().context("--rounds takes a number")?,
            _ => bail!(
                "unknown option '{arg}'; usage: bench-peers [--quick] [--out DIR] [--only WORK] [--rounds N]"
            ),
        }
    }
    Ok(o)
}

fn main() -> Result<()> {
    let o = options()?;
    std::fs::create_dir_all(&o.out).with_context(|| format!("cannot make {}", o.out.display()))?;
    println!("processor: {}; ipsec-mb {}", processor(), ipsec_mb_version());
    let works = [
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
    let mut all = Vec::new();
    let have = |w: &Work| crypto::cipher(w.suite(), crypto::best(w.suite())).is_ok();
    for work in
        works.into_iter().filter(have).filter(|w| o.only.as_ref().is_none_or(|only| w.name() == *only))
    {
        for keys in [1, 1024] {
            for op in [Op::Seal, Op::Open] {
                let sizes = Size::ALL.map(|s| (s, 64));
                let rows = situation(work, op, keys, &sizes, o.rounds)?;
                present(&o, &format!("{} {}, {keys} key(s), bursts of 64", work.name(), op.name()), &rows)?;
                all.extend(rows);
            }
        }
        if matches!(work, Work::Suite(Suite::Aes128Gcm | Suite::Aes256Gcm)) {
            let bursts: &[usize] = if o.quick { &[1, 8] } else { &[1, 2, 4, 8, 16, 32] };
            for &burst in bursts {
                let sizes = [(Size::Octets(64), burst), (Size::Imix, burst)];
                for op in [Op::Seal, Op::Open] {
                    let rows = situation(work, op, 1024, &sizes, o.rounds)?;
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
    for format in [Format::Pcap, Format::PcapNg] {
        for in_file in [true, false] {
            let work = format!("read {} in {}", format.name(), if in_file { "a file" } else { "memory" });
            if o.only.as_ref().is_some_and(|only| only != "read" && *only != work) {
                continue;
            }
            let mut rows = Vec::new();
            for len in [64, 256, 1420] {
                for figure in measure_reading(&o.out, format, in_file, len, o.rounds.min(21))? {
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

//! `pc5 replay`: the main job on a capture.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use pc5_control::files::FileKind;
use pc5_dataplane::cipher::Kernel;
use pc5_dataplane::engine::{Engine, EngineConfig, Now, Share};
use pc5_dataplane::keylog::{self, KeyLogLine};
use pc5_dataplane::keys::table::SharedSnapshot;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::verdict::{Counters, Verdict};
use pc5_dataplane::{Budget, ReceiveLimits, crypto};
use pc5_pcap::{Pace, Pacer, PcapError, Reader};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::{Exit, usage_if_missing};
use crate::replay::directory::{Cast, Directory};
use crate::replay::keying::{Keying, KeyingConfig};
use crate::replay::lane::{Lane, StageTime, Step};
use crate::replay::lanes::Lanes;
use crate::replay::output::Writer;
use crate::replay::part::Shape;
use crate::replay::plan::{KeyingWay, Op, Plan};
use crate::replay::report::{Report, Row, TimedStage};
use crate::replay::rounds::{self, Rounds};
use crate::replay::wire::{Wire, WireReport};
use crate::report::print;
use crate::whole_file::WholeFile;

/// Arguments of `pc5 replay`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Capture: pcap or pcapng, any link type; - is standard input.
    input: PathBuf,
    /// Write a pcapng: protected frames (protect, bridge) or SDUs (verify, roundtrip). With - for standard output the report goes to
    /// standard error.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to do with each frame.
    #[arg(long, value_enum, default_value_t = Op::Roundtrip)]
    op: Op,
    /// How keys come about.
    #[arg(long, value_enum, default_value_t = KeyingWay::Go)]
    keying: KeyingWay,
    /// Key log to open with (verify; bridge with --keying file).
    #[arg(long, value_name = "KEYLOG")]
    keys: Option<PathBuf>,
    /// Write every key used, for a dissector. Whoever has this file reads everything.
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Suite of links and group [default: aes-256-gcm].
    #[arg(long, value_name = "S")]
    suite: Option<Suite>,
    /// What goes one-to-one and what one-to-many [default: auto].
    #[arg(long, value_enum)]
    cast: Option<Cast>,
    /// Most member UEs; further stations share them [default: 256].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    members: Option<u32>,
    /// Worker threads, the calling one among them; 1 runs everything on it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Frames a batch.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Go through the capture N times.
    #[arg(long = "loop", value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
    /// Go through the capture again and again for so many seconds.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    duration: Option<f64>,
    /// max, captured, FACTORx, pps:N or bps:N.
    #[arg(long, default_value = "max")]
    pace: Pace,
    /// Send protected frames on an interface; needs the right to open raw sockets.
    #[arg(long, value_name = "IFACE")]
    to: Option<String>,
    /// PC5-S frames into the output too.
    #[arg(long)]
    signalling: bool,
    /// Force a kernel tier: portable, ring, aes-ni, vaes256, avx512.
    #[arg(long, value_name = "K", value_parser = kernel)]
    kernel: Option<Kernel>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// How the report is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

impl Args {
    fn suite(&self) -> Suite {
        self.suite.unwrap_or(Suite::Aes256Gcm)
    }

    fn cast(&self) -> Cast {
        self.cast.unwrap_or(Cast::Auto)
    }

    fn members(&self) -> u32 {
        self.members.unwrap_or(256)
    }
}

/// Form of a result.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shown {
    Table,
    Json,
}

fn kernel(name: &str) -> Result<Kernel, String> {
    Kernel::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Kernel::ALL.iter().map(|k| k.name()).collect();
        format!("kernels are {}", names.join(", "))
    })
}

/// Runs the command.
pub(crate) fn run(mut args: Args) -> anyhow::Result<Exit> {
    let plan = Plan::new(args.op, args.cast(), args.keying, args.keys.is_some(), args.suite())?;
    let report_to = check::standard_streams(&mut args)?;
    check::check(&args, &plan)?;
    if args.op != Op::Verify && args.suite() == Suite::Eea0 {
        eprintln!(
            "pc5: suite eea0 neither ciphers nor authenticates: everybody reads and writes what it carries"
        );
    }
    crypto::self_test().context("a known answer came out wrong; nothing is processed on this machine")?;
    let log = args.keys.as_deref().map(read_key_log).transpose()?.unwrap_or_default();
    let opened_with: BTreeSet<Suite> = log.iter().map(KeyLogLine::suite).collect();
    check::kernels(&args, &plan, &opened_with)?;
    let mut reader = Reader::open(&args.input).map_err(|e| usage_if_missing(e.into()))?;
    // Everything that is written has its place before anything is done.
    let whole = |path: &Option<PathBuf>, what: &str, mode| {
        let create = |path: &PathBuf| {
            WholeFile::create(path, mode)
                .with_context(|| format!("{what} {}", path.display()))
                .map_err(usage_if_missing)
        };
        path.as_ref().map(create).transpose()
    };
    let mut key_log = whole(&args.keylog, "key log", 0o600)?;
    let report_file = whole(&args.report, "report", 0o644)?;
    let writer = args.out.as_deref().map(Writer::create).transpose().map_err(usage_if_missing)?;
    let interrupted = interruption()?;
    let config = KeyingConfig {
        suite: args.suite(),
        direct: args.cast() == Cast::Group,
        log: args.keylog.is_some(),
        keep_signalling: args.signalling,
    };
    let mut keying = Keying::new(config, log)?;
    let shape = shape(&args, &plan);
    let mut lanes = start_lanes(&args, plan, shape, &keying)?;
    let wire = args.to.as_deref().map(Wire::open).transpose()?;
    let mut directory = Directory::new(args.members());
    let mut rounds = Rounds::new(plan, shape, &mut lanes, &mut keying, &mut directory, writer, wire);

    let began = Instant::now();
    let fed = feed(&args, &mut reader, &mut rounds, began, &interrupted).and_then(|fed| {
        rounds.drain()?;
        Ok(fed)
    });
    // Keys under which anything was sent or written are logged before that has its name, and whatever went wrong since.
    if let Some(file) = &mut key_log {
        file.write(rounds.key_log().as_bytes()).context("key log")?;
    }
    let logged = key_log.map(WholeFile::commit).transpose().context("key log");
    let (octets_read, read_time, defect) = fed?;
    logged?;
    let written = rounds.complete()?;
    let wall = began.elapsed();
    let totals = Totals {
        frames_read: rounds.taken(),
        octets_read,
        read_time,
        wall,
        defect: defect.as_ref().map(|e| e.to_string()),
        outcome: rounds.outcome.clone(),
        bridged: rounds.bridged.clone(),
        differing: rounds.differing,
        accepted_octets: rounds.accepted_octets,
        bridge_time: rounds.bridge_time,
        write_time: rounds.write_time,
        keying_time: rounds.keying_time,
        written,
        wire: rounds.wire(),
    };
    drop(rounds);
    let report = report(&args, &plan, &reader, &mut lanes, &keying, &opened_with, totals);
    show(&args, report_to, &report, report_file)?;
    if interrupted.load(Ordering::Relaxed) {
        eprintln!("pc5: interrupted; the {} frames before it were processed", report.frames_read);
        return Ok(Exit::Failed);
    }
    Ok(verdict(&report, defect))
}

/// Two million keys.
const KEY_LOG: FileKind = FileKind::new("key log", 256 << 20);

fn read_key_log(path: &Path) -> anyhow::Result<Vec<KeyLogLine>> {
    let named = || format!("key log {}", path.display());
    let text = KEY_LOG.read_text(path).with_context(named).map_err(usage_if_missing)?;
    keylog::parse(&text).with_context(|| path.display().to_string())
}

/// Raised by Ctrl-C or SIGTERM, upon which what was taken is completed; a second one ends the program at once.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, raised.clone())?;
        signal_hook::flag::register(signal, raised.clone())?;
    }
    Ok(raised)
}

/// Frames that are needed after their hop stay in the batch they went through; others in parts that are worth handing over.
fn shape(args: &Args, plan: &Plan) -> Shape {
    let keeps = !plan.hop2.is_empty() || args.to.is_some();
    let alone = args.workers == 1 && keeps;
    Shape {
        slots: if alone { args.batch.into() } else { rounds::PART.max(args.batch.into()) },
        keeps,
        // What does not leave by a wire is not written, so that has to come first.
        renders: (args.out.is_some() && args.to.is_none()).then_some(plan.output),
    }
}

fn start_lanes(args: &Args, plan: Plan, shape: Shape, keying: &Keying) -> anyhow::Result<Lanes> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let workers = args.workers as usize;
    let lane = |worker| {
        let share = Share { worker, workers };
        // Nobody else waits behind a file, and what is refused must not hang on the number of workers.
        let receive = ReceiveLimits {
            per_sender: Budget::UNLIMITED,
            per_worker: Budget::UNLIMITED,
            ..Default::default()
        };
        let engine = |table: SharedSnapshot, monitor| {
            Engine::new(
                table,
                EngineConfig { share, kernel: args.kernel, receive: ReceiveLimits { monitor, ..receive } },
            )
        };
        Lane {
            plan,
            shape,
            members: engine(keying.members.shared(), false),
            owner: engine(keying.owner.shared(), false),
            monitor: engine(keying.monitor.shared(), true),
            now: Now { unix_seconds: seconds, monotonic_ns: 0 },
            batch: None,
            batch_slots: args.batch.into(),
            times: [StageTime::default(); Step::ALL.len()],
            signalled: [0; Step::ALL.len()],
        }
    };
    Lanes::start((0..workers).map(lane).collect()).context("starting worker threads")
}

/// Reads the capture, as often as asked, into the rounds. Gives octets read, time spent reading, and the defect it ended at.
fn feed(
    args: &Args,
    reader: &mut Reader,
    rounds: &mut Rounds<'_>,
    began: Instant,
    interrupted: &AtomicBool,
) -> anyhow::Result<(u64, Duration, Option<PcapError>)> {
    let progress = progress_bar(args);
    let until = args.duration.map(Duration::from_secs_f64);
    let is_over =
        || interrupted.load(Ordering::Relaxed) || until.is_some_and(|until| began.elapsed() >= until);
    let mut pacer = (args.pace != Pace::Max).then(|| Pacer::new(args.pace));
    // What is short is read and placed once, and goes through the lanes as often as asked.
    let is_short = || args.input.metadata().is_ok_and(|m| m.is_file() && m.len() <= rounds::KEPT_OCTETS);
    if pacer.is_none() && (args.times.is_some_and(|n| n > 1) || until.is_some()) && is_short() {
        rounds.keep();
    }
    let (mut octets, mut pass, mut waited) = (0u64, 0u64, Duration::ZERO);
    let defect = 'passes: loop {
        let before = rounds.taken();
        loop {
            if is_over() {
                break 'passes None;
            }
            let mut chunk = match reader.next_chunk() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(e) => break 'passes Some(e),
            };
            rounds.enter(chunk.interfaces(), chunk.memory())?;
            while let Some((at, record)) = chunk.next_in_place() {
                if let Some(pacer) = &mut pacer {
                    waited += wait_until_due(
                        pacer,
                        rounds,
                        began,
                        record.timestamp_ns,
                        record.data.len(),
                        &is_over,
                    )?;
                    if is_over() {
                        break 'passes None;
                    }
                }
                octets += record.data.len() as u64;
                rounds.push(at, &record)?;
            }
            drop(chunk);
            progress.set_position(rounds.taken());
        }
        pass += 1;
        if let Some(kept) = rounds.passed()? {
            while args.times.is_none_or(|n| pass + kept.passes() <= n) && !is_over() {
                octets += rounds.again(&kept, &is_over)?;
                pass += kept.passes();
                progress.set_position(rounds.taken());
            }
        }
        let again = match (args.times, until) {
            (Some(n), _) => pass < n,
            (None, Some(_)) => true,
            (None, None) => false,
        };
        // A capture without frames would be gone through for ever.
        if !again || rounds.taken() == before {
            break None;
        }
        reader.rewind()?;
        if let Some(pacer) = &mut pacer {
            pacer.rewound();
        }
    };
    progress.finish_and_clear();
    let read_time = began.elapsed().saturating_sub(rounds.elsewhere).saturating_sub(waited);
    Ok((octets, read_time, defect))
}

/// Waits for the next frame's time, with nothing under way that should be on the wire; says how long it slept.
fn wait_until_due(
    pacer: &mut Pacer,
    rounds: &mut Rounds<'_>,
    began: Instant,
    timestamp_ns: u64,
    octets: usize,
    is_over: &dyn Fn() -> bool,
) -> anyhow::Result<Duration> {
    let now = began.elapsed();
    let due = Duration::from_nanos(pacer.due(now.as_nanos() as u64, timestamp_ns, octets));
    if due.saturating_sub(now) <= SHORTEST_SLEEP {
        return Ok(Duration::ZERO);
    }
    rounds.flush()?;
    let from = began.elapsed();
    while !is_over() {
        let wait = due.saturating_sub(began.elapsed());
        if wait.is_zero() {
            break;
        }
        std::thread::sleep(wait.min(LONGEST_SLEEP));
    }
    Ok(began.elapsed().saturating_sub(from))
}

/// An end asked for meanwhile is not waited for longer.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// Frames that are due sooner go at once: no sleep is that short.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);

fn progress_bar(args: &Args) -> ProgressBar {
    if args.output == Shown::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} frames, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

struct Totals {
    frames_read: u64,
    octets_read: u64,
    read_time: Duration,
    wall: Duration,
    defect: Option<String>,
    outcome: Counters,
    bridged: Counters,
    differing: u64,
    accepted_octets: u64,
    bridge_time: StageTime,
    write_time: StageTime,
    keying_time: Duration,
    written: Option<crate::replay::output::Written>,
    wire: Option<WireReport>,
}

fn report(
    args: &Args,
    plan: &Plan,
    reader: &Reader,
    lanes: &mut Lanes,
    keying: &Keying,
    opened_with: &BTreeSet<Suite>,
    totals: Totals,
) -> Report {
    let mut times = [StageTime::default(); Step::ALL.len()];
    let mut counters = [const { Counters::new() }; Step::ALL.len()];
    let mut signalled = [0; Step::ALL.len()];
    let mut advisory = false;
    let mut kernels = BTreeMap::new();
    let mut suites = opened_with.clone();
    if plan.op != Op::Verify {
        suites.insert(args.suite());
    }
    for worker in 0..lanes.len() {
        let suites = suites.clone();
        let (lane_times, lane_counters, lane_advisory, lane_kernels) = lanes.call(worker, move |lane| {
            let c = (Step::ALL.map(|step| lane.counters(step)), lane.signalled);
            let engines = [&lane.members, &lane.owner, &lane.monitor];
            let kernels = suites.into_iter().map(|s| (s, lane.members.kernel_of(s).name()));
            (lane.times, c, engines.iter().any(|e| e.has_advisory_windows()), kernels.collect::<Vec<_>>())
        });
        times.iter_mut().zip(&lane_times).for_each(|(a, b)| a.add(b));
        counters.iter_mut().zip(&lane_counters.0).for_each(|(a, b)| a.add(b));
        signalled.iter_mut().zip(lane_counters.1).for_each(|(a, b)| *a += b);
        advisory |= lane_advisory;
        kernels.extend(lane_kernels);
    }
    let steps: Vec<Step> = plan.hop1.iter().chain(plan.hop2).copied().collect();
    let mut rows = Vec::new();
    let read = StageTime { spent: totals.read_time, frames: totals.frames_read, octets: totals.octets_read };
    let timed = |step: Step| TimedStage { name: step.name(), time: times[step as usize] };
    let mut stages = vec![TimedStage { name: "read", time: read }, timed(Step::Take)];
    for (i, &step) in steps.iter().enumerate() {
        if i == plan.hop1.len() {
            stages.push(TimedStage { name: "bridge", time: totals.bridge_time });
            rows.push(Row { name: "bridge", counters: totals.bridged.clone(), signalling: 0 });
        }
        stages.push(timed(step));
        if step != Step::Compare {
            let (counters, signalling) = (counters[step as usize].clone(), signalled[step as usize]);
            rows.push(Row { name: step.name(), counters, signalling });
        }
    }
    if totals.written.is_some() {
        stages.push(timed(Step::Render));
        stages.push(TimedStage { name: "write", time: totals.write_time });
    }
    if let Some(wire) = &totals.wire {
        stages.push(TimedStage { name: "wire", time: wire.time });
        rows.push(Row { name: "wire", counters: wire.counters.clone(), signalling: 0 });
    }
    Report {
        op: match plan.op {
            Op::Roundtrip => "roundtrip",
            Op::Protect => "protect",
            Op::Bridge => "bridge",
            Op::Verify => "verify",
        },
        cast: match plan.cast {
            _ if plan.op == Op::Verify => None,
            Cast::Auto => Some("auto"),
            Cast::Group => Some("group"),
            Cast::Link => Some("link"),
        },
        keying: if plan.from_key_log { "file" } else { "go" },
        suite: (plan.op != Op::Verify).then(|| args.suite().to_string()),
        input: args.input.display().to_string(),
        frames_read: totals.frames_read,
        octets_read: totals.octets_read,
        defect: totals.defect,
        outcome: totals.outcome,
        accepted_octets: totals.accepted_octets,
        rows,
        differing: plan.compares().then_some(totals.differing),
        keys: if plan.op == Op::Verify { Vec::new() } else { keying.counts() },
        output: totals.written,
        wire: totals.wire,
        output_path: args.out.as_ref().map(|p| p.display().to_string()),
        advisory,
        wall: totals.wall,
        keying_time: totals.keying_time,
        stages,
        workers: lanes.len(),
        batch: args.batch as usize,
        kernel: named(&kernels),
        input_io: reader.io_path().to_owned(),
    }
}

/// The kernel in use; where suites have different ones, which has which.
fn named(kernels: &BTreeMap<Suite, &'static str>) -> Option<String> {
    let first = kernels.values().next()?;
    if kernels.values().all(|k| k == first) {
        return Some((*first).to_owned());
    }
    let each: Vec<String> = kernels.iter().map(|(suite, kernel)| format!("{suite} {kernel}")).collect();
    Some(each.join(", "))
}

/// Where the report is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReportTo {
    Output,
    /// Standard output has what is written.
    Error,
}

fn show(args: &Args, to: ReportTo, report: &Report, file: Option<WholeFile>) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(&report.to_json())? + "\n";
    let shown = match args.output {
        Shown::Table => &report.to_table(),
        Shown::Json => &json,
    };
    match to {
        ReportTo::Output => print(shown)?,
        ReportTo::Error => eprint!("{shown}"),
    }
    if let Some(mut file) = file {
        file.write(json.as_bytes()).and_then(|()| file.commit()).context("report")?;
    }
    Ok(())
}

fn verdict(report: &Report, defect: Option<PcapError>) -> Exit {
    if let Some(defect) = defect {
        eprintln!(
            "pc5: {}: {defect}; the {} frames before it were processed",
            report.input, report.frames_read
        );
        return Exit::Failed;
    }
    if !report.adds_up() {
        eprintln!(
            "pc5: counters do not add up: {} frames read, {} accounted for",
            report.frames_read,
            report.outcome.total()
        );
        return Exit::Failed;
    }
    if report.differing.is_some_and(|d| d > 0) {
        eprintln!("pc5: frames came out otherwise than they went in");
        return Exit::Failed;
    }
    let dropped = report.outcome.dropped();
    if report.op == "roundtrip" && dropped > 0 {
        eprintln!("pc5: {dropped} frames did not come through; the report says why");
        return Exit::Failed;
    }
    if report.op == "verify" && report.outcome.get(Verdict::Accepted) == 0 && dropped > 0 {
        eprintln!("pc5: none of {dropped} frames verified: is this their key log?");
        return Exit::Failed;
    }
    Exit::Ok
}

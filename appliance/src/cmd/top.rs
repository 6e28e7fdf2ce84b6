//! `pc5 top`: a live screen of rates and events; one snapshot where there is no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pc5_control::pki::describe::utc;
use serde::Serialize;

use super::replay::Shown;
use super::show::Daemon;
use crate::exit::Exit;
use crate::report::print;
use crate::run::status::{Ask, Body, EventLine, Runtime, Screen, VERSION, What};

/// Events shown.
const EVENTS: usize = 10;

/// Live rates and events of a running daemon.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds from one look to the next.
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// One snapshot, as where there is no terminal, and as JSON is.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    daemon: Daemon,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds")?;
    if (0.1..=60.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 60 seconds".into()) }
}

/// What happens a second, between two looks.
#[derive(Serialize)]
struct Rates {
    version: u8,
    role: String,
    identity: String,
    uptime_s: u64,
    seconds: f64,
    /// Frames a second, by port and direction.
    ports: BTreeMap<String, f64>,
    stages: Vec<StageRate>,
    /// Drops a second, by stage and cause.
    drops: BTreeMap<String, f64>,
    members: usize,
}

#[derive(Serialize)]
struct StageRate {
    stage: String,
    frames_a_second: f64,
    ns_a_frame: f64,
    frames_a_batch: f64,
    /// Share of one processor.
    busy: f64,
}

fn per(n: f64, of: f64) -> f64 {
    if of > 0.0 { n / of } else { 0.0 }
}

impl Rates {
    fn between(a: &Screen, b: &Screen, seconds: f64) -> Option<Self> {
        let (ra, rb) = (a.runtime.as_ref()?, b.runtime.as_ref()?);
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let mut ports = BTreeMap::new();
        let total = |r: &Runtime, traffic: &str| {
            let own = r.data.ports.iter().filter(|p| p.traffic == traffic);
            own.fold((0, 0), |(received, sent), p| (received + p.received, sent + p.sent))
        };
        for traffic in ["signalling", "data"] {
            let ((received, sent), (received_now, sent_now)) = (total(ra, traffic), total(rb, traffic));
            ports.insert(format!("{traffic} in"), rate(received, received_now));
            ports.insert(format!("{traffic} out"), rate(sent, sent_now));
        }
        let stages = rb.data.stages.iter().map(|s| {
            let before = ra.data.stages.iter().find(|q| q.name == s.name).cloned().unwrap_or_default();
            let frames = s.frames.saturating_sub(before.frames) as f64;
            let ns = s.ns.saturating_sub(before.ns) as f64;
            StageRate {
                stage: s.name.clone(),
                frames_a_second: frames / seconds,
                ns_a_frame: per(ns, frames),
                frames_a_batch: per(frames, s.batches.saturating_sub(before.batches) as f64),
                busy: ns / 1e9 / seconds,
            }
        });
        let before = a.drops.as_ref().map(|d| d.totals.clone()).unwrap_or_default();
        let drops = b.drops.iter().flat_map(|d| &d.totals).filter_map(|(what, n)| {
            let rate = rate(before.get(what).copied().unwrap_or(0), *n);
            (rate > 0.0).then(|| (what.clone(), rate))
        });
        Some(Self {
            version: VERSION,
            role: rb.role.clone(),
            identity: rb.identity.clone(),
            uptime_s: rb.uptime_s,
            seconds,
            ports,
            stages: stages.collect(),
            drops: drops.collect(),
            members: b.members.as_ref().map_or(0, Vec::len),
        })
    }

    fn text(&self, events: &VecDeque<EventLine>) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "{} {}, up {} s, {} members, over {:.1} s\n",
            self.role, self.identity, self.uptime_s, self.members, self.seconds
        );
        for (port, rate) in &self.ports {
            let _ = writeln!(out, "{port:<16}{rate:>12.0} frames/s");
        }
        let _ = writeln!(
            out,
            "\n{:<10}{:>12}{:>12}{:>14}{:>8}",
            "STAGE", "FRAMES/S", "NS/FRAME", "FRAMES/BATCH", "BUSY"
        );
        for s in &self.stages {
            let _ = writeln!(
                out,
                "{:<10}{:>12.0}{:>12.0}{:>14.1}{:>7.1}%",
                s.stage,
                s.frames_a_second,
                s.ns_a_frame,
                s.frames_a_batch,
                s.busy * 100.0
            );
        }
        out.push('\n');
        for (cause, rate) in &self.drops {
            let _ = writeln!(out, "dropped   {cause:<32}{rate:>12.0} frames/s");
        }
        for e in events {
            let about: Vec<String> = e.about.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let _ = writeln!(out, "{}  {:<12} {}", utc(e.unix_ms / 1_000), e.event, about.join(" "));
        }
        out
    }
}

/// Shows.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let live = matches!(args.daemon.output, Shown::Table) && !args.once && std::io::stdout().is_terminal();
    let look = || match args.daemon.ask(Ask::Show { what: What::All })? {
        Body::Shown(screen) => Ok(screen),
        _ => anyhow::bail!("the daemon answered something else"),
    };
    let events = Arc::new(Mutex::new(VecDeque::new()));
    let mut before = (look()?, Instant::now());
    if live {
        listen(&args.daemon, events.clone());
    }
    loop {
        std::thread::sleep(Duration::from_secs_f64(args.interval));
        let screen = look()?;
        let rates = Rates::between(&before.0, &screen, before.1.elapsed().as_secs_f64());
        before = (screen, Instant::now());
        // A daemon shows its runtime to everybody who may ask.
        let Some(rates) = rates else { anyhow::bail!("the daemon answered something else") };
        match args.daemon.output {
            Shown::Json => print(&serde_json::to_string_pretty(&rates)?)?,
            Shown::Table => {
                let text = rates.text(&events.lock().unwrap_or_else(PoisonError::into_inner));
                // Home, then clear to the end: no flicker.
                let clear = if live { "\x1b[H\x1b[2J" } else { "" };
                let mut out = std::io::stdout().lock();
                write!(out, "{clear}{text}")?;
                out.flush()?;
            }
        }
        if !live {
            return Ok(Exit::Ok);
        }
    }
}

/// Gathers events as they come; without them there are rates still.
fn listen(daemon: &Daemon, into: Arc<Mutex<VecDeque<EventLine>>>) {
    let Ok(events) = daemon.events() else { return };
    std::thread::spawn(move || {
        for event in events.filter(|e| e.event != "alive") {
            let mut shown = into.lock().unwrap_or_else(PoisonError::into_inner);
            if shown.len() == EVENTS {
                shown.pop_front();
            }
            shown.push_back(event);
        }
    });
}

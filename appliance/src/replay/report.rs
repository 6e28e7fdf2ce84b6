//! What a replay tells in the end: a table for people, JSON for programs. Everything that hangs on the clock or on the
//! machine stands under `timing`.

use std::fmt::Write as _;
use std::time::Duration;

use pc5_dataplane::verdict::{Counters, Verdict};
use serde_json::{Map, Value, json};

use super::lane::StageTime;
use super::wire::WireReport;

/// One counted place on the way of the frames.
pub(crate) struct Row {
    pub name: &'static str,
    /// Frames of user data, and PC5-S that came through.
    pub counters: Counters,
    /// Of them PC5-S.
    pub signalling: u64,
}

impl Row {
    fn to_json(&self) -> Value {
        let mut row = counters_json(&self.counters);
        row["accepted"] = json!(self.counters.get(Verdict::Accepted) - self.signalling);
        row["signalling"] = json!(self.signalling);
        row
    }
}

/// Time of one stage.
pub(crate) struct TimedStage {
    pub name: &'static str,
    pub time: StageTime,
}

/// Everything about a finished replay.
pub(crate) struct Report {
    pub op: &'static str,
    /// None where each frame says it itself.
    pub cast: Option<&'static str>,
    pub keying: &'static str,
    pub suite: Option<String>,
    pub input: String,
    pub frames_read: u64,
    pub octets_read: u64,
    pub defect: Option<String>,
    pub outcome: Counters,
    pub accepted_octets: u64,
    pub rows: Vec<Row>,
    pub differing: Option<u64>,
    pub keys: Vec<(&'static str, u64)>,
    pub output: Option<super::output::Written>,
    pub output_path: Option<String>,
    pub wire: Option<WireReport>,
    pub advisory: bool,
    pub wall: Duration,
    pub keying_time: Duration,
    pub stages: Vec<TimedStage>,
    pub workers: usize,
    pub batch: usize,
    pub kernel: Option<String>,
    pub input_io: String,
}

impl Report {
    /// Frames read are frames accepted or dropped by name; rows add up too.
    pub(crate) fn adds_up(&self) -> bool {
        self.outcome.get(Verdict::Pending) == 0 && self.outcome.total() == self.frames_read
    }

    /// The report as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let rows: Map<String, Value> = self.rows.iter().map(|r| (r.name.to_owned(), r.to_json())).collect();
        let keys: Map<String, Value> = self.keys.iter().map(|&(k, v)| (k.to_owned(), json!(v))).collect();
        let mut report = json!({
            "version": 1,
            "op": self.op,
            "cast": self.cast,
            "keying": self.keying,
            "suite": self.suite,
            "input": self.input,
            "frames": counters_json_with_read(&self.outcome, self.frames_read),
            "octets": { "read": self.octets_read, "accepted": self.accepted_octets },
            "adds_up": self.adds_up(),
            "stages": rows,
            "keys": keys,
            "windows_advisory": self.advisory,
            "defect": self.defect,
            "timing": self.timing_json(),
        });
        if let Some(differing) = self.differing {
            report["compared"] = json!({ "differing": differing });
        }
        if let Some(written) = &self.output {
            report["output"] = json!({
                "path": self.output_path,
                "frames": written.frames,
                "signalling": written.signalling,
            });
        }
        if let Some(wire) = &self.wire {
            report["wire"] = json!({
                "interface": wire.interface,
                "frames": wire.counters.get(Verdict::Accepted),
                "signalling": wire.signalling,
            });
            report["timing"]["wire_way"] = json!(wire.way);
            report["timing"]["wire_refused"] = json!(wire.refused);
        }
        report
    }

    fn timing_json(&self) -> Value {
        let stages: Map<String, Value> = self
            .stages
            .iter()
            .map(|s| {
                let value = json!({
                    "ns_per_frame": round(ns_per_frame(&s.time)),
                    "gbit_per_s": round(gbit(&s.time)),
                    "frames": s.time.frames,
                });
                (s.name.to_owned(), value)
            })
            .collect();
        json!({
            "wall_s": self.wall.as_secs_f64(),
            "keying_s": self.keying_time.as_secs_f64(),
            "frames_per_s": round(self.frames_read as f64 / self.wall.as_secs_f64().max(1e-9)),
            "gbit_per_s": round(self.octets_read as f64 * 8e-9 / self.wall.as_secs_f64().max(1e-9)),
            "stages": stages,
            "workers": self.workers,
            "batch": self.batch,
            "kernel": self.kernel,
            "input_io": self.input_io,
            "output_io": self.output.as_ref().map(|w| &w.io_path),
            "output_octets": self.output.as_ref().map(|w| w.octets),
        })
    }

    /// The report as a table.
    pub(crate) fn to_table(&self) -> String {
        let mut t = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut t);
        t
    }

    fn write_table(&self, t: &mut String) -> std::fmt::Result {
        let suite = self.suite.as_deref().unwrap_or("as in the key log");
        let cast = self.cast.unwrap_or("as received");
        writeln!(t, "{}  op {}  cast {cast}  keying {}  suite {suite}", self.input, self.op, self.keying)?;
        writeln!(t)?;
        writeln!(t, "{:<28}{:>14}", "frames read", self.frames_read)?;
        writeln!(t, "{:<28}{:>14}", "= accepted", self.outcome.get(Verdict::Accepted))?;
        if self.outcome.dropped() == 0 {
            writeln!(t, "{:<28}{:>14}", "+ dropped", 0)?;
        }
        for (verdict, n) in self.outcome.drops() {
            writeln!(t, "{:<28}{n:>14}", format!("+ dropped: {verdict}"))?;
        }
        if let Some(differing) = self.differing {
            let compared = self.outcome.get(Verdict::Accepted);
            writeln!(t, "{:<28}{:>14}", "compared octet by octet", compared)?;
            writeln!(t, "{:<28}{differing:>14}", "differing")?;
        }
        if let (Some(written), Some(path)) = (&self.output, &self.output_path) {
            writeln!(t, "{:<28}{:>14}  {path}", "frames written", written.frames)?;
            if written.signalling > 0 {
                writeln!(t, "{:<28}{:>14}", "+ PC5-S written", written.signalling)?;
            }
        }
        if let Some(wire) = &self.wire {
            let sent = wire.counters.get(Verdict::Accepted);
            writeln!(t, "{:<28}{sent:>14}  {} by {}", "frames on the wire", wire.interface, wire.way)?;
            if let Some(refused) = &wire.refused {
                writeln!(t, "note: {refused}")?;
            }
        }
        writeln!(t)?;
        for &(name, n) in &self.keys {
            writeln!(t, "{:<28}{n:>14}", name.replace('_', " "))?;
        }
        writeln!(t)?;
        writeln!(t, "{:<28}{:>14}{:>12}{:>12}{:>12}", "stage", "frames", "dropped", "ns/frame", "Gbit/s")?;
        for s in &self.stages {
            let dropped = self.rows.iter().find(|r| r.name == s.name).map(|r| r.counters.dropped());
            let dropped = dropped.map_or(String::new(), |d| d.to_string());
            let (ns, gbit) = (ns_per_frame(&s.time), gbit(&s.time));
            let gbit = if s.time.octets == 0 { String::new() } else { format!("{gbit:.2}") };
            writeln!(t, "{:<28}{:>14}{dropped:>12}{ns:>12.1}{gbit:>12}", s.name, s.time.frames)?;
        }
        let wall = self.wall.as_secs_f64().max(1e-9);
        writeln!(t)?;
        write!(
            t,
            "{:.3} s, of it {:.3} s keying; {:.0} frames/s, ",
            wall,
            self.keying_time.as_secs_f64(),
            self.frames_read as f64 / wall
        )?;
        writeln!(t, "{:.3} Gbit/s captured octets", self.octets_read as f64 * 8e-9 / wall)?;
        write!(
            t,
            "{} worker{}, batch {}",
            self.workers,
            if self.workers == 1 { "" } else { "s" },
            self.batch
        )?;
        if let Some(kernel) = &self.kernel {
            write!(t, ", kernel {kernel}")?;
        }
        writeln!(t, ", input by {}", self.input_io)?;
        if self.advisory {
            writeln!(
                t,
                "note: suites without integrity: replay windows are advisory, nothing was refused as old"
            )?;
        }
        if self.suite.is_some() && self.cast != Some("link") {
            writeln!(
                t,
                "note: a one-to-many MAC field proves membership of the group, not which member sent"
            )?;
        }
        if let Some(defect) = &self.defect {
            writeln!(t, "defect: {defect}")?;
        }
        Ok(())
    }
}

fn counters_json_with_read(c: &Counters, read: u64) -> Value {
    let mut v = counters_json(c);
    v["read"] = json!(read);
    v
}

fn counters_json(c: &Counters) -> Value {
    let drops: Map<String, Value> = c.drops().map(|(v, n)| (v.name().to_owned(), json!(n))).collect();
    json!({ "accepted": c.get(Verdict::Accepted), "dropped": drops })
}

fn ns_per_frame(t: &StageTime) -> f64 {
    if t.frames == 0 { 0.0 } else { t.spent.as_nanos() as f64 / t.frames as f64 }
}

fn gbit(t: &StageTime) -> f64 {
    t.octets as f64 * 8.0 / (t.spent.as_nanos() as f64).max(1.0)
}

fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

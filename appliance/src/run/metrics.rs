//! Prometheus text: counters of rare events by the `metrics` façade, those of frames as they stand when asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use anyhow::Context;

use super::admin;
use super::channels::ControlHandle;
use super::status::{Ask, Body, Screen, What};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// Octets of a request's head.
    pub(super) const REQUEST: u64 = 8_192;
    /// How long the other side may take to ask or to read.
    pub(super) const PATIENCE: Duration = Duration::from_secs(2);
}

/// Counters of rare events, by name and labels.
#[derive(Default)]
struct Rare {
    counters: Mutex<BTreeMap<Key, Arc<AtomicU64>>>,
}

static RARE: OnceLock<Rare> = OnceLock::new();

impl Recorder for &'static Rare {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        Counter::from_arc(counters.entry(key.clone()).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Begins to count rare events.
pub(crate) fn begin() {
    // Another recorder can only be a test's.
    let _ = ::metrics::set_global_recorder(RARE.get_or_init(Rare::default));
}

/// Samples of one name.
#[derive(Default)]
struct Family {
    kind: &'static str,
    help: &'static str,
    samples: Vec<(Vec<(String, String)>, f64)>,
}

/// A text under way.
#[derive(Default)]
struct Page(BTreeMap<String, Family>);

impl Page {
    fn add(
        &mut self,
        kind: &'static str,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.0.entry(name.to_owned()).or_default();
        (family.kind, family.help) = (kind, help);
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        family.samples.push((labels, value));
    }

    fn counter(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.add("counter", name, help, labels, value as f64);
    }

    fn gauge(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add("gauge", name, help, labels, value);
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.0 {
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, value) in &family.samples {
                let _ = write!(out, "{name}");
                for (i, (label, text)) in labels.iter().enumerate() {
                    let _ = write!(out, "{}{label}=\"{}\"", if i == 0 { "{" } else { "," }, escaped(text));
                }
                let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
            }
        }
        out
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text of a screen that has everything.
pub(crate) fn text(screen: &Screen) -> String {
    let mut page = Page::default();
    if let Some(r) = &screen.runtime {
        let labels = [("version", r.version.as_str()), ("role", &r.role), ("identity", &r.identity)];
        page.gauge("pc5_info", "What runs.", &labels, 1.0);
        page.gauge("pc5_uptime_seconds", "Since the start.", &[], r.uptime_s as f64);
        let held = r.discrepancies.len() as f64;
        page.gauge("pc5_discrepancies", "Sums of counters that do not hold.", &[], held);
        let d = &r.data;
        let mut ports = BTreeMap::<&str, (bool, u64, u64)>::new();
        for p in &d.ports {
            let (up, received, sent) = ports.entry(p.traffic.as_str()).or_insert((true, 0, 0));
            (*up, *received, *sent) = (*up && p.link == "up", *received + p.received, *sent + p.sent);
        }
        for (traffic, (up, received, sent)) in ports {
            let labels = [("traffic", traffic)];
            page.gauge("pc5_port_up", "Whether the link is up.", &labels, f64::from(u8::from(up)));
            page.counter("pc5_port_received_total", "Frames taken from the port.", &labels, received);
            page.counter("pc5_port_sent_total", "Frames that left by the port.", &labels, sent);
        }
        if d.tun.is_some() {
            let up = d.tun.iter().chain(&d.more_tuns).all(|(_, _, link)| link == "up");
            let labels = [("traffic", "tun")];
            page.gauge("pc5_port_up", "Whether the link is up.", &labels, f64::from(u8::from(up)));
        }
        for w in &d.workers {
            let number = w.worker.to_string();
            let labels = [("worker", number.as_str())];
            let seconds = w.busy_ns as f64 / 1e9;
            page.add(
                "counter",
                "pc5_worker_busy_seconds_total",
                "Time that a worker worked.",
                &labels,
                seconds,
            );
        }
        for s in &d.stages {
            let labels = [("stage", s.name.as_str())];
            page.counter("pc5_stage_frames_total", "Frames that went through a stage.", &labels, s.frames);
            page.counter("pc5_stage_batches_total", "Batches that went through it.", &labels, s.batches);
            let seconds = s.ns as f64 / 1e9;
            page.add("counter", "pc5_stage_seconds_total", "Time that it took.", &labels, seconds);
        }
        let accepted = [
            ("open", &d.opened),
            ("bridge", &d.bridged),
            ("deliver", &d.delivered),
            ("tun", &d.taken),
            ("seal", &d.sealed),
        ];
        for (stage, tally) in accepted {
            let n = tally.get("accepted").copied().unwrap_or(0);
            page.counter("pc5_accepted_total", "Frames that passed.", &[("stage", stage)], n);
        }
        page.counter("pc5_signalling_total", "PC5-S messages that were opened.", &[], d.signalling);
        page.counter("pc5_copies_total", "Group frames sent over links.", &[], d.copies);
    }
    if let Some(drops) = &screen.drops {
        for (what, n) in &drops.totals {
            let (stage, cause) = what.split_once(' ').unwrap_or(("", what));
            let labels = [("stage", stage), ("cause", cause)];
            page.counter("pc5_drops_total", "Frames dropped, by stage and cause.", &labels, *n);
        }
    }
    for g in screen.groups.iter().flatten() {
        let labels = [("group", g.group.as_str())];
        page.gauge("pc5_group_members", "Confirmed links.", &labels, g.members as f64);
        page.gauge("pc5_group_joining", "Joins under way.", &labels, g.joining as f64);
        page.gauge("pc5_group_epoch", "Epoch in use.", &labels, g.epoch as f64);
        page.gauge("pc5_group_by_link", "Members without the key in use.", &labels, g.by_link as f64);
    }
    if let Some(rare) = RARE.get() {
        let counters = rare.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in counters.iter() {
            let labels: Vec<_> = key.labels().map(|l| (l.key(), l.value())).collect();
            let n = value.load(Ordering::Relaxed);
            page.counter(key.name(), "Rare events, by kind.", &labels, n);
        }
    }
    page.text()
}

/// The text as it stands now.
///
/// # Errors
/// Why the daemon did not answer.
pub(crate) fn now(control: &ControlHandle) -> Result<String, String> {
    match admin::answer(control, Ask::Show { what: What::All }) {
        Body::Shown(screen) => Ok(text(&screen)),
        Body::Failed(why) | Body::Refused(why) => Err(why),
        Body::Done(_) | Body::Metrics(_) => Err("answered something else".into()),
    }
}

/// A listener for scrapes, on loopback.
pub(crate) struct Scrapes(TcpListener);

impl Scrapes {
    /// Binds it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        TcpListener::bind(address).map(Self).with_context(|| format!("metrics at {address}"))
    }

    /// Answers scrapes, one at a time, until the process ends.
    ///
    /// # Errors
    /// No thread can be made.
    pub(crate) fn serve(self, control: ControlHandle) -> io::Result<()> {
        std::thread::Builder::new().name("pc5-metrics".into()).spawn(move || {
            for stream in self.0.incoming() {
                match stream {
                    // Whoever hung up needs no answer.
                    Ok(stream) => drop(scrape(&stream, &control)),
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        })?;
        Ok(())
    }
}

fn scrape(stream: &TcpStream, control: &ControlHandle) -> io::Result<()> {
    stream.set_read_timeout(Some(limits::PATIENCE))?;
    stream.set_write_timeout(Some(limits::PATIENCE))?;
    let mut reader = BufReader::new(stream.take(limits::REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::from("-");
    while !header.trim_end().is_empty() {
        header.clear();
        reader.read_line(&mut header)?;
    }
    let mut words = request.split_whitespace();
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => match now(control) {
            Ok(text) => ("200 OK", "text/plain; version=0.0.4", text),
            Err(why) => ("503 Service Unavailable", "text/plain", why + "\n"),
        },
        (Some("GET"), _) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let length = body.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_head_and_labels_are_escaped() {
        let mut page = Page::default();
        page.counter("pc5_b_total", "B.", &[("x", "a\"b\\c\nd")], 2);
        page.gauge("pc5_a", "A.", &[], 1.5);
        page.counter("pc5_b_total", "B.", &[("x", "y"), ("z", "w")], 3);
        assert_eq!(
            page.text(),
            "# HELP pc5_a A.\n# TYPE pc5_a gauge\npc5_a 1.5\n\
             # HELP pc5_b_total B.\n# TYPE pc5_b_total counter\n\
             pc5_b_total{x=\"a\\\"b\\\\c\\nd\"} 2\npc5_b_total{x=\"y\",z=\"w\"} 3\n"
        );
    }
}

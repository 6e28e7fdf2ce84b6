//! `pc5 show`: one readable screen of a running daemon, or JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use pc5_control::pki::describe::utc;
use pc5_dataplane::suite::Suite;

use super::replay::Shown;
use crate::exit::{Exit, refused, unreachable};
use crate::report::print;
use crate::run::admin::{self, AskError};
use crate::run::config::{ADMIN_SOCKET, weakness};
use crate::run::status::{
    Ask, Body, CrlRow, Drops, EventLine, NetworkStatus, Request, Runtime, Screen, VERSION, What,
};

/// Show what a running daemon knows: groups, links, members, keys, runtime, drops.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One part; all of it in brief unless named.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    #[command(flatten)]
    daemon: Daemon,
}

/// Which daemon is asked, and how its answer is shown.
#[derive(clap::Args)]
pub(crate) struct Daemon {
    /// Admin socket of the daemon.
    #[arg(long, env = "PC5_ADMIN", default_value = ADMIN_SOCKET)]
    admin: PathBuf,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    pub output: Shown,
}

impl Daemon {
    /// Asks, and turns refusals into exit codes.
    ///
    /// # Errors
    /// Exit code 3 when nobody answers, 4 when refused.
    pub(crate) fn ask(&self, ask: Ask) -> anyhow::Result<Body> {
        match admin::ask(&self.admin, &Request { version: VERSION, ask }) {
            Ok(Body::Refused(why)) => Err(refused(why)),
            Ok(Body::Failed(why)) => Err(anyhow::anyhow!(why)),
            Ok(body) => Ok(body),
            Err(AskError::NotReachable(e)) => Err(unreachable(format!(
                "no daemon at {}: {e}; is `pc5 run` running? --admin names its socket",
                self.admin.display()
            ))),
            Err(AskError::Answer(e)) => Err(anyhow::anyhow!("answer not understood: {e}")),
        }
    }

    /// Listens to its events.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn events(&self) -> anyhow::Result<impl Iterator<Item = EventLine> + Send + use<>> {
        admin::listen(&self.admin).map_err(|e| match e {
            AskError::NotReachable(e) => unreachable(format!("no daemon at {}: {e}", self.admin.display())),
            AskError::Answer(e) => anyhow::anyhow!("answer not understood: {e}"),
        })
    }

    /// Gives an order and says what came of it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn order(&self, ask: Ask) -> anyhow::Result<Exit> {
        let body = self.ask(ask)?;
        match (self.output, &body) {
            (Shown::Json, _) => {
                print(&serde_json::json!({ "version": VERSION, "result": body }).to_string())?
            }
            (Shown::Table, Body::Done(said)) => print(said)?,
            (Shown::Table, _) => {}
        }
        Ok(Exit::Ok)
    }
}

/// Shows.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let Body::Shown(screen) = args.daemon.ask(Ask::Show { what: args.what })? else {
        anyhow::bail!("the daemon answered something else");
    };
    match args.daemon.output {
        Shown::Json => {
            let mut value = serde_json::to_value(&screen)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("version".into(), VERSION.into());
            }
            print(&serde_json::to_string_pretty(&value)?)?;
        }
        Shown::Table => print(&text(&screen))?,
    }
    Ok(Exit::Ok)
}

fn text(screen: &Screen) -> String {
    let mut out = String::new();
    if let Some(rows) = &screen.groups {
        let rows = rows.iter().map(|g| {
            [
                g.group.clone(),
                g.role.clone(),
                g.local.clone(),
                g.state.clone(),
                g.epoch.to_string(),
                g.members.to_string(),
                g.joining.to_string(),
                g.by_link.to_string(),
                g.crl.clone(),
                g.evicted.join(" "),
            ]
        });
        table(
            &mut out,
            ["GROUP", "ROLE", "LOCAL", "STATE", "EPOCH", "MEMBERS", "JOINING", "BY-LINK", "CRL", "EVICTED"],
            rows,
        );
    }
    if let Some(rows) = &screen.members {
        let rows = rows.iter().map(|m| {
            [
                m.group.clone(),
                m.layer2.clone(),
                m.identity.clone(),
                m.suite.clone(),
                m.epoch.to_string(),
                m.rekeyings.map_or("-".into(), |n| n.to_string()),
                m.silent_ms.map_or("-".into(), |ms| format!("{ms} ms")),
                m.crl.clone(),
                m.addresses.join(" "),
            ]
        });
        table(
            &mut out,
            ["GROUP", "LAYER-2", "IDENTITY", "SUITE", "EPOCH", "REKEYED", "SILENT", "CRL", "ADDRESSES"],
            rows,
        );
    }
    if let Some(rows) = &screen.links {
        let rows = rows.iter().map(|l| {
            [
                l.local.clone(),
                l.peer.clone(),
                l.id.clone(),
                l.phase.clone(),
                l.suite.clone(),
                l.role.clone(),
                l.identity.clone().unwrap_or_else(|| "-".into()),
            ]
        });
        table(&mut out, ["LOCAL", "PEER", "KD-SESS", "PHASE", "SUITE", "ROLE", "IDENTITY"], rows);
    }
    if let Some(rows) = &screen.keys {
        let suites: BTreeSet<Suite> = rows.iter().filter_map(|k| k.suite.parse().ok()).collect();
        let rows = rows.iter().map(|k| {
            [
                k.group.clone(),
                k.pgk_id.to_string(),
                k.suite.clone(),
                if k.retired { "retired" } else { "live" }.into(),
                utc(k.not_after),
                k.senders.clone(),
            ]
        });
        table(&mut out, ["GROUP", "PGK", "SUITE", "STATE", "UNTIL", "SENDERS"], rows);
        keys_prove(&mut out, &suites);
    }
    if let Some(runtime) = &screen.runtime {
        runtime_text(&mut out, runtime);
    }
    if let Some(drops) = &screen.drops {
        drops_text(&mut out, drops);
    }
    out
}

/// `design.md` section 4: whoever looks at group keys is told what they cannot prove.
fn keys_prove(out: &mut String, suites: &BTreeSet<Suite>) {
    if suites.is_empty() || suites.iter().any(|s| s.has_integrity()) {
        out.push_str(
            "A MAC field under a PGK proves that a member of the group sent the frame, not which one.\n",
        );
    }
    for (suite, what) in suites.iter().filter_map(|s| Some((s, weakness(*s)?))) {
        let _ = writeln!(out, "WARNING: {suite}: {what}.");
    }
}

fn runtime_text(out: &mut String, r: &Runtime) {
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name:<14}{value}");
    };
    line("daemon", format!("pc5 {}, {} {}, up {} s", r.version, r.role, r.identity, r.uptime_s));
    line("state", format!("{}; workers {}", r.state, r.workers));
    let p = &r.privileges;
    line(
        "privileges",
        format!(
            "user {}, capabilities {}, seccomp {}, Landlock {}; refused when tried: {}",
            p.user,
            p.capabilities,
            if p.seccomp { "on" } else { "off" },
            p.landlock,
            p.refused.join(", ")
        ),
    );
    for (name, mtu, link) in r.data.tun.iter().chain(&r.data.more_tuns) {
        line("tun", format!("{name}, {link}, MTU {mtu}"));
    }
    for p in &r.data.ports {
        line(
            "port",
            format!(
                "{} {}: link {}, received {}, sent {}, kernel drops {}",
                p.traffic,
                p.name,
                p.link,
                p.received,
                p.sent,
                p.kernel_drops + p.interface_drops
            ),
        );
    }
    line("port way", r.way.clone());
    line("steering", r.steering.clone());
    for why in &r.refused {
        line("not taken", why.clone());
    }
    for (suite, kernel) in &r.data.kernels {
        line("kernel", format!("{suite}: {kernel}"));
    }
    for w in r.data.workers.iter().filter(|_| r.data.workers.len() > 1) {
        let at = w.processor.map_or("not pinned".to_owned(), |p| format!("processor {p}"));
        line("worker", format!("{}: {at}, received {}, sealed {}", w.worker, w.received, w.sealed));
    }
    for s in r.data.stages.iter().filter(|s| s.frames > 0) {
        let frames = s.frames as f64;
        line(
            "stage",
            format!(
                "{:<8} {:>8.0} ns a frame, {:.1} frames a batch",
                s.name,
                s.ns as f64 / frames,
                frames / s.batches as f64
            ),
        );
    }
    if let Some(ms) = r.late_entry_ms {
        line(
            "late entry",
            format!("{ms} ms from the beginning of the join to the first verified group frame"),
        );
    }
    for c in &r.crls {
        line("CRL", crl_text(c));
    }
    if let Some(n) = &r.network {
        network_text(n).into_iter().for_each(|text| line("network", text));
    }
    for (notice, n) in &r.notices {
        line("notice", format!("{notice} {n}"));
    }
    if r.data.advisory_windows {
        line(
            "replay",
            "a suite without integrity is in use: windows advise only, nothing is refused as old".into(),
        );
    }
    if r.discrepancies.is_empty() {
        line("counters", "add up".into());
    }
    for d in &r.discrepancies {
        line("counters", d.clone());
    }
    out.push('\n');
}

/// `001-01 number 7: fresh; 2 revoked; made ..., next ..., taken ...`
fn crl_text(c: &CrlRow) -> String {
    let (Some(number), Some(this), Some(next), Some(until), Some(taken)) =
        (&c.number, c.this_update, c.next_update, c.usable_until, c.taken)
    else {
        return format!("{} {}: {}; nobody of that network is admitted", c.plmn, c.issuer, c.state);
    };
    let what = match c.state.as_str() {
        "grace" => format!("in grace until {}: fetch a new one", utc(until)),
        "stale" => format!("stale since {}: nobody of that network is admitted", utc(until)),
        state => state.to_owned(),
    };
    format!(
        "{} {} number {number}: {what}; {} revoked; made {}, next {}, taken {}",
        c.plmn,
        c.issuer,
        c.revoked,
        utc(this),
        utc(next),
        utc(taken)
    )
}

fn network_text(n: &NetworkStatus) -> Vec<String> {
    let reached = n.reached.map_or("not reached yet".to_owned(), |at| format!("last reached {}", utc(at)));
    let next = n.next.map_or(String::new(), |at| format!(", asked again {}", utc(at)));
    let mut lines = vec![format!("{}: {}; {reached}{next}", n.url, n.state)];
    lines.extend(n.error.iter().map(|e| format!("failed: {e}")));
    lines.extend(n.certificate_until.map(|until| format!("certificate until {}", utc(until))));
    lines.extend(n.certificate_kept.iter().map(|place| format!("certificate kept {place}")));
    if !n.foreign.is_empty() {
        lines.push(format!("roots of {}", n.foreign.join(" ")));
    }
    lines
}

fn drops_text(out: &mut String, drops: &Drops) {
    if drops.counts.is_empty() {
        let _ = writeln!(out, "no drops for {} s", drops.since_s);
        return;
    }
    let rows = drops.counts.iter().map(|(what, n)| {
        let (stage, verdict) = what.split_once(' ').unwrap_or(("", what));
        [stage.to_owned(), verdict.to_owned(), n.to_string()]
    });
    table(out, ["STAGE", "CAUSE", "FRAMES"], rows);
    let _ = writeln!(out, "{} frames came since the start, {} verified", drops.offered, drops.verified);
}

fn table<const N: usize>(out: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    let width = |column: usize| all.iter().map(|r| r[column].chars().count()).max().unwrap_or(0) + 2;
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keys_prove_is_said_by_their_suites() {
        let said = |suites: &[Suite]| {
            let mut out = String::new();
            keys_prove(&mut out, &suites.iter().copied().collect());
            out
        };
        let (proves, warning) = ("A MAC field under a PGK proves", "WARNING: ");
        for good in [&[][..], &[Suite::Aes256Gcm], &[Suite::Eea2Eia2, Suite::Nca5]] {
            assert!(said(good).contains(proves) && !said(good).contains(warning), "{}", said(good));
        }
        for weak in [Suite::Eea0, Suite::Eea1, Suite::Eea2, Suite::Eea3] {
            let text = said(&[weak]);
            assert!(!text.contains(proves) && text.contains(&format!("{warning}{weak}: ")), "{text}");
        }
        let both = said(&[Suite::Aes256Gcm, Suite::Eea0]);
        assert!(both.contains(proves) && both.contains("everybody reads and forges"), "{both}");
    }
}

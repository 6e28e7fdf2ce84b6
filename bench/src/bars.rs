//! What the project asks of its kernels beside their peers, and whether a run shows it.

use std::fmt::Write;

use crate::report::Row;

/// One ratio that was asked for.
struct Bar {
    /// Ours over theirs, at most.
    must: f64,
    /// What would be better still.
    aim: f64,
    /// Theirs: the fastest of the rows whose peer's name begins so.
    of: &'static str,
}

const SIZES: [&str; 7] = ["64", "128", "256", "512", "1024", "1420", "imix"];
const GCM_128: ([f64; 7], [f64; 7]) =
    ([0.55, 0.60, 0.72, 0.87, 0.95, 1.00, 0.75], [0.42, 0.45, 0.55, 0.75, 0.85, 0.88, 0.60]);
const GCM_256: ([f64; 7], [f64; 7]) =
    ([0.60, 0.65, 0.85, 0.98, 1.00, 1.00, 0.82], [0.48, 0.52, 0.70, 0.88, 0.95, 0.97, 0.70]);

/// The bar of a situation, if there is one.
fn bar(row: &Row) -> Option<Bar> {
    let (work, size) = (row.work.as_str(), row.size.as_str());
    let same = |ratio, of| Some(Bar { must: ratio, aim: ratio, of });
    match (work, row.burst) {
        ("aes-128-gcm" | "aes-256-gcm", 64) => {
            let (must, aim) = if work == "aes-128-gcm" { GCM_128 } else { GCM_256 };
            let i = SIZES.iter().position(|s| *s == size)?;
            Some(Bar { must: must[i], aim: aim[i], of: "ipsec-mb direct" })
        }
        ("aes-128-gcm" | "aes-256-gcm", 1) if size == "64" => same(1.1, "ipsec-mb direct"),
        ("eia2", 64) if size == "64" => same(if row.keys == 1 { 0.35 } else { 0.55 }, "ipsec-mb"),
        ("eia2", 64) if size == "1420" => same(0.80, "ipsec-mb"),
        ("eea2-eia2", 64) if size == "64" => same(0.55, "ipsec-mb"),
        ("eea2-eia2", 64) if size == "1420" => same(0.90, "ipsec-mb"),
        // The multi-buffer calls are the direct ones; there is none of EIA1.
        ("eea1" | "eea3" | "eia3", 64) if size == "imix" => same(0.6, "ipsec-mb direct"),
        ("eea1" | "eia1" | "eea3" | "eia3", 64) if size != "imix" => {
            Some(Bar { must: 1.2, aim: 1.0, of: "ipsec-mb" })
        }
        ("read pcap in a file" | "read pcapng in a file", _) if size == "64" => {
            same(1.0 / 1.5, "pcap-parser")
        }
        _ => None,
    }
}

/// Every bar that `rows` say something about, a line each, and how many are met.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| | keys | burst | octets | of | ours / theirs | must | aim | |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let (mut met, mut all) = (0, 0);
    for (i, first) in rows.iter().enumerate() {
        let situation = |r: &Row| (r.work.clone(), r.op, r.keys, r.burst, r.size.clone()) == key(first);
        // Our highest tier comes first in its situation.
        if rows[..i].iter().any(situation) {
            continue;
        }
        let Some(bar) = bar(first) else { continue };
        let others = rows.iter().filter(|r| situation(r) && r.peer.starts_with(bar.of));
        let Some(best) = others.min_by(|a, b| a.ns.total_cmp(&b.ns)) else { continue };
        let ratio = first.ns / best.ns;
        let verdict = match ratio {
            r if r <= bar.aim => "met",
            r if r <= bar.must => "met, not the aim",
            _ => "NOT MET",
        };
        all += 1;
        met += usize::from(ratio <= bar.must);
        let _ = writeln!(
            out,
            "| {} {} | {} | {} | {} | {} | {ratio:.2} | {:.2} | {:.2} | {verdict} |",
            first.work, first.op, first.keys, first.burst, first.size, best.peer, bar.must, bar.aim
        );
    }
    let _ = writeln!(out, "\n{met} of {all} are met.");
    out
}

fn key(r: &Row) -> (String, &'static str, usize, usize, String) {
    (r.work.clone(), r.op, r.keys, r.burst, r.size.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &str, ns: f64) -> Row {
        Row { work: "eia2".into(), op: "seal", keys: 1, burst: 64, size: "64".into(), peer: peer.into(), ns }
    }

    #[test]
    fn the_best_of_the_peer_counts() {
        let rows = [
            row("pc5 avx512", 10.0),
            row("pc5 portable", 1.0),
            row("ipsec-mb job", 40.0),
            row("ipsec-mb burst", 25.0),
        ];
        let t = table(&rows);
        assert!(t.contains("| ipsec-mb burst | 0.40 | 0.35 | 0.35 | NOT MET |"), "{t}");
        assert!(t.ends_with("0 of 1 are met.\n"), "{t}");
        let t = table(&[row("pc5 avx512", 10.0), row("ipsec-mb job", 40.0)]);
        assert!(t.contains("| 0.25 | 0.35 | 0.35 | met |"), "{t}");
    }
}

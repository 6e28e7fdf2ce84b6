//! Tables for people, CSV for programs, SVG for eyes.

use std::fmt::Write;

/// One measured value.
#[derive(Clone, Debug)]
pub struct Row {
    /// Algorithm.
    pub work: String,
    /// `seal` or `open`.
    pub op: &'static str,
    /// How many keys.
    pub keys: usize,
    /// Frames a call.
    pub burst: usize,
    /// Octets, or `imix`.
    pub size: String,
    /// Whose.
    pub peer: String,
    /// Nanoseconds a frame.
    pub ns: f64,
}

/// All rows, one a line, with a heading.
pub fn csv(rows: &[Row]) -> String {
    let mut out = String::from("work,op,keys,burst,size,peer,ns_per_frame\n");
    for r in rows {
        let _ = writeln!(out, "{},{},{},{},{},{},{:.2}", r.work, r.op, r.keys, r.burst, r.size, r.peer, r.ns);
    }
    out
}

/// Values in order of first appearance.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for v in values {
        if !seen.contains(&v) {
            seen.push(v);
        }
    }
    seen
}

fn value(rows: &[Row], peer: &str, size: &str) -> Option<f64> {
    rows.iter().find(|r| r.peer == peer && r.size == size).map(|r| r.ns)
}

/// Markdown table of one situation: a line a peer, a column a size; then our first line over each peer.
pub fn table(rows: &[Row]) -> String {
    let peers = distinct(rows.iter().map(|r| r.peer.as_str()));
    let sizes = distinct(rows.iter().map(|r| r.size.as_str()));
    let mut out =
        format!("| ns a frame | {} |\n| --- |{}\n", sizes.join(" | "), " --- |".repeat(sizes.len()));
    let line = |out: &mut String, name: &str, cell: &dyn Fn(&str) -> String| {
        let cells: Vec<String> = sizes.iter().map(|s| cell(s)).collect();
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    for peer in &peers {
        line(&mut out, peer, &|s| value(rows, peer, s).map_or("-".into(), |v| format!("{v:.1}")));
    }
    let ours = peers.first().copied().unwrap_or_default();
    for peer in peers.iter().filter(|p| !p.starts_with("pc5")) {
        line(&mut out, &format!("ours / {peer}"), &|s| match (value(rows, ours, s), value(rows, peer, s)) {
            (Some(a), Some(b)) => format!("{:.2}", a / b),
            _ => "-".into(),
        });
    }
    out
}

const COLOURS: [&str; 10] = [
    "#c0392b", "#e67e22", "#f1c40f", "#7f8c8d", "#2980b9", "#5dade2", "#85c1e9", "#16a085", "#8e44ad",
    "#2c3e50",
];

/// Bars of one situation: a group a size, a bar a peer, nanoseconds a frame on a logarithmic axis.
pub fn svg(title: &str, rows: &[Row]) -> String {
    let peers = distinct(rows.iter().map(|r| r.peer.as_str()));
    let sizes = distinct(rows.iter().map(|r| r.size.as_str()));
    let (left, top, height, bar, gap) = (60.0, 40.0, 300.0, 10.0, 20.0);
    let group = peers.len() as f64 * bar + gap;
    let width = left + sizes.len() as f64 * group + 190.0;
    let all = rows.iter().map(|r| r.ns).filter(|v| v.is_finite() && *v > 0.0);
    let (low, high) = all.fold((f64::MAX, 1.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = (low.min(high).log10().floor(), high.log10().ceil());
    let y = |v: f64| top + height * (1.0 - (v.max(1e-9).log10() - low) / (high - low).max(1.0));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{left}\" y=\"20\" font-size=\"14\">{title}</text>\n",
        top + height + 40.0
    );
    let mut decade = low;
    while decade <= high {
        for step in [1.0, 2.0, 5.0] {
            let v = 10f64.powf(decade) * step;
            if v <= 10f64.powf(high) {
                let _ = writeln!(
                    out,
                    "<line x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{v}</text>",
                    width - 180.0,
                    y(v),
                    left - 6.0,
                    y(v) + 4.0
                );
            }
        }
        decade += 1.0;
    }
    for (g, size) in sizes.iter().enumerate() {
        let x0 = left + g as f64 * group + gap / 2.0;
        for (p, peer) in peers.iter().enumerate() {
            if let Some(v) = value(rows, peer, size) {
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{:.1}\" fill=\"{}\"><title>{peer}: {v:.1} ns</title></rect>",
                    x0 + p as f64 * bar,
                    y(v),
                    bar - 1.0,
                    top + height - y(v),
                    COLOURS[p % COLOURS.len()]
                );
            }
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>",
            x0 + (group - gap) / 2.0,
            top + height + 16.0
        );
    }
    for (p, peer) in peers.iter().enumerate() {
        let (x, y) = (width - 170.0, top + 16.0 * p as f64);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{peer}</text>",
            COLOURS[p % COLOURS.len()],
            x + 16.0,
            y + 9.0
        );
    }
    let _ =
        writeln!(out, "<text x=\"10\" y=\"{}\">ns a frame, logarithmic</text>\n</svg>", top + height + 34.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        [("pc5 avx512", 5.0), ("other", 20.0)]
            .into_iter()
            .map(|(peer, ns)| Row {
                work: "w".into(),
                op: "seal",
                keys: 1,
                burst: 64,
                size: "64".into(),
                peer: peer.into(),
                ns,
            })
            .collect()
    }

    #[test]
    fn table_has_ratio() {
        let t = table(&rows());
        assert!(t.contains("| ours / other | 0.25 |"), "{t}");
    }

    #[test]
    fn csv_and_svg_name_every_peer() {
        assert_eq!(csv(&rows()).lines().count(), 3);
        let s = svg("t", &rows());
        assert!(s.contains("other: 20.0 ns") && s.ends_with("</svg>\n"));
    }
}

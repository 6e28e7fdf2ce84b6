//! Results as a table of names and values, or as JSON.

use std::io::Write;

use anyhow::Context;
use serde::Serialize;

use crate::cmd::replay::Shown;
use crate::exit::Exit;

/// A result that people and programs read.
pub(crate) trait Report: Serialize {
    /// Name and value of each row of the table.
    fn rows(&self) -> Vec<(&'static str, String)>;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u8,
    #[serde(flatten)]
    result: &'a T,
}

/// Prints a text on standard output, on lines of its own.
///
/// # Errors
/// It cannot be had there: what nobody can read is not done.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{end}").and_then(|()| out.flush()).context("standard output")
}

/// Prints a result.
pub(crate) fn show<T: Report>(output: Shown, result: &T) -> anyhow::Result<Exit> {
    match output {
        Shown::Json => print(&serde_json::to_string_pretty(&Versioned { version: 1, result })?)?,
        Shown::Table => {
            let rows = result.rows();
            let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
            let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<width$}{value}")).collect();
            print(&lines.join("\n"))?;
        }
    }
    Ok(Exit::Ok)
}

//! Results as a table of names and values, or as JSON.

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

/// Prints a result.
pub(crate) fn show<T: Report>(output: Shown, result: &T) -> anyhow::Result<Exit> {
    match output {
        Shown::Json => println!("{}", serde_json::to_string_pretty(&Versioned { version: 1, result })?),
        Shown::Table => {
            let rows = result.rows();
            let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
            rows.iter().for_each(|(name, value)| println!("{name:<width$}{value}"));
        }
    }
    Ok(Exit::Ok)
}

//! One figure: what was measured, on how many processors, in what mode, and what it is to be compared with.

use core::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One figure of a benchmark, one line of a `--json` file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The operation, and for a latency which value of it, as in `yield` or `sleep_1ms.p50`.
    pub name: String,
    /// GOMAXPROCS, or the CPUs that took part.
    pub procs: u32,
    /// How it was measured, as in `icount` or `smp 2`.
    pub mode: String,
    /// The figure: the median of the repetitions.
    pub value: f64,
    /// What it counts, as in `instructions/op` or `ns/op`.
    pub unit: String,
    /// The smallest of the repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest of the repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The peer's figure for the same operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<f64>,
    /// What the bare machine needs for it, measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<f64>,
    /// Our figure as a part of the peer's, in the best and in the worst round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratios: Option<(f64, f64)>,
}

/// What tells a figure from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key<'a> {
    /// The operation.
    pub name: &'a str,
    /// GOMAXPROCS, or the CPUs that took part.
    pub procs: u32,
    /// How it was measured.
    pub mode: &'a str,
}

impl Row {
    /// What tells it from all others.
    pub fn key(&self) -> Key<'_> {
        Key { name: &self.name, procs: self.procs, mode: &self.mode }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.name, self.procs, self.mode)
    }
}

/// Reads a `--json` file.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read, [`Error::Usage`] with the number of a line that is no row.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    parse(&text).map_err(|reason| Error::Usage(format!("{}: {reason}", path.display())))
}

/// Reads rows, one JSON object a line.
fn parse(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1)))
        .collect()
}

/// Writes rows, one JSON object a line.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), Error> {
    std::fs::write(path, text(rows)).map_err(Error::io("write", path))
}

fn text(rows: &[Row]) -> String {
    let line = |row| serde_json::to_string(row).expect("a row has only text keys and numbers");
    rows.iter().map(|row| line(row) + "\n").collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A time that was measured once.
    pub(crate) fn row(name: &str, procs: u32, value: f64) -> Row {
        let (name, unit, mode) = (name.to_owned(), "ns/op".to_owned(), format!("smp {procs}"));
        Row { name, procs, mode, value, unit, min: None, max: None, peer: None, raw: None, ratios: None }
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let row = Row {
            name: "yield".to_owned(),
            procs: 1,
            mode: "icount".to_owned(),
            value: 70.25,
            unit: "instructions/op".to_owned(),
            min: None,
            max: Some(71.0),
            peer: Some(690.5),
            raw: None,
            ratios: Some((0.1, 0.125)),
        };
        let written = text(&[row.clone(), row.clone()]);
        assert_eq!(written.lines().count(), 2);
        assert!(!written.contains("null"), "{written}");
        assert_eq!(parse(&written).expect("good lines"), [row.clone(), row]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let reason = parse("\n{\"name\":\"yield\"}\n").expect_err("a row without a value");
        assert!(reason.starts_with("line 2: "), "{reason}");
    }
}

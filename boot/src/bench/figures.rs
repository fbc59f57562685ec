//! Reads what the benchmark image says: one line for each repetition, `figure NAME PROCS UNIT AMOUNT COUNT`.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use std::io::{self, Write};

use crate::bench::args::Mode;
use crate::bench::row::Row;
use crate::process::Watcher;

/// How each line of a figure begins.
const MARK: &str = "figure ";
/// What the image says when nothing is left to be measured.
const END: &str = "figures end";
/// What it says before the first.
const BEGIN: &str = "figures begin";
/// Figures of latencies that tell the worst of all calls: their worst repetition counts, not the median.
const WORST: &str = ".max";

/// One repetition.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    procs: u32,
    unit: String,
    value: f64,
}

impl Sample {
    fn of(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_prefix(MARK)?.split(' ').collect();
        let [name, procs, unit, amount, count] = words[..] else { return None };
        let (amount, count) = (amount.parse::<f64>().ok()?, count.parse::<f64>().ok()?);
        let value = thousandths(amount / count);
        let sample = Self { name: name.to_owned(), procs: procs.parse().ok()?, unit: unit.to_owned(), value };
        value.is_finite().then_some(sample)
    }
}

/// Finer than that nothing is meant.
fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// One boot of the image, as heard up to now. What is no figure goes to `out`.
#[derive(Debug)]
pub struct Figures<W> {
    line: Vec<u8>,
    samples: Vec<Sample>,
    out: W,
    /// Whether the image has said that it is at its end.
    pub ended: bool,
}

impl<W: Write> Figures<W> {
    /// Nothing was heard yet.
    pub const fn new(out: W) -> Self {
        Self { line: Vec::new(), samples: Vec::new(), out, ended: false }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        match line.as_str() {
            BEGIN => {}
            END => self.ended = true,
            line => match Sample::of(line) {
                Some(sample) => self.samples.push(sample),
                None => writeln!(self.out, "{line}")?,
            },
        }
        Ok(())
    }

    /// The figures, in the order in which they came.
    pub fn rows(&self, mode: Mode) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for sample in &self.samples {
            if rows.iter().any(|row| row.name == sample.name && row.procs == sample.procs) {
                continue;
            }
            let same = |other: &&Sample| (&other.name, other.procs) == (&sample.name, sample.procs);
            let mut values: Vec<f64> = self.samples.iter().filter(same).map(|sample| sample.value).collect();
            values.sort_by(f64::total_cmp);
            let (min, max) = (values[0], values[values.len() - 1]);
            let value = if sample.name.ends_with(WORST) { max } else { values[values.len() / 2] };
            rows.push(Row {
                name: sample.name.clone(),
                procs: sample.procs,
                mode: mode.to_string(),
                value,
                unit: sample.unit.clone(),
                min: Some(min),
                max: Some(max),
                peer: None,
                raw: None,
                ratios: None,
            });
        }
        rows
    }
}

impl<W: Write> Watcher for Figures<W> {
    fn serial(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line()?,
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "figures begin\r\nfigure yield 1 instructions/op 700 10\r\nwarning: odd\r\n\
                        figure yield 1 instructions/op 900 10\r\nfigure yield 1 instructions/op 600 10\r\n\
                        figure sleep_1ms.max 1 ns 5 1\r\nfigure sleep_1ms.max 1 ns 9 1\r\nfigures end\r\n";

    fn heard(text: &str, size: usize) -> (Figures<Vec<u8>>, Vec<Row>) {
        let mut figures = Figures::new(Vec::new());
        text.as_bytes().chunks(size).for_each(|part| figures.serial(part).expect("memory takes all"));
        let rows = figures.rows(Mode::Icount);
        (figures, rows)
    }

    #[test]
    fn repetitions_become_one_row_with_their_median() {
        for size in [1, 7, 1_000] {
            let (figures, rows) = heard(TEXT, size);
            let [of_yield, of_sleep] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!(of_yield.key().to_string(), "yield at 1 (icount)");
            assert_eq!((of_yield.value, of_yield.min, of_yield.max), (70.0, Some(60.0), Some(90.0)));
            assert_eq!((of_sleep.value, of_sleep.unit.as_str()), (9.0, "ns"), "the worst counts");
            assert!(figures.ended);
        }
    }

    #[test]
    fn what_is_no_figure_is_passed_on() {
        let text = "figures begin\nfigure of speech\nfigure yield 1 ns/op 5 0\npanic: no\n";
        let (figures, rows) = heard(text, 5);
        let out = String::from_utf8_lossy(&figures.out);
        assert_eq!(out, "figure of speech\nfigure yield 1 ns/op 5 0\npanic: no\n");
        assert!(rows.is_empty() && !figures.ended);
    }
}

//! The table: a line a figure, with what it is to be compared with.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use crate::bench::row::Row;

/// What stands over the columns.
const HEAD: [&str; 9] = ["operation", "procs", "median", "min", "max", "unit", "raw", "x raw", "x peer"];
/// Columns of text, which begin at the left.
const LEFT: [usize; 2] = [0, 5];

/// The table of some rows.
pub fn table(rows: &[Row]) -> String {
    let lines: Vec<[String; HEAD.len()]> =
        [HEAD.map(str::to_owned)].into_iter().chain(rows.iter().map(cells)).collect();
    let widths: [usize; HEAD.len()] =
        core::array::from_fn(|at| lines.iter().map(|cells| cells[at].len()).max().unwrap_or_default());
    let line = |cells: &[String; HEAD.len()]| {
        let padded = cells.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            if LEFT.contains(&at) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    let times = |other: Option<f64>| {
        let other = other.filter(|other| *other > 0.0);
        other.map(|other| format!("{:.2}", row.value / other)).unwrap_or_default()
    };
    [
        row.name.clone(),
        row.procs.to_string(),
        number(row.value),
        optional(row.min),
        optional(row.max),
        row.unit.clone(),
        optional(row.raw),
        times(row.raw),
        times(row.peer),
    ]
}

/// A figure as people read it.
pub fn number(value: f64) -> String {
    if value.abs() >= 10_000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    #[test]
    fn columns_stand_below_each_other() {
        let mut rows = [row("yield", 1, 70.25), row("a_long_name", 255, 123_456.7)];
        (rows[0].raw, rows[0].peer) = (Some(17.5), Some(690.5));
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "operation    procs  median  min  max  unit    raw  x raw  x peer");
        assert_eq!(lines[1], "yield            1    70.2            ns/op  17.5   4.01    0.10");
        assert_eq!(lines[2], "a_long_name    255  123457            ns/op");
    }
}

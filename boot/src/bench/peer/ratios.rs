//! The ratios to the peer, as text.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use core::fmt::Write as _;

use crate::bench::row::Row;
use crate::bench::table::number;

/// A line for each figure that the peer has too, the best first; nothing if it has none.
pub fn table(rows: &[Row]) -> String {
    let mut both: Vec<(&Row, f64, f64)> =
        rows.iter().filter_map(|row| Some((row, row.peer?, ratio(row)?))).collect();
    let mut text = String::new();
    if both.is_empty() {
        return text;
    }
    both.sort_by(|(_, _, one), (_, _, other)| one.total_cmp(other));
    let names: Vec<String> = both.iter().map(|(row, _, _)| row.key().to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let head = ("operation", "gzero", "peer", "ratio", "of rounds");
    writeln!(text, "\n{:<width$}  {:>10}  {:>10}  {:>7}  {}", head.0, head.1, head.2, head.3, head.4)
        .expect("memory takes all");
    for (name, (row, peer, ratio)) in names.iter().zip(&both) {
        let (ours, peer, spread) = (number(row.value), number(*peer), spread(row));
        writeln!(text, "{name:<width$}  {ours:>10}  {peer:>10}  {ratio:>7.3}  {spread}  {}", row.unit)
            .expect("memory takes all");
    }
    let slower = both.iter().filter(|(_, _, ratio)| *ratio >= 1.0).count();
    writeln!(text, "{} of {} figures are below the peer's", both.len() - slower, both.len())
        .expect("memory takes all");
    text
}

/// Our figure as a part of the peer's: less than 1 is better.
pub fn ratio(row: &Row) -> Option<f64> {
    let peer = row.peer.filter(|peer| *peer > 0.0)?;
    Some(row.value / peer)
}

/// The lowest and the highest ratio of the rounds, as in `0.081..0.095`.
pub fn spread(row: &Row) -> String {
    row.ratios.map(|(low, high)| format!("{low:.3}..{high:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    #[test]
    fn ratios_stand_in_order_with_their_spread() {
        let mut rows = [row("slow", 2, 200.0), row("fast", 2, 50.0), row("alone", 2, 1.0)];
        (rows[0].peer, rows[0].ratios) = (Some(100.0), Some((1.9, 2.125)));
        (rows[1].peer, rows[1].ratios) = (Some(100.0), Some((0.5, 0.5)));
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].starts_with("fast at 2 (smp 2)") && lines[0].contains("  0.500  0.500..0.500"),
            "{text}"
        );
        assert!(lines[1].contains("  2.000  1.900..2.125  ns/op"), "{text}");
        assert_eq!(lines[2], "1 of 2 figures are below the peer's");
    }

    #[test]
    fn without_a_peer_there_is_no_table() {
        assert_eq!(table(&[row("yield", 1, 1.0)]), "");
    }
}

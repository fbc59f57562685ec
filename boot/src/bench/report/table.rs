//! Tables in Markdown.

use core::fmt::Write as _;

use crate::bench::peer::ratios::{ratio, spread};
use crate::bench::row::Row;
use crate::bench::table::number;

/// A line for each figure.
pub fn markdown(rows: &[&Row]) -> String {
    let mut text = "| operation | procs | gzero | Go | ratio | of rounds | bare machine | unit |\n\
                    |---|--:|--:|--:|--:|--:|--:|---|\n"
        .to_owned();
    for row in rows {
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        let ratio = ratio(row).map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {ratio} | {} | {} | {} |",
            row.name,
            row.procs,
            number(row.value),
            optional(row.peer),
            spread(row),
            optional(row.raw),
            row.unit
        )
        .expect("memory takes all");
    }
    text
}

/// The figures that are not below the peer's, the worst first.
pub fn losses(rows: &[&Row]) -> String {
    let ratios = rows.iter().filter_map(|row| Some((ratio(row)?, *row)));
    let mut lost: Vec<(f64, &Row)> = ratios.filter(|(ratio, _)| *ratio >= 1.0).collect();
    lost.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    if lost.is_empty() {
        return "Nowhere in these figures.".to_owned();
    }
    markdown(&lost.into_iter().map(|(_, row)| row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    fn against(name: &str, value: f64, peer: f64) -> Row {
        Row { peer: Some(peer), ratios: Some((0.25, 0.75)), ..row(name, 2, value) }
    }

    #[test]
    fn a_line_holds_what_is_known() {
        let (alone, both) = (row("raw_switch", 2, 15.0), against("yield", 50.0, 100.0));
        let text = markdown(&[&alone, &both]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines[0], "| `raw_switch` | 2 | 15.0 |  |  |  |  | ns/op |");
        assert_eq!(lines[1], "| `yield` | 2 | 50.0 | 100.0 | 0.500 | 0.250..0.750 |  | ns/op |");
    }

    #[test]
    fn losses_are_told_and_the_worst_first() {
        let rows = [against("yield", 1.0, 2.0), against("select_2", 2.0, 2.0), against("skynet", 4.0, 2.0)];
        let text = losses(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("skynet") && lines[1].contains("select_2"), "{text}");
        assert_eq!(losses(&[&rows[0]]), "Nowhere in these figures.");
    }
}

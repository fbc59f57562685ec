//! Figures against older ones.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use core::fmt::Write as _;

use crate::bench::row::Row;
use crate::bench::table::number;

/// More than this, in parts of what it was, is too much.
const TOLERATED: f64 = 0.05;
/// The mode whose figures are the same in every run, so that more is never by chance.
const EXACT: &str = "icount";
/// What counts there; other figures of that mode are numbers of bytes, or times that nothing takes.
const COUNTED: &str = "instructions/op";

/// What two sets of figures say about each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Comparison {
    /// A line a figure.
    pub text: String,
    /// Operations that cost too much more, or were not measured any more, and why.
    pub worse: Vec<String>,
}

/// Compares new figures with older ones. `whole`: all was measured, so that an older figure that is missing is a fault.
pub fn compare(old: &[Row], new: &[Row], whole: Extent) -> Comparison {
    let mut comparison = Comparison { text: String::new(), worse: Vec::new() };
    let width = new.iter().map(|row| row.key().to_string().len()).max().unwrap_or_default();
    for row in new {
        let key = row.key().to_string();
        let before = old.iter().find(|before| before.key() == row.key() && before.unit == row.unit);
        let line = match before {
            None => "new".to_owned(),
            Some(before) => {
                let change = row.value / before.value - 1.0;
                if is_exact(row) && row.value > before.value * (1.0 + TOLERATED) {
                    let (was, is) = (number(before.value), number(row.value));
                    comparison.worse.push(format!("{key}: {was} has become {is} {}", row.unit));
                }
                format!(
                    "{:>10} -> {:>10}  {:>+7.2} %",
                    number(before.value),
                    number(row.value),
                    100.0 * change
                )
            }
        };
        writeln!(comparison.text, "{key:<width$}  {line}").expect("memory takes all");
    }
    if whole == Extent::Whole {
        let gone =
            old.iter().filter(|before| is_exact(before) && new.iter().all(|row| row.key() != before.key()));
        comparison.worse.extend(gone.map(|row| format!("{}: is not measured any more", row.key())));
    }
    comparison
}

/// How much of all figures there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// Some, as a user has chosen them.
    Part,
}

fn is_exact(row: &Row) -> bool {
    row.mode == EXACT && row.unit == COUNTED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    fn icount(name: &str, value: f64) -> Row {
        Row { mode: EXACT.to_owned(), unit: COUNTED.to_owned(), ..row(name, 1, value) }
    }

    #[test]
    fn more_than_five_percent_is_worse() {
        let old = [icount("yield", 100.0), icount("skynet", 100.0), icount("select_2", 100.0)];
        let new = [icount("yield", 105.0), icount("skynet", 105.1), icount("select_2", 50.0)];
        let comparison = compare(&old, &new, Extent::Whole);
        assert_eq!(comparison.worse, ["skynet at 1 (icount): 100.0 has become 105.1 instructions/op"]);
        let change = comparison.text.lines().map(|line| line.trim_end_matches(" %").rsplit(' ').next());
        assert_eq!(change.collect::<Vec<_>>(), [Some("+5.00"), Some("+5.10"), Some("-50.00")]);
    }

    #[test]
    fn times_are_shown_and_not_judged() {
        let comparison = compare(&[row("yield", 2, 100.0)], &[row("yield", 2, 900.0)], Extent::Whole);
        assert_eq!(comparison.worse, [""; 0]);
        assert!(comparison.text.contains("+800.00 %"), "{}", comparison.text);
    }

    #[test]
    fn a_figure_that_is_gone_is_a_fault_unless_some_were_chosen() {
        let (old, new) = ([icount("yield", 100.0)], [icount("skynet", 1.0)]);
        assert_eq!(
            compare(&old, &new, Extent::Whole).worse,
            ["yield at 1 (icount): is not measured any more"]
        );
        let part = compare(&old, &new, Extent::Part);
        assert_eq!((part.worse.len(), part.text.as_str()), (0, "skynet at 1 (icount)  new\n"));
    }
}

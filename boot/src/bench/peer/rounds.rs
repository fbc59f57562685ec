//! Both sides in turns, and one row of what the rounds say.
//!
//! An emulator's times depend on what else its host does. Who is measured side by side, and several times, meets the same
//! weather; the ratios of the rounds say how much of it is left.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use crate::bench::row::Row;
use crate::bench::run::Measured;
use crate::error::Error;

/// Latencies of which the worst counts, in whichever round it was.
const WORST: &str = ".max";

/// Measures ours, theirs, ours, theirs ... and joins the rows. Stops at the first machine that does not come to its end.
///
/// # Errors
///
/// Whatever keeps a machine from starting, and [`Error::Peer`] if the peer's does not come to its end.
pub fn in_turns(
    rounds: u32,
    mut ours: impl FnMut() -> Result<Measured, Error>,
    mut theirs: impl FnMut() -> Result<Measured, Error>,
) -> Result<Measured, Error> {
    let mut heard = Vec::new();
    for round in 1.. {
        eprintln!("boot: round {round} of {rounds}: gzero");
        let mut our = ours()?;
        if our.complete {
            eprintln!("boot: round {round} of {rounds}: the peer");
            let their = theirs()?;
            if !their.complete {
                let how = their.outcome.report().join("; ");
                return Err(Error::Peer(format!("it did not come to its end: {how}")));
            }
            heard.push(Round { ours: core::mem::take(&mut our.rows), theirs: their.rows });
        }
        if !our.complete || round == rounds {
            our.rows = join(&heard);
            return Ok(our);
        }
    }
    unreachable!("the last round returns")
}

/// What both sides measured in one round.
#[derive(Debug)]
struct Round {
    ours: Vec<Row>,
    theirs: Vec<Row>,
}

impl Round {
    fn ours(&self, row: &Row) -> Option<&Row> {
        self.ours.iter().find(|other| other.key() == row.key())
    }

    /// The peer's row, if it counts in the same unit.
    fn theirs(&self, row: &Row) -> Option<&Row> {
        self.theirs.iter().find(|other| other.key() == row.key() && other.unit == row.unit)
    }
}

fn join(rounds: &[Round]) -> Vec<Row> {
    let Some(first) = rounds.first() else { return Vec::new() };
    first.ours.iter().map(|row| joined(row, rounds)).collect()
}

/// One row of a figure's rows in all rounds.
fn joined(row: &Row, rounds: &[Round]) -> Row {
    let ours: Vec<&Row> = rounds.iter().filter_map(|round| round.ours(row)).collect();
    let theirs: Vec<&Row> = rounds.iter().filter_map(|round| round.theirs(row)).collect();
    let both = |round: &Round| Some((round.ours(row)?.value, round.theirs(row)?.value));
    let ratios: Vec<f64> = rounds
        .iter()
        .filter_map(both)
        .map(|(our, their)| our / their)
        .filter(|ratio| ratio.is_finite())
        .collect();
    let middle = |values: Vec<f64>| {
        if row.name.ends_with(WORST) { values.into_iter().reduce(f64::max) } else { median(values) }
    };
    Row {
        value: middle(ours.iter().map(|row| row.value).collect()).unwrap_or(row.value),
        min: ours.iter().filter_map(|row| row.min).reduce(f64::min),
        max: ours.iter().filter_map(|row| row.max).reduce(f64::max),
        raw: median(ours.iter().filter_map(|row| row.raw).collect()),
        peer: middle(theirs.iter().map(|row| row.value).collect()),
        ratios: ratios.iter().copied().reduce(f64::min).zip(ratios.iter().copied().reduce(f64::max)),
        ..row.clone()
    }
}

/// The one in the middle, or the mean of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(lower.midpoint(upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;
    use crate::process::{Life, Status};
    use crate::verdict::{End, Outcome, Stage};

    fn measured(rows: Vec<Row>, end: End) -> Measured {
        let complete = end == End::Reset;
        let life = Life {
            status: Status::TimedOut,
            elapsed: core::time::Duration::ZERO,
            usage: None,
            errors: String::new(),
        };
        Measured { rows, outcome: Outcome { end, stage: Stage::Program, last_line: None, life }, complete }
    }

    /// Two lists of figures, of one side after the other, and what comes of them.
    fn turns(name: &str, ours: &[f64], theirs: &[f64]) -> Row {
        let rounds = u32::try_from(ours.len()).expect("few");
        let side = |values: Vec<f64>| {
            let mut rest = values.into_iter();
            let name = name.to_owned();
            move || {
                let value = rest.next().expect("as many boots as rounds");
                Ok(measured(vec![row(&name, 2, value)], End::Reset))
            }
        };
        let all = in_turns(rounds, side(ours.to_vec()), side(theirs.to_vec())).expect("both boot");
        assert_eq!(all.rows.len(), 1);
        all.rows[0].clone()
    }

    #[test]
    fn a_ratio_is_of_one_round_and_the_figures_are_medians() {
        let row = turns("yield", &[10.0, 30.0, 20.0], &[100.0, 100.0, 400.0]);
        assert_eq!((row.value, row.peer), (20.0, Some(100.0)));
        assert_eq!(row.ratios, Some((0.05, 0.3)));
        let row = turns("yield", &[10.0, 20.0], &[100.0, 100.0]);
        assert_eq!((row.value, row.peer), (15.0, Some(100.0)));
    }

    #[test]
    fn of_worst_latencies_the_worst_counts() {
        let row = turns("sleep_1ms.max", &[5.0, 9.0, 1.0], &[7.0, 2.0, 70.0]);
        assert_eq!((row.value, row.peer), (9.0, Some(70.0)));
    }

    #[test]
    fn a_figure_that_the_peer_lacks_or_counts_otherwise_has_no_ratio() {
        let ours = || Ok(measured(vec![row("raw_switch", 2, 1.0), row("parked_memory", 2, 1.0)], End::Reset));
        let theirs = || {
            let mut other = row("parked_memory", 2, 1.0);
            other.unit = "bytes/goroutine".to_owned();
            Ok(measured(vec![other], End::Reset))
        };
        let all = in_turns(1, ours, theirs).expect("both boot");
        assert_eq!(all.rows.len(), 2);
        assert!(all.rows.iter().all(|row| row.peer.is_none() && row.ratios.is_none()), "{:?}", all.rows);
    }

    #[test]
    fn whoever_does_not_end_well_ends_the_rounds() {
        let well = || Ok(measured(vec![row("yield", 2, 1.0)], End::Reset));
        let badly = || Ok(measured(Vec::new(), End::Guest(3)));
        let mut boots = 0;
        let counted = || {
            boots += 1;
            badly()
        };
        let all = in_turns(5, counted, || panic!("the peer is not booted")).expect("a verdict");
        assert_eq!((all.complete, all.outcome.end, boots), (false, End::Guest(3), 1));
        let error = in_turns(5, well, badly).expect_err("the peer threw").to_string();
        assert!(error.contains("exit 3"), "{error}");
    }
}

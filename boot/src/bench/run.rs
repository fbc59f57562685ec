//! One boot of the benchmark image.

use std::io::stdout;

use crate::bench::args::BenchOptions;
use crate::bench::figures::Figures;
use crate::bench::limits;
use crate::bench::row::Row;
use crate::elf::Program;
use crate::error::Error;
use crate::session;
use crate::verdict::Outcome;

/// What came of one boot.
#[derive(Debug)]
pub struct Measured {
    /// The figures, with the raw limits beside them.
    pub rows: Vec<Row>,
    /// How the machine ended.
    pub outcome: Outcome,
    /// Whether all that was asked for has been measured.
    pub complete: bool,
}

/// Boots the image once and collects its figures.
///
/// # Errors
///
/// Whatever keeps the machine from starting.
pub fn measure(options: &BenchOptions, program: &Program) -> Result<Measured, Error> {
    let machine = options.machine()?;
    let mut figures = Figures::new(stdout());
    let outcome = session::boot(&machine, program, "", Some(options.limit()), &mut figures)?;
    let mut rows = figures.rows(options.mode);
    limits::put_beside(&mut rows);
    let complete = figures.ended && outcome.end.code() == 0;
    Ok(Measured { rows, outcome, complete })
}

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

/// What came of the boots of one run.
#[derive(Debug)]
pub struct Measured {
    /// The figures, with the raw limits beside them.
    pub rows: Vec<Row>,
    /// How the last machine ended.
    pub outcome: Outcome,
    /// Whether all that was asked for has been measured.
    pub complete: bool,
}

/// Boots the image, once for each part, and collects the figures. The first machine that ends badly is the last.
///
/// # Errors
///
/// Whatever keeps a machine from starting.
pub fn measure(options: &BenchOptions, program: &Program) -> Result<Measured, Error> {
    let mut figures = Figures::new(stdout());
    let mut last = None;
    for part in options.parts() {
        let machine = options.machine(part)?;
        figures.ended = false;
        let outcome = session::boot(&machine, program, "", Some(options.limit()), &mut figures)?;
        let good = figures.ended && outcome.end.code() == 0;
        last = Some((outcome, good));
        if !good {
            break;
        }
    }
    let (outcome, complete) = last.expect("each name is of some part");
    let mut rows = figures.rows(options.mode);
    limits::put_beside(&mut rows);
    Ok(Measured { rows, outcome, complete })
}

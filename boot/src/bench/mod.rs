//! The benchmarks: boots the image of figures, reads its lines and shows, keeps and compares them.
//!
//! [`args`] → [`run`], which boots the image and reads [`figures`] → [`row`]s, with their [`limits`] → [`table`] and
//! [`mod@compare`].

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};

pub mod args;
pub mod compare;
pub mod figures;
pub mod host;
pub mod limits;
pub mod peer;
pub mod report;
pub mod row;
pub mod run;
pub mod table;

use args::BenchOptions;
use compare::{Extent, compare};
use host::Load;

use crate::elf::Program;
use crate::error::Error;

/// The exit code when an operation costs too much more than it did.
const WORSE: u8 = 1;

/// Runs the benchmarks by a command line, the program's own name first, and gives the exit code.
///
/// # Errors
///
/// Whatever keeps the machine from starting; a file that cannot be read or written.
pub fn main(line: Vec<OsString>) -> Result<u8, Error> {
    let options = BenchOptions::parse_line(line)?;
    if let Some(page) = &options.report.report {
        return report::write(page, &options).map(|()| 0);
    }
    let program = Program::read(&options.elf)?;
    // Read first: a file that is not there is said before minutes have gone by.
    let old = options.compare.as_deref().map(row::read).transpose()?;
    let load = Load::begin();
    let measured = peer::measure(&options, &program)?;
    say(&mut stdout(), &table::table(&measured.rows));
    say(&mut stdout(), &peer::ratios::table(&measured.rows));
    say(&mut stdout(), &format!("{}; {}\n", options.mode, load.end()));
    for line in measured.outcome.report() {
        say(&mut stderr(), &format!("boot: {line}\n"));
    }
    if !measured.complete {
        say(&mut stderr(), "boot: not all was measured\n");
        return Ok(measured.outcome.end.code().max(WORSE));
    }
    if let Some(file) = &options.json {
        row::write(file, &measured.rows)?;
    }
    if let Some(folder) = &options.report.plot {
        report::plots(folder, &measured.rows)?;
    }
    let Some(old) = old else { return Ok(0) };
    let extent = if options.only.is_empty() { Extent::Whole } else { Extent::Part };
    let comparison = compare(&old, &measured.rows, extent);
    say(&mut stdout(), &format!("\n{}", comparison.text));
    for line in &comparison.worse {
        say(&mut stderr(), &format!("boot: {line}\n"));
    }
    Ok(if comparison.worse.is_empty() { 0 } else { WORSE })
}

/// Says something to whoever listens.
fn say(out: &mut dyn Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

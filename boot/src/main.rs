//! Boots a bare-metal program in QEMU and ends with its exit code; Cargo's runner for `cargo run`, `cargo test`
//! and `cargo bench`.
#![expect(clippy::large_stack_frames, reason = "a host's stack has megabytes")]

use core::fmt::Display;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use boot::args::Options;
use boot::bench::{self, args::BenchOptions};
use boot::cases;
use boot::elf::Program;
use boot::error::Error;
use boot::input::STDIN;
use boot::process::Watcher;
use boot::verdict::code;
use boot::{harness, session, signals};

fn main() -> ExitCode {
    signals::catch();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(error);
            ExitCode::from(code::NOT_RUN)
        }
    }
}

fn run() -> Result<u8, Error> {
    let line: Vec<OsString> = std::env::args_os().collect();
    if BenchOptions::are_asked_for(&line) {
        return bench::main(line);
    }
    let mut options = Options::parse_line(line)?;
    let program = Program::read(&options.elf)?;
    if let Some(file) = &options.image_only {
        session::write_image(&options, &program, file)?;
        return Ok(0);
    }
    let cases = cases::read(&program)?;
    if !cases.is_empty() {
        return harness::run(&options, &program, cases, harness::PATIENCE, &mut io::stdout());
    }
    if let Some(word) = options.tests.given() {
        return Err(Error::Usage(format!(
            "`{word}` chooses tests, but {} holds none; boot arguments go into --args \"{word}\"",
            options.elf.display()
        )));
    }
    if options.input.is_none() && io::stdin().is_terminal() {
        options.input = Some(STDIN.into());
    }
    let outcome = session::boot(&options, &program, "", options.run_limit(), &mut Terminal)?;
    for line in outcome.report() {
        tell(line);
    }
    Ok(outcome.end.code())
}

/// Says something to whoever listens; the exit code says it too.
fn tell(line: impl Display) {
    drop(writeln!(io::stderr(), "boot: {line}"));
}

/// Passes the guest's output on, byte by byte.
struct Terminal;

impl Watcher for Terminal {
    fn serial(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout();
        out.write_all(bytes)?;
        out.flush()
    }
}

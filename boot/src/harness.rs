//! Runs a test image: as many cases in one boot as can be, a boot of its own for each that has to die.

use core::time::Duration;
use std::io::{self, Write};
use std::time::Instant;

use crate::args::Options;
use crate::cases::{self, Case, Expectation};
use crate::elf::Program;
use crate::error::Error;
use crate::judge::{self, Verdict};
use crate::process::Watcher;
use crate::protocol::Transcript;
use crate::report::Report;
use crate::session;
use crate::verdict::{End, Outcome, code};

/// How long a case that has to hang must go on without an end.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the cases that the options choose and prints as libtest does; the result is the exit code.
///
/// # Errors
///
/// Whatever keeps the machine from starting, or `out` from taking text.
pub fn run(
    options: &Options,
    program: &Program,
    declared: Vec<Case>,
    patience: Duration,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let all = declared.len();
    let chosen = cases::select(declared, &options.tests);
    if options.tests.list {
        return list(&chosen, out).map(|()| 0).map_err(lost);
    }
    let start = Instant::now();
    let filtered_out = all - chosen.len();
    let report = Report::begin(out, chosen.len()).map_err(lost)?;
    let mut harness = Harness { options, program, patience, report };
    let (together, apart): (Vec<Case>, Vec<Case>) =
        chosen.into_iter().partition(|case| case.expectation == Expectation::Pass);
    if harness.together(together)? == Going::Interrupted || harness.apart(&apart)? == Going::Interrupted {
        return Ok(code::INTERRUPTED);
    }
    let ok = harness.report.end(filtered_out, start.elapsed()).map_err(lost)?;
    Ok(if ok { 0 } else { code::TEST_FAILED })
}

fn list(cases: &[Case], out: &mut dyn Write) -> io::Result<()> {
    for case in cases {
        writeln!(out, "{}: test", case.name)?;
    }
    writeln!(out, "\n{} tests, 0 benchmarks", cases.len())
}

fn lost(error: io::Error) -> Error {
    Error::io("write to", "standard output")(error)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    On,
    Interrupted,
}

struct Harness<'a, W> {
    options: &'a Options,
    program: &'a Program,
    patience: Duration,
    report: Report<W>,
}

impl<W: Write> Harness<'_, W> {
    /// Each boot decides at least one case, so this comes to an end.
    fn together(&mut self, mut cases: Vec<Case>) -> Result<Going, Error> {
        while !cases.is_empty() {
            let mut follower = Follower::new(self, &cases, None);
            let outcome = follower.boot()?;
            let Follower { heard, shown, .. } = follower;
            if outcome.end == End::Interrupted {
                return Ok(Going::Interrupted);
            }
            let batch = judge::batch(&cases, &heard, &outcome);
            for verdict in batch.verdicts.into_iter().skip(shown) {
                self.report.add(verdict).map_err(lost)?;
            }
            cases = batch.left;
        }
        Ok(Going::On)
    }

    fn apart(&mut self, cases: &[Case]) -> Result<Going, Error> {
        for case in cases {
            let patience = (case.expectation == Expectation::Hang).then_some(self.patience);
            let mut follower = Follower::new(self, core::slice::from_ref(case), patience);
            let outcome = follower.boot()?;
            let heard = follower.heard;
            if outcome.end == End::Interrupted {
                return Ok(Going::Interrupted);
            }
            let verdict = judge::alone(case, &heard, &outcome, self.patience);
            self.report.add(verdict).map_err(lost)?;
        }
        Ok(Going::On)
    }
}

/// Follows one boot: reads the protocol, shows what is decided, ends a boot that has hung long enough.
struct Follower<'h, 'a, W> {
    harness: &'h mut Harness<'a, W>,
    cases: &'h [Case],
    patience: Option<Duration>,
    heard: Transcript,
    shown: usize,
}

impl<'h, 'a, W: Write> Follower<'h, 'a, W> {
    fn new(harness: &'h mut Harness<'a, W>, cases: &'h [Case], patience: Option<Duration>) -> Self {
        Self { harness, cases, patience, heard: Transcript::default(), shown: 0 }
    }

    fn boot(&mut self) -> Result<Outcome, Error> {
        let names: Vec<&str> = self.cases.iter().map(|case| case.name.as_str()).collect();
        let wish = format!("cases={}", names.join(","));
        let (options, program) = (self.harness.options, self.harness.program);
        let outcome = session::boot(options, program, &wish, options.test_limit(), self)?;
        self.heard.close();
        Ok(outcome)
    }

    /// Shows the cases that are decided. The latest one waits: the boot's end may still fall on it.
    fn show(&mut self) -> io::Result<()> {
        while self.patience.is_none() && self.shown + 1 < self.heard.done.len() {
            let done = &self.heard.done[self.shown];
            let case = self.cases.iter().find(|case| case.name == done.name);
            let Some(verdict) = case.filter(|case| case.expectation == Expectation::Pass) else { break };
            let verdict: Verdict = judge::reported(verdict, done);
            self.harness.report.add(verdict)?;
            self.shown += 1;
        }
        Ok(())
    }
}

impl<W: Write> Watcher for Follower<'_, '_, W> {
    fn serial(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.heard.take(bytes);
        if self.harness.options.tests.nocapture {
            self.harness.report.show(bytes)?;
        }
        self.show()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.heard.running.as_ref()?.since + self.patience?)
    }
}

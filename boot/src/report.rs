//! Prints test results as libtest does.

use core::time::Duration;
use std::io::{self, Write};

use crate::judge::Verdict;

/// Counts verdicts and prints them.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    passed: usize,
    failures: Vec<Verdict>,
}

impl<W: Write> Report<W> {
    /// Begins a report on so many tests.
    ///
    /// # Errors
    ///
    /// If `out` takes no text; so do all methods.
    pub fn begin(mut out: W, tests: usize) -> io::Result<Self> {
        writeln!(out, "\nrunning {tests} test{}", if tests == 1 { "" } else { "s" })?;
        Ok(Self { out, passed: 0, failures: Vec::new() })
    }

    /// Prints and counts one verdict.
    ///
    /// # Errors
    ///
    /// As [`Report::begin`].
    pub fn add(&mut self, verdict: Verdict) -> io::Result<()> {
        let word = if verdict.failure.is_none() { "ok" } else { "FAILED" };
        writeln!(self.out, "test {} ... {word}", verdict.name)?;
        self.out.flush()?;
        if verdict.failure.is_none() {
            self.passed += 1;
        } else {
            self.failures.push(verdict);
        }
        Ok(())
    }

    /// Lets the guest's own output through.
    ///
    /// # Errors
    ///
    /// As [`Report::begin`].
    pub fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Prints the failures and the result; true if all tests passed.
    ///
    /// # Errors
    ///
    /// As [`Report::begin`].
    pub fn end(mut self, filtered_out: usize, took: Duration) -> io::Result<bool> {
        let ok = self.failures.is_empty();
        if !ok {
            writeln!(self.out, "\nfailures:\n")?;
            for verdict in &self.failures {
                writeln!(
                    self.out,
                    "---- {} serial output ----\n{}",
                    verdict.name,
                    verdict.output.trim_end()
                )?;
                writeln!(self.out, "{}: {}\n", verdict.name, verdict.failure.as_deref().unwrap_or_default())?;
            }
            writeln!(self.out, "\nfailures:")?;
            for verdict in &self.failures {
                writeln!(self.out, "    {}", verdict.name)?;
            }
        }
        writeln!(
            self.out,
            "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {filtered_out} filtered out; \
             finished in {}.{:02}s\n",
            if ok { "ok" } else { "FAILED" },
            self.passed,
            self.failures.len(),
            took.as_secs(),
            took.subsec_millis() / 10
        )?;
        self.out.flush()?;
        Ok(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_libtests() {
        let mut text = Vec::new();
        let mut report = Report::begin(&mut text, 2).expect("written");
        let verdict = |name: &str, failure: Option<&str>| Verdict {
            name: name.to_owned(),
            failure: failure.map(str::to_owned),
            output: "words\n".to_owned(),
        };
        report.add(verdict("a", None)).expect("written");
        report.add(verdict("b", Some("triple fault"))).expect("written");
        assert!(!report.end(3, Duration::from_millis(2310)).expect("written"));
        let text = String::from_utf8(text).expect("text");
        assert_eq!(
            text,
            "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b serial output ----\nwords\n\
             b: triple fault\n\n\nfailures:\n    b\n\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 2.31s\n\n"
        );
    }
}

//! Reads what a test image says on the serial port.
//!
//! Each on a line of its own: `running N tests`; `test NAME ...` when a case begins; `test NAME ... ok` or
//! `test NAME ... FAILED: reason` when it ends; at last `test result: ...`. All else belongs to the case that runs.

use std::time::Instant;

/// Bytes of output that are kept for one case: its beginning, which holds the first error.
const KEPT: usize = 256 * 1024;
/// Longest line; what a broken guest says beyond is cut there.
const LINE: usize = 4096;

/// Stands behind a last line without an end.
const CUT_OFF: &[u8] = b" (cut off)";

/// A case that reported its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its name.
    pub name: String,
    /// The reason of its failure, if it failed.
    pub failure: Option<String>,
    /// What was said while it ran.
    pub output: String,
}

/// A case that has begun and not reported its end.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// When its first line came.
    pub since: Instant,
    /// What was said since.
    pub output: String,
}

/// One boot of a test image, as heard up to now.
#[derive(Debug, Default)]
pub struct Transcript {
    line: Vec<u8>,
    /// What was said outside of cases.
    pub outside: String,
    /// Cases that ended, in order.
    pub done: Vec<Done>,
    /// The case that runs now.
    pub running: Option<Running>,
    /// Whether the final result was said.
    pub finished: bool,
}

impl Transcript {
    /// Takes bytes as they come.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() == LINE {
                self.end_line();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }

    /// Takes a last line without an end, and marks it: the guest ended, or was ended, in its middle.
    pub fn close(&mut self) {
        if !self.line.is_empty() {
            self.line.extend(CUT_OFF);
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        let said = Said::of(&line);
        match (said, self.running.take()) {
            (Said::Begins(name), unfinished) => {
                // a case that never ended is found missing by the judge
                drop(unfinished);
                let name = name.to_owned();
                self.running = Some(Running { name, since: Instant::now(), output: String::new() });
            }
            (Said::Ends(name, failure), Some(running)) if running.name == name => {
                let failure = failure.map(str::to_owned);
                self.done.push(Done { name: running.name, failure, output: running.output });
            }
            (Said::Result, None) => self.finished = true,
            (Said::Ends(..) | Said::Result | Said::Other, running) => {
                self.running = running;
                self.keep(&line);
            }
        }
    }

    fn keep(&mut self, line: &str) {
        let output = self.running.as_mut().map_or(&mut self.outside, |running| &mut running.output);
        if output.len() + line.len() < KEPT {
            output.push_str(line);
            output.push('\n');
        }
    }
}

enum Said<'a> {
    Begins(&'a str),
    Ends(&'a str, Option<&'a str>),
    Result,
    Other,
}

impl<'a> Said<'a> {
    fn of(line: &'a str) -> Self {
        if line.starts_with("test result: ") {
            return Self::Result;
        }
        let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ...")) else {
            return Self::Other;
        };
        match end.trim() {
            _ if name.contains(' ') => Self::Other,
            "" => Self::Begins(name),
            "ok" => Self::Ends(name, None),
            end => match end.strip_prefix("FAILED") {
                Some(reason) => Self::Ends(name, Some(reason.trim_start_matches(':').trim())),
                None => Self::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str, size: usize) -> Transcript {
        let mut transcript = Transcript::default();
        text.as_bytes().chunks(size).for_each(|part| transcript.take(part));
        transcript.close();
        transcript
    }

    #[test]
    fn cases_and_their_output_are_told_apart() {
        let text = "cpus: 4\r\nrunning 2 tests\r\ntest a ...\r\nhello\r\ntest b ... ok\r\ntest a ... ok\r\n\
                    test b ...\r\ntest b ... FAILED: 1 is not 2\r\ntest result: FAILED. 1 passed; 1 failed\r\n";
        for size in [1, 7, 1000] {
            let transcript = heard(text, size);
            assert_eq!(transcript.outside, "cpus: 4\nrunning 2 tests\n");
            let [a, b] = &transcript.done[..] else { panic!("{transcript:?}") };
            assert_eq!(
                (a.name.as_str(), &a.failure, a.output.as_str()),
                ("a", &None, "hello\ntest b ... ok\n")
            );
            assert_eq!((b.name.as_str(), b.failure.as_deref()), ("b", Some("1 is not 2")));
            assert!(transcript.running.is_none() && transcript.finished);
        }
    }

    #[test]
    fn a_case_that_dies_stays_running_with_its_last_words() {
        let transcript = heard("running 1 tests\ntest a ...\npanic: no", 5);
        let running = transcript.running.expect("a case that runs");
        assert_eq!((running.name.as_str(), running.output.as_str()), ("a", "panic: no (cut off)\n"));
        assert!(transcript.done.is_empty() && !transcript.finished);
    }

    #[test]
    fn a_flood_is_bounded() {
        let flood = "x".repeat(KEPT * 2);
        let transcript = heard(&format!("test a ...\n{flood}\ntest a ... ok\n"), 4096);
        assert!(transcript.done[0].output.len() <= KEPT);
    }
}

//! Judges test cases by what a boot said and how it ended.

use core::time::Duration;

use crate::cases::{Case, Expectation};
use crate::protocol::{Done, Transcript};
use crate::verdict::{End, Outcome};

/// The judgement on one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The case's name.
    pub name: String,
    /// Why it failed, if it failed.
    pub failure: Option<String>,
    /// What was said while it ran, and how the boot ended if it ended there.
    pub output: String,
}

/// The judgement on a boot that ran many cases, all of them expected to pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Cases that are decided, in the order in which they ran.
    pub verdicts: Vec<Verdict>,
    /// Cases that need another boot.
    pub left: Vec<Case>,
}

/// Judges a case that was to pass and reported its end.
pub fn reported(case: &Case, done: &Done) -> Verdict {
    let failure = match &done.failure {
        None => amiss(case, &done.output).map(|amiss| format!("passed, but its output {amiss}")),
        Some(reason) if reason.is_empty() => Some("failed".to_owned()),
        Some(reason) => Some(reason.clone()),
    };
    Verdict { name: done.name.clone(), failure, output: done.output.clone() }
}

/// Judges a boot that was to run `cases`, all of them to pass.
pub fn batch(cases: &[Case], heard: &Transcript, outcome: &Outcome) -> Batch {
    let find = |name: &str| cases.iter().find(|case| case.name == name);
    let mut verdicts: Vec<Verdict> =
        heard.done.iter().filter_map(|done| find(&done.name).map(|case| reported(case, done))).collect();
    let undone = |case: &&Case| heard.done.iter().all(|done| done.name != case.name);
    let mut left: Vec<Case> = cases.iter().filter(undone).cloned().collect();
    let right =
        if heard.done.iter().any(|done| done.failure.is_some()) { End::Guest(1) } else { End::Guest(0) };
    let ended = died(outcome);
    if heard.finished && outcome.end == right {
        verdicts.extend(left.drain(..).map(|case| failed(case, "the guest did not run it", &heard.outside)));
    } else if let Some(running) = &heard.running
        && let Some(index) = left.iter().position(|case| case.name == running.name)
    {
        let output = format!("{}{}", running.output, epilogue(outcome));
        verdicts.push(failed(left.remove(index), &ended, &output));
    } else if verdicts.is_empty() {
        let output = format!("{}{}", heard.outside, epilogue(outcome));
        let reason = format!("the machine ended before the first test began: {ended}");
        verdicts.extend(left.drain(..).map(|case| failed(case, &reason, &output)));
    } else if left.is_empty() {
        if let Some(last) = verdicts.last_mut() {
            last.failure.get_or_insert(format!("after this test, the last one: {ended}"));
            last.output.push_str(&epilogue(outcome));
        }
    } else {
        let reason = format!("the machine ended before this test began: {ended}");
        verdicts.push(failed(left.remove(0), &reason, &epilogue(outcome)));
    }
    Batch { verdicts, left }
}

/// Judges a case that had a boot of its own because it is not to pass. A hang lasts at least `patience`.
pub fn alone(case: &Case, heard: &Transcript, outcome: &Outcome, patience: Duration) -> Verdict {
    let done = heard.done.iter().find(|done| done.name == case.name);
    let running = heard.running.as_ref().filter(|running| running.name == case.name);
    let said = match (done, running) {
        (Some(done), _) => &done.output,
        (None, Some(running)) => &running.output,
        (None, None) => &heard.outside,
    };
    let mut output = format!("{said}{}", epilogue(outcome));
    let came = match (done, running) {
        (Some(Done { failure: None, .. }), _) => "it passed".to_owned(),
        (Some(Done { failure: Some(reason), .. }), _) => {
            output.push_str(reason);
            format!("it failed: {reason}")
        }
        (None, Some(_)) => died(outcome),
        (None, None) => format!("the machine ended before the test began: {}", died(outcome)),
    };
    let reached = match done {
        Some(Done { failure: None, .. }) => Reached::Passed,
        Some(Done { failure: Some(_), .. }) => Reached::Failed,
        None => running.map_or(Reached::Nothing, |running| Reached::Middle(running.since.elapsed())),
    };
    let as_declared = ended_so(case.expectation, reached, &outcome.end, patience);
    let failure = if as_declared {
        amiss(case, &output)
            .map(|amiss| format!("ended as declared ({}), but its output {amiss}", case.expectation))
    } else {
        Some(format!("expected {}, but {came}", case.expectation))
    };
    Verdict { name: case.name.clone(), failure, output }
}

/// What is wrong with the output of a case: the first of its texts that is missing behind those before it, or that is
/// there and must not be.
fn amiss(case: &Case, output: &str) -> Option<String> {
    let mut rest = output;
    for text in case.texts() {
        if let Some(unwanted) = text.strip_prefix('!') {
            if rest.contains(unwanted) {
                return Some(format!("goes on with `{unwanted}`"));
            }
        } else if let Some((_, after)) = rest.split_once(text) {
            rest = after;
        } else {
            return Some(format!("lacks `{text}`"));
        }
    }
    None
}

/// How far a case came.
#[derive(Clone, Copy)]
enum Reached {
    Nothing,
    /// Begun this long ago, and no end reported.
    Middle(Duration),
    Passed,
    Failed,
}

fn ended_so(expectation: Expectation, reached: Reached, end: &End, patience: Duration) -> bool {
    match (expectation, reached) {
        (Expectation::Pass, Reached::Passed) => *end == End::Guest(0),
        (Expectation::Fail, Reached::Failed) => *end == End::Guest(1),
        (Expectation::Panic | Expectation::Fatal, Reached::Middle(_)) => *end == End::Guest(2),
        (Expectation::Throw, Reached::Middle(_)) => *end == End::Guest(3),
        (Expectation::Exit(code), Reached::Middle(_)) => *end == End::Guest(code),
        (Expectation::TripleFault, Reached::Middle(_)) => *end == End::TripleFault,
        (Expectation::Hang, Reached::Middle(time)) => *end == End::TimedOut && time >= patience,
        _ => false,
    }
}

fn failed(case: Case, reason: &str, output: &str) -> Verdict {
    Verdict { name: case.name, failure: Some(reason.to_owned()), output: output.to_owned() }
}

fn died(outcome: &Outcome) -> String {
    if outcome.end == End::TimedOut {
        return format!("timed out after {} s", outcome.life.elapsed.as_secs());
    }
    outcome.end.words()
}

fn epilogue(outcome: &Outcome) -> String {
    let lines = outcome.report().into_iter();
    lines.fold(String::new(), |text, line| text + "boot: " + &line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_looked_for_one_behind_the_other() {
        let case = |message: &str| Case {
            name: "a".to_owned(),
            expectation: Expectation::Panic,
            message: message.to_owned(),
        };
        let amiss = |message: &str, output: &str| amiss(&case(message), output).unwrap_or_default();
        assert_eq!(amiss("", ""), "");
        assert_eq!(amiss("one\ttwo", "zero\none\ntwo\n"), "");
        assert_eq!(amiss("one\ttwo", "two\none\n"), "lacks `two`");
        assert_eq!(amiss("one\tone", "one\n"), "lacks `one`");
        assert_eq!(amiss("three\tone", "one\n"), "lacks `three`");
        assert_eq!(amiss("one\t!zero", "zero\none\ntwo\n"), "");
        assert_eq!(amiss("one\t!two", "zero\none\ntwo\n"), "goes on with `two`");
    }
}

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
        None => lacking(case, &done.output).map(|text| format!("passed, but its output lacks `{text}`")),
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
        lacking(case, &output)
            .map(|text| format!("ended as declared ({}), but its output lacks `{text}`", case.expectation))
    } else {
        Some(format!("expected {}, but {came}", case.expectation))
    };
    Verdict { name: case.name.clone(), failure, output }
}

/// The first text that a case has to print and that its output lacks, behind those before it.
fn lacking<'c>(case: &'c Case, output: &str) -> Option<&'c str> {
    let mut rest = output;
    case.texts().find(|text| match rest.split_once(text) {
        Some((_, after)) => {
            rest = after;
            false
        }
        None => true,
    })
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
        assert_eq!(lacking(&case(""), ""), None);
        assert_eq!(lacking(&case("one\ttwo"), "zero\none\ntwo\n"), None);
        assert_eq!(lacking(&case("one\ttwo"), "two\none\n"), Some("two"));
        assert_eq!(lacking(&case("one\tone"), "one\n"), Some("one"));
        assert_eq!(lacking(&case("three\tone"), "one\n"), Some("three"));
    }
}

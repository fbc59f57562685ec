//! One step: commands, and what their ends and outputs have to be.

use core::fmt;

use crate::cases::{Case, Expectation};
use crate::suite::images::Image;
use crate::verdict::code;

/// A step of the whole check.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, also that of its log file.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Why it cannot be done on this host, if so.
    pub skip: Option<String>,
    /// Whether others may run beside it.
    pub shares: bool,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Builds all images.
    Build,
    /// Runs one command.
    One(Run),
    /// Runs commands one after the other, until one is not as wanted.
    InTurn(Vec<Run>),
    /// Runs commands at the same time.
    AtOnce(Vec<Run>),
    /// Runs each case of a test image as if it were to pass; the runner has to call each a failure, with the reason.
    Controls(String),
}

/// A command and what has to come of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is run.
    pub what: What,
    /// Its arguments.
    pub args: Vec<String>,
    /// What has to come of it.
    pub wanted: Wanted,
}

/// A program to run.
#[derive(Clone, Debug)]
pub enum What {
    /// Cargo, with this value of `RUSTFLAGS` if any.
    Cargo(Option<&'static str>),
    /// The runner with an image.
    Boot(Image),
}

/// What has to come of a command.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its exit code.
    pub code: u8,
    /// Texts that lines of its output have to contain.
    pub lines: Vec<String>,
    /// Its last line that is not empty. The scheduler's trace does not count: it goes on until the machine ends.
    pub last: Option<&'static str>,
    /// The share of one CPU that QEMU may use at last, in permille; it has to stay below.
    pub cpu: Option<u64>,
}

impl Run {
    /// A cargo command that has to succeed.
    pub fn cargo(line: &str, flags: Option<&'static str>) -> Self {
        let args = line.split(' ').map(str::to_owned).collect();
        Self { what: What::Cargo(flags), args, wanted: Wanted::default() }
    }

    /// A boot with the options in `line`.
    pub fn boot(image: Image, line: &str, wanted: Wanted) -> Self {
        let args = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Self { what: What::Boot(image), args, wanted }
    }

    /// The same with boot arguments.
    #[must_use]
    pub fn with_args(mut self, text: &str) -> Self {
        self.args.extend(["--args".to_owned(), text.to_owned()]);
        self
    }

    /// The negative control that a declared case of a test image is.
    pub fn control(image: &str, case: &Case) -> Self {
        let reason = match case.expectation {
            Expectation::Panic | Expectation::Fatal => Some("panicked: exit 2".to_owned()),
            Expectation::Throw => Some("threw: exit 3".to_owned()),
            Expectation::Exit(code) => Some(format!("ended with exit {code}")),
            Expectation::Hang => Some("timed out after".to_owned()),
            Expectation::TripleFault => Some("triple fault".to_owned()),
            // the guest's own words
            Expectation::Fail => Some(String::new()),
            Expectation::Pass => None,
        };
        let (code, lines) = match reason {
            None => (0, vec![format!("test {} ... ok", case.name)]),
            Some(reason) => {
                let lines =
                    vec![format!("test {} ... FAILED", case.name), format!("{}: {reason}", case.name)];
                (code::TEST_FAILED, lines)
            }
        };
        let line = format!("--plain --exact --timeout 20 {}", case.name);
        Self::boot(Image::Test(image.to_owned()), &line, Wanted { code, lines, ..Wanted::default() })
    }
}

impl fmt::Display for Run {
    /// As a user could type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(|word| quoted(word)).collect();
        match &self.what {
            What::Cargo(Some(flags)) => write!(f, "RUSTFLAGS='{flags}' cargo {}", args.join(" ")),
            What::Cargo(None) => write!(f, "cargo {}", args.join(" ")),
            What::Boot(image) if args.is_empty() => image.fmt(f),
            What::Boot(image) => write!(f, "{image} -- {}", args.join(" ")),
        }
    }
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '"']) { format!("'{word}'") } else { word.to_owned() }
}

impl Wanted {
    /// What is not as wanted in how a command ended and in what it said.
    ///
    /// # Errors
    ///
    /// The first thing that is not.
    pub fn judge(&self, code: Option<i32>, output: &str) -> Result<(), String> {
        if code != Some(i32::from(self.code)) {
            let came = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit {code}"));
            return Err(format!("expected exit {}, got {came}", self.code));
        }
        for text in &self.lines {
            if !output.lines().any(|line| line.contains(text.as_str())) {
                return Err(format!("no line with `{text}`"));
            }
        }
        let traced =
            |line: &str| line.starts_with("SCHED ") && line.contains(" contended=[") && line.ends_with(']');
        let counts = |line: &&str| !line.is_empty() && !traced(line);
        let last = output.lines().map(str::trim).rfind(counts).unwrap_or_default();
        if self.last.is_some_and(|wanted| wanted != last) {
            return Err(format!("expected `{}` as last line, got `{last}`", self.last.unwrap_or_default()));
        }
        match (self.cpu, share(output)) {
            (Some(bound), Some(used)) if used >= bound => {
                Err(format!("used {used} permille of one CPU, allowed are less than {bound}"))
            }
            (Some(_), None) => Err("the runner told no CPU time".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The last CPU share that the runner told, in permille.
fn share(output: &str) -> Option<u64> {
    let (before, _) = output.rsplit_once("% of one CPU)")?;
    let (whole, tenth) = before.rsplit_once('(')?.1.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_lines_and_last_line_are_judged() {
        let wanted = Wanted {
            code: 0,
            lines: vec!["cpus: 4 online of 4".to_owned()],
            last: Some("gzero: ok"),
            ..Wanted::default()
        };
        assert_eq!(wanted.judge(Some(0), "cpus: 4 online of 4\r\nx\r\ngzero: ok\r\n\r\n"), Ok(()));
        assert!(wanted.judge(Some(2), "cpus: 4 online of 4\ngzero: ok\n").is_err());
        assert!(wanted.judge(None, "cpus: 4 online of 4\ngzero: ok\n").is_err());
        assert!(wanted.judge(Some(0), "cpus: 3 online of 4\ngzero: ok\n").is_err());
        assert!(wanted.judge(Some(0), "cpus: 4 online of 4\ngzero: ok\nmore\n").is_err());
        let traced = |line: &str| format!("cpus: 4 online of 4\ngzero: ok\n{line}");
        assert_eq!(wanted.judge(Some(0), &traced("SCHED 9ms: runqueue=0 [1 2] contended=[]\n")), Ok(()));
        assert!(wanted.judge(Some(0), &traced("SCHED 9ms: runqueue=0 [1 2]")).is_err());
    }

    #[test]
    fn the_cpu_share_at_last_counts() {
        let wanted = Wanted { cpu: Some(50), ..Wanted::default() };
        let text = |recent: &str| {
            format!("boot: QEMU used 2 s (20.0% of one CPU); at last 1 s ({recent}% of one CPU)\n")
        };
        assert_eq!(wanted.judge(Some(0), &text("4.9")), Ok(()));
        assert!(wanted.judge(Some(0), &text("5.0")).is_err());
        assert!(wanted.judge(Some(0), "nothing").is_err());
    }

    #[test]
    fn a_command_is_shown_as_a_user_types_it() {
        let mut run = Run::boot(Image::Example("skynet".to_owned()), "--smp 2", Wanted::default());
        run.args.extend(["--args".to_owned(), "leaves=10 log=debug".to_owned()]);
        assert_eq!(run.to_string(), "cargo run --example skynet -- --smp 2 --args 'leaves=10 log=debug'");
        assert_eq!(Run::cargo("test-host", None).to_string(), "cargo test-host");
    }

    #[test]
    fn a_control_has_to_fail_for_its_reason() {
        let case = Case { name: "hangs".to_owned(), expectation: Expectation::Hang, message: String::new() };
        let control = Run::control("must_fail", &case).wanted;
        let output = "test hangs ... FAILED\nhangs: timed out after 20 s\n";
        assert_eq!(control.judge(Some(101), output), Ok(()));
        assert!(control.judge(Some(0), output).is_err());
        assert!(control.judge(Some(101), "test hangs ... FAILED\nhangs: triple fault\n").is_err());
    }
}

//! The test cases that an image declares, and which of them a command line asks for.
//!
//! An image holds a section [`SECTION`] of text lines `name TAB expectation TAB text TAB text ...`; zero bytes between
//! them are padding. A program without it, or with an empty one, is no test image.

use core::fmt;
use core::str::FromStr;

use crate::args::TestOptions;
use crate::elf::Program;
use crate::error::Error;

/// Name of the section that lists the cases.
pub const SECTION: &str = ".gzero.cases";

/// How a case has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The guest reports `ok`.
    Pass,
    /// The machine ends by a panic, exit code 2.
    Panic,
    /// The machine ends by a broken invariant, exit code 3.
    Throw,
    /// The machine ends by a fatal error, exit code 2.
    Fatal,
    /// The guest reports `FAILED` and ends with exit code 1.
    Fail,
    /// The case begins and never ends.
    Hang,
    /// The CPU gives up.
    TripleFault,
    /// The machine ends with this exit code.
    Exit(u8),
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "pass" => Self::Pass,
            "panic" => Self::Panic,
            "throw" => Self::Throw,
            "fatal" => Self::Fatal,
            "fail" => Self::Fail,
            "hang" => Self::Hang,
            "triple-fault" => Self::TripleFault,
            other => match other.strip_prefix("exit:").map(str::parse) {
                Some(Ok(code)) => Self::Exit(code),
                _ => return Err(format!("unknown expectation `{other}`")),
            },
        })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Panic => f.write_str("panic"),
            Self::Throw => f.write_str("throw"),
            Self::Fatal => f.write_str("fatal error"),
            Self::Fail => f.write_str("failure"),
            Self::Hang => f.write_str("hang"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::Exit(code) => write!(f, "exit {code}"),
        }
    }
}

/// One declared test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, unique in the image.
    pub name: String,
    /// How it has to end.
    pub expectation: Expectation,
    /// Texts that its serial output has to contain, one behind the other; a tab between two of them. One that begins with
    /// `!` must not come behind those before it.
    pub message: String,
}

impl Case {
    /// The texts of the message.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.message.split('\t')
    }
}

/// Reads the cases of a program; none if it is not a test image.
///
/// # Errors
///
/// [`Error::Elf`] if the program's list of cases cannot be understood.
pub fn read(program: &Program) -> Result<Vec<Case>, Error> {
    let section = program.section(SECTION)?.unwrap_or_default();
    parse(section).map_err(|reason| Error::Elf {
        path: program.path().to_owned(),
        reason: format!("{reason} in its list of tests; build the image and boot from the same sources"),
    })
}

fn parse(section: &[u8]) -> Result<Vec<Case>, String> {
    let text: Vec<u8> = section.iter().copied().filter(|byte| *byte != 0).collect();
    let text = String::from_utf8(text).map_err(|_| "text that is not UTF-8")?;
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case = parse_line(line)?;
        if cases.iter().any(|other| other.name == case.name) {
            return Err(format!("`{}` twice", case.name));
        }
        cases.push(case);
    }
    Ok(cases)
}

fn parse_line(line: &str) -> Result<Case, String> {
    let mut fields = line.splitn(3, '\t');
    let name = fields.next().unwrap_or_default();
    let expectation = fields.next().ok_or_else(|| format!("no expectation in `{line}`"))?.parse()?;
    let message = fields.next().unwrap_or_default().to_owned();
    // names travel in a boot argument `cases=a,b`
    if name.is_empty() || name.contains([',', ' ', '=']) {
        return Err(format!("bad name `{name}`"));
    }
    Ok(Case { name: name.to_owned(), expectation, message })
}

/// The cases that a command line asks for, in declared order; `--plain` makes all of them expect to pass.
pub fn select(cases: Vec<Case>, options: &TestOptions) -> Vec<Case> {
    let matches = |name: &str, pattern: &String| {
        if options.exact { name == pattern } else { name.contains(pattern.as_str()) }
    };
    let wanted = |name: &str| options.filters.is_empty() || options.filters.iter().any(|f| matches(name, f));
    let unwanted = |name: &str| options.skip.iter().any(|skip| matches(name, skip));
    let mut chosen: Vec<Case> =
        cases.into_iter().filter(|case| wanted(&case.name) && !unwanted(&case.name)).collect();
    if options.plain {
        for case in &mut chosen {
            case.expectation = Expectation::Pass;
            case.message.clear();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Case> {
        parse(b"steal_one\tpass\t\n\0\0steal_all\texit:7\t\n\0overflow\tfatal\tstack overflow\n")
            .expect("a good list")
    }

    fn names(options: &TestOptions) -> Vec<String> {
        select(three(), options).into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn a_list_with_padding_is_read() {
        let cases = three();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[1].expectation, Expectation::Exit(7));
        assert_eq!((cases[2].name.as_str(), cases[2].message.as_str()), ("overflow", "stack overflow"));
        assert_eq!(parse(b"\0\0").expect("an empty list"), []);
    }

    #[test]
    fn a_bad_list_is_refused() {
        for (text, word) in [
            (&b"a\n"[..], "no expectation"),
            (b"a\tpasses\t\n", "`passes`"),
            (b"a\texit:300\t\n", "`exit:300`"),
            (b"a,b\tpass\t\n", "bad name"),
            (b"a\tpass\t\na\tpass\t\n", "twice"),
        ] {
            assert!(parse(text).expect_err("a bad list").contains(word));
        }
    }

    #[test]
    fn filters_choose_by_part_or_by_whole_name() {
        let filter =
            |text: &str, exact| TestOptions { filters: vec![text.to_owned()], exact, ..Default::default() };
        assert_eq!(names(&TestOptions::default()).len(), 3);
        assert_eq!(names(&filter("steal", false)), ["steal_one", "steal_all"]);
        assert_eq!(names(&filter("steal", true)), [""; 0]);
        assert_eq!(names(&filter("overflow", true)), ["overflow"]);
        let skip = TestOptions { skip: vec!["_all".to_owned()], ..Default::default() };
        assert_eq!(names(&skip), ["steal_one", "overflow"]);
    }

    #[test]
    fn plain_expects_all_to_pass() {
        let plain = select(three(), &TestOptions { plain: true, ..Default::default() });
        assert!(plain.iter().all(|case| case.expectation == Expectation::Pass && case.message.is_empty()));
    }
}

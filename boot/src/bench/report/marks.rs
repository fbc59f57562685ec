//! The marks of a page, and what stands between them.

use core::fmt::Write as _;

/// How a mark begins and ends.
const OPEN: &str = "<!-- ";
const CLOSE: &str = " -->";
/// Where what is made for a mark ends.
const END: &str = "<!-- end -->";

/// A place of a page where something is put.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// Table and plot of a family of figures.
    Figures {
        /// Their file.
        file: &'a str,
        /// The family.
        family: &'a str,
    },
    /// What the peer does better.
    Losses {
        /// The file of figures.
        file: &'a str,
    },
    /// QEMU's command lines of both sides.
    Commands {
        /// The mode, as in `smp 2`.
        mode: &'a str,
    },
}

impl<'a> Mark<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (kind, rest) = line.strip_prefix(OPEN)?.strip_suffix(CLOSE)?.split_once(' ')?;
        match (kind, rest.split_once(' ')) {
            ("figures", Some((file, family))) => Some(Self::Figures { file, family }),
            ("losses", None) => Some(Self::Losses { file: rest }),
            ("commands", _) => Some(Self::Commands { mode: rest }),
            _ => None,
        }
    }
}

/// Puts what `make` gives between each mark and its end. Other lines stay as they are.
///
/// # Errors
///
/// The number of the line of a mark that has no end, or for which nothing can be made, and why.
pub fn replace(
    page: &str,
    mut make: impl FnMut(&Mark<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let mut new = String::new();
    let mut lines = (1..).zip(page.lines());
    while let Some((number, line)) = lines.next() {
        writeln!(new, "{line}").expect("memory takes all");
        let Some(mark) = Mark::of(line) else { continue };
        let made = make(&mark).map_err(|reason| format!("line {number}: {reason}"))?;
        let mut old = lines.by_ref().map(|(_, line)| line);
        let end = old.find(|line| *line == END || Mark::of(line).is_some());
        if end != Some(END) {
            return Err(format!("line {number}: no `{END}` before the next mark"));
        }
        writeln!(new, "\n{}\n\n{END}", made.trim()).expect("memory takes all");
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(page: &str) -> Result<String, String> {
        replace(page, |mark| match mark {
            Mark::Figures { file, family } => Ok(format!("{family} of {file}\n")),
            Mark::Commands { mode } => Ok(format!("in {mode}")),
            Mark::Losses { file } => Err(format!("no losses in {file}")),
        })
    }

    #[test]
    fn what_stands_between_marks_is_replaced() {
        let page = "a\n<!-- figures f locks -->\nb\nc\n<!-- end -->\n<!-- a comment -->\n\
                    <!-- commands smp 2 -->\n<!-- end -->\nd\n";
        let wanted = "a\n<!-- figures f locks -->\n\nlocks of f\n\n<!-- end -->\n<!-- a comment -->\n\
                      <!-- commands smp 2 -->\n\nin smp 2\n\n<!-- end -->\nd\n";
        assert_eq!(made(page).as_deref(), Ok(wanted));
        assert_eq!(made(wanted).as_deref(), Ok(wanted));
    }

    #[test]
    fn an_open_mark_or_one_without_content_is_named_by_its_line() {
        let open = made("a\n<!-- figures f locks -->\nb\n").expect_err("no end");
        assert!(open.starts_with("line 2: ") && open.contains(END), "{open}");
        let nested = made("<!-- figures f locks -->\n<!-- figures g locks -->\n<!-- end -->\n");
        assert!(nested.expect_err("no end").starts_with("line 1: "));
        let refused = made("a\nb\n<!-- losses f -->\n<!-- end -->\n");
        assert_eq!(refused, Err("line 3: no losses in f".to_owned()));
    }
}

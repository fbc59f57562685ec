//! Programs that the compiler must refuse: pieces of one test image, each behind a `cfg` of its own.
//!
//! A piece is announced by two lines: a comment that begins with the code of the error, as `/// E0373: why`, or is the beginning of its
//! text, as `/// error[E0277]: what` or `/// error: what`, and, behind the rest of the comment if there is any, the attribute `#[cfg(refuse = "name")]`.

use crate::suite::step::{Run, Wanted};
use crate::verdict::code;

/// The test image that holds the pieces.
pub const IMAGE: &str = "refused";

/// The commands that compile each piece by itself and want its error.
pub fn runs(image: &str) -> Vec<Run> {
    pieces(image).into_iter().map(|(name, error)| refused(name, error)).collect()
}

fn refused(name: &str, error: &str) -> Run {
    let mut run =
        Run::cargo(&format!("rustc --package tests --test {IMAGE} -- --cfg refuse=\"{name}\""), None);
    let lines = vec![if error.starts_with("error") { error.to_owned() } else { format!("error[{error}]") }];
    run.wanted = Wanted { code: code::TEST_FAILED, lines, ..Wanted::default() };
    run
}

/// Names of the pieces, and the codes of their errors: empty, and so never found, where the comment has none.
fn pieces(image: &str) -> Vec<(&str, &str)> {
    let mut error = "";
    let mut found = Vec::new();
    for line in image.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            let code = comment.split(':').next().unwrap_or_default();
            if code.len() == 5 && code.starts_with('E') {
                error = code;
            } else if comment.starts_with("error") {
                error = comment;
            }
            continue;
        }
        if let Some(name) = line.strip_prefix("#[cfg(refuse = \"").and_then(|rest| rest.split('"').next()) {
            found.push((name, error));
        }
        error = "";
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_names_and_codes() {
        let image = "/// E0373: a borrow.\n#[cfg(refuse = \"one\")]\nfn one() {}\n\n/// E0277: two\n/// lines.\n#[cfg(refuse = \"two\")]\nfn two() {}\n\n#[cfg(refuse = \"three\")]\n";
        assert_eq!(pieces(image), [("one", "E0373"), ("two", "E0277"), ("three", "")]);
        let runs = runs(image);
        let line = "cargo rustc --package tests --test refused -- --cfg 'refuse=\"one\"'";
        assert_eq!(runs[0].to_string(), line);
        assert!(runs[0].wanted.judge(Some(101), "error[E0373]: it may outlive").is_ok());
        assert!(runs[0].wanted.judge(Some(101), "error[E0277]: it is not Send").is_err());
        assert!(runs[0].wanted.judge(Some(0), "").is_err());
        assert!(runs[2].wanted.judge(Some(101), "error[E0277]").is_err());
    }
}

//! The table of Go's own tests, and which of ours hold what they assert.

use std::fs;
use std::path::Path;

use crate::tree::{Breaches, Tree};

/// The table: a section for each of Go's files, a row for each of its tests.
const TABLE: &str = "tests/GO-TESTS.md";

/// At least so many are ported.
pub const LEAST_PORTED: usize = 150;

/// Where Go's sources lie when Debian's package golang-1.23-src is installed.
const GO: &str = "/usr/share/go-1.23/src";

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    line: usize,
    file: String,
    test: String,
    here: String,
}

impl Row {
    /// Whether some test of ours stands for it.
    pub fn is_ported(&self) -> bool {
        !self.here.starts_with("left out: ")
    }
}

/// All rows.
pub fn rows(tree: &Tree) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut file = String::new();
    let text = tree.texts.iter().find(|(path, _)| path == TABLE).map_or("", |(_, text)| text);
    for (line, text) in (1..).zip(text.lines()) {
        if let Some(name) = text.strip_prefix("## ") {
            name.trim_matches('`').clone_into(&mut file);
        }
        let mut cells = text.split('|').map(str::trim).skip(1);
        if let (Some(test), Some(here)) = (cells.next(), cells.next())
            && !["Go", "---"].contains(&test)
        {
            let (test, here) = (test.trim_matches('`').to_owned(), here.to_owned());
            rows.push(Row { line, file: file.clone(), test, here });
        }
    }
    rows
}

/// Every row names tests of ours that there are, or says why it is left out.
pub fn rows_without_test(tree: &Tree) -> Breaches {
    let mut breaches = Breaches::new();
    for row in rows(tree) {
        let names: Vec<&str> = row.here.split('`').skip(1).step_by(2).collect();
        let unknown = names.iter().find(|name| !is_test(tree, name));
        let wrong = match unknown {
            Some(name) => format!("no test is called {name}"),
            None if row.is_ported() && names.is_empty() => "names no test, and does not say why".to_owned(),
            None => continue,
        };
        breaches.push(format!("{TABLE}:{}: {}: {wrong}", row.line, row.test));
    }
    breaches
}

/// Whether `image::name`, or `module::tests::name` for a unit test, is a function in a file of that name.
fn is_test(tree: &Tree, name: &str) -> bool {
    let Some((place, function)) = name.rsplit_once("::") else { return false };
    let place = place.strip_suffix("::tests").unwrap_or(place);
    let place = place.rsplit("::").next().unwrap_or(place);
    let declared = format!("fn {function}(");
    let mut sources = tree.sources.iter().filter(|source| {
        let places = ["tests/tests/", "kernel/sched/"];
        let is_of_tests = places.iter().any(|place| source.path.starts_with(place));
        is_of_tests && source.path.split(['/', '.']).any(|part| part == place)
    });
    sources.any(|source| source.lines.iter().any(|line| line.code.contains(&declared)))
}

/// Tests in Go's sources that the table does not have; nothing where the sources are not installed.
pub fn missing_rows(tree: &Tree) -> Breaches {
    let rows = rows(tree);
    let mut files: Vec<&str> = rows.iter().map(|row| row.file.as_str()).collect();
    files.dedup();
    let mut breaches = Breaches::new();
    for file in files.into_iter().filter(|file| file.ends_with("_test.go")) {
        let Ok(text) = fs::read_to_string(Path::new(GO).join(file)) else { continue };
        let known = |test: &str| rows.iter().any(|row| row.file == file && row.test == test);
        for test in text.lines().filter_map(|line| line.strip_prefix("func Test")) {
            let test = format!("Test{}", test.split('(').next().unwrap_or_default());
            if test != "TestMain" && !known(&test) {
                breaches.push(format!("{TABLE}:1: {file}: {test} has no row"));
            }
        }
    }
    breaches
}

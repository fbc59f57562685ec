//! Rules about files and lines.

use crate::lines::Line;
use crate::tree::{Breaches, Source, Tree, is, join};

/// A file has fewer lines than this.
pub const MOST_LINES: usize = 500;

/// Our crates, and which of our crates each may depend on.
const MAY_USE: [(&str, &[&str]); 8] = [
    // For its tests only.
    ("sched", &["chanmodel"]),
    ("chanmodel", &[]),
    ("machine", &[]),
    ("machine-fuzz", &["machine"]),
    ("heapdump", &[]),
    ("gzero", &["sched", "machine", "heapdump"]),
    // For its tests only.
    ("boot", &["heapdump"]),
    ("tests", &["gzero", "chanmodel"]),
];

/// Words of policy, which the machine crate does not know.
const POLICY: [&str; 4] = ["goroutine", "gomaxprocs", "run queue", "time slice"];

pub fn long_files(tree: &Tree) -> Breaches {
    let long = tree.sources.iter().filter(|source| source.lines.len() >= MOST_LINES);
    long.map(|source| {
        let (path, lines) = (&source.path, source.lines.len());
        format!(
            "{path}:{MOST_LINES}: {lines} lines; split it by subject, fewer than {MOST_LINES} are allowed"
        )
    })
    .collect()
}

pub fn stray_assembly(tree: &Tree) -> Breaches {
    let elsewhere = |source: &&Source| !source.path.starts_with("kernel/machine/");
    // The names of all three macros end alike.
    let found = |line: &Line| line.code.contains("asm!");
    let advice = "assembly; it belongs in kernel/machine, behind a function";
    tree.sources.iter().filter(elsewhere).flat_map(|source| source.breaches(found, advice)).collect()
}

pub fn dependencies(tree: &Tree) -> Breaches {
    let mut breaches = Breaches::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let package = package(text).unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
            breaches.push(format!(
                "{path}:1: crate `{package}` has no place in MAY_USE of boot/tests/tidy/rules.rs"
            ));
            continue;
        };
        for (line, name) in depended_on(text) {
            if MAY_USE.iter().any(|(own, _)| *own == name) && !allowed.contains(&name.as_str()) {
                breaches.push(format!("{path}:{line}: `{package}` may not depend on `{name}`"));
            }
        }
    }
    breaches
}

fn package(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.strip_prefix("name = ")).map(|name| name.trim_matches('"'))
}

/// Names of the crates that a manifest asks for, under whatever name they are used, with line numbers.
fn depended_on(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header.ends_with("dependencies");
            if let Some((_, name)) = header.split_once("dependencies.") {
                found.push((number, name.to_owned()));
            }
        } else if inside && !line.starts_with('#') {
            found.push((number, line.split(['=', '.', ' ']).next().unwrap_or_default().to_owned()));
        }
        if let Some((_, renamed)) = line.split_once("package = \"") {
            found.push((number, renamed.split('"').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

pub fn allowed_unsafe(tree: &Tree) -> Breaches {
    let lib = tree.sources.iter().find(|source| source.path == "kernel/sched/src/lib.rs");
    if lib.is_some_and(|lib| lib.lines.iter().any(|line| line.code.trim() == "#![forbid(unsafe_code)]")) {
        return Breaches::new();
    }
    vec!["kernel/sched/src/lib.rs:1: `#![forbid(unsafe_code)]` is missing".to_owned()]
}

pub fn unargued(tree: &Tree) -> Breaches {
    tree.sources.iter().flat_map(unargued_in).collect()
}

fn unargued_in(source: &Source) -> Breaches {
    let is_unsafe = |line: &Line| line.code.contains("unsafe {") || line.code.contains("unsafe impl");
    let sites: Vec<usize> = (0..source.lines.len()).filter(|at| is_unsafe(&source.lines[*at])).collect();
    let mut breaches: Breaches = sites
        .iter()
        .filter(|at| !is_argued(&source.lines[..**at]))
        .map(|at| format!("{}:{}: no `// SAFETY:` comment above this `unsafe`", source.path, at + 1))
        .collect();
    let arguments = source.lines.iter().filter(|line| is_safety(line)).count();
    if breaches.is_empty() && arguments != sites.len() {
        let (path, sites) = (&source.path, sites.len());
        breaches.push(format!("{path}:1: {arguments} SAFETY comments for {sites} unsafe blocks and impls"));
    }
    breaches
}

/// Whether the comment over a statement holds an argument. The statement may have begun on earlier lines.
fn is_argued(above: &[Line]) -> bool {
    let ends = |code: &str| code.ends_with([';', '{', '}', ',']) || code.ends_with("=>");
    let same_statement = |line: &&Line| !line.code.trim().is_empty() && !ends(line.code.trim_end());
    let over_it =
        |line: &&Line| !line.comment.is_empty() && line.code.trim().is_empty() || line.code.starts_with("#[");
    above.iter().rev().skip_while(same_statement).take_while(over_it).any(is_safety)
}

fn is_safety(line: &Line) -> bool {
    line.comment.starts_with("// SAFETY:")
}

pub fn features(tree: &Tree) -> Breaches {
    let found = |line: &Line| line.code.contains("#![feature");
    let advice = "an unstable feature; the project builds with a stable compiler";
    tree.sources.iter().flat_map(|source| source.breaches(found, advice)).collect()
}

pub fn loose_ends(tree: &Tree) -> Breaches {
    const WORDS: [&str; 3] = ["TODO", "FIXME", "XXX"];
    let found = |line: &Line| WORDS.iter().any(|word| line.comment.contains(word));
    let advice = "a loose end; do it, or open an issue and describe what is";
    tree.sources.iter().flat_map(|source| source.breaches(found, advice)).collect()
}

pub fn policy(tree: &Tree) -> Breaches {
    let machine = tree.sources.iter().filter(|source| source.path.starts_with("kernel/machine/src/"));
    let found = |line: &Line| {
        let text = format!("{} {}", line.code, line.comment).to_lowercase();
        POLICY.iter().any(|word| text.contains(word))
    };
    let advice = "a word of policy; say what the machine does, whoever wants it";
    machine.flat_map(|source| source.breaches(found, advice)).collect()
}

pub fn dead_references(tree: &Tree) -> Breaches {
    let mut breaches = Breaches::new();
    for (path, text) in &tree.texts {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in (1..).zip(text.lines()) {
            let links = if is(path, "md") { links(line) } else { Vec::new() };
            let links = links.iter().map(|link| join(folder, link));
            for target in decisions(line).chain(links).filter(|target| !tree.has(target)) {
                breaches.push(format!("{path}:{number}: refers to {target}, which is not there"));
            }
        }
    }
    breaches
}

/// Decision records that a line names by their path.
fn decisions(line: &str) -> impl Iterator<Item = String> {
    let names = line.split("docs/adr/").skip(1).map(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.')
            .next()
            .unwrap_or_default()
            .trim_end_matches('.')
    });
    names.filter(|name| is(name, "md")).map(|name| format!("docs/adr/{name}"))
}

/// Targets of Markdown links that lie in the checkout.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains(':')).collect()
}

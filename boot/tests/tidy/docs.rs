//! Rules about what the kernel crate's users read.

use crate::tree::{Breaches, Source, Tree};

/// The crate that has users.
const KERNEL: &str = "kernel/src";

/// What can be public and is shown by an example.
const ITEMS: [&str; 4] = ["fn", "struct", "enum", "trait"];

/// Every public item is used in an example, which the image `doc_examples` compiles and runs.
///
/// A function in one of its module, a type, which others may hand out, in any; or the example stands over the item and
/// needs no name of it.
pub fn without_example(tree: &Tree) -> Breaches {
    let mut breaches = Breaches::new();
    for source in users_sources(tree) {
        let module = source.module_in(KERNEL);
        for (number, kind, name) in public_items(source) {
            let near = |other: &&Source| kind != "fn" || other.module_in(KERNEL) == module;
            let mut examples = users_sources(tree).filter(near).flat_map(examples);
            let own = docs_over(source, number - 1);
            if examples_in(own.lines()).is_empty()
                && !examples.any(|line| words(line).any(|word| word == name))
            {
                breaches.push(format!("{}:{number}: no example in the docs uses `{name}`", source.path));
            }
        }
    }
    breaches
}

/// Who checks the stack says so in the documentation.
pub fn silent_about_the_stack(tree: &Tree) -> Breaches {
    let mut breaches = Breaches::new();
    for source in users_sources(tree) {
        for (number, line) in
            (0..).zip(&source.lines).filter(|(_, line)| line.code.contains("check_g_stack(\""))
        {
            let is_head = |line: &&(usize, &crate::lines::Line)| public_item(&line.1.code).is_some();
            let above: Vec<_> = source.lines[..number].iter().enumerate().collect();
            let starts_item = |code: &str| words(code).any(|word| word == "fn");
            let Some(head) = above.iter().rev().find(|(_, line)| starts_item(&line.code)).filter(is_head)
            else {
                continue;
            };
            let docs = docs_over(source, head.0);
            if !docs.contains("own stack") {
                let (path, line) = (&source.path, line.code.trim());
                breaches.push(format!(
                    "{path}:{}: `{line}`, and the documentation does not say `own stack`",
                    head.0 + 1
                ));
            }
        }
    }
    breaches
}

/// Files whose public items are for users.
fn users_sources(tree: &Tree) -> impl Iterator<Item = &Source> {
    let hidden = ["kernel/src/bin/", "kernel/src/testing"];
    let shown = move |path: &str| {
        path.starts_with("kernel/src/") && !hidden.iter().any(|hidden| path.starts_with(hidden))
    };
    tree.sources.iter().filter(move |source| shown(&source.path))
}

/// Public items with line numbers, those hidden from the documentation left out.
fn public_items(source: &Source) -> Vec<(usize, &str, &str)> {
    let items = (0..).zip(&source.lines).filter(|(at, _)| !is_hidden(source, *at));
    let named = items.filter_map(|(at, line)| Some((at + 1, public_item(&line.code)?)));
    named.map(|(number, (kind, name))| (number, kind, name)).collect()
}

/// Kind and name of the public item that a line declares, if it does.
fn public_item(code: &str) -> Option<(&str, &str)> {
    let rest = code.trim_start().strip_prefix("pub ")?;
    let mut rest = words(rest).skip_while(|word| ["const", "unsafe", "extern"].contains(word));
    let kind = rest.next().filter(|kind| ITEMS.contains(kind))?;
    Some((kind, rest.next()?))
}

/// Whether an attribute hides the item, or that of its type does: then it needs no documentation, and has none.
fn is_hidden(source: &Source, at: usize) -> bool {
    over(source, at).any(|line| line.code.contains("#[doc(hidden)]"))
        || docs_over(source, at).is_empty()
            && source.lines.iter().any(|line| line.code.contains("#[doc(hidden)]"))
}

/// The documentation over an item.
fn docs_over(source: &Source, at: usize) -> String {
    let mut lines: Vec<&str> = over(source, at).map(|line| line.comment.as_str()).collect();
    lines.reverse();
    lines.join("\n")
}

/// Attributes and documentation over an item, from its line upwards.
fn over(source: &Source, at: usize) -> impl Iterator<Item = &crate::lines::Line> {
    source.lines[..at].iter().rev().take_while(|line| {
        let code = line.code.trim();
        code.starts_with("#[") || (code.is_empty() && line.comment.starts_with("///"))
    })
}

/// Lines of code in the documentation.
fn examples(source: &Source) -> Vec<&str> {
    examples_in(source.lines.iter().map(|line| line.comment.as_str()))
}

fn examples_in<'c>(comments: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
    let mut found = Vec::new();
    let mut inside = None;
    for line in comments {
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = None;
            continue;
        };
        let text = text.trim();
        match (inside, text.strip_prefix("```")) {
            (None, Some(tag)) => inside = Some(["", "no_run", "ignore"].contains(&tag)),
            (Some(_), Some(_)) => inside = None,
            (Some(true), None) => found.push(text),
            (Some(false) | None, None) => {}
        }
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

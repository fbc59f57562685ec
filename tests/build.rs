//! Makes a test case of each example in the documentation of the kernel crate.
//!
//! The crate runs on a bare machine only, so rustdoc cannot run them, and a boot for each would take minutes. All of
//! them become functions of one test image, `doc_examples`.
//!
//! A block of code without a tag is run: statements, or a whole program with its main function. One that is tagged
//! `no_run` is compiled, because it ends the machine. Other tags leave it out.

use core::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// An example, as it stands in a comment.
struct Example {
    /// The file and the item that it belongs to.
    name: String,
    code: String,
    runs: bool,
}

fn main() {
    let kernel = Path::new("../kernel/src");
    println!("cargo::rerun-if-changed={}", kernel.display());
    let mut files = Vec::new();
    walk(kernel, &mut files);
    files.sort();
    let mut examples = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file is text");
        let inner = file.strip_prefix(kernel).expect("it was found there").with_extension("");
        let module = inner.to_str().expect("a name in UTF-8").replace('/', "_");
        examples.extend(examples_in(&module, &text));
    }
    make_unique(&mut examples);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("doc_examples.rs"), image(&examples)).expect("cargo's folder can be written");
}

/// All source files of the library.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the kernel's sources lie beside the tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("bin") {
                walk(&path, files);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// The examples of one file.
fn examples_in(module: &str, text: &str) -> Vec<Example> {
    let mut found = Vec::new();
    // Those whose item has not come yet.
    let mut waiting = 0;
    let mut open: Option<Example> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(doc) = doc else {
            if let Some(item) = item(line) {
                let last = found.len();
                for example in &mut found[last - waiting..] {
                    let example: &mut Example = example;
                    example.name = format!("{module}_{item}");
                }
                waiting = 0;
            }
            continue;
        };
        let code = doc.strip_prefix(' ').unwrap_or(doc);
        match (&mut open, code.trim_start().strip_prefix("```")) {
            (None, None) => {}
            (None, Some(tag)) => {
                open = Some(Example { name: tag.trim().to_owned(), code: String::new(), runs: true });
            }
            (Some(example), None) => {
                example.code.push_str(shown(code));
                example.code.push('\n');
            }
            (Some(_), Some(_)) => {
                let mut example = open.take().expect("it is open");
                let tag = core::mem::replace(&mut example.name, module.to_owned());
                example.runs = tag.is_empty();
                if example.runs || tag == "no_run" {
                    found.push(example);
                    // What stands at the head of a file belongs to the file.
                    waiting = if line.starts_with("//!") { 0 } else { waiting + 1 };
                }
            }
        }
    }
    found
}

/// A line as the compiler shall see it: rustdoc hides what begins with `#`.
fn shown(line: &str) -> &str {
    match line.trim_start().strip_prefix('#') {
        Some("") => "",
        Some(rest) if rest.starts_with(' ') => &rest[1..],
        Some(rest) if rest.starts_with('#') => rest,
        _ => line,
    }
}

/// The name of the item that a line declares, if it does.
fn item(line: &str) -> Option<String> {
    const KINDS: [&str; 10] =
        ["fn", "struct", "enum", "trait", "mod", "macro_rules!", "const", "static", "type", "union"];
    let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '!'));
    let mut kind = words.by_ref().skip_while(|word| !KINDS.contains(word));
    kind.next()?;
    // `pub const fn name`.
    let name = kind.find(|word| !word.is_empty() && !KINDS.contains(word) && *word != "unsafe")?;
    Some(name.to_lowercase())
}

/// Numbers the examples of an item that has several.
fn make_unique(examples: &mut [Example]) {
    for at in 0..examples.len() {
        let (before, rest) = examples.split_at_mut(at);
        let base = rest[0].name.clone();
        let mut number = 1;
        while before.iter().any(|other| other.name == rest[0].name) {
            number += 1;
            rest[0].name = format!("{base}_{number}");
        }
    }
}

/// The source of the image.
fn image(examples: &[Example]) -> String {
    let mut text = "tests::image! {\n    pass: [\n".to_owned();
    let mut line = |line: fmt::Arguments<'_>| writeln!(text, "{line}").expect("memory");
    for example in examples.iter().filter(|example| example.runs) {
        line(format_args!("        {},", example.name));
    }
    line(format_args!("    ],\n}}"));
    for Example { name, code, runs } in examples {
        if *runs {
            // `park` may return without cause, and an example before may have left one behind: so each finds one, and those that
            // do not expect it fail each time.
            line(format_args!("\nfn {name}() {{\ntests::unpark_for_no_reason();\nexample_{name}();\n}}"));
        }
        let unused = if *runs { "" } else { "#[expect(dead_code, reason = \"it ends the machine\")]\n" };
        // A whole program has a main function, and lines that only the root of a crate may have.
        if code.contains("gzero::entry!(") {
            let rooted = |line: &&str| !line.starts_with("#![") && !line.starts_with("gzero::entry!(");
            let body: Vec<&str> = code.lines().filter(rooted).collect();
            let body = body.join("\n");
            line(format_args!(
                "\nmod program_{name} {{\n{body}\npub(super) fn code() -> u8 {{ gzero::Termination::code(main()) }}\n}}"
            ));
            line(format_args!(
                "\n{unused}fn example_{name}() {{\nassert_eq!(program_{name}::code(), 0);\n}}"
            ));
            continue;
        }
        // An example with a question mark ends in `Ok`, as rustdoc has it.
        if code.lines().any(|line| line.starts_with("Ok::<")) {
            line(format_args!(
                "\n{unused}fn example_{name}() {{\n(|| {{\n{code}}})().expect(\"no error\");\n}}"
            ));
        } else {
            line(format_args!("\n{unused}fn example_{name}() {{\n{code}}}"));
        }
    }
    text
}

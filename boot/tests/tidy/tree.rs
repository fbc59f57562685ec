//! The checkout as the rules see it.

use std::env;
use std::fs;
use std::path::Path;

use crate::lines::{Line, lines};

/// Breaches of a rule, a line each.
pub type Breaches = Vec<String>;

/// All files of the checkout, by paths from its root.
#[derive(Debug, Default)]
pub struct Tree {
    paths: Vec<String>,
    /// Whatever is text, Rust sources included.
    pub texts: Vec<(String, String)>,
    pub sources: Vec<Source>,
}

impl Tree {
    /// A made-up checkout.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, text);
        }
        tree
    }

    pub fn of_checkout() -> Self {
        let mut tree = Self::default();
        // Where cargo runs the test; a target folder that several checkouts share may hold another's build.
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().expect("this package lies in the checkout");
        tree.walk(root, "");
        assert!(
            tree.has("kernel/src/lib.rs") && tree.has("Cargo.toml"),
            "not the checkout: {}",
            root.display()
        );
        tree
    }

    fn walk(&mut self, root: &Path, folder: &str) {
        for entry in fs::read_dir(root.join(folder)).expect("a folder that can be read") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
            let path = join(folder, &name);
            if root.join(&path).is_dir() {
                if !["target", ".git"].contains(&name.as_str()) {
                    self.walk(root, &path);
                }
            } else if let Ok(text) = fs::read_to_string(root.join(&path)) {
                self.add(&path, &text);
            }
        }
    }

    fn add(&mut self, path: &str, text: &str) {
        if is(path, "rs") {
            self.sources.push(Source { path: path.to_owned(), lines: lines(text) });
        }
        self.paths.push(path.to_owned());
        self.texts.push((path.to_owned(), text.to_owned()));
    }

    /// Whether there is a file or a folder.
    pub fn has(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|file| file.strip_prefix(path).is_some_and(|rest| matches!(rest.get(..1), None | Some("/"))))
    }
}

#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub lines: Vec<Line>,
}

impl Source {
    pub fn breaches(&self, found: impl Fn(&Line) -> bool, advice: &str) -> Breaches {
        let lines = (1..).zip(&self.lines).filter(|(_, line)| found(line));
        lines.map(|(number, _)| format!("{}:{number}: {advice}", self.path)).collect()
    }

    /// The module that this file belongs to in the crate at `folder`.
    pub fn module_in(&self, folder: &str) -> Option<&str> {
        let inner = self.path.strip_prefix(folder)?.strip_prefix('/')?;
        Some(inner.split(['/', '.']).next().unwrap_or(inner))
    }

    /// What follows `crate::`, with line numbers; macros and what macros expand to elsewhere left out.
    pub fn uses_of_crate(&self) -> Vec<(usize, String)> {
        let code: String = self.lines.iter().flat_map(|line| [line.code.as_str(), "\n"]).collect();
        let mut found = Vec::new();
        for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$')) {
            let rest = &code[at + "crate::".len()..];
            let names = rest.strip_prefix('{').map_or_else(|| vec![rest], outermost);
            let number = code[..at].matches('\n').count() + 1;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            for name in names {
                let length = name.find(|c| !is_word(c)).unwrap_or(name.len());
                if length > 0 && !name[length..].starts_with('!') {
                    found.push((number, name[..length].to_owned()));
                }
            }
        }
        found
    }
}

/// The members of a list that ends at its closing brace, whatever is nested in them.
fn outermost(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut start = 0;
    let mut members = Vec::new();
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                members.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        if c == '}' && start == at + 1 {
            break;
        }
    }
    members
}

/// Whether a file's name ends in `.kind`.
pub fn is(path: &str, kind: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| end == kind)
}

/// The path that a relative one stands for in a folder.
pub fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

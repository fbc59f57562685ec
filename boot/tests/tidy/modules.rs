//! The rule about modules: in a crate each uses only those above it.

use std::collections::HashSet;

use crate::lines::Line;
use crate::tree::{Breaches, Source, Tree};

/// Crates whose modules use only modules that are listed above them in `lib.rs`.
const ORDERED: [&str; 2] = ["kernel/src", "kernel/sched/src"];

/// A disaster may strike anywhere, and its report looks at everything.
const USED_BY_ALL: &str = "panic";

/// Pairs of modules that use each other all the same, the upper one first. Entries that are no longer needed are
/// breaches too.
pub const CIRCLES: [&str; 3] = ["goroutine -> park", "m -> runtime", "program -> boot"];

pub fn upward_uses(tree: &Tree, circles: &[&str]) -> Breaches {
    let mut breaches = Breaches::new();
    let mut needed = HashSet::new();
    for folder in ORDERED {
        let lib = tree.sources.iter().find(|source| source.path == format!("{folder}/lib.rs"));
        let order = lib.map(modules).unwrap_or_default();
        let place = |name: &str| order.iter().position(|module| module == name);
        let inside = tree.sources.iter().filter(|source| source.module_in(folder).is_some());
        let macros: HashSet<&str> =
            inside.flat_map(|source| source.lines.iter().filter_map(macro_name)).collect();
        for source in &tree.sources {
            let Some((own, at)) = source.module_in(folder).and_then(|own| Some((own, place(own)?))) else {
                continue;
            };
            for (line, used) in source.uses_of_crate() {
                // A macro has its place in the text, whatever path it is named by.
                if place(&used).is_none() && macros.contains(used.as_str()) {
                    continue;
                }
                let pair = format!("{own} -> {used}");
                let below = place(&used).is_none_or(|used| used > at);
                if below && circles.contains(&pair.as_str()) {
                    needed.insert(pair);
                } else if below && used != USED_BY_ALL {
                    let path = &source.path;
                    breaches
                        .push(format!("{path}:{line}: uses `{used}`, which is not above `{own}` in lib.rs"));
                }
            }
        }
    }
    let stale = circles.iter().filter(|pair| !needed.contains(**pair));
    breaches.extend(
        stale.map(|pair| format!("boot/tests/tidy/modules.rs:1: take `{pair}` out of CIRCLES: it is cut")),
    );
    breaches
}

/// The macro that a line defines.
fn macro_name(line: &Line) -> Option<&str> {
    let name = line.code.trim().strip_prefix("macro_rules! ")?;
    name.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

/// The modules of a crate, in the order in which `lib.rs` lists them.
fn modules(lib: &Source) -> Vec<String> {
    let name = |line: &Line| {
        let line = line.code.trim().trim_start_matches("pub ");
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    lib.lines.iter().filter_map(name).collect()
}

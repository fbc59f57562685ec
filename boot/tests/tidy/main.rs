//! House rules that neither the compiler nor clippy checks, applied to the whole checkout.
//!
//! A rule is a function from the checkout to its breaches, each of them one line that names file, line and mend.
//! Next to each rule stands a made-up checkout that breaks it: a rule that finds nothing there finds nothing at all.
#![expect(unreachable_pub, reason = "the modules are private to this test")]

mod docs;
mod go_tests;
mod lines;
mod modules;
mod rules;
mod tree;

use modules::{CIRCLES, upward_uses};
use tree::{Breaches, Tree};

/// Keeps a rule, and breaks it in each of the made-up files, at the line given.
fn holds(rule: fn(&Tree) -> Breaches, broken: &[(&str, &str, usize)]) {
    for (path, text, line) in broken {
        let breaches = rule(&Tree::of(&[(path, text)]));
        let [breach] = &breaches[..] else { panic!("one breach in {path}: {breaches:?}") };
        assert!(breach.starts_with(&format!("{path}:{line}: ")), "{breach}");
    }
    let breaches = rule(&Tree::of_checkout());
    assert!(breaches.is_empty(), "house rules, broken {} times\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn files_are_short() {
    let long = "\n".repeat(rules::MOST_LINES);
    holds(rules::long_files, &[("boot/src/main.rs", &long, rules::MOST_LINES)]);
}

#[test]
fn assembly_is_in_machine_only() {
    let broken = [
        ("kernel/src/go.rs", "\nunsafe { asm!(\"nop\") };", 2),
        ("kernel/sched/src/go.rs", "global_asm!(\"nop\");", 1),
        ("tests/src/go.rs", "naked_asm!(\"nop\");", 1),
    ];
    holds(rules::stray_assembly, &broken);
}

#[test]
fn crates_depend_one_way() {
    let broken = [
        ("kernel/sched/Cargo.toml", "name = \"sched\"\n[dependencies]\nmachine.workspace = true", 3),
        ("kernel/machine/Cargo.toml", "name = \"machine\"\n[dev-dependencies]\ngzero = \"1\"", 3),
        ("kernel/machine/Cargo.toml", "name = \"machine\"\n[target.'cfg(loom)'.dependencies.sched]", 2),
        ("boot/Cargo.toml", "name = \"boot\"\n[dependencies]\nother = { package = \"sched\" }", 3),
        ("tests/Cargo.toml", "name = \"tests\"\n[dependencies]\nmachine = { path = \"m\" }", 3),
        ("more/Cargo.toml", "name = \"more\"", 1),
    ];
    holds(rules::dependencies, &broken);
}

#[test]
fn sched_forbids_unsafe_code() {
    holds(rules::allowed_unsafe, &[("kernel/sched/src/lib.rs", "// #![forbid(unsafe_code)]", 1)]);
}

#[test]
fn every_unsafe_has_its_argument() {
    let argued = concat!("// ", "SAFETY: it is.\n#[cold]\nlet a =\n    unsafe { b() };\n");
    let broken = [
        ("kernel/src/a.rs", "// safe\nunsafe impl Sync for A {}", 2),
        ("kernel/src/b.rs", &format!("{argued}let c = unsafe {{ d() }};"), 5),
        ("kernel/src/c.rs", "// SAFETY: none needed\nlet a = b();", 1),
        ("kernel/src/d.rs", "/// SAFETY: this is documentation.\nlet a = unsafe { b() };", 2),
    ];
    holds(rules::unargued, &broken);
    assert_eq!(rules::unargued(&Tree::of(&[("kernel/src/a.rs", argued)])), [""; 0]);
}

#[test]
fn no_unstable_features() {
    holds(rules::features, &[("boot/src/main.rs", "//! Text.\n#![feature(let_chains)]", 2)]);
}

#[test]
fn no_loose_ends() {
    let broken = [
        ("boot/src/main.rs", "a(); // TODO: b", 1),
        ("boot/src/main.rs", "/* FIXME */", 1),
        ("a.rs", "//XXX", 1),
    ];
    holds(rules::loose_ends, &broken);
}

#[test]
fn machine_knows_no_policy() {
    let broken = [
        ("kernel/machine/src/a.rs", "\n\n/// The Goroutine's stack.", 3),
        ("kernel/machine/src/a.rs", "pub fn goroutine_stack() {}", 1),
    ];
    holds(rules::policy, &broken);
}

#[test]
fn modules_use_what_is_above_them() {
    let breaches = |text: &str, circles: &[&str]| {
        let lib = "mod low;\nmod panic;\n\npub mod high;";
        let files = [
            ("kernel/src/lib.rs", lib),
            ("kernel/src/low.rs", text),
            ("kernel/src/high.rs", "use crate::low;"),
        ];
        upward_uses(&Tree::of(&files), circles)
    };
    for text in
        ["use crate::high;", "use crate::{low, panic::{a, b}, high as c};", "crate::high::f()", "crate::Name"]
    {
        let [breach] = &breaches(&format!("\n{text}"), &[])[..] else { panic!("{text}") };
        assert!(breach.starts_with("kernel/src/low.rs:2: "), "{breach}");
    }
    for text in ["use crate::panic;", "crate::print!()", "$crate::high()", "//! [`crate::high`]"] {
        assert_eq!(breaches(text, &[]), [""; 0]);
    }
    assert_eq!(breaches("use crate::shout;\nmacro_rules! shout {", &[]), [""; 0]);
    assert_eq!(breaches("use crate::high;", &["low -> high"]), [""; 0]);
    assert_eq!(breaches("", &["low -> high"]).len(), 1);
    holds(|tree| upward_uses(tree, &CIRCLES), &[]);
}

#[test]
fn references_lead_somewhere() {
    let broken = [
        ("README.md", "\n[text](docs/none.md#part)", 2),
        ("docs/a.md", "[b](../none.md)", 1),
        // The name is put together here, or it would be a dead reference itself.
        ("kernel/src/a.rs", concat!("// See docs/", "adr/9999-none.md."), 1),
    ];
    holds(rules::dead_references, &broken);
    let good = [("a.md", "[b](b/) [c](https://c.d) [e](#f)"), ("b/c.md", "[a](../a.md)")];
    assert_eq!(rules::dead_references(&Tree::of(&good)), [""; 0]);
}

#[test]
fn public_items_have_examples() {
    let broken = [
        ("kernel/src/a.rs", "/// ```\n/// b();\n/// ```\npub fn b() {}\n\npub struct A;", 6),
        ("kernel/src/b/c.rs", "/// ```text\n/// f();\n/// ```\npub const fn f() {}", 4),
        ("kernel/src/d.rs", "// d\nimpl D {\n    pub fn make() {}\n}", 3),
    ];
    holds(docs::without_example, &broken);
}

#[test]
fn who_may_wait_says_on_which_stack() {
    let broken = [("kernel/src/a.rs", "/// Waits.\npub fn a() {\n    check_g_stack(\"a\");\n}", 2)];
    holds(docs::silent_about_the_stack, &broken);
}

#[test]
fn go_tests_are_ported_or_left_out_for_a_reason() {
    let broken = [
        ("tests/GO-TESTS.md", "## `a_test.go`\n| Go | here |\n|---|---|\n| `TestA` | `a::none` |", 4),
        ("tests/GO-TESTS.md", "## a_test.go\n| TestA | |", 2),
    ];
    holds(go_tests::rows_without_test, &broken);
    let good = [
        ("tests/GO-TESTS.md", "| TestA | `a::b` |\n| TestC | left out: no collector |"),
        ("tests/tests/a.rs", "fn b() {}"),
    ];
    assert_eq!(go_tests::rows_without_test(&Tree::of(&good)), [""; 0]);
    holds(go_tests::missing_rows, &[]);
    let ported = go_tests::rows(&Tree::of_checkout()).iter().filter(|row| row.is_ported()).count();
    assert!(ported >= go_tests::LEAST_PORTED, "{ported} of Go's tests are ported");
}

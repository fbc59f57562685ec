//! What the boot tool writes into an image, as the kernel reads it.
//!
//! The kernel's own library cannot be linked on the host, so its parser, which needs nothing, is compiled in here.

#[path = "../../kernel/src/args.rs"]
pub mod args;

use core::cell::RefCell;
use core::fmt;

use args::Args;

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn warn(line: fmt::Arguments<'_>) {
    WARNINGS.with_borrow_mut(|lines| lines.push(line.to_string()));
}

/// The warnings of this thread since the last call.
fn warnings() -> Vec<String> {
    WARNINGS.take()
}

fn parse(text: &'static str) -> Args {
    Args::parse(text, warn)
}

#[test]
fn values_are_found_by_key() {
    let args = parse("  gomaxprocs=4\trun=skynet\n leaves=1000 path=a=b empty=\0\0");
    assert_eq!(args.get("gomaxprocs"), Some("4"));
    assert_eq!(args.get("run"), Some("skynet"));
    assert_eq!(args.get("path"), Some("a=b"));
    assert_eq!(args.get("empty"), Some(""), "zeroes at the end are filling");
    assert_eq!(args.get("leave"), None);
    assert_eq!(warnings(), [""; 0]);
}

#[test]
fn numbers_keep_to_their_range() {
    let args = parse("a=7 b=0 c=257 d=x e=-1 f= g=256 h=1");
    assert_eq!(args.number::<u32>("a", 3, 1..=256), 7);
    assert_eq!(args.number::<u32>("g", 3, 1..=256), 256);
    assert_eq!(args.number::<u32>("h", 3, 1..=256), 1);
    assert_eq!(args.number::<u32>("none", 3, 1..=256), 3);
    assert_eq!(warnings(), [""; 0]);
    for key in ["b", "c", "d", "e", "f"] {
        assert_eq!(args.number::<u32>(key, 3, 1..=256), 3);
    }
    let told = warnings();
    assert_eq!(told.len(), 5);
    assert_eq!(told[1], "boot argument `c=257`: not a number from 1 to 256; 3 is used");
}

#[test]
fn numbers_may_be_signed_and_large() {
    let args = parse("a=-5 b=18446744073709551615 c=18446744073709551616");
    assert_eq!(args.number::<i64>("a", 0, -10..=10), -5);
    assert_eq!(args.number::<u64>("b", 0, 0..=u64::MAX), u64::MAX);
    assert_eq!(args.number::<u64>("c", 1, 0..=u64::MAX), 1);
}

#[test]
fn a_choice_is_one_of_its_names() {
    let choices = [("error", 1), ("warn", 2), ("info", 3)];
    assert_eq!(parse("log=warn").choice("log", 3, &choices), 2);
    assert_eq!(parse("").choice("log", 3, &choices), 3);
    assert_eq!(warnings(), [""; 0]);
    assert_eq!(parse("log=Warn").choice("log", 3, &choices), 3);
    assert_eq!(warnings(), ["boot argument `log=Warn`: not one of error, warn, info; the default is used"]);
}

#[test]
fn lists_are_split_at_commas() {
    let parts = |text| parse(text).list("cases").collect::<Vec<_>>();
    assert_eq!(parts("cases=a,b,,c,"), ["a", "b", "c"]);
    assert_eq!(parts("cases="), [""; 0]);
    assert_eq!(parts("run=x"), [""; 0]);
}

#[test]
fn the_last_of_equal_keys_counts() {
    let args = parse("n=1 m=9 n=2 n=3 nn=4");
    assert_eq!(warnings(), ["boot argument `n` is given more than once; the last, `3`, counts"]);
    assert_eq!(args.get("n"), Some("3"));
    assert_eq!(args.get("m"), Some("9"));
}

#[test]
fn words_without_a_key_are_named() {
    let args = parse("quiet =5 n=1");
    assert_eq!(
        warnings(),
        [
            "boot argument `quiet`: not of the form key=value; ignored",
            "boot argument `=5`: not of the form key=value; ignored",
        ]
    );
    assert_eq!(args.get(""), None);
    assert_eq!(args.get("n"), Some("1"));
}

#[test]
fn unknown_keys_are_named() {
    let args = parse("gomaxprocs=1 log=info run=a cases=b leaves=5 leafs=6");
    args.warn_unknown(&["leaves"]);
    let known = args::KERNEL_KEYS.join(", ");
    assert_eq!(
        warnings(),
        [format!("boot argument `leafs=6`: unknown key, ignored; known are {known}, leaves")]
    );
}

#[test]
fn bytes_that_are_not_text_are_ignored() {
    let args = Args::from_bytes(b"n=1 m=\xff", warn);
    assert_eq!(warnings(), ["boot arguments: not UTF-8 at byte 6; all of them are ignored"]);
    assert_eq!(args.get("n"), None);
    assert_eq!(Args::from_bytes(b"n=1", warn).get("n"), Some("1"));
}

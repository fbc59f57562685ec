//! Test images: many cases a boot, deaths that are declared and deaths that are not.

mod support;

use core::time::Duration;

use boot::args::Options;
use boot::cases;
use boot::elf::Program;
use boot::harness;
use support::{Bench, Ended, GUEST};

const NONE: [&str; 0] = [];

fn has(ended: &Ended, texts: &[&str]) {
    for text in texts {
        assert!(ended.out.contains(text), "`{text}` is not in {ended:?}");
    }
}

#[test]
fn all_cases_run_in_one_boot() {
    let bench = Bench::new(&format!("echo x >> $0.boots; {GUEST}"), "one\tpass\t\ntwo\tpass\twords of two\n");
    let ended = bench.run(&NONE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    has(
        &ended,
        &["\nrunning 2 tests\ntest one ... ok\ntest two ... ok\n", "\ntest result: ok. 2 passed; 0 failed; "],
    );
    assert!(!ended.out.contains("words of"), "output is captured: {ended:?}");
    assert_eq!(std::fs::read_to_string(bench.path("qemu.boots")).expect("a count"), "x\n");
}

#[test]
fn a_failed_case_shows_its_output_and_fails_the_run() {
    let ended = Bench::new(GUEST, "one\tpass\t\nfails\tpass\t\nthree\tpass\t\n").run(&NONE);
    assert_eq!(ended.code, Some(101));
    has(&ended, &["test one ... ok\ntest fails ... FAILED\ntest three ... ok\n"]);
    has(&ended, &["---- fails serial output ----\nwords of fails\nfails: 1 is not 2\n"]);
    has(&ended, &["failures:\n    fails\n\ntest result: FAILED. 2 passed; 1 failed;"]);
}

#[test]
fn a_death_fails_its_case_and_the_rest_goes_on() {
    let list = "one\tpass\t\npanics\tpass\t\ntwo\tpass\t\ntriples\tpass\t\nthree\tpass\t\n";
    let ended = Bench::new(GUEST, list).run(&NONE);
    assert_eq!(ended.code, Some(101));
    has(&ended, &["test panics ... FAILED\ntest two ... ok\ntest triples ... FAILED\ntest three ... ok\n"]);
    has(
        &ended,
        &["panic: boom\n", "panics: panicked: exit 2\n", "triples: triple fault\n", "3 passed; 2 failed"],
    );
}

#[test]
fn a_hang_is_a_failure_within_the_time_limit() {
    let ended = Bench::new(GUEST, "hangs\tpass\t\ntwo\tpass\t\n").run(&["--timeout", "1"]);
    assert_eq!(ended.code, Some(101));
    has(&ended, &["test hangs ... FAILED\ntest two ... ok\n", "hangs: timed out after 1 s\n"]);
}

#[test]
fn declared_deaths_are_successes() {
    let list = "panics\tpanic\tboom\none\tpass\t\nthrows\tthrow\t\nseven\texit:7\t\nfails\tfail\t1 is not 2\n\
                triples\ttriple-fault\t\n";
    let ended = Bench::new(GUEST, list).run(&NONE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    has(&ended, &["running 6 tests\ntest one ... ok\ntest panics ... ok\n", "ok. 6 passed"]);
}

#[test]
fn other_ends_than_the_declared_one_are_failures() {
    for (list, reason) in [
        ("passes\tpanic\t\n", "passes: expected panic, but it passed\n"),
        ("panics\tthrow\t\n", "panics: expected throw, but panicked: exit 2\n"),
        ("panics\tpanic\tbang\n", "panics: ended as declared (panic), but its output lacks `bang`\n"),
        ("triples\tfatal\t\n", "triples: expected fatal error, but triple fault\n"),
        ("seven\texit:8\t\n", "seven: expected exit 8, but ended with exit 7\n"),
        ("fails\tpanic\t\n", "fails: expected panic, but it failed: 1 is not 2\n"),
        ("one\tpass\tother words\n", "one: passed, but its output lacks `other words`\n"),
        ("panics\thang\t\n", "panics: expected hang, but panicked: exit 2\n"),
    ] {
        let ended = Bench::new(GUEST, list).run(&NONE);
        assert_eq!(ended.code, Some(101), "{list}: {ended:?}");
        has(&ended, &[reason]);
    }
}

#[test]
fn a_hang_counts_from_the_start_of_its_case() {
    let hang = |script: &str, patience: u64| {
        let bench = Bench::new(script, "hangs\thang\t\n");
        let program = Program::read(&bench.program()).expect("a program");
        let line = ["boot", "-", "--timeout", "2", "--qemu"].map(str::to_owned);
        let options = Options::parse_line(line.into_iter().chain([bench.qemu().display().to_string()]));
        let mut out = Vec::new();
        let list = cases::read(&program).expect("a list");
        let patience = Duration::from_millis(patience);
        let code = harness::run(&options.expect("a good line"), &program, list, patience, &mut out);
        (code.expect("it runs"), String::from_utf8(out).expect("text"))
    };
    let (code, out) = hang(GUEST, 300);
    assert_eq!(code, 0, "{out}");
    // silent before the case: the time limit of the boot ends it, and that is not the hang that was declared
    let (code, out) = hang("sleep 1000", 300);
    assert_eq!(code, 101, "{out}");
    assert!(out.contains("before the test began: timed out"), "{out}");
    // the boot's limit comes before the case has hung long enough
    let (code, out) = hang(GUEST, 60_000);
    assert_eq!(code, 101, "{out}");
}

#[test]
fn plain_takes_declared_deaths_for_failures() {
    let bench = Bench::new(GUEST, "panics\tpanic\t\nhangs\thang\t\ntriples\ttriple-fault\t\n");
    for (name, reason) in [
        ("panics", "panics: panicked: exit 2\n"),
        ("hangs", "hangs: timed out after 1 s\n"),
        ("triples", "triples: triple fault\n"),
    ] {
        let ended = bench.run(&["--plain", "--exact", name, "--timeout", "1"]);
        assert_eq!(ended.code, Some(101), "{ended:?}");
        has(&ended, &[reason, "0 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out"]);
    }
}

#[test]
fn filters_choose_without_a_rebuild() {
    let bench = Bench::new(GUEST, "steal_one\tpass\t\nsteal_all\tpass\t\npark\tpass\t\n");
    has(&bench.run(&["steal"]), &["running 2 tests", "1 filtered out"]);
    has(
        &bench.run(&["steal", "--skip", "all"]),
        &["running 1 test\ntest steal_one ... ok", "2 filtered out"],
    );
    let list = bench.run(&["--list"]);
    assert_eq!(list.out, "steal_one: test\nsteal_all: test\npark: test\n\n3 tests, 0 benchmarks\n");
}

#[test]
fn a_filter_that_matches_nothing_boots_nothing() {
    let ended = Bench::new("touch $0.booted; exit 35", "one\tpass\t\n").run(&["--exact", "on"]);
    assert_eq!(ended.code, Some(0));
    has(&ended, &["running 0 tests", "ok. 0 passed; 0 failed", "1 filtered out"]);
}

#[test]
fn nocapture_shows_the_guest() {
    has(&Bench::new(GUEST, "one\tpass\t\n").run(&["--nocapture"]), &["words of one\n", "test one ... ok\n"]);
}

#[test]
fn a_guest_that_breaks_the_protocol_fails() {
    for (script, reason) in [
        ("exit 33", "one: the machine ended before the first test began: ended well: exit 0"),
        ("echo 'test result: ok'; exit 33", "one: the guest did not run it"),
        ("echo 'test one ...'; exit 33", "one: ended well: exit 0"),
        (
            "echo 'test one ...'; echo 'test one ... ok'; echo 'test result: ok'; exit 35",
            "one: after this test",
        ),
        (
            "echo 'test one ...'; echo 'test one ... ok'; echo 'test result: ok'; exit 37",
            "one: after this test",
        ),
        ("echo 'test one ...'; echo 'test one ... ok'; exit 33", "one: after this test"),
        ("echo 'qemu: no' >&2; exit 1", "boot: | qemu: no"),
    ] {
        let ended = Bench::new(script, "one\tpass\t\n").run(&NONE);
        assert_eq!(ended.code, Some(101), "{script}: {ended:?}");
        has(&ended, &[reason]);
    }
}

#[test]
fn a_broken_list_of_tests_is_one_line() {
    Bench::new("exit 33", "one\tmaybe\t\n").run(&NONE).refused(&["unknown expectation `maybe`"]);
}

//! Negative controls: each case ends badly in its own way, and the runner must call it so. Run with `--plain` each
//! of them must be reported as a failure.
#![no_std]
#![no_main]

use core::sync::atomic::AtomicBool;
use gzero::testing;

use tests::{Verdict, equal};

tests::image! {
    pass: [passes],
    dies: [
        ("fail", "found 1, expected 2", fails),
        ("panic", "panics on purpose", panics),
        ("throw", "throws on purpose", throws),
        ("hang", "", hangs),
        ("triple-fault", "", triple_faults),
        ("exit:5", "", exits),
    ],
}

fn passes() {}

fn fails() -> Verdict {
    equal("one", &1, &2)
}

fn panics() {
    panic!("panics on purpose");
}

fn throws() {
    gzero::throw(format_args!("throws on purpose"));
}

fn hangs() {
    testing::hang(&AtomicBool::new(false));
}

fn triple_faults() {
    testing::triple_fault();
}

fn exits() {
    gzero::exit(5);
}

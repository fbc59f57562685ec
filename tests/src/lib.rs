//! Support for bare-metal test images: a table of cases, and the lines that the runner reads.
//!
//! An image lists its cases with [`image!`]. The list also goes into the ELF section `.gzero.cases`, where the
//! runner finds it without booting. The boot argument `cases=a,b,c` says which ones to run; without it all run.
//!
//! ```text
//! running 2 tests
//! test first ...
//! test first ... ok
//! test second ...
//! test second ... FAILED: what was wrong
//! test result: FAILED. 1 passed; 1 failed
//! ```
//!
//! A case that panics takes the machine with it; the runner then boots the rest again.
#![no_std]

extern crate alloc;

pub mod block;
mod load;
mod named;
mod page;
mod waiting;

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use gzero::println;

pub use load::{Load, hogs, together, wait_until_alone};
pub use named::Named;
pub use page::word;
pub use waiting::{Counted, Drops, start, start_waiting, unpark_for_no_reason, wait_until_waiting};

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does; an error is a failure that the other cases survive.
    pub run: fn() -> Verdict,
}

/// How a case ended: nothing to say, or what was wrong.
pub type Verdict = Result<(), Cow<'static, str>>;

/// What a case's function may return.
pub trait IntoVerdict {
    /// The verdict.
    ///
    /// # Errors
    /// What was wrong.
    fn verdict(self) -> Verdict;
}

impl IntoVerdict for () {
    fn verdict(self) -> Verdict {
        Ok(())
    }
}

impl IntoVerdict for Verdict {
    fn verdict(self) -> Verdict {
        self
    }
}

/// Runs the cases that the boot arguments name and returns the exit code: 0, or 1 if any failed.
pub fn run(cases: &[Case]) -> u8 {
    let wanted: Vec<&str> = gzero::boot_args().list("cases").collect();
    for name in &wanted {
        if cases.iter().all(|case| case.name != *name) {
            println!("no case is named {name}");
        }
    }
    let chosen = || cases.iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name));
    println!("running {} tests", chosen().count());
    let (mut passed, mut failed) = (0, 0);
    for case in chosen() {
        println!("test {} ...", case.name);
        match (case.run)() {
            Ok(()) => {
                passed += 1;
                println!("test {} ... ok", case.name);
            }
            Err(reason) => {
                failed += 1;
                println!("test {} ... FAILED: {reason}", case.name);
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    u8::from(failed > 0)
}

/// Fails a case that goes on, where an assertion would end the machine.
///
/// # Errors
/// When the two differ.
pub fn equal<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(alloc::format!("{what}: found {found:?}, expected {expected:?}").into())
}

/// A small generator of pseudo-random numbers for seeded tests (xorshift; Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// An index into something of this length, which is not 0.
    ///
    /// # Panics
    /// Never: what is below a `usize` is one.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }
}

/// Makes a test image of functions.
///
/// `pass` lists functions that must return, with nothing or a [`Verdict`]. `dies` lists those that must end the
/// machine: how (`panic`, `fatal`, `throw`, `fail`, `hang`, `triple-fault`, `exit:N`), a text that must be
/// printed (may be empty), and the function. Each of the latter gets a boot of its own. Several texts, with tabs
/// between them, must be printed in this order; one that begins with `!` must not come behind those before it. `pass` is
/// allowed too, for a case that returns and must print something.
#[macro_export]
macro_rules! image {
    (
        pass: [$($pass:ident),* $(,)?]
        $(, dies: [$(($how:literal, $message:literal, $dies:ident)),* $(,)?])? $(,)?
    ) => {
        const _: () = {
            const LINES: &str = ::core::concat!(
                $(::core::stringify!($pass), "\tpass\t\n",)*
                $($(::core::stringify!($dies), "\t", $how, "\t", $message, "\n",)*)?
            );

            #[used]
            #[unsafe(link_section = ".gzero.cases")]
            static MANIFEST: [u8; LINES.len()] = match LINES.as_bytes().first_chunk() {
                Some(bytes) => *bytes,
                None => ::core::panic!("the lengths are equal"),
            };
        };

        const CASES: &[$crate::Case] = &[
            $($crate::Case {
                name: ::core::stringify!($pass),
                run: || $crate::IntoVerdict::verdict($pass()),
            },)*
            $($($crate::Case {
                name: ::core::stringify!($dies),
                run: || $crate::IntoVerdict::verdict($dies()),
            },)*)?
        ];

        gzero::entry!(gzero_tests_main);

        fn gzero_tests_main() -> u8 {
            $crate::run(CASES)
        }
    };
}

/// Uses a kilobyte of stack, or a little less, for each level.
pub fn deep(levels: usize) {
    core::hint::black_box([levels; 100]);
    (0..levels.min(1)).for_each(|_| deep(levels - 1));
}

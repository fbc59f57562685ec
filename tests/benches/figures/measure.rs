//! Repetitions, the clock, and the lines that the runner reads.
//!
//! ```text
//! figure NAME PROCS UNIT AMOUNT COUNT
//! ```
//!
//! is one repetition: so much for so many operations. The runner divides, and takes the median.

use alloc::format;

use gzero::testing::{now, rdtsc, seed};
use gzero::{boot_args, gomaxprocs, num_cpu, println, stats};
use tests::wait_until_alone;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Instructions: the emulator raises the time stamp counter by one for each.
    Icount,
    /// Nanoseconds.
    Smp,
}

/// One run of this image.
pub struct Bench {
    pub mode: Mode,
    pub reps: u32,
    div: u64,
}

impl Bench {
    /// What the runner asks for.
    pub fn from_boot_args() -> Self {
        let args = boot_args();
        let mode = args.choice("mode", Mode::Smp, &[("icount", Mode::Icount), ("smp", Mode::Smp)]);
        Self { mode, reps: args.number("reps", 5, 1..=1_000), div: args.number("div", 1, 1..=1_000) }
    }

    /// Measures an operation on 1, 2, 4, ... and all CPUs.
    ///
    /// `operation` takes how many times it shall be done, and returns how many times it was.
    pub fn scaled(&self, name: &str, times: u64, operation: fn(u64) -> u64) {
        let cpus = num_cpu();
        for procs in powers(1, cpus) {
            self.on(procs, name, times, operation);
        }
    }

    /// Measures an operation on this many CPUs.
    pub fn on(&self, procs: usize, name: &str, times: u64, operation: fn(u64) -> u64) {
        if !is_wanted(name) {
            return;
        }
        set_procs(procs);
        for _ in 0..self.reps {
            if self.mode == Mode::Icount {
                // The way that `select` goes is drawn, and each has its own price.
                seed(1);
            }
            let began = self.clock();
            let count = operation((times / self.div).max(1));
            let took = self.clock() - began;
            self.tell(name, procs, took, count);
            wait_until_alone();
        }
    }

    /// Prints one repetition.
    pub fn tell(&self, name: &str, procs: usize, amount: u64, count: u64) {
        let unit = match self.mode {
            Mode::Icount => "instructions/op",
            Mode::Smp => "ns/op",
        };
        tell(name, procs, unit, amount, count);
    }

    /// Prints how many in a million acquisitions of each kind of lock have waited for another CPU, of all that were since boot, and how many times in
    /// a million acquisitions a CPU found one busy and went elsewhere.
    pub fn tell_contended(&self) {
        if self.mode == Mode::Icount {
            return;
        }
        for locks in stats::locks().filter(|locks| locks.taken > 0) {
            for (what, unit, times) in
                [("contended", "waits/million", locks.contended), ("passed", "passes/million", locks.passed)]
            {
                let name = format!("{what}.{}", locks.kind);
                if is_wanted(&name) {
                    tell(&name, num_cpu(), unit, times.saturating_mul(1_000_000), locks.taken);
                }
            }
        }
    }

    /// Now, in what the mode counts.
    pub fn clock(&self) -> u64 {
        match self.mode {
            Mode::Icount => rdtsc().0,
            Mode::Smp => now().0,
        }
    }
}

/// Whether a figure is wanted: `only=` names it, or the beginning of its name.
pub fn is_wanted(name: &str) -> bool {
    let mut wanted = boot_args().list("only").peekable();
    wanted.peek().is_none() || wanted.any(|part| name.starts_with(part))
}

/// Prints one repetition of a figure with a unit of its own.
pub fn tell(name: &str, procs: usize, unit: &str, amount: u64, count: u64) {
    println!("figure {name} {procs} {unit} {amount} {count}");
}

/// Lets so many Ps run.
pub fn set_procs(procs: usize) {
    gomaxprocs(i32::try_from(procs).expect("256 at most"));
}

/// The powers of two from `first` to `last`, and `last`.
pub fn powers(first: usize, last: usize) -> impl Iterator<Item = usize> {
    let doubled = core::iter::successors(Some(first), |number| number.checked_mul(2));
    doubled.take_while(move |number| *number < last).chain((first <= last).then_some(last))
}

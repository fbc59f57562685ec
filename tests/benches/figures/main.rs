//! The figures of gzero: what its operations cost, and beside them what the bare machine needs.
//!
//! `cargo bench -- --mode icount` and `cargo bench -- --mode smp 2`; the runner boots this image, reads the lines that
//! [`measure`] prints, and makes the table. Each operation is defined as in the Go program that it is compared with.
#![no_std]
#![no_main]
#![expect(unreachable_pub, reason = "the modules are private to this image")]

extern crate alloc;

mod channels;
mod latency;
mod locks;
mod measure;
mod memory;
mod raw;
mod scheduler;

use gzero::{boot_args, println};
use measure::Bench;

gzero::entry!(main, parameters = ["part", "mode", "only", "reps", "div"]);

fn main() {
    let bench = Bench::from_boot_args();
    println!("figures begin");
    if boot_args().choice("part", Part::Most, &[("most", Part::Most), ("parked", Part::Parked)])
        == Part::Parked
    {
        memory::parked(&bench);
    } else {
        raw::measure(&bench);
        // Before the machine has had many goroutines.
        latency::measure(&bench);
        scheduler::measure(&bench);
        channels::measure(&bench);
        locks::measure(&bench);
        memory::measure(&bench);
        bench.tell_contended();
    }
    println!("figures end");
}

/// What one boot measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All but the other.
    Most,
    /// The memory of goroutines that wait: what other figures leave behind would be none of theirs.
    Parked,
}

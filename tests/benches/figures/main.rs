//! The figures of gzero: what its operations cost, and beside them what the bare machine needs.
//!
//! `cargo bench -- --mode icount` and `cargo bench -- --mode smp 2`; the runner boots this image, reads the lines that
//! [`measure`] prints, and makes the table. Each operation is defined as in the Go program that it is compared with.
#![no_std]
#![no_main]
#![expect(unreachable_pub, reason = "the modules are private to this image")]

extern crate alloc;

mod channels;
mod locks;
mod measure;
mod scheduler;

use gzero::println;
use measure::Bench;

gzero::entry!(main, parameters = ["mode", "only", "reps", "div"]);

fn main() {
    let bench = Bench::from_boot_args();
    println!("figures begin");
    scheduler::measure(&bench);
    channels::measure(&bench);
    locks::measure(&bench);
    println!("figures end");
}

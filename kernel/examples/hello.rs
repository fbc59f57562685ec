//! A goroutine that says hello and returns a value, and one that waits for it.
//!
//! `cargo run --example hello`
#![no_std]
#![no_main]

use gzero::prelude::*;

gzero::entry!(main);

fn main() {
    let worker = go(|| {
        println!("hello from a goroutine on bare metal");
        6 * 7
    });
    println!("it returned {}; bye from main, one of {} CPUs", worker.join(), gzero::num_cpu());
}

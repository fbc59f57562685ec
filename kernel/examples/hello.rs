//! A goroutine that says hello, and one that waits for it.
//!
//! `cargo run --example hello`
#![no_std]
#![no_main]

use gzero::{current, go, park, println, unpark};

gzero::entry!(main);

fn main() {
    let main = current();
    go(move || {
        println!("hello from a goroutine on bare metal");
        unpark(main);
    });
    park();
    println!("bye from main, one of {} CPUs", gzero::num_cpu());
}

//! A tree of goroutines: each starts ten more, the leaves are numbered, and every goroutine sends its parent the sum
//! of what its children have sent.
//!
//! `cargo run --example skynet -- --args "leaves=100000"`
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;

use gzero::{Mailbox, boot_args, go, println};

gzero::entry!(main, parameters = ["leaves"]);

fn main() -> Result<(), &'static str> {
    let leaves = boot_args().number("leaves", 10_000u64, 1..=10_000_000);
    let result = Arc::new(Mailbox::new());
    skynet(&result, 0, leaves);
    let sum = result.take();
    println!("sum of {leaves} leaves: {sum}");
    if sum == leaves * (leaves - 1) / 2 { Ok(()) } else { Err("the sum is wrong") }
}

/// Puts the sum of the numbers from `first` on, `count` of them, into `parent`.
fn skynet(parent: &Mailbox<u64>, first: u64, count: u64) {
    if count == 1 {
        return parent.put(first);
    }
    let results = Arc::new(Mailbox::new());
    let children = count.min(10);
    for child in 0..children {
        let (from, to) = (count * child / children, count * (child + 1) / children);
        let results = Arc::clone(&results);
        go(move || skynet(&results, first + from, to - from));
    }
    parent.put((0..children).map(|_| results.take()).sum());
}

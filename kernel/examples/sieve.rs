//! The concurrent prime sieve: a chain of goroutines, one for each prime, each of which passes on what its prime does
//! not divide.
//!
//! `cargo run --example sieve -- --args "primes=100"`
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;

use gzero::{Mailbox, boot_args, go, println};

gzero::entry!(main, parameters = ["primes"]);

fn main() {
    let count = boot_args().number("primes", 30u64, 1..=10_000);
    let mut numbers = Arc::new(Mailbox::new());
    let source = Arc::clone(&numbers);
    go(move || {
        for number in 2u64.. {
            source.put(number);
        }
    });
    for n in 1..=count {
        let prime: u64 = numbers.take();
        println!("prime {n}: {prime}");
        let filtered = Arc::new(Mailbox::new());
        let (from, to) = (numbers, Arc::clone(&filtered));
        go(move || {
            loop {
                let number = from.take();
                if !number.is_multiple_of(prime) {
                    to.put(number);
                }
            }
        });
        numbers = filtered;
    }
}

//! Counts lines, words and characters of what is typed, or of a file: Unix's `wc` on bare metal.
//!
//! `cargo run --example wc` and type, with Ctrl-D at the end; or `cargo run --example wc -- --input README.md`. With `pause=500`
//! it listens half a second before it begins to read.
#![no_std]
#![no_main]

use gzero::fd::{self, FdError};
use gzero::prelude::*;
use gzero::stdin;

gzero::entry!(main, parameters = ["pause"]);

fn main() -> Result<(), FdError> {
    let input = stdin()?;
    sleep(Duration::from_millis(gzero::boot_args().number("pause", 0, 0..=60_000)));
    let (sender, receiver) = chan::<String>(16);
    // Words are counted while the next lines come.
    let counter = go(move || {
        receiver.iter().fold([0; 3], |[lines, words, characters], line| {
            [lines + 1, words + line.split_whitespace().count(), characters + line.chars().count()]
        })
    });
    for line in input.lines() {
        if sender.send(line).is_err() {
            break;
        }
    }
    drop(sender);
    let [lines, words, characters] = counter.join();
    println!("{lines} lines, {words} words, {characters} characters");
    match fd::overruns(0)? {
        0 => {}
        times => println!("but {times} times or more the serial port was full, and something was lost"),
    }
    Ok(())
}

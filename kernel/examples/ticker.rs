//! A ticker with a receiver that is fast, and then slow; a faster beat, and the stop.
//!
//! `cargo run --example ticker -- --args "millis=20"`
#![no_std]
#![no_main]

use gzero::prelude::*;
use gzero::time::{Ticker, after, after_func};

gzero::entry!(main, parameters = ["millis"]);

fn main() -> Result<(), &'static str> {
    let beat = Duration::from_millis(gzero::boot_args().number("millis", 20, 1..=10_000));
    let start = Instant::now();
    let ticker = Ticker::new(beat);
    for n in 1..=3 {
        let tick = ticker.recv();
        println!("tick {n} after {:?}", tick - start);
        if tick < start + beat * n {
            return Err("a tick was early");
        }
    }

    sleep(beat * 5);
    let kept = ticker.receiver().try_iter().count();
    println!("ticks that were kept for a receiver who slept for five beats: {kept}");

    let start = Instant::now();
    ticker.reset(beat / 4);
    let end = after(beat * 2);
    let mut ticks = 0;
    loop {
        select! {
            recv(ticker) => ticks += 1,
            recv(end) => break,
        }
    }
    println!("four times as fast: {ticks} ticks in {:?}", start.elapsed());

    ticker.stop();
    let (tx, rx) = chan(1);
    after_func(beat, move || {
        tx.send("nothing comes after a stop").expect("somebody waits");
    });
    let last = select! {
        recv(ticker) => return Err("a tick after the stop"),
        recv(rx) -> word => word.map_err(|_| "the function has sent nothing")?,
    };
    println!("{last}");
    if kept <= 1 { Ok(()) } else { Err("a channel of a ticker keeps one tick") }
}

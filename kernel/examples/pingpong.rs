//! Two goroutines hand a ball to and fro over two channels without room: each throw meets a catch.
//!
//! `cargo run --release --example pingpong -- --args "rounds=100000"`
#![no_std]
#![no_main]

use gzero::prelude::*;

gzero::entry!(main, parameters = ["rounds"]);

fn main() -> Result<(), &'static str> {
    let rounds = gzero::boot_args().number("rounds", 10_000_u64, 1..=100_000_000);
    let (ping, to_pong) = chan(0);
    let (pong, to_ping) = chan(0);
    // It ends when `ping` is dropped: then the channel is closed.
    let player = go_named("pong", move || {
        to_pong.iter().take_while(|ball| pong.send(ball + 1).is_ok()).count() as u64
    });
    let begin = Instant::now();
    let mut ball = 0_u64;
    for _ in 0..rounds {
        ping.send(ball + 1).map_err(|_| "nobody catches")?;
        ball = to_ping.recv().map_err(|_| "nobody throws back")?;
    }
    let time = begin.elapsed();
    drop(ping);
    let returned = player.join();
    println!("{rounds} rounds in {} ms, {} ns each", time.as_millis(), time.as_nanos() / u128::from(rounds));
    println!("the ball was hit {ball} times");
    if (ball, returned) == (2 * rounds, rounds) { Ok(()) } else { Err("a throw was lost") }
}

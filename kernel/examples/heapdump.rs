//! Writes a heap dump to the second serial port while a thousand goroutines run: parked, asleep, waiting for mailboxes and
//! semaphores, and on all CPUs.
//!
//! `cargo run --example heapdump -- --serial2 FILE`
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::fd::FdError;
use gzero::{
    Mailbox, Nanos, fd, go_named, gosched, num_cpu, num_goroutine, park, println, semacquire, sleep,
    write_heap_dump,
};

gzero::entry!(main);

/// Goroutines beside main.
const GOROUTINES: usize = 1_000;

/// Nobody ever puts anything here.
static EMPTY: Mailbox<u64> = Mailbox::new();
/// Nobody ever releases this.
static TAKEN: AtomicU32 = AtomicU32::new(0);

fn main() -> Result<(), FdError> {
    let file = fd::open("serial2")?;
    let stop = Arc::new(AtomicBool::new(false));
    for n in 0..num_cpu() {
        let stop = Arc::clone(&stop);
        go_named("spins", move || spins(n, &stop));
    }
    for n in num_cpu()..GOROUTINES {
        // Each has something of its own on the heap, reachable from its stack.
        let own: Box<[usize]> = (0..n % 50).collect();
        match n % 4 {
            0 => go_named("parked", move || parked(&own)),
            1 => go_named("reader", move || reader(&own)),
            2 => go_named("taker", move || taker(&own)),
            _ => go_named("sleeper", move || sleeper(&own)),
        };
    }
    // Until all of them are where they will stay.
    for _ in 0..100 {
        gosched();
        sleep(Nanos::from_micros(100));
    }
    println!("{} goroutines, dumping", num_goroutine());
    write_heap_dump(file)?;
    stop.store(true, Ordering::Relaxed);
    println!("heap dump written");
    Ok(())
}

#[inline(never)]
fn spins(n: usize, stop: &AtomicBool) {
    let kept: Vec<usize> = (0..n + 10).collect();
    while !stop.load(Ordering::Relaxed) {
        black_box(&kept);
    }
}

#[inline(never)]
fn parked(own: &[usize]) {
    loop {
        park();
        black_box(own);
    }
}

#[inline(never)]
fn reader(own: &[usize]) {
    black_box(EMPTY.take());
    black_box(own);
}

#[inline(never)]
fn taker(own: &[usize]) {
    semacquire(&TAKEN);
    black_box(own);
}

#[inline(never)]
fn sleeper(own: &[usize]) {
    sleep(Nanos::from_millis(3_600_000));
    black_box(own);
}

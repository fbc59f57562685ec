//! What the bare machine needs, measured in the same run as what is built on it.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use gzero::testing::{bare, reach_one, reach_procs};
use gzero::{Nanos, now, num_cpu};

use crate::latency;
use crate::measure::{Bench, Mode, is_wanted, powers};

/// Interrupts of each repetition.
const INTERRUPTS: usize = 500;

pub fn measure(bench: &Bench) {
    bench.on(1, "ref_loop", 20_000_000, xorshift);
    bench.on(1, "ref_atomic_add", 2_000_000, locked_add);
    bench.on(1, "ref_nanotime", 400_000, nanotime);
    bench.on(1, "raw_switch", 400_000, switch);
    if bench.mode == Mode::Smp && num_cpu() > 1 {
        interrupts(bench, "raw_ipi", 2, reach_one);
        for procs in powers(2, num_cpu()) {
            interrupts(bench, "raw_broadcast", procs, reach_procs);
        }
    }
}

/// Six dependent steps of arithmetic a turn.
fn xorshift(times: u64) -> u64 {
    let mut x = 88_172_645_463_325_252_u64;
    for _ in 0..times {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
    times
}

fn locked_add(times: u64) -> u64 {
    let word = AtomicU64::new(0);
    for _ in 0..times {
        // Relaxed: nobody else has it; it is the price that is asked for.
        black_box(&word).fetch_add(1, Ordering::Relaxed);
    }
    times
}

fn nanotime(times: u64) -> u64 {
    for _ in 0..times {
        black_box(now());
    }
    times
}

fn switch(times: u64) -> u64 {
    let pairs = times.div_ceil(2);
    bare::switch_there_and_back(pairs).expect("memory for a stack");
    pairs * 2
}

/// Interrupts to CPUs that spin.
fn interrupts(bench: &Bench, name: &str, procs: usize, send: fn() -> Nanos) {
    if is_wanted(name) {
        latency::beside_load(bench, procs, latency::Load::Tight, |world| {
            let times = (0..INTERRUPTS).map(|_| {
                world.wait_until_it_runs(procs - 1);
                send()
            });
            latency::tell(name, procs, times.collect());
        });
    }
}

//! Goroutines that take turns by locks.

use alloc::sync::Arc;
use core::sync::atomic::AtomicU32;

use gzero::sync::{Cond, Mutex};
use gzero::{gosched, semacquire, semrelease};

use crate::measure::Bench;
use crate::scheduler::together;

pub fn measure(bench: &Bench) {
    bench.scaled("mutex_contended", 100_000, mutex_contended);
    bench.scaled("sema_handoff", 100_000, sema_handoff);
    bench.scaled("cond_handoff", 100_000, cond_handoff);
}

/// Eight goroutines that yield while they hold the lock.
fn mutex_contended(times: u64) -> u64 {
    const GOROUTINES: u32 = 8;
    let each = times / u64::from(GOROUTINES);
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    together(GOROUTINES, move |_| {
        for _ in 0..each {
            let mut count = count.lock();
            *count += 1;
            gosched();
            drop(count);
        }
    });
    let all = each * u64::from(GOROUTINES);
    assert_eq!(*counted.lock(), all, "an update is lost");
    all
}

/// Two goroutines in turns: each step is one release that readies the other, and one wait.
fn sema_handoff(times: u64) -> u64 {
    static TURNS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    let each = times / 2;
    semrelease(&TURNS[0]);
    together(2, move |id| {
        let (mine, other) = if id == 0 { (&TURNS[0], &TURNS[1]) } else { (&TURNS[1], &TURNS[0]) };
        for _ in 0..each {
            semacquire(mine);
            semrelease(other);
        }
    });
    // What the last step has released.
    semacquire(&TURNS[0]);
    each * 2
}

/// The same by a lock and a condition.
fn cond_handoff(times: u64) -> u64 {
    let each = times / 2;
    let shared = Arc::new((Mutex::new(0), Cond::new()));
    together(2, move |id| {
        let (turn, changed) = &*shared;
        for _ in 0..each {
            let mut turn = turn.lock();
            while *turn != id {
                turn = changed.wait(turn);
            }
            *turn = 1 - id;
            changed.signal();
        }
    });
    each * 2
}

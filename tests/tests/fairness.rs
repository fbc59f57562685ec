//! Nobody starves. Several cases are those of Go's `proc_test.go`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::{Mailbox, Nanos, go, gosched, num_goroutine, sleep, stats};
use tests::{Verdict, equal};

tests::image! {
    pass: [
        short_sleepers_do_not_starve_others,
        short_sleepers_do_not_starve_each_other,
        hogs_do_not_starve_a_pair,
    ],
}

fn wait_until_alone() {
    while num_goroutine() > 1 {
        gosched();
    }
}

fn procs() -> usize {
    stats::gomaxprocs()
}

/// Starts goroutines that spin until the flag is set, as many as there are Ps.
fn hogs(stop: &Arc<AtomicBool>) {
    for _ in 0..procs() {
        let stop = Arc::clone(stop);
        go(move || while !stop.load(Ordering::Relaxed) {});
    }
}

/// Go's `TestTimerFairness`: sleepers that wake at once, again and again, and a goroutine that only yields.
fn short_sleepers_do_not_starve_others() {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 {
        let stop = Arc::clone(&stop);
        go(move || {
            while !stop.load(Ordering::Relaxed) {
                sleep(Nanos(1));
            }
        });
    }
    (0..1_000).for_each(|_| gosched());
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Go's `TestTimerFairness2`.
fn short_sleepers_do_not_starve_each_other() -> Verdict {
    let woken = Arc::new((0..3).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
    for n in 0..3 {
        let woken = Arc::clone(&woken);
        go(move || {
            while woken.iter().any(|count| count.load(Ordering::Relaxed) < 100) {
                sleep(Nanos(1 + n as u64));
                woken[n].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    equal("sleepers that woke", &woken.iter().filter(|n| n.load(Ordering::Relaxed) >= 100).count(), &3)
}

/// Go's `TestPingPongHog`: a pair that wakes each other goes on while hogs take their slices.
fn hogs_do_not_starve_a_pair() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    let ball = Arc::new(Mailbox::new());
    let back = Arc::new(Mailbox::new());
    let (to, from) = (Arc::clone(&ball), Arc::clone(&back));
    go(move || (0..200_u32).for_each(|_| from.put(to.take() + 1)));
    let mut value = 0;
    for _ in 0..200 {
        ball.put(value);
        value = back.take();
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("value", &value, &200)
}

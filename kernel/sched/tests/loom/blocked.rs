//! Rings of goroutines that wait for each other: the last one to close a ring finds it, and nobody else is accused.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use sched::GoRef;
use sched::blocked::{Blocked, Waiter, Waits, pack, ring};

use crate::{g, model};

const COUNT: usize = 3;

/// Goroutine n holds lock n at first.
struct World {
    blocked: [Blocked; COUNT],
    holders: [AtomicU64; COUNT],
    /// The locks themselves.
    locks: [Mutex<()>; COUNT],
}

fn of(n: usize) -> GoRef {
    GoRef { index: g(u32::try_from(n).expect("small")), generation: 0 }
}

impl Waits for World {
    fn blocked(&self, g: GoRef) -> Option<&Blocked> {
        self.blocked.get(g.index.get() as usize)
    }

    fn holder(&self, lock: u64) -> Option<u64> {
        Some(self.holders.get(usize::try_from(lock).ok()?)?.load(Ordering::Acquire))
    }
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            blocked: core::array::from_fn(|_| Blocked::new()),
            holders: core::array::from_fn(|_| AtomicU64::new(0)),
            locks: Default::default(),
        })
    }

    /// Goroutine `me` has got the lock.
    fn hold(&self, me: usize, lock: usize) {
        self.holders[lock].store(pack(of(me)), Ordering::Relaxed);
    }

    /// It begins to wait. Whether it finds a ring.
    fn begin(&self, me: usize, lock: usize) -> bool {
        let number = self.blocked[me].begin(lock as u64);
        ring(self, Waiter { g: of(me), number }, 100).is_some()
    }
}

fn close(count: usize, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new();
        let found: Vec<bool> = {
            let threads: Vec<_> = (1..count)
                .map(|n| {
                    let world = Arc::clone(&world);
                    thread::spawn(move || {
                        world.hold(n, n);
                        world.begin(n, (n + 1) % count)
                    })
                })
                .collect();
            world.hold(0, 0);
            let first = world.begin(0, 1 % count);
            threads.into_iter().map(|thread| thread.join().expect("no panic")).chain([first]).collect()
        };
        assert!(found.contains(&true), "nobody has found the ring");
    });
}

#[test]
fn two_that_cross_are_found() {
    close(2, 4);
}

#[test]
fn three_in_a_ring_are_found() {
    close(3, 2);
}

/// Goroutine 0 holds lock 0 and waits for lock 1 of goroutine 1, which gives it away before it wants lock 0: the two are
/// published as waiting for each other's locks at some time, but never at once.
#[test]
fn two_that_take_turns_are_not_accused() {
    model(3, || {
        let world = World::new();
        let held = world.locks[1].lock().expect("nobody panics");
        world.hold(1, 1);
        world.hold(0, 0);
        let other = Arc::clone(&world);
        let zero = thread::spawn(move || {
            let accused = other.begin(0, 1);
            let got = other.locks[1].lock().expect("nobody panics");
            other.blocked[0].end();
            other.hold(0, 1);
            drop(got);
            accused
        });
        world.holders[1].store(0, Ordering::Relaxed);
        drop(held);
        let accused = world.begin(1, 0);
        world.blocked[1].end();
        assert!(!accused, "goroutine 1 accuses");
        assert!(!zero.join().expect("no panic"), "goroutine 0 accuses");
    });
}

/// The same pair over and over: goroutine 1 takes lock 1 again and waits again, each time for a lock that is free soon.
#[test]
fn waits_of_two_rounds_are_told_apart() {
    model(3, || {
        let world = World::new();
        world.hold(0, 0);
        let other = Arc::clone(&world);
        let one = thread::spawn(move || {
            // It has lock 1, waits for lock 2, which is free, and only then gives lock 1 away.
            let got = other.locks[1].lock().expect("nobody panics");
            other.hold(1, 1);
            let first = other.begin(1, 2);
            other.blocked[1].end();
            other.holders[1].store(0, Ordering::Relaxed);
            drop(got);
            // Now it waits for lock 0, and holds nothing.
            let second = other.begin(1, 0);
            other.blocked[1].end();
            first || second
        });
        let accused = world.begin(0, 1);
        drop(world.locks[1].lock().expect("nobody panics"));
        world.blocked[0].end();
        assert!(!accused, "goroutine 0 accuses");
        assert!(!one.join().expect("no panic"), "goroutine 1 accuses");
    });
}

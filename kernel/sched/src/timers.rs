//! Goroutines that wait for a time: one heap for each P.
//!
//! A plain structure, a heap with four children to a node; the kernel holds a lock around it. The earliest time is
//! readable without the lock ([`Earliest`]): a CPU looks at it to set its timer.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::id::GoRef;
use crate::sync::{AtomicU64, Ordering};

/// Children of a node.
const BRANCHES: usize = 4;

/// The time that stands for "never".
pub const NEVER: u64 = u64::MAX;

/// A goroutine and when it is to be readied, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it is due.
    pub when: u64,
    /// Who waits.
    pub g: GoRef,
    /// Of equal times the lower number is first.
    order: u64,
}

impl Timer {
    /// What the heap is ordered by.
    const fn key(&self) -> (u64, u64) {
        (self.when, self.order)
    }
}

/// The earliest time of a heap, readable without the heap's lock; [`NEVER`] when it is empty.
#[derive(Clone, Debug)]
pub struct Earliest(Arc<AtomicU64>);

impl Earliest {
    /// That time, at this moment or a little earlier.
    pub fn get(&self) -> u64 {
        // Relaxed: who acts on it takes the lock and looks again; the owner sees its own stores.
        self.0.load(Ordering::Relaxed)
    }
}

/// The timers of one P.
#[derive(Debug)]
pub struct Timers {
    heap: Vec<Timer>,
    /// Timers ever added.
    count: u64,
    earliest: Earliest,
}

impl Timers {
    /// No timers, and the handle to the earliest time.
    pub fn new() -> (Self, Earliest) {
        let earliest = Earliest(Arc::new(AtomicU64::new(NEVER)));
        (Self { heap: Vec::new(), count: 0, earliest: earliest.clone() }, earliest)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Adds a timer. Allocates when the heap has no room left.
    pub fn add(&mut self, when: u64, g: GoRef) {
        self.count += 1;
        self.heap.push(Timer { when, g, order: self.count });
        self.rise(self.heap.len() - 1);
        self.publish();
    }

    /// Takes out the earliest timer if its time has come.
    #[must_use = "the goroutine of a timer that was taken out must be readied"]
    pub fn take_due(&mut self, now: u64) -> Option<GoRef> {
        self.heap.first().filter(|timer| timer.when <= now)?;
        let due = self.heap.swap_remove(0);
        self.sink(0);
        self.publish();
        Some(due.g)
    }

    /// Takes out all timers, in no order, for another heap.
    #[must_use = "the goroutines of timers that were taken out must be readied"]
    pub fn take_all(&mut self) -> Vec<Timer> {
        let all = core::mem::take(&mut self.heap);
        self.publish();
        all
    }

    fn publish(&self) {
        // Relaxed: as in `Earliest::get`.
        self.earliest.0.store(self.heap.first().map_or(NEVER, |timer| timer.when), Ordering::Relaxed);
    }

    /// Moves the timer at `i` up to its place.
    fn rise(&mut self, mut i: usize) {
        while i > 0 {
            let parent = (i - 1) / BRANCHES;
            if self.heap[parent].key() <= self.heap[i].key() {
                return;
            }
            self.heap.swap(parent, i);
            i = parent;
        }
    }

    /// Moves the timer at `i` down to its place.
    fn sink(&mut self, mut i: usize) {
        loop {
            let children = i * BRANCHES + 1..(i * BRANCHES + 1 + BRANCHES).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child].key()) else { return };
            if self.heap[i].key() <= self.heap[least].key() {
                return;
            }
            self.heap.swap(least, i);
            i = least;
        }
    }
}

#[cfg(test)]
#[path = "tests/timers.rs"]
mod tests;

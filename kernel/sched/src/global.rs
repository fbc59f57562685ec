//! The global run queue: what does not fit into a local one, and what must not wait behind one.
//!
//! A plain structure; the kernel has one for every few CPUs, with a lock around each. No hot path takes that lock: a CPU comes here when
//! its own queue overflows, when it has run dry, and once in [`crate::pick::GLOBAL_TICK`] picks so that
//! a busy CPU does not leave it waiting for ever.

use crate::id::GoIndex;
use crate::link::Linked;
use crate::list::{Chain, List, SharedLen};

/// A first-in, first-out queue of runnable goroutines.
#[derive(Debug)]
pub struct GlobalQueue(List);

impl GlobalQueue {
    /// An empty queue, and its length for those without the lock.
    pub fn new() -> (Self, SharedLen) {
        let (list, len) = List::new();
        (Self(list), len)
    }

    /// Goroutines in the queue.
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one goroutine.
    pub fn push<L: Linked<Index = GoIndex>>(&mut self, table: &L, g: GoIndex) {
        self.0.push(table, Chain::one(table, g));
    }

    /// Appends a chain, in a constant number of steps.
    pub fn push_batch<L: Linked<Index = GoIndex>>(&mut self, table: &L, batch: Chain) {
        self.0.push(table, batch);
    }

    /// Removes the fair share of one of `procs` Ps, `max` at most: the first `len / procs + 1`.
    pub fn grab<L: Linked<Index = GoIndex>>(&mut self, table: &L, procs: u32, max: u32) -> Option<Chain> {
        let share = self.len() / procs.max(1) + 1;
        self.0.take(table, share.min(max))
    }
}

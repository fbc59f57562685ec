//! Dead goroutines, kept for reuse with their stacks.
//!
//! Each P has a list of its own, last in, first out, so that a spawn gets a stack that is still in the cache.
//! It spills into the shared [`FreeList`] when one P ends more goroutines than it starts, and is refilled
//! from there when it is the other way round. The kernel holds a lock around the shared list, and
//! looks at its [`SharedLen`] first, so that an empty one is not locked.

use crate::id::GoIndex;
use crate::list::{Chain, List, SharedLen};
use crate::sync::Plain32;
use crate::table::Table;

/// Dead goroutines that a P keeps before it spills.
pub const LOCAL_FREE_MAX: u32 = 64;

/// Dead goroutines that move between a P and the shared list at a time.
pub const FREE_BATCH: u32 = 32;

/// The dead goroutines of one P. Only the CPU that holds the P touches it; see
/// [`Owner`](crate::processor::Owner).
#[derive(Debug)]
pub(crate) struct LocalFree {
    first: Plain32,
    len: Plain32,
}

impl LocalFree {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self { first: Plain32::new(GoIndex::NONE), len: Plain32::new(0) }
    }

    /// Goroutines in the list.
    pub(crate) fn len(&self) -> u32 {
        self.len.get()
    }

    /// Adds a dead goroutine; beyond [`LOCAL_FREE_MAX`] returns [`FREE_BATCH`] for the shared list.
    pub(crate) fn put<B>(&self, table: &Table<B>, g: GoIndex) -> Option<Chain> {
        table.slot(g).set_next(GoIndex::new(self.first.get()));
        self.first.set(g.get());
        self.len.set(self.len() + 1);
        if self.len() <= LOCAL_FREE_MAX {
            return None;
        }
        Chain::link(table, (0..FREE_BATCH).map_while(|_| self.take(table)))
    }

    /// Removes the goroutine added last.
    pub(crate) fn take<B>(&self, table: &Table<B>) -> Option<GoIndex> {
        let g = GoIndex::new(self.first.get())?;
        self.first.set(GoIndex::encode(table.slot(g).next()));
        table.slot(g).set_next(None);
        self.len.set(self.len() - 1);
        Some(g)
    }
}

/// The dead goroutines that belong to no P.
#[derive(Debug)]
pub struct FreeList(List);

impl FreeList {
    /// An empty list, and its length for those without the lock.
    pub fn new() -> (Self, SharedLen) {
        let (list, len) = List::new();
        (Self(list), len)
    }

    /// Goroutines in the list.
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds dead goroutines: a P's spill, or the slots by which the table has grown.
    pub fn put<B>(&mut self, table: &Table<B>, batch: Chain) {
        self.0.push(table, batch);
    }

    /// Removes up to [`FREE_BATCH`] goroutines, for [`Owner::refill`](crate::processor::Owner::refill).
    pub fn take<B>(&mut self, table: &Table<B>) -> Option<Chain> {
        self.0.take(table, FREE_BATCH)
    }
}

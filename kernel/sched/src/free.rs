//! Dead goroutines, kept for reuse with their stacks, and sudogs that nobody uses.
//!
//! Each P has a list of its own of either kind, last in, first out, so that a spawn gets a stack that is still
//! in the cache. It spills into the shared [`FreeList`] when one P ends more goroutines than it starts, and is
//! refilled from there when it is the other way round. The kernel has a shared list for each CPU or for some together, holds a
//! lock around each, and looks at its [`SharedLen`] first, so that an empty one is not locked.

use crate::id::GoIndex;
use crate::link::{Index, Link, Linked};
use crate::list::{Chain, List, SharedLen};
use crate::sync::Plain32;

/// Dead goroutines (or unused sudogs) that a P keeps before it spills.
pub const LOCAL_FREE_MAX: u32 = 64;

/// Dead goroutines (or unused sudogs) that move between a P and the shared list at a time.
pub const FREE_BATCH: u32 = 32;

/// The free list of one P. Only the CPU that holds the P touches it; see
/// [`Owner`](crate::processor::Owner).
#[derive(Debug)]
pub(crate) struct LocalFree<I> {
    first: Link<I>,
    len: Plain32,
}

impl<I: Index> LocalFree<I> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self { first: Link::new(), len: Plain32::new(0) }
    }

    /// Elements in the list.
    pub(crate) fn len(&self) -> u32 {
        self.len.get()
    }

    /// Adds one that nobody uses; beyond [`LOCAL_FREE_MAX`] returns [`FREE_BATCH`] for the shared list.
    pub(crate) fn put(&self, store: &impl Linked<Index = I>, index: I) -> Option<Chain<I>> {
        store.set_next(index, self.first.get());
        self.first.set(Some(index));
        self.len.set(self.len() + 1);
        if self.len() <= LOCAL_FREE_MAX {
            return None;
        }
        Chain::link(store, (0..FREE_BATCH).map_while(|_| self.take(store)))
    }

    /// Removes the one added last.
    pub(crate) fn take(&self, store: &impl Linked<Index = I>) -> Option<I> {
        let index = self.first.get()?;
        self.first.set(store.next(index));
        store.set_next(index, None);
        self.len.set(self.len() - 1);
        Some(index)
    }

    /// Forgets what is in the list.
    pub(crate) fn clear(&self) {
        self.first.set(None);
        self.len.set(0);
    }

    /// Adds a chain from the shared list, up to [`LOCAL_FREE_MAX`] in all. What comes back did not fit.
    pub(crate) fn refill(&self, store: &impl Linked<Index = I>, batch: Chain<I>) -> Option<Chain<I>> {
        let mut rest = Some(batch);
        while let Some(chain) = rest {
            if self.len() >= LOCAL_FREE_MAX {
                return Some(chain);
            }
            let (index, tail) = chain.split_first(store);
            let spill = self.put(store, index);
            debug_assert!(spill.is_none(), "below the limit nothing spills");
            rest = tail;
        }
        None
    }
}

/// The dead goroutines (or unused sudogs) that belong to no P.
#[derive(Debug)]
pub struct FreeList<I = GoIndex>(List<I>);

impl<I: Index> FreeList<I> {
    /// An empty list, and its length for those without the lock.
    pub fn new() -> (Self, SharedLen) {
        let (list, len) = List::new();
        (Self(list), len)
    }

    /// Elements in the list.
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what nobody uses: a P's spill, or the slots by which the table has grown.
    pub fn put(&mut self, store: &impl Linked<Index = I>, batch: Chain<I>) {
        self.0.push(store, batch);
    }

    /// Forgets what is in the list, and has this instead.
    pub fn replace(&mut self, store: &impl Linked<Index = I>, batch: Option<Chain<I>>) {
        self.0.take(store, u32::MAX);
        if let Some(batch) = batch {
            self.put(store, batch);
        }
    }

    /// Removes up to [`FREE_BATCH`], for a P's refill.
    pub fn take(&mut self, store: &impl Linked<Index = I>) -> Option<Chain<I>> {
        self.0.take(store, FREE_BATCH)
    }
}

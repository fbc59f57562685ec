//! Intrusive lists of goroutines or sudogs, linked through their slots: nothing is allocated to queue one.
//!
//! A [`Chain`] is a run of linked goroutines on its way from one owner to another, for instance from a full
//! local queue to the global one. It is built without a lock; taking it over is a constant number of steps
//! under one. The [`List`] that takes chains over is first-in, first-out, and publishes its length in a
//! [`SharedLen`]; [`free_list`](crate::free_list) has others.
//!
//! A goroutine or sudog is in one list at most. The links of a list belong to who holds the list; those of a free list to nobody.

use alloc::sync::Arc;

use crate::id::GoIndex;
use crate::link::{Index, Linked};
use crate::sync::{AtomicU32, Ordering, Padded};

/// One or more linked goroutines (or sudogs), first to last. Dropping it loses them.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the goroutines of a chain are in no queue until it is handed over"]
pub struct Chain<I = GoIndex> {
    first: I,
    last: I,
    len: u32,
}

impl<I: Index> Chain<I> {
    /// A chain of one.
    pub fn one(store: &impl Linked<Index = I>, g: I) -> Self {
        store.set_next(g, None);
        Self { first: g, last: g, len: 1 }
    }

    /// Links `goroutines` in their order; `None` if there are none. They must be in no other list.
    pub fn link(store: &impl Linked<Index = I>, goroutines: impl IntoIterator<Item = I>) -> Option<Self> {
        let mut goroutines = goroutines.into_iter();
        let mut chain = Self::one(store, goroutines.next()?);
        for g in goroutines {
            store.set_next(chain.last, Some(g));
            chain.last = g;
            chain.len += 1;
        }
        store.set_next(chain.last, None);
        Some(chain)
    }

    /// Those that are linked already, from the first to the last.
    pub(crate) const fn from_parts(first: I, last: I, len: u32) -> Self {
        Self { first, last, len }
    }

    /// The first, the last, and how many there are, linked as they are.
    pub(crate) const fn into_parts(self) -> (I, I, u32) {
        (self.first, self.last, self.len)
    }

    /// How many goroutines it holds: never 0.
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Goes behind another chain, in a constant number of steps.
    pub(crate) fn after(self, store: &impl Linked<Index = I>, before: Option<Self>) -> Self {
        match before {
            None => self,
            Some(before) => {
                store.set_next(before.last, Some(self.first));
                Self { first: before.first, last: self.last, len: before.len + self.len }
            }
        }
    }

    /// Splits the first `count` off, or all if there are fewer. All take a constant number of steps, some take `count`.
    pub(crate) fn split(self, store: &impl Linked<Index = I>, count: u32) -> (Option<Self>, Option<Self>) {
        if count == 0 {
            return (None, Some(self));
        }
        if count >= self.len {
            return (Some(self), None);
        }
        let mut last = self.first;
        for _ in 1..count {
            last = store.next(last).expect("a chain has as many as it counts");
        }
        let rest = store.next(last).map(|first| Self { first, last: self.last, len: self.len - count });
        store.set_next(last, None);
        (Some(Self { first: self.first, last, len: count }), rest)
    }

    /// Takes out the first one of whom `wanted` is true. Looks at all that are before it; the rest may be nothing.
    pub(crate) fn remove(
        mut self,
        store: &impl Linked<Index = I>,
        wanted: impl Fn(I) -> bool,
    ) -> (Option<I>, Option<Self>) {
        if wanted(self.first) {
            let (found, rest) = self.split_first(store);
            return (Some(found), rest);
        }
        let mut before = self.first;
        while let Some(at) = store.next(before) {
            if wanted(at) {
                let next = store.next(at);
                store.set_next(before, next);
                store.set_next(at, None);
                if next.is_none() {
                    self.last = before;
                }
                self.len -= 1;
                return (Some(at), Some(self));
            }
            before = at;
        }
        (None, Some(self))
    }

    /// The first one.
    pub(crate) const fn first(&self) -> I {
        self.first
    }

    /// Takes the first goroutine off; the rest may be nothing.
    pub fn split_first(self, store: &impl Linked<Index = I>) -> (I, Option<Self>) {
        let next = store.take_next(self.first).filter(|_| self.len > 1);
        (self.first, next.map(|first| Self { first, last: self.last, len: self.len - 1 }))
    }
}

/// The length of a list, readable without the list's lock. A hint for who is about to take the lock, and
/// conclusive after the fence of [`crate::idle`] for what was queued before the producer's.
#[derive(Clone, Debug)]
pub struct SharedLen(Arc<Padded<AtomicU32>>);

impl SharedLen {
    /// Goroutines in the list, at this moment or a little earlier.
    pub fn get(&self) -> u32 {
        // Relaxed: an idler orders this by its fence, anyone else only saves a lock.
        self.0.load(Ordering::Relaxed)
    }

    /// Whether the list looks empty.
    pub fn is_empty(&self) -> bool {
        self.get() == 0
    }
}

/// A first-in, first-out list.
#[derive(Debug)]
pub(crate) struct List {
    chain: Option<Chain>,
    shared: SharedLen,
}

impl List {
    /// An empty list and the handle to its length.
    pub(crate) fn new() -> (Self, SharedLen) {
        let shared = SharedLen(Arc::new(Padded(AtomicU32::new(0))));
        (Self { chain: None, shared: shared.clone() }, shared)
    }

    /// Goroutines in the list.
    pub(crate) fn len(&self) -> u32 {
        self.chain.as_ref().map_or(0, Chain::len)
    }

    /// Appends a chain, in a constant number of steps.
    pub(crate) fn push(&mut self, store: &impl Linked<Index = GoIndex>, chain: Chain) {
        self.chain = Some(chain.after(store, self.chain.take()));
        self.publish();
    }

    /// Removes the first `count` goroutines, or all if there are fewer; `None` if that is none.
    pub(crate) fn take(&mut self, store: &impl Linked<Index = GoIndex>, count: u32) -> Option<Chain> {
        let (taken, rest) = self.chain.take()?.split(store, count);
        self.chain = rest;
        self.publish();
        taken
    }

    /// Shows the length to those without the lock.
    fn publish(&self) {
        // Relaxed: the producer's fence in `Idle::wake_one` orders it before the look for idle Ps.
        self.shared.0.store(self.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "tests/list.rs"]
pub(crate) mod tests;

//! Intrusive lists of goroutines, linked through their slots: nothing is allocated to queue a goroutine.
//!
//! A [`Chain`] is a run of linked goroutines on its way from one owner to another, for instance from a full
//! local queue to the global one. It is built without a lock; taking it over is a constant number of steps
//! under one. The lists that take chains over are first-in, first-out, and publish their length in a
//! [`SharedLen`].
//!
//! A goroutine is in one list at most. The links of a list belong to who holds the list.

use alloc::sync::Arc;

use crate::id::GoIndex;
use crate::sync::{AtomicU32, Ordering};
use crate::table::Table;

/// One or more linked goroutines, first to last. Dropping it loses them.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the goroutines of a chain are in no queue until it is handed over"]
pub struct Chain {
    first: GoIndex,
    last: GoIndex,
    len: u32,
}

impl Chain {
    /// A chain of one.
    pub fn one<B>(table: &Table<B>, g: GoIndex) -> Self {
        table.slot(g).set_next(None);
        Self { first: g, last: g, len: 1 }
    }

    /// Links `goroutines` in their order; `None` if there are none. They must be in no other list.
    pub fn link<B>(table: &Table<B>, goroutines: impl IntoIterator<Item = GoIndex>) -> Option<Self> {
        let mut goroutines = goroutines.into_iter();
        let mut chain = Self::one(table, goroutines.next()?);
        for g in goroutines {
            table.slot(chain.last).set_next(Some(g));
            chain.last = g;
            chain.len += 1;
        }
        table.slot(chain.last).set_next(None);
        Some(chain)
    }

    /// How many goroutines it holds: never 0.
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Takes the first goroutine off; the rest may be nothing.
    pub fn split_first<B>(self, table: &Table<B>) -> (GoIndex, Option<Self>) {
        let next = table.slot(self.first).next().filter(|_| self.len > 1);
        table.slot(self.first).set_next(None);
        (self.first, next.map(|first| Self { first, last: self.last, len: self.len - 1 }))
    }
}

/// The length of a list, readable without the list's lock. A hint for who is about to take the lock, and
/// conclusive after the fence of [`crate::idle`] for what was queued before the producer's.
#[derive(Clone, Debug)]
pub struct SharedLen(Arc<AtomicU32>);

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
        let shared = SharedLen(Arc::new(AtomicU32::new(0)));
        (Self { chain: None, shared: shared.clone() }, shared)
    }

    /// Goroutines in the list.
    pub(crate) fn len(&self) -> u32 {
        self.chain.as_ref().map_or(0, Chain::len)
    }

    /// Appends a chain, in a constant number of steps.
    pub(crate) fn push<B>(&mut self, table: &Table<B>, chain: Chain) {
        self.chain = Some(match self.chain.take() {
            None => chain,
            Some(mut all) => {
                table.slot(all.last).set_next(Some(chain.first));
                all.last = chain.last;
                all.len += chain.len;
                all
            }
        });
        self.publish();
    }

    /// Removes the first `count` goroutines, or all if there are fewer; `None` if that is none.
    pub(crate) fn take<B>(&mut self, table: &Table<B>, count: u32) -> Option<Chain> {
        let count = count.min(self.len());
        if count == 0 {
            return None;
        }
        let all = self.chain.take()?;
        let mut last = all.first;
        for _ in 1..count {
            last = table.slot(last).next()?;
        }
        let rest = table.slot(last).next().filter(|_| all.len > count);
        table.slot(last).set_next(None);
        self.chain = rest.map(|first| Chain { first, last: all.last, len: all.len - count });
        self.publish();
        Some(Chain { first: all.first, last, len: count })
    }

    /// Shows the length to those without the lock.
    fn publish(&self) {
        // Relaxed: the producer's fence in `Idle::wake_one` orders it before the look for idle Ps.
        self.shared.0.store(self.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "tests/list.rs"]
mod tests;

//! Dead goroutines, kept for reuse with their stacks, and sudogs that nobody uses.
//!
//! Each P has a list of its own of either kind, last in, first out, so that a spawn gets a stack that is still
//! in the cache. It spills into the shared [`FreeLists`](crate::free_list::FreeLists) when one P ends more goroutines than it starts,
//! and is refilled from there when it is the other way round.

use crate::link::{Index, Link, Linked};
use crate::list::Chain;
pub use crate::sync::FREE_BATCH;
use crate::sync::Plain32;

/// Dead goroutines (or unused sudogs) that a P keeps before it spills: two batches, so that one at the edge of a batch does not move
/// it to and fro.
pub const LOCAL_FREE_MAX: u32 = 2 * FREE_BATCH;

/// The free list of one P. Only the CPU that holds the P touches it; see
/// [`Owner`](crate::processor::Owner).
///
/// Each of its operations is a constant number of steps.
#[derive(Debug)]
pub(crate) struct LocalFree<I> {
    /// What is taken from and added to.
    loaded: Pile<I>,
    /// A batch, or nothing.
    spare: Pile<I>,
}

impl<I: Index> LocalFree<I> {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self { loaded: Pile::new(), spare: Pile::new() }
    }

    /// Elements in the list.
    pub(crate) fn len(&self) -> u32 {
        self.loaded.len.get() + self.spare.len.get()
    }

    /// Adds one that nobody uses; beyond [`LOCAL_FREE_MAX`] returns [`FREE_BATCH`] for the shared lists.
    #[inline]
    pub(crate) fn put(&self, store: &impl Linked<Index = I>, index: I) -> Option<Chain<I>> {
        let spill = if self.loaded.len.get() < FREE_BATCH { None } else { self.set_aside() };
        self.loaded.push(index, |next| store.set_next(index, next));
        spill
    }

    /// [`put`](Self::put), if no room must be made; `set_next` links the element. `false`: nothing was done.
    #[inline]
    pub(crate) fn try_put(&self, index: I, set_next: impl FnOnce(Option<I>)) -> bool {
        let has_room = self.loaded.len.get() < FREE_BATCH;
        if has_room {
            self.loaded.push(index, set_next);
        }
        has_room
    }

    /// Makes room for a batch; what was aside before comes back.
    #[inline(never)]
    fn set_aside(&self) -> Option<Chain<I>> {
        let spill = self.spare.take_all();
        self.spare.fill(self.loaded.take_all());
        spill
    }

    /// Removes the one added last.
    #[inline]
    pub(crate) fn take(&self, store: &impl Linked<Index = I>) -> Option<I> {
        self.loaded.pop(store).or_else(|| self.take_spare(store))
    }

    #[inline(never)]
    fn take_spare(&self, store: &impl Linked<Index = I>) -> Option<I> {
        self.loaded.fill(self.spare.take_all());
        self.loaded.pop(store)
    }

    /// Forgets what is in the list.
    pub(crate) fn clear(&self) {
        self.loaded.fill(None);
        self.spare.fill(None);
    }

    /// Adds a batch from the shared lists. What comes back did not fit.
    pub(crate) fn refill(&self, batch: Chain<I>) -> Option<Chain<I>> {
        if self.loaded.len.get() == 0 {
            self.loaded.fill(Some(batch));
        } else if self.spare.len.get() == 0 {
            self.spare.fill(Some(batch));
        } else {
            return Some(batch);
        }
        None
    }
}

/// Linked elements, last in, first out.
#[derive(Debug)]
struct Pile<I> {
    first: Link<I>,
    last: Link<I>,
    len: Plain32,
}

impl<I: Index> Pile<I> {
    fn new() -> Self {
        Self { first: Link::new(), last: Link::new(), len: Plain32::new(0) }
    }

    #[inline]
    fn push(&self, index: I, set_next: impl FnOnce(Option<I>)) {
        let first = self.first.get();
        set_next(first);
        if first.is_none() {
            self.last.set(Some(index));
        }
        self.first.set(Some(index));
        self.len.set(self.len.get() + 1);
    }

    #[inline]
    fn pop(&self, store: &impl Linked<Index = I>) -> Option<I> {
        let index = self.first.get()?;
        self.first.set(store.take_next(index));
        self.len.set(self.len.get() - 1);
        Some(index)
    }

    fn take_all(&self) -> Option<Chain<I>> {
        let all = Chain::from_parts(self.first.get()?, self.last.get()?, self.len.get());
        self.fill(None);
        Some(all)
    }

    /// Replaces what there is.
    fn fill(&self, chain: Option<Chain<I>>) {
        let (first, last, len) = chain.map_or((None, None, 0), |chain| {
            let (first, last, len) = chain.into_parts();
            (Some(first), Some(last), len)
        });
        self.first.set(first);
        self.last.set(last);
        self.len.set(len);
    }
}

//! The ranked spinning lock of the runtime.
//!
//! Holding one pins the holder to its CPU (the lock count of the per-CPU block is raised). Locks are taken in
//! rising order of [`Rank`] only; debug builds check it and name both locks. A lock is held for a few dozen
//! instructions and never across a context switch.
//!
//! Several locks of one rank can only be taken all at once ([`Together`]), by rising address: two CPUs that want some of
//! the same wait for each other in one direction.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::Ordering;

use crate::percpu::{self, Pinned};

/// The order of all locks: whoever holds one takes only later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// The kernel's statistics of stops.
    Stops,
    /// The kernel's table of what runs, while it grows.
    Table,
    /// The kernel's list of table slots to use again.
    Free,
    /// What a timer is to do.
    Timer,
    /// A channel.
    Chan,
    /// The times that sleepers of one CPU wait for.
    Timers,
    /// The kernel's queue for one CPU.
    Wired,
    /// The kernel's waiters on words. Nothing is taken under one, but who has released it goes on to `Global`: the
    /// rank before that refuses every caller who could not.
    Sema,
    /// The kernel's queue that all CPUs share.
    Global,
    /// A lock inside a program's or the runtime's data, taken by `go`-level code.
    Leaf,
    /// Spans of one size class of the heap.
    HeapClass,
    /// The heap's pages.
    Heap,
    /// Page tables.
    Paging,
    /// Physical frames.
    Frames,
}

impl Rank {
    /// All of them, in their order.
    const ALL: [Self; 14] = [
        Self::Stops,
        Self::Table,
        Self::Free,
        Self::Timer,
        Self::Chan,
        Self::Timers,
        Self::Wired,
        Self::Sema,
        Self::Global,
        Self::Leaf,
        Self::HeapClass,
        Self::Heap,
        Self::Paging,
        Self::Frames,
    ];

    /// The latest rank of a mask of held ones.
    fn latest(held: u64) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|rank| held & 1 << *rank as u8 != 0)
    }
}

/// A value behind a spinning lock with a rank.
pub struct Lock<T> {
    rank: Rank,
    inner: spin::Mutex<T>,
}

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: spin::Mutex::new(value) }
    }

    /// Waits for the lock and takes it.
    ///
    /// # Panics
    /// In debug builds, when this CPU holds a lock of the same or a later rank.
    pub fn lock(&self) -> Guard<'_, T> {
        let pinned = Pinned::new();
        self.note_taken(&pinned);
        Guard { inner: self.inner.lock(), rank: self.rank, pinned }
    }

    /// Takes the lock if it is free. Checks no order: a caller that does not wait cannot be part of a ring.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let pinned = Pinned::new();
        let inner = self.inner.try_lock()?;
        set_held(&pinned, self.rank);
        Some(Guard { inner, rank: self.rank, pinned })
    }

    fn note_taken(&self, pinned: &Pinned) {
        if cfg!(debug_assertions) {
            // Relaxed: only this CPU reads or writes its own mask.
            let held = percpu::current(pinned).held_ranks.load(Ordering::Relaxed);
            if let Some(latest) = Rank::latest(held).filter(|latest| *latest >= self.rank) {
                panic!("lock order: taking {:?} while holding {latest:?}", self.rank);
            }
        }
        set_held(pinned, self.rank);
    }
}

fn set_held(pinned: &Pinned, rank: Rank) {
    if cfg!(debug_assertions) {
        let mask = &percpu::current(pinned).held_ranks;
        mask.store(mask.load(Ordering::Relaxed) | 1 << rank as u8, Ordering::Relaxed);
    }
}

fn set_free(pinned: &Pinned, rank: Rank) {
    if cfg!(debug_assertions) {
        let mask = &percpu::current(pinned).held_ranks;
        mask.store(mask.load(Ordering::Relaxed) & !(1 << rank as u8), Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Access to a locked value; the drop releases the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<'l, T> {
    // Fields are dropped in this order: the lock goes before the pin.
    inner: spin::MutexGuard<'l, T>,
    rank: Rank,
    pinned: Pinned,
}

impl<T> Guard<'_, T> {
    /// The pin that every lock is.
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// Releases the lock, and keeps the pin: for whoever owes somebody something that must not wait until this CPU comes
    /// back to the caller.
    #[inline]
    pub fn unlock(self) -> Pinned {
        let guard = ManuallyDrop::new(self);
        set_free(&guard.pinned, guard.rank);
        // SAFETY: read once, as the guard is not dropped; here the lock goes.
        drop(unsafe { ptr::read(&raw const guard.inner) });
        // SAFETY: likewise.
        unsafe { ptr::read(&raw const guard.pinned) }
    }
}

impl<T> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        set_free(&self.pinned, self.rank);
    }
}

/// Several locks of one rank, held together; the drop releases them.
///
/// What they guard is kept elsewhere, by whoever uses them.
#[derive(Debug)]
#[must_use = "the locks are released when this is dropped"]
pub struct Together<'s, 'l> {
    /// By rising address, with those that are there twice side by side.
    locks: &'s [Option<&'l Lock<()>>],
    pinned: Pinned,
}

impl<'s, 'l> Together<'s, 'l> {
    /// Takes all of these locks, each once, in an order of its own, which it leaves in the slice.
    ///
    /// # Panics
    /// In debug builds, when their ranks differ, or when this CPU holds a lock of the same or a later rank.
    pub fn lock(locks: &'s mut [Option<&'l Lock<()>>]) -> Self {
        // Before the pin: who selects among many stays preemptible that long.
        locks.sort_unstable_by_key(|lock| address(*lock));
        let together = Self { locks, pinned: Pinned::new() };
        if let Some(first) = together.each().next() {
            first.note_taken(&together.pinned);
            debug_assert!(together.each().all(|lock| lock.rank == first.rank), "locks of several ranks");
        }
        for lock in together.each() {
            // `release` unlocks it.
            let () = spin::MutexGuard::leak(lock.inner.lock());
        }
        together
    }

    /// The pin that every lock is.
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// Releases the locks, and keeps the pin, as [`Guard::unlock`] does.
    #[inline]
    pub fn unlock(self) -> Pinned {
        let together = ManuallyDrop::new(self);
        together.release();
        // SAFETY: read once, as the guard of all is not dropped.
        unsafe { ptr::read(&raw const together.pinned) }
    }

    fn release(&self) {
        for lock in self.each() {
            // SAFETY: `lock` has taken it, and has left its guard to whoever calls this, once.
            unsafe { lock.inner.force_unlock() };
        }
        if let Some(lock) = self.each().next() {
            set_free(&self.pinned, lock.rank);
        }
    }

    /// Each lock once.
    fn each(&self) -> impl Iterator<Item = &'l Lock<()>> + use<'s, 'l> {
        let mut last = 0;
        self.locks.iter().flatten().copied().filter(move |lock| {
            let address = address(Some(lock));
            core::mem::replace(&mut last, address) != address
        })
    }
}

impl Drop for Together<'_, '_> {
    fn drop(&mut self) {
        self.release();
    }
}

fn address(lock: Option<&Lock<()>>) -> usize {
    lock.map_or(0, |lock| ptr::from_ref(lock).addr())
}

#[cfg(test)]
mod tests {
    use super::Rank;

    #[test]
    fn the_latest_rank_of_a_mask_is_named() {
        assert_eq!(Rank::latest(0), None);
        for (bit, rank) in Rank::ALL.into_iter().enumerate() {
            assert_eq!(rank as usize, bit, "{rank:?} has its place in the list");
            assert_eq!(Rank::latest(1 << bit | 1), Some(rank));
        }
    }
}

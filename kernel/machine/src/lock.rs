//! The ranked spinning lock of the runtime.
//!
//! Holding one pins the holder to its CPU (the lock count of the per-CPU block is raised). Locks are taken in
//! rising order of [`Rank`] only; debug builds check it and name both locks. A lock is held for a few dozen
//! instructions and never across a context switch.
//!
//! Who waits for several locks of one rank takes them all at once ([`Together`]), by rising address: two CPUs that want some of
//! the same wait for each other in one direction.
//!
//! Each acquisition is counted by [`Kind`], and each that had to wait for another CPU ([`counts`]): that is *contended*. Who
//! finds a lock busy by [`try_lock`](Lock::try_lock) and does something else has *passed* it: that is no acquisition, and counted by itself. The
//! numbers are in the block of the CPU that counts, raised by one instruction: counting adds no line that CPUs share.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::percpu::{self, PerCpu, Pinned};

/// The order of all locks: whoever holds one takes only later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// The kernel's statistics of stops.
    Stops,
    /// The kernel's table of what runs, while it grows.
    Table,
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
    /// Physical frames.
    Frames,
}

impl Rank {
    /// All of them, in their order.
    const ALL: [Self; 12] = [
        Self::Stops,
        Self::Table,
        Self::Timer,
        Self::Chan,
        Self::Timers,
        Self::Wired,
        Self::Sema,
        Self::Global,
        Self::Leaf,
        Self::HeapClass,
        Self::Heap,
        Self::Frames,
    ];

    /// The latest rank of a mask of held ones.
    fn latest(held: u64) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|rank| held & 1 << *rank as u8 != 0)
    }
}

/// What a lock is counted as: its rank, or its purpose, where locks of one rank differ in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The only purpose of its rank, or one that has no name of its own.
    Rank(Rank),
    /// The kernel's store of sudogs, while it grows.
    SudogTable,
    /// A mailbox.
    Mailbox,
    /// One of the waiters' queues in the kernel's `sync`.
    Waiters,
    /// What a CPU keeps of a pool.
    Pool,
    /// A context.
    Context,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = Rank::ALL.len() + Self::OTHERS.len();

    /// Those that are not ranks.
    const OTHERS: [Self; 5] = [Self::SudogTable, Self::Mailbox, Self::Waiters, Self::Pool, Self::Context];

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        Rank::ALL.into_iter().map(Self::Rank).chain(Self::OTHERS)
    }

    /// Its rank.
    const fn rank(self) -> Rank {
        match self {
            Self::Rank(rank) => rank,
            Self::SudogTable => Rank::Table,
            Self::Mailbox | Self::Waiters | Self::Pool | Self::Context => Rank::Leaf,
        }
    }

    /// Its place among the counters.
    const fn number(self) -> u8 {
        let ranks = Rank::Frames as u8 + 1;
        match self {
            Self::Rank(rank) => rank as u8,
            Self::SudogTable => ranks,
            Self::Mailbox => ranks + 1,
            Self::Waiters => ranks + 2,
            Self::Pool => ranks + 3,
            Self::Context => ranks + 4,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank(rank) => fmt::Debug::fmt(rank, f),
            Self::SudogTable | Self::Mailbox | Self::Waiters | Self::Pool | Self::Context => {
                fmt::Debug::fmt(self, f)
            }
        }
    }
}

/// How often locks of one kind were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that one was taken.
    pub taken: u64,
    /// Those of them that found another CPU holding it, and waited.
    pub contended: u64,
    /// Times that one was tried, found in the hands of another CPU, and left there.
    pub passed: u64,
}

/// How often this CPU has taken or passed locks of a kind, at about this moment.
pub fn counts(block: &PerCpu, kind: Kind) -> Counts {
    let number = usize::from(kind.number());
    // Relaxed: numbers that only that CPU raises.
    let read = |tallies: &[AtomicU64; Kind::COUNT]| tallies[number].load(Ordering::Relaxed);
    Counts {
        taken: read(&block.locks_taken),
        contended: read(&block.locks_contended),
        passed: read(&block.locks_passed),
    }
}

/// A value behind a spinning lock with a rank.
pub struct Lock<T> {
    rank: Rank,
    /// The number of its kind.
    kind: u8,
    inner: spin::Mutex<T>,
}

impl<T> Lock<T> {
    /// A free lock that is counted as its rank.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self::of_kind(Kind::Rank(rank), value)
    }

    /// A free lock with a purpose that its rank does not tell.
    pub const fn of_kind(kind: Kind, value: T) -> Self {
        Self { rank: kind.rank(), kind: kind.number(), inner: spin::Mutex::new(value) }
    }

    /// Waits for the lock and takes it.
    ///
    /// # Panics
    /// In debug builds, when this CPU holds a lock of the same or a later rank.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let pinned = Pinned::new();
        self.note_taken(&pinned);
        Guard { inner: self.wait(&pinned), rank: self.rank, pinned }
    }

    /// Checks the order as [`lock`](Self::lock) does, for who takes it by trying and then waits all the same.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    pub fn check_order(&self) {
        if cfg!(debug_assertions) {
            check_order(&Pinned::new(), self.rank);
        }
    }

    /// Takes the lock if it is free. Checks no order: a caller that does not wait cannot be part of a ring.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let pinned = Pinned::new();
        // A look before the exchange: that one takes the line from who holds the lock, and what is behind it.
        let Some(inner) = (!self.is_held()).then(|| self.inner.try_lock()).flatten() else {
            percpu::count_passed(&pinned, self.kind);
            return None;
        };
        percpu::count_lock(&pinned, self.kind);
        set_held(&pinned, self.rank);
        Some(Guard { inner, rank: self.rank, pinned })
    }

    /// Whether somebody holds the lock at this moment. Counts nothing, and writes to no line.
    pub fn is_held(&self) -> bool {
        self.inner.is_locked()
    }

    /// Waits for the lock, and counts that it was taken.
    #[inline]
    fn wait(&self, pinned: &Pinned) -> spin::MutexGuard<'_, T> {
        percpu::count_lock(pinned, self.kind);
        match self.inner.try_lock() {
            Some(guard) => guard,
            None => self.wait_for_another(pinned),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_another(&self, pinned: &Pinned) -> spin::MutexGuard<'_, T> {
        percpu::count_contended(pinned, self.kind);
        self.inner.lock()
    }

    fn note_taken(&self, pinned: &Pinned) {
        check_order(pinned, self.rank);
        set_held(pinned, self.rank);
    }
}

fn check_order(pinned: &Pinned, rank: Rank) {
    if cfg!(debug_assertions) {
        // Relaxed: only this CPU reads or writes its own mask.
        let held = percpu::current(pinned).held_ranks.load(Ordering::Relaxed);
        if let Some(latest) = Rank::latest(held).filter(|latest| *latest >= rank) {
            panic!("lock order: taking {rank:?} while holding {latest:?}");
        }
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
            let () = spin::MutexGuard::leak(lock.wait(&together.pinned));
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
    use super::{Kind, Rank};

    #[test]
    fn each_kind_has_its_own_counter() {
        assert_eq!(Kind::all().count(), Kind::COUNT);
        for (number, kind) in Kind::all().enumerate() {
            assert_eq!(usize::from(kind.number()), number, "{kind} has its place in the list");
        }
    }

    #[test]
    fn the_latest_rank_of_a_mask_is_named() {
        assert_eq!(Rank::latest(0), None);
        for (bit, rank) in Rank::ALL.into_iter().enumerate() {
            assert_eq!(rank as usize, bit, "{rank:?} has its place in the list");
            assert_eq!(Rank::latest(1 << bit | 1), Some(rank));
        }
    }
}

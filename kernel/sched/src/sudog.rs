//! Sudogs: what a waiting goroutine leaves with the thing that it waits for.
//!
//! Go's word and Go's use: a goroutine may wait for many things at once, and many may wait for one, so neither has
//! room for the other.
//!
//! They live in a store of their own, in one row, that grows by chunks and never shrinks. A goroutine keeps one for its
//! next wait ([`Sudog::check_idle`]). Other unused ones are kept by each P ([`Owner::take_sudog`](crate::processor::Owner::take_sudog),
//! [`put_sudog`](crate::processor::Owner::put_sudog)), so to wait allocates nothing and takes no lock, but when
//! no CPU has one left.
//!
//! # Who may touch a sudog
//!
//! 1. Who took it from a free list, or keeps it, owns it, and prepares it.
//! 2. While it is queued, all of it belongs to who holds the lock of that queue.
//! 3. Who took it out of the queue owns it until the goroutine is readied; from then on it is the goroutine's,
//!    which gives it back.
//!
//! Each of these steps hands it over by a lock, a status word or the head of a free list, so that the fields need no order of their own.

use alloc::vec::Vec;
use core::fmt;

use crate::chunks::NoRoom;
use crate::id::{GoIndex, GoRef, SudogIndex};
use crate::link::{Link, Linked};
use crate::list::Chain;
use crate::sync::{AtomicU32, CHUNK_SLOTS, Ordering, Plain32, Plain64};

/// A goroutine that waits for something. One line of the cache.
///
/// It consists of words alone, and zeros are a sudog that nobody uses.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Sudog {
    /// What it waits for, or 0 when it is in no queue.
    address: Plain64,
    goroutine: Link<GoIndex>,
    generation: Plain32,
    /// In a queue: whatever the queue needs to order its waiters. Outside: what its waker has given it.
    ticket: Plain32,
    /// Where a channel finds the value that the goroutine sends, or puts the one that it receives.
    element: Plain64,
    acquire_time: Plain64,
    release_time: Plain64,
    /// Links of a tree; `next` also of the free list.
    pub(crate) parent: Link<SudogIndex>,
    pub(crate) prev: Link<SudogIndex>,
    pub(crate) next: Link<SudogIndex>,
    /// The following waiter for the same thing.
    pub(crate) waitlink: Link<SudogIndex>,
    /// The last waiter for the same thing, kept by the first one if there are others.
    pub(crate) waittail: Link<SudogIndex>,
}

const _: () = assert!(size_of::<Sudog>() == 64, "a sudog is one line of the cache");

impl Sudog {
    /// The goroutine that waits, or `None` if the sudog is not used.
    pub fn g(&self) -> Option<GoRef> {
        Some(GoRef { index: self.goroutine.get()?, generation: self.generation.get() })
    }

    /// What it waits for, or 0 when it is in no queue.
    pub fn address(&self) -> u64 {
        self.address.get()
    }

    /// Where a channel finds or puts the value: an address, which only the kernel uses.
    pub(crate) fn element(&self) -> u64 {
        self.element.get()
    }

    /// Outside of a queue: 0, or what the waker has given.
    pub fn ticket(&self) -> u32 {
        self.ticket.get()
    }

    /// When the wait began, by the kernel's counter.
    pub fn acquire_time(&self) -> u64 {
        self.acquire_time.get()
    }

    /// When the goroutine was last readied, by the kernel's counter; 0 if it was not.
    pub fn release_time(&self) -> u64 {
        self.release_time.get()
    }

    /// Makes a sudog that was just taken ready for a wait of `g` that begins at `now`.
    pub fn prepare(&self, g: GoRef, now: u64) {
        self.name(g);
        self.ticket.set(0);
        self.begin(now);
    }

    /// Says when a wait begins, by a sudog that is in no queue: nobody has been readied by it yet.
    #[inline]
    pub fn begin(&self, now: u64) {
        self.acquire_time.set(now);
        self.release_time.set(0);
    }

    /// Says who waits, by a sudog that was just taken.
    #[inline]
    pub fn name(&self, g: GoRef) {
        debug_assert!(!self.is_queued(), "a sudog in a list is prepared for another wait");
        self.goroutine.set(Some(g.index));
        self.generation.set(g.generation);
    }

    /// Sets or, by 0, clears what it waits for.
    pub fn set_address(&self, address: u64) {
        self.address.set(address);
    }

    pub(crate) fn set_element(&self, element: u64) {
        self.element.set(element);
    }

    pub(crate) fn set_ticket(&self, ticket: u32) {
        self.ticket.set(ticket);
    }

    pub(crate) fn set_release_time(&self, now: u64) {
        self.release_time.set(now);
    }

    /// Looks whether its goroutine may wait by it once more. `index` names it in the panic.
    ///
    /// # Panics
    ///
    /// It is still in a queue, as for [`retire`](Self::retire).
    #[inline]
    pub fn check_idle(&self, index: SudogIndex) {
        if self.address() != 0 {
            still_queued("used anew", (index, self.address()));
        }
        debug_assert!(!self.is_queued(), "sudog {} is used anew and is linked", index.get());
    }

    /// Ends its use. `index` names it in the panic.
    ///
    /// # Panics
    ///
    /// It is still in a queue: whoever finds it there would wake a goroutine that no longer waits.
    pub(crate) fn retire(&self, index: SudogIndex) {
        if self.address() != 0 {
            still_queued("given back", (index, self.address()));
        }
        debug_assert!(!self.is_queued(), "sudog {} is given back and is linked", index.get());
        self.goroutine.set(None);
    }

    /// Whether it is in a queue or on a free list.
    fn is_queued(&self) -> bool {
        let links = [&self.parent, &self.prev, &self.next, &self.waitlink, &self.waittail];
        self.address() != 0 || links.iter().any(|link| link.get().is_some())
    }
}

/// All sudogs, used or not.
///
/// They lie side by side, so that one is found by a multiplication: whoever waits or ends a wait looks for some.
pub struct Sudogs {
    /// The places of all that there may ever be. Nobody looks at one that is not there yet.
    places: &'static [Sudog],
    /// Those that are there.
    len: AtomicU32,
}

impl fmt::Debug for Sudogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sudogs").field("len", &self.len()).field("max", &self.max()).finish_non_exhaustive()
    }
}

impl Sudogs {
    /// A store without sudogs that grows in these places. There are less than `u32::MAX` of them.
    pub fn new(places: &'static [Sudog]) -> Self {
        Self { places, len: AtomicU32::new(0) }
    }

    /// The same with places that stay on the heap for ever: for tests.
    pub fn leaked(max: u32) -> Self {
        Self::new(Vec::leak((0..max).map(|_| Sudog::default()).collect()))
    }

    /// Sudogs that exist.
    pub fn len(&self) -> u32 {
        // Acquire pairs with the Release in `grow`: there is memory for those below this number.
        self.len.load(Ordering::Acquire)
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most that there can be.
    fn max(&self) -> u32 {
        u32::try_from(self.places.len()).expect("whoever made the store has counted its places")
    }

    /// The sudog at `index`.
    ///
    /// # Panics
    ///
    /// The store has no place with this index.
    #[inline]
    pub fn get(&self, index: SudogIndex) -> &'static Sudog {
        match self.places.get(index.get() as usize) {
            Some(sudog) => sudog,
            None => no_sudog(index, self.len()),
        }
    }

    /// Adds a chunk of unused sudogs, for the shared free list. `make_room` sees to it that there is memory in their places, which
    /// holds zeros. Only one CPU at a time may grow the store.
    ///
    /// # Errors
    ///
    /// [`NoRoom::Full`], or what `make_room` returns. The store is as it was.
    ///
    /// # Panics
    ///
    /// Two CPUs grow the store at the same time.
    pub fn grow(
        &self,
        make_room: impl FnOnce(&'static [Sudog]) -> Result<(), NoRoom>,
    ) -> Result<Chain<SudogIndex>, NoRoom> {
        let (start, max) = (self.len(), self.max());
        let end = max.min(start.saturating_add(CHUNK_SLOTS));
        if start == end {
            return Err(NoRoom::Full { max });
        }
        make_room(&self.places[start as usize..end as usize])?;
        // Release pairs with the Acquire in `len`.
        let grown = self.len.compare_exchange(start, end, Ordering::Release, Ordering::Relaxed);
        assert!(grown.is_ok(), "two CPUs grow the sudogs at once, hold the kernel's grow lock");
        Ok(Chain::link(self, (start..end).filter_map(SudogIndex::new)).expect("a chunk has at least one"))
    }
}

impl Linked for Sudogs {
    type Index = SudogIndex;

    fn next(&self, index: SudogIndex) -> Option<SudogIndex> {
        self.get(index).next.get()
    }

    fn set_next(&self, index: SudogIndex, next: Option<SudogIndex>) {
        self.get(index).next.set(next);
    }
}

/// Kept out of the hot path.
///
/// # Panics
///
/// Always.
#[cold]
#[inline(never)]
fn still_queued(what: &str, (index, address): (SudogIndex, u64)) -> ! {
    panic!("sudog {} is {what} and still waits for {address:#x}", index.get())
}

/// Kept out of the hot path.
///
/// # Panics
///
/// Always.
#[cold]
fn no_sudog(index: SudogIndex, len: u32) -> ! {
    panic!("sudog {} does not exist, there are {len}", index.get())
}

#[cfg(test)]
#[path = "tests/sudog.rs"]
pub(crate) mod tests;

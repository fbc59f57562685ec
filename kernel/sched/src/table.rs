//! The table of goroutines: slots that never move, found by index.
//!
//! The table grows by chunks. A chunk, once there, stays until the table is dropped, so a reference to a slot
//! needs no lock and no count. Growing is rare and done by one CPU at a time (the kernel holds a lock of its
//! own around [`Table::grow`]); readers meanwhile see either the old table or the new one.
//!
//! A slot is reused when its goroutine has exited. What tells two lives of a slot apart is the generation in
//! its status word: [`Table::get`] refuses a handle of an earlier life.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use spin::Once;

use crate::id::{GoIndex, GoRef, Goid};
use crate::status::StatusWord;
use crate::sync::{AtomicU32, CHUNK_SLOTS, Ordering, Plain32, Plain64};

/// One goroutine's place in the table. `B` is what the kernel keeps for it: stack, context, name.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot<B> {
    status: StatusWord,
    goid: Plain64,
    /// The following goroutine of the list that this one is in. Belongs to who owns the list.
    next: Plain32,
    body: B,
}

impl<B> Slot<B> {
    /// A dead slot.
    fn new(body: B) -> Self {
        Self { status: StatusWord::new(), goid: Plain64::new(0), next: Plain32::new(GoIndex::NONE), body }
    }

    /// The goroutine's state machine.
    pub fn status(&self) -> &StatusWord {
        &self.status
    }

    /// The goroutine's number, or `None` before the first [`set_goid`](Self::set_goid).
    pub fn goid(&self) -> Option<Goid> {
        Goid::new(self.goid.get())
    }

    /// Numbers the goroutine. For who prepares a dead slot.
    pub fn set_goid(&self, goid: Goid) {
        self.goid.set(goid.get());
    }

    /// What the kernel keeps for the goroutine.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The goroutine behind this one in its list.
    pub(crate) fn next(&self) -> Option<GoIndex> {
        GoIndex::new(self.next.get())
    }

    /// Links the goroutine; only for the owner of the list that it is in, or of the goroutine if in none.
    pub(crate) fn set_next(&self, next: Option<GoIndex>) {
        self.next.set(GoIndex::encode(next));
    }
}

/// Why the table did not grow, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowError {
    /// The table has as many slots as it was made for.
    TableFull {
        /// That many.
        max_goroutines: u32,
    },
    /// The heap has no room for another chunk, or for the directory of a new table.
    NoMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
}

impl fmt::Display for GrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { max_goroutines } => {
                write!(f, "goroutine table is full: all {max_goroutines} slots hold a goroutine")
            }
            Self::NoMemory { bytes } => {
                write!(f, "no memory for the goroutine table: {bytes} bytes were asked for")
            }
        }
    }
}

impl core::error::Error for GrowError {}

/// Slots that were added together.
type Chunk<B> = Box<[Slot<B>]>;

/// All goroutines, dead or alive.
pub struct Table<B> {
    /// One entry for each chunk that the table may ever have.
    directory: Box<[Once<Chunk<B>>]>,
    /// Slots that exist.
    len: AtomicU32,
    max_goroutines: u32,
}

impl<B> fmt::Debug for Table<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len())
            .field("max_goroutines", &self.max_goroutines)
            .finish_non_exhaustive()
    }
}

impl<B> Table<B> {
    /// A table without slots that can grow to `max_goroutines`. Its directory takes 24 bytes for every
    /// [`CHUNK_SLOTS`] goroutines.
    ///
    /// # Errors
    ///
    /// [`GrowError::NoMemory`] when the heap has no room for the directory.
    pub fn new(max_goroutines: u32) -> Result<Self, GrowError> {
        let directory = filled(max_goroutines.div_ceil(CHUNK_SLOTS), |_| Once::new())?;
        Ok(Self { directory, len: AtomicU32::new(0), max_goroutines })
    }

    /// Slots that exist, dead ones included.
    pub fn len(&self) -> u32 {
        // Acquire pairs with the Release in `grow`: the slots below this number can be reached.
        self.len.load(Ordering::Acquire)
    }

    /// Whether the table has no slots yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most slots that the table can have.
    pub fn max_goroutines(&self) -> u32 {
        self.max_goroutines
    }

    /// The slot at `index`.
    ///
    /// # Panics
    ///
    /// The table has not grown so far: the index does not come from this table.
    pub fn slot(&self, index: GoIndex) -> &Slot<B> {
        match self.find(index) {
            Some(slot) => slot,
            None => no_slot(index, self.len()),
        }
    }

    /// The slot that `handle` names, or `None` when its goroutine has exited.
    pub fn get(&self, handle: GoRef) -> Option<&Slot<B>> {
        let slot = self.find(handle.index)?;
        let (_, generation) = slot.status.get();
        (generation == handle.generation).then_some(slot)
    }

    /// A handle to the goroutine that is in the slot now.
    ///
    /// # Panics
    ///
    /// As [`slot`](Self::slot).
    pub fn handle(&self, index: GoIndex) -> GoRef {
        let (_, generation) = self.slot(index).status.get();
        GoRef { index, generation }
    }

    /// Every slot with its index, dead ones included.
    pub fn iter(&self) -> impl Iterator<Item = (GoIndex, &Slot<B>)> {
        (0..self.len()).filter_map(GoIndex::new).map(|index| (index, self.slot(index)))
    }

    /// Adds one chunk of dead slots, whose bodies `make` returns, and says which they are. The caller gives
    /// them to a free list. Only one CPU at a time may grow the table.
    ///
    /// # Errors
    ///
    /// [`GrowError::TableFull`] at the number of goroutines that the table was made for,
    /// [`GrowError::NoMemory`] when the heap has no room for the chunk. The table is as it was.
    ///
    /// # Panics
    ///
    /// Two CPUs grow the table at the same time.
    pub fn grow(&self, mut make: impl FnMut(GoIndex) -> B) -> Result<Range<u32>, GrowError> {
        let start = self.len();
        let entry = self
            .directory
            .get((start / CHUNK_SLOTS) as usize)
            .filter(|_| start < self.max_goroutines)
            .ok_or(GrowError::TableFull { max_goroutines: self.max_goroutines })?;
        let count = CHUNK_SLOTS.min(self.max_goroutines - start);
        let chunk = filled(count, |i| {
            let index = GoIndex::new(start + i).expect("a slot index is below max_goroutines");
            Slot::new(make(index))
        })?;
        let mut chunk = Some(chunk);
        entry.call_once(|| chunk.take().expect("an entry is filled once"));
        assert!(chunk.is_none(), "goroutine table: two CPUs grow it at once, hold the kernel's grow lock");
        // Release pairs with the Acquire in `len`.
        self.len.store(start + count, Ordering::Release);
        Ok(start..start + count)
    }

    /// The slot at `index`, if the table has grown so far.
    fn find(&self, index: GoIndex) -> Option<&Slot<B>> {
        let chunk = self.directory.get((index.get() / CHUNK_SLOTS) as usize)?.get()?;
        chunk.get((index.get() % CHUNK_SLOTS) as usize)
    }
}

/// A boxed slice of `len` values from `make`.
///
/// # Errors
///
/// [`GrowError::NoMemory`].
fn filled<T>(len: u32, make: impl FnMut(u32) -> T) -> Result<Box<[T]>, GrowError> {
    let bytes = (len as usize).saturating_mul(size_of::<T>());
    let mut values = Vec::new();
    values.try_reserve_exact(len as usize).map_err(|_| GrowError::NoMemory { bytes })?;
    values.extend((0..len).map(make));
    Ok(values.into_boxed_slice())
}

/// Kept out of the hot path.
///
/// # Panics
///
/// Always.
#[cold]
fn no_slot(index: GoIndex, len: u32) -> ! {
    panic!("goroutine table: slot {} does not exist, the table has {len}", index.get())
}

#[cfg(test)]
#[path = "tests/table.rs"]
mod tests;

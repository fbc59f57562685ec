//! The table of goroutines: slots that never move, found by index.
//!
//! It grows by [`chunks`](crate::chunks), one CPU at a time: the kernel holds a lock of its own around
//! [`Table::grow`].
//!
//! A slot is reused when its goroutine has exited. What tells two lives of a slot apart is the generation in
//! its status word: [`Table::get`] refuses a handle of an earlier life.

use core::fmt;
use core::ops::Range;

use crate::chunks::{Chunks, NoRoom};
use crate::id::{GoIndex, GoRef, Goid};
use crate::link::{Link, Linked};
use crate::status::StatusWord;
use crate::sync::Plain64;

/// One goroutine's place in the table. `B` is what the kernel keeps for it: stack, context, name.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot<B> {
    status: StatusWord,
    index: GoIndex,
    goid: Plain64,
    /// The following goroutine of the list that this one is in. Belongs to who owns the list.
    next: Link<GoIndex>,
    body: B,
}

impl<B> Slot<B> {
    /// A dead slot.
    fn new(index: GoIndex, body: B) -> Self {
        Self { status: StatusWord::new(), index, goid: Plain64::new(0), next: Link::new(), body }
    }

    /// Where the slot is in its table.
    pub fn index(&self) -> GoIndex {
        self.index
    }

    /// A handle to the goroutine that is in the slot now.
    pub fn handle(&self) -> GoRef {
        let (_, generation) = self.status.get();
        GoRef { index: self.index, generation }
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
        self.next.get()
    }

    /// Links the goroutine; only for the owner of the list that it is in, or of the goroutine if in none.
    pub(crate) fn set_next(&self, next: Option<GoIndex>) {
        self.next.set(next);
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

impl From<NoRoom> for GrowError {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::Full { max } => Self::TableFull { max_goroutines: max },
            NoRoom::NoMemory { bytes } => Self::NoMemory { bytes },
        }
    }
}

/// All goroutines, dead or alive.
pub struct Table<B> {
    slots: Chunks<Slot<B>>,
}

impl<B> fmt::Debug for Table<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len())
            .field("max_goroutines", &self.max_goroutines())
            .finish_non_exhaustive()
    }
}

impl<B> Table<B> {
    /// A table without slots that can grow to `max_goroutines`. Its directory takes 16 bytes for every
    /// [`CHUNK_SLOTS`](crate::sync::CHUNK_SLOTS) goroutines.
    ///
    /// # Errors
    ///
    /// [`GrowError::NoMemory`] when the heap has no room for the directory.
    pub fn new(max_goroutines: u32) -> Result<Self, GrowError> {
        Ok(Self { slots: Chunks::new(max_goroutines)? })
    }

    /// Slots that exist, dead ones included.
    pub fn len(&self) -> u32 {
        self.slots.len()
    }

    /// Whether the table has no slots yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most slots that the table can have.
    pub fn max_goroutines(&self) -> u32 {
        self.slots.max()
    }

    /// The slot at `index`.
    ///
    /// # Panics
    ///
    /// The index does not come from this table, which has no chunk for it yet.
    pub fn slot(&self, index: GoIndex) -> &Slot<B> {
        match self.slots.get(index.get()) {
            Some(slot) => slot,
            None => no_slot(index, self.len()),
        }
    }

    /// The slot that `handle` names, or `None` when its goroutine has exited.
    pub fn get(&self, handle: GoRef) -> Option<&Slot<B>> {
        let slot = self.slots.get(handle.index.get()).filter(|_| handle.index.get() < self.len())?;
        let (_, generation) = slot.status.get();
        (generation == handle.generation).then_some(slot)
    }

    /// The slot that lies at an address.
    pub fn at(&self, address: usize) -> Option<GoIndex> {
        self.slots.at(address).and_then(GoIndex::new)
    }

    /// A handle to the goroutine that is in the slot now.
    ///
    /// # Panics
    ///
    /// As [`slot`](Self::slot).
    pub fn handle(&self, index: GoIndex) -> GoRef {
        self.slot(index).handle()
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
        Ok(self.slots.grow(|i| {
            let index = GoIndex::new(i).expect("a slot index is below max_goroutines");
            Slot::new(index, make(index))
        })?)
    }
}

impl<B> Linked for Table<B> {
    type Index = GoIndex;

    fn next(&self, index: GoIndex) -> Option<GoIndex> {
        self.slot(index).next()
    }

    fn set_next(&self, index: GoIndex, next: Option<GoIndex>) {
        self.slot(index).set_next(next);
    }
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

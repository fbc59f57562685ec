//! The table of goroutines: slots that never move, found by index.
//!
//! It grows by [`chunks`](crate::chunks), one CPU at a time: the kernel holds a lock of its own around
//! [`Table::grow`].
//!
//! A slot is reused when its goroutine has exited. What tells two lives of a slot apart is the generation in
//! its status word: [`Table::get`] refuses a handle of an earlier life.
//!
//! The kernel may take the memory of a chunk away whose slots are all dead ([`Table::make_bare`]), and make the slots anew later,
//! with generations above those that were. Meanwhile zeros are read there, which is a dead slot: a handle of an earlier life finds
//! nobody, and nobody writes.

use core::fmt;
use core::ops::Range;

use crate::chunks::{Chunks, NoRoom};
use crate::id::{GoIndex, GoRef, Goid};
use crate::link::{Link, Linked};
use crate::status::{Status, StatusWord};
use crate::sync::{CHUNK_SLOTS, Plain32, Plain64};

/// One goroutine's place in the table. `B` is what the kernel keeps for it: stack, context, name.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot<B> {
    status: StatusWord,
    /// A [`GoIndex`] as a word; 0 while the memory is away.
    index: Plain32,
    goid: Plain64,
    /// The following goroutine of the list that this one is in. Belongs to who owns the list, or the goroutine if in none.
    next: Link<GoIndex>,
    body: B,
}

impl<B> Slot<B> {
    /// A dead slot.
    pub fn dead(index: GoIndex, body: B) -> Self {
        Self {
            status: StatusWord::new(),
            index: Plain32::new(index.word()),
            goid: Plain64::new(0),
            next: Link::new(),
            body,
        }
    }

    /// Where the slot is in its table.
    ///
    /// # Panics
    ///
    /// The slot's memory is away.
    #[inline]
    pub fn index(&self) -> GoIndex {
        GoIndex::in_word(self.index.get()).unwrap_or_else(|| away())
    }

    /// The [word](GoIndex::word) of the index; 0 while the memory is away.
    #[inline]
    pub fn word(&self) -> u32 {
        self.index.get()
    }

    /// A handle to the goroutine that is in the slot now.
    pub fn handle(&self) -> GoRef {
        GoRef { index: self.index(), generation: self.status.generation() }
    }

    /// Makes a dead slot of the zeros of a bare chunk: its next goroutine has this generation, above those that it has had before.
    pub fn revive(&self, index: GoIndex, generation: u32) {
        self.index.set(index.word());
        self.status.revive(generation);
        self.next.set(None);
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
    pub fn next(&self) -> Option<GoIndex> {
        self.next.get()
    }

    /// Links the goroutine; only for the owner of the list that it is in, or of the goroutine if in none.
    pub fn set_next(&self, next: Option<GoIndex>) {
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
pub struct Table<B: 'static> {
    slots: Chunks<Slot<B>>,
}

impl<B: 'static> fmt::Debug for Table<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len())
            .field("max_goroutines", &self.max_goroutines())
            .finish_non_exhaustive()
    }
}

impl<B: 'static> Table<B> {
    /// A table without slots that can grow to `max_goroutines`. Its directory takes 48 bytes for every
    /// [`CHUNK_SLOTS`] goroutines.
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
        let (status, generation) = slot.status.get();
        // A slot of a bare chunk is dead at generation 0, which some handle may have.
        (generation == handle.generation && status != Status::Dead).then_some(slot)
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
            Slot::dead(index, make(index))
        })?)
    }

    /// The indices of the chunk by which the table grows next.
    ///
    /// # Errors
    ///
    /// [`GrowError::TableFull`].
    pub fn next_chunk(&self) -> Result<Range<u32>, GrowError> {
        Ok(self.slots.next()?)
    }

    /// As [`grow`](Self::grow), by a whole chunk of dead slots that lies in the kernel's memory, from the first of
    /// [`next_chunk`](Self::next_chunk) on.
    ///
    /// # Panics
    ///
    /// The table is full; two CPUs grow it at the same time.
    pub fn lend(&self, slots: &'static [Slot<B>; CHUNK_SLOTS as usize]) {
        self.slots.lend(slots);
    }

    /// The chunks that are not bare: their numbers and slots.
    pub fn chunks(&self) -> impl Iterator<Item = (u32, &[Slot<B>])> {
        self.slots.chunks()
    }

    /// Notes that the memory of a chunk goes, whose slots are dead and on no list, and a number for the kernel. Only for one CPU at a
    /// time, as [`grow`](Self::grow).
    pub fn make_bare(&self, chunk: u32, note: u64) {
        self.slots.make_bare(chunk, note);
    }

    /// The bare chunk that is used next: its number, and what was noted for it. Only for one CPU at a time.
    pub fn first_bare(&self) -> Option<(u32, u64)> {
        self.slots.first_bare()
    }

    /// The first bare chunk has memory again, and dead slots that are on no list yet. Only for one CPU at a time.
    pub fn clothe_first(&self) {
        self.slots.clothe_first();
    }
}

impl<B: 'static> Linked for Table<B> {
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
#[inline(never)]
fn away() -> ! {
    panic!("goroutine table: a slot whose memory is away is asked for its index")
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

//! A store that grows by chunks and whose elements never move, found by index.
//!
//! A chunk, once there, stays until the store is dropped, so a reference to an element needs no lock and no
//! count. Growing is rare and done by one CPU at a time (the kernel holds a lock of its own around it); readers
//! meanwhile see either the old store or the new one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use spin::Once;

use crate::sync::{AtomicU32, CHUNK_SLOTS, Ordering};

/// Why a store did not grow, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// It has as many elements as it was made for.
    Full {
        /// That many.
        max: u32,
    },
    /// The heap has no room for another chunk, or for the directory of a new store.
    NoMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { max } => write!(f, "all {max} are in use"),
            Self::NoMemory { bytes } => write!(f, "no memory: {bytes} bytes were asked for"),
        }
    }
}

impl core::error::Error for NoRoom {}

/// Elements of a chunk.
const SLOTS: usize = CHUNK_SLOTS as usize;

/// Elements that were added together. An array: a look at one needs no look at a length.
type Chunk<T> = Box<[T; SLOTS]>;

/// The store.
pub(crate) struct Chunks<T> {
    /// One entry for each chunk that the store may ever have.
    directory: Box<[Once<Chunk<T>>]>,
    /// Elements that exist.
    len: AtomicU32,
    max: u32,
}

impl<T> Chunks<T> {
    /// A store without elements that can grow to `max`. Its directory takes 16 bytes for every [`CHUNK_SLOTS`].
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`] when the heap has no room for the directory.
    pub(crate) fn new(max: u32) -> Result<Self, NoRoom> {
        let directory = filled(max.div_ceil(CHUNK_SLOTS), |_| Once::new())?;
        Ok(Self { directory, len: AtomicU32::new(0), max })
    }

    /// Elements that exist.
    pub(crate) fn len(&self) -> u32 {
        // Acquire pairs with the Release in `grow`: the elements below this number can be reached.
        self.len.load(Ordering::Acquire)
    }

    /// The most elements that the store can have.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// The element at `index`, if its chunk is there. The last chunk is whole, also if the store was made for fewer.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let chunk = self.directory.get((index / CHUNK_SLOTS) as usize)?.get()?;
        Some(&chunk[(index % CHUNK_SLOTS) as usize])
    }

    /// The index of the element that lies at an address. Looks at each chunk, not at each element.
    pub(crate) fn at(&self, address: usize) -> Option<u32> {
        let chunks = self.directory.iter().map_while(Once::get);
        chunks.zip((0..).step_by(CHUNK_SLOTS as usize)).find_map(|(chunk, start)| {
            let offset = address.checked_sub(chunk.as_ptr().addr())?;
            let place = u32::try_from(offset / size_of::<T>()).ok()?;
            let is_whole = offset.is_multiple_of(size_of::<T>()) && (place as usize) < chunk.len();
            (is_whole && start + place < self.len()).then(|| start + place)
        })
    }

    /// Adds one chunk of what `make` returns, and says which indices it has. Only one CPU at a time may grow a
    /// store.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]. The store is as it was.
    ///
    /// # Panics
    ///
    /// Two CPUs grow the store at the same time.
    pub(crate) fn grow(&self, mut make: impl FnMut(u32) -> T) -> Result<Range<u32>, NoRoom> {
        let start = self.len();
        let entry = self
            .directory
            .get((start / CHUNK_SLOTS) as usize)
            .filter(|_| start < self.max)
            .ok_or(NoRoom::Full { max: self.max })?;
        let count = CHUNK_SLOTS.min(self.max - start);
        let whole = filled(CHUNK_SLOTS, |i| make(start + i))?;
        let mut chunk = whole.try_into().ok();
        entry.call_once(|| chunk.take().expect("an entry is filled once"));
        assert!(chunk.is_none(), "two CPUs grow a table at once, hold the kernel's grow lock");
        // Release pairs with the Acquire in `len`.
        self.len.store(start + count, Ordering::Release);
        Ok(start..start + count)
    }
}

/// A boxed slice of `len` values from `make`.
///
/// # Errors
///
/// [`NoRoom::NoMemory`].
fn filled<T>(len: u32, make: impl FnMut(u32) -> T) -> Result<Box<[T]>, NoRoom> {
    let bytes = (len as usize).saturating_mul(size_of::<T>());
    let mut values = Vec::new();
    values.try_reserve_exact(len as usize).map_err(|_| NoRoom::NoMemory { bytes })?;
    values.extend((0..len).map(make));
    Ok(values.into_boxed_slice())
}

//! A store that grows by chunks and whose elements never move, found by index.
//!
//! A chunk, once there, stays until the store is dropped, so a reference to an element needs no lock and no
//! count. Growing is rare and done by one CPU at a time (the kernel holds a lock of its own around it); readers
//! meanwhile see either the old store or the new one.
//!
//! A chunk's memory may be the kernel's. It can then be *bare*: the kernel has taken the memory away, and zeros are read there,
//! which stand for an element that nobody uses. The store keeps a list of bare chunks, and for each of them a number that tells
//! the kernel how to make its elements anew.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use spin::Once;

use crate::sync::{AtomicU32, CHUNK_SLOTS, Ordering, Plain32, Plain64};

/// Why a store did not grow, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// It has as many elements as it was made for.
    Full {
        /// That many.
        max: u32,
    },
    /// There is no memory for another chunk, or for the directory of a new store.
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
enum Memory<T: 'static> {
    Own(Box<[T; SLOTS]>),
    Lent(&'static [T; SLOTS]),
}

impl<T> core::ops::Deref for Memory<T> {
    type Target = [T; SLOTS];

    fn deref(&self) -> &[T; SLOTS] {
        match self {
            Self::Own(elements) => elements,
            Self::Lent(elements) => elements,
        }
    }
}

/// A chunk, or the place for one.
struct Chunk<T: 'static> {
    memory: Once<Memory<T>>,
    /// While it is bare: what the kernel keeps of it, …
    note: Plain64,
    /// … and the bare chunk behind it in the list, its number plus one.
    next_bare: Plain32,
    /// 1 while it is bare.
    is_bare: Plain32,
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self {
            memory: Once::new(),
            note: Plain64::new(0),
            next_bare: Plain32::new(0),
            is_bare: Plain32::new(0),
        }
    }
}

/// The store.
pub(crate) struct Chunks<T: 'static> {
    /// One entry for each chunk that the store may ever have.
    directory: Box<[Chunk<T>]>,
    /// The first bare chunk, its number plus one. Belongs to who may grow the store.
    bare: Plain32,
    /// Elements that exist.
    len: AtomicU32,
    max: u32,
}

impl<T> Chunks<T> {
    /// A store without elements that can grow to `max`. Its directory takes 48 bytes for every [`CHUNK_SLOTS`].
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`] when the heap has no room for the directory.
    pub(crate) fn new(max: u32) -> Result<Self, NoRoom> {
        let directory = filled(max.div_ceil(CHUNK_SLOTS), |_| Chunk::new())?;
        Ok(Self { directory, bare: Plain32::new(0), len: AtomicU32::new(0), max })
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
        let chunk = self.directory.get((index / CHUNK_SLOTS) as usize)?.memory.get()?;
        Some(&chunk[(index % CHUNK_SLOTS) as usize])
    }

    /// The index of the element that lies at an address. Looks at each chunk, not at each element.
    pub(crate) fn at(&self, address: usize) -> Option<u32> {
        let chunks = self.directory.iter().map_while(|chunk| chunk.memory.get());
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
        let range = self.next()?;
        let start = range.start;
        let whole = filled(CHUNK_SLOTS, |i| make(start + i))?;
        let elements = whole.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for"));
        self.add(range.clone(), Memory::Own(elements));
        Ok(range)
    }

    /// The indices of the chunk by which the store grows next.
    ///
    /// # Errors
    ///
    /// [`NoRoom::Full`].
    pub(crate) fn next(&self) -> Result<Range<u32>, NoRoom> {
        let start = self.len();
        if start < self.max {
            Ok(start..self.max.min(start + CHUNK_SLOTS))
        } else {
            Err(NoRoom::Full { max: self.max })
        }
    }

    /// Adds a chunk whose memory is the kernel's, which [`next`](Self::next) has named. As [`grow`](Self::grow).
    ///
    /// # Panics
    ///
    /// The store is full; two CPUs grow it at the same time.
    pub(crate) fn lend(&self, elements: &'static [T; SLOTS]) {
        let range = self.next().expect("whoever lends memory has asked for what");
        self.add(range, Memory::Lent(elements));
    }

    fn add(&self, range: Range<u32>, memory: Memory<T>) {
        let entry = &self.directory[(range.start / CHUNK_SLOTS) as usize];
        let mut memory = Some(memory);
        entry.memory.call_once(|| memory.take().expect("an entry is filled once"));
        assert!(memory.is_none(), "two CPUs grow a table at once, hold the kernel's grow lock");
        // Release pairs with the Acquire in `len`.
        self.len.store(range.end, Ordering::Release);
    }

    /// The chunks that are not bare: their numbers and elements.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (u32, &[T])> {
        let all = self.directory.iter().map_while(|chunk| Some((chunk, &**chunk.memory.get()?)));
        let len = self.len() as usize;
        (0..).zip(all).filter(|(_, (chunk, _))| chunk.is_bare.get() == 0).map(
            move |(number, (_, elements))| (number, &elements[..SLOTS.min(len - number as usize * SLOTS)]),
        )
    }

    /// Notes that a chunk is bare from now on, and a number for its next life. For who may grow the store.
    pub(crate) fn make_bare(&self, number: u32, note: u64) {
        let chunk = &self.directory[number as usize];
        debug_assert!(chunk.is_bare.get() == 0, "a chunk is laid bare once");
        chunk.note.set(note);
        chunk.next_bare.set(self.bare.get());
        chunk.is_bare.set(1);
        self.bare.set(number + 1);
    }

    /// The bare chunk that is used next, and the number that was noted. For who may grow the store.
    pub(crate) fn first_bare(&self) -> Option<(u32, u64)> {
        let number = self.bare.get().checked_sub(1)?;
        Some((number, self.directory[number as usize].note.get()))
    }

    /// Takes the first bare chunk off the list: the kernel has given it memory and made its elements. For who may grow the store.
    pub(crate) fn clothe_first(&self) {
        if let Some((number, _)) = self.first_bare() {
            let chunk = &self.directory[number as usize];
            self.bare.set(chunk.next_bare.get());
            chunk.is_bare.set(0);
        }
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

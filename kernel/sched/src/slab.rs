//! Values at places that do not move, in chunks that come and go with their number.
//!
//! A place is a number, used again after its value has been taken out. A new value goes to the first chunk with room,
//! so that those at the end run empty; a chunk that has run empty gives its memory back, but for one, which saves a
//! program at the edge of a chunk from asking for it again and again. Nothing is ever moved, so no operation takes
//! longer the more there are.

use alloc::vec::Vec;

use crate::chunks::NoRoom;

/// Values in a chunk.
const CHUNK: usize = 256;
/// What a list of free places ends with.
const NONE: u32 = u32::MAX;

/// A place.
#[derive(Debug)]
enum Entry<T> {
    /// Free, and the next free one of the chunk.
    Free(u32),
    Used(T),
}

/// So many places, or none of them while the chunk is empty.
#[derive(Debug)]
struct Chunk<T> {
    /// Those that were ever used since the chunk got its memory; room for all.
    entries: Vec<Entry<T>>,
    free: u32,
    used: usize,
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { entries: Vec::new(), free: NONE, used: 0 }
    }

    fn has_memory(&self) -> bool {
        self.entries.capacity() > 0
    }
}

/// The values.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// No chunk before this one has room.
    first: usize,
    /// Chunks that have memory and no value.
    empty: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), first: 0, empty: 0 }
    }

    /// Makes sure that the next [`insert`](Self::insert) finds memory.
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`]. Nothing has changed.
    pub(crate) fn reserve(&mut self) -> Result<(), NoRoom> {
        while self.chunks.get(self.first).is_some_and(|chunk| chunk.used == CHUNK) {
            self.first += 1;
        }
        if self.first == self.chunks.len() {
            reserve(&mut self.chunks, 1)?;
            self.chunks.push(Chunk::new());
        }
        let chunk = &mut self.chunks[self.first];
        if !chunk.has_memory() {
            reserve(&mut chunk.entries, CHUNK)?;
            self.empty += 1;
        }
        Ok(())
    }

    /// Puts a value in and returns its place.
    ///
    /// # Panics
    ///
    /// Without a [`reserve`](Self::reserve) before it.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let chunk = &mut self.chunks[self.first];
        assert!(chunk.has_memory() && chunk.used < CHUNK, "room was reserved");
        if chunk.used == 0 {
            self.empty -= 1;
        }
        chunk.used += 1;
        let place = chunk.free;
        let index = if place == NONE {
            chunk.entries.push(Entry::Used(value));
            chunk.entries.len() - 1
        } else {
            let entry = &mut chunk.entries[place as usize];
            let Entry::Free(next) = core::mem::replace(entry, Entry::Used(value)) else {
                unreachable!("a place on the free list is free");
            };
            chunk.free = next;
            place as usize
        };
        u32::try_from(self.first * CHUNK + index).expect("fewer values than fit into memory")
    }

    /// The value at a place.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        match self.chunks.get(place as usize / CHUNK)?.entries.get(place as usize % CHUNK)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// The value at a place, to be changed.
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        match self.chunks.get_mut(place as usize / CHUNK)?.entries.get_mut(place as usize % CHUNK)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// Takes the value out of a place.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let number = place as usize / CHUNK;
        let chunk = self.chunks.get_mut(number)?;
        let entry = chunk.entries.get_mut(place as usize % CHUNK)?;
        if let Entry::Free(_) = entry {
            return None;
        }
        let Entry::Used(value) = core::mem::replace(entry, Entry::Free(chunk.free)) else {
            unreachable!("it was looked at");
        };
        chunk.free = u32::try_from(place as usize % CHUNK).expect("less than a chunk");
        chunk.used -= 1;
        let is_empty = chunk.used == 0;
        self.first = self.first.min(number);
        if is_empty {
            self.run_empty(number);
        }
        Some(value)
    }

    /// A chunk has run empty: it is kept, or it is the second one.
    fn run_empty(&mut self, number: usize) {
        if self.empty == 0 {
            self.empty = 1;
            return;
        }
        self.chunks[number] = Chunk::new();
        while self.chunks.last().is_some_and(|chunk| !chunk.has_memory()) {
            self.chunks.pop();
        }
        self.first = self.first.min(self.chunks.len());
        shrink(&mut self.chunks);
    }

    /// Values that there is memory for, at the moment.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.has_memory()).count() * CHUNK
    }
}

/// A vector in chunks: it grows and shrinks at its end without moving what is in it.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    rows: Vec<Vec<T>>,
    len: usize,
}

impl<T: Copy> Rows<T> {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, i: usize) -> Option<T> {
        self.rows.get(i / CHUNK)?.get(i % CHUNK).copied()
    }

    /// The value at `i`, which there is.
    pub(crate) fn at(&self, i: usize) -> T {
        self.rows[i / CHUNK][i % CHUNK]
    }

    /// Replaces the value at `i`, which there is.
    pub(crate) fn set(&mut self, i: usize, value: T) {
        self.rows[i / CHUNK][i % CHUNK] = value;
    }

    /// Makes sure that the next [`push`](Self::push) finds memory.
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`]. Nothing has changed.
    pub(crate) fn reserve(&mut self) -> Result<(), NoRoom> {
        if self.len / CHUNK < self.rows.len() {
            return Ok(());
        }
        let mut row = Vec::new();
        reserve(&mut row, CHUNK)?;
        reserve(&mut self.rows, 1)?;
        self.rows.push(row);
        Ok(())
    }

    /// Adds a value at the end.
    ///
    /// # Panics
    ///
    /// Without a [`reserve`](Self::reserve) before it.
    pub(crate) fn push(&mut self, value: T) {
        self.rows[self.len / CHUNK].push(value);
        self.len += 1;
    }

    /// Takes the last value. Of the rows that are empty one is kept.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let value = self.rows[last / CHUNK].pop();
        self.len = last;
        if self.rows.len() > self.len.div_ceil(CHUNK) + 1 {
            self.rows.pop();
            shrink(&mut self.rows);
        }
        value
    }

    /// Values that there is memory for, at the moment.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.rows.len() * CHUNK
    }
}

fn reserve<T>(vector: &mut Vec<T>, more: usize) -> Result<(), NoRoom> {
    vector.try_reserve(more).map_err(|_| NoRoom::NoMemory { bytes: more * size_of::<T>() })
}

/// Gives back what a directory has room for beyond four times of what is in it.
fn shrink<T>(directory: &mut Vec<T>) {
    if directory.capacity() / 4 > directory.len() {
        directory.shrink_to(directory.len() * 2);
    }
}

#[cfg(test)]
#[path = "tests/slab.rs"]
mod tests;

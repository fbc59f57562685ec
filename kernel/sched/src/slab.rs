//! Values at places that do not move, in chunks that come and go with their number.
//!
//! A place is a number, used again after its value has been taken out. A new value goes to the chunk that came to have
//! room last, and stays with that until it is full: so the others run empty. One that has gives its memory back, but for
//! one of them, which is the next to be used: that saves a program at the edge of a chunk from asking for memory again and
//! again. No value is ever moved, and none is looked for: chunks with room are on one list, those without memory on another.
//! The directory ends with a chunk that has memory: when that goes, those behind the last one that has go, too, each as often as
//! it was added. So it gets shorter, and is moved when it doubles, and when less than a quarter of it is used.

use alloc::vec::Vec;

use crate::chunks::NoRoom;

/// Values in a chunk.
const CHUNK: usize = 256;
/// What a list of free places ends with, and a list of chunks.
const NONE: u32 = u32::MAX;

/// A place.
#[derive(Debug)]
enum Entry<T> {
    /// Free, and the next free one of the chunk.
    Free(u32),
    Used(T),
}

/// So many places, or none of them while the chunk has no memory.
#[derive(Debug)]
struct Chunk<T> {
    /// Those that were ever used since the chunk got its memory; room for all.
    entries: Vec<Entry<T>>,
    free: u32,
    used: usize,
    /// Its neighbours on the list that it is on.
    before: u32,
    after: u32,
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { entries: Vec::new(), free: NONE, used: 0, before: NONE, after: NONE }
    }

    fn has_memory(&self) -> bool {
        self.entries.capacity() > 0
    }

    /// Puts a value in, and returns its index.
    fn insert(&mut self, value: T) -> usize {
        self.used += 1;
        if self.free == NONE {
            self.entries.push(Entry::Used(value));
            return self.entries.len() - 1;
        }
        let index = self.free as usize;
        let Entry::Free(next) = core::mem::replace(&mut self.entries[index], Entry::Used(value)) else {
            unreachable!("a place on the free list is free");
        };
        self.free = next;
        index
    }
}

/// A list of chunks: its first one.
#[derive(Debug)]
struct List(u32);

impl List {
    /// Adds a chunk in front.
    fn push<T>(&mut self, chunks: &mut [Chunk<T>], number: u32) {
        let after = core::mem::replace(&mut self.0, number);
        (chunks[number as usize].before, chunks[number as usize].after) = (NONE, after);
        if after != NONE {
            chunks[after as usize].before = number;
        }
    }

    /// Takes out a chunk that is on this list.
    fn remove<T>(&mut self, chunks: &mut [Chunk<T>], number: u32) {
        let Chunk { before, after, .. } = chunks[number as usize];
        if before == NONE {
            self.0 = after;
        } else {
            chunks[before as usize].after = after;
        }
        if after != NONE {
            chunks[after as usize].before = before;
        }
    }
}

/// The values. A chunk is on `room`, on `bare`, full, or the one that is kept.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with memory and room.
    room: List,
    /// Chunks without memory.
    bare: List,
    /// The chunk that has run empty and is kept.
    kept: u32,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), room: List(NONE), bare: List(NONE), kept: NONE }
    }

    /// Makes sure that the next [`insert`](Self::insert) finds memory.
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`]. Nothing has changed that can be seen.
    pub(crate) fn reserve(&mut self) -> Result<(), NoRoom> {
        if self.room.0 != NONE {
            return Ok(());
        }
        if self.kept != NONE {
            let kept = core::mem::replace(&mut self.kept, NONE);
            self.room.push(&mut self.chunks, kept);
            return Ok(());
        }
        let mut entries = Vec::new();
        reserve(&mut entries, CHUNK)?;
        if self.bare.0 == NONE {
            reserve(&mut self.chunks, 1)?;
            let number = u32::try_from(self.chunks.len()).expect("fewer chunks than fit into memory");
            self.chunks.push(Chunk::new());
            self.bare.push(&mut self.chunks, number);
        }
        let number = self.bare.0;
        self.bare.remove(&mut self.chunks, number);
        self.chunks[number as usize].entries = entries;
        self.room.push(&mut self.chunks, number);
        Ok(())
    }

    /// Puts a value in and returns its place.
    ///
    /// # Panics
    ///
    /// Without a [`reserve`](Self::reserve) before it.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = self.room.0;
        assert!(number != NONE, "room was reserved");
        let chunk = &mut self.chunks[number as usize];
        let index = chunk.insert(value);
        if chunk.used == CHUNK {
            self.room.remove(&mut self.chunks, number);
        }
        u32::try_from(number as usize * CHUNK + index).expect("fewer values than fit into memory")
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
        let (number, index) = (place as usize / CHUNK, place as usize % CHUNK);
        let chunk = self.chunks.get_mut(number)?;
        let entry = chunk.entries.get_mut(index)?;
        if let Entry::Free(_) = entry {
            return None;
        }
        let Entry::Used(value) = core::mem::replace(entry, Entry::Free(chunk.free)) else {
            unreachable!("it was looked at");
        };
        chunk.free = u32::try_from(index).expect("less than a chunk");
        let was_full = chunk.used == CHUNK;
        chunk.used -= 1;
        let is_empty = chunk.used == 0;
        let number = u32::try_from(number).expect("it is part of a place");
        if was_full {
            self.room.push(&mut self.chunks, number);
        }
        if is_empty {
            self.run_empty(number);
        }
        Some(value)
    }

    /// A chunk has run empty. It is kept, or if another one is already, the lower one of them: so that the directory
    /// becomes shorter.
    fn run_empty(&mut self, number: u32) {
        self.room.remove(&mut self.chunks, number);
        // `NONE` is above all numbers.
        let (kept, goes) = (self.kept.min(number), self.kept.max(number));
        self.kept = kept;
        if goes == NONE {
            return;
        }
        self.chunks[goes as usize] = Chunk::new();
        self.bare.push(&mut self.chunks, goes);
        while let Some(last) = self.chunks.len().checked_sub(1)
            && !self.chunks[last].has_memory()
        {
            self.bare
                .remove(&mut self.chunks, u32::try_from(last).expect("fewer chunks than fit into memory"));
            self.chunks.pop();
        }
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

    /// Makes sure that so many calls of [`push`](Self::push), at most a chunk of them, find memory.
    ///
    /// # Errors
    ///
    /// [`NoRoom::NoMemory`]. Nothing has changed.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoRoom> {
        if self.len + more <= self.rows.len() * CHUNK {
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

    /// Takes the last value. Of the rows that are empty one is kept: so there is room to push a value again.
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

/// Gives back what a directory has room for beyond four times of what is in it, if there is memory to move it to.
fn shrink<T>(directory: &mut Vec<T>) {
    if directory.capacity() / 4 <= directory.len() {
        return;
    }
    let mut smaller = Vec::new();
    if smaller.try_reserve_exact(directory.len() * 2).is_ok() {
        smaller.append(directory);
        *directory = smaller;
    }
}

#[cfg(test)]
#[path = "tests/slab.rs"]
mod tests;

//! A span: a run of pages cut into blocks of one size, with a bit for each block that is out: handed out, or in the
//! magazine of a CPU.
//!
//! Bits, the number of free blocks and the links belong to whoever holds the lock of the span's list. They are atomics
//! because reports look at them without it, at an instant at which nobody allocates.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::class::{Class, MOST_BLOCKS};
use super::list::Home;
use super::tables::Number;

/// Bits in a word of the bitmap.
const BITS: usize = u64::BITS as usize;
const WORDS: usize = MOST_BLOCKS / BITS;

/// What a span is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// Nothing: the number is free.
    Unused = 0,
    /// Blocks of a class.
    Blocks = 1,
    /// It is one large block.
    Large = 2,
    /// Its pages are not mapped.
    Released = 3,
    /// Its pages are being mapped, by whoever has its number.
    Held = 4,
}

/// The description of one span.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Span {
    /// Address of the first byte.
    start: AtomicU64,
    /// Bytes in a block; for a large one what was asked for, rounded up to pages.
    size: AtomicU64,
    state: AtomicU32,
    pages: AtomicU32,
    class: AtomicU32,
    /// The shard that it belongs to.
    home: AtomicU32,
    /// Blocks that are not out.
    free: AtomicU32,
    /// Its neighbours in a list, by number. They belong to whoever holds that list's lock.
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    bits: [AtomicU64; WORDS],
}

/// The class of a span that is none of a class.
const NO_CLASS: u32 = u32::MAX;

/// Bits of a word of the bitmap for blocks that do not exist: they are set, so that none is ever free.
fn missing(blocks: usize, word: usize) -> u64 {
    let blocks = blocks.saturating_sub(word * BITS);
    if blocks >= BITS { 0 } else { u64::MAX << blocks }
}

/// A count or a number of a description.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

// Relaxed throughout: a list's lock orders it, or the arena's; the page map publishes what is new.
impl Span {
    /// Prepares a span of blocks that nobody knows yet.
    pub(super) fn prepare(&self, start: u64, class: Class) {
        self.prepare_in(start, class.pages(), class);
    }

    /// The same for a run that may be longer than the class needs.
    pub(super) fn prepare_in(&self, start: u64, pages: usize, class: Class) {
        self.set(start, class.size() as u64, pages, State::Blocks);
        self.class.store(narrow(class.number()), Ordering::Relaxed);
        self.free.store(narrow(class.blocks()), Ordering::Relaxed);
        for (word, bits) in self.bits.iter().enumerate() {
            bits.store(missing(class.blocks(), word), Ordering::Relaxed);
        }
    }

    /// Prepares a span that is one block, or that holds nothing.
    pub(super) fn prepare_whole(&self, start: u64, pages: usize, state: State) {
        self.set(start, pages as u64 * crate::frames::FRAME_SIZE, pages, state);
        self.class.store(NO_CLASS, Ordering::Relaxed);
    }

    fn set(&self, start: u64, size: u64, pages: usize, state: State) {
        self.start.store(start, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
        self.pages.store(narrow(pages), Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.previous.store(0, Ordering::Relaxed);
        self.set_state(state);
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Relaxed);
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) == state as u32
    }

    pub(super) fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed) as usize
    }

    /// The class of its blocks.
    pub(super) fn class(&self) -> Option<Class> {
        Class::new(self.class.load(Ordering::Relaxed) as usize)
    }

    /// The shard that it belongs to. It stays the same while a block is out.
    pub(super) fn home(&self) -> Home {
        Home::of(self.home.load(Ordering::Relaxed) as usize)
    }

    pub(super) fn set_home(&self, home: Home) {
        self.home.store(narrow(home.number()), Ordering::Relaxed);
    }

    /// Blocks that are not out.
    pub(super) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed) as usize
    }

    /// Whether no block is out.
    pub(super) fn is_empty(&self) -> bool {
        self.free() == self.class().map_or(0, Class::blocks)
    }

    /// Takes blocks, at most so many, and says how many.
    pub(super) fn take(&self, most: usize, mut taken: impl FnMut(u64)) -> usize {
        let (start, size) = (self.start(), self.size());
        let mut count = 0;
        for (word, bits) in self.bits.iter().enumerate() {
            let mut value = bits.load(Ordering::Relaxed);
            while value != u64::MAX && count < most {
                let bit = value.trailing_ones();
                value |= 1 << bit;
                taken(start + (word * BITS + bit as usize) as u64 * size);
                count += 1;
            }
            bits.store(value, Ordering::Relaxed);
            if count == most {
                break;
            }
        }
        self.free.store(narrow(self.free() - count), Ordering::Relaxed);
        count
    }

    /// Takes a block back. `false`: it is none that is out.
    pub(super) fn give_back(&self, address: u64) -> bool {
        let Some((word, bit)) = self.place(address) else { return false };
        let value = self.bits[word].load(Ordering::Relaxed);
        if value & bit == 0 {
            return false;
        }
        self.bits[word].store(value & !bit, Ordering::Relaxed);
        self.free.store(narrow(self.free() + 1), Ordering::Relaxed);
        true
    }

    /// Word and bit of a block that begins at this address.
    fn place(&self, address: u64) -> Option<(usize, u64)> {
        // A span is shorter than 4 GiB: the narrow division is several times faster.
        let offset = u32::try_from(address.checked_sub(self.start())?).ok()?;
        let size = u32::try_from(self.size()).ok().filter(|size| *size != 0)?;
        let index = offset / size;
        (index * size == offset).then(|| self.bit_of(index as usize))?
    }

    fn bit_of(&self, index: usize) -> Option<(usize, u64)> {
        (index < self.class().map_or(0, Class::blocks)).then(|| (index / BITS, 1 << (index % BITS)))
    }

    /// Addresses of the blocks that are out.
    pub(super) fn out(&self) -> impl Iterator<Item = u64> {
        let blocks = self.class().map_or(0, Class::blocks);
        let is_out =
            |index: &usize| self.bits[index / BITS].load(Ordering::Relaxed) >> (index % BITS) & 1 == 1;
        (0..blocks).filter(is_out).map(|index| self.start() + index as u64 * self.size())
    }

    /// Start of the block that holds the address, if it is out.
    pub(super) fn block_at(&self, address: u64) -> Option<u64> {
        let index = address.checked_sub(self.start())? / self.size();
        let (word, bit) = self.bit_of(usize::try_from(index).ok()?)?;
        (self.bits[word].load(Ordering::Relaxed) & bit != 0).then(|| self.start() + index * self.size())
    }
}

/// A list of spans, linked by their numbers through the descriptions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct List {
    pub(super) first: Number,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { first: 0 }
    }

    /// Puts a span that is in no list at the front.
    pub(super) fn push(&mut self, tables: &impl super::tables::Tables, number: Number) {
        let span = tables.span(number);
        span.previous.store(0, Ordering::Relaxed);
        span.next.store(self.first, Ordering::Relaxed);
        if self.first != 0 {
            tables.span(self.first).previous.store(number, Ordering::Relaxed);
        }
        self.first = number;
    }

    /// Takes a span of this list out.
    pub(super) fn remove(&mut self, tables: &impl super::tables::Tables, number: Number) {
        let span = tables.span(number);
        let previous = span.previous.load(Ordering::Relaxed);
        let next = span.next.load(Ordering::Relaxed);
        if previous == 0 {
            self.first = next;
        } else {
            tables.span(previous).next.store(next, Ordering::Relaxed);
        }
        if next != 0 {
            tables.span(next).previous.store(previous, Ordering::Relaxed);
        }
    }

    /// The numbers in it.
    pub(super) fn numbers(self, tables: &impl super::tables::Tables) -> impl Iterator<Item = Number> {
        let some = |number: Number| (number != 0).then_some(number);
        core::iter::successors(some(self.first), move |number| {
            some(tables.span(*number).next.load(Ordering::Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use super::{Class, Span};

    fn span(class: Class) -> Span {
        let span = Span::default();
        span.prepare(0x1_0000, class);
        span
    }

    fn take_all(span: &Span) -> Vec<u64> {
        let mut blocks = Vec::new();
        while span.take(3, |block| blocks.push(block)) > 0 {}
        blocks
    }

    #[test]
    fn each_block_is_taken_once_and_lies_in_the_span() {
        for class in Class::all() {
            let span = span(class);
            let blocks: BTreeSet<u64> = take_all(&span).into_iter().collect();
            assert_eq!((blocks.len(), span.free()), (class.blocks(), 0));
            let end = span.start() + class.pages() as u64 * 4096;
            assert!(blocks.iter().all(|block| *block >= span.start() && block + class.size() as u64 <= end));
            assert_eq!(span.out().collect::<BTreeSet<_>>(), blocks);
        }
    }

    #[test]
    fn what_is_no_block_is_not_taken_back() {
        let span = span(Class::new(20).expect("a class"));
        let blocks = take_all(&span);
        assert!(span.give_back(blocks[3]));
        assert!(!span.give_back(blocks[3]), "twice");
        assert!(!span.give_back(blocks[1] + 1), "inside of a block");
        assert!(!span.give_back(span.start() + 0x10_0000), "beyond the span");
        assert!(!span.give_back(span.start() - 16), "before the span");
        assert_eq!((span.block_at(blocks[2] + 9), span.block_at(blocks[3])), (Some(blocks[2]), None));
        assert!(span.free() == 1 && !span.is_empty());
        let others = blocks.iter().filter(|block| **block != blocks[3]);
        assert!(others.into_iter().all(|block| span.give_back(*block)) && span.is_empty());
    }
}

//! The magazines of a CPU: for each class some blocks at hand, without a lock.
//!
//! Only the CPU that a magazine belongs to writes to it, pinned, so that nothing else that runs on this CPU comes in
//! between, nor a stop of all CPUs; handlers of interrupts do not allocate. Its numbers are atomics because reports read them.
//!
//! Blocks move between magazine and spans in batches of half a magazine, under the lock of the list that the span belongs to. What another CPU handed out
//! comes back the same way: by the magazine of the CPU that gives it back. The blocks that were touched last are handed
//! out first, and those that lie at the bottom go back. Blocks whose list is busy stay, unless none could go.
//!
//! # What is counted
//!
//! A magazine counts the blocks that it hands out. How many came back follows from what moved to and from the spans, so that
//! giving a block back counts nothing: all that came in are still there, were handed out, or went to the spans.

use alloc::boxed::Box;
use core::alloc::Layout;
use core::ops::{DerefMut, Range};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::class::{CLASSES, Class, size_of_class};
use super::list::{ClassList, Given, Home, Lists};
use super::tables::{Number, Tables};

/// Blocks that a magazine has room for.
const ROOM: usize = 60;
/// Bytes that a CPU keeps of one class, …
const KEPT: usize = 32 * 1024;
/// … but at least so many blocks.
const FEWEST: usize = 4;

/// The blocks of one class that one CPU has at hand. All zeros is an empty one.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Magazine {
    len: AtomicU32,
    /// Blocks that it is to hold at most; 0 until the first has been looked for. At most [`ROOM`].
    limit: AtomicU32,
    /// Blocks handed out.
    mallocs: AtomicU64,
    /// Blocks that came from the spans, and that went back there.
    refilled: AtomicU64,
    flushed: AtomicU64,
    blocks: [AtomicU64; ROOM],
}

/// What one CPU has of the heap.
#[derive(Debug)]
pub(crate) struct Cache {
    magazines: [Magazine; CLASSES],
    /// Large blocks, by [`Large`].
    pub(super) large: [AtomicU64; 4],
    /// A bit for each class of which this CPU has had blocks: the magazines of the others count nothing.
    used: [AtomicU64; CLASSES.div_ceil(BITS)],
}

const BITS: usize = u64::BITS as usize;

/// What is counted of large blocks: a place in [`Cache::large`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Large {
    Allocated,
    Freed,
    BytesAllocated,
    BytesFreed,
}

/// Sizes below this are looked up in [`NEAR`], in steps of the smallest class.
const NEAR_END: usize = 2_048;
const STEP: usize = 16;

/// Where in a cache the magazine for a multiple of a step is.
static NEAR: [usize; NEAR_END / STEP + 1] = near();

const fn near() -> [usize; NEAR_END / STEP + 1] {
    let mut places = [0; NEAR_END / STEP + 1];
    let (mut at, mut class) = (0, 0);
    while at < places.len() {
        while size_of_class(class) < at * STEP {
            class += 1;
        }
        places[at] = class * size_of::<Magazine>();
        at += 1;
    }
    places
}

/// The place of a magazine in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Near(usize);

impl Near {
    /// The magazine for a block of a usual size and alignment; others are found by their [`Class`].
    #[inline]
    pub(super) fn of(layout: Layout) -> Option<Self> {
        // Both in one comparison: an alignment is a power of two, and up to `STEP` no higher than `NEAR_END / 2`.
        let both = layout.size() | (layout.align() * (NEAR_END / 2 / STEP));
        if both >= NEAR_END {
            return None;
        }
        // SAFETY: the size is no larger than `both`.
        Some(Self(*unsafe { NEAR.get_unchecked(layout.size().div_ceil(STEP)) }))
    }
}

/// What became of a batch that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Flushed {
    /// Spans that go back to the arena, chained by their `next`: the first.
    Empty(Number),
    /// This is no block that was handed out.
    NotAllocated(u64),
}

/// The shard that a block belongs to, if it is in a span.
fn home_of(tables: &impl Tables, block: u64) -> Option<Home> {
    Some(tables.span(tables.number_at(block)?).home())
}

/// Adds to a number that only this CPU writes.
#[inline]
pub(super) fn add(number: &AtomicU64, amount: u64) {
    // Relaxed: others read it for statistics.
    number.store(number.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

// Relaxed throughout: its CPU alone writes to it; a stop of the world orders what reports read.
impl Magazine {
    const fn new() -> Self {
        Self {
            len: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            mallocs: AtomicU64::new(0),
            refilled: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            blocks: [const { AtomicU64::new(0) }; ROOM],
        }
    }

    /// The place of a block, which is below [`ROOM`].
    #[inline]
    fn place(&self, at: u32) -> &AtomicU64 {
        debug_assert!((at as usize) < ROOM, "a magazine has room for its limit");
        // SAFETY: callers ask for places below `len` or below `limit`, which are at most `ROOM`.
        unsafe { self.blocks.get_unchecked(at as usize) }
    }

    #[inline]
    fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Hands a block out; `None` when there is none.
    #[inline]
    pub(super) fn take(&self) -> Option<u64> {
        let left = self.len().checked_sub(1)?;
        self.len.store(left, Ordering::Relaxed);
        add(&self.mallocs, 1);
        Some(self.place(left).load(Ordering::Relaxed))
    }

    /// Takes a block back that was handed out. `false`: there is no room.
    #[inline]
    pub(super) fn put(&self, block: u64) -> bool {
        let len = self.len();
        if len >= self.limit.load(Ordering::Relaxed) {
            return false;
        }
        self.place(len).store(block, Ordering::Relaxed);
        // Release pairs with the Acquire in `holds`: another CPU does not find what was in the place before.
        self.len.store(len + 1, Ordering::Release);
        true
    }

    /// Sets the limit, and returns how many blocks move at once.
    fn batch(&self, class: Class) -> usize {
        let limit = (KEPT / class.size()).clamp(FEWEST, ROOM);
        self.limit.store(u32::try_from(limit).unwrap_or(0), Ordering::Relaxed);
        limit / 2
    }

    /// Fetches a batch of blocks for an empty magazine from the first list that has some and is not busy, that of the home
    /// first. Says how many there were.
    pub(super) fn refill(&self, lists: &impl Lists, home: Home, tables: &impl Tables, class: Class) -> usize {
        let open = |home| lists.has_free(home, class).then(|| lists.try_open(home, class))?;
        let fetch = |home| open(home).map(|mut list| self.fetch(&mut list, tables, class));
        lists.from(home).filter_map(fetch).find(|count| *count > 0).unwrap_or(0)
    }

    /// The same from the first list that has some, busy or not.
    pub(super) fn refill_by_waiting(
        &self,
        lists: &impl Lists,
        home: Home,
        tables: &impl Tables,
        class: Class,
    ) -> usize {
        let fetch = |home| self.fetch(&mut lists.open(home, class), tables, class);
        lists.from(home).map(fetch).find(|count| *count > 0).unwrap_or(0)
    }

    /// Fetches a batch of blocks from a list for an empty magazine, and says how many there were.
    pub(super) fn fetch(&self, list: &mut ClassList, tables: &impl Tables, class: Class) -> usize {
        debug_assert_eq!(self.len(), 0, "only an empty magazine is filled");
        let batch = self.batch(class);
        let mut len = 0;
        let count = list.take(tables, batch, |block| {
            self.place(len).store(block, Ordering::Relaxed);
            len += 1;
        });
        // The lowest addresses are on top.
        for at in 0..len / 2 {
            let (low, high) = (self.place(at), self.place(len - 1 - at));
            let value = low.load(Ordering::Relaxed);
            low.store(high.load(Ordering::Relaxed), Ordering::Relaxed);
            high.store(value, Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Relaxed);
        add(&self.refilled, count as u64);
        count
    }

    /// Makes room: gives back of the half that was longest in here what belongs to lists that are not busy.
    pub(super) fn make_room(&self, lists: &impl Lists, tables: &impl Tables, class: Class) -> Flushed {
        let batch = self.batch(class);
        self.flush_some(lists, tables, class, batch)
    }

    /// Gives blocks back, all of them if no list is busy; some in any case. Says what became of them; to be called until there are
    /// none.
    pub(super) fn drain(&self, lists: &impl Lists, tables: &impl Tables, class: Class) -> Option<Flushed> {
        let len = self.len() as usize;
        (len > 0).then(|| self.flush_some(lists, tables, class, len))
    }

    /// Gives some of the blocks back that are lowest; waits for a list only if all are busy.
    fn flush_some(&self, lists: &impl Lists, tables: &impl Tables, class: Class, most: usize) -> Flushed {
        let before = self.len();
        let flushed = self.flush(tables, class, most, |home| lists.try_open(home, class));
        if self.len() < before || flushed != Flushed::Empty(0) {
            return flushed;
        }
        let mut waits = true;
        self.flush(tables, class, most, |home| {
            if core::mem::take(&mut waits) {
                Some(lists.open(home, class))
            } else {
                lists.try_open(home, class)
            }
        })
    }

    /// Gives those of the lowest blocks back whose lists can be opened.
    fn flush<L: DerefMut<Target = ClassList>>(
        &self,
        tables: &impl Tables,
        class: Class,
        most: usize,
        mut open: impl FnMut(Home) -> Option<L>,
    ) -> Flushed {
        let count = self.len().min(u32::try_from(most).unwrap_or(u32::MAX));
        // The blocks below `busy` stay, those from there to `end` are to be looked at.
        let (mut busy, mut end, mut empty) = (0, count, 0);
        while busy < end {
            let block = self.at(busy);
            let Some(home) = home_of(tables, block) else { return Flushed::NotAllocated(block) };
            match open(home) {
                Some(mut list) => match self.give(&mut list, tables, class, busy..end, &mut empty) {
                    Ok(rest) => end = rest,
                    Err(block) => return Flushed::NotAllocated(block),
                },
                None => busy = self.keep(tables, home, busy..end),
            }
        }
        let left = self.len() - count;
        for at in 0..left {
            self.set(busy + at, self.at(count + at));
        }
        self.len.store(busy + left, Ordering::Relaxed);
        add(&self.flushed, (count - busy).into());
        Flushed::Empty(empty)
    }

    /// Gives those blocks in a range of places to a list that belong there, and moves the others down. Returns where these end, or what is
    /// no block. Chains spans that go back to the arena.
    #[expect(clippy::too_many_arguments, reason = "the state of one loop, which is too long with this in it")]
    fn give(
        &self,
        list: &mut ClassList,
        tables: &impl Tables,
        class: Class,
        places: Range<u32>,
        empty: &mut Number,
    ) -> Result<u32, u64> {
        let mut rest = places.start;
        for at in places {
            let block = self.at(at);
            match list.give(tables, class, block) {
                Given::Kept => {}
                Given::Empty(number) => {
                    tables.span(number).next.store(*empty, Ordering::Relaxed);
                    *empty = number;
                }
                Given::Elsewhere => {
                    self.set(rest, block);
                    rest += 1;
                }
                Given::NotAllocated => return Err(block),
            }
        }
        Ok(rest)
    }

    /// Brings the blocks in a range of places that belong to a shard to its beginning, and returns where they end.
    fn keep(&self, tables: &impl Tables, home: Home, places: Range<u32>) -> u32 {
        let mut end = places.start;
        for at in places {
            let block = self.at(at);
            if home_of(tables, block) == Some(home) {
                self.set(at, self.at(end));
                self.set(end, block);
                end += 1;
            }
        }
        end
    }

    fn at(&self, at: u32) -> u64 {
        self.place(at).load(Ordering::Relaxed)
    }

    fn set(&self, at: u32, block: u64) {
        self.place(at).store(block, Ordering::Relaxed);
    }

    /// Whether a block is in here.
    pub(super) fn holds(&self, block: u64) -> bool {
        // Acquire pairs with the Release in `put`.
        (0..self.len.load(Ordering::Acquire)).any(|at| self.place(at).load(Ordering::Relaxed) == block)
    }

    /// Blocks that this CPU has handed out, and that it has taken back.
    #[inline]
    pub(super) fn counts(&self) -> (u64, u64) {
        let mallocs = self.mallocs.load(Ordering::Relaxed);
        let there = u64::from(self.len()).wrapping_add(self.flushed.load(Ordering::Relaxed));
        let came = self.refilled.load(Ordering::Relaxed).wrapping_sub(mallocs);
        (mallocs, there.wrapping_sub(came))
    }
}

impl Cache {
    /// An empty one, for a static.
    #[expect(clippy::large_stack_frames, clippy::large_stack_arrays, reason = "the compiler makes it")]
    pub(super) const fn new() -> Self {
        Self {
            magazines: [const { Magazine::new() }; CLASSES],
            large: [const { AtomicU64::new(0) }; 4],
            used: [const { AtomicU64::new(0) }; CLASSES.div_ceil(BITS)],
        }
    }

    /// An empty one.
    pub(super) fn boxed() -> Box<Self> {
        let cache = Box::<Self>::new_zeroed();
        // SAFETY: it is numbers, and all of them are 0 in an empty one.
        unsafe { cache.assume_init() }
    }

    /// The magazine at a place.
    #[inline]
    pub(super) fn near(&self, Near(place): Near) -> &Magazine {
        // SAFETY: a place is that of one of the magazines, in bytes.
        let magazine = unsafe { self.magazines.as_ptr().byte_add(place) };
        // SAFETY: it lives as long as the cache.
        unsafe { &*magazine }
    }

    /// The magazine of a class, for who puts something into it that had no room, or nothing: it is counted from now on.
    pub(super) fn use_magazine(&self, class: Class) -> &Magazine {
        let (word, bit) = (class.number() / BITS, 1 << (class.number() % BITS));
        // Relaxed, as all of this CPU's own.
        let used = self.used[word].load(Ordering::Relaxed);
        if used & bit == 0 {
            self.used[word].store(used | bit, Ordering::Relaxed);
        }
        self.magazine(class)
    }

    /// Shows the magazines that have been used, with the numbers of their classes.
    #[inline]
    pub(super) fn for_each_used(&self, mut visit: impl FnMut(usize, &Magazine)) {
        for (word, used) in self.used.iter().enumerate() {
            let mut left = used.load(Ordering::Relaxed);
            while left != 0 {
                let number = word * BITS + left.trailing_zeros() as usize;
                left &= left - 1;
                visit(number, &self.magazines[number]);
            }
        }
    }

    /// The magazine of a class.
    pub(super) fn magazine(&self, class: Class) -> &Magazine {
        debug_assert!(class.number() < CLASSES, "a class has a magazine");
        // SAFETY: the number of a class is below `CLASSES`.
        unsafe { self.magazines.get_unchecked(class.number()) }
    }

    /// Adds to a count of large blocks.
    pub(super) fn count_large(&self, what: Large, amount: u64) {
        add(&self.large[what as usize], amount);
    }
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;
    use core::ptr;

    use super::{Cache, Class, NEAR_END, Near};

    #[test]
    fn the_place_of_a_magazine_is_that_of_its_class() {
        let cache = Cache::boxed();
        for align in (0..=5).map(|power| 1 << power) {
            for size in (0..=NEAR_END).step_by(if cfg!(miri) { 128 } else { 1 }) {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                let Some(near) = Near::of(layout) else {
                    assert!(align > 16 || size == NEAR_END, "{layout:?}");
                    continue;
                };
                let class = Class::of(layout).expect("small");
                assert!(ptr::eq(cache.near(near), cache.magazine(class)), "{layout:?}");
            }
        }
    }
}

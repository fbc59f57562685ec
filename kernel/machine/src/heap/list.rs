//! The spans of one class and one shard that have free blocks: where CPUs get blocks for their magazines, and give them back.
//!
//! A span without free blocks is in no list; the first block that comes back lists it. Of the spans in which nothing is
//! out one is kept, so that a block that comes and goes does not make and unmake a span each time; the others go back to the arena at once.

use core::ops::DerefMut;

use super::class::Class;
use super::span::{List, State};
use super::tables::{Number, Tables};

/// Number of a shard: a CPU's home, and the owner of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home(u32);

impl Home {
    /// That of the boot CPU.
    pub(super) const FIRST: Self = Self(0);

    /// The one with this number, which is small.
    pub(super) fn of(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(0))
    }

    /// Its number.
    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// The lists of all shards, each behind a lock.
pub(super) trait Lists {
    /// A list that this CPU is at work on.
    type Open<'l>: DerefMut<Target = ClassList>
    where
        Self: 'l;

    /// How many shards there are at most.
    fn count(&self) -> usize;

    /// Whether a list looks as if there were free blocks.
    fn has_free(&self, home: Home, class: Class) -> bool;

    /// A list that is not busy.
    fn try_open(&self, home: Home, class: Class) -> Option<Self::Open<'_>>;

    /// Waits for a list.
    fn open(&self, home: Home, class: Class) -> Self::Open<'_>;

    /// All shards, this one first.
    fn from(&self, home: Home) -> impl Iterator<Item = Home> {
        let count = self.count().max(1);
        (0..count).map(move |step| Home::of((home.number() + step) % count))
    }

    /// The list of a home, or the next that is not busy: for a span that belongs to nobody yet.
    fn open_any(&self, home: Home, class: Class) -> Self::Open<'_> {
        self.from(home).find_map(|home| self.try_open(home, class)).unwrap_or_else(|| self.open(home, class))
    }
}

/// The spans of one class and one shard, behind their lock.
#[derive(Debug)]
pub(super) struct ClassList {
    /// The shard.
    home: Home,
    /// Some blocks are out, and some are not.
    partial: List,
    /// A span in which nothing is out.
    empty: Number,
}

/// What became of a block that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Given {
    /// Its span stays.
    Kept,
    /// Its span is in no list any more, and goes back to the arena.
    Empty(Number),
    /// It belongs to another shard.
    Elsewhere,
    /// It is no block of this class that is out.
    NotAllocated,
}

impl ClassList {
    /// No spans.
    pub(super) const fn new(home: Home) -> Self {
        Self { home, partial: List::new(), empty: 0 }
    }

    /// Whether there is a free block.
    pub(super) const fn has_free(&self) -> bool {
        self.partial.first != 0 || self.empty != 0
    }

    /// Takes at most so many blocks, and says how many there were.
    pub(super) fn take(&mut self, tables: &impl Tables, most: usize, mut taken: impl FnMut(u64)) -> usize {
        let mut count = 0;
        while count < most {
            let number = self.partial.first;
            if number == 0 {
                let Some(number) = self.take_empty() else { break };
                self.partial.push(tables, number);
                continue;
            }
            count += tables.span(number).take(most - count, &mut taken);
            if tables.span(number).free() == 0 {
                self.partial.remove(tables, number);
            }
        }
        count
    }

    /// Takes a block back.
    pub(super) fn give(&mut self, tables: &impl Tables, class: Class, block: u64) -> Given {
        let Some(number) = tables.number_at(block) else { return Given::NotAllocated };
        let span = tables.span(number);
        if !span.is(State::Blocks) || span.class() != Some(class) {
            return Given::NotAllocated;
        }
        if span.home() != self.home {
            return Given::Elsewhere;
        }
        let was_full = span.free() == 0;
        if !span.give_back(block) {
            return Given::NotAllocated;
        }
        match (was_full, span.is_empty()) {
            (true, _) => self.partial.push(tables, number),
            (false, true) => {
                self.partial.remove(tables, number);
                if self.empty != 0 {
                    return Given::Empty(number);
                }
                self.empty = number;
            }
            (false, false) => {}
        }
        Given::Kept
    }

    /// Adds a new span, from which the caller takes blocks next.
    pub(super) fn add(&mut self, tables: &impl Tables, number: Number) {
        tables.span(number).set_home(self.home);
        self.partial.push(tables, number);
    }

    /// Takes the span out in which nothing is out.
    pub(super) fn take_empty(&mut self) -> Option<Number> {
        Some(core::mem::take(&mut self.empty)).filter(|number| *number != 0)
    }

    /// The spans in it.
    #[cfg(any(test, feature = "model"))]
    pub(super) fn numbers(&self, tables: &impl Tables) -> impl Iterator<Item = Number> {
        self.partial.numbers(tables).chain((self.empty != 0).then_some(self.empty))
    }
}

//! The spans of one class that have free blocks: where CPUs get blocks for their magazines, and give them back.
//!
//! A span without free blocks is in no list; the first block that comes back lists it. Of the spans in which nothing is
//! out one is kept, so that a block that comes and goes does not make and unmake a span each time; the others go back to the arena at once.

use super::class::Class;
use super::span::{List, State};
use super::tables::{Number, Tables};

/// The spans of one class, behind that class's lock.
#[derive(Debug)]
pub(super) struct ClassList {
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
    /// It is no block of this class that is out.
    NotAllocated,
}

impl ClassList {
    /// No spans.
    pub(super) const fn new() -> Self {
        Self { partial: List::new(), empty: 0 }
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
        self.partial.push(tables, number);
    }

    /// Takes the span out in which nothing is out.
    pub(super) fn take_empty(&mut self) -> Option<Number> {
        Some(core::mem::take(&mut self.empty)).filter(|number| *number != 0)
    }

    /// The spans in it.
    #[cfg(test)]
    pub(super) fn numbers(&self, tables: &impl Tables) -> impl Iterator<Item = Number> {
        self.partial.numbers(tables).chain((self.empty != 0).then_some(self.empty))
    }
}

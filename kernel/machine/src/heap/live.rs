//! The blocks that are handed out: those that are out of their span, but for what lies in a magazine.
//!
//! Exact while nobody allocates or frees.

use super::arena::Mapped;
use super::magazine::Cache;
use super::span::{Span, State};
use super::tables::Tables;
use super::{caches, ready};
use crate::paging::HEAP;

/// Whether a block that is out lies in the magazine of a CPU.
fn is_at_hand(span: &Span, block: u64) -> bool {
    let holds = |cache: &Cache| span.class().is_some_and(|class| cache.magazine(class).holds(block));
    caches().any(holds)
}

/// Calls `found` with start and size of each block that is handed out. Takes the arena's lock for a moment at first.
pub fn for_each_live(mut found: impl FnMut(u64, u64)) {
    let numbers = ready::arena().numbers();
    for span in (1..=numbers).map(|number| Mapped.span(number)) {
        if span.is(State::Large) {
            found(span.start(), span.size());
        } else if span.is(State::Blocks) {
            let handed_out = span.out().filter(|block| !is_at_hand(span, *block));
            handed_out.for_each(|block| found(block, span.size()));
        }
    }
}

/// Start and size of the block that holds an address, if it is handed out. Takes no lock.
pub fn block_of(address: u64) -> Option<(u64, u64)> {
    let span = Mapped.span(Mapped.number_at(address)?);
    let start = if span.is(State::Large) {
        span.start()
    } else if span.is(State::Blocks) {
        span.block_at(address).filter(|block| !is_at_hand(span, *block))?
    } else {
        return None;
    };
    Some((start, span.size()))
}

/// Bounds of the arena: no block lies outside.
pub fn arena_bounds() -> (u64, u64) {
    (HEAP, HEAP + ready::arena().end)
}

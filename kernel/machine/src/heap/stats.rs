//! The heap in numbers. Each CPU counts for itself; a reader adds them up, exactly while nobody allocates or frees.

use core::sync::atomic::Ordering;

use super::arena::Mapped;
use super::class::{Class, frame_size};
use super::magazine::Large;
use super::span::{Span, State};
use super::tables::Tables;
use super::{ARENA, caches};

/// Blocks of one class, or the large ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Bytes in a block; 0 for the large ones.
    pub size: u64,
    /// Blocks handed out since boot.
    pub mallocs: u64,
    /// Blocks given back since boot.
    pub frees: u64,
}

impl ClassStats {
    /// Blocks that are handed out.
    pub const fn live(&self) -> u64 {
        self.mallocs.saturating_sub(self.frees)
    }
}

/// The heap in numbers. Bytes unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapStats {
    /// Pages of the arena, mapped or not.
    pub sys: u64,
    /// Pages of the arena that are not mapped.
    pub released: u64,
    /// Pages of spans in use.
    pub in_use: u64,
    /// Spans in use: a number.
    pub spans: u64,
    /// Blocks handed out.
    pub live: u64,
    /// Blocks handed out: a number.
    pub objects: u64,
    /// Blocks handed out since boot.
    pub total: u64,
    /// Descriptions of spans and the page map.
    pub metadata: u64,
}

/// A count of large blocks, of all CPUs.
fn large_sum(what: Large) -> u64 {
    // Relaxed: each is written by its CPU alone.
    caches().map(|cache| cache.large[what as usize].load(Ordering::Relaxed)).sum()
}

/// The blocks of a class.
pub fn class(class: Class) -> ClassStats {
    let counts = caches().map(|cache| cache.magazine(class).counts());
    let (mallocs, frees) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    ClassStats { size: class.size() as u64, mallocs, frees }
}

/// The blocks that are larger than all classes.
pub fn large() -> ClassStats {
    // What is given back is read first: it was handed out before.
    let frees = large_sum(Large::Freed);
    ClassStats { size: 0, mallocs: large_sum(Large::Allocated), frees }
}

/// The counts of now.
pub fn heap() -> HeapStats {
    let freed = large_sum(Large::BytesFreed);
    let allocated = large_sum(Large::BytesAllocated);
    let (mut live, mut total, mut objects) = (allocated.saturating_sub(freed), allocated, large().live());
    for class in Class::all().map(class) {
        live += class.size * class.live();
        total += class.size * class.mallocs;
        objects += class.live();
    }
    let (in_use, spans) = spans_in_use();
    let arena = ARENA.lock();
    let (sys, released, metadata) = (arena.end, arena.unmapped(), arena.metadata);
    HeapStats { sys, released, in_use, spans, live, objects, total, metadata }
}

/// Bytes and number of spans that hold blocks, or could at once.
fn spans_in_use() -> (u64, u64) {
    let numbers = ARENA.lock().numbers();
    let used = |span: &&Span| span.is(State::Blocks) || span.is(State::Large);
    let pages = (1..=numbers).map(|number| Mapped.span(number)).filter(used).map(|span| span.pages() as u64);
    pages.fold((0, 0), |(bytes, spans), pages| (bytes + pages * frame_size() as u64, spans + 1))
}

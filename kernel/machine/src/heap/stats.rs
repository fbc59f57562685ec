//! The heap in numbers. Each CPU counts for itself; a reader adds them up, exactly while nobody allocates or frees.

use core::ptr;
use core::sync::atomic::Ordering;

use super::class::{Class, SIZES};
use super::magazine::{Cache, Large};
use super::{caches, ready};
use crate::frames::FRAME_SIZE;
use crate::percpu::{self, Pinned};

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

/// What one CPU has counted.
#[derive(Debug, Clone, Copy)]
pub struct OfCpu<'c>(&'c Cache);

/// A number of blocks, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Blocks handed out.
    pub mallocs: u64,
    /// Blocks given back.
    pub frees: u64,
    /// Bytes of those handed out.
    pub allocated: u64,
    /// Bytes of those given back.
    pub freed: u64,
}

/// What the CPU of the caller has counted, exactly: it is pinned.
pub fn own(pinned: &Pinned) -> OfCpu<'_> {
    OfCpu(percpu::cache(pinned))
}

/// What all other CPUs have counted, one after the other.
pub fn others(pinned: &Pinned) -> impl Iterator<Item = OfCpu<'static>> {
    let own: *const Cache = percpu::cache(pinned);
    caches().filter(move |cache| !ptr::eq(*cache, own)).map(OfCpu)
}

impl OfCpu<'_> {
    /// Adds to `sum`, and calls `add` with the number of a class, and how many blocks of it were handed out and given back:
    /// for each class of which there were any, the smallest first.
    #[inline]
    pub fn classes(self, sum: &mut Sum, mut add: impl FnMut(usize, (u64, u64))) {
        self.0.for_each_used(|number, magazine| {
            let ((mallocs, frees), size) = (magazine.counts(), SIZES[number]);
            sum.mallocs = sum.mallocs.wrapping_add(mallocs);
            sum.frees = sum.frees.wrapping_add(frees);
            sum.allocated = sum.allocated.wrapping_add(mallocs.wrapping_mul(size));
            sum.freed = sum.freed.wrapping_add(frees.wrapping_mul(size));
            add(number, (mallocs, frees));
        });
    }

    /// Adds the large blocks to a sum of such.
    pub fn large(self, sum: &mut Sum) {
        // Relaxed: as in `large_sum`.
        let [mallocs, frees, allocated, freed] =
            self.0.large.each_ref().map(|count| count.load(Ordering::Relaxed));
        sum.mallocs = sum.mallocs.wrapping_add(mallocs);
        sum.frees = sum.frees.wrapping_add(frees);
        sum.allocated = sum.allocated.wrapping_add(allocated);
        sum.freed = sum.freed.wrapping_add(freed);
    }
}

/// The pages of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageStats {
    /// Pages of the arena, mapped or not.
    pub sys: u64,
    /// Pages of the arena that are not mapped.
    pub released: u64,
    /// Pages of spans in use.
    pub in_use: u64,
    /// Spans in use: a number.
    pub spans: u64,
    /// Descriptions of spans and the page map.
    pub metadata: u64,
}

/// The pages of now.
pub fn pages() -> PageStats {
    let arena = ready::arena();
    let (spans, pages) = ready::aside();
    PageStats {
        sys: arena.end,
        released: arena.unmapped(),
        // What lies aside was taken from the arena, and nobody uses it.
        in_use: (arena.used_pages - pages) * FRAME_SIZE,
        spans: arena.spans - spans,
        metadata: arena.metadata,
    }
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
    let PageStats { sys, released, in_use, spans, metadata } = pages();
    HeapStats { sys, released, in_use, spans, live, objects, total, metadata }
}

//! The heap: blocks of [`class`]es from spans, and large blocks with a span of their own.
//!
//! ```text
//!   CPU's cache      one span for each class, from which this CPU takes blocks: no lock, no shared line
//!        │ full: forgotten, until a block of it comes back      ▲ refill
//!        ▼                                                      │
//!   class list       spans with free blocks that no CPU owns; one lock for each class
//!        │ empty ones, when memory is wanted                    ▲ new span
//!        ▼                                                      │
//!   arena            runs of pages; one lock
//! ```
//!
//! Interrupt handlers do not allocate. A caller is pinned to its CPU while it uses the cache. No lock here is
//! needed by the handler of page faults, so all of this may run on a stack that is mapped on first touch: a fault
//! in the middle takes a frame, whose lock is the innermost (`frames` argues that one).
//!
//! What is handed out is known exactly: [`for_each_live`] finds each block once while nobody allocates.

mod arena;
pub mod class;
mod released;
mod span;
pub mod stats;

use core::alloc::Layout;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;

use self::arena::{Arena, Number, number_at, number_of_block, span};
use self::class::{CLASSES, Class, frame_size};
use self::span::{Returned, Span, State};
use crate::address::at;
use crate::frames::Unmapped;
use crate::lock::{Lock, Rank};
use crate::madt::MAX_CPUS;
use crate::paging::HEAP;
use crate::percpu::{self, CpuId, Pinned};

static ARENA: Lock<Arena> = Lock::new(Rank::Heap, Arena::new());
/// Spans of each class that no CPU owns: the number of the first.
static LISTS: [Lock<Number>; CLASSES] = [const { Lock::new(Rank::HeapClass, 0) }; CLASSES];
/// Each CPU's cache; the boot CPU's is there from the beginning.
static CACHES: [AtomicPtr<Cache>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static BOOT_CACHE: Cache = Cache::new();

/// What one CPU has of the heap. Written by that CPU alone, pinned.
struct Cache {
    /// The span of each class from which this CPU takes blocks; 0 for none.
    spans: [AtomicU32; CLASSES],
    /// Blocks of each class that this CPU has handed out and taken back.
    allocated: [AtomicU64; CLASSES],
    freed: [AtomicU64; CLASSES],
    large: [AtomicU64; 4],
}

/// Places in [`Cache::large`].
const LARGE_ALLOCATED: usize = 0;
const LARGE_FREED: usize = 1;
const LARGE_BYTES_ALLOCATED: usize = 2;
const LARGE_BYTES_FREED: usize = 3;

impl Cache {
    const fn new() -> Self {
        Self {
            spans: [const { AtomicU32::new(0) }; CLASSES],
            allocated: [const { AtomicU64::new(0) }; CLASSES],
            freed: [const { AtomicU64::new(0) }; CLASSES],
            large: [const { AtomicU64::new(0) }; 4],
        }
    }
}

/// Adds to a number that only this CPU writes.
fn add(number: &AtomicU64, amount: u64) {
    // Relaxed: others read it for statistics.
    number.store(number.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// Gives a CPU its cache, before it runs.
pub fn add_cpu(id: CpuId) {
    if let Some(place) = CACHES.get(id.0 as usize) {
        // Release pairs with the Acquire in `cache` and `caches`.
        place.store(Box::leak(Box::new(Cache::new())), Ordering::Release);
    }
}

/// This CPU's cache.
fn cache(pinned: &Pinned) -> &'static Cache {
    let id = percpu::current(pinned).id().0 as usize;
    let cache = CACHES.get(id).map_or(ptr::null_mut(), |cache| cache.load(Ordering::Acquire));
    // SAFETY: it is null, or was leaked by `add_cpu`.
    unsafe { cache.as_ref() }.unwrap_or(&BOOT_CACHE)
}

/// The caches of all CPUs.
fn caches() -> impl Iterator<Item = &'static Cache> {
    let others = CACHES.iter().filter_map(|cache| {
        // SAFETY: as in `cache`.
        unsafe { cache.load(Ordering::Acquire).as_ref() }
    });
    core::iter::once(&BOOT_CACHE).chain(others)
}

/// Takes a block; null when memory is used up.
pub fn allocate(layout: Layout) -> *mut u8 {
    match Class::of(layout) {
        Some(class) => allocate_small(class),
        None => allocate_large(layout),
    }
    .map_or(ptr::null_mut(), at)
}

fn allocate_small(class: Class) -> Option<u64> {
    let pinned = Pinned::new();
    let cache = cache(&pinned);
    let place = &cache.spans[class.number()];
    loop {
        // Relaxed: this CPU's own.
        let number = place.load(Ordering::Relaxed);
        if number != 0 {
            if let Some(block) = span(number).take() {
                add(&cache.allocated[class.number()], 1);
                return Some(block);
            }
            if span(number).give_up() {
                continue;
            }
        }
        place.store(0, Ordering::Relaxed);
        place.store(refill(class)?, Ordering::Relaxed);
    }
}

/// A span with free blocks, for the CPU that calls.
#[cold]
fn refill(class: Class) -> Option<Number> {
    {
        let mut list = LISTS[class.number()].lock();
        if *list != 0 {
            let number = *list;
            *list = span(number).next.load(Ordering::Relaxed);
            // Nobody but the holder of the list changes the state of a listed span.
            span(number).set_state(State::Owned);
            return Some(number);
        }
    }
    new_span(class.pages(), |span, start| span.prepare(start, class))
}

fn allocate_large(layout: Layout) -> Option<u64> {
    // From here on: a world that is stopped in between would find a block that is not counted.
    let pinned = Pinned::new();
    let pages = layout.size().checked_next_multiple_of(frame_size())? / frame_size();
    // Room to move the beginning, for alignments beyond a page.
    let room = layout.align().saturating_sub(1) / frame_size();
    let number = new_span(pages.max(1).checked_add(room)?, |span, start| {
        span.prepare_whole(start, pages.max(1) + room, State::Large);
    })?;
    let large = &cache(&pinned).large;
    add(&large[LARGE_ALLOCATED], 1);
    add(&large[LARGE_BYTES_ALLOCATED], span(number).size());
    Some(span(number).start().next_multiple_of(layout.align() as u64))
}

/// Takes a run of pages for a span, which `prepare` fills in before anybody can find it.
fn new_span(pages: usize, prepare: impl Fn(&Span, u64)) -> Option<Number> {
    let taken = || ARENA.lock().take(pages, &prepare);
    taken().or_else(|| {
        // Before the arena grows, what its spans hold for nothing goes back to it.
        if reclaim() > 0
            && let Some(number) = taken()
        {
            return Some(number);
        }
        let mut arena = ARENA.lock();
        arena.grow(pages);
        arena.take(pages, &prepare)
    })
}

/// Gives the arena the spans that no CPU owns and that hold no block. Returns how many there were.
fn reclaim() -> usize {
    Class::all().map(reclaim_class).sum()
}

fn reclaim_class(class: Class) -> usize {
    let mut empty = 0;
    let mut kept = 0;
    let mut list = LISTS[class.number()].lock();
    let mut number = *list;
    while number != 0 {
        let next = span(number).next.load(Ordering::Relaxed);
        // A listed span that is empty stays so: nobody takes blocks from it while its list is locked.
        let to = if span(number).is_empty() { &mut empty } else { &mut kept };
        span(number).next.store(*to, Ordering::Relaxed);
        *to = number;
        number = next;
    }
    *list = kept;
    drop(list);
    let mut count = 0;
    while empty != 0 {
        let next = span(empty).next.load(Ordering::Relaxed);
        ARENA.lock().give_back(empty);
        (empty, count) = (next, count + 1);
    }
    count
}

/// Gives a block back.
///
/// # Panics
/// When it is no block, or has been given back already.
///
/// # Safety
/// The block came from [`allocate`] with this layout and is not used any more.
pub unsafe fn free(block: *mut u8, layout: Layout) {
    // As in `allocate_large`.
    let pinned = Pinned::new();
    let address = block.addr() as u64;
    let Some(number) = number_of_block(address) else { not_allocated(address) };
    let Some(class) = Class::of(layout) else {
        return free_large(&pinned, number, address);
    };
    match span(number).give_back(address) {
        Returned::Done => {}
        Returned::MustList => {
            let mut list = LISTS[class.number()].lock();
            span(number).next.store(*list, Ordering::Relaxed);
            *list = number;
        }
        Returned::NotAllocated => not_allocated(address),
    }
    add(&cache(&pinned).freed[class.number()], 1);
}

fn free_large(pinned: &Pinned, number: Number, address: u64) {
    if !span(number).is(State::Large) {
        not_allocated(address);
    }
    let size = span(number).size();
    ARENA.lock().give_back(number);
    let large = &cache(pinned).large;
    add(&large[LARGE_FREED], 1);
    add(&large[LARGE_BYTES_FREED], size);
}

#[cold]
fn not_allocated(address: u64) -> ! {
    panic!("free of a block that is not allocated at {address:#x}")
}

/// Whether a block of one layout can serve as one of another, so that nothing has to be moved.
pub fn fits_in_place(block: *mut u8, old: Layout, new: Layout) -> bool {
    match (Class::of(old), Class::of(new)) {
        (Some(old), Some(new)) => old == new,
        (None, None) => number_of_block(block.addr() as u64).is_some_and(|number| {
            let end = span(number).start() + span(number).size();
            block.addr() as u64 + new.size() as u64 <= end && new.size() * 2 > old.size()
        }),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Calls `found` with start and size of each block that is handed out. Takes the arena's lock for a moment at first.
///
/// Exact while nobody allocates or frees.
pub fn for_each_live(mut found: impl FnMut(u64, u64)) {
    let numbers = ARENA.lock().numbers();
    for span in (1..=numbers).map(span) {
        if span.is(State::Large) {
            found(span.start(), span.size());
        } else if !span.is(State::Unused) && !span.is(State::Released) {
            span.live().for_each(|block| found(block, span.size()));
        }
    }
}

/// Start and size of the block that holds an address, if it is handed out. Takes no lock; as exact as
/// [`for_each_live`].
pub fn block_of(address: u64) -> Option<(u64, u64)> {
    let span = span(number_at(address)?);
    let start = if span.is(State::Large) { Some(span.start()) } else { span.block_at(address) };
    Some((start?, span.size()))
}

/// Bounds of the arena: no block lies outside.
pub fn arena_bounds() -> (u64, u64) {
    (HEAP, HEAP + ARENA.lock().mapped)
}

/// Unmaps what is free. The frames can be used again once all CPUs have flushed their TLBs.
#[must_use = "the frames are lost unless they are freed"]
pub fn unmap_idle() -> Unmapped {
    reclaim();
    let mut unmapped = Unmapped::new();
    ARENA.lock().release(&mut unmapped);
    unmapped
}

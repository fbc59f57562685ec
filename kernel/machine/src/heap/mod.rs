//! The heap: blocks of [`class`]es from spans, and large blocks with a span of their own.
//!
//! ```text
//!   magazine         blocks of one class that one CPU has at hand: no lock, no shared line
//!        │ half of it, when it is full                          ▲ half of it, when it is empty
//!        ▼                                                      │
//!   class list       spans with free blocks; one lock for each class in each shard
//!        │ spans in which nothing is out, all but one           ▲ new span
//!        ▼                                                      │
//!   arena            runs of pages; one lock, and a way past it
//! ```
//!
//! Interrupt handlers do not allocate. A caller is pinned to its CPU while it uses a magazine. No lock here is
//! needed by the handler of page faults, so all of this may run on a stack that is mapped on first touch: a fault
//! in the middle takes a frame, whose lock is the innermost (`frames` argues that one).
//!
//! What is handed out is known exactly: [`for_each_live`] finds each block once while nobody allocates.
//! `docs/adr/0020-magazines-in-front-of-spans.md`, and 0024 for shards and busy locks, say what else was thought of.
//!
//! # Blocks that are given back twice
//!
//! The first word of a block that is given back becomes its own address: the mark, which goes when the block is handed out. Who gives a
//! block back that has the mark looks whether it is free; a program may have that address there itself. If something was written
//! to the block since, the mark is gone, and the span finds out when the block goes back there.

mod arena;
pub mod class;
mod list;
mod live;
pub(crate) mod magazine;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod ready;
mod released;
mod shards;
mod shelf;
mod span;
pub mod stats;
mod tables;

use core::alloc::Layout;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use alloc::boxed::Box;

use self::arena::{Chunk, Claim, Mapped, Wanted};
use self::class::{Class, frame_size};
use self::list::{Home, Lists};
pub use self::live::{arena_bounds, block_of, for_each_live};
use self::magazine::{Cache, Flushed, Large, Near};
use self::shards::{All, home};
use self::span::{Span, State};
use self::tables::{Number, Tables};
use crate::address::at;
use crate::frames::Unmapped;
use crate::madt::MAX_CPUS;
use crate::percpu::{self, PerCpu, Pinned};

/// Each CPU's cache but the boot CPU's, which is there from the beginning. For reports; a CPU finds its own by its block.
static CACHES: [AtomicPtr<Cache>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
/// One more than the highest number of a CPU that has its cache there.
static END: AtomicUsize = AtomicUsize::new(0);
static BOOT_CACHE: Cache = Cache::new();

/// The boot CPU's cache.
pub(crate) const fn boot_cache() -> *mut Cache {
    (&raw const BOOT_CACHE).cast_mut()
}

/// Gives a CPU its cache and its shard, before it runs.
pub(crate) fn add_cpu(block: &PerCpu) {
    shards::add_cpu(block);
    let number = block.id().0 as usize;
    let Some(place) = CACHES.get(number) else { return };
    let cache: &Cache = Box::leak(Cache::boxed());
    block.set_cache(cache);
    // Release pairs with the Acquire in `caches`.
    place.store(ptr::from_ref(cache).cast_mut(), Ordering::Release);
    // Release pairs with the Acquire in `caches`, too.
    END.fetch_max(number + 1, Ordering::Release);
}

/// The caches of all CPUs.
fn caches() -> impl Iterator<Item = &'static Cache> {
    let end = END.load(Ordering::Acquire);
    let others = CACHES[..end].iter().filter_map(|cache| {
        // SAFETY: it is null, or was leaked by `add_cpu`.
        unsafe { cache.load(Ordering::Acquire).as_ref() }
    });
    core::iter::once(&BOOT_CACHE).chain(others)
}

/// Takes a block; null when memory is used up.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the global allocator's function is this, and a call more is a tenth of it"
)]
pub fn allocate(layout: Layout) -> *mut u8 {
    let Some(near) = Near::of(layout) else { return allocate_other(layout) };
    let pinned = Pinned::new();
    let Some(block) = percpu::cache(&pinned).near(near).take() else { return refill(pinned, layout) };
    // SAFETY: it came from the magazine.
    at(unsafe { hand_out(pinned, block) })
}

#[inline(never)]
fn allocate_other(layout: Layout) -> *mut u8 {
    let Some(class) = Class::of(layout) else { return allocate_large(layout) };
    let pinned = Pinned::new();
    let Some(block) = percpu::cache(&pinned).magazine(class).take() else { return refill(pinned, layout) };
    // SAFETY: it came from the magazine.
    at(unsafe { hand_out(pinned, block) })
}

/// Takes the mark off a block, and returns it.
///
/// # Safety
/// The block is the caller's.
#[inline]
unsafe fn hand_out(pinned: Pinned, block: u64) -> u64 {
    let word: *mut u64 = at(block);
    // SAFETY: blocks are 16 bytes long at least, and aligned to them.
    unsafe { word.write(0) };
    pinned.end_with(block)
}

/// Fetches blocks for an empty magazine, and hands one out.
#[cold]
#[inline(never)]
fn refill(pinned: Pinned, layout: Layout) -> *mut u8 {
    let Some(class) = Class::of(layout) else { return ptr::null_mut() };
    let magazine = percpu::cache(&pinned).use_magazine(class);
    let home = home(&pinned);
    let is_filled = magazine.refill(&All, home, &Mapped, class) > 0
        || refill_from_new(&pinned, class)
        || magazine.refill_by_waiting(&All, home, &Mapped, class) > 0;
    let block = magazine.take().filter(|_| is_filled);
    match block {
        // SAFETY: it came from the magazine.
        Some(block) => at(unsafe { hand_out(pinned, block) }),
        None => ptr::null_mut(),
    }
}

/// Fetches blocks from a new span. `false`: memory is used up.
fn refill_from_new(pinned: &Pinned, class: Class) -> bool {
    let new = || {
        let wanted = Wanted { pages: class.pages(), align: 1 };
        new_span(wanted, &|span, start| span.prepare(start, class), &|_, _| {})
    };
    let Some(number) = ready::take(class).or_else(new) else { return false };
    let mut list = All.open_any(home(pinned), class);
    list.add(&Mapped, number);
    percpu::cache(pinned).magazine(class).fetch(&mut list, &Mapped, class) > 0
}

#[cold]
#[inline(never)]
fn allocate_large(layout: Layout) -> *mut u8 {
    let pages = layout.size().max(1).div_ceil(frame_size());
    let prepare = |span: &Span, start| span.prepare_whole(start, pages, State::Large);
    // Pinned from the instant at which others can find it: a world that is stopped in between would find a block that
    // is not counted.
    let count = |pinned: &Pinned, number| {
        let cache = percpu::cache(pinned);
        cache.count_large(Large::Allocated, 1);
        cache.count_large(Large::BytesAllocated, Mapped.span(number).size());
    };
    let number = new_span(Wanted { pages, align: layout.align() }, &prepare, &count);
    number.map_or(ptr::null_mut(), |number| at(Mapped.span(number).start()))
}

/// Takes a run of pages for a span, which `prepare` fills in before anybody can find it, and calls `done`, pinned since then.
fn new_span(
    wanted: Wanted,
    prepare: &impl Fn(&Span, u64),
    done: &impl Fn(&Pinned, Number),
) -> Option<Number> {
    take_or_map(wanted, prepare, done).or_else(|| {
        // What the heap holds for nothing may do.
        (reclaim() > 0).then(|| take_or_map(wanted, prepare, done))?
    })
}

/// Takes a run that is free, or maps pages until there is one.
fn take_or_map(
    wanted: Wanted,
    prepare: &impl Fn(&Span, u64),
    done: &impl Fn(&Pinned, Number),
) -> Option<Number> {
    let mut chunk: Option<Chunk> = None;
    loop {
        let mut arena = ready::arena();
        let is_short = chunk.take().is_some_and(|chunk| !arena.finish(chunk));
        if let Some(number) = arena.take(wanted, prepare) {
            done(&arena.unlock(), number);
            return Some(number);
        }
        if is_short {
            return None;
        }
        let claim = arena.claim(wanted)?;
        drop(arena);
        if let Claim::Map(mut claimed) = claim {
            claimed.map();
            chunk = Some(claimed);
        }
    }
}

/// Gives the arena what this CPU has at hand for nothing, and the spans in which nothing is out. Returns how many spans
/// there were.
fn reclaim() -> usize {
    let pinned = Pinned::new();
    drain(percpu::cache(&pinned)) + unmake_empty() + ready::put_back()
}

/// Gives the arena the spans that the lists keep though nothing is out in them, and says how many there were.
fn unmake_empty() -> usize {
    let lists = || Class::all().flat_map(|class| All.from(Home::FIRST).map(move |home| (home, class)));
    let listed = lists().filter(|(home, class)| All.has_free(*home, *class));
    listed.filter_map(|(home, class)| All.open(home, class).take_empty()).map(ready::give_back).count()
}

/// Empties all magazines of a CPU, and returns how many spans that made empty.
fn drain(cache: &Cache) -> usize {
    let flush = |class| cache.magazine(class).drain(&All, &Mapped, class).map(settle);
    Class::all().flat_map(|class| core::iter::from_fn(move || flush(class))).sum()
}

/// Gives the spans back that a flush has emptied, and says how many there were.
fn settle(flushed: Flushed) -> usize {
    let mut empty = match flushed {
        Flushed::Empty(first) => first,
        Flushed::NotAllocated(block) => not_allocated(block),
    };
    let mut count = 0;
    while empty != 0 {
        let next = Mapped.span(empty).next.load(Ordering::Relaxed);
        ready::give_back(empty);
        (empty, count) = (next, count + 1);
    }
    count
}

/// Gives a block back.
///
/// # Panics
/// When it is no block, or has been given back already; the head of this file says when that is found.
///
/// # Safety
/// The block came from [`allocate`] with this layout and is not used any more.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as for `allocate`")]
pub unsafe fn free(block: *mut u8, layout: Layout) {
    let address = block.addr() as u64;
    let Some(near) = Near::of(layout) else { return free_other(address, layout) };
    // SAFETY: the block was the caller's until now.
    if unsafe { is_marked(block) } {
        return free_marked(address, layout);
    }
    let pinned = Pinned::new();
    if !percpu::cache(&pinned).near(near).put(address) {
        put_in_full(pinned, address, layout);
    }
}

#[inline(never)]
fn free_other(address: u64, layout: Layout) {
    let Some(class) = Class::of(layout) else { return free_large(address) };
    // SAFETY: the block was the caller's of `free` until now.
    if unsafe { is_marked(at(address)) } {
        return free_marked(address, layout);
    }
    let pinned = Pinned::new();
    if !percpu::cache(&pinned).magazine(class).put(address) {
        put_in_full(pinned, address, layout);
    }
}

/// Whether a block has the mark already. If not, it gets it.
///
/// # Safety
/// The block is the caller's.
#[inline]
unsafe fn is_marked(block: *mut u8) -> bool {
    let word: *mut u64 = block.cast();
    // Volatile: the program may have left the word without a value, and then any will do, but one.
    // SAFETY: blocks are 16 bytes long at least, and aligned to them.
    if unsafe { word.read_volatile() } == block.addr() as u64 {
        return true;
    }
    // SAFETY: likewise.
    unsafe { word.write(block.addr() as u64) };
    false
}

#[cold]
#[inline(never)]
fn put_in_full(pinned: Pinned, block: u64, layout: Layout) {
    let Some(class) = Class::of(layout) else { return };
    let magazine = percpu::cache(&pinned).use_magazine(class);
    settle(magazine.make_room(&All, &Mapped, class));
    let has_room = magazine.put(block);
    debug_assert!(has_room, "a part of it has gone");
    drop(pinned);
}

/// Gives a block back that has the mark already, if it is handed out all the same.
#[cold]
#[inline(never)]
fn free_marked(block: u64, layout: Layout) {
    if block_of(block).is_none_or(|(start, _)| start != block) {
        not_allocated(block);
    }
    let Some(class) = Class::of(layout) else { return };
    let pinned = Pinned::new();
    if !percpu::cache(&pinned).magazine(class).put(block) {
        put_in_full(pinned, block, layout);
    }
}

#[cold]
#[inline(never)]
fn free_large(address: u64) {
    // As in `allocate_large`.
    let pinned = Pinned::new();
    let number = Mapped.number_at(address).filter(|number| {
        let span = Mapped.span(*number);
        span.is(State::Large) && span.start() == address
    });
    let Some(number) = number else { not_allocated(address) };
    let size = Mapped.span(number).size();
    ready::give_back(number);
    let cache = percpu::cache(&pinned);
    cache.count_large(Large::Freed, 1);
    cache.count_large(Large::BytesFreed, size);
}

#[cold]
fn not_allocated(address: u64) -> ! {
    panic!("free of a block that is not allocated at {address:#x}")
}

/// Whether a block of one layout can serve as one of another, so that nothing has to be moved.
pub fn fits_in_place(block: *mut u8, old: Layout, new: Layout) -> bool {
    match (Class::of(old), Class::of(new)) {
        (Some(old), Some(new)) => old == new,
        (None, None) => Mapped.number_at(block.addr() as u64).is_some_and(|number| {
            let end = Mapped.span(number).start() + Mapped.span(number).size();
            block.addr() as u64 + new.size() as u64 <= end && new.size() * 2 > old.size()
        }),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Empties the magazines of all CPUs, so that reports that look for blocks find them quickly, and what is empty goes back to the arena.
///
/// # Safety
/// No other CPU allocates or frees meanwhile, and what it did before is seen here: the world is stopped.
pub unsafe fn settle_all() {
    caches().for_each(|cache| {
        drain(cache);
    });
    unmake_empty();
    ready::put_back();
}

/// Unmaps what is free. The frames can be used again once all CPUs have flushed their TLBs.
///
/// # Safety
/// As [`settle_all`].
#[must_use = "the frames are lost unless they are freed"]
pub unsafe fn unmap_idle() -> Unmapped {
    // SAFETY: the caller's contract.
    unsafe { settle_all() };
    let mut unmapped = Unmapped::new();
    ready::arena().release(&mut unmapped);
    unmapped
}

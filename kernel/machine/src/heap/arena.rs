//! The arena: pages of the heap, which `linked_list_allocator` hands out in runs, and the numbers of spans.
//!
//! Three ranges of addresses grow with it, all mapped as they are needed: the pages themselves, a map from each page to
//! the number of its span, and the descriptions of the spans.
//!
//! A free run keeps its pages: the allocator's list lies in them. Only [`Arena::release`] takes pages away, from
//! runs that it has first taken from the allocator for itself ([`super::released`]). They are mapped again, as far as
//! they are needed, before the arena grows.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use linked_list_allocator::Heap;

use super::class::frame_size;
use super::released::{Front, Released, Tables};
use super::span::{Span, State};
use crate::address::{at, size};
use crate::frames::{self, FRAME_SIZE, Unmapped};
use crate::paging::{self, HEAP, HEAP_MAP, HEAP_SPANS};

/// Bytes by which the arena grows at least.
const GROWTH: u64 = 1024 * 1024;
/// Frames that the arena leaves to page tables, to its own tables and to stacks when it grows.
const RESERVE: u64 = 64;
/// The largest run that a release looks for, in pages; it then looks for half of that, and so on.
const LARGEST_RELEASE: usize = 1 << 14;

/// Number of a span: 0 is none.
pub(super) type Number = u32;

/// The heap's pages.
pub(super) struct Arena {
    runs: Heap,
    /// Bytes from [`HEAP`] that belong to the arena.
    pub(super) mapped: u64,
    /// The part of it whose pages are not mapped.
    pub(super) released: Released,
    /// Bytes of the page map and of the descriptions.
    pub(super) metadata: u64,
    /// Numbers in use, and those that are free again.
    count: Number,
    unused: Number,
}

/// The tables at their places in memory, for an arena of so many bytes.
struct Mapped(u64);

impl Tables for Mapped {
    fn span(&self, number: Number) -> &Span {
        span(number)
    }

    fn entry(&self, page: u64) -> &AtomicU32 {
        map_entry(page)
    }

    fn bounds(&self) -> Range<u64> {
        HEAP..HEAP + self.0
    }
}

/// Whether there are frames for so many pages, and for the tables that they need.
fn room_for(bytes: u64) -> bool {
    bytes / FRAME_SIZE * 257 / 256 + RESERVE <= frames::stats().free
}

/// The description of a span.
pub(super) fn span(number: Number) -> &'static Span {
    let place: *const Span = at(HEAP_SPANS + u64::from(number) * size_of::<Span>() as u64);
    // SAFETY: numbers come from the arena, which has mapped and zeroed the place; all fields are atomics, for which
    // zeros are values.
    unsafe { &*place }
}

/// The number of the span that a page of the heap belongs to.
pub(super) fn number_at(address: u64) -> Option<Number> {
    if !(HEAP..HEAP_MAP).contains(&address) {
        return None;
    }
    let entry = HEAP_MAP + (address - HEAP) / FRAME_SIZE * size_of::<Number>() as u64;
    // A page of the map exists if the arena has grown so far.
    paging::translate(entry)?;
    Some(map_entry(address).load(Ordering::Acquire)).filter(|number| *number != 0)
}

/// The entry of a page that belongs to the arena.
fn map_entry(address: u64) -> &'static AtomicU32 {
    let entry = HEAP_MAP + (address - HEAP) / FRAME_SIZE * size_of::<Number>() as u64;
    // SAFETY: the arena has mapped and zeroed the map as far as it has grown itself (the caller's contract).
    unsafe { AtomicU32::from_ptr(at(entry)) }
}

/// The number of the span of a block that was handed out: without a look whether the map reaches so far.
pub(super) fn number_of_block(address: u64) -> Option<Number> {
    if !(HEAP..HEAP_MAP).contains(&address) {
        return None;
    }
    // Acquire pairs with the Release in `claim`.
    Some(map_entry(address).load(Ordering::Acquire)).filter(|number| *number != 0)
}

/// Pages as a layout for the run allocator.
fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(frame_size())?, frame_size()).ok()
}

/// Notes that the pages of a span, which is prepared, belong to it.
fn claim(number: Number) {
    let span = span(number);
    for page in 0..span.pages() as u64 {
        // Release pairs with the Acquire of the look-ups.
        map_entry(span.start() + page * FRAME_SIZE).store(number, Ordering::Release);
    }
}

impl Arena {
    pub(super) const fn new() -> Self {
        Self { runs: Heap::empty(), mapped: 0, released: Released::new(), metadata: 0, count: 0, unused: 0 }
    }

    /// Numbers that were ever used: 1 to this.
    pub(super) fn numbers(&self) -> Number {
        self.count
    }

    fn tables(&self) -> Mapped {
        Mapped(self.mapped)
    }

    /// Takes a run of pages from what there is, without growing, for a span. `prepare` fills its description in before
    /// anybody can find it.
    pub(super) fn take(&mut self, pages: usize, prepare: &impl Fn(&Span, u64)) -> Option<Number> {
        let (number, start) = self.take_mapped(pages).or_else(|| {
            self.bring_back(pages)?;
            self.take_mapped(pages)
        })?;
        prepare(span(number), start);
        claim(number);
        Some(number)
    }

    /// Takes a run that is free and mapped.
    fn take_mapped(&mut self, pages: usize) -> Option<(Number, u64)> {
        let layout = layout(pages)?;
        let run = self.runs.allocate_first_fit(layout).ok()?;
        let number = self.number();
        if number.is_none() {
            // SAFETY: it was just taken with this layout.
            unsafe { self.runs.deallocate(run, layout) };
        }
        Some((number?, run.addr().get() as u64))
    }

    /// Gives the run of a span back, which holds no block, and its number.
    pub(super) fn give_back(&mut self, number: Number) {
        let (start, pages) = (span(number).start(), span(number).pages());
        for page in 0..pages as u64 {
            map_entry(start + page * FRAME_SIZE).store(0, Ordering::Release);
        }
        self.forget(number);
        self.free_run(start, pages);
    }

    /// Gives pages to the run allocator, which are mapped and which nobody uses.
    fn free_run(&mut self, start: u64, pages: usize) {
        let (Some(run), Some(layout)) = (NonNull::new(at(start)), layout(pages)) else { return };
        // SAFETY: the pages were taken from the allocator, and nobody uses them any more. They may be a part of what was
        // taken at once, or parts of several: the allocator keeps nothing about what it has handed out, and all sizes
        // and addresses are multiples of a page, so it adds nothing to them either.
        unsafe { self.runs.deallocate(run, layout) };
    }

    fn forget(&mut self, number: Number) {
        span(number).set_state(State::Unused);
        span(number).next.store(self.unused, Ordering::Relaxed);
        self.unused = number;
    }

    /// A number that is free, with a description that is mapped.
    fn number(&mut self) -> Option<Number> {
        if self.unused != 0 {
            let number = self.unused;
            self.unused = span(number).next.load(Ordering::Relaxed);
            return Some(number);
        }
        let number = self.count.checked_add(1)?;
        let end = HEAP_SPANS + (u64::from(number) + 1) * size_of::<Span>() as u64;
        // The first page holds number 0, which is none.
        let have = HEAP_SPANS + (u64::from(self.count) + 1) * size_of::<Span>() as u64;
        let first = if self.count == 0 { HEAP_SPANS } else { have };
        self.map_zeroed(first, end)?;
        self.count = number;
        Some(number)
    }

    /// Maps and zeroes the pages that begin in this range, and that of its first byte.
    fn map_zeroed(&mut self, start: u64, end: u64) -> Option<()> {
        let mut page = start & !(FRAME_SIZE - 1);
        while page < end {
            if paging::translate(page).is_none() {
                paging::map_new(page).ok()?;
                let bytes: *mut u8 = at(page);
                // SAFETY: the page was just mapped and is nobody else's.
                unsafe { bytes.write_bytes(0, frame_size()) };
                self.metadata += FRAME_SIZE;
            }
            page += FRAME_SIZE;
        }
        Some(())
    }

    /// Makes the arena larger by so many pages or more; by fewer, or not at all, when memory is used up.
    pub(super) fn grow(&mut self, pages: usize) {
        let Some(bytes) = (pages as u64).checked_mul(FRAME_SIZE) else { return };
        if let Some(wanted) = [bytes.max(GROWTH), bytes].into_iter().find(|&wanted| room_for(wanted)) {
            // Whoever asked looks for a run in any case, so a part is no failure.
            let _ = self.extend(wanted);
        }
    }

    fn extend(&mut self, wanted: u64) -> Option<()> {
        let end = HEAP + self.mapped + wanted;
        let entries = |address: u64| HEAP_MAP + (address - HEAP) / FRAME_SIZE * size_of::<Number>() as u64;
        self.map_zeroed(entries(HEAP + self.mapped), entries(end))?;
        let gained = map_some(HEAP + self.mapped, wanted);
        if gained == 0 {
            return None;
        }
        if self.mapped == 0 {
            let start: *mut u8 = at(HEAP);
            // SAFETY: the bytes were just mapped, belong to nobody else, and stay mapped while the allocator has them.
            unsafe { self.runs.init(start, size(gained)) };
        } else {
            // SAFETY: the arena's end is followed by the bytes that were just mapped.
            unsafe { self.runs.extend(size(gained)) };
        }
        self.mapped += gained;
        Some(())
    }

    /// Unmaps all runs that are free, but for some single pages; their frames come back once all TLBs are flushed.
    pub(super) fn release(&mut self, unmapped: &mut Unmapped) {
        let mut pages = LARGEST_RELEASE;
        while pages > 0 {
            while let Some((number, start)) = self.take_mapped(pages) {
                let addresses = (0..pages as u64).map(|page| start + page * FRAME_SIZE);
                addresses.filter_map(paging::unmap).for_each(|frame| unmapped.add(frame));
                let joined = self.released.add(&self.tables(), number, start, pages);
                joined.into_iter().flatten().for_each(|number| self.forget(number));
            }
            pages /= 2;
        }
    }

    /// Maps so much of released runs again that there is a free run of so many pages.
    fn bring_back(&mut self, pages: usize) -> Option<()> {
        let free = usize::try_from(frames::stats().free.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
        let mut window = self.released.find(&self.tables(), pages, free)?;
        while let Some(front) = window.next(&self.tables()) {
            self.bring_front_back(front)?;
        }
        Some(())
    }

    /// `None`: others were faster, and memory is used up. What was mapped is free all the same.
    fn bring_front_back(&mut self, Front { number, start, pages }: Front) -> Option<()> {
        let gained = size(map_some(start, pages as u64 * FRAME_SIZE)) / frame_size();
        if gained > 0 {
            if let Some(number) = self.released.take_front(&self.tables(), number, gained) {
                self.forget(number);
            }
            self.free_run(start, gained);
        }
        (gained == pages).then_some(())
    }
}

/// Maps fresh frames, and returns for how many bytes there were any.
fn map_some(start: u64, length: u64) -> u64 {
    match paging::map_fresh(start, length) {
        Ok(()) => length,
        Err((_, gained)) => gained,
    }
}

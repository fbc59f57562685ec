//! The arena: pages of the heap, which `linked_list_allocator` hands out in runs, and the numbers of spans.
//!
//! Three ranges of addresses grow with it, all mapped as they are needed: the pages themselves, a map from each page to
//! the number of its span, and the descriptions of the spans.
//!
//! A free run keeps its pages: the allocator's list lies in them. Only [`Arena::release`] takes pages away, from
//! runs that it has first taken from the allocator for itself ([`super::released`]). They are mapped again, as far as
//! they are needed, before the arena grows.
//!
//! Pages are mapped without the arena's lock: under it a [`Chunk`] is claimed, which is nobody else's until it comes back. The chunk comes
//! back, and the run is taken, in one hold of the lock.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use linked_list_allocator::Heap;

use super::class::frame_size;
use super::released::{Front, Released};
use super::span::{Span, State};
use super::tables::{Number, Tables};
use crate::address::{at, size};
use crate::frames::{self, FRAME_SIZE, Unmapped};
use crate::huge::{self, HUGE_PAGES, HUGE_SIZE};
use crate::lock::Rank;
use crate::paging::{self, HEAP, HEAP_MAP, HEAP_SPANS};
use crate::percpu::{self, Pinned};

/// Bytes that the arena has addresses for.
const MOST: u64 = HEAP_MAP - HEAP;
/// Frames that the arena leaves to page tables, to its own tables and to stacks when it grows.
const RESERVE: u64 = 64;
/// The largest run that a release looks for, in pages; it then looks for half of that, and so on.
const LARGEST_RELEASE: usize = 1 << 14;
/// Pages of the arena's own tables that are made in one hold of its lock.
const TABLES_AT_ONCE: u64 = 16;
/// Bytes of the arena that one page of the map of pages describes.
const DESCRIBED: u64 = FRAME_SIZE / size_of::<Number>() as u64 * FRAME_SIZE;
/// Pages that are mapped in one go: the CPU is pinned that long.
const STEP: usize = 64;

/// Bytes of the arena that the map of pages describes. Grows under the arena's lock.
static KNOWN: AtomicU64 = AtomicU64::new(0);
/// Bytes of claimed chunks that are not mapped yet.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

/// The heap's pages.
pub(super) struct Arena {
    runs: Heap,
    /// Bytes from [`HEAP`] that belong to the arena.
    pub(super) end: u64,
    /// The part of it whose pages are not mapped.
    released: Released,
    /// Bytes of the page map and of the descriptions.
    pub(super) metadata: u64,
    /// Spans that hold blocks, or could at once, and their pages.
    pub(super) spans: u64,
    pub(super) used_pages: u64,
    /// Numbers in use, and those that are free again.
    count: Number,
    unused: Number,
}

/// A run of pages that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) pages: usize,
    /// What its first address is a multiple of: a page at least.
    pub(super) align: usize,
}

impl Wanted {
    fn layout(self) -> Option<Layout> {
        Layout::from_size_align(self.pages.checked_mul(frame_size())?, self.align.max(frame_size())).ok()
    }

    /// Pages that have such a run in them wherever they begin.
    fn with_room(self) -> Option<usize> {
        self.pages.checked_add(self.align.saturating_sub(1) / frame_size())
    }
}

/// Pages that belong to whoever maps them. It has a number of its own.
#[derive(Debug)]
#[must_use = "it is lost unless it comes back"]
pub(super) struct Chunk {
    number: Number,
    start: u64,
    pages: usize,
    mapped: usize,
}

/// What brings a request that the free runs cannot serve further.
#[derive(Debug)]
pub(super) enum Claim {
    /// These pages are to be mapped.
    Map(Chunk),
    /// The arena's tables have grown.
    Again,
}

/// The tables at their places in memory.
pub(super) struct Mapped;

impl Tables for Mapped {
    fn span(&self, number: Number) -> &Span {
        let place: *const Span = at(HEAP_SPANS + u64::from(number) * size_of::<Span>() as u64);
        // SAFETY: numbers come from the arena, which has mapped and zeroed the place; all fields are atomics, for which
        // zeros are values.
        unsafe { &*place }
    }

    fn entry(&self, address: u64) -> Option<&AtomicU32> {
        // Acquire pairs with the Release in `know`.
        let offset = address.checked_sub(HEAP).filter(|offset| *offset < KNOWN.load(Ordering::Acquire))?;
        let place = HEAP_MAP + offset / FRAME_SIZE * size_of::<Number>() as u64;
        // SAFETY: the map is mapped and zeroed so far.
        Some(unsafe { AtomicU32::from_ptr(at(place)) })
    }
}

/// Whether there are frames for so many pages, and for the tables that they need.
fn room_for(pages: u64) -> bool {
    pages.saturating_mul(257) / 256 <= unclaimed()
}

/// Frames that the arena may still claim: others that have claimed some have not mapped them yet.
fn unclaimed() -> u64 {
    let claimed = CLAIMED.load(Ordering::Relaxed) / FRAME_SIZE;
    frames::stats().free.saturating_sub(claimed + RESERVE)
}

impl Arena {
    pub(super) const fn new() -> Self {
        Self {
            runs: Heap::empty(),
            end: 0,
            released: Released::new(),
            metadata: 0,
            spans: 0,
            used_pages: 0,
            count: 0,
            unused: 0,
        }
    }

    /// Numbers that were ever used: 1 to this.
    pub(super) fn numbers(&self) -> Number {
        self.count
    }

    /// Bytes of the arena that are not mapped.
    pub(super) fn unmapped(&self) -> u64 {
        // Relaxed: exact while nobody maps.
        self.released.bytes + CLAIMED.load(Ordering::Relaxed)
    }

    /// Takes a run of pages from what is free and mapped, for a span. `prepare` fills its description in before anybody
    /// can find it.
    pub(super) fn take(&mut self, wanted: Wanted, prepare: &impl Fn(&Span, u64)) -> Option<Number> {
        let (number, start) = self.take_run(wanted)?;
        prepare(Mapped.span(number), start);
        Mapped.mark_all(start, wanted.pages, number);
        self.spans += 1;
        self.used_pages += wanted.pages as u64;
        Some(number)
    }

    /// Takes a run that is free and mapped.
    fn take_run(&mut self, wanted: Wanted) -> Option<(Number, u64)> {
        if self.end == 0 {
            return None;
        }
        let layout = wanted.layout()?;
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
        let (start, pages) = (Mapped.span(number).start(), Mapped.span(number).pages());
        self.spans -= 1;
        self.used_pages -= pages as u64;
        Mapped.mark_all(start, pages, 0);
        self.forget(number);
        self.free_run(start, pages);
    }

    /// Gives pages to the run allocator, which are mapped and which nobody uses.
    fn free_run(&mut self, start: u64, pages: usize) {
        let layout = Wanted { pages, align: 1 }.layout().filter(|layout| layout.size() > 0);
        let (Some(run), Some(layout)) = (NonNull::new(at(start)), layout) else { return };
        // SAFETY: the pages were taken from the allocator, and nobody uses them any more. They may be a part of what was
        // taken at once, or parts of several: the allocator keeps nothing about what it has handed out, and all sizes
        // and addresses are multiples of a page, so it adds nothing to them either.
        unsafe { self.runs.deallocate(run, layout) };
    }

    fn forget(&mut self, number: Number) {
        Mapped.span(number).set_state(State::Unused);
        Mapped.span(number).next.store(self.unused, Ordering::Relaxed);
        self.unused = number;
    }

    /// A number that is free, with a description that is mapped.
    fn number(&mut self) -> Option<Number> {
        if self.unused != 0 {
            let number = self.unused;
            self.unused = Mapped.span(number).next.load(Ordering::Relaxed);
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

    /// Claims pages that are to be mapped for a request; `None` when memory is used up.
    pub(super) fn claim(&mut self, wanted: Wanted) -> Option<Claim> {
        if self.end == 0 {
            return self.begin().map(|()| Claim::Again);
        }
        let pages = wanted.with_room()?;
        let free = usize::try_from(unclaimed()).unwrap_or(usize::MAX);
        let window = self.released.find(&Mapped, pages, free);
        match window.and_then(|mut window| window.next(&Mapped)) {
            Some(front) => self.claim_front(front).map(Claim::Map),
            None => self.claim_fresh(pages as u64),
        }
    }

    /// Makes the first page, in which the run allocator begins its list.
    fn begin(&mut self) -> Option<()> {
        while self.know(FRAME_SIZE)? {}
        paging::map_new(HEAP).ok()?;
        let start: *mut u8 = at(HEAP);
        // SAFETY: the allocator writes to the beginning of what is free only, which is mapped, and then has nothing that
        // is free, as all is taken: what it gets is mapped (`free_run`).
        unsafe { self.runs.init(start, size(MOST)) };
        let all = Layout::from_size_align(size(MOST), frame_size()).ok()?;
        self.runs.allocate_first_fit(all).ok()?;
        self.end = FRAME_SIZE;
        self.free_run(HEAP, 1);
        Some(())
    }

    /// Claims the beginning of a run that had been unmapped: at most as much as is mapped in one go.
    fn claim_front(&mut self, front: Front) -> Option<Chunk> {
        let pages = front.pages.min(HUGE_PAGES);
        let spare = self.number()?;
        let number = match self.released.take_front(&Mapped, front.number, pages) {
            Some(number) => {
                self.forget(spare);
                number
            }
            None => spare,
        };
        Some(Chunk::new(number, front.start, pages))
    }

    /// Claims addresses beyond the arena's end, up to a multiple of a huge page if there is memory for that.
    fn claim_fresh(&mut self, pages: u64) -> Option<Claim> {
        let exact = self.end.checked_add(pages.checked_mul(FRAME_SIZE)?)?;
        let ends = [exact.checked_next_multiple_of(HUGE_SIZE)?, exact];
        let end = ends.into_iter().find(|end| room_for((end - self.end) / FRAME_SIZE))?;
        if self.know(end)? {
            return Some(Claim::Again);
        }
        let number = self.number()?;
        let chunk = Chunk::new(number, HEAP + self.end, size(end - self.end) / frame_size());
        self.end = end;
        Some(Claim::Map(chunk))
    }

    /// Makes the map of pages reach to this end of the arena. `true`: it was too short, and has grown.
    fn know(&mut self, end: u64) -> Option<bool> {
        let known = KNOWN.load(Ordering::Relaxed);
        if end <= known {
            return Some(false);
        }
        let new = end.min(known + TABLES_AT_ONCE * DESCRIBED).next_multiple_of(DESCRIBED);
        if new > MOST {
            return None;
        }
        let entries = |known: u64| HEAP_MAP + known / FRAME_SIZE * size_of::<Number>() as u64;
        self.map_zeroed(entries(known), entries(new))?;
        // Release pairs with the Acquire in `entry`.
        KNOWN.store(new, Ordering::Release);
        Some(true)
    }

    /// Takes a chunk back: what is mapped of it is free, the rest is kept as not mapped. Says whether all was mapped.
    pub(super) fn finish(&mut self, Chunk { number, start, pages, mapped }: Chunk) -> bool {
        Mapped.mark_all(start, pages, 0);
        let rest = start + mapped as u64 * FRAME_SIZE;
        if mapped == pages {
            self.forget(number);
        } else {
            CLAIMED.fetch_sub((pages - mapped) as u64 * FRAME_SIZE, Ordering::Relaxed);
            self.add_released(number, rest, pages - mapped);
        }
        self.free_run(start, mapped);
        mapped == pages
    }

    fn add_released(&mut self, number: Number, start: u64, pages: usize) {
        let joined = self.released.add(&Mapped, number, start, pages);
        joined.into_iter().flatten().for_each(|number| self.forget(number));
    }

    /// Unmaps all runs that are free, but for some single pages; their frames come back once all TLBs are flushed.
    pub(super) fn release(&mut self, unmapped: &mut Unmapped) {
        let mut pages = LARGEST_RELEASE;
        while pages > 0 {
            // Aligned, so that huge pages are found whole.
            let wanted = Wanted { pages, align: pages.min(HUGE_PAGES) * frame_size() };
            while let Some((number, start)) = self.take_run(wanted) {
                huge::unmap(start, pages, unmapped);
                self.add_released(number, start, pages);
            }
            pages /= 2;
        }
    }
}

impl Chunk {
    /// Takes pages for oneself.
    fn new(number: Number, start: u64, pages: usize) -> Self {
        Mapped.span(number).prepare_whole(start, pages, State::Held);
        Mapped.mark_all(start, pages, number);
        // Relaxed, as everywhere: a count.
        CLAIMED.fetch_add(pages as u64 * FRAME_SIZE, Ordering::Relaxed);
        Self { number, start, pages, mapped: 0 }
    }

    /// Maps it, or as much as there is memory for. Without the arena's lock.
    pub(super) fn map(&mut self) {
        while self.mapped < self.pages {
            // Until it is counted: a world that is stopped in between would find pages that are not.
            let pinned = Pinned::new();
            debug_assert!(!lock_is_held(&pinned), "what is mapped for one request keeps no other waiting");
            let (step, gained) = self.map_step();
            self.mapped += gained;
            CLAIMED.fetch_sub(gained as u64 * FRAME_SIZE, Ordering::Relaxed);
            if gained < step {
                return;
            }
        }
    }

    /// Maps the next pages. Returns how many were to be mapped, and how many are.
    ///
    /// Others map meanwhile, who have found the same room: what is left to stacks is looked after at each step.
    fn map_step(&self) -> (usize, usize) {
        let (start, left) = (self.start + self.mapped as u64 * FRAME_SIZE, self.pages - self.mapped);
        if start.is_multiple_of(HUGE_SIZE)
            && left >= HUGE_PAGES
            && frames::can_spare(HUGE_PAGES as u64)
            && huge::map(start).is_ok()
        {
            return (HUGE_PAGES, HUGE_PAGES);
        }
        // Up to where a huge page can begin.
        let boundary = size(HUGE_SIZE - start % HUGE_SIZE) / frame_size();
        let step = left.min(boundary).min(STEP);
        let most = size(frames::spare(step as u64));
        match paging::map_fresh(start, most as u64 * FRAME_SIZE) {
            Ok(()) => (step, most),
            Err((_, gained)) => (step, size(gained) / frame_size()),
        }
    }
}

/// Whether this CPU holds a lock of the heap. Known in debug builds.
fn lock_is_held(pinned: &Pinned) -> bool {
    // Relaxed: this CPU's own.
    let held = percpu::current(pinned).held_ranks.load(Ordering::Relaxed);
    held & (1 << Rank::HeapClass as u8 | 1 << Rank::Heap as u8) != 0
}

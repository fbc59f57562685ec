//! Memory that nobody has used yet: a cursor over the usable regions, which one exchange moves. No lock: whoever holds the pool's may
//! have been stopped by the host.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bootloader_api::info::MemoryRegion;

use super::{DMA_END, FRAME_SIZE, LOW_MEMORY_END};
use crate::huge::HUGE_SIZE;
use crate::memory_map;
use crate::window::PhysWindow;

/// Regions that the cursor can walk. Firmware reports up to about 130, most of them adjacent; of more holes than this the rest of
/// memory stays unused, and boot says how much that is.
pub(super) const MAX_REGIONS: usize = 255;

/// A usable region, and how many frames lie in those before it.
struct Region {
    start: AtomicU64,
    before: AtomicU64,
}

/// The cursor. It counts frames in the order of the regions.
pub(super) struct Fresh {
    regions: [Region; MAX_REGIONS],
    count: AtomicUsize,
    /// Frames in all regions.
    total: AtomicU64,
    /// Those that are not fresh any more.
    next: AtomicU64,
}

// Relaxed throughout: regions are written once, before other CPUs start, and the cursor says only whose a frame is.
impl Fresh {
    /// Without memory, for a static.
    #[expect(clippy::large_stack_frames, reason = "the compiler makes it")]
    pub(super) const fn new() -> Self {
        Self {
            regions: [const { Region { start: AtomicU64::new(0), before: AtomicU64::new(0) } }; MAX_REGIONS],
            count: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// Takes over the usable memory of a map, at boot. Returns how many bytes had to be left because there are too many holes.
    pub(super) fn init(&self, window: PhysWindow, map: &[MemoryRegion]) -> u64 {
        let zones = [DMA_END..window.size, LOW_MEMORY_END..DMA_END.min(window.size)];
        let pieces = zones.into_iter().flat_map(|zone| memory_map::usable(map, zone));
        pieces.map(|piece| if self.add(&piece) { 0 } else { piece.end - piece.start }).sum()
    }

    fn add(&self, piece: &Range<u64>) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let joins = count > 0 && self.end_of(count - 1) == piece.start;
        if !joins {
            let Some(region) = self.regions.get(count) else { return false };
            region.start.store(piece.start, Ordering::Relaxed);
            region.before.store(total, Ordering::Relaxed);
            self.count.store(count + 1, Ordering::Relaxed);
        }
        self.total.store(total + (piece.end - piece.start) / FRAME_SIZE, Ordering::Relaxed);
        true
    }

    /// Frames in all regions, fresh or not.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Frames that are fresh.
    pub(super) fn left(&self) -> u64 {
        self.total() - self.next.load(Ordering::Relaxed)
    }

    fn before(&self, region: usize) -> u64 {
        self.regions[region].before.load(Ordering::Relaxed)
    }

    /// Where a region ends.
    fn end_of(&self, region: usize) -> u64 {
        let is_last = region + 1 == self.count.load(Ordering::Relaxed);
        let after = if is_last { self.total() } else { self.before(region + 1) };
        self.regions[region].start.load(Ordering::Relaxed) + (after - self.before(region)) * FRAME_SIZE
    }

    /// Region and address of the frame with a number below the total.
    fn locate(&self, number: u64) -> (usize, u64) {
        let regions = &self.regions[..self.count.load(Ordering::Relaxed)];
        let after = regions.partition_point(|region| region.before.load(Ordering::Relaxed) <= number);
        let region = after.saturating_sub(1);
        let start = self.regions[region].start.load(Ordering::Relaxed);
        (region, start + (number - self.before(region)) * FRAME_SIZE)
    }

    /// Moves the cursor by what `step` says for a number that it stands at, and returns that number.
    fn advance(&self, step: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let next = |number| step(number).map(|step| number + step);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// Takes frames, as many as there is room for, but leaves so many. Returns how many these are.
    pub(super) fn take(&self, into: &mut [u64], leave: u64) -> usize {
        let most = into.len() as u64;
        let count = |number: u64| self.total().saturating_sub(number).saturating_sub(leave).min(most);
        let Some(first) = self.advance(|number| Some(count(number)).filter(|count| *count > 0)) else {
            return 0;
        };
        let numbers = first..first + count(first);
        into.iter_mut().zip(numbers).map(|(place, number)| *place = self.locate(number).1).count()
    }

    /// Takes the frames of a huge page: its address, and the frames before it that were left out, which are the caller's: at most so
    /// many bytes.
    pub(super) fn take_huge(&self, most_left_out: u64) -> Option<(u64, Range<u64>)> {
        // Where a huge page begins behind a number, if one fits into the region.
        let find = |number: u64| {
            let (region, address) = (number < self.total()).then(|| self.locate(number))?;
            let start = address.next_multiple_of(HUGE_SIZE);
            let fits = start + HUGE_SIZE <= self.end_of(region) && start - address <= most_left_out;
            fits.then_some((address, start))
        };
        let number = self.advance(|number| {
            find(number).map(|(address, start)| (start + HUGE_SIZE - address) / FRAME_SIZE)
        })?;
        find(number).map(|(address, start)| (start, address..start))
    }

    /// Leaves only so many at the end.
    #[cfg(test)]
    pub(super) fn leave(&self, left: u64) {
        self.next.store(self.total() - left, Ordering::Relaxed);
    }
}

//! The frames that no CPU keeps: a cursor over memory that was never used, and a list of what has come back.

use core::ptr;

use bootloader_api::info::MemoryRegion;

use super::{DMA_END, FRAME_SIZE, FrameStats, LOW_MEMORY_END};
use crate::address::at;
use crate::huge::HUGE_SIZE;
use crate::memory_map;
use crate::window::PhysWindow;

/// Regions that the cursor can walk. Firmware reports up to about 130, most of them adjacent; of more holes than this the rest of
/// memory stays unused, and boot says how much that is.
pub(super) const MAX_REGIONS: usize = 255;

#[derive(Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
}

/// All free frames but those that CPUs keep.
pub(super) struct Pool {
    window: PhysWindow,
    regions: [Region; MAX_REGIONS],
    count: usize,
    /// Region and address of the next frame that was never used.
    region: usize,
    next: u64,
    /// Frames that the cursor has left out on its way to a huge one.
    crumbs: Region,
    /// First frame of the free list, 0 when it is empty: frame 0 is below `LOW_MEMORY_END`.
    list: u64,
    stats: FrameStats,
}

impl Pool {
    /// Without memory.
    pub(super) const EMPTY: Self = Self {
        window: PhysWindow { base: 0, size: 0 },
        regions: [Region { start: 0, end: 0 }; MAX_REGIONS],
        count: 0,
        region: 0,
        next: 0,
        crumbs: Region { start: 0, end: 0 },
        list: 0,
        stats: FrameStats { total: 0, free: 0 },
    };

    /// Takes over the usable memory of a map. Returns how many bytes had to be left because there are too many holes.
    pub(super) fn init(&mut self, window: PhysWindow, map: &[MemoryRegion]) -> u64 {
        self.window = window;
        let mut lost = 0;
        for zone in [DMA_END..window.size, LOW_MEMORY_END..DMA_END.min(window.size)] {
            for piece in memory_map::usable(map, zone) {
                if !self.add(Region { start: piece.start, end: piece.end }) {
                    lost += piece.end - piece.start;
                }
            }
        }
        self.next = self.regions[0].start;
        lost
    }

    fn add(&mut self, region: Region) -> bool {
        let last = self.count.checked_sub(1).map(|i| &mut self.regions[i]);
        match last {
            Some(last) if last.end == region.start => last.end = region.end,
            _ if self.count < MAX_REGIONS => {
                self.regions[self.count] = region;
                self.count += 1;
            }
            _ => return false,
        }
        let frames = (region.end - region.start) / FRAME_SIZE;
        self.stats.total += frames;
        self.stats.free += frames;
        true
    }

    /// Frames under management, and those that are here.
    pub(super) const fn stats(&self) -> FrameStats {
        self.stats
    }

    /// Takes frames, as many as there is room for or as there are. Returns how many these are.
    pub(super) fn take(&mut self, into: &mut [u64]) -> usize {
        let mut taken = 0;
        for place in into {
            let Some(frame) = (if self.list == 0 { self.advance() } else { Some(self.pop()) }) else { break };
            *place = frame;
            taken += 1;
        }
        self.stats.free -= taken as u64;
        taken
    }

    /// Takes one frame back.
    ///
    /// # Safety
    /// It came from [`take`](Self::take), and nobody uses it.
    pub(super) unsafe fn give(&mut self, frame: u64) {
        // SAFETY: the caller's contract: a chain of one.
        unsafe { self.give_chain(frame, frame, 1) };
    }

    /// Takes `count` frames back, each of which holds the next one's address in its first word, but for the last.
    ///
    /// # Safety
    /// As [`give`](Self::give), for all of them.
    pub(super) unsafe fn give_chain(&mut self, first: u64, last: u64, count: u64) {
        // SAFETY: the frame is free now, so its first word is ours.
        unsafe { ptr::write(self.link(last), self.list) };
        self.list = first;
        self.stats.free += count;
    }

    fn pop(&mut self) -> u64 {
        let frame = self.list;
        // SAFETY: a frame on the list is free, so its first word is ours and holds the link.
        self.list = unsafe { ptr::read(self.link(frame)) };
        frame
    }

    /// The first word of a frame.
    pub(super) fn link(&self, frame: u64) -> *mut u64 {
        at(self.window.base + frame)
    }

    /// Frames in a row that no one has used yet, and that begin at a multiple of their size: the first.
    pub(super) fn take_huge(&mut self) -> Option<u64> {
        let start = self.next.next_multiple_of(HUGE_SIZE);
        let fits = self.region < self.count && start + HUGE_SIZE <= self.regions[self.region].end;
        let skips = start > self.next;
        if !fits || skips && self.crumbs.start < self.crumbs.end {
            return None;
        }
        if skips {
            self.crumbs = Region { start: self.next, end: start };
        }
        self.next = start + HUGE_SIZE;
        self.stats.free -= HUGE_SIZE / FRAME_SIZE;
        Some(start)
    }

    fn advance(&mut self) -> Option<u64> {
        if self.crumbs.start < self.crumbs.end {
            let frame = self.crumbs.start;
            self.crumbs.start += FRAME_SIZE;
            return Some(frame);
        }
        while self.region < self.count {
            if self.next < self.regions[self.region].end {
                let frame = self.next;
                self.next += FRAME_SIZE;
                return Some(frame);
            }
            self.region += 1;
            if self.region < self.count {
                self.next = self.regions[self.region].start;
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! The frames that no CPU keeps: what nobody has used yet ([`Fresh`]), and a list of what has come back.

use core::ops::Range;
use core::ptr;

use super::FRAME_SIZE;
use super::fresh::Fresh;
use crate::address::at;
use crate::huge::HUGE_SIZE;
use crate::window::PhysWindow;

/// The frames that have come back, but those that CPUs keep.
pub(super) struct Pool {
    window: PhysWindow,
    /// Frames that the cursor over fresh memory has left out on its way to a huge one.
    crumbs: Range<u64>,
    /// First frame of the free list, 0 when it is empty: frame 0 is below `LOW_MEMORY_END`.
    list: u64,
    /// Frames on the list, and crumbs.
    free: u64,
}

impl Pool {
    /// Without memory.
    pub(super) const EMPTY: Self =
        Self { window: PhysWindow { base: 0, size: 0 }, crumbs: 0..0, list: 0, free: 0 };

    /// Says where frames can be reached.
    pub(super) const fn init(&mut self, window: PhysWindow) {
        self.window = window;
    }

    /// Frames that are here, without those that are fresh.
    pub(super) const fn free(&self) -> u64 {
        self.free
    }

    /// Takes frames, as many as there is room for or as there are, fresh ones last. Returns how many these are.
    pub(super) fn take(&mut self, fresh: &Fresh, into: &mut [u64]) -> usize {
        let mut taken = 0;
        for place in &mut *into {
            let Some(frame) = self.pop() else { break };
            *place = frame;
            taken += 1;
        }
        self.free -= taken as u64;
        taken + fresh.take(&mut into[taken..], 0)
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
        self.free += count;
    }

    fn pop(&mut self) -> Option<u64> {
        if self.list == 0 {
            let frame = (!self.crumbs.is_empty()).then_some(self.crumbs.start)?;
            self.crumbs.start += FRAME_SIZE;
            return Some(frame);
        }
        let frame = self.list;
        // SAFETY: a frame on the list is free, so its first word is ours and holds the link.
        self.list = unsafe { ptr::read(self.link(frame)) };
        Some(frame)
    }

    /// The first word of a frame.
    pub(super) fn link(&self, frame: u64) -> *mut u64 {
        at(self.window.base + frame)
    }

    /// Frames in a row that no one has used yet, and that begin at a multiple of their size: the first.
    pub(super) fn take_huge(&mut self, fresh: &Fresh) -> Option<u64> {
        // There is room to keep only one range that is left out.
        let most_left_out = if self.crumbs.is_empty() { HUGE_SIZE } else { 0 };
        let (start, left_out) = fresh.take_huge(most_left_out)?;
        if !left_out.is_empty() {
            self.free += (left_out.end - left_out.start) / FRAME_SIZE;
            self.crumbs = left_out;
        }
        Some(start)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

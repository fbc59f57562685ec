//! Giving unused memory back to the pool of page frames, in a stopped world.

use core::sync::atomic::Ordering;

use machine::frames::FRAME_SIZE;
use machine::{heap, stack};

use crate::goroutine::is_unused;
use crate::runtime::Runtime;
use crate::tlb;

/// Unmaps the stacks of dead goroutines and what is free of the heap, flushes the TLBs once for all of it, and frees the
/// frames. Returns how many bytes these were.
///
/// In a stopped world, on the kernel stack: nobody takes a dead goroutine or a page of the heap meanwhile.
pub(crate) fn free(rt: &Runtime) -> u64 {
    let mut unmapped = heap::unmap_idle();
    for (g, slot) in rt.table.iter().filter(|(_, slot)| is_unused(slot)) {
        // Relaxed: the stop orders it.
        if slot.body().stack_born.swap(false, Ordering::Relaxed) {
            stack::unmap(g.get(), &mut unmapped);
        }
    }
    tlb::shootdown();
    let bytes = unmapped.count() * FRAME_SIZE;
    // SAFETY: this CPU has flushed; the others are stopped or asleep, touch nothing that can be unmapped, and flush
    // before they go on.
    unsafe { unmapped.free() };
    bytes
}

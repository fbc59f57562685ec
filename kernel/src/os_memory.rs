//! Giving unused memory back to the pool of page frames, in a stopped world.

use machine::frames::FRAME_SIZE;
use machine::percpu::Pinned;
use machine::{heap, paging, stack};

use crate::goroutine::is_unused;
use crate::idle_stacks;
use crate::m;
use crate::runtime::Runtime;
use crate::slots;
use crate::sudog;
use crate::tlb::{self, Who};

/// Takes back what CPUs have at hand of the heap. In a stopped world.
pub(crate) fn settle_heap() {
    // SAFETY: the world is stopped: nobody allocates or frees.
    unsafe { heap::settle_all() };
}

/// Gives back what nobody uses: stacks and slots of dead goroutines, what is free of the heap, and page tables that have become empty.
/// Returns how many bytes these were.
///
/// One flush of the TLBs serves for all of it.
///
/// In a stopped world, on the kernel stack: nobody takes a dead goroutine or a page of the heap meanwhile.
pub(crate) fn free(rt: &'static Runtime) -> u64 {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    // SAFETY: the world is stopped.
    let mut unmapped = unsafe { heap::unmap_idle() };
    for (g, slot) in rt.table.iter().filter(|(_, slot)| is_unused(slot)) {
        slot.body().mapped_stacks(g).for_each(|stack| stack::unmap(stack, &mut unmapped));
        slot.body().no_stack_is_born();
        if let Some(sudog) = slot.body().sudog() {
            slot.body().set_sudog(None);
            sudog::release_sudog(rt, m, sudog);
        }
    }
    slots::release(rt, &mut unmapped);
    idle_stacks::forget(rt, m);
    // SAFETY: the world is stopped, and all CPUs flush below, before the frames are free.
    let tables = unsafe { paging::unlink_empty_tables(&mut unmapped) };
    tlb::shootdown(if tables > 0 { Who::All } else { Who::Running });
    let bytes = unmapped.count() * FRAME_SIZE;
    // SAFETY: this CPU has flushed; the others are stopped or asleep, touch nothing that can be unmapped, and flush
    // before they go on.
    unsafe { unmapped.free() };
    bytes
}

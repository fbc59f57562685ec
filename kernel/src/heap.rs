//! The heap: an arena that grows page by page, handed out by `linked_list_allocator`.
//!
//! One lock for all CPUs. Nothing on the scheduler's hot paths allocates: a goroutine's closure lies on its own
//! stack, and its slot in the table is recycled.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use machine::address::{at, size};
use machine::frames::{self, FRAME_SIZE};
use machine::lock::{Lock, Rank};
use machine::paging::{self, HEAP};

/// Bytes by which the arena grows at least.
const GROWTH: u64 = 1024 * 1024;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Lock::new(Rank::Heap, Arena { heap: Heap::empty(), mapped: 0 }));

struct Arena {
    heap: Heap,
    /// Bytes from [`HEAP`] that are mapped.
    mapped: u64,
}

struct Allocator(Lock<Arena>);

/// The heap's size and use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapStats {
    /// Mapped for the arena.
    pub mapped: u64,
    /// Handed out, with the allocator's rounding.
    pub used: u64,
}

/// The counts of now.
pub fn stats() -> HeapStats {
    let arena = ALLOCATOR.0.lock();
    HeapStats { mapped: arena.mapped, used: arena.heap.used() as u64 }
}

impl Arena {
    /// Makes the arena larger by at least `bytes`. `false`: memory is used up.
    fn grow(&mut self, bytes: u64) -> bool {
        let free = frames::stats().free * FRAME_SIZE;
        let sizes = [bytes.max(GROWTH), bytes].map(|size| size.next_multiple_of(FRAME_SIZE));
        let Some(wanted) = sizes.into_iter().find(|&size| size <= free) else {
            return false;
        };
        let gained = match paging::map_fresh(HEAP + self.mapped, wanted) {
            Ok(()) => wanted,
            // What could be mapped stays in the arena: it may be enough for the next caller.
            Err((_, gained)) => gained,
        };
        if gained == 0 {
            return false;
        }
        if self.mapped == 0 {
            let start: *mut u8 = at(HEAP);
            // SAFETY: the bytes were just mapped, belong to nobody else, and stay mapped for ever.
            unsafe { self.heap.init(start, size(gained)) };
        } else {
            // SAFETY: the arena's end is followed by the bytes that were just mapped.
            unsafe { self.heap.extend(size(gained)) };
        }
        self.mapped += gained;
        gained == wanted
    }
}

// SAFETY: blocks come from the arena, which is mapped memory of our own, under a lock.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arena = self.0.lock();
        // Room for the block wherever it is aligned, and for the allocator's own words.
        let need = layout.size() + layout.align() + 4 * size_of::<usize>();
        loop {
            if let Ok(block) = arena.heap.allocate_first_fit(layout) {
                return block.as_ptr();
            }
            if !arena.grow(need as u64) {
                return ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        // SAFETY: the caller's contract: the block came from `alloc` with this layout.
        unsafe { self.0.lock().heap.deallocate(block, layout) };
    }
}

//! The global allocator: [`machine::heap`] behind Rust's interface, and its numbers.
//!
//! ```
//! use alloc::boxed::Box;
//! use gzero::heap::{block_of, for_each_live, stats};
//!
//! let block = Box::new([7_u8; 100]);
//! let address = core::ptr::from_ref(&*block).addr() as u64;
//! let (start, size) = block_of(address + 50).expect("it is handed out");
//! assert!(start == address && size >= 100);
//! assert!(stats().live >= size);
//! let mut found = false;
//! for_each_live(|start, _| found |= start == address);
//! assert!(found);
//! ```

use core::alloc::{GlobalAlloc, Layout};

use machine::heap;

pub use machine::heap::stats::{ClassStats, HeapStats};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

/// The counts of now; exact while nobody else allocates.
pub fn stats() -> HeapStats {
    heap::stats::heap()
}

/// Calls `found` with start and size of each block that is handed out; exact while nobody else allocates.
pub fn for_each_live(found: impl FnMut(u64, u64)) {
    heap::for_each_live(found);
}

/// Start and size of the block that an address lies in, if it is handed out.
pub fn block_of(address: u64) -> Option<(u64, u64)> {
    heap::block_of(address)
}

/// Takes the block that another one moves to: not in line.
#[inline(never)]
fn move_to(layout: Layout) -> *mut u8 {
    heap::allocate(layout)
}

// SAFETY: blocks are memory of our own, each handed out once until it is given back.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        heap::allocate(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { heap::free(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(size, layout.align()) else { return core::ptr::null_mut() };
        if heap::fits_in_place(block, layout, new) {
            return block;
        }
        let moved = move_to(new);
        if !moved.is_null() {
            // SAFETY: both blocks are at least this long, and different.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the caller's contract; nobody uses the old block from here on.
            unsafe { heap::free(block, layout) };
        }
        moved
    }
}

//! The memory of sudogs: pages in a region of their own, which stay.

use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering};

use machine::address::{at, size};
use machine::frames::{self, FRAME_SIZE};
use machine::paging::{self, SUDOGS};
use sched::chunks::NoRoom;
use sched::sudog::{Sudog, Sudogs};

/// Bytes of pages that sudogs lie in.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Bytes of pages that sudogs lie in.
pub(crate) fn bytes() -> u64 {
    // Relaxed, as all accesses: a count.
    MAPPED.load(Ordering::Relaxed)
}

/// A store without sudogs that can grow to `max`. Made once.
pub(crate) fn store(max: u32) -> Sudogs {
    let first: *const Sudog = at(SUDOGS);
    // SAFETY: the addresses are nobody else's, and hold sudogs for ever where there is memory. Where there is none yet, nobody looks: indices,
    // also those that an old link still names, come from `grow`, which shows their places to `make_room` first. The compiler makes no look of its own: a slice's length is not
    // known to it, and its elements are atomics.
    Sudogs::new(unsafe { core::slice::from_raw_parts(first, max as usize) })
}

/// Maps the pages of new sudogs; those that a call without success has mapped stay for the next one.
///
/// Where page frames are short, the heap may have some that it has kept: whoever waits cannot be refused, and cannot stop the world to
/// get them back. It does not get such a page again.
///
/// # Errors
/// [`NoRoom::NoMemory`].
pub(crate) fn make_room(places: &'static [Sudog]) -> Result<(), NoRoom> {
    let no_memory = NoRoom::NoMemory { bytes: size_of_val(places) };
    let places = places.as_ptr_range();
    let first = places.start.addr() as u64 & !(FRAME_SIZE - 1);
    for page in (first..places.end.addr() as u64).step_by(size(FRAME_SIZE)) {
        if paging::translate(page).is_none() {
            let mapped = (!frames::is_short() && map_new(page)) || map_of_heap(page) || map_new(page);
            if !mapped {
                return Err(no_memory);
            }
            let page: *mut u8 = at(page);
            // SAFETY: it was mapped just now, and nobody looks at it yet.
            unsafe { page.write_bytes(0, size(FRAME_SIZE)) };
        }
    }
    Ok(())
}

fn map_new(page: u64) -> bool {
    let mapped = paging::map_new(page).is_ok();
    if mapped {
        MAPPED.fetch_add(FRAME_SIZE, Ordering::Relaxed);
    }
    mapped
}

/// Maps a page to a block of the heap, which stays taken.
fn map_of_heap(page: u64) -> bool {
    const PAGE: Layout = match Layout::from_size_align(size(FRAME_SIZE), size(FRAME_SIZE)) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    };
    // SAFETY: it has a size.
    let block = unsafe { alloc::alloc::alloc(PAGE) };
    if block.is_null() {
        return false;
    }
    let mapped = paging::map_same(page, block.expose_provenance() as u64).is_ok();
    if !mapped {
        // SAFETY: allocated above, like this, and nobody has it.
        unsafe { alloc::alloc::dealloc(block, PAGE) };
    }
    mapped
}

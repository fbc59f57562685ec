//! The memory of sudogs: pages in a region of their own, which stay.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::address::{at, size};
use machine::frames::FRAME_SIZE;
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
    // SAFETY: the addresses are nobody else's, and hold sudogs for ever where there is memory. Where there is none yet, nobody looks: the
    // store shows places to `make_room` before it tells of them.
    Sudogs::new(unsafe { core::slice::from_raw_parts(first, max as usize) })
}

/// Maps the pages of new sudogs; those that a call without success has mapped stay for the next one.
///
/// # Errors
/// [`NoRoom::NoMemory`].
pub(crate) fn make_room(places: &'static [Sudog]) -> Result<(), NoRoom> {
    let no_memory = NoRoom::NoMemory { bytes: size_of_val(places) };
    let places = places.as_ptr_range();
    let first = places.start.addr() as u64 & !(FRAME_SIZE - 1);
    for page in (first..places.end.addr() as u64).step_by(size(FRAME_SIZE)) {
        if paging::translate(page).is_none() {
            paging::map_new(page).map_err(|_| no_memory)?;
            let page: *mut u8 = at(page);
            // SAFETY: it was mapped just now, and nobody looks at it yet.
            unsafe { page.write_bytes(0, size(FRAME_SIZE)) };
            MAPPED.fetch_add(FRAME_SIZE, Ordering::Relaxed);
        }
    }
    Ok(())
}

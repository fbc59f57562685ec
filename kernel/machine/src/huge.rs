//! Pages of 2 MiB: one entry of the TLB, and no table, for what would need 512.
//!
//! Whoever maps one has its whole range to itself, and so has whoever takes a part of one away.

use core::sync::atomic::Ordering;

use crate::frames::{self, FRAME_SIZE, Frame, Unmapped};
use crate::paging::{self, Entry, MapError};
use crate::percpu::Pinned;

/// Bytes in a huge page, and frames.
pub(crate) const HUGE_SIZE: u64 = 2 * 1024 * 1024;
pub(crate) const HUGE_PAGES: usize = 512;

/// Maps fresh memory with undefined contents at an address that is a multiple of [`HUGE_SIZE`].
///
/// # Errors
/// [`MapError`]: no such piece of memory is left, or there is a table of small pages.
pub(crate) fn map(address: u64) -> Result<(), MapError> {
    // Before anything is mapped there the world could stop, and the new table go.
    let _pinned = Pinned::new();
    let slot = paging::make_directory_entry(address)?;
    // Relaxed: the range is the caller's, and so is the entry.
    if slot.load(Ordering::Relaxed) != 0 {
        return Err(MapError::AlreadyMapped(address));
    }
    let frame = frames::alloc_huge().ok_or(MapError::NoMemory)?;
    let flags = Entry::PRESENT | Entry::WRITABLE | Entry::NO_EXECUTE | Entry::HUGE;
    // Release pairs with the Acquire of those who walk the tables.
    slot.store(frame.address() | flags.bits(), Ordering::Release);
    Ok(())
}

/// Takes the mappings of a range away, and collects its frames. Pages that are not mapped are passed over.
///
/// TLBs: as for [`paging::unmap`].
pub(crate) fn unmap(start: u64, pages: usize, unmapped: &mut Unmapped) {
    let end = start + pages as u64 * FRAME_SIZE;
    let mut page = start;
    while page < end {
        let whole = page.is_multiple_of(HUGE_SIZE) && end - page >= HUGE_SIZE;
        if whole && let Some(frame) = unmap_whole(page) {
            for n in 0..HUGE_PAGES as u64 {
                unmapped.add(Frame::containing(frame.address() + n * FRAME_SIZE));
            }
            page += HUGE_SIZE;
            continue;
        }
        if !split(page)
            && let Some(frame) = paging::unmap(page)
        {
            unmapped.add(frame);
        }
        page += FRAME_SIZE;
    }
}

/// The first of a huge page's frames, which is mapped no more.
fn unmap_whole(address: u64) -> Option<Frame> {
    let _pinned = Pinned::new();
    let slot = paging::directory_entry(address)?;
    let value = slot.load(Ordering::Acquire);
    let frame = huge_frame(value)?;
    slot.store(0, Ordering::Release);
    Some(frame)
}

fn huge_frame(entry: u64) -> Option<Frame> {
    let is_huge = Entry::from_bits_retain(entry).contains(Entry::PRESENT | Entry::HUGE);
    is_huge.then(|| Frame::containing(entry & paging::ADDRESS_MASK))
}

/// Cuts the huge page that an address lies in into small ones, without that of the address: its frame becomes the table of the others, so
/// this needs no memory. `false`: there is no huge page.
fn split(address: u64) -> bool {
    let _pinned = Pinned::new();
    let Some(slot) = paging::directory_entry(address) else { return false };
    let value = slot.load(Ordering::Acquire);
    let Some(first) = huge_frame(value) else { return false };
    let hole = address % HUGE_SIZE / FRAME_SIZE;
    let table = first.address() + hole * FRAME_SIZE;
    let flags = value & !paging::ADDRESS_MASK & !Entry::HUGE.bits();
    for n in 0..HUGE_PAGES as u64 {
        let small = if n == hole { 0 } else { (first.address() + n * FRAME_SIZE) | flags };
        paging::entry(table, n).store(small, Ordering::Relaxed);
    }
    paging::count_table();
    // Release: the table is filled in. Each address is mapped to the same frame as before.
    slot.store(table | (Entry::PRESENT | Entry::WRITABLE).bits(), Ordering::Release);
    true
}

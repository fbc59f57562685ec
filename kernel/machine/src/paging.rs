//! The kernel's address space.
//!
//! The boot loader's level-4 table is kept: it maps the kernel image by its segments' rights, and all physical
//! memory, not executable, in one window. [`drop_lower_half`] takes the lower half away (page 0 is then never mapped),
//! and the regions below are ours:
//!
//! | from | what |
//! |---|---|
//! | `0xffff_8000_0000_0000` | the boot loader's choice: image, boot information, framebuffer, physical window |
//! | `0xffff_a000_0000_0000` | large stacks mapped on first touch ([`crate::stack`]) |
//! | `0xffff_c000_0000_0000` | usual stacks mapped on first touch |
//! | `0xffff_d000_0000_0000` | stacks mapped whole |
//! | `0xffff_d800_0000_0000` | tables of the crate above |
//! | `0xffff_e000_0000_0000` | the heap's arena; from `e800` its map of pages, from `ec00` its spans ([`crate::heap`]) |
//! | `0xffff_f000_0000_0000` | device registers, uncached |
//!
//! Who takes a mapping away ([`unmap`]) makes all CPUs flush their TLBs before the frame is used again. [`crate::audit`] walks the whole tree.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use crate::address::{at, size};
use crate::frames::{self, FRAME_SIZE, Frame, Unmapped};
use crate::percpu::Pinned;
use crate::window::PhysWindow;

/// Where the boot loader may put what it maps.
pub const DYNAMIC_START: u64 = 0xffff_8000_0000_0000;
/// One past the last address of the boot loader's part.
pub const DYNAMIC_END: u64 = 0xffff_9fff_ffff_f000;
/// Large stacks that are mapped on first touch.
pub const LARGE_STACKS: u64 = 0xffff_a000_0000_0000;
/// Stacks of the usual size that are mapped on first touch.
pub const DEMAND_STACKS: u64 = 0xffff_c000_0000_0000;
/// Stacks that are mapped whole.
pub const KERNEL_STACKS: u64 = 0xffff_d000_0000_0000;
/// Tables of the crate above; one past the last address of stacks.
pub const SLOTS: u64 = 0xffff_d800_0000_0000;
/// Its sudogs.
pub const SUDOGS: u64 = 0xffff_dc00_0000_0000;
/// The heap's arena.
pub const HEAP: u64 = 0xffff_e000_0000_0000;
/// The heap's map of pages.
pub const HEAP_MAP: u64 = 0xffff_e800_0000_0000;
/// The heap's descriptions of spans.
pub const HEAP_SPANS: u64 = 0xffff_ec00_0000_0000;
/// Device registers.
pub const DEVICES: u64 = 0xffff_f000_0000_0000;

/// Entries of a table.
pub(crate) const ENTRIES: u64 = 512;
/// Bits of an entry that are a physical address.
pub(crate) const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

bitflags! {
    /// Bits of a page-table entry. Intel SDM vol. 3A, "Paging-Structure Entries".
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Entry: u64 {
        /// The entry maps something.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Page-level write-through.
        const WRITE_THROUGH = 1 << 3;
        /// Page-level cache disable.
        const CACHE_DISABLE = 1 << 4;
        /// At levels 3 and 2: maps a page of 1 GiB or 2 MiB instead of a table.
        const HUGE = 1 << 7;
        /// Instructions are not fetched from here.
        const NO_EXECUTE = 1 << 63;
    }
}

/// What a new mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Ordinary memory: readable, writable, never executable.
    Data,
    /// Registers of a device: uncached.
    Device,
}

/// Why a page could not be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// No frame is left for the page or for a table above it.
    NoMemory,
    /// Something is mapped there already.
    AlreadyMapped(u64),
}

static WINDOW: spin::Once<PhysWindow> = spin::Once::new();
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Tables that were made and not given back, and the page of zeros.
static MADE: AtomicU64 = AtomicU64::new(0);
/// Those of them that are for stacks which are mapped on first touch.
static MADE_FOR_STACKS: AtomicU64 = AtomicU64::new(0);
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(DEVICES);

/// Takes over the boot loader's tables. Call once, on the boot CPU.
pub fn init(window: PhysWindow) {
    WINDOW.call_once(|| window);
    // Relaxed: other CPUs start later, behind the start-up interrupt.
    ROOT.store(Cr3::read().0.start_address().as_u64(), Ordering::Relaxed);
}

/// Unmaps the lower half.
///
/// Call once, after the boot CPU's own descriptor tables are loaded: the boot loader's lie in the part that goes.
pub fn drop_lower_half() {
    for index in 0..ENTRIES / 2 {
        entry(root(), index).store(0, Ordering::Relaxed);
    }
    load();
}

/// Loads the kernel's level-4 table on this CPU and drops its TLB entries.
pub(crate) fn load() {
    let frame = PhysFrame::containing_address(PhysAddr::new(root()));
    // SAFETY: the tables map the running code, its stack and all data.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Drops this CPU's TLB entries.
pub fn flush() {
    load();
}

/// Physical address of the level-4 table.
pub(crate) fn root() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// The window on physical memory.
///
/// # Panics
/// Before [`init`].
pub fn window() -> PhysWindow {
    *WINDOW.get().expect("paging is initialised first")
}

/// Page tables in use, the boot loader's not counted.
pub fn tables() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// Page tables of stacks that are mapped on first touch.
pub fn stack_tables() -> u64 {
    MADE_FOR_STACKS.load(Ordering::Relaxed)
}

/// Addresses of stacks that are mapped on first touch.
const STACKS: Range<u64> = LARGE_STACKS..KERNEL_STACKS;

/// Counts a table that was made from a frame of somebody else's.
pub(crate) fn count_table() {
    // Relaxed: a count.
    MADE.fetch_add(1, Ordering::Relaxed);
}

/// One entry of a table in physical memory.
pub(crate) fn entry(table: u64, index: u64) -> &'static AtomicU64 {
    let window = window();
    debug_assert!(table < window.size && index < ENTRIES);
    let address = window.base + table + index * size_of::<u64>() as u64;
    // SAFETY: tables lie within the window (checked above), are aligned to 8, and every access to them is atomic. None goes
    // while somebody walks: `unlink_empty_tables` has that argument.
    unsafe { AtomicU64::from_ptr(at(address)) }
}

/// Index into the table of `level` (4 is the root) for an address.
const fn index(address: u64, level: u32) -> u64 {
    (address >> (12 + 9 * (level - 1))) & (ENTRIES - 1)
}

/// The entry of a level for an address, if the tables above it exist. The caller is pinned, or has a page mapped there, so that
/// the table stays.
fn existing(address: u64, level: u32) -> Option<&'static AtomicU64> {
    let mut table = root();
    for above in (level + 1..=4).rev() {
        // Acquire: pairs with the Release in `make_table`, so that a new table is seen zeroed.
        let value = entry(table, index(address, above)).load(Ordering::Acquire);
        let flags = Entry::from_bits_retain(value);
        if !flags.contains(Entry::PRESENT) || flags.contains(Entry::HUGE) {
            return None;
        }
        table = value & ADDRESS_MASK;
    }
    Some(entry(table, index(address, level)))
}

/// The entry of the last level for an address, as [`existing`].
fn leaf(address: u64) -> Option<&'static AtomicU64> {
    existing(address, 1)
}

/// The entry of the level above that, which maps a huge page or points to a table.
pub(crate) fn directory_entry(address: u64) -> Option<&'static AtomicU64> {
    existing(address, 2)
}

/// The entry of a level, with all tables above it made. The caller is pinned.
fn make(address: u64, level: u32) -> Result<&'static AtomicU64, MapError> {
    let mut table = root();
    for above in (level + 1..=4).rev() {
        let slot = entry(table, index(address, above));
        // Acquire: as in `existing`.
        let value = slot.load(Ordering::Acquire);
        if Entry::from_bits_retain(value).contains(Entry::HUGE) {
            return Err(MapError::AlreadyMapped(address));
        }
        table = if value & Entry::PRESENT.bits() == 0 {
            make_table(slot, value, address)?
        } else {
            value & ADDRESS_MASK
        };
    }
    Ok(entry(table, index(address, level)))
}

/// The entry of the last level, with all tables above it made. The caller is pinned.
fn make_leaf(address: u64) -> Result<&'static AtomicU64, MapError> {
    make(address, 1)
}

/// The entry of the level above that, with all tables above it made. The caller is pinned.
pub(crate) fn make_directory_entry(address: u64) -> Result<&'static AtomicU64, MapError> {
    make(address, 2)
}

/// Puts a new table behind an entry that has none. Another CPU may be faster: then it is that one's table that counts.
fn make_table(slot: &AtomicU64, empty: u64, address: u64) -> Result<u64, MapError> {
    let frame = frames::alloc_zeroed().ok_or(MapError::NoMemory)?;
    let new = frame.address() | (Entry::PRESENT | Entry::WRITABLE).bits();
    // Release: pairs with the Acquire in `leaf`; also on x86 the page walker sees stores in order. Acquire: with the other CPU's
    // Release.
    match slot.compare_exchange(empty, new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // Relaxed: counts.
            MADE.fetch_add(1, Ordering::Relaxed);
            MADE_FOR_STACKS.fetch_add(u64::from(STACKS.contains(&address)), Ordering::Relaxed);
            Ok(frame.address())
        }
        Err(others) => {
            // SAFETY: taken here, and in no table.
            unsafe { frames::free(frame) };
            if Entry::from_bits_retain(others).contains(Entry::HUGE) {
                return Err(MapError::AlreadyMapped(address));
            }
            Ok(others & ADDRESS_MASK)
        }
    }
}

/// Maps the page at `address` to `frame`.
///
/// # Errors
/// [`MapError`]; nothing has changed then, but tables may have been made.
fn map(address: u64, frame: Frame, purpose: Use) -> Result<(), MapError> {
    let _pinned = Pinned::new();
    set_leaf(make_leaf(address)?, address, frame, purpose)
}

/// Maps a frame with undefined contents at `address`.
///
/// # Errors
/// [`MapError`]; nothing has changed then, but tables may have been made.
pub fn map_new(address: u64) -> Result<(), MapError> {
    let _pinned = Pinned::new();
    let slot = make_leaf(address)?;
    let frame = frames::alloc().ok_or(MapError::NoMemory)?;
    set_leaf(slot, address, frame, Use::Data).inspect_err(|_| {
        // SAFETY: taken here, and not mapped.
        unsafe { frames::free(frame) };
    })
}

/// Maps a page to the frame behind another one, which stays mapped for ever. Errors as [`map_new`], also when nothing is mapped there.
pub fn map_same(address: u64, other: u64) -> Result<(), MapError> {
    let _pinned = Pinned::new();
    let frame = translate(other).ok_or(MapError::NoMemory)?;
    set_leaf(make_leaf(address)?, address, Frame::containing(frame), Use::Data)
}

/// Makes the tables for a page without mapping it, so that [`map_prepared`] needs no lock.
///
/// # Errors
/// [`MapError::NoMemory`].
///
/// They stay until something was mapped there, if the caller is pinned until then.
pub(crate) fn prepare(address: u64) -> Result<(), MapError> {
    let _pinned = Pinned::new();
    make_leaf(address).map(|_| ())
}

/// Maps a page whose tables exist, without a lock: for the page-fault handler.
///
/// # Errors
/// [`MapError::NoMemory`] when the tables are missing.
pub(crate) fn map_prepared(address: u64, frame: Frame) -> Result<(), MapError> {
    set_leaf(leaf(address).ok_or(MapError::NoMemory)?, address, frame, Use::Data)
}

fn set_leaf(slot: &AtomicU64, address: u64, frame: Frame, purpose: Use) -> Result<(), MapError> {
    let flags = Entry::PRESENT
        | Entry::WRITABLE
        | Entry::NO_EXECUTE
        | match purpose {
            Use::Data => Entry::empty(),
            Use::Device => Entry::CACHE_DISABLE | Entry::WRITE_THROUGH,
        };
    // Two CPUs may race for one page only by a mistake above; the exchange turns it into an error.
    slot.compare_exchange(0, frame.address() | flags.bits(), Ordering::Release, Ordering::Relaxed)
        .map_err(|_| MapError::AlreadyMapped(address))?;
    Ok(())
}

/// Takes the mapping of a page away and returns its frame; `None` if there is none.
///
/// TLBs may hold the translation until they are flushed: the frame belongs to nobody before all CPUs have done so.
pub fn unmap(address: u64) -> Option<Frame> {
    let _pinned = Pinned::new();
    // AcqRel: what was written through the mapping comes before whatever the frame is used for next.
    let value = leaf(address)?.swap(0, Ordering::AcqRel);
    (value & Entry::PRESENT.bits() != 0).then(|| Frame::containing(value & ADDRESS_MASK))
}

/// Puts another frame behind a page that is mapped, and returns the old one; `None`, and nothing has changed, if none is.
///
/// There is no instant at which the page is not mapped. TLBs and the old frame: as for [`unmap`].
pub fn replace(address: u64, frame: Frame) -> Option<Frame> {
    let _pinned = Pinned::new();
    let slot = leaf(address)?;
    let old = slot.load(Ordering::Relaxed);
    let new = frame.address() | old & !ADDRESS_MASK;
    let present = old & Entry::PRESENT.bits() != 0;
    // AcqRel: as in `unmap`.
    let swapped = present && slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    swapped.then(|| Frame::containing(old & ADDRESS_MASK))
}

/// Takes out the page tables of stacks and of the heap's arena in which nothing is mapped. Returns how many these were.
///
/// Those of the two lowest levels: other CPUs start with copies of the highest.
///
/// *Why nobody stands in a table that goes.* Whoever walks the tables is pinned meanwhile, or a handler that is not interrupted, and the
/// world stops for neither; whoever maps a page makes its table while pinned, and one with a page in it stays. *Why no processor reads it
/// when it is something else.* Processors keep entries of the upper levels as they keep translations, and read ahead of what
/// programs do, so also those that sleep must flush before the frame is used again.
///
/// # Safety
/// 1. The world is stopped, and the caller does not walk the tables.
/// 2. All CPUs flush before `unmapped` is freed, those that sleep or stand still among them.
pub unsafe fn unlink_empty_tables(unmapped: &mut Unmapped) -> u64 {
    /// What an entry of the highest table covers.
    const SPAN: usize = 1 << 39;
    let mut unlink = |range: Range<u64>| {
        let before = unmapped.count();
        let tables = range.step_by(SPAN).filter_map(|base| child(entry(root(), index(base, 4))));
        for table in tables {
            unlink_below(table, 3, unmapped);
        }
        unmapped.count() - before
    };
    let of_stacks = unlink(STACKS);
    MADE_FOR_STACKS.fetch_sub(of_stacks, Ordering::Relaxed);
    of_stacks + unlink(HEAP..HEAP_MAP)
}

/// The table that an entry of a higher level points to.
fn child(slot: &AtomicU64) -> Option<u64> {
    let value = slot.load(Ordering::Acquire);
    let flags = Entry::from_bits_retain(value);
    (flags.contains(Entry::PRESENT) && !flags.contains(Entry::HUGE)).then_some(value & ADDRESS_MASK)
}

/// Takes empty tables out of one of `level`, and says whether it is empty now itself.
fn unlink_below(table: u64, level: u32, unmapped: &mut Unmapped) -> bool {
    let mut is_empty = true;
    for i in 0..ENTRIES {
        let slot = entry(table, i);
        if level > 1
            && let Some(below) = child(slot)
            && unlink_below(below, level - 1, unmapped)
        {
            slot.store(0, Ordering::Release);
            MADE.fetch_sub(1, Ordering::Relaxed);
            unmapped.add(Frame::containing(below));
        }
        is_empty &= slot.load(Ordering::Relaxed) == 0;
    }
    is_empty
}

/// Puts a page of zeros that can only be read behind each page of a range, all of which are mapped, and returns their frames. The range
/// stays as it is when there is no memory for the page of zeros.
///
/// TLBs and the old frames: as for [`unmap`].
pub fn show_zeros(address: u64, length: u64, unmapped: &mut Unmapped) -> bool {
    static ZEROS: AtomicU64 = AtomicU64::new(0);
    // Relaxed, both: one CPU at a time does so, in a stopped world.
    if ZEROS.load(Ordering::Relaxed) == 0 {
        let Some(frame) = frames::alloc_zeroed() else { return false };
        // Counted with the tables.
        MADE.fetch_add(1, Ordering::Relaxed);
        ZEROS.store(frame.address(), Ordering::Relaxed);
    }
    let zeros = ZEROS.load(Ordering::Relaxed) | (Entry::PRESENT | Entry::NO_EXECUTE).bits();
    exchange(address, length, |_| zeros).for_each(|frame| unmapped.add(frame));
    true
}

/// Puts frames of zeros that can be written behind each page of a range that shows zeros. All CPUs must flush before anybody
/// looks. `false`: there are not enough, and the range stays as it is.
pub fn end_zeros(address: u64, length: u64) -> bool {
    let mut frames = Unmapped::new();
    for _ in (0..length).step_by(size(FRAME_SIZE)) {
        let Some(frame) = frames::alloc_zeroed() else {
            // SAFETY: taken here, and mapped nowhere.
            unsafe { frames.free() };
            return false;
        };
        frames.add(frame);
    }
    let flags = (Entry::PRESENT | Entry::WRITABLE | Entry::NO_EXECUTE).bits();
    let next = |_| frames.take().map_or(0, |frame| frame.address() | flags);
    exchange(address, length, next).for_each(drop);
    true
}

/// Changes the entry of each page of a range, all of which are mapped, and returns the frames that were behind them.
fn exchange(address: u64, length: u64, mut new: impl FnMut(u64) -> u64) -> impl Iterator<Item = Frame> {
    (address..address + length).step_by(size(FRAME_SIZE)).filter_map(move |page| {
        let _pinned = Pinned::new();
        // AcqRel: as in `unmap`.
        let old = leaf(page)?.swap(new(page), Ordering::AcqRel);
        Some(Frame::containing(old & ADDRESS_MASK))
    })
}

/// Maps fresh frames at `length` bytes from `address` (both multiples of the frame size).
///
/// # Errors
/// [`MapError`]; pages mapped so far stay mapped, and the count of them is what a caller may use.
pub fn map_fresh(address: u64, length: u64) -> Result<(), (MapError, u64)> {
    for offset in (0..length).step_by(size(FRAME_SIZE)) {
        map_new(address + offset).map_err(|error| (error, offset))?;
    }
    Ok(())
}

/// Maps one page of device registers and returns its virtual address.
///
/// # Errors
/// [`MapError::NoMemory`].
pub fn map_device(physical: u64) -> Result<u64, MapError> {
    let page = NEXT_DEVICE.fetch_add(FRAME_SIZE, Ordering::Relaxed);
    map(page, Frame::containing(physical), Use::Device)?;
    Ok(page + physical % FRAME_SIZE)
}

/// The physical address that a virtual one is mapped to.
pub fn translate(address: u64) -> Option<u64> {
    let _pinned = Pinned::new();
    let mut table = root();
    for level in (1..=4).rev() {
        let value = entry(table, index(address, level)).load(Ordering::Acquire);
        let flags = Entry::from_bits_retain(value);
        if !flags.contains(Entry::PRESENT) {
            return None;
        }
        if level == 1 || (level < 4 && flags.contains(Entry::HUGE)) {
            let size = 1u64 << (12 + 9 * (level - 1));
            return Some((value & ADDRESS_MASK & !(size - 1)) + address % size);
        }
        table = value & ADDRESS_MASK;
    }
    None
}

/// The word at a virtual address, if its page is mapped.
///
/// Never faults, whatever happens to the mapping meanwhile: the word is read through the window. For reports, which look at memory that others may be writing to.
pub fn peek(address: u64) -> Option<u64> {
    if !address.is_multiple_of(size_of::<u64>() as u64) {
        return None;
    }
    let window = WINDOW.get()?;
    let place: *const u64 = window.virt(translate(address)?, size_of::<u64>() as u64)?.cast();
    // SAFETY: the place is in the window and aligned, as the address is. A volatile read of a word takes what it finds.
    Some(unsafe { place.read_volatile() })
}

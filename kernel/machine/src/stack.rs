//! Stacks: those mapped on first touch, and those mapped whole. Below each lies a guard page that is never
//! mapped, so that an overflow is a page fault and not somebody else's data.
//!
//! A demand-mapped stack is a slot of [`SLOT_SIZE`] bytes of address space:
//!
//! ```text
//!   top(i) = bottom(i + 1)   first word pushed lies below
//!      ┊ mapped by `birth`: one page
//!      ┊ mapped by the page-fault handler, page by page
//!      ┊ guard page, never mapped
//!   bottom(i)
//! ```
//!
//! The handler maps a page only if the faulting address and the interrupted stack pointer lie in the same slot:
//! a stray pointer into another stack stays an error. The crate above may set a slot a nearer limit ([`on_limit`]): from there
//! on down all is guard. A slot's page table is made by `birth`, so the handler
//! writes one entry that no other CPU writes, and takes no lock but the frame pool's (see `frames.rs` for why
//! that cannot wait for itself).

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::address::size;
use crate::frames::{self, FRAME_SIZE, Unmapped};
use crate::gdt::{Ist, IstTops};
use crate::paging::{self, DEMAND_STACKS, KERNEL_STACKS, MapError};
use crate::percpu::{self, PerCpu};

/// Address space of one demand-mapped stack, guard page included.
pub const SLOT_SIZE: u64 = 256 * 1024;
/// Bytes that can be used of each.
pub const USABLE: u64 = SLOT_SIZE - FRAME_SIZE;
/// Pages that can be used of each.
const PAGES: u64 = USABLE / FRAME_SIZE;
/// Slots in the region.
pub const MAX_SLOTS: u64 = (KERNEL_STACKS - DEMAND_STACKS) / SLOT_SIZE;
/// Bytes of a CPU's kernel stack (Go's g0).
pub const KERNEL_STACK_SIZE: u64 = 32 * 1024;
/// Bytes of each interrupt stack. Reports are formatted on them.
pub const IST_STACK_SIZE: u64 = 16 * 1024;

/// Next free address in the region of whole stacks.
static NEXT_KERNEL: AtomicU64 = AtomicU64::new(KERNEL_STACKS);
/// Bytes that are mapped there.
static WHOLE: AtomicU64 = AtomicU64::new(0);

/// One past the highest address of a slot.
pub const fn top(slot: u32) -> u64 {
    DEMAND_STACKS + (slot as u64 + 1) * SLOT_SIZE
}

/// The lowest usable address of a slot: the first above its guard page.
pub const fn bottom(slot: u32) -> u64 {
    DEMAND_STACKS + slot as u64 * SLOT_SIZE + FRAME_SIZE
}

/// The slot that an address lies in, guard page included.
#[expect(clippy::cast_possible_truncation, reason = "the region has fewer than 2^32 slots")]
pub const fn slot_of(address: u64) -> Option<u32> {
    if address < DEMAND_STACKS || address >= KERNEL_STACKS {
        return None;
    }
    Some(((address - DEMAND_STACKS) / SLOT_SIZE) as u32)
}

/// Whether an address lies in this slot, guard page included.
#[inline]
pub const fn is_in_slot(address: u64, slot: u32) -> bool {
    address.wrapping_sub(DEMAND_STACKS) / SLOT_SIZE == slot as u64
}

/// How many bytes of a slot may be used, counted from its top: a multiple of the page size. 0: all of it.
///
/// Called in the page-fault handler: it takes no lock and touches nothing that may be unmapped.
pub type Limit = fn(u32) -> u64;

static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Sets what is asked for the limits of slots. Until then they have none but their guard pages.
pub fn on_limit(limit: Limit) {
    // Release: pairs with the Acquire in `lowest`; what the function relies on is set up before.
    LIMIT.store(limit as usize, Ordering::Release);
}

/// The lowest address that may be used of a slot: [`bottom`], or what its limit says.
pub fn lowest(slot: u32) -> u64 {
    let limit = LIMIT.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_limit`.
    let limit = unsafe { core::mem::transmute::<usize, Option<Limit>>(limit) };
    match limit.map_or(0, |limit| limit(slot)) {
        0 => bottom(slot),
        bytes => bottom(slot).max(top(slot).saturating_sub(bytes)),
    }
}

/// Prepares a slot for its first use: makes its page table and maps its topmost page.
///
/// # Errors
/// [`MapError::NoMemory`]; the slot can be tried again.
pub fn birth(slot: u32) -> Result<(), MapError> {
    let page = top(slot) - FRAME_SIZE;
    paging::prepare(page)?;
    if paging::translate(page).is_some() {
        return Ok(());
    }
    paging::map_new(page)
}

/// Unmaps all pages of a slot on whose stack nobody stands; it is as before its first [`birth`], but for its page table.
pub fn unmap(slot: u32, unmapped: &mut Unmapped) {
    unmap_beyond(slot, 0, unmapped);
}

/// Unmaps the pages of a slot but for the topmost `pages`. Nobody stands on its stack.
pub fn unmap_beyond(slot: u32, pages: u64, unmapped: &mut Unmapped) {
    let mapped = (pages + 1..=PAGES).map_while(|n| paging::unmap(top(slot) - n * FRAME_SIZE));
    mapped.for_each(|frame| unmapped.add(frame));
}

/// Whether a slot has a page that lies beyond the topmost `pages`.
pub fn reaches_beyond(slot: u32, pages: u64) -> bool {
    pages < PAGES && paging::translate(top(slot) - (pages + 1) * FRAME_SIZE).is_some()
}

/// The usable part of a slot.
pub const fn bounds(slot: u32) -> Range<u64> {
    bottom(slot)..top(slot)
}

/// The stack that `rsp` points into, for a walk from there.
///
/// It is a slot, this CPU's kernel stack, or another one that is mapped whole. The guard page counts as part of it, since an overflow leaves `rsp` there. `None`: it is no stack.
pub fn around(rsp: u64) -> Option<Range<u64>> {
    // One word down: with an empty stack rsp is the bottom of the one above.
    let last = rsp.wrapping_sub(8);
    if let Some(slot) = slot_of(last) {
        return Some(top(slot) - SLOT_SIZE..top(slot));
    }
    let (bottom, top) = percpu::of_this_cpu().kernel_stack();
    let own = bottom.saturating_sub(FRAME_SIZE)..top;
    if own.contains(&last) {
        return Some(own);
    }
    let region = KERNEL_STACKS..NEXT_KERNEL.load(Ordering::Relaxed);
    if !region.contains(&last) {
        return None;
    }
    // It ends where the next one's guard page begins.
    let page = last & !(FRAME_SIZE - 1);
    let mut above = (page..region.end).step_by(size(FRAME_SIZE)).skip(1);
    let top = above.find(|page| paging::translate(*page).is_none()).unwrap_or(region.end);
    Some(page..top)
}

/// Pages of a slot that are mapped.
pub fn mapped_pages(slot: u32) -> u64 {
    (1..=PAGES).take_while(|n| paging::translate(top(slot) - n * FRAME_SIZE).is_some()).count() as u64
}

/// A stack that is mapped whole.
#[derive(Debug, Clone, Copy)]
pub struct WholeStack {
    /// Lowest usable address.
    pub bottom: u64,
    /// One past the highest.
    pub top: u64,
}

/// Bytes of all stacks that are mapped whole.
pub fn whole_bytes() -> u64 {
    WHOLE.load(Ordering::Relaxed)
}

/// Makes a stack of `size` bytes, mapped whole, with a guard page below. It is never freed.
///
/// # Errors
/// [`MapError`].
pub fn allocate_whole(size: u64) -> Result<WholeStack, MapError> {
    // Relaxed: only the sum matters.
    let guard = NEXT_KERNEL.fetch_add(size + FRAME_SIZE, Ordering::Relaxed);
    let bottom = guard + FRAME_SIZE;
    map_whole(bottom, size)?;
    Ok(WholeStack { bottom, top: bottom + size })
}

fn map_whole(bottom: u64, size: u64) -> Result<(), MapError> {
    paging::map_fresh(bottom, size).map_err(|(error, _)| error)?;
    // Relaxed: a count.
    WHOLE.fetch_add(size, Ordering::Relaxed);
    Ok(())
}

/// The interrupt stacks of one CPU.
#[derive(Debug, Clone, Copy)]
pub struct InterruptStacks {
    /// Where each is entered.
    pub tops: IstTops,
    /// All of them as one range, with their guard pages.
    pub range: WholeStack,
}

/// Makes the interrupt stacks of one CPU.
///
/// # Errors
/// [`MapError`].
pub fn allocate_ists() -> Result<InterruptStacks, MapError> {
    const STRIDE: u64 = IST_STACK_SIZE + FRAME_SIZE;
    let size = STRIDE * Ist::ALL.len() as u64;
    // Relaxed: only the sum matters.
    let start = NEXT_KERNEL.fetch_add(size, Ordering::Relaxed);
    let mut tops = [0; Ist::ALL.len()];
    for (top, slot) in tops.iter_mut().zip(1..) {
        *top = start + slot * STRIDE;
        map_whole(*top - IST_STACK_SIZE, IST_STACK_SIZE)?;
    }
    Ok(InterruptStacks { tops, range: WholeStack { bottom: start, top: start + size } })
}

/// What kind of stack an address lies in, seen from one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// A stack that is mapped on first touch: its slot.
    Demand(u32),
    /// The CPU's kernel stack.
    Kernel,
    /// The CPU's interrupt stacks.
    Interrupt,
    /// None of these.
    Elsewhere,
}

/// What kind of stack the address lies in for this CPU. One past a stack's highest byte counts as inside.
pub fn region(cpu: &PerCpu, address: u64) -> Region {
    // One word down: an empty stack's pointer is one past its highest byte.
    let inside = address.wrapping_sub(8);
    let within = |(bottom, top): (u64, u64)| (bottom..top).contains(&inside);
    match slot_of(inside) {
        Some(slot) => Region::Demand(slot),
        None if within(cpu.kernel_stack()) => Region::Kernel,
        None if within(cpu.interrupt_stacks()) => Region::Interrupt,
        None => Region::Elsewhere,
    }
}

/// The caller's stack pointer.
#[inline]
pub fn pointer() -> u64 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// What a page fault at an unmapped address was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A stack's next page: it is mapped now.
    Mapped,
    /// The guard page of this slot.
    Overflow(u32),
    /// The guard page of a stack that is mapped whole.
    KernelOverflow,
    /// A stack's next page, but no frame is left.
    NoMemory(u32),
    /// Nothing to do with stacks.
    NotAStack,
}

/// Makes sure that the words from `address` up to the stack pointer `rsp` of interrupted code are mapped. `false`: that
/// cannot be done.
///
/// For a handler that is about to write there: it stands on another stack, so a fault of its own would not be served. The
/// interrupted code must not hold the frame pool's lock.
pub fn map_below(address: u64, rsp: u64) -> bool {
    let first = address & !(FRAME_SIZE - 1);
    (first..rsp).step_by(size(FRAME_SIZE)).all(|page| {
        let touched = page.max(address);
        paging::translate(touched).is_some() || handle_fault(touched, rsp) == Fault::Mapped
    })
}

/// Serves a fault at `address`, interrupted with stack pointer `rsp`. Runs on the page-fault IST.
pub(crate) fn handle_fault(address: u64, rsp: u64) -> Fault {
    if (KERNEL_STACKS..NEXT_KERNEL.load(Ordering::Relaxed)).contains(&address) {
        return Fault::KernelOverflow;
    }
    // One word down: with an empty stack rsp is the bottom of the slot above.
    let (Some(slot), true) = (slot_of(address), slot_of(address) == slot_of(rsp.wrapping_sub(8))) else {
        return Fault::NotAStack;
    };
    if address < lowest(slot) {
        return Fault::Overflow(slot);
    }
    if frames::held_here() {
        return Fault::NotAStack;
    }
    let Some(frame) = frames::alloc() else {
        return Fault::NoMemory(slot);
    };
    match paging::map_prepared(address & !(FRAME_SIZE - 1), frame) {
        Ok(()) => Fault::Mapped,
        Err(MapError::NoMemory | MapError::AlreadyMapped(_)) => Fault::NotAStack,
    }
}

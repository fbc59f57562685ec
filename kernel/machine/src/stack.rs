//! Stacks: those mapped on first touch, and those mapped whole. Below each lies a guard page that is never
//! mapped, so that an overflow is a page fault and not somebody else's data.
//!
//! A demand-mapped stack is a range of addresses, of one of two sizes ([`Size`]):
//!
//! ```text
//!   top      first word pushed lies below
//!      ┊ mapped by `birth`: one page
//!      ┊ mapped by the page-fault handler, page by page
//!   bottom
//!      ┊ guard page, never mapped: the top of the next one is its lowest address
//! ```
//!
//! Each number has a range of either size, in regions of their own: so a stack's size and number follow from an address, and no
//! table says who has which. Stacks of the usual size lie so close that 16 of them share a page table, which is what a stack
//! costs besides its pages; a large one takes half a table.
//!
//! The handler maps a page only if the faulting address and the interrupted stack pointer lie in the same stack:
//! a stray pointer into another stack stays an error. The crate above may set a stack a nearer limit ([`on_limit`]): from there
//! on down all is guard. A stack's page table is made by `birth`, so the handler
//! writes one entry that no other CPU writes, and takes no lock but the frame pool's, once in a batch (see `frames` for why
//! that cannot wait for itself).

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::address::{at, size};
use crate::frames::{self, FRAME_SIZE, Unmapped};
use crate::gdt::{Ist, IstTops};
use crate::paging::{self, DEMAND_STACKS, KERNEL_STACKS, LARGE_STACKS, MapError};
use crate::percpu::{self, PerCpu};

/// How much address space a demand-mapped stack has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 128 KiB.
    Usual,
    /// 1 MiB.
    Large,
}

impl Size {
    const fn start(self) -> u64 {
        match self {
            Self::Usual => DEMAND_STACKS,
            Self::Large => LARGE_STACKS,
        }
    }

    /// Bytes from one stack to the next, guard page included.
    const fn stride(self) -> u64 {
        match self {
            Self::Usual => 128 * 1024,
            Self::Large => 1024 * 1024,
        }
    }

    /// Bytes that can be used of each.
    pub const fn usable(self) -> u64 {
        self.stride() - FRAME_SIZE
    }

    /// Pages that can be used of each.
    const fn pages(self) -> u64 {
        self.usable() / FRAME_SIZE
    }
}

/// Stacks of either size.
pub const MAX_STACKS: u64 = 1 << 25;

const _: () = assert!(LARGE_STACKS + MAX_STACKS * Size::Large.stride() <= DEMAND_STACKS, "they fit");
const _: () = assert!(DEMAND_STACKS + MAX_STACKS * Size::Usual.stride() <= KERNEL_STACKS, "they fit");

/// Names a demand-mapped stack: its number and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackId(u32);

impl StackId {
    /// The bit of large ones.
    const LARGE: u32 = 1 << 31;

    /// The stack of this number and size; the number is below [`MAX_STACKS`].
    pub const fn new(number: u32, size: Size) -> Self {
        match size {
            // Below `MAX_STACKS`, which the compiler cannot know.
            Size::Usual => Self(number & !Self::LARGE),
            Size::Large => Self(number | Self::LARGE),
        }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0 & !Self::LARGE
    }

    /// Its size.
    pub const fn size(self) -> Size {
        if self.0 & Self::LARGE == 0 { Size::Usual } else { Size::Large }
    }

    /// The stack that an address lies in, guard page included.
    #[expect(clippy::cast_possible_truncation, reason = "numbers are below `MAX_STACKS`")]
    pub const fn of(address: u64) -> Option<Self> {
        let size = match address {
            LARGE_STACKS..DEMAND_STACKS => Size::Large,
            DEMAND_STACKS..KERNEL_STACKS => Size::Usual,
            _ => return None,
        };
        let number = (address - size.start()) / size.stride();
        if number < MAX_STACKS { Some(Self::new(number as u32, size)) } else { None }
    }

    /// Whether an address lies in one of the stacks before those of this number, guard page included: of the number that is one less.
    #[inline]
    pub const fn is_before(address: u64, number: u64) -> bool {
        // Counted from one stack below the first: a subtraction less than to count from the first.
        address.wrapping_sub(DEMAND_STACKS - Size::Usual.stride()) / Size::Usual.stride() == number
            || address.wrapping_sub(LARGE_STACKS - Size::Large.stride()) / Size::Large.stride() == number
    }

    /// One past its highest address.
    pub const fn top(self) -> u64 {
        self.size().start() + (self.number() as u64 + 1) * self.size().stride()
    }

    /// Its lowest usable address: the first above its guard page.
    pub const fn bottom(self) -> u64 {
        self.top() - self.size().usable()
    }

    /// The usable part.
    pub const fn bounds(self) -> Range<u64> {
        self.bottom()..self.top()
    }
}

/// Bytes of a CPU's kernel stack (Go's g0).
pub const KERNEL_STACK_SIZE: u64 = 32 * 1024;
/// Bytes of each interrupt stack. Reports are formatted on them.
pub const IST_STACK_SIZE: u64 = 16 * 1024;

/// Next free address in the region of whole stacks.
static NEXT_KERNEL: AtomicU64 = AtomicU64::new(KERNEL_STACKS);
/// Bytes that are mapped there.
static WHOLE: AtomicU64 = AtomicU64::new(0);

/// How many bytes of a stack may be used, counted from its top. 0: all of it.
///
/// Called in the page-fault handler: it takes no lock and touches nothing that may be unmapped.
pub type Limit = fn(StackId) -> u64;

static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Sets what is asked for the limits of stacks. Until then they have none but their guard pages.
pub fn on_limit(limit: Limit) {
    // Release: pairs with the Acquire in `lowest`; what the function relies on is set up before.
    LIMIT.store(limit as usize, Ordering::Release);
}

/// Told that another page of a stack was mapped, and how many bytes reach from there to its top. As [`Limit`].
pub type Growth = fn(StackId, u64);

static GROWTH: AtomicUsize = AtomicUsize::new(0);

/// Sets what is told when a stack grows.
pub fn on_growth(growth: Growth) {
    // Release: pairs with the Acquire in `handle_fault`, as for `on_limit`.
    GROWTH.store(growth as usize, Ordering::Release);
}

/// Fills the pages of a stack with zeros, but for the topmost one.
///
/// # Safety
/// Nobody uses the stack, and nobody begins to meanwhile.
pub unsafe fn clear(id: StackId) {
    let bytes = mapped_pages(id).saturating_sub(1) * FRAME_SIZE;
    let lowest: *mut u8 = at(id.top() - FRAME_SIZE - bytes);
    // SAFETY: the pages are mapped, and the caller's contract.
    unsafe { lowest.write_bytes(0, size(bytes)) };
}

/// How many bytes of its stack, this one, the caller has come to use, if it is more than the page with which stacks begin.
///
/// Pages are mapped full of zeros, so what is not zero was written since then, or since the last [`clear`].
pub fn measure(id: StackId) -> Option<u64> {
    /// What this function and those that it calls may use themselves.
    const OWN: u64 = 512;
    let end = (pointer() - OWN).min(id.top() - FRAME_SIZE);
    let lowest = id.top() - mapped_pages(id) * FRAME_SIZE;
    let is_unused = |address: &u64| {
        let word: *const u64 = at(*address);
        // SAFETY: the word is on a mapped page of the caller's own stack, below all that lives there.
        unsafe { word.read_volatile() == 0 }
    };
    let first = (lowest..end).step_by(8).find(|address| !is_unused(address)).unwrap_or(end);
    let used = id.top() - first;
    (used > FRAME_SIZE).then_some(used)
}

/// Bytes of the page tables of demand-mapped stacks.
pub fn table_bytes() -> u64 {
    paging::stack_tables() * FRAME_SIZE
}

/// The lowest address that may be used of a stack: [`StackId::bottom`], or what its limit says.
pub fn lowest(id: StackId) -> u64 {
    let limit = LIMIT.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_limit`.
    let limit = unsafe { core::mem::transmute::<usize, Option<Limit>>(limit) };
    match limit.map_or(0, |limit| limit(id)) {
        0 => id.bottom(),
        bytes => id.bottom().max(id.top().saturating_sub(bytes)),
    }
}

/// Prepares a stack for its first use: makes its page table and maps its topmost page.
///
/// # Errors
/// [`MapError::NoMemory`]; it can be tried again.
pub fn birth(id: StackId) -> Result<(), MapError> {
    if frames::is_short() {
        return Err(MapError::NoMemory);
    }
    let page = id.top() - FRAME_SIZE;
    paging::prepare(page)?;
    if paging::translate(page).is_some() {
        return Ok(());
    }
    paging::map_new(page)?;
    percpu::count_stack_pages(1);
    Ok(())
}

/// Unmaps all pages of a stack on which nobody stands; it is as before its first [`birth`].
pub fn unmap(id: StackId, unmapped: &mut Unmapped) {
    unmap_beyond(id, 0, unmapped);
}

/// Unmaps the pages of a stack but for the topmost `pages`. Nobody stands on it.
pub fn unmap_beyond(id: StackId, pages: u64, unmapped: &mut Unmapped) {
    let mapped = (pages + 1..=id.size().pages()).map_while(|n| paging::unmap(id.top() - n * FRAME_SIZE));
    let mut count: u64 = 0;
    for frame in mapped {
        unmapped.add(frame);
        count += 1;
    }
    percpu::count_stack_pages(count.wrapping_neg());
}

/// Whether a stack has a page that lies beyond the topmost `pages`.
pub fn reaches_beyond(id: StackId, pages: u64) -> bool {
    pages < id.size().pages() && paging::translate(id.top() - (pages + 1) * FRAME_SIZE).is_some()
}

/// The stack that `rsp` points into, for a walk from there.
///
/// It is a demand-mapped one, this CPU's kernel stack, or another one that is mapped whole. The guard page counts as part of it, since an overflow leaves `rsp` there. `None`: it is no stack.
pub fn around(rsp: u64) -> Option<Range<u64>> {
    // One word down: with an empty stack rsp is the bottom of the one above.
    let last = rsp.wrapping_sub(8);
    if let Some(id) = StackId::of(last) {
        return Some(id.bottom() - FRAME_SIZE..id.top());
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

/// Pages of a stack that are mapped.
pub fn mapped_pages(id: StackId) -> u64 {
    let is_mapped = |n: &u64| paging::translate(id.top() - n * FRAME_SIZE).is_some();
    (1..=id.size().pages()).take_while(is_mapped).count() as u64
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
    /// A stack that is mapped on first touch.
    Demand(StackId),
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
    match StackId::of(inside) {
        Some(id) => Region::Demand(id),
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

/// Writes below the caller's stack pointer, so that the page there is mapped.
#[inline]
pub fn touch() {
    // SAFETY: what lies below the stack pointer is nobody's.
    unsafe { asm!("push 0", "pop {}", out(reg) _, options(preserves_flags)) };
}

/// What a page fault at an unmapped address was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A stack's next page: it is mapped now.
    Mapped,
    /// The guard page of this stack.
    Overflow(StackId),
    /// The guard page of a stack that is mapped whole.
    KernelOverflow,
    /// A stack's next page, but no frame is left.
    NoMemory(StackId),
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
    let pages = rsp.saturating_sub(first).div_ceil(FRAME_SIZE);
    // Downwards: when memory ends on the way, there is no hole in the stack.
    (0..pages).rev().all(|page| {
        let touched = (first + page * FRAME_SIZE).max(address);
        paging::translate(touched).is_some() || handle_fault(touched, rsp) == Fault::Mapped
    })
}

fn tell_growth(id: StackId, bytes: u64) {
    // Acquire: pairs with the Release in `on_growth`.
    let growth = GROWTH.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_growth`.
    if let Some(growth) = unsafe { core::mem::transmute::<usize, Option<Growth>>(growth) } {
        growth(id, bytes);
    }
}

/// Serves a fault at `address`, interrupted with stack pointer `rsp`. Runs on the page-fault IST.
pub(crate) fn handle_fault(address: u64, rsp: u64) -> Fault {
    if (KERNEL_STACKS..NEXT_KERNEL.load(Ordering::Relaxed)).contains(&address) {
        return Fault::KernelOverflow;
    }
    // One word down: with an empty stack rsp is the bottom of the one above.
    let same = StackId::of(address) == StackId::of(rsp.wrapping_sub(8));
    let Some(id) = StackId::of(address).filter(|_| same) else {
        return Fault::NotAStack;
    };
    if address < lowest(id) {
        return Fault::Overflow(id);
    }
    if frames::held_here() {
        return Fault::NotAStack;
    }
    let Some(frame) = frames::alloc_zeroed() else {
        return Fault::NoMemory(id);
    };
    let page = address & !(FRAME_SIZE - 1);
    match paging::map_prepared(page, frame) {
        Ok(()) => {
            percpu::count_stack_pages(1);
            tell_growth(id, id.top() - page);
            Fault::Mapped
        }
        Err(MapError::NoMemory | MapError::AlreadyMapped(_)) => Fault::NotAStack,
    }
}

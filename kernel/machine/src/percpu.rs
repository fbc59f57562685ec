//! One block of data for each CPU, found through the GS base.
//!
//! `gs:[0]` holds the block's own address. A reference to the block is only good while the caller stays on
//! its CPU, so [`current`] asks for a [`Pinned`] guard and the reference cannot outlive it.
//!
//! The guard is a count in the block itself: raised and lowered by one instruction each, so that no
//! interrupt can come between reading the address of the block and changing it.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// Number of a logical CPU: 0 is the boot CPU, the others follow in the order of the MADT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuId(pub u32);

/// The data of one CPU. All fields are written by their own CPU unless they say otherwise, and are atomics
/// because an interrupt handler or another CPU may read them in between.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct PerCpu {
    /// Address of this block: must stay the first field.
    this: AtomicPtr<Self>,
    /// Guards and locks held: while it is not 0 nothing may move the caller to another CPU.
    locks: AtomicU32,
    /// Depth of interrupt handlers that run on this CPU.
    pub(crate) interrupt_depth: AtomicU32,
    /// Bit n: a lock of rank n is held. Kept in debug builds only.
    pub(crate) held_ranks: AtomicU64,
    id: AtomicU32,
    apic_id: AtomicU32,
    /// Interrupts handled, for reports.
    interrupts: AtomicU64,
    /// A word that belongs to the crate above: the address of its own block for this CPU.
    word: AtomicUsize,
    /// Kernel stack: lowest usable address and one past the highest.
    stack_bottom: AtomicU64,
    stack_top: AtomicU64,
}

impl PerCpu {
    /// A block for CPU `id` that is not installed yet.
    pub const fn new(id: CpuId) -> Self {
        Self {
            this: AtomicPtr::new(ptr::null_mut()),
            locks: AtomicU32::new(0),
            interrupt_depth: AtomicU32::new(0),
            held_ranks: AtomicU64::new(0),
            id: AtomicU32::new(id.0),
            apic_id: AtomicU32::new(0),
            interrupts: AtomicU64::new(0),
            word: AtomicUsize::new(0),
            stack_bottom: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
        }
    }

    /// Makes this the block of the CPU that calls, for good: interrupt handlers and locks use it from here on.
    pub fn install(&'static self) {
        // Relaxed here and below: the block is private to this CPU until `smp` publishes the CPU as online.
        self.this.store(ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
        GsBase::write(VirtAddr::from_ptr(self));
    }

    /// The CPU's number.
    pub fn id(&self) -> CpuId {
        CpuId(self.id.load(Ordering::Relaxed))
    }

    /// The local APIC's id, once it is known.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Keeps the local APIC's id.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// Guards and locks held on this CPU.
    pub fn locks(&self) -> u32 {
        self.locks.load(Ordering::Relaxed)
    }

    /// Interrupts and exceptions handled so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    pub(crate) fn count_interrupt(&self) {
        self.interrupts.store(self.interrupts() + 1, Ordering::Relaxed);
    }

    /// The word of the crate above.
    pub fn word(&self) -> usize {
        self.word.load(Ordering::Relaxed)
    }

    /// Sets the word of the crate above.
    pub fn set_word(&self, word: usize) {
        self.word.store(word, Ordering::Relaxed);
    }

    /// The kernel stack as (lowest address, one past the highest).
    pub fn kernel_stack(&self) -> (u64, u64) {
        (self.stack_bottom.load(Ordering::Relaxed), self.stack_top.load(Ordering::Relaxed))
    }

    /// Keeps the bounds of the kernel stack.
    pub fn set_kernel_stack(&self, bottom: u64, top: u64) {
        self.stack_bottom.store(bottom, Ordering::Relaxed);
        self.stack_top.store(top, Ordering::Relaxed);
    }
}

/// Keeps the caller on this CPU.
///
/// A context switch carries the guard over: the side that switches away has raised the count of this CPU,
/// the side that comes back (perhaps on another CPU, raised there by whoever switched away there) lowers it.
/// That is why the guard holds no address.
#[must_use = "the caller may be moved once the guard is dropped"]
#[derive(Debug)]
pub struct Pinned(PhantomData<*mut ()>);

impl Pinned {
    /// Raises the count of this CPU.
    #[inline]
    pub fn new() -> Self {
        // SAFETY: GS points to this CPU's block from the first instructions of boot on; one instruction, so no
        // interrupt sees half of it.
        unsafe {
            asm!("inc dword ptr gs:[{}]", const offset_of!(PerCpu, locks), options(nostack));
        }
        Self(PhantomData)
    }

    /// Takes over the count that the other side of a context switch has raised.
    ///
    /// Call exactly once on the first instructions of a new context.
    pub const fn adopt() -> Self {
        Self(PhantomData)
    }
}

impl Default for Pinned {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pinned {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `new`; the count is at least one because this guard raised or adopted it.
        unsafe {
            asm!("dec dword ptr gs:[{}]", const offset_of!(PerCpu, locks), options(nostack));
        }
    }
}

/// The block of this CPU, for as long as the guard keeps the caller here.
#[inline]
pub fn current(_pinned: &Pinned) -> &PerCpu {
    let block: *const PerCpu;
    // SAFETY: `gs:[0]` holds the block's own address. Not `pure`: a cached answer would survive a switch.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly)) };
    // SAFETY: blocks are never freed, and the guard keeps this CPU ours.
    unsafe { &*block }
}

/// The block of this CPU for code that cannot be moved: interrupt handlers and reports of a dying machine.
pub fn of_this_cpu() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: as in `current`.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly)) };
    // SAFETY: blocks are never freed. Callers run where nothing moves them (contract above).
    unsafe { &*block }
}

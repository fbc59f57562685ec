//! One block of data for each CPU, found through the GS base.
//!
//! `gs:[0]` holds the block's own address. A reference to the block is only good while the caller stays on
//! its CPU, so [`current`] asks for a [`Pinned`] guard and the reference cannot outlive it.
//!
//! The guard is a count in the block itself: raised and lowered by one instruction each, so that no
//! interrupt can come between reading the address of the block and changing it.
//!
//! # Requests
//!
//! An interrupt handler may want something of the code that it interrupted, which that code must not do while it
//! is pinned. The handler leaves a request ([`request`]). It is looked at when the outermost handler returns to code
//! that is not pinned ([`crate::idt::on_return`]), and when the last guard goes: the top bit of the guard word is set
//! while nothing is asked, so the decrement that drops the last guard gives zero exactly when something is, and a
//! guard costs no further look. Only handlers of this CPU leave requests, and only this CPU takes them, by single
//! instructions, so nothing is locked and nothing is lost: [`take_requests`] sets the bit first and empties the word
//! second; a request in between is taken at once, and leaves a cleared bit behind that costs one needless look.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use crate::heap::{self, magazine::Cache};
use crate::lock::Kind;

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
    /// Guards and locks held, in the lower 31 bits: while they are not 0 nothing may move the caller to another CPU.
    /// The top bit ([`QUIET`]) is set while nothing is asked of this CPU.
    guard: AtomicU32,
    /// What is asked of the code that runs here, as bits that the crate above defines.
    requests: AtomicU32,
    /// Calls that run on the kernel stack in the name of code that stands on another one.
    borrowed: AtomicU32,
    /// Depth of interrupt handlers that run on this CPU.
    pub(crate) interrupt_depth: AtomicU32,
    /// Bit n: a lock of rank n is held. Kept in debug builds only.
    pub(crate) held_ranks: AtomicU64,
    /// Locks taken here, those of them that another CPU held, and those that were passed over, by the number of their kind.
    pub(crate) locks_taken: [AtomicU64; Kind::COUNT],
    pub(crate) locks_contended: [AtomicU64; Kind::COUNT],
    pub(crate) locks_passed: [AtomicU64; Kind::COUNT],
    id: AtomicU32,
    apic_id: AtomicU32,
    /// Interrupts handled, for reports.
    interrupts: AtomicU64,
    /// Pages of demand-mapped stacks that were mapped here, less those that were unmapped here, modulo 2^64.
    stack_pages: AtomicU64,
    /// A word that belongs to the crate above: the address of its own block for this CPU.
    word: AtomicUsize,
    /// The address of what the crate above keeps of the task that runs here, and the number of its stack plus one; 0 if none does.
    task: AtomicUsize,
    task_stack: AtomicU32,
    /// What this CPU has of the heap.
    cache: AtomicPtr<Cache>,
    /// Kernel stack: lowest usable address and one past the highest.
    stack_bottom: AtomicU64,
    stack_top: AtomicU64,
    /// The interrupt stacks, as one range with their guard pages.
    ist_bottom: AtomicU64,
    ist_top: AtomicU64,
}

/// The bit of the guard word that is set while nothing is asked of the CPU.
const QUIET: u32 = 1 << 31;

impl PerCpu {
    /// A block for CPU `id` that is not installed yet.
    pub const fn new(id: CpuId) -> Self {
        Self {
            this: AtomicPtr::new(ptr::null_mut()),
            guard: AtomicU32::new(QUIET),
            requests: AtomicU32::new(0),
            borrowed: AtomicU32::new(0),
            interrupt_depth: AtomicU32::new(0),
            held_ranks: AtomicU64::new(0),
            locks_taken: [const { AtomicU64::new(0) }; Kind::COUNT],
            locks_contended: [const { AtomicU64::new(0) }; Kind::COUNT],
            locks_passed: [const { AtomicU64::new(0) }; Kind::COUNT],
            id: AtomicU32::new(id.0),
            apic_id: AtomicU32::new(0),
            interrupts: AtomicU64::new(0),
            stack_pages: AtomicU64::new(0),
            word: AtomicUsize::new(0),
            task: AtomicUsize::new(0),
            task_stack: AtomicU32::new(0),
            cache: AtomicPtr::new(heap::boot_cache()),
            stack_bottom: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
            ist_bottom: AtomicU64::new(0),
            ist_top: AtomicU64::new(0),
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
        self.guard.load(Ordering::Relaxed) & !QUIET
    }

    /// Whether something is asked of this CPU, or was a moment ago.
    pub fn is_asked(&self) -> bool {
        self.guard.load(Ordering::Relaxed) & QUIET == 0
    }

    /// What is asked of this CPU.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Depth of interrupt handlers that run on this CPU.
    pub fn interrupt_depth(&self) -> u32 {
        self.interrupt_depth.load(Ordering::Relaxed)
    }

    /// Whether code that belongs to another stack runs on the kernel stack ([`crate::context::call_on`]).
    pub fn borrows_kernel_stack(&self) -> bool {
        self.borrowed.load(Ordering::Relaxed) > 0
    }

    /// Interrupts and exceptions handled so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    /// Pages of demand-mapped stacks that were mapped by this CPU, less those that it has unmapped: the sum over all CPUs,
    /// modulo 2^64, is how many there are.
    pub fn stack_pages(&self) -> u64 {
        self.stack_pages.load(Ordering::Relaxed)
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

    /// The address of what the crate above keeps of the task that runs here, at about this moment; 0 if none does.
    pub fn task(&self) -> usize {
        // Relaxed: written by its CPU; for another it is for a report or a hint.
        self.task.load(Ordering::Relaxed)
    }

    /// Gives the CPU its part of the heap, before it runs.
    pub(crate) fn set_cache(&self, cache: &'static Cache) {
        // Relaxed: published with the block.
        self.cache.store(ptr::from_ref(cache).cast_mut(), Ordering::Relaxed);
    }

    /// The kernel stack as (lowest address, one past the highest).
    pub fn kernel_stack(&self) -> (u64, u64) {
        (self.stack_bottom.load(Ordering::Relaxed), self.stack_top.load(Ordering::Relaxed))
    }

    /// Notes for the length of a call that code of another stack runs on this CPU's kernel stack.
    pub fn lend_kernel_stack(&self, call: impl FnOnce()) {
        self.begin_loan();
        call();
        self.end_loan();
    }

    /// Notes that code of another stack runs on the kernel stack from here on. On this CPU, pinned or in a handler.
    pub fn begin_loan(&self) {
        // Relaxed: read by this CPU and its handlers.
        self.borrowed.store(self.borrowed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Ends what [`begin_loan`](Self::begin_loan) began.
    pub fn end_loan(&self) {
        self.borrowed.store(self.borrowed.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// The interrupt stacks as (lowest address, one past the highest), guard pages included.
    pub fn interrupt_stacks(&self) -> (u64, u64) {
        (self.ist_bottom.load(Ordering::Relaxed), self.ist_top.load(Ordering::Relaxed))
    }

    /// Keeps the bounds of the interrupt stacks.
    pub fn set_interrupt_stacks(&self, bottom: u64, top: u64) {
        self.ist_bottom.store(bottom, Ordering::Relaxed);
        self.ist_top.store(top, Ordering::Relaxed);
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
            asm!("inc dword ptr gs:[{}]", const offset_of!(PerCpu, guard), options(nostack));
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
        // SAFETY: as in `new`; the count is at least one because this guard raised or adopted it. Without `nostack`:
        // the label's block may call.
        unsafe {
            asm!("dec dword ptr gs:[{}]", "jz {}", const offset_of!(PerCpu, guard), label { asked() });
        }
    }
}

impl Pinned {
    /// Drops the guard at the end of a function that returns this. The same as the drop, but that what is done then
    /// is the last call, and the function needs no place to keep the value in meanwhile.
    #[inline]
    pub fn end_with(self, value: u64) -> u64 {
        let _kept = ManuallyDrop::new(self);
        // SAFETY: as in the drop, which does not run for this guard.
        unsafe {
            asm!("dec dword ptr gs:[{}]", "jz {}", const offset_of!(PerCpu, guard), label { return asked_with(value) });
        }
        value
    }

    /// Drops the guard without a look at requests: for whoever looks at them itself, or leaves them to the next
    /// guard that goes.
    pub fn release(self) {
        let _kept = ManuallyDrop::new(self);
        // SAFETY: as in the drop, which does not run for this guard.
        unsafe {
            asm!("dec dword ptr gs:[{}]", const offset_of!(PerCpu, guard), options(nostack));
        }
    }
}

/// What is called when the last guard goes and something is asked, with the state of the CPU as it is: any stack,
/// interrupts on or off.
pub type OnAsked = fn();

static ON_ASKED: AtomicUsize = AtomicUsize::new(0);

/// Sets what is called when the last guard goes and something is asked.
pub fn on_asked(handler: OnAsked) {
    // Release: pairs with the Acquire in `asked`; what the handler relies on is set up before.
    ON_ASKED.store(handler as usize, Ordering::Release);
}

#[cold]
fn asked() {
    let handler = ON_ASKED.load(Ordering::Acquire);
    // SAFETY: 0 is `None`; anything else was stored by `on_asked`.
    if let Some(handler) = unsafe { core::mem::transmute::<usize, Option<OnAsked>>(handler) } {
        handler();
    }
}

#[cold]
#[inline(never)]
fn asked_with(value: u64) -> u64 {
    asked();
    value
}

/// Asks something of the code that runs on this CPU. For interrupt handlers, and for code with interrupts off.
#[inline]
pub fn request(bits: u32) {
    // SAFETY: GS points to this CPU's block; one instruction, which only this CPU's interrupts could come between.
    unsafe {
        asm!("or dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, requests), in(reg) bits, options(nostack));
    };
    // SAFETY: as above. The word is filled before the bit goes: whoever finds the bit cleared finds the word filled.
    unsafe {
        asm!("and dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, guard), in(reg) !QUIET, options(nostack));
    };
}

/// Takes all that is asked of this CPU, as bits.
#[inline]
pub fn take_requests(_pinned: &Pinned) -> u32 {
    // SAFETY: as in `request`.
    unsafe {
        asm!("or dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, guard), in(reg) QUIET, options(nostack));
    };
    let mut bits = 0_u32;
    // SAFETY: as in `request`; the exchange is one instruction.
    unsafe {
        asm!("xchg dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, requests), inout(reg) bits, options(nostack));
    };
    bits
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

/// The word of the crate above ([`PerCpu::word`]), for as long as the guard keeps the caller here.
#[inline]
pub fn word(_pinned: &Pinned) -> usize {
    word_here()
}

/// The word of the crate above of the CPU where this was called: the caller may have been moved to another one since.
#[inline]
pub fn word_here() -> usize {
    let word: usize;
    // SAFETY: GS points to this CPU's block. Not `pure`: a cached answer would survive a switch.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) word, const offset_of!(PerCpu, word), options(nostack, preserves_flags, readonly));
    };
    word
}

/// [`PerCpu::task`] of this CPU, for as long as the guard keeps the caller here.
#[inline]
pub fn task(_pinned: &Pinned) -> usize {
    let task: usize;
    // SAFETY: as in `word_here`.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) task, const offset_of!(PerCpu, task), options(nostack, preserves_flags, readonly));
    };
    task
}

/// [`PerCpu::task`] for the task itself, which finds itself on whatever CPU it is: the answer may be kept while the same task goes on.
#[inline]
pub fn own_task() -> usize {
    let task: usize;
    // SAFETY: GS points to a block, also before and after a move. `pure`: each block that the task runs on says the same.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) task, const offset_of!(PerCpu, task), options(nostack, preserves_flags, pure, readonly));
    };
    task
}

/// The number of the stack of the task that runs on the CPU where this was called, plus one; 0 if there was none.
#[inline]
pub fn task_stack_here() -> u64 {
    let number: u64;
    // SAFETY: as in `word_here`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) number, const offset_of!(PerCpu, task_stack), options(nostack, preserves_flags, readonly));
    };
    number
}

/// Says which task runs here: the address of what is kept of it, and the number of its stack plus one. Zeros: none does.
#[inline]
pub fn set_task(_pinned: &Pinned, task: usize, stack: u32) {
    // SAFETY: GS points to this CPU's block. Between the two, handlers and other CPUs ask for the task alone.
    unsafe {
        asm!(
            "mov qword ptr gs:[{}], {}",
            "mov dword ptr gs:[{}], {:e}",
            const offset_of!(PerCpu, task), in(reg) task, const offset_of!(PerCpu, task_stack), in(reg) stack,
            options(nostack, preserves_flags)
        );
    }
}

/// Whether the guard is the only one on this CPU, and nothing is asked of it.
#[inline]
pub fn is_alone_and_unasked(_pinned: &Pinned) -> bool {
    let guard: u32;
    // SAFETY: as in `word`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) guard, const offset_of!(PerCpu, guard), options(nostack, preserves_flags, readonly));
    };
    guard == QUIET | 1
}

/// Counts a lock of the kind with this number as taken here.
#[inline]
pub(crate) fn count_lock(_pinned: &Pinned, kind: u8) {
    count_at::<{ offset_of!(PerCpu, locks_taken) }>(kind);
}

/// Counts one that another CPU held.
pub(crate) fn count_contended(_pinned: &Pinned, kind: u8) {
    count_at::<{ offset_of!(PerCpu, locks_contended) }>(kind);
}

/// Counts one that another CPU held, and that this one did not wait for.
pub(crate) fn count_passed(_pinned: &Pinned, kind: u8) {
    count_at::<{ offset_of!(PerCpu, locks_passed) }>(kind);
}

/// Raises one of the counters by kind of lock that begin at this place in the block. The caller is pinned.
#[inline]
fn count_at<const OFFSET: usize>(kind: u8) {
    debug_assert!(usize::from(kind) < Kind::COUNT, "a kind of lock has a counter");
    // SAFETY: GS points to this CPU's block, and the number is that of a kind. One instruction: a handler, which may take
    // locks of memory, does not come in between.
    unsafe {
        asm!("inc qword ptr gs:[{} + 8 * {}]", const OFFSET, in(reg) u64::from(kind), options(nostack));
    }
}

/// Counts pages of demand-mapped stacks as mapped here; those that were unmapped as the negative number.
pub(crate) fn count_stack_pages(pages: u64) {
    // SAFETY: GS points to this CPU's block. One instruction: neither a page fault nor a move to another CPU comes in between.
    unsafe {
        asm!("add qword ptr gs:[{}], {}", const offset_of!(PerCpu, stack_pages), in(reg) pages, options(nostack));
    }
}

/// What this CPU has of the heap, for as long as the guard keeps the caller here.
#[inline]
pub(crate) fn cache(_pinned: &Pinned) -> &Cache {
    let cache: *const Cache;
    // SAFETY: GS points to this CPU's block. Not `pure`: a cached answer would survive a switch.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) cache, const offset_of!(PerCpu, cache), options(nostack, preserves_flags, readonly));
    };
    // SAFETY: it is the boot CPU's, or what `set_cache` was given, which both stay.
    unsafe { &*cache }
}

/// The block of this CPU for code that cannot be moved: interrupt handlers and reports of a dying machine.
pub fn of_this_cpu() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: as in `current`.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly)) };
    // SAFETY: blocks are never freed. Callers run where nothing moves them (contract above).
    unsafe { &*block }
}

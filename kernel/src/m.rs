//! An M: one logical CPU as the scheduler sees it, with its kernel stack (g0).
//!
//! P number i belongs to M number i. A CPU runs goroutines while its P is one of the first GOMAXPROCS (it is
//! *active*); [`crate::procs`] changes that while the world is stopped. Ps beyond the CPUs are only counted: nothing is
//! ever queued on them. An M whose P has gone away halts, but for goroutines that are locked to it.

use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use machine::backtrace::Start;
use machine::clock::Ticks;
use machine::context::Context;
use machine::entry::Frame;
use machine::irq::IrqGuard;
use machine::lock::{Lock, Rank};
use machine::percpu::{self, PerCpu, Pinned};
use sched::global::GlobalQueue;
use sched::list::SharedLen;
use sched::note::Note;
use sched::sync::Padded;
use sched::table::Slot;
use sched::timers::{Earliest, Timers};
use sched::{GoIndex, GoRef, Processor};

use crate::event::Event;
use crate::goroutine::Body;
use crate::mark::{Doing, Mark};
use crate::panic::throw;
use crate::runtime::{self, Runtime};

/// What a handler may ask of the code that it interrupts, as bits for [`machine::percpu::request`].
pub(crate) mod ask {
    /// Stop with the world.
    pub(crate) const STOP: u32 = 1 << 0;
    /// Give the CPU to another goroutine: the time slice is over.
    pub(crate) const PREEMPT: u32 = 1 << 1;
    /// Look at the timers.
    pub(crate) const TIMERS: u32 = 1 << 2;
    /// Give the goroutine away: the P has gone.
    pub(crate) const VACATE: u32 = 1 << 3;
    /// Print what the boot argument `schedtrace` asks for.
    pub(crate) const TRACE: u32 = 1 << 4;
    /// Wake who waits for what has come in at a serial port.
    pub(crate) const INPUT: u32 = 1 << 5;
}

/// Whether time slices end, by a boot argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preemption {
    On,
    Off,
}

/// One CPU's side of the scheduler. What other CPUs write, too, has lines of its own, and so has all of it.
#[derive(Debug)]
pub(crate) struct M {
    /// Its place in `Runtime::ms`, and the number of its gate in the stopped world.
    pub(crate) index: usize,
    /// The machine's block of this CPU.
    pub(crate) block: &'static PerCpu,
    /// The P, if the CPU is among the first 256.
    pub(crate) proc: Option<&'static Processor>,
    /// Whether the P is one of GOMAXPROCS. Changed while the world is stopped.
    active: AtomicBool,
    /// The P went away while it was idle, and whoever took it away has counted that.
    pub(crate) retired: AtomicBool,
    /// It is awake without an active P, and counted as an extra in `Runtime::awake`. Written by this CPU, and while the
    /// world is stopped.
    extra: AtomicBool,
    /// The word this CPU sleeps on.
    pub(crate) note: Padded<Note>,
    /// Where the scheduler loop goes on when a goroutine leaves. Owner only.
    g0: UnsafeCell<Context>,
    /// What `mcall` has asked the scheduler loop to call. Owner only.
    mcall: Cell<Option<fn(GoRef)>>,
    /// The P, if it is active, time slices end, and no goroutine waits that is locked to this CPU; else null. Short paths ask
    /// this one word. Written with `wired` locked, or while the world is stopped.
    usual: AtomicPtr<Processor>,
    /// Whether `usual` may name the P. Written as `active` is.
    may_be_usual: AtomicBool,
    /// When the running time slice began, as a value of the TSC. Written by this CPU, read by `sysmon`.
    pub(crate) slice_start: AtomicU64,
    /// Until when slices begin in which somebody may be due, and when the last one began that was lent (`sched::slice`). Written by
    /// this CPU.
    pub(crate) hurry_until: AtomicU64,
    pub(crate) slice_lent: AtomicU64,
    /// The timer is armed for the end of the slice. Owner only.
    pub(crate) slice_armed: AtomicBool,
    /// What is to happen at a time, and when the first of it is due. It stays with the CPU when the P goes away.
    pub(crate) timers: Padded<Lock<Timers<Event>>>,
    pub(crate) earliest: Earliest,
    /// Somebody runs what is due of it.
    pub(crate) timers_run: Padded<AtomicBool>,
    /// The last pick asked those first that are locked to this CPU. Owner only.
    wired_turn: Cell<bool>,
    /// Runnable goroutines that are locked to this CPU.
    pub(crate) wired: Padded<Lock<GlobalQueue>>,
    pub(crate) wired_len: SharedLen,
    /// Registers of the goroutine that runs here, while it cannot go on: program counter (0: it may), stack and frame
    /// pointer. Written by this CPU, read by who has stopped it.
    standing: [AtomicU64; 3],
    /// Pages of stacks of dead goroutines that were put away or taken here, in which they differ from one for each, modulo 2^64
    /// (`idle_stacks`). Written by this CPU, and while the world is stopped.
    pub(crate) odd_pages: AtomicU64,
    /// The last state of the address space that this CPU has seen; see `tlb.rs`.
    pub(crate) tlb_seen: AtomicU64,
}

// SAFETY: `g0`, `mcall` and `wired_turn` are touched only by the CPU that the M belongs to, and by its handlers only while
// the scheduler loop is suspended, which then does not write them.
unsafe impl Sync for M {}

impl M {
    pub(crate) fn new(index: usize, block: &'static PerCpu, proc: Option<&'static Processor>) -> Self {
        let (timers, earliest) = Timers::new();
        let (wired, wired_len) = GlobalQueue::new();
        Self {
            index,
            block,
            proc,
            active: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            extra: AtomicBool::new(false),
            note: Padded(Note::new()),
            g0: UnsafeCell::new(Context::NONE),
            mcall: Cell::new(None),
            usual: AtomicPtr::new(ptr::null_mut()),
            may_be_usual: AtomicBool::new(false),
            slice_start: AtomicU64::new(0),
            hurry_until: AtomicU64::new(0),
            slice_lent: AtomicU64::new(0),
            slice_armed: AtomicBool::new(false),
            timers: Padded(Lock::new(Rank::Timers, timers)),
            earliest,
            timers_run: Padded(AtomicBool::new(false)),
            wired_turn: Cell::new(false),
            wired: Padded(Lock::new(Rank::Wired, wired)),
            wired_len,
            standing: [const { AtomicU64::new(0) }; 3],
            odd_pages: AtomicU64::new(0),
            tlb_seen: AtomicU64::new(0),
        }
    }

    /// Makes this the M of the CPU that calls.
    pub(crate) fn install(&'static self) {
        self.block.set_word(ptr::from_ref(self).expose_provenance());
    }

    /// The P, active or not.
    ///
    /// # Panics
    /// On a CPU without one, where no goroutine can run.
    pub(crate) fn proc(&self) -> &'static Processor {
        self.proc.expect("a CPU that runs goroutines has a P")
    }

    /// Whether this CPU runs goroutines of all kinds.
    pub(crate) fn is_active(&self) -> bool {
        // Relaxed: it changes only while the world is stopped, which orders it for this CPU.
        self.active.load(Ordering::Relaxed)
    }

    /// Gives the right to run goroutines, at boot or while the world is stopped. `preemption`: whether time slices end.
    pub(crate) fn activate(&self, preemption: Preemption) {
        self.active.store(true, Ordering::Relaxed);
        self.may_be_usual.store(preemption == Preemption::On, Ordering::Relaxed);
        self.note_wired(&self.wired.lock());
    }

    /// Takes it away, while the world is stopped.
    pub(crate) fn deactivate(&self) {
        self.active.store(false, Ordering::Relaxed);
        self.may_be_usual.store(false, Ordering::Relaxed);
        // As `note_wired` would have it, which needs a lock, and whoever has one has not stopped.
        self.usual.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Sets what [`usual`](Self::usual) says anew, after a change of what it depends on.
    pub(crate) fn note_wired(&self, wired: &GlobalQueue) {
        // Relaxed, twice: the lock orders the writers, and who reads the word acts on the P alone.
        let usual = self.proc.filter(|_| wired.is_empty() && self.may_be_usual.load(Ordering::Relaxed));
        self.usual.store(usual.map_or(ptr::null(), ptr::from_ref).cast_mut(), Ordering::Relaxed);
    }

    /// The P, if nothing is out of the usual: it is active, time slices end, and no goroutine is locked to this CPU and waits.
    #[inline]
    pub(crate) fn usual(&self) -> Option<&'static Processor> {
        // Relaxed: as in `is_active`; a goroutine that is locked to this CPU and comes now is seen at the next look.
        let usual = self.usual.load(Ordering::Relaxed);
        // SAFETY: null, or from a reference that lives for ever (`note_wired`).
        unsafe { usual.as_ref() }
    }

    /// Counts this CPU among those that are awake without an active P, unless it is counted.
    pub(crate) fn count_extra(&self, rt: &Runtime) {
        // Relaxed: this CPU's own, or ordered by the stop. So nobody comes in between.
        if !self.extra.load(Ordering::Relaxed) {
            self.extra.store(true, Ordering::Relaxed);
            rt.awake.begin_extra();
        }
    }

    /// Takes it out of that count again: it goes to sleep, or its P has become active.
    pub(crate) fn uncount_extra(&self, rt: &Runtime) {
        // Relaxed: as above.
        if self.extra.load(Ordering::Relaxed) {
            self.extra.store(false, Ordering::Relaxed);
            rt.awake.end_extra();
        }
    }

    /// The place of the scheduler loop's context.
    pub(crate) fn g0(&self) -> *mut Context {
        self.g0.get()
    }

    /// The address from which on the kernel stack is free while a goroutine runs here: a multiple of 16.
    pub(crate) fn kernel_stack_top(&self) -> u64 {
        // SAFETY: a goroutine runs, so the loop is suspended and its context is not written; handlers of this CPU and
        // the goroutine itself are the only ones that ask.
        unsafe { self.g0().read() }.rsp() & !15
    }

    /// Leaves a function for the scheduler loop to call. For this CPU, pinned.
    pub(crate) fn set_mcall(&self, function: fn(GoRef)) {
        self.mcall.set(Some(function));
    }

    /// Takes the function out. For this CPU, pinned.
    pub(crate) fn take_mcall(&self) -> Option<fn(GoRef)> {
        self.mcall.take()
    }

    /// The goroutine that runs here.
    pub(crate) fn current(&self) -> Option<GoIndex> {
        // By the word: of another CPU's goroutine, which may have ended long ago, the slot's memory may be away.
        GoIndex::in_word(self.running()?.word())
    }

    /// The slot of the goroutine that runs here.
    #[inline]
    pub(crate) fn running(&self) -> Option<&'static Slot<Body>> {
        // Written by this CPU; another reads it for a report, and a slot never moves or goes.
        task_in(self.block.task())
    }

    /// What the code is at that an interrupt has come upon.
    pub(crate) fn doing(&self) -> Doing {
        if self.current().is_none() {
            Doing::Scheduling
        } else if self.block.locks() > 0 || self.block.borrows_kernel_stack() {
            Doing::HoldingLocks
        } else {
            Doing::Running
        }
    }

    /// This CPU's part in the last stop of the world.
    #[inline]
    pub(crate) fn mark(&'static self) -> &'static Mark {
        runtime_of(self).world.left(self.index)
    }

    /// In the NMI of a stopper that has waited for too long: tells where this CPU is. `false`: nobody has asked.
    pub(crate) fn answer_probe(&'static self, frame: &Frame) -> bool {
        /// The interrupt flag.
        const IF: u64 = 1 << 9;
        let doing = if frame.rflags & IF == 0 { Doing::InterruptsOff } else { self.doing() };
        self.mark().answer_probe(frame.rip, doing)
    }

    /// Notes where the goroutine stands, which is about to be held there.
    pub(crate) fn stand(&self, start: Start) {
        let [pc, rsp, rbp] = start.registers();
        self.standing[1].store(rsp, Ordering::Relaxed);
        self.standing[2].store(rbp, Ordering::Relaxed);
        // Release pairs with the Acquire in `standing`.
        self.standing[0].store(pc, Ordering::Release);
    }

    /// The goroutine goes on.
    pub(crate) fn go_on(&self) {
        self.standing[0].store(0, Ordering::Release);
    }

    /// Where the goroutine stands, if it is held.
    pub(crate) fn standing(&self) -> Option<Start> {
        match self.standing[0].load(Ordering::Acquire) {
            0 => None,
            pc => {
                let [_, rsp, rbp] = &self.standing;
                Some(Start::at(pc, rsp.load(Ordering::Relaxed), rbp.load(Ordering::Relaxed)))
            }
        }
    }

    /// Whether this pick asks those first that are locked to this CPU: every second one does in which there are any. For
    /// this CPU, pinned.
    pub(crate) fn take_wired_turn(&self) -> bool {
        if self.wired_len.is_empty() {
            return false;
        }
        self.wired_turn.set(!self.wired_turn.get());
        self.wired_turn.get()
    }

    /// Begins a time slice.
    pub(crate) fn begin_slice(&self, now: Ticks) {
        // Relaxed: read by this CPU, and by `sysmon` as a hint.
        self.slice_start.store(now.0, Ordering::Relaxed);
    }
}

/// The goroutine that calls and its CPU, for as long as it is pinned there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) m: &'static M,
    pub(crate) slot: &'static Slot<Body>,
}

impl Here {
    #[inline]
    pub(crate) fn runtime(self) -> &'static Runtime {
        runtime_of(self.m)
    }
}

/// The M of this CPU, for as long as the guard keeps the caller here.
///
/// # Panics
/// Before the runtime is up.
#[inline]
pub(crate) fn current(pinned: &Pinned) -> &'static M {
    from_word(percpu::word(pinned)).expect("called from a goroutine or the scheduler")
}

/// [`current`], for who comes out of a switch.
///
/// # Safety
/// A goroutine, or the scheduler loop, has just left this CPU for the caller.
#[inline]
pub(crate) unsafe fn after_switch(pinned: &Pinned) -> &'static M {
    let m: *const M = ptr::with_exposed_provenance(percpu::word(pinned));
    // SAFETY: whoever switches runs on a CPU whose M is installed, which lives for ever.
    unsafe { &*m }
}

/// Says which goroutine runs on this CPU, by its slot and the [word](GoIndex::word) of its index.
#[inline]
pub(crate) fn set_running(pinned: &Pinned, slot: &'static Slot<Body>, g: GoIndex) {
    percpu::set_task(pinned, ptr::from_ref(slot).expose_provenance(), g.word());
}

/// Says that none does.
#[inline]
pub(crate) fn set_none_running(pinned: &Pinned) {
    percpu::set_task(pinned, 0, 0);
}

/// The slot that the per-CPU block names.
#[inline]
fn task_in(task: usize) -> Option<&'static Slot<Body>> {
    let slot: *const Slot<Body> = ptr::with_exposed_provenance(task);
    // SAFETY: null, or from a reference that lives for ever (`set_running`).
    unsafe { slot.as_ref() }
}

/// The slot of the goroutine that calls.
///
/// # Safety
/// A goroutine calls.
#[inline]
pub(crate) unsafe fn own_slot() -> &'static Slot<Body> {
    let slot: *const Slot<Body> = ptr::with_exposed_provenance(percpu::own_task());
    // SAFETY: the contract, and as in `task_in`.
    unsafe { &*slot }
}

/// The slot of the goroutine that runs on this CPU.
///
/// # Throws
/// When there is none: the scheduler loop or a handler calls.
#[inline]
pub(crate) fn current_slot(pinned: &Pinned) -> &'static Slot<Body> {
    match task_in(percpu::task(pinned)) {
        Some(slot) => slot,
        None => no_goroutine(current(pinned)),
    }
}

#[cold]
fn no_goroutine(m: &M) -> ! {
    throw(format_args!("no goroutine runs on cpu {}", m.block.id().0))
}

/// The goroutine that runs on this CPU.
///
/// # Throws
/// As [`current_slot`].
pub(crate) fn current_g(m: &M) -> GoIndex {
    match m.running() {
        Some(slot) => slot.index(),
        None => no_goroutine(m),
    }
}

/// Makes the goroutine that calls go elsewhere when its last guard goes, if the P of its CPU has gone away.
pub(crate) fn vacate_if_inactive(pinned: &Pinned) {
    if !current(pinned).is_active() {
        let _off = IrqGuard::new();
        percpu::request(ask::VACATE);
    }
}

/// The M of this CPU for handlers and reports, which nothing moves, and for who asks again if it was moved meanwhile. `None` before the
/// runtime is up.
#[inline]
pub(crate) fn of_this_cpu() -> Option<&'static M> {
    from_word(percpu::word_here())
}

fn from_word(word: usize) -> Option<&'static M> {
    let m: *const M = ptr::with_exposed_provenance(word);
    // SAFETY: the word is 0 or the address of an M that lives for ever (`install`).
    unsafe { m.as_ref() }
}

/// The M of a P.
pub(crate) fn of_proc(runtime: &'static Runtime, proc: sched::ProcId) -> &'static M {
    &runtime.ms[proc.index()]
}

/// The runtime that an M is part of.
#[inline]
pub(crate) fn runtime_of(_m: &'static M) -> &'static Runtime {
    // SAFETY: an M that lives for ever is part of the runtime: it is in its place.
    unsafe { runtime::place().get_unchecked() }
}

/// Shorthand for the one runtime.
#[inline]
pub(crate) fn runtime() -> &'static Runtime {
    runtime::get()
}

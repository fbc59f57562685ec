//! An M: one logical CPU as the scheduler sees it, with its kernel stack (g0).
//!
//! A CPU that holds a P runs goroutines; one without a P (more CPUs than GOMAXPROCS) halts. P number i belongs
//! to M number i for the whole run: GOMAXPROCS is fixed at boot.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

use machine::context::Context;
use machine::percpu::{self, PerCpu, Pinned};
use sched::note::Note;
use sched::{GoIndex, Processor};

use crate::runtime::{self, Runtime};

/// The value of `current` when no goroutine runs.
const NONE: u32 = u32::MAX;

/// One CPU's side of the scheduler.
#[derive(Debug)]
pub(crate) struct M {
    /// The machine's block of this CPU.
    pub(crate) block: &'static PerCpu,
    /// The P, if it has one.
    pub(crate) proc: Option<&'static Processor>,
    /// The word this CPU sleeps on.
    pub(crate) note: Note,
    /// Where the scheduler loop goes on when a goroutine leaves. Owner only.
    g0: UnsafeCell<Context>,
    /// Goroutine that runs here, or `NONE`. Written by this CPU, read by reports of any.
    current: AtomicU32,
}

// SAFETY: `g0` is touched only by the CPU that the M belongs to, and only outside interrupt handlers.
unsafe impl Sync for M {}

impl M {
    pub(crate) fn new(block: &'static PerCpu, proc: Option<&'static Processor>) -> Self {
        Self {
            block,
            proc,
            note: Note::new(),
            g0: UnsafeCell::new(Context::NONE),
            current: AtomicU32::new(NONE),
        }
    }

    /// Makes this the M of the CPU that calls.
    pub(crate) fn install(&'static self) {
        self.block.set_word(core::ptr::from_ref(self).expose_provenance());
    }

    /// The P.
    ///
    /// # Panics
    /// On a CPU without one, where no goroutine can run.
    pub(crate) fn proc(&self) -> &'static Processor {
        self.proc.expect("a CPU that runs goroutines has a P")
    }

    /// The place of the scheduler loop's context.
    pub(crate) fn g0(&self) -> *mut Context {
        self.g0.get()
    }

    /// The goroutine that runs here.
    pub(crate) fn current(&self) -> Option<GoIndex> {
        // Relaxed: written by this CPU; another reads it for a report only.
        GoIndex::new(self.current.load(Ordering::Relaxed))
    }

    pub(crate) fn set_current(&self, g: Option<GoIndex>) {
        self.current.store(g.map_or(NONE, GoIndex::get), Ordering::Relaxed);
    }
}

/// The M of this CPU, for as long as the guard keeps the caller here.
///
/// # Panics
/// Before the runtime is up.
pub(crate) fn current(pinned: &Pinned) -> &'static M {
    from_word(percpu::current(pinned).word()).expect("called from a goroutine or the scheduler")
}

/// The M of this CPU for handlers and reports, which nothing moves. `None` before the runtime is up.
pub(crate) fn of_this_cpu() -> Option<&'static M> {
    from_word(percpu::of_this_cpu().word())
}

fn from_word(word: usize) -> Option<&'static M> {
    let m: *const M = core::ptr::with_exposed_provenance(word);
    // SAFETY: the word is 0 or the address of an M that lives for ever (`install`).
    unsafe { m.as_ref() }
}

/// The M that holds a P.
pub(crate) fn of_proc(runtime: &'static Runtime, proc: sched::ProcId) -> &'static M {
    &runtime.ms[proc.index()]
}

/// Shorthand for the one runtime.
pub(crate) fn runtime() -> &'static Runtime {
    runtime::get()
}

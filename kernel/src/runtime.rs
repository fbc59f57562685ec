//! The one static of the scheduler: everything else is reached from here or from a CPU's own block.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64};

use machine::clock::{self, Nanos};
use machine::lock::{Lock, Rank};
use machine::percpu::PerCpu;
use sched::free::FreeList;
use sched::global::GlobalQueue;
use sched::idle::Idle;
use sched::list::SharedLen;
use sched::pick::{Global, Sources};
use sched::table::{GrowError, Slot, Table};
use sched::{GoIndex, Goid, GoidGenerator, ProcId, Processor};

use crate::goroutine::Body;
use crate::m::M;

/// The scheduler's shared state; the counterpart of Go's `sched` and `allp`.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) table: Table<Body>,
    pub(crate) procs: &'static [Processor],
    /// One for each CPU that is online; those with a P come first, M i holding P i.
    pub(crate) ms: Box<[M]>,
    pub(crate) idle: Idle,
    pub(crate) goids: GoidGenerator,
    pub(crate) global: GlobalRunQueue,
    pub(crate) free: Lock<FreeList>,
    /// The free list's length, to be read without its lock.
    pub(crate) free_len: SharedLen,
    /// Held while the table grows.
    pub(crate) grow: Lock<()>,
    /// Times that a P has stopped being idle; see `deadlock.rs`.
    pub(crate) wakeups: AtomicU64,
    /// Goroutines that wait for an interrupt of a device.
    pub(crate) device_waiters: AtomicU32,
}

/// How long a thief leaves a run-next slot to its owner, who may be about to block; as Go's `runqgrab`.
const PATIENCE: Nanos = Nanos(3_000);

static RUNTIME: spin::Once<Runtime> = spin::Once::new();

/// The runtime.
///
/// # Panics
/// Before boot has made it.
pub(crate) fn get() -> &'static Runtime {
    RUNTIME.get().expect("the runtime is up before any goroutine runs")
}

/// The runtime, if it is up.
pub(crate) fn try_get() -> Option<&'static Runtime> {
    RUNTIME.get()
}

/// Makes the runtime: one M for each CPU, the first `gomaxprocs` of them with a P.
///
/// # Errors
/// What the table says when memory does not suffice.
pub(crate) fn init(
    cpus: &[&'static PerCpu],
    gomaxprocs: u32,
    max_goroutines: u32,
) -> Result<&'static Runtime, GrowError> {
    let procs = (0..gomaxprocs).filter_map(ProcId::new);
    let procs: Vec<Processor> = procs.map(|id| Processor::new(id, clock::rdtsc().0)).collect();
    let procs: &'static [Processor] = Vec::leak(procs);
    let ms = cpus.iter().enumerate().map(|(i, block)| M::new(block, procs.get(i))).collect();
    let table = Table::new(max_goroutines)?;
    let (queue, queue_len) = GlobalQueue::new();
    let (free, free_len) = FreeList::new();
    Ok(RUNTIME.call_once(|| Runtime {
        table,
        procs,
        ms,
        idle: Idle::new(gomaxprocs),
        goids: GoidGenerator::new(),
        global: GlobalRunQueue { queue: Lock::new(Rank::Global, queue), len: queue_len },
        free: Lock::new(Rank::Free, free),
        free_len,
        grow: Lock::new(Rank::Table, ()),
        wakeups: AtomicU64::new(0),
        device_waiters: AtomicU32::new(0),
    }))
}

impl Runtime {
    pub(crate) fn slot(&self, g: GoIndex) -> &Slot<Body> {
        self.table.slot(g)
    }

    /// Everything that work can be in.
    pub(crate) fn sources(&self) -> Sources<'_, Body, GlobalRunQueue> {
        Sources { table: &self.table, processors: self.procs, global: &self.global }
    }

    /// The number people see, if the slot holds a goroutine.
    pub(crate) fn goid(&self, g: GoIndex) -> Option<Goid> {
        self.slot(g).goid()
    }
}

/// The global run queue behind its lock, with a length that is read without it.
#[derive(Debug)]
pub(crate) struct GlobalRunQueue {
    queue: Lock<GlobalQueue>,
    len: SharedLen,
}

impl Global for GlobalRunQueue {
    fn with<R>(&self, f: impl FnOnce(&mut GlobalQueue) -> R) -> R {
        f(&mut self.queue.lock())
    }

    fn length(&self) -> &SharedLen {
        &self.len
    }

    fn hesitate(&self) {
        clock::spin_for(PATIENCE);
    }
}

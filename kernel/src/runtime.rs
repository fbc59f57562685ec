//! The one static of the scheduler: everything else is reached from here or from a CPU's own block.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::clock::{self, Nanos};
use machine::lock::{Guard, Kind, Lock, Rank};
use machine::percpu::{PerCpu, Pinned};
use sched::chunks::NoRoom;
use sched::deadlock::Awake;
use sched::free::FREE_BATCH;
use sched::free_list::FreeLists;
use sched::global::GlobalQueue;
use sched::idle::Idle;
use sched::list::SharedLen;
use sched::pick::{Global, Sources};
use sched::sema::{RootLock, SemaRoot, SemaTable};
use sched::sudog::Sudogs;
use sched::sync::{CHUNK_SLOTS, Padded};
use sched::table::{GrowError, Slot, Table};
use sched::world::World;
use sched::{GoIndex, Goid, GoidGenerator, MAX_PROCS, ProcId, Processor, SudogIndex};

use crate::goroutine::{Body, Goroutines};
use crate::m::{self, M, Preemption};
use crate::mark::Mark;
use crate::stops::Stops;
use crate::sudog_memory;

/// The scheduler's shared state; the counterpart of Go's `sched` and `allp`.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) table: Goroutines,
    /// One for each CPU that is online, 256 at most; GOMAXPROCS says how many of them are in use.
    all_procs: &'static [Processor],
    /// GOMAXPROCS. Written while the world is stopped.
    gomaxprocs: AtomicU32,
    /// One for each CPU that is online; P i belongs to M i.
    pub(crate) ms: Box<[M]>,
    /// Who is stopped when the world is.
    pub(crate) world: World<Mark>,
    /// Changes of the address space that CPUs must notice; see `tlb.rs`.
    pub(crate) tlb: Padded<AtomicU64>,
    /// Who may make a goroutine runnable, but for the Ps that are not idle.
    pub(crate) awake: Awake,
    /// Whether time slices end.
    pub(crate) preemption: Preemption,
    pub(crate) idle: Idle,
    pub(crate) goids: GoidGenerator,
    pub(crate) global: GlobalRunQueue,
    /// Dead goroutines that no P keeps.
    pub(crate) free: FreeLists,
    /// Held while the table grows.
    pub(crate) grow: Padded<Lock<()>>,
    pub(crate) sudogs: Sudogs,
    /// Sudogs that nobody uses and no P keeps.
    pub(crate) sudog_free: FreeLists<SudogIndex>,
    /// Held while the store of sudogs grows.
    pub(crate) sudog_grow: Padded<Lock<()>>,
    pub(crate) sema: SemaTable<SemaLock>,
    /// The stops of the world.
    pub(crate) stops: Padded<Lock<Stops>>,
    /// Gives unused memory back to the pool of frames; set at boot.
    reclaim: fn() -> u64,
}

/// How long a thief leaves a run-next slot to its owner, who may be about to block; as Go's `runqgrab`.
const PATIENCE: Nanos = Nanos(3_000);

/// Sudogs that may exist for each goroutine that may: it keeps one, and one wait can be for several things.
const SUDOGS_PER_GOROUTINE: u32 = 5;

static RUNTIME: spin::Once<Runtime> = spin::Once::new();

/// The runtime.
///
/// # Panics
/// Before boot has made it.
pub(crate) fn get() -> &'static Runtime {
    RUNTIME.get().expect("the runtime is up before any goroutine runs")
}

/// Where the runtime is, once it is up.
pub(crate) fn place() -> &'static spin::Once<Runtime> {
    &RUNTIME
}

/// The runtime, if it is up.
pub(crate) fn try_get() -> Option<&'static Runtime> {
    RUNTIME.get()
}

/// What the runtime is made of and for.
#[derive(Debug)]
pub(crate) struct Limits {
    /// The first GOMAXPROCS.
    pub(crate) gomaxprocs: u32,
    /// Slots that the table of goroutines may have.
    pub(crate) max_goroutines: u32,
    /// Whether time slices end.
    pub(crate) preemption: Preemption,
    /// Gives unused memory back to the pool of frames, by stopping the world.
    pub(crate) reclaim: fn() -> u64,
}

/// Batches in what the store of sudogs grows by.
const BATCHES: usize = (CHUNK_SLOTS / FREE_BATCH) as usize;

/// Makes the runtime: an M for each CPU, with a P for the first 256.
///
/// # Errors
/// What the table says when memory does not suffice.
#[expect(clippy::large_stack_frames, reason = "the boot CPU's kernel stack has room for the runtime")]
pub(crate) fn init(cpus: &[&'static PerCpu], limits: &Limits) -> Result<&'static Runtime, GrowError> {
    let count = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
    let procs = (0..count.min(MAX_PROCS)).filter_map(ProcId::new);
    let procs: Vec<Processor> = procs.map(|id| Processor::new(id, clock::rdtsc().0)).collect();
    let procs: &'static [Processor] = Vec::leak(procs);
    let ms: Box<[M]> = cpus.iter().enumerate().map(|(i, block)| M::new(i, block, procs.get(i))).collect();
    let active = limits.gomaxprocs as usize;
    ms.iter().take(active).filter(|m| m.proc.is_some()).for_each(|m| m.activate(limits.preemption));
    let table = Goroutines::new(Table::new(limits.max_goroutines)?);
    let sudogs = sudog_memory::store(limits.max_goroutines.saturating_mul(SUDOGS_PER_GOROUTINE));
    let sudog_free = FreeLists::new(cpus.len());
    first_sudogs(cpus.len(), &sudogs, &sudog_free)?;
    Ok(RUNTIME.call_once(|| Runtime {
        table,
        all_procs: procs,
        gomaxprocs: AtomicU32::new(limits.gomaxprocs),
        world: World::new(count),
        tlb: Padded(AtomicU64::new(0)),
        awake: Awake::new(cpus.len()),
        preemption: limits.preemption,
        stops: Padded(Lock::new(Rank::Stops, Stops::new())),
        reclaim: limits.reclaim,
        idle: Idle::new(limits.gomaxprocs.min(count)),
        ms,
        goids: GoidGenerator::new(),
        global: GlobalRunQueue::new(cpus.len(), limits.gomaxprocs),
        free: FreeLists::new(cpus.len()),
        grow: Padded(Lock::new(Rank::Table, ())),
        sudogs,
        sudog_free,
        sudog_grow: Padded(Lock::of_kind(Kind::SudogTable, ())),
        sema: SemaTable::new(|root| SemaLock(Lock::new(Rank::Sema, root))),
    }))
}

/// A batch of sudogs for each CPU: the first waits shall not fail when memory is used up before anybody has waited.
fn first_sudogs(cpus: usize, sudogs: &Sudogs, free: &FreeLists<SudogIndex>) -> Result<(), GrowError> {
    for chunk in 0..=cpus / BATCHES {
        match sudogs.grow(sudog_memory::make_room) {
            Ok(new) => free.spread(chunk * BATCHES, sudogs, new),
            Err(error @ NoRoom::NoMemory { .. }) if chunk == 0 => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(())
}

impl Runtime {
    #[inline]
    pub(crate) fn slot(&self, g: GoIndex) -> &'static Slot<Body> {
        self.table.slot(g)
    }

    /// GOMAXPROCS: how many Ps there are. Those beyond the CPUs are counted and nothing else.
    pub(crate) fn gomaxprocs(&self) -> u32 {
        // Relaxed: it changes only while the world is stopped.
        self.gomaxprocs.load(Ordering::Relaxed)
    }

    /// Changes GOMAXPROCS, while the world is stopped.
    pub(crate) fn set_gomaxprocs(&self, procs: u32) {
        self.gomaxprocs.store(procs, Ordering::Relaxed);
        self.global.set_homes(procs);
    }

    /// The Ps in use: those that belong to a CPU.
    pub(crate) fn procs(&self) -> &'static [Processor] {
        let used = self.all_procs.len().min(self.gomaxprocs() as usize);
        self.all_procs.get(..used).unwrap_or_default()
    }

    /// All Ps, those of CPUs that do not run goroutines at the moment among them: for their counters.
    pub(crate) fn all_procs(&self) -> &'static [Processor] {
        self.all_procs
    }

    /// Gives unused memory back to the pool of frames. Stops the world: call it as that is called.
    pub(crate) fn reclaim_memory(&self) {
        let bytes = (self.reclaim)();
        log::debug!("out of page frames: {bytes} bytes were given back");
    }

    /// Everything that work can be in, but for the queues of goroutines that are locked to a CPU.
    pub(crate) fn sources(&self) -> Sources<'_, Goroutines, GlobalRunQueue> {
        Sources { table: &self.table, processors: self.procs(), global: &self.global }
    }

    /// The number people see, if the slot holds a goroutine.
    pub(crate) fn goid(&self, g: GoIndex) -> Option<Goid> {
        self.slot(g).goid()
    }
}

/// Queues of the global run queue at most: each is looked at by who finds nothing at home.
const MOST_QUEUES: usize = 16;

/// One queue of the global run queue, behind its lock, with a length that is read without it.
#[derive(Debug)]
struct Queue {
    queue: Padded<Lock<GlobalQueue>>,
    len: SharedLen,
}

/// The global run queue: a queue for each CPU, or for some together if there are many.
#[derive(Debug)]
pub(crate) struct GlobalRunQueue {
    queues: Box<[Queue]>,
    /// Queues that are a home: those of the CPUs whose Ps are active, so that somebody looks there often. Changed while the world is
    /// stopped.
    homes: AtomicU32,
}

impl GlobalRunQueue {
    fn new(cpus: usize, gomaxprocs: u32) -> Self {
        let queue = |_| {
            let (queue, len) = GlobalQueue::new();
            Queue { queue: Padded(Lock::new(Rank::Global, queue)), len }
        };
        let queues = (0..cpus.clamp(1, MOST_QUEUES)).map(queue).collect();
        let new = Self { queues, homes: AtomicU32::new(1) };
        new.set_homes(gomaxprocs);
        new
    }
}

impl GlobalRunQueue {
    fn set_homes(&self, gomaxprocs: u32) {
        let most = u32::try_from(self.queues.len()).unwrap_or(1);
        // Relaxed: the stop orders it for all CPUs.
        self.homes.store(gomaxprocs.clamp(1, most), Ordering::Relaxed);
    }

    /// Goroutines in the queue, at about this moment.
    pub(crate) fn len(&self) -> u32 {
        Global::len(self)
    }

    /// Whether the queue looks empty.
    pub(crate) fn is_empty(&self) -> bool {
        Global::is_empty(self)
    }

    /// All its queues, if none is busy. For tests, which take no other lock as long as they have them: that these are held, debug builds
    /// forget when the first of them goes.
    pub(crate) fn hold(&self) -> Option<Vec<Guard<'_, GlobalQueue>>> {
        self.queues.iter().map(|queue| queue.queue.try_lock()).collect()
    }
}

impl Global for GlobalRunQueue {
    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn home(&self) -> usize {
        m::of_this_cpu().map_or(0, |m| m.index % self.homes())
    }

    fn homes(&self) -> usize {
        // Relaxed: see `set_homes`.
        self.homes.load(Ordering::Relaxed) as usize
    }

    fn with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R {
        f(&mut self.queues[at].queue.lock())
    }

    fn try_with<R>(&self, at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> Option<R> {
        let queue = &self.queues[at].queue;
        // Who has something to put there and finds no home free waits for its own.
        queue.check_order();
        Some(f(&mut *queue.try_lock()?))
    }

    fn length(&self, at: usize) -> &SharedLen {
        &self.queues[at].len
    }

    fn hesitate(&self) {
        clock::spin_for(PATIENCE);
    }
}

/// A root of the semaphore table behind its lock.
#[derive(Debug)]
pub(crate) struct SemaLock(Lock<SemaRoot>);

impl RootLock for SemaLock {
    type Pin = Pinned;

    fn with<R>(&self, f: impl FnOnce(&mut SemaRoot) -> R) -> (R, Pinned) {
        let mut root = self.0.lock();
        let result = f(&mut root);
        (result, root.unlock())
    }
}

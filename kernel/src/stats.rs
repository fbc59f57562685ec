//! Numbers about the machine and the scheduler.
//!
//! ```
//! use gzero::{num_cpu, num_goroutine, stats};
//!
//! assert!(stats::gomaxprocs() >= 1 && num_cpu() >= 1 && num_goroutine() >= 1);
//! let spawned: u64 = stats::per_cpu().map(|(_, counters)| counters.spawned).sum();
//! gzero::println!("{spawned} goroutines have been started");
//! for wait in stats::waiting() {
//!     let stats::Waiting { reason, since, .. } = wait;
//!     gzero::println!("one waits for {reason} since {} ms", since.0 / 1_000_000);
//! }
//! let memory: stats::MemoryInUse = stats::memory();
//! assert!(memory.available() <= memory.total);
//! ```

use core::sync::atomic::{Ordering, fence};

use machine::clock::{self, Nanos, Ticks};
use machine::frames;
use machine::paging;
use machine::percpu::CpuId;
use sched::GoRef;
use sched::counters::Snapshot;

use crate::goroutine::is_unused;
use crate::heap;
use crate::m;
use crate::park::WaitReason;
use crate::slots;
use crate::sudog_memory;

pub use crate::high_water::{StackUse, stack_use};

pub use crate::locks::{LockCounts, locks};

/// CPUs that are online.
pub fn num_cpu() -> usize {
    m::runtime().ms.len()
}

/// Ps: CPUs that run goroutines.
pub fn gomaxprocs() -> usize {
    m::runtime().gomaxprocs() as usize
}

/// Goroutines that exist, the main one included. Exact when nobody starts or ends one meanwhile.
///
/// One that has ended does not count, although its value may not have been claimed. Its end may be seen a moment before it is counted:
/// whoever has just joined it may still find it here. Who finds it no more finds its stack among those that are unused, if its handle is gone.
pub fn num_goroutine() -> u64 {
    let procs = m::runtime().all_procs();
    // Ends are read first: one that is counted as ended was counted as started.
    let exited: u64 = procs.iter().map(sched::Processor::exited).sum();
    // Acquire pairs with the Release in `bury::count_end`.
    fence(Ordering::Acquire);
    let spawned: u64 = procs.iter().map(sched::Processor::spawned).sum();
    spawned.saturating_sub(exited)
}

fn nanos(ticks: u64) -> u64 {
    clock::length_of(Ticks(ticks)).0
}

/// What the P on each CPU has done so far.
pub fn per_cpu() -> impl Iterator<Item = (CpuId, Snapshot)> {
    m::runtime().ms.iter().filter_map(move |m| Some((m.block.id(), m.proc?.counters(nanos))))
}

/// A goroutine that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub g: GoRef,
    /// For what.
    pub reason: WaitReason,
    /// Since when.
    pub since: Nanos,
}

/// The goroutines that wait, each at about this moment. Walks all goroutines.
pub fn waiting() -> impl Iterator<Item = Waiting> {
    m::runtime().table.iter().filter_map(|(index, slot)| {
        let (status, generation) = slot.status().get();
        let (reason, since) = (slot.body().wait_reason(), slot.body().wait_since());
        let g = GoRef { index, generation };
        (status == sched::Status::Waiting).then_some(Waiting { g, reason, since })
    })
}

/// Where memory is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryInUse {
    /// Page frames under management.
    pub total: u64,
    /// Page frames that are free.
    pub free: u64,
    /// The heap's arena.
    pub heap_mapped: u64,
    /// Heap blocks handed out.
    pub heap_used: u64,
    /// The heap's own tables.
    pub heap_metadata: u64,
    /// Stack pages of living goroutines, and of those whose values nobody has claimed.
    pub stacks: u64,
    /// Stack pages of dead goroutines, kept for the next ones.
    pub idle_stacks: u64,
    /// Page tables.
    pub page_tables: u64,
    /// Pages of the goroutine table.
    pub goroutine_table: u64,
    /// Pages of what waiting goroutines leave with the things that they wait for.
    pub sudogs: u64,
}

impl MemoryInUse {
    /// What a program can still use or cause to be used: free frames, and what the runtime keeps to use it again.
    ///
    /// Starting and ending goroutines leaves this number as it was.
    pub const fn available(&self) -> u64 {
        let kept =
            self.idle_stacks + self.page_tables + self.goroutine_table + self.sudogs + self.heap_metadata;
        self.free + kept + (self.heap_mapped - self.heap_used)
    }
}

/// Where memory is. Walks all goroutines; exact when nobody else runs meanwhile.
pub fn memory() -> MemoryInUse {
    let table = &m::runtime().table;
    let (mut stacks, mut idle_stacks) = (0, 0);
    for (g, slot) in table.iter() {
        let bytes = slot.body().stack_bytes(g);
        if is_unused(slot) {
            idle_stacks += bytes;
        } else {
            stacks += bytes;
        }
    }
    let (pool, heap) = (frames::stats(), heap::stats());
    MemoryInUse {
        total: pool.total * frames::FRAME_SIZE,
        free: pool.free * frames::FRAME_SIZE,
        heap_mapped: heap.sys - heap.released,
        heap_used: heap.live,
        heap_metadata: heap.metadata,
        stacks,
        idle_stacks,
        page_tables: paging::tables() * frames::FRAME_SIZE,
        goroutine_table: slots::bytes(),
        sudogs: sudog_memory::bytes(),
    }
}

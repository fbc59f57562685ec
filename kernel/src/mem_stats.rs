//! Where memory is, counted while the world stands still: Go's `ReadMemStats`.

use alloc::vec::Vec;

use machine::frames::FRAME_SIZE;
use machine::heap::class::{CLASSES, Class};
use machine::heap::stats::{OfCpu, Sum};
use machine::percpu::Pinned;
use machine::{heap, paging, stack};

use crate::goroutine;
use crate::idle_stacks;
use crate::runtime::Runtime;
use crate::slots;
use crate::stacks::check_g_stack;
use crate::stats::num_goroutine;
use crate::sudog_memory;
use crate::world::{StopReason, around_stop, while_stopped};

/// Pauses that are kept.
const PAUSES: usize = crate::stops::PAUSES;

/// Blocks of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BySize {
    /// The largest block that is of this size, in bytes.
    pub size: u64,
    /// Blocks handed out since boot.
    pub mallocs: u64,
    /// Blocks given back since boot.
    pub frees: u64,
}

/// Memory and stops in numbers, with Go's names where they mean the same. Bytes unless they say otherwise.
///
/// Left out, because nothing here answers to them: `Lookups`, `BuckHashSys`, `GCSys`, `NextGC`, `LastGC`, `NumForcedGC`,
/// `GCCPUFraction`, `EnableGC`, `DebugGC` (there is no collector), `MSpanInuse` (descriptions of spans are kept),
/// `MCacheInuse`, `MCacheSys` (a CPU's cache is a block of the heap). Go's `NumGC` counts what stopped its world; that is
/// `num_stops` here.
///
/// ```
/// use gzero::{BySize, MemStats, read_mem_stats, size_class};
///
/// let mut stats = MemStats::default();
/// read_mem_stats(&mut stats);
/// let class = size_class(core::alloc::Layout::new::<[u64; 4]>()).expect("it is small");
/// let small: &BySize = &stats.by_size[class];
/// assert!(small.size >= 32 && small.mallocs >= small.frees);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemStats {
    /// Live blocks of the heap; the same as `heap_alloc`.
    pub alloc: u64,
    /// Blocks handed out since boot.
    pub total_alloc: u64,
    /// All that was taken from the machine: the sum of the `sys` fields. What is part of `heap_released` is back there.
    pub sys: u64,
    /// Blocks handed out since boot: a number.
    pub mallocs: u64,
    /// Blocks given back since boot: a number.
    pub frees: u64,
    /// Live blocks.
    pub heap_alloc: u64,
    /// Pages of the heap, also those given back.
    pub heap_sys: u64,
    /// Pages of spans that hold nothing, also those given back.
    pub heap_idle: u64,
    /// Pages of spans that hold something, or could at once.
    pub heap_inuse: u64,
    /// Pages given back to the machine: part of `heap_idle`.
    pub heap_released: u64,
    /// Live blocks: a number.
    pub heap_objects: u64,
    /// Stacks of living goroutines, and of those whose values nobody has claimed.
    pub stack_inuse: u64,
    /// Stacks of all goroutines, those kept for the next ones too.
    pub stack_sys: u64,
    /// Descriptions of spans, and the map of pages.
    pub mspan_sys: u64,
    /// Page tables, the CPUs' own stacks, the goroutine table, and sudogs.
    pub other_sys: u64,
    /// Spans in use: a number.
    pub spans: u64,
    /// Nanoseconds for which the world stood still since boot.
    pub pause_total_ns: u64,
    /// Nanoseconds for which it stood still in each of the last stops: number n is at `(n - 1) % 256`.
    pub pause_ns: Vec<u64>,
    /// When these ended, in nanoseconds since the start of the clock.
    pub pause_end: Vec<u64>,
    /// Stops of the world since boot, without the one that fills this in.
    pub num_stops: u64,
    /// Goroutines that exist.
    pub num_goroutine: u64,
    /// What each of them takes, on average: the pages of its stack, its slot in the table, and its part of the page tables of stacks.
    pub goroutine_bytes: u64,
    /// By size class, the smallest first.
    pub by_size: Vec<BySize>,
    /// Blocks that are larger than the largest class; `size` is 0.
    pub large: BySize,
}

impl Default for MemStats {
    /// Zeros, with room for all that [`read_mem_stats`] fills in.
    fn default() -> Self {
        Self {
            alloc: 0,
            total_alloc: 0,
            sys: 0,
            mallocs: 0,
            frees: 0,
            heap_alloc: 0,
            heap_sys: 0,
            heap_idle: 0,
            heap_inuse: 0,
            heap_released: 0,
            heap_objects: 0,
            stack_inuse: 0,
            stack_sys: 0,
            mspan_sys: 0,
            other_sys: 0,
            spans: 0,
            pause_total_ns: 0,
            pause_ns: alloc::vec![0; PAUSES],
            pause_end: alloc::vec![0; PAUSES],
            num_stops: 0,
            num_goroutine: 0,
            goroutine_bytes: 0,
            by_size: alloc::vec![BySize::default(); CLASSES],
            large: BySize::default(),
        }
    }
}

/// Stops the world, fills `stats` in, and starts it. Go's `ReadMemStats`.
///
/// All numbers are of one moment, so they add up. Allocates nothing, if there is the room that [`MemStats::default`] makes.
///
/// Who calls again passes what the last call has filled in, and saves time: of the pauses only those since then are
/// written, which are the ones after stop number `num_stops`. A default gets all of them.
///
/// # Throws
/// When not called on a goroutine's own stack; what [`stop_the_world`](crate::stop_the_world) throws.
#[track_caller]
pub fn read_mem_stats(stats: &mut MemStats) {
    check_g_stack("read_mem_stats");
    stats.by_size.resize(CLASSES, BySize::default());
    let stats = core::cell::RefCell::new(stats);
    around_stop(
        StopReason::ReadMemStats,
        |rt| fill_ahead(rt, &mut stats.borrow_mut()),
        |rt, blocks| (fill(rt, &mut stats.borrow_mut(), blocks), None),
    );
}

/// Blocks of all classes, and the large ones.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks {
    small: Sum,
    large: Sum,
}

/// Fills in what nobody else changes: the blocks that this CPU has counted, and the pauses. Who calls has the right to stop
/// the world, and is pinned.
fn fill_ahead(rt: &Runtime, stats: &mut MemStats) -> Blocks {
    let mut blocks = Blocks::default();
    for (to, size) in stats.by_size.iter_mut().zip(&heap::class::SIZES) {
        *to = BySize { size: *size, mallocs: 0, frees: 0 };
    }
    blocks.add(heap::stats::own(&Pinned::new()), &mut stats.by_size);
    let stops = rt.stops.lock();
    stops.pauses_since(stats.num_stops, &mut stats.pause_ns, &mut stats.pause_end);
    stats.num_stops = stops.count();
    stats.pause_total_ns = stops.total_pause();
    blocks
}

impl Blocks {
    /// Adds what a CPU has counted.
    #[inline]
    fn add(&mut self, cpu: OfCpu<'_>, by_size: &mut [BySize]) {
        cpu.classes(&mut self.small, |class, (mallocs, frees)| {
            if let Some(to) = by_size.get_mut(class) {
                to.mallocs = to.mallocs.wrapping_add(mallocs);
                to.frees = to.frees.wrapping_add(frees);
            }
        });
        cpu.large(&mut self.large);
    }
}

/// Fills in the rest, in a stopped world, on the kernel stack.
fn fill(rt: &Runtime, stats: &mut MemStats, mut blocks: Blocks) {
    heap::stats::others(&Pinned::new()).for_each(|cpu| blocks.add(cpu, &mut stats.by_size));
    let Blocks { small, large } = blocks;
    stats.large = BySize { size: 0, mallocs: large.mallocs, frees: large.frees };
    stats.mallocs = small.mallocs + large.mallocs;
    stats.frees = small.frees + large.frees;
    stats.heap_objects = stats.mallocs - stats.frees;
    stats.total_alloc = small.allocated + large.allocated;
    stats.heap_alloc = stats.total_alloc - small.freed - large.freed;
    stats.alloc = stats.heap_alloc;
    let pages = heap::stats::pages();
    stats.heap_sys = pages.sys;
    stats.heap_inuse = pages.in_use;
    stats.heap_idle = pages.sys - pages.in_use;
    stats.heap_released = pages.released;
    stats.spans = pages.spans;
    stats.mspan_sys = pages.metadata;
    (stats.stack_inuse, stats.stack_sys) = idle_stacks::bytes(rt);
    stats.other_sys = other_bytes();
    stats.sys = stats.heap_sys + stats.stack_sys + stats.mspan_sys + stats.other_sys;
    stats.num_goroutine = num_goroutine();
    let slots = stats.num_goroutine * goroutine::SLOT;
    stats.goroutine_bytes = (stats.stack_inuse + slots + stack::table_bytes()) / stats.num_goroutine.max(1);
}

/// Page tables, the stacks of the CPUs, the goroutine table, and sudogs.
pub(crate) fn other_bytes() -> u64 {
    paging::tables() * FRAME_SIZE + stack::whole_bytes() + slots::bytes() + sudog_memory::bytes()
}

/// Gives memory that is not in use back to the pool of page frames: stacks of dead goroutines, and what is free of the
/// heap. Go's `debug.FreeOSMemory`.
///
/// Returns how many bytes that were. One flush of all TLBs serves for all of it; CPUs that are stopped or asleep do
/// theirs when they go on. The world is stopped meanwhile.
///
/// There is no garbage to collect: what the program still has stays, and so do the values in a [`Pool`](crate::sync::Pool),
/// whose [`clear`](crate::sync::Pool::clear) is called before, if they may go.
///
/// ```
/// drop(alloc::vec![0_u8; 1 << 20]);
/// let bytes = gzero::free_os_memory();
/// gzero::println!("{bytes} bytes were given back");
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack; what [`stop_the_world`](crate::stop_the_world) throws.
#[track_caller]
pub fn free_os_memory() -> u64 {
    check_g_stack("free_os_memory");
    while_stopped(StopReason::FreeOsMemory, crate::os_memory::free)
}

/// The size class of a block, for those who want to find it in [`MemStats::by_size`].
pub fn size_class(layout: core::alloc::Layout) -> Option<usize> {
    Class::of(layout).map(Class::number)
}

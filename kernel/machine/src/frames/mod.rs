//! Physical page frames.
//!
//! Memory that nobody has used yet is handed out by a cursor over the usable regions ([`fresh`]), without a lock; a frame that comes back
//! goes on a free list that is kept in the free frames themselves ([`pool`]). So no table grows with memory, and nothing
//! is touched before it is used. Each CPU keeps some frames, which it takes and gives back without a lock
//! ([`cache`]); it gets them from the pool in batches, and returns them so. When the pool is empty a CPU takes
//! what others keep: nobody is refused while there is a free frame.
//!
//! Who wants a frame passes the pool's lock when it is busy, as the host may have stopped the CPU that holds it: fresh memory serves, or what
//! others keep. It is waited for when memory is nearly used up, for a huge page, and by whoever gives back more than its CPU keeps.
//!
//! # The page fault that must not happen
//!
//! Some stacks are mapped on first touch, so a page fault may come at any push of code that runs on one,
//! and the fault handler takes a frame: one that its CPU keeps, or else, once in a batch, by the pool's lock. If
//! the same CPU already held that lock, the handler would wait
//! for itself. Every function here therefore calls [`probe_stack`] before it takes the lock: it touches the
//! next [`PROBE`] bytes below the stack pointer, which is more than the critical sections use (they are leaf
//! code: a dozen words of locals, no formatting, no calls out). From there to the release no fault is possible.
//! `stack::handle_fault` checks the argument: [`held_here`] is a throw, not a hang. A fault in the middle of a step at
//! what the CPU keeps does no harm.

mod cache;
mod fresh;
mod pool;

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bootloader_api::info::MemoryRegion;

use self::cache::{Cache, PLACES};
use self::fresh::Fresh;
use self::pool::Pool;
use crate::address::{at, size};
use crate::lock::{Guard, Lock, Rank};
use crate::paging;
use crate::percpu;
use crate::window::PhysWindow;

/// Bytes in a page frame.
pub const FRAME_SIZE: u64 = 4096;

/// Memory below this line is left to the start-up code of application processors.
pub const LOW_MEMORY_END: u64 = 0x10_0000;

/// Memory below this line is handed out last.
///
/// Old devices reach no further, and the boot loader's code lay there: an emulator with many CPUs spends seconds on dropping its translations when they are overwritten.
const DMA_END: u64 = 0x100_0000;

/// Frames that move between a CPU and the pool at a time.
const BATCH: usize = PLACES.div_ceil(2);

/// Frames that are left to those who cannot be refused: page faults, and tables.
const SPARED: u64 = 64;

/// CPUs that have a cache of their own; with more of them, several share one.
const CACHES: usize = 256;

/// Fresh frames that are left to the holder of the pool's lock: so many that those on their way into what a CPU keeps are no
/// reason to refuse one.
const LEFT_TO_POOL: u64 = (CACHES * BATCH) as u64;

/// Bytes of stack below the caller that are mapped before the frame lock is taken.
const PROBE: u64 = 2 * FRAME_SIZE;

/// The physical address of a frame's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame(u64);

impl Frame {
    /// The frame's physical address.
    pub const fn address(self) -> u64 {
        self.0
    }

    /// The frame that holds physical address `address`.
    pub const fn containing(address: u64) -> Self {
        Self(address & !(FRAME_SIZE - 1))
    }
}

/// Counts of frames, taken at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStats {
    /// Frames under management.
    pub total: u64,
    /// Frames that can be allocated.
    pub free: u64,
}

static POOL: Lock<Pool> = Lock::new(Rank::Frames, Pool::EMPTY);

static FRESH: Fresh = Fresh::new();

static KEPT: [Cache; CACHES] = [const { Cache::new() }; CACHES];

/// What this CPU keeps. Good for whoever is moved to another CPU meanwhile, too.
fn cache_here() -> &'static Cache {
    &KEPT[percpu::of_this_cpu().id().0 as usize % CACHES]
}

/// Frames in the pool, without fresh ones, to be read without its lock.
static IN_POOL: AtomicU64 = AtomicU64::new(0);

/// CPU that holds the pool's lock, plus one; 0 when nobody does.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// The pool's lock, with its holder's number kept for [`held_here`].
struct Held(Guard<'static, Pool>);

impl Held {
    fn take() -> Self {
        probe_stack();
        Self::note(POOL.lock())
    }

    /// The same if nobody has it.
    fn try_take() -> Option<Self> {
        probe_stack();
        POOL.try_lock().map(Self::note)
    }

    fn note(pool: Guard<'static, Pool>) -> Self {
        // Relaxed: read back only by the same CPU, in a fault handler.
        HOLDER.store(percpu::of_this_cpu().id().0 + 1, Ordering::Relaxed);
        Self(pool)
    }

    /// Says how many frames are in the pool.
    fn tell(&self) {
        // Relaxed: a hint.
        IN_POOL.store(self.0.free(), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tell();
        HOLDER.store(0, Ordering::Relaxed);
    }
}

/// Takes over all usable memory of the boot loader's map, once, at boot.
///
/// Returns how many bytes had to be left unused because the map has too many holes.
pub fn init(window: PhysWindow, map: &[MemoryRegion]) -> u64 {
    Held::take().0.init(window);
    FRESH.init(window, map)
}

/// Takes a frame. Its contents are undefined. `None`: memory is used up.
pub fn alloc() -> Option<Frame> {
    let cache = cache_here();
    cache.take().or_else(|| refill(cache)).map(Frame)
}

/// Whether so few frames are left that whoever can be refused should be. Stacks in use may still come to need more.
pub fn is_short() -> bool {
    !can_spare(0)
}

/// Whether it would not be so either when this many more are taken.
pub fn can_spare(count: u64) -> bool {
    // What CPUs keep is added up only when it matters.
    not_kept() >= SPARED + count || stats().free >= SPARED + count
}

/// Frames that no CPU keeps.
fn not_kept() -> u64 {
    // Relaxed: a hint while somebody takes some or gives some back.
    IN_POOL.load(Ordering::Relaxed) + FRESH.left()
}

/// How many of so many frames can be taken before it would be so.
pub(crate) fn spare(wanted: u64) -> u64 {
    if can_spare(wanted) { wanted } else { stats().free.saturating_sub(SPARED).min(wanted) }
}

/// Gets a batch from the pool, keeps all but one of it, and returns that. If another CPU is at the pool: from fresh memory; if
/// there is little of that: what some CPU keeps.
#[cold]
fn refill(cache: &Cache) -> Option<u64> {
    if let Some(pool) = Held::try_take() {
        return refill_from(pool, cache);
    }
    fetch_fresh(cache).or_else(steal).or_else(|| refill_from(Held::take(), cache))
}

/// Holds the lock until the batch can be found by others: so no frame is in nobody's sight.
fn refill_from(mut pool: Held, cache: &Cache) -> Option<u64> {
    let mut batch = [0; BATCH];
    let taken = pool.0.take(&FRESH, &mut batch);
    // Before the CPU has them: nobody counts them twice, and takes what is spared.
    pool.tell();
    let first = keep(cache, &batch[..taken], &mut |frame| {
        // SAFETY: taken from there above.
        unsafe { pool.0.give(frame) };
    });
    first.or_else(steal)
}

/// Gets a batch of fresh frames without the lock, and keeps all but one of it.
fn fetch_fresh(cache: &Cache) -> Option<u64> {
    let mut batch = [0; BATCH];
    let taken = FRESH.take(&mut batch, LEFT_TO_POOL);
    // SAFETY: nobody has used it.
    keep(cache, &batch[..taken], &mut |frame| unsafe { give_to_pool(frame) })
}

/// Keeps all frames of a batch but the first, which it returns. A page fault of this CPU may have filled places meanwhile: what has no room goes
/// to `give`.
fn keep(cache: &Cache, batch: &[u64], give: &mut dyn FnMut(u64)) -> Option<u64> {
    let (first, rest) = batch.split_first()?;
    // The last is taken next: addresses rise.
    rest.iter().rev().filter(|frame| !cache.put(**frame)).for_each(|frame| give(*frame));
    Some(*first)
}

/// # Safety
/// As [`free`].
unsafe fn give_to_pool(frame: u64) {
    // SAFETY: the caller's contract.
    unsafe { Held::take().0.give(frame) };
}

/// Takes what some CPU keeps, the neighbours of this one first.
fn steal() -> Option<u64> {
    let (below, from) = KEPT.split_at(percpu::of_this_cpu().id().0 as usize % CACHES);
    from.iter().chain(below).find_map(Cache::steal)
}

/// Takes the frames of a huge page, and returns the first. Each of them can be given back by itself.
pub(crate) fn alloc_huge() -> Option<Frame> {
    Held::take().0.take_huge(&FRESH).map(Frame)
}

/// Takes a frame and fills it with zeros.
pub fn alloc_zeroed() -> Option<Frame> {
    let frame = alloc()?;
    let start: *mut u64 = at(paging::window().base + frame.0);
    // SAFETY: the frame is ours alone and mapped writable in the physical window.
    unsafe { ptr::write_bytes(start, 0, size(FRAME_SIZE) / size_of::<u64>()) };
    Some(frame)
}

/// Gives a frame back.
///
/// # Safety
/// 1. The frame came from [`alloc()`] or [`alloc_zeroed`] and was not given back since.
/// 2. No CPU can reach it through any mapping or stale TLB entry.
pub unsafe fn free(frame: Frame) {
    let cache = cache_here();
    if cache.put(frame.0) {
        return;
    }
    let mut pool = Held::take();
    for frame in (1..BATCH).map_while(|_| cache.take()).chain([frame.0]) {
        // SAFETY: the caller's contract, and what the CPU keeps is free.
        unsafe { pool.0.give(frame) };
    }
}

/// Frames that are mapped nowhere any more, but that TLBs may still know. Linked through themselves.
#[derive(Debug)]
#[must_use = "the frames are lost unless they are freed"]
pub struct Unmapped {
    first: u64,
    last: u64,
    count: u64,
}

impl Unmapped {
    /// None.
    pub const fn new() -> Self {
        Self { first: 0, last: 0, count: 0 }
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Adds a frame, whose contents are lost.
    pub fn add(&mut self, frame: Frame) {
        let link: *mut u64 = at(paging::window().base + frame.0);
        // SAFETY: the frame was mapped for data of its owner, who has given it up; the window maps all frames.
        unsafe { link.write(self.first) };
        if self.count == 0 {
            self.last = frame.0;
        }
        self.first = frame.0;
        self.count += 1;
    }

    /// Takes the one that was added last; its first word is 0.
    pub fn take(&mut self) -> Option<Frame> {
        let frame = Frame(self.first);
        self.count = self.count.checked_sub(1)?;
        let link: *mut u64 = at(paging::window().base + frame.0);
        // SAFETY: `add` wrote it.
        self.first = unsafe { link.read() };
        // SAFETY: as in `add`.
        unsafe { link.write(0) };
        Some(frame)
    }

    /// Gives all of them back, in a constant number of steps.
    ///
    /// # Safety
    /// All CPUs have flushed their TLBs since the last one was added.
    pub unsafe fn free(self) {
        if self.count > 0 {
            // SAFETY: taken out of their mappings by who added them, and in no TLB by the caller's contract; `add` has
            // written the links.
            unsafe { Held::take().0.give_chain(self.first, self.last, self.count) };
        }
    }
}

impl Default for Unmapped {
    fn default() -> Self {
        Self::new()
    }
}

/// The counts of now: exact when nobody takes a frame or gives one back meanwhile.
pub fn stats() -> FrameStats {
    FrameStats { total: FRESH.total(), free: not_kept() + KEPT.iter().map(Cache::len).sum::<u64>() }
}

/// Whether this CPU holds the frame lock.
pub(crate) fn held_here() -> bool {
    // Relaxed: the answer matters only when this CPU wrote it.
    HOLDER.load(Ordering::Relaxed) == percpu::of_this_cpu().id().0 + 1
}

/// Touches the pages below the stack pointer, so that the code that follows cannot fault on its stack.
pub(crate) fn probe_stack() {
    let mut depth = 0;
    while depth < PROBE {
        depth += FRAME_SIZE;
        // SAFETY: `or` of 0 changes no value. The address lies below the stack pointer, where nothing lives:
        // every interrupt has a stack of its own, and the target has no red zone. On a kernel stack the pages
        // are mapped; on a demand-mapped one the fault handler maps them; in a guard page it reports an
        // overflow that the critical section would have run into.
        unsafe {
            asm!("mov {0}, rsp", "sub {0}, {1}", "or byte ptr [{0}], 0",
                out(reg) _, in(reg) depth, options(nostack));
        }
    }
}

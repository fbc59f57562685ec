//! Physical page frames.
//!
//! Memory that nobody has used yet is handed out by a cursor over the usable regions; a frame that comes back
//! goes on a free list that is kept in the free frames themselves. So no table grows with memory, and nothing
//! is touched before it is used.
//!
//! # The page fault that must not happen
//!
//! Some stacks are mapped on first touch, so a page fault may come at any push of code that runs on one,
//! and the fault handler takes the frame lock. If the same CPU already held that lock, the handler would wait
//! for itself. Every function here therefore calls [`probe_stack`] before it takes the lock: it touches the
//! next [`PROBE`] bytes below the stack pointer, which is more than the critical sections use (they are leaf
//! code: a dozen words of locals, no formatting, no calls out). From there to the release no fault is possible.
//! `stack::handle_fault` checks the argument: [`held_here`] is a throw, not a hang.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use bootloader_api::info::MemoryRegion;

use crate::address::{at, size};
use crate::lock::{Guard, Lock, Rank};
use crate::memory_map;
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

/// Regions that the cursor can walk. Firmware reports up to about 130, most of them adjacent.
const MAX_REGIONS: usize = 192;

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

#[derive(Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
}

struct Pool {
    window: PhysWindow,
    regions: [Region; MAX_REGIONS],
    count: usize,
    /// Region and address of the next frame that was never used.
    region: usize,
    next: u64,
    /// First frame of the free list, 0 when it is empty: frame 0 is below `LOW_MEMORY_END`.
    list: u64,
    stats: FrameStats,
}

static POOL: Lock<Pool> = Lock::new(
    Rank::Frames,
    Pool {
        window: PhysWindow { base: 0, size: 0 },
        regions: [Region { start: 0, end: 0 }; MAX_REGIONS],
        count: 0,
        region: 0,
        next: 0,
        list: 0,
        stats: FrameStats { total: 0, free: 0 },
    },
);

/// CPU that holds the pool's lock, plus one; 0 when nobody does.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// The pool's lock, with its holder's number kept for [`held_here`].
struct Held(Guard<'static, Pool>);

impl Held {
    fn take() -> Self {
        probe_stack();
        let pool = POOL.lock();
        // Relaxed: read back only by the same CPU, in a fault handler.
        HOLDER.store(percpu::of_this_cpu().id().0 + 1, Ordering::Relaxed);
        Self(pool)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLDER.store(0, Ordering::Relaxed);
    }
}

/// Takes over all usable memory of the boot loader's map, once, at boot.
///
/// Returns how many bytes had to be left unused because the map has too many holes.
pub fn init(window: PhysWindow, map: &[MemoryRegion]) -> u64 {
    let mut held = Held::take();
    let pool = &mut *held.0;
    pool.window = window;
    let mut lost = 0;
    for zone in [DMA_END..window.size, LOW_MEMORY_END..DMA_END] {
        for piece in memory_map::usable(map, zone) {
            let bytes = piece.end - piece.start;
            if !pool.add(Region { start: piece.start, end: piece.end }) {
                lost += bytes;
            }
        }
    }
    pool.next = pool.regions[0].start;
    lost
}

impl Pool {
    fn add(&mut self, region: Region) -> bool {
        let last = self.count.checked_sub(1).map(|i| &mut self.regions[i]);
        match last {
            Some(last) if last.end == region.start => last.end = region.end,
            _ if self.count < MAX_REGIONS => {
                self.regions[self.count] = region;
                self.count += 1;
            }
            _ => return false,
        }
        let frames = (region.end - region.start) / FRAME_SIZE;
        self.stats.total += frames;
        self.stats.free += frames;
        true
    }

    fn alloc(&mut self) -> Option<Frame> {
        let frame = if self.list == 0 { self.advance()? } else { self.pop() };
        self.stats.free -= 1;
        Some(Frame(frame))
    }

    fn pop(&mut self) -> u64 {
        let frame = self.list;
        // SAFETY: a frame on the list is free, so its first word is ours and holds the link.
        self.list = unsafe { ptr::read(self.link(frame)) };
        frame
    }

    fn push(&mut self, frame: u64) {
        // SAFETY: the caller gave the frame back, so its first word is ours.
        unsafe { ptr::write(self.link(frame), self.list) };
        self.list = frame;
    }

    fn link(&self, frame: u64) -> *mut u64 {
        at(self.window.base + frame)
    }

    fn advance(&mut self) -> Option<u64> {
        while self.region < self.count {
            if self.next < self.regions[self.region].end {
                let frame = self.next;
                self.next += FRAME_SIZE;
                return Some(frame);
            }
            self.region += 1;
            if self.region < self.count {
                self.next = self.regions[self.region].start;
            }
        }
        None
    }
}

/// Takes a frame. Its contents are undefined. `None`: memory is used up.
pub fn alloc() -> Option<Frame> {
    Held::take().0.alloc()
}

/// Takes a frame and fills it with zeros.
pub fn alloc_zeroed() -> Option<Frame> {
    let mut held = Held::take();
    let frame = held.0.alloc()?;
    let start = held.0.link(frame.0);
    drop(held);
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
    let mut held = Held::take();
    held.0.push(frame.0);
    held.0.stats.free += 1;
}

/// Frames that are mapped nowhere any more, but that TLBs may still know. Linked through themselves.
#[derive(Debug)]
#[must_use = "the frames are lost unless they are freed"]
pub struct Unmapped {
    first: u64,
    count: u64,
}

impl Unmapped {
    /// None.
    pub const fn new() -> Self {
        Self { first: 0, count: 0 }
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
        self.first = frame.0;
        self.count += 1;
    }

    /// Gives all of them back.
    ///
    /// # Safety
    /// All CPUs have flushed their TLBs since the last one was added.
    pub unsafe fn free(self) {
        let mut next = self.first;
        while next != 0 {
            let link: *const u64 = at(paging::window().base + next);
            // SAFETY: `add` wrote it.
            let after = unsafe { link.read() };
            // SAFETY: taken out of its mapping by who added it, and in no TLB by the caller's contract.
            unsafe { free(Frame(next)) };
            next = after;
        }
    }
}

impl Default for Unmapped {
    fn default() -> Self {
        Self::new()
    }
}

/// The counts of now.
pub fn stats() -> FrameStats {
    Held::take().0.stats
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

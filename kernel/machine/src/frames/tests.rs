//! Made memory maps.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use super::super::fresh::{Fresh, MAX_REGIONS};
use super::super::{DMA_END, FRAME_SIZE, LOW_MEMORY_END};
use super::Pool;
use crate::window::PhysWindow;

const USABLE: MemoryRegionKind = MemoryRegionKind::Usable;
const KINDS: [MemoryRegionKind; 4] = [
    MemoryRegionKind::Bootloader,
    MemoryRegionKind::UnknownUefi(7),
    MemoryRegionKind::UnknownBios(2),
    MemoryRegionKind::UnknownBios(5),
];

const fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
    MemoryRegion { start, end, kind }
}

/// A pool over a map whose memory does not exist: it is handed out, and not touched.
struct Frames {
    pool: Pool,
    fresh: Box<Fresh>,
}

impl Frames {
    fn take(&mut self, into: &mut [u64]) -> usize {
        self.pool.take(&self.fresh, into)
    }

    fn free(&self) -> u64 {
        self.pool.free() + self.fresh.left()
    }
}

fn pool(map: &[MemoryRegion]) -> (Frames, u64) {
    let size = map.iter().map(|region| region.end).max().unwrap_or(0);
    pool_in(PhysWindow { base: 0, size }, map)
}

fn pool_in(window: PhysWindow, map: &[MemoryRegion]) -> (Frames, u64) {
    let mut frames = Frames { pool: Pool::EMPTY, fresh: Box::new(Fresh::new()) };
    frames.pool.init(window);
    let lost = frames.fresh.init(window, map);
    (frames, lost)
}

fn drain(pool: &mut Frames) -> Vec<u64> {
    let mut batch = [0; 16];
    let mut all = Vec::new();
    loop {
        let taken = pool.take(&mut batch);
        all.extend_from_slice(&batch[..taken]);
        if taken < batch.len() {
            return all;
        }
    }
}

#[test]
fn a_small_machine_has_all_its_frames_handed_out_once() {
    let (mut pool, lost) = pool(&[
        region(0, 0x9_fc00, USABLE),
        region(0x9_fc00, LOW_MEMORY_END, KINDS[2]),
        region(LOW_MEMORY_END, 64 << 20, USABLE),
    ]);
    let frames = ((64 << 20) - LOW_MEMORY_END) / FRAME_SIZE;
    assert_eq!((pool.fresh.total(), pool.free(), lost), (frames, frames, 0));
    let mut all = drain(&mut pool);
    assert!(all[0] >= DMA_END, "memory that old devices reach goes last");
    all.sort_unstable();
    assert!(all.iter().copied().eq((LOW_MEMORY_END..64 << 20).step_by(4096)));
    assert_eq!(pool.free(), 0);
}

#[test]
fn half_a_terabyte_is_counted_and_handed_out() {
    const HOLE: u64 = 3 << 30;
    const END: u64 = (512 << 30) + (1 << 30);
    let (mut pool, lost) =
        pool(&[region(0, HOLE, USABLE), region(HOLE, 4 << 30, KINDS[2]), region(4 << 30, END, USABLE)]);
    let frames = (HOLE - LOW_MEMORY_END + END - (4 << 30)) / FRAME_SIZE;
    assert_eq!((pool.fresh.total(), lost), (frames, 0));
    // The cursor at the hole, and at the end of memory.
    let mut batch = vec![0; usize::try_from((HOLE - DMA_END) / FRAME_SIZE).expect("64 bits") + 1];
    assert_eq!(pool.take(&mut batch), batch.len());
    assert_eq!(batch[batch.len() - 2..], [HOLE - FRAME_SIZE, 4 << 30]);
    let low = (DMA_END - LOW_MEMORY_END) / FRAME_SIZE;
    pool.fresh.leave(low + 1);
    let mut two = [0; 2];
    assert_eq!(pool.take(&mut two), 2);
    assert_eq!(two, [END - FRAME_SIZE, LOW_MEMORY_END], "then what was kept for the last");
}

#[test]
fn holes_of_any_kind_are_left_out() {
    // Pieces of three frames with holes of one, of two, of half a frame between them.
    let mut map = Vec::new();
    let (mut at, mut wanted) = (DMA_END, Vec::new());
    for n in 0..250 {
        let hole = [FRAME_SIZE, 2 * FRAME_SIZE, FRAME_SIZE / 2][n % 3];
        map.push(region(at, at + 3 * FRAME_SIZE, USABLE));
        map.push(region(at + 3 * FRAME_SIZE, at + 3 * FRAME_SIZE + hole, KINDS[n % 4]));
        let (first, end) = (at.next_multiple_of(FRAME_SIZE), (at + 3 * FRAME_SIZE) & !(FRAME_SIZE - 1));
        wanted.extend((first..end).step_by(4096));
        at += 3 * FRAME_SIZE + hole;
    }
    let (mut pool, lost) = pool(&map);
    assert_eq!(lost, 0);
    assert_eq!(pool.fresh.total(), wanted.len() as u64);
    assert_eq!(drain(&mut pool), wanted);
}

#[test]
fn what_has_no_place_in_the_table_is_said() {
    let pieces = MAX_REGIONS as u64 + 5;
    let map: Vec<MemoryRegion> = (0..pieces)
        .map(|n| DMA_END + n * 4 * FRAME_SIZE)
        .map(|at| region(at, at + FRAME_SIZE, USABLE))
        .collect();
    let (pool, lost) = pool(&map);
    assert_eq!((pool.fresh.total(), lost), (MAX_REGIONS as u64, 5 * FRAME_SIZE));
}

#[test]
fn what_comes_back_is_handed_out_again() {
    let frames = 8_u64;
    let mut memory = vec![0_u64; 512 * 9];
    // Physical addresses begin at `DMA_END`, and the window shows them in the vector.
    let start = (memory.as_mut_ptr().expose_provenance() as u64).next_multiple_of(FRAME_SIZE);
    let window = PhysWindow { base: start.wrapping_sub(DMA_END), size: DMA_END + frames * FRAME_SIZE };
    let (mut pool, lost) = pool_in(window, &[region(DMA_END, window.size, USABLE)]);
    assert_eq!(lost, 0);
    let all = drain(&mut pool);
    assert_eq!(all.len() as u64, frames);
    for &frame in &all[1..4] {
        // SAFETY: it came from the pool, and its memory is that of the vector.
        unsafe { pool.pool.give(frame) };
    }
    // A chain of two goes back in one step.
    // SAFETY: the frame's memory is that of the vector.
    unsafe { pool.pool.link(all[0]).write(all[4]) };
    // SAFETY: both came from the pool, and the first holds the address of the second.
    unsafe { pool.pool.give_chain(all[0], all[4], 2) };
    assert_eq!(pool.free(), 5);
    let again = drain(&mut pool);
    assert_eq!(again, [all[0], all[4], all[3], all[2], all[1]]);
    drop(memory);
}

#[test]
fn fresh_frames_are_taken_once_by_many_and_some_are_left() {
    const FRAMES: u64 = if cfg!(miri) { 300 } else { 100_000 };
    let (mut pool, _) = pool(&[
        region(DMA_END, DMA_END + 100 * FRAME_SIZE, USABLE),
        region(DMA_END + 200 * FRAME_SIZE, DMA_END + (FRAMES + 100) * FRAME_SIZE, USABLE),
    ]);
    let fresh = &pool.fresh;
    let take = || {
        let (mut all, mut batch) = (Vec::new(), [0; 16]);
        loop {
            let taken = fresh.take(&mut batch, 50);
            all.extend_from_slice(&batch[..taken]);
            if taken == 0 {
                return all;
            }
        }
    };
    let mut all: Vec<u64> = std::thread::scope(|s| {
        let threads = [(); 3].map(|()| s.spawn(take));
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!((all.len() as u64, pool.free()), (FRAMES - 50, 50));
    all.extend(drain(&mut pool));
    all.sort_unstable();
    let (first, second) = (DMA_END..DMA_END + 100 * FRAME_SIZE, DMA_END + 200 * FRAME_SIZE..);
    let wanted = first.step_by(4096).chain(second.step_by(4096).take(all.len() - 100));
    assert!(all.iter().copied().eq(wanted), "each once");
}

#[test]
fn a_huge_page_leaves_out_what_is_before_it_once() {
    const HUGE: u64 = 2 << 20;
    let start = DMA_END + HUGE - 3 * FRAME_SIZE;
    let (mut pool, _) = pool(&[region(start, DMA_END + 4 * HUGE + FRAME_SIZE, USABLE)]);
    let all = pool.free();
    assert_eq!(pool.pool.take_huge(&pool.fresh), Some(DMA_END + HUGE));
    assert_eq!(pool.free(), all - HUGE / FRAME_SIZE, "what was left out is free");
    assert_eq!(pool.pool.take_huge(&pool.fresh), Some(DMA_END + 2 * HUGE), "nothing is to be left out");
    let mut batch = [0; 2];
    assert_eq!(pool.take(&mut batch), 2);
    assert_eq!(batch, [start, start + FRAME_SIZE]);
    assert_eq!(pool.fresh.take(&mut batch, 0), 2);
    assert_eq!(pool.pool.take_huge(&pool.fresh), None, "one range is left out already, and no other fits");
    assert_eq!(drain(&mut pool).len() as u64, all - 2 * HUGE / FRAME_SIZE - 4);
}

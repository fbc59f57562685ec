//! The allocator under load: what it has counted, what it keeps, and what it gives back.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::mem;
use core::sync::atomic::AtomicU32;

use gzero::sync::Mutex;
use gzero::{MemStats, free_os_memory, go, read_mem_stats, semacquire, semrelease, size_class, stats};
use tests::block::Block;
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        sums_over_classes_are_what_was_asked_for,
        blocks_are_aligned_up_to_2_mib,
        empty_spans_go_back_by_themselves,
        memory_in_use_comes_back_and_the_arena_stays,
        large_requests_on_all_cpus_do_not_overlap,
        a_large_block_needs_few_page_tables,
    ],
    dies: [],
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

/// Some of the numbers, when nobody else allocates.
struct Numbers {
    live: u64,
    in_use: u64,
    sys: u64,
    released: u64,
    classes: usize,
}

/// The numbers without the memory that they are kept in.
fn numbers() -> Numbers {
    wait_until_alone();
    let mut stats = MemStats::default();
    read_mem_stats(&mut stats);
    let MemStats { heap_alloc: live, heap_inuse: in_use, heap_sys: sys, heap_released: released, .. } = stats;
    Numbers { live, in_use, sys, released, classes: stats.by_size.len() }
}

/// Some layouts of each class, and some of none: how many of the class with a number depends on that.
fn some_of_each(classes: usize) -> Vec<Layout> {
    let sizes = (1..=64 << 10).step_by(8).map(|size| layout(size, 8));
    let mut counts = alloc::vec![0; classes];
    let few = |layout: &Layout| {
        let class = size_class(*layout).expect("small");
        counts[class] += 1;
        counts[class] <= 1 + class % 7
    };
    let large = [70_000, 100_000, 1 << 20].map(|size| layout(size, 8));
    sizes.filter(few).chain(large).collect()
}

/// Goroutines that allocate.
const WORKERS: usize = 4;
/// Each goes on once for each unit of its own, and says when it has done a step.
static GO_ON: [AtomicU32; WORKERS] = [const { AtomicU32::new(0) }; WORKERS];
static DONE: AtomicU32 = AtomicU32::new(0);

/// Fills in the numbers after the next step of all workers.
fn after_a_step(stats: &mut MemStats) {
    GO_ON.iter().for_each(semrelease);
    (0..WORKERS).for_each(|_| semacquire(&DONE));
    read_mem_stats(stats);
}

fn step(go_on: &AtomicU32) {
    semrelease(&DONE);
    semacquire(go_on);
}

/// Takes a block of each layout, on whatever CPU, and gives them back on others.
fn sums_over_classes_are_what_was_asked_for() -> Verdict {
    let layouts = Arc::new(some_of_each(numbers().classes));
    // What the runtime makes once is made in the first round.
    take_and_give_back(&layouts);
    let [before, during, after] = take_and_give_back(&layouts);
    compare(&layouts, &before, &during, &after)
}

fn take_and_give_back(layouts: &Arc<Vec<Layout>>) -> [MemStats; 3] {
    let blocks: Arc<Mutex<Vec<Block>>> = Arc::new(Mutex::new(Vec::with_capacity(10_000)));
    for go_on in &GO_ON {
        let (layouts, blocks) = (Arc::clone(layouts), Arc::clone(&blocks));
        go(move || {
            semacquire(go_on);
            step(go_on);
            for layout in layouts.iter() {
                let block = Block::new(*layout, 9);
                blocks.lock().push(block);
            }
            step(go_on);
            let give_back = || blocks.lock().pop();
            while give_back().is_some() {}
            step(go_on);
        });
    }
    // All of it is there before the first.
    let mut stats = [(); 3].map(|()| MemStats::default());
    stats.iter_mut().for_each(after_a_step);
    GO_ON.iter().for_each(semrelease);
    wait_until_alone();
    stats
}

fn compare(layouts: &[Layout], before: &MemStats, during: &MemStats, after: &MemStats) -> Verdict {
    let mut bytes = 0;
    for (number, class) in before.by_size.iter().enumerate() {
        let asked = WORKERS as u64
            * layouts.iter().filter(|layout| size_class(**layout) == Some(number)).count() as u64;
        let name = alloc::format!("of {} bytes", class.size);
        let (during, after) = (during.by_size[number], after.by_size[number]);
        equal(&alloc::format!("mallocs {name}"), &(during.mallocs - class.mallocs), &asked)?;
        equal(&alloc::format!("frees {name} at first"), &(during.frees - class.frees), &0)?;
        equal(&alloc::format!("mallocs {name} afterwards"), &(after.mallocs - class.mallocs), &asked)?;
        equal(&alloc::format!("frees {name}"), &(after.frees - class.frees), &asked)?;
        bytes += asked * class.size;
    }
    let large = layouts.iter().filter(|layout| size_class(**layout).is_none());
    let large = large.map(|layout| layout.size().next_multiple_of(4096) as u64 * WORKERS as u64).sum::<u64>();
    equal("large blocks", &(during.large.mallocs - before.large.mallocs), &(3 * WORKERS as u64))?;
    equal("live bytes", &(during.heap_alloc - before.heap_alloc), &(bytes + large))?;
    equal("bytes handed out", &(during.total_alloc - before.total_alloc), &(bytes + large))?;
    equal("live bytes afterwards", &after.heap_alloc, &before.heap_alloc)?;
    equal("live blocks afterwards", &after.heap_objects, &before.heap_objects)
}

fn blocks_are_aligned_up_to_2_mib() -> Verdict {
    let before = numbers();
    for _ in 0..3 {
        let mut blocks = Vec::new();
        for power in 0..=21 {
            for size in [1, 100, 5_000, 70_000] {
                blocks.push(Block::new(layout(size, 1 << power), power));
            }
        }
        equal("blocks where they should be", &blocks.iter().filter(|block| block.is_whole()).count(), &88)?;
        drop(blocks);
        free_os_memory();
    }
    equal("live bytes", &numbers().live, &before.live)
}

/// Nobody asks for it: spans in which nothing is out go back to the arena, but for one of a class.
fn empty_spans_go_back_by_themselves() -> Verdict {
    let before = numbers();
    for size in [16, 200, 3_000, 40_000] {
        let blocks: Vec<Block> = (0..(8 << 20) / size).map(|_| Block::new(layout(size, 8), 1)).collect();
        drop(blocks);
    }
    let after = numbers();
    // In each of the five classes: one empty span, and what lies in magazines keeps up to its number of spans.
    let kept = (after.in_use - before.in_use) >> 20;
    equal("MiB that are kept, beyond 3", &kept.saturating_sub(3), &0)
}

/// Goroutines that take blocks of 8 B to 64 KiB, keep some, give half of the others back and leave the rest to the next.
struct Mix {
    boxes: Vec<Mutex<Vec<Block>>>,
    operations: usize,
}

impl Mix {
    fn run(operations: usize, seed: u64) {
        let boxes = (0..WORKERS).map(|_| Mutex::new(Vec::new())).collect();
        let mix = Arc::new(Self { boxes, operations });
        for id in 0..WORKERS {
            let mix = Arc::clone(&mix);
            go(move || mix.work(id, seed));
        }
        drop(mix);
        wait_until_alone();
    }

    fn work(&self, id: usize, seed: u64) {
        let mut random = Random::new(seed * 100 + id as u64);
        let mut kept: Vec<Option<Block>> = (0..256).map(|_| None).collect();
        let mut outgoing = Vec::new();
        for _ in 0..self.operations {
            let largest = 8 << random.below(14);
            let block = Block::new(layout(largest - random.index(largest / 2), 8), 7);
            let at = random.index(kept.len());
            let Some(old) = kept[at].replace(block) else { continue };
            assert!(old.is_whole(), "nobody else writes to it");
            if random.below(2) == 0 {
                outgoing.push(old);
            }
            if outgoing.len() == 64 {
                self.pass_on(id, &mut outgoing);
                drop(mem::take(&mut *self.boxes[id].lock()));
            }
        }
    }
}

impl Mix {
    /// Leaves blocks to the next, or gives them back when that one has many: how much lives at once is bounded, however
    /// unevenly CPUs run.
    fn pass_on(&self, id: usize, blocks: &mut Vec<Block>) {
        let mut next = self.boxes[(id + 1) % WORKERS].lock();
        if next.len() < 256 {
            next.append(blocks);
        }
        drop(next);
        blocks.clear();
    }
}

/// What is in use afterwards is what was before, and after some rounds the arena has all it needs.
fn memory_in_use_comes_back_and_the_arena_stays() -> Verdict {
    const ROUNDS: u64 = 40;
    let mut sys = Vec::with_capacity(100);
    // What the runtime makes once is made before.
    Mix::run(1_000, 100);
    let before = numbers();
    for round in 0..ROUNDS {
        Mix::run(5_000, round);
        let after = numbers();
        equal("live bytes", &after.live, &before.live)?;
        sys.push(after.sys);
    }
    let (warm, end) = (sys[9], sys[sys.len() - 1]);
    // How much lives at once depends on how many work at the same time; what was handed out meanwhile is a thousand times as much.
    equal("MiB that the arena grew by", &((end - warm) >> 20).saturating_sub(16), &0)?;
    free_os_memory();
    let rest = numbers();
    equal("KiB in use beyond those of before", &(rest.in_use.saturating_sub(before.in_use) >> 10), &0)?;
    // A run that was lost is neither in use nor given back.
    let lost = rest.sys - rest.released - rest.in_use;
    equal("KiB that are nobody's, beyond a few", &(lost >> 10).saturating_sub(64), &0)
}

fn large_requests_on_all_cpus_do_not_overlap() -> Verdict {
    let before = numbers();
    let free = stats::memory().free / 4;
    let size = usize::try_from(free).unwrap_or(0).min(24 << 20) / 4;
    for round in 0..5_u8 {
        let broken = Arc::new(Mutex::new(0));
        for n in 0..4 {
            let broken = Arc::clone(&broken);
            go(move || {
                let block = Block::new(layout(size + usize::from(n) * 4096, 8), 16 * round + n);
                gzero::gosched();
                *broken.lock() += u32::from(!block.is_whole());
            });
        }
        wait_until_alone();
        equal("blocks that changed", &*broken.lock(), &0)?;
        free_os_memory();
    }
    equal("live bytes", &numbers().live, &before.live)
}

/// Where the arena has not been before it is mapped by pages of 2 MiB, which also come back.
fn a_large_block_needs_few_page_tables() -> Verdict {
    let numbers = |stats: &mut MemStats| {
        read_mem_stats(stats);
        stats.other_sys / 4096
    };
    let mut stats = MemStats::default();
    free_os_memory();
    let (before, frames) = (numbers(&mut stats), stats::memory().free);
    let size = usize::try_from(frames / 4).unwrap_or(0).max(128 << 20);
    let block = Block::new(layout(size, 8), 5);
    let tables = numbers(&mut stats) - before;
    equal("it is whole", &block.is_whole(), &true)?;
    // Who maps small pages meanwhile keeps a huge one from beginning where it could.
    equal("page tables, beyond those for a quarter of it", &tables.saturating_sub((size >> 23) as u64), &0)?;
    drop(block);
    free_os_memory();
    let lost = frames.saturating_sub(stats::memory().free);
    // Tables stay, and descriptions.
    equal("MiB that did not come back", &(lost >> 20), &0)
}

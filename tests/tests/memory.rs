//! The heap and its numbers, counted while the world stands still.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use gzero::fd::{self, FdError};
use gzero::{
    Builder, JoinHandle, Mailbox, MemStats, StopReason, free_os_memory, go, go_with, gosched, heap,
    num_goroutine, read_mem_stats, semacquire, semrelease, stats, stop_the_world, testing, world,
    write_heap_dump,
};
use tests::block::{Block, layout};
use tests::{Random, Verdict, deep, equal, wait_until_alone};

tests::image! {
    pass: [
        blocks_of_all_sizes_keep_their_contents,
        blocks_move_between_cpus,
        live_blocks_are_found_once,
        interior_pointers_find_their_block,
        numbers_agree_with_what_is_there,
        sys_is_all_that_was_taken_from_the_machine,
        numbers_count_what_is_done,
        numbers_under_load,
        stops_are_counted_with_their_pauses,
        memory_is_given_back_and_used_again,
        stacks_are_given_back_and_used_again,
        stacks_are_counted_as_a_walk_finds_them,
        memory_can_be_given_back_under_load,
        a_large_block_can_come_and_go,
        a_small_block_brings_little_back,
        a_machine_without_memory_goes_on,
        a_heap_dump_is_not_empty,
        heap_dumps_under_load,
        a_bad_descriptor_is_named_and_stops_nobody,
    ],
    dies: [
        ("panic", "free of a block that is not allocated", a_block_given_back_twice),
        ("throw", "read_mem_stats not on the G stack", read_mem_stats_inside_of_on_m),
        ("throw", "read_mem_stats not on the G stack", read_mem_stats_on_the_kernel_stack),
        ("throw", "read_mem_stats not on the G stack", read_mem_stats_in_an_interrupt_handler),
        ("throw", "free_os_memory not on the G stack", free_os_memory_inside_of_on_m),
        ("throw", "write_heap_dump not on the G stack", write_heap_dump_inside_of_on_m),
        ("throw", "write_heap_dump not on the G stack", write_heap_dump_on_the_kernel_stack),
        ("throw", "write_heap_dump not on the G stack", write_heap_dump_in_an_interrupt_handler),
    ],
}

fn blocks_of_all_sizes_keep_their_contents() -> Verdict {
    let before = heap::stats().live;
    let mut random = Random::new(3);
    let mut blocks: Vec<Block> = Vec::new();
    let mut broken = 0;
    for round in 0..20_000_u32 {
        if blocks.len() < 200 || random.below(2) == 0 {
            blocks.push(Block::new(layout(&mut random), round.to_le_bytes()[0]));
        } else {
            let at = random.index(blocks.len());
            broken += u32::from(!blocks.swap_remove(at).is_whole());
        }
        if blocks.len() > 400 {
            blocks.truncate(200);
        }
    }
    broken += blocks.iter().map(|block| u32::from(!block.is_whole())).sum::<u32>();
    drop(blocks);
    equal("blocks that changed", &broken, &0)?;
    equal("bytes in use afterwards", &heap::stats().live, &before)
}

/// Blocks are given back by other goroutines, on whatever CPU they are, than took them.
fn blocks_move_between_cpus() -> Verdict {
    wait_until_alone();
    let workers = 2 * stats::gomaxprocs();
    let mailboxes: Arc<Vec<Mailbox<Block>>> = Arc::new((0..workers).map(|_| Mailbox::new()).collect());
    let broken = Arc::new(AtomicU64::new(0));
    let before = heap::stats().live;
    for n in 0..workers {
        let (mailboxes, broken) = (Arc::clone(&mailboxes), Arc::clone(&broken));
        go(move || {
            let mut random = Random::new(n as u64);
            for _ in 0..2_000 {
                let mark = random.below(256).to_le_bytes()[0];
                if let Err(block) =
                    mailboxes[(n + 1) % workers].try_put(Block::new(layout(&mut random), mark))
                {
                    drop(block);
                }
                if let Some(block) = mailboxes[n].try_take() {
                    broken.fetch_add(u64::from(!block.is_whole()), Ordering::Relaxed);
                }
            }
        });
    }
    wait_until_alone();
    mailboxes.iter().for_each(|mailbox| drop(mailbox.try_take()));
    equal("blocks that changed", &broken.load(Ordering::Relaxed), &0)?;
    equal("bytes in use afterwards", &heap::stats().live, &before)
}

fn live_blocks_are_found_once() -> Verdict {
    let mut random = Random::new(11);
    let mut blocks: Vec<Block> = (0..500).map(|_| Block::new(layout(&mut random), 1)).collect();
    // Holes between them.
    for at in (0..250).rev() {
        blocks.swap_remove(at * 2);
    }
    let mut found: Vec<(u64, u64)> = Vec::with_capacity(100_000);
    let world = stop_the_world(StopReason::Program);
    heap::for_each_live(|start, size| found.push((start, size)));
    drop(world);
    found.sort_unstable();
    let overlap = found.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0);
    equal("blocks that overlap", &overlap, &false)?;
    for block in &blocks {
        let holds = |(start, size): &&(u64, u64)| {
            *start <= block.address() && block.address() + block.layout.size() as u64 <= start + size
        };
        equal("times that a block was found", &found.iter().filter(holds).count(), &1)?;
    }
    Ok(())
}

fn interior_pointers_find_their_block() -> Verdict {
    let mut random = Random::new(12);
    for _ in 0..500 {
        let block = Block::new(layout(&mut random), 2);
        let inside = block.address() + random.below(block.layout.size() as u64);
        let (start, size) = heap::block_of(inside).unwrap_or_default();
        equal("it holds the address", &(start <= inside && inside < start + size), &true)?;
        let address = block.address();
        drop(block);
        equal("after it was given back", &heap::block_of(address), &None)?;
    }
    for outside in [0, 0x1000, u64::MAX, 0xffff_e7ff_ffff_f000] {
        equal("a block where there is none", &heap::block_of(outside), &None)?;
    }
    Ok(())
}

/// What the counters say, and what a walk over all blocks finds, in one stop.
fn numbers_agree_with_what_is_there() -> Verdict {
    let load = Load::start();
    for _ in 0..30 {
        let (mut blocks, mut bytes) = (0, 0);
        let world = stop_the_world(StopReason::Program);
        heap::for_each_live(|_, size| (blocks, bytes) = (blocks + 1, bytes + size));
        let stats = heap::stats();
        drop(world);
        equal("blocks", &stats.objects, &blocks)?;
        equal("bytes", &stats.live, &bytes)?;
    }
    load.end();
    Ok(())
}

/// Every page frame that is not free is in one of the numbers.
fn sys_is_all_that_was_taken_from_the_machine() -> Verdict {
    wait_until_alone();
    let mut stats = MemStats::default();
    // What is only made once is made before.
    read_mem_stats(&mut stats);
    free_os_memory();
    let frames = stats::memory();
    read_mem_stats(&mut stats);
    let parts = stats.heap_sys + stats.stack_sys + stats.mspan_sys + stats.other_sys;
    equal("the sum of the parts", &stats.sys, &parts)?;
    equal("bytes of page frames in use", &(stats.sys - stats.heap_released), &(frames.total - frames.free))
}

fn numbers_count_what_is_done() -> Verdict {
    let (mut before, mut after) = (MemStats::default(), MemStats::default());
    read_mem_stats(&mut before);
    let blocks: Vec<Box<[u64; 13]>> = (0..1_000).map(|n| Box::new([n; 13])).collect();
    let large = black_box(alloc::vec![1_u8; 100_000]);
    read_mem_stats(&mut after);
    let class = gzero::size_class(Layout::new::<[u64; 13]>()).expect("small");
    let (old, new) = (before.by_size[class], after.by_size[class]);
    equal("size of the class", &new.size, &112)?;
    equal("blocks taken", &(new.mallocs - old.mallocs >= 1_000), &true)?;
    equal("large blocks taken", &(after.large.mallocs > before.large.mallocs), &true)?;
    equal("live bytes", &(after.heap_alloc >= before.heap_alloc + 112_000 + 100_000), &true)?;
    drop((blocks, large));
    read_mem_stats(&mut after);
    let live = after.by_size[class].mallocs - after.by_size[class].frees;
    equal("live blocks of the class", &live, &(old.mallocs - old.frees))?;
    equal("live bytes", &after.heap_alloc, &before.heap_alloc)
}

/// Goroutines that allocate, keep some, and give back.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for n in 0..2 * stats::gomaxprocs() as u64 {
            let stop = Arc::clone(&stop);
            go(move || {
                let mut random = Random::new(n);
                while !stop.load(Ordering::Relaxed) {
                    drop((0..30).map(|_| Block::new(layout(&mut random), 3)).collect::<Vec<_>>());
                }
            });
        }
        Self(stop)
    }

    fn end(self) {
        self.0.store(true, Ordering::Relaxed);
        wait_until_alone();
    }
}

/// Go's `TestReadMemStats`: the sums agree whenever one looks.
fn numbers_under_load() -> Verdict {
    let load = Load::start();
    let mut stats = MemStats::default();
    for _ in 0..30 {
        read_mem_stats(&mut stats);
        let small: u64 = stats.by_size.iter().map(|class| class.size * (class.mallocs - class.frees)).sum();
        equal("live bytes at least those of the classes", &(stats.heap_alloc >= small), &true)?;
        let blocks = stats.by_size.iter().chain([&stats.large]);
        let (mallocs, frees) = blocks.fold((0, 0), |sum, class| (sum.0 + class.mallocs, sum.1 + class.frees));
        equal("mallocs", &stats.mallocs, &mallocs)?;
        equal("frees", &stats.frees, &frees)?;
        equal("objects", &stats.heap_objects, &(mallocs - frees))?;
        equal("idle and in use", &(stats.heap_idle + stats.heap_inuse), &stats.heap_sys)?;
        equal("live blocks fit", &(stats.heap_alloc <= stats.heap_inuse), &true)?;
        equal("goroutines", &stats.num_goroutine, &(1 + 2 * stats::gomaxprocs() as u64))?;
    }
    load.end();
    Ok(())
}

fn stops_are_counted_with_their_pauses() -> Verdict {
    let (mut before, mut after) = (MemStats::default(), MemStats::default());
    read_mem_stats(&mut before);
    (0..300).for_each(|_| drop(stop_the_world(StopReason::Program)));
    read_mem_stats(&mut after);
    equal("stops", &(after.num_stops - before.num_stops), &301)?;
    equal("pauses that are kept", &after.pause_ns.iter().filter(|pause| **pause > 0).count(), &256)?;
    let last = usize::try_from((after.num_stops - 1) % 256).expect("below 256");
    equal("the last pause ended last", &after.pause_end.iter().max(), &Some(&after.pause_end[last]))?;
    let kept: u64 = after.pause_ns.iter().sum();
    equal("all pauses together", &(after.pause_total_ns >= kept), &true)
}

fn memory_is_given_back_and_used_again() -> Verdict {
    for round in 0..3_u8 {
        let blocks: Vec<Block> = (0..64)
            .map(|n| Block::new(Layout::from_size_align(200_000 + n, 8).expect("a layout"), round))
            .collect();
        drop(blocks);
        let before = stats::memory();
        let freed = free_os_memory();
        let after = stats::memory();
        equal("much was given back", &(freed > 8 << 20), &true)?;
        // Stacks may have grown by some pages meanwhile.
        let gained = after.free - before.free;
        equal("frames that came back", &(gained <= freed && gained + (64 << 10) >= freed), &true)?;
        let mut stats = MemStats::default();
        read_mem_stats(&mut stats);
        equal("released", &(stats.heap_released > 8 << 20), &true)?;
    }
    blocks_of_all_sizes_keep_their_contents()
}

fn stacks_are_given_back_and_used_again() -> Verdict {
    /// Opens when all goroutines are there: each then has a stack of its own.
    static GATE: AtomicU32 = AtomicU32::new(0);
    let sum = Arc::new(AtomicU64::new(0));
    for _ in 0..3 {
        for n in 0..1_000 {
            let sum = Arc::clone(&sum);
            go(move || {
                let words = black_box([n; 200]);
                semacquire(&GATE);
                sum.fetch_add(words.iter().sum::<u64>() / 200, Ordering::Relaxed);
            });
        }
        (0..1_000).for_each(|_| semrelease(&GATE));
        wait_until_alone();
        equal("stacks that were given back", &(free_os_memory() >= 1_000 * 4096), &true)?;
        equal("stacks that are kept", &stats::memory().idle_stacks, &0)?;
    }
    equal("sum", &sum.load(Ordering::Relaxed), &(3 * 1_000 * 999 / 2))
}

/// Stacks of one page and of several, large ones, of goroutines that live, have ended, and are joined.
fn stacks_are_counted_as_a_walk_finds_them() -> Verdict {
    static GATE: AtomicU32 = AtomicU32::new(0);
    let mut stats = MemStats::default();
    let mut agree = |when: &str| {
        read_mem_stats(&mut stats);
        let stats::MemoryInUse { stacks, idle_stacks, .. } = stats::memory();
        equal(when, &(stats.stack_inuse, stats.stack_sys), &(stacks, stacks + idle_stacks))
    };
    for round in 0..3 {
        let start = |n: usize| {
            let size = [Builder::DEFAULT_STACK_SIZE, Builder::MAX_STACK_SIZE, 32 * 1024][n % 3];
            let body = move || if n.is_multiple_of(2) { semacquire(&GATE) } else { deep(15) };
            go_with(Builder::new().stack_size(size), body).expect("memory for a goroutine")
        };
        let handles: Vec<_> = (0..100 + 50 * round).map(start).collect();
        let waiting = || handles.iter().filter(|g| testing::waits_for(g.id()).is_some()).count() as u64;
        while num_goroutine() > 1 + waiting() {
            gosched();
        }
        agree("some have ended")?;
        (0..handles.len().div_ceil(2)).for_each(|_| semrelease(&GATE));
        wait_until_alone();
        agree("all have ended")?;
        handles.into_iter().for_each(JoinHandle::join);
        agree("all are joined")?;
        free_os_memory();
        agree("what is unused was given back")?;
    }
    Ok(())
}

fn memory_can_be_given_back_under_load() -> Verdict {
    let load = Load::start();
    for _ in 0..50 {
        free_os_memory();
        gosched();
    }
    load.end();
    blocks_move_between_cpus()
}

/// What was unmapped serves a block as large as before, together with what is mapped beside it: the arena does not grow.
fn a_large_block_can_come_and_go() -> Verdict {
    let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
    let mut first = u64::MAX;
    for round in 0..200_u8 {
        let block = Block::new(layout(5 << 20), round);
        let sys = heap::stats().sys;
        first = first.min(sys);
        equal("bytes that the arena grew by", &(sys - first).saturating_sub(2 << 20), &0)?;
        drop(block);
        free_os_memory();
        // The beginning of the run is mapped now, and free again.
        drop(Block::new(layout(3 << 19), round));
    }
    Ok(())
}

/// A piece that is not mapped is cut: only what is asked for is mapped again.
fn a_small_block_brings_little_back() -> Verdict {
    drop(Block::new(Layout::from_size_align(32 << 20, 8).expect("a layout"), 1));
    free_os_memory();
    let before = heap::stats().released;
    equal("much is unmapped", &(before >= 32 << 20), &true)?;
    let block = Block::new(Layout::from_size_align(100_000, 8).expect("a layout"), 2);
    let after = heap::stats().released;
    equal("it was mapped again", &(before > after), &true)?;
    equal("no more than was asked for", &(before - after <= 128 << 10), &true)?;
    equal("it is whole", &block.is_whole(), &true)
}

/// Takes all memory that can be had, in blocks of 64 MiB and less. Returns how much that was.
fn take_everything() -> Result<usize, Cow<'static, str>> {
    let mut hoard: Vec<Vec<u8>> = Vec::with_capacity(4_096);
    let mut size = 64 << 20;
    let take = |size| {
        let mut block = Vec::<u8>::new();
        block.try_reserve_exact(size).is_ok().then_some(block)
    };
    while size >= 4_096 && hoard.len() < hoard.capacity() {
        if let Some(block) = take(size) {
            hoard.push(block);
        } else {
            equal("a no that became a yes", &take(size).is_some(), &false)?;
            size /= 2;
        }
    }
    equal("it said no", &(size < 64 << 20), &true)?;
    Ok(hoard.iter().map(Vec::capacity).sum())
}

/// Unmaps runs of 32 MiB with blocks in use between them, which are returned.
fn unmap_between_blocks() -> Vec<Block> {
    let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
    let (runs, fences): (Vec<_>, Vec<_>) =
        (0..4).map(|n| (Block::new(layout(32 << 20), n), Block::new(layout(40_000), n))).unzip();
    drop(runs);
    free_os_memory();
    fences
}

/// Everything that can be had is taken; the allocator then says no, and all works again afterwards.
///
/// No memory is lost by that, also when it ends while a run that had been unmapped is mapped again.
fn a_machine_without_memory_goes_on() -> Verdict {
    for _ in 0..3 {
        let fences = unmap_between_blocks();
        let (free, before) = (stats::memory().free, stats::memory().available());
        let taken = take_everything()? as u64;
        let lost = before.saturating_sub(stats::memory().available());
        // Stacks may have grown by some pages meanwhile.
        equal("bytes that were lost", &lost.saturating_sub(64 << 10), &0)?;
        // But for tables.
        equal("nearly all was had", &(taken + (16 << 20) >= free), &true)?;
        equal("the fences", &fences.iter().all(Block::is_whole), &true)?;
    }
    blocks_of_all_sizes_keep_their_contents()?;
    equal("a goroutine can start", &gzero::try_go(|| {}).is_ok(), &true)?;
    wait_until_alone();
    Ok(())
}

/// Go's `TestWriteHeapDumpNonempty`.
fn a_heap_dump_is_not_empty() -> Verdict {
    let null = fd::open("null").expect("every machine has it");
    let before = fd::swallowed();
    equal("the dump", &write_heap_dump(null), &Ok(()))?;
    equal("bytes are at least those of the heap", &(fd::swallowed() - before > heap::stats().live), &true)
}

fn heap_dumps_under_load() {
    let load = Load::start();
    let dumps = Arc::new(AtomicU64::new(0));
    for _ in 0..4 {
        let dumps = Arc::clone(&dumps);
        go(move || {
            let null = fd::open("null").expect("every machine has it");
            for _ in 0..3 {
                dumps.fetch_add(u64::from(write_heap_dump(null).is_ok()), Ordering::Relaxed);
            }
        });
    }
    while dumps.load(Ordering::Relaxed) < 12 {
        gosched();
    }
    load.end();
}

fn a_bad_descriptor_is_named_and_stops_nobody() -> Verdict {
    let before = world::stats().count;
    equal("a dump to the input", &write_heap_dump(0), &Err(FdError::NotWritable(0)))?;
    for fd in [99, u32::MAX] {
        equal("error", &write_heap_dump(fd), &Err(FdError::BadFd(fd)))?;
    }
    equal("its words", &FdError::BadFd(99).to_string().as_str(), &"bad file descriptor 99")?;
    equal("an unknown device", &fd::open("tape"), &Err(FdError::NoSuchDevice("tape")))?;
    equal("stops", &(world::stats().count - before), &0)
}

/// No descriptor: where the call is right, it is an error, and nobody is stopped.
const NO_FD: u32 = 99;

fn write_heap_dump_inside_of_on_m() {
    gzero::on_m(|| write_heap_dump(NO_FD).is_ok());
}

fn write_heap_dump_on_the_kernel_stack() {
    gzero::mcall(|_| assert!(write_heap_dump(NO_FD).is_err()));
}

fn write_heap_dump_in_an_interrupt_handler() {
    testing::in_interrupt(|| assert!(write_heap_dump(NO_FD).is_err()));
}

#[expect(unsafe_code, reason = "the second time is what the case is about")]
fn a_block_given_back_twice() {
    let layout = Layout::new::<[u8; 40]>();
    // SAFETY: the layout is not of size 0.
    let block = black_box(unsafe { alloc::alloc::alloc(layout) });
    // SAFETY: the block was taken with this layout.
    unsafe { alloc::alloc::dealloc(block, layout) };
    // SAFETY: none: the case must end here.
    unsafe { alloc::alloc::dealloc(block, layout) };
}

fn read_mem_stats_inside_of_on_m() {
    gzero::on_m(|| read_mem_stats(&mut MemStats::default()));
}

fn read_mem_stats_on_the_kernel_stack() {
    gzero::mcall(|_| read_mem_stats(&mut MemStats::default()));
}

fn read_mem_stats_in_an_interrupt_handler() {
    testing::in_interrupt(|| read_mem_stats(&mut MemStats::default()));
}

fn free_os_memory_inside_of_on_m() {
    gzero::on_m(free_os_memory);
}

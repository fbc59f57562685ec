//! Memory is used up on all CPUs at once: whoever asks gets an error, the machine goes on, and all works again afterwards.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use gzero::{
    GoRef, JoinHandle, MemStats, free_os_memory, go, gosched, park, println, read_mem_stats, semacquire,
    semrelease, stats, try_go, unpark,
};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        goroutines_are_refused_and_start_again,
        blocks_are_refused_while_goroutines_are,
        what_lives_may_still_use_more_stack,
        who_waits_for_the_first_time_is_not_refused,
    ],
}

/// Memory that a case leaves to itself.
const LEFT: u64 = 16 << 20;
const BLOCK: usize = 1 << 20;
/// Goroutines that ask for memory at the same time.
const ASKERS: u64 = 6;

/// Every frame that is not free is in one of the numbers.
fn nothing_is_lost() -> Verdict {
    let mut stats = MemStats::default();
    // What is only made once is made before.
    read_mem_stats(&mut stats);
    free_os_memory();
    let frames = stats::memory();
    read_mem_stats(&mut stats);
    println!(
        "  heap {}, stacks {}, spans {}, others {}",
        stats.heap_sys - stats.heap_released,
        stats.stack_sys,
        stats.mspan_sys,
        stats.other_sys
    );
    equal("bytes of page frames in use", &(stats.sys - stats.heap_released), &(frames.total - frames.free))
}

/// Takes memory away, all but [`LEFT`].
fn hoard() -> Vec<Vec<u8>> {
    free_os_memory();
    let blocks = usize::try_from(stats::memory().free / BLOCK as u64).expect("64 bits");
    let mut hoard: Vec<Vec<u8>> = Vec::with_capacity(blocks);
    while stats::memory().free > LEFT && hoard.len() < blocks {
        let mut block = Vec::new();
        if block.try_reserve_exact(BLOCK).is_err() {
            break;
        }
        hoard.push(block);
    }
    hoard
}

/// Starts goroutines that park, until one is refused, several times.
fn start_until_refused(mut parked: Vec<GoRef>) -> Vec<GoRef> {
    let mut refused = 0;
    while refused < 3 && parked.len() < parked.capacity() {
        match try_go(park) {
            Ok(handle) => parked.push(handle.id()),
            Err(_) => refused += 1,
        }
        if parked.len().is_multiple_of(64) {
            gosched();
        }
    }
    parked
}

/// A list with room for all that [`LEFT`] can hold, made while there is memory.
fn list<T>() -> Vec<T> {
    Vec::with_capacity(usize::try_from(LEFT / 4096).expect("small"))
}

/// Lists for those who ask at the same time.
fn lists<T>() -> Vec<Vec<T>> {
    (0..ASKERS).map(|_| list()).collect()
}

/// Whether those who ask may begin: only when all have been started, because that takes memory, too.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Starts those who ask at the same time, once [`OPEN`] says so.
fn askers<L: Send + 'static, T: Send + 'static>(lists: Vec<L>, ask: fn(L) -> T) -> Vec<JoinHandle<T>> {
    let start = |list| {
        go(move || {
            while !OPEN.load(Ordering::Relaxed) {
                gosched();
            }
            ask(list)
        })
    };
    lists.into_iter().map(start).collect()
}

/// Lets those end that park. Of `free` bytes no more than `most` may be missing then.
fn end_with_memory_back(parked: Vec<Vec<GoRef>>, free: u64, most: u64) -> Verdict {
    for g in parked.iter().flatten() {
        equal("it parks", &unpark(*g), &true)?;
    }
    drop(parked);
    wait_until_alone();
    free_os_memory();
    let lost = free.saturating_sub(stats::memory().free);
    println!("  {lost} bytes were lost");
    nothing_is_lost()?;
    equal("bytes that were lost", &(lost <= most), &true)
}

fn goroutines_are_refused_and_start_again() -> Verdict {
    let hoard = hoard();
    let before = stats::memory();
    let mut first = 0;
    for round in 0..2 {
        OPEN.store(false, Ordering::Relaxed);
        let asking = askers(lists(), start_until_refused);
        let mut parked: Vec<Vec<GoRef>> = list();
        OPEN.store(true, Ordering::Relaxed);
        parked.extend(asking.into_iter().map(JoinHandle::join));
        let number = parked.iter().map(Vec::len).sum::<usize>();
        println!("round {round}: {number} goroutines, {} bytes are free", stats::memory().free);
        equal("most of the memory was used", &(stats::memory().free < LEFT / 4), &true)?;
        if round == 0 {
            first = number;
        }
        equal("as many as at first", &(number >= first / 20 * 19), &true)?;
        // The heap has some pages more that hold little.
        end_with_memory_back(parked, before.free, 1 << 19)?;
    }
    drop(hoard);
    equal("a goroutine", &go(|| 7).join(), &7)
}

/// Takes blocks until one is refused, gives half of them back, and so on.
fn take_until_refused(mut blocks: Vec<Vec<u64>>) -> Option<u64> {
    let mut refused = 0;
    for round in 0_u64.. {
        let mut block = Vec::new();
        let words = [8, 500, 3_000, 20_000][blocks.len() % 4];
        if blocks.len() < blocks.capacity() && block.try_reserve_exact(words).is_ok() {
            block.resize(words, blocks.len() as u64);
            blocks.push(block);
            continue;
        }
        refused += 1;
        let whole = |(n, block): (usize, &Vec<u64>)| block.iter().all(|word| *word == n as u64);
        if !blocks.iter().enumerate().all(whole) {
            return None;
        }
        blocks.truncate(blocks.len() / 2);
        gosched();
        if round > 100_000 || refused == 20 {
            break;
        }
    }
    Some(refused)
}

fn blocks_are_refused_while_goroutines_are() -> Verdict {
    let hoard = hoard();
    let before = stats::memory();
    OPEN.store(false, Ordering::Relaxed);
    let (blocks, asking) = (askers(lists(), take_until_refused), askers(lists(), start_until_refused));
    let mut parked: Vec<Vec<GoRef>> = list();
    OPEN.store(true, Ordering::Relaxed);
    for handle in blocks {
        equal(
            "blocks were whole, and some refused",
            &handle.join().is_some_and(|refused| refused > 0),
            &true,
        )?;
    }
    parked.extend(asking.into_iter().map(JoinHandle::join));
    end_with_memory_back(parked, before.free, 2 << 20)?;
    drop(hoard);
    let again = alloc::vec![1_u8; 64 << 20];
    equal("much can be had again", &again.iter().all(|byte| *byte == 1), &true)
}

/// A quarter of a kilobyte of stack a level.
fn descend(depth: u64) -> u64 {
    let words = black_box([depth; 24]);
    if depth == 0 { 0 } else { descend(depth - 1) + u64::from(words[7] == depth) }
}

fn what_lives_may_still_use_more_stack() -> Verdict {
    static GO: AtomicBool = AtomicBool::new(false);
    static DEPTH: AtomicU64 = AtomicU64::new(0);
    let hoard = hoard();
    let deep: Vec<_> = (0..4)
        .map(|_| {
            go(|| {
                while !GO.load(Ordering::Relaxed) {
                    gosched();
                }
                DEPTH.fetch_add(descend(100), Ordering::Relaxed);
            })
        })
        .collect();
    let parked = start_until_refused(list());
    GO.store(true, Ordering::Relaxed);
    deep.into_iter().for_each(JoinHandle::join);
    equal("levels", &DEPTH.load(Ordering::Relaxed), &400)?;
    for g in &parked {
        equal("it parks", &unpark(*g), &true)?;
    }
    wait_until_alone();
    drop(hoard);
    Ok(())
}

/// Blocks until one is refused, large ones first.
fn blocks_until_refused() -> Vec<Vec<u8>> {
    let free = usize::try_from(stats::memory().free).expect("64 bits");
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(free / BLOCK + 1024);
    for size in [BLOCK, 16 << 10] {
        while blocks.len() < blocks.capacity() {
            let mut block = Vec::new();
            if block.try_reserve_exact(size).is_err() {
                break;
            }
            blocks.push(block);
        }
    }
    blocks
}

/// The page frames are used up, and what is free is the heap's.
fn who_waits_for_the_first_time_is_not_refused() -> Verdict {
    /// More than there are frames for that nobody else may have.
    const MANY: u64 = 6_000;
    static GO: AtomicBool = AtomicBool::new(false);
    static UNITS: AtomicU32 = AtomicU32::new(0);
    static COMING: AtomicU64 = AtomicU64::new(0);
    static SERVED: AtomicU64 = AtomicU64::new(0);
    free_os_memory();
    let number = MANY.min(stats::memory().free / 10_000);
    let start = |_| {
        let handle = go(|| {
            // Not by a sudog.
            while !GO.load(Ordering::Relaxed) {
                park();
            }
            COMING.fetch_add(1, Ordering::Relaxed);
            semacquire(&UNITS);
            SERVED.fetch_add(1, Ordering::Relaxed);
        });
        handle.id()
    };
    let waiters: Vec<GoRef> = (0..number).map(start).collect();
    let blocks = blocks_until_refused();
    let short = stats::memory().free;
    drop(blocks);
    println!("{number} goroutines wait, {short} bytes of page frames are free");
    GO.store(true, Ordering::Relaxed);
    for g in &waiters {
        equal("it parks", &unpark(*g), &true)?;
    }
    let all = usize::try_from(number).expect("few");
    while COMING.load(Ordering::Relaxed) < number || stats::waiting().count() < all {
        gosched();
    }
    (0..number).for_each(|_| semrelease(&UNITS));
    wait_until_alone();
    equal("goroutines that were served", &SERVED.load(Ordering::Relaxed), &number)?;
    nothing_is_lost()
}

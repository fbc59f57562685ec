//! As many parked goroutines as memory holds, up to a million, and ten million one after the other.
//!
//! With less than 5 GiB of memory it is fewer that park at once: what one costs is the same.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use gzero::stats::MemoryInUse;
use gzero::{GoRef, MemStats, free_os_memory, go, gosched, park, println, read_mem_stats, stats, unpark};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        a_million_goroutines_park_wake_and_end,
        ten_million_goroutines_in_turn_take_no_memory,
    ],
}

/// Goroutines that park at once, if memory suffices.
const MANY: u64 = 1_000_000;
/// What a parked goroutine may take of memory, all told.
const MOST_BYTES: u64 = 4_700;
/// Goroutines that start and end in turn.
const IN_TURN: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };

/// Goroutines that have been woken.
static WOKEN: AtomicU64 = AtomicU64::new(0);

/// Starts a goroutine that parks until the number of those that were woken says that it may go.
fn start_one() -> GoRef {
    let handle = go(|| {
        park();
        WOKEN.fetch_add(1, Ordering::Relaxed);
    });
    handle.id()
}

fn a_million_goroutines_park_wake_and_end() -> Verdict {
    let most = stats::memory().free / 10 * 9 / MOST_BYTES;
    let number = MANY.min(most);
    let mut parked: Vec<GoRef> = Vec::with_capacity(usize::try_from(number).expect("64 bits"));
    free_os_memory();
    park_all(&mut parked, number)?;
    // Slots whose memory was away are used again.
    park_all(&mut parked, number / 10)
}

/// Starts so many that park, and waits until all do.
fn start_all(parked: &mut Vec<GoRef>, number: u64) {
    for _ in 0..number {
        parked.push(start_one());
        if parked.len().is_multiple_of(128) {
            gosched();
        }
    }
    while stats::waiting().count() < parked.len() {
        gosched();
    }
}

/// Says what each of the parked goroutines takes of memory, and looks whether that is little.
fn judge(number: u64, before: &MemoryInUse) -> Verdict {
    let with = stats::memory();
    let taken = before.free - with.free;
    println!("{number} parked goroutines: {taken} bytes, {} each", taken.div_ceil(number));
    println!(
        "  stacks        {}",
        (with.stacks + with.idle_stacks - before.stacks - before.idle_stacks) / number
    );
    println!("  page tables   {}", (with.page_tables - before.page_tables) / number);
    println!("  table         {}", (with.goroutine_table - before.goroutine_table) / number);
    println!("  heap          {}", (with.heap_mapped - before.heap_mapped) / number);
    let said = said_by_mem_stats();
    println!("  MemStats says {said}");
    equal("what MemStats says", &(said.abs_diff(taken / number) <= 100), &true)?;
    equal("bytes for each", &(taken <= MOST_BYTES * number), &true)
}

fn said_by_mem_stats() -> u64 {
    let mut stats = MemStats::default();
    read_mem_stats(&mut stats);
    stats.goroutine_bytes
}

/// Parks so many, wakes them, waits for their ends, and gives the memory back.
fn park_all(parked: &mut Vec<GoRef>, number: u64) -> Verdict {
    WOKEN.store(0, Ordering::Relaxed);
    let before = stats::memory();
    start_all(parked, number);
    judge(number, &before)?;
    let taken = before.free - stats::memory().free;
    for g in &*parked {
        equal("it was there", &unpark(*g), &true)?;
    }
    wait_until_alone();
    equal("woken", &WOKEN.load(Ordering::Relaxed), &number)?;
    let freed = free_os_memory();
    let after = stats::memory();
    for g in parked.drain(..) {
        equal("it is there no more", &unpark(g), &false)?;
    }
    println!(
        "{freed} bytes were given back, {} of {taken} are still in use",
        before.free.abs_diff(after.free)
    );
    equal("within a hundredth", &(before.free.abs_diff(after.free) <= taken / 100), &true)
}

fn ten_million_goroutines_in_turn_take_no_memory() -> Verdict {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let turn = |n: u64| go(move || SUM.fetch_add(n, Ordering::Relaxed)).join();
    (0..1_000).for_each(|_| _ = turn(0));
    let before = stats::memory();
    for n in 0..IN_TURN {
        turn(n);
    }
    let after = stats::memory();
    println!("{IN_TURN} goroutines in turn: {} bytes before, {} after", before.free, after.free);
    equal("sum", &SUM.load(Ordering::Relaxed), &(IN_TURN * (IN_TURN - 1) / 2))?;
    // Each slot that there is may come to be used for the first time, on one CPU or the other.
    equal("bytes more", &(before.free.saturating_sub(after.free) <= 4 << 20), &true)
}

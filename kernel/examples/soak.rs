//! Everything at once, from a seed, for as long as one likes: goroutines that start others, semaphores, mailboxes, sleeps,
//! loops that only preemption ends, changes of GOMAXPROCS, statistics, heap dumps, memory given back.
//!
//! `cargo run --release --example soak -- --timeout 2000 --args "seconds=1800 seed=7"`
//!
//! It ends with an error when a worker makes no progress between two looks, when memory is missing at the end, or when a
//! count does not come out.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use gzero::{
    Mailbox, MemStats, Nanos, fd, free_os_memory, go, gomaxprocs, gosched, lock_os_thread, now, num_cpu,
    num_goroutine, println, read_mem_stats, semacquire, semrelease, sleep, unlock_os_thread, world,
    write_heap_dump,
};

gzero::entry!(main, parameters = ["seconds", "seed", "workers"]);

/// Time between two looks at the workers.
const LOOK: Nanos = Nanos::from_millis(10_000);
/// Looks without a turn after which a worker counts as stalled.
const PATIENCE: u32 = 6;

/// What the workers share.
struct Shared {
    until: Nanos,
    /// Units that workers take and give back, and how many there are.
    semaphores: [AtomicU32; 3],
    mailboxes: [Mailbox<u64>; 4],
    /// Sums of what was put into mailboxes and taken out.
    put: AtomicU64,
    taken: AtomicU64,
    /// Goroutines that workers have started, and that have ended.
    started: AtomicU64,
    ended: AtomicU64,
    /// Turns of each worker.
    turns: Vec<AtomicU64>,
}

const UNITS: [u32; 3] = [1, 2, 5];

fn main() -> Result<(), String> {
    let args = gzero::boot_args();
    let seconds = args.number("seconds", 10_u64, 1..=1_000_000);
    let seed = args.number("seed", 1_u64, 0..=u64::MAX);
    let workers = args.number("workers", 8 + 4 * num_cpu(), 1..=10_000);
    println!("soak: {seconds} s, seed {seed}, {workers} workers, {} CPUs", num_cpu());
    // What is only taken once is taken before the count.
    run(1_000_000_000, seed, workers)?;
    free_os_memory();
    let before = measure();
    run(seconds * 1_000_000_000, seed, workers)?;
    let after = measure();
    let stops = world::stats();
    println!(
        "soak: {} stops of the world, the last one for {:?}",
        stops.count,
        stops.last.map(|last| last.reason)
    );
    println!("soak: {} bytes of the heap in use before, {} after", before.live, after.live);
    println!("soak: {} bytes of the machine to be had before, {} after", before.available, after.available);
    if after.live > before.live + TABLES || after.available + TABLES < before.available {
        return Err("memory is lost".into());
    }
    println!("soak: ok");
    Ok(())
}

/// Bytes by which the runtime's tables may grow, if more goroutines are there, or asleep, at once than before. A leak of
/// one block in a thousand turns is more than that within a minute.
const TABLES: u64 = 256 << 10;

/// Where memory is between two runs.
struct Memory {
    /// Live bytes of the heap.
    live: u64,
    /// What a program can still have: pages that are free, or kept to be used again.
    available: u64,
}

fn measure() -> Memory {
    let memory = gzero::stats::memory();
    Memory { live: memory.heap_used, available: memory.available() }
}

/// Runs all workers for so many nanoseconds.
fn run(length: u64, seed: u64, workers: usize) -> Result<(), String> {
    let shared = Arc::new(Shared {
        until: now() + Nanos(length),
        semaphores: UNITS.map(AtomicU32::new),
        mailboxes: [const { Mailbox::new() }; 4],
        put: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        started: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        turns: (0..workers).map(|_| AtomicU64::new(0)).collect(),
    });
    for n in 0..workers {
        let shared = Arc::clone(&shared);
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n as u64 + 1) << 20 | 1);
        go(move || work(&shared, n, random));
    }
    watch(&shared)?;
    while num_goroutine() > 1 {
        gosched();
    }
    gomaxprocs(i32::try_from(num_cpu()).unwrap_or(i32::MAX));
    shared.mailboxes.iter().filter_map(Mailbox::try_take).for_each(|value| count(&shared.taken, value));
    let sum = |value: &AtomicU64| value.load(Ordering::Relaxed);
    if sum(&shared.put) != sum(&shared.taken) || sum(&shared.started) != sum(&shared.ended) {
        return Err("a value or a goroutine was lost".into());
    }
    if shared
        .semaphores
        .iter()
        .zip(UNITS)
        .any(|(semaphore, units)| semaphore.load(Ordering::Relaxed) != units)
    {
        return Err("a unit of a semaphore was lost".into());
    }
    Ok(())
}

/// Looks at the workers from time to time, until the end.
fn watch(shared: &Shared) -> Result<(), String> {
    let mut known: Vec<(u64, u32)> = shared.turns.iter().map(|_| (0, 0)).collect();
    let mut look = now() + LOOK;
    while now() < shared.until {
        sleep(Nanos::from_millis(100));
        if now() < look {
            continue;
        }
        look = now() + LOOK;
        for (n, (turns, (before, still))) in shared.turns.iter().zip(&mut known).enumerate() {
            let turns = turns.load(Ordering::Relaxed);
            *still = if turns == *before { *still + 1 } else { 0 };
            *before = turns;
            if *still == PATIENCE {
                println!("soak: worker {n} stands still after {turns} turns");
                gzero::dump();
                return Err("a worker stands still".into());
            }
        }
        let turns: u64 = known.iter().map(|(turns, _)| turns).sum();
        println!("soak: {turns} turns, {} stops, {} goroutines", world::stats().count, num_goroutine());
    }
    Ok(())
}

fn count(sum: &AtomicU64, value: u64) {
    sum.fetch_add(value, Ordering::Relaxed);
}

/// One worker: a turn after the other.
fn work(shared: &Arc<Shared>, n: usize, mut random: Random) {
    let mut stats = MemStats::default();
    while now() < shared.until {
        match random.below(100) {
            0..20 => children(shared, &mut random),
            20..40 => units(shared, &mut random),
            40..55 => values(shared, &mut random),
            55..70 => sleep(Nanos::from_micros(random.below(2_000))),
            70..80 => allocate(&mut random),
            80..90 => spin(random.below(15_000_000)),
            90..93 => locked(&mut random),
            93..96 => read_mem_stats(&mut stats),
            96..98 => drop(gomaxprocs(i32::try_from(random.below(num_cpu() as u64 + 2)).unwrap_or(0) + 1)),
            98 => drop(fd::open("null").map(write_heap_dump)),
            _ => drop(free_os_memory()),
        }
        shared.turns[n].fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts some goroutines and waits for all of them by a semaphore of their own.
fn children(shared: &Arc<Shared>, random: &mut Random) {
    let count = random.below(20);
    let done = Arc::new(AtomicU32::new(0));
    for _ in 0..count {
        let (shared, done, sleeps) = (Arc::clone(shared), Arc::clone(&done), random.below(4) == 0);
        shared.started.fetch_add(1, Ordering::Relaxed);
        go(move || {
            if sleeps {
                sleep(Nanos::from_micros(50));
            }
            shared.ended.fetch_add(1, Ordering::Relaxed);
            drop(shared);
            semrelease(&done);
        });
    }
    (0..count).for_each(|_| semacquire(&done));
}

/// Holds a unit of a semaphore for a moment.
fn units(shared: &Shared, random: &mut Random) {
    let semaphore = &shared.semaphores[random.index(3)];
    semacquire(semaphore);
    match random.below(3) {
        0 => gosched(),
        1 => spin(random.below(50_000)),
        _ => {}
    }
    semrelease(semaphore);
}

/// Puts a value into a mailbox, or takes one out, if that can be done at once.
fn values(shared: &Shared, random: &mut Random) {
    let mailbox = &shared.mailboxes[random.index(4)];
    let value = random.below(1_000);
    if random.below(2) == 0 && mailbox.try_put(value).is_ok() {
        count(&shared.put, value);
    } else if let Some(value) = mailbox.try_take() {
        count(&shared.taken, value);
    }
}

fn allocate(random: &mut Random) {
    let blocks: Vec<Box<[u8]>> =
        (0..random.below(50)).map(|n| alloc::vec![n.to_le_bytes()[0]; random.index(5_000)].into()).collect();
    assert!(
        blocks.iter().zip(0_u8..).all(|(block, n)| block.iter().all(|byte| *byte == n)),
        "a block has changed"
    );
}

/// Computes for so many nanoseconds without a call that could give way.
fn spin(nanos: u64) {
    let until = now() + Nanos(nanos);
    while now() < until {
        black_box(until);
    }
}

/// Stays on one CPU for a while.
fn locked(random: &mut Random) {
    lock_os_thread();
    let cpu = gzero::testing::cpu();
    for _ in 0..random.below(5) {
        gosched();
        sleep(Nanos::from_micros(100));
        assert!(gzero::testing::cpu() == cpu, "a locked goroutine has moved");
    }
    unlock_os_thread();
}

/// Pseudo-random numbers (xorshift; Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

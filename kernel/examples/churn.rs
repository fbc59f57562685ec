//! The allocator for as long as one likes: blocks of 8 B to 64 KiB, half of them given back by another goroutine than the one that took
//! them, and after each round a look at what is in use.
//!
//! `cargo run --release --example churn -- --smp 4 --timeout 4000 --args "rounds=60 seconds=60"`
//!
//! It ends with an error when a block has changed, when something is in use after a round that was not before, or when the arena has
//! grown since the third round by more than differs between rounds.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use gzero::sync::Mutex;
use gzero::{MemStats, Nanos, go, gosched, now, num_goroutine, println, read_mem_stats};

gzero::entry!(main, parameters = ["rounds", "seconds", "seed"]);

/// Goroutines that take and give back.
const WORKERS: usize = 4;
/// Blocks that each of them keeps.
const KEPT: usize = 256;
/// Blocks that go to the next one at a time, and that may lie there.
const BATCH: usize = 64;
const MOST_IN_BOX: usize = 256;
/// Bytes by which the arena may differ from round to round: what lives at once depends on how many work at the same time.
const SLACK: u64 = 16 << 20;
/// The round after which the arena has all that it needs.
const WARM: usize = 2;

struct Shared {
    until: Nanos,
    /// What each worker is to give back for another one.
    boxes: [Mutex<Vec<Box<[u8]>>>; WORKERS],
    operations: AtomicU64,
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("64 bits") % end
    }
}

fn main() -> Result<(), String> {
    let args = gzero::boot_args();
    let rounds = args.number("rounds", 4_usize, 1..=1_000_000);
    let seconds = args.number("seconds", 2_u64, 1..=1_000_000);
    let seed = args.number("seed", 1_u64, 0..=u64::MAX);
    println!("churn: {rounds} rounds of {seconds} s, seed {seed}");
    let (mut sizes, mut total) = (Vec::with_capacity(rounds), 0);
    // What the runtime makes once is made before the first look.
    round(Nanos::from_millis(200), seed);
    let (in_use, _) = look();
    for number in 0..rounds {
        let operations = round(Nanos::from_millis(seconds * 1_000), seed + 1 + number as u64);
        let (now_in_use, arena) = look();
        total += operations;
        println!(
            "churn: round {}: {operations} operations, {now_in_use} bytes in use, {} KiB of arena",
            number + 1,
            arena >> 10
        );
        if now_in_use != in_use {
            return Err(format!("{in_use} bytes were in use before, {now_in_use} are now"));
        }
        sizes.push(arena);
        let warm = sizes[WARM.min(number)];
        if arena > warm + SLACK {
            return Err(format!("the arena has grown from {warm} to {arena} bytes"));
        }
    }
    println!("churn: {total} operations, each of them a block taken and one given back");
    println!("churn: ok");
    Ok(())
}

/// Bytes of the heap in use, and of the arena. Nobody else runs.
fn look() -> (u64, u64) {
    let mut stats = MemStats::default();
    read_mem_stats(&mut stats);
    let MemStats { heap_alloc, heap_sys, by_size, .. } = stats;
    drop(by_size);
    (heap_alloc, heap_sys)
}

/// Lets all workers run for so long, and says how often they took a block and gave one back.
fn round(length: Nanos, seed: u64) -> u64 {
    let shared = Arc::new(Shared {
        until: now() + length,
        boxes: [const { Mutex::new(Vec::new()) }; WORKERS],
        operations: AtomicU64::new(0),
    });
    for id in 0..WORKERS {
        let shared = Arc::clone(&shared);
        go(move || work(&shared, id, Random(seed * 100 + id as u64)));
    }
    while num_goroutine() > 1 {
        gosched();
    }
    shared.operations.load(Ordering::Relaxed)
}

fn work(shared: &Shared, id: usize, mut random: Random) {
    let mut kept: Vec<Option<Box<[u8]>>> = (0..KEPT).map(|_| None).collect();
    let mut outgoing = Vec::with_capacity(BATCH);
    let mut operations = 0;
    while now() < shared.until {
        for _ in 0..BATCH {
            let largest = 8 << random.below(14);
            let block = filled(largest - random.below(largest / 2), id);
            let Some(old) = kept[random.below(KEPT)].replace(block) else { continue };
            operations += 1;
            assert!(is_whole(&old), "nobody else writes to it");
            if random.below(2) == 0 {
                outgoing.push(old);
            }
            if outgoing.len() == BATCH {
                pass_on(shared, id, &mut outgoing);
                drop(mem::take(&mut *shared.boxes[id].lock()));
            }
        }
    }
    shared.operations.fetch_add(operations, Ordering::Relaxed);
}

/// A block whose ends say who took it, and how long it is.
fn filled(length: usize, id: usize) -> Box<[u8]> {
    let mut block = vec![0; length].into_boxed_slice();
    let mark = mark(length, id);
    block[0] = mark;
    block[length - 1] = mark;
    block
}

fn mark(length: usize, id: usize) -> u8 {
    (length.to_le_bytes()[0] ^ id.to_le_bytes()[0]).max(1)
}

fn is_whole(block: &[u8]) -> bool {
    block[0] == block[block.len() - 1] && (0..WORKERS).any(|id| mark(block.len(), id) == block[0])
}

/// Leaves blocks to the next one, or gives them back when that one has many.
fn pass_on(shared: &Shared, id: usize, blocks: &mut Vec<Box<[u8]>>) {
    let mut next = shared.boxes[(id + 1) % WORKERS].lock();
    if next.len() < MOST_IN_BOX {
        next.append(blocks);
    }
    drop(next);
    blocks.clear();
}

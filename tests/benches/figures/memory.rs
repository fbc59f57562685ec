//! The memory of goroutines that wait, and the heap.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use gzero::sync::Mutex;
use gzero::testing::bare::{BareBlock, BareHeap};
use gzero::{MemStats, Sender, chan, free_os_memory, go, gosched, read_mem_stats, stats};
use tests::{Random, wait_until_alone};

use crate::measure::{self, Bench, is_wanted};
use crate::scheduler::together;

/// Goroutines that wait.
const PARKED: u64 = 100_000;
/// Blocks that each goroutine of the mix keeps.
const KEPT: u64 = 256;
/// Blocks that go to another CPU at once.
const BATCH: usize = 64;
/// Bytes of the bare heap.
const BARE: usize = 64 << 20;

/// Goroutines that wait for a channel to be closed, on a machine that has just booted.
pub fn parked(bench: &Bench) {
    const NAME: &str = "parked_memory";
    if !is_wanted(NAME) {
        return;
    }
    measure::set_procs(1);
    for repetition in 0..bench.reps {
        let (mut before, mut after) = (MemStats::default(), MemStats::default());
        read_mem_stats(&mut before);
        let began = bench.clock();
        let close = park(PARKED);
        bench.tell(NAME, 1, bench.clock() - began, PARKED);
        read_mem_stats(&mut after);
        close.close();
        wait_until_alone();
        free_os_memory();
        // Page tables stay.
        if repetition == 0 {
            tell_bytes(&before, &after);
        }
    }
}

fn park(goroutines: u64) -> Sender<()> {
    let (close, wait) = chan(0);
    let shared = Arc::new((AtomicU64::new(0), wait));
    for _ in 0..goroutines {
        let shared = Arc::clone(&shared);
        go(move || {
            shared.0.fetch_add(1, Ordering::Relaxed);
            shared.1.recv().expect_err("it is closed");
        });
    }
    while shared.0.load(Ordering::Relaxed) < goroutines {
        gosched();
    }
    close
}

fn tell_bytes(before: &MemStats, after: &MemStats) {
    let all = |stats: &MemStats| stats.sys - stats.heap_released;
    for (name, bytes) in [
        ("parked_memory.bytes", all(after) - all(before)),
        ("parked_memory.stack", after.stack_inuse - before.stack_inuse),
        ("parked_memory.heap", after.heap_alloc - before.heap_alloc),
    ] {
        measure::tell(name, 1, "bytes/op", bytes, PARKED);
    }
}

pub fn measure(bench: &Bench) {
    bench.scaled("raw_linked_list", 10_000, |times| mix(BareHeap::leaked(BARE), times));
    bench.scaled("heap_mix", 200_000, |times| mix(&Ours, times));
}

/// Who gives blocks out.
trait Blocks: Sync {
    type Block: Send;
    fn block(&'static self, bytes: usize) -> Self::Block;
}

/// The heap that a program has.
struct Ours;

impl Blocks for Ours {
    type Block = Vec<u8>;
    fn block(&'static self, bytes: usize) -> Vec<u8> {
        Vec::with_capacity(bytes)
    }
}

impl Blocks for BareHeap {
    type Block = BareBlock;
    fn block(&'static self, bytes: usize) -> BareBlock {
        let layout = Layout::from_size_align(bytes, 8).expect("64 KiB at most");
        self.allocate(layout).expect("there is room")
    }
}

/// Each CPU allocates blocks of 8 B to 64 KiB, keeps some for a while, frees half of them and gives the others to its
/// neighbour to free.
fn mix<B: Blocks>(blocks: &'static B, times: u64) -> u64 {
    let workers = u32::try_from(stats::gomaxprocs()).expect("256 at most");
    let each = times / u64::from(workers);
    let boxes: Arc<Vec<Mutex<Vec<B::Block>>>> =
        Arc::new((0..workers).map(|_| Mutex::new(Vec::new())).collect());
    together(workers, move |id| work(blocks, &boxes, id as usize, each));
    each * u64::from(workers)
}

fn work<B: Blocks>(blocks: &'static B, boxes: &[Mutex<Vec<B::Block>>], id: usize, times: u64) {
    let mut random = Random::new(id as u64);
    let mut kept: Vec<Option<B::Block>> = (0..KEPT).map(|_| None).collect();
    let mut outgoing = Vec::with_capacity(BATCH);
    for _ in 0..times {
        let largest = 8 << random.below(14);
        let size = 8.max(largest - random.index(largest / 2));
        let block = blocks.block(size);
        let at = random.index(kept.len());
        let Some(old) = kept[at].replace(block) else { continue };
        if random.below(2) == 0 {
            drop(old);
        } else {
            outgoing.push(old);
        }
        if outgoing.len() == BATCH {
            boxes[(id + 1) % boxes.len()].lock().append(&mut outgoing);
            let incoming = mem::take(&mut *boxes[id].lock());
            drop(incoming);
        }
    }
}

//! Goroutines that yield, begin and end.

use alloc::sync::Arc;

use gzero::sync::WaitGroup;
use gzero::{Sender, chan, go, gosched};

use crate::measure::Bench;

pub fn measure(bench: &Bench) {
    bench.on(1, "yield", 400_000, |times| yielders(times, 2));
    bench.scaled("yield_many", 400_000, |times| yielders(times, 1_000));
    bench.scaled("spawn_join", 100_000, spawn_join);
    bench.scaled("skynet", LEAVES, skynet);
}

/// Goroutines that yield in turns while main waits.
fn yielders(times: u64, goroutines: u32) -> u64 {
    let each = times / u64::from(goroutines);
    together(goroutines, move |_| {
        for _ in 0..each {
            gosched();
        }
    });
    each * u64::from(goroutines)
}

/// Starts goroutines and waits for all of them.
pub fn together(goroutines: u32, function: impl Fn(u32) + Send + Sync + 'static) {
    let (group, function) = (Arc::new(WaitGroup::new()), Arc::new(function));
    for number in 0..goroutines {
        let function = Arc::clone(&function);
        group.go(move || function(number));
    }
    group.wait();
}

fn spawn_join(times: u64) -> u64 {
    static GROUP: WaitGroup = WaitGroup::new();
    GROUP.add(i32::try_from(times).expect("a hundred thousand at most"));
    for _ in 0..times {
        go(|| GROUP.done());
    }
    GROUP.wait();
    times
}

/// Leaves of the tree. Of a part of them the next power of ten below is taken.
const LEAVES: u64 = 1_000_000;

/// A tree of goroutines, ten below each. A leaf sends its number to its parent, the others send the sums.
fn skynet(leaves: u64) -> u64 {
    let leaves = 10_u64.pow(leaves.ilog10());
    let (sum, result) = chan(0);
    go(move || tree(&sum, 0, leaves));
    let numbers = leaves * (leaves - 1) / 2;
    assert_eq!(result.recv(), Ok(numbers), "the sum of the leaves");
    let levels = core::iter::successors(Some(1), |level| Some(level * 10));
    levels.take_while(|level| *level <= leaves).sum()
}

fn tree(parent: &Sender<u64>, first: u64, size: u64) {
    let sum = if size == 1 {
        first
    } else {
        let (from, results) = chan(0);
        for child in 0..10 {
            let from = from.clone();
            go(move || tree(&from, first + child * (size / 10), size / 10));
        }
        drop(from);
        results.iter().sum()
    };
    parent.send(sum).expect("the parent waits");
}

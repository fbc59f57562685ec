//! Calls of contexts that hang from each other in long ways: what they cost, what keeps them, and that none is missed.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use gzero::sync::{Canceller, Context};
use gzero::{JoinHandle, MemStats, go, gosched, read_mem_stats};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        each_of_a_long_way_has_a_call_of_its_own,
        a_long_way_that_only_calls_keep_goes_without_recursion,
        first_and_last_calls_of_branches_beside_an_end,
        a_call_of_who_is_about_to_end_comes,
    ],
}

/// Counts calls, and who still has the function of one.
type Count = Arc<AtomicU32>;

/// Where the first of the calls is asked for.
enum First {
    Above,
    Below,
}

/// A way of so many contexts, each with a call of its own.
fn way_of_calls(levels: u32, first: &First) -> (Context, Canceller, Count) {
    let (mut last, cancel) = Context::background().with_cancel();
    let came = Count::default();
    let mut way = Vec::new();
    for _ in 0..levels {
        last = last.with_cancel().0;
        way.push(last.clone());
    }
    match first {
        First::Above => {}
        First::Below => way.reverse(),
    }
    for context in way {
        let came = Arc::clone(&came);
        drop(context.after_func(move |_| {
            came.fetch_add(1, Ordering::Relaxed);
        }));
    }
    (last, cancel, came)
}

fn each_of_a_long_way_has_a_call_of_its_own() -> Verdict {
    const LEVELS: u32 = 2_000;
    let bytes = || {
        let mut stats = alloc::boxed::Box::<MemStats>::default();
        read_mem_stats(&mut stats);
        stats.heap_alloc
    };
    for first in [First::Above, First::Below] {
        let before = bytes();
        let (last, cancel, came) = way_of_calls(LEVELS, &first);
        let each = bytes().saturating_sub(before) / u64::from(LEVELS);
        equal(&alloc::format!("{each} bytes for each level are few"), &(each < 4_000), &true)?;
        // The calls alone keep what is between.
        drop(last);
        cancel.cancel();
        wait_until_alone();
        equal("calls", &came.load(Ordering::Relaxed), &LEVELS)?;
        equal("nobody has a function", &Arc::strong_count(&came), &1)?;
    }
    Ok(())
}

fn a_long_way_that_only_calls_keep_goes_without_recursion() -> Verdict {
    let (last, cancel, came) = way_of_calls(10_000, &First::Above);
    drop(last);
    equal("kept by the calls", &Arc::strong_count(&came), &10_001)?;
    drop(cancel);
    equal("nobody can end them", &Arc::strong_count(&came), &1)?;
    equal("calls", &came.load(Ordering::Relaxed), &0)
}

/// Asks for four calls, and stops all but the last. Returns how many it has stopped.
fn calls_and_stops(branch: &Context, came: &Count, gives_way: u32) -> u32 {
    let mut stopped = 0;
    for n in 0..4 {
        let came = Arc::clone(came);
        let call = branch.after_func(move |_| {
            came.fetch_add(1, Ordering::Relaxed);
        });
        if n < 3 {
            stopped += u32::from(call.stop());
        }
        if n == gives_way {
            gosched();
        }
    }
    stopped
}

/// Each comes or was stopped, though nobody keeps a context.
fn first_and_last_calls_of_branches_beside_an_end() -> Verdict {
    const BRANCHES: u32 = 4;
    const ROUNDS: u32 = 200;
    let came = Count::default();
    let mut stopped = 0;
    for round in 0..ROUNDS {
        let (root, cancel) = Context::background().with_cancel();
        let middle = root.with_cancel().0.with_value(round).with_cancel().0;
        let branches: Vec<_> = (0..BRANCHES)
            .map(|n| {
                let (branch, came) = (middle.with_cancel().0, Arc::clone(&came));
                go(move || calls_and_stops(&branch, &came, (round + n) % 3))
            })
            .collect();
        drop((root, middle));
        if round % 2 == 0 {
            gosched();
            cancel.cancel();
        }
        stopped += branches.into_iter().map(JoinHandle::join).sum::<u32>();
        cancel.cancel();
    }
    wait_until_alone();
    let asked_for = ROUNDS * BRANCHES * 4;
    equal("each came, or was stopped", &(came.load(Ordering::Relaxed) + stopped), &asked_for)?;
    equal("nobody has a function", &Arc::strong_count(&came), &1)
}

/// The one above has ended, and whoever ends all below is on the way: nobody but the call has the context by then.
///
/// On one CPU it shows nothing: whoever ends all below is done with that before another asks.
fn a_call_of_who_is_about_to_end_comes() -> Verdict {
    const BELOW: u32 = 2_000;
    const ASK: u32 = 100;
    let came = Count::default();
    for _ in 0..10 {
        let (root, cancel) = Context::background().with_cancel();
        let mut below: Vec<Context> = (0..BELOW).map(|_| root.with_cancel().0).collect();
        go(move || cancel.cancel());
        while !root.is_done() {
            gosched();
        }
        for context in below.drain(..).rev().take(ASK as usize) {
            let came = Arc::clone(&came);
            drop(context.after_func(move |_| {
                came.fetch_add(1, Ordering::Relaxed);
            }));
        }
    }
    wait_until_alone();
    equal("calls", &came.load(Ordering::Relaxed), &(10 * ASK))
}

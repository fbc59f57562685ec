//! What comes with the end of a context: calls, and errors of tasks; and that nothing is kept that is over.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Context, ContextError, ErrGroup, Permit, Semaphore, WaitGroup};
use gzero::time::{Duration, sleep};
use gzero::{MemStats, WaitReason, chan, go, gosched, num_goroutine, read_mem_stats, stats};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        what_has_ended_or_is_gone_is_not_kept,
        a_call_comes_after_a_cancel,
        a_call_comes_after_a_timeout,
        a_call_comes_at_once_after_the_end,
        a_call_that_is_stopped_does_not_come,
        a_cancel_does_not_wait_for_calls,
        a_guard_ends_its_context_on_every_path,
        contexts_allocate_little,
        a_deep_tree_ends_without_recursion,
        the_first_error_is_the_groups,
        an_error_ends_the_context_of_the_group,
        a_group_runs_no_more_than_its_limit,
        a_group_may_refuse_a_task,
        who_waits_for_units_gives_up_with_its_context,
        who_gives_up_does_not_hold_others_up,
        units_and_cancels_at_the_same_time,
    ],
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1_000_000);

/// An error with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named(&'static str);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Named {}

fn cause(context: &Context) -> Option<alloc::string::String> {
    context.cause().map(|cause| cause.to_string())
}

/// Blocks of the heap that are in use.
fn live() -> u64 {
    let mut stats = alloc::boxed::Box::<MemStats>::default();
    read_mem_stats(&mut stats);
    stats.mallocs - stats.frees
}

/// Go's `TestCancelRemoves`, by what stays in the heap; and ours: what is dropped is gone without a cancel.
fn what_has_ended_or_is_gone_is_not_kept() -> Verdict {
    let (parent, _cancel) = Context::background().with_cancel();
    let round = |parent: &Context| {
        let (_context, cancel) = parent.with_timeout(LONG);
        cancel.cancel();
        let (context, cancel) = parent.with_cancel();
        cancel.cancel();
        let stopped = context.with_value(1_u8).after_func(|| {});
        stopped.stop();
        drop(parent.with_cancel());
        drop(parent.with_timeout(LONG));
        parent.after_func(|| {}).stop();
        wait_until_alone();
    };
    round(&parent);
    let before = live();
    (0..50).for_each(|_| round(&parent));
    let more = live().saturating_sub(before);
    equal("blocks that stay of fifty rounds are few", &(more < 20), &true)
}

/// Go's `TestAfterFuncCalledAfterCancel`.
fn a_call_comes_after_a_cancel() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    let (tx, rx) = chan(1);
    let call = context.after_func(move || tx.send(()).expect("it is not closed"));
    sleep(SHORT);
    equal("before", &rx.is_empty(), &true)?;
    cancel.cancel();
    equal("the call", &rx.recv(), &Ok(()))?;
    equal("it has come", &call.stop(), &false)
}

/// Go's `TestAfterFuncCalledAfterTimeout`.
fn a_call_comes_after_a_timeout() -> Verdict {
    let (context, _cancel) = Context::background().with_timeout(SHORT);
    let (tx, rx) = chan(1);
    let _call = context.after_func(move || tx.send(()).expect("it is not closed"));
    equal("the call", &rx.recv(), &Ok(()))
}

/// Go's `TestAfterFuncCalledImmediately`.
fn a_call_comes_at_once_after_the_end() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (tx, rx) = chan(1);
    let call = context.after_func(move || tx.send(()).expect("it is not closed"));
    equal("the call", &rx.recv(), &Ok(()))?;
    equal("it has come", &call.stop(), &false)
}

/// Go's `TestAfterFuncNotCalledAfterStop`.
fn a_call_that_is_stopped_does_not_come() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let call = context.after_func(move || flag.store(true, Ordering::Relaxed));
    equal("stopped", &call.stop(), &true)?;
    cancel.cancel();
    wait_until_alone();
    equal("called", &called.load(Ordering::Relaxed), &false)?;
    equal("stopped again", &call.stop(), &false)
}

/// Go's `TestAfterFuncCalledAsynchronously`.
fn a_cancel_does_not_wait_for_calls() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    let (tx, rx) = chan(0);
    let _call = context.after_func(move || tx.send(()).expect("it is not closed"));
    cancel.cancel();
    equal("the call, which waits for this", &rx.recv(), &Ok(()))
}

fn a_guard_ends_its_context_on_every_path() -> Verdict {
    fn leaves(context: &Context, wanted: u32) -> (Context, Option<u32>) {
        let (below, cancel) = context.with_cancel();
        let _guard = cancel.on_drop();
        if wanted == 0 {
            return (below, None);
        }
        (below, Some(1))
    }
    for wanted in [0, 1] {
        let (below, _) = leaves(&Context::background(), wanted);
        equal("ended", &below.err(), &Some(ContextError::Canceled))?;
    }
    Ok(())
}

/// Go's `TestAllocs`.
fn contexts_allocate_little() -> Verdict {
    fn mallocs() -> u64 {
        let mut stats = alloc::boxed::Box::<MemStats>::default();
        read_mem_stats(&mut stats);
        stats.mallocs
    }
    fn count(work: impl Fn()) -> u64 {
        work();
        let before = mallocs();
        let none = mallocs() - before;
        let before = mallocs();
        (0..10).for_each(|_| work());
        (mallocs() - before - none).div_ceil(10)
    }
    let root = Context::background();
    equal("a clone", &count(|| drop(root.clone())), &0)?;
    let value = count(|| assert!(root.with_value(1_u8).value::<u8>().is_some()));
    equal("a value", &(value <= 3), &true)?;
    let cancel = count(|| {
        let (context, cancel) = root.with_cancel();
        cancel.cancel();
        context.wait();
    });
    equal("a cancel", &(cancel <= 8), &true)?;
    let timeout = count(|| {
        let (context, cancel) = root.with_timeout(Duration::from_secs(5));
        cancel.cancel();
        context.wait();
    });
    equal("a timeout", &(timeout <= 12), &true)
}

fn a_deep_tree_ends_without_recursion() -> Verdict {
    let (root, cancel) = Context::background().with_cancel();
    let mut tower = alloc::vec![root];
    for n in 0..2_000 {
        let (next, _) = tower[n].with_cancel();
        tower.push(next);
    }
    cancel.cancel();
    equal("the last", &tower[2_000].err(), &Some(ContextError::Canceled))?;
    // From the last one on: each lets the one above go.
    while tower.pop().is_some() {}
    Ok(())
}

fn the_first_error_is_the_groups() -> Verdict {
    let group = ErrGroup::new();
    let (tx, rx) = chan::<()>(0);
    group.go(|| Err(Named("first")));
    wait_until_alone();
    group.go(move || {
        assert!(rx.recv().is_err(), "it is closed");
        Err(Named("second"))
    });
    group.go(|| Ok(()));
    drop(tx);
    equal("the error", &group.wait(), &Err(Named("first")))?;
    equal("it was given away", &group.wait(), &Ok(()))
}

fn an_error_ends_the_context_of_the_group() -> Verdict {
    let (group, context) = ErrGroup::with_context(&Context::background());
    for n in 0..5 {
        let context = context.clone();
        group.go(move || {
            if n == 3 {
                return Err(Named("third"));
            }
            context.wait();
            Ok(())
        });
    }
    equal("the error", &group.wait(), &Err(Named("third")))?;
    equal("the context's cause", &cause(&context).as_deref(), &Some("third"))?;
    let (group, context) = ErrGroup::<Named>::with_context(&Context::background());
    group.go(|| Ok(()));
    equal("no error", &group.wait(), &Ok(()))?;
    equal("it ends with the wait", &context.err(), &Some(ContextError::Canceled))
}

fn a_group_runs_no_more_than_its_limit() -> Verdict {
    let group = ErrGroup::<Named>::with_limit(3);
    let counts = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    for _ in 0..50 {
        let counts = Arc::clone(&counts);
        group.go(move || {
            let now = counts.0.fetch_add(1, Ordering::Relaxed) + 1;
            assert!(now <= 3, "{now} at a time");
            gosched();
            counts.0.fetch_sub(1, Ordering::Relaxed);
            counts.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    equal("errors", &group.wait(), &Ok(()))?;
    equal("tasks", &counts.1.load(Ordering::Relaxed), &50)
}

fn a_group_may_refuse_a_task() -> Verdict {
    let group = ErrGroup::<Named>::with_limit(1);
    let (tx, rx) = chan::<()>(0);
    let first = group.try_go(move || {
        assert!(rx.recv().is_err(), "it is closed");
        Ok(())
    });
    let second = group.try_go(|| Ok(()));
    equal("taken and refused", &(first, second), &(true, false))?;
    drop(tx);
    equal("errors", &group.wait(), &Ok(()))?;
    wait_until_alone();
    equal("goroutines", &num_goroutine(), &1)
}

fn who_waits_for_units_gives_up_with_its_context() -> Verdict {
    let slots = Semaphore::new(2);
    let (context, cancel) = Context::background().with_timeout(SHORT);
    let one = slots.acquire_with(&context, 2);
    equal("free ones", &one.as_ref().map(Permit::units), &Ok(2))?;
    let late = slots.acquire_with(&context, 1).map(|permit| permit.units());
    equal("none in time", &late, &Err(ContextError::DeadlineExceeded))?;
    drop(one);
    cancel.cancel();
    let late = slots.acquire_with(&context, 1).map(|permit| permit.units());
    equal("free ones after the end", &late, &Err(ContextError::DeadlineExceeded))?;
    let (context, _cancel) = Context::background().with_timeout(SHORT);
    let never = slots.acquire_with(&context, 3).map(|permit| permit.units());
    equal("more than there are", &never, &Err(ContextError::DeadlineExceeded))?;
    let none = slots.acquire_with(&Context::background(), 2).map(|permit| permit.units());
    equal("without an end", &none, &Ok(2))?;
    equal("all came back", &slots.free(), &2)
}

fn who_gives_up_does_not_hold_others_up() -> Verdict {
    let slots = Arc::new(Semaphore::new(3));
    let (context, cancel) = Context::background().with_cancel();
    let one = slots.acquire(1);
    let waits = |count: usize| {
        while stats::waiting().filter(|wait| wait.reason == WaitReason::Semacquire).count() != count {
            gosched();
        }
    };
    let large = Arc::clone(&slots);
    let first = go(move || large.acquire_with(&context, 3).map(|permit| permit.units()));
    waits(1);
    let small = Arc::clone(&slots);
    let second = go(move || small.acquire(2).units());
    waits(2);
    cancel.cancel();
    equal("the one in front", &first.join(), &Err(ContextError::Canceled))?;
    equal("the one behind it", &second.join(), &2)?;
    drop(one);
    equal("all came back", &slots.free(), &3)
}

fn units_and_cancels_at_the_same_time() -> Verdict {
    let slots = Arc::new(Semaphore::new(3));
    let all = Arc::new(WaitGroup::new());
    let counts = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    for n in 0..6_u32 {
        let (slots, counts) = (Arc::clone(&slots), Arc::clone(&counts));
        all.go(move || {
            for round in 0..100 {
                let (context, cancel) = Context::background().with_cancel();
                go(move || cancel.cancel());
                match slots.acquire_with(&context, (n + round) % 3 + 1) {
                    Ok(permit) => {
                        counts.0.fetch_add(1, Ordering::Relaxed);
                        gosched();
                        drop(permit);
                    }
                    Err(_) => {
                        counts.1.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    all.wait();
    wait_until_alone();
    let sum = counts.0.load(Ordering::Relaxed) + counts.1.load(Ordering::Relaxed);
    equal("rounds", &sum, &600)?;
    equal("all came back", &slots.free(), &3)
}

//! What comes with the end of a context: calls, and errors of tasks; and that nothing is kept that is over.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Context, ContextError, ErrGroup, Permit, Semaphore, WaitGroup};
use gzero::time::{Duration, sleep};
use gzero::{MemStats, WaitReason, chan, go, gosched, num_goroutine, read_mem_stats, stats};
use tests::{Named, Verdict, equal, wait_until_alone};

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
        a_call_comes_though_its_context_was_dropped,
        a_call_that_nobody_can_bring_is_dropped,
        a_call_that_came_cannot_be_stopped,
        a_call_is_told_why,
        a_call_comes_after_its_own_context_has_ended,
        a_call_comes_once_beside_stops_and_ends,
        a_deep_tree_ends_without_recursion,
        a_long_way_up_goes_without_recursion,
        the_first_error_is_the_groups,
        each_round_of_a_group_has_its_error,
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
        let stopped = context.with_value(1_u8).after_func(|_| {});
        stopped.stop();
        drop(parent.with_cancel());
        drop(parent.with_timeout(LONG));
        parent.after_func(|_| {}).stop();
        let (context, cancel) = parent.with_timeout(LONG).0.with_cancel();
        let _over = context.after_func(|_| {});
        cancel.cancel();
        parent.with_timeout(LONG).0.with_cancel().0.after_func(|_| {}).stop();
        let (root, _) = Context::background().with_cancel();
        drop(root.with_cancel().0.with_cancel().0.after_func(|_| {}));
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
    let call = context.after_func(move |_| tx.send(()).expect("it is not closed"));
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
    let _call = context.after_func(move |_| tx.send(()).expect("it is not closed"));
    equal("the call", &rx.recv(), &Ok(()))
}

/// Go's `TestAfterFuncCalledImmediately`.
fn a_call_comes_at_once_after_the_end() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (tx, rx) = chan(1);
    let call = context.after_func(move |_| tx.send(()).expect("it is not closed"));
    equal("the call", &rx.recv(), &Ok(()))?;
    equal("it has come", &call.stop(), &false)
}

/// Go's `TestAfterFuncNotCalledAfterStop`.
fn a_call_that_is_stopped_does_not_come() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let call = context.after_func(move |_| flag.store(true, Ordering::Relaxed));
    equal("stopped", &call.stop(), &true)?;
    cancel.cancel();
    wait_until_alone();
    equal("called", &called.load(Ordering::Relaxed), &false)?;
    equal("stopped again", &call.stop(), &false)
}

fn a_call_comes_though_its_context_was_dropped() -> Verdict {
    let (root, cancel) = Context::background().with_cancel();
    let (tx, rx) = chan(4);
    // Below a chain of which nobody keeps anything, and beside others that have a call of their own.
    let middle = root.with_cancel().0.with_value(1_u8).with_cancel().0;
    for (n, context) in [root.with_cancel().0, middle.with_cancel().0, middle].into_iter().enumerate() {
        let tx = tx.clone();
        drop(context.after_func(move |_| tx.send(n).expect("it is not closed")));
    }
    // Nobody is left but the timer of the one between.
    let timed = Context::background().with_cancel().0.with_timeout(20 * SHORT).0.with_cancel().0;
    drop(timed.after_func(move |_| tx.send(3).expect("it is not closed")));
    drop((root, timed));
    equal("by its time", &rx.recv(), &Ok(3))?;
    cancel.cancel();
    let mut came: alloc::vec::Vec<usize> = rx.iter().collect();
    came.sort_unstable();
    equal("by the cancel", &came, &alloc::vec![0, 1, 2])
}

fn a_call_that_nobody_can_bring_is_dropped() -> Verdict {
    let token = Arc::new(());
    let (root, cancel) = Context::background().with_cancel();
    for context in [root.with_cancel().0, root.clone(), Context::background()] {
        let token = Arc::clone(&token);
        drop(context.after_func(move |_| drop(token)));
    }
    drop(root);
    equal("two may still come", &Arc::strong_count(&token), &3)?;
    drop(cancel);
    equal("none can come", &Arc::strong_count(&token), &1)
}

fn a_call_that_came_cannot_be_stopped() -> Verdict {
    let (tx, rx) = chan(1);
    let (context, cancel) = Context::background().with_cancel();
    let call = context.after_func(move |_| tx.send(()).expect("it is not closed"));
    cancel.cancel();
    drop((context, cancel));
    equal("the call", &rx.recv(), &Ok(()))?;
    equal("stopped", &call.stop(), &false)
}

fn a_call_is_told_why() -> Verdict {
    let (tx, rx) = chan(0);
    let (parent, cancel) = Context::background().with_cancel();
    let (context, _cancel) = parent.with_timeout(SHORT);
    let told = tx.clone();
    let _call = context.after_func(move |why| told.send(why).expect("it is not closed"));
    equal("its time", &rx.recv(), &Ok(ContextError::DeadlineExceeded))?;
    cancel.cancel();
    let told = tx.clone();
    let _call = context.after_func(move |why| told.send(why).expect("it is not closed"));
    equal("afterwards", &rx.recv(), &Ok(ContextError::DeadlineExceeded))?;
    let _call = parent.after_func(move |why| tx.send(why).expect("it is not closed"));
    equal("a cancel", &rx.recv(), &Ok(ContextError::Canceled))
}

fn a_call_comes_after_its_own_context_has_ended() -> Verdict {
    for _ in 0..100 {
        let (root, cancel_root) = Context::background().with_cancel();
        let (middle, cancel_middle) = root.with_cancel();
        let (context, _) = middle.with_cancel();
        let (tx, rx) = chan(1);
        let own = context.clone();
        let _call = context.after_func(move |why| tx.send(own.err() == Some(why)).expect("it is not closed"));
        go(move || cancel_root.cancel());
        go(move || cancel_middle.cancel());
        equal("it had ended", &rx.recv(), &Ok(true))?;
    }
    Ok(())
}

/// Whoever comes first decides, and leaves nothing behind.
fn a_call_comes_once_beside_stops_and_ends() -> Verdict {
    let came = Arc::new(AtomicU32::new(0));
    let mut stopped = 0;
    for round in 0..200 {
        let (root, cancel_root) = Context::background().with_cancel();
        let (middle, cancel_middle) = root.with_timeout(LONG);
        let (context, _) = middle.with_cancel();
        let mut cancels = alloc::vec![cancel_root, cancel_middle];
        if round % 2 == 0 {
            cancels.swap(0, 1);
        }
        for cancel in cancels {
            go(move || cancel.cancel());
        }
        let flag = Arc::clone(&came);
        let call = context.after_func(move |_| {
            flag.fetch_add(1, Ordering::Relaxed);
        });
        if round % 3 == 0 {
            gosched();
        }
        stopped += u32::from(call.stop());
    }
    wait_until_alone();
    equal("each came, or was stopped", &(came.load(Ordering::Relaxed) + stopped), &200)?;
    equal("nobody has the function", &Arc::strong_count(&came), &1)
}

/// Go's `TestAfterFuncCalledAsynchronously`.
fn a_cancel_does_not_wait_for_calls() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    let (tx, rx) = chan(0);
    let _call = context.after_func(move |_| tx.send(()).expect("it is not closed"));
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

/// Each of them is the last one that has the one above.
fn a_long_way_up_goes_without_recursion() -> Verdict {
    const LEVELS: u32 = 10_000;
    let kinds: [fn(&Context) -> Context; 4] = [
        |context| context.with_cancel().0,
        |context| context.with_value(1_u8),
        |context| context.with_timeout(LONG).0,
        Context::without_cancel,
    ];
    for kind in kinds {
        let (mut context, _cancel) = Context::background().with_cancel();
        for _ in 0..LEVELS {
            context = kind(&context);
        }
        let done = context.done().clone();
        drop(context);
        equal("at its end", &done.is_done(), &false)?;
        drop(done);
    }
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

fn each_round_of_a_group_has_its_error() -> Verdict {
    let group = ErrGroup::new();
    for (round, error) in [None, Some("one"), Some("two"), None, Some("three")].into_iter().enumerate() {
        let result = error.map_or(Ok(()), |name| Err(Named(name)));
        group.go(move || result);
        group.go(|| Ok(()));
        equal(&alloc::format!("round {round}"), &group.wait(), &result)?;
    }
    Ok(())
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
    let (context, _cancel) = Context::background().with_timeout(LONG);
    let one = slots.acquire_with(&context, 2);
    equal("free ones", &one.as_ref().map(Permit::units), &Ok(2))?;
    let (context, cancel) = Context::background().with_timeout(SHORT);
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

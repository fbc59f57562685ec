//! Contexts: who ends with whom, for which reason, and that nobody is missed.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use gzero::select::Select;
use gzero::sync::{Cause, Context, ContextError, WaitGroup};
use gzero::time::{Duration, Instant};
use gzero::{go, gosched, select};
use tests::{Named, Random, Verdict, equal};

tests::image! {
    pass: [
        the_background_does_not_end,
        a_cancel_ends_all_below,
        a_deadline_ends_all_below,
        a_deadline_that_has_passed_ends_at_once,
        a_timeout_ends,
        a_cancel_comes_before_a_late_deadline,
        values_are_found_by_their_type_upwards,
        a_parent_that_ends_ends_all_below,
        a_child_that_ends_leaves_others_alone,
        cancels_of_a_tree_at_the_same_time,
        a_child_that_cancels_itself_beside_its_parent,
        layers_end_by_a_cancel,
        layers_end_by_a_timeout,
        a_child_of_what_has_ended_has_ended,
        a_child_that_is_made_beside_a_cancel_ends,
        causes_are_those_of_the_first_end,
        causes_of_timeouts_are_for_timeouts,
        a_cause_is_there_with_the_end,
        without_cancel_only_values_stay,
        who_keeps_the_end_alone_sees_an_end_only,
        what_never_ends_is_never_chosen,
    ],
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1_000_000);

fn named(name: &'static str) -> Cause {
    Arc::new(Named(name))
}

/// Whether the channel of a context is closed.
fn is_closed(context: &Context) -> bool {
    select! {
        recv(context.done()) => true,
        default => false,
    }
}

/// Error, closed channel and cause of a context agree; returns the error.
fn err(context: &Context) -> Result<Option<ContextError>, alloc::borrow::Cow<'static, str>> {
    let error = context.err();
    equal("the channel is closed", &is_closed(context), &error.is_some())?;
    equal("it is done", &context.is_done(), &error.is_some())?;
    equal("there is a cause", &context.cause().is_some(), &error.is_some())?;
    Ok(error)
}

fn cause(context: &Context) -> Option<alloc::string::String> {
    context.cause().map(|cause| cause.to_string())
}

/// Go's `TestBackground`; there is no second one of the kind.
fn the_background_does_not_end() -> Verdict {
    let background = Context::background();
    equal("can be done", &background.done().can_be(), &false)?;
    equal("error", &err(&background)?, &None)?;
    equal("in words", &background.to_string().as_str(), &"background")
}

/// Go's `TestWithCancel`.
fn a_cancel_ends_all_below() -> Verdict {
    let (one, cancel) = Context::background().with_cancel();
    equal("in words", &one.to_string().as_str(), &"background.with_cancel")?;
    let between = one.with_value(1_u8);
    let (two, _) = between.with_cancel();
    let all = [one, between, two];
    for context in &all {
        equal("it can end", &context.done().can_be(), &true)?;
        equal("before", &err(context)?, &None)?;
    }
    cancel.cancel();
    for context in &all {
        equal("afterwards", &err(context)?, &Some(ContextError::Canceled))?;
    }
    Ok(())
}

fn ends_by_its_deadline(context: &Context) -> Verdict {
    equal("the wait", &context.wait(), &ContextError::DeadlineExceeded)?;
    equal("the error", &err(context)?, &Some(ContextError::DeadlineExceeded))
}

/// Go's `TestDeadline`.
fn a_deadline_ends_all_below() -> Verdict {
    let (context, _) = Context::background().with_deadline(Instant::now() + SHORT);
    equal("in words", &context.to_string().starts_with("background.with_deadline("), &true)?;
    ends_by_its_deadline(&context)?;
    let (context, _) = Context::background().with_deadline(Instant::now() + SHORT);
    ends_by_its_deadline(&context.with_value(1_u8))?;
    let soon = Instant::now() + SHORT;
    let (context, _) = Context::background().with_deadline(soon);
    let (below, _) = context.with_value(1_u8).with_deadline(Instant::now() + LONG);
    equal("the earlier one counts", &below.deadline(), &Some(soon))?;
    ends_by_its_deadline(&below)
}

fn a_deadline_that_has_passed_ends_at_once() -> Verdict {
    for deadline in [Instant::BOOT, Instant::now()] {
        let (context, _) = Context::background().with_deadline(deadline);
        equal("at once", &err(&context)?, &Some(ContextError::DeadlineExceeded))?;
    }
    Ok(())
}

/// Go's `TestTimeout`.
fn a_timeout_ends() -> Verdict {
    let (context, _) = Context::background().with_timeout(SHORT);
    ends_by_its_deadline(&context)?;
    let (context, _) = Context::background().with_timeout(SHORT);
    ends_by_its_deadline(&context.with_value(1_u8))?;
    let (context, _) = Context::background().with_timeout(SHORT);
    let (below, _) = context.with_value(1_u8).with_timeout(LONG);
    ends_by_its_deadline(&below)
}

/// Go's `TestCanceledTimeout`.
fn a_cancel_comes_before_a_late_deadline() -> Verdict {
    let (context, _) = Context::background().with_timeout(LONG);
    let (below, cancel) = context.with_value(1_u8).with_timeout(LONG);
    cancel.cancel();
    equal("the one below", &err(&below)?, &Some(ContextError::Canceled))?;
    equal("the one above", &err(&context)?, &None)
}

/// Go's `TestValues`, where types are keys.
fn values_are_found_by_their_type_upwards() -> Verdict {
    #[derive(Debug, PartialEq)]
    struct One(&'static str);
    #[derive(Debug, PartialEq)]
    struct Two(&'static str);
    let zero = Context::background();
    equal("nothing", &zero.value::<One>(), &None)?;
    let one = zero.with_value(One("c1"));
    let two = one.with_value(Two("c2"));
    equal("in words", &two.to_string().as_str(), &"background.with_value.with_value")?;
    equal("both", &(two.value::<One>(), two.value::<Two>()), &(Some(&One("c1")), Some(&Two("c2"))))?;
    equal("only one", &(one.value::<One>(), one.value::<Two>()), &(Some(&One("c1")), None))?;
    let (three, cancel) = two.with_cancel();
    let three = three.with_value(One("c3"));
    equal("the nearest", &three.value::<One>(), &Some(&One("c3")))?;
    equal("through others", &three.value::<Two>(), &Some(&Two("c2")))?;
    cancel.cancel();
    equal("after the end", &three.value::<Two>(), &Some(&Two("c2")))?;
    equal("above it is as it was", &two.value::<One>(), &Some(&One("c1")))
}

/// Go's `TestParentFinishesChild`.
fn a_parent_that_ends_ends_all_below() -> Verdict {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, _) = parent.with_cancel();
    let value = parent.with_value(1_u8);
    let (below_value, _) = value.with_cancel();
    let (timed, _) = value.with_timeout(LONG);
    let all = [parent, child, value, below_value, timed];
    for context in &all {
        equal("before", &err(context)?, &None)?;
    }
    cancel.cancel();
    for context in &all {
        equal("afterwards", &err(context)?, &Some(ContextError::Canceled))?;
        let (new, _) = context.with_cancel();
        equal("a new one", &err(&new)?, &Some(ContextError::Canceled))?;
    }
    Ok(())
}

/// Go's `TestChildFinishesFirst`.
fn a_child_that_ends_leaves_others_alone() -> Verdict {
    let (cancelable, _stop) = Context::background().with_cancel();
    for parent in [Context::background(), cancelable] {
        let (child, cancel) = parent.with_cancel();
        let (sister, _) = parent.with_cancel();
        cancel.cancel();
        equal("the child", &err(&child)?, &Some(ContextError::Canceled))?;
        equal("its sister", &err(&sister)?, &None)?;
        equal("its parent", &err(&parent)?, &None)?;
    }
    Ok(())
}

/// Go's `TestSimultaneousCancels`.
fn cancels_of_a_tree_at_the_same_time() -> Verdict {
    let mut all = alloc::vec![Context::background().with_cancel()];
    for at in 0..25 {
        for _ in 0..4 {
            let child = all[at].0.with_cancel();
            all.push(child);
        }
    }
    let mut random = Random::new(7);
    let mut order: Vec<usize> = (0..all.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, random.index(at + 1));
    }
    let cancels = Arc::new(WaitGroup::new());
    for at in order {
        let cancel = all[at].1.clone();
        cancels.go(move || cancel.cancel());
    }
    for (context, _) in &all {
        equal("the wait", &context.wait(), &ContextError::Canceled)?;
    }
    cancels.wait();
    Ok(())
}

/// Go's `TestInterlockedCancels`.
fn a_child_that_cancels_itself_beside_its_parent() -> Verdict {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    go(move || {
        parent.wait();
        cancel_child.cancel();
    });
    cancel_parent.cancel();
    equal("the wait", &child.wait(), &ContextError::Canceled)
}

/// A tower of values, cancels and timeouts.
fn layers(seed: u64, timeout: Duration) -> (Context, Vec<gzero::sync::Canceller>, Vec<usize>) {
    let mut random = Random::new(seed);
    let (mut context, mut cancels, mut timed) = (Context::background(), Vec::new(), Vec::new());
    while cancels.len() < 20 || timed.is_empty() {
        match random.below(3) {
            0 => context = context.with_value(cancels.len()),
            1 => {
                let (new, cancel) = context.with_cancel();
                context = new;
                cancels.push(cancel);
            }
            _ => {
                let (new, cancel) = context.with_timeout(timeout);
                timed.push(cancels.len());
                context = new;
                cancels.push(cancel);
            }
        }
    }
    (context, cancels, timed)
}

/// Go's `TestLayersCancel`.
fn layers_end_by_a_cancel() -> Verdict {
    for seed in 0..10 {
        let (context, cancels, _) = layers(seed, LONG);
        let value = context.value::<usize>().copied();
        equal("before", &err(&context)?, &None)?;
        cancels[Random::new(seed).index(cancels.len())].cancel();
        equal("afterwards", &err(&context)?, &Some(ContextError::Canceled))?;
        equal("its value", &context.value::<usize>().copied(), &value)?;
    }
    Ok(())
}

/// Go's `TestLayersTimeout`.
fn layers_end_by_a_timeout() -> Verdict {
    for seed in 0..10 {
        let (context, _cancels, _) = layers(seed, SHORT);
        let value = context.value::<usize>().copied();
        ends_by_its_deadline(&context)?;
        equal("its value", &context.value::<usize>().copied(), &value)?;
    }
    Ok(())
}

/// Go's `TestWithCancelCanceledParent`.
fn a_child_of_what_has_ended_has_ended() -> Verdict {
    let (parent, cancel) = Context::background().with_cancel();
    cancel.cancel_with(named("because"));
    let (child, _) = parent.with_cancel();
    equal("the child", &err(&child)?, &Some(ContextError::Canceled))?;
    equal("its cause", &cause(&child).as_deref(), &Some("because"))
}

/// Go's `TestWithCancelSimultaneouslyCanceledParent`.
fn a_child_that_is_made_beside_a_cancel_ends() -> Verdict {
    for _ in 0..100 {
        let (parent, cancel) = Context::background().with_cancel();
        go(move || cancel.cancel_with(named("because")));
        let (child, _) = parent.with_cancel();
        equal("the wait", &child.wait(), &ContextError::Canceled)?;
        equal("its cause", &cause(&child).as_deref(), &Some("because"))?;
    }
    Ok(())
}

/// Error and cause of a context.
fn expect(what: &str, context: &Context, error: Option<ContextError>, text: Option<&str>) -> Verdict {
    equal(what, &err(context)?, &error)?;
    equal(what, &cause(context).as_deref(), &text)
}

/// The first half of Go's `TestCause`.
fn causes_are_those_of_the_first_end() -> Verdict {
    let root = Context::background();
    expect("background", &root, None, None)?;
    let (a, cancel) = root.with_cancel();
    cancel.cancel();
    expect("no cause", &a, Some(ContextError::Canceled), Some("context canceled"))?;
    let (a, cancel) = root.with_cancel();
    cancel.cancel_with(named("parent"));
    expect("a cause", &a, Some(ContextError::Canceled), Some("parent"))?;
    for order in [["parent", "child"], ["child", "parent"]] {
        let (a, cancel_parent) = root.with_cancel();
        let (b, cancel_child) = a.with_cancel();
        for who in order {
            let cancel = if who == "parent" { &cancel_parent } else { &cancel_child };
            cancel.cancel_with(named(who));
        }
        expect("the first of two", &b, Some(ContextError::Canceled), Some(order[0]))?;
        let (a, cancel_parent) = root.with_cancel();
        let (b, cancel_child) = a.with_cancel();
        for who in order {
            if who == "parent" {
                cancel_parent.cancel();
            } else {
                cancel_child.cancel_with(named(who));
            }
        }
        let text = if order[0] == "parent" { "context canceled" } else { "child" };
        expect("the first of two, one without", &b, Some(ContextError::Canceled), Some(text))?;
    }
    expect("without cancel", &root.without_cancel(), None, None)
}

/// The second half of Go's `TestCause`.
fn causes_of_timeouts_are_for_timeouts() -> Verdict {
    use ContextError::{Canceled, DeadlineExceeded};
    let (root, text) = (Context::background(), "context deadline exceeded");
    for (length, error, text) in
        [(Duration::ZERO, DeadlineExceeded, text), (LONG, Canceled, "context canceled")]
    {
        let (a, cancel) = root.with_timeout(length);
        cancel.cancel();
        expect("a timeout", &a, Some(error), Some(text))?;
        let (a, cancel) = root.with_timeout_cause(length, named("too slow"));
        cancel.cancel();
        let text = if error == DeadlineExceeded { "too slow" } else { text };
        expect("a timeout with a cause", &a, Some(error), Some(text))?;
        let (a, cancel) = root.with_cancel();
        let (b, _) = a.with_timeout_cause(length, named("too slow"));
        cancel.cancel_with(named("early"));
        let text = if error == DeadlineExceeded { "too slow" } else { "early" };
        expect("a timeout below a cancel", &b, Some(error), Some(text))?;
        expect("without cancel", &b.without_cancel(), None, None)?;
    }
    Ok(())
}

/// Go's `TestCauseRace`.
fn a_cause_is_there_with_the_end() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    go(move || cancel.cancel_with(named("race")));
    loop {
        if let Some(text) = cause(&context) {
            return equal("the cause", &text.as_str(), &"race");
        }
        gosched();
    }
}

/// Go's `TestWithoutCancel`.
fn without_cancel_only_values_stay() -> Verdict {
    let (parent, cancel) = Context::background().with_value("value").with_timeout(LONG);
    let context = parent.without_cancel();
    cancel.cancel();
    equal("deadline", &context.deadline(), &None)?;
    equal("can be done", &context.done().can_be(), &false)?;
    equal("error", &err(&context)?, &None)?;
    equal("value", &context.value::<&str>(), &Some(&"value"))?;
    let (below, cancel) = context.with_cancel();
    cancel.cancel();
    equal("below it", &err(&below)?, &Some(ContextError::Canceled))
}

/// The contexts and their cancellers are dropped; what may end them is not.
fn who_keeps_the_end_alone_sees_an_end_only() -> Verdict {
    let (parent, cancel) = Context::background().with_cancel();
    let done = parent.with_cancel().0.with_value(1_u8).with_cancel().0.done().clone();
    let timed = parent.with_timeout(SHORT).0.with_cancel().0.done().clone();
    let lost = Context::background().with_cancel().0.done().clone();
    drop(parent);
    equal("by its time", &timed.wait(), &ContextError::DeadlineExceeded)?;
    equal("before", &(done.is_done(), lost.is_done()), &(false, false))?;
    equal("an arm, before", &select! { recv(done) => true, recv(lost) => true, default => false }, &false)?;
    let other = done.clone();
    let waits = go(move || other.wait());
    cancel.cancel();
    equal("the wait", &waits.join(), &ContextError::Canceled)?;
    equal("an arm", &select! { recv(lost) => false, recv(done) => true }, &true)?;
    equal("what nobody can end", &lost.is_done(), &false)
}

fn what_never_ends_is_never_chosen() -> Verdict {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let never = context.without_cancel();
    for _ in 0..20 {
        let chosen = select! {
            recv(never.done()) => "never",
            recv(context.done()) => "at once",
        };
        equal("of two", &chosen, &"at once")?;
    }
    let alone = select! { recv(never.done()) => true, default => false };
    equal("alone", &alone, &false)?;
    let built = Select::new().recv(never.done(), |_| "never").recv(context.done(), |_| "at once");
    equal("of arms that are added", &built.wait(), &"at once")
}

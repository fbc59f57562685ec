//! Park and ready: nothing is lost, nothing happens twice.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use gzero::sync::{Context, Semaphore, WaitGroup};
use gzero::{
    GoRef, Mailbox, Nanos, WaitReason, current, go, go_named, gopark, goready, gosched, park, roll_call,
    scope, semacquire, sleep, stats, unpark,
};
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        an_unpark_before_the_park_counts,
        many_unparks_count_as_one,
        a_ready_inside_publish_is_not_lost,
        a_park_can_be_cancelled,
        ready_races_with_park,
        turns_are_taken,
        wakes_reach_sleeping_cpus,
        one_wakes_many,
        mailboxes_deliver_each_value_once,
        a_chain_of_mailboxes_keeps_order,
        seeded_mix,
    ],
    dies: [
        ("throw", "scope: the goroutine was readied by something else", a_ready_that_nobody_owes_ends_no_scope),
        ("throw", "wait group: the goroutine was readied by something else", a_ready_that_nobody_owes_ends_no_queue),
        ("throw", "semacquire: the goroutine was readied by something else", a_ready_that_nobody_owes_is_no_unit),
        ("throw", "sleep: the goroutine was readied by something else", a_ready_that_nobody_owes_is_no_time),
        ("throw", "semacquire: the goroutine was readied by something else", a_ready_that_nobody_owes_is_no_permit),
    ],
}

#[expect(unsafe_code, reason = "cases end waits of their own, and break the rule where the text says so")]
fn ready(g: GoRef) {
    // SAFETY: the handle comes from the one `publish` that waits for this; else the case is about what then happens.
    unsafe { goready(g) }
}

fn an_unpark_before_the_park_counts() {
    for _ in 0..1_000 {
        unpark(current());
        park();
    }
}

fn many_unparks_count_as_one() -> Verdict {
    for _ in 0..5 {
        unpark(current());
    }
    park();
    // The next one waits until somebody unparks it again.
    let me = current();
    let steps = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&steps);
    go(move || {
        count.store(1, Ordering::Release);
        unpark(me);
    });
    park();
    wait_until_alone();
    equal("steps before the second park ended", &steps.load(Ordering::Acquire), &1)
}

fn a_ready_inside_publish_is_not_lost() -> Verdict {
    let mut published = 0;
    for _ in 0..1_000 {
        gopark(WaitReason::Park, |me| {
            published += 1;
            ready(me);
            true
        });
    }
    equal("parks", &published, &1_000)
}

fn a_park_can_be_cancelled() -> Verdict {
    let mut tries = 0;
    for _ in 0..1_000 {
        gopark(WaitReason::Park, |_| {
            tries += 1;
            false
        });
    }
    equal("tries", &tries, &1_000)
}

/// Where one goroutine leaves its handle for the other, and says that it is done.
#[derive(Default)]
struct Place(AtomicU64, Mailbox<GoRef>);

/// One goroutine parks as fast as it can, another readies it as soon as it is published, so that the ready meets
/// every instant of the park: before the switch, during it, after it.
fn ready_races_with_park() -> Verdict {
    const ROUNDS: u64 = 30_000;
    let pairs = stats::gomaxprocs().max(2) / 2;
    let woken = Arc::new(AtomicU64::new(0));
    for pair in 0..pairs as u64 {
        let place = Arc::new(Place::default());
        let (parks, count) = (Arc::clone(&place), Arc::clone(&woken));
        go_named("parks", move || {
            let mut random = Random::new(pair);
            for _ in 0..ROUNDS {
                gopark(WaitReason::Park, |me| {
                    // The other side has taken the last one: it readied this goroutine.
                    assert_eq!(parks.1.try_put(me), Ok(()));
                    // Let the other side come in before the switch, now and then.
                    (0..random.below(40)).for_each(|_| core::hint::spin_loop());
                    true
                });
                count.fetch_add(1, Ordering::Relaxed);
            }
            parks.0.store(1, Ordering::Release);
        });
        go_named("readies", move || {
            while place.0.load(Ordering::Acquire) == 0 {
                match place.1.try_take() {
                    Some(sleeper) => ready(sleeper),
                    None => gosched(),
                }
            }
        });
    }
    wait_until_alone();
    equal("parks that ended", &woken.load(Ordering::Relaxed), &(ROUNDS * pairs as u64))
}

/// All CPUs are needed at once, over and over, and in between they fall asleep.
///
/// The delay between the rounds is random, so that the wake-ups meet every instant of falling asleep. One that is lost
/// leaves a CPU missing for ever.
fn wakes_reach_sleeping_cpus() -> Verdict {
    let procs = stats::gomaxprocs();
    let mut random = Random::new(7);
    for _ in 0..12_000 / (procs * procs) {
        equal("CPUs that came", &(roll_call() as usize), &procs)?;
        (0..random.below(3_000)).for_each(|_| core::hint::spin_loop());
    }
    wait_until_alone();
    Ok(())
}

/// Two goroutines that take turns by park and unpark.
fn turns_are_taken() -> Verdict {
    let turn = Arc::new(AtomicU64::new(0));
    let (shared, main) = (Arc::clone(&turn), current());
    let pong = go_named("pong", move || take_turns(&shared, 1, main));
    take_turns(&turn, 0, pong.id());
    wait_until_alone();
    equal("turns", &turn.load(Ordering::Relaxed), &TURNS)
}

const TURNS: u64 = 20_000;

/// Takes every turn whose number has this remainder by two, and wakes the other.
fn take_turns(turn: &AtomicU64, parity: u64, other: GoRef) {
    loop {
        let now = turn.load(Ordering::Acquire);
        if now >= TURNS {
            break;
        }
        if now % 2 == parity {
            turn.store(now + 1, Ordering::Release);
            unpark(other);
        } else {
            park();
        }
    }
    unpark(other);
}

fn one_wakes_many() -> Verdict {
    const SLEEPERS: u64 = 200;
    let arrived = Arc::new(AtomicU64::new(0));
    let main = current();
    let sleepers: Vec<GoRef> = (0..SLEEPERS)
        .map(|_| {
            let arrived = Arc::clone(&arrived);
            go(move || {
                for round in 1..=20 {
                    if arrived.fetch_add(1, Ordering::AcqRel) + 1 == round * SLEEPERS {
                        unpark(main);
                    }
                    park();
                }
            })
            .id()
        })
        .collect();
    for round in 1..=20 {
        while arrived.load(Ordering::Acquire) < round * SLEEPERS {
            park();
        }
        for sleeper in &sleepers {
            unpark(*sleeper);
        }
    }
    // A sleeper whose last unpark came before its park finds the token and ends as well.
    wait_until_alone();
    equal("arrivals", &arrived.load(Ordering::Relaxed), &(20 * SLEEPERS))
}

fn mailboxes_deliver_each_value_once() -> Verdict {
    const VALUES: u64 = 4_000;
    let mailbox = Arc::new(Mailbox::new());
    let sum = Arc::new(AtomicU64::new(0));
    for from in 0..4 {
        let mailbox = Arc::clone(&mailbox);
        go(move || (0..VALUES).filter(|v| v % 4 == from).for_each(|value| mailbox.put(value + 1)));
    }
    for _ in 0..4 {
        let (mailbox, sum) = (Arc::clone(&mailbox), Arc::clone(&sum));
        go(move || {
            for _ in 0..VALUES / 4 {
                sum.fetch_add(mailbox.take(), Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    equal("sum", &sum.load(Ordering::Relaxed), &(VALUES * (VALUES + 1) / 2))?;
    equal("empty at the end", &mailbox.is_empty(), &true)
}

fn a_chain_of_mailboxes_keeps_order() -> Verdict {
    let first = Arc::new(Mailbox::new());
    let mut last = Arc::clone(&first);
    for _ in 0..50 {
        let next = Arc::new(Mailbox::new());
        let (from, to) = (last, Arc::clone(&next));
        go(move || (0..200).for_each(|_| to.put(from.take() + 1)));
        last = next;
    }
    go(move || (0..200u64).for_each(|value| first.put(value * 1_000)));
    for value in 0..200u64 {
        equal("value at the end of the chain", &last.take(), &(value * 1_000 + 50))?;
    }
    wait_until_alone();
    Ok(())
}

/// Goroutines that start others, park, unpark at random and end, from a fixed seed: all of them must end.
fn seeded_mix() -> Verdict {
    let live = Arc::new(AtomicU64::new(0));
    let started = Arc::new(AtomicU64::new(0));
    for seed in 0..8 {
        let (live, started) = (Arc::clone(&live), Arc::clone(&started));
        go(move || mix(seed, 3, &live, &started));
    }
    wait_until_alone();
    equal("goroutines left", &live.load(Ordering::Relaxed), &0)?;
    equal("goroutines started", &(started.load(Ordering::Relaxed) > 100), &true)
}

fn mix(seed: u64, depth: u64, live: &Arc<AtomicU64>, started: &Arc<AtomicU64>) {
    live.fetch_add(1, Ordering::Relaxed);
    started.fetch_add(1, Ordering::Relaxed);
    let mut random = Random::new(seed);
    let me = current();
    for _ in 0..32 {
        match random.below(4) {
            0 if depth > 0 => {
                let (live, started, seed) = (Arc::clone(live), Arc::clone(started), random.below(1 << 40));
                go(move || {
                    mix(seed, depth - 1, &live, &started);
                    unpark(me);
                });
                park();
            }
            1 => {
                go(move || {
                    unpark(me);
                });
                park();
            }
            2 => gosched(),
            _ => {
                unpark(me);
                park();
            }
        }
    }
    live.fetch_sub(1, Ordering::Relaxed);
}

/// Has the goroutine that calls readied when it waits for this: by somebody who does not owe it.
fn ready_unasked(reason: WaitReason) {
    let me = current();
    go(move || {
        while stats::waiting().all(|waiting| waiting.reason != reason) {
            gosched();
        }
        ready(me);
    });
}

fn a_ready_that_nobody_owes_ends_no_scope() {
    let stop = AtomicBool::new(false);
    ready_unasked(WaitReason::Scope);
    scope(|s| {
        s.go(|| {
            while !stop.load(Ordering::Relaxed) {
                gosched();
            }
        });
    });
}

fn a_ready_that_nobody_owes_ends_no_queue() {
    static TASKS: WaitGroup = WaitGroup::new();
    TASKS.add(1);
    ready_unasked(WaitReason::WaitGroup);
    TASKS.wait();
}

fn a_ready_that_nobody_owes_is_no_unit() {
    static UNITS: AtomicU32 = AtomicU32::new(0);
    ready_unasked(WaitReason::Semacquire);
    semacquire(&UNITS);
}

fn a_ready_that_nobody_owes_is_no_time() {
    ready_unasked(WaitReason::Sleep);
    sleep(Nanos(1 << 62));
}

fn a_ready_that_nobody_owes_is_no_permit() {
    let units = Semaphore::new(1);
    units.acquire(1).forget();
    let (context, _cancel) = Context::background().with_cancel();
    ready_unasked(WaitReason::Semacquire);
    drop(units.acquire_with(&context, 1));
}

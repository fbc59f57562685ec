//! Where goroutines meet: conditions, wait groups, barriers, things done once, semaphores and pools.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use gzero::sync::{Barrier, LazyLock, Mutex, Once, OnceLock, Pool, Semaphore, WaitGroup};
use gzero::{MemStats, WaitReason, go, goexit, gosched, read_mem_stats, stats, testing};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        once_is_once,
        a_once_is_done_when_a_call_returns,
        a_lazy_value_is_made_once_and_allocates_once,
        lazy_values_may_be_several,
        what_makes_a_lazy_value_is_dropped_with_the_first_look,
        a_cell_is_set_once,
        a_cell_drops_its_value_once,
        a_group_lets_go_when_all_are_done,
        a_group_sees_all_tasks,
        a_static_group_has_tasks,
        a_group_works_at_any_address,
        a_group_is_used_again_while_waiters_wake_up,
        all_meet_at_a_barrier_over_and_over,
        a_large_request_is_served_in_its_turn,
        no_more_units_are_out_than_there_are,
        a_forgotten_permit_is_given_back_by_hand,
        a_pool_gives_back_what_was_put,
        a_pool_makes_what_it_has_not,
        a_pool_drops_what_it_keeps_on_request,
        a_pool_keeps_nothing_that_was_taken,
        a_pool_gives_each_value_to_one,
    ],
    dies: [
        ("panic", "WaitGroup: more tasks are done than there are", more_done_than_there_is),
        ("panic", "Once: called again by the function that it calls", a_once_in_itself),
        ("fatal", "waits: once at 0x\theld by goroutine \twhich has ended", a_once_that_ended_its_goroutine_is_not_called_again),
        ("panic", "Semaphore: 3 units of 2", more_units_than_there_are),
        ("panic", "Semaphore: 1 units are given back, and 0 were taken", units_that_were_not_taken),
    ],
}

fn wait_for(reason: WaitReason, count: usize) {
    while stats::waiting().filter(|wait| wait.reason == reason).count() != count {
        gosched();
    }
}

/// Go's `TestOnce`.
fn once_is_once() -> Verdict {
    let calls = Arc::new((Once::new(), AtomicU32::new(0)));
    let all = Arc::new(WaitGroup::new());
    for _ in 0..10 {
        let calls = Arc::clone(&calls);
        all.go(move || {
            calls.0.call_once(|| {
                gosched();
                calls.1.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.1.load(Ordering::Relaxed), 1, "inside");
        });
    }
    all.wait();
    equal("calls", &calls.1.load(Ordering::Relaxed), &1)
}

fn a_once_is_done_when_a_call_returns() -> Verdict {
    let once = Once::new();
    let mut inside = true;
    once.call_once(|| inside = once.is_completed());
    equal("before and after", &(inside, once.is_completed()), &(false, true))
}

fn a_once_in_itself() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| ONCE.call_once(|| {}));
}

/// Go's `TestOnceFuncGoexit`: the second one must not call; here it waits for ever, and the report says why.
#[expect(unsafe_code, reason = "what ends so is what the case is about")]
fn a_once_that_ended_its_goroutine_is_not_called_again() {
    static ONCE: Once = Once::new();
    go(|| {
        ONCE.call_once(|| {
            // SAFETY: nobody borrows from this stack.
            unsafe { goexit() }
        });
    });
    wait_until_alone();
    ONCE.call_once(|| gzero::exit(1));
}

/// Blocks of the heap that were ever allocated.
fn mallocs() -> u64 {
    let mut stats = alloc::boxed::Box::<MemStats>::default();
    read_mem_stats(&mut stats);
    stats.mallocs
}

/// Go's `TestOnceFunc` and `TestOnceValue`.
fn a_lazy_value_is_made_once_and_allocates_once() -> Verdict {
    let calls = AtomicU32::new(0);
    let lazy = LazyLock::new(|| calls.fetch_add(1, Ordering::Relaxed) + 1);
    equal("the value", &*lazy, &1)?;
    let around = |looks: u32| {
        let before = mallocs();
        let sum: u32 = (0..looks).map(|_| *lazy.force()).sum();
        (sum, mallocs() - before)
    };
    let (none, ten) = (around(0), around(10));
    equal("the value again", &ten.0, &10)?;
    equal("allocations of ten looks and of none", &ten.1, &none.1)?;
    equal("calls", &calls.load(Ordering::Relaxed), &1)
}

/// Go's `TestOnceValues`.
fn lazy_values_may_be_several() -> Verdict {
    let calls = AtomicU32::new(0);
    let lazy = LazyLock::new(|| {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        (call, call + 1)
    });
    equal("both", &(*lazy, *lazy), &((1, 2), (1, 2)))
}

/// Go's `TestOnceXGC`, without a collector.
fn what_makes_a_lazy_value_is_dropped_with_the_first_look() -> Verdict {
    let buffer = Arc::new([0_u8; 1024]);
    let kept = Arc::clone(&buffer);
    let lazy = LazyLock::new(move || kept.len());
    equal("before", &Arc::strong_count(&buffer), &2)?;
    equal("the value", &*lazy, &1024)?;
    equal("afterwards", &Arc::strong_count(&buffer), &1)?;
    equal("the value again", &*lazy, &1024)
}

fn a_cell_is_set_once() -> Verdict {
    let cell = Arc::new(OnceLock::new());
    equal("empty", &cell.get(), &None)?;
    let (all, set) = (Arc::new(WaitGroup::new()), Arc::new(AtomicU32::new(0)));
    for n in 0..10 {
        let (cell, set) = (Arc::clone(&cell), Arc::clone(&set));
        all.go(move || {
            if cell.set(n) == Ok(()) {
                set.fetch_add(1, Ordering::Relaxed);
            }
            assert!(cell.get().is_some(), "somebody has set it");
        });
    }
    all.wait();
    let value = *cell.get_or_init(|| 99);
    equal("set, and to one of them", &(set.load(Ordering::Relaxed), value < 10), &(1, true))
}

fn a_cell_drops_its_value_once() -> Verdict {
    let value = Arc::new(());
    let (empty, full) = (OnceLock::<Arc<()>>::new(), OnceLock::new());
    equal("set", &full.set(Arc::clone(&value)).is_ok(), &true)?;
    equal("a second one comes back", &full.set(Arc::clone(&value)).is_err(), &true)?;
    equal("it lives", &Arc::strong_count(&value), &2)?;
    equal("out of nothing", &empty.into_inner().is_none(), &true)?;
    drop(full);
    equal("it is gone", &Arc::strong_count(&value), &1)
}

/// Go's `TestWaitGroup`.
fn a_group_lets_go_when_all_are_done() -> Verdict {
    const TASKS: i32 = 16;
    let (first, second) = (Arc::new(WaitGroup::new()), Arc::new(WaitGroup::new()));
    let exited = Arc::new(AtomicU32::new(0));
    for round in 1..=8 {
        first.add(TASKS);
        second.add(TASKS);
        for _ in 0..TASKS {
            let (first, second, exited) = (Arc::clone(&first), Arc::clone(&second), Arc::clone(&exited));
            go(move || {
                first.done();
                second.wait();
                exited.fetch_add(1, Ordering::AcqRel);
            });
        }
        first.wait();
        for _ in 0..TASKS {
            let before = TASKS.cast_unsigned() * (round - 1);
            equal("none goes too soon", &exited.load(Ordering::Acquire), &before)?;
            second.done();
        }
        wait_until_alone();
        equal("all went", &exited.load(Ordering::Acquire), &(TASKS.cast_unsigned() * round))?;
    }
    Ok(())
}

/// Go's `TestWaitGroupMisuse`.
fn more_done_than_there_is() {
    let group = WaitGroup::new();
    group.add(1);
    group.done();
    group.done();
}

/// Go's `TestWaitGroupRace`.
fn a_group_sees_all_tasks() -> Verdict {
    for _ in 0..500 {
        let (group, count) = (Arc::new(WaitGroup::new()), Arc::new(AtomicU32::new(0)));
        for _ in 0..2 {
            let count = Arc::clone(&count);
            group.go(move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        group.wait();
        equal("tasks", &count.load(Ordering::Relaxed), &2)?;
    }
    Ok(())
}

fn a_static_group_has_tasks() -> Verdict {
    static GROUP: WaitGroup = WaitGroup::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for round in 1..=3 {
        for _ in 0..5 {
            GROUP.go_static(|| {
                gosched();
                COUNT.fetch_add(1, Ordering::Relaxed);
            });
        }
        GROUP.wait();
        equal("tasks", &COUNT.load(Ordering::Relaxed), &(5 * round))?;
    }
    Ok(())
}

/// Go's `TestWaitGroupAlign`.
fn a_group_works_at_any_address() -> Verdict {
    #[repr(C)]
    struct Behind {
        byte: u8,
        group: WaitGroup,
    }
    let behind = Arc::new(Behind { byte: 7, group: WaitGroup::new() });
    behind.group.add(1);
    let task = Arc::clone(&behind);
    go(move || task.group.done());
    behind.group.wait();
    equal("the byte", &behind.byte, &7)
}

/// A task of the next round begins while those who waited for this round are still on their way.
fn a_group_is_used_again_while_waiters_wake_up() -> Verdict {
    const ROUNDS: u32 = 200;
    let group = Arc::new(WaitGroup::new());
    let late = Arc::new(AtomicU32::new(0));
    for _ in 0..ROUNDS {
        group.add(1);
        for _ in 0..3 {
            let (group, late) = (Arc::clone(&group), Arc::clone(&late));
            go(move || {
                group.wait();
                late.fetch_add(1, Ordering::Relaxed);
            });
        }
        let task = Arc::clone(&group);
        go(move || task.done());
        group.wait();
    }
    wait_until_alone();
    equal("all went on", &late.load(Ordering::Relaxed), &(3 * ROUNDS))
}

fn all_meet_at_a_barrier_over_and_over() -> Verdict {
    const MEMBERS: u32 = 5;
    const ROUNDS: u32 = 100;
    let barrier = Arc::new(Barrier::new(MEMBERS));
    let (arrived, leaders) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let all = Arc::new(WaitGroup::new());
    for _ in 0..MEMBERS {
        let (barrier, arrived, leaders) = (Arc::clone(&barrier), Arc::clone(&arrived), Arc::clone(&leaders));
        all.go(move || {
            for round in 1..=ROUNDS {
                arrived.fetch_add(1, Ordering::Relaxed);
                let leads = barrier.wait().is_leader();
                let now = arrived.load(Ordering::Relaxed);
                assert!(now >= round * MEMBERS, "round {round}: {now} have arrived");
                leaders.fetch_add(u32::from(leads), Ordering::Relaxed);
            }
        });
    }
    all.wait();
    equal("leaders", &leaders.load(Ordering::Relaxed), &ROUNDS)
}

/// Small requests come all the time, and one is free all the time.
fn a_large_request_is_served_in_its_turn() -> Verdict {
    let units = Arc::new(Semaphore::new(3));
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = units.acquire(2);
    for (n, wanted) in [3, 1, 1].into_iter().enumerate() {
        let (units, order) = (Arc::clone(&units), Arc::clone(&order));
        go(move || {
            let permit = units.acquire(wanted);
            order.lock().push(wanted);
            drop(permit);
        });
        wait_for(WaitReason::Semacquire, n + 1);
    }
    equal(
        "one is free, and not for who comes by",
        &(units.free(), units.try_acquire(1).is_none()),
        &(1, true),
    )?;
    drop(first);
    wait_until_alone();
    equal("the order", &*order.lock(), &alloc::vec![3, 1, 1])?;
    equal("all came back", &units.free(), &3)
}

fn no_more_units_are_out_than_there_are() -> Verdict {
    const UNITS: u32 = 10;
    let units = Arc::new((Semaphore::new(UNITS), AtomicU32::new(0)));
    let all = Arc::new(WaitGroup::new());
    for n in 0..8_u32 {
        let units = Arc::clone(&units);
        all.go(move || {
            for round in 0..100 {
                let wanted = (n + round) % UNITS + 1;
                let permit = units.0.acquire(wanted);
                let out = units.1.fetch_add(wanted, Ordering::Relaxed) + wanted;
                assert!(out <= UNITS, "{out} units are out");
                if round % 4 == 0 {
                    gosched();
                }
                units.1.fetch_sub(wanted, Ordering::Relaxed);
                drop(permit);
            }
        });
    }
    all.wait();
    equal("all came back", &units.0.free(), &UNITS)
}

fn a_forgotten_permit_is_given_back_by_hand() -> Verdict {
    let units = Semaphore::new(2);
    units.acquire(2).forget();
    equal("kept", &units.free(), &0)?;
    units.release(1);
    equal("given back", &units.free(), &1)
}

fn more_units_than_there_are() {
    drop(Semaphore::new(2).acquire(3));
}

fn units_that_were_not_taken() {
    Semaphore::new(2).release(1);
}

/// Go's `TestPool`; here the value that was put last comes first.
fn a_pool_gives_back_what_was_put() -> Verdict {
    let pool = Pool::new(|| "new");
    equal("empty", &pool.get(), &"new")?;
    let got = testing::while_pinned(|| {
        pool.put("a");
        pool.put("b");
        [pool.get(), pool.get(), pool.get()]
    });
    equal("what was put, and then a new one", &got, &["b", "a", "new"])?;
    (0..100).for_each(|_| pool.put("c"));
    let kept = pool.len();
    equal("as many as there is room for", &(kept >= 64), &true)?;
    equal("one of them", &pool.get(), &"c")?;
    pool.clear();
    equal("none of them", &pool.get(), &"new")
}

/// Go's `TestPoolNew`.
fn a_pool_makes_what_it_has_not() -> Verdict {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let pool = Pool::new(|| MADE.fetch_add(1, Ordering::Relaxed) + 1);
    equal("new ones", &(pool.get(), pool.get()), &(1, 2))?;
    let got = testing::while_pinned(|| {
        pool.put(42);
        pool.get()
    });
    equal("the one that was put", &got, &42)?;
    equal("a new one", &pool.get(), &3)
}

/// Go's `TestPoolRelease`.
fn a_pool_drops_what_it_keeps_on_request() -> Verdict {
    let value = Arc::new(());
    let pool = Pool::new(Arc::<()>::default);
    for _ in 0..100 {
        pool.put(Arc::clone(&value));
    }
    equal("more than it keeps were dropped at once", &(Arc::strong_count(&value) - 1), &pool.len())?;
    pool.clear();
    equal("kept", &(pool.len(), Arc::strong_count(&value)), &(0, 1))
}

/// Go's `TestPoolGC`.
fn a_pool_keeps_nothing_that_was_taken() -> Verdict {
    let value = Arc::new(());
    let pool = Pool::new(Arc::<()>::default);
    for _ in 0..50 {
        pool.put(Arc::clone(&value));
    }
    for _ in 0..50 {
        drop(pool.get());
    }
    equal("references", &Arc::strong_count(&value), &1)?;
    for _ in 0..50 {
        pool.put(Arc::clone(&value));
    }
    drop(pool);
    equal("references without the pool", &Arc::strong_count(&value), &1)
}

/// Go's `TestPoolStress`, with values that tell whether two have them.
fn a_pool_gives_each_value_to_one() -> Verdict {
    let pool = Arc::new(Pool::new(|| Arc::new(AtomicU32::new(0))));
    let all = Arc::new(WaitGroup::new());
    for _ in 0..10 {
        let pool = Arc::clone(&pool);
        all.go(move || {
            for round in 0..500 {
                let value = pool.get();
                assert_eq!(value.fetch_add(1, Ordering::Relaxed), 0, "somebody else has it");
                if round % 50 == 0 {
                    gosched();
                }
                value.fetch_sub(1, Ordering::Relaxed);
                pool.put(value);
            }
        });
    }
    all.wait();
    equal("it keeps no more than were out", &(pool.len() <= 10), &true)
}

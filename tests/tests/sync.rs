//! Mutexes and conditions: one at a time, nobody for ever, and no notification lost.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gzero::sync::{Cond, Mutex, MutexGuard, WaitGroup};
use gzero::{
    Nanos, WaitReason, go, goid, gomaxprocs, gosched, num_cpu, semacquire, semrelease, sleep, stats,
    try_semacquire,
};
use tests::{Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        one_goroutine_at_a_time_has_the_mutex,
        ten_goroutines_share_a_unit,
        a_hog_does_not_starve_others,
        a_hog_that_does_not_sleep_does_not_starve_others,
        a_starving_waiter_is_next,
        who_finds_the_holder_next_in_line_makes_room,
        who_sleeps_is_not_forgotten_by_those_who_make_room,
        a_holder_is_named_as_long_as_it_holds,
        a_guard_is_released_on_every_path,
        what_a_mutex_guards_comes_back,
        a_guard_of_an_unsized_value_works,
        a_mutex_may_be_tried_on_the_kernel_stack,
        a_signal_wakes_one,
        signals_wake_in_the_order_of_waiting,
        a_broadcast_wakes_all_each_time,
        three_take_turns_by_a_condition,
        a_waiter_is_not_robbed_of_its_broadcast,
        a_bounded_queue_of_conditions_loses_nothing,
        a_condition_that_holds_is_not_waited_for,
    ],
    dies: [
        ("throw", "Mutex::lock not on the G stack", a_free_mutex_is_not_locked_on_the_kernel_stack),
        ("throw", "Cond::wait not on the G stack", a_wait_on_the_kernel_stack),
        ("fatal", "waits: cond at 0x\t!deadlock:", a_condition_that_nobody_makes_true),
    ],
}

/// Adds one, or tries to in every third turn, and then counts that it could.
fn hammer(mutex: &Mutex<u32>, n: u32, tried: &AtomicU32) {
    let guard = if n.is_multiple_of(3) { mutex.try_lock() } else { Some(mutex.lock()) };
    let Some(mut value) = guard else { return };
    // Read and written apart: an addition is lost if two are inside.
    let before = *value;
    if n.is_multiple_of(100) {
        gosched();
    }
    *value = before + 1;
    tried.fetch_add(u32::from(n.is_multiple_of(3)), Ordering::Relaxed);
}

/// Go's `TestMutex`.
fn one_goroutine_at_a_time_has_the_mutex() -> Verdict {
    let mutex = Arc::new(Mutex::new(0_u32));
    let guard = mutex.lock();
    equal("locked", &mutex.try_lock().is_some(), &false)?;
    drop(guard);
    equal("unlocked", &mutex.try_lock().is_some(), &true)?;
    let all = Arc::new(WaitGroup::new());
    let tried = Arc::new(AtomicU32::new(0));
    for _ in 0..10 {
        let (mutex, tried) = (Arc::clone(&mutex), Arc::clone(&tried));
        all.go(move || {
            (0..1_000).for_each(|n| hammer(&mutex, n, &tried));
        });
    }
    all.wait();
    let tried = tried.load(Ordering::Relaxed);
    equal("additions", &*mutex.lock(), &(10 * 666 + tried))
}

/// `sync`'s `TestSemaphore`.
fn ten_goroutines_share_a_unit() -> Verdict {
    let (unit, inside) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    let all = Arc::new(WaitGroup::new());
    for _ in 0..10 {
        let (unit, inside) = (Arc::clone(&unit), Arc::clone(&inside));
        all.go(move || {
            for _ in 0..1_000 {
                semacquire(&unit);
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "alone");
                inside.fetch_sub(1, Ordering::Relaxed);
                semrelease(&unit);
            }
        });
    }
    all.wait();
    equal("the unit", &unit.load(Ordering::Relaxed), &1)
}

/// Go's `TestMutexFairness`.
fn a_hog_does_not_starve_others() -> Verdict {
    fairness(|guard| {
        sleep(Nanos(100_000));
        drop(guard);
    })
}

/// The same with a hog that keeps its CPU.
fn a_hog_that_does_not_sleep_does_not_starve_others() -> Verdict {
    fairness(|guard| {
        let until = gzero::now() + Nanos(100_000);
        while gzero::now() < until {}
        drop(guard);
    })
}

fn fairness(hold: fn(MutexGuard<'_, u32>)) -> Verdict {
    let mutex = Arc::new(Mutex::new(0_u32));
    let stop = Arc::new(AtomicBool::new(false));
    let hog = (Arc::clone(&mutex), Arc::clone(&stop));
    go(move || {
        while !hog.1.load(Ordering::Relaxed) {
            hold(hog.0.lock());
        }
    });
    for _ in 0..10 {
        sleep(Nanos(100_000));
        *mutex.lock() += 1;
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("turns", &*mutex.lock(), &10)
}

/// Waits for semaphores, since boot.
fn sema_waits() -> u64 {
    stats::per_cpu().map(|(_, counters)| counters.sema_waits).sum()
}

/// A contender does not sleep where the holder goes on at once when it makes room.
fn who_finds_the_holder_next_in_line_makes_room() -> Verdict {
    let procs = gomaxprocs(1);
    let mutex = Arc::new(Mutex::new(0_u32));
    let before = sema_waits();
    for _ in 0..200 {
        let guard = mutex.lock();
        let theirs = Arc::clone(&mutex);
        let contender = go(move || *theirs.lock() += 1);
        // It runs, and comes back here.
        gosched();
        drop(guard);
        contender.join();
    }
    gomaxprocs(i32::try_from(procs).unwrap_or(i32::MAX));
    equal("turns", &*mutex.lock(), &200)?;
    // A holder that was preempted is in the global queue: then it does sleep.
    equal("most did not sleep", &(sema_waits() - before < 100), &true)
}

/// Who makes room keeps the holder's unlock from waking others; they get their turns all the same.
fn who_sleeps_is_not_forgotten_by_those_who_make_room() -> Verdict {
    let procs = gomaxprocs(1);
    let mutex = Arc::new(Mutex::new(0_u32));
    let before = sema_waits();
    for _ in 0..100 {
        let guard = mutex.lock();
        let sleeper = Arc::clone(&mutex);
        let sleeper = go(move || *sleeper.lock() += 1);
        wait_for_waiter();
        let contender = Arc::clone(&mutex);
        let contender = go(move || *contender.lock() += 1);
        // It runs, makes room, and is awake when this unlocks.
        gosched();
        drop(guard);
        sleeper.join();
        contender.join();
    }
    gomaxprocs(i32::try_from(procs).unwrap_or(i32::MAX));
    equal("turns", &*mutex.lock(), &200)?;
    equal("most made room", &(sema_waits() - before < 150), &true)
}

/// Who has waited for longer than a millisecond and has lost once more gets the mutex next, whoever comes by.
fn a_starving_waiter_is_next() -> Verdict {
    for _ in 0..20 {
        let mutex = Arc::new(Mutex::new(false));
        let guard = mutex.lock();
        let waiter = Arc::clone(&mutex);
        go(move || *waiter.lock() = true);
        wait_for_waiter();
        sleep(Nanos(2_000_000));
        drop(guard);
        // It is readied and has not the mutex yet, on one CPU always. Unless it was faster, it loses and waits again.
        let guard = mutex.try_lock();
        if let Some(guard) = guard.filter(|had_its_turn| !**had_its_turn) {
            wait_for_waiter();
            drop(guard);
            let passed_it = mutex.try_lock().is_some_and(|had_its_turn| !*had_its_turn);
            equal("somebody came in between", &passed_it, &false)?;
        }
        wait_until_alone();
        equal("it had its turn", &*mutex.lock(), &true)?;
    }
    Ok(())
}

fn wait_for_waiter() {
    while stats::waiting().all(|wait| wait.reason != WaitReason::Mutex) {
        gosched();
    }
}

fn a_holder_is_named_as_long_as_it_holds() -> Verdict {
    let mutex = Mutex::new(0);
    let said = |text: &str| alloc::format!("{mutex:?}").contains(text);
    equal("before", &said("held by nobody"), &true)?;
    let guard = mutex.lock();
    equal("meanwhile", &said(&alloc::format!("held by goroutine {} [main]", goid())), &true)?;
    drop(guard);
    equal("afterwards", &said("held by nobody"), &true)
}

fn a_guard_is_released_on_every_path() -> Verdict {
    fn by_question_mark(mutex: &Mutex<u32>) -> Option<u32> {
        let guard = mutex.lock();
        let found = guard.checked_sub(1_000)?;
        Some(found)
    }
    fn by_return(mutex: &Mutex<u32>) -> u32 {
        let guard = mutex.lock();
        if *guard < 1_000 {
            return *guard;
        }
        0
    }
    let mutex = Mutex::new(7);
    let free = |what: &str| equal(what, &mutex.is_locked(), &false);
    equal("by ?", &by_question_mark(&mutex), &None)?;
    free("by ?")?;
    equal("by return", &by_return(&mutex), &7)?;
    free("by return")?;
    for n in 0..2 {
        let guard = mutex.lock();
        if *guard > n {
            break;
        }
    }
    free("by break")?;
    equal("in a closure", &(0..2).map(|n| *mutex.lock() + n).sum::<u32>(), &15)?;
    free("of a temporary")?;
    drop(Some(mutex.lock()));
    free("in an option")?;
    let guard = mutex.lock();
    let moved = guard;
    drop(moved);
    free("by a move")
}

fn what_a_mutex_guards_comes_back() -> Verdict {
    let mut mutex = Mutex::from(alloc::vec![1]);
    mutex.get_mut().push(2);
    mutex.lock().push(3);
    equal("the value", &mutex.into_inner(), &alloc::vec![1, 2, 3])
}

fn a_guard_of_an_unsized_value_works() -> Verdict {
    let mutex: Arc<Mutex<[u8]>> = Arc::new(Mutex::new([1, 2, 3]));
    mutex.lock()[1] = 7;
    equal("the value", &mutex.lock().to_vec(), &alloc::vec![1, 7, 3])
}

fn a_mutex_may_be_tried_on_the_kernel_stack() -> Verdict {
    let mutex = Mutex::new(1);
    let got = gzero::on_m(|| mutex.try_lock().map(|guard| *guard));
    equal("the value", &got, &Some(1))
}

fn a_free_mutex_is_not_locked_on_the_kernel_stack() {
    let mutex = Mutex::new(1);
    gzero::on_m(|| drop(mutex.lock()));
}

fn a_wait_on_the_kernel_stack() {
    let (mutex, cond) = (Mutex::new(1), Cond::new());
    let guard = mutex.try_lock();
    gzero::on_m(|| guard.map(|guard| *cond.wait(guard)));
}

fn a_condition_that_nobody_makes_true() {
    let (mutex, cond) = (Mutex::new(1), Cond::new());
    drop(cond.wait(mutex.lock()));
}

/// A mutex, a condition, and semaphores that count who runs and who has woken up.
#[derive(Default)]
struct Scene {
    value: Mutex<u32>,
    changed: Cond,
    running: AtomicU32,
    awake: AtomicU32,
}

/// Go's `TestCondSignal`.
fn a_signal_wakes_one() -> Verdict {
    let scene = Arc::new(Scene::default());
    for _ in 0..2 {
        let scene = Arc::clone(&scene);
        go(move || {
            let guard = scene.value.lock();
            semrelease(&scene.running);
            let guard = scene.changed.wait(guard);
            semrelease(&scene.awake);
            drop(guard);
        });
    }
    semacquire(&scene.running);
    semacquire(&scene.running);
    for _ in 0..2 {
        equal("nobody is awake before", &try_semacquire(&scene.awake), &false)?;
        let guard = scene.value.lock();
        scene.changed.signal();
        drop(guard);
        semacquire(&scene.awake);
        equal("one is awake", &try_semacquire(&scene.awake), &false)?;
    }
    scene.changed.signal();
    wait_until_alone();
    Ok(())
}

/// Go's `TestCondSignalGenerations`.
fn signals_wake_in_the_order_of_waiting() -> Verdict {
    let scene = Arc::new(Scene::default());
    let order = Arc::new(Mutex::new(VecDeque::new()));
    for n in 0..100 {
        let (its, order_of) = (Arc::clone(&scene), Arc::clone(&order));
        go(move || {
            let guard = its.value.lock();
            semrelease(&its.running);
            let guard = its.changed.wait(guard);
            order_of.lock().push_back(n);
            semrelease(&its.awake);
            drop(guard);
        });
        if n > 0 {
            semacquire(&scene.awake);
            equal("who woke up", &order.lock().pop_front(), &Some(n - 1))?;
        }
        semacquire(&scene.running);
        let guard = scene.value.lock();
        scene.changed.signal();
        drop(guard);
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestCondBroadcast`, with fewer goroutines.
fn a_broadcast_wakes_all_each_time() -> Verdict {
    const COUNT: u32 = 40;
    let scene = Arc::new(Scene::default());
    let wakes: Arc<Vec<AtomicU32>> = Arc::new((0..COUNT).map(|_| AtomicU32::new(0)).collect());
    for n in 0..COUNT as usize {
        let (scene, wakes) = (Arc::clone(&scene), Arc::clone(&wakes));
        go(move || {
            let mut guard = scene.value.lock();
            while *guard == 0 {
                semrelease(&scene.running);
                guard = scene.changed.wait(guard);
                wakes[n].fetch_add(1, Ordering::Relaxed);
                semrelease(&scene.awake);
            }
        });
    }
    for round in 1..=COUNT {
        (0..COUNT).for_each(|_| semacquire(&scene.running));
        equal("nobody is awake before", &try_semacquire(&scene.awake), &false)?;
        let mut guard = scene.value.lock();
        *guard = u32::from(round == COUNT);
        scene.changed.broadcast();
        drop(guard);
        (0..COUNT).for_each(|_| semacquire(&scene.awake));
        let all = wakes.iter().all(|wakes| wakes.load(Ordering::Relaxed) == round);
        equal("each woke up once", &all, &true)?;
    }
    wait_until_alone();
    equal("nobody goes round again", &try_semacquire(&scene.running), &false)?;
    scene.changed.broadcast();
    Ok(())
}

/// Go's `TestRace`.
fn three_take_turns_by_a_condition() -> Verdict {
    let scene = Arc::new(Scene::default());
    let (one, two, three) = (Arc::clone(&scene), Arc::clone(&scene), Arc::clone(&scene));
    go(move || {
        let mut value = one.value.lock();
        *value = 1;
        value = one.changed.wait(value);
        assert_eq!(*value, 2);
        *value = 3;
        one.changed.signal();
    });
    go(move || {
        loop {
            let mut value = two.value.lock();
            if *value == 1 {
                *value = 2;
                two.changed.signal();
                return;
            }
            drop(value);
            gosched();
        }
    });
    go(move || {
        loop {
            let mut value = three.value.lock();
            if *value == 2 {
                value = three.changed.wait(value);
                assert_eq!(*value, 3);
            }
            if *value == 3 {
                return;
            }
            drop(value);
            gosched();
        }
    });
    wait_until_alone();
    equal("the value", &*scene.value.lock(), &3)
}

/// Go's `TestCondSignalStealing`.
fn a_waiter_is_not_robbed_of_its_broadcast() {
    for _ in 0..100 {
        let scene = Arc::new(Scene::default());
        let waiter = Arc::clone(&scene);
        go(move || {
            let guard = waiter.value.lock();
            semrelease(&waiter.running);
            drop(waiter.changed.wait(guard));
            semrelease(&waiter.awake);
        });
        semacquire(&scene.running);
        // Once the mutex is free, it waits.
        drop(scene.value.lock());
        let (caller, other) = (Arc::clone(&scene), Arc::clone(&scene));
        go(move || caller.changed.broadcast());
        go(move || drop(other.changed.wait_while(other.value.lock(), |done| *done == 0)));
        semacquire(&scene.awake);
        *scene.value.lock() = 1;
        scene.changed.broadcast();
        wait_until_alone();
    }
}

/// What a condition is for: a queue with room for a few, several that fill it and several that empty it.
fn a_bounded_queue_of_conditions_loses_nothing() -> Verdict {
    const EACH: u64 = 300;
    struct Queue {
        values: Mutex<VecDeque<u64>>,
        filled: Cond,
        emptied: Cond,
    }
    let queue = Arc::new(Queue { values: Mutex::default(), filled: Cond::new(), emptied: Cond::new() });
    let sum = Arc::new(Mutex::new(0));
    let pairs = u64::try_from(num_cpu()).unwrap_or(1) + 1;
    for _ in 0..pairs {
        let put = Arc::clone(&queue);
        go(move || {
            for n in 1..=EACH {
                put.emptied.wait_while(put.values.lock(), |values| values.len() >= 3).push_back(n);
                put.filled.signal();
            }
        });
        let (take, sum) = (Arc::clone(&queue), Arc::clone(&sum));
        go(move || {
            for _ in 0..EACH {
                let value =
                    take.filled.wait_while(take.values.lock(), |values| values.is_empty()).pop_front();
                take.emptied.signal();
                *sum.lock() += value.unwrap_or(0);
            }
        });
    }
    wait_until_alone();
    equal("the sum", &*sum.lock(), &(pairs * EACH * (EACH + 1) / 2))
}

fn a_condition_that_holds_is_not_waited_for() -> Verdict {
    let (mutex, cond) = (Mutex::new(1), Cond::new());
    let guard = cond.wait_while(mutex.lock(), |value| {
        *value -= 1;
        *value > 0
    });
    equal("the value", &*guard, &0)
}

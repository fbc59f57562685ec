//! Time slices, sleeping, and goroutines that stay on one CPU. Several cases are those of Go's `proc_test.go`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use gzero::testing::patterns::{self, FLAGS, Patterns};
use gzero::{
    Builder, Mailbox, Nanos, StopReason, free_os_memory, go, go_with, goexit, gomaxprocs, gosched,
    lock_os_thread, now, num_cpu, park, sleep, stats, stop_the_world, testing, unlock_os_thread, unpark,
};
use tests::{Random, Verdict, equal, hogs, wait_until_alone};

tests::image! {
    pass: [
        an_endless_loop_gives_way,
        registers_survive_preemption,
        turns_are_taken_by_spinning,
        spinners_and_stops,
        a_yield_makes_progress,
        a_yield_of_a_locked_goroutine_makes_progress,
        spinners_run_at_the_same_time,
        a_locked_goroutine_yields_and_sleeps,
        a_locked_goroutine_can_wait,
        locks_to_a_cpu_nest,
        a_locked_goroutine_stays_on_its_cpu,
        a_goroutine_may_end_locked,
        a_request_with_locks_held_waits,
        sleeps_last_as_long_as_asked,
        sleepers_wake_in_order,
        sleepers_wake_while_all_cpus_spin,
        a_deep_stack_is_preempted_too,
        the_edge_of_a_page_is_no_danger,
        a_slice_ends_only_if_somebody_waits,
        who_is_due_comes_before_the_end_of_a_slice,
        who_comes_as_the_timer_goes_off_for_nobody_has_a_turn,
    ],
}

fn an_endless_loop_gives_way() {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    hogs(&stop);
    // This goroutine comes back only if they give way.
    for _ in 0..5 {
        gosched();
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Patterns in all registers and flags, in twice as many goroutines as there are Ps, with slices so short that they are
/// interrupted everywhere.
fn registers_survive_preemption() -> Verdict {
    const ENOUGH: u64 = 2_000;
    let preempted = || stats::per_cpu().map(|(_, counters)| counters.preempted).sum::<u64>();
    let enough = preempted() + ENOUGH;
    testing::set_slice(Nanos::from_micros(100));
    let wrong = Arc::new(AtomicU64::new(0));
    for seed in 0..2 * stats::gomaxprocs() as u64 {
        let wrong = Arc::clone(&wrong);
        go(move || {
            let mut random = Random::new(seed);
            while preempted() < enough {
                let registers = core::array::from_fn(|_| random.below(u64::MAX));
                let given = Patterns { registers, flags: random.below(u64::MAX) & FLAGS };
                let found = patterns::run(&given, 20_000);
                wrong.fetch_add(u64::from(found != given), Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    testing::set_slice(Nanos::from_millis(10));
    equal("rounds with changed registers", &wrong.load(Ordering::Relaxed), &0)
}

/// Go's `TestPreemption`: two take turns, and each spins until it is its own.
fn turns_are_taken_by_spinning() -> Verdict {
    const TURNS: usize = 20;
    let turn = Arc::new(AtomicUsize::new(0));
    for me in 0..2 {
        let turn = Arc::clone(&turn);
        go(move || {
            for _ in 0..TURNS {
                while turn.load(Ordering::Relaxed) % 2 != me {}
                turn.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    equal("turns", &turn.load(Ordering::Relaxed), &(2 * TURNS))
}

/// Go's `TestPreemptionGC`, with the stops that a collector would make.
fn spinners_and_stops() {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    hogs(&stop);
    for _ in 0..20 {
        drop(stop_the_world(StopReason::Program));
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Go's `TestYieldProgress`.
fn a_yield_makes_progress() {
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    go(move || {
        while !flag.load(Ordering::Relaxed) {
            gosched();
        }
    });
    (0..10).for_each(|_| gosched());
    done.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Go's `TestYieldLockedProgress`.
fn a_yield_of_a_locked_goroutine_makes_progress() {
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    go(move || {
        lock_os_thread();
        while !flag.load(Ordering::Relaxed) {
            gosched();
        }
    });
    (0..10).for_each(|_| gosched());
    done.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Go's `TestGoroutineParallelism`: as many as there are CPUs pass a turn round by spinning: all of them are needed.
fn spinners_run_at_the_same_time() {
    let count = u32::try_from(num_cpu().min(stats::gomaxprocs())).unwrap_or(1);
    for _ in 0..5 {
        let present = Arc::new(AtomicU32::new(0));
        for n in 0..count {
            let present = Arc::clone(&present);
            go(move || (0..10).for_each(|round| wait_and_pass_on(&present, round * count + n)));
        }
        wait_until_alone();
    }
}

/// Spins until it is the turn with this number, and makes it the next one's.
fn wait_and_pass_on(turn: &AtomicU32, mine: u32) {
    while turn.load(Ordering::Acquire) != mine {
        spin_loop();
    }
    turn.fetch_add(1, Ordering::Release);
}

/// Go's `TestYieldLocked`, among others that want all CPUs; it ends locked.
fn a_locked_goroutine_yields_and_sleeps() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    let handle = go(|| {
        lock_os_thread();
        let home = testing::cpu();
        (0..10).all(|_| {
            gosched();
            sleep(Nanos::from_millis(1));
            testing::cpu() == home
        })
    });
    let stayed = handle.join();
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("it stayed on its CPU", &stayed, &true)
}

/// Go's `TestBlockLocked`.
fn a_locked_goroutine_can_wait() -> Verdict {
    let mailbox = Arc::new(Mailbox::new());
    let to = Arc::clone(&mailbox);
    go(move || {
        lock_os_thread();
        (0..10).for_each(|value| to.put(value));
        unlock_os_thread();
    });
    for value in 0..10 {
        equal("value", &mailbox.take(), &value)?;
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestLockOSThreadNesting`, among others that want all CPUs.
fn locks_to_a_cpu_nest() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    let verdict = Arc::new(Mailbox::new());
    let result = Arc::clone(&verdict);
    go(move || result.put(nests()));
    let verdict = verdict.take();
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    verdict
}

fn nests() -> Verdict {
    // Once too often is as good as not at all.
    unlock_os_thread();
    for _ in 0..2 {
        equal("locked before", &testing::is_locked_to_cpu(), &false)?;
        lock_os_thread();
        lock_os_thread();
        unlock_os_thread();
        equal("locked once of twice", &testing::is_locked_to_cpu(), &true)?;
        equal("it stays", &stays(10), &true)?;
        unlock_os_thread();
        equal("locked afterwards", &testing::is_locked_to_cpu(), &false)?;
        equal("it can move again", &(stats::gomaxprocs() == 1 || moves()), &true)?;
        unlock_os_thread();
    }
    Ok(())
}

/// Whether the caller gets to another CPU, sooner or later.
fn moves() -> bool {
    let (cpu, deadline) = (testing::cpu(), now() + Nanos::from_millis(20_000));
    while testing::cpu() == cpu && now() < deadline {}
    testing::cpu() != cpu
}

/// Whether the caller is on the same CPU after each of so many chances to move.
fn stays(times: u32) -> bool {
    let cpu = testing::cpu();
    (0..times).all(|n| {
        if n % 2 == 0 {
            gosched();
        } else {
            sleep(Nanos::from_micros(20));
        }
        testing::cpu() == cpu
    })
}

/// With all others busy, waking it up and being preempted, a locked goroutine comes back to its CPU each time.
fn a_locked_goroutine_stays_on_its_cpu() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    let moved = Arc::new(AtomicU32::new(0));
    let left = Arc::new(AtomicUsize::new(stats::gomaxprocs()));
    for _ in 0..stats::gomaxprocs() {
        let (moved, left) = (Arc::clone(&moved), Arc::clone(&left));
        go(move || {
            lock_os_thread();
            moved.fetch_add(u32::from(!stays(10)), Ordering::Relaxed);
            left.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while left.load(Ordering::Relaxed) > 0 {
        sleep(Nanos::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("goroutines that moved", &moved.load(Ordering::Relaxed), &0)
}

/// Go's `TestLockOSThreadExit`, as far as a CPU can end: others run on it afterwards.
fn a_goroutine_may_end_locked() -> Verdict {
    for _ in 0..2 * stats::gomaxprocs() {
        go(|| {
            lock_os_thread();
            // SAFETY: nothing relies on what lies on this stack.
            unsafe { goexit() }
        });
    }
    wait_until_alone();
    equal("CPUs that run", &(gzero::roll_call() as usize), &stats::gomaxprocs())?;
    wait_until_alone();
    Ok(())
}

/// A goroutine that is pinned keeps its CPU beyond the end of its slice, and gives way at once afterwards.
fn a_request_with_locks_held_waits() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    hogs(&stop);
    let verdict = Arc::new(Mailbox::new());
    let result = Arc::clone(&verdict);
    go(move || {
        let verdict = (0..20).find_map(|_| pinned_beyond_its_slice());
        result.put(verdict.unwrap_or(Err("nobody else ran when the pin went, each of 20 times".into())));
    });
    let verdict = verdict.take();
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    verdict
}

/// `None`: nobody has run on the CPU since the pin went. Those who waited may have gone to another one meanwhile.
fn pinned_beyond_its_slice() -> Option<Verdict> {
    let runs = |cpu| stats::per_cpu().find(|(id, _)| *id == cpu).map(|(_, counters)| counters.run);
    let deadline = now() + Nanos::from_millis(20_000);
    let (cpu, first, asked, pinned) = testing::while_pinned(|| {
        let cpu = testing::cpu();
        let first = runs(cpu);
        while !testing::is_asked_to_give_way() && now() < deadline {}
        (cpu, first, testing::is_asked_to_give_way(), runs(cpu))
    });
    let unpinned = runs(cpu);
    let verdict = equal("it was asked, and kept its CPU", &(asked, pinned), &(true, first));
    (verdict.is_err() || unpinned != pinned).then_some(verdict)
}

fn sleeps_last_as_long_as_asked() -> Verdict {
    for micros in [1, 50, 900, 12_000] {
        let before = now();
        sleep(Nanos::from_micros(micros));
        equal("it slept long enough", &(now() >= before + Nanos::from_micros(micros)), &true)?;
    }
    sleep(Nanos(0));
    Ok(())
}

/// Goroutines that sleep for different times wake in the order of these, where one CPU runs them all.
fn sleepers_wake_in_order() -> Verdict {
    let old = gomaxprocs(1);
    let mut verdict = Ok(());
    // Those who are due at one look, after the CPU has stood still, may run in any order.
    for _ in 0..20 {
        verdict = equal("order", &order_of_waking([5, 1, 4, 2, 3]), &[1, 2, 3, 4, 5]);
        if verdict.is_ok() {
            break;
        }
    }
    gomaxprocs(i32::try_from(old).unwrap_or(1));
    verdict
}

fn order_of_waking(lengths: [u64; 5]) -> [u64; 5] {
    let order = Arc::new(Mailbox::new());
    for length in lengths {
        let order = Arc::clone(&order);
        go(move || {
            sleep(Nanos::from_millis(20 * length));
            order.put(length);
        });
    }
    let woken = lengths.map(|_| order.take());
    wait_until_alone();
    woken
}

fn sleepers_wake_while_all_cpus_spin() {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    for _ in 0..20 {
        sleep(Nanos::from_micros(500));
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Spins at the end of a long chain of calls, where little stack is left below.
fn descend(depth: u64, stop: &AtomicBool) -> u64 {
    let words = black_box([depth; 24]);
    if depth == 0 {
        while !stop.load(Ordering::Relaxed) {}
        return words[0];
    }
    descend(depth - 1, stop) + words[1]
}

fn a_deep_stack_is_preempted_too() {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 * stats::gomaxprocs() {
        let stop = Arc::clone(&stop);
        let large = Builder::new().stack_size(Builder::MAX_STACK_SIZE);
        let deep = go_with(large, move || {
            black_box(descend(800, &stop));
        });
        drop(deep.expect("memory for it"));
    }
    (0..10).for_each(|_| gosched());
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Goroutines on fresh stacks, whose stack pointers stand at the beginning of the only page that is mapped.
fn the_edge_of_a_page_is_no_danger() {
    for _ in 0..10 {
        free_os_memory();
        let flag = Arc::new(AtomicU32::new(0));
        for _ in 0..2 * stats::gomaxprocs() {
            let flag = Arc::clone(&flag);
            go(move || patterns::wait_at_the_edge_of_a_page(&flag));
        }
        (0..5).for_each(|_| gosched());
        drop(stop_the_world(StopReason::Program));
        flag.store(1, Ordering::Relaxed);
        wait_until_alone();
    }
}

/// A goroutine alone on its CPU is not disturbed: the timer is armed only while somebody waits.
fn a_slice_ends_only_if_somebody_waits() -> Verdict {
    let me = gzero::current();
    let taken = Arc::new(AtomicU64::new(u64::MAX));
    let result = Arc::clone(&taken);
    // All CPUs but one sleep, this goroutine too.
    go(move || {
        sleep(Nanos::from_millis(50));
        let before = testing::interrupts();
        let until = now() + Nanos::from_millis(100);
        while now() < until {}
        result.store(testing::interrupts() - before, Ordering::Relaxed);
        unpark(me);
    });
    while taken.load(Ordering::Relaxed) == u64::MAX {
        park();
    }
    wait_until_alone();
    equal("at most one late interrupt", &(taken.load(Ordering::Relaxed) <= 1), &true)
}

/// Long slices are cut for whoever a timer readies, also for several at once, and also while others wait that compute.
fn who_is_due_comes_before_the_end_of_a_slice() -> Verdict {
    const SLEEPERS: usize = 3;
    let procs = i32::try_from(gomaxprocs(1)).unwrap_or(1);
    let slice = Nanos::from_millis(10_000);
    testing::set_slice(slice);
    let awake = Arc::new(AtomicUsize::new(0));
    let begin = now();
    for _ in 0..SLEEPERS {
        let awake = Arc::clone(&awake);
        go(move || {
            sleep(Nanos::from_millis(20) - (now() - begin));
            awake.fetch_add(1, Ordering::Relaxed);
        });
    }
    // All of them sleep before the first hog begins.
    sleep(Nanos::from_millis(5));
    for _ in 0..2 {
        let awake = Arc::clone(&awake);
        go(move || while awake.load(Ordering::Relaxed) < SLEEPERS {});
    }
    wait_until_alone();
    let length = now() - begin;
    testing::set_slice(Nanos::from_millis(10));
    gomaxprocs(procs);
    if length < slice { Ok(()) } else { Err("a hog has had a whole slice".into()) }
}

/// A timer goes off for a slice, finds that nobody waits any more, and stays off; at just that instant, somebody comes.
fn who_comes_as_the_timer_goes_off_for_nobody_has_a_turn() -> Verdict {
    let procs = gomaxprocs(1);
    testing::set_slice(Nanos::from_micros(50));
    let unarmed = (0..200_000).find(|_| {
        go(|| {});
        let ends = testing::slice_ends_if_somebody_waits();
        gosched();
        !ends
    });
    testing::set_slice(Nanos::from_millis(10));
    gomaxprocs(i32::try_from(procs).unwrap_or(1));
    equal("the round in which somebody waits for a slice without an end", &unarmed, &None)
}

//! Stopping the world under every kind of load: everybody stops, everybody goes on, nothing is lost.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use gzero::{
    Mailbox, MemStats, Nanos, StopReason, current, go, go_named, gosched, lock_os_thread, now, num_cpu,
    num_goroutine, park, read_mem_stats, sleep, start_the_world, stats, stop_the_world, testing, unpark,
    world,
};
use tests::{Load, Verdict, equal, word};

tests::image! {
    pass: [
        a_stop_alone,
        pauses_come_to_numbers_that_have_the_older_ones,
        all_stand_still_while_they_spin,
        all_stand_still_while_they_yield,
        all_stand_still_while_they_allocate,
        all_stand_still_while_they_spawn,
        all_stand_still_while_they_sleep,
        all_stand_still_while_they_pass_values,
        sleepers_are_not_woken_by_a_stop,
        many_stop_at_once,
        each_stop_is_counted_once,
        no_cpu_keeps_an_old_translation,
        a_cpu_that_holds_locks_stops_afterwards,
        a_hundred_thousand_stops,
    ],
    dies: [
        (
            "pass",
            // In between is what its NMI says, if that comes early enough for the report; the record has it later too.
            "cpu \t has not stopped after \t, in goroutine \t [deaf]",
            a_cpu_with_interrupts_off_is_named_and_survived
        ),
        (
            "throw",
            "cpu \t has not stopped after \t: interrupts off at gzero::testing::hang+0x\t [deaf]",
            a_cpu_that_never_stops_is_named
        ),
    ],
}

/// How many stops a case makes: fewer where CPUs share the host's cores, as each then costs milliseconds.
fn stops(most: u64) -> u64 {
    if stats::gomaxprocs() > 2 { most / 20 } else { most }
}

/// Stops the world over and over: while it stands nobody makes a turn, and everybody goes on after the last stop.
fn stand_still(load: &Load, count: u64) -> Verdict {
    for _ in 0..count {
        let world = stop_the_world(StopReason::Program);
        let before = load.sum();
        (0..500).for_each(|_| spin_loop());
        let after = load.sum();
        start_the_world(world);
        equal("turns while the world stood", &after, &before)?;
    }
    load.wait_for_all();
    Ok(())
}

fn procs() -> usize {
    stats::gomaxprocs()
}

/// Numbers that are filled in again have the same pauses as new ones, however many stops lie between.
fn pauses_come_to_numbers_that_have_the_older_ones() -> Verdict {
    let mut again = MemStats::default();
    for stops in [0, 1, 5, 255, 256, 700, 3] {
        (0..stops).for_each(|_| drop(stop_the_world(StopReason::Program)));
        let mut new = MemStats::default();
        read_mem_stats(&mut new);
        read_mem_stats(&mut again);
        // The stop between the two.
        let place = usize::try_from((again.num_stops - 1) % 256).expect("below 256");
        (new.pause_ns[place], new.pause_end[place]) = (again.pause_ns[place], again.pause_end[place]);
        equal("lengths", &again.pause_ns, &new.pause_ns)?;
        equal("ends", &again.pause_end, &new.pause_end)?;
    }
    Ok(())
}

fn a_stop_alone() {
    for _ in 0..1_000 {
        drop(stop_the_world(StopReason::Program));
    }
}

fn all_stand_still_while_they_spin() -> Verdict {
    let load = Load::start(2 * procs(), |_| {
        black_box(1);
    });
    stand_still(&load, stops(2_000))
}

fn all_stand_still_while_they_yield() -> Verdict {
    let load = Load::start(4 * procs(), |_| gosched());
    stand_still(&load, stops(2_000))
}

fn all_stand_still_while_they_allocate() -> Verdict {
    let load = Load::start(2 * procs(), |n| {
        let blocks: Vec<Box<[u8; 64]>> = (0..n + 2).map(|_| Box::new([1; 64])).collect();
        black_box(&blocks);
    });
    stand_still(&load, stops(2_000))
}

fn all_stand_still_while_they_spawn() -> Verdict {
    let load = Load::start(2 * procs(), |_| {
        go(|| {
            black_box(2);
        });
        gosched();
    });
    stand_still(&load, stops(2_000))
}

fn all_stand_still_while_they_sleep() -> Verdict {
    let load = Load::start(8 * procs(), |n| sleep(Nanos::from_micros(50 + 30 * n as u64)));
    stand_still(&load, stops(1_000))
}

/// Each pair has a mailbox of its own: yielding in turn on one CPU, two that put into one could find it full for ever.
fn all_stand_still_while_they_pass_values() -> Verdict {
    let pairs = 2 * procs();
    let mailboxes: Arc<Vec<Mailbox<usize>>> = Arc::new((0..pairs).map(|_| Mailbox::new()).collect());
    let load = {
        let mailboxes = Arc::clone(&mailboxes);
        Load::start(2 * pairs, move |n| {
            let mailbox = &mailboxes[n / 2];
            if n % 2 == 0 {
                while mailbox.try_put(n).is_err() {
                    gosched();
                }
            } else {
                black_box(mailbox.try_take());
                gosched();
            }
        })
    };
    let verdict = stand_still(&load, stops(2_000));
    load.stop();
    while num_goroutine() > 1 {
        for mailbox in mailboxes.iter() {
            black_box(mailbox.try_take());
        }
        gosched();
    }
    verdict
}

/// CPUs without work halt, and a stop leaves them alone.
fn sleepers_are_not_woken_by_a_stop() -> Verdict {
    while num_goroutine() > 1 {
        gosched();
    }
    let mut verdict = Ok(());
    // A CPU that is still on its way to sleep, however long that takes, spoils a series.
    for _ in 0..100 {
        verdict = stops_that_wake_nobody(200);
        if verdict.is_ok() {
            break;
        }
        // No sleep: who wakes this goroutine up looks for more work.
        let until = now() + Nanos::from_millis(5);
        while now() < until {}
    }
    verdict
}

fn stops_that_wake_nobody(count: u32) -> Verdict {
    let periods = || stats::per_cpu().map(|(_, counters)| counters.idle_periods).sum::<u64>();
    let before = (periods(), testing::interrupts_elsewhere());
    for _ in 0..count {
        let world = stop_the_world(StopReason::Program);
        equal("CPUs that got an interrupt", &world.record().interrupted, &0)?;
    }
    let after = (periods(), testing::interrupts_elsewhere());
    equal("times that a CPU went to sleep again, and interrupts on others", &after, &before)
}

fn many_stop_at_once() -> Verdict {
    const STOPPERS: usize = 8;
    let inside = Arc::new(AtomicUsize::new(0));
    let wrong = Arc::new(AtomicU64::new(0));
    let load = {
        let (inside, wrong) = (Arc::clone(&inside), Arc::clone(&wrong));
        Load::start(STOPPERS, move |_| {
            let world = stop_the_world(StopReason::Program);
            wrong.fetch_add(u64::from(inside.fetch_add(1, Ordering::Relaxed) != 0), Ordering::Relaxed);
            inside.fetch_sub(1, Ordering::Relaxed);
            drop(world);
        })
    };
    // Everybody has had the world several times: nobody is starved.
    while load.turns().iter().any(|turns| *turns < 20) {
        gosched();
    }
    drop(load);
    equal("stops inside of another", &wrong.load(Ordering::Relaxed), &0)
}

fn each_stop_is_counted_once() -> Verdict {
    let before = world::stats();
    let load = Load::start(2 * procs(), |_| {});
    for _ in 0..100 {
        drop(stop_the_world(StopReason::Program));
    }
    drop(load);
    let after = world::stats();
    equal("stops", &(after.count - before.count), &100)?;
    let program = |stats: &world::WorldStats| stats.reasons[StopReason::Program as usize].count;
    equal("stops of the program", &(program(&after) - program(&before)), &100)?;
    equal("there is a last one", &after.last.map(|last| last.number), &Some(after.count))
}

/// A page gets another frame while all CPUs read it, half of them asleep at times: nobody sees the old one afterwards.
fn no_cpu_keeps_an_old_translation() -> Verdict {
    let rounds = if procs() > 2 { 30 } else { 200 };
    let page = testing::spare_page();
    let round = Arc::new(AtomicU64::new(0));
    let seen: Arc<Vec<AtomicU64>> = Arc::new((0..procs()).map(|_| AtomicU64::new(0)).collect());
    let stale = Arc::new(AtomicU64::new(0));
    word(page).store(0, Ordering::Relaxed);
    let (present, me) = (Arc::new(AtomicUsize::new(0)), current());
    for n in 0..procs() {
        let (round, seen, stale) = (Arc::clone(&round), Arc::clone(&seen), Arc::clone(&stale));
        let present = Arc::clone(&present);
        go(move || {
            lock_when_all_are_there(&present);
            unpark(me);
            let mut last = 0;
            while last < rounds {
                let now = next_round(&round, last, page, n);
                stale.fetch_add(u64::from(word(page).load(Ordering::Relaxed) != now), Ordering::Relaxed);
                last = now;
                seen[n].store(now, Ordering::Release);
            }
        });
    }
    // This goroutine's CPU is needed too.
    while present.load(Ordering::Acquire) < procs() {
        park();
    }
    for now in 1..=rounds {
        testing::replace_page(page);
        word(page).store(now, Ordering::Relaxed);
        round.store(now, Ordering::Release);
        while seen.iter().any(|seen| seen.load(Ordering::Acquire) < now) {
            gosched();
        }
    }
    while num_goroutine() > 1 {
        gosched();
    }
    equal("old contents seen", &stale.load(Ordering::Relaxed), &0)
}

/// Locks the goroutine to its CPU, when one for each CPU is on it.
fn lock_when_all_are_there(present: &AtomicUsize) {
    testing::while_pinned(|| {
        present.fetch_add(1, Ordering::AcqRel);
        while present.load(Ordering::Acquire) < procs() {
            spin_loop();
        }
        lock_os_thread();
    });
}

/// Waits for the next round, and meanwhile keeps the translation in use, or lets the CPU sleep.
fn next_round(round: &AtomicU64, last: u64, page: u64, n: usize) -> u64 {
    loop {
        let now = round.load(Ordering::Acquire);
        if now != last {
            return now;
        }
        black_box(word(page).load(Ordering::Relaxed));
        if n.is_multiple_of(2) {
            gosched();
        } else {
            sleep(Nanos::from_micros(30));
        }
    }
}

/// Another CPU has interrupts off for 50 ms when the world is to stop.
fn a_cpu_with_interrupts_off_is_named_and_survived() -> Verdict {
    if num_cpu() == 1 {
        gzero::println!(
            "cpu 0 has not stopped after no time: interrupts off at no address, in goroutine 0 [deaf]"
        );
        return Ok(());
    }
    world::set_limits(Nanos::from_millis(10), Nanos::from_millis(60_000));
    let deaf = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&deaf);
    go_named("deaf", move || {
        testing::deaf_until_probed(Nanos::from_millis(50), Nanos::from_millis(20_000), &told);
    });
    while deaf.load(Ordering::Acquire) == u64::MAX {
        gosched();
    }
    let world = stop_the_world(StopReason::Program);
    let last = world.record().last;
    let stops: Vec<_> = world::cpu_stops().collect();
    drop(world);
    world::set_limits(Nanos::from_millis(1_000), Nanos::from_millis(60_000));
    while num_goroutine() > 1 {
        gosched();
    }
    let deaf = stops.iter().find(|stop| u64::from(stop.cpu) == deaf.load(Ordering::Relaxed));
    equal("what it was doing", &deaf.map(|deaf| deaf.doing), &Some(world::Doing::InterruptsOff))?;
    // It is the last one, unless the emulator kept another standing for longer.
    let latest = stops.iter().map(|stop| stop.acknowledged).max();
    equal("when the last one stopped", &last.map(|last| last.acknowledged), &latest)
}

/// Another CPU keeps interrupts off for ever.
fn a_cpu_that_never_stops_is_named() {
    world::set_limits(Nanos::from_millis(20), Nanos::from_millis(200));
    if num_cpu() == 1 {
        // Nobody else is there; the case ends as it should all the same.
        gzero::throw(format_args!(
            "cpu 0 has not stopped after no time: interrupts off at gzero::testing::hang+0x0, in goroutine 0 [deaf]"
        ));
    }
    let deaf = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&deaf);
    go_named("deaf", move || testing::hang(&flag));
    while !deaf.load(Ordering::Acquire) {
        gosched();
    }
    drop(stop_the_world(StopReason::Program));
}

/// Goroutines that nearly all the time hold a lock of the runtime, wait for it, or are pinned.
fn a_cpu_that_holds_locks_stops_afterwards() -> Verdict {
    let load = Load::start(2 * procs(), |n| {
        let spin = || (0..50 * (n + 1)).for_each(|_| spin_loop());
        if n % 2 == 0 { testing::under_lock(spin) } else { testing::while_pinned(spin) }
    });
    stand_still(&load, stops(2_000))
}

/// With nothing lost: everybody's turns go on to the end.
fn a_hundred_thousand_stops() -> Verdict {
    let count = match procs() {
        ..=2 => 100_000,
        3..=4 => 3_000,
        _ => 1_000,
    };
    let load = Load::start(procs() + 1, |n| match n % 3 {
        0 => {}
        1 => gosched(),
        _ => sleep(Nanos::from_micros(100)),
    });
    let before = world::stats().count;
    for _ in 0..count {
        drop(stop_the_world(StopReason::Program));
    }
    equal("stops", &(world::stats().count - before), &count)?;
    load.wait_for_all();
    Ok(())
}

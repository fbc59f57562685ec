//! `gomaxprocs`: any number, at any time, and nothing is lost.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::{
    Mailbox, Nanos, current, go, gomaxprocs, gosched, lock_os_thread, now, num_cpu, park, sleep, stats,
    testing, unlock_os_thread, unpark, world,
};
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        asking_stops_nobody,
        more_than_256_are_256,
        ps_beyond_the_cpus_hold_no_work,
        one_p_is_one_cpu,
        shrinking_and_growing_under_load,
        sleepers_of_a_p_that_goes_away_wake,
        locked_goroutines_run_without_a_p,
        who_still_runs_without_a_p_is_not_forgotten,
        many_change_it_at_once,
    ],
}

/// `gomaxprocs` with a number that fits.
fn set(procs: u32) -> u32 {
    gomaxprocs(i32::try_from(procs).unwrap_or(i32::MAX))
}

fn cpus() -> u32 {
    u32::try_from(num_cpu()).unwrap_or(u32::MAX)
}

fn asking_stops_nobody() -> Verdict {
    let before = world::stats().count;
    for ask in [0, -1, i32::MIN] {
        equal("answer", &gomaxprocs(ask), &cpus())?;
    }
    equal("setting what it is", &set(cpus()), &cpus())?;
    equal("stops", &(world::stats().count - before), &0)
}

fn more_than_256_are_256() -> Verdict {
    let old = gomaxprocs(i32::MAX);
    equal("number", &gomaxprocs(0), &256)?;
    equal("setting it back", &set(old), &256)
}

/// With more Ps than CPUs every goroutine still ends.
fn ps_beyond_the_cpus_hold_no_work() -> Verdict {
    let old = set(cpus() + 10);
    let ends = Arc::new(AtomicU64::new(0));
    for _ in 0..500 {
        let ends = Arc::clone(&ends);
        go(move || {
            gosched();
            ends.fetch_add(1, Ordering::Relaxed);
        });
    }
    wait_until_alone();
    set(old);
    equal("goroutines that ended", &ends.load(Ordering::Relaxed), &500)
}

/// Goroutines that count the turns that they make on each CPU.
struct Spinners {
    stop: Arc<AtomicBool>,
    turns: Arc<Vec<AtomicU64>>,
}

impl Spinners {
    fn start(count: u32, turn: fn(u64)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let turns: Arc<Vec<AtomicU64>> = Arc::new((0..num_cpu()).map(|_| AtomicU64::new(0)).collect());
        for seed in 0..count {
            let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
            go(move || {
                while !stop.load(Ordering::Relaxed) {
                    turn(seed.into());
                    count_turn(&turns);
                }
            });
        }
        Self { stop, turns }
    }

    fn turns(&self) -> Vec<u64> {
        self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        wait_until_alone();
    }
}

/// Counts a turn on the CPU that the caller is on while it counts.
fn count_turn(turns: &[AtomicU64]) {
    testing::while_pinned(|| {
        turns[testing::cpu().0 as usize].fetch_add(1, Ordering::Relaxed);
    });
}

/// With so many Ps, the first so many CPUs make turns and no others.
fn only_these_run(spinners: &Spinners, procs: u32) -> Verdict {
    let procs = procs as usize;
    let mut verdict = Ok(());
    // A CPU that was counting a turn, and stood still, ends it some time: each can do so once.
    for _ in 0..=num_cpu() {
        let before = spinners.turns();
        for (turns, before) in spinners.turns.iter().zip(&before).take(procs) {
            while turns.load(Ordering::Relaxed) == *before {
                gosched();
            }
        }
        sleep(Nanos::from_millis(20));
        verdict = equal("turns on CPUs without a P", &&spinners.turns()[procs..], &&before[procs..]);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

fn one_p_is_one_cpu() -> Verdict {
    let spinners = Spinners::start(2 * cpus(), |_| {});
    let mut verdict = Ok(());
    for procs in [1, cpus().div_ceil(2), 1] {
        let old = set(procs);
        verdict = verdict.and_then(|()| only_these_run(&spinners, procs));
        set(old);
    }
    spinners.end();
    verdict
}

fn shrinking_and_growing_under_load() -> Verdict {
    let loads: [fn(u64); 4] = [
        |_| {},
        |_| gosched(),
        |n| sleep(Nanos::from_micros(10 + n)),
        |_| {
            let mailbox = Arc::new(Mailbox::new());
            let to = Arc::clone(&mailbox);
            go(move || to.put(1));
            mailbox.take();
        },
    ];
    let mut random = Random::new(5);
    for load in loads {
        let spinners = Spinners::start(2 * cpus() + 2, load);
        for _ in 0..60 {
            let wanted = u32::try_from(random.below(u64::from(cpus()) + 3)).unwrap_or(0) + 1;
            set(wanted);
            equal("gomaxprocs", &gomaxprocs(0), &wanted)?;
            if random.below(3) == 0 {
                gosched();
            }
        }
        set(cpus());
        spinners.end();
    }
    equal("CPUs that run at the end", &gzero::roll_call(), &cpus())?;
    wait_until_alone();
    Ok(())
}

fn sleepers_of_a_p_that_goes_away_wake() -> Verdict {
    let woken = Arc::new(AtomicU64::new(0));
    for n in 0..64 {
        let woken = Arc::clone(&woken);
        go(move || {
            gosched();
            sleep(Nanos::from_micros(500 * n));
            woken.fetch_add(1, Ordering::Relaxed);
        });
    }
    sleep(Nanos::from_millis(3));
    let old = set(1);
    wait_until_alone();
    set(old);
    equal("sleepers that woke", &woken.load(Ordering::Relaxed), &64)
}

/// A goroutine that is locked to a CPU goes on there although the P has gone.
fn locked_goroutines_run_without_a_p() -> Verdict {
    let moved = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 * cpus() {
        let (moved, stop) = (Arc::clone(&moved), Arc::clone(&stop));
        go(move || {
            lock_os_thread();
            let cpu = testing::cpu();
            while !stop.load(Ordering::Relaxed) {
                gosched();
                sleep(Nanos::from_micros(100));
                moved.fetch_add(u64::from(testing::cpu() != cpu), Ordering::Relaxed);
            }
            unlock_os_thread();
        });
    }
    let mut random = Random::new(9);
    for _ in 0..40 {
        set(u32::try_from(random.below(u64::from(cpus()))).unwrap_or(0) + 1);
        sleep(Nanos::from_micros(300));
    }
    stop.store(true, Ordering::Relaxed);
    set(1);
    wait_until_alone();
    set(cpus());
    equal("times that a locked goroutine had moved", &moved.load(Ordering::Relaxed), &0)
}

/// The last P's goroutine parks while others still stand on CPUs whose Ps have gone: that is no deadlock.
fn who_still_runs_without_a_p_is_not_forgotten() {
    for _ in 0..200 {
        let main = current();
        let running = Arc::new(AtomicU64::new(0));
        let others = u64::from(cpus()).max(2) - 1;
        for _ in 0..others {
            let running = Arc::clone(&running);
            go(move || {
                running.fetch_add(1, Ordering::Release);
                let until = now() + Nanos::from_millis(1);
                while now() < until {}
                unpark(main);
            });
        }
        while running.load(Ordering::Acquire) < others {
            gosched();
        }
        set(1);
        park();
        set(cpus());
        wait_until_alone();
    }
}

fn many_change_it_at_once() -> Verdict {
    for n in 0..8 {
        go(move || {
            let mut random = Random::new(n);
            for _ in 0..20 {
                set(u32::try_from(random.below(u64::from(cpus()) + 1)).unwrap_or(0) + 1);
            }
        });
    }
    wait_until_alone();
    set(cpus());
    equal("gomaxprocs", &stats::gomaxprocs(), &num_cpu())
}

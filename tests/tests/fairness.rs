//! Nobody starves. Several cases are those of Go's `proc_test.go`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use gzero::{
    Handoff, Mailbox, Nanos, WaitReason, go, gomaxprocs, gosched, lock_os_thread, now, num_cpu, semacquire,
    semrelease, semrelease1, sleep, stats, testing, unlock_os_thread,
};
use tests::{Load, Verdict, equal, hogs, wait_until_alone};

tests::image! {
    pass: [
        short_sleepers_do_not_starve_others,
        short_sleepers_do_not_starve_each_other,
        hogs_do_not_starve_a_pair,
        a_sleep_ends_while_pairs_exchange,
        each_of_a_pair_sees_its_sleep_end,
        sleepers_of_a_deaf_cpu_are_woken_by_others,
        light_and_heavy_pairs_share_a_cpu,
        a_pair_low_on_stack_does_not_starve_others,
        a_slice_stays_over_while_the_global_queue_is_busy,
        those_who_come_from_the_global_queue_have_slices_that_end,
    ],
}

/// Sleepers that wake at once, again and again, and a goroutine that only yields.
fn short_sleepers_do_not_starve_others() {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 {
        let stop = Arc::clone(&stop);
        go(move || {
            while !stop.load(Ordering::Relaxed) {
                sleep(Nanos(1));
            }
        });
    }
    (0..1_000).for_each(|_| gosched());
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
}

/// Each of them gets its turns.
fn short_sleepers_do_not_starve_each_other() -> Verdict {
    let woken = Arc::new((0..3).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
    for n in 0..3 {
        let woken = Arc::clone(&woken);
        go(move || {
            while woken.iter().any(|count| count.load(Ordering::Relaxed) < 100) {
                sleep(Nanos(1 + n as u64));
                woken[n].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    equal("sleepers that woke", &woken.iter().filter(|n| n.load(Ordering::Relaxed) >= 100).count(), &3)
}

/// A pair that wakes each other goes on while hogs take their slices.
fn hogs_do_not_starve_a_pair() -> Verdict {
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    let ball = Arc::new(Mailbox::new());
    let back = Arc::new(Mailbox::new());
    let (to, from) = (Arc::clone(&ball), Arc::clone(&back));
    go(move || (0..200_u32).for_each(|_| from.put(to.take() + 1)));
    let mut value = 0;
    for _ in 0..200 {
        ball.put(value);
        value = back.take();
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    equal("value", &value, &200)
}

/// A time at which a case that goes wrong gives up: far beyond any pause of an emulator.
fn deadline() -> Nanos {
    now() + Nanos::from_millis(20_000)
}

/// How the turn goes from one of a pair to the other.
#[derive(Debug, Clone, Copy)]
enum Way {
    Mailbox,
    Semaphore(Handoff),
}

const WAYS: [Way; 3] = [Way::Mailbox, Way::Semaphore(Handoff::No), Way::Semaphore(Handoff::Yes)];

/// Two goroutines that do nothing but hand the turn to each other.
struct Pair {
    way: Way,
    boxes: [Mailbox<()>; 2],
    units: [AtomicU32; 2],
    over: AtomicBool,
}

impl Pair {
    /// Starts both. Each goes on while `turn`, which gets its number, says so; `done` gets a unit from each at the end.
    fn start(way: Way, done: &Arc<AtomicU32>, turn: impl Fn(usize) -> bool + Send + Sync + 'static) {
        let pair = Arc::new(Self {
            way,
            boxes: [Mailbox::new(), Mailbox::new()],
            units: [const { AtomicU32::new(0) }; 2],
            over: AtomicBool::new(false),
        });
        let turn = Arc::new(turn);
        for me in 0..2 {
            let (pair, turn, done) = (Arc::clone(&pair), Arc::clone(&turn), Arc::clone(done));
            go(move || {
                pair.play(me, &*turn);
                semrelease(&done);
            });
        }
        pair.give(0);
    }

    fn play(&self, me: usize, turn: &dyn Fn(usize) -> bool) {
        loop {
            match self.way {
                Way::Mailbox => self.boxes[me].take(),
                Way::Semaphore(_) => semacquire(&self.units[me]),
            }
            if !turn(me) {
                self.over.store(true, Ordering::Relaxed);
            }
            let over = self.over.load(Ordering::Relaxed);
            self.give(1 - me);
            if over {
                return;
            }
        }
    }

    fn give(&self, to: usize) {
        match self.way {
            Way::Mailbox => self.boxes[to].put(()),
            Way::Semaphore(handoff) => semrelease1(&self.units[to], handoff),
        }
    }
}

/// Runs a case with all Ps and with one.
fn with_all_and_with_one(case: fn(Way) -> Verdict) -> Verdict {
    let all = i32::try_from(stats::gomaxprocs()).unwrap_or(i32::MAX);
    let mut verdict = Ok(());
    for procs in [all, 1] {
        gomaxprocs(procs);
        verdict = WAYS.into_iter().fold(verdict, |verdict, way| verdict.and_then(|()| case(way)));
        wait_until_alone();
    }
    gomaxprocs(all);
    verdict
}

/// Go's `TestTimerFairness`: a sleep ends although pairs keep all CPUs, each readying the other.
fn a_sleep_ends_while_pairs_exchange() -> Verdict {
    with_all_and_with_one(|way| {
        let (rang, done, deadline) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), deadline());
        let pairs = 2 * stats::gomaxprocs();
        for _ in 0..pairs {
            let rang = Arc::clone(&rang);
            Pair::start(way, &done, move |_| !rang.load(Ordering::Relaxed) && now() < deadline);
        }
        alarm(&rang);
        // This goroutine waits too: nobody but the pairs uses the CPUs.
        (0..2 * pairs).for_each(|_| semacquire(&done));
        equal("the sleeper was woken in time", &(now() < deadline), &true)
    })
}

/// Go's `TestTimerFairness2`: each of the goroutines that exchange all the time also sees the end of a sleep of its own.
fn each_of_a_pair_sees_its_sleep_end() -> Verdict {
    with_all_and_with_one(|way| {
        let (done, deadline) = (Arc::new(AtomicU32::new(0)), deadline());
        let pairs = stats::gomaxprocs();
        for _ in 0..pairs {
            let rang: [_; 2] = core::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
            rang.iter().for_each(alarm);
            let seen = [const { AtomicBool::new(false) }; 2];
            Pair::start(way, &done, move |me| {
                seen[me].fetch_or(rang[me].load(Ordering::Relaxed), Ordering::Relaxed);
                !seen.iter().all(|seen| seen.load(Ordering::Relaxed)) && now() < deadline
            });
        }
        (0..2 * pairs).for_each(|_| semacquire(&done));
        equal("each saw its sleep end in time", &(now() < deadline), &true)
    })
}

/// Sets a flag after a while, from a goroutine that sleeps.
fn alarm(rang: &Arc<AtomicBool>) {
    let rang = Arc::clone(rang);
    go(move || {
        sleep(Nanos::from_millis(20));
        rang.store(true, Ordering::Relaxed);
    });
}

/// A CPU has interrupts off while a goroutine that went to sleep on it comes due. Another one, whose timer fires, looks
/// after it.
fn sleepers_of_a_deaf_cpu_are_woken_by_others() -> Verdict {
    if stats::gomaxprocs() == 1 {
        return Ok(());
    }
    // All CPUs have something to do: nobody steals.
    let load = Load::start(2 * stats::gomaxprocs(), |_| {});
    let woken = Arc::new(Mailbox::new());
    let result = Arc::clone(&woken);
    lock_os_thread();
    let mine = testing::cpu();
    go(move || {
        // Who spins is moved at the end of its slice; who yields stays in this CPU's queue.
        while !lock_to_another_cpu(mine) {}
        result.put((0..100).find_map(|_| wakes_while_deaf()));
    });
    while woken.is_empty() {
        sleep(Nanos::from_millis(1));
    }
    unlock_os_thread();
    drop(load);
    equal("another CPU woke it", &woken.take(), &Some(true))
}

/// Locks the caller to its CPU, unless it is on that one.
fn lock_to_another_cpu(than: gzero::trace::CpuId) -> bool {
    testing::while_pinned(|| {
        let other = testing::cpu() != than;
        if other {
            lock_os_thread();
        }
        other
    })
}

/// `None` when the sleeper went to sleep on another CPU, or was due too early.
fn wakes_while_deaf() -> Option<bool> {
    let woken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&woken);
    let sleeper = go(move || {
        sleep(Nanos::from_millis(100));
        flag.store(true, Ordering::Release);
    })
    .id();
    let is_woken = || woken.load(Ordering::Acquire);
    let sleeps =
        || stats::waiting().any(|waiting| waiting.g == sleeper && waiting.reason == WaitReason::Sleep);
    while !is_woken() && !sleeps() {
        gosched();
    }
    let result = testing::with_interrupts_off(|| {
        if is_woken() || testing::timers_here() == 0 {
            return None;
        }
        let deadline = deadline();
        while !is_woken() && now() < deadline {}
        Some(is_woken())
    });
    while !is_woken() {
        gosched();
    }
    result
}

/// Go's `TestPingPongHog`: on one CPU, a pair that computes much in each turn, and one that computes little. The slice goes
/// with the turn, so neither gets more than 20 times of what the other gets.
fn light_and_heavy_pairs_share_a_cpu() -> Verdict {
    let old = gomaxprocs(1);
    let mut verdict = Ok(());
    // The emulator may stand still in the slice of the one, and not of the other.
    for _ in 0..5 {
        verdict = shares();
        if verdict.is_ok() {
            break;
        }
    }
    gomaxprocs(i32::try_from(old).unwrap_or(1));
    verdict
}

fn shares() -> Verdict {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let counts = [1_000_000, 1_000].map(|limit| {
        let count = Arc::new(AtomicU64::new(0));
        let (mine, over) = (Arc::clone(&count), Arc::clone(&over));
        Pair::start(Way::Mailbox, &done, move |_| {
            for _ in 0..limit {
                mine.fetch_add(1, Ordering::Relaxed);
            }
            !over.load(Ordering::Relaxed)
        });
        count
    });
    sleep(Nanos::from_millis(300));
    over.store(true, Ordering::Relaxed);
    (0..4).for_each(|_| semacquire(&done));
    let [heavy, light] = counts.map(|count| count.load(Ordering::Relaxed));
    if heavy / 20 > light || light / 20 > heavy {
        return Err(alloc::format!("the heavy pair counted to {heavy}, the light one to {light}").into());
    }
    Ok(())
}

/// Calls itself until so little stack is left that the goroutine is not preempted, and `work` then.
fn at_the_end_of_the_stack(work: &dyn Fn()) {
    let words = black_box([0_u64; 8]);
    if testing::stack_left() < 4300 {
        work();
    } else {
        at_the_end_of_the_stack(work);
    }
    black_box(words);
}

/// Two that hand the turn to each other and cannot be made to give way: their slice ends when they hand it on.
fn a_pair_low_on_stack_does_not_starve_others() {
    let old = gomaxprocs(1);
    let (over, started) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let boxes: [Arc<Mailbox<bool>>; 2] = [Arc::new(Mailbox::new()), Arc::new(Mailbox::new())];
    for n in 0..2 {
        let (mine, theirs) = (Arc::clone(&boxes[n]), Arc::clone(&boxes[1 - n]));
        let (over, started) = (Arc::clone(&over), Arc::clone(&started));
        go(move || {
            at_the_end_of_the_stack(&|| {
                started.fetch_add(1, Ordering::Relaxed);
                while mine.take() {
                    theirs.put(!over.load(Ordering::Relaxed));
                }
                theirs.put(false);
            });
        });
    }
    while started.load(Ordering::Relaxed) < 2 {
        gosched();
    }
    go(move || over.store(true, Ordering::Relaxed));
    boxes[0].put(true);
    wait_until_alone();
    gomaxprocs(i32::try_from(old).unwrap_or(1));
}

/// Who finds the global queue busy at the end of a slice looks there again soon: it does not begin another slice.
fn a_slice_stays_over_while_the_global_queue_is_busy() -> Verdict {
    if num_cpu() < 2 {
        return Ok(());
    }
    let procs = gomaxprocs(2);
    let stop = Arc::new(AtomicBool::new(false));
    // With this one they are three. One has to wait, in the global queue as soon as each has had a slice.
    hogs(&stop);
    let (mut seen, deadline) = (None, deadline());
    while seen.is_none() && now() < deadline {
        seen = testing::slice_stays_over_at_a_busy_queue();
    }
    stop.store(true, Ordering::Relaxed);
    wait_until_alone();
    gomaxprocs(i32::try_from(procs).unwrap_or(1));
    equal("the slice stays over", &seen, &Some(true))
}

/// A CPU that takes several from the global queue sets its timer by itself: who has put them there has not told it.
fn those_who_come_from_the_global_queue_have_slices_that_end() -> Verdict {
    /// More than a P's own queue has room for.
    const MANY: usize = 400;
    if num_cpu() < 2 {
        return Ok(());
    }
    let procs = gomaxprocs(2);
    let endless = Arc::new(AtomicU32::new(0));
    for _ in 0..20 {
        let state = Arc::new(AtomicU32::new(0));
        let of_other = Arc::clone(&state);
        // On the other CPU until it ends, when many wait in the global queue.
        go(move || {
            of_other.store(1, Ordering::Relaxed);
            while of_other.load(Ordering::Relaxed) == 1 {}
        });
        while state.load(Ordering::Relaxed) == 0 {}
        for _ in 0..MANY {
            let endless = Arc::clone(&endless);
            go(move || {
                let ends = testing::slice_ends_if_somebody_waits();
                endless.fetch_add(u32::from(!ends), Ordering::Relaxed);
            });
        }
        state.store(2, Ordering::Relaxed);
        wait_until_alone();
    }
    gomaxprocs(i32::try_from(procs).unwrap_or(1));
    equal("slices without an end that others wait for", &endless.load(Ordering::Relaxed), &0)
}

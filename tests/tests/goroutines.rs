//! Goroutines: starting, ending, yielding, stacks.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::{black_box, spin_loop};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use gzero::{
    GoRef, JoinHandle, StopReason, chan, current, free_os_memory, go, go_named, goexit, gosched,
    num_goroutine, on_m, park, roll_call, stats, stop_the_world, testing, try_go, unpark,
};
use tests::{Load, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        a_goroutine_runs,
        ten_thousand_run_once_each,
        closures_arrive_whole,
        captured_values_are_dropped_once,
        what_goexit_leaves_is_not_dropped,
        stacks_are_used_again_and_nothing_leaks,
        who_starts_with_interrupts_off_holds_up_nobody,
        handles_of_the_dead_are_stale,
        locals_survive_switches,
        stacks_grow_page_by_page,
        the_use_of_stacks_is_told_by_name,
        yielding_alternates,
        yielding_alone_returns,
        all_cpus_run_at_the_same_time,
        a_busy_pair_does_not_starve_others,
        numbers_are_unique,
        the_count_agrees_with_the_trace,
        who_asks_for_itself_finds_itself,
        spinners_run_at_the_same_time_after_a_crowd,
    ],
}

/// Runs `f` as a goroutine and waits until it has ended.
fn run_and_wait(f: impl FnOnce() + Send + 'static) {
    let done = Arc::new(AtomicU32::new(0));
    let (flag, me) = (Arc::clone(&done), current());
    go(move || {
        f();
        flag.store(1, Ordering::Release);
        unpark(me);
    });
    while done.load(Ordering::Acquire) == 0 {
        park();
    }
    wait_until_alone();
}

/// Starts `count` goroutines and waits for all of them.
fn start_all(count: usize, f: impl Fn(usize) + Send + Sync + 'static) {
    let f = Arc::new(f);
    let left = Arc::new(AtomicUsize::new(count));
    let me = current();
    for n in 0..count {
        let (f, left) = (Arc::clone(&f), Arc::clone(&left));
        go(move || {
            f(n);
            drop(f);
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                unpark(me);
            }
        });
    }
    while left.load(Ordering::Acquire) > 0 {
        park();
    }
    wait_until_alone();
}

fn a_goroutine_runs() {
    run_and_wait(|| {});
}

fn ten_thousand_run_once_each() -> Verdict {
    let runs: Arc<Vec<AtomicU32>> = Arc::new((0..10_000).map(|_| AtomicU32::new(0)).collect());
    let counts = Arc::clone(&runs);
    start_all(10_000, move |n| {
        counts[n].fetch_add(1, Ordering::Relaxed);
        gosched();
    });
    equal(
        "goroutines that ran once",
        &runs.iter().filter(|r| r.load(Ordering::Relaxed) == 1).count(),
        &10_000,
    )
}

#[repr(align(64))]
struct Aligned([u64; 8]);

#[expect(clippy::large_stack_frames, reason = "a large closure is the case")]
fn closures_arrive_whole() -> Verdict {
    let wrong = Arc::new(AtomicU32::new(0));
    let aligned = Aligned([1, 2, 3, 4, 5, 6, 7, 8]);
    let count = Arc::clone(&wrong);
    run_and_wait(move || {
        let aligned = black_box(aligned);
        let place = core::ptr::from_ref(&aligned).addr();
        count.fetch_add(u32::from(!place.is_multiple_of(64) || aligned.0[7] != 8), Ordering::Relaxed);
    });
    // Larger than the part of the first page that is used for closures: boxed.
    let large = [0x5a_u8; 3_000];
    let count = Arc::clone(&wrong);
    run_and_wait(move || {
        let large = black_box(large);
        count.fetch_add(u32::from(large.iter().any(|byte| *byte != 0x5a)), Ordering::Relaxed);
    });
    equal("closures that arrived changed", &wrong.load(Ordering::Relaxed), &0)
}

static DROPS: AtomicU32 = AtomicU32::new(0);

struct CountsDrops;

impl Drop for CountsDrops {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::Relaxed);
    }
}

fn captured_values_are_dropped_once() -> Verdict {
    DROPS.store(0, Ordering::Relaxed);
    start_all(100, |_| drop(CountsDrops));
    let kept = CountsDrops;
    run_and_wait(move || {
        let _kept = &kept;
    });
    equal("drops", &DROPS.load(Ordering::Relaxed), &101)
}

fn what_goexit_leaves_is_not_dropped() -> Verdict {
    DROPS.store(0, Ordering::Relaxed);
    let me = current();
    let reached = Arc::new(AtomicU32::new(0));
    let flag = Arc::clone(&reached);
    go(move || {
        let _left = CountsDrops;
        drop(flag);
        unpark(me);
        // SAFETY: nothing relies on what lies on this stack.
        unsafe { goexit() }
    });
    park();
    wait_until_alone();
    equal("drops", &DROPS.load(Ordering::Relaxed), &0)?;
    equal("owners of the flag", &Arc::strong_count(&reached), &1)
}

fn stacks_are_used_again_and_nothing_leaks() -> Verdict {
    start_all(2_000, |_| gosched());
    let before = stats::memory();
    for _ in 0..10 {
        start_all(1_000, |_| gosched());
    }
    let after = stats::memory();
    equal("bytes available", &after.available(), &before.available())?;
    equal("stacks of the living", &after.stacks, &before.stacks)
}

/// One CPU starts goroutines with interrupts off, another one with interrupts on.
///
/// That one makes the table longer by chunks that had lost their pages: all CPUs must flush their translations for that.
fn who_starts_with_interrupts_off_holds_up_nobody() -> Verdict {
    const EACH: usize = 6_000;
    let (close, wait) = chan::<()>(0);
    for _ in 0..EACH {
        let wait = wait.clone();
        go(move || wait.recv().expect_err("it is closed"));
    }
    close.close();
    wait_until_alone();
    free_os_memory();
    let (begun, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let starters: Vec<JoinHandle<()>> = [true, false]
        .into_iter()
        .map(|is_off| {
            let (begun, ran) = (Arc::clone(&begun), Arc::clone(&ran));
            go(move || {
                begun.fetch_add(1, Ordering::AcqRel);
                while begun.load(Ordering::Acquire) < 2 {
                    gosched();
                }
                let start = || {
                    for _ in 0..EACH {
                        let ran = Arc::clone(&ran);
                        go(move || ran.fetch_add(1, Ordering::Relaxed));
                    }
                };
                if is_off { testing::with_interrupts_off(start) } else { start() }
            })
        })
        .collect();
    starters.into_iter().for_each(JoinHandle::join);
    wait_until_alone();
    equal("goroutines that have run", &ran.load(Ordering::Relaxed), &(2 * EACH))
}

fn handles_of_the_dead_are_stale() -> Verdict {
    let dead = go(|| {}).id();
    wait_until_alone();
    equal("unpark of a dead goroutine", &unpark(dead), &false)?;
    // The slot lives on in another goroutine, and the old handle does not reach it.
    let waits = go(park).id();
    let (fresh, old) = (waits, dead);
    for _ in 0..100 {
        gosched();
        equal("unpark by an old handle", &unpark(old), &false)?;
    }
    equal("unpark of a living one", &unpark(fresh), &true)?;
    wait_until_alone();
    Ok(())
}

/// Locals in registers and on the stack, checked after each of many switches.
fn locals_survive_switches() -> Verdict {
    let wrong = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&wrong);
    start_all(64, move |n| {
        let words: [usize; 32] = core::array::from_fn(|i| n * 1000 + i);
        let scalars = (n, n + 1, n ^ 2, n | 4, n * 5, !n);
        for _ in 0..200 {
            gosched();
            let kept = black_box(words).iter().enumerate().all(|(i, word)| *word == n * 1000 + i);
            let registers = black_box(scalars) == (n, n + 1, n ^ 2, n | 4, n * 5, !n);
            count.fetch_add(u64::from(!kept || !registers), Ordering::Relaxed);
        }
    });
    equal("values changed by switches", &wrong.load(Ordering::Relaxed), &0)
}

/// Uses about a quarter of a kilobyte of stack a level, calls the function at the bottom, and checks on the way back what it has written.
fn descend(depth: u64, at_bottom: &dyn Fn()) -> u64 {
    let words = black_box([depth; 24]);
    let below = if depth == 0 {
        at_bottom();
        0
    } else {
        descend(depth - 1, at_bottom)
    };
    if depth.is_multiple_of(16) {
        gosched();
    }
    below + u64::from(words.iter().all(|word| *word == depth))
}

fn stacks_grow_page_by_page() -> Verdict {
    let levels = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&levels);
    start_all(16, move |_| {
        sum.fetch_add(descend(180, &|| ()), Ordering::Relaxed);
    });
    equal("levels", &levels.load(Ordering::Relaxed), &(16 * 181))
}

/// Fails a case when a number of bytes is not in a range.
fn within(what: &str, bytes: u64, range: Range<u64>) -> Verdict {
    if range.contains(&bytes) {
        return Ok(());
    }
    Err(alloc::format!("{what}: {bytes} bytes, expected {range:?}").into())
}

fn the_use_of_stacks_is_told_by_name() -> Verdict {
    let used =
        |name| stats::stack_use().find(|entry| entry.name == Some(name)).map_or(0, |entry| entry.bytes);
    for (name, depth) in [("deep", 180), ("shallow", 40), ("deep", 20)] {
        // More than any CPU keeps: stacks are used again that were used deeply.
        let ended = Arc::new(AtomicUsize::new(0));
        let start = |n: u64| {
            let ended = Arc::clone(&ended);
            // Some are preempted where they use most, if one CPU runs them all: the last to start runs first.
            let waits = n >= 196;
            go_named(name, move || {
                let levels = descend(depth, &|| spin_while(|| waits && ended.load(Ordering::Relaxed) == 0));
                ended.fetch_add(1, Ordering::Relaxed);
                levels
            })
        };
        let handles: Vec<_> = (0..200).map(start).collect();
        equal("levels", &handles.into_iter().map(JoinHandle::join).sum::<u64>(), &(200 * (depth + 1)))?;
    }
    wait_until_alone();
    let (deep, shallow) = (used("deep"), used("shallow"));
    within("the deep one's use", deep, 180 * 200..60 << 10)?;
    // With the room that preemption takes below the shallow one's own: more than a third of the deep one's.
    within("the shallow one's use", shallow, 40 * 200..deep / 2)?;
    equal("of a name that nobody has", &used("none"), &0)
}

/// Keeps the CPU.
fn spin_while(condition: impl Fn() -> bool) {
    while condition() {
        spin_loop();
    }
}

fn yielding_alternates() -> Verdict {
    // Two that only yield must both go on: each of the two waits for the other's step.
    let steps = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&steps);
    start_all(2, move |n| {
        for step in 0..1_000 {
            while shared.load(Ordering::Acquire) != 2 * step + n {
                gosched();
            }
            shared.fetch_add(1, Ordering::Release);
        }
    });
    equal("steps", &steps.load(Ordering::Relaxed), &2_000)
}

fn yielding_alone_returns() {
    for _ in 0..10_000 {
        gosched();
    }
}

fn all_cpus_run_at_the_same_time() -> Verdict {
    for _ in 0..20 {
        wait_until_alone();
        equal("goroutines present", &(roll_call() as usize), &stats::gomaxprocs())?;
    }
    wait_until_alone();
    Ok(())
}

/// Two goroutines that wake each other through the run-next slot, and a third that waits in the queue behind them.
fn a_busy_pair_does_not_starve_others() -> Verdict {
    let stop = Arc::new(AtomicU32::new(0));
    let rounds = Arc::new(AtomicUsize::new(0));
    let pair = |stop: &Arc<AtomicU32>| {
        let partner = Arc::new(gzero::Mailbox::<GoRef>::new());
        let first = {
            let (stop, partner, rounds) = (Arc::clone(stop), Arc::clone(&partner), Arc::clone(&rounds));
            go_named("hog", move || {
                let other = partner.take();
                while stop.load(Ordering::Acquire) == 0 {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    unpark(other);
                    park();
                }
                unpark(other);
            })
            .id()
        };
        let stop = Arc::clone(stop);
        let second = go_named("hog", move || {
            while stop.load(Ordering::Acquire) == 0 {
                park();
                unpark(first);
            }
            unpark(first);
        });
        partner.put(second.id());
    };
    for _ in 0..stats::gomaxprocs() {
        pair(&stop);
    }
    let turns = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&turns);
    go_named("starved", move || {
        for _ in 0..50 {
            gosched();
            count.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(1, Ordering::Release);
    });
    while turns.load(Ordering::Relaxed) < 50 {
        gosched();
    }
    wait_until_alone();
    equal("turns of the third", &turns.load(Ordering::Relaxed), &50)
}

fn numbers_are_unique() -> Verdict {
    let ids: Arc<Vec<AtomicU64>> = Arc::new((0..500).map(|_| AtomicU64::new(0)).collect());
    let found = Arc::clone(&ids);
    start_all(500, move |n| {
        let id = gzero::goid();
        found[n].store(id.get(), Ordering::Relaxed);
    });
    let mut ids: Vec<u64> = ids.iter().map(|id| id.load(Ordering::Relaxed)).collect();
    ids.sort_unstable();
    ids.dedup();
    equal("different numbers", &ids.len(), &500)?;
    // Starting one fallibly gives a handle as well.
    let error = try_go(|| {}).err();
    wait_until_alone();
    equal("error", &error.map(|e| alloc::format!("{e}").into_boxed_str()), &None::<Box<str>>)
}

/// Go's `TestNumGoroutine`: in a stopped world nobody is between two counts.
fn the_count_agrees_with_the_trace() -> Verdict {
    let load = Load::start(2 * stats::gomaxprocs(), |n| {
        let child = go(move || n);
        if n % 2 == 0 {
            child.join();
        }
    });
    for _ in 0..20 {
        let world = stop_the_world(StopReason::Program);
        let mut shown = 0;
        gzero::trace::for_each_goroutine(&mut |_| shown += 1);
        let counted = num_goroutine();
        drop(world);
        equal("goroutines in the trace", &shown, &counted)?;
        (0..5).for_each(|_| gosched());
    }
    drop(load);
    equal("goroutines at the end", &num_goroutine(), &1)
}

/// Go's `TestGetgThreadSwitch`: whichever CPU it goes on at, a goroutine is itself there.
fn who_asks_for_itself_finds_itself() -> Verdict {
    let run = |_| {
        go(|| {
            let (me, number) = (current(), gzero::goid());
            (0..300).all(|_| {
                gosched();
                current() == me && gzero::goid() == number
            })
        })
    };
    let handles: Vec<_> = (0..4 * stats::gomaxprocs()).map(run).collect();
    equal("all were themselves", &handles.into_iter().all(JoinHandle::join), &true)
}

/// Go's `TestGoroutineParallelism2`: all CPUs have just had a goroutine each, and go to sleep; then as many are started by
/// others, and each of them is needed at the same time.
fn spinners_run_at_the_same_time_after_a_crowd() {
    let count = u32::try_from(stats::num_cpu().min(stats::gomaxprocs())).unwrap_or(1);
    for _ in 0..3 {
        roll_call();
        let turn = Arc::new(AtomicU32::new(0));
        let start_half = |half| {
            let turn = Arc::clone(&turn);
            go(move || {
                let spinners: Vec<_> =
                    (half..count).step_by(2).map(|n| start_spinner(&turn, n, count)).collect();
                spinners.into_iter().for_each(JoinHandle::join);
            })
        };
        // Nobody but the spinners may keep a CPU: whoever waits for them parks.
        [0, 1].map(start_half).into_iter().for_each(JoinHandle::join);
    }
}

/// Starts a goroutine that spins until it is its turn, three times, and does not give way meanwhile.
fn start_spinner(turn: &Arc<AtomicU32>, n: u32, count: u32) -> JoinHandle<()> {
    let turn = Arc::clone(turn);
    go(move || {
        on_m(|| {
            for mine in (0..3).map(|round| round * count + n) {
                while turn.load(Ordering::Acquire) != mine {
                    spin_loop();
                }
                turn.fetch_add(1, Ordering::Release);
            }
        });
    })
}

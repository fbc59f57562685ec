//! Semaphores: who gets the unit, in which order, and that nobody waits for ever.
//!
//! Goroutines give up their CPUs of their own will here, so every loop that waits yields.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use gzero::{
    Handoff, Order, WaitReason, go, go_named, gosched, semacquire, semacquire1, semrelease, semrelease1,
    stats, testing, try_semacquire,
};
use tests::{Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        units_are_counted,
        a_release_wakes_the_waiter,
        a_handoff_cannot_be_taken_back,
        a_handoff_runs_the_waiter_first,
        without_handoff_the_releaser_may_be_faster,
        waiters_are_served_in_their_order,
        lifo_waiters_are_served_first,
        words_that_share_a_root_do_not_meet,
        acquire_races_with_release,
        a_greedy_pair_starves_nobody,
        every_unit_comes_back,
        waits_are_reported,
    ],
    dies: [
        ("fatal", "waits: semacquire", a_wait_without_a_releaser),
    ],
}

/// Words of no units, and the places of so many that have the root of the first.
fn words_that_share_a_root(count: usize) -> (Arc<[AtomicU32]>, Vec<usize>) {
    let words = words(count * 512 + 8);
    let shares = |place: &usize| testing::share_a_sema_root(&words[0], &words[*place]);
    let places = (0..words.len() - 8).filter(shares).take(count).collect();
    (words, places)
}

/// Yields until as many goroutines wait in the root of this word.
fn wait_for_waiters(word: &AtomicU32, count: u32) {
    while testing::sema_nwait(word) != count {
        gosched();
    }
}

fn shared<T: Default>() -> Arc<T> {
    Arc::new(T::default())
}

/// Words of no units.
fn words(count: usize) -> Arc<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn units(word: &AtomicU32) -> u32 {
    word.load(Ordering::Acquire)
}

fn units_are_counted() -> Verdict {
    let word = AtomicU32::new(2);
    semacquire(&word);
    equal("the second unit", &try_semacquire(&word), &true)?;
    equal("a third unit", &try_semacquire(&word), &false)?;
    semrelease(&word);
    semrelease1(&word, Handoff::Yes);
    equal("units", &units(&word), &2)
}

fn a_release_wakes_the_waiter() -> Verdict {
    let word = shared::<AtomicU32>();
    for handoff in [Handoff::No, Handoff::Yes] {
        for _ in 0..500 {
            let waiter = Arc::clone(&word);
            go(move || semacquire(&waiter));
            wait_for_waiters(&word, 1);
            semrelease1(&word, handoff);
            wait_until_alone();
            equal("units and waiters", &(units(&word), testing::sema_nwait(&word)), &(0, 0))?;
        }
    }
    Ok(())
}

fn a_handoff_cannot_be_taken_back() -> Verdict {
    for _ in 0..1_000 {
        let (word, go_on) = (shared::<AtomicU32>(), shared::<AtomicU32>());
        let (mine, told) = (Arc::clone(&word), Arc::clone(&go_on));
        go(move || {
            semacquire(&mine);
            // It keeps the unit until it is told.
            semacquire(&told);
            semrelease(&mine);
        });
        wait_for_waiters(&word, 1);
        semrelease1(&word, Handoff::Yes);
        equal("the releaser got it back", &try_semacquire(&word), &false)?;
        semrelease(&go_on);
        wait_until_alone();
        equal("units", &units(&word), &1)?;
    }
    Ok(())
}

/// Go's `TestSemaHandoff`; with one and two CPUs its `TestSemaHandoff1` and `TestSemaHandoff2`.
///
/// Both sides race to be the first to write a word. With a hand-off the releaser's CPU runs the waiter at once. Two
/// thirds are asked for, as there: an idle CPU may take the one or the other away.
fn a_handoff_runs_the_waiter_first() -> Verdict {
    const ROUNDS: u32 = 600;
    let first = (0..ROUNDS).filter(|_| waiter_is_first()).count();
    wait_until_alone();
    equal("two thirds were direct", &(first >= 400), &true)
}

fn waiter_is_first() -> bool {
    let (word, winner, done) = (shared::<AtomicU32>(), shared::<AtomicU32>(), shared::<AtomicU32>());
    // All CPUs are slightly busy, so that none looks for goroutines to run.
    for _ in 0..stats::gomaxprocs() {
        let done = Arc::clone(&done);
        go(move || {
            while done.load(Ordering::Acquire) == 0 {
                gosched();
            }
        });
    }
    let (sema, winner_too, done_too) = (Arc::clone(&word), Arc::clone(&winner), Arc::clone(&done));
    go(move || {
        semacquire(&sema);
        write_first(&winner_too, 1);
        semrelease1(&sema, Handoff::Yes);
        done_too.store(1, Ordering::Release);
    });
    wait_for_waiters(&word, 1);
    semrelease1(&word, Handoff::Yes);
    write_first(&winner, 2);
    while done.load(Ordering::Acquire) == 0 {
        gosched();
    }
    winner.load(Ordering::Acquire) == 1
}

/// Writes a number if there is none yet.
fn write_first(word: &AtomicU32, number: u32) {
    // Relaxed when it fails: then nothing is read.
    let (Ok(_) | Err(_)) = word.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed);
}

fn without_handoff_the_releaser_may_be_faster() -> Verdict {
    let mut faster = 0_u32;
    for _ in 0..200 {
        let word = shared::<AtomicU32>();
        let waiter = Arc::clone(&word);
        go(move || semacquire(&waiter));
        wait_for_waiters(&word, 1);
        semrelease(&word);
        if try_semacquire(&word) {
            faster += 1;
            // The waiter finds nothing and waits again.
            semrelease(&word);
        }
        wait_until_alone();
        equal("units", &units(&word), &0)?;
    }
    equal("the releaser was faster now and then", &(faster > 0), &true)
}

/// Starts a waiter for each order, one after the other, then releases as many units, and checks who got them.
fn served(orders: &[Order], expected: &[u32]) -> Verdict {
    let (word, count) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let turns = words(orders.len());
    for (n, order) in (0..).zip(orders) {
        let (word, count, turns, order) = (Arc::clone(&word), Arc::clone(&count), Arc::clone(&turns), *order);
        let waiters = testing::sema_nwait(&word);
        let theirs = Arc::clone(&word);
        go(move || {
            semacquire1(&theirs, order, WaitReason::Semacquire);
            let turn = count.fetch_add(1, Ordering::AcqRel);
            turns[turn as usize].store(n, Ordering::Release);
        });
        wait_for_waiters(&word, waiters + 1);
    }
    for done in 1..=orders.len() {
        semrelease1(&word, if done % 2 == 0 { Handoff::Yes } else { Handoff::No });
        while (count.load(Ordering::Acquire) as usize) < done {
            gosched();
        }
    }
    wait_until_alone();
    let turns: Vec<u32> = turns.iter().map(units).collect();
    equal("turns", &turns.as_slice(), &expected)
}

fn waiters_are_served_in_their_order() -> Verdict {
    let expected: Vec<u32> = (0..100).collect();
    served(&[Order::Fifo; 100], &expected)
}

fn lifo_waiters_are_served_first() -> Verdict {
    let expected: Vec<u32> = (0..100).rev().collect();
    served(&[Order::Lifo; 100], &expected)?;
    let (f, l) = (Order::Fifo, Order::Lifo);
    served(&[f, f, l, f, l, f], &[4, 2, 0, 1, 3, 5])
}

/// Two waiters for each of many words in one root; a release must reach those of its own word.
fn words_that_share_a_root_do_not_meet() -> Verdict {
    const WORDS: usize = 64;
    let ((words, places), passed) = (words_that_share_a_root(WORDS), words(WORDS));
    equal("words in one root", &places.len(), &WORDS)?;
    for n in 0..2 * WORDS {
        let (words, passed, place) = (Arc::clone(&words), Arc::clone(&passed), places[n % WORDS]);
        go(move || {
            semacquire(&words[place]);
            passed[n % WORDS].fetch_add(1, Ordering::AcqRel);
        });
    }
    wait_for_waiters(&words[0], 128);
    let mut random = Random::new(3);
    let mut left: Vec<usize> = (0..2 * WORDS).map(|n| n % WORDS).collect();
    let mut expected = [0; WORDS];
    while !left.is_empty() {
        let n = left.swap_remove(random.index(left.len()));
        expected[n] += 1;
        semrelease(&words[places[n]]);
        while units(&passed[n]) < expected[n] {
            gosched();
        }
        let found: Vec<u32> = passed.iter().map(units).collect();
        equal("goroutines that passed", &found.as_slice(), &expected.as_slice())?;
    }
    wait_until_alone();
    equal("waiters", &testing::sema_nwait(&words[0]), &0)
}

/// As many units are released as acquired, by goroutines on all CPUs that do not wait for each other otherwise.
fn acquire_races_with_release() -> Verdict {
    const ROUNDS: u64 = 20_000;
    let pairs = stats::gomaxprocs().max(2) / 2;
    let (word, taken) = (shared::<AtomicU32>(), shared::<AtomicU64>());
    for pair in 0..pairs as u64 {
        let (theirs, count) = (Arc::clone(&word), Arc::clone(&taken));
        go_named("acquires", move || {
            for _ in 0..ROUNDS {
                semacquire(&theirs);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let theirs = Arc::clone(&word);
        go_named("releases", move || {
            let mut random = Random::new(pair);
            for _ in 0..ROUNDS {
                semrelease1(&theirs, if random.below(2) == 0 { Handoff::Yes } else { Handoff::No });
                (0..random.below(60)).for_each(|_| core::hint::spin_loop());
                if random.below(16) == 0 {
                    gosched();
                }
            }
        });
    }
    wait_until_alone();
    equal("acquired", &taken.load(Ordering::Relaxed), &(ROUNDS * pairs as u64))?;
    equal("units and waiters", &(units(&word), testing::sema_nwait(&word)), &(0, 0))
}

/// Sixty-four goroutines want turns, and two take the unit again as soon as they can, until the others have had theirs:
/// if these starved, it would never end.
fn a_greedy_pair_starves_nobody() -> Verdict {
    const GOROUTINES: u32 = 64;
    let word = Arc::new(AtomicU32::new(1));
    let (inside, finished, overlaps) = (shared::<AtomicU32>(), shared::<AtomicU32>(), shared::<AtomicU32>());
    for n in 0..GOROUTINES + 2 {
        let (word, inside) = (Arc::clone(&word), Arc::clone(&inside));
        let (finished, overlaps) = (Arc::clone(&finished), Arc::clone(&overlaps));
        go(move || {
            let greedy = n >= GOROUTINES;
            let mut turns = 0;
            while if greedy { units(&finished) < GOROUTINES } else { turns < 50 } {
                semacquire(&word);
                overlaps.fetch_add(inside.swap(1, Ordering::AcqRel), Ordering::AcqRel);
                if !greedy {
                    gosched();
                }
                inside.store(0, Ordering::Release);
                semrelease1(&word, Handoff::Yes);
                turns += 1;
                if greedy && turns % 16 == 0 {
                    // While nobody waits it holds its CPU, and those who want to are behind it in the queue.
                    gosched();
                }
            }
            finished.fetch_add(u32::from(!greedy), Ordering::AcqRel);
        });
    }
    wait_until_alone();
    equal("two had the unit at once", &units(&overlaps), &0)?;
    equal("units and waiters", &(units(&word), testing::sema_nwait(&word)), &(1, 0))
}

/// Ten thousand random acquires and releases of words with few units.
fn every_unit_comes_back() -> Verdict {
    const WORDS: usize = 12;
    const GOROUTINES: u64 = 40;
    // Some share a root, and some are neighbours.
    let (words, places) = words_that_share_a_root(4);
    equal("words in one root", &places.len(), &4)?;
    let at: [usize; WORDS] = core::array::from_fn(|n| places[n / 3] + n % 3);
    let given = |n: usize| u32::try_from(n % 3).expect("small") + 1;
    for n in 0..WORDS {
        words[at[n]].store(given(n), Ordering::Release);
    }
    let turns = shared::<AtomicU64>();
    for seed in 0..GOROUTINES {
        let (words, turns) = (Arc::clone(&words), Arc::clone(&turns));
        go(move || {
            let mut random = Random::new(seed);
            for _ in 0..10_000 / GOROUTINES {
                let word = &words[at[random.index(WORDS)]];
                match random.below(4) {
                    0 => semacquire1(word, Order::Lifo, WaitReason::Semacquire),
                    1 if try_semacquire(word) => {}
                    _ => semacquire(word),
                }
                (0..random.below(3)).for_each(|_| gosched());
                semrelease1(word, if random.below(2) == 0 { Handoff::Yes } else { Handoff::No });
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    wait_until_alone();
    equal("turns", &turns.load(Ordering::Relaxed), &10_000)?;
    for n in 0..WORDS {
        let word = &words[at[n]];
        equal("units and waiters", &(units(word), testing::sema_nwait(word)), &(given(n), 0))?;
    }
    Ok(())
}

fn waits_are_reported() -> Verdict {
    let word = shared::<AtomicU32>();
    let theirs = Arc::clone(&word);
    let before = testing::now();
    let waits = || stats::per_cpu().map(|(_, counters)| counters.sema_waits).sum::<u64>();
    let times = || stats::per_cpu().map(|(_, counters)| counters.sema_wait_nanos).sum::<u64>();
    let (old_waits, old_times) = (waits(), times());
    let sleeper = go(move || semacquire(&theirs)).id();
    wait_for_waiters(&word, 1);
    // It is counted as a waiter a little before it has left its CPU.
    let found = loop {
        if let Some(found) = stats::waiting().find(|waiting| waiting.g == sleeper) {
            break found;
        }
        gosched();
    };
    equal("reason", &found.reason, &WaitReason::Semacquire)?;
    equal("since", &(before <= found.since && found.since <= testing::now()), &true)?;
    let seen = testing::now();
    while testing::now() == seen {}
    semrelease(&word);
    wait_until_alone();
    equal("it waits no longer", &stats::waiting().any(|waiting| waiting.g == sleeper), &false)?;
    equal("waits", &(waits() - old_waits), &1)?;
    equal("time waited", &(times() > old_times), &true)
}

fn a_wait_without_a_releaser() {
    semacquire(&AtomicU32::new(0));
}

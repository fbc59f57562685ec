//! A mutex: one inside at a time, nobody is forgotten, and nobody comes between a hand-off and its waiter.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use sched::mutex::{Awake, Contender, MutexWord, PATIENCE, Step};
use sched::once::OnceWord;
use sched::sema::{Handoff, Order};

use crate::model;
use crate::units::Units;

/// A mutex with what it guards. A goroutine is a thread.
struct Guarded {
    word: MutexWord,
    units: Units,
    value: UnsafeCell<u32>,
}

// SAFETY: the cell is what the scenes check: the model checker reports two who touch it at a time.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { word: MutexWord::new(), units: Units::default(), value: UnsafeCell::new(0) })
    }

    /// All of a lock, with this much time gone after each sleep.
    fn lock(&self, slept: u64) {
        lock(&self.word, &self.units, slept, 0);
    }

    fn unlock(&self) {
        unlock(&self.word, &self.units);
    }

    /// What is done inside.
    fn work(&self) -> u32 {
        self.value.with_mut(|value| {
            // SAFETY: the mutex is held; else the model checker says so.
            let value = unsafe { &mut *value };
            *value += 1;
            *value
        })
    }
}

/// A lock that makes room so often at first; its patience is up after the first time.
fn lock(word: &MutexWord, units: &Units, slept: u64, awake: u32) {
    if !word.lock_free() {
        compete(word, units, Contender::default(), slept, awake);
    }
}

fn compete(word: &MutexWord, units: &Units, mut me: Contender, slept: u64, mut awake: u32) {
    let mut now = 0;
    loop {
        let room = |me: &mut Contender| awake > 0 && me.may_make_room(now, |since| now - since);
        match word.step(&mut me, room, || now) {
            Step::Locked => return,
            Step::Spin => {
                awake -= 1;
                now += PATIENCE + 1;
            }
            Step::Sleep(_) => {
                units.acquire();
                now += slept;
                if word.woken(&mut me, |since| now.saturating_sub(since)) == Awake::Locked {
                    return;
                }
            }
        }
    }
}

fn unlock(word: &MutexWord, units: &Units) {
    if word.unlock().is_some() {
        units.release();
    }
}

fn contend(preemptions: usize, threads: u32, rounds: u32, slept: u64, awake: u32) {
    model(preemptions, move || {
        let mutex = Guarded::new();
        let work = move |mutex: &Guarded| {
            for _ in 0..rounds {
                lock(&mutex.word, &mutex.units, slept, awake);
                mutex.work();
                mutex.unlock();
            }
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let mutex = Arc::clone(&mutex);
                thread::spawn(move || work(&mutex))
            })
            .collect();
        work(&mutex);
        for other in others {
            other.join().expect("no panic");
        }
        mutex.lock(slept);
        assert_eq!(mutex.work(), threads * rounds + 1);
    });
}

#[test]
fn one_is_inside_at_a_time_and_nobody_is_forgotten() {
    contend(3, 2, 2, 0, 0);
}

#[test]
fn three_are_not_forgotten_either() {
    contend(2, 3, 1, 0, 0);
}

/// Each sleep is too long: the mutex goes from hand to hand.
#[test]
fn nobody_is_forgotten_in_starvation_mode() {
    contend(3, 2, 2, PATIENCE + 1, 0);
}

#[test]
fn three_are_not_forgotten_in_starvation_mode() {
    contend(2, 3, 1, PATIENCE + 1, 0);
}

/// Who waits awake keeps unlockers from waking those who sleep, and then sleeps as well.
#[test]
fn nobody_is_forgotten_while_others_wait_awake() {
    contend(2, 3, 1, 0, 1);
}

#[test]
fn nobody_is_forgotten_in_starvation_mode_while_others_wait_awake() {
    contend(2, 3, 1, PATIENCE + 1, 1);
}

/// Who starves without having slept meets one that was woken and is on the way, with its unit.
#[test]
fn who_starves_awake_takes_nothing_from_another_on_the_way() {
    model(3, || {
        let mutex = Guarded::new();
        let mut other = Contender::default();
        assert!(mutex.word.lock_free());
        assert_eq!(mutex.word.step(&mut other, |_| false, || 0), Step::Sleep(Order::Fifo));
        mutex.unlock();
        let run = |way: fn(&Guarded, Contender), me: Contender| {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || {
                way(&mutex, me);
                mutex.work();
                mutex.unlock();
            })
        };
        let comes = |mutex: &Guarded, mut me: Contender| {
            mutex.units.acquire();
            if mutex.word.woken(&mut me, |_| 0) == Awake::Again {
                compete(&mutex.word, &mutex.units, me, 0, 0);
            }
        };
        let starves = |mutex: &Guarded, me: Contender| compete(&mutex.word, &mutex.units, me, 0, 2);
        let threads = [run(comes, other), run(starves, Contender::default())];
        mutex.lock(0);
        mutex.work();
        mutex.unlock();
        for thread in threads {
            thread.join().expect("no panic");
        }
        mutex.lock(0);
        assert_eq!(mutex.work(), 4);
    });
}

/// The mutex is locked, in starvation mode, with one waiter. From the unlock on nobody gets it before the waiter.
#[test]
fn nobody_comes_between_a_hand_off_and_its_waiter() {
    model(3, || {
        let mutex = Guarded::new();
        assert!(mutex.word.lock_free());
        let mut waiter = Contender::default();
        assert_eq!(mutex.word.step(&mut waiter, |_| false, || 0), Step::Sleep(Order::Fifo));
        assert_eq!(mutex.word.unlock(), Some(Handoff::No));
        assert!(mutex.word.try_lock());
        assert_eq!(mutex.word.woken(&mut waiter, |since| PATIENCE + 1 - since), Awake::Again);
        assert_eq!(mutex.word.step(&mut waiter, |_| false, || 0), Step::Sleep(Order::Lifo));
        let served = Arc::new(AtomicU32::new(0));
        let queue = Arc::new(Units::default());
        let behind = Arc::clone(&queue);
        let waits = {
            let (mutex, served) = (Arc::clone(&mutex), Arc::clone(&served));
            thread::spawn(move || {
                mutex.units.acquire();
                assert_eq!(mutex.word.woken(&mut waiter, |since| PATIENCE + 2 - since), Awake::Locked);
                served.store(1, Ordering::Relaxed);
                mutex.work();
                // The next in the queue is the one who came by.
                unlock(&mutex.word, &behind);
            })
        };
        let barges = {
            let (mutex, served) = (Arc::clone(&mutex), Arc::clone(&served));
            thread::spawn(move || {
                // By the easy ways, and else by the steps of one who has just come.
                if !mutex.word.try_lock() {
                    lock(&mutex.word, &queue, 0, 0);
                }
                assert_eq!(served.load(Ordering::Relaxed), 1, "it has come in between");
                mutex.work();
                mutex.unlock();
            })
        };
        mutex.work();
        mutex.unlock();
        waits.join().expect("no panic");
        barges.join().expect("no panic");
        mutex.lock(0);
    });
}

/// Two come at the same time: one does it, and both see it done.
#[test]
fn once_is_once() {
    struct Once {
        word: OnceWord,
        units: Units,
        value: UnsafeCell<u32>,
    }
    // SAFETY: as for `Guarded`.
    unsafe impl Sync for Once {}
    fn call(once: &Once) {
        if !once.word.is_done() {
            lock(once.word.mutex(), &once.units, 0, 0);
            if !once.word.is_done() {
                // SAFETY: the first one writes, before anybody reads; else the model checker says so.
                once.value.with_mut(|value| unsafe { *value += 1 });
                once.word.set_done();
            }
            unlock(once.word.mutex(), &once.units);
        }
        // SAFETY: nobody writes any more.
        assert_eq!(once.value.with(|value| unsafe { *value }), 1);
    }
    model(3, || {
        let once =
            Arc::new(Once { word: OnceWord::new(), units: Units::default(), value: UnsafeCell::new(0) });
        let other = Arc::clone(&once);
        let other = thread::spawn(move || call(&other));
        call(&once);
        other.join().expect("no panic");
    });
}

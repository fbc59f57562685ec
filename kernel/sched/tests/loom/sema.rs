//! Semaphores: no wake-up is lost, and nobody comes between a hand-off and its waiter.
//!
//! A goroutine is a thread here. It parks on a flag and a condition; a wake-up that is lost leaves it there for
//! ever, and the model checker reports a deadlock.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use sched::sema::{Handoff, Order, RootLock, SemaRoot, SemaTable, Semaphore, Wait, Woken, try_acquire};
use sched::sudog::{Sudog, Sudogs};
use sched::{GoRef, SudogIndex};

use crate::{g, model};

struct Locked(Mutex<SemaRoot>);

impl RootLock for Locked {
    type Pin = ();

    fn with<R>(&self, f: impl FnOnce(&mut SemaRoot) -> R) -> (R, ()) {
        (f(&mut self.0.lock().expect("no thread panics with the lock held")), ())
    }
}

/// Where a goroutine waits until it is readied.
#[derive(Default)]
struct Bed {
    readied: Mutex<bool>,
    condition: Condvar,
}

/// Two semaphores in one root, and goroutines 0 and 1 with the sudogs of these numbers.
struct Machine {
    table: SemaTable<Locked>,
    sudogs: Sudogs,
    words: [AtomicU32; 2],
    beds: [Bed; 2],
}

fn s(n: u32) -> SudogIndex {
    SudogIndex::new(n).expect("a test's index")
}

impl Machine {
    fn new(units: u32) -> Arc<Self> {
        let sudogs = Sudogs::leaked(4);
        let mut rest = sudogs.grow(|_| Ok(())).ok();
        while let Some(chain) = rest {
            rest = chain.split_first(&sudogs).1;
        }
        for n in 0..2 {
            sudogs.get(s(n)).prepare(GoRef { index: g(n), generation: 0 }, 0);
        }
        let table = SemaTable::new(|root| Locked(Mutex::new(root)));
        let words = [AtomicU32::new(units), AtomicU32::new(units)];
        Arc::new(Self { table, sudogs, words, beds: Default::default() })
    }

    fn semaphore(&self, word: usize) -> Semaphore<'_, Locked> {
        self.table.semaphore(&self.sudogs, &self.words[word])
    }

    /// The sudog of goroutine `n`.
    fn waiter(&self, n: u32) -> (SudogIndex, &Sudog) {
        (s(n), self.sudogs.get(s(n)))
    }

    /// All of an acquire of goroutine `n`.
    fn acquire(&self, word: usize, n: u32) {
        if try_acquire(&self.words[word]) {
            return;
        }
        while self.semaphore(word).enqueue(self.waiter(n), Order::Fifo, n.into()) == Wait::Queued {
            if self.sleep(word, n) == Woken::Acquired {
                return;
            }
        }
    }

    /// Goroutine `n`, which is queued, until it was readied.
    fn sleep(&self, word: usize, n: u32) -> Woken {
        let bed = &self.beds[n as usize];
        let mut readied = bed.readied.lock().expect("nobody panics");
        while !*readied {
            readied = bed.condition.wait(readied).expect("nobody panics");
        }
        *readied = false;
        drop(readied);
        self.semaphore(word).finish(self.sudogs.get(s(n)))
    }

    /// All of a release; says whether it handed its unit off.
    fn release(&self, word: usize, handoff: Handoff) -> bool {
        let Some((wake, ())) = self.semaphore(word).release(handoff, || 1) else { return false };
        let bed = &self.beds[wake.g.index.get() as usize];
        *bed.readied.lock().expect("nobody panics") = true;
        bed.condition.notify_one();
        wake.handed_off
    }

    /// Asserts that nobody waits and that a word holds so many units.
    fn assert_at_rest(&self, word: usize, units: u32) {
        assert_eq!(self.words[word].load(Ordering::Relaxed), units, "units of word {word}");
        assert_eq!(self.semaphore(word).nwait(), 0, "nwait");
    }
}

/// Runs `f` in another thread.
fn spawn<T: 'static>(
    machine: &Arc<Machine>,
    f: impl FnOnce(&Machine) -> T + 'static,
) -> thread::JoinHandle<T> {
    let machine = Arc::clone(machine);
    thread::spawn(move || f(&machine))
}

#[test]
fn a_release_meets_its_acquire() {
    for handoff in [Handoff::No, Handoff::Yes] {
        model(5, move || {
            let machine = Machine::new(0);
            let acquirer = spawn(&machine, |machine| machine.acquire(0, 0));
            machine.release(0, handoff);
            acquirer.join().expect("it ends");
            machine.assert_at_rest(0, 0);
        });
    }
}

#[test]
fn two_releases_meet_two_acquires() {
    model(3, || {
        let machine = Machine::new(0);
        let acquirers = [0, 1].map(|n| spawn(&machine, move |machine| machine.acquire(0, n)));
        machine.release(0, Handoff::No);
        machine.release(0, Handoff::Yes);
        for acquirer in acquirers {
            acquirer.join().expect("it ends");
        }
        machine.assert_at_rest(0, 0);
    });
}

#[test]
fn two_releasers_meet_one_acquire() {
    model(3, || {
        let machine = Machine::new(0);
        let acquirer = spawn(&machine, |machine| machine.acquire(0, 0));
        let releaser = spawn(&machine, |machine| machine.release(0, Handoff::Yes));
        machine.release(0, Handoff::No);
        acquirer.join().expect("it ends");
        releaser.join().expect("it ends");
        machine.assert_at_rest(0, 1);
    });
}

#[test]
fn a_semaphore_excludes() {
    model(3, || {
        let machine = Machine::new(1);
        let inside = Arc::new(AtomicU32::new(0));
        let work = |n: u32| {
            let inside = Arc::clone(&inside);
            move |machine: &Machine| {
                machine.acquire(0, n);
                // Relaxed: if the semaphore did not order them, one would not see the other.
                assert_eq!(inside.load(Ordering::Relaxed) % 2, 0, "two hold the one unit");
                inside.store(inside.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                inside.store(inside.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                machine.release(0, if n == 0 { Handoff::No } else { Handoff::Yes });
            }
        };
        let other = spawn(&machine, work(0));
        work(1)(&machine);
        other.join().expect("it ends");
        assert_eq!(inside.load(Ordering::Relaxed), 4, "one does not see what the other did");
        machine.assert_at_rest(0, 1);
    });
}

#[test]
fn nobody_comes_between_a_hand_off_and_its_waiter() {
    model(4, || {
        let machine = Machine::new(0);
        assert_eq!(machine.semaphore(0).enqueue(machine.waiter(0), Order::Fifo, 0), Wait::Queued);
        let waiter = spawn(&machine, |machine| machine.sleep(0, 0));
        let passer_by = spawn(&machine, |machine| try_acquire(&machine.words[0]));
        let handed_off = machine.release(0, Handoff::Yes);
        let taken_back = try_acquire(&machine.words[0]);
        let woken = waiter.join().expect("it ends");
        let passed = passer_by.join().expect("it ends");
        assert_eq!((handed_off, taken_back, passed), (true, false, false), "the unit is the waiter's alone");
        assert_eq!(woken, Woken::Acquired);
        machine.assert_at_rest(0, 0);
    });
}

/// Somebody waits for another word, so the hand-off goes by the lock, and finds a waiter of its own or none.
#[test]
fn a_hand_off_meets_its_acquire_beside_another_waiter() {
    model(4, || {
        let machine = Machine::new(0);
        assert_eq!(machine.semaphore(1).enqueue(machine.waiter(1), Order::Fifo, 1), Wait::Queued);
        let acquirer = spawn(&machine, |machine| machine.acquire(0, 0));
        machine.release(0, Handoff::Yes);
        acquirer.join().expect("it ends");
        assert_eq!(machine.words[0].load(Ordering::Relaxed), 0);
        assert_eq!(machine.semaphore(0).nwait(), 1, "the other one");
    });
}

#[test]
fn waiters_for_two_words_share_a_root() {
    model(3, || {
        let machine = Machine::new(0);
        let acquirers = [0, 1].map(|n| spawn(&machine, move |machine| machine.acquire(n as usize, n)));
        machine.release(1, Handoff::No);
        machine.release(0, Handoff::No);
        for acquirer in acquirers {
            acquirer.join().expect("it ends");
        }
        machine.assert_at_rest(0, 0);
        machine.assert_at_rest(1, 0);
    });
}

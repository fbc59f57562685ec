//! Wait groups and conditions: whoever waits is woken, and by the right one.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use sched::SudogIndex;
use sched::notify::{Came, Tickets};
use sched::sudog::Sudogs;
use sched::waiters::Waiters;
use sched::waitgroup::WaitGroupWord;

use crate::model;
use crate::units::Units;

/// A wait group, the queue of its waiters, and where each of these sleeps.
struct Group {
    word: WaitGroupWord,
    queue: Mutex<Vec<usize>>,
    beds: [Units; 2],
    /// What the tasks do.
    work: [UnsafeCell<u32>; 2],
}

// SAFETY: the cells are what the scenes check: the model checker reports who looks before the work is done.
unsafe impl Sync for Group {}

impl Group {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: WaitGroupWord::new(),
            queue: Mutex::new(Vec::new()),
            beds: Default::default(),
            work: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn wait(&self, me: usize) {
        if self.word.is_done() {
            return;
        }
        let mut queue = self.queue.lock().expect("nobody panics");
        let waits = self.word.count_waiter();
        if waits {
            queue.push(me);
        }
        drop(queue);
        if waits {
            self.beds[me].acquire();
        }
    }

    fn add(&self, tasks: i32) {
        let count = self.word.add(tasks).expect("it can be") as usize;
        if count > 0 {
            let mut queue = self.queue.lock().expect("nobody panics");
            let woken: Vec<usize> = queue.drain(..count).collect();
            drop(queue);
            woken.into_iter().for_each(|n| self.beds[n].release());
        }
    }

    /// Task `n`.
    fn task(&self, n: usize) {
        // SAFETY: a task has a cell of its own, which is looked at when it is done; else the model checker says so.
        self.work[n].with_mut(|work| unsafe { *work += 1 });
        self.add(-1);
    }

    fn look(&self, n: usize) -> u32 {
        // SAFETY: as in `task`.
        self.work[n].with(|work| unsafe { *work })
    }
}

#[test]
fn a_waiter_sees_all_tasks_done() {
    model(3, || {
        let group = Group::new();
        group.add(2);
        let tasks: Vec<_> = (0..2)
            .map(|n| {
                let group = Arc::clone(&group);
                thread::spawn(move || group.task(n))
            })
            .collect();
        group.wait(0);
        assert_eq!((group.look(0), group.look(1)), (1, 1));
        for task in tasks {
            task.join().expect("no panic");
        }
    });
}

#[test]
fn both_waiters_are_woken() {
    model(2, || {
        let group = Group::new();
        group.add(1);
        let other = Arc::clone(&group);
        let task = thread::spawn(move || other.task(0));
        let other = Arc::clone(&group);
        let waiter = thread::spawn(move || {
            other.wait(1);
            assert_eq!(other.look(0), 1);
        });
        group.wait(0);
        assert_eq!(group.look(0), 1);
        task.join().expect("no panic");
        waiter.join().expect("no panic");
    });
}

/// Whoever has waited for the first round begins the second at once; a waiter of the first may still be on its way.
#[test]
fn a_second_round_wakes_its_own_waiter() {
    model(3, || {
        let group = Group::new();
        group.add(1);
        let other = Arc::clone(&group);
        let late = thread::spawn(move || other.wait(1));
        let other = Arc::clone(&group);
        let first = thread::spawn(move || other.task(0));
        group.wait(0);
        group.add(1);
        let other = Arc::clone(&group);
        let second = thread::spawn(move || other.task(1));
        group.wait(0);
        assert_eq!(group.look(1), 1, "it was not woken by the first round's end");
        for thread in [late, first, second] {
            thread.join().expect("no panic");
        }
    });
}

/// A condition over a value that a lock guards.
struct Condition {
    ready: Mutex<u32>,
    tickets: Tickets,
    waiters: Mutex<Waiters>,
    sudogs: Sudogs,
    beds: [Units; 2],
}

fn s(n: u32) -> SudogIndex {
    SudogIndex::new(n).expect("a test's index")
}

impl Condition {
    fn new() -> Arc<Self> {
        let sudogs = Sudogs::leaked(4);
        let mut rest = sudogs.grow(|_| Ok(())).ok();
        while let Some(chain) = rest {
            rest = chain.split_first(&sudogs).1;
        }
        Arc::new(Self {
            ready: Mutex::new(0),
            tickets: Tickets::new(),
            waiters: Mutex::new(Waiters::new()),
            sudogs,
            beds: Default::default(),
        })
    }

    /// Waits until there is something, and takes one.
    fn take(&self, me: u32) {
        let mut ready = self.ready.lock().expect("nobody panics");
        while *ready == 0 {
            let ticket = self.tickets.draw();
            drop(ready);
            let mut waiters = self.waiters.lock().expect("nobody panics");
            let came = self.tickets.come(&mut waiters, &self.sudogs, s(me), ticket);
            drop(waiters);
            if came == Came::InTime {
                self.beds[me as usize].acquire();
            }
            ready = self.ready.lock().expect("nobody panics");
        }
        *ready -= 1;
    }

    fn put(&self, count: u32) {
        *self.ready.lock().expect("nobody panics") += count;
    }

    fn signal(&self) {
        if self.tickets.all_notified() {
            return;
        }
        let mut waiters = self.waiters.lock().expect("nobody panics");
        let one = self.tickets.notify_one(&mut waiters, &self.sudogs);
        drop(waiters);
        if let Some(one) = one {
            self.beds[one.get() as usize].release();
        }
    }

    fn broadcast(&self) {
        if self.tickets.all_notified() {
            return;
        }
        let mut waiters = self.waiters.lock().expect("nobody panics");
        let mut rest = self.tickets.notify_all(&mut waiters);
        drop(waiters);
        while let Some(chain) = rest {
            let (one, tail) = chain.split_first(&self.sudogs);
            rest = tail;
            self.beds[one.get() as usize].release();
        }
    }
}

#[test]
fn a_signal_after_the_change_is_not_missed() {
    model(3, || {
        let condition = Condition::new();
        let other = Arc::clone(&condition);
        let waiter = thread::spawn(move || other.take(0));
        condition.put(1);
        condition.signal();
        waiter.join().expect("no panic");
    });
}

#[test]
fn two_signals_wake_two() {
    model(2, || {
        let condition = Condition::new();
        let waiters: Vec<_> = (0..2)
            .map(|n| {
                let condition = Arc::clone(&condition);
                thread::spawn(move || condition.take(n))
            })
            .collect();
        for _ in 0..2 {
            condition.put(1);
            condition.signal();
        }
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

#[test]
fn a_broadcast_wakes_all() {
    model(2, || {
        let condition = Condition::new();
        let waiters: Vec<_> = (0..2)
            .map(|n| {
                let condition = Arc::clone(&condition);
                thread::spawn(move || condition.take(n))
            })
            .collect();
        condition.put(2);
        condition.broadcast();
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

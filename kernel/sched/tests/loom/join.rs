//! The end of a goroutine against its handle, and of several against the scope that waits for them.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use sched::GoRef;
use sched::join::{Detach, Ended, JoinWord, Outcome, Slot};
use sched::latch::Latch;

use crate::{g, model};

/// Where a goroutine waits until it is readied: a ready that is lost leaves it there, and the checker reports a deadlock.
#[derive(Default)]
struct Bed {
    readied: Mutex<bool>,
    condition: Condvar,
}

impl Bed {
    fn ready(&self) {
        *self.readied.lock().expect("nobody panics") = true;
        self.condition.notify_one();
    }

    fn sleep(&self) {
        let mut readied = self.readied.lock().expect("nobody panics");
        while !*readied {
            readied = self.condition.wait(readied).expect("nobody panics");
        }
    }
}

fn joiner() -> GoRef {
    GoRef { index: g(1), generation: 5 }
}

/// A goroutine's slot. All words but the first are `Relaxed`: they are no part of the protocol and must not order it.
struct Life {
    word: JoinWord,
    bed: Bed,
    /// The value: 7 when it is there, 0 when it has been taken.
    value: AtomicU32,
    /// 1 once nobody stands on the stack.
    stack: AtomicU32,
    taken: AtomicU32,
    freed: AtomicU32,
}

impl Life {
    fn new() -> Arc<Self> {
        let word = JoinWord::new();
        word.begin();
        Arc::new(Self {
            word,
            bed: Bed::default(),
            value: AtomicU32::new(0),
            stack: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            freed: AtomicU32::new(0),
        })
    }

    /// The goroutine's last steps, and those of the side that goes on in its place.
    fn end(&self) {
        self.value.store(7, Ordering::Relaxed);
        match self.word.end(Outcome::Value) {
            Ended::Kept => {}
            Ended::Wake(who) => {
                assert_eq!(who, joiner());
                self.bed.ready();
            }
            Ended::Detached => self.take(),
        }
        self.stack.store(1, Ordering::Relaxed);
        self.settle(self.word.leave());
    }

    fn join(&self) {
        if self.word.outcome().is_none() && self.word.wait(joiner()) {
            self.bed.sleep();
        }
        assert_eq!(self.word.outcome(), Some(Outcome::Value), "a joiner goes on before the end");
        self.take();
        self.settle(self.word.claim());
    }

    fn drop_handle(&self) {
        match self.word.detach() {
            Detach::Detached => {}
            Detach::Ended(outcome) => {
                assert_eq!(outcome, Outcome::Value);
                self.take();
                self.settle(self.word.claim());
            }
        }
    }

    fn take(&self) {
        assert_eq!(self.value.load(Ordering::Relaxed), 7, "the value is not whole, or was taken before");
        self.value.store(0, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn settle(&self, slot: Slot) {
        if slot == Slot::Free {
            assert_eq!(self.stack.load(Ordering::Relaxed), 1, "freed while somebody stands on the stack");
            assert_eq!(self.value.load(Ordering::Relaxed), 0, "freed with the value in it");
            assert!(self.word.is_free());
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One handle against the end; afterwards the value was taken once, and the slot freed once.
fn check(handle: fn(&Life)) {
    model(4, move || {
        let life = Life::new();
        let goroutine = {
            let life = Arc::clone(&life);
            thread::spawn(move || life.end())
        };
        handle(&life);
        goroutine.join().expect("it ends");
        assert_eq!(life.taken.load(Ordering::Relaxed), 1, "times that the value was taken");
        assert_eq!(life.freed.load(Ordering::Relaxed), 1, "times that the slot was freed");
    });
}

#[test]
fn a_join_meets_the_end() {
    check(Life::join);
}

#[test]
fn a_drop_meets_the_end() {
    check(Life::drop_handle);
}

#[test]
fn a_handle_that_looks_first_and_then_is_dropped_meets_the_end() {
    check(|life| {
        if life.word.outcome().is_some() {
            life.join();
        } else {
            life.drop_handle();
        }
    });
}

/// Two goroutines of a scope, the first of which starts the second, and the owner that waits for both.
#[test]
fn a_scope_ends_after_all_of_its_goroutines() {
    model(3, || {
        struct Scope {
            latch: Latch,
            bed: Bed,
            done: [AtomicU32; 2],
        }
        impl Scope {
            fn end(&self, n: usize) {
                self.done[n].store(1, Ordering::Relaxed);
                if let Some(owner) = self.latch.end() {
                    assert_eq!(owner, joiner());
                    self.bed.ready();
                }
            }
        }
        let scope = Arc::new(Scope {
            latch: Latch::new(joiner()),
            bed: Bed::default(),
            done: [AtomicU32::new(0), AtomicU32::new(0)],
        });
        scope.latch.begin();
        let first = {
            let scope = Arc::clone(&scope);
            thread::spawn(move || {
                scope.latch.begin();
                let second = {
                    let scope = Arc::clone(&scope);
                    thread::spawn(move || scope.end(1))
                };
                scope.end(0);
                second.join().expect("it ends");
            })
        };
        if !scope.latch.is_done() && scope.latch.wait() {
            scope.bed.sleep();
        }
        for done in &scope.done {
            assert_eq!(done.load(Ordering::Relaxed), 1, "the scope has ended before, or does not see it");
        }
        first.join().expect("it ends");
    });
}

//! The run queue: its owner against stealers.
//!
//! Each goroutine has a word that stands for its saved context: written `Relaxed` before it is queued, read
//! `Relaxed` by who takes it out. If a handover lacks an ordering, the model shows the old value.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use sched::GoIndex;
use sched::runq::{RunQueue, StealNext};

use crate::{g, model};

/// A queue and the contexts of the goroutines that pass through it.
struct Shared {
    queue: RunQueue,
    contexts: Vec<AtomicU32>,
}

impl Shared {
    fn new(goroutines: u32) -> Arc<Self> {
        let contexts = (0..goroutines).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { queue: RunQueue::new(), contexts })
    }

    /// Saves the context of goroutine `n`, which is about to be queued.
    fn save(&self, n: u32) -> GoIndex {
        self.contexts[n as usize].store(n + 1, Ordering::Relaxed);
        g(n)
    }

    /// Resumes a goroutine that came from a queue.
    fn resume(&self, got: &mut Vec<u32>, g: GoIndex) {
        let context = self.contexts[g.get() as usize].load(Ordering::Relaxed);
        assert_eq!(context, g.get() + 1, "goroutine {} runs without its context", g.get());
        got.push(g.get());
    }

    /// Pops until the owner's queue is empty.
    fn drain(&self, queue: &RunQueue, got: &mut Vec<u32>) {
        while let Some(popped) = queue.local().pop() {
            self.resume(got, popped.g);
        }
    }

    /// A thief with a queue of its own: steals once and says what it got.
    fn thief(shared: &Arc<Self>, next: StealNext) -> thread::JoinHandle<Vec<u32>> {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mine = RunQueue::new();
            let mut got = Vec::new();
            if let Some(stolen) = shared.queue.steal_into(&mine.local(), next) {
                shared.resume(&mut got, stolen.g);
            }
            shared.drain(&mine, &mut got);
            got
        })
    }
}

/// Asserts that `got` is each of `0..count` once.
fn assert_each_once(mut got: Vec<u32>, count: u32) {
    got.sort_unstable();
    assert_eq!(got, (0..count).collect::<Vec<_>>(), "every goroutine exactly once");
}

/// The owner pushes and pops while two thieves steal.
#[test]
fn owner_against_two_stealers() {
    model(3, || {
        let shared = Shared::new(4);
        let local = shared.queue.local();
        for n in 0..2 {
            assert!(local.push_back(shared.save(n)).is_none());
        }
        let thieves = [Shared::thief(&shared, StealNext::No), Shared::thief(&shared, StealNext::No)];
        let mut got = Vec::new();
        for n in 2..4 {
            assert!(local.push_back(shared.save(n)).is_none());
        }
        if let Some(popped) = local.pop() {
            shared.resume(&mut got, popped.g);
        }
        for thief in thieves {
            got.extend(thief.join().expect("a thief ends"));
        }
        shared.drain(&shared.queue, &mut got);
        assert_each_once(got, 4);
    });
}

/// Slots are written again as soon as they were popped, while a thief reads them.
#[test]
fn slots_are_reused_under_a_stealer() {
    model(6, || {
        let shared = Shared::new(6);
        let local = shared.queue.local();
        for n in 0..4 {
            assert!(local.push_back(shared.save(n)).is_none());
        }
        let thief = Shared::thief(&shared, StealNext::No);
        let mut got = Vec::new();
        for n in 4..6 {
            let popped = local.pop().expect("a thief leaves half");
            shared.resume(&mut got, popped.g);
            assert!(local.push_back(shared.save(n)).is_none());
        }
        got.extend(thief.join().expect("a thief ends"));
        shared.drain(&shared.queue, &mut got);
        assert_each_once(got, 6);
    });
}

/// A full ring overflows while a thief makes room.
#[test]
fn overflow_against_a_stealer() {
    model(6, || {
        let shared = Shared::new(6);
        let local = shared.queue.local();
        for n in 0..4 {
            assert!(local.push_back(shared.save(n)).is_none());
        }
        let thief = Shared::thief(&shared, StealNext::No);
        let table = sched::table::Table::new(8).expect("memory");
        for _ in 0..2 {
            table.grow(|_| ()).expect("memory");
        }
        let mut got = Vec::new();
        for n in 4..6 {
            let mut rest = local.push_back(shared.save(n)).map(|overflow| overflow.into_chain(&table));
            while let Some(chain) = rest {
                let (g, tail) = chain.split_first(&table);
                shared.resume(&mut got, g);
                rest = tail;
            }
        }
        got.extend(thief.join().expect("a thief ends"));
        shared.drain(&shared.queue, &mut got);
        assert_each_once(got, 6);
    });
}

/// The run-next slot is filled, kicked and popped by its owner while two thieves want it.
#[test]
fn run_next_stolen_against_pop() {
    model(3, || {
        let shared = Shared::new(3);
        let local = shared.queue.local();
        assert!(local.put_next(shared.save(0)).is_none());
        let thieves = [Shared::thief(&shared, StealNext::Yes), Shared::thief(&shared, StealNext::Yes)];
        let mut got = Vec::new();
        for n in 1..3 {
            assert!(local.put_next(shared.save(n)).is_none());
            if let Some(popped) = local.pop() {
                shared.resume(&mut got, popped.g);
            }
        }
        for thief in thieves {
            got.extend(thief.join().expect("a thief ends"));
        }
        shared.drain(&shared.queue, &mut got);
        assert_each_once(got, 3);
    });
}

/// What a thief put into its ring is stolen from there while the thief goes on.
#[test]
fn loot_is_stolen_again() {
    model(6, || {
        let (shared, first) = (Shared::new(4), RunQueue::new());
        for n in 0..4 {
            assert!(first.local().push_back(shared.save(n)).is_none());
        }
        let thief = Shared::thief(&shared, StealNext::No);
        let mut got = Vec::new();
        let stolen = first.steal_into(&shared.queue.local(), StealNext::No).expect("nobody else steals here");
        shared.resume(&mut got, stolen.g);
        got.extend(thief.join().expect("a thief ends"));
        shared.drain(&shared.queue, &mut got);
        shared.drain(&first, &mut got);
        assert_each_once(got, 4);
    });
}

/// A goroutine that moves from the run-next slot to the ring never looks gone.
#[test]
fn a_kicked_goroutine_does_not_look_gone() {
    model(4, || {
        let shared = Shared::new(2);
        let local = shared.queue.local();
        assert!(local.put_next(g(0)).is_none());
        let looker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || assert!(!shared.queue.is_empty(), "goroutine 0 is there all the time"))
        };
        assert!(local.put_next(g(1)).is_none());
        assert_eq!(local.pop().map(|popped| popped.g), Some(g(1)));
        looker.join().expect("the looker ends");
    });
}

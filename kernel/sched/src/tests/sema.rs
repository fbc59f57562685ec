//! The steps of acquire and release, one after the other, and at random against a model.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ptr;
use std::sync::Mutex;

use super::{
    Added, Handoff, Order, RootLock, SemaRoot, SemaTable, Semaphore, Wait, Wake, Woken, root_of, try_acquire,
};
use crate::id::{GoIndex, GoRef, SudogIndex};
use crate::sudog::tests::store;
use crate::sudog::{Sudog, Sudogs};
use crate::sync::{AtomicU32, Ordering, SEMA_ROOTS};
use crate::treap::tests::check;

/// Words without units, and the places of those that share the root of the first: one in about as many as there are roots.
fn sharing(count: usize) -> (Vec<AtomicU32>, Vec<usize>) {
    let words: Vec<AtomicU32> = (0..count * SEMA_ROOTS * 2).map(|_| AtomicU32::new(0)).collect();
    let root = |word: &AtomicU32| root_of(ptr::from_ref(word).addr() as u64);
    let places: Vec<usize> =
        (0..words.len()).filter(|place| root(&words[*place]) == root(&words[0])).take(count).collect();
    assert_eq!(places.len(), count, "some of the words share a root");
    (words, places)
}

struct Locked(Mutex<SemaRoot>);

impl RootLock for Locked {
    type Pin = ();

    fn with<R>(&self, f: impl FnOnce(&mut SemaRoot) -> R) -> (R, ()) {
        (f(&mut self.0.lock().expect("no test panics with the lock held")), ())
    }
}

/// A table and sudogs of which number i waits for goroutine i.
struct Kernel {
    table: SemaTable<Locked>,
    sudogs: Sudogs,
}

impl Kernel {
    fn new() -> Self {
        let (sudogs, all) = store(64);
        let table = SemaTable::new(|root| Locked(Mutex::new(root)));
        for s in all {
            sudogs.get(s).prepare(g(s.get()), 1);
        }
        Self { table, sudogs }
    }

    fn semaphore<'t>(&'t self, word: &'t AtomicU32) -> Semaphore<'t, Locked> {
        self.table.semaphore(&self.sudogs, word)
    }

    /// The sudog of goroutine `n`.
    fn waiter(&self, n: u32) -> (SudogIndex, &Sudog) {
        (s(n), self.sudogs.get(s(n)))
    }
}

fn s(n: u32) -> SudogIndex {
    SudogIndex::new(n).expect("a test's index")
}

fn g(n: u32) -> GoRef {
    GoRef { index: GoIndex::new(n).expect("a test's index"), generation: n }
}

/// All of a release.
fn release(semaphore: &Semaphore<'_, Locked>, handoff: Handoff) -> Option<Wake> {
    semaphore.release(handoff, || 100).map(|(wake, ())| wake)
}

fn units(word: &AtomicU32) -> u32 {
    word.load(Ordering::Relaxed)
}

#[test]
fn units_are_counted() {
    let kernel = Kernel::new();
    let word = AtomicU32::new(2);
    assert!(try_acquire(&word) && try_acquire(&word));
    assert!(!try_acquire(&word));
    assert_eq!(kernel.semaphore(&word).add(), Added::Done);
    assert_eq!(kernel.semaphore(&word).enqueue(kernel.waiter(0), Order::Fifo, 1), Wait::Acquired);
    assert_eq!((units(&word), kernel.semaphore(&word).nwait()), (0, 0));
}

#[test]
fn without_hand_off_a_passer_by_may_be_faster() {
    let kernel = Kernel::new();
    let word = AtomicU32::new(0);
    let semaphore = kernel.semaphore(&word);
    assert_eq!(semaphore.enqueue(kernel.waiter(3), Order::Fifo, 1), Wait::Queued);
    assert_eq!(semaphore.nwait(), 1);
    assert_eq!(release(&semaphore, Handoff::No), Some(Wake { g: g(3), handed_off: false }));
    assert!(try_acquire(&word));
    assert_eq!(semaphore.finish(kernel.sudogs.get(s(3))), Woken::Again);
    assert_eq!(semaphore.enqueue(kernel.waiter(3), Order::Fifo, 1), Wait::Queued);
    assert_eq!(release(&semaphore, Handoff::No), Some(Wake { g: g(3), handed_off: false }));
    assert_eq!(semaphore.finish(kernel.sudogs.get(s(3))), Woken::Acquired);
    assert_eq!((units(&word), semaphore.nwait()), (0, 0));
}

#[test]
fn a_hand_off_leaves_nothing_to_passers_by() {
    let kernel = Kernel::new();
    let word = AtomicU32::new(0);
    let semaphore = kernel.semaphore(&word);
    assert_eq!(semaphore.enqueue(kernel.waiter(3), Order::Fifo, 1), Wait::Queued);
    assert_eq!(release(&semaphore, Handoff::Yes), Some(Wake { g: g(3), handed_off: true }));
    assert!(!try_acquire(&word));
    assert_eq!(semaphore.finish(kernel.sudogs.get(s(3))), Woken::Acquired);
    assert_eq!(units(&word), 0);
    let sudog = kernel.sudogs.get(s(3));
    assert_eq!((sudog.acquire_time(), sudog.release_time()), (1, 100));
    sudog.retire(s(3));
}

#[test]
fn a_hand_off_that_comes_too_late_is_a_plain_wake() {
    let kernel = Kernel::new();
    let word = AtomicU32::new(0);
    let semaphore = kernel.semaphore(&word);
    assert_eq!(semaphore.enqueue(kernel.waiter(3), Order::Fifo, 1), Wait::Queued);
    assert_eq!(semaphore.add(), Added::LookForWaiter);
    assert!(try_acquire(&word), "somebody comes by between the two steps");
    assert_eq!(semaphore.dequeue(Handoff::Yes, || 9), Some((Wake { g: g(3), handed_off: false }, ())));
    assert_eq!(semaphore.finish(kernel.sudogs.get(s(3))), Woken::Again);
}

#[test]
fn a_waiter_for_another_word_is_left_alone() {
    let kernel = Kernel::new();
    let (words, places) = sharing(2);
    let second = &words[places[1]];
    let (one, other) = (kernel.semaphore(&words[0]), kernel.semaphore(second));
    assert_eq!(one.enqueue(kernel.waiter(0), Order::Fifo, 1), Wait::Queued);
    assert_eq!(other.nwait(), 1, "they share a root");
    assert_eq!(release(&other, Handoff::Yes), None);
    assert_eq!((units(second), other.nwait()), (1, 1));
    assert!(try_acquire(second));
    assert_eq!(other.add(), Added::LookForWaiter);
    assert_eq!(other.dequeue(Handoff::Yes, || 9), None);
    assert_eq!((units(second), other.nwait()), (1, 1));
    assert_eq!(release(&one, Handoff::No), Some(Wake { g: g(0), handed_off: false }));
    assert_eq!(other.nwait(), 0);
}

#[test]
fn words_are_spread_over_the_roots() {
    // Exactly what the product gives.
    for (bytes, bound) in [(4, 3), (8, 4), (64, 3), (192, 3), (256, 3), (4096, 5)] {
        let mut roots = [0; SEMA_ROOTS];
        (0..SEMA_ROOTS as u64 * 2).for_each(|n| roots[root_of(0xffff_9000_0000_0000 + n * bytes)] += 1);
        let most = roots.iter().max().copied().unwrap_or(0);
        assert_eq!(most, bound, "words that lie {bytes} bytes apart share a root; 2 would be even");
    }
}

#[test]
#[should_panic(expected = "more than 2^32 - 1 units")]
fn a_full_word_is_refused() {
    let kernel = Kernel::new();
    assert_eq!(kernel.semaphore(&AtomicU32::new(u32::MAX)).add(), Added::Done);
}

/// What a semaphore and its goroutines must be like.
#[derive(Clone, Default)]
struct Model {
    units: u32,
    queue: VecDeque<u32>,
    /// Readied goroutines that have not run yet, and whether they have a unit.
    woken: VecDeque<(u32, bool)>,
}

/// Random steps on words of one root. Who is woken runs at a random time, so others come by before.
struct Random {
    kernel: Kernel,
    words: Vec<AtomicU32>,
    /// Where those are that are used.
    places: Vec<usize>,
    models: [Model; 6],
    idle: Vec<u32>,
    seed: u64,
    state: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        let kernel = Kernel::new();
        let idle = (0..kernel.sudogs.len()).collect();
        let (words, places) = sharing(6);
        Self { kernel, words, places, models: Default::default(), idle, seed, state: seed }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.state >> 33) as u32) % limit
    }

    /// Goroutine `n` waits, or takes a unit.
    fn acquire(&mut self, at: usize, n: u32) {
        let order = if self.below(4) == 0 { Order::Lifo } else { Order::Fifo };
        let random = self.below(u32::MAX).into();
        let wait =
            self.kernel.semaphore(&self.words[self.places[at]]).enqueue(self.kernel.waiter(n), order, random);
        let model = &mut self.models[at];
        if model.units > 0 {
            model.units -= 1;
            assert_eq!(wait, Wait::Acquired, "seed {}", self.seed);
            self.idle.push(n);
            return;
        }
        assert_eq!(wait, Wait::Queued, "seed {}", self.seed);
        match order {
            Order::Fifo => model.queue.push_back(n),
            Order::Lifo => model.queue.push_front(n),
        }
    }

    fn release(&mut self, at: usize) {
        let handoff = if self.below(2) == 0 { Handoff::Yes } else { Handoff::No };
        let wake = release(&self.kernel.semaphore(&self.words[self.places[at]]), handoff);
        let model = &mut self.models[at];
        let expected = model.queue.pop_front().map(|n| Wake { g: g(n), handed_off: handoff == Handoff::Yes });
        assert_eq!(wake, expected, "seed {}", self.seed);
        model.units += u32::from(wake.is_none_or(|wake| !wake.handed_off));
        model.woken.extend(wake.map(|wake| (wake.g.generation, wake.handed_off)));
    }

    /// A readied goroutine runs.
    fn run(&mut self, at: usize) {
        let Some((n, handed_off)) = self.models[at].woken.pop_front() else { return };
        let woken = self.kernel.semaphore(&self.words[self.places[at]]).finish(self.kernel.sudogs.get(s(n)));
        let model = &mut self.models[at];
        if handed_off || model.units > 0 {
            model.units -= u32::from(!handed_off);
            assert_eq!(woken, Woken::Acquired, "seed {}", self.seed);
            self.kernel.sudogs.get(s(n)).prepare(g(n), 1);
            self.idle.push(n);
        } else {
            assert_eq!(woken, Woken::Again, "seed {}", self.seed);
            self.acquire(at, n);
        }
    }

    fn check(&self) {
        let root = &self.kernel.semaphore(&self.words[0]);
        let (queues, ()) = root.root.locked.with(|SemaRoot(treap)| check(treap, &self.kernel.sudogs));
        let queued: usize = queues.values().map(VecDeque::len).sum();
        assert_eq!(root.nwait() as usize, queued, "nwait, seed {}", self.seed);
        for (at, model) in self.models.iter().enumerate() {
            let word = &self.words[self.places[at]];
            assert_eq!(units(word), model.units, "units of word {at}, seed {}", self.seed);
            let queue = queues.get(&self.kernel.semaphore(word).address);
            let queue: VecDeque<u32> = queue.into_iter().flatten().map(|s| s.get()).collect();
            assert_eq!(queue, model.queue, "queue of word {at}, seed {}", self.seed);
        }
    }
}

#[test]
fn random_steps_follow_the_model() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        for _ in 0..400 {
            let at = random.below(6) as usize;
            match random.below(5) {
                0 | 1 => {
                    if let Some(n) = random.idle.pop() {
                        random.acquire(at, n);
                    }
                }
                2 | 3 => random.release(at),
                _ => random.run(at),
            }
            random.check();
        }
    }
}

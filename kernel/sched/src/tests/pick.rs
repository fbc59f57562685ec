//! The order of the sources.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::{
    GLOBAL_TICK, Global, NEXT_STREAK, Picked, Place, RandomOrder, Source, Sources, Turn, enqueue, find_work,
    inherit, next_after_slice, next_local, recheck,
};
use crate::global::GlobalQueue;
use crate::id::{GoIndex, ProcId};
use crate::list::SharedLen;
use crate::processor::Processor;
use crate::sync::QUEUE_CAPACITY;
use crate::table::Table;

/// The kernel's lock around the global queue, counted.
struct Locked {
    queue: RefCell<GlobalQueue>,
    length: SharedLen,
    locks: Cell<u32>,
    hesitations: Cell<u32>,
}

impl Global for Locked {
    fn with<R>(&self, _at: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R {
        self.locks.set(self.locks.get() + 1);
        f(&mut self.queue.borrow_mut())
    }

    fn length(&self, _at: usize) -> &SharedLen {
        &self.length
    }

    fn hesitate(&self) {
        self.hesitations.set(self.hesitations.get() + 1);
    }
}

/// A machine without CPUs.
struct Bench {
    table: Table<()>,
    processors: Vec<Processor>,
    global: Locked,
}

impl Bench {
    fn new(procs: u32) -> Self {
        let table = Table::new(4096).expect("memory");
        while table.grow(|_| ()).is_ok() {}
        let (queue, length) = GlobalQueue::new();
        let global =
            Locked { queue: RefCell::new(queue), length, locks: Cell::new(0), hesitations: Cell::new(0) };
        let processors = (0..procs).filter_map(ProcId::new).map(|id| Processor::new(id, 3)).collect();
        Self { table, processors, global }
    }

    fn sources(&self) -> Sources<'_, Table<()>, Locked> {
        Sources { table: &self.table, processors: &self.processors, global: &self.global }
    }

    fn push_global(&self, range: core::ops::Range<u32>) {
        for n in range {
            self.global.queue.borrow_mut().push(&self.table, g(n));
        }
    }

    fn next_local(&self, p: usize) -> Option<Picked> {
        next_local(self.processors[p].owner(), &self.sources())
    }

    fn find_work(&self, p: usize) -> Option<Picked> {
        find_work(self.processors[p].owner(), &self.sources())
    }

    fn enqueue(&self, p: usize, n: u32, place: Place) {
        enqueue(self.processors[p].owner(), &self.sources(), g(n), place);
    }
}

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

fn picked(n: u32, source: Source) -> Picked {
    Picked { g: g(n), inherit_time: source == Source::Next, source }
}

#[test]
fn run_next_then_ring_then_global() {
    let bench = Bench::new(1);
    bench.push_global(0..1);
    bench.enqueue(0, 1, Place::Back);
    bench.enqueue(0, 2, Place::Next);
    assert_eq!(bench.next_local(0), Some(picked(2, Source::Next)));
    assert_eq!(bench.next_local(0), Some(picked(1, Source::Local)));
    assert_eq!(bench.next_local(0), Some(picked(0, Source::Global)));
    assert_eq!(bench.next_local(0), None);
}

#[test]
fn the_fast_path_takes_no_lock_when_the_global_queue_is_empty() {
    let bench = Bench::new(1);
    for n in 0..200 {
        bench.enqueue(0, n, if n % 3 == 0 { Place::Next } else { Place::Back });
    }
    while bench.next_local(0).is_some() {}
    assert_eq!(bench.global.locks.get(), 0);
}

#[test]
fn every_61st_pick_looks_at_the_global_queue_first() {
    let bench = Bench::new(1);
    bench.push_global(0..10);
    bench.enqueue(0, 100, Place::Back);
    for tick in 1..=GLOBAL_TICK * 3 {
        let picked = bench.next_local(0).expect("there is always work");
        if tick.is_multiple_of(GLOBAL_TICK) {
            assert_eq!(
                picked,
                Picked { g: g(tick / GLOBAL_TICK - 1), inherit_time: false, source: Source::Global }
            );
        } else {
            assert_eq!((picked.g, picked.source), (g(100), Source::Local));
            bench.enqueue(0, 100, Place::Back);
        }
    }
    assert_eq!(bench.global.length.get(), 7, "it takes one at a time");
}

#[test]
fn two_that_ready_each_other_do_not_starve_the_ring() {
    let bench = Bench::new(1);
    bench.enqueue(0, 9, Place::Back);
    bench.enqueue(0, 0, Place::Next);
    for turn in 0..=NEXT_STREAK {
        let picked = bench.next_local(0).expect("there is always work");
        if picked.g == g(9) {
            assert_eq!((turn, picked.source, picked.inherit_time), (NEXT_STREAK, Source::Local, false));
            return;
        }
        assert_eq!(picked.source, Source::Next);
        bench.enqueue(0, 1 - picked.g.get(), Place::Next);
    }
    panic!("the goroutine in the ring never ran");
}

#[test]
fn an_heir_is_no_pick_of_its_own() {
    let bench = Bench::new(1);
    bench.enqueue(0, 9, Place::Back);
    for n in 0..200 {
        bench.enqueue(0, n % 2, Place::Next);
        assert_eq!(inherit(bench.processors[0].owner()), Some(picked(n % 2, Source::Next)));
    }
    assert_eq!(inherit(bench.processors[0].owner()), None, "the ring is left alone");
    assert_eq!(
        (bench.processors[0].owner().picks_until_global(), bench.next_local(0)),
        (GLOBAL_TICK, Some(picked(9, Source::Local)))
    );
}

#[test]
fn at_the_end_of_a_slice_the_heir_and_the_others_take_turns() {
    let bench = Bench::new(1);
    bench.push_global(0..2);
    bench.enqueue(0, 2, Place::Back);
    let next = || next_after_slice(bench.processors[0].owner(), &bench.sources(), Turn::Alternate);
    let heir = |n| Some(Picked { g: g(n), inherit_time: false, source: Source::Next });
    for (n, other) in [(10, picked(2, Source::Local)), (12, picked(0, Source::Global))] {
        bench.enqueue(0, n, Place::Next);
        assert_eq!(next(), heir(n));
        bench.enqueue(0, n + 1, Place::Next);
        assert_eq!(next(), Some(other), "although there is an heir");
        assert_eq!(inherit(bench.processors[0].owner()).map(|heir| heir.g), Some(g(n + 1)));
    }
    bench.enqueue(0, 20, Place::Next);
    assert_eq!(next(), heir(20));
    bench.enqueue(0, 21, Place::Next);
    assert_eq!(next(), Some(picked(1, Source::Local)), "it came with its share of the global queue");
    assert_eq!([next(), next()], [heir(21), None]);
}

#[test]
fn a_share_of_the_global_queue_goes_to_the_ring() {
    let bench = Bench::new(4);
    bench.push_global(0..40);
    assert_eq!(bench.find_work(2), Some(picked(0, Source::Global)));
    assert_eq!(bench.processors[2].queue().len(), 40 / 4);
    assert_eq!(bench.next_local(2), Some(picked(1, Source::Local)));
    assert_eq!(bench.global.length.get(), 29);
}

#[test]
fn a_share_never_overflows_the_ring() {
    let bench = Bench::new(1);
    for n in 0..QUEUE_CAPACITY {
        bench.enqueue(0, n, Place::Back);
    }
    bench.push_global(300..310);
    assert_eq!(bench.find_work(0), Some(picked(300, Source::Global)));
    assert_eq!(bench.processors[0].queue().len(), QUEUE_CAPACITY);
}

#[test]
fn overflow_goes_to_the_global_queue() {
    let bench = Bench::new(1);
    for n in 0..=QUEUE_CAPACITY {
        bench.enqueue(0, n, Place::Back);
    }
    assert_eq!(bench.global.length.get(), QUEUE_CAPACITY / 2 + 1);
    assert_eq!(bench.global.locks.get(), 1);
    assert_eq!(bench.next_local(0), Some(picked(QUEUE_CAPACITY / 2, Source::Local)));
}

#[test]
fn a_spinner_steals_half_and_counts_it() {
    let bench = Bench::new(8);
    for n in 0..9 {
        bench.enqueue(5, n, Place::Back);
    }
    let from = ProcId::new(5).expect("below the limit");
    assert_eq!(bench.find_work(1), Some(picked(4, Source::Stolen { from, count: 5 })));
    assert_eq!(bench.processors[1].queue().len(), 4);
    let counters = bench.processors[1].counters(|ticks| ticks);
    assert_eq!((counters.steals, counters.stolen), (1, 5));
}

#[test]
fn a_run_next_slot_is_stolen_last_and_after_a_moment() {
    let bench = Bench::new(3);
    bench.enqueue(0, 1, Place::Next);
    bench.enqueue(1, 2, Place::Back);
    let ring = bench.find_work(2).expect("P1 has one");
    assert_eq!(ring.g, g(2), "a ring goes before any run-next slot, whatever the order");
    assert_eq!(bench.global.hesitations.get(), 0);
    let next = bench.find_work(2).expect("P0 has one");
    assert_eq!((next.g, next.inherit_time), (g(1), false), "stolen time is not inherited");
    assert_eq!(bench.global.hesitations.get(), 1);
    assert_eq!(bench.find_work(2), None);
}

#[test]
fn a_recheck_sees_every_place_and_takes_nothing() {
    let bench = Bench::new(3);
    assert!(!recheck(&bench.sources()));
    bench.push_global(0..1);
    assert!(recheck(&bench.sources()) && recheck(&bench.sources()));
    assert!(bench.next_local(0).is_some());
    assert!(!recheck(&bench.sources()));
    bench.enqueue(1, 5, Place::Next);
    assert!(recheck(&bench.sources()), "a run-next slot");
    assert!(bench.next_local(1).is_some());
    bench.enqueue(2, 5, Place::Back);
    assert!(recheck(&bench.sources()), "a ring");
}

#[test]
fn a_random_order_visits_each_once() {
    for len in 0..70 {
        for random in (0..u32::MAX).step_by(100_000_007) {
            let order: Vec<usize> = RandomOrder::new(len, random).collect();
            assert_eq!(order.len(), len);
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..len).collect());
        }
    }
}

#[test]
fn random_orders_differ() {
    let orders: BTreeSet<Vec<usize>> = (0..500).map(|random| RandomOrder::new(7, random).collect()).collect();
    assert_eq!(orders.len(), 7 * 6, "every start with every step");
}

//! The run queue, one call at a time. Races: `tests/loom`, `tests/stress.rs`.

use alloc::vec::Vec;

use super::{Popped, RunQueue, StealNext, Stolen};
use crate::id::GoIndex;
use crate::list::Chain;
use crate::sync::{Ordering, QUEUE_CAPACITY};
use crate::table::Table;

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

/// A queue whose ring holds `0..count`.
fn with(count: u32) -> RunQueue {
    let queue = RunQueue::new();
    for n in 0..count {
        assert!(queue.local().push_back(g(n)).is_none());
    }
    queue
}

/// Empties a queue in its order.
fn drain(queue: &RunQueue) -> Vec<u32> {
    core::iter::from_fn(|| queue.local().pop()).map(|popped| popped.g.get()).collect()
}

#[test]
fn the_ring_is_first_in_first_out() {
    let queue = with(QUEUE_CAPACITY);
    assert_eq!(queue.len(), QUEUE_CAPACITY);
    assert_eq!(drain(&queue), (0..QUEUE_CAPACITY).collect::<Vec<_>>());
    assert!(queue.is_empty());
    assert_eq!(queue.local().pop(), None);
}

#[test]
fn run_next_comes_first_and_inherits_the_slice() {
    let queue = with(2);
    assert!(queue.local().put_next(g(7)).is_none());
    assert_eq!(queue.len(), 3);
    assert_eq!(queue.local().pop(), Some(Popped { g: g(7), inherit_time: true }));
    assert_eq!(queue.local().pop(), Some(Popped { g: g(0), inherit_time: false }));
}

#[test]
fn a_new_run_next_kicks_the_old_one_to_the_back() {
    let queue = with(1);
    assert!(queue.local().put_next(g(7)).is_none());
    assert!(queue.local().put_next(g(8)).is_none());
    assert_eq!(drain(&queue), [8, 0, 7]);
}

#[test]
fn one_is_all_that_a_queue_holds_in_the_ring_or_next() {
    let queue = RunQueue::new();
    assert!(!queue.local().holds_only(g(0)), "it is empty");
    assert!(queue.local().push_back(g(0)).is_none());
    assert!(queue.local().holds_only(g(0)));
    assert!(!queue.local().holds_only(g(1)), "another one");
    assert!(queue.local().put_next(g(1)).is_none());
    assert!(!queue.local().holds_only(g(0)) && !queue.local().holds_only(g(1)), "two");
    assert_eq!(queue.local().pop_ring(), Some(g(0)));
    assert!(queue.local().holds_only(g(1)));
    assert!(!queue.local().holds_only(g(0)), "it was there");
}

#[test]
fn a_queue_with_only_run_next_is_not_empty() {
    let queue = RunQueue::new();
    assert!(!queue.has_only_next());
    assert!(queue.local().put_next(g(1)).is_none());
    assert!(!queue.is_empty());
    assert!(queue.has_only_next());
    assert!(queue.local().push_back(g(2)).is_none());
    assert!(!queue.has_only_next());
}

#[test]
fn a_full_ring_gives_up_its_older_half() {
    let table = Table::new(QUEUE_CAPACITY * 2).expect("memory");
    while table.len() < QUEUE_CAPACITY * 2 {
        table.grow(|_| ()).expect("memory");
    }
    let queue = with(QUEUE_CAPACITY);
    assert_eq!(queue.local().room(), 0);
    let overflow = queue.local().push_back(g(QUEUE_CAPACITY)).expect("the ring is full");
    let mut rest = Some(overflow.into_chain(&table));
    let mut spilled = Vec::new();
    while let Some(chain) = rest {
        let (g, tail) = chain.split_first(&table);
        spilled.push(g.get());
        rest = tail;
    }
    let half = QUEUE_CAPACITY / 2;
    assert_eq!(spilled, (0..half).chain([QUEUE_CAPACITY]).collect::<Vec<_>>());
    assert_eq!(drain(&queue), (half..QUEUE_CAPACITY).collect::<Vec<_>>());
}

#[test]
fn a_kick_into_a_full_ring_overflows() {
    let queue = with(QUEUE_CAPACITY);
    assert!(queue.local().put_next(g(900)).is_none());
    assert!(queue.local().put_next(g(901)).is_some(), "900 does not fit");
    assert_eq!(queue.local().pop(), Some(Popped { g: g(901), inherit_time: true }));
}

#[test]
fn a_thief_takes_the_older_half_rounded_up() {
    for (queued, taken) in [(1, 1), (2, 1), (3, 2), (4, 2), (101, 51), (QUEUE_CAPACITY, QUEUE_CAPACITY / 2)] {
        let (victim, thief) = (with(queued), RunQueue::new());
        let stolen = victim.steal_into(&thief.local(), StealNext::No);
        assert_eq!(stolen, Some(Stolen { g: g(taken - 1), count: taken }));
        assert_eq!(drain(&thief), (0..taken - 1).collect::<Vec<_>>());
        assert_eq!(drain(&victim), (taken..queued).collect::<Vec<_>>());
    }
}

#[test]
fn a_thief_takes_no_more_than_it_has_room_for() {
    let (victim, thief) = (with(QUEUE_CAPACITY), with(QUEUE_CAPACITY - 2));
    let stolen = victim.steal_into(&thief.local(), StealNext::No);
    assert_eq!(stolen, Some(Stolen { g: g(1), count: 2 }), "one into the ring and one to run");
    let mine = (0..QUEUE_CAPACITY - 2).chain([0]);
    assert_eq!(drain(&thief), mine.collect::<Vec<_>>(), "what the thief had is untouched");
    let full = with(QUEUE_CAPACITY);
    assert_eq!(victim.steal_into(&full.local(), StealNext::No), None);
    assert_eq!(drain(&full), (0..QUEUE_CAPACITY).collect::<Vec<_>>());
}

#[test]
fn run_next_is_stolen_only_on_permission_and_last() {
    let (victim, thief) = (with(1), RunQueue::new());
    assert!(victim.local().put_next(g(9)).is_none());
    let steal = |next| victim.steal_into(&thief.local(), next);
    assert_eq!(steal(StealNext::Yes), Some(Stolen { g: g(0), count: 1 }), "the ring first");
    assert_eq!(steal(StealNext::No), None);
    assert_eq!(steal(StealNext::Yes), Some(Stolen { g: g(9), count: 1 }));
    assert_eq!(steal(StealNext::Yes), None);
    assert!(victim.is_empty() && thief.is_empty());
}

#[test]
fn positions_wrap_around_the_word() {
    let queue = RunQueue::new();
    let start = u32::MAX - 2;
    queue.head.store(start, Ordering::Relaxed);
    queue.tail.tail.store(start, Ordering::Relaxed);
    for n in 0..QUEUE_CAPACITY {
        assert!(queue.local().push_back(g(n)).is_none());
    }
    assert!(queue.local().push_back(g(999)).is_some(), "full across the wrap");
    let thief = RunQueue::new();
    assert!(queue.steal_into(&thief.local(), StealNext::No).is_some());
    assert_eq!(queue.len() + thief.len() + 1, QUEUE_CAPACITY / 2);
}

#[test]
fn the_ring_can_be_asked_past_run_next() {
    let queue = with(1);
    assert!(queue.local().put_next(g(5)).is_none());
    assert_eq!(queue.local().pop_ring(), Some(g(0)));
    assert_eq!(queue.local().pop_ring(), None);
    assert_eq!(drain(&queue), [5]);
}

#[test]
#[should_panic(expected = "a chain of 3 does not fit")]
fn a_chain_without_room_is_refused() {
    let table = Table::new(QUEUE_CAPACITY).expect("memory");
    table.grow(|_| ()).expect("memory");
    let queue = with(QUEUE_CAPACITY - 2);
    let chain = Chain::link(&table, (0..3).map(g)).expect("three");
    queue.local().push_chain(&table, chain);
}

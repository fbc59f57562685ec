//! Tests of [`super`]: order, keys, and what is seen without the lock.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Key, NEVER, Timers};

fn drain(timers: &mut Timers<u32>, now: u64) -> Vec<u32> {
    core::iter::from_fn(|| timers.take_due(now)).map(|due| due.event).collect()
}

fn add(timers: &mut Timers<u32>, when: u64, event: u32) -> Key {
    timers.add(when, event).expect("memory")
}

#[test]
fn due_events_come_in_their_order_and_others_stay() {
    let (mut timers, earliest) = Timers::new();
    assert_eq!(earliest.get(), NEVER);
    for (when, n) in [(30, 3), (10, 1), (20, 2), (40, 4)] {
        add(&mut timers, when, n);
    }
    assert_eq!(earliest.get(), 10);
    assert_eq!(drain(&mut timers, 9), []);
    assert_eq!(drain(&mut timers, 30), [1, 2, 3]);
    assert_eq!((earliest.get(), timers.len()), (40, 1));
}

#[test]
fn equal_times_come_first_in_first_out() {
    let (mut timers, _) = Timers::new();
    for n in 0..100 {
        add(&mut timers, 7, n);
    }
    assert_eq!(drain(&mut timers, 7), (0..100).collect::<Vec<_>>());
    assert!(timers.is_empty());
}

#[test]
fn a_key_takes_out_its_own_event_and_no_later_one() {
    let (mut timers, earliest) = Timers::new();
    let (first, second) = (add(&mut timers, 5, 1), add(&mut timers, 6, 2));
    assert_eq!((timers.remove(first), timers.remove(first)), (Some(1), None));
    assert_eq!(earliest.get(), 6);
    // It has the place of the first one now.
    let third = add(&mut timers, 5, 3);
    assert_eq!(third.place, first.place);
    assert_eq!(timers.remove(first), None);
    assert_eq!(drain(&mut timers, 6), [3, 2]);
    assert_eq!((timers.remove(second), timers.remove(third), earliest.get()), (None, None, NEVER));
}

/// Random additions, removals and expiries: what comes is what an ordered map says, by event and by key.
#[test]
fn random_operations_agree_with_a_sorted_map() {
    for seed in 1..20_u64 {
        let mut state = seed;
        let mut random = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let (mut timers, earliest) = Timers::new();
        let mut model: BTreeMap<(u64, u32), Key> = BTreeMap::new();
        let mut keys: Vec<(u64, u32, Key)> = Vec::new();
        // First it grows, then it shrinks.
        for n in 0..6_000 {
            match random(if n < 3_000 { 4 } else { 8 }) {
                0..=1 => {
                    let when = random(1_000);
                    let key = add(&mut timers, when, n);
                    model.insert((when, n), key);
                    keys.push((when, n, key));
                }
                2 | 4 | 6 if !keys.is_empty() => {
                    let chosen = usize::try_from(random(keys.len() as u64)).expect("an index");
                    let (when, event, key) = keys[chosen];
                    let expected = model.remove(&(when, event)).map(|_| event);
                    assert_eq!(timers.remove(key), expected, "seed {seed}");
                }
                _ => {
                    let now = random(1_000);
                    let due = timers.take_due(now).map(|due| (due.when, due.event, due.key));
                    let first = model.first_key_value().filter(|((when, _), _)| *when <= now);
                    let expected = first.map(|((when, event), key)| (*when, *event, *key));
                    assert_eq!(due, expected, "seed {seed}");
                    if let Some((when, event, _)) = expected {
                        model.remove(&(when, event));
                    }
                }
            }
            assert_eq!(timers.len(), model.len(), "seed {seed}");
            let first = model.first_key_value().map_or(NEVER, |((when, _), _)| *when);
            assert_eq!(earliest.get(), first, "seed {seed}");
        }
    }
}

#[test]
fn memory_of_those_that_went_is_used_again_or_given_back() {
    let (mut timers, _) = Timers::new();
    let mut keys: Vec<Key> = (0..10_000).map(|n| add(&mut timers, u64::from(n), n)).collect();
    let most = (timers.heap.capacity(), timers.slab.capacity());
    for round in 0..5 {
        for key in keys.drain(..) {
            assert!(timers.remove(key).is_some(), "round {round}");
        }
        keys.extend((0..10_000).map(|n| add(&mut timers, u64::from(n), n)));
        assert_eq!((timers.heap.capacity(), timers.slab.capacity()), most, "round {round}");
    }
    let last = keys.pop().expect("many");
    for key in keys {
        timers.remove(key);
    }
    assert!(timers.heap.capacity() < 1_000 && timers.slab.capacity() < 1_000);
    assert_eq!(timers.remove(last), Some(9_999));
}

#[test]
fn what_was_due_comes_again_under_its_key_and_needs_no_memory() {
    // The heap is full to the edge of a chunk, and the events that are added meanwhile go beyond it.
    for others in [0, 1, 255, 256, 511] {
        let (mut timers, earliest) = Timers::new();
        let key = add(&mut timers, 1, 7);
        let rest: Vec<Key> = (0..others).map(|n| add(&mut timers, 50, n)).collect();
        for tick in 1..5 {
            let due = timers.take_due(tick).expect("its time has come");
            assert_eq!((due.when, due.key, due.event, timers.remove(key)), (tick, key, 7, None));
            for n in 0..300 {
                add(&mut timers, 60, n);
            }
            let before = (timers.heap.capacity(), timers.slab.capacity());
            timers.put_back(key, tick + 1, due.event);
            assert_eq!((timers.heap.capacity(), timers.slab.capacity()), before, "{others}");
            assert_eq!(earliest.get(), tick + 1);
        }
        assert_eq!((timers.remove(key), timers.remove(key)), (Some(7), None));
        assert!(rest.into_iter().all(|key| timers.remove(key).is_some()));
        assert_eq!(timers.len(), 4 * 300);
    }
}

#[test]
fn the_room_of_what_does_not_come_again_is_given_up() {
    let (mut timers, _) = Timers::new();
    for n in 0..10_000 {
        add(&mut timers, 5, n);
    }
    assert_eq!(drain(&mut timers, 5).len(), 10_000);
    assert!(timers.heap.capacity() < 1_000 && timers.slab.capacity() < 1_000);
    let key = add(&mut timers, 5, 1);
    let _due = timers.take_due(5).expect("it is due");
    let other = add(&mut timers, 6, 2);
    assert_ne!(other.place, key.place, "it is kept");
    assert!(timers.take_due(5).is_none());
    assert_eq!(add(&mut timers, 6, 3).place, key.place);
}

#[test]
#[should_panic(expected = "is kept until the next one is due")]
fn nothing_is_put_back_after_the_next_one() {
    let (mut timers, _) = Timers::new();
    let key = add(&mut timers, 5, 1);
    add(&mut timers, 6, 2);
    assert_eq!(drain(&mut timers, 6), [1, 2]);
    timers.put_back(key, 7, 1);
}

/// As the last tick before the end of time: its timer may still be stopped by the key.
#[test]
fn what_does_not_come_again_is_not_found_by_its_key() {
    let (mut timers, earliest) = Timers::new();
    let key = add(&mut timers, NEVER - 1, 1);
    let due = timers.take_due(NEVER - 1).expect("it is due");
    assert_eq!((due.key, earliest.get()), (key, NEVER));
    assert_eq!(timers.remove(key), None);
    // Its place in the heap is another's now.
    let other = add(&mut timers, 5, 2);
    assert_eq!(timers.remove(key), None);
    assert_eq!(timers.take_due(5).map(|due| due.key), Some(other));
    // And so is its place in the slab.
    let last = add(&mut timers, 6, 3);
    assert_eq!(last.place, key.place);
    assert_eq!((timers.remove(key), timers.remove(last)), (None, Some(3)));
}

#[test]
#[should_panic(expected = "what never happens is in no heap")]
fn what_never_happens_is_not_added() {
    add(&mut Timers::new().0, NEVER, 1);
}

#[test]
#[should_panic(expected = "what never happens is in no heap")]
fn what_never_happens_is_not_put_back() {
    let (mut timers, _) = Timers::new();
    let key = add(&mut timers, 5, 1);
    let due = timers.take_due(5).expect("it is due");
    timers.put_back(key, NEVER, due.event);
}

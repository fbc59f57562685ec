//! Tests of [`super`]: order, and what is seen without the lock.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::OccupiedEntry;
use alloc::vec::Vec;

use super::{NEVER, Timers};
use crate::id::{GoIndex, GoRef};

fn g(n: u32) -> GoRef {
    GoRef { index: GoIndex::new(n).expect("a test's index"), generation: 0 }
}

fn drain(timers: &mut Timers, now: u64) -> Vec<u32> {
    core::iter::from_fn(|| timers.take_due(now)).map(|g| g.index.get()).collect()
}

#[test]
fn due_timers_come_in_their_order_and_others_stay() {
    let (mut timers, earliest) = Timers::new();
    assert_eq!(earliest.get(), NEVER);
    for (when, n) in [(30, 3), (10, 1), (20, 2), (40, 4)] {
        timers.add(when, g(n));
    }
    assert_eq!(earliest.get(), 10);
    assert_eq!(drain(&mut timers, 9), []);
    assert_eq!(drain(&mut timers, 30), [1, 2, 3]);
    assert_eq!((earliest.get(), timers.len()), (40, 1));
}

#[test]
fn equal_times_come_first_in_first_out() {
    let (mut timers, _) = Timers::new();
    (0..100).for_each(|n| timers.add(7, g(n)));
    assert_eq!(drain(&mut timers, 7), (0..100).collect::<Vec<_>>());
    assert!(timers.is_empty());
}

#[test]
fn all_timers_can_move_to_another_heap() {
    let ((mut one, _), (mut two, second)) = (Timers::new(), Timers::new());
    one.add(5, g(5));
    (0..10).for_each(|n| two.add(u64::from(n), g(n)));
    two.take_all().into_iter().for_each(|timer| one.add(timer.when, timer.g));
    assert_eq!((two.len(), second.get(), one.len()), (0, NEVER, 11));
    assert_eq!(drain(&mut one, NEVER), [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]);
}

#[test]
fn random_operations_agree_with_a_sorted_map() {
    let mut state = 1_u64;
    let mut random = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let (mut timers, earliest) = Timers::new();
    let mut model: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    for n in 0..20_000 {
        if random(2) == 0 {
            let when = random(1_000);
            timers.add(when, g(n));
            model.insert((when, n), n);
        } else {
            let now = random(1_000);
            let expected = model.first_entry().filter(|e| e.key().0 <= now).map(OccupiedEntry::remove);
            assert_eq!(timers.take_due(now).map(|g| g.index.get()), expected);
        }
        assert_eq!(timers.len(), model.len());
        assert_eq!(earliest.get(), model.first_key_value().map_or(NEVER, |((when, _), _)| *when));
    }
}

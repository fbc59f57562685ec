//! Chains and rings of goroutines that wait.

use alloc::vec::Vec;

use super::{Blocked, Waiter, Waits, hop, pack, ring, rings, unpack};
use crate::id::{GoIndex, GoRef};

fn g(n: u32) -> GoRef {
    GoRef { index: GoIndex::new(n).expect("a test's index"), generation: 7 }
}

/// Locks at addresses 1, 2, … with their holders and phases.
struct World {
    goroutines: Vec<Blocked>,
    holders: Vec<Option<GoRef>>,
}

impl World {
    /// Goroutine n holds lock n.
    fn new(count: u32) -> Self {
        let goroutines = (0..count).map(|_| Blocked::new()).collect();
        Self { goroutines, holders: (0..count).map(|n| Some(g(n))).collect() }
    }

    fn begin(&self, n: u32, lock: u64) -> Waiter {
        Waiter { g: g(n), number: self.goroutines[n as usize].begin(lock) }
    }
}

impl Waits for World {
    fn blocked(&self, g: GoRef) -> Option<&Blocked> {
        self.goroutines.get(g.index.get() as usize).filter(|_| g.generation == 7)
    }

    fn holder(&self, lock: u64) -> Option<u64> {
        Some(self.holders.get(usize::try_from(lock).ok()?)?.map_or(0, pack))
    }
}

#[test]
fn a_holder_is_named_by_a_word() {
    for n in [0, 1, 4_000_000_000] {
        assert_eq!(unpack(pack(g(n))), Some(g(n)));
    }
    assert_eq!(unpack(0), None);
    assert_eq!(unpack(5), None, "a word that names nobody");
}

#[test]
fn a_ring_of_any_length_is_found() {
    for length in 1..20 {
        let world = World::new(length);
        let waiters: Vec<Waiter> = (0..length).map(|n| world.begin(n, u64::from((n + 1) % length))).collect();
        for waiter in &waiters {
            assert_eq!(ring(&world, *waiter, 100), Some(length));
        }
        assert_eq!(ring(&world, waiters[0], length - 1), None, "it is longer than the walk");
    }
}

#[test]
fn a_chain_is_no_ring() {
    let world = World::new(4);
    let one = world.begin(0, 1);
    let two = world.begin(1, 2);
    assert_eq!(hop(&world, one), Some(two));
    assert_eq!(hop(&world, two), None, "goroutine 2 does not wait");
    assert_eq!(ring(&world, one, 100), None);
}

#[test]
fn a_chain_into_a_ring_ends() {
    let world = World::new(9);
    let outside = world.begin(0, 1);
    for n in 1..8 {
        world.begin(n, u64::from(n + 1));
    }
    assert_eq!(ring(&world, outside, 1_000_000), None);
    let closer = world.begin(8, 3);
    assert_eq!(ring(&world, closer, 100), Some(6));
    assert_eq!(ring(&world, outside, u32::MAX), None, "it is not in the ring, and the walk ends");
}

#[test]
fn all_rings_are_found_once_with_their_lowest_members() {
    let world = World::new(2_000);
    // 0 → 1 → … → 9 → 5; 10 → 3; a ring of all from 11 to 1,500, downwards; 1,501 → 1,502 → itself; 1,503 → 1,504.
    let lock = |n: u32| match n {
        9 => 5,
        10 => 3,
        11 => 1_500,
        12..=1_500 => n - 1,
        1_502 => n,
        _ => n + 1,
    };
    let mut waiters: Vec<Waiter> = (0..=1_503).map(|n| world.begin(n, u64::from(lock(n)))).collect();
    let expected = [(waiters[5], 5), (waiters[11], 1_490), (waiters[1_502], 1)];
    assert_eq!(rings(&world, &waiters), expected);
    waiters.reverse();
    assert_eq!(rings(&world, &waiters), expected);
    assert_eq!(rings(&world, &[]), []);
}

#[test]
fn a_wait_that_is_over_leads_nowhere() {
    let world = World::new(2);
    let one = world.begin(0, 1);
    world.begin(1, 0);
    assert_eq!(ring(&world, one, 100), Some(2));
    world.goroutines[1].end();
    assert_eq!(ring(&world, one, 100), None);
    world.begin(1, 0);
    world.goroutines[0].end();
    assert_eq!(hop(&world, one), None, "nor does its own");
}

#[test]
fn a_lock_without_a_holder_or_with_one_that_ended_ends_the_chain() {
    let mut world = World::new(3);
    let one = world.begin(0, 1);
    world.holders[1] = None;
    assert_eq!(hop(&world, one), None);
    world.holders[1] = Some(GoRef { generation: 6, ..g(2) });
    assert_eq!(hop(&world, one), None);
    let nowhere = world.begin(2, 99);
    assert_eq!(hop(&world, nowhere), None);
}

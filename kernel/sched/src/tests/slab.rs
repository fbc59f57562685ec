//! Tests of [`super`]: places, and memory that comes and goes.

use alloc::vec::Vec;

use super::{CHUNK, Rows, Slab};

fn insert(slab: &mut Slab<usize>, value: usize) -> u32 {
    slab.reserve().expect("memory");
    slab.insert(value)
}

#[test]
fn a_place_is_used_again_and_others_stay() {
    let mut slab = Slab::new();
    let places: Vec<u32> = (0..3 * CHUNK).map(|n| insert(&mut slab, n)).collect();
    for (n, place) in places.iter().enumerate().skip(1).step_by(2) {
        assert_eq!(slab.remove(*place), Some(n));
        assert_eq!(slab.remove(*place), None);
        assert_eq!(slab.get(*place), None);
    }
    for (n, place) in places.iter().enumerate().step_by(2) {
        assert_eq!(slab.get(*place), Some(&n));
    }
    for n in 0..3 * CHUNK / 2 {
        insert(&mut slab, n);
    }
    assert_eq!(slab.capacity(), 3 * CHUNK, "no memory but that of the values that went");
    assert_eq!(slab.get(u32::MAX), None);
    assert_eq!(slab.remove(u32::MAX), None);
}

#[test]
fn chunks_that_run_empty_are_given_back_but_one() {
    let mut slab = Slab::new();
    let places: Vec<u32> = (0..8 * CHUNK).map(|n| insert(&mut slab, n)).collect();
    // The last place of all stays, and the rest goes from the front.
    for (n, place) in places.iter().enumerate().take(8 * CHUNK - 1) {
        assert_eq!(slab.remove(*place), Some(n));
    }
    assert_eq!(slab.capacity(), 2 * CHUNK, "the chunk of the last value, and one");
    assert_eq!(insert(&mut slab, 7), u32::try_from(CHUNK - 1).expect("small"), "the one that was kept");
    assert_eq!(slab.capacity(), 2 * CHUNK);
    assert_eq!(slab.remove(places[8 * CHUNK - 1]), Some(8 * CHUNK - 1));
    assert!(slab.capacity() <= 2 * CHUNK);
}

#[test]
fn rows_grow_and_shrink_at_their_end() {
    let mut rows = Rows::new();
    for n in 0..5 * CHUNK {
        rows.reserve().expect("memory");
        rows.push(n);
    }
    rows.set(CHUNK, 7);
    assert_eq!((rows.at(CHUNK), rows.get(CHUNK - 1), rows.get(5 * CHUNK)), (7, Some(CHUNK - 1), None));
    for n in (CHUNK + 1..5 * CHUNK).rev() {
        assert_eq!(rows.pop(), Some(n));
    }
    assert_eq!((rows.len(), rows.capacity()), (CHUNK + 1, 3 * CHUNK));
    while rows.pop().is_some() {}
    assert_eq!((rows.len(), rows.capacity()), (0, CHUNK));
}

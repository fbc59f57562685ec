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
    for n in 0..2 * CHUNK - 1 {
        insert(&mut slab, n);
        assert_eq!(slab.capacity(), 2 * CHUNK, "one that was there already is used");
    }
    insert(&mut slab, 7);
    assert_eq!(slab.capacity(), 3 * CHUNK);
}

#[test]
fn the_chunk_that_is_kept_is_the_next_to_be_used() {
    for order in [[0, 1], [1, 0]] {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..2 * CHUNK).map(|n| insert(&mut slab, n)).collect();
        for chunk in order {
            for place in &places[chunk * CHUNK..(chunk + 1) * CHUNK] {
                assert!(slab.remove(*place).is_some());
            }
        }
        assert_eq!((slab.capacity(), slab.chunks.len()), (CHUNK, 1), "the higher one goes");
        for round in 0..10 {
            slab.reserve().expect("memory");
            assert_eq!(slab.capacity(), CHUNK, "there was memory, and it was asked for in round {round}");
            let place = slab.insert(round);
            assert_eq!(slab.remove(place), Some(round));
        }
    }
}

/// Each chunk is where its state says, whatever the order of what goes and comes.
#[test]
fn chunks_are_found_again_in_any_order() {
    for seed in 1..10_u64 {
        let mut state = seed;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("small") % limit
        };
        let mut slab = Slab::new();
        let mut held: Vec<(u32, usize)> = Vec::new();
        for n in 0..20_000 {
            // It grows and shrinks twice.
            let grows = (n / 5_000) % 2 == 0;
            if held.is_empty() || (random(4) == 0) != grows {
                held.push((insert(&mut slab, n), n));
            } else {
                let (place, value) = held.swap_remove(random(held.len()));
                assert_eq!(slab.remove(place), Some(value), "seed {seed}");
            }
            let empty = slab.chunks.iter().filter(|chunk| chunk.has_memory() && chunk.used == 0).count();
            assert!(empty <= 1, "seed {seed}");
        }
        for (place, value) in held {
            assert_eq!(slab.remove(place), Some(value), "seed {seed}");
        }
        assert_eq!((slab.capacity(), slab.chunks.len()), (CHUNK, slab.kept as usize + 1), "seed {seed}");
    }
}

#[test]
fn rows_grow_and_shrink_at_their_end() {
    let mut rows = Rows::new();
    for n in 0..5 * CHUNK {
        rows.reserve(1).expect("memory");
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

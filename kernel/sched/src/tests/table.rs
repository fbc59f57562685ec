//! Growth, limits, stable addresses and stale handles.

use alloc::vec::Vec;
use std::sync::Barrier;
use std::thread;

use super::{GrowError, Slot, Table};
use crate::id::{GoIndex, GoRef, Goid};
use crate::sync::CHUNK_SLOTS;

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

#[test]
fn grows_by_chunks_up_to_its_limit() {
    let table = Table::new(CHUNK_SLOTS + 10).expect("memory");
    assert!(table.is_empty());
    assert_eq!(table.grow(GoIndex::get), Ok(0..CHUNK_SLOTS));
    assert_eq!(table.grow(GoIndex::get), Ok(CHUNK_SLOTS..CHUNK_SLOTS + 10), "the last chunk is cut");
    let full = GrowError::TableFull { max_goroutines: CHUNK_SLOTS + 10 };
    assert_eq!(table.grow(GoIndex::get), Err(full));
    assert_eq!(table.len(), CHUNK_SLOTS + 10);
    for (index, slot) in table.iter() {
        assert_eq!(*slot.body(), index.get());
    }
    assert_eq!(table.iter().count(), (CHUNK_SLOTS + 10) as usize);
}

#[test]
fn a_table_for_nothing_is_full() {
    let table = Table::new(0).expect("memory");
    assert_eq!(table.grow(|_| ()), Err(GrowError::TableFull { max_goroutines: 0 }));
}

#[test]
fn slots_do_not_move_when_the_table_grows() {
    let table = Table::new(CHUNK_SLOTS * 8).expect("memory");
    assert_eq!(table.grow(|_| ()), Ok(0..CHUNK_SLOTS));
    let before = table.slot(g(3));
    for _ in 1..8 {
        assert!(table.grow(|_| ()).is_ok());
    }
    assert!(core::ptr::eq(before, table.slot(g(3))));
}

#[test]
fn a_handle_dies_with_its_goroutine() {
    let table = Table::new(10).expect("memory");
    table.grow(|_| ()).expect("memory");
    let slot = table.slot(g(2));
    let generation = slot.status().spawn().expect("dead");
    let handle = GoRef { index: g(2), generation };
    assert_eq!(table.handle(g(2)), handle);
    assert!(table.get(handle).is_some_and(|found| core::ptr::eq(found, slot)));
    slot.status().run().expect("runnable");
    slot.status().exit().expect("running");
    assert!(table.get(handle).is_none());
    slot.status().spawn().expect("dead");
    assert!(table.get(handle).is_none(), "the next life of the slot is not the same goroutine");
    assert!(table.get(table.handle(g(2))).is_some());
}

#[test]
fn a_handle_beyond_the_table_is_stale() {
    let table = Table::new(10).expect("memory");
    table.grow(|_| ()).expect("memory");
    for index in [10, CHUNK_SLOTS, u32::MAX - 1] {
        assert!(table.get(GoRef { index: g(index), generation: 0 }).is_none());
    }
}

#[test]
#[should_panic(expected = "slot 256 does not exist, the table has 10")]
fn an_index_beyond_the_table_is_named() {
    let table = Table::new(10).expect("memory");
    table.grow(|_| ()).expect("memory");
    table.slot(g(CHUNK_SLOTS));
}

#[test]
fn slots_are_found_by_their_address() {
    let table = Table::new(CHUNK_SLOTS * 2 + 1).expect("memory");
    (0..3).for_each(|_| assert!(table.grow(|_| ()).is_ok()));
    let address = |index| core::ptr::from_ref(table.slot(index)).addr();
    assert!(table.iter().all(|(index, _)| table.at(address(index)) == Some(index)));
    let last = address(g(CHUNK_SLOTS * 2));
    assert_eq!([last + 1, last + size_of::<Slot<()>>(), 0].map(|address| table.at(address)), [None; 3]);
}

#[test]
fn goids_are_remembered() {
    let table = Table::new(1).expect("memory");
    table.grow(|_| ()).expect("memory");
    assert_eq!(table.slot(g(0)).goid(), None);
    let goid = Goid::new(77).expect("not 0");
    table.slot(g(0)).set_goid(goid);
    assert_eq!(table.slot(g(0)).goid(), Some(goid));
}

#[test]
fn readers_see_the_table_before_or_after_a_growth() {
    const CHUNKS: u32 = 64;
    let table = Table::new(CHUNK_SLOTS * CHUNKS).expect("memory");
    let start = Barrier::new(3);
    let read = || {
        start.wait();
        let mut len = 0;
        while len < CHUNK_SLOTS * CHUNKS {
            len = table.len();
            assert!(len.is_multiple_of(CHUNK_SLOTS));
            if let Some(last) = len.checked_sub(1) {
                assert_eq!(*table.slot(g(last)).body(), last);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(read);
        scope.spawn(read);
        start.wait();
        for _ in 0..CHUNKS {
            table.grow(GoIndex::get).expect("memory");
        }
    });
}

#[test]
fn lent_chunks_are_laid_bare_and_used_again() {
    let table = Table::new(CHUNK_SLOTS + 3).expect("memory");
    for wanted in [0..CHUNK_SLOTS, CHUNK_SLOTS..CHUNK_SLOTS + 3] {
        let slots: Vec<_> =
            (wanted.start..wanted.start + CHUNK_SLOTS).map(|i| Slot::dead(g(i), ())).collect();
        assert_eq!(table.next_chunk(), Ok(wanted));
        table.lend((&*slots.leak()).try_into().expect("a chunk"));
    }
    assert!(table.next_chunk().is_err());
    let numbers = || table.chunks().map(|(number, slots)| (number, slots.len())).collect::<Vec<_>>();
    assert_eq!(numbers(), [(0, CHUNK_SLOTS as usize), (1, 3)]);
    assert_eq!(table.first_bare(), None);
    table.make_bare(0, 70);
    table.make_bare(1, 71);
    assert_eq!(numbers(), []);
    assert_eq!(table.len(), CHUNK_SLOTS + 3, "the slots stay, as dead ones");
    assert_eq!(table.first_bare(), Some((1, 71)));
    table.clothe_first();
    assert_eq!((table.first_bare(), numbers()), (Some((0, 70)), [(1, 3)].to_vec()));
    table.clothe_first();
    assert_eq!((table.first_bare(), numbers().len()), (None, 2));
    // What the kernel does then.
    table.slot(g(2)).revive(g(2), 9);
    let generation = table.slot(g(2)).status().spawn().expect("dead");
    assert_eq!(generation, 9);
    assert!(table.get(GoRef { index: g(2), generation: 8 }).is_none());
    assert!(table.get(GoRef { index: g(2), generation }).is_some());
}

#[test]
fn nobody_has_a_handle_to_a_dead_slot() {
    let table = Table::new(10).expect("memory");
    table.grow(|_| ()).expect("memory");
    // What an earlier life of a slot has that reads as zeros now.
    assert!(table.get(GoRef { index: g(2), generation: 0 }).is_none());
}

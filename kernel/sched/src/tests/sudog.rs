//! Growth of the store, and the way of sudogs between Ps and the shared list.

use alloc::vec::Vec;

use super::Sudogs;
use crate::chunks::NoRoom;
use crate::free::{FREE_BATCH, LOCAL_FREE_MAX};
use crate::free_list::FreeLists;
use crate::id::{GoIndex, GoRef, ProcId, SudogIndex};
use crate::list::Chain;
use crate::processor::Processor;
use crate::sync::CHUNK_SLOTS;

fn s(n: u32) -> SudogIndex {
    SudogIndex::new(n).expect("a test's index")
}

fn g(n: u32) -> GoRef {
    GoRef { index: GoIndex::new(n).expect("a test's index"), generation: 9 }
}

/// A store, and all of its sudogs, on no list.
pub(crate) fn store(count: u32) -> (Sudogs, Vec<SudogIndex>) {
    let sudogs = Sudogs::leaked(count);
    let mut all = Vec::new();
    while sudogs.len() < count {
        let mut rest = sudogs.grow(|_| Ok(())).ok();
        while let Some(chain) = rest {
            let (s, tail) = chain.split_first(&sudogs);
            all.push(s);
            rest = tail;
        }
    }
    (sudogs, all)
}

fn processor() -> Processor {
    Processor::new(ProcId::new(0).expect("below the limit"), 1)
}

#[test]
fn grows_by_chunks_up_to_its_limit() {
    let sudogs = Sudogs::leaked(CHUNK_SLOTS + 3);
    assert!(sudogs.is_empty());
    let mut made = Vec::new();
    let mut grow = |sudogs: &Sudogs| {
        sudogs.grow(|places| {
            made.push(places.as_ptr_range());
            Ok(())
        })
    };
    assert_eq!(grow(&sudogs).expect("memory").len(), CHUNK_SLOTS);
    assert_eq!(grow(&sudogs).expect("memory").len(), 3, "the last chunk is cut");
    assert_eq!(grow(&sudogs), Err(NoRoom::Full { max: CHUNK_SLOTS + 3 }));
    assert_eq!(sudogs.len(), CHUNK_SLOTS + 3);
    let [first, last] = &made[..] else { panic!("room was made {} times", made.len()) };
    assert_eq!(first.end, last.start, "chunks lie behind each other");
    assert!(first.contains(&core::ptr::from_ref(sudogs.get(s(CHUNK_SLOTS - 1)))));
    assert!(last.contains(&core::ptr::from_ref(sudogs.get(s(CHUNK_SLOTS)))));
}

#[test]
fn without_room_the_store_is_as_it_was() {
    let sudogs = Sudogs::leaked(1000);
    let no_memory = Err(NoRoom::NoMemory { bytes: 7 });
    assert_eq!(sudogs.grow(|_| no_memory), Err(NoRoom::NoMemory { bytes: 7 }));
    assert!(sudogs.is_empty());
    assert_eq!(sudogs.grow(|_| Ok(())).expect("memory").len(), CHUNK_SLOTS);
}

#[test]
#[should_panic(expected = "sudog 1000 does not exist, there are 256")]
fn an_index_beyond_the_store_is_named() {
    let sudogs = Sudogs::leaked(1000);
    assert!(sudogs.grow(|_| Ok(())).is_ok());
    sudogs.get(s(1000));
}

#[test]
fn a_prepared_sudog_has_nothing_of_the_wait_before() {
    let (sudogs, _) = store(10);
    let sudog = sudogs.get(s(4));
    assert_eq!(sudog.g(), None);
    sudog.prepare(g(1), 5);
    sudog.set_ticket(1);
    sudog.set_release_time(8);
    assert_eq!((sudog.g(), sudog.acquire_time(), sudog.release_time()), (Some(g(1)), 5, 8));
    sudog.prepare(g(2), 20);
    assert_eq!((sudog.g(), sudog.acquire_time(), sudog.release_time()), (Some(g(2)), 20, 0));
    assert_eq!((sudog.ticket(), sudog.address()), (0, 0));
}

#[test]
fn a_p_keeps_some_spills_and_refills() {
    let sudogs = Sudogs::leaked(1000);
    let p = processor();
    let me = p.owner();
    let shared = FreeLists::new(1);
    shared.put(0, &sudogs, sudogs.grow(|_| Ok(())).expect("memory"));
    let mut taken = Vec::new();
    while taken.len() < CHUNK_SLOTS as usize {
        if let Some(s) = me.take_sudog(&sudogs) {
            taken.push(s);
            continue;
        }
        let batch = shared.take(0, &sudogs).expect("some are left");
        assert_eq!(batch.len(), FREE_BATCH);
        assert_eq!(me.refill_sudogs(batch), None);
    }
    assert!(shared.is_empty() && me.take_sudog(&sudogs).is_none());
    for s in &taken {
        sudogs.get(*s).prepare(g(s.get()), 1);
    }
    for s in taken.drain(..) {
        if let Some(spill) = me.put_sudog(&sudogs, s) {
            assert_eq!(p.sudogs_len(), LOCAL_FREE_MAX + 1 - FREE_BATCH);
            shared.put(0, &sudogs, spill);
        }
        assert!(p.sudogs_len() <= LOCAL_FREE_MAX);
        assert_eq!(sudogs.get(s).g(), None);
    }
    let mut rest: Option<Chain<SudogIndex>> = None;
    let mut seen = Vec::new();
    while let Some(s) = me.take_sudog(&sudogs) {
        seen.push(s.get());
    }
    while let Some(chain) = rest.take().or_else(|| shared.take(0, &sudogs)) {
        let (s, tail) = chain.split_first(&sudogs);
        seen.push(s.get());
        rest = tail;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..CHUNK_SLOTS).collect::<Vec<_>>(), "nothing lost, nothing doubled");
}

#[test]
#[should_panic(expected = "sudog 3 is given back and still waits for 0x40")]
fn a_sudog_that_waits_is_not_given_back() {
    let (sudogs, _) = store(10);
    sudogs.get(s(3)).set_address(0x40);
    let p = processor();
    assert_eq!(p.owner().put_sudog(&sudogs, s(3)), None);
}

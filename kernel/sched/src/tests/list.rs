//! Chains and lists, the global queue and the free lists that are made of them.

use alloc::vec::Vec;

use super::{Chain, List};
use crate::free::{FREE_BATCH, LOCAL_FREE_MAX};
use crate::free_list::FreeLists;
use crate::global::GlobalQueue;
use crate::id::{GoIndex, ProcId};
use crate::processor::Processor;
use crate::table::Table;

fn g(n: u32) -> GoIndex {
    GoIndex::new(n).expect("a test's index")
}

pub(crate) fn table() -> Table<()> {
    let table = Table::new(256).expect("memory");
    table.grow(|_| ()).expect("memory");
    table
}

/// The numbers of a chain, first to last.
pub(crate) fn numbers(table: &Table<()>, chain: Option<Chain>) -> Vec<u32> {
    let mut rest = chain;
    let mut numbers = Vec::new();
    while let Some(chain) = rest {
        let (g, tail) = chain.split_first(table);
        numbers.push(g.get());
        rest = tail;
    }
    numbers
}

pub(crate) fn chain(table: &Table<()>, range: core::ops::Range<u32>) -> Chain {
    Chain::link(table, range.map(g)).expect("not empty")
}

#[test]
fn a_chain_keeps_its_order_and_length() {
    let table = table();
    let five = chain(&table, 10..15);
    assert_eq!(five.len(), 5);
    assert_eq!(numbers(&table, Some(five)), [10, 11, 12, 13, 14]);
    assert_eq!(Chain::link(&table, []), None);
}

#[test]
fn a_list_is_first_in_first_out_across_chains() {
    let table = table();
    let (mut list, len) = List::new();
    list.push(&table, chain(&table, 0..3));
    list.push(&table, Chain::one(&table, g(9)));
    list.push(&table, chain(&table, 3..5));
    assert_eq!((list.len(), len.get()), (6, 6));
    let first = list.take(&table, 2);
    assert_eq!(numbers(&table, first), [0, 1]);
    let second = list.take(&table, 2);
    assert_eq!(numbers(&table, second), [2, 9]);
    assert_eq!(len.get(), 2);
    let rest = list.take(&table, 100);
    assert_eq!(numbers(&table, rest), [3, 4]);
    assert!(len.is_empty());
    assert_eq!(list.take(&table, 1), None);
}

#[test]
fn taken_goroutines_may_go_to_another_list_at_once() {
    let table = table();
    let ((mut one, _), (mut other, _)) = (List::new(), List::new());
    one.push(&table, chain(&table, 0..6));
    let front = one.take(&table, 3).expect("there are six");
    other.push(&table, front);
    other.push(&table, Chain::one(&table, g(50)));
    let all = other.take(&table, 9);
    assert_eq!(numbers(&table, all), [0, 1, 2, 50]);
    let rest = one.take(&table, 9);
    assert_eq!(numbers(&table, rest), [3, 4, 5]);
}

#[test]
fn a_grab_is_the_fair_share() {
    let table = table();
    // (queued, Ps, limit) to taken
    for (queued, procs, max, taken) in
        [(1, 4, 100, 1), (3, 4, 100, 1), (8, 4, 100, 3), (200, 2, 100, 100), (7, 1, 100, 7), (50, 4, 1, 1)]
    {
        let (mut queue, _) = GlobalQueue::new();
        queue.push_batch(&table, chain(&table, 0..queued));
        let share = queue.grab(&table, procs, max);
        assert_eq!(
            share.as_ref().map(Chain::len),
            Some(taken),
            "{queued} goroutines, {procs} Ps, at most {max}"
        );
        assert_eq!(numbers(&table, share), (0..taken).collect::<Vec<_>>());
        assert_eq!(queue.len(), queued - taken);
    }
    let (mut empty, _) = GlobalQueue::new();
    assert!(empty.is_empty());
    assert_eq!(empty.grab(&table, 4, 100), None);
}

#[test]
fn one_at_hand_is_kept_while_no_room_must_be_made() {
    let table = table();
    let p = Processor::new(ProcId::new(0).expect("below the limit"), 1);
    let me = p.owner();
    assert!((0..FREE_BATCH).all(|n| me.try_put_free(table.slot(g(n)))));
    let next = table.slot(g(FREE_BATCH));
    assert!(!me.try_put_free(next));
    assert_eq!((p.free_len(), next.next()), (FREE_BATCH, None), "nothing was done");
    assert_eq!(me.put_free(&table, g(FREE_BATCH)), None, "room was made");
    assert!(me.try_put_free(table.slot(g(FREE_BATCH + 1))));
    let mut seen: Vec<_> = core::iter::from_fn(|| me.take_free(&table)).map(GoIndex::get).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..FREE_BATCH + 2).collect::<Vec<_>>(), "nothing lost, nothing doubled");
}

#[test]
fn dead_goroutines_spill_and_come_back() {
    let table = table();
    let p = Processor::new(ProcId::new(0).expect("below the limit"), 1);
    let me = p.owner();
    let shared = FreeLists::new(1);
    for n in 0..LOCAL_FREE_MAX {
        assert_eq!(me.put_free(&table, g(n)), None);
    }
    let spill = me.put_free(&table, g(LOCAL_FREE_MAX)).expect("one too many");
    assert_eq!(spill.len(), FREE_BATCH);
    shared.put(0, &table, spill);
    assert_eq!((shared.len(), p.free_len()), (FREE_BATCH.into(), LOCAL_FREE_MAX + 1 - FREE_BATCH));
    let mut seen = Vec::new();
    while let Some(g) = me.take_free(&table) {
        seen.push(g.get());
    }
    assert_eq!(seen.first(), Some(&LOCAL_FREE_MAX), "the one that died last");
    assert_eq!(seen.last(), Some(&FREE_BATCH), "the others have spilled");
    let batch = shared.take(0, &table).expect("the spill");
    assert_eq!(me.refill(batch), None);
    assert!(shared.is_empty());
    while let Some(g) = me.take_free(&table) {
        seen.push(g.get());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..=LOCAL_FREE_MAX).collect::<Vec<_>>(), "nothing lost, nothing doubled");
}

#[test]
fn a_refill_stops_at_the_limit() {
    let table = table();
    let p = Processor::new(ProcId::new(0).expect("below the limit"), 1);
    let me = p.owner();
    assert_eq!(me.refill(chain(&table, 0..32)), None);
    assert_eq!(me.refill(chain(&table, 32..64)), None);
    let back = me.refill(chain(&table, 64..80)).expect("80 do not fit");
    assert_eq!((p.free_len(), back.len()), (LOCAL_FREE_MAX, 16));
}

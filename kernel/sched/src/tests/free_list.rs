use alloc::vec::Vec;

use super::{FreeLists, MOST};
use crate::free::FREE_BATCH;
use crate::list::tests::{chain, numbers, table};

fn assert_counts_nothing(lists: &FreeLists) {
    assert_eq!((lists.len(), lists.is_empty()), (0, true));
}

#[test]
fn batches_come_back_last_in_first_out() {
    let (table, lists) = (table(), FreeLists::new(1));
    assert!(lists.is_empty() && lists.take(0, &table).is_none());
    lists.put(0, &table, chain(&table, 0..5));
    lists.put(0, &table, chain(&table, 5..5 + FREE_BATCH));
    assert_eq!(lists.len(), u64::from(5 + FREE_BATCH));
    let batch = lists.take(0, &table).expect("the last");
    assert_eq!(batch.len(), FREE_BATCH);
    assert_eq!(numbers(&table, Some(batch)), (5..5 + FREE_BATCH).collect::<Vec<_>>());
    let batch = lists.take(0, &table).expect("the first");
    assert_eq!(batch.len(), 5);
    assert_eq!(numbers(&table, Some(batch)), [0, 1, 2, 3, 4]);
    assert_counts_nothing(&lists);
    assert_eq!(lists.take(0, &table), None);
}

#[test]
fn who_finds_nothing_at_home_takes_from_the_next_that_has() {
    let (table, lists) = (table(), FreeLists::new(4));
    lists.put(0, &table, chain(&table, 0..3));
    lists.put(3, &table, chain(&table, 3..6));
    lists.put(5, &table, chain(&table, 6..8));
    let take = |cpu| numbers(&table, lists.take(cpu, &table));
    assert_eq!(take(2), [3, 4, 5], "its neighbour's, not that of CPU 0");
    assert_eq!(take(2), [0, 1, 2]);
    assert_eq!(take(2), [6, 7], "of CPU 5, whose home is that of CPU 1");
}

#[test]
fn what_is_spread_lies_a_batch_at_each_home() {
    let (table, lists) = (table(), FreeLists::new(MOST + 9));
    assert_eq!(lists.0.len(), MOST);
    lists.spread(MOST - 1, &table, chain(&table, 0..2 * FREE_BATCH + 1));
    let lens = |cpu: usize| lists.0[cpu].len.load(core::sync::atomic::Ordering::Relaxed);
    assert_eq!([lens(MOST - 1), lens(0), lens(1), lens(2)], [FREE_BATCH, FREE_BATCH, 1, 0]);
    assert_eq!(lists.len(), u64::from(2 * FREE_BATCH + 1));
}

#[test]
fn a_new_list_replaces_all_that_there_are() {
    let (table, lists) = (table(), FreeLists::new(2));
    lists.put(0, &table, chain(&table, 0..3));
    lists.put(1, &table, chain(&table, 3..6));
    lists.replace(&table, Some(chain(&table, 1..5)));
    assert_eq!(lists.len(), 4);
    assert_eq!(numbers(&table, lists.take(1, &table)), [1, 2, 3, 4]);
    lists.put(1, &table, chain(&table, 3..6));
    lists.replace(&table, None);
    assert_counts_nothing(&lists);
}

//! Who gets units, and when.

use super::Weighted;
use crate::sudog::tests::store;
use crate::waiters::tests::members;

#[test]
fn units_are_counted() {
    let (sudogs, _) = store(1);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(2));
    assert!(!semaphore.try_acquire(2));
    assert!(semaphore.try_acquire(1));
    assert!(semaphore.try_acquire(0));
    assert_eq!(semaphore.release(&sudogs, 3), Ok(None));
    assert_eq!(semaphore.free(), 3);
    assert_eq!(semaphore.release(&sudogs, 1), Err(0), "more than were taken");
}

#[test]
fn a_large_request_is_not_passed_by_small_ones() {
    let (sudogs, s) = store(3);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(2));
    semaphore.wait(&sudogs, s[0], 3);
    semaphore.wait(&sudogs, s[1], 1);
    assert!(!semaphore.try_acquire(1), "one is free, and somebody waits");
    let granted = semaphore.release(&sudogs, 2).expect("they were taken");
    assert_eq!(members(&sudogs, granted), [s[0]]);
    let granted = semaphore.release(&sudogs, 3).expect("they were taken");
    assert_eq!(members(&sudogs, granted), [s[1]]);
}

#[test]
fn several_small_ones_go_at_once() {
    let (sudogs, s) = store(4);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(3));
    for (s, units) in s.iter().zip([1, 2, 1]) {
        semaphore.wait(&sudogs, *s, units);
    }
    let granted = semaphore.release(&sudogs, 3).expect("they were taken");
    assert_eq!(members(&sudogs, granted), s[..2]);
    assert_eq!(semaphore.free(), 0);
}

#[test]
fn who_gives_up_lets_those_behind_it_go() {
    let (sudogs, s) = store(2);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(1));
    semaphore.wait(&sudogs, s[0], 3);
    semaphore.wait(&sudogs, s[1], 2);
    let granted = semaphore.cancel(&sudogs, s[0]).expect("it waits");
    assert_eq!(members(&sudogs, granted), [s[1]]);
    assert!(semaphore.cancel(&sudogs, s[1]).is_none(), "it has its units");
}

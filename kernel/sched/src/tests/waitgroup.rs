//! The word of a wait group; the model checker has its races.

use super::{Misuse, WaitGroupWord};

#[test]
fn the_last_task_wakes_all_who_wait() {
    let word = WaitGroupWord::new();
    assert!(word.is_done());
    assert!(!word.count_waiter(), "nothing to wait for");
    assert_eq!(word.add(2), Ok(0));
    assert!(word.count_waiter());
    assert!(word.count_waiter());
    assert_eq!(word.counts(), (2, 2));
    assert_eq!(word.add(-1), Ok(0));
    assert_eq!(word.add(-1), Ok(2));
    assert_eq!(word.counts(), (0, 0), "it may be used again");
}

#[test]
fn what_cannot_be_is_refused() {
    let word = WaitGroupWord::new();
    assert_eq!(word.add(-1), Err(Misuse::Negative));
    assert_eq!(word.add(i32::MAX), Ok(0));
    assert_eq!(word.add(1), Err(Misuse::TooMany));
    assert_eq!(word.add(i32::MIN), Err(Misuse::Negative));
    assert_eq!(word.counts().0, i32::MAX.cast_unsigned());
}

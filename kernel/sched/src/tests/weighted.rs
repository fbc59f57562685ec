//! Who gets units, and when.

use alloc::vec::Vec;

use super::Weighted;
use crate::claim::{Claim, Claimed, Ticket};
use crate::id::{GoIndex, GoRef, SudogIndex};
use crate::sudog::Sudogs;
use crate::sudog::tests::store;
use crate::waiters::tests::members;

/// Nobody else ends a wait.
fn alone(_: GoRef, _: Ticket) -> Claimed {
    panic!("nobody has a ticket")
}

fn release(semaphore: &mut Weighted, sudogs: &Sudogs, units: u32) -> Vec<SudogIndex> {
    let granted = semaphore.release(sudogs, units, alone).expect("they were taken");
    members(sudogs, granted)
}

#[test]
fn units_are_counted() {
    let (sudogs, _) = store(1);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(2));
    assert!(!semaphore.try_acquire(2));
    assert!(semaphore.try_acquire(1));
    assert!(semaphore.try_acquire(0));
    assert_eq!(semaphore.release(&sudogs, 3, alone), Ok(None));
    assert_eq!(semaphore.free(), 3);
    assert_eq!(semaphore.release(&sudogs, 1, alone), Err(0), "more than were taken");
}

#[test]
fn a_large_request_is_not_passed_by_small_ones() {
    let (sudogs, s) = store(3);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(2));
    semaphore.wait(&sudogs, s[0], 3, None);
    semaphore.wait(&sudogs, s[1], 1, None);
    assert!(!semaphore.try_acquire(1), "one is free, and somebody waits");
    assert_eq!(release(&mut semaphore, &sudogs, 2), [s[0]]);
    assert_eq!(release(&mut semaphore, &sudogs, 3), [s[1]]);
}

#[test]
fn several_small_ones_go_at_once() {
    let (sudogs, s) = store(4);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(3));
    for (s, units) in s.iter().zip([1, 2, 1]) {
        semaphore.wait(&sudogs, *s, units, None);
    }
    assert_eq!(release(&mut semaphore, &sudogs, 3), s[..2]);
    assert_eq!(semaphore.free(), 0);
}

#[test]
fn who_gives_up_lets_those_behind_it_go() {
    let (sudogs, s) = store(2);
    let mut semaphore = Weighted::new(3);
    assert!(semaphore.try_acquire(1));
    semaphore.wait(&sudogs, s[0], 3, None);
    semaphore.wait(&sudogs, s[1], 2, None);
    let granted = semaphore.leave(&sudogs, s[0], alone);
    assert_eq!(members(&sudogs, granted), [s[1]]);
    assert!(semaphore.leave(&sudogs, s[1], alone).is_none(), "it has its units");
}

#[test]
fn who_was_claimed_by_another_gets_nothing() {
    let (sudogs, s) = store(3);
    let mut semaphore = Weighted::new(2);
    let (gone, waits) = (Claim::new(), Claim::new());
    assert!(semaphore.try_acquire(2));
    let claims = [&gone, &waits];
    for (n, claim) in (0..).zip(claims) {
        let index = GoIndex::new(n).expect("a test's index");
        sudogs.get(s[n as usize]).prepare(GoRef { index, generation: 0 }, 0);
        semaphore.wait(&sudogs, s[n as usize], 1, Some(claim.begin()));
    }
    assert_eq!(gone.claim(Ticket::new(1).expect("odd")), Claimed::Yes);
    let claim = |g: GoRef, ticket| claims[g.index.get() as usize].claim(ticket);
    let granted = semaphore.release(&sudogs, 1, claim).expect("it was taken");
    assert_eq!(members(&sudogs, granted), [s[1]]);
    assert!(semaphore.leave(&sudogs, s[0], alone).is_none(), "it is out already");
    assert_eq!(semaphore.free(), 0);
}

//! The steps of a mutex, one by one; the model checker has their races.

use super::{Awake, Contender, MutexWord, PATIENCE, Step};
use crate::sema::{Handoff, Order};

fn never(_: &mut Contender) -> bool {
    false
}

/// A step that does not spin, at this time.
fn step(mutex: &MutexWord, me: &mut Contender, now: u64) -> Step {
    mutex.step(me, never, || now)
}

#[test]
fn a_free_mutex_is_taken_and_given_back() {
    let mutex = MutexWord::new();
    assert!(mutex.lock_free());
    assert!(!mutex.lock_free(), "it is taken");
    assert!(!mutex.try_lock());
    assert!(mutex.is_locked());
    assert_eq!(mutex.unlock(), None, "nobody waits");
    assert!(mutex.try_lock());
}

#[test]
fn a_waiter_is_woken_and_competes() {
    let mutex = MutexWord::new();
    assert!(mutex.lock_free());
    let mut waiter = Contender::default();
    assert_eq!(step(&mutex, &mut waiter, 0), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.waiters(), 1);
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert_eq!(mutex.waiters(), 0, "who is woken is not counted any more");
    assert!(mutex.try_lock(), "somebody comes by");
    assert_eq!(mutex.woken(&mut waiter, |since| 10 - since), Awake::Again);
    assert_eq!(step(&mutex, &mut waiter, 10), Step::Sleep(Order::Lifo), "it was there before");
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert_eq!(mutex.woken(&mut waiter, |since| 20 - since), Awake::Again);
    assert_eq!(step(&mutex, &mut waiter, 20), Step::Locked);
    assert_eq!(mutex.unlock(), None);
}

#[test]
fn one_waiter_is_woken_at_a_time() {
    let mutex = MutexWord::new();
    assert!(mutex.lock_free());
    let (mut one, mut two) = (Contender::default(), Contender::default());
    assert_eq!(step(&mutex, &mut one, 0), Step::Sleep(Order::Fifo));
    assert_eq!(step(&mutex, &mut two, 0), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert!(mutex.try_lock());
    assert_eq!(mutex.unlock(), None, "the first one has not come yet");
    assert_eq!(mutex.woken(&mut one, |_| 0), Awake::Again);
    assert_eq!(step(&mutex, &mut one, 0), Step::Locked);
    assert_eq!(mutex.unlock(), Some(Handoff::No), "for the second one");
}

/// A waiter that has lost for too long, and the mutex in starvation mode, taken by somebody else.
fn starving(mutex: &MutexWord, waiter: &mut Contender) {
    assert!(mutex.lock_free());
    assert_eq!(step(mutex, waiter, 0), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert!(mutex.try_lock());
    assert_eq!(mutex.woken(waiter, |since| PATIENCE + 1 - since), Awake::Again);
    assert!(!mutex.is_starving(), "it has not lost again yet");
    assert_eq!(step(mutex, waiter, PATIENCE + 1), Step::Sleep(Order::Lifo));
    assert!(mutex.is_starving());
}

#[test]
fn a_starving_waiter_is_handed_the_mutex() {
    let (mutex, mut waiter) = (MutexWord::new(), Contender::default());
    starving(&mutex, &mut waiter);
    assert_eq!(mutex.unlock(), Some(Handoff::Yes));
    assert!(!mutex.is_locked());
    assert!(!mutex.try_lock(), "though it looks free");
    assert!(!mutex.lock_free());
    let mut late = Contender::default();
    assert_eq!(
        mutex.step(&mut late, |_| panic!("spins"), || 0),
        Step::Sleep(Order::Fifo),
        "it does not spin"
    );
    assert_eq!(mutex.woken(&mut waiter, |since| PATIENCE + 2 - since), Awake::Locked);
    assert!(mutex.is_starving(), "somebody waits still");
    assert_eq!(mutex.unlock(), Some(Handoff::Yes));
    assert_eq!(mutex.woken(&mut late, |since| 1_u64.saturating_sub(since)), Awake::Locked);
    assert!(!mutex.is_starving(), "it is the last one");
    assert_eq!(mutex.unlock(), None);
}

#[test]
fn a_waiter_that_has_not_waited_for_long_ends_the_mode() {
    let (mutex, mut waiter) = (MutexWord::new(), Contender::default());
    starving(&mutex, &mut waiter);
    let (mut two, mut three) = (Contender::default(), Contender::default());
    assert_eq!(step(&mutex, &mut two, PATIENCE), Step::Sleep(Order::Fifo));
    assert_eq!(step(&mutex, &mut three, PATIENCE), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.unlock(), Some(Handoff::Yes));
    assert_eq!(mutex.woken(&mut waiter, |since| PATIENCE + 2 - since), Awake::Locked);
    assert_eq!(mutex.unlock(), Some(Handoff::Yes));
    assert_eq!(mutex.woken(&mut two, |since| PATIENCE + 3 - since), Awake::Locked);
    assert!(!mutex.is_starving());
    assert_eq!(mutex.unlock(), Some(Handoff::No), "the third competes");
}

#[test]
fn who_spins_keeps_unlockers_from_waking_another() {
    let mutex = MutexWord::new();
    assert!(mutex.lock_free());
    let (mut sleeper, mut spinner) = (Contender::default(), Contender::default());
    assert_eq!(step(&mutex, &mut sleeper, 0), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.step(&mut spinner, |_| true, || 0), Step::Spin);
    assert_eq!(mutex.unlock(), None, "somebody is awake");
    assert_eq!(step(&mutex, &mut spinner, 0), Step::Locked);
    assert_eq!(mutex.unlock(), Some(Handoff::No));
}

#[test]
fn patience_counts_from_the_first_time_that_room_was_made() {
    let mutex = MutexWord::new();
    assert!(mutex.lock_free());
    let (mut sleeper, mut one) = (Contender::default(), Contender::default());
    assert_eq!(step(&mutex, &mut sleeper, 0), Step::Sleep(Order::Fifo));
    let make_room = |me: &mut Contender, now: u64| me.may_make_room(now, |since| now - since);
    assert_eq!(mutex.step(&mut one, |me| make_room(me, 5), || panic!("sleeps")), Step::Spin);
    assert_eq!(mutex.step(&mut one, |me| make_room(me, PATIENCE + 5), || panic!("sleeps")), Step::Spin);
    assert!(!mutex.is_starving());
    let late = mutex.step(&mut one, |me| make_room(me, PATIENCE + 6), || panic!("its wait has begun"));
    assert_eq!(late, Step::Sleep(Order::Fifo), "behind who came to the queue before");
    assert_eq!(one.since(), 5);
    assert!(mutex.is_starving());
    assert_eq!(mutex.unlock(), Some(Handoff::Yes));
}

/// One contender is on the way to a mutex that is locked, and another has lost its patience making room.
fn starving_beside_another(mutex: &MutexWord, other: &mut Contender, one: &mut Contender) {
    assert!(mutex.lock_free());
    assert_eq!(step(mutex, other, 0), Step::Sleep(Order::Fifo));
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert!(mutex.try_lock(), "somebody comes by");
    let make_room = |me: &mut Contender, now: u64| me.may_make_room(now, |since| now - since);
    assert_eq!(mutex.step(one, |me| make_room(me, 0), || 0), Step::Spin);
    assert_eq!(mutex.step(one, |me| make_room(me, PATIENCE + 1), || 0), Step::Sleep(Order::Fifo));
}

/// Else the hand-off would meet the unit of the one on the way.
#[test]
fn who_starves_waits_for_another_that_is_on_the_way() {
    let (mutex, mut other, mut one) = (MutexWord::new(), Contender::default(), Contender::default());
    starving_beside_another(&mutex, &mut other, &mut one);
    assert!(!mutex.is_starving());
    assert_eq!(mutex.unlock(), None, "the other one is on the way still");
    assert_eq!(mutex.woken(&mut other, |_| 0), Awake::Again);
    assert_eq!(step(&mutex, &mut other, 0), Step::Locked);
    assert_eq!(mutex.unlock(), Some(Handoff::No));
    assert!(mutex.try_lock());
    assert_eq!(mutex.woken(&mut one, |_| PATIENCE + 2), Awake::Again);
    assert_eq!(step(&mutex, &mut one, 0), Step::Sleep(Order::Lifo));
    assert!(mutex.is_starving(), "it has lost again");
}

#[test]
fn who_starves_makes_no_room() {
    let (mutex, mut waiter) = (MutexWord::new(), Contender::default());
    starving(&mutex, &mut waiter);
    assert!(!waiter.may_make_room(PATIENCE + 2, |_| 0));
}

#[test]
#[should_panic(expected = "unlock of a mutex that is not locked")]
fn an_unlock_too_many_is_noticed() {
    assert_eq!(MutexWord::new().unlock(), None);
}

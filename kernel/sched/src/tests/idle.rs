//! The idle mask and the count of spinners, one call at a time. Races: `tests/loom`.

use alloc::vec::Vec;

use super::{FAN_OUT, Idle, Left, Spin, Spinner};
use crate::id::{MAX_PROCS, ProcId};

fn p(n: u32) -> ProcId {
    ProcId::new(n).expect("below the limit")
}

#[test]
fn a_producer_wakes_one_idle_p_which_starts_as_a_spinner() {
    let idle = Idle::new(4);
    assert_eq!(idle.wake_one(), None, "nobody is idle");
    idle.go_idle(p(2), Spin::No);
    idle.go_idle(p(3), Spin::No);
    assert_eq!(idle.wake_one(), Some(p(2)));
    assert_eq!((idle.spinning_count(), idle.idle_count()), (1, 1));
    assert_eq!(idle.wake_one(), None, "one spinner is enough");
    assert_eq!(idle.leave_idle(p(2)), Left::Claimed);
    assert_eq!(idle.stop_spinning(), Spinner::Last);
    assert_eq!(idle.wake_one(), Some(p(3)), "the last spinner passes on its duty");
}

#[test]
fn a_p_that_takes_its_bit_back_spins() {
    let idle = Idle::new(2);
    idle.go_idle(p(1), Spin::No);
    assert!(idle.is_idle(p(1)));
    assert_eq!(idle.leave_idle(p(1)), Left::TookBack);
    assert!(!idle.is_idle(p(1)));
    assert_eq!((idle.spinning_count(), idle.idle_count()), (1, 0));
    idle.go_idle(p(1), Spin::Yes);
    assert_eq!((idle.spinning_count(), idle.idle_count()), (0, 1));
}

#[test]
fn half_of_the_busy_ps_may_spin() {
    let idle = Idle::new(8);
    idle.go_idle(p(0), Spin::No);
    idle.go_idle(p(1), Spin::No);
    let spinners = (0..8).filter(|_| idle.try_spin() == Spin::Yes).count();
    assert_eq!(spinners, 3, "of six that are not idle");
    assert_eq!(idle.stop_spinning(), Spinner::NotLast);
    assert_eq!(idle.try_spin(), Spin::Yes);
}

#[test]
fn every_p_can_be_idle_and_each_is_woken_once() {
    let idle = Idle::new(MAX_PROCS);
    assert!(!idle.all_idle());
    for n in 0..MAX_PROCS {
        idle.go_idle(p(n), Spin::No);
    }
    assert!(idle.all_idle());
    let mut woken = Vec::new();
    while let Some(p) = idle.wake_one() {
        woken.push(p.get());
        assert!(!idle.all_idle());
        assert_eq!(idle.stop_spinning(), Spinner::Last);
    }
    assert_eq!(woken, (0..MAX_PROCS).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "P1 goes idle and is idle already")]
fn going_idle_twice_is_a_bug() {
    let idle = Idle::new(2);
    idle.go_idle(p(1), Spin::No);
    idle.go_idle(p(1), Spin::No);
}

#[test]
#[should_panic(expected = "a P stops spinning and none is counted")]
fn stopping_without_spinning_is_a_bug() {
    assert_eq!(Idle::new(2).stop_spinning(), Spinner::NotLast);
}

#[test]
fn a_retired_p_is_counted_nowhere() {
    let idle = Idle::new(3);
    idle.go_idle(p(1), Spin::No);
    idle.go_idle(p(2), Spin::No);
    assert!(idle.retire(p(2)) && !idle.retire(p(2)));
    idle.resize(2);
    assert_eq!((idle.idle_count(), idle.spinning_count(), idle.all_idle()), (1, 0, false));
    assert_eq!(idle.wake_one(), Some(p(1)));
    assert!(!idle.retire(p(1)), "a waker has it");
    assert_eq!(idle.spinning_count(), 1);
    idle.resize(3);
    idle.go_idle(p(2), Spin::No);
    assert!(idle.is_idle(p(2)));
}

#[test]
fn one_goroutine_does_not_wake_them_all() {
    let idle = Idle::new(255);
    (1..255).for_each(|n| idle.go_idle(p(n), Spin::No));
    let first = idle.wake_one().expect("nobody spins");
    assert_eq!(idle.wake_one(), None, "one looks for it");
    assert_eq!(idle.leave_idle(first), Left::Claimed);
    // It finds the goroutine, and nothing is left for the next one, which finds nothing.
    assert_eq!(idle.stop_spinning(), Spinner::Last);
    let second = idle.wake_one().expect("nobody spins");
    assert_eq!(idle.leave_idle(second), Left::Claimed);
    idle.go_idle(second, Spin::Yes);
    assert_eq!((idle.idle_count(), idle.spinning_count()), (253, 0));
}

#[test]
fn wakes_fan_out_while_there_is_more_than_the_thieves_run() {
    let idle = Idle::new(255);
    (1..255).for_each(|n| idle.go_idle(p(n), Spin::No));
    let mut looking: Vec<ProcId> = idle.wake_one().into_iter().collect();
    let mut rounds = 0;
    while idle.idle_count() > 0 {
        rounds += 1;
        // All that look find half of somebody's ring, and wake the next ones.
        for p in core::mem::take(&mut looking) {
            assert_eq!(idle.leave_idle(p), Left::Claimed);
            if idle.stop_spinning() == Spinner::Last {
                looking.extend(idle.wake_one());
            }
            (0..FAN_OUT).for_each(|_| looking.extend(idle.wake_more()));
        }
        assert!(u32::try_from(looking.len()).is_ok_and(|n| n == idle.spinning_count() && n <= 16));
    }
    assert!(rounds <= 32, "{rounds} rounds for 254 that sleep");
}

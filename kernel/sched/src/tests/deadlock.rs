//! One look at a time. Races: `tests/loom`.

use super::Awake;
use crate::id::ProcId;
use crate::idle::{Idle, Left, Spin};

fn asleep() -> (Awake, Idle, ProcId) {
    let (awake, idle, p) = (Awake::new(1), Idle::new(1), ProcId::new(0).expect("below the limit"));
    idle.go_idle(p, Spin::No);
    (awake, idle, p)
}

#[test]
fn an_idle_machine_without_work_is_deadlocked() {
    let (awake, idle, _) = asleep();
    assert!(awake.nobody_is_left(&idle, || false));
    assert!(!awake.nobody_is_left(&idle, || true), "there is work");
}

#[test]
fn a_p_that_is_not_idle_is_somebody() {
    let (awake, idle, p) = asleep();
    assert_eq!(idle.leave_idle(p), Left::TookBack);
    assert!(!awake.nobody_is_left(&idle, || false));
    idle.go_idle(p, Spin::Yes);
    assert!(awake.nobody_is_left(&idle, || false));
}

#[test]
fn whoever_may_wake_another_is_somebody() {
    let (awake, idle, _) = asleep();
    let check = |begin: fn(&Awake), end: fn(&Awake)| {
        begin(&awake);
        begin(&awake);
        end(&awake);
        assert!(!awake.nobody_is_left(&idle, || false));
        end(&awake);
        assert!(awake.nobody_is_left(&idle, || false));
    };
    check(Awake::begin_extra, Awake::end_extra);
    check(Awake::begin_device_wait, Awake::end_device_wait);
}

#[test]
fn a_cpu_that_wakes_during_the_look_is_noticed() {
    let (awake, idle, _) = asleep();
    let woken = || {
        awake.begin_extra();
        awake.woke(0);
        awake.end_extra();
        false
    };
    assert!(!awake.nobody_is_left(&idle, woken));
    assert!(awake.nobody_is_left(&idle, || false));
}

#[test]
#[should_panic(expected = "nobody has begun")]
fn what_was_not_begun_cannot_end() {
    Awake::new(1).end_extra();
}

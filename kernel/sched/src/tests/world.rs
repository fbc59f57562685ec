//! Tests of [`super`]: who is asked to stop, and when all have.

use alloc::vec::Vec;

use super::{Entered, Left, Taken, World};

/// A world in which these CPUs of `cpus` are in.
fn world(cpus: u32, inside: &[usize]) -> World {
    let world = World::new(cpus);
    for cpu in inside {
        assert_eq!(world.enter(*cpu), Entered::In);
    }
    world
}

#[test]
fn sleepers_are_taken_and_others_are_interrupted() {
    let world = world(4, &[0, 2]);
    world.begin(0);
    let taken: Vec<Taken> = (1..4).map(|cpu| world.take(cpu)).collect();
    assert_eq!(taken, [Taken::Idle, Taken::MustInterrupt, Taken::Idle]);
    world.settle(2);
    assert!(!world.is_stopped() && world.is_late(2) && !world.is_late(1) && !world.is_late(0));
    assert!(world.must_stop(2) && !world.must_stop(0) && !world.must_stop(1));
    world.stop(2);
    assert!(world.is_stopped() && !world.is_late(2) && !world.must_stop(2));
    assert!(world.is_held(2) && world.is_held(1) && !world.is_held(0));
    world.end(|_| panic!("nobody halts"));
    assert!(!world.is_held(2) && !world.is_held(1) && world.is_running(2) && !world.is_running(1));
    assert!(!world.is_stopping());
}

#[test]
fn who_is_taken_cannot_come_in_before_the_end() {
    let world = world(2, &[0]);
    world.begin(0);
    assert_eq!(world.take(1), Taken::Idle);
    world.settle(1);
    assert_eq!(world.enter(1), Entered::Wait);
    world.end(|_| {});
    assert_eq!(world.enter(1), Entered::In);
}

#[test]
fn stops_in_a_row_do_not_shut_out_who_has_knocked() {
    let world = world(3, &[0]);
    world.begin(0);
    assert_eq!([world.take(1), world.take(2)], [Taken::Idle; 2]);
    world.settle(2);
    assert_eq!(world.enter(1), Entered::Wait);
    assert!(world.is_held(1));
    world.end(|_| {});
    world.begin(0);
    assert_eq!([world.take(1), world.take(2)], [Taken::MustInterrupt, Taken::Idle], "1 is in");
    world.settle(1);
    assert_eq!(world.enter(1), Entered::In);
    assert!(world.must_stop(1));
    world.stop(1);
    assert!(world.is_stopped());
}

#[test]
fn who_leaves_during_a_stop_stops_or_is_taken() {
    let world = world(3, &[0, 1, 2]);
    world.begin(0);
    assert_eq!(world.take(1), Taken::MustInterrupt);
    assert_eq!(world.leave(1), Left::Back);
    world.stop(1);
    assert_eq!(world.take(2), Taken::MustInterrupt);
    world.stop(2);
    assert!(world.is_stopped());
    world.end(|_| {});
    assert_eq!(world.leave(1), Left::Out);
    assert_eq!(world.leave(2), Left::Out);
}

#[test]
fn the_end_wakes_exactly_those_that_halt() {
    let world = world(3, &[0, 1, 2]);
    world.begin(0);
    for cpu in [1, 2] {
        assert_eq!(world.take(cpu), Taken::MustInterrupt);
        world.stop(cpu);
    }
    assert!(world.note(2).prepare());
    let mut woken = Vec::new();
    world.end(|cpu| woken.push(cpu));
    assert_eq!(woken, [2]);
}

#[test]
fn a_world_of_one_is_stopped_at_once() {
    let world = world(1, &[0]);
    world.begin(0);
    assert!(world.is_stopped());
    world.end(|_| {});
}

#[test]
#[should_panic(expected = "while another is on")]
fn two_stops_at_once_are_refused() {
    let world = world(2, &[0, 1]);
    world.begin(0);
    world.begin(1);
}

#[test]
#[should_panic(expected = "no stop is on")]
fn a_stop_without_a_stopper_is_refused() {
    world(2, &[0, 1]).stop(1);
}

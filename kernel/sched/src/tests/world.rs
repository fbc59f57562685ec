//! Tests of [`super`]: who is asked to stop, and when all have.

use alloc::vec::Vec;

use super::{Entered, Left, Taken, World};

/// A world in which these CPUs of `cpus` are in.
fn world(cpus: u32, inside: &[usize]) -> World {
    let world = World::<()>::new(cpus);
    for cpu in inside {
        assert_eq!(world.enter(*cpu), Entered::In);
    }
    world
}

fn must_stop(world: &World, cpu: usize) -> bool {
    world.must_stop(cpu).is_some()
}

fn stop(world: &World, cpu: usize) {
    world.must_stop(cpu).expect("a stop is on").stop();
}

fn is_stopped(world: &World) -> bool {
    world.is_stopped(&mut 0)
}

#[test]
fn sleepers_are_taken_and_others_are_interrupted() {
    let world = world(4, &[0, 2]);
    world.begin(0);
    let taken: Vec<Taken> = (1..4).map(|cpu| world.take(cpu)).collect();
    assert_eq!(taken, [Taken::Idle, Taken::MustInterrupt, Taken::Idle]);
    assert!(!is_stopped(&world) && world.is_late(2) && !world.is_late(1) && !world.is_late(0));
    assert!(must_stop(&world, 2) && !must_stop(&world, 0) && !must_stop(&world, 1));
    stop(&world, 2);
    assert!(is_stopped(&world) && !world.is_late(2) && !must_stop(&world, 2));
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
    assert_eq!(world.enter(1), Entered::Wait);
    world.end(|_| {});
    assert_eq!(world.enter(1), Entered::In);
}

#[test]
fn stops_in_a_row_do_not_shut_out_who_has_knocked() {
    let world = world(3, &[0]);
    world.begin(0);
    assert_eq!([world.take(1), world.take(2)], [Taken::Idle; 2]);
    assert_eq!(world.enter(1), Entered::Wait);
    assert!(world.is_held(1));
    world.end(|_| {});
    world.begin(0);
    assert_eq!([world.take(1), world.take(2)], [Taken::MustInterrupt, Taken::Idle], "1 is in");
    assert_eq!(world.enter(1), Entered::In);
    assert!(must_stop(&world, 1));
    stop(&world, 1);
    assert!(is_stopped(&world));
}

#[test]
fn who_leaves_during_a_stop_stops_or_is_taken() {
    let world = world(3, &[0, 1, 2]);
    world.begin(0);
    assert_eq!(world.take(1), Taken::MustInterrupt);
    assert_eq!(world.leave(1), Left::Back);
    stop(&world, 1);
    assert_eq!(world.take(2), Taken::MustInterrupt);
    stop(&world, 2);
    assert!(is_stopped(&world));
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
        stop(&world, cpu);
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
    assert!(is_stopped(&world));
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
fn without_a_stop_nobody_must_stop() {
    let world = world(2, &[0, 1]);
    assert!(!must_stop(&world, 1));
    world.begin(0);
    assert!(must_stop(&world, 1));
    stop(&world, 1);
    assert!(is_stopped(&world));
    world.end(|_| {});
    assert!(!must_stop(&world, 1), "a late interrupt");
}

#[test]
#[should_panic(expected = "a CPU stops once")]
fn a_stop_is_followed_once() {
    let world = world(2, &[0, 1]);
    world.begin(0);
    let (first, second) = (world.must_stop(1), world.must_stop(1));
    first.expect("a stop is on").stop();
    second.expect("a stop is on").stop();
}

#[test]
fn stops_are_numbered_and_carry_what_was_left() {
    let world = World::<core::cell::Cell<u64>>::new(2);
    assert_eq!([world.enter(0), world.enter(1)], [Entered::In; 2]);
    for number in 1..4 {
        world.begin(1);
        let must = world.must_stop(0).expect("a stop is on");
        assert_eq!([must.number(), world.number()], [number; 2]);
        must.left().set(number);
        must.stop();
        let mut next = 0;
        assert!(world.is_stopped(&mut next) && next == 2);
        assert_eq!(world.left(0).get(), number);
        world.end(|_| {});
        assert_eq!(world.number(), number, "it is the last one");
    }
}

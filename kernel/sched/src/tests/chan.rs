//! Single steps: who is served, where values go, and what is seen without the lock.

use alloc::vec::Vec;

use super::{Glance, Locked, Queue, RecvStep, SendStep, Side, Wait, Waiter, Waiters, Woken, woken};
use crate::claim::{Claim, Claimed, Ticket};
use crate::id::{GoIndex, GoRef, SudogIndex};
use crate::sudog::Sudogs;
use crate::sudog::tests::store;

const GOROUTINES: u32 = 6;

struct World {
    sudogs: Sudogs,
    claims: Vec<Claim>,
    all: Vec<SudogIndex>,
}

impl Waiters for World {
    fn sudogs(&self) -> &Sudogs {
        &self.sudogs
    }

    fn claim(&self, g: GoIndex) -> &Claim {
        &self.claims[g.get() as usize]
    }
}

fn world() -> World {
    let (sudogs, all) = store(2 * GOROUTINES);
    World { sudogs, claims: (0..GOROUTINES).map(|_| Claim::new()).collect(), all }
}

fn g(n: u32) -> GoRef {
    GoRef { index: GoIndex::new(n).expect("a test's index"), generation: 1 }
}

/// Whose value is at 100 times its number.
fn waiter(n: u32) -> Waiter {
    Waiter { g: g(n), element: u64::from(n) * 100 }
}

struct Channel {
    queue: Queue,
    glance: Glance,
}

impl Channel {
    fn new(capacity: usize) -> Self {
        Self { queue: Queue::new(capacity), glance: Glance::new() }
    }

    fn with<'c>(&'c mut self, world: &'c World) -> Locked<'c, World> {
        Locked::new(&mut self.queue, &self.glance, world)
    }

    /// Goroutine `n` waits with its sudog.
    fn wait(&mut self, world: &World, side: Side, n: u32, ticket: Option<Ticket>) -> SudogIndex {
        let s = world.all[n as usize];
        self.with(world).enqueue(side, (s, world.sudogs.get(s)), &wait(n, ticket));
        s
    }
}

fn wait(n: u32, ticket: Option<Ticket>) -> Wait {
    Wait { g: g(n), element: u64::from(n) * 100, ticket, channel: 7 }
}

#[test]
fn the_ring_goes_round() {
    let (world, mut channel) = (world(), Channel::new(2));
    let mut c = channel.with(&world);
    assert_eq!(c.recv(), RecvStep::Wait);
    for round in 0..5 {
        assert_eq!(c.send(), SendStep::Store(round % 2));
        assert_eq!(c.recv(), RecvStep::Take(round % 2));
    }
    assert_eq!([c.send(), c.send(), c.send()], [SendStep::Store(1), SendStep::Store(0), SendStep::Wait]);
    assert_eq!([c.recv(), c.recv(), c.recv()], [RecvStep::Take(1), RecvStep::Take(0), RecvStep::Wait]);
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let (world, mut channel) = (world(), Channel::new(0));
    for n in 0..3 {
        let _s = channel.wait(&world, Side::Recv, n, None);
    }
    for n in 0..3 {
        assert_eq!(channel.with(&world).send(), SendStep::Hand(waiter(n)));
        assert_eq!(woken(world.sudogs.get(world.all[n as usize])), Woken::Passed);
    }
    assert_eq!(channel.with(&world).send(), SendStep::Wait);
    for n in 0..3 {
        let _s = channel.wait(&world, Side::Send, n, None);
    }
    for n in 0..3 {
        assert_eq!(channel.with(&world).recv(), RecvStep::Hand(waiter(n)));
    }
}

#[test]
fn a_receive_from_a_full_ring_lets_a_sender_in_behind() {
    let (world, mut channel) = (world(), Channel::new(2));
    assert_eq!(channel.with(&world).send(), SendStep::Store(0));
    assert_eq!(channel.with(&world).send(), SendStep::Store(1));
    let _s = channel.wait(&world, Side::Send, 4, None);
    assert_eq!(channel.with(&world).recv(), RecvStep::Rotate(0, waiter(4)));
    assert_eq!(channel.glance.len(), 2);
    let mut c = channel.with(&world);
    assert_eq!([c.recv(), c.recv(), c.recv()], [RecvStep::Take(1), RecvStep::Take(0), RecvStep::Wait]);
}

#[test]
fn who_was_claimed_elsewhere_is_passed_over() {
    let (world, mut channel) = (world(), Channel::new(0));
    let ticket = world.claims[0].begin();
    let s = channel.wait(&world, Side::Recv, 0, Some(ticket));
    let _other = channel.wait(&world, Side::Recv, 1, None);
    assert_eq!(world.claims[0].claim(ticket), Claimed::Yes);
    assert_eq!(channel.with(&world).send(), SendStep::Hand(waiter(1)));
    assert_eq!(woken(world.sudogs.get(s)), Woken::Otherwise);
    // It is out already; to take it out again does nothing.
    channel.with(&world).dequeue(Side::Recv, world.sudogs().get(s));
    world.sudogs.get(s).retire(s);
}

#[test]
fn a_waker_claims_whom_it_takes_out() {
    let (world, mut channel) = (world(), Channel::new(0));
    let ticket = world.claims[2].begin();
    let s = channel.wait(&world, Side::Send, 2, Some(ticket));
    assert_eq!(channel.with(&world).recv(), RecvStep::Hand(waiter(2)));
    assert_eq!(world.claims[2].claim(ticket), Claimed::No);
    assert_eq!(woken(world.sudogs.get(s)), Woken::Passed);
}

#[test]
fn anybody_can_leave_the_queue() {
    for leaver in 0..3 {
        let (world, mut channel) = (world(), Channel::new(0));
        let all: Vec<_> = (0..3).map(|n| channel.wait(&world, Side::Recv, n, None)).collect();
        channel.with(&world).dequeue(Side::Recv, world.sudogs().get(all[leaver as usize]));
        for n in (0..3).filter(|n| *n != leaver) {
            assert_eq!(channel.with(&world).send(), SendStep::Hand(waiter(n)));
        }
        assert_eq!(channel.with(&world).send(), SendStep::Wait);
        assert_eq!(channel.glance.try_send(0), Some(SendStep::Wait));
    }
}

#[test]
fn a_close_wakes_all_and_leaves_the_values() {
    let (world, mut channel) = (world(), Channel::new(1));
    assert_eq!(channel.with(&world).send(), SendStep::Store(0));
    let senders: Vec<_> = (0..3).map(|n| channel.wait(&world, Side::Send, n, None)).collect();
    let mut c = channel.with(&world);
    assert!(c.close());
    assert!(!c.close());
    assert_eq!(c.wake_one(), Some(waiter(0)));
    // Between two wakes nobody who waits is served by something else.
    assert_eq!(c.recv(), RecvStep::Take(0));
    assert_eq!(c.recv(), RecvStep::Closed);
    assert_eq!([c.wake_one(), c.wake_one(), c.wake_one()], [Some(waiter(1)), Some(waiter(2)), None]);
    assert_eq!(c.send(), SendStep::Closed);
    assert!(senders.iter().all(|s| woken(world.sudogs.get(*s)) == Woken::Closed));
}

#[test]
fn a_glance_sees_what_the_lock_would_show() {
    let (world, mut channel) = (world(), Channel::new(1));
    assert_eq!((channel.glance.try_send(1), channel.glance.try_recv()), (None, Some(RecvStep::Wait)));
    assert_eq!(channel.with(&world).send(), SendStep::Store(0));
    assert_eq!((channel.glance.try_send(1), channel.glance.try_recv()), (Some(SendStep::Wait), None));
    assert!(channel.with(&world).close());
    assert_eq!((channel.glance.try_send(1), channel.glance.try_recv()), (Some(SendStep::Closed), None));
    assert_eq!(channel.with(&world).recv(), RecvStep::Take(0));
    assert_eq!(channel.glance.try_recv(), Some(RecvStep::Closed));
    assert!(channel.glance.is_closed() && channel.glance.is_empty());
    let mut rendezvous = Channel::new(0);
    assert_eq!(rendezvous.glance.try_send(0), Some(SendStep::Wait));
    let _s = rendezvous.wait(&world, Side::Recv, 0, None);
    assert_eq!((rendezvous.glance.try_send(0), rendezvous.glance.try_recv()), (None, Some(RecvStep::Wait)));
    assert_eq!(rendezvous.with(&world).send(), SendStep::Hand(waiter(0)));
    let _s = rendezvous.wait(&world, Side::Send, 1, None);
    assert_eq!((rendezvous.glance.try_send(0), rendezvous.glance.try_recv()), (Some(SendStep::Wait), None));
}

#[test]
#[should_panic(expected = "a channel of capacity")]
fn a_capacity_has_room_in_a_glance() {
    let _queue = Queue::new(usize::MAX);
}

#[test]
fn the_last_one_who_leaves_a_queue_is_the_last_that_others_see() {
    let (world, mut channel) = (world(), Channel::new(0));
    let receivers = [0, 1].map(|n| channel.wait(&world, Side::Recv, n, None));
    for (s, seen) in receivers.into_iter().zip([None, Some(SendStep::Wait)]) {
        channel.with(&world).dequeue(Side::Recv, world.sudogs().get(s));
        assert_eq!(channel.glance.try_send(0), seen);
    }
    let senders = [2, 3].map(|n| channel.wait(&world, Side::Send, n, None));
    for (s, seen) in senders.into_iter().zip([None, Some(RecvStep::Wait)]) {
        channel.with(&world).dequeue(Side::Send, world.sudogs().get(s));
        assert_eq!(channel.glance.try_recv(), seen);
    }
}

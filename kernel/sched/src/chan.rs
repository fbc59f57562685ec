//! Channels: what becomes of a send, a receive and a close. The values are the kernel's; here they are places.
//!
//! A channel is a ring of places for values, perhaps of none, and two queues: of goroutines that wait to send, and to
//! receive. A [`Queue`] is all of this, guarded by the kernel's lock for the channel; [`Locked`] has the steps. A step
//! changes the queue and says what is to be moved where, before the lock goes, and who is to be readied, after it has
//! gone. A select takes the locks of all its channels first, asks each for its step, and if none can go on queues
//! itself with all.
//!
//! # What is always true when the lock is free
//!
//! 1. If somebody waits to receive, the ring is empty; if somebody waits to send, it is full, or has no places.
//! 2. Nobody waits to send in one goroutine while another waits to receive, but for goroutines whose waits are over
//!    ([`crate::claim`]) and one that selects on both sides: nobody receives from itself.
//! 3. In a closed channel nobody waits, but for those whom the closer is about to wake: their waits end with
//!    [`Woken::Closed`] and nothing else.
//!
//! So a step looks at the other side's queue first, and each queue and the ring are first-in, first-out: values come
//! out in the order in which their sends took place.
//!
//! # Why no wake-up is lost
//!
//! Who finds that it must wait queues itself under the same lock that it looked under, so nothing comes between the
//! look and the queue. It is `Parking` by then: whoever finds it in the queue may ready it at once. Whoever makes it
//! possible to go on does that under the same lock, later, and finds it queued.
//!
//! A goroutine that waits for several things has a sudog in the queue of each. Who takes one out tries the goroutine's
//! claim word; with [`Claimed::No`] the sudog stays out, and the next in the queue is tried, because its wait
//! is ended by somebody else. The goroutine takes its other sudogs out, under their locks, before it goes on.
//!
//! # What may be seen without the lock
//!
//! The [`Glance`] is one word with the length, whether the channel is closed, and whether somebody waits on either side.
//! It is written under the lock by each step that changes it, so each of its values was true at an instant; and a
//! goroutine that has learnt of a step, by whatever means that order memory, sees the word as that step left it or as a
//! later one did. An operation that does not wait may therefore go by the word alone: it fails as it would have at
//! that instant. Being closed and empty is for good. What is not promised is an order among several channels: of two
//! goroutines that each send on one and then look at the other's, both may see nothing.

use crate::claim::{Claim, Claimed, Ticket};
use crate::glance::{IS_CLOSED, LENGTH_ONE, LENGTH_SHIFT, RECEIVERS, SENDERS};
use crate::id::{GoIndex, GoRef, SudogIndex};
use crate::sudog::{Sudog, Sudogs};

pub use crate::glance::Glance;

/// How many values a channel can have places for.
pub const MAX_CAPACITY: usize = usize::MAX >> 3;

/// How steps find those who wait.
pub trait Waiters {
    /// The store of sudogs.
    fn sudogs(&self) -> &Sudogs;

    /// The claim word of a goroutine.
    fn claim(&self, g: GoIndex) -> &Claim;
}

/// One of the two things that goroutines do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// They send.
    Send,
    /// They receive.
    Recv,
}

/// Somebody who has waited and whose wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the goroutine is in no queue: ready it, or it is lost"]
pub struct Waiter {
    /// Who is to be readied, after the lock has gone.
    pub g: GoRef,
    /// Where its value is, or is to be put.
    pub element: u64,
}

/// What a send does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the queue counts on the value's move"]
pub enum SendStep {
    /// Give the value to somebody who waits for one.
    Hand(Waiter),
    /// Put the value into this place of the ring.
    Store(usize),
    /// Nothing yet: there is no room.
    Wait,
    /// Nothing: the channel is closed.
    Closed,
}

/// What a receive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the queue counts on the value's move"]
pub enum RecvStep {
    /// Take the value of somebody who waits to send.
    Hand(Waiter),
    /// Take the value out of this place of the ring.
    Take(usize),
    /// Take the value out of this place, then put the value of somebody who waits to send into it.
    Rotate(usize, Waiter),
    /// Nothing yet: there is no value.
    Wait,
    /// Nothing: the channel is closed, and there will be no value.
    Closed,
}

/// What a goroutine finds in a sudog after its wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a value may have come"]
pub enum Woken {
    /// The wait was ended by something else.
    Otherwise,
    /// The value was given or taken.
    Passed,
    /// The channel was closed.
    Closed,
}

/// A sudog's ticket after the wait; in the queue it is that of the claim (odd), or [`ALONE`].
const PASSED: u32 = 2;
/// Likewise.
const CLOSED: u32 = 4;
/// The goroutine waits for nothing else.
const ALONE: u32 = 0;

/// What came of the wait of a sudog: for its goroutine, after it was readied.
#[inline]
pub fn woken(sudog: &Sudog) -> Woken {
    match sudog.ticket() {
        PASSED => Woken::Passed,
        CLOSED => Woken::Closed,
        _ => Woken::Otherwise,
    }
}

impl Glance {
    /// What a send that does not wait may do by this word alone; `None`: it must take the lock.
    pub fn try_send(&self, capacity: usize) -> Option<SendStep> {
        let word = self.get();
        if word & IS_CLOSED != 0 {
            return Some(SendStep::Closed);
        }
        let full = word & RECEIVERS == 0 && word >> LENGTH_SHIFT == capacity as u64;
        full.then_some(SendStep::Wait)
    }

    /// What a receive that does not wait may do by this word alone; `None`: it must take the lock.
    pub fn try_recv(&self) -> Option<RecvStep> {
        let word = self.get();
        if word >> LENGTH_SHIFT != 0 || word & SENDERS != 0 {
            return None;
        }
        Some(if word & IS_CLOSED == 0 { RecvStep::Wait } else { RecvStep::Closed })
    }
}

/// Those who wait on one side, first to last.
#[derive(Debug, Default)]
struct Fifo {
    first: Option<SudogIndex>,
    last: Option<SudogIndex>,
}

impl Fifo {
    #[inline]
    fn push(&mut self, sudogs: &Sudogs, (s, sudog): (SudogIndex, &Sudog)) {
        sudog.prev.set(self.last);
        match self.last {
            Some(last) => sudogs.get(last).next.set(Some(s)),
            None => self.first = Some(s),
        }
        self.last = Some(s);
    }

    /// Takes out one that is in this queue.
    #[inline]
    fn remove(&mut self, sudogs: &Sudogs, sudog: &Sudog) {
        let (prev, next) = (sudog.prev.get(), sudog.next.get());
        match prev {
            Some(prev) => sudogs.get(prev).next.set(next),
            None => self.first = next,
        }
        match next {
            Some(next) => sudogs.get(next).prev.set(prev),
            None => self.last = prev,
        }
        sudog.prev.set(None);
        sudog.next.set(None);
        sudog.set_address(0);
    }

    /// Takes out the first.
    #[inline]
    fn remove_first(&mut self, sudogs: &Sudogs, first: &Sudog) {
        let next = first.next.get();
        self.first = next;
        match next {
            Some(next) => {
                sudogs.get(next).prev.set(None);
                first.next.set(None);
            }
            None => self.last = None,
        }
        first.set_address(0);
    }

    /// Takes out the first whose wait is not over yet, and ends it. If nobody is left, the bit goes.
    #[expect(clippy::inline_always, reason = "a call costs as much as the whole")]
    #[inline(always)]
    fn pop(&mut self, waiters: &impl Waiters, outcome: u32, (glance, bit): (&Glance, u64)) -> Option<Waiter> {
        let first = waiters.sudogs().get(self.first?);
        let popped = if first.ticket() == ALONE {
            self.remove_first(waiters.sudogs(), first);
            Some(first)
        } else {
            self.pop_claimed(waiters)
        };
        if self.first.is_none() {
            glance.clear(bit);
        }
        popped.map(|sudog| end(sudog, outcome))
    }

    /// [`pop`](Self::pop), where other things may have ended the wait of the first.
    #[inline(never)]
    fn pop_claimed(&mut self, waiters: &impl Waiters) -> Option<&'static Sudog> {
        while let Some(s) = self.first {
            let sudog = waiters.sudogs().get(s);
            self.remove_first(waiters.sudogs(), sudog);
            let claimed = match Ticket::new(sudog.ticket()) {
                Some(ticket) => waiters.claim(waiting(sudog).index).claim(ticket),
                None => Claimed::Yes,
            };
            match claimed {
                Claimed::Yes => return Some(sudog),
                // It is the goroutine's again, as soon as this lock goes.
                Claimed::No => {}
            }
        }
        None
    }
}

/// Who waits by a sudog that was in a queue.
#[inline]
fn waiting(sudog: &Sudog) -> GoRef {
    sudog.g().expect("a queued sudog has a goroutine")
}

/// Ends the wait of a sudog that was taken out of its queue.
#[inline]
fn end(sudog: &Sudog, outcome: u32) -> Waiter {
    sudog.set_ticket(outcome);
    Waiter { g: waiting(sudog), element: sudog.element() }
}

/// What the lock of a channel guards.
#[derive(Debug)]
pub struct Queue {
    /// Places of the ring, the place of the first value, and how many there are.
    capacity: usize,
    head: usize,
    count: usize,
    closed: bool,
    receivers: Fifo,
    senders: Fifo,
}

impl Queue {
    /// That of a new channel with so many places.
    ///
    /// # Panics
    ///
    /// There are more than [`MAX_CAPACITY`].
    pub fn new(capacity: usize) -> Self {
        assert!(capacity <= MAX_CAPACITY, "a channel of capacity {capacity}");
        let (receivers, senders) = (Fifo::default(), Fifo::default());
        Self { capacity, head: 0, count: 0, closed: false, receivers, senders }
    }

    /// A send's step when nobody waits to receive, and there is room: the place that the value goes to. With the lock held.
    #[inline]
    pub fn store(&mut self, glance: &Glance) -> Option<usize> {
        if self.closed || self.receivers.first.is_some() { None } else { self.next_place(glance) }
    }

    /// The ring's next free place, which holds a value from now on.
    #[inline]
    fn next_place(&mut self, glance: &Glance) -> Option<usize> {
        if self.count >= self.capacity {
            return None;
        }
        let end = self.head + self.count;
        self.count += 1;
        glance.add(LENGTH_ONE);
        Some(if end < self.capacity { end } else { end - self.capacity })
    }

    /// A receive's step when nobody waits to send, and there is a value: the place that it lies at. With the lock held.
    #[inline]
    pub fn take(&mut self, glance: &Glance) -> Option<usize> {
        if self.count == 0 || self.senders.first.is_some() {
            return None;
        }
        self.count -= 1;
        glance.add(LENGTH_ONE.wrapping_neg());
        Some(self.leave_first())
    }

    /// The place of the ring's first value, which the ring begins behind from now on.
    #[inline]
    fn leave_first(&mut self) -> usize {
        let place = self.head;
        self.head = if place + 1 < self.capacity { place + 1 } else { 0 };
        place
    }
}

/// The bit that says that somebody waits on a side.
const fn bit_of(side: Side) -> u64 {
    match side {
        Side::Send => SENDERS,
        Side::Recv => RECEIVERS,
    }
}

/// A wait of the goroutine that calls, as it is put into a channel's queue.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Who waits.
    pub g: GoRef,
    /// Where its value is, or is to be put.
    pub element: u64,
    /// By what the wait is claimed, if something else may end it, too.
    pub ticket: Option<Ticket>,
    /// A number that names the channel, not 0: its address.
    pub channel: u64,
}

/// A channel whose lock is held.
#[derive(Debug)]
pub struct Locked<'c, W> {
    queue: &'c mut Queue,
    glance: &'c Glance,
    waiters: &'c W,
}

impl<'c, W: Waiters> Locked<'c, W> {
    /// The parts of one channel.
    pub fn new(queue: &'c mut Queue, glance: &'c Glance, waiters: &'c W) -> Self {
        Self { queue, glance, waiters }
    }

    /// Sends.
    #[expect(clippy::inline_always, reason = "a call costs as much as a third of the whole")]
    #[inline(always)]
    pub fn send(&mut self) -> SendStep {
        let queue = &mut *self.queue;
        if queue.closed {
            return SendStep::Closed;
        }
        if let Some(waiter) = queue.receivers.pop(self.waiters, PASSED, (self.glance, RECEIVERS)) {
            return SendStep::Hand(waiter);
        }
        queue.next_place(self.glance).map_or(SendStep::Wait, SendStep::Store)
    }

    /// Receives.
    #[expect(clippy::inline_always, reason = "a call costs as much as a third of the whole")]
    #[inline(always)]
    pub fn recv(&mut self) -> RecvStep {
        let queue = &mut *self.queue;
        if queue.closed && queue.count == 0 {
            return RecvStep::Closed;
        }
        let senders = (self.glance, SENDERS);
        if queue.count > 0 {
            let place = queue.leave_first();
            // Those whom a close has found waiting, and has not woken yet, keep their values.
            let sender = if queue.closed { None } else { queue.senders.pop(self.waiters, PASSED, senders) };
            if let Some(waiter) = sender {
                return RecvStep::Rotate(place, waiter);
            }
            queue.count -= 1;
            self.glance.add(LENGTH_ONE.wrapping_neg());
            return RecvStep::Take(place);
        }
        queue.senders.pop(self.waiters, PASSED, senders).map_or(RecvStep::Wait, RecvStep::Hand)
    }

    /// Queues a goroutine that calls and has found, under this lock, that it must wait. It has announced that it parks: once
    /// the lock goes, it may be readied. `s` is a sudog that it has taken.
    #[inline]
    pub fn enqueue(&mut self, side: Side, (s, sudog): (SudogIndex, &Sudog), wait: &Wait) {
        let sudogs = self.waiters.sudogs();
        sudog.name(wait.g);
        sudog.set_element(wait.element);
        sudog.set_ticket(wait.ticket.map_or(ALONE, Ticket::get));
        sudog.set_address(wait.channel);
        self.side(side).push(sudogs, (s, sudog));
        self.glance.set(bit_of(side));
    }

    /// Takes out a sudog of the goroutine that calls, whose wait is over, if nobody else has done so.
    pub fn dequeue(&mut self, side: Side, sudog: &Sudog) {
        if sudog.address() != 0 {
            let sudogs = self.waiters.sudogs();
            let queue = self.side(side);
            queue.remove(sudogs, sudog);
            if queue.first.is_none() {
                self.glance.clear(bit_of(side));
            }
        }
    }

    /// Closes. `false`, and nothing changes, if the channel is closed already. Else all who wait are to be woken, by
    /// [`wake_one`](Self::wake_one).
    pub fn close(&mut self) -> bool {
        let first = !self.queue.closed;
        self.queue.closed = true;
        self.publish();
        first
    }

    /// Takes out somebody who still waits although the channel is closed, or `None` if nobody does.
    ///
    /// The lock may go between one and the next: nobody queues in a closed channel.
    pub fn wake_one(&mut self) -> Option<Waiter> {
        debug_assert!(self.queue.closed, "an open channel wakes by its values");
        let waiters = self.waiters;
        let queue = &mut *self.queue;
        let receiver = queue.receivers.pop(waiters, CLOSED, (self.glance, RECEIVERS));
        receiver.or_else(|| queue.senders.pop(waiters, CLOSED, (self.glance, SENDERS)))
    }

    /// Forgets all values of a closed channel, which nobody will receive.
    pub fn clear(&mut self) {
        debug_assert!(self.queue.closed, "what is sent is received");
        self.queue.count = 0;
        self.publish();
    }

    #[inline]
    fn side(&mut self, side: Side) -> &mut Fifo {
        match side {
            Side::Send => &mut self.queue.senders,
            Side::Recv => &mut self.queue.receivers,
        }
    }

    /// Shows the channel's state to those without the lock.
    #[inline]
    fn publish(&self) {
        let Queue { count, closed, receivers, senders, capacity: _, head: _ } = &*self.queue;
        let word = (*count as u64) << LENGTH_SHIFT
            | if *closed { IS_CLOSED } else { 0 }
            | if receivers.first.is_some() { RECEIVERS } else { 0 }
            | if senders.first.is_some() { SENDERS } else { 0 };
        self.glance.publish(word);
    }
}

#[cfg(test)]
#[path = "tests/chan.rs"]
mod tests;

//! A channel without its type: the blocking face of `sched::chan`, which argues that no wake-up is lost.
//!
//! # Who may touch a value, and when
//!
//! A value is bytes here: it is moved, never cloned or dropped, so no code of its type runs under a lock. At any time
//! one place owns it:
//!
//! 1. A sender's slot on its own stack, until a step under the channel's lock says where it goes.
//! 2. A place of the ring, from the step that stores it to the step that takes it; both move it under the lock, which
//!    orders the two.
//! 3. A receiver's slot on its own stack. One that waits has told the slot's address under the lock, and does not look
//!    at it before it was readied. Who hands the value over writes it under the lock, after the step that took
//!    the receiver out of the queue, and readies the receiver after that: the ready's `Release` and the run's
//!    `Acquire` hand the slot over.
//!
//! A sender that waits lends its slot in the same way. If its wait ends otherwise, nobody has taken the value, and it is the
//! sender's again.
//!
//! A large value is moved with the lock held, as in Go; who sends kilobytes pays for it with the time of those who want
//! the same channel.
//!
//! # Who is out of the queue is readied before its waker loses the CPU
//!
//! Between the step and the ready the waiter is claimed, and nobody else can wake it: if the waker were preempted there,
//! which is what the end of a lock is a chance for, the waiter would wait for the waker's next slice, however many are
//! before it. So the pin of the lock outlives it ([`Guard::unlock`]) until the waiter is in a run queue.
//!
//! # Slots are mapped before they are published
//!
//! A goroutine's stack is mapped page by page as it touches it, and nobody else can do that for it. So each side
//! touches all pages of its slot ([`touch`]) before it tells the address: a receiver's slot is empty, and a sender's value
//! need not fill its slot, as a large enum's smallest variant does not. (On this target the compiler probes the pages of a large
//! frame when a function begins; but that is its own defence, against overflows, and no promise about slots.)

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;

use machine::address::at;
use machine::clock::Nanos;
use machine::lock::{Guard, Lock, Rank};
use machine::percpu::Pinned;
use sched::chan::{self, Glance, Locked, Queue, RecvStep, SendStep, Side, Waiter};
use sched::claim::Claim;
use sched::sudog::{Sudog, Sudogs};
use sched::{GoIndex, GoRef};

use super::wait::Waited;
use crate::m::{self, M};
use crate::park::ready_on;
use crate::runtime::Runtime;
use crate::stacks::OwnStack;

/// Bytes of a page of a stack.
const PAGE: usize = 4096;

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a value may have moved"]
pub(crate) enum Outcome {
    /// The value has moved.
    Passed,
    /// The channel is closed: nothing has moved.
    Closed,
    /// The operation would have to wait, and may not: nothing has moved.
    WouldWait,
    /// It has waited as long as it may: nothing has moved.
    TimedOut,
}

/// Whether an operation may wait: on the goroutine's own stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Endless(OwnStack),
    Until(OwnStack, Nanos),
}

/// What a channel tells of its room, and of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What there is.
    Told,
    /// Nothing. A timer's: what it has delivered may be taken back until it is received, as if it had not been sent yet.
    Denied,
}

impl chan::Waiters for Runtime {
    fn sudogs(&self) -> &Sudogs {
        &self.sudogs
    }

    fn claim(&self, g: GoIndex) -> &Claim {
        &self.slot(g).body().claim
    }
}

/// A channel of values of some size.
#[derive(Debug)]
pub(crate) struct Core {
    glance: Glance,
    capacity: usize,
    room: Room,
    /// Bytes of a value.
    size: usize,
    /// The ring's places.
    buffer: *mut u8,
    /// Guards `queue`, the places of the ring, and the slots of those who wait.
    lock: Lock<()>,
    queue: UnsafeCell<Queue>,
}

impl Core {
    /// A channel whose values have `size` bytes and whose ring is at `buffer`.
    pub(super) fn new(capacity: usize, room: Room, size: usize, buffer: *mut u8) -> Self {
        Self {
            glance: Glance::new(),
            capacity,
            room,
            size,
            buffer,
            lock: Lock::new(Rank::Chan, ()),
            queue: UnsafeCell::new(Queue::new(capacity)),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The capacity, as programs are told.
    pub(super) fn told_capacity(&self) -> usize {
        match self.room {
            Room::Told => self.capacity,
            Room::Denied => 0,
        }
    }

    /// Values in the channel at about this moment, as programs are told.
    pub(super) fn told_len(&self) -> usize {
        match self.room {
            Room::Told => self.glance.len(),
            Room::Denied => 0,
        }
    }

    /// Bytes of a value.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn glance(&self) -> &Glance {
        &self.glance
    }

    /// The lock, for who takes several.
    pub(crate) fn lock(&self) -> &Lock<()> {
        &self.lock
    }

    /// By what reports name the channel.
    pub(crate) fn address(&self) -> u64 {
        ptr::from_ref(self).addr() as u64
    }

    /// The channel's steps.
    ///
    /// # Safety
    /// The caller holds the lock, for as long as it uses what it gets, and has no other of the same channel.
    pub(crate) unsafe fn locked(&self) -> Locked<'_, Runtime> {
        // SAFETY: the caller's contract.
        unsafe { self.locked_in(m::runtime()) }
    }

    /// [`locked`](Self::locked), for who has the runtime at hand.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub(crate) unsafe fn locked_in(&self, rt: &'static Runtime) -> Locked<'_, Runtime> {
        // SAFETY: the caller's contract: nobody else has a reference.
        let queue = unsafe { &mut *self.queue.get() };
        Locked::new(queue, &self.glance, rt)
    }

    /// Sends the value at `value`, which is gone from there if it was [`Outcome::Passed`].
    ///
    /// # Safety
    /// `value` is a value of the channel's type in memory that others may read, of `size` bytes, which is
    /// what the channel was made for.
    #[inline]
    #[track_caller]
    pub(super) unsafe fn send(&self, value: *mut u8, size: usize, patience: Patience) -> Outcome {
        let guard = self.lock.lock();
        // SAFETY: the guard above; the reference goes before it.
        let Some(place) = unsafe { &mut *self.queue.get() }.store(&self.glance) else {
            // SAFETY: the contract.
            return unsafe { self.send_otherwise(guard, (value, size), patience) };
        };
        // SAFETY: the contract; the place is free, and the lock keeps it so.
        unsafe { ptr::copy_nonoverlapping(value, self.place(place, size), size) };
        Outcome::Passed
    }

    /// [`send`](Self::send), where it is not the ring's next place that the value goes to.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    #[track_caller]
    unsafe fn send_otherwise<'c>(
        &'c self,
        guard: Guard<'c, ()>,
        (value, size): (*mut u8, usize),
        patience: Patience,
    ) -> Outcome {
        let m = m::current(guard.pinned());
        // SAFETY: the guard.
        let step = unsafe { self.locked_in(m::runtime_of(m)) }.send();
        match step {
            SendStep::Closed => Outcome::Closed,
            SendStep::Wait if patience == Patience::None => Outcome::WouldWait,
            SendStep::Wait => {
                // SAFETY: the contract.
                unsafe { touch(value, size) };
                match self.wait(Side::Send, value, guard, (m, patience)) {
                    Waited::Over(outcome) => outcome,
                    // SAFETY: the contract.
                    Waited::LookAgain => unsafe {
                        self.send_otherwise(self.lock.lock(), (value, size), patience)
                    },
                }
            }
            SendStep::Hand(_) | SendStep::Store(_) => {
                // SAFETY: 1. The contract. 2. The guard.
                let wake = unsafe { self.move_in(step, value, size) };
                ready_by(m, wake, guard.unlock());
                Outcome::Passed
            }
        }
    }

    /// Receives a value into `slot`, which holds one if it was [`Outcome::Passed`].
    ///
    /// # Safety
    /// `slot` is memory for a value of the channel's type that others may write, of `size` bytes, which is what the
    /// channel was made for.
    #[inline]
    #[track_caller]
    pub(super) unsafe fn recv(&self, slot: *mut u8, size: usize, patience: Patience) -> Outcome {
        let guard = self.lock.lock();
        // SAFETY: the guard above; the reference goes before it.
        let Some(place) = unsafe { &mut *self.queue.get() }.take(&self.glance) else {
            // SAFETY: the contract.
            return unsafe { self.recv_otherwise(guard, (slot, size), patience) };
        };
        // SAFETY: the contract; the place holds a value, and the lock keeps it so.
        unsafe { ptr::copy_nonoverlapping(self.place(place, size), slot, size) };
        Outcome::Passed
    }

    /// [`recv`](Self::recv), where it is not the ring's first value that comes alone.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    #[track_caller]
    unsafe fn recv_otherwise<'c>(
        &'c self,
        guard: Guard<'c, ()>,
        (slot, size): (*mut u8, usize),
        patience: Patience,
    ) -> Outcome {
        let m = m::current(guard.pinned());
        // SAFETY: the guard.
        let step = unsafe { self.locked_in(m::runtime_of(m)) }.recv();
        match step {
            RecvStep::Closed => Outcome::Closed,
            RecvStep::Wait if patience == Patience::None => Outcome::WouldWait,
            RecvStep::Wait => {
                // SAFETY: the contract.
                unsafe { touch(slot, size) };
                match self.wait(Side::Recv, slot, guard, (m, patience)) {
                    Waited::Over(outcome) => outcome,
                    // SAFETY: the contract.
                    Waited::LookAgain => unsafe {
                        self.recv_otherwise(self.lock.lock(), (slot, size), patience)
                    },
                }
            }
            RecvStep::Hand(_) | RecvStep::Take(_) | RecvStep::Rotate(_, _) => {
                // SAFETY: 1. The contract. 2. The guard.
                let wake = unsafe { self.move_out(step, slot, size) };
                ready_by(m, wake, guard.unlock());
                Outcome::Passed
            }
        }
    }

    /// Carries out a step of a send, and says who is to be readied.
    ///
    /// # Safety
    /// 1. `value` is a value of `size` bytes, the channel's.
    /// 2. The lock is held since the step was made.
    #[inline]
    pub(crate) unsafe fn move_in(&self, step: SendStep, value: *const u8, size: usize) -> Option<GoRef> {
        match step {
            SendStep::Hand(Waiter { g, element }) => {
                // SAFETY: a receiver's slot, mapped, which is ours until the ready.
                unsafe { copy(value, at(element), size) };
                Some(g)
            }
            SendStep::Store(place) => {
                // SAFETY: the queue says that this place is free; the lock keeps it so.
                unsafe { copy(value, self.place(place, size), size) };
                None
            }
            SendStep::Wait | SendStep::Closed => None,
        }
    }

    /// Carries out a step of a receive, and says who is to be readied.
    ///
    /// # Safety
    /// 1. `slot` is memory for a value of `size` bytes, the channel's.
    /// 2. The lock is held since the step was made.
    #[inline]
    pub(crate) unsafe fn move_out(&self, step: RecvStep, slot: *mut u8, size: usize) -> Option<GoRef> {
        match step {
            RecvStep::Hand(Waiter { g, element }) => {
                let value: *const u8 = at(element);
                // SAFETY: a sender's slot, whose value is ours until the ready.
                unsafe { copy(value, slot, size) };
                Some(g)
            }
            RecvStep::Take(place) => {
                // SAFETY: the queue says that this place holds a value; the lock keeps it so.
                unsafe { copy(self.place(place, size), slot, size) };
                None
            }
            RecvStep::Rotate(place, Waiter { g, element }) => {
                // SAFETY: as for `Take`.
                unsafe { copy(self.place(place, size), slot, size) };
                let value: *const u8 = at(element);
                // SAFETY: as for `Hand`; the place has just become free.
                unsafe { copy(value, self.place(place, size), size) };
                Some(g)
            }
            RecvStep::Wait | RecvStep::Closed => None,
        }
    }

    /// A place of the ring.
    #[inline]
    fn place(&self, place: usize, size: usize) -> *mut u8 {
        self.buffer.wrapping_add(place * size)
    }

    /// Takes a sudog out of a queue, after the wait was ended by something else.
    pub(crate) fn leave(&self, rt: &'static Runtime, side: Side, sudog: &Sudog) {
        let guard = self.lock.lock();
        // SAFETY: the guard.
        unsafe { self.locked_in(rt) }.dequeue(side, sudog);
        drop(guard);
    }

    /// The first value in the ring of a closed channel, which is the caller's now, in its place: nothing is put there
    /// any more.
    pub(super) fn take_in_place(&self) -> Option<*mut u8> {
        let guard = self.lock.lock();
        // SAFETY: the guard.
        let step = unsafe { self.locked() }.recv();
        drop(guard);
        match step {
            RecvStep::Take(place) => Some(self.place(place, self.size)),
            RecvStep::Hand(_) | RecvStep::Rotate(_, _) | RecvStep::Wait | RecvStep::Closed => None,
        }
    }

    /// Forgets the values in the ring of a closed channel.
    pub(super) fn clear(&self) {
        let guard = self.lock.lock();
        // SAFETY: the guard.
        unsafe { self.locked() }.clear();
        drop(guard);
    }

    /// Closes, and wakes all who wait. `false` if it was closed already.
    pub(super) fn close(&self) -> bool {
        let mut guard = self.lock.lock();
        // SAFETY: the guard.
        if !unsafe { self.locked() }.close() {
            return false;
        }
        loop {
            // SAFETY: the guard.
            let Some(waiter) = unsafe { self.locked() }.wake_one() else { return true };
            ready(Some(waiter.g), guard.unlock());
            // Between two the CPU may be lost: the others are still in the queue.
            guard = self.lock.lock();
        }
    }
}

/// Readies whom a step has taken out of a queue, now that the lock has gone and while its pin is still held.
#[inline]
pub(crate) fn ready(wake: Option<GoRef>, pinned: Pinned) {
    ready_by(m::current(&pinned), wake, pinned);
}

/// [`ready`], for who knows its CPU's M.
#[inline]
fn ready_by(m: &'static M, wake: Option<GoRef>, pinned: Pinned) {
    if let Some(g) = wake {
        ready_on(m, g);
    }
    drop(pinned);
}

/// Copies a value: one of a word, which most are, without a call.
///
/// # Safety
/// As [`ptr::copy_nonoverlapping`].
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, size: usize) {
    /// Bytes of any kind: some may have no value, or belong to a pointer.
    type Word = MaybeUninit<u64>;
    if size == size_of::<Word>() {
        // SAFETY: the contract.
        let word = unsafe { from.cast::<Word>().read_unaligned() };
        // SAFETY: the contract.
        unsafe { to.cast::<Word>().write_unaligned(word) };
    } else {
        // SAFETY: the contract.
        unsafe { ptr::copy_nonoverlapping(from, to, size) };
    }
}

/// Makes sure that a slot on the caller's stack is mapped.
///
/// # Safety
/// It is memory of the caller's, of this size.
#[inline]
pub(crate) unsafe fn touch(slot: *const u8, size: usize) {
    let Some(last) = size.checked_sub(1) else { return };
    // SAFETY: within the slot.
    unsafe { touch_byte(slot) };
    if last >= PAGE {
        // SAFETY: the contract.
        unsafe { touch_pages(slot, last) };
    }
    // SAFETY: within the slot.
    unsafe { touch_byte(slot.wrapping_add(last)) };
}

/// Touches each page between the first byte and the last one. Out of line, so that nothing of it is prepared for those who fit into
/// one page or two.
///
/// # Safety
/// As [`touch`].
#[cold]
#[inline(never)]
unsafe fn touch_pages(slot: *const u8, last: usize) {
    for at in (PAGE..last).step_by(PAGE) {
        // SAFETY: within the slot.
        unsafe { touch_byte(slot.wrapping_add(at)) };
    }
}

/// # Safety
/// It is memory of the caller's; whether there is a value in it does not matter.
#[inline]
unsafe fn touch_byte(byte: *const u8) {
    // SAFETY: the contract.
    let _there = unsafe { byte.cast::<MaybeUninit<u8>>().read_volatile() };
}

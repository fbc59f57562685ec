//! Semaphores for goroutines: the blocking face of `sched::sema`, which argues that no wake-up is lost.
//!
//! Any `AtomicU32` is one; its value is the number of units. Everything that blocks can be built on them.
//!
//! # Locks
//!
//! A root's lock is held for the steps under it and no longer: the sudog is there before, and a waiter is readied
//! after. A waiter may be readied while it still runs with that lock released and its stack in use; that is
//! what the two phases of [`gopark`](crate::gopark) are for, and `publish` is where it queues itself.
//!
//! The pin of the lock outlives it until the waiter is readied, as in a channel (`kernel/src/chan/core.rs`).
//!
//! # The stack
//!
//! Who waits leaves its stack behind, so the caller must stand on a goroutine's own stack. That is checked before
//! the easy case: a wrong call that finds a unit does no harm, until the day when it finds none.

use core::sync::atomic::AtomicU32;

use machine::clock::{self, Ticks};
use machine::percpu::Pinned;
use sched::sema::{self, Handoff, Order, Semaphore, Woken};
use sched::sudog::Sudog;

use crate::give_way::goyield;
use crate::goroutine::Named;
use crate::m::{self, Here, M};
use crate::park::{Wait, WaitReason, gopark_here, readied_by_something_else, ready_on};
use crate::runtime::{Runtime, SemaLock};
use crate::stacks::{OwnStack, check_g_stack, is_free};
use crate::sudog::own_sudog;

/// Waits until `word` is more than 0, and takes one off. Go's `semacquire`.
///
/// What came before the [`semrelease`] whose unit this takes is visible after it.
///
/// ```
/// use core::sync::atomic::AtomicU32;
///
/// static UNITS: AtomicU32 = AtomicU32::new(0);
/// gzero::go(|| gzero::semrelease(&UNITS));
/// gzero::semacquire(&UNITS);
/// assert!(!gzero::try_semacquire(&UNITS));
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack, even if there is a unit.
#[track_caller]
pub fn semacquire(word: &AtomicU32) {
    semacquire1(word, Order::Fifo, WaitReason::Semacquire);
}

/// [`semacquire`] with a place in the queue and a reason for reports. Go's `semacquire1`.
///
/// ```
/// use core::sync::atomic::AtomicU32;
/// use gzero::{Handoff, Order, WaitReason, semacquire1, semrelease1};
///
/// static UNITS: AtomicU32 = AtomicU32::new(0);
/// // It has waited the shortest time and gets the next unit all the same.
/// gzero::go(|| {
///     semacquire1(&UNITS, Order::Lifo, WaitReason::Semacquire);
///     semrelease1(&UNITS, Handoff::No);
/// });
/// semrelease1(&UNITS, Handoff::Yes);
/// semacquire1(&UNITS, Order::Fifo, WaitReason::Semacquire);
/// ```
///
/// # Throws
/// When not called on a goroutine's own stack, even if there is a unit.
#[track_caller]
pub fn semacquire1(word: &AtomicU32, order: Order, reason: WaitReason) {
    let own = check_g_stack("semacquire");
    if !sema::try_acquire(word) {
        let on = core::ptr::from_ref(word).addr() as u64;
        wait(own, word, order, Wait { reason, on, since: clock::rdtsc_unordered() });
    }
}

/// [`semacquire1`] for what is built on it, which knows what the wait is for.
pub(crate) fn acquire(own: OwnStack, word: &AtomicU32, order: Order, what: Wait) {
    if !sema::try_acquire(word) {
        wait(own, word, order, what);
    }
}

/// Takes a unit if there is one at this moment, without waiting.
#[must_use = "a unit that was taken has to be given back some time"]
pub fn try_semacquire(word: &AtomicU32) -> bool {
    sema::try_acquire(word)
}

/// Adds one to `word` and wakes a goroutine that waits for it, if any does. Go's `semrelease`.
///
/// # Panics
/// When `word` is the largest number already.
pub fn semrelease(word: &AtomicU32) {
    semrelease1(word, Handoff::No);
}

/// [`semrelease`] that may give the unit to the waiter at once. Go's `semrelease1`.
///
/// With [`Handoff::Yes`] nobody can take the unit before a goroutine that waits already, and the caller lets that run next on
/// this CPU, in its own time slice. The caller does not yield when it may not: when it holds a lock of the runtime, or is no
/// goroutine.
///
/// # Panics
/// As [`semrelease`].
pub fn semrelease1(word: &AtomicU32, handoff: Handoff) {
    let wake = semaphore(m::runtime(), word).release(handoff, || clock::rdtsc_unordered().0);
    let Some((wake, pinned)) = wake else { return };
    ready_on(m::current(&pinned), wake.g);
    if wake.handed_off && is_free(&pinned) {
        // What is asked of the CPU is answered on the way: it gives way once.
        pinned.release();
        goyield();
    }
}

/// Waiters in the root of a semaphore: none if it is 0. Those of other words may be among them.
pub(crate) fn nwait(word: &AtomicU32) -> u32 {
    semaphore(m::runtime(), word).nwait()
}

/// The semaphore of a word.
fn semaphore<'w>(rt: &'static Runtime, word: &'w AtomicU32) -> Semaphore<'w, SemaLock> {
    rt.sema.semaphore(&rt.sudogs, word)
}

/// The harder case of [`semacquire1`]. What it waits for comes in registers.
#[inline]
fn wait(own: OwnStack, word: &AtomicU32, order: Order, Wait { reason, on, since }: Wait) {
    wait_for(own, word, order, (reason, since), on);
}

#[cold]
#[inline(never)]
fn wait_for(own: OwnStack, word: &AtomicU32, order: Order, (reason, since): (WaitReason, Ticks), on: u64) {
    let pinned = Pinned::new();
    let here = own.here(&pinned);
    let named = own_sudog(here);
    // Once: a release that came in vain is part of the wait.
    named.1.begin(since.0);
    match wait_once(&pinned, here, (word, order, named), Wait { reason, on, since }) {
        Woken::Acquired => {}
        Woken::Again => wait_again(own, &pinned, word, order),
    }
    count_wait(own.here(&pinned).m, named.1);
    drop(pinned);
}

/// Waits anew, for who was readied and has found that somebody else was faster, until it has a unit.
#[cold]
#[inline(never)]
fn wait_again(own: OwnStack, pinned: &Pinned, word: &AtomicU32, order: Order) {
    // From where the first time has left it: handed over, it would be kept ready by all who wait once.
    let (what, named) = (own.slot().body().wait(), own_sudog(own.here(pinned)));
    loop {
        match wait_once(pinned, own.here(pinned), (word, order, named), what) {
            Woken::Acquired => return,
            Woken::Again => {}
        }
    }
}

/// Parks in the semaphore's queue, unless there is a unit by now.
#[expect(
    clippy::inline_always,
    reason = "a switch saves no register that its function has not saved already"
)]
#[inline(always)]
fn wait_once(
    pinned: &Pinned,
    here: Here,
    (word, order, named): (&AtomicU32, Order, Named),
    what: Wait,
) -> Woken {
    let semaphore = semaphore(here.runtime(), word);
    let mut wait = sema::Wait::Queued;
    gopark_here(pinned, here, what, |g| {
        named.1.name(g);
        wait = semaphore.enqueue(named, order, what.since.0);
        match wait {
            sema::Wait::Queued => true,
            sema::Wait::Acquired => false,
        }
    });
    match wait {
        sema::Wait::Acquired => return Woken::Acquired,
        sema::Wait::Queued => {}
    }
    // Who takes it out of the queue clears the address.
    if named.1.address() != 0 {
        readied_by_something_else(what.reason);
    }
    semaphore.finish(named.1)
}

/// Adds a wait that is over to this P's counters.
fn count_wait(m: &M, sudog: &Sudog) {
    // Without a release there was a second look and no wait. Clocks of two CPUs may differ a little.
    if sudog.release_time() != 0 {
        let owner = m.proc().owner();
        owner.counters().sema_waits.add(1);
        owner.counters().sema_wait_ticks.add(sudog.release_time().saturating_sub(sudog.acquire_time()));
    }
}

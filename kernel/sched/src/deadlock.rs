//! Who may still make a goroutine runnable, and when nobody is left: the deadlock.
//!
//! The idle mask knows the CPUs whose P is active. [`Awake`] counts the others: CPUs without an active P that are awake
//! all the same, and goroutines that a device may wake.
//!
//! A heap of [timers](crate::timers) is a queue like any other here, whose entries come out at their time: with a timer
//! in a heap somebody may still become runnable, and whoever takes one out is a CPU in an episode.
//!
//! # An episode
//!
//! Whoever wakes up acts in this order:
//!
//! 1. it is counted: its bit leaves the idle mask, by its own hand or by that of who has claimed it
//!    ([`Idle::leave_idle`]), or it begins to be an extra ([`Awake::begin_extra`]);
//! 2. it raises a number ([`Awake::woke`]): its own; the number of all is the sum of these;
//! 3. it takes work and timers that are due out of queues and heaps, runs them, and puts what it makes runnable, and
//!    the timers that it sets, into queues and heaps;
//! 4. it is counted no more: [`Idle::go_idle`], [`Awake::end_extra`].
//!
//! # The look
//!
//! Whoever has come to step 4 looks ([`Awake::nobody_is_left`]):
//!
//! a. it reads the number;
//! b. nobody is counted, and no goroutine waits for a device;
//! c. all queues and heaps are empty;
//! d. what b says still holds, and the number has not moved.
//!
//! # Why a look that passes is right
//!
//! Wrong it would be if at d a goroutine were in a queue, a timer in a heap, or either in somebody's hands. Say that a
//! CPU had it in an episode.
//!
//! * The episode's step 2 came before a. Then b sees that the CPU was counted in step 1. As nobody is counted at b, it
//!   has made step 4, and what it had queued or set is visible to c; c finds it, unless another episode has taken it
//!   out, about which the same is to be asked.
//! * Step 2 came after a. If c is empty because this episode took something out, then the fences of step 2 and
//!   between c and d make the number visible to d. If c is empty for another reason, the episode has taken nothing from
//!   a queue or a heap; so it got its goroutine from a device, but b says that nothing waits for these.
//!
//! A timer that is stopped leaves its heap by the hand of a running goroutine, whose CPU is in an episode. Nobody has
//! to count, and no line is written by all CPUs on each sleep.
//!
//! # Why the last one looks
//!
//! Each step 4 is followed by a fence and a look. Of two CPUs that go to sleep at the same time, the one whose fence is
//! later sees that the other is not counted any more. A number that has moved is that of a CPU that will look itself.

use alloc::boxed::Box;

use crate::idle::Idle;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded, fence};

/// Those who may make a goroutine runnable and are not in the idle mask, and how often anybody has woken up.
#[derive(Debug)]
pub struct Awake {
    /// How often each CPU has woken up.
    wakeups: Box<[Padded<AtomicU64>]>,
    /// CPUs without an active P that are awake.
    extras: Padded<AtomicU32>,
    /// Goroutines that wait for an interrupt of a device.
    device_waiters: Padded<AtomicU32>,
}

impl Awake {
    /// Nobody but those whose P is active.
    pub fn new(cpus: usize) -> Self {
        Self {
            wakeups: (0..cpus).map(|_| Padded(AtomicU64::new(0))).collect(),
            extras: Padded(AtomicU32::new(0)),
            device_waiters: Padded(AtomicU32::new(0)),
        }
    }

    /// Step 2, of the CPU with this number.
    ///
    /// # Panics
    /// There is no such CPU.
    pub fn woke(&self, cpu: usize) {
        let wakeups = &self.wakeups[cpu];
        // Release pairs with the Acquire in `wakeups`: step 1 is visible to whoever reads the number. Nobody else writes it.
        wakeups.store(wakeups.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        // Pairs with the fence in `nobody_is_left`: the number is visible to whoever sees a queue emptied.
        fence(Ordering::Release);
    }

    /// Step 1 of a CPU without an active P.
    pub fn begin_extra(&self) {
        // Relaxed: step 2 releases it.
        self.extras.fetch_add(1, Ordering::Relaxed);
    }

    /// Step 4 of such a CPU, or its P has become active.
    pub fn end_extra(&self) {
        lower(&self.extras);
    }

    /// A goroutine will wait for a device.
    pub fn begin_device_wait(&self) {
        // Relaxed: step 4 of the CPU that it runs on releases it.
        self.device_waiters.fetch_add(1, Ordering::Relaxed);
    }

    /// It goes on.
    pub fn end_device_wait(&self) {
        lower(&self.device_waiters);
    }

    /// The look, by a CPU that has made step 4. `work` says whether there is something in any queue or heap.
    ///
    /// True: all goroutines that there are wait, and nothing will ever end a wait.
    pub fn nobody_is_left(&self, idle: &Idle, work: impl FnOnce() -> bool) -> bool {
        // The fence of "the last one looks".
        fence(Ordering::SeqCst);
        // So that a CPU that goes to sleep while others are awake reads few lines.
        if self.anybody(idle) {
            return false;
        }
        let before = self.wakeups();
        if self.anybody(idle) || work() {
            return false;
        }
        // Pairs with the fence in `woke`.
        fence(Ordering::Acquire);
        !self.anybody(idle) && self.wakeups() == before
    }

    /// The number: how often anybody has woken up. As no CPU's own number ever falls, an equal sum is an equal number for each.
    fn wakeups(&self) -> u64 {
        // Acquire: pairs with the Release in `woke`.
        self.wakeups.iter().fold(0, |sum, cpu| sum.wrapping_add(cpu.load(Ordering::Acquire)))
    }

    /// Whether anybody is counted, or may be woken from outside.
    fn anybody(&self, idle: &Idle) -> bool {
        // Acquire pairs with the Release in `lower`: what was queued before is visible.
        let count = |word: &AtomicU32| word.load(Ordering::Acquire);
        !idle.all_idle() || count(&self.extras) > 0 || count(&self.device_waiters) > 0
    }
}

/// Counts one less. What the caller has queued is visible to whoever sees it.
///
/// # Panics
/// The count is 0.
fn lower(word: &AtomicU32) {
    // Release: pairs with the Acquire in `anybody`.
    let before = word.fetch_sub(1, Ordering::Release);
    assert!(before != 0, "somebody ends what nobody has begun");
}

#[cfg(test)]
#[path = "tests/deadlock.rs"]
mod tests;

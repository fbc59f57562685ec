//! A point that several goroutines have to reach before any goes on.
//!
//! All is under one lock: who comes is counted and queued, and the last one takes all out, so there is nothing to be lost
//! in between, and those of the next round find an empty queue.

use core::fmt;

use machine::lock::{Kind, Lock};
use sched::waiters::Waiters;

use crate::park::WaitReason;
use crate::stacks::check_g_stack;

use super::list::{park_in, ready_all};

/// Lets a number of goroutines wait for each other, again and again. As `std::sync::Barrier`.
///
/// ```
/// use gzero::sync::Barrier;
///
/// static MET: Barrier = Barrier::new(2);
///
/// gzero::go(|| {
///     MET.wait();
/// });
/// MET.wait(); // both are there
/// ```
pub struct Barrier {
    members: u32,
    state: Lock<State>,
}

struct State {
    arrived: u32,
    waiters: Waiters,
}

impl State {
    /// Whether all but the one who comes now are there.
    const fn is_last(&self, members: u32) -> bool {
        self.arrived + 1 >= members
    }
}

/// Which of the goroutines that have met it is.
///
/// ```
/// let barrier = gzero::sync::Barrier::new(1);
/// if barrier.wait().is_leader() {
///     gzero::println!("all have come");
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    leader: bool,
}

impl BarrierWaitResult {
    /// Whether it came last: one of them did.
    ///
    /// ```
    /// assert!(gzero::sync::Barrier::new(1).wait().is_leader());
    /// ```
    pub const fn is_leader(self) -> bool {
        self.leader
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrived = self.state.lock().arrived;
        f.debug_struct("Barrier")
            .field("members", &self.members)
            .field("arrived", &arrived)
            .finish_non_exhaustive()
    }
}

impl Barrier {
    /// A barrier for so many goroutines; 0 is as 1.
    ///
    /// ```
    /// assert!(gzero::sync::Barrier::new(1).wait().is_leader());
    /// ```
    pub const fn new(members: u32) -> Self {
        Self { members, state: Lock::of_kind(Kind::Waiters, State { arrived: 0, waiters: Waiters::new() }) }
    }

    /// Waits until as many goroutines have called this. Then the next round begins.
    ///
    /// What any of them did before is visible to all afterwards.
    ///
    /// ```
    /// let barrier = gzero::sync::Barrier::new(1);
    /// barrier.wait();
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack, even by the last one.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        let own = check_g_stack("Barrier::wait");
        let on = core::ptr::from_ref(self).addr() as u64;
        loop {
            if self.end_round() {
                return BarrierWaitResult { leader: true };
            }
            let mut waits = false;
            park_in(own, &self.state, WaitReason::Barrier, on, |state, sudogs, s| {
                waits = !state.is_last(self.members);
                if waits {
                    state.arrived += 1;
                    state.waiters.push(sudogs, s, 0);
                }
                waits
            });
            if waits {
                return BarrierWaitResult { leader: false };
            }
            // It is the last one now.
        }
    }

    /// Wakes all if the caller is the last one. Not while it parks: it could not drop that pin between two portions.
    fn end_round(&self) -> bool {
        let mut state = self.state.lock();
        let last = state.is_last(self.members);
        if last {
            state.arrived = 0;
            let all = core::mem::take(&mut state.waiters).into_chain();
            ready_all(all, state.unlock());
        }
        last
    }
}

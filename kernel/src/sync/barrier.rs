//! A point that several goroutines have to reach before any goes on.
//!
//! All is under one lock: who comes is counted and queued, and the last one takes all out, so there is nothing to be lost
//! in between, and those of the next round find an empty queue.

use core::fmt;

use machine::lock::{Lock, Rank};
use sched::waiters::Waiters;

use crate::m;
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
        f.debug_struct("Barrier").field("members", &self.members).finish_non_exhaustive()
    }
}

impl Barrier {
    /// A barrier for so many goroutines; 0 is as 1.
    ///
    /// ```
    /// assert!(gzero::sync::Barrier::new(1).wait().is_leader());
    /// ```
    pub const fn new(members: u32) -> Self {
        Self { members, state: Lock::new(Rank::Leaf, State { arrived: 0, waiters: Waiters::new() }) }
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
        check_g_stack("Barrier::wait");
        let on = core::ptr::from_ref(self).addr() as u64;
        let mut all = None;
        let mut leader = false;
        park_in(&self.state, WaitReason::Barrier, on, |state, sudogs, s| {
            state.arrived += 1;
            leader = state.arrived >= self.members;
            if leader {
                state.arrived = 0;
                all = core::mem::take(&mut state.waiters).into_chain(&m::runtime().sudogs);
            } else {
                state.waiters.push(sudogs, s, 0);
            }
            !leader
        });
        ready_all(all);
        BarrierWaitResult { leader }
    }
}

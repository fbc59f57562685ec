//! Parking in a queue that a lock guards.
//!
//! # Who is out of the queue is readied before its waker loses the CPU
//!
//! For the reason that `kernel/src/chan/core.rs` gives: nobody else can ready it. So whoever takes it out keeps the pin of the
//! lock ([`Guard::unlock`](machine::lock::Guard::unlock)), and [`ready`] asks for it. Where a word decides before the queue does, as
//! that of a wait group or of a lock with readers, the pin is older than that step. But for a mutex: who unlocks it has no pin
//! before the queue's, and is rarely alone to be waited for.
//!
//! If many are taken out at once, the pin is dropped after each [`PORTION`] of them. A waker that has to give way there makes
//! the rest wait for its next slice, once for each portion; without that, their number would be how long a stop of the
//! world, and whoever is next on this CPU, have to wait. A slice is longer than it takes to ready some portions, so few wakers
//! have to give way, and those who are readied already are what they give way to.

use machine::clock;
use machine::lock::Lock;
use machine::percpu::Pinned;
use sched::list::Chain;
use sched::sudog::Sudogs;
use sched::{GoRef, SudogIndex};

use crate::m::{self, M};
use crate::park::{Wait, WaitReason, gopark_here, readied_by_something_else, ready_on, ready_pinned};
use crate::runtime::Runtime;
use crate::stacks::OwnStack;
use crate::sudog::own_sudog;

/// Parks the goroutine that calls, on its own stack, until it is taken out of the queue and readied. `enter` queues its
/// sudog under the lock; or it returns `false`, and the goroutine stays.
///
/// The sudog has an address until it is taken out: so a wake-up that is not for it shows, before the sudog goes.
///
/// The goroutine is `Parking` before `enter` is called, so that whoever takes the lock next may ready it at once.
pub(crate) fn park_in<Q>(
    own: OwnStack,
    queue: &Lock<Q>,
    reason: WaitReason,
    on: u64,
    enter: impl FnOnce(&mut Q, &Sudogs, SudogIndex) -> bool,
) {
    let since = clock::rdtsc_unordered();
    let pinned = Pinned::new();
    let here = own.here(&pinned);
    let (s, sudog) = own_sudog(here);
    gopark_here(&pinned, here, Wait { reason, on, since }, |g| {
        sudog.name(g);
        let mut queue = queue.lock();
        let waits = enter(&mut queue, &here.runtime().sudogs, s);
        if waits {
            sudog.set_address(on);
        }
        drop(queue);
        waits
    });
    if sudog.address() != 0 {
        readied_by_something_else(reason);
    }
    drop(pinned);
}

/// Goroutines that are readied before others have their turn.
const PORTION: u32 = 64;

/// A pin that goes, and is taken anew, after each portion.
#[must_use = "who is readied afterwards may be late"]
pub(super) struct Portion {
    pinned: Pinned,
    left: u32,
}

impl Portion {
    /// `pinned` is held since those to be readied can only be readied by the caller.
    pub(super) const fn new(pinned: Pinned) -> Self {
        Self { pinned, left: PORTION }
    }

    /// One has been readied.
    pub(super) fn one_less(self) -> Self {
        if self.left > 1 {
            return Self { left: self.left - 1, ..self };
        }
        drop(self.pinned);
        Self::new(Pinned::new())
    }
}

/// Readies the goroutine that was taken out of a queue, if one was. The lock has gone; `pinned` is held since before, on the CPU of this
/// M.
#[inline]
pub(crate) fn ready(m: &'static M, first: Option<SudogIndex>, pinned: Pinned) {
    if let Some(s) = first {
        ready_on(m, leave(m::runtime_of(m), s));
    }
    drop(pinned);
}

/// The same for several, in their order.
pub(crate) fn ready_all(chain: Option<Chain<SudogIndex>>, pinned: Pinned) {
    let mut portion = Portion::new(pinned);
    let mut rest = chain;
    while let Some(chain) = rest {
        let rt = m::runtime();
        let (s, tail) = chain.split_first(&rt.sudogs);
        rest = tail;
        ready_pinned(&portion.pinned, leave(rt, s));
        portion = portion.one_less();
    }
}

/// The goroutine of a sudog that was taken out of a queue, which it learns. Before the ready: afterwards the sudog is the goroutine's.
#[inline]
fn leave(rt: &'static Runtime, s: SudogIndex) -> GoRef {
    let sudog = rt.sudogs.get(s);
    sudog.set_address(0);
    sudog.g().expect("a queued sudog has a goroutine")
}

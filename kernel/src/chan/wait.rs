//! The waits of a channel: a goroutine's sudog is queued under the lock, while it is `Parking`, and the lock goes after that.

use machine::clock::{self, Nanos};
use machine::lock::Guard;
use machine::percpu::Pinned;
use sched::GoRef;
use sched::chan::{self, Side, Woken};
use sched::claim::Ticket;

use super::core::{Core, Outcome, Patience};
use crate::m::{self, Here, M};
use crate::panic::throw;
use crate::park::{Wait, WaitReason, gopark_here};
use crate::stacks::OwnStack;
use crate::sudog::{own_sudog, try_own_sudog};
use crate::timers::{add_timeout, remove_timeout};

/// What came of an attempt to wait.
pub(super) enum Waited {
    /// The wait is over.
    Over(Outcome),
    /// A sudog had to be got first, without the lock: the caller looks again.
    LookAgain,
}

/// Gets the goroutine the sudog that it needs for a wait.
#[cold]
#[inline(never)]
fn get_sudog(own: OwnStack, guard: Guard<'_, ()>) -> Waited {
    drop(guard);
    own_sudog(own.here(&Pinned::new()));
    Waited::LookAgain
}

#[cold]
#[inline(never)]
#[track_caller]
fn readied_wrongly() -> ! {
    throw(format_args!("a channel's waiter was readied by something else"))
}

impl Core {
    /// Waits in the channel's queue.
    #[expect(
        clippy::inline_always,
        reason = "a switch saves no register that its function has not saved already"
    )]
    #[inline(always)]
    #[track_caller]
    pub(super) fn wait(
        &self,
        side: Side,
        element: *mut u8,
        guard: Guard<'_, ()>,
        (m, patience): (&'static M, Patience),
    ) -> Waited {
        let own = match patience {
            Patience::Endless(own) => own,
            Patience::Until(own, when) => return self.wait_until(side, element, guard, (own, when)),
            Patience::None => return Waited::Over(Outcome::WouldWait),
        };
        let here = Here { m, slot: own.slot() };
        let Some(sudog) = try_own_sudog(here) else { return get_sudog(own, guard) };
        // Taken before the lock's goes, and the only one then.
        let pinned = Pinned::new();
        self.park((&pinned, here), side, |g| {
            let wait = self.wait_of(g, element, None);
            // SAFETY: the guard, which goes next.
            unsafe { self.locked_in(here.runtime()) }.enqueue(side, sudog, &wait);
            drop(guard);
        });
        let outcome = match chan::woken(sudog.1) {
            Woken::Passed => Outcome::Passed,
            Woken::Closed => Outcome::Closed,
            Woken::Otherwise => readied_wrongly(),
        };
        drop(pinned);
        Waited::Over(outcome)
    }

    /// [`wait`](Self::wait) until a time.
    #[inline(never)]
    #[track_caller]
    fn wait_until(
        &self,
        side: Side,
        element: *mut u8,
        guard: Guard<'_, ()>,
        (own, when): (OwnStack, Nanos),
    ) -> Waited {
        if when <= clock::now() {
            return Waited::Over(Outcome::TimedOut);
        }
        let here = own.here(guard.pinned());
        let Some(sudog) = try_own_sudog(here) else { return get_sudog(own, guard) };
        let mut timeout = None;
        let pinned = Pinned::new();
        self.park((&pinned, here), side, |g| {
            let ticket = m::runtime().slot(g.index).body().claim.begin();
            let wait = self.wait_of(g, element, Some(ticket));
            // SAFETY: the guard, which goes next.
            unsafe { self.locked() }.enqueue(side, sudog, &wait);
            drop(guard);
            timeout = add_timeout(when, g, ticket);
        });
        let outcome = match chan::woken(sudog.1) {
            Woken::Passed => Outcome::Passed,
            Woken::Closed => Outcome::Closed,
            Woken::Otherwise => {
                self.leave(here.runtime(), side, sudog.1);
                Outcome::TimedOut
            }
        };
        if outcome != Outcome::TimedOut
            && let Some(key) = timeout
        {
            // Too late to take it back: it claims in vain.
            remove_timeout(key);
        }
        drop(pinned);
        Waited::Over(outcome)
    }

    /// Parks the goroutine that calls, with its sudog.
    #[expect(clippy::inline_always, reason = "as `wait`")]
    #[inline(always)]
    fn park(&self, (pinned, here): (&Pinned, Here), side: Side, publish: impl FnOnce(GoRef)) {
        let reason = match side {
            Side::Send => WaitReason::ChanSend,
            Side::Recv => WaitReason::ChanReceive,
        };
        let wait = Wait { reason, on: self.address(), since: clock::rdtsc_unordered() };
        gopark_here(pinned, here, wait, |g| {
            publish(g);
            true
        });
    }

    #[inline]
    fn wait_of(&self, g: GoRef, element: *mut u8, ticket: Option<Ticket>) -> chan::Wait {
        chan::Wait { g, element: element.expose_provenance() as u64, ticket, channel: self.address() }
    }
}

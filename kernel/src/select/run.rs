//! A select: one pass over all channels, and if none is ready a wait in all of them.
//!
//! # One instant
//!
//! The locks of all channels are held during the pass, and still when the goroutine queues itself. So a select acts on the
//! state of its channels at one instant: it never takes the default although at each instant one of them was ready, and
//! no channel becomes ready unseen between the pass and the wait. Locks are taken by rising address
//! ([`Together`]); a channel that is there twice is locked once.
//!
//! # The wait
//!
//! The goroutine has a sudog in each channel, and all have the ticket of one wait (`sched::claim`): whoever claims it moves
//! the value of that case and of no other, tells so in that sudog, and readies the goroutine. That may be as soon as the
//! first lock goes, while it still stands on its stack; it is `Parking`. Afterwards it takes the other sudogs out of their
//! queues, each under the lock of its channel, before it gives them back and goes on: nobody finds it in a queue in which
//! it does not wait, and nobody writes to its slots any more. A waker that comes to such a sudog meanwhile fails to claim
//! it, and passes on to the next in the queue.
//!
//! # Order
//!
//! The pass goes in random order, so that of several cases that are always ready none is served more often; and so does the
//! queueing, for a channel that is there twice.

use core::marker::PhantomData;

use machine::clock::{self, Nanos};
use machine::lock::{Lock, Together};
use machine::percpu::Pinned;
use sched::GoRef;
use sched::chan::{self, RecvStep, SendStep, Side, Woken};

use crate::chan::core::{Core, Outcome, ready, touch};
use crate::goroutine::Named;
use crate::m::Here;
use crate::panic::throw;
use crate::park::{Wait, WaitReason, gopark_on};
use crate::runtime::Runtime;
use crate::stacks::{OwnStack, check_g_stack};
use crate::sudog::{acquire_sudog, own_sudog, release_sudog, take_sudog, try_own_sudog};
use crate::timers::{add_timeout, remove_timeout};

/// What a case's step has come to.
enum Step {
    /// The case is not ready.
    NotReady,
    /// It was carried out. Somebody may have to be readied.
    Done(Option<GoRef>),
}

/// One thing that a select may do. It borrows the arm that it is made of.
#[doc(hidden)]
#[derive(Debug)]
pub struct Case<'a> {
    /// `None`: never chosen.
    core: Option<&'a Core>,
    side: Side,
    element: *mut u8,
    /// Where the arm learns that it was chosen.
    outcome: &'a mut Option<Outcome>,
    /// Which case is looked at when this one's number is up.
    turn: usize,
    /// While the goroutine waits.
    sudog: Option<Named>,
    arm: PhantomData<&'a mut ()>,
}

/// How long a select may wait.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Until a case is ready.
    Endless,
    /// Not at all.
    Default,
    /// Until this time.
    Until(Nanos),
}

/// What a select has come to.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "one arm is to be carried out"]
pub enum Chosen {
    /// A case, whose arm knows.
    Case,
    /// No case was ready, and it may not wait.
    Default,
    /// The time has come first.
    TimedOut,
}

impl<'a> Case<'a> {
    /// A case of a channel, or of none.
    ///
    /// # Safety
    /// For as long as the case exists:
    /// 1. `element` points to the caller's memory for a value of the channel, for a send with a value in it.
    /// 2. Nobody else uses it. Afterwards it holds a value if `outcome` says so: of a receive if it was passed, of
    ///    a send if it was not.
    pub(super) unsafe fn new(
        core: Option<&'a Core>,
        side: Side,
        element: *mut u8,
        outcome: &'a mut Option<Outcome>,
    ) -> Self {
        Self { core, side, element, outcome, turn: 0, sudog: None, arm: PhantomData }
    }

    /// Makes the case's step.
    ///
    /// # Safety
    /// The channel's lock is held.
    unsafe fn step(&mut self, rt: &'static Runtime) -> Step {
        let Some(core) = self.core else { return Step::NotReady };
        // SAFETY: the caller's contract.
        let mut locked = unsafe { core.locked_in(rt) };
        let (outcome, wake) = match self.side {
            Side::Send => match locked.send() {
                SendStep::Wait => return Step::NotReady,
                SendStep::Closed => (Outcome::Closed, None),
                step @ (SendStep::Hand(_) | SendStep::Store(_)) => {
                    // SAFETY: 1. The contract of `new`. 2. The caller's.
                    (Outcome::Passed, unsafe { core.move_in(step, self.element, core.size()) })
                }
            },
            Side::Recv => match locked.recv() {
                RecvStep::Wait => return Step::NotReady,
                RecvStep::Closed => (Outcome::Closed, None),
                step @ (RecvStep::Hand(_) | RecvStep::Take(_) | RecvStep::Rotate(_, _)) => {
                    // SAFETY: 1. The contract of `new`. 2. The caller's.
                    (Outcome::Passed, unsafe { core.move_out(step, self.element, core.size()) })
                }
            },
        };
        *self.outcome = Some(outcome);
        Step::Done(wake)
    }

    /// Leaves the queue, unless somebody has taken it out, and says whether this case was chosen.
    fn leave(&mut self, (rt, own): (&'static Runtime, OwnStack)) -> bool {
        let (Some(core), Some((s, sudog))) = (self.core, self.sudog.take()) else { return false };
        let outcome = match chan::woken(sudog) {
            Woken::Passed => Some(Outcome::Passed),
            Woken::Closed => Some(Outcome::Closed),
            Woken::Otherwise => None,
        };
        if outcome.is_some() {
            *self.outcome = outcome;
        } else {
            core.leave(rt, self.side, sudog);
        }
        give_back((rt, own), (s, sudog));
        outcome.is_some()
    }
}

/// Carries out one of the cases. Each arm learns whether it was it.
///
/// # Throws
/// When not called on a goroutine's own stack.
#[doc(hidden)]
#[track_caller]
pub fn run<const N: usize>(mut cases: [Case<'_>; N], limit: Limit) -> Chosen {
    select(&mut cases, &mut [None; N], limit)
}

/// [`run`] of any number of cases, for which `locks` is room. On the goroutine's own stack.
#[track_caller]
pub(super) fn select<'a>(cases: &mut [Case<'a>], locks: &mut [Option<&'a Lock<()>>], limit: Limit) -> Chosen {
    let own = check_g_stack("select");
    let rt = own.runtime();
    shuffle(own, cases);
    let mut has_sudogs = false;
    loop {
        for (lock, case) in locks.iter_mut().zip(&*cases) {
            *lock = case.core.map(Core::lock);
            // Mapped before the goroutine may wait and publish it, as `chan::core` argues; and here, not with all locks held, where
            // a page that is missing makes everybody wait for it. Who may not wait publishes none, and uses one at most.
            if let Some(core) = case.core.filter(|_| limit != Limit::Default) {
                // SAFETY: the contract of `new`.
                unsafe { touch(case.element, core.size()) };
            }
        }
        let together = Together::lock(locks);
        // SAFETY: all locks are held.
        let (chosen, wake) = match unsafe { pass(rt, cases) } {
            Step::Done(wake) => (Chosen::Case, wake),
            Step::NotReady => match limit {
                Limit::Default => (Chosen::Default, None),
                Limit::Until(when) if when <= clock::now() => (Chosen::TimedOut, None),
                Limit::Endless | Limit::Until(_) => {
                    if take_sudogs(rt, cases, own.here(together.pinned())) {
                        return wait((rt, own), cases, together, limit);
                    }
                    drop(together);
                    get_sudogs((rt, own), cases);
                    has_sudogs = true;
                    continue;
                }
            },
        };
        ready(wake, together.unlock());
        if has_sudogs {
            give_sudogs_back((rt, own), cases);
        }
        return chosen;
    }
}

/// The first case that is ready, in the order of turns, is carried out; says whom it wakes.
///
/// # Safety
/// All locks are held.
unsafe fn pass(rt: &'static Runtime, cases: &mut [Case<'_>]) -> Step {
    for n in 0..cases.len() {
        let turn = cases[n].turn;
        // SAFETY: the caller's contract.
        if let Step::Done(wake) = unsafe { cases[turn].step(rt) } {
            return Step::Done(wake);
        }
    }
    Step::NotReady
}

/// Puts the goroutine into all queues, and parks it until it is readied out of one of them or the time has come.
#[track_caller]
fn wait(
    (rt, own): (&'static Runtime, OwnStack),
    cases: &mut [Case<'_>],
    together: Together<'_, '_>,
    limit: Limit,
) -> Chosen {
    let absent = limit == Limit::Endless && cases.iter().all(|case| case.core.is_none());
    let reason = if absent { WaitReason::NilChan } else { WaitReason::Select };
    let mut timeout = None;
    gopark_on(own, Wait { reason, on: 0, since: clock::rdtsc_unordered() }, |g| {
        let ticket = rt.slot(g.index).body().claim.begin();
        // In the order of turns, too: of two arms for the same channel either may be the first in its queue.
        for case in cases.iter().map(|case| &cases[case.turn]) {
            let (Some(core), Some(sudog)) = (case.core, case.sudog) else { continue };
            let element = case.element.expose_provenance() as u64;
            let wait = chan::Wait { g, element, ticket: Some(ticket), channel: core.address() };
            // SAFETY: all locks are held.
            unsafe { core.locked_in(rt) }.enqueue(case.side, sudog, &wait);
        }
        drop(together);
        if let Limit::Until(when) = limit {
            timeout = add_timeout(when, g, ticket);
        }
        true
    });
    // All of them leave.
    let chosen = cases.iter_mut().filter_map(|case| case.leave((rt, own)).then_some(())).count();
    if chosen == 0 {
        if timeout.is_none() {
            throw(format_args!("a select was readied by none of its channels"));
        }
        return Chosen::TimedOut;
    }
    if let Some(key) = timeout {
        // Too late to take it back: it claims in vain.
        remove_timeout(key);
    }
    Chosen::Case
}

/// Draws the order of the pass.
fn shuffle(own: OwnStack, cases: &mut [Case<'_>]) {
    let pinned = Pinned::new();
    let owner = own.here(&pinned).m.proc().owner();
    for n in 1..cases.len() {
        let other = (u64::from(owner.random()) * (n as u64 + 1)) >> 32;
        let other = usize::try_from(other).unwrap_or(0);
        cases[n].turn = cases[other].turn;
        cases[other].turn = n;
    }
}

/// The cases that need a sudog, and whether it is the first case of all that may wait: that one waits by the goroutine's own.
fn without_sudog<'c, 'a>(cases: &'c mut [Case<'a>]) -> impl Iterator<Item = (bool, &'c mut Case<'a>)> {
    let may_wait = cases.iter_mut().filter(|case| case.core.is_some());
    may_wait.enumerate().map(|(n, case)| (n == 0, case)).filter(|(_, case)| case.sudog.is_none())
}

/// Gives each case a sudog, if this P keeps enough.
fn take_sudogs(rt: &'static Runtime, cases: &mut [Case<'_>], here: Here) -> bool {
    without_sudog(cases).all(|(is_first, case)| {
        case.sudog = if is_first { try_own_sudog(here) } else { take_sudog(rt, here.m) };
        case.sudog.is_some()
    })
}

/// Gives each case a sudog, with no lock held.
#[cold]
fn get_sudogs((rt, own): (&'static Runtime, OwnStack), cases: &mut [Case<'_>]) {
    for (is_first, case) in without_sudog(cases) {
        let pinned = Pinned::new();
        let here = own.here(&pinned);
        case.sudog = Some(if is_first { own_sudog(here) } else { acquire_sudog(rt, here.m) });
        drop(pinned);
    }
}

/// Those that were taken for a wait which has not come.
#[cold]
fn give_sudogs_back((rt, own): (&'static Runtime, OwnStack), cases: &mut [Case<'_>]) {
    cases.iter_mut().filter_map(|case| case.sudog.take()).for_each(|sudog| give_back((rt, own), sudog));
}

/// Gives a case's sudog back: the goroutine keeps its own.
fn give_back((rt, own): (&'static Runtime, OwnStack), (s, sudog): Named) {
    let is_own = own.slot().body().sudog().is_some_and(|(_, own)| core::ptr::eq(own, sudog));
    if !is_own {
        let pinned = Pinned::new();
        release_sudog(rt, own.here(&pinned).m, (s, sudog));
        drop(pinned);
    }
}
